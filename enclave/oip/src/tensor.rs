//! Turns little-endian bytes with a shape into what rules ask of them: how many elements, whether finite, between which numbers.
//! It does not know which model or rule.

use std::fmt;

use bytes::Bytes;
use half::{bf16, f16};

use crate::binary;
use crate::dtype::Dtype;

/// More dimensions than this are refused.
pub const MAX_RANK: usize = 16;
/// More elements than this no tensor has: their bytes could not be counted.
pub const MAX_COUNT: usize = usize::MAX >> 8;
/// Beside an empty dimension, the others make up at most so much.
const MAX_BESIDE_EMPTY: usize = 1 << 24;

/// A tensor with its name.
#[derive(Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Name of the model's input or output.
    pub name: String,
    /// Its datatype.
    pub dtype: Dtype,
    /// Sizes of the dimensions.
    pub shape: Vec<usize>,
    /// The elements, row-major, little-endian; a boolean is a byte, a string stands behind its length (32 bits, little-endian).
    pub data: Bytes,
}

/// Number of elements of a shape, unless it has too many dimensions or more than `cap` elements.
#[must_use]
pub fn count(shape: &[usize], cap: usize) -> Option<usize> {
    if shape.len() > MAX_RANK {
        return None;
    }
    // A dimension of 0 does not excuse an absurd one beside it.
    let cap = if shape.contains(&0) { MAX_BESIDE_EMPTY } else { cap };
    shape.iter().try_fold(1_usize, |product, d| product.checked_mul((*d).max(1)).filter(|p| *p <= cap))?;
    Some(shape.iter().product())
}

impl Tensor {
    /// Number of elements; `usize::MAX` for a shape that no tensor has.
    #[must_use]
    pub fn count(&self) -> usize {
        count(&self.shape, usize::MAX).unwrap_or(usize::MAX)
    }

    /// Whether the bytes are what shape and datatype say. Everything that this crate decodes is; what a model hands out need not be.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        // No element is smaller than a byte.
        let count = count(&self.shape, self.data.len());
        count.is_some_and(|count| binary::check(self.dtype, count, &self.data).is_ok())
    }

    /// Whether no element is infinite or NaN. What is no floating-point number always is.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        match self.dtype {
            Dtype::F16 => none(&self.data, |b| u16::from_le_bytes(b) & 0x7c00 == 0x7c00),
            Dtype::Bf16 => none(&self.data, |b| u16::from_le_bytes(b) & 0x7f80 == 0x7f80),
            Dtype::F32 => none(&self.data, |b| u32::from_le_bytes(b) & 0x7f80_0000 == 0x7f80_0000),
            Dtype::F64 => none(&self.data, |b| u64::from_le_bytes(b) >> 52 & 0x7ff == 0x7ff),
            _ => true,
        }
    }

    /// The least and the greatest element; `None` when there is none, when one is NaN, and for BOOL and BYTES.
    ///
    /// A 64-bit integer that a binary64 cannot hold moves outwards to the next that it can: the elements are never outside
    /// of what is returned.
    #[must_use]
    pub fn range(&self) -> Option<(f64, f64)> {
        let data = &self.data;
        match self.dtype {
            Dtype::Bool | Dtype::Bytes => None,
            Dtype::U8 => ends(data, |b| Some(u8::from_le_bytes(b))).map(both),
            Dtype::U16 => ends(data, |b| Some(u16::from_le_bytes(b))).map(both),
            Dtype::U32 => ends(data, |b| Some(u32::from_le_bytes(b))).map(both),
            Dtype::I8 => ends(data, |b| Some(i8::from_le_bytes(b))).map(both),
            Dtype::I16 => ends(data, |b| Some(i16::from_le_bytes(b))).map(both),
            Dtype::I32 => ends(data, |b| Some(i32::from_le_bytes(b))).map(both),
            Dtype::U64 => ends(data, |b| Some(u64::from_le_bytes(b))).map(|(a, b)| outwards(a.into(), b.into())),
            Dtype::I64 => ends(data, |b| Some(i64::from_le_bytes(b))).map(|(a, b)| outwards(a.into(), b.into())),
            Dtype::F16 => ends(data, |b| number(f16::from_le_bytes(b).into())),
            Dtype::Bf16 => ends(data, |b| number(bf16::from_le_bytes(b).into())),
            Dtype::F32 => ends(data, |b| number(f32::from_le_bytes(b).into())),
            Dtype::F64 => ends(data, |b| number(f64::from_le_bytes(b))),
        }
    }
}

/// The data of a caller is in no log.
impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tensor")
            .field("dtype", &self.dtype)
            .field("shape", &self.shape)
            .field("bytes", &self.data.len())
            .finish_non_exhaustive()
    }
}

/// Whether no element is so. No early end: that lets the compiler compare many at once.
fn none<const N: usize>(bytes: &[u8], is: impl Fn([u8; N]) -> bool) -> bool {
    !bytes.as_chunks().0.iter().fold(false, |any, element| any | is(*element))
}

fn ends<T: PartialOrd + Copy, const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> Option<T>) -> Option<(T, T)> {
    let mut elements = bytes.as_chunks().0.iter();
    let first = read(*elements.next()?)?;
    elements.try_fold((first, first), |(least, greatest), element| {
        let x = read(*element)?;
        Some((if x < least { x } else { least }, if x > greatest { x } else { greatest }))
    })
}

fn number(x: f64) -> Option<f64> {
    (!x.is_nan()).then_some(x)
}

fn both<T: Into<f64>>((least, greatest): (T, T)) -> (f64, f64) {
    (least.into(), greatest.into())
}

fn outwards(least: i128, greatest: i128) -> (f64, f64) {
    let (low, high) = (least as f64, greatest as f64);
    let low = if low as i128 > least { low.next_down() } else { low };
    let high = if (high as i128) < greatest { high.next_up() } else { high };
    (low, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(dtype: Dtype, shape: &[usize], data: Vec<u8>) -> Tensor {
        Tensor { name: "x".into(), dtype, shape: shape.to_vec(), data: data.into() }
    }

    fn f32s(list: &[f32]) -> Tensor {
        tensor(Dtype::F32, &[list.len()], list.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    #[test]
    fn absurd_shapes_have_no_count() {
        assert_eq!(count(&[2, 3], 6), Some(6));
        assert_eq!(count(&[2, 3], 5), None);
        assert_eq!(count(&[], 1), Some(1));
        assert_eq!(count(&[0, 5], 0), Some(0));
        assert_eq!(count(&[0, usize::MAX], 1 << 30), None);
        assert_eq!(count(&[1 << 63, 2, 0], 1 << 30), None);
        assert_eq!(count(&[usize::MAX, usize::MAX], usize::MAX), None);
        assert_eq!(count(&[1; MAX_RANK], 10), Some(1));
        assert_eq!(count(&[1; MAX_RANK + 1], 10), None);
        assert_eq!(tensor(Dtype::U8, &[usize::MAX, 2], vec![]).count(), usize::MAX);
    }

    #[test]
    fn unsound_tensors_are_told() {
        assert!(f32s(&[1.0, 2.0]).is_sound() && tensor(Dtype::F32, &[0, 7], vec![]).is_sound());
        assert!(tensor(Dtype::Bytes, &[1, 1], vec![1, 0, 0, 0, 9]).is_sound());
        assert!(tensor(Dtype::Bytes, &[0], vec![]).is_sound());
        for (dtype, shape, data) in [
            (Dtype::F32, &[2][..], vec![0; 7]),
            (Dtype::F32, &[usize::MAX], vec![0; 4]),
            (Dtype::F32, &[0, usize::MAX], vec![]),
            (Dtype::Bool, &[1], vec![2]),
            (Dtype::Bytes, &[2], vec![0; 4]),
            (Dtype::Bytes, &[1], vec![1, 0, 0, 0]),
            (Dtype::U8, &[1; MAX_RANK + 1], vec![0]),
        ] {
            assert!(!tensor(dtype, shape, data).is_sound(), "{dtype:?} {shape:?}");
        }
    }

    #[test]
    fn infinities_and_nan_are_found_wherever_they_are() {
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in 0..9 {
                let mut list = [f32::MAX; 9];
                assert!(f32s(&list).is_finite());
                list[at] = wrong;
                assert!(!f32s(&list).is_finite());
            }
        }
        let f64s = |x: f64| tensor(Dtype::F64, &[1], x.to_le_bytes().to_vec());
        assert!(f64s(f64::MAX).is_finite() && !f64s(f64::NAN).is_finite() && !f64s(f64::NEG_INFINITY).is_finite());
        let f16s = |x: f16| tensor(Dtype::F16, &[1], x.to_le_bytes().to_vec());
        assert!(f16s(f16::MAX).is_finite() && !f16s(f16::NAN).is_finite() && !f16s(f16::NEG_INFINITY).is_finite());
        let bf16s = |x: bf16| tensor(Dtype::Bf16, &[1], x.to_le_bytes().to_vec());
        assert!(
            bf16s(bf16::MAX).is_finite() && !bf16s(bf16::NAN).is_finite() && !bf16s(bf16::NEG_INFINITY).is_finite()
        );
        assert!(
            tensor(Dtype::I32, &[1], vec![0xff; 4]).is_finite()
                && tensor(Dtype::Bytes, &[1], vec![0xff; 4]).is_finite()
        );
    }

    #[test]
    fn the_range_holds_every_element() {
        assert_eq!(f32s(&[2.0, -1.5, 0.0]).range(), Some((-1.5, 2.0)));
        assert_eq!(f32s(&[f32::INFINITY, 1.0]).range(), Some((1.0, f64::INFINITY)));
        for list in [&[f32::NAN][..], &[1.0, f32::NAN], &[f32::NAN, 1.0], &[]] {
            assert_eq!(f32s(list).range(), None);
        }
        assert_eq!(tensor(Dtype::Bool, &[1], vec![1]).range(), None);
        assert_eq!(tensor(Dtype::Bytes, &[1], vec![0; 4]).range(), None);
        assert_eq!(tensor(Dtype::I8, &[2], vec![0x80, 0x7f]).range(), Some((-128.0, 127.0)));
        assert_eq!(tensor(Dtype::U8, &[2], vec![0x80, 0x7f]).range(), Some((127.0, 128.0)));
        let halves = [0x00, 0xbc, 0x00, 0x40];
        assert_eq!(tensor(Dtype::F16, &[2], halves.to_vec()).range(), Some((-1.0, 2.0)));
        let i64s = |x: i64| tensor(Dtype::I64, &[1], x.to_le_bytes().to_vec()).range().unwrap();
        assert_eq!(i64s(-7), (-7.0, -7.0));
        assert_eq!(i64s(i64::MIN), (-9_223_372_036_854_775_808.0, -9_223_372_036_854_775_808.0));
        for x in [(1 << 53) + 1, -(1 << 53) - 1, i64::MAX, i64::MAX - 511, i64::MIN + 1] {
            let (low, high) = i64s(x);
            assert!(low as i128 <= x.into() && high as i128 >= x.into() && low < high, "{x}");
        }
        let (low, high) = tensor(Dtype::U64, &[1], vec![0xff; 8]).range().unwrap();
        assert_eq!((low, high), (18_446_744_073_709_549_568.0, 18_446_744_073_709_551_616.0));
    }

    #[test]
    fn nothing_of_the_data_is_shown() {
        let text = format!("{:?}", f32s(&[1.0, 2.0]));
        assert_eq!(text, "Tensor { dtype: F32, shape: [2], bytes: 8, .. }");
    }
}
