//! Turns inference requests of the Open Inference Protocol v2 (JSON, with or without binary tensors) into tensors, and answers back.
//! It does not decide whether the tensors are wanted: the model's ports and the usage policy do.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{RawPathParams, State};
use axum::{Extension, Json};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::Service;
use super::session::Admitted;
use super::tensor::{Data, Dtype, Tensor, count};
use crate::engine::{Port, Ports};
use crate::error::EnclaveError;
use crate::model::Model;

/// Length of the JSON part of a body that carries binary tensors.
pub const HEADER_LENGTH: &str = "Inference-Header-Content-Length";
/// A request id is at most so long.
const MAX_ID: usize = 256;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRequest<'a> {
    id: Option<String>,
    #[serde(borrow, default)]
    inputs: Vec<RawInput<'a>>,
    #[serde(borrow)]
    outputs: Option<Vec<RawOutput<'a>>>,
    #[serde(borrow)]
    parameters: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawInput<'a> {
    name: String,
    datatype: String,
    shape: Vec<usize>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    parameters: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOutput<'a> {
    name: String,
    #[serde(borrow)]
    parameters: Option<&'a RawValue>,
}

/// The parameters that this server knows, wherever each may stand.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    binary_data_size: Option<u64>,
    binary_data: Option<bool>,
    binary_data_output: Option<bool>,
}

/// A decoded request.
pub struct InferRequest {
    /// Echoed in the answer.
    pub id: Option<String>,
    /// Tensors, as sent.
    pub inputs: Vec<Tensor>,
    /// Wanted outputs, and whether each is wanted as binary data.
    pub outputs: Vec<(String, bool)>,
}

/// An answer's body and the length of its JSON part, 0 for plain JSON.
pub struct InferResponse {
    /// Exact bytes.
    pub body: Bytes,
    /// `Inference-Header-Content-Length`, or 0.
    pub header_len: u64,
}

#[derive(Serialize)]
struct Answer<'a> {
    model_name: &'a str,
    model_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    outputs: Vec<AnswerOutput<'a>>,
}

#[derive(Serialize)]
struct AnswerOutput<'a> {
    name: &'a str,
    datatype: &'static str,
    shape: &'a [usize],
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Value>,
}

impl InferRequest {
    /// Decodes a body whose JSON part is `header_len` bytes long, or the whole body when that is nothing.
    ///
    /// # Errors
    /// `JSON_INVALID`, `HEADER_INVALID`, `PARAMETER_UNSUPPORTED`, `INPUT_*`, `OUTPUT_UNKNOWN`.
    pub fn decode(body: &[u8], header_len: Option<u64>, ports: &Ports) -> Result<Self, EnclaveError> {
        let at = match header_len {
            Some(length) => usize::try_from(length).ok().filter(|at| *at <= body.len()),
            None => Some(body.len()),
        };
        let (text, mut binary) = body.split_at(at.ok_or(EnclaveError::HeaderInvalid(HEADER_LENGTH))?);
        let raw: RawRequest<'_> = serde_json::from_slice(text).map_err(|_| EnclaveError::JsonInvalid)?;
        if raw.id.as_ref().is_some_and(|id| id.len() > MAX_ID) {
            return Err(EnclaveError::JsonInvalid);
        }
        let request = parameters(raw.parameters)?;
        if request.binary_data.is_some() || request.binary_data_size.is_some() {
            return Err(EnclaveError::ParameterUnsupported);
        }
        let mut inputs: Vec<Tensor> = Vec::new();
        for input in raw.inputs {
            let tensor = input.decode(&mut binary, ports)?;
            if inputs.iter().any(|t| t.name == tensor.name) {
                return Err(EnclaveError::InputRepeated);
            }
            inputs.push(tensor);
        }
        if !binary.is_empty() {
            return Err(EnclaveError::InputData("there are more binary bytes than the inputs declare"));
        }
        let all_binary = request.binary_data_output.unwrap_or(false);
        let outputs = wanted(raw.outputs, ports, all_binary)?;
        Ok(Self { id: raw.id, inputs, outputs })
    }
}

impl RawInput<'_> {
    fn decode(self, binary: &mut &[u8], ports: &Ports) -> Result<Tensor, EnclaveError> {
        // The model's own facts first: no memory is taken for a tensor that it does not have.
        let port = ports.inputs.iter().find(|p| p.name == self.name).ok_or(EnclaveError::InputUnknown)?;
        let dtype = Dtype::parse(&self.datatype).filter(|d| *d == port.dtype).ok_or(EnclaveError::InputDtype)?;
        if !fits(port, &self.shape) {
            return Err(EnclaveError::InputShape);
        }
        let given = parameters(self.parameters)?;
        if given.binary_data.is_some() || given.binary_data_output.is_some() {
            return Err(EnclaveError::ParameterUnsupported);
        }
        let data = match (self.data, given.binary_data_size) {
            (Some(json), None) => {
                // Every element takes at least a digit and a comma.
                count(&self.shape, json.get().len()).ok_or(EnclaveError::InputShape)?;
                Data::from_json(dtype, &self.shape, json)?
            }
            (None, Some(size)) => {
                let size = usize::try_from(size).ok().filter(|size| *size <= binary.len());
                let size =
                    size.ok_or(EnclaveError::InputData("there are fewer binary bytes than the inputs declare"))?;
                let (here, rest) = binary.split_at(size);
                *binary = rest;
                let count = count(&self.shape, size.max(1)).ok_or(EnclaveError::InputShape)?;
                Data::from_binary(dtype, count, here)?
            }
            _ => return Err(EnclaveError::InputData("it has either data or binary_data_size")),
        };
        Ok(Tensor { name: self.name, shape: self.shape, data })
    }
}

impl InferResponse {
    /// Encodes the model's answer: a JSON part, and behind it the outputs that are wanted as binary data.
    ///
    /// # Errors
    /// `OUTPUT_NOT_FINITE`, `SYSTEM`.
    pub fn encode(model: &Model, request: &InferRequest, outputs: &[Tensor]) -> Result<Self, EnclaveError> {
        let mut tail = Vec::new();
        let mut list = Vec::with_capacity(outputs.len());
        let failed = |_| EnclaveError::System("write an answer");
        for (tensor, (_, binary)) in outputs.iter().zip(&request.outputs) {
            let (mut data, mut parameters) = (None, None);
            if *binary {
                let bytes = tensor.data.to_binary();
                parameters = Some(json!({ "binary_data_size": bytes.len() }));
                tail.extend_from_slice(&bytes);
            } else {
                let text = tensor.data.to_json().ok_or(EnclaveError::OutputNotFinite)?;
                let text = String::from_utf8(text).map_err(|_| EnclaveError::System("write an answer"))?;
                data = Some(RawValue::from_string(text).map_err(failed)?);
            }
            let datatype = tensor.data.dtype().as_str();
            list.push(AnswerOutput { name: &tensor.name, datatype, shape: &tensor.shape, data, parameters });
        }
        let claim = model.claim();
        let answer = Answer {
            model_name: &claim.id,
            model_version: claim.sequence.to_string(),
            id: request.id.as_deref(),
            outputs: list,
        };
        let mut body = serde_json::to_vec(&answer).map_err(failed)?;
        let any_binary = request.outputs.iter().any(|(_, binary)| *binary);
        let header_len = if any_binary { body.len() as u64 } else { 0 };
        body.extend_from_slice(&tail);
        Ok(Self { body: body.into(), header_len })
    }
}

fn parameters(raw: Option<&RawValue>) -> Result<Parameters, EnclaveError> {
    let Some(raw) = raw else { return Ok(Parameters::default()) };
    serde_json::from_str(raw.get()).map_err(|_| EnclaveError::ParameterUnsupported)
}

fn wanted(
    raw: Option<Vec<RawOutput<'_>>>,
    ports: &Ports,
    all_binary: bool,
) -> Result<Vec<(String, bool)>, EnclaveError> {
    let asked = raw.filter(|list| !list.is_empty());
    let Some(asked) = asked else {
        return Ok(ports.outputs.iter().map(|p| (p.name.clone(), all_binary)).collect());
    };
    let mut outputs: Vec<(String, bool)> = Vec::new();
    for output in asked {
        let known = ports.outputs.iter().any(|p| p.name == output.name);
        if !known || outputs.iter().any(|(name, _)| *name == output.name) {
            return Err(EnclaveError::OutputUnknown);
        }
        let given = parameters(output.parameters)?;
        if given.binary_data_size.is_some() || given.binary_data_output.is_some() {
            return Err(EnclaveError::ParameterUnsupported);
        }
        outputs.push((output.name, given.binary_data.unwrap_or(all_binary)));
    }
    Ok(outputs)
}

fn fits(port: &Port, shape: &[usize]) -> bool {
    port.shape.len() == shape.len()
        && port
            .shape
            .iter()
            .zip(shape)
            .all(|(want, have)| *want < 0 || usize::try_from(*want).is_ok_and(|want| want == *have))
}

/// The model a path names, among those that the session's claims name.
///
/// # Errors
/// `MODEL_UNKNOWN`.
pub fn find(admitted: &Admitted, path: &RawPathParams) -> Result<Arc<Model>, EnclaveError> {
    let part = |wanted: &str| path.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value);
    let model = part("model").and_then(|id| admitted.generation.model(id)).ok_or(EnclaveError::ModelUnknown)?;
    match part("version") {
        Some(version) if version != model.claim().sequence.to_string() => Err(EnclaveError::ModelUnknown),
        _ => Ok(model.clone()),
    }
}

/// `GET /v2/models/{model}`.
///
/// # Errors
/// `MODEL_UNKNOWN`.
pub async fn metadata(
    Extension(admitted): Extension<Admitted>,
    path: RawPathParams,
) -> Result<Json<Value>, EnclaveError> {
    let model = find(&admitted, &path)?;
    let list = |ports: &[Port]| -> Vec<Value> {
        ports.iter().map(|p| json!({ "name": p.name, "datatype": p.dtype.as_str(), "shape": p.shape })).collect()
    };
    let (claim, ports) = (model.claim(), model.ports());
    Ok(Json(json!({
        "name": claim.id,
        "versions": [claim.sequence.to_string()],
        "platform": "onnxruntime_onnx",
        "inputs": list(&ports.inputs),
        "outputs": list(&ports.outputs),
    })))
}

/// `GET /v2/models/{model}/ready`.
///
/// # Errors
/// `MODEL_UNKNOWN`, `USAGE_EXPIRED`, `LEASE_LAPSED`.
pub async fn ready(
    State(service): State<Arc<Service>>,
    Extension(admitted): Extension<Admitted>,
    path: RawPathParams,
) -> Result<Json<Value>, EnclaveError> {
    let model = find(&admitted, &path)?;
    model.usage().enforce_time(service.clock.now())?;
    if !model.is_ready(Instant::now()) {
        return Err(EnclaveError::LeaseLapsed);
    }
    Ok(Json(json!({ "name": model.claim().id, "ready": true })))
}
