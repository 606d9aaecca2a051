//! Turns a failure into an RFC 9457 answer, `application/problem+json`, with its stable code and every other code.
//! It repeats no text of the peer's.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Response, StatusCode,
    header::{self, HeaderValue},
};
use serde_json::{Value, json};

use super::door::Turned;
use crate::CustomerError;

/// The answer that a local client gets for `error`. `mode` is the policy's.
pub(super) fn problem(error: &CustomerError, mode: &str) -> Response<Full<Bytes>> {
    let status = match error {
        CustomerError::Usage { code: "MODEL_NOT_CLAIMED", .. } => StatusCode::NOT_FOUND,
        CustomerError::Usage { .. } => StatusCode::BAD_REQUEST,
        CustomerError::Local { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_GATEWAY,
    };
    let (codes, reasons) = (error.codes(), error.reasons());
    answer(status, error.code(), &error.to_string(), error.advice(), mode, json!({"codes": codes, "reasons": reasons}))
}

/// The answer of the door.
pub(super) fn turned(turned: &Turned, mode: &str) -> Response<Full<Bytes>> {
    answer(turned.status, turned.code, turned.fact, turned.advice, mode, json!({"codes": [turned.code]}))
}

fn answer(status: StatusCode, code: &str, fact: &str, advice: &str, mode: &str, more: Value) -> Response<Full<Bytes>> {
    let mut body = json!({
        "type": format!("urn:vouchsafe:problem:{code}"),
        "title": status.canonical_reason(),
        "status": status.as_u16(),
        "detail": fact,
        "code": code,
        "advice": advice,
        "mode": mode,
        // Where clients of the Open Inference Protocol look for a message.
        "error": format!("{code}: {fact}"),
    });
    if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
        body.extend(more);
    }
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response
}
