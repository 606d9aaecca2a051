//! Turns a model key into a file that only this broker's key-encryption key opens, and back.
//! A stored key says nothing of who may have it: the gates and the ledger do.
//!
//! AES-256-GCM, associated data `LP(model_uid) u64be(sequence) LP(mode)`.

use aes_gcm::{
    Aes256Gcm, Nonce,
    aead::{AeadInOut as _, KeyInit as _},
};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};
use vouchsafe_attestation::{
    Mode, claims,
    encoding::{serde_b64url_array, serde_hex},
    lp::put_lp,
};
use vouchsafe_release::ModelKeyRecord;
use vouchsafe_sealed::ModelKey;
use zeroize::Zeroizing;

use crate::{
    BrokerError,
    files::{self, KEK},
};

/// The key-encryption key.
pub(crate) struct Kek(Zeroizing<[u8; 32]>);

/// One file below `models/`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stored {
    v: u32,
    model_id: String,
    #[serde(with = "serde_hex")]
    model_uid: [u8; 32],
    sequence: u64,
    mode: Mode,
    #[serde(with = "serde_hex")]
    manifest_digest: [u8; 32],
    #[serde(with = "serde_hex")]
    usage_policy_digest: [u8; 32],
    #[serde(with = "serde_hex")]
    key_commitment: [u8; 32],
    #[serde(with = "serde_b64url_array")]
    iv: [u8; 12],
    #[serde(with = "serde_b64url_array")]
    sealed_key: [u8; 32],
    #[serde(with = "serde_b64url_array")]
    tag: [u8; 16],
}

impl Kek {
    /// Reads the 32 bytes of `DIR/kek`.
    pub(crate) fn load(dir: &std::path::Path) -> Result<Self, BrokerError> {
        let bytes = files::read_secret(dir, KEK)?;
        let mut key = Zeroizing::new([0; 32]);
        if bytes.len() != key.len() {
            return Err(BrokerError::KeyFile(KEK));
        }
        key.copy_from_slice(&bytes);
        Ok(Self(key))
    }

    fn cipher(&self) -> Aes256Gcm {
        Aes256Gcm::new(&(*self.0).into())
    }
}

impl Stored {
    /// Seals a record.
    pub(crate) fn seal(kek: &Kek, record: &ModelKeyRecord) -> Result<Self, BrokerError> {
        let mut iv = [0; 12];
        SystemRandom::new().fill(&mut iv).map_err(|_| BrokerError::Random)?;
        let mut sealed_key = *record.key.expose();
        let associated = associated(&record.uid, record.sequence, record.mode);
        let tag = kek
            .cipher()
            .encrypt_inout_detached(&Nonce::from(iv), &associated, sealed_key.as_mut_slice().into())
            .map_err(|_| BrokerError::ModelKey)?;
        Ok(Self {
            v: 1,
            model_id: record.model_id.clone(),
            model_uid: record.uid,
            sequence: record.sequence,
            mode: record.mode,
            manifest_digest: record.manifest_digest,
            usage_policy_digest: record.usage_policy_digest,
            key_commitment: record.commitment,
            iv,
            sealed_key,
            tag: tag.into(),
        })
    }

    /// Opens it, commitment included.
    pub(crate) fn open(&self, kek: &Kek) -> Result<ModelKeyRecord, BrokerError> {
        let mut key = Zeroizing::new(self.sealed_key);
        let associated = associated(&self.model_uid, self.sequence, self.mode);
        kek.cipher()
            .decrypt_inout_detached(&Nonce::from(self.iv), &associated, key.as_mut_slice().into(), &self.tag.into())
            .map_err(|_| BrokerError::ModelKey)?;
        ModelKeyRecord {
            model_id: self.model_id.clone(),
            uid: self.model_uid,
            sequence: self.sequence,
            mode: self.mode,
            manifest_digest: self.manifest_digest,
            usage_policy_digest: self.usage_policy_digest,
            commitment: self.key_commitment,
            key: ModelKey::from_bytes(*key),
        }
        .matching()
        .map_err(|_| BrokerError::ModelKey)
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        // A struct of strings and numbers always serializes.
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, BrokerError> {
        let stored: Self = serde_json::from_slice(bytes).map_err(|_| BrokerError::ModelKey)?;
        if stored.v != 1 || claims::model_id(&stored.model_id).is_err() {
            return Err(BrokerError::ModelKey);
        }
        Ok(stored)
    }
}

/// The file's name: the uid is fresh for every version, and no vendor chooses a path with it.
pub(crate) fn file_name(uid: &[u8; 32]) -> String {
    format!("{}.json", hex::encode(uid))
}

fn associated(uid: &[u8; 32], sequence: u64, mode: Mode) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    put_lp(&mut out, uid);
    out.extend_from_slice(&sequence.to_be_bytes());
    put_lp(&mut out, mode.as_str().as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use vouchsafe_sealed::commitment;

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
    fn a_stored_key_opens_under_its_own_kek_and_its_own_name_only() {
        let kek = |b| Kek(Zeroizing::new([b; 32]));
        let stored = Stored::seal(&kek(1), &record()).unwrap();
        let text = String::from_utf8(stored.to_bytes()).unwrap();
        let open = |text: &str, b| {
            Stored::parse(text.as_bytes()).and_then(|s| s.open(&kek(b))).map(|r| *r.key.expose()).map_err(|e| e.code())
        };
        assert_eq!(open(&text, 1), Ok([9; 32]));
        assert_eq!(open(&text, 2), Err("MODEL_KEY_CORRUPT"));
        for (from, to) in [
            ("\"sequence\":2", "\"sequence\":1"),
            ("simulation", "hardware"),
            (&*"03".repeat(32), &*"04".repeat(32)),
            ("\"v\":1", "\"v\":1,\"w\":1"),
        ] {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text);
            assert_eq!(open(&changed, 1), Err("MODEL_KEY_CORRUPT"));
        }
        assert!(!text.contains(&hex::encode([9; 32])));
    }
}
