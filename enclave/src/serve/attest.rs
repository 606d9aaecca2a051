//! Turns a verifier's challenge on one TLS session into claims, a place in the tree, and evidence: `POST /v1/attest`.
//! It does not verify: the verifier does. One challenge is under way per connection, since HTTP/1.1 answers in turn.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::Request;
use axum::{Extension, Json};
use tokio::time::Instant;
use vouchsafe_attestation::session::{AttestRequest, AttestResponse, session_digest};

use super::session::Session;
use super::{Service, body};
use crate::error::EnclaveError;

/// A challenge is at most so long.
const MAX_CHALLENGE: u64 = 16 * 1024;

/// `POST /v1/attest`.
///
/// # Errors
/// `BODY_*`, `CONTENT_ENCODING`, `JSON_INVALID`, `ATTEST_ACCEPT`, `EVIDENCE_DEVICE`.
pub async fn attest(
    State(service): State<Arc<Service>>,
    Extension(session): Extension<Arc<Session>>,
    request: Request<Body>,
) -> Result<Json<AttestResponse>, EnclaveError> {
    let (parts, body) = request.into_parts();
    if body::encoding(&parts.headers)?.is_some() {
        return Err(EnclaveError::ContentEncoding);
    }
    let deadline = Instant::now() + service.request_timeout;
    let (body, _room) = body::read(&parts.headers, body, MAX_CHALLENGE, &service.bodies, deadline).await?;
    let challenge: AttestRequest = serde_json::from_slice(&body).map_err(|_| EnclaveError::JsonInvalid)?;
    if challenge.v != 1 {
        return Err(EnclaveError::JsonInvalid);
    }
    let (mode, tee) = (service.words.mode, service.words.tee);
    if !challenge.accept.contains(&tee) {
        return Err(EnclaveError::AttestAccept);
    }
    // Claims and what is served are taken together: a change after this moment is noticed at the next request.
    let generation = service.registry.current();
    let spki = &service.identity.spki_sha256;
    let digest = session_digest(mode, tee, &challenge.nonce, &session.ekm, spki, &generation.claims);
    let (merkle, evidence) = service.window.attest(digest).await?;
    session.attested(&generation, challenge.nonce);
    Ok(Json(AttestResponse { v: 1, tee, claims: generation.claims.clone(), merkle, evidence }))
}
