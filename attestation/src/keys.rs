//! Turns the text `ed25519:<hex>` into a public key that can verify.
//! It does not say whose key it is: policies and configurations pin keys to roles.

use core::{fmt, str::FromStr};

use ring::signature::{ED25519, UnparsedPublicKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{EncodingError, encoding, lp};

const PREFIX: &str = "ed25519:";

/// An Ed25519 public key (RFC 8032).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ed25519Public(pub [u8; 32]);

impl Ed25519Public {
    /// A short name for lists and envelopes: the first 16 bytes of the key's SHA-256, in hex.
    #[must_use]
    pub fn key_id(&self) -> String {
        hex::encode(&lp::sha256(&self.0)[..16])
    }

    /// Verifies `signature` over `message`.
    ///
    /// # Errors
    /// `ED25519_SIGNATURE`.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), EncodingError> {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, signature).map_err(|_| EncodingError::Signature)
    }
}

impl fmt::Display for Ed25519Public {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", hex::encode(self.0))
    }
}

impl FromStr for Ed25519Public {
    type Err = EncodingError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix(PREFIX).ok_or(EncodingError::Bytes("Ed25519 key"))?;
        encoding::from_hex(digits, "Ed25519 key").map(Self)
    }
}

impl Serialize for Ed25519Public {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Ed25519Public {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}
