//! Turns a request's body into bytes, no more than a limit and no later than a deadline.
//! It does not look at the bytes.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use crate::error::EnclaveError;

/// Reads a body. A length declared above the limit is refused before anything is read.
///
/// # Errors
/// `BODY_TOO_LARGE`, `CONTENT_ENCODING`, `HEADER_INVALID`, `BODY_INCOMPLETE`, `REQUEST_TIMEOUT`.
pub async fn read(headers: &HeaderMap, body: Body, limit: u64, patience: Duration) -> Result<Bytes, EnclaveError> {
    if headers.get(header::CONTENT_ENCODING).is_some_and(|v| v != "identity") {
        return Err(EnclaveError::ContentEncoding);
    }
    if let Some(declared) = number(headers, "Content-Length")?
        && declared > limit
    {
        return Err(EnclaveError::BodyTooLarge(limit));
    }
    let cap = usize::try_from(limit).unwrap_or(usize::MAX);
    let read = tokio::time::timeout(patience, Limited::new(body, cap).collect()).await;
    match read.map_err(|_| EnclaveError::RequestTimeout)? {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() || is_limit(&*error) => Err(EnclaveError::BodyTooLarge(limit)),
        Err(_) => Err(EnclaveError::BodyIncomplete),
    }
}

/// A header that is a decimal number, when it is there.
///
/// # Errors
/// `HEADER_INVALID`.
pub fn number(headers: &HeaderMap, name: &'static str) -> Result<Option<u64>, EnclaveError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let digits = value.to_str().ok().filter(|v| v.len() <= 20 && v.bytes().all(|b| b.is_ascii_digit()));
    match (digits.and_then(|v| v.parse().ok()), values.next()) {
        (Some(number), None) => Ok(Some(number)),
        _ => Err(EnclaveError::HeaderInvalid(name)),
    }
}

/// Reads and forgets what is left of a small body, so that the connection can be used again.
pub async fn discard(body: Body, limit: u64, patience: Duration) {
    let cap = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut body = Limited::new(body, cap);
    let drain = async { while let Some(Ok(_)) = body.frame().await {} };
    // Whatever is left after that closes the connection.
    let _ = tokio::time::timeout(patience, drain).await;
}

fn is_limit(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut at = Some(error);
    while let Some(error) = at {
        if error.is::<LengthLimitError>() {
            return true;
        }
        at = error.source();
    }
    false
}
