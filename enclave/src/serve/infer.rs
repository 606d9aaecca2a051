//! Turns one inference request into one answer, in this order: model, caller, expiry, lease, queue, body, signature, quota, input rules,
//! run, output rules, receipt.
//! It decides none of them: the usage policy, the lease and the runner do. A client that goes away ends its request wherever it is.

use std::sync::Arc;
use std::time::Instant;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request as HttpRequest, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use vouchsafe_attestation::receipt::framed_len;
use vouchsafe_oip::{Answer, Encoding, HEADER_LENGTH, Limits, OipError, Request, Tensor, inflate};
use vouchsafe_policies::usage::Outputs;

use super::caller::{self, Asking};
use super::models::{Path, find};
use super::receipt::{self, Framed};
use super::session::{Admitted, Session};
use super::stats::Spent;
use super::{Service, body, rules};
use crate::error::EnclaveError;
use crate::model::Model;

/// JSON up to this size is read and written at once; above it, other sessions of this thread would wait too long.
const TEXT_HERE: usize = 128 * 1024;
/// And so are hashes and rules over bodies up to this size.
const BYTES_HERE: usize = 2 << 20;
/// Text of an input may be a fourth as long as the tensor: `1,` is eight bytes of FP64.
const GROWTH: usize = 4;
const HEADER_LENGTH_NAME: HeaderName = HeaderName::from_static("inference-header-content-length");

/// Where a request is asked and answered.
#[derive(Clone)]
struct Place {
    service: Arc<Service>,
    session: Arc<Session>,
    admitted: Admitted,
    model: Arc<Model>,
}

/// A request with its whole body, of which nothing has been read.
struct Sent {
    parts: Parts,
    body: Bytes,
    encoding: Option<Encoding>,
    header_len: Option<u64>,
    limit: usize,
    asking: Asking,
}

/// A request within the vendor's rules.
struct Accepted {
    request: Request,
    /// As decoded.
    body: Bytes,
    header_len: u64,
}

/// `POST /v2/models/{model}/infer`.
///
/// # Errors
/// The codes of DESIGN section 7, as `{"error", "code"}`.
pub async fn infer(
    State(service): State<Arc<Service>>,
    Extension(session): Extension<Arc<Session>>,
    Extension(admitted): Extension<Admitted>,
    path: Path,
    request: HttpRequest,
) -> Result<Response, EnclaveError> {
    let model = find(&admitted, &path)?;
    let counted = model.counters().begin();
    let answered = answer(Place { service, session, admitted, model }, request).await;
    match answered {
        Ok((response, spent)) => {
            counted.ends(Ok(spent));
            Ok(response)
        }
        Err(error) => {
            counted.ends(Err(&error));
            Err(error)
        }
    }
}

async fn answer(place: Place, request: HttpRequest) -> Result<(Response, Spent), EnclaveError> {
    let (service, model) = (&place.service, &place.model);
    let deadline = tokio::time::Instant::now() + service.request_timeout;
    let (parts, body) = request.into_parts();
    let asking = caller::who(model.usage(), &parts.headers)?;
    model.usage().enforce_time(service.clock.now())?;
    model.ready(Instant::now())?;
    let salt = receipt::salt(&parts.headers)?;
    let header_len = body::number(&parts.headers, HEADER_LENGTH)?;
    let encoding = body::encoding(&parts.headers)?;
    let limit = service.max_body_bytes.min(model.usage().limits().max_body_bytes);
    model.has_room()?;
    let (body, _room) = body::read(&parts.headers, body, limit, &service.bodies, deadline).await?;
    // Who would only be told to come again is not counted against a quota or the lease.
    model.has_room()?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);

    let started = Instant::now();
    let sent = Sent { parts, body, encoding, header_len, limit, asking };
    let (here, at) = (sent.is_small(), place.clone());
    let accepted = tokio::time::timeout_at(deadline, aside(service, here, move || accept(&at, sent))).await;
    let accepted = accepted.map_err(|_| EnclaveError::RequestTimeout)??;
    let decode = started.elapsed();

    // From here on the request counts, whatever the model makes of it.
    let engine = model.take(Instant::now())?;
    let names: Vec<String> = accepted.request.outputs.iter().map(|w| w.name.clone()).collect();
    let started = Instant::now();
    // Nothing runs longer than the right to run it.
    let ends = model.times(started).1.min(service.request_timeout);
    let deadline = deadline.into_std().min(started + ends);
    let outputs = engine.run(&accepted.request.inputs, &names, deadline).await?;
    drop(engine);
    let run = started.elapsed();

    let started = Instant::now();
    let here = answers_here(&accepted, &outputs, salt.is_some());
    let service = service.clone();
    let response = aside(&service, here, move || finish(&place, &accepted, outputs, salt)).await?;
    Ok((response, Spent { decode, run, encode: started.elapsed() }))
}

/// Works here, or on a thread of its own when other sessions would have to wait for it. There are as many of these as cores: work is not
/// taken back when its client goes away.
async fn aside<T: Send + 'static>(
    service: &Service,
    here: bool,
    work: impl FnOnce() -> Result<T, EnclaveError> + Send + 'static,
) -> Result<T, EnclaveError> {
    if here {
        return work();
    }
    let failed = EnclaveError::System("work on a body");
    let permit = service.work.clone().acquire_owned().await.map_err(|_| failed.clone())?;
    let work = move || {
        let done = work();
        drop(permit);
        done
    };
    tokio::task::spawn_blocking(work).await.map_err(|_| failed)?
}

impl Sent {
    fn is_small(&self) -> bool {
        let text = match self.header_len.map(usize::try_from) {
            Some(Ok(length)) => length.min(self.body.len()),
            _ => self.body.len(),
        };
        self.encoding.is_none() && text <= TEXT_HERE && self.body.len() <= BYTES_HERE
    }
}

/// Signature, quota, encoding, form, names of outputs, input rules.
fn accept(place: &Place, sent: Sent) -> Result<Accepted, EnclaveError> {
    let Place { service, session, model, .. } = place;
    let (usage, framed) = (model.usage(), framed_len(sent.header_len));
    let role = sent.asking.prove(usage, service.words, session, &sent.parts, framed, &sent.body)?;
    model.charge(&role, Instant::now())?;
    let body = match sent.encoding {
        None => sent.body,
        Some(encoding) => inflate(encoding, &sent.body, sent.limit)?.into(),
    };
    let request = decode(model, &body, sent.header_len, sent.limit)?;
    let (claim, called) = (model.claim(), &request.called);
    let version = claim.sequence.to_string();
    if called.name.as_ref().is_some_and(|name| *name != claim.id)
        || called.version.as_ref().is_some_and(|v| *v != version)
    {
        return Err(EnclaveError::ModelUnknown);
    }
    rules::wanted(usage, &request.outputs)?;
    rules::inputs(usage, &request.inputs)?;
    Ok(Accepted { request, body, header_len: framed })
}

/// Who names no output gets those that may leave; one that may not has a code of its own.
fn decode(model: &Model, body: &Bytes, header_len: Option<u64>, limit: usize) -> Result<Request, EnclaveError> {
    let limits = Limits { max_input_bytes: limit.saturating_mul(GROWTH) };
    match Request::decode(body, header_len, model.shown(), &limits) {
        Err(OipError::OutputUnknown) if *model.usage().outputs() != Outputs::Any => {
            Ok(Request::decode(body, header_len, model.ports(), &limits)?)
        }
        decoded => Ok(decoded?),
    }
}

fn answers_here(accepted: &Accepted, outputs: &[Tensor], signed: bool) -> bool {
    let wanted = accepted.request.outputs.iter();
    let (mut text, mut binary) = (0_usize, if signed { accepted.body.len() } else { 0 });
    for (tensor, wanted) in outputs.iter().zip(wanted) {
        let size = if wanted.binary { &mut binary } else { &mut text };
        *size = size.saturating_add(tensor.data.len());
    }
    text <= TEXT_HERE && binary <= BYTES_HERE
}

/// Output rules, encoding, receipt.
fn finish(
    place: &Place,
    accepted: &Accepted,
    outputs: Vec<Tensor>,
    salt: Option<[u8; 32]>,
) -> Result<Response, EnclaveError> {
    let Place { service, admitted, model, .. } = place;
    let claim = model.claim();
    let outputs = rules::outputs(model.usage(), outputs)?;
    let version = claim.sequence.to_string();
    let answer = Answer::encode(&claim.id, &version, &accepted.request, &outputs, service.pad_answers_to)?;
    let mut signed = None;
    if let Some(salt) = salt {
        let request = Framed { body: &accepted.body, header_len: accepted.header_len };
        let response = Framed { body: &answer.body, header_len: answer.header_len };
        let key = &service.identity.receipt_key;
        signed = Some(receipt::sign(key, service.words.mode, admitted, claim, &salt, request, response)?);
    }
    Ok(reply(answer, signed))
}

fn reply(answer: Answer, signed: Option<HeaderValue>) -> Response {
    let mut response = Body::from(answer.body).into_response();
    let headers = response.headers_mut();
    let mut kind = "application/json";
    if answer.header_len > 0 {
        kind = "application/octet-stream";
        headers.insert(HEADER_LENGTH_NAME, HeaderValue::from(answer.header_len));
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if let Some(signed) = signed {
        headers.insert(receipt::HEADER, signed);
    }
    response
}
