//! Turns the JSON part of a request into the same without the elements of its tensors, and remembers where they stood.
//! It does not judge the text: what is cut out is read as a list later, and the rest by serde.
//!
//! A reader that keeps a tensor's text for later looks at every byte of it to find its end; here brackets and quotes are enough,
//! eight bytes at a time. That is sound, because the whole text is JSON if and only if it is JSON with `[]` in the places of
//! the pieces, and each piece is a JSON list.

use std::ops::Range;

use crate::error::OipError;

/// Lists shorter than this are left where they are.
const WORTHWHILE: usize = 256;

/// A text without its long lists.
pub struct Cut<'a> {
    whole: &'a str,
    /// The text with `[]` in their places; nothing when there is none.
    rest: String,
    /// Where each `[]` stands in the rest, and where its list stands in the whole.
    pieces: Vec<(usize, Range<usize>)>,
}

impl<'a> Cut<'a> {
    /// Cuts out the lists under the key `data` of objects in a list in an object, which is where tensors are.
    ///
    /// # Errors
    /// `JSON_INVALID` for what is not UTF-8.
    pub fn new(text: &'a [u8]) -> Result<Self, OipError> {
        let whole = std::str::from_utf8(text).map_err(|_| OipError::JsonInvalid)?;
        let mut cut = Self { whole, rest: String::new(), pieces: Vec::new() };
        let mut copied = 0;
        for piece in Lists::new(text) {
            let before = whole.get(copied..piece.start).unwrap_or_default();
            cut.rest.push_str(before);
            copied = piece.end;
            cut.pieces.push((cut.rest.len(), piece));
            cut.rest.push_str("[]");
        }
        if copied > 0 {
            cut.rest.push_str(whole.get(copied..).unwrap_or_default());
        }
        Ok(cut)
    }

    /// The text to read: short, if its lists are all that made it long.
    pub fn text(&self) -> &str {
        if self.pieces.is_empty() { self.whole } else { &self.rest }
    }

    /// What stood where this part of [`Cut::text`] stands. It is found by its place, so that nobody can write what stands for it.
    pub fn restore<'b>(&'b self, part: &'b str) -> &'b str {
        let at = (part.as_ptr() as usize).wrapping_sub(self.rest.as_ptr() as usize);
        let piece = self.pieces.iter().find(|(place, _)| *place == at && part == "[]");
        piece.and_then(|(_, range)| self.whole.get(range.clone())).unwrap_or(part)
    }
}

/// Finds the lists.
struct Lists<'a> {
    text: &'a [u8],
    at: usize,
    depth: usize,
    /// Whether the brackets around are `{`, `[`, `{`, from the outermost: one bit each.
    around: u8,
}

impl<'a> Lists<'a> {
    const fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0, depth: 0, around: 0 }
    }

    fn open(&mut self, expected: bool) {
        if self.depth < 3 {
            let bit = 1 << self.depth;
            self.around = if expected { self.around | bit } else { self.around & !bit };
        }
        self.depth += 1;
    }
}

impl Iterator for Lists<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        loop {
            let byte = *self.text.get(self.at)?;
            let from = self.at;
            self.at += 1;
            match byte {
                b'{' => self.open(self.depth != 1),
                b'[' => self.open(self.depth == 1),
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                b'"' => {
                    self.at = after_string(self.text, self.at)?;
                    let is_key =
                        self.depth == 3 && self.around == 0b111 && self.text.get(from..self.at) == Some(b"\"data\"");
                    let Some(start) = is_key.then(|| list_after(self.text, self.at)).flatten() else { continue };
                    let end = after_list(self.text, start)?;
                    self.at = end;
                    if end - start >= WORTHWHILE {
                        return Some(start..end);
                    }
                }
                _ => {}
            }
        }
    }
}

/// The place of the bracket behind a colon.
fn list_after(text: &[u8], at: usize) -> Option<usize> {
    let rest = text.get(at..)?;
    let colon = rest.iter().position(|b| !b.is_ascii_whitespace())?;
    let value = rest.get(colon + 1..)?;
    let bracket = value.iter().position(|b| !b.is_ascii_whitespace())?;
    (rest.get(colon) == Some(&b':') && value.get(bracket) == Some(&b'[')).then_some(at + colon + 1 + bracket)
}

/// The place behind the quote that ends the string in which `at` is.
fn after_string(text: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += text.get(at..)?.iter().position(|b| matches!(b, b'"' | b'\\'))?;
        if text.get(at) == Some(&b'"') {
            return Some(at + 1);
        }
        // A backslash, and whatever it escapes.
        at += 2;
    }
}

/// The place behind the bracket that closes the one at `at`.
fn after_list(text: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    loop {
        at += to_mark(text.get(at..)?);
        let byte = *text.get(at)?;
        at += 1;
        match byte {
            b'[' => depth += 1,
            b']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Some(at);
                }
            }
            b'"' => at = after_string(text, at)?,
            _ => {}
        }
    }
}

/// How many bytes before the first bracket or quote; two other characters count as well, and are passed over by the caller.
fn to_mark(text: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & (ONES << 7);
    let (words, rest) = text.as_chunks();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // `[` is 0x5b and `]` 0x5d; `Y` and `_` look alike without the two bits that tell them apart.
        let marks = zeros((word & (ONES * 0xf9)) ^ (ONES * 0x59)) | zeros(word ^ (ONES * 0x22));
        if marks != 0 {
            return index * 8 + (marks.trailing_zeros() / 8) as usize;
        }
    }
    let near = rest.iter().position(|b| matches!(b, b'[' | b']' | b'"'));
    text.len() - rest.len() + near.unwrap_or(rest.len())
}

#[cfg(test)]
mod tests;
