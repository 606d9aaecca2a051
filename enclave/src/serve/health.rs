//! Turns the state of the service into the answers of the health routes and of the server's own description.
//! Health proves nothing: it is for the operator's supervisor, and answers before attestation.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::Service;

/// `GET /v2/health/live`: the process answers.
pub async fn live() -> Json<Value> {
    Json(json!({ "live": true }))
}

/// `GET /v2/health/ready`: every model could answer.
pub async fn ready(State(service): State<Arc<Service>>) -> (StatusCode, Json<Value>) {
    let now = Instant::now();
    let ready = service.registry.current().models.iter().all(|m| m.is_ready(now));
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ready": ready })))
}

/// `GET /v2`: what this server is.
pub async fn server() -> Json<Value> {
    Json(json!({
        "name": "vouchsafe",
        "version": env!("CARGO_PKG_VERSION"),
        "extensions": ["binary_tensor_data", "model_configuration", "model_repository", "statistics"],
    }))
}
