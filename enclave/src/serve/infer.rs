//! Turns one inference request into one answer, in this order: model, expiry, lease, body, input rules, run, receipt.
//! It does not judge the answer: output rules are refused when the package is opened, since none is enforced yet.

use std::sync::Arc;
use std::time::Instant;

use axum::Extension;
use axum::body::Body;
use axum::extract::{RawPathParams, Request, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use vouchsafe_policies::usage::{InputFacts, UsagePolicy};

use super::oip::{HEADER_LENGTH, InferRequest, InferResponse, find};
use super::receipt::{self, Framed};
use super::session::Admitted;
use super::tensor::Tensor;
use super::{Service, body};
use crate::error::EnclaveError;
use crate::model::Model;

/// Bodies up to this size are decoded at once.
const DECODE_HERE: usize = 128 * 1024;

/// `POST /v2/models/{model}/infer`.
///
/// # Errors
/// The codes of DESIGN section 7, as `{"error", "code"}`.
pub async fn infer(
    State(service): State<Arc<Service>>,
    Extension(admitted): Extension<Admitted>,
    path: RawPathParams,
    request: Request,
) -> Result<Response, EnclaveError> {
    let model = find(&admitted, &path)?;
    model.usage().enforce_time(service.clock.now())?;
    if !model.is_ready(Instant::now()) {
        return Err(EnclaveError::LeaseLapsed);
    }
    let answered = answer(&service, &admitted, &model, request);
    tokio::time::timeout(service.request_timeout, answered).await.map_err(|_| EnclaveError::RequestTimeout)?
}

async fn answer(
    service: &Service,
    admitted: &Admitted,
    model: &Arc<Model>,
    request: Request,
) -> Result<Response, EnclaveError> {
    let (parts, body) = request.into_parts();
    let salt = receipt::salt(&parts.headers)?;
    let header_len = body::number(&parts.headers, HEADER_LENGTH)?;
    let limit = service.max_body_bytes.min(model.usage().limits().max_body_bytes);
    let body = body::read(&parts.headers, body, limit, service.request_timeout).await?;
    let decoded = decode(model, &body, header_len).await?;
    rules(model.usage(), &decoded.inputs)?;
    if decoded.inputs.len() != model.ports().inputs.len() {
        return Err(EnclaveError::InputMissing);
    }
    // From here on the request counts, whatever the model makes of it.
    let engine = model.take(Instant::now())?;
    let (mut decoded, names) = names(decoded);
    let outputs = engine.run(std::mem::take(&mut decoded.inputs), names).await?;
    drop(engine);
    let encoded = InferResponse::encode(model, &decoded, &outputs)?;
    let mut signed = None;
    if let Some(salt) = salt {
        let request = Framed { body: &body, header_len: header_len.unwrap_or(0) };
        let response = Framed { body: &encoded.body, header_len: encoded.header_len };
        let key = &service.identity.receipt_key;
        signed = Some(receipt::sign(key, service.words.mode, admitted, model.claim(), &salt, request, response)?);
    }
    Ok(reply(encoded, signed))
}

/// A large body is decoded on a thread of its own, so that other sessions need not wait for it.
async fn decode(model: &Arc<Model>, body: &Bytes, header_len: Option<u64>) -> Result<InferRequest, EnclaveError> {
    if body.len() <= DECODE_HERE {
        return InferRequest::decode(body, header_len, model.ports());
    }
    let (model, body) = (model.clone(), body.clone());
    let decoded = tokio::task::spawn_blocking(move || InferRequest::decode(&body, header_len, model.ports())).await;
    decoded.map_err(|_| EnclaveError::System("decode a request"))?
}

/// Every input within the vendor's rules.
fn rules(usage: &UsagePolicy, inputs: &[Tensor]) -> Result<(), EnclaveError> {
    let shapes: Vec<Vec<i64>> =
        inputs.iter().map(|t| t.shape.iter().map(|d| i64::try_from(*d).unwrap_or(i64::MAX)).collect()).collect();
    let facts: Vec<InputFacts<'_>> = inputs
        .iter()
        .zip(&shapes)
        .map(|(tensor, shape)| InputFacts {
            name: &tensor.name,
            dtype: tensor.data.dtype().as_str(),
            shape,
            finite: tensor.data.is_finite(),
        })
        .collect();
    Ok(usage.enforce_inputs(&facts)?)
}

fn names(request: InferRequest) -> (InferRequest, Vec<String>) {
    let names = request.outputs.iter().map(|(name, _)| name.clone()).collect();
    (request, names)
}

fn reply(encoded: InferResponse, signed: Option<HeaderValue>) -> Response {
    let mut response = Body::from(encoded.body).into_response();
    let headers = response.headers_mut();
    let mut kind = "application/json";
    if encoded.header_len > 0 {
        kind = "application/octet-stream";
        headers.insert(HEADER_LENGTH_NAME, HeaderValue::from(encoded.header_len));
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if let Some(signed) = signed {
        headers.insert(receipt::HEADER, signed);
    }
    response
}

const HEADER_LENGTH_NAME: header::HeaderName = header::HeaderName::from_static("inference-header-content-length");
