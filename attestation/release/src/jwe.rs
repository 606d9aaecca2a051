//! Turns a resource into a JWE for one handshake key and back: ECDH-ES+A256KW on P-256, A256GCM (RFC 7516, 7518).
//! It does not say who sealed it: anyone can encrypt to a public key. The signed bundle inside says that.

use aes_gcm::{
    Aes256Gcm, Nonce,
    aead::{AeadInOut as _, KeyInit as _},
};
use aes_kw::KwAes256;
use p256::{PublicKey, SecretKey, elliptic_curve::sec1::ToSec1Point as _};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};
use vouchsafe_attestation::{
    encoding::{b64url, from_b64url},
    lp,
};
use zeroize::Zeroizing;

use crate::ReleaseError;

const ALG: &str = "ECDH-ES+A256KW";
const ENC: &str = "A256GCM";
const KTY: &str = "EC";
const CRV: &str = "P-256";
/// A JWE is at most this long.
pub const MAX_JWE: usize = 64 * 1024;

/// The handshake's public key as RCAR spells it; the order of the fields is the order on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TeePubKey {
    /// `EC`.
    pub kty: String,
    /// `P-256`.
    pub crv: String,
    /// `ECDH-ES+A256KW`.
    pub alg: String,
    /// Base64url of 32 bytes.
    pub x: String,
    /// Base64url of 32 bytes.
    pub y: String,
}

/// The secret half of a handshake key: made for one handshake, dropped with it.
pub struct TeeKey(SecretKey);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    enc: String,
    epk: EphemeralKey,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EphemeralKey {
    crv: String,
    kty: String,
    x: String,
    y: String,
}

/// Flattened JSON serialization.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Jwe {
    protected: String,
    encrypted_key: String,
    iv: String,
    ciphertext: String,
    tag: String,
}

impl TeeKey {
    /// Makes a key from the operating system's random source.
    ///
    /// # Errors
    /// `RANDOM_UNAVAILABLE`.
    pub fn generate() -> Result<Self, ReleaseError> {
        let mut scalar = Zeroizing::new([0; 32]);
        // One draw in 2^32 is no scalar below the group order; four in a row mean a broken source.
        for _ in 0..4 {
            fill(scalar.as_mut_slice())?;
            if let Ok(key) = SecretKey::from_slice(scalar.as_slice()) {
                return Ok(Self(key));
            }
        }
        Err(ReleaseError::Random)
    }

    /// Reads a scalar of 32 bytes.
    ///
    /// # Errors
    /// `TEE_PUBKEY` when it is zero or not below the group order.
    pub fn from_scalar(scalar: &[u8; 32]) -> Result<Self, ReleaseError> {
        SecretKey::from_slice(scalar).map(Self).map_err(|_| ReleaseError::TeePubKey)
    }

    /// The scalar, for a key file.
    pub(crate) fn scalar(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes().into())
    }

    /// The public half, as RCAR sends it.
    #[must_use]
    pub fn public_jwk(&self) -> TeePubKey {
        TeePubKey::from_point(&self.0.public_key())
    }

    /// Opens a JWE made for this key.
    ///
    /// # Errors
    /// `RCAR_TOO_LARGE`, `JWE_FORM`, `JWE_OPEN`.
    pub fn open(&self, jwe: &[u8]) -> Result<Zeroizing<Vec<u8>>, ReleaseError> {
        if jwe.len() > MAX_JWE {
            return Err(ReleaseError::TooLarge("the encrypted resource", MAX_JWE));
        }
        let jwe: Jwe = serde_json::from_slice(jwe).map_err(|_| ReleaseError::JweForm)?;
        let header: Header = serde_json::from_slice(&bytes(&jwe.protected)?).map_err(|_| ReleaseError::JweForm)?;
        if header.alg != ALG || header.enc != ENC || header.epk.kty != KTY || header.epk.crv != CRV {
            return Err(ReleaseError::JweForm);
        }
        let epk = point(&header.epk.x, &header.epk.y).map_err(|_| ReleaseError::JweForm)?;
        let (iv, tag): ([u8; 12], [u8; 16]) = (fixed(&jwe.iv)?, fixed(&jwe.tag)?);
        let wrapped: [u8; 40] = fixed(&jwe.encrypted_key)?;

        let mut cek = Zeroizing::new([0; 32]);
        key_wrap(&self.0, &epk).unwrap_key(&wrapped, cek.as_mut_slice()).map_err(|_| ReleaseError::JweOpen)?;
        let mut text = Zeroizing::new(bytes(&jwe.ciphertext)?);
        Aes256Gcm::new(&(*cek).into())
            .decrypt_inout_detached(&Nonce::from(iv), jwe.protected.as_bytes(), text.as_mut_slice().into(), &tag.into())
            .map_err(|_| ReleaseError::JweOpen)?;
        Ok(text)
    }
}

impl TeePubKey {
    fn from_point(key: &PublicKey) -> Self {
        let (x, y) = coordinates(key);
        Self { kty: KTY.to_owned(), crv: CRV.to_owned(), alg: ALG.to_owned(), x, y }
    }

    /// The point; only the one form of JWK that the protocol uses is read.
    ///
    /// # Errors
    /// `TEE_PUBKEY`.
    pub(crate) fn point(&self) -> Result<PublicKey, ReleaseError> {
        if self.kty != KTY || self.crv != CRV || self.alg != ALG {
            return Err(ReleaseError::TeePubKey);
        }
        point(&self.x, &self.y)
    }

    pub(crate) fn from_sec1(bytes: &[u8]) -> Result<Self, ReleaseError> {
        PublicKey::from_sec1_bytes(bytes).map(|k| Self::from_point(&k)).map_err(|_| ReleaseError::TeePubKey)
    }

    /// SEC1 compressed form, 33 bytes: also what a ledger line names the key by (its SHA-256).
    ///
    /// # Errors
    /// `TEE_PUBKEY`.
    pub fn to_sec1(&self) -> Result<Vec<u8>, ReleaseError> {
        Ok(self.point()?.to_sec1_point(true).as_bytes().to_vec())
    }
}

/// Encrypts `plaintext` to a handshake key. The header is compact JSON with the members alg, enc, epk{crv,kty,x,y}.
///
/// # Errors
/// `TEE_PUBKEY`, `RANDOM_UNAVAILABLE`.
pub fn seal_to(key: &TeePubKey, plaintext: &[u8]) -> Result<Vec<u8>, ReleaseError> {
    let recipient = key.point()?;
    let ephemeral = TeeKey::generate()?;
    let mut cek = Zeroizing::new([0; 32]);
    let mut iv = [0; 12];
    fill(cek.as_mut_slice())?;
    fill(&mut iv)?;

    let (x, y) = coordinates(&ephemeral.0.public_key());
    let epk = EphemeralKey { crv: CRV.to_owned(), kty: KTY.to_owned(), x, y };
    let header = Header { alg: ALG.to_owned(), enc: ENC.to_owned(), epk };
    let protected = b64url(&crate::rcar::to_bytes(&header));

    let mut wrapped = [0; 40];
    key_wrap(&ephemeral.0, &recipient).wrap_key(cek.as_slice(), &mut wrapped).map_err(|_| ReleaseError::JweForm)?;
    let mut text = Zeroizing::new(plaintext.to_vec());
    let tag = Aes256Gcm::new(&(*cek).into())
        .encrypt_inout_detached(&Nonce::from(iv), protected.as_bytes(), text.as_mut_slice().into())
        .map_err(|_| ReleaseError::JweForm)?;
    Ok(crate::rcar::to_bytes(&Jwe {
        protected,
        encrypted_key: b64url(&wrapped),
        iv: b64url(&iv),
        ciphertext: b64url(&text),
        tag: b64url(&tag),
    }))
}

/// Concat KDF (NIST SP 800-56A, RFC 7518 section 4.6.2) with SHA-256, one round, empty party names.
fn key_wrap(ours: &SecretKey, theirs: &PublicKey) -> KwAes256 {
    let shared = ours.diffie_hellman(theirs);
    let mut input = Zeroizing::new(Vec::with_capacity(128));
    input.extend_from_slice(&1_u32.to_be_bytes());
    input.extend_from_slice(shared.raw_secret_bytes());
    for party in [ALG.as_bytes(), b"", b""] {
        lp::put_lp(&mut input, party);
    }
    input.extend_from_slice(&256_u32.to_be_bytes());
    let kek = Zeroizing::new(lp::sha256(&input));
    KwAes256::new(&(*kek).into())
}

fn point(x: &str, y: &str) -> Result<PublicKey, ReleaseError> {
    let mut sec1 = [4; 65];
    for (coordinate, out) in [(x, 1), (y, 33)] {
        let bytes = from_b64url(coordinate, "coordinate").map_err(|_| ReleaseError::TeePubKey)?;
        if bytes.len() != 32 {
            return Err(ReleaseError::TeePubKey);
        }
        sec1[out..out + 32].copy_from_slice(&bytes);
    }
    // Refuses points that are not on the curve, and the point at infinity.
    PublicKey::from_sec1_bytes(&sec1).map_err(|_| ReleaseError::TeePubKey)
}

fn coordinates(key: &PublicKey) -> (String, String) {
    let point = key.to_sec1_point(false);
    let bytes = point.as_bytes();
    (b64url(&bytes[1..33]), b64url(&bytes[33..65]))
}

fn bytes(text: &str) -> Result<Vec<u8>, ReleaseError> {
    from_b64url(text, "JWE member").map_err(|_| ReleaseError::JweForm)
}

fn fixed<const N: usize>(text: &str) -> Result<[u8; N], ReleaseError> {
    bytes(text)?.try_into().map_err(|_| ReleaseError::JweForm)
}

fn fill(out: &mut [u8]) -> Result<(), ReleaseError> {
    SystemRandom::new().fill(out).map_err(|_| ReleaseError::Random)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn opens_for_its_key_only() {
        let (key, other) = (TeeKey::generate().unwrap(), TeeKey::generate().unwrap());
        let jwe = seal_to(&key.public_jwk(), b"secret").unwrap();
        assert_eq!(key.open(&jwe).unwrap().as_slice(), b"secret");
        assert_eq!(other.open(&jwe).err(), Some(ReleaseError::JweOpen));
    }

    #[test]
    fn the_header_is_the_form_that_a_stock_client_reads() {
        let key = TeeKey::generate().unwrap();
        let jwe: Jwe = serde_json::from_slice(&seal_to(&key.public_jwk(), b"").unwrap()).unwrap();
        let header = String::from_utf8(bytes(&jwe.protected).unwrap()).unwrap();
        assert!(header.starts_with(r#"{"alg":"ECDH-ES+A256KW","enc":"A256GCM","epk":{"crv":"P-256","kty":"EC","x":""#));
        assert!(!header.contains(' '));
    }

    #[test]
    fn foreign_key_forms_are_refused() {
        let good = TeeKey::generate().unwrap().public_jwk();
        let change = |f: &dyn Fn(&mut TeePubKey)| {
            let mut key = good.clone();
            f(&mut key);
            seal_to(&key, b"x").err()
        };
        assert!(seal_to(&good, b"x").is_ok());
        for bad in [
            change(&|k| k.alg = "RSA-OAEP".to_owned()),
            change(&|k| k.crv = "P-384".to_owned()),
            change(&|k| k.kty = "OKP".to_owned()),
            change(&|k| k.x = b64url(&[0; 32])),
            change(&|k| k.y = b64url(&[1; 31])),
            change(&|k| (k.x, k.y) = (b64url(&[0; 32]), b64url(&[0; 32]))),
        ] {
            assert_eq!(bad, Some(ReleaseError::TeePubKey));
        }
    }

    proptest! {
        #[test]
        fn every_changed_jwe_is_refused(at in 0_usize..600, with in any::<u8>()) {
            let key = TeeKey::from_scalar(&[7; 32]).unwrap();
            let mut jwe = seal_to(&key.public_jwk(), b"sixteen byte key").unwrap();
            let at = at % jwe.len();
            prop_assume!(jwe[at] != with);
            jwe[at] = with;
            prop_assert!(key.open(&jwe).is_err());
        }

        #[test]
        fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            prop_assert!(TeeKey::from_scalar(&[7; 32]).unwrap().open(&bytes).is_err());
        }
    }
}
