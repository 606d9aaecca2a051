//! Turns unsealed models into an attested inference service: TLS sessions, evidence on request, Open Inference Protocol v2.
//! It does not decide who may connect: whoever verifies us may ask; who gets answers is for the vendor's usage policy to say.

pub mod accept;
pub mod attest;
pub mod body;
pub mod caller;
pub mod head;
pub mod health;
pub mod infer;
pub mod metrics;
pub mod models;
mod newcomers;
pub mod patient;
pub mod receipt;
pub mod routes;
pub mod rules;
pub mod session;
pub mod stats;
pub mod strict;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::attest::Window;
use crate::device::Words;
use crate::error::EnclaveError;
use crate::lease::GuestClock;
use crate::model::Registry;
use crate::tls::Identity;
use metrics::Metrics;

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
    /// Answers of models are filled up to a multiple of so many bytes.
    pub pad_answers_to: Option<usize>,
    /// Work on large bodies, one permit for each thread of it: what was begun for a client that is gone is still work.
    pub work: Arc<Semaphore>,
    /// KiB of request bodies that may be held at a time.
    pub bodies: Arc<Semaphore>,
    /// What is counted for the operator.
    pub metrics: Metrics,
    /// Longest life of a connection that has not fetched evidence.
    pub unattested: Duration,
}

impl IntoResponse for EnclaveError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = Json(json!({ "error": self.to_string(), "code": self.code() }));
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        if matches!(self.status(), 408 | 413) {
            // The rest of the body is not read.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if self.status() == 401 {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer, Vouchsafe-Caller"));
        }
        if let Some(seconds) = self.retry_after_s() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
