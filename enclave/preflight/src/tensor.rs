//! Turns the parts of a tensor into its size, and refuses one whose data are not exactly of that size.
//! It does not look at the elements, save a single one that could be a loop's trip count or condition.

use crate::error::Reason;
use crate::external::External;
use crate::frame::{Frame, Shared};
use crate::limits::Limits;

const INT64: u8 = 7;
const BOOL: u8 = 9;
const STRING: u8 = 8;
/// The repeated fields that hold elements: float, int32, string, int64, double, uint64.
const DATA_FIELDS: [u8; 6] = [4, 5, 6, 7, 10, 11];

/// A tensor that has begun.
#[derive(Default)]
pub(crate) struct Tensor {
    pub name: String,
    dims: Vec<i64>,
    element: u8,
    /// Length of `raw_data` when it is there.
    pub raw: Option<u64>,
    /// The content of `raw_data` of one or eight bytes.
    pub raw_integer: Option<i64>,
    /// First element of `int64_data` or `int32_data`.
    first: Option<i64>,
    /// Elements by place in `DATA_FIELDS`.
    counts: [u64; DATA_FIELDS.len()],
    pub string_bytes: u64,
    /// `data_location` is EXTERNAL.
    is_external: bool,
    pub external: External,
}

/// A tensor that has ended.
pub(crate) struct Ended {
    pub name: String,
    pub bytes: u64,
    element: u8,
    dims: Vec<i64>,
    count: u64,
    /// A single integer beyond the limit of trips, or one that is not seen.
    pub large: bool,
    /// A single `true`, or a single truth value that is not seen.
    pub holds: bool,
}

/// A sparse tensor that has begun.
#[derive(Default)]
pub(crate) struct Sparse {
    pub values: Option<Ended>,
    pub indices: Option<Ended>,
    pub dims: Vec<i64>,
}

/// Adds a dimension.
pub(crate) fn dimension(dims: &mut Vec<i64>, size: i64, limits: &Limits) -> Result<(), Reason> {
    if size < 0 {
        return Err(Reason::NegativeDimension);
    }
    if dims.len() == limits.rank {
        return Err(Reason::Rank(limits.rank));
    }
    dims.push(size);
    Ok(())
}

/// The number of elements. Dimensions that are not known (-1) count as 1, and 0 hides no absurd neighbour.
pub(crate) fn product(dims: &[i64], limits: &Limits) -> Result<u64, Reason> {
    let mut all = 1_u64;
    let mut empty = false;
    for size in dims {
        match u64::try_from(*size) {
            Err(_) => {}
            Ok(0) => empty = true,
            Ok(size) => {
                all = all
                    .checked_mul(size)
                    .filter(|product| *product <= limits.elements)
                    .ok_or(Reason::Elements(limits.elements))?;
            }
        }
    }
    Ok(if empty { 0 } else { all })
}

/// Bits of an element as it is stored; none for strings.
fn bits(element: u8) -> Result<Option<u64>, Reason> {
    Ok(Some(match element {
        1 | 6 | 12 => 32,
        2 | 3 | 9 | 17..=20 | 24 => 8,
        4 | 5 | 10 | 16 => 16,
        7 | 11 | 13 | 14 => 64,
        STRING => return Ok(None),
        15 => 128,
        21..=23 => 4,
        25 | 26 => 2,
        _ => return Err(Reason::ElementType),
    }))
}

impl Tensor {
    /// Takes an integer of that field.
    pub fn integer(&mut self, number: u8, value: u64, limits: &Limits) -> Result<(), Reason> {
        match number {
            1 => dimension(&mut self.dims, value.cast_signed(), limits)?,
            2 => self.element = u8::try_from(value).map_err(|_| Reason::IntegerRange)?,
            14 => self.is_external = value == 1,
            5 | 7 => {
                self.first.get_or_insert(value.cast_signed());
                self.elements(number, 1);
            }
            _ => self.elements(number, 1),
        }
        Ok(())
    }

    /// Counts elements of that field.
    pub fn elements(&mut self, number: u8, more: u64) {
        if let Some(at) = DATA_FIELDS.iter().position(|field| *field == number) {
            self.counts[at] = self.counts[at].saturating_add(more);
        }
    }

    /// The whole tensor. ONNX Runtime takes from memory what it was given for a file only for initialisers of the main graph and some
    /// of that graph's Constants, and opens a file of that name everywhere else; so `outside` says whether this is one of the former.
    pub fn end(self, outside: bool, frame: &Frame, shared: &mut Shared) -> Result<Ended, Reason> {
        let bits = bits(self.element)?;
        let count = product(&self.dims, &shared.limits)?;
        let bytes = match bits {
            Some(bits) => count.checked_mul(bits).ok_or(Reason::Elements(shared.limits.elements))?.div_ceil(8),
            None => self.string_bytes,
        };
        let described = frame.has(&[13]);
        if self.is_external {
            if !outside {
                return Err(Reason::ExternalPlace);
            }
            if !described {
                return Err(Reason::ExternalEntry);
            }
            if self.raw.is_some() || self.counts.iter().any(|count| *count > 0) {
                return Err(Reason::ExternalMixed);
            }
            if bits.is_none() {
                return Err(Reason::DataField);
            }
            self.external.end(bytes, shared)?;
        } else if described {
            return Err(Reason::ExternalMixed);
        } else {
            self.own_data(bits, count, bytes)?;
        }
        let value = self.raw_integer.or(self.first);
        let large = self.element == INT64 && count == 1 && value.is_none_or(|value| value > shared.limits.trips);
        let holds = self.element == BOOL && count == 1 && value.is_none_or(|value| value != 0);
        Ok(Ended { name: self.name, bytes, element: self.element, dims: self.dims, count, large, holds })
    }

    /// Refuses data that are not those of `count` elements, in the one field that is theirs.
    fn own_data(&self, bits: Option<u64>, count: u64, bytes: u64) -> Result<(), Reason> {
        let in_fields = self.counts.iter().any(|count| *count > 0);
        if let Some(raw) = self.raw {
            if in_fields || bits.is_none() {
                return Err(Reason::DataField);
            }
            return if raw == bytes { Ok(()) } else { Err(Reason::DataLength) };
        }
        // Which list, and how many of its elements: complex numbers take two, small integers share one.
        let (list, wanted) = match self.element {
            1 => (0, count),
            14 => (0, count.saturating_mul(2)),
            STRING => (2, count),
            INT64 => (3, count),
            11 => (4, count),
            15 => (4, count.saturating_mul(2)),
            12 | 13 => (5, count),
            21..=23 => (1, count.div_ceil(2)),
            25 | 26 => (1, count.div_ceil(4)),
            _ => (1, count),
        };
        for (at, found) in self.counts.iter().enumerate() {
            if at == list && *found != wanted {
                return Err(if in_fields && *found == 0 { Reason::DataField } else { Reason::DataLength });
            }
            if at != list && *found > 0 {
                return Err(Reason::DataField);
            }
        }
        Ok(())
    }
}

impl Sparse {
    /// The whole tensor, under its values' name. ONNX Runtime makes it dense, so its dimensions count as bytes.
    pub fn end(self, shared: &mut Shared) -> Result<Ended, Reason> {
        let (Some(values), Some(indices)) = (self.values, self.indices) else {
            return Err(Reason::Sparse);
        };
        let dense = product(&self.dims, &shared.limits)?;
        // A string takes some 32 bytes in C++ before its first letter.
        let bytes = dense.saturating_mul(bits(values.element)?.unwrap_or(256)).div_ceil(8);
        shared.dense = shared.dense.saturating_add(bytes);
        shared.scope.bytes = shared.scope.bytes.saturating_add(bytes);
        if shared.dense > shared.limits.dense_bytes {
            return Err(Reason::Dense(shared.limits.dense_bytes));
        }
        let one_list = values.dims.len() == 1 && !self.dims.is_empty() && values.count <= dense;
        let placed = indices.element == INT64
            && match *indices.dims.as_slice() {
                [some] => u64::try_from(some) == Ok(values.count),
                [some, rank] => u64::try_from(some) == Ok(values.count) && usize::try_from(rank) == Ok(self.dims.len()),
                _ => false,
            };
        if !one_list || !placed {
            return Err(Reason::Sparse);
        }
        Ok(Ended { large: true, holds: true, bytes: values.bytes.saturating_add(indices.bytes), ..values })
    }
}
