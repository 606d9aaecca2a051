//! Turns the body of an inference request into tensors that fit the model's inputs, and a list of the outputs that are wanted.
//! It does not decide whether the request is allowed: the vendor's usage policy does.

use bytes::Bytes;

use crate::binary;
use crate::cut::Cut;
use crate::dtype::{Dtype, Port, Ports};
use crate::envelope::{self, AROUND_INPUT, AROUND_REQUEST, Object, Parameters, RawInput, RawOutput};
use crate::error::OipError;
use crate::list;
use crate::tensor::{MAX_COUNT, Tensor, count};

/// The header that says how long the JSON part of a body is when binary tensors follow it. A compressed body is inflated first.
pub const HEADER_LENGTH: &str = "Inference-Header-Content-Length";
/// A request id is at most so many bytes long.
const MAX_ID: usize = 256;

const HAS_MORE: OipError = OipError::InputData("there are more binary bytes than the inputs declare");
const HAS_FEWER: OipError = OipError::InputData("there are fewer binary bytes than the inputs declare");
const EITHER: OipError = OipError::InputData("it has either data or binary_data_size");

/// What a request may take. How long the body itself may be is the caller's to bound, before it is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// All inputs together are at most so many bytes as tensors; a JSON text may grow by a factor of four.
    pub max_input_bytes: usize,
}

impl Limits {
    /// So many bytes more than were used; not above the limit.
    fn with(&self, used: usize, more: usize) -> Result<usize, OipError> {
        let sum = used.checked_add(more).filter(|sum| *sum <= self.max_input_bytes);
        sum.ok_or(OipError::InputTooLarge(self.max_input_bytes))
    }
}

/// An output that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its name.
    pub name: String,
    /// As binary data, not as JSON.
    pub binary: bool,
}

/// What a request calls the model that its path names. Only some clients do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Called {
    /// Its name.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<String>,
}

/// A decoded request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Echoed in the answer.
    pub id: Option<String>,
    /// What it says it is for.
    pub called: Called,
    /// Every input of the model once, in the order in which they were sent; binary ones are slices of the body.
    pub inputs: Vec<Tensor>,
    /// The outputs that are wanted, in the order of the answer.
    pub outputs: Vec<Wanted>,
}

impl Request {
    /// Decodes a body whose JSON part is `header_len` bytes long, or is all of it when that is nothing.
    ///
    /// A length of 0 is the raw form: the whole body is the binary data of the model's only input, at most one dimension of
    /// which is of any size and follows from the body's; every output is then answered as binary data. If that input is BYTES,
    /// the model takes one string and the body is that string, without a length before it.
    ///
    /// # Errors
    /// `JSON_INVALID`, `HEADER_INVALID`, `PARAMETER_UNSUPPORTED`, `INPUT_*`, `OUTPUT_UNKNOWN`.
    pub fn decode(body: &Bytes, header_len: Option<u64>, ports: &Ports, limits: &Limits) -> Result<Self, OipError> {
        let at = match header_len {
            Some(0) => return raw(body, ports, limits),
            Some(length) => usize::try_from(length).ok().filter(|at| *at <= body.len()),
            None => Some(body.len()),
        };
        let mut binary = body.clone();
        let text = binary.split_to(at.ok_or(OipError::HeaderInvalid)?);
        let cut = Cut::new(&text)?;
        let request = envelope::read(cut.text())?;
        let called = [&request.model_name, &request.model_version];
        if request.id.as_ref().is_some_and(|id| id.len() > MAX_ID)
            || called.into_iter().flatten().any(|word| word.len() > MAX_ID)
        {
            return Err(OipError::JsonInvalid);
        }
        let [name, version] = called.map(|word| word.as_deref().map(str::to_owned));
        let given = Parameters::read(request.parameters, AROUND_REQUEST)?;
        if given.binary_data.is_some() || given.binary_data_size.is_some() {
            return Err(OipError::ParameterUnsupported);
        }
        let mut inputs: Vec<Tensor> = Vec::with_capacity(request.inputs.0.len());
        let mut used = 0;
        for Object(input) in request.inputs.0 {
            if inputs.iter().any(|t| t.name == *input.name) {
                return Err(OipError::InputRepeated);
            }
            let tensor = decode(input, &cut, &mut binary, ports, limits, used)?;
            used = limits.with(used, tensor.data.len())?;
            inputs.push(tensor);
        }
        if !binary.is_empty() {
            return Err(HAS_MORE);
        }
        if inputs.len() != ports.inputs.len() {
            return Err(OipError::InputMissing);
        }
        let outputs = wanted(request.outputs.map(|list| list.0), ports, given.binary_data_output.unwrap_or(false))?;
        Ok(Self { id: request.id, called: Called { name, version }, inputs, outputs })
    }
}

fn decode(
    input: RawInput<'_>,
    cut: &Cut<'_>,
    binary: &mut Bytes,
    ports: &Ports,
    limits: &Limits,
    used: usize,
) -> Result<Tensor, OipError> {
    // The model's own facts first: no memory is taken for a tensor that it does not have.
    let port = ports.inputs.iter().find(|p| p.name == input.name).ok_or(OipError::InputUnknown)?;
    let dtype = Dtype::parse(&input.datatype).filter(|d| *d == port.dtype).ok_or(OipError::InputDtype)?;
    let shape = input.shape.0;
    if !port.fits(&shape) {
        return Err(OipError::InputShape);
    }
    let given = Parameters::read(input.parameters, AROUND_INPUT)?;
    if given.binary_data.is_some() || given.binary_data_output.is_some() {
        return Err(OipError::ParameterUnsupported);
    }
    let data = match (input.data, given.binary_data_size) {
        (Some(data), None) => {
            let text = cut.restore(data.get());
            // Before memory is taken; a string is no longer as a tensor than twice its text, which the body's limit bounds.
            let least = count(&shape, text.len()).unwrap_or(0).saturating_mul(dtype.size().unwrap_or(0));
            limits.with(used, least)?;
            json(text, dtype, &shape)?
        }
        (None, Some(size)) => {
            let size = usize::try_from(size).ok().filter(|size| *size <= binary.len()).ok_or(HAS_FEWER)?;
            let data = binary.split_to(size);
            let count = count(&shape, MAX_COUNT).ok_or(OipError::InputShape)?;
            binary::check(dtype, count, &data).map_err(OipError::InputData)?;
            data
        }
        _ => return Err(EITHER),
    };
    Ok(Tensor { name: port.name.clone(), dtype, shape, data })
}

fn json(text: &str, dtype: Dtype, shape: &[usize]) -> Result<Bytes, OipError> {
    match list::read(text, dtype, shape) {
        Ok(data) => Ok(data.into()),
        // What is no JSON at all, or JSON that nobody should send, has a code of its own.
        Err(error) => envelope::judge(text, AROUND_INPUT).and(Err(error)),
    }
}

fn raw(body: &Bytes, ports: &Ports, limits: &Limits) -> Result<Request, OipError> {
    let port = match ports.inputs.as_slice() {
        [port] => port,
        [] => return Err(OipError::InputUnknown),
        _ => return Err(OipError::InputMissing),
    };
    let (shape, data) = match port.dtype.size() {
        Some(size) => (raw_shape(port, size, body.len())?, body.clone()),
        None => raw_string(port, body)?,
    };
    limits.with(0, data.len())?;
    let count = count(&shape, MAX_COUNT).ok_or(OipError::InputShape)?;
    binary::check(port.dtype, count, &data).map_err(OipError::InputData)?;
    let input = Tensor { name: port.name.clone(), dtype: port.dtype, shape, data };
    let outputs = wanted(None, ports, true)?;
    Ok(Request { id: None, called: Called::default(), inputs: vec![input], outputs })
}

/// The shape that a body of so many bytes has: at most one dimension is open.
fn raw_shape(port: &Port, size: usize, bytes: usize) -> Result<Vec<usize>, OipError> {
    let mut fixed = size;
    let mut open = 0;
    for dim in &port.shape {
        match usize::try_from(*dim) {
            Ok(dim) => fixed = fixed.checked_mul(dim).ok_or(OipError::InputShape)?,
            Err(_) => open += 1,
        }
    }
    if open > 1 || (open == 1 && fixed == 0) {
        return Err(OipError::InputShape);
    }
    let rest = bytes.checked_div(fixed).unwrap_or(0);
    Ok(port.shape.iter().map(|dim| usize::try_from(*dim).unwrap_or(rest)).collect())
}

fn raw_string(port: &Port, body: &Bytes) -> Result<(Vec<usize>, Bytes), OipError> {
    if port.shape.iter().any(|dim| *dim != 1 && *dim >= 0) {
        return Err(OipError::InputShape);
    }
    let length = u32::try_from(body.len()).map_err(|_| OipError::InputData("a string is longer than 2^32 bytes"))?;
    Ok((vec![1; port.shape.len()], [&length.to_le_bytes(), &body[..]].concat().into()))
}

fn wanted(raw: Option<Vec<Object<RawOutput<'_>>>>, ports: &Ports, all_binary: bool) -> Result<Vec<Wanted>, OipError> {
    let Some(asked) = raw.filter(|list| !list.is_empty()) else {
        return Ok(ports.outputs.iter().map(|p| Wanted { name: p.name.clone(), binary: all_binary }).collect());
    };
    let mut outputs: Vec<Wanted> = Vec::new();
    for Object(output) in asked {
        let known = ports.outputs.iter().any(|p| p.name == output.name);
        if !known || outputs.iter().any(|w| w.name == *output.name) {
            return Err(OipError::OutputUnknown);
        }
        let given = Parameters::read(output.parameters, AROUND_INPUT)?;
        if given.binary_data_size.is_some() || given.binary_data_output.is_some() {
            return Err(OipError::ParameterUnsupported);
        }
        outputs.push(Wanted { name: output.name.into_owned(), binary: given.binary_data.unwrap_or(all_binary) });
    }
    Ok(outputs)
}

#[cfg(test)]
mod tests;
