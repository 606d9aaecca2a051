//! Turns an answer into a receipt that can be kept, and a kept receipt into a verdict, offline, years later.
//! A receipt proves no time: it names the session, the exact weights and the two bodies, not when.

mod ask;
mod decoded;
mod kept;

pub use ask::{Answer, Receipted};
pub(crate) use ask::{is_inference, model_of, salt_of};
pub use kept::{Bodies, BodiesVerdict, Body, RECEIPT_PROVES_NO_TIME, ReceiptVerdict, verify_receipt};

use hyper::header::{HeaderMap, HeaderName};
use vouchsafe_attestation::{
    Claims,
    encoding::{b64url, from_b64url},
    receipt::{SessionRecord, SignedStatement, Statement, framed_len, verify_statement},
};

use crate::{CustomerError, attest::random};

/// Asks for a receipt (the salt) and carries it (statement and signature).
pub(crate) const RECEIPT_HEADER: HeaderName = HeaderName::from_static("vouchsafe-receipt");
/// Length of the JSON part of a binary body.
pub(crate) const HEADER_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// 32 random bytes that keep the digests of a receipt from being guessed. Whoever holds it together with the receipt
/// can test guesses of the data: it is kept apart.
pub struct Salt([u8; 32]);

impl Salt {
    /// A fresh one.
    ///
    /// # Errors
    /// `NO_RANDOMNESS`.
    pub fn random() -> Result<Self, CustomerError> {
        random().map(Self)
    }

    /// Reads the text form: base64url of 32 bytes, with white space around it forgiven.
    ///
    /// # Errors
    /// `RECEIPT_SALT_INVALID`.
    pub fn from_text(text: &str) -> Result<Self, CustomerError> {
        let bytes = from_b64url(text.trim(), "the salt").ok().and_then(|b| <[u8; 32]>::try_from(b).ok());
        bytes.map(Self).ok_or(CustomerError::receipt("RECEIPT_SALT_INVALID", "the salt is not 32 bytes in base64url"))
    }

    /// The text form.
    #[must_use]
    pub fn to_text(&self) -> String {
        b64url(&self.0)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The signature of a statement under the receipt key of `claims`, and its agreement with the session around it.
fn statement_of(
    receipt: &SignedStatement,
    claims: &Claims,
    record: &SessionRecord,
) -> Result<Statement, CustomerError> {
    let statement = verify_statement(receipt, &record.claims, claims).map_err(|e| match e.code() {
        "ED25519_SIGNATURE" => {
            CustomerError::receipt("RECEIPT_SIGNATURE", "the session's receipt key did not sign this statement")
        }
        "ENCODING_BYTES" => mismatch("the statement speaks of other claims than the session's"),
        _ => CustomerError::receipt("RECEIPT_MALFORMED", "the statement is not JSON of the expected form"),
    })?;
    if statement.nonce != record.nonce {
        return Err(mismatch("the statement speaks of another session"));
    }
    if statement.mode != claims.mode {
        return Err(mismatch("the statement speaks of another mode than the claims"));
    }
    let model = claims
        .model(&statement.model_id)
        .ok_or_else(|| mismatch("the statement names a model that the claims do not"))?;
    if (model.manifest_digest, model.sequence, model.usage_policy_digest)
        != (statement.manifest_digest, statement.sequence, statement.usage_policy_digest)
    {
        return Err(mismatch("the statement names another version of the model than the claims"));
    }
    Ok(statement)
}

/// The JSON part's length of a binary body, 0 for plain JSON, [`RAW_FORM`](vouchsafe_attestation::receipt::RAW_FORM) for the raw form.
///
/// # Errors
/// The fact, when the header is repeated, is no number, or is larger than the body.
pub(crate) fn header_length(headers: &HeaderMap, body: &[u8]) -> Result<u64, &'static str> {
    let mut values = headers.get_all(HEADER_LENGTH).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(0),
        (Some(one), None) => one
            .to_str()
            .ok()
            .filter(|t| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|t| t.parse::<u64>().ok())
            .filter(|n| *n <= body.len() as u64)
            .map(|n| framed_len(Some(n)))
            .ok_or("Inference-Header-Content-Length is not a length within the body"),
        _ => Err("Inference-Header-Content-Length stands there twice"),
    }
}

const fn mismatch(fact: &'static str) -> CustomerError {
    CustomerError::receipt("RECEIPT_STATEMENT_MISMATCH", fact)
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn a_salt_survives_its_text_form() {
        let salt = Salt::random().unwrap();
        assert_eq!(Salt::from_text(&format!("{}\n", salt.to_text())).unwrap().expose(), salt.expose());
        for bad in ["", "AAAA", "not base64!"] {
            assert_eq!(Salt::from_text(bad).err().map(|e| e.code()), Some("RECEIPT_SALT_INVALID"));
        }
    }

    #[test]
    fn the_header_length_is_one_number_within_the_body() {
        let mut headers = HeaderMap::new();
        assert_eq!(header_length(&headers, b"abc"), Ok(0));
        headers.insert(HEADER_LENGTH, HeaderValue::from_static("2"));
        assert_eq!(header_length(&headers, b"abc"), Ok(2));
        assert!(header_length(&headers, b"a").is_err());
        for bad in ["", "+1", "-1", "1 ", "0x1", "99999999999999999999"] {
            headers.insert(HEADER_LENGTH, HeaderValue::from_static(bad));
            assert!(header_length(&headers, b"abc").is_err(), "{bad}");
        }
        headers.insert(HEADER_LENGTH, HeaderValue::from_static("1"));
        headers.append(HEADER_LENGTH, HeaderValue::from_static("1"));
        assert!(header_length(&headers, b"abc").is_err());
    }
}
