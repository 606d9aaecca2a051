//! Turns a model key into a file that one broker can open, and back (`seal --to BROKER.pub`).
//! It does not say who wrapped it: the broker compares the record with the vendor's signed manifest before it stores it.

use core::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use vouchsafe_attestation::{
    Mode, claims,
    encoding::{b64url, from_b64url, serde_hex},
};
use zeroize::Zeroizing;

use crate::{
    ModelKeyRecord, ReleaseError, TeeKey, TeePubKey,
    bundle::{read_key, secret_json, write_key},
    jwe,
};

const PREFIX: &str = "vouchsafe-broker-p256:";
const FORMAT: &str = "vouchsafe/1 wrapped-key";

/// A broker's public wrapping key. Its text form is `vouchsafe-broker-p256:` and the compressed point in base64url.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrapPublic(TeePubKey);

/// A broker's secret wrapping key.
pub struct WrapSecret(TeeKey);

/// The encrypted payload.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload<'a> {
    format: &'a str,
    mode: Mode,
    model_id: &'a str,
    #[serde(with = "serde_hex")]
    model_uid: [u8; 32],
    sequence: u64,
    #[serde(with = "serde_hex")]
    manifest_digest: [u8; 32],
    #[serde(with = "serde_hex")]
    usage_policy_digest: [u8; 32],
    #[serde(with = "serde_hex")]
    key_commitment: [u8; 32],
    model_key: &'a str,
}

/// Wraps a model key for a broker: JSON inside a JWE of the same form as a released resource.
///
/// # Errors
/// `RANDOM_UNAVAILABLE`.
pub fn wrap(to: &WrapPublic, record: &ModelKeyRecord) -> Result<Vec<u8>, ReleaseError> {
    let key = write_key(&record.key);
    let payload = secret_json(&Payload {
        format: FORMAT,
        mode: record.mode,
        model_id: &record.model_id,
        model_uid: record.uid,
        sequence: record.sequence,
        manifest_digest: record.manifest_digest,
        usage_policy_digest: record.usage_policy_digest,
        key_commitment: record.commitment,
        model_key: &key,
    });
    jwe::seal_to(&to.0, &payload)
}

impl WrapSecret {
    /// Makes a new wrapping key.
    ///
    /// # Errors
    /// `RANDOM_UNAVAILABLE`.
    pub fn generate() -> Result<Self, ReleaseError> {
        TeeKey::generate().map(Self)
    }

    /// Reads the 32 bytes of a key file.
    ///
    /// # Errors
    /// `TEE_PUBKEY`.
    pub fn from_bytes(scalar: &[u8; 32]) -> Result<Self, ReleaseError> {
        TeeKey::from_scalar(scalar).map(Self)
    }

    /// The 32 bytes of a key file.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        self.0.scalar()
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> WrapPublic {
        WrapPublic(self.0.public_jwk())
    }

    /// Opens a wrapped key file, commitment included.
    ///
    /// # Errors
    /// `RCAR_TOO_LARGE`, `WRAPPED_KEY_FORM`, `WRAPPED_KEY_OPEN`, `KEY_COMMITMENT`.
    pub fn unwrap_key(&self, bytes: &[u8]) -> Result<ModelKeyRecord, ReleaseError> {
        let text = self.0.open(bytes).map_err(|e| match e {
            ReleaseError::JweForm => ReleaseError::WrappedForm,
            ReleaseError::JweOpen => ReleaseError::WrappedOpen,
            other => other,
        })?;
        let payload: Payload<'_> = serde_json::from_slice(&text).map_err(|_| ReleaseError::WrappedForm)?;
        if payload.format != FORMAT || claims::model_id(payload.model_id).is_err() {
            return Err(ReleaseError::WrappedForm);
        }
        ModelKeyRecord {
            model_id: payload.model_id.to_owned(),
            uid: payload.model_uid,
            sequence: payload.sequence,
            mode: payload.mode,
            manifest_digest: payload.manifest_digest,
            usage_policy_digest: payload.usage_policy_digest,
            commitment: payload.key_commitment,
            key: read_key(payload.model_key).ok_or(ReleaseError::WrappedForm)?,
        }
        .matching()
    }
}

impl fmt::Display for WrapPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The point was read or made here, so it is on the curve.
        write!(f, "{PREFIX}{}", b64url(&self.0.to_sec1().unwrap_or_default()))
    }
}

impl FromStr for WrapPublic {
    type Err = ReleaseError;

    fn from_str(text: &str) -> Result<Self, ReleaseError> {
        let digits = text.trim_end().strip_prefix(PREFIX).ok_or(ReleaseError::WrapPublic)?;
        let bytes = from_b64url(digits, "wrapping key").map_err(|_| ReleaseError::WrapPublic)?;
        if bytes.len() != 33 {
            return Err(ReleaseError::WrapPublic);
        }
        TeePubKey::from_sec1(&bytes).map(Self).map_err(|_| ReleaseError::WrapPublic)
    }
}

#[cfg(test)]
mod tests {
    use vouchsafe_sealed::{ModelKey, commitment};

    use super::*;

    fn record() -> ModelKeyRecord {
        let (key, uid) = (ModelKey::from_bytes([9; 32]), [3; 32]);
        ModelKeyRecord {
            model_id: "m".to_owned(),
            uid,
            sequence: 2,
            mode: Mode::Simulation,
            manifest_digest: [4; 32],
            usage_policy_digest: [5; 32],
            commitment: commitment(&key, &uid),
            key,
        }
    }

    #[test]
    fn only_the_addressed_broker_opens_it() {
        let (ours, other) = (WrapSecret::generate().unwrap(), WrapSecret::generate().unwrap());
        let public: WrapPublic = ours.public().to_string().parse().unwrap();
        assert_eq!(public, ours.public());
        let file = wrap(&public, &record()).unwrap();
        let opened = ours.unwrap_key(&file).unwrap();
        assert_eq!((opened.model_id.as_str(), opened.sequence, opened.key.expose()), ("m", 2, &[9; 32]));
        assert_eq!(other.unwrap_key(&file).map(|_| ()).map_err(|e| e.code()), Err("WRAPPED_KEY_OPEN"));
        let again = WrapSecret::from_bytes(&ours.to_bytes()).unwrap();
        assert!(again.unwrap_key(&file).is_ok());
    }

    #[test]
    fn damaged_files_and_wrong_commitments_are_refused() {
        let ours = WrapSecret::generate().unwrap();
        let code = |file: &[u8]| ours.unwrap_key(file).map(|_| ()).map_err(|e| e.code());
        assert_eq!(code(b"{}"), Err("WRAPPED_KEY_FORM"));
        assert_eq!(code(&jwe::seal_to(&ours.public().0, b"{}").unwrap()), Err("WRAPPED_KEY_FORM"));
        let mut wrong = record();
        wrong.uid[0] ^= 1;
        assert_eq!(code(&wrap(&ours.public(), &wrong).unwrap()), Err("KEY_COMMITMENT"));
        let mut bad_name = record();
        bad_name.model_id = "../x".to_owned();
        assert_eq!(code(&wrap(&ours.public(), &bad_name).unwrap()), Err("WRAPPED_KEY_FORM"));
        assert_eq!(code(&vec![b' '; 65 * 1024]), Err("RCAR_TOO_LARGE"));
    }

    #[test]
    fn other_texts_are_no_wrapping_key() {
        for text in ["", "vouchsafe-broker-p256:", "vouchsafe-broker-p256:AAAA", "ed25519:00"] {
            assert_eq!(text.parse::<WrapPublic>().err(), Some(ReleaseError::WrapPublic));
        }
    }
}
