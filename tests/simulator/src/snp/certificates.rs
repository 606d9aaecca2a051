//! Turns keys into descriptions of certificates of the shape that AMD's have: ARK, ASK, ASVK, VCEK, VLEK, revocation list.
//! They chain to a root made on this machine and carry the simulation marker: no hardware policy can accept them.

use vouchsafe_attestation::anchors::{SIMULATED_ARK_NAME, SIMULATED_ASK_NAME, SIMULATED_LEAF_NAME};

use super::Tcb;
use crate::{
    SimulatorError, der,
    keys::{Key, Scheme},
    x509::{CertificateSpec, CrlSpec, Extension, Name, USAGE_CERTIFICATES, USAGE_CERTIFICATES_AND_LISTS},
};

type Result<T> = core::result::Result<T, SimulatorError>;

const DAY: u64 = 86_400;
/// The serial of the root.
pub const ARK_SERIAL: [u8; 3] = [2, 0, 0];
/// The serial of the ASK in use.
pub const ASK_SERIAL: [u8; 3] = [2, 0, 2];
/// The serial of an ASK that never was and is revoked, like AMD's.
pub const REVOKED_SERIAL: [u8; 3] = [2, 0, 1];
/// The serial of the ASVK.
pub const ASVK_SERIAL: [u8; 3] = [2, 0, 3];
/// How long a revocation list lasts. `serve` makes a new one daily.
const CRL_DAYS: u64 = 7;

/// Common name of the simulated authority of loaded keys.
pub const ASVK_NAME: &str = "ASVK-SIM";
/// Common name of a simulated loaded key.
pub const VLEK_NAME: &str = "VLEK-SIM";

// AMD 57230: extensions of endorsement certificates.
/// Version of the structure.
pub const STRUCT_VERSION: &str = "1.3.6.1.4.1.3704.1.1";
/// Name of the product.
pub const PRODUCT_NAME: &str = "1.3.6.1.4.1.3704.1.2";
/// Boot loader.
pub const BOOTLOADER_SPL: &str = "1.3.6.1.4.1.3704.1.3.1";
/// PSP operating system.
pub const TEE_SPL: &str = "1.3.6.1.4.1.3704.1.3.2";
/// SNP firmware.
pub const SNP_SPL: &str = "1.3.6.1.4.1.3704.1.3.3";
/// Microcode.
pub const MICROCODE_SPL: &str = "1.3.6.1.4.1.3704.1.3.8";
/// First mutable code (Turin).
pub const FMC_SPL: &str = "1.3.6.1.4.1.3704.1.3.9";
/// The chip.
pub const HWID: &str = "1.3.6.1.4.1.3704.1.4";
/// The cloud provider of a VLEK.
pub const CSP_ID: &str = "1.3.6.1.4.1.3704.1.5";

/// What an endorsement certificate says besides its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endorsement {
    /// `Genoa`, `Milan-B0`, …
    pub product: String,
    /// Security versions.
    pub tcb: Tcb,
    /// The chip (VCEK): 64 bytes, 8 on Turin. `None` leaves the extension out, as a VLEK does.
    pub hwid: Option<Vec<u8>>,
    /// The cloud provider (VLEK), such as `CN=cc-us-east-2.amazonaws.com`.
    pub csp: Option<String>,
}

/// The self-signed root.
///
/// # Errors
/// When a library refuses.
pub fn ark(key: &Key, now: u64) -> Result<CertificateSpec> {
    let spki = key.spki()?;
    let extensions = vec![
        Extension::key_usage(USAGE_CERTIFICATES_AND_LISTS),
        Extension::subject_key_id(&spki),
        Extension::basic_constraints(true, None),
        Extension::marker(),
    ];
    Ok(spec(SIMULATED_ARK_NAME, SIMULATED_ARK_NAME, &ARK_SERIAL, spki, extensions).for_years(now, 20))
}

/// An intermediate under the root: the ASK, or the ASVK by its name and serial.
///
/// # Errors
/// When a library refuses.
pub fn intermediate(name: &str, serial: &[u8], key: &Key, ark: &Key, now: u64) -> Result<CertificateSpec> {
    let spki = key.spki()?;
    let extensions = vec![
        Extension::subject_key_id(&spki),
        Extension::authority_key_id(&ark.spki()?),
        Extension::basic_constraints(true, Some(0)),
        Extension::key_usage(USAGE_CERTIFICATES),
        Extension::marker(),
    ];
    Ok(spec(SIMULATED_ARK_NAME, name, serial, spki, extensions).for_years(now, 20))
}

/// The ASK.
///
/// # Errors
/// When a library refuses.
pub fn ask(ark: &Key, key: &Key, now: u64) -> Result<CertificateSpec> {
    intermediate(SIMULATED_ASK_NAME, &ASK_SERIAL, key, ark, now)
}

/// The ASVK.
///
/// # Errors
/// When a library refuses.
pub fn asvk(ark: &Key, key: &Key, now: u64) -> Result<CertificateSpec> {
    intermediate(ASVK_NAME, &ASVK_SERIAL, key, ark, now)
}

/// The chip's endorsement certificate: the extensions of a genuine leaf in their order, then the marker.
#[must_use]
pub fn vcek(spki: Vec<u8>, endorsement: &Endorsement, now: u64) -> CertificateSpec {
    let extensions = endorsement.extensions();
    spec(SIMULATED_ASK_NAME, SIMULATED_LEAF_NAME, &[0], spki, extensions).for_years(now, 7)
}

/// A loaded key's endorsement certificate.
#[must_use]
pub fn vlek(spki: Vec<u8>, endorsement: &Endorsement, now: u64) -> CertificateSpec {
    spec(ASVK_NAME, VLEK_NAME, &[0], spki, endorsement.extensions()).for_years(now, 1)
}

/// A revocation list of the root. It revokes one ASK serial that was never used.
///
/// # Errors
/// When a library refuses.
pub fn crl(ark: &Key, number: u64, now: u64) -> Result<CrlSpec> {
    Ok(CrlSpec {
        scheme: Scheme::Pss384,
        issuer: Name::simulated(SIMULATED_ARK_NAME),
        this_update: now,
        next_update: Some(now + CRL_DAYS * DAY),
        revoked: vec![REVOKED_SERIAL.to_vec()],
        extensions: vec![Extension::authority_key_id(&ark.spki()?), Extension::crl_number(number)],
    })
}

impl Endorsement {
    fn extensions(&self) -> Vec<Extension> {
        let Tcb { fmc, bootloader, tee, snp, microcode } = self.tcb;
        let mut extensions = vec![
            Extension::new(STRUCT_VERSION, der::integer(u64::from(fmc.is_some()))),
            Extension::new(PRODUCT_NAME, der::tlv(der::IA5_STRING, self.product.as_bytes())),
        ];
        let spare = |n: u8| (format!("1.3.6.1.4.1.3704.1.3.{n}"), 0);
        let levels = match fmc {
            None => [
                (BOOTLOADER_SPL.into(), bootloader),
                (TEE_SPL.into(), tee),
                spare(4),
                spare(5),
                spare(6),
                spare(7),
                (SNP_SPL.into(), snp),
                (MICROCODE_SPL.into(), microcode),
            ],
            Some(fmc) => [
                (FMC_SPL.into(), fmc),
                (BOOTLOADER_SPL.into(), bootloader),
                (TEE_SPL.into(), tee),
                (SNP_SPL.into(), snp),
                spare(5),
                spare(6),
                spare(7),
                (MICROCODE_SPL.into(), microcode),
            ],
        };
        let levels: [(String, u8); 8] = levels;
        extensions.extend(levels.iter().map(|(oid, level)| Extension::new(oid, der::integer((*level).into()))));
        if let Some(hwid) = &self.hwid {
            // The one extension whose value is no DER: raw bytes.
            extensions.push(Extension::new(HWID, hwid.clone()));
        }
        if let Some(csp) = &self.csp {
            extensions.push(Extension::new(CSP_ID, der::tlv(der::IA5_STRING, csp.as_bytes())));
        }
        extensions.push(Extension::marker());
        extensions
    }
}

fn spec(issuer: &str, subject: &str, serial: &[u8], spki: Vec<u8>, extensions: Vec<Extension>) -> CertificateSpec {
    CertificateSpec {
        serial: serial.to_vec(),
        scheme: Scheme::Pss384,
        inner_scheme: None,
        issuer: Name::simulated(issuer),
        not_before: 0,
        not_after: 0,
        subject: Name::simulated(subject),
        spki,
        extensions,
    }
}

#[cfg(test)]
mod tests {
    use std::{env, fs, path::PathBuf};

    use der_07::Decode;
    use x509_cert_02::Certificate;

    use super::*;

    /// Genuine leaves, cut out of public repositories; not committed here.
    fn genuine(name: &str) -> Option<Certificate> {
        let folder = env::var_os("VOUCHSAFE_VECTORS")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors"), PathBuf::from);
        match fs::read(folder.join(format!("snp/{name}.vek.der"))) {
            Ok(der) => Some(Certificate::from_der(&der).unwrap()),
            Err(_) if env::var_os("VOUCHSAFE_REQUIRE_VECTORS").is_some_and(|v| v == "1") => panic!("vectors missing"),
            Err(_) => None,
        }
    }

    #[test]
    fn leaves_have_the_structure_of_genuine_ones_and_the_marker() {
        let authority = Key::rsa(2048).unwrap();
        let turin = Tcb { fmc: Some(1), bootloader: 1, tee: 1, snp: 4, microcode: 0x51 };
        let genoa = Tcb { tee: 0, ..Tcb::SIMULATED };
        let milan = Tcb { fmc: None, bootloader: 4, tee: 0, snp: 0x18, microcode: 0xd9 };
        for (vector, product, tcb, csp) in [
            ("genoa-v5-vcek-6d1ceffa", "Genoa", genoa, None),
            ("turin-v5-vcek-85da705e", "Turin", turin, None),
            ("milan-v3-vlek-decdab94", "Milan", milan, Some("CN=cc-us-east-2.amazonaws.com")),
        ] {
            let Some(genuine) = genuine(vector) else {
                println!("NOT RUN: leaves_have_the_structure_of_genuine_ones_and_the_marker: vectors missing");
                return;
            };
            let genuine = genuine.tbs_certificate;
            let last = genuine.extensions.as_ref().unwrap().last().unwrap().extn_value.as_bytes().to_vec();
            let hwid = csp.is_none().then_some(last);
            let endorsement = Endorsement { product: product.into(), tcb, hwid, csp: csp.map(str::to_owned) };
            let now = genuine.validity.not_before.to_unix_duration().as_secs();
            let make = if csp.is_some() { vlek } else { vcek };
            let der = make(Key::p384().spki().unwrap(), &endorsement, now).sign(&authority).unwrap();
            let ours = Certificate::from_der(&der).unwrap().tbs_certificate;

            assert_eq!(ours.version, genuine.version);
            assert_eq!(ours.serial_number, genuine.serial_number);
            assert_eq!(ours.signature.oid, genuine.signature.oid);
            assert_eq!(ours.subject_public_key_info.algorithm, genuine.subject_public_key_info.algorithm);
            let (ours, genuine) = (ours.extensions.unwrap(), genuine.extensions.unwrap());
            let (marker, rest) = ours.split_last().unwrap();
            assert_eq!(rest, genuine, "{vector}: the very same extensions in the same order");
            assert_eq!((marker.extn_id.to_string(), marker.critical), (Extension::marker().oid, false));
        }
    }
}
