//! Turns the messages of the RCAR handshake (Confidential Containers key broker protocol 0.4.0) into types and back.
//! A message that parses is well formed, nothing more: evidence inside it is judged by `verify` and `appraise`.
//!
//! Field names, order and spelling follow recorded conversations with a stock Trustee broker and a stock `kbs-client`.

use serde::{Deserialize, Serialize};
use vouchsafe_attestation::{EvidenceEnvelope, Tee, encoding::serde_hex, lp};

use crate::ReleaseError;

pub use crate::jwe::TeePubKey;

/// Path of the first request.
pub const AUTH_PATH: &str = "/kbs/v0/auth";
/// Path of the second request.
pub const ATTEST_PATH: &str = "/kbs/v0/attest";
/// Start of the path of every resource.
pub const RESOURCE_PREFIX: &str = "/kbs/v0/resource/";
/// The repository under which this broker keeps model keys.
pub const REPOSITORY: &str = "vouchsafe";
/// Name of the session cookie.
pub const COOKIE: &str = "kbs-session-id";
/// The protocol version we write.
pub const VERSION: &str = "0.4.0";
/// Cap of the `auth` request body.
pub const MAX_AUTH: usize = 4 * 1024;
/// Cap of the `attest` request: a TDX quote with its collateral takes about 25 KiB there, SEV-SNP evidence 5.
pub const MAX_ATTEST: usize = 256 * 1024;
/// Cap of every other message.
pub const MAX_MESSAGE: usize = 64 * 1024;
/// Cap of a nonce as text: 32 bytes are 44 characters, foreign brokers may use more.
const MAX_NONCE: usize = 128;
const MAX_TOKEN: usize = 8 * 1024;

/// Path of one model's key.
#[must_use]
pub fn resource_path(model_id: &str, sequence: u64) -> String {
    format!("{RESOURCE_PREFIX}{REPOSITORY}/{model_id}/{sequence}")
}

/// RCAR's word for a technology.
#[must_use]
pub const fn tee_word(tee: Tee) -> &'static str {
    match tee {
        Tee::SevSnp => "snp",
        Tee::Tdx => "tdx",
    }
}

/// `POST /kbs/v0/auth`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthRequest {
    /// Protocol version.
    pub version: String,
    /// RCAR's word for the technology: `snp`, `tdx`, or one we do not serve.
    pub tee: String,
    /// Extensions; a stock client may send an empty string.
    #[serde(rename = "extra-params")]
    pub extra_params: ExtraParams,
}

/// The extension field: an object, or the empty string of older peers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ExtraParams {
    /// Named parameters.
    Named(NamedParams),
    /// `""`.
    Text(String),
}

/// Named extension parameters of both ends. Names that we do not know are left alone: the field is RCAR's extension point.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedParams {
    /// Hash functions the client can use for REPORT_DATA.
    #[serde(rename = "supported-hash-algorithms", default, skip_serializing_if = "Vec::is_empty")]
    pub supported_hash_algorithms: Vec<String>,
    /// The hash function a server chose.
    #[serde(rename = "selected-hash-algorithm", default, skip_serializing_if = "Option::is_none")]
    pub selected_hash_algorithm: Option<String>,
    /// Our own extension.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vouchsafe: Option<VouchsafeParams>,
}

/// What our enclave adds at renewal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VouchsafeParams {
    /// The ledger head of the last bundle: a broker that does not know it has lost part of its ledger.
    #[serde(with = "serde_hex")]
    pub ledger_head: [u8; 32],
}

/// The answer to `auth`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Challenge {
    /// Base64 of random bytes; compared and hashed as this text.
    pub nonce: String,
    /// Empty, or the server's choice of hash.
    #[serde(rename = "extra-params")]
    pub extra_params: ExtraParams,
}

/// `POST /kbs/v0/attest`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttestRequest {
    /// Always null from us; what others put there is not read, HOST_DATA says what was bound.
    #[serde(rename = "init-data")]
    pub init_data: serde_json::Value,
    /// What REPORT_DATA binds.
    #[serde(rename = "runtime-data")]
    pub runtime_data: RuntimeData,
    /// The evidence.
    #[serde(rename = "tee-evidence")]
    pub tee_evidence: TeeEvidence,
}

/// Nonce and handshake key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimeData {
    /// The challenge's nonce, the same text.
    pub nonce: String,
    /// The enclave's key for this handshake.
    #[serde(rename = "tee-pubkey")]
    pub tee_pubkey: TeePubKey,
}

/// Evidence as RCAR frames it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TeeEvidence {
    /// Per technology; see [`TeeEvidence::envelope`].
    pub primary_evidence: PrimaryEvidence,
    /// Evidence of devices, bound into REPORT_DATA as this text. Empty from us.
    pub additional_evidence: String,
}

/// The two forms of evidence: ours, and everything else.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
pub enum PrimaryEvidence {
    /// `{"report","leaf","crl"}` or `{"quote","collateral"}`: raw bytes in base64url, verified as received.
    Raw(EvidenceEnvelope),
    /// What other clients send: well-formed JSON that this broker does not read.
    Foreign(serde_json::Value),
}

/// The answer to `attest`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenResponse {
    /// Opaque to us.
    pub token: String,
}

/// Every refusal's body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorBody {
    /// A URI that names the kind of error.
    #[serde(rename = "type")]
    pub kind: String,
    /// From our broker: `ticket <32 hex>`, and nothing else.
    pub detail: String,
}

impl AuthRequest {
    /// The request of our enclave. `ledger_head` comes from the last bundle, at renewal.
    #[must_use]
    pub fn new(tee: Tee, ledger_head: Option<[u8; 32]>) -> Self {
        Self {
            version: VERSION.to_owned(),
            tee: tee_word(tee).to_owned(),
            extra_params: ExtraParams::Named(NamedParams {
                supported_hash_algorithms: vec!["sha384".to_owned()],
                selected_hash_algorithm: None,
                vouchsafe: ledger_head.map(|ledger_head| VouchsafeParams { ledger_head }),
            }),
        }
    }

    /// Reads the request at the server, version and hash included.
    ///
    /// # Errors
    /// `RCAR_TOO_LARGE`, `RCAR_MESSAGE`, `RCAR_VERSION`, `RCAR_HASH`.
    pub fn parse(bytes: &[u8]) -> Result<Self, ReleaseError> {
        let request: Self = parse(bytes, "the auth request", MAX_AUTH)?;
        if !request.version.starts_with("0.4.") {
            return Err(ReleaseError::Version);
        }
        match &request.extra_params {
            ExtraParams::Named(named) => {
                let hashes = &named.supported_hash_algorithms;
                if !hashes.is_empty() && !hashes.iter().any(|h| h == "sha384") {
                    return Err(ReleaseError::Hash);
                }
            }
            ExtraParams::Text(text) if text.is_empty() => {}
            ExtraParams::Text(_) => return Err(ReleaseError::Message("the auth request")),
        }
        Ok(request)
    }

    /// The ledger head that a renewing enclave echoes.
    #[must_use]
    pub fn ledger_head(&self) -> Option<[u8; 32]> {
        match &self.extra_params {
            ExtraParams::Named(named) => named.vouchsafe.as_ref().map(|v| v.ledger_head),
            ExtraParams::Text(_) => None,
        }
    }
}

impl Challenge {
    /// A challenge as our broker writes it.
    #[must_use]
    pub const fn new(nonce: String) -> Self {
        Self { nonce, extra_params: ExtraParams::Text(String::new()) }
    }

    /// Reads the challenge at the client.
    ///
    /// # Errors
    /// `RCAR_TOO_LARGE`, `RCAR_MESSAGE`, `RCAR_HASH`.
    pub fn parse(bytes: &[u8]) -> Result<Self, ReleaseError> {
        let challenge: Self = parse(bytes, "the challenge", MAX_AUTH)?;
        if challenge.nonce.is_empty() || challenge.nonce.len() > MAX_NONCE || !challenge.nonce.is_ascii() {
            return Err(ReleaseError::Message("the challenge"));
        }
        match &challenge.extra_params {
            ExtraParams::Named(NamedParams { selected_hash_algorithm: Some(hash), .. }) if hash != "sha384" => {
                Err(ReleaseError::Hash)
            }
            _ => Ok(challenge),
        }
    }
}

impl AttestRequest {
    /// The request of our enclave.
    ///
    /// # Errors
    /// `RCAR_TOO_LARGE` when the evidence does not fit.
    pub fn to_bytes(nonce: &str, key: &TeePubKey, evidence: &EvidenceEnvelope) -> Result<Vec<u8>, ReleaseError> {
        let request = Self {
            init_data: serde_json::Value::Null,
            runtime_data: RuntimeData { nonce: nonce.to_owned(), tee_pubkey: key.clone() },
            tee_evidence: TeeEvidence {
                primary_evidence: PrimaryEvidence::Raw(evidence.clone()),
                additional_evidence: String::new(),
            },
        };
        let bytes = to_bytes(&request);
        if bytes.len() > MAX_ATTEST {
            return Err(ReleaseError::TooLarge("the attest request", MAX_ATTEST));
        }
        Ok(bytes)
    }

    /// Reads the request at the server.
    ///
    /// # Errors
    /// `RCAR_TOO_LARGE`, `RCAR_MESSAGE`.
    pub fn parse(bytes: &[u8]) -> Result<Self, ReleaseError> {
        parse(bytes, "the attest request", MAX_ATTEST)
    }

    /// The REPORT_DATA that the evidence of this request must hold.
    #[must_use]
    pub fn report_data(&self) -> [u8; 64] {
        report_data(&self.runtime_data.nonce, &self.runtime_data.tee_pubkey, &self.tee_evidence.additional_evidence)
    }
}

impl TeeEvidence {
    /// The raw report or quote and its collateral, as our enclave sends them.
    ///
    /// # Errors
    /// `RCAR_MESSAGE` for every other form; the parsed report of a stock SNP client is one of them.
    pub fn envelope(self) -> Result<EvidenceEnvelope, ReleaseError> {
        match self.primary_evidence {
            PrimaryEvidence::Raw(envelope) => Ok(envelope),
            PrimaryEvidence::Foreign(_) => Err(ReleaseError::Message("the evidence")),
        }
    }
}

impl TokenResponse {
    /// Reads the answer at the client.
    ///
    /// # Errors
    /// `RCAR_TOO_LARGE`, `RCAR_MESSAGE`.
    pub fn parse(bytes: &[u8]) -> Result<Self, ReleaseError> {
        let response: Self = parse(bytes, "the token", MAX_MESSAGE)?;
        if response.token.len() > MAX_TOKEN {
            return Err(ReleaseError::TooLarge("the token", MAX_TOKEN));
        }
        Ok(response)
    }
}

impl ErrorBody {
    /// The refusal of our broker: a ticket, never a reason.
    #[must_use]
    pub fn ticket(kind: &str, ticket: &[u8; 16]) -> Self {
        Self { kind: format!("urn:vouchsafe:{kind}"), detail: format!("ticket {}", hex::encode(ticket)) }
    }

    /// The ticket in a refusal, when there is one. Foreign brokers have none.
    #[must_use]
    pub fn ticket_of(body: &[u8]) -> Option<[u8; 16]> {
        let body: Self = parse(body, "the refusal", MAX_AUTH).ok()?;
        vouchsafe_attestation::encoding::from_hex(body.detail.strip_prefix("ticket ")?, "ticket").ok()
    }
}

/// `SHA-384(JCS{"additional-evidence","nonce","tee-pubkey"}) || 0^16`: what RCAR puts into REPORT_DATA.
#[must_use]
pub fn report_data(nonce: &str, key: &TeePubKey, additional: &str) -> [u8; 64] {
    // RFC 8785: members sorted by name, no white space; serde_json escapes strings as ECMAScript does.
    #[derive(Serialize)]
    struct Bound<'a> {
        #[serde(rename = "additional-evidence")]
        additional: &'a str,
        nonce: &'a str,
        #[serde(rename = "tee-pubkey")]
        key: Sorted<'a>,
    }
    #[derive(Serialize)]
    struct Sorted<'a> {
        alg: &'a str,
        crv: &'a str,
        kty: &'a str,
        x: &'a str,
        y: &'a str,
    }
    let sorted = Sorted { alg: &key.alg, crv: &key.crv, kty: &key.kty, x: &key.x, y: &key.y };
    let mut out = [0; 64];
    out[..48].copy_from_slice(&lp::sha384(&to_bytes(&Bound { additional, nonce, key: sorted })));
    out
}

/// Serializes a message. Structs of strings always serialize.
pub fn to_bytes<T: Serialize>(message: &T) -> Vec<u8> {
    serde_json::to_vec(message).unwrap_or_default()
}

fn parse<T: for<'de> Deserialize<'de>>(bytes: &[u8], what: &'static str, cap: usize) -> Result<T, ReleaseError> {
    if bytes.len() > cap {
        return Err(ReleaseError::TooLarge(what, cap));
    }
    serde_json::from_slice(bytes).map_err(|_| ReleaseError::Message(what))
}
