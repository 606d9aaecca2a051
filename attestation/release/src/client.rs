//! The enclave's side of the RCAR handshake as states: each turns the broker's answer into the next request.
//! No I/O: the caller does TLS (with the broker's pinned SPKI) and HTTP. Nothing but the last state's grant opens a model.
//!
//! `Auth::begin` -> [`Auth`] -> [`Attest`] -> [`Resource`] -> [`KeyGrant`].

use vouchsafe_attestation::{Ed25519Public, EvidenceEnvelope, Mode, Tee, UnixTime};

use crate::{
    KeyGrant, ReleaseError, SignedBundle, TeeKey,
    rcar::{self, ATTEST_PATH, AUTH_PATH, AttestRequest, AuthRequest, COOKIE, Challenge, ErrorBody, TokenResponse},
};

/// The content type of every request and answer.
pub const CONTENT_TYPE: &str = "application/json";
const MAX_COOKIE: usize = 256;

/// A request for the caller to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// `POST` or `GET`.
    pub method: &'static str,
    /// Absolute path.
    pub path: String,
    /// The `Cookie` header, whole, once there is a session.
    pub cookie: Option<String>,
    /// The body; its type is [`CONTENT_TYPE`].
    pub body: Vec<u8>,
}

/// An answer as the caller received it. The caller caps the body at [`rcar::MAX_MESSAGE`] while reading.
pub struct Incoming<'a> {
    /// HTTP status.
    pub status: u16,
    /// Every `Set-Cookie` header.
    pub set_cookie: &'a [&'a str],
    /// The body.
    pub body: &'a [u8],
}

/// First state: nothing sent yet.
pub struct Auth {
    request: AuthRequest,
    key: TeeKey,
}

/// Second state: a challenge has come.
pub struct Attest {
    key: TeeKey,
    nonce: String,
    cookie: String,
}

/// Third state: the broker accepted the evidence.
pub struct Resource {
    key: TeeKey,
    nonce: String,
    cookie: String,
}

impl Auth {
    /// Starts a handshake with a fresh key. `ledger_head` is the last bundle's, at renewal.
    ///
    /// # Errors
    /// `RANDOM_UNAVAILABLE`.
    pub fn begin(tee: Tee, ledger_head: Option<[u8; 32]>) -> Result<Self, ReleaseError> {
        Ok(Self { request: AuthRequest::new(tee, ledger_head), key: TeeKey::generate()? })
    }

    /// `POST /kbs/v0/auth`.
    #[must_use]
    pub fn request(&self) -> Outgoing {
        Outgoing { method: "POST", path: AUTH_PATH.to_owned(), cookie: None, body: rcar::to_bytes(&self.request) }
    }

    /// Reads the challenge.
    ///
    /// # Errors
    /// `KEY_REFUSED`, `BROKER_STATUS`, `RCAR_MESSAGE`, `RCAR_TOO_LARGE`, `RCAR_HASH`, `RCAR_COOKIE`.
    pub fn answer(self, answer: &Incoming<'_>) -> Result<Attest, ReleaseError> {
        accepted(answer)?;
        let challenge = Challenge::parse(answer.body)?;
        Ok(Attest { key: self.key, nonce: challenge.nonce, cookie: session_cookie(answer.set_cookie)? })
    }
}

impl Attest {
    /// The 64 bytes that the evidence must carry: the device is asked for exactly these.
    #[must_use]
    pub fn report_data(&self) -> [u8; 64] {
        rcar::report_data(&self.nonce, &self.key.public_jwk(), "")
    }

    /// `POST /kbs/v0/attest`.
    ///
    /// # Errors
    /// `RCAR_TOO_LARGE`.
    pub fn request(&self, evidence: &EvidenceEnvelope) -> Result<Outgoing, ReleaseError> {
        Ok(Outgoing {
            method: "POST",
            path: ATTEST_PATH.to_owned(),
            cookie: Some(self.cookie.clone()),
            body: AttestRequest::to_bytes(&self.nonce, &self.key.public_jwk(), evidence)?,
        })
    }

    /// Reads the verdict.
    ///
    /// # Errors
    /// `KEY_REFUSED`, `BROKER_STATUS`, `RCAR_MESSAGE`, `RCAR_TOO_LARGE`.
    pub fn answer(self, answer: &Incoming<'_>) -> Result<Resource, ReleaseError> {
        accepted(answer)?;
        // The session cookie stands for the token; it is read so that another kind of answer is noticed.
        TokenResponse::parse(answer.body)?;
        Ok(Resource { key: self.key, nonce: self.nonce, cookie: self.cookie })
    }
}

impl Resource {
    /// `GET /kbs/v0/resource/vouchsafe/{model}/{sequence}`.
    #[must_use]
    pub fn request(&self, model_id: &str, sequence: u64) -> Outgoing {
        let path = rcar::resource_path(model_id, sequence);
        Outgoing { method: "GET", path, cookie: Some(self.cookie.clone()), body: Vec::new() }
    }

    /// Opens the answer: JWE, signature, mode, nonce, model, commitment.
    ///
    /// # Errors
    /// `KEY_REFUSED`, `BROKER_STATUS`, `JWE_*`, `BUNDLE_*`, `MODE_MISMATCH`, `KEY_COMMITMENT`, `LEASE_EMPTY`.
    pub fn answer(
        self,
        answer: &Incoming<'_>,
        asked: (&str, u64),
        release_keys: &[Ed25519Public],
        mode: Mode,
        now: UnixTime,
    ) -> Result<KeyGrant, ReleaseError> {
        accepted(answer)?;
        let bundle = self.key.open(answer.body)?;
        let grant = SignedBundle::open(&bundle, release_keys, &self.nonce, mode, now)?;
        if (grant.model_id(), grant.sequence()) != asked {
            return Err(ReleaseError::OtherModel);
        }
        Ok(grant)
    }
}

fn accepted(answer: &Incoming<'_>) -> Result<(), ReleaseError> {
    match answer.status {
        200 => Ok(()),
        401 | 403 => Err(ReleaseError::Refused(ErrorBody::ticket_of(answer.body))),
        other => Err(ReleaseError::Status(other)),
    }
}

/// `kbs-session-id=<value>`, attributes dropped; the value must be a plain cookie value (RFC 6265 without quotes).
fn session_cookie(headers: &[&str]) -> Result<String, ReleaseError> {
    let mut found = headers.iter().filter_map(|h| {
        let pair = h.split(';').next()?.trim();
        let (name, value) = pair.split_once('=')?;
        (name == COOKIE).then_some(value)
    });
    let value = found.next().ok_or(ReleaseError::Cookie)?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~+/=".contains(&b);
    if value.is_empty() || value.len() > MAX_COOKIE || !value.bytes().all(plain) {
        return Err(ReleaseError::Cookie);
    }
    Ok(format!("{COOKIE}={value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incoming<'a>(status: u16, set_cookie: &'a [&'a str], body: &'a [u8]) -> Incoming<'a> {
        Incoming { status, set_cookie, body }
    }

    #[test]
    fn cookies_are_read_narrowly() {
        let good = ["a=b", "kbs-session-id=1e28a58e; HttpOnly; SameSite=Strict"];
        assert_eq!(session_cookie(&good).unwrap(), "kbs-session-id=1e28a58e");
        for bad in ["", "kbs-session-id=", "kbs-session-id=a b", "kbs-session-id=a\r\nX: y", "x=1"] {
            assert_eq!(session_cookie(&[bad]).err(), Some(ReleaseError::Cookie));
        }
    }

    #[test]
    fn a_refusal_keeps_the_ticket_and_no_text() {
        let body = rcar::to_bytes(&ErrorBody::ticket("attest", &[0xab; 16]));
        let auth = || Auth::begin(Tee::SevSnp, None).unwrap();
        let refused = auth().answer(&incoming(401, &[], &body)).err();
        assert_eq!(refused, Some(ReleaseError::Refused(Some([0xab; 16]))));
        let foreign = br#"{"type":"https://x","detail":"no"}"#;
        assert_eq!(auth().answer(&incoming(401, &[], foreign)).err(), Some(ReleaseError::Refused(None)));
        assert_eq!(auth().answer(&incoming(503, &[], b"")).err(), Some(ReleaseError::Status(503)));
    }

    #[test]
    fn a_challenge_that_asks_for_another_hash_is_refused() {
        let cookie = ["kbs-session-id=1"];
        let answer = |body: &[u8]| {
            Auth::begin(Tee::SevSnp, None)
                .unwrap()
                .answer(&incoming(200, &cookie, body))
                .map(|_| ())
                .map_err(|e| e.code())
        };
        assert_eq!(answer(br#"{"nonce":"AA==","extra-params":""}"#), Ok(()));
        assert_eq!(answer(br#"{"nonce":"AA==","extra-params":{"selected-hash-algorithm":"sha384"}}"#), Ok(()));
        let sha256 = br#"{"nonce":"AA==","extra-params":{"selected-hash-algorithm":"sha256"}}"#;
        assert_eq!(answer(sha256), Err("RCAR_HASH"));
        assert_eq!(answer(br#"{"nonce":"","extra-params":""}"#), Err("RCAR_MESSAGE"));
        assert_eq!(answer(br#"{"nonce":"AA==","nonce":"AA==","extra-params":""}"#), Err("RCAR_MESSAGE"));
    }
}
