//! Turns a number of slots and two sizes into the places of every half of every slot in the memory that gate and runner share.
//! It gives out ranges; that only one side touches a range at a time is for those who use them.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Halves begin on pages, so that they can go back to the kernel, and no two slots share one.
const PAGE: usize = 4096;
/// Tensors begin at multiples of this many bytes: what vector instructions like, and enough for every datatype.
pub const ALIGN: usize = 64;

/// Slots beside each other: each a half for requests, then one for answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    slots: usize,
    request: usize,
    answer: usize,
}

impl Layout {
    /// Sizes in bytes, rounded up to pages. Nothing when there is no slot, or when the sum is no length.
    #[must_use]
    pub fn new(slots: usize, request_bytes: usize, answer_bytes: usize) -> Option<Self> {
        let request = request_bytes.max(1).checked_next_multiple_of(PAGE)?;
        let answer = answer_bytes.max(1).checked_next_multiple_of(PAGE)?;
        let total = request.checked_add(answer)?.checked_mul(slots)?;
        (slots > 0 && isize::try_from(total).is_ok()).then_some(Self { slots, request, answer })
    }

    /// How many slots.
    #[must_use]
    pub const fn slots(&self) -> usize {
        self.slots
    }

    /// All of it, in bytes.
    #[must_use]
    pub const fn total(&self) -> usize {
        self.slots.saturating_mul(self.request.saturating_add(self.answer))
    }

    /// Where a slot's request half begins.
    #[must_use]
    pub const fn request_at(&self, slot: usize) -> usize {
        slot.saturating_mul(self.request.saturating_add(self.answer))
    }

    /// Where a slot's answer half begins.
    #[must_use]
    pub const fn answer_at(&self, slot: usize) -> usize {
        self.request_at(slot).saturating_add(self.request)
    }

    /// A part of a slot's request half; nothing when it does not lie in it.
    #[must_use]
    pub fn in_request(&self, slot: usize, at: usize, len: usize) -> Option<Range<usize>> {
        inside(self.request, at, len).filter(|_| slot < self.slots).map(|part| shifted(&part, self.request_at(slot)))
    }

    /// A part of a slot's answer half; nothing when it does not lie in it.
    #[must_use]
    pub fn in_answer(&self, slot: usize, at: usize, len: usize) -> Option<Range<usize>> {
        inside(self.answer, at, len).filter(|_| slot < self.slots).map(|part| shifted(&part, self.answer_at(slot)))
    }
}

/// Where the next tensor begins behind one that ends at `end`.
#[must_use]
pub fn next_place(end: usize) -> Option<usize> {
    end.checked_next_multiple_of(ALIGN)
}

fn inside(half: usize, at: usize, len: usize) -> Option<Range<usize>> {
    let end = at.checked_add(len)?;
    (end <= half).then_some(at..end)
}

fn shifted(part: &Range<usize>, by: usize) -> Range<usize> {
    part.start.saturating_add(by)..part.end.saturating_add(by)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_lie_beside_each_other_on_pages() {
        let layout = Layout::new(3, 1, PAGE + 1).unwrap();
        assert_eq!((layout.request, layout.answer), (PAGE, 2 * PAGE));
        let mut end = 0;
        for slot in 0..3 {
            let request = layout.in_request(slot, 0, layout.request).unwrap();
            let answer = layout.in_answer(slot, 0, layout.answer).unwrap();
            assert_eq!((request.start, answer.start), (end, request.end));
            end = answer.end;
        }
        assert_eq!(end, layout.total());
    }

    #[test]
    fn nothing_lies_outside_its_half() {
        let layout = Layout::new(2, PAGE, PAGE).unwrap();
        for part in [Layout::in_request, Layout::in_answer] {
            assert!(part(&layout, 1, PAGE, 0).is_some() && part(&layout, 1, 0, PAGE).is_some(), "control");
            for (slot, at, len) in
                [(2, 0, 1), (usize::MAX, 0, 1), (0, PAGE, 1), (0, 1, PAGE), (0, usize::MAX, 2), (0, 2, usize::MAX)]
            {
                assert_eq!(part(&layout, slot, at, len), None, "{slot} {at} {len}");
            }
        }
    }

    #[test]
    fn what_is_no_memory_is_no_layout() {
        for (slots, request, answer) in
            [(0, 1, 1), (2, usize::MAX, 1), (2, 1, usize::MAX), (2, usize::MAX / 4, usize::MAX / 4), (usize::MAX, 1, 1)]
        {
            assert_eq!(Layout::new(slots, request, answer), None, "{slots} {request} {answer}");
        }
    }
}
