//! Turns freshly made keys into certificates of the shape that AMD's have: ARK, ASK, leaf and revocation list.
//! They chain to a root made on this machine and carry the simulation marker: no hardware policy can accept them.

use std::time::Duration;

use der_07::{
    Encode,
    asn1::{Any, BitString, Ia5StringRef, Null, ObjectIdentifier, OctetString, Uint, UtcTime},
    oid::AssociatedOid,
};
use p384::ecdsa::VerifyingKey;
use rsa::{
    RsaPublicKey,
    pss::{Signature, SigningKey},
    rand_core::OsRng,
    signature::{RandomizedSigner, SignatureEncoding},
};
use sha2_010::Sha384;
use vouchsafe_attestation::anchors::{
    SIMULATED_ARK_NAME, SIMULATED_ASK_NAME, SIMULATED_LEAF_NAME, SIMULATED_MARKER_OID,
};
use x509_cert_02::{
    Certificate, TbsCertificate, Version,
    crl::{CertificateList, RevokedCert, TbsCertList},
    ext::{
        Extension,
        pkix::{AuthorityKeyIdentifier, BasicConstraints, CrlNumber, KeyUsage, KeyUsages, SubjectKeyIdentifier},
    },
    name::Name,
    serial_number::SerialNumber,
    spki::{DynSignatureAlgorithmIdentifier, EncodePublicKey, SubjectPublicKeyInfoOwned},
    time::{Time, Validity},
};

use crate::report::Tcb;

/// Any failure of the DER and signature libraries: our inputs are our own, so this does not happen to a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CertificateError;

type Result<T> = core::result::Result<T, CertificateError>;

/// RSASSA-PSS with SHA-384, as AMD's certificate authorities sign.
pub type CaKey = SigningKey<Sha384>;

const DAY: u64 = 86_400;
/// The serial of the ASK in use, and of one that never was and is revoked, like AMD's.
const ARK_SERIAL: u32 = 0x2_0000;
const ASK_SERIAL: u32 = 0x2_0002;
const REVOKED_SERIAL: u32 = 0x2_0001;
/// How long a revocation list lasts. `serve` makes a new one daily.
const CRL_DAYS: u64 = 7;

/// The self-signed root.
///
/// # Errors
/// When the libraries refuse.
pub fn ark(key: &CaKey, now: u64) -> Result<Vec<u8>> {
    let public = rsa_public(key)?;
    let extensions = vec![
        extension(&KeyUsage(KeyUsages::KeyCertSign | KeyUsages::CRLSign), true)?,
        extension(&key_id(&public)?, false)?,
        extension(&BasicConstraints { ca: true, path_len_constraint: None }, true)?,
        marker()?,
    ];
    issue(key, SIMULATED_ARK_NAME, SIMULATED_ARK_NAME, ARK_SERIAL, public, years(now, 20)?, extensions)
}

/// The intermediate, signed by the root.
///
/// # Errors
/// When the libraries refuse.
pub fn ask(ark: &CaKey, key: &CaKey, now: u64) -> Result<Vec<u8>> {
    let public = rsa_public(key)?;
    let extensions = vec![
        extension(&key_id(&public)?, false)?,
        extension(&authority(ark)?, false)?,
        extension(&BasicConstraints { ca: true, path_len_constraint: Some(0) }, true)?,
        extension(&KeyUsage(KeyUsages::KeyCertSign.into()), true)?,
        marker()?,
    ];
    issue(ark, SIMULATED_ARK_NAME, SIMULATED_ASK_NAME, ASK_SERIAL, public, years(now, 20)?, extensions)
}

/// The chip's endorsement certificate: the extensions of a genuine Genoa leaf in their order, then the marker.
///
/// # Errors
/// When the libraries refuse.
pub fn leaf(ask: &CaKey, key: &VerifyingKey, chip_id: &[u8; 64], tcb: Tcb, now: u64) -> Result<Vec<u8>> {
    let product = Ia5StringRef::new("Genoa").map_err(any)?;
    let mut extensions = vec![amd("1.3.6.1.4.1.3704.1.1", &0_u8)?, amd("1.3.6.1.4.1.3704.1.2", &product)?];
    for (oid, value) in [
        ("1.3.6.1.4.1.3704.1.3.1", tcb.bootloader),
        ("1.3.6.1.4.1.3704.1.3.2", tcb.tee),
        ("1.3.6.1.4.1.3704.1.3.4", 0),
        ("1.3.6.1.4.1.3704.1.3.5", 0),
        ("1.3.6.1.4.1.3704.1.3.6", 0),
        ("1.3.6.1.4.1.3704.1.3.7", 0),
        ("1.3.6.1.4.1.3704.1.3.3", tcb.snp),
        ("1.3.6.1.4.1.3704.1.3.8", tcb.microcode),
    ] {
        extensions.push(amd(oid, &value)?);
    }
    // The hardware identifier is the one extension whose value is no DER: 64 raw bytes.
    extensions.push(raw("1.3.6.1.4.1.3704.1.4", chip_id)?);
    extensions.push(marker()?);
    let public = SubjectPublicKeyInfoOwned::from_key(*key).map_err(any)?;
    issue(ask, SIMULATED_ASK_NAME, SIMULATED_LEAF_NAME, 0, public, years(now, 7)?, extensions)
}

/// A revocation list signed by the root. It revokes one ASK serial that was never used.
///
/// # Errors
/// When the libraries refuse.
pub fn crl(ark: &CaKey, number: u64, now: u64) -> Result<Vec<u8>> {
    let number = Uint::new(&number.to_be_bytes()).map_err(any)?;
    let algorithm = ark.signature_algorithm_identifier().map_err(any)?;
    let tbs = TbsCertList {
        version: Version::V2,
        signature: algorithm.clone(),
        issuer: name(SIMULATED_ARK_NAME)?,
        this_update: time(now)?,
        next_update: Some(time(now + CRL_DAYS * DAY)?),
        revoked_certificates: Some(vec![RevokedCert {
            serial_number: SerialNumber::from(REVOKED_SERIAL),
            revocation_date: time(now)?,
            crl_entry_extensions: None,
        }]),
        crl_extensions: Some(vec![extension(&authority(ark)?, false)?, extension(&CrlNumber(number), false)?]),
    };
    let signature = sign(ark, &tbs.to_der().map_err(any)?)?;
    CertificateList { tbs_cert_list: tbs, signature_algorithm: algorithm, signature }.to_der().map_err(any)
}

fn issue(
    issuer_key: &CaKey,
    issuer: &str,
    subject: &str,
    serial: u32,
    public: SubjectPublicKeyInfoOwned,
    validity: Validity,
    extensions: Vec<Extension>,
) -> Result<Vec<u8>> {
    let algorithm = issuer_key.signature_algorithm_identifier().map_err(any)?;
    let tbs = TbsCertificate {
        version: Version::V3,
        serial_number: SerialNumber::from(serial),
        signature: algorithm.clone(),
        issuer: name(issuer)?,
        validity,
        subject: name(subject)?,
        subject_public_key_info: public,
        issuer_unique_id: None,
        subject_unique_id: None,
        extensions: Some(extensions),
    };
    let signature = sign(issuer_key, &tbs.to_der().map_err(any)?)?;
    Certificate { tbs_certificate: tbs, signature_algorithm: algorithm, signature }.to_der().map_err(any)
}

fn sign(key: &CaKey, message: &[u8]) -> Result<BitString> {
    let signature: Signature = key.try_sign_with_rng(&mut OsRng, message).map_err(any)?;
    BitString::from_bytes(&signature.to_vec()).map_err(any)
}

/// AMD's order of name parts, with an organisation that says what this is.
fn name(common: &str) -> Result<Name> {
    format!("CN={common},O=Vouchsafe simulation,OU=Not hardware").parse().map_err(any)
}

fn rsa_public(key: &CaKey) -> Result<SubjectPublicKeyInfoOwned> {
    let private: &rsa::RsaPrivateKey = key.as_ref();
    let document = RsaPublicKey::from(private).to_public_key_der().map_err(any)?;
    document.decode_msg().map_err(any)
}

fn key_id(public: &SubjectPublicKeyInfoOwned) -> Result<SubjectKeyIdentifier> {
    let bits = public.subject_public_key.raw_bytes();
    let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, bits);
    Ok(SubjectKeyIdentifier(OctetString::new(digest.as_ref()).map_err(any)?))
}

fn authority(key: &CaKey) -> Result<AuthorityKeyIdentifier> {
    let key_identifier = Some(key_id(&rsa_public(key)?)?.0);
    Ok(AuthorityKeyIdentifier { key_identifier, authority_cert_issuer: None, authority_cert_serial_number: None })
}

fn extension<E: Encode + AssociatedOid>(value: &E, critical: bool) -> Result<Extension> {
    let extn_value = OctetString::new(value.to_der().map_err(any)?).map_err(any)?;
    Ok(Extension { extn_id: E::OID, critical, extn_value })
}

fn amd(oid: &str, value: &impl Encode) -> Result<Extension> {
    raw(oid, &value.to_der().map_err(any)?)
}

fn raw(oid: &str, value: &[u8]) -> Result<Extension> {
    let extn_id = ObjectIdentifier::new(oid).map_err(any)?;
    Ok(Extension { extn_id, critical: false, extn_value: OctetString::new(value).map_err(any)? })
}

fn marker() -> Result<Extension> {
    amd(SIMULATED_MARKER_OID, &Any::from(Null))
}

/// From a day ago, so that a clock that lags does not refuse, to `years` years from now.
fn years(now: u64, years: u64) -> Result<Validity> {
    Ok(Validity { not_before: time(now.saturating_sub(DAY))?, not_after: time(now + years * 365 * DAY)? })
}

fn time(seconds: u64) -> Result<Time> {
    let at = Duration::from_secs(seconds);
    UtcTime::from_unix_duration(at)
        .map(Time::from)
        .or_else(|_| der_07::asn1::GeneralizedTime::from_unix_duration(at).map(Time::from).map_err(any))
}

fn any<E>(_: E) -> CertificateError {
    CertificateError
}

#[cfg(test)]
mod tests {
    use std::{env, fs, path::PathBuf};

    use der_07::Decode;
    use rsa::RsaPrivateKey;

    use super::*;

    /// A genuine Genoa leaf, cut out of a public repository; not committed here.
    fn genuine() -> Option<Certificate> {
        let folder = env::var_os("VOUCHSAFE_VECTORS")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors"), PathBuf::from);
        match fs::read(folder.join("snp/genoa-v5-vcek-6d1ceffa.vek.der")) {
            Ok(der) => Some(Certificate::from_der(&der).unwrap()),
            Err(_) if env::var_os("VOUCHSAFE_REQUIRE_VECTORS").is_some_and(|v| v == "1") => panic!("vectors missing"),
            Err(_) => None,
        }
    }

    #[test]
    fn a_leaf_has_the_structure_of_a_genuine_one_and_the_marker() {
        let Some(genuine) = genuine() else {
            println!("NOT RUN: a_leaf_has_the_structure_of_a_genuine_one_and_the_marker: vectors missing");
            return;
        };
        let ask = CaKey::new(RsaPrivateKey::new(&mut OsRng, 2048).unwrap());
        let vcek = p384::ecdsa::SigningKey::random(&mut OsRng);
        let genuine = genuine.tbs_certificate;
        let hwid = genuine.extensions.as_ref().unwrap().last().unwrap().extn_value.as_bytes();
        let chip_id = <[u8; 64]>::try_from(hwid).unwrap();
        let now = genuine.validity.not_before.to_unix_duration().as_secs();
        let der = leaf(&ask, vcek.verifying_key(), &chip_id, Tcb::SIMULATED, now).unwrap();
        let ours = Certificate::from_der(&der).unwrap().tbs_certificate;

        assert_eq!(ours.version, genuine.version);
        assert_eq!(ours.serial_number, genuine.serial_number);
        assert_eq!(ours.signature, genuine.signature);
        assert_eq!(ours.subject_public_key_info.algorithm, genuine.subject_public_key_info.algorithm);
        let (ours, genuine) = (ours.extensions.unwrap(), genuine.extensions.unwrap());
        let (marker, rest) = ours.split_last().unwrap();
        assert_eq!(rest, genuine, "same machine, same firmware: the very same extensions in the same order");
        assert_eq!((marker.extn_id.to_string().as_str(), marker.critical), (SIMULATED_MARKER_OID, false));
    }
}
