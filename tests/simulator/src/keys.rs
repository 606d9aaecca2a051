//! Turns randomness into the three kinds of keys that the simulated vendors sign with, and messages into signatures.
//! A key that lies on this machine's disk proves nothing to anybody but a rehearsal.

use std::sync::Arc;

use p384::ecdsa::signature::{RandomizedSigner, SignatureEncoding, Signer};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use rsa::{
    RsaPrivateKey, RsaPublicKey,
    pkcs8::{DecodePrivateKey, EncodePrivateKey, EncodePublicKey, LineEnding},
    rand_core::OsRng,
};
use sha2_010::{Sha256, Sha384};
use zeroize::Zeroizing;

use crate::{SimulatorError, der};

type Result<T> = core::result::Result<T, SimulatorError>;

/// An algorithm with its parameters, as a certificate names it and as the signature is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// RSASSA-PSS with SHA-384 and 48 bytes of salt, trailerField left out: most of AMD's.
    Pss384,
    /// The same with an explicit trailerField: the other of AMD's two encodings.
    Pss384Trailer,
    /// RSASSA-PSS with SHA-384, named and salted with 32 bytes.
    Pss384Salt32,
    /// Named as [`Scheme::Pss384`], salted with 32 bytes.
    Pss384HiddenSalt32,
    /// RSASSA-PSS with SHA-256.
    Pss256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Pkcs1Sha384,
    /// ECDSA with SHA-256 on P-256: Intel's.
    EcdsaP256,
    /// ECDSA with SHA-384 on P-384.
    EcdsaP384,
}

impl Scheme {
    /// The AlgorithmIdentifier.
    ///
    /// # Errors
    /// Never for these schemes.
    pub fn identifier(self) -> Result<Vec<u8>> {
        match self {
            Self::Pss384 | Self::Pss384HiddenSalt32 => pss("2.16.840.1.101.3.4.2.2", 48, false),
            Self::Pss384Trailer => pss("2.16.840.1.101.3.4.2.2", 48, true),
            Self::Pss384Salt32 => pss("2.16.840.1.101.3.4.2.2", 32, false),
            Self::Pss256 => pss("2.16.840.1.101.3.4.2.1", 32, false),
            Self::Pkcs1Sha384 => with_null("1.2.840.113549.1.1.12"),
            Self::EcdsaP256 => Ok(der::sequence(&[&der::oid("1.2.840.10045.4.3.2")?])),
            Self::EcdsaP384 => Ok(der::sequence(&[&der::oid("1.2.840.10045.4.3.3")?])),
        }
    }
}

fn with_null(oid: &str) -> Result<Vec<u8>> {
    Ok(der::sequence(&[&der::oid(oid)?, &der::tlv(der::NULL, &[])]))
}

/// RSASSA-PSS-params: RFC 4055 section 3.1.
fn pss(hash: &str, salt: u64, trailer: bool) -> Result<Vec<u8>> {
    let hash = with_null(hash)?;
    let mask = der::sequence(&[&der::oid("1.2.840.113549.1.1.8")?, &hash]);
    let mut parts = [der::explicit(0, &hash), der::explicit(1, &mask), der::explicit(2, &der::integer(salt))].concat();
    if trailer {
        parts.extend(der::explicit(3, &der::integer(1)));
    }
    Ok(der::sequence(&[&der::oid("1.2.840.113549.1.1.10")?, &der::tlv(der::SEQUENCE, &parts)]))
}

/// A key on P-256, as Intel's authorities, processors and quoting enclaves hold.
pub struct EcKey {
    pair: EcdsaKeyPair,
    pkcs8: Zeroizing<Vec<u8>>,
}

/// A private key that signs certificates, revocation lists, reports or collateral.
pub enum Key {
    /// RSA.
    Rsa(Box<RsaPrivateKey>),
    /// P-256.
    P256(Arc<EcKey>),
    /// P-384.
    P384(Box<p384::ecdsa::SigningKey>),
}

impl EcKey {
    /// A fresh key.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn generate() -> Result<Self> {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .map_err(|_| SimulatorError::RootMaking("a P-256 key"))?;
        Self::from_pkcs8(pkcs8.as_ref()).ok_or(SimulatorError::RootMaking("a P-256 key"))
    }

    fn from_pkcs8(pkcs8: &[u8]) -> Option<Self> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &SystemRandom::new()).ok()?;
        Some(Self { pair, pkcs8: Zeroizing::new(pkcs8.to_vec()) })
    }

    /// Reads what [`EcKey::to_pem`] wrote.
    #[must_use]
    pub fn from_pem(pem: &str) -> Option<Self> {
        let (label, pkcs8) = der_07::pem::decode_vec(pem.as_bytes()).ok()?;
        let pkcs8 = Zeroizing::new(pkcs8);
        if label == "PRIVATE KEY" { Self::from_pkcs8(&pkcs8) } else { None }
    }

    /// PKCS #8, PEM.
    ///
    /// # Errors
    /// Never for a key of this size.
    pub fn to_pem(&self) -> Result<Zeroizing<String>> {
        der_07::pem::encode_string("PRIVATE KEY", LineEnding::LF, &self.pkcs8)
            .map(Zeroizing::new)
            .map_err(|_| SimulatorError::RootMaking("a key file"))
    }

    /// x and y, 64 bytes.
    #[must_use]
    pub fn point(&self) -> [u8; 64] {
        let mut point = [0; 64];
        if let Some(xy) = self.pair.public_key().as_ref().get(1..65) {
            point.copy_from_slice(xy);
        }
        point
    }

    /// r || s over SHA-256 of `message`.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn sign(&self, message: &[u8]) -> Result<[u8; 64]> {
        let failed = SimulatorError::RootMaking("a P-256 signature");
        let signature = self.pair.sign(&SystemRandom::new(), message).map_err(|_| failed.clone())?;
        signature.as_ref().try_into().map_err(|_| failed)
    }

    /// SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// Never.
    pub fn spki(&self) -> Result<Vec<u8>> {
        let algorithm = der::sequence(&[&der::oid("1.2.840.10045.2.1")?, &der::oid("1.2.840.10045.3.1.7")?]);
        Ok(der::sequence(&[&algorithm, &der::bits(self.pair.public_key().as_ref())]))
    }
}

impl Key {
    /// A fresh RSA key: seconds for 4096 bits.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn rsa(bits: usize) -> Result<Self> {
        let key = RsaPrivateKey::new(&mut OsRng, bits).map_err(|_| SimulatorError::RootMaking("an RSA key"))?;
        Ok(Self::Rsa(Box::new(key)))
    }

    /// A fresh key on P-256.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn p256() -> Result<Self> {
        EcKey::generate().map(|key| Self::P256(Arc::new(key)))
    }

    /// A fresh key on P-384.
    #[must_use]
    pub fn p384() -> Self {
        Self::P384(Box::new(p384::ecdsa::SigningKey::random(&mut OsRng)))
    }

    /// Reads an RSA key from PKCS #8, PEM.
    #[must_use]
    pub fn rsa_from_pem(pem: &str) -> Option<Self> {
        RsaPrivateKey::from_pkcs8_pem(pem).ok().map(|key| Self::Rsa(Box::new(key)))
    }

    /// PKCS #8, PEM.
    ///
    /// # Errors
    /// Never for keys of these kinds.
    pub fn to_pem(&self) -> Result<Zeroizing<String>> {
        let made = match self {
            Self::Rsa(key) => key.to_pkcs8_pem(LineEnding::LF),
            Self::P256(key) => return key.to_pem(),
            Self::P384(key) => p384::SecretKey::from(key.as_nonzero_scalar()).to_pkcs8_pem(LineEnding::LF),
        };
        made.map_err(|_| SimulatorError::RootMaking("a key file"))
    }

    /// SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// Never for keys of these kinds.
    pub fn spki(&self) -> Result<Vec<u8>> {
        let document = match self {
            Self::Rsa(key) => RsaPublicKey::from(key.as_ref()).to_public_key_der(),
            Self::P256(key) => return key.spki(),
            Self::P384(key) => key.verifying_key().to_public_key_der(),
        };
        document.map(|d| d.into_vec()).map_err(|_| SimulatorError::RootMaking("a public key"))
    }

    /// Signs as X.509 signs.
    ///
    /// # Errors
    /// When the scheme is of another kind of key.
    pub fn sign(&self, scheme: Scheme, message: &[u8]) -> Result<Vec<u8>> {
        let failed = SimulatorError::RootMaking("a signature");
        match (self, scheme) {
            (Self::Rsa(key), Scheme::Pss384 | Scheme::Pss384Trailer) => {
                let key = rsa::pss::SigningKey::<Sha384>::new(key.as_ref().clone());
                key.try_sign_with_rng(&mut OsRng, message).map(|s| s.to_vec()).map_err(|_| failed)
            }
            (Self::Rsa(key), Scheme::Pss384Salt32 | Scheme::Pss384HiddenSalt32) => {
                let key = rsa::pss::SigningKey::<Sha384>::new_with_salt_len(key.as_ref().clone(), 32);
                key.try_sign_with_rng(&mut OsRng, message).map(|s| s.to_vec()).map_err(|_| failed)
            }
            (Self::Rsa(key), Scheme::Pss256) => {
                let key = rsa::pss::SigningKey::<Sha256>::new(key.as_ref().clone());
                key.try_sign_with_rng(&mut OsRng, message).map(|s| s.to_vec()).map_err(|_| failed)
            }
            (Self::Rsa(key), Scheme::Pkcs1Sha384) => {
                let key = rsa::pkcs1v15::SigningKey::<Sha384>::new(key.as_ref().clone());
                key.try_sign(message).map(|s| s.to_vec()).map_err(|_| failed)
            }
            (Self::P256(key), Scheme::EcdsaP256) => {
                let signature = key.sign(message)?;
                let (r, s) = signature.split_at(32);
                Ok(der::sequence(&[&der::unsigned(r), &der::unsigned(s)]))
            }
            (Self::P384(key), Scheme::EcdsaP384) => {
                let signature: p384::ecdsa::Signature = key.try_sign(message).map_err(|_| failed)?;
                Ok(signature.to_der().as_bytes().to_vec())
            }
            _ => Err(failed),
        }
    }
}
