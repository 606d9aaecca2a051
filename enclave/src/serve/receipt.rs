//! Turns one request and its answer into a signed statement, when the caller asks for it with a salt.
//! It proves no time, and nothing to a reader who does not verify the session's evidence beside it.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use ring::signature::Ed25519KeyPair;
use vouchsafe_attestation::Mode;
use vouchsafe_attestation::claims::ModelClaim;
use vouchsafe_attestation::encoding::{b64url, from_b64url};
use vouchsafe_attestation::receipt::{SignedStatement, Statement, request_digest, response_digest, signed_bytes};

use super::session::Admitted;
use crate::error::EnclaveError;

/// In a request: 32 bytes of salt, base64url. In the answer: the signed statement, base64url of JSON.
pub const HEADER: HeaderName = HeaderName::from_static("vouchsafe-receipt");

/// A body and the length of its JSON part, 0 for plain JSON.
#[derive(Clone, Copy)]
pub struct Framed<'a> {
    /// Exact bytes.
    pub body: &'a [u8],
    /// `Inference-Header-Content-Length`, or 0.
    pub header_len: u64,
}

/// The salt, when the caller wants a receipt.
///
/// # Errors
/// `RECEIPT_SALT`.
pub fn salt(headers: &HeaderMap) -> Result<Option<[u8; 32]>, EnclaveError> {
    let mut values = headers.get_all(HEADER).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().map_err(|_| EnclaveError::ReceiptSalt)?;
    let bytes = from_b64url(text, "salt").map_err(|_| EnclaveError::ReceiptSalt)?;
    match (bytes.try_into(), values.next()) {
        (Ok(salt), None) => Ok(Some(salt)),
        _ => Err(EnclaveError::ReceiptSalt),
    }
}

/// The header of the answer.
///
/// # Errors
/// `SYSTEM`, when the statement does not serialize.
pub fn sign(
    key: &Ed25519KeyPair,
    mode: Mode,
    admitted: &Admitted,
    model: &ModelClaim,
    salt: &[u8; 32],
    request: Framed<'_>,
    response: Framed<'_>,
) -> Result<HeaderValue, EnclaveError> {
    let statement = Statement {
        v: 1,
        mode,
        model_id: model.id.clone(),
        manifest_digest: model.manifest_digest,
        sequence: model.sequence,
        usage_policy_digest: model.usage_policy_digest,
        request_digest: request_digest(salt, request.body, request.header_len),
        response_digest: response_digest(salt, response.body, response.header_len),
        nonce: admitted.nonce,
        claims_digest: admitted.generation.claims_digest,
    };
    let failed = EnclaveError::System("write a receipt");
    let statement = serde_json::to_vec(&statement).map_err(|_| failed.clone())?;
    let signature = key.sign(&signed_bytes(&statement)).as_ref().to_vec();
    let signed = serde_json::to_vec(&SignedStatement { statement, signature }).map_err(|_| failed.clone())?;
    HeaderValue::try_from(b64url(&signed)).map_err(|_| failed)
}
