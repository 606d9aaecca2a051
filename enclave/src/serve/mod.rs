//! Turns unsealed models into an attested inference service: TLS sessions, evidence on request, Open Inference Protocol v2.
//! It does not decide who may connect: whoever verifies us may ask, within the vendor's usage policy.

pub mod accept;
pub mod attest;
pub mod body;
pub mod element;
pub mod health;
pub mod infer;
pub mod oip;
pub mod patient;
pub mod receipt;
pub mod routes;
pub mod session;
pub mod tensor;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::attest::Window;
use crate::device::Words;
use crate::error::EnclaveError;
use crate::lease::GuestClock;
use crate::model::Registry;
use crate::tls::Identity;

/// Everything that answers requests.
pub struct Service {
    /// Who this boot is.
    pub identity: Identity,
    /// Technology and mode.
    pub words: Words,
    /// What is served now.
    pub registry: Arc<Registry>,
    /// Collects sessions for one quote.
    pub window: Window,
    /// The enclave's sense of time.
    pub clock: Arc<GuestClock>,
    /// Largest request body.
    pub max_body_bytes: u64,
    /// Longest time of one request.
    pub request_timeout: Duration,
    /// Longest life of a connection that has not fetched evidence.
    pub unattested: Duration,
}

impl IntoResponse for EnclaveError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = Json(json!({ "error": self.to_string(), "code": self.code() }));
        let mut response = (status, body).into_response();
        if matches!(self.status(), 408 | 413) {
            // The rest of the body is not read.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
