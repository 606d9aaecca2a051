//! Turns the ledger's last head into a file that only the holder of the key-encryption key can write, and back.
//! It notices a ledger that lost lines. It cannot notice that ledger and head file were put back to an old state together.

use std::path::{Path, PathBuf};

use ring::{hkdf, hmac};
use serde::{Deserialize, Serialize};
use vouchsafe_attestation::encoding::serde_hex;
use zeroize::Zeroizing;

use crate::{
    BrokerError,
    files::{self, HEAD, KEK},
    ledger::Head,
};

const LABEL: &[u8] = b"vouchsafe/1 ledger-head";

/// What signs and compares the head file: HMAC-SHA256 under HKDF-SHA256(key-encryption key).
#[derive(Clone)]
pub struct HeadKey(hmac::Key);

/// The head file beside a ledger.
pub(crate) struct HeadFile {
    dir: PathBuf,
    key: HeadKey,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    v: u32,
    n: u64,
    #[serde(with = "serde_hex")]
    head: [u8; 32],
    #[serde(with = "serde_hex")]
    mac: [u8; 32],
}

impl HeadKey {
    /// Derives it from the key-encryption key.
    ///
    /// # Errors
    /// `KEY_FILE`.
    pub fn derive(kek: &[u8; 32]) -> Result<Self, BrokerError> {
        let key = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(kek);
        let key = key.expand(&[LABEL], hmac::HMAC_SHA256).map_err(|_| BrokerError::KeyFile(KEK))?;
        Ok(Self(key.into()))
    }

    /// Derives it from the 32 bytes of `DIR/kek`.
    pub(crate) fn load(dir: &Path) -> Result<Self, BrokerError> {
        let bytes = files::read_secret(dir, KEK)?;
        let mut kek = Zeroizing::new([0; 32]);
        if bytes.len() != kek.len() {
            return Err(BrokerError::KeyFile(KEK));
        }
        kek.copy_from_slice(&bytes);
        Self::derive(&kek)
    }
}

impl HeadFile {
    pub(crate) fn beside(ledger: &Path, key: &HeadKey) -> Self {
        Self { dir: ledger.parent().unwrap_or(Path::new(".")).to_owned(), key: key.clone() }
    }

    /// The head that was written last. No file is as bad as a wrong one: it is there from the first day.
    pub(crate) fn read(&self) -> Result<Head, BrokerError> {
        let bytes = files::read(&self.dir, HEAD).map_err(|e| match e {
            BrokerError::File(_, std::io::ErrorKind::NotFound) => BrokerError::LedgerHead("the head file is missing"),
            other => other,
        })?;
        let text: Text =
            serde_json::from_slice(&bytes).map_err(|_| BrokerError::LedgerHead("the head file cannot be read"))?;
        let head = Head { n: text.n, hash: text.head };
        if text.v != 1 || hmac::verify(&self.key.0, &message(head), &text.mac).is_err() {
            return Err(BrokerError::LedgerHead("the head file is not this broker's"));
        }
        Ok(head)
    }

    /// Prepares the next head: durable, and not yet in force.
    pub(crate) fn stage(&self, head: Head) -> Result<(), BrokerError> {
        let mut mac = [0; 32];
        mac.copy_from_slice(hmac::sign(&self.key.0, &message(head)).as_ref());
        let text = Text { v: 1, n: head.n, head: head.hash, mac };
        // A struct of strings and numbers always serializes.
        files::stage(&self.dir, HEAD, &serde_json::to_vec(&text).unwrap_or_default(), HEAD)
    }

    /// Puts the prepared head in force.
    pub(crate) fn commit(&self) -> Result<(), BrokerError> {
        files::commit(&self.dir, HEAD, HEAD)
    }
}

fn message(head: Head) -> [u8; 40] {
    let mut message = [0; 40];
    message[..8].copy_from_slice(&head.n.to_be_bytes());
    message[8..].copy_from_slice(&head.hash);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_key_reads_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let file = |kek: u8| HeadFile::beside(&dir.path().join("l"), &HeadKey::derive(&[kek; 32]).unwrap());
        let code = |kek| file(kek).read().map_err(|e| e.code());
        assert_eq!(code(1), Err("LEDGER_BROKEN"), "missing");
        let head = Head { n: 7, hash: [8; 32] };
        file(1).stage(head).unwrap();
        assert_eq!(code(1), Err("LEDGER_BROKEN"), "prepared only");
        file(1).commit().unwrap();
        assert_eq!((code(1), code(2)), (Ok(head), Err("LEDGER_BROKEN")));
        let text = std::fs::read_to_string(dir.path().join(HEAD)).unwrap();
        for (from, to) in [("\"n\":7", "\"n\":6"), ("0808", "0809"), ("{", "[")] {
            std::fs::write(dir.path().join(HEAD), text.replacen(from, to, 1)).unwrap();
            assert_eq!(code(1), Err("LEDGER_BROKEN"), "{from}");
        }
    }
}
