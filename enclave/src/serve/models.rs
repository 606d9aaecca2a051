//! Turns the models that a session's claims name into the protocol's descriptions of them.
//! What a description shows is what the vendor's rules leave of the model: ports as callers see them.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{RawPathParams, State};
use axum::http::Request;
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};
use vouchsafe_oip::{Version, config_json, metadata_json, repository_json};

use super::session::Admitted;
use super::{Service, body};
use crate::error::EnclaveError;
use crate::model::Model;

/// A question for the index is at most so long.
const MAX_QUESTION: u64 = 4096;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    #[serde(default)]
    ready: bool,
}

/// What a path names, unless it is no text: then there is no such model.
pub type Path = Result<RawPathParams, RawPathParamsRejection>;

/// The model a path names, among those that the session's claims name.
///
/// # Errors
/// `MODEL_UNKNOWN`.
pub fn find(admitted: &Admitted, path: &Path) -> Result<Arc<Model>, EnclaveError> {
    let path = path.as_ref().map_err(|_| EnclaveError::ModelUnknown)?;
    let part = |wanted: &str| path.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value);
    let model = part("model").and_then(|id| admitted.generation.model(id)).ok_or(EnclaveError::ModelUnknown)?;
    match part("version") {
        Some(version) if version != model.claim().sequence.to_string() => Err(EnclaveError::ModelUnknown),
        _ => Ok(model.clone()),
    }
}

/// `GET /v2/models`.
pub async fn list(Extension(admitted): Extension<Admitted>) -> Json<Value> {
    let ids: Vec<&str> = admitted.generation.models.iter().map(|m| m.claim().id.as_str()).collect();
    Json(json!({ "models": ids }))
}

/// `POST /v2/repository/index`, with nothing or `{"ready": true}`.
///
/// # Errors
/// `BODY_*`, `CONTENT_ENCODING`, `JSON_INVALID`.
pub async fn index(
    State(service): State<Arc<Service>>,
    Extension(admitted): Extension<Admitted>,
    request: Request<Body>,
) -> Result<Json<Value>, EnclaveError> {
    let (parts, body) = request.into_parts();
    if body::encoding(&parts.headers)?.is_some() {
        return Err(EnclaveError::ContentEncoding);
    }
    let deadline = tokio::time::Instant::now() + service.request_timeout;
    let (body, _room) = body::read(&parts.headers, body, MAX_QUESTION, &service.bodies, deadline).await?;
    let question = match body.trim_ascii() {
        [] => Question::default(),
        // serde would read a list as well.
        text @ [b'{', ..] => serde_json::from_slice(text).map_err(|_| EnclaveError::JsonInvalid)?,
        _ => return Err(EnclaveError::JsonInvalid),
    };
    let now = Instant::now();
    let models = &admitted.generation.models;
    let versions: Vec<String> = models.iter().map(|m| m.claim().sequence.to_string()).collect();
    let named = models.iter().zip(&versions).map(|(model, version)| {
        let ready = model.is_ready(now);
        Version { name: &model.claim().id, version, ready, reason: if ready { "" } else { "no lease or no runner" } }
    });
    let named: Vec<Version<'_>> = named.filter(|version| version.ready || !question.ready).collect();
    Ok(Json(repository_json(&named)))
}

/// `GET /v2/models/{model}`.
///
/// # Errors
/// `MODEL_UNKNOWN`.
pub async fn metadata(Extension(admitted): Extension<Admitted>, path: Path) -> Result<Json<Value>, EnclaveError> {
    let model = find(&admitted, &path)?;
    let claim = model.claim();
    Ok(Json(metadata_json(&claim.id, &[&claim.sequence.to_string()], model.shown())))
}

/// `GET /v2/models/{model}/config`.
///
/// # Errors
/// `MODEL_UNKNOWN`.
pub async fn config(Extension(admitted): Extension<Admitted>, path: Path) -> Result<Json<Value>, EnclaveError> {
    let model = find(&admitted, &path)?;
    let claim = model.claim();
    Ok(Json(config_json(&claim.id, &[claim.sequence], model.shown())))
}

/// `GET /v2/models/{model}/ready`.
///
/// # Errors
/// `MODEL_UNKNOWN`, `USAGE_EXPIRED`, `LEASE_LAPSED`, `RUNNER_DIED`.
pub async fn ready(
    State(service): State<Arc<Service>>,
    Extension(admitted): Extension<Admitted>,
    path: Path,
) -> Result<Json<Value>, EnclaveError> {
    let model = find(&admitted, &path)?;
    model.usage().enforce_time(service.clock.now())?;
    model.ready(Instant::now())?;
    Ok(Json(json!({ "name": model.claim().id, "ready": true })))
}
