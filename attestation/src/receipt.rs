//! Turns one answered request into a statement that the enclave signs, and verifies the signature of one.
//! The signature speaks only through the session around it: evidence must bind the claims that hold the receipt key.
//! A receipt proves no time.

use serde::{Deserialize, Serialize};

use crate::{
    Claims, EncodingError, EvidenceEnvelope, Mode, Tee,
    encoding::{serde_b64url, serde_b64url_array, serde_hex},
    lp::{Transcript, put_lp, sha256},
    session::MerklePath,
};

/// A receipt file longer than this is refused before it is parsed: twice the largest attestation answer, which it holds.
pub const MAX_RECEIPT: usize = 512 * 1024;

/// What the enclave says about one answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// Format version: 1.
    pub v: u32,
    /// Which trust root the enclave runs under.
    pub mode: Mode,
    /// The model that answered.
    pub model_id: String,
    /// SHA-256 of its signed manifest.
    #[serde(with = "serde_hex")]
    pub manifest_digest: [u8; 32],
    /// Its version.
    pub sequence: u64,
    /// SHA-256 of the usage policy in force.
    #[serde(with = "serde_hex")]
    pub usage_policy_digest: [u8; 32],
    /// Salted digest of the request.
    #[serde(with = "serde_hex")]
    pub request_digest: [u8; 32],
    /// Salted digest of the response.
    #[serde(with = "serde_hex")]
    pub response_digest: [u8; 32],
    /// Nonce of the session's attestation.
    #[serde(with = "serde_hex")]
    pub nonce: [u8; 32],
    /// SHA-256 of the session's claims.
    #[serde(with = "serde_hex")]
    pub claims_digest: [u8; 32],
}

/// Statement and signature, as the enclave answers them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedStatement {
    /// Exact bytes of the statement.
    #[serde(with = "serde_b64url")]
    pub statement: Vec<u8>,
    /// Ed25519 by the claims' receipt key over `LP("vouchsafe/1 receipt") LP(statement)`.
    #[serde(with = "serde_b64url")]
    pub signature: Vec<u8>,
}

/// One attested session, whole enough to be verified again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionRecord {
    /// Technology of the evidence.
    pub tee: Tee,
    /// The verifier's nonce.
    #[serde(with = "serde_b64url_array")]
    pub nonce: [u8; 32],
    /// TLS exporter value of the session.
    #[serde(with = "serde_b64url_array")]
    pub ekm: [u8; 32],
    /// SHA-256 of the TLS leaf's public key.
    #[serde(with = "serde_hex")]
    pub spki_sha256: [u8; 32],
    /// Exact bytes of the claims.
    #[serde(with = "serde_b64url")]
    pub claims: Vec<u8>,
    /// Where the session stood in its tree.
    pub merkle: MerklePath,
    /// Evidence and collateral.
    pub evidence: EvidenceEnvelope,
}

/// A receipt as it is kept: verifiable offline, without the enclave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptFile {
    /// Format version: 1.
    pub v: u32,
    /// What was said and signed.
    pub receipt: SignedStatement,
    /// The session it was said in.
    pub session: SessionRecord,
}

impl ReceiptFile {
    /// Reads a receipt file.
    ///
    /// # Errors
    /// `ENCODING_TOO_LARGE`, `ENCODING_JSON`, `ENCODING_VERSION`.
    pub fn parse(bytes: &[u8]) -> Result<Self, EncodingError> {
        if bytes.len() > MAX_RECEIPT {
            return Err(EncodingError::TooLarge("the receipt", MAX_RECEIPT));
        }
        let file: Self = serde_json::from_slice(bytes).map_err(|_| EncodingError::Json("the receipt"))?;
        if file.v == 1 { Ok(file) } else { Err(EncodingError::Version("the receipt")) }
    }
}

/// The bytes that a receipt key signs.
#[must_use]
pub fn signed_bytes(statement: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(statement.len() + 32);
    put_lp(&mut out, b"vouchsafe/1 receipt");
    put_lp(&mut out, statement);
    out
}

/// Verifies the signature under the claims' receipt key, and that the statement speaks of these claims.
///
/// # Errors
/// `ED25519_SIGNATURE`, `ENCODING_JSON`, `ENCODING_VERSION`, or `ENCODING_BYTES` when the statement speaks of other claims.
pub fn verify_statement(
    receipt: &SignedStatement,
    claims_bytes: &[u8],
    claims: &Claims,
) -> Result<Statement, EncodingError> {
    claims.receipt_key.verify(&signed_bytes(&receipt.statement), &receipt.signature)?;
    let statement: Statement =
        serde_json::from_slice(&receipt.statement).map_err(|_| EncodingError::Json("the statement"))?;
    if statement.v != 1 {
        return Err(EncodingError::Version("the statement"));
    }
    if statement.claims_digest != sha256(claims_bytes) {
        return Err(EncodingError::Bytes("the statement's claims digest"));
    }
    Ok(statement)
}

/// What stands for the length of the JSON part where a request has none at all (the raw form, whose header says 0): the same bytes as
/// JSON mean something else.
pub const RAW_FORM: u64 = u64::MAX;

/// What of `Inference-Header-Content-Length` goes into digests and signatures: 0 without the header, [`RAW_FORM`] for a 0.
#[must_use]
pub const fn framed_len(header: Option<u64>) -> u64 {
    match header {
        None => 0,
        Some(0) => RAW_FORM,
        Some(length) => length,
    }
}

/// Salted digest of a request body; `header_len` is [`framed_len`] of its header.
/// Salted since patient data can be guessed; the salt is kept apart from the receipt.
#[must_use]
pub fn request_digest(salt: &[u8; 32], body: &[u8], header_len: u64) -> [u8; 32] {
    Transcript::<32>::new("vouchsafe/1 request").lp(salt).lp(body).u64be(header_len).finish()
}

/// Salted digest of a response body.
#[must_use]
pub fn response_digest(salt: &[u8; 32], body: &[u8], header_len: u64) -> [u8; 32] {
    Transcript::<32>::new("vouchsafe/1 response").lp(salt).lp(body).u64be(header_len).finish()
}
