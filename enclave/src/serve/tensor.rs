//! Turns JSON lists and little-endian bytes into typed tensors, and typed tensors back.
//! It does not know the model: whether a tensor is wanted is decided by the usage policy and by the engine's own facts.

use std::fmt;

use half::f16;
use serde::de::{DeserializeSeed, Deserializer as _, Error as _, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::element::{Element, Scalar};
use crate::error::EnclaveError;

/// More dimensions than this are refused.
pub const MAX_RANK: usize = 16;
/// Beside an empty dimension, the others make up at most so much.
const MAX_BESIDE_EMPTY: usize = 1 << 24;

/// Calls a macro with every datatype: variant, Rust type, word of the Open Inference Protocol, ONNX Runtime's variant.
#[macro_export]
#[doc(hidden)]
macro_rules! with_datatypes {
    ($callback:ident) => {
        $callback! {
            (Bool, bool, "BOOL", Bool), (U8, u8, "UINT8", Uint8), (U16, u16, "UINT16", Uint16), (U32, u32, "UINT32", Uint32),
            (U64, u64, "UINT64", Uint64), (I8, i8, "INT8", Int8), (I16, i16, "INT16", Int16), (I32, i32, "INT32", Int32),
            (I64, i64, "INT64", Int64), (F16, f16, "FP16", Float16), (F32, f32, "FP32", Float32), (F64, f64, "FP64", Float64)
        }
    };
}

macro_rules! datatypes {
    ($(($variant:ident, $t:ty, $word:literal, $ort:ident)),+) => {
        /// The datatype of a tensor.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Dtype { $(#[doc = $word] $variant),+ }

        /// The elements of a tensor, in row-major order.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Data { $(#[doc = $word] $variant(Vec<$t>)),+ }

        impl Dtype {
            /// The word of the Open Inference Protocol.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// Reads the word.
            #[must_use]
            pub fn parse(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }

            /// Bytes of one element.
            #[must_use]
            pub const fn size(self) -> usize {
                match self { $(Self::$variant => <$t as Element>::SIZE),+ }
            }
        }

        impl Data {
            /// Reads exactly `count` elements from little-endian bytes.
            ///
            /// # Errors
            /// `INPUT_DATA`.
            pub fn from_binary(dtype: Dtype, count: usize, bytes: &[u8]) -> Result<Self, EnclaveError> {
                match dtype { $(Dtype::$variant => from_binary::<$t>(count, bytes).map(Self::$variant)),+ }
            }

            /// Reads a flat or nested JSON list that fits `dims`.
            ///
            /// # Errors
            /// `INPUT_DATA`.
            pub fn from_json(dtype: Dtype, dims: &[usize], json: &RawValue) -> Result<Self, EnclaveError> {
                match dtype { $(Dtype::$variant => from_json::<$t>(dims, json).map(Self::$variant)),+ }
            }

            /// Little-endian bytes.
            #[must_use]
            pub fn to_binary(&self) -> Vec<u8> {
                match self { $(Self::$variant(list) => to_binary(list)),+ }
            }

            /// A flat JSON list; `None` when an element is infinite or not a number.
            #[must_use]
            pub fn to_json(&self) -> Option<Vec<u8>> {
                match self { $(Self::$variant(list) => to_json(list)),+ }
            }

            /// The datatype.
            #[must_use]
            pub const fn dtype(&self) -> Dtype {
                match self { $(Self::$variant(_) => Dtype::$variant),+ }
            }

            /// Whether no element is infinite or NaN.
            #[must_use]
            pub fn is_finite(&self) -> bool {
                match self { $(Self::$variant(list) => list.iter().all(|x| x.is_finite_number())),+ }
            }
        }
    };
}
with_datatypes!(datatypes);

/// A tensor with its name.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Name of the model's input or output.
    pub name: String,
    /// Sizes of the dimensions.
    pub shape: Vec<usize>,
    /// Elements.
    pub data: Data,
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

fn from_binary<T: Element>(count: usize, bytes: &[u8]) -> Result<Vec<T>, EnclaveError> {
    if count.checked_mul(T::SIZE) != Some(bytes.len()) {
        return Err(EnclaveError::InputData("the binary size is not that of shape and datatype"));
    }
    let list: Option<Vec<T>> = bytes.chunks_exact(T::SIZE).map(T::read).collect();
    list.ok_or(EnclaveError::InputData("a boolean is neither 0 nor 1"))
}

fn to_binary<T: Element>(list: &[T]) -> Vec<u8> {
    let mut out = Vec::with_capacity(list.len() * T::SIZE);
    list.iter().for_each(|x| x.write(&mut out));
    out
}

fn to_json<T: Element>(list: &[T]) -> Option<Vec<u8>> {
    let mut out = vec![b'['];
    for (at, element) in list.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        element.to_json(&mut out)?;
    }
    out.push(b']');
    Some(out)
}

fn from_json<T: Element>(dims: &[usize], json: &RawValue) -> Result<Vec<T>, EnclaveError> {
    let mut out = Vec::new();
    let list = List { dims, depth: 0, total: dims.iter().product(), out: &mut out };
    let mut reader = serde_json::Deserializer::from_str(json.get());
    let read = reader.deserialize_seq(list);
    read.map_err(|_| {
        EnclaveError::InputData("it is no flat or nested list of the shape's size and the datatype's range")
    })?;
    Ok(out)
}

/// One JSON list at `depth`: elements of the last dimension, or lists of the next, or (outermost only) all elements flat.
struct List<'a, T> {
    dims: &'a [usize],
    depth: usize,
    total: usize,
    out: &'a mut Vec<T>,
}

enum Kind {
    Element,
    List,
}

impl<'de, T: Element> Visitor<'de> for List<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let (mut elements, mut lists) = (0_usize, 0_usize);
        loop {
            let item = Item(List { dims: self.dims, depth: self.depth, total: self.total, out: self.out });
            match list.next_element_seed(item)? {
                Some(Kind::Element) => elements += 1,
                Some(Kind::List) => lists += 1,
                None => break,
            }
        }
        let here = self.dims.get(self.depth).copied();
        let last = self.depth + 1 >= self.dims.len();
        let fits = if lists > 0 {
            elements == 0 && !last && Some(lists) == here
        } else if elements > 0 {
            (last && Some(elements) == here) || (self.depth == 0 && elements == self.total)
        } else {
            here == Some(0) || (self.depth == 0 && self.total == 0)
        };
        if fits { Ok(()) } else { Err(A::Error::custom("shape")) }
    }
}

struct Item<'a, T>(List<'a, T>);

impl<'de, T: Element> DeserializeSeed<'de> for Item<'_, T> {
    type Value = Kind;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Kind, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<T: Element> Item<'_, T> {
    fn element<E: serde::de::Error>(self, scalar: Scalar) -> Result<Kind, E> {
        if self.0.out.len() >= self.0.total {
            return Err(E::custom("too many"));
        }
        self.0.out.push(T::from_json(scalar).ok_or_else(|| E::custom("range"))?);
        Ok(Kind::Element)
    }
}

impl<'de, T: Element> Visitor<'de> for Item<'_, T> {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number or a list")
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Kind, E> {
        self.element(Scalar::Bool(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Kind, E> {
        self.element(Scalar::Unsigned(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Kind, E> {
        self.element(Scalar::Signed(value))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Kind, E> {
        self.element(Scalar::Float(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Kind, A::Error> {
        let List { dims, depth, total, out } = self.0;
        if depth + 1 >= MAX_RANK {
            return Err(A::Error::custom("depth"));
        }
        List { dims, depth: depth + 1, total, out }.visit_seq(list)?;
        Ok(Kind::List)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(dtype: Dtype, dims: &[usize], text: &str) -> Result<Data, &'static str> {
        let raw = serde_json::from_str::<&RawValue>(text).map_err(|_| "syntax")?;
        Data::from_json(dtype, dims, raw).map_err(|e| e.code())
    }

    #[test]
    fn flat_and_nested_lists_are_the_same_tensor() {
        let expected = Ok(Data::F32(vec![1.0, 2.5, -3.0, 4.0]));
        assert_eq!(json(Dtype::F32, &[2, 2], "[1, 2.5, -3, 4]"), expected);
        assert_eq!(json(Dtype::F32, &[2, 2], "[[1, 2.5], [-3, 4]]"), expected);
        assert_eq!(json(Dtype::F32, &[2, 1, 2], "[[[1, 2.5]], [[-3, 4]]]"), expected);
        assert_eq!(json(Dtype::I64, &[0, 3], "[]"), Ok(Data::I64(vec![])));
        assert_eq!(json(Dtype::I64, &[2, 0], "[[], []]"), Ok(Data::I64(vec![])));
        assert_eq!(json(Dtype::Bool, &[], "[true]"), Ok(Data::Bool(vec![true])));
    }

    #[test]
    fn lists_of_another_shape_or_range_are_refused() {
        for (dtype, dims, text) in [
            (Dtype::F32, &[2, 2][..], "[1, 2, 3]"),
            (Dtype::F32, &[2, 2], "[1, 2, 3, 4, 5]"),
            (Dtype::F32, &[2, 2], "[[1, 2, 3], [4]]"),
            (Dtype::F32, &[2, 2], "[[1, 2], 3, 4]"),
            (Dtype::F32, &[4], "[[1, 2, 3, 4]]"),
            (Dtype::F32, &[1], "[1e39]"),
            (Dtype::F64, &[1], "[1e999]"),
            (Dtype::F32, &[1], "[null]"),
            (Dtype::F32, &[1], "[\"1\"]"),
            (Dtype::F32, &[1], "[true]"),
            (Dtype::F32, &[1], "1"),
            (Dtype::I8, &[1], "[128]"),
            (Dtype::U8, &[1], "[-1]"),
            (Dtype::I32, &[1], "[1.0]"),
            (Dtype::F16, &[1], "[1]"),
            (Dtype::Bool, &[1], "[1]"),
        ] {
            assert_eq!(json(dtype, dims, text), Err("INPUT_DATA"), "{dtype:?} {dims:?} {text}");
        }
        assert_eq!(json(Dtype::F32, &[1], "[NaN]"), Err("syntax"));
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        assert_eq!(json(Dtype::F32, &[1], &deep), Err("INPUT_DATA"));
    }

    #[test]
    fn binary_is_little_endian_and_exact() {
        let bytes = [0, 0, 0x80, 0x3f, 0, 0, 0xc0, 0x7f];
        let data = Data::from_binary(Dtype::F32, 2, &bytes).unwrap();
        assert!(!data.is_finite());
        assert_eq!(data.to_binary(), bytes);
        assert_eq!(data.to_json(), None);
        assert_eq!(Data::from_binary(Dtype::F32, 3, &bytes).err().unwrap().code(), "INPUT_DATA");
        assert_eq!(Data::from_binary(Dtype::F64, usize::MAX, &bytes).err().unwrap().code(), "INPUT_DATA");
        assert_eq!(Data::from_binary(Dtype::Bool, 2, &[1, 2]).err().unwrap().code(), "INPUT_DATA");
        assert_eq!(Data::from_binary(Dtype::F16, 1, &[0, 0x3c]).unwrap().to_json(), Some(b"[1.0]".to_vec()));
    }

    #[test]
    fn every_datatype_keeps_its_elements() {
        for word in
            ["BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64"]
        {
            let dtype = Dtype::parse(word).unwrap();
            let mut bytes = vec![0; dtype.size() * 3];
            bytes[dtype.size()] = 1;
            let data = Data::from_binary(dtype, 3, &bytes).unwrap();
            assert_eq!((data.dtype().as_str(), data.to_binary()), (word, bytes));
            let text = data.to_json().unwrap();
            if dtype != Dtype::F16 {
                let raw: &RawValue = serde_json::from_slice(&text).unwrap();
                assert_eq!(Data::from_json(dtype, &[3], raw).unwrap(), data);
            }
        }
        assert_eq!(Dtype::parse("BYTES"), None);
    }

    #[test]
    fn absurd_shapes_have_no_count() {
        assert_eq!(count(&[2, 3], 6), Some(6));
        assert_eq!(count(&[], 1), Some(1));
        assert_eq!(count(&[0, 5], 0), Some(0));
        assert_eq!(count(&[0, usize::MAX], 1 << 30), None);
        assert_eq!(count(&[usize::MAX, usize::MAX], usize::MAX), None);
        assert_eq!(count(&[1; MAX_RANK + 1], 10), None);
    }
}
