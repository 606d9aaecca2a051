//! Turns a model's outputs into the body of an answer: a JSON part, and behind it the outputs that are wanted as binary data.
//! It does not judge the numbers: the vendor's output rules have been applied before.

use std::io::Write as _;

use bytes::Bytes;
use half::{bf16, f16};
use serde::Serialize;

use crate::binary;
use crate::dtype::Dtype;
use crate::error::OipError;
use crate::request::{Request, Wanted};
use crate::tensor::Tensor;

/// An answer's body and the length of its JSON part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Exact bytes.
    pub body: Bytes,
    /// `Inference-Header-Content-Length`, or 0 for an answer that is JSON alone.
    pub header_len: u64,
}

impl Answer {
    /// Encodes the outputs that `request` wants, which are given in its order.
    ///
    /// Floating-point numbers are written as the shortest text that reads back as the same number. With `pad_to`, spaces behind
    /// the JSON part make the body's length a multiple of it, so that the length tells less about the numbers.
    ///
    /// # Errors
    /// `OUTPUT_NOT_FINITE`, `OUTPUT_NOT_TEXT`; `OUTPUT_MISMATCH` when the outputs are others than those wanted, or unsound.
    pub fn encode(
        model: &str,
        version: &str,
        request: &Request,
        outputs: &[Tensor],
        pad_to: Option<usize>,
    ) -> Result<Self, OipError> {
        let fits = outputs.len() == request.outputs.len()
            && outputs.iter().zip(&request.outputs).all(|(tensor, wanted)| tensor.name == wanted.name);
        if !fits || !outputs.iter().all(Tensor::is_sound) {
            return Err(OipError::OutputMismatch);
        }
        let binary =
            || outputs.iter().zip(&request.outputs).filter(|(_, wanted)| wanted.binary).map(|(tensor, _)| tensor);
        let tail: usize = binary().map(|tensor| tensor.data.len()).sum();
        let mut body = Vec::with_capacity(estimate(outputs, request).saturating_add(pad_to.unwrap_or(0)));
        body.extend_from_slice(b"{\"model_name\":");
        json(&mut body, model)?;
        body.extend_from_slice(b",\"model_version\":");
        json(&mut body, version)?;
        if let Some(id) = &request.id {
            body.extend_from_slice(b",\"id\":");
            json(&mut body, id)?;
        }
        body.extend_from_slice(b",\"outputs\":[");
        for (index, (tensor, wanted)) in outputs.iter().zip(&request.outputs).enumerate() {
            if index > 0 {
                body.push(b',');
            }
            output(&mut body, tensor, wanted.binary)?;
        }
        body.extend_from_slice(b"]}");
        if let Some(missing) = pad_to.and_then(|unit| (body.len() + tail).checked_next_multiple_of(unit)) {
            body.resize(missing - tail, b' ');
        }
        let any_binary = request.outputs.iter().any(|wanted| wanted.binary);
        let header_len = if any_binary { body.len() as u64 } else { 0 };
        body.reserve_exact(tail);
        binary().for_each(|tensor| body.extend_from_slice(&tensor.data));
        Ok(Self { body: body.into(), header_len })
    }
}

fn estimate(outputs: &[Tensor], request: &Request) -> usize {
    // Binary data takes its own length, a number written out about three times that of an FP32.
    let size =
        |(tensor, wanted): (&Tensor, &Wanted)| tensor.data.len().saturating_mul(if wanted.binary { 1 } else { 3 });
    let sizes = outputs.iter().zip(&request.outputs).map(size);
    sizes.fold(256, |sum, size| sum.saturating_add(size).saturating_add(128))
}

fn output(out: &mut Vec<u8>, tensor: &Tensor, binary: bool) -> Result<(), OipError> {
    out.extend_from_slice(b"{\"name\":");
    json(out, &tensor.name)?;
    let failed = |_| OipError::OutputMismatch;
    write!(out, ",\"datatype\":\"{}\",\"shape\":", tensor.dtype.as_str()).map_err(failed)?;
    json(out, &tensor.shape)?;
    if binary {
        write!(out, ",\"parameters\":{{\"binary_data_size\":{}}}}}", tensor.data.len()).map_err(failed)?;
        return Ok(());
    }
    out.extend_from_slice(b",\"data\":[");
    elements(out, tensor)?;
    out.extend_from_slice(b"]}");
    Ok(())
}

/// A flat list, without its brackets.
fn elements(out: &mut Vec<u8>, tensor: &Tensor) -> Result<(), OipError> {
    if !tensor.is_finite() {
        return Err(OipError::OutputNotFinite);
    }
    let data = &tensor.data;
    match tensor.dtype {
        Dtype::Bool => list(out, data, |[b]: [u8; 1]| b == 1),
        Dtype::U8 => list(out, data, u8::from_le_bytes),
        Dtype::U16 => list(out, data, u16::from_le_bytes),
        Dtype::U32 => list(out, data, u32::from_le_bytes),
        Dtype::U64 => list(out, data, u64::from_le_bytes),
        Dtype::I8 => list(out, data, i8::from_le_bytes),
        Dtype::I16 => list(out, data, i16::from_le_bytes),
        Dtype::I32 => list(out, data, i32::from_le_bytes),
        Dtype::I64 => list(out, data, i64::from_le_bytes),
        Dtype::F16 => list(out, data, |b| f16::from_le_bytes(b).to_f32()),
        Dtype::Bf16 => list(out, data, |b| bf16::from_le_bytes(b).to_f32()),
        Dtype::F32 => list(out, data, f32::from_le_bytes),
        Dtype::F64 => list(out, data, f64::from_le_bytes),
        Dtype::Bytes => strings(out, data),
    }
}

fn list<T: Serialize, const N: usize>(
    out: &mut Vec<u8>,
    data: &[u8],
    read: impl Fn([u8; N]) -> T,
) -> Result<(), OipError> {
    for (index, element) in data.as_chunks().0.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        json(out, &read(*element))?;
    }
    Ok(())
}

fn strings(out: &mut Vec<u8>, data: &[u8]) -> Result<(), OipError> {
    for (index, string) in binary::strings(data).enumerate() {
        if index > 0 {
            out.push(b',');
        }
        let string = string.ok_or(OipError::OutputMismatch)?;
        json(out, std::str::from_utf8(string).map_err(|_| OipError::OutputNotText)?)?;
    }
    Ok(())
}

/// Nothing that is written here can fail, but its type says that it might.
fn json<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) -> Result<(), OipError> {
    serde_json::to_writer(out, value).map_err(|_| OipError::OutputMismatch)
}

#[cfg(test)]
mod tests;
