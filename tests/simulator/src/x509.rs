//! Turns the description of a certificate or a revocation list, right or wrong, into signed DER.
//! Whoever reads the result learns nothing about hardware: every honest description here carries the simulation marker.

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use vouchsafe_attestation::anchors::SIMULATED_MARKER_OID;

use crate::{
    SimulatorError, der,
    keys::{Key, Scheme},
};

type Result<T> = core::result::Result<T, SimulatorError>;

/// Subject key identifier.
pub const SUBJECT_KEY_ID: &str = "2.5.29.14";
/// Key usage.
pub const KEY_USAGE: &str = "2.5.29.15";
/// Basic constraints.
pub const BASIC_CONSTRAINTS: &str = "2.5.29.19";
/// Number of a revocation list.
pub const CRL_NUMBER: &str = "2.5.29.20";
/// Authority key identifier.
pub const AUTHORITY_KEY_ID: &str = "2.5.29.35";

/// Key usage of an authority that signs certificates and lists: keyCertSign, cRLSign.
pub const USAGE_CERTIFICATES_AND_LISTS: u8 = 0x06;
/// Key usage of an authority that signs certificates only.
pub const USAGE_CERTIFICATES: u8 = 0x04;
/// Key usage of Intel's leaves: digitalSignature, nonRepudiation.
pub const USAGE_SIGNATURES: u8 = 0xc0;

const DAY: u64 = 86_400;

/// A distinguished name: pairs of attribute identifier and text, in the order of the encoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(pub Vec<(&'static str, String)>);

const COMMON_NAME: &str = "2.5.4.3";
const COUNTRY: &str = "2.5.4.6";
const LOCALITY: &str = "2.5.4.7";
const STATE: &str = "2.5.4.8";
const ORGANISATION: &str = "2.5.4.10";
const UNIT: &str = "2.5.4.11";

impl Name {
    /// The name of something simulated: it says what it is.
    #[must_use]
    pub fn simulated(common: &str) -> Self {
        Self(vec![
            (UNIT, "Not hardware".into()),
            (ORGANISATION, "Vouchsafe simulation".into()),
            (COMMON_NAME, common.into()),
        ])
    }

    /// The name as AMD writes it: for chains that pretend.
    #[must_use]
    pub fn amd(common: &str) -> Self {
        Self(vec![
            (UNIT, "Engineering".into()),
            (COUNTRY, "US".into()),
            (LOCALITY, "Santa Clara".into()),
            (STATE, "CA".into()),
            (ORGANISATION, "Advanced Micro Devices".into()),
            (COMMON_NAME, common.into()),
        ])
    }

    /// The name as Intel writes it: for chains that pretend.
    #[must_use]
    pub fn intel(common: &str) -> Self {
        Self(vec![
            (COMMON_NAME, common.into()),
            (ORGANISATION, "Intel Corporation".into()),
            (LOCALITY, "Santa Clara".into()),
            (STATE, "CA".into()),
            (COUNTRY, "US".into()),
        ])
    }

    fn to_der(&self) -> Result<Vec<u8>> {
        let mut sets = Vec::new();
        for (oid, text) in &self.0 {
            let tag = if *oid == COUNTRY { der::PRINTABLE_STRING } else { der::UTF8_STRING };
            let attribute = der::sequence(&[&der::oid(oid)?, &der::tlv(tag, text.as_bytes())]);
            sets.extend(der::tlv(der::SET, &attribute));
        }
        Ok(der::tlv(der::SEQUENCE, &sets))
    }
}

/// An extension of a certificate or a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// Its identifier, dotted.
    pub oid: String,
    /// Whether a reader that does not know it must refuse.
    pub critical: bool,
    /// The content of its OCTET STRING.
    pub value: Vec<u8>,
}

impl Extension {
    /// A non-critical extension.
    #[must_use]
    pub fn new(oid: &str, value: Vec<u8>) -> Self {
        Self { oid: oid.into(), critical: false, value }
    }

    /// A critical extension.
    #[must_use]
    pub fn critical(oid: &str, value: Vec<u8>) -> Self {
        Self { oid: oid.into(), critical: true, value }
    }

    /// The marker that every certificate of a simulated root carries.
    #[must_use]
    pub fn marker() -> Self {
        Self::new(SIMULATED_MARKER_OID, der::tlv(der::NULL, &[]))
    }

    /// Key usage: one byte of flags as DER orders them.
    #[must_use]
    pub fn key_usage(flags: u8) -> Self {
        let unused = flags.trailing_zeros().min(7) as u8;
        Self::critical(KEY_USAGE, der::tlv(der::BIT_STRING, &[unused, flags]))
    }

    /// Basic constraints: an authority with a limit on the chain below, or none; not an authority when `ca` is false.
    #[must_use]
    pub fn basic_constraints(ca: bool, path_len: Option<u8>) -> Self {
        let mut content = if ca { der::tlv(der::BOOLEAN, &[0xff]) } else { Vec::new() };
        if let Some(len) = path_len {
            content.extend(der::integer(len.into()));
        }
        Self::critical(BASIC_CONSTRAINTS, der::tlv(der::SEQUENCE, &content))
    }

    /// The identifier of the certificate's own key.
    #[must_use]
    pub fn subject_key_id(spki: &[u8]) -> Self {
        Self::new(SUBJECT_KEY_ID, der::tlv(der::OCTET_STRING, &key_id(spki)))
    }

    /// The identifier of the issuer's key.
    #[must_use]
    pub fn authority_key_id(issuer_spki: &[u8]) -> Self {
        Self::new(AUTHORITY_KEY_ID, der::tlv(der::SEQUENCE, &der::tlv(0x80, &key_id(issuer_spki))))
    }

    /// The number of a revocation list.
    #[must_use]
    pub fn crl_number(number: u64) -> Self {
        Self::new(CRL_NUMBER, der::integer(number))
    }

    fn to_der(&self) -> Result<Vec<u8>> {
        let critical = if self.critical { der::tlv(der::BOOLEAN, &[0xff]) } else { Vec::new() };
        Ok(der::sequence(&[&der::oid(&self.oid)?, &critical, &der::tlv(der::OCTET_STRING, &self.value)]))
    }
}

/// RFC 5280 section 4.2.1.2, method 1: SHA-1 of the key's bits.
fn key_id(spki: &[u8]) -> Vec<u8> {
    // The key is the last element; its length is known from the three algorithms that are in use here.
    let key_len = match spki.len() {
        91 => 65,
        120 => 97,
        len => len.saturating_sub(24),
    };
    let bits = spki.get(spki.len().saturating_sub(key_len)..).unwrap_or(spki);
    digest(&SHA1_FOR_LEGACY_USE_ONLY, bits).as_ref().to_vec()
}

/// Lookups that certificates and lists share.
fn position(extensions: &[Extension], oid: &str) -> Option<usize> {
    extensions.iter().position(|e| e.oid == oid)
}

fn put(extensions: &mut Vec<Extension>, extension: Extension) {
    match position(extensions, &extension.oid).and_then(|at| extensions.get_mut(at)) {
        Some(place) => *place = extension,
        None => extensions.push(extension),
    }
}

fn extensions_der(extensions: &[Extension]) -> Result<Vec<u8>> {
    let encoded: Vec<Vec<u8>> = extensions.iter().map(Extension::to_der).collect::<Result<_>>()?;
    Ok(der::tlv(der::SEQUENCE, &encoded.concat()))
}

/// A certificate before it is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateSpec {
    /// Big-endian serial number.
    pub serial: Vec<u8>,
    /// The algorithm, written in both places.
    pub scheme: Scheme,
    /// The algorithm inside the signed content, when it is to differ.
    pub inner_scheme: Option<Scheme>,
    /// Who signs.
    pub issuer: Name,
    /// First second.
    pub not_before: u64,
    /// Last second.
    pub not_after: u64,
    /// Who is certified.
    pub subject: Name,
    /// The certified key: SubjectPublicKeyInfo.
    pub spki: Vec<u8>,
    /// Extensions in their order; duplicates are written as asked.
    pub extensions: Vec<Extension>,
}

impl CertificateSpec {
    /// Sets or appends an extension.
    pub fn set(&mut self, extension: Extension) {
        put(&mut self.extensions, extension);
    }

    /// Takes an extension away.
    pub fn remove(&mut self, oid: &str) {
        self.extensions.retain(|e| e.oid != oid);
    }

    /// Writes an extension a second time.
    pub fn duplicate(&mut self, oid: &str) {
        if let Some(again) = position(&self.extensions, oid).and_then(|at| self.extensions.get(at)).cloned() {
            self.extensions.push(again);
        }
    }

    /// Gives it a life: from a day before `now`, so that a clock that lags does not refuse, for `years` years.
    #[must_use]
    pub fn for_years(mut self, now: u64, years: u64) -> Self {
        self.not_before = now.saturating_sub(DAY);
        self.not_after = now + years * 365 * DAY;
        self
    }

    /// The certificate, DER.
    ///
    /// # Errors
    /// `SIMULATOR_ROOT_MAKING` when the key cannot sign by the scheme.
    pub fn sign(&self, issuer: &Key) -> Result<Vec<u8>> {
        let validity = der::sequence(&[&der::time(self.not_before)?, &der::time(self.not_after)?]);
        let tbs = der::sequence(&[
            &der::explicit(0, &der::integer(2)),
            &der::unsigned(&self.serial),
            &self.inner_scheme.unwrap_or(self.scheme).identifier()?,
            &self.issuer.to_der()?,
            &validity,
            &self.subject.to_der()?,
            &self.spki,
            &der::explicit(3, &extensions_der(&self.extensions)?),
        ]);
        let signature = issuer.sign(self.scheme, &tbs)?;
        Ok(der::sequence(&[&tbs, &self.scheme.identifier()?, &der::bits(&signature)]))
    }
}

/// A revocation list before it is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrlSpec {
    /// The algorithm, written in both places.
    pub scheme: Scheme,
    /// Who signs.
    pub issuer: Name,
    /// When it is issued.
    pub this_update: u64,
    /// When the next one is due; left out when there is none.
    pub next_update: Option<u64>,
    /// Serial numbers, big-endian.
    pub revoked: Vec<Vec<u8>>,
    /// Extensions in their order.
    pub extensions: Vec<Extension>,
}

impl CrlSpec {
    /// Sets or appends an extension.
    pub fn set(&mut self, extension: Extension) {
        put(&mut self.extensions, extension);
    }

    /// Takes an extension away.
    pub fn remove(&mut self, oid: &str) {
        self.extensions.retain(|e| e.oid != oid);
    }

    /// Gives it another number.
    pub fn set_number(&mut self, number: u64) {
        self.set(Extension::crl_number(number));
    }

    /// The list, DER.
    ///
    /// # Errors
    /// `SIMULATOR_ROOT_MAKING` when the key cannot sign by the scheme.
    pub fn sign(&self, issuer: &Key) -> Result<Vec<u8>> {
        let algorithm = self.scheme.identifier()?;
        let next_update = self.next_update.map(der::time).transpose()?.unwrap_or_default();
        let mut revoked = Vec::new();
        for serial in &self.revoked {
            revoked.extend(der::sequence(&[&der::unsigned(serial), &der::time(self.this_update)?]));
        }
        let revoked = if revoked.is_empty() { revoked } else { der::tlv(der::SEQUENCE, &revoked) };
        let extensions =
            if self.extensions.is_empty() { Vec::new() } else { der::explicit(0, &extensions_der(&self.extensions)?) };
        let tbs = der::sequence(&[
            &der::integer(1),
            &algorithm,
            &self.issuer.to_der()?,
            &der::time(self.this_update)?,
            &next_update,
            &revoked,
            &extensions,
        ]);
        let signature = issuer.sign(self.scheme, &tbs)?;
        Ok(der::sequence(&[&tbs, &algorithm, &der::bits(&signature)]))
    }
}
