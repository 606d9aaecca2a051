//! Turns the bytes of a model, split anywhere, into fields and messages in the order of the stream.
//! It keeps one frame for each open message and forgets the rest; the rules are in `frame`, `close` and `finish`.

use crate::close;
use crate::error::{Reason, Refused, Stop};
use crate::external::ExternalFile;
use crate::finish;
use crate::frame::{Frame, Shared, State};
use crate::limits::Limits;
use crate::report::Report;
use crate::schema::{self, Cap, Field, Holds, Message, Times};
use crate::varint::{Varint, int32};

/// ONNX Runtime takes bytes with this at position 4 for its own format, and reads them with other code.
const OTHER_FORMAT: [u8; 4] = *b"ORTM";
/// So many bytes tell which format it is.
const HEAD: usize = 8;

/// What the next byte belongs to.
enum Step {
    Key(Varint),
    Int(Varint),
    Length(Varint),
    /// A number of four or eight bytes.
    Fixed(u8),
    /// A name, and how many bytes are to come.
    Text(Vec<u8>, u64),
    /// Bytes that no rule needs, and how many are to come; those of a single integer are kept.
    Skip(Option<Vec<u8>>, u64),
    /// Packed integers, and how many bytes are to come.
    List(Varint, u64),
}

const NEXT: Step = Step::Key(Varint::NEW);

/// Reads a model as it streams by. Memory is bounded by [`Limits`] and does not depend on the size of tensors.
///
/// Whoever hands the bytes on withholds the last of them until [`Walker::finish`] has accepted: until then a parser that gets them
/// cannot come to an end.
pub struct Walker {
    top: Frame,
    outer: Vec<Frame>,
    step: Step,
    /// How many bytes have been read.
    at: u64,
    /// The first bytes, until they are as many as `HEAD`.
    head: Vec<u8>,
    shared: Shared,
    refused: Option<Refused>,
}

impl Walker {
    /// A walk that begins at a model's first byte. External data may be in the named files and nowhere else.
    pub fn new(limits: Limits, external: Vec<ExternalFile>) -> Self {
        Self {
            top: Frame::new(Message::Model, limits.model_bytes, State::Plain),
            outer: Vec::new(),
            step: NEXT,
            at: 0,
            head: Vec::with_capacity(HEAD),
            shared: Shared::new(limits, external),
            refused: None,
        }
    }

    /// Reads the next bytes of the model. After a refusal nothing is read any more, and every call gives that refusal.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        if let Some(refused) = &self.refused {
            return Err(refused.clone());
        }
        self.begin(bytes).map_err(|stop| {
            let refused = self.refused_at(stop);
            self.refused = Some(refused.clone());
            refused
        })
    }

    /// The model has ended: accepts or refuses it as a whole.
    pub fn finish(mut self) -> Result<Report, Refused> {
        if let Some(refused) = self.refused {
            return Err(refused);
        }
        if self.head.len() < HEAD {
            let head = core::mem::take(&mut self.head);
            self.walk(&head).map_err(|stop| self.refused_at(stop))?;
        }
        if !self.outer.is_empty() || !matches!(&self.step, Step::Key(varint) if !varint.begun()) {
            return Err(self.refused_at(Reason::Truncated.into()));
        }
        finish::conclude(self.shared, self.at)
            .map_err(|Stop(reason, place)| Refused::new(reason, place.unwrap_or_default()))
    }

    fn refused_at(&self, Stop(reason, at): Stop) -> Refused {
        Refused::new(reason, at.unwrap_or_else(|| place(&self.outer, &self.top)))
    }

    /// The first bytes are looked at together, whatever the split: they tell the other format.
    fn begin(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        let wanted = HEAD - self.head.len();
        if wanted == 0 {
            return self.walk(bytes);
        }
        let (head, rest) = bytes.split_at(wanted.min(bytes.len()));
        self.head.extend_from_slice(head);
        if self.head.len() < HEAD {
            return Ok(());
        }
        if self.head.ends_with(&OTHER_FORMAT) {
            return Err(Stop(Reason::Format, Some(String::new())));
        }
        let head = self.head.clone();
        self.walk(&head)?;
        self.walk(rest)
    }

    fn walk(&mut self, mut rest: &[u8]) -> Result<(), Stop> {
        while !rest.is_empty() {
            let limit = self.shared.limits.model_bytes;
            let room = limit.saturating_sub(self.at);
            if room == 0 {
                return Err(Stop(Reason::TooLarge(limit), Some(String::new())));
            }
            if self.at >= self.top.end {
                return Err(Reason::Length.into());
            }
            let left = match &self.step {
                Step::Text(_, left) | Step::Skip(_, left) | Step::List(_, left) => (*left).min(room),
                Step::Key(_) | Step::Int(_) | Step::Length(_) | Step::Fixed(_) => 1,
            };
            let (bytes, tail) = rest.split_at(usize::try_from(left).unwrap_or(usize::MAX).min(rest.len()));
            rest = tail;
            self.at = self.at.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
            self.read(bytes)?;
            self.settle()?;
        }
        Ok(())
    }

    /// Reads bytes of one field: a single one, or some of those that are to come.
    fn read(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        let some = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let byte = bytes.first().copied().unwrap_or_default();
        let number = self.top.current.map_or(0, |field| field.number);
        match &mut self.step {
            Step::Key(varint) => {
                if let Some(key) = varint.push(byte)? {
                    self.key(key)?;
                }
            }
            Step::Int(varint) => {
                if let Some(value) = varint.push(byte)? {
                    self.integer(value)?;
                }
            }
            Step::Length(varint) => {
                if let Some(length) = varint.push(byte)? {
                    self.length(length)?;
                }
            }
            Step::Fixed(left) => {
                *left -= 1;
                if *left == 0 {
                    self.top.elements(number, 1, &self.shared)?;
                    self.next();
                }
            }
            Step::Text(held, left) => {
                held.extend_from_slice(bytes);
                *left -= some;
            }
            Step::Skip(kept, left) => {
                if let Some(kept) = kept {
                    kept.extend_from_slice(bytes);
                }
                *left -= some;
            }
            Step::List(varint, left) => {
                for byte in bytes {
                    if let Some(value) = varint.push(*byte)? {
                        self.top.integer(number, value, &mut self.shared)?;
                    }
                }
                *left -= some;
            }
        }
        Ok(())
    }

    /// Ends what has come to its end: a text, a list, a message.
    fn settle(&mut self) -> Result<(), Stop> {
        loop {
            match &mut self.step {
                Step::Text(held, 0) => {
                    let text = String::from_utf8(core::mem::take(held)).map_err(|_| Reason::StringForm)?;
                    let number = self.top.current.map_or(0, |field| field.number);
                    self.top.text(number, text, &mut self.shared)?;
                    self.next();
                }
                Step::Skip(kept, 0) => {
                    if let Some(kept) = kept {
                        self.top.raw(kept);
                    }
                    self.next();
                }
                Step::List(varint, 0) => {
                    if varint.begun() {
                        return Err(Reason::Length.into());
                    }
                    self.next();
                }
                Step::Key(varint) if !varint.begun() && self.at == self.top.end => {
                    let Some(parent) = self.outer.pop() else { return Ok(()) };
                    let child = core::mem::replace(&mut self.top, parent);
                    let (outer, current) = (&self.outer, self.top.current);
                    let counts = self.top.counts;
                    let place = || place_of(outer, current, &counts);
                    close::close(child, &mut self.top, &mut self.shared, &place)?;
                    self.next();
                }
                _ => return Ok(()),
            }
        }
    }

    /// The field is complete.
    fn next(&mut self) {
        self.top.current = None;
        self.step = NEXT;
    }

    /// A field begins.
    fn key(&mut self, key: u64) -> Result<(), Stop> {
        let (number, wire) = (key >> 3, key & 7);
        if number == 0 || key > u64::from(u32::MAX) {
            return Err(Reason::Tag.into());
        }
        match wire {
            3 | 4 => return Err(Reason::Group.into()),
            6 | 7 => return Err(Reason::WireType.into()),
            _ => {}
        }
        let field = schema::field(self.top.message, number).ok_or(Reason::UnknownField)?;
        self.top.current = Some(field);
        let number = usize::from(field.number);
        let again = match field.times {
            Times::Once => self.top.has(&[number]),
            Times::OneOf(members) => members.iter().any(|member| self.top.has(&[usize::from(*member)])),
            Times::Many(_) => false,
        };
        let count = self.top.counts[number].saturating_add(1);
        self.top.counts[number] = count;
        if again {
            return Err(Reason::RepeatedField.into());
        }
        if let Times::Many(cap) = field.times {
            let (what, limit) = cap.of(&self.shared.limits);
            if u64::from(count) > limit {
                let rank = Reason::Rank(self.shared.limits.rank);
                return Err(if cap == Cap::Rank { rank } else { Reason::Count(what, limit) }.into());
            }
        }
        self.step = match (field.holds, wire) {
            (Holds::Never(reason), _) => return Err(reason.into()),
            (Holds::Int64 | Holds::Int32 | Holds::Enum(_) | Holds::Ints, 0) => Step::Int(Varint::NEW),
            (Holds::Float | Holds::Floats, 5) => Step::Fixed(4),
            (Holds::Doubles, 1) => Step::Fixed(8),
            (Holds::Int64 | Holds::Int32 | Holds::Enum(_) | Holds::Float, 2) => return Err(Reason::WireType.into()),
            (_, 2) => Step::Length(Varint::NEW),
            _ => return Err(Reason::WireType.into()),
        };
        Ok(())
    }

    fn integer(&mut self, value: u64) -> Result<(), Stop> {
        let Some(field) = self.top.current else { return Ok(()) };
        match field.holds {
            Holds::Int32 => {
                int32(value)?;
            }
            Holds::Enum(last) if value > last => return Err(Reason::IntegerRange.into()),
            _ => {}
        }
        self.top.integer(field.number, value, &mut self.shared)?;
        self.next();
        Ok(())
    }

    /// The length of a field's content is known; `at` is the content's first byte.
    fn length(&mut self, length: u64) -> Result<(), Stop> {
        let Some(field) = self.top.current else { return Ok(()) };
        let end = self.at.checked_add(length).filter(|end| *end <= self.top.end).ok_or(Reason::Length)?;
        let limits = &self.shared.limits;
        let longest = match field.holds {
            Holds::Name | Holds::First | Holds::Label => limits.name_bytes,
            Holds::Text => limits.text_bytes,
            _ => u64::MAX,
        };
        if length > longest {
            return Err(Reason::StringLength(longest).into());
        }
        self.step = match field.holds {
            Holds::Name => text(length),
            Holds::First if self.shared.in_function || self.top.counts[usize::from(field.number)] <= 2 => text(length),
            Holds::Message(message) => return self.enter(message, end),
            Holds::Ints => Step::List(Varint::NEW, length),
            Holds::Floats => self.packed(field, length, 4)?,
            Holds::Doubles => self.packed(field, length, 8)?,
            _ => {
                self.top.length(field.number, length, &mut self.shared)?;
                let raw = field.holds == Holds::Raw && self.top.wants_raw(length);
                Step::Skip(raw.then(Vec::new), length)
            }
        };
        Ok(())
    }

    fn packed(&mut self, field: Field, length: u64, width: u64) -> Result<Step, Reason> {
        if !length.is_multiple_of(width) {
            return Err(Reason::Length);
        }
        self.top.elements(field.number, length / width, &self.shared)?;
        Ok(Step::Skip(None, length))
    }

    fn enter(&mut self, message: Message, end: u64) -> Result<(), Stop> {
        // The model, the messages around this one, and this one.
        if self.outer.len() + 2 > self.shared.limits.messages {
            return Err(Reason::Messages(self.shared.limits.messages).into());
        }
        let state = self.shared.enter(message, self.top.message, end.saturating_sub(self.at))?;
        let outer = core::mem::replace(&mut self.top, Frame::new(message, end, state));
        self.outer.push(outer);
        self.step = NEXT;
        Ok(())
    }
}

fn text(length: u64) -> Step {
    Step::Text(Vec::with_capacity(usize::try_from(length).unwrap_or(0)), length)
}

/// Names of fields and indices from the model down to the field that is being read.
fn place(outer: &[Frame], top: &Frame) -> String {
    place_of(outer, top.current, &top.counts)
}

fn place_of(outer: &[Frame], current: Option<Field>, counts: &[u32]) -> String {
    let around = outer.iter().map(|frame| (frame.current, frame.counts.as_slice()));
    let mut out = String::new();
    for (field, counts) in around.chain([(current, counts)]) {
        let Some(field) = field else { break };
        if !out.is_empty() {
            out.push('.');
        }
        out.push_str(field.name);
        if let (Times::Many(_), Some(count)) = (field.times, counts.get(usize::from(field.number))) {
            out.push_str(&format!("[{}]", count.saturating_sub(1)));
        }
    }
    out
}
