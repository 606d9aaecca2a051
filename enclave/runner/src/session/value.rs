//! Turns aligned little-endian bytes into ONNX Runtime's tensors without copying them, and its tensors into such bytes.
//! Strings alone are copied: ONNX Runtime keeps each in an object of its own. It takes no string with a zero byte, and gives none that is
//! not UTF-8.

use std::fmt::Debug;

use bytemuck::{AnyBitPattern, NoUninit};
use half::{bf16, f16};
use ort::session::SessionInputValue;
use ort::value::{DynValue, PrimitiveTensorElementType, TensorRef, Utf8Data};
use vouchsafe_oip::{Dtype, Port};

use super::Take;
use crate::message::Failure;

/// The tensor over these bytes.
///
/// # Errors
/// [`Failure::Engine`] when they are no such tensor.
pub fn borrow<'a>(dtype: Dtype, shape: &'a [usize], bytes: &'a [u8]) -> Result<SessionInputValue<'a>, Failure> {
    match dtype {
        Dtype::Bool => tensor::<bool>(shape, bytemuck::checked::try_cast_slice(bytes).map_err(|_| Failure::Engine)?),
        Dtype::U8 => numbers::<u8>(shape, bytes),
        Dtype::U16 => numbers::<u16>(shape, bytes),
        Dtype::U32 => numbers::<u32>(shape, bytes),
        Dtype::U64 => numbers::<u64>(shape, bytes),
        Dtype::I8 => numbers::<i8>(shape, bytes),
        Dtype::I16 => numbers::<i16>(shape, bytes),
        Dtype::I32 => numbers::<i32>(shape, bytes),
        Dtype::I64 => numbers::<i64>(shape, bytes),
        Dtype::F16 => numbers::<f16>(shape, bytes),
        Dtype::Bf16 => numbers::<bf16>(shape, bytes),
        Dtype::F32 => numbers::<f32>(shape, bytes),
        Dtype::F64 => numbers::<f64>(shape, bytes),
        Dtype::Bytes => strings(shape, bytes),
    }
}

/// Hands an output on as bytes.
///
/// # Errors
/// [`Failure::Engine`] when it is not what its port declares, [`Failure::TooLarge`].
pub fn view(port: &Port, value: &DynValue, take: &mut Take<'_>) -> Result<(), Failure> {
    match port.dtype {
        Dtype::Bool => elements::<bool>(port, value, take),
        Dtype::U8 => elements::<u8>(port, value, take),
        Dtype::U16 => elements::<u16>(port, value, take),
        Dtype::U32 => elements::<u32>(port, value, take),
        Dtype::U64 => elements::<u64>(port, value, take),
        Dtype::I8 => elements::<i8>(port, value, take),
        Dtype::I16 => elements::<i16>(port, value, take),
        Dtype::I32 => elements::<i32>(port, value, take),
        Dtype::I64 => elements::<i64>(port, value, take),
        Dtype::F16 => elements::<f16>(port, value, take),
        Dtype::Bf16 => elements::<bf16>(port, value, take),
        Dtype::F32 => elements::<f32>(port, value, take),
        Dtype::F64 => elements::<f64>(port, value, take),
        Dtype::Bytes => framed(value, take),
    }
}

trait Element: PrimitiveTensorElementType + Debug + Clone + 'static {}
impl<T: PrimitiveTensorElementType + Debug + Clone + 'static> Element for T {}

fn numbers<'a, T: Element + AnyBitPattern>(
    shape: &'a [usize],
    bytes: &'a [u8],
) -> Result<SessionInputValue<'a>, Failure> {
    tensor::<T>(shape, bytemuck::try_cast_slice(bytes).map_err(|_| Failure::Engine)?)
}

fn tensor<'a, T: Element>(shape: &'a [usize], list: &'a [T]) -> Result<SessionInputValue<'a>, Failure> {
    // The binding multiplies without looking for an overflow.
    count(shape).filter(|count| *count == list.len()).ok_or(Failure::Engine)?;
    TensorRef::from_array_view((shape, list)).map(Into::into).map_err(|_| Failure::Engine)
}

fn count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1_usize, |product, size| product.checked_mul(*size))
}

fn elements<T: Element + NoUninit>(port: &Port, value: &DynValue, take: &mut Take<'_>) -> Result<(), Failure> {
    let (shape, list) = value.try_extract_tensor::<T>().map_err(|_| Failure::Engine)?;
    let bytes: &[u8] = bytemuck::cast_slice(list);
    // A graph may hold such truth values as data, which no operator makes.
    if port.dtype == Dtype::Bool && bytes.iter().any(|byte| *byte > 1) {
        return Err(Failure::Engine);
    }
    hand_on(shape, bytes, take)
}

fn hand_on(shape: &[i64], bytes: &[u8], take: &mut Take<'_>) -> Result<(), Failure> {
    let shape: Result<Vec<usize>, _> = shape.iter().map(|size| usize::try_from(*size)).collect();
    let shape = shape.map_err(|_| Failure::Engine)?;
    if take(&shape, bytes) { Ok(()) } else { Err(Failure::TooLarge) }
}

/// A string on its way to ONNX Runtime, which does not ask for UTF-8.
#[derive(Clone)]
struct Text(Vec<u8>);

impl Utf8Data for Text {
    fn as_utf8_bytes(&self) -> &[u8] {
        &self.0
    }
}

fn strings(shape: &[usize], bytes: &[u8]) -> Result<SessionInputValue<'static>, Failure> {
    let mut rest = bytes;
    let mut list = Vec::new();
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| Failure::Engine)?;
        let (text, behind) = behind.split_at_checked(length).ok_or(Failure::Engine)?;
        list.push(Text(text.to_vec()));
        rest = behind;
    }
    if !rest.is_empty() || count(shape) != Some(list.len()) {
        return Err(Failure::Engine);
    }
    let value = ort::value::Tensor::from_string_array((shape, &list[..]));
    value.map(Into::into).map_err(|_| Failure::Engine)
}

fn framed(value: &DynValue, take: &mut Take<'_>) -> Result<(), Failure> {
    let (shape, list) = value.try_extract_strings().map_err(|_| Failure::Engine)?;
    let mut bytes = Vec::with_capacity(list.iter().map(|text| text.len() + 4).sum());
    for text in list {
        bytes.extend_from_slice(&u32::try_from(text.len()).map_err(|_| Failure::TooLarge)?.to_le_bytes());
        bytes.extend_from_slice(text.as_bytes());
    }
    hand_on(shape, &bytes, take)
}
