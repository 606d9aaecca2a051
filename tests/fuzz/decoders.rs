//! Turns any bytes into one call of a decoder, with everything else as it should be: what the fuzz targets and the seeded
//! cases of `tests/tests/fuzz.rs` both run.
//! It does not say that a decoder is right: only that it neither panics nor accepts what the base's keys did not sign.
#![allow(dead_code, reason = "each target uses one of these")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a panic here is what is looked for"
)]

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    sync::{Arc, OnceLock},
};

use vouchsafe_attestation::{
    Anchors, Collateral, Evidence, EvidenceEnvelope, Mode, TdxCollateral, UnixTime, collateral, lp::sha256, verify,
};
use vouchsafe_policies::Policy;
use vouchsafe_sealed::{SealedError, Shelf, Volume};

/// The committed base of each technology: accepted evidence whose keys exist no more.
pub const REPORT: &[u8] = include_bytes!("../vectors/evidence/sev-snp/base/report.bin");
pub const LEAF: &[u8] = include_bytes!("../vectors/evidence/sev-snp/base/leaf.der");
pub const CRL: &[u8] = include_bytes!("../vectors/evidence/sev-snp/base/crl.der");
pub const SNP_ROOT: &[u8] = include_bytes!("../vectors/evidence/sev-snp/base/root.pem");
pub const SNP_POLICY: &str = include_str!("../vectors/evidence/sev-snp/base/policy.toml");
pub const QUOTE: &[u8] = include_bytes!("../vectors/evidence/tdx/base/quote.bin");
pub const COLLATERAL: &[u8] = include_bytes!("../vectors/evidence/tdx/base/collateral.json");
pub const TDX_ROOT: &[u8] = include_bytes!("../vectors/evidence/tdx/base/root.pem");
pub const TDX_POLICY: &str = include_str!("../vectors/evidence/tdx/base/policy.toml");
/// A volume of two packages, and the key that signed both.
pub const VOLUME: &[u8] = include_bytes!("../vectors/volume/accept-two-models/volume.bin");
const VENDOR: &str = include_str!("../vectors/sealed/accept-small/vendor.pub");
/// 2026-06-01T00:00:00Z, the time of the committed cases.
const AT: UnixTime = UnixTime(1_780_272_000);
/// Header and body of a version 4 quote: what its attestation key signs.
const SIGNED_QUOTE: usize = 48 + 584;

/// What became of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Something was read and accepted: only what says the same as the base may be.
    Accepted,
    Refused,
}

fn snp_anchors() -> &'static Anchors {
    static ANCHORS: OnceLock<Anchors> = OnceLock::new();
    ANCHORS.get_or_init(|| Anchors::simulated(SNP_ROOT, &sha256(SNP_ROOT)).unwrap())
}

fn tdx_anchors() -> &'static Anchors {
    static ANCHORS: OnceLock<Anchors> = OnceLock::new();
    ANCHORS.get_or_init(|| Anchors::simulated(TDX_ROOT, &sha256(TDX_ROOT)).unwrap())
}

fn tdx_collateral() -> &'static TdxCollateral {
    static COLLATERAL_OF_BASE: OnceLock<TdxCollateral> = OnceLock::new();
    COLLATERAL_OF_BASE.get_or_init(|| serde_json::from_slice(COLLATERAL).unwrap())
}

fn snp(report: &[u8], leaf: &[u8], crl: &[u8]) -> Fate {
    let collateral = Collateral::SevSnp { leaf: leaf.to_vec(), crl: crl.to_vec(), asvk: Vec::new() };
    fate(&Evidence::SevSnp { report: report.to_vec() }, &collateral, snp_anchors())
}

fn tdx(quote: &[u8], collateral: &TdxCollateral) -> Fate {
    fate(&Evidence::Tdx { quote: quote.to_vec() }, &Collateral::Tdx(collateral.clone()), tdx_anchors())
}

fn fate(evidence: &Evidence, collateral: &Collateral, anchors: &Anchors) -> Fate {
    match verify(evidence, collateral, anchors, AT) {
        Ok(authentic) => {
            assert_eq!(authentic.mode(), Mode::Simulation);
            Fate::Accepted
        }
        Err(error) => {
            assert!(matches!(error.exit(), 2 | 3) && !error.to_string().is_empty());
            Fate::Refused
        }
    }
}

/// Only what says the same as the base may be accepted.
fn only_if(same: bool, fate: Fate) -> Fate {
    assert!(same || fate == Fate::Refused, "something that nobody signed was accepted");
    fate
}

/// An SEV-SNP report; also what a fetcher reads of it, which nobody signed.
pub fn report(bytes: &[u8]) -> Fate {
    let _ = collateral::sought_by_report(bytes, None);
    only_if(bytes == REPORT, snp(bytes, LEAF, CRL))
}

/// A TDX quote. The text of its chain may have other line ends; what is signed may not differ.
pub fn quote(bytes: &[u8]) -> Fate {
    let _ = collateral::sought_by_quote(bytes);
    only_if(bytes.get(..SIGNED_QUOTE) == QUOTE.get(..SIGNED_QUOTE), tdx(bytes, tdx_collateral()))
}

/// A leaf certificate, DER or PEM.
pub fn certificate(bytes: &[u8]) -> Fate {
    let _ = collateral::der_of(bytes.to_vec());
    only_if(bytes == LEAF, snp(REPORT, bytes, CRL))
}

/// A revocation list: AMD's form, and both of Intel's.
pub fn crl(bytes: &[u8]) -> Fate {
    let base = tdx_collateral();
    let root = TdxCollateral { root_ca_crl: bytes.to_vec(), ..base.clone() };
    let pck = TdxCollateral { pck_crl: bytes.to_vec(), ..base.clone() };
    let fates = [
        only_if(bytes == CRL, snp(REPORT, LEAF, bytes)),
        only_if(bytes == base.root_ca_crl, tdx(QUOTE, &root)),
        only_if(bytes == base.pck_crl, tdx(QUOTE, &pck)),
    ];
    if fates.contains(&Fate::Accepted) { Fate::Accepted } else { Fate::Refused }
}

/// The JSON of TDX collateral, as it travels and as a file. Chains may have other line ends; nothing signed may differ.
pub fn collateral_json(bytes: &[u8]) -> Fate {
    if let Ok(collateral) = serde_json::from_slice::<TdxCollateral>(bytes) {
        return tdx_collateral_of(&collateral);
    }
    let Ok(file) = collateral::parse(bytes) else { return Fate::Refused };
    if let Ok(items) = collateral::items(&file) {
        assert!(!items.is_empty());
    }
    assert_eq!(collateral::parse(&collateral::to_bytes(&file)).unwrap(), file);
    match &file {
        Collateral::Tdx(collateral) => tdx_collateral_of(collateral),
        Collateral::SevSnp { leaf, crl, .. } => only_if(leaf == LEAF && crl == CRL, snp(REPORT, leaf, crl)),
    }
}

fn tdx_collateral_of(collateral: &TdxCollateral) -> Fate {
    only_if(signed_parts(collateral) == signed_parts(tdx_collateral()), tdx(QUOTE, collateral))
}

/// Both bases as collateral files.
pub fn collateral_files() -> [Vec<u8>; 2] {
    let snp = Collateral::SevSnp { leaf: LEAF.to_vec(), crl: CRL.to_vec(), asvk: Vec::new() };
    [snp, Collateral::Tdx(tdx_collateral().clone())].map(|file| collateral::to_bytes(&file))
}

fn signed_parts(c: &TdxCollateral) -> [&[u8]; 6] {
    [
        &c.root_ca_crl,
        &c.pck_crl,
        c.tcb_info.as_bytes(),
        &c.tcb_info_signature,
        c.qe_identity.as_bytes(),
        &c.qe_identity_signature,
    ]
}

/// A policy file. Whatever is read has anchors of its own mode, and a simulated root has the digest that the text names.
pub fn policy(bytes: &[u8]) -> Fate {
    let Ok(text) = core::str::from_utf8(bytes) else { return Fate::Refused };
    let read = |name: &str| match name {
        "root.pem" => Ok(SNP_ROOT.to_vec()),
        "other-root.pem" => Ok(TDX_ROOT.to_vec()),
        _ => Err(io::ErrorKind::NotFound.into()),
    };
    match Policy::parse(text, &read) {
        Ok(policy) => {
            assert_eq!(policy.mode(), policy.anchors().mode());
            assert_eq!(policy.digest(), sha256(bytes));
            assert!(!policy.tee_accepted().is_empty());
            let roots = [sha256(SNP_ROOT), sha256(TDX_ROOT)];
            assert!(policy.mode() == Mode::Hardware || roots.contains(&policy.anchors().id()));
            Fate::Accepted
        }
        Err(error) => {
            assert!(!error.code().is_empty() && !error.to_string().is_empty());
            Fate::Refused
        }
    }
}

/// Evidence as it travels: JSON, caps, verification.
pub fn evidence_envelope(bytes: &[u8]) -> Fate {
    let Ok(envelope) = serde_json::from_slice::<EvidenceEnvelope>(bytes) else { return Fate::Refused };
    let Ok((evidence, collateral)) = envelope.into_parts() else { return Fate::Refused };
    let (same, anchors) = match &evidence {
        Evidence::SevSnp { report } => (report == REPORT, snp_anchors()),
        Evidence::Tdx { quote } => (quote.get(..SIGNED_QUOTE) == QUOTE.get(..SIGNED_QUOTE), tdx_anchors()),
    };
    only_if(same, fate(&evidence, &collateral, anchors))
}

/// Both envelopes of the base.
pub fn envelopes() -> [Vec<u8>; 2] {
    let snp = EvidenceEnvelope::sev_snp(REPORT.to_vec(), LEAF.to_vec(), CRL.to_vec());
    let tdx = EvidenceEnvelope::tdx(QUOTE.to_vec(), tdx_collateral().clone());
    [snp, tdx].map(|envelope| serde_json::to_vec(&envelope).unwrap())
}

/// A volume, one package on it, and that package's blobs: as these bytes, and with these bytes as the index of the base.
pub fn volume(bytes: &[u8]) -> Fate {
    let fates = [volume_of(bytes), volume_of(&with_index(bytes))];
    if fates.contains(&Fate::Accepted) { Fate::Accepted } else { Fate::Refused }
}

/// Which of the vendor's packages stands where is the host's to say.
fn volume_of(bytes: &[u8]) -> Fate {
    static PACKAGES_OF_BASE: OnceLock<[[u8; 32]; 2]> = OnceLock::new();
    let base = PACKAGES_OF_BASE.get_or_init(|| ["empty", "vector"].map(|id| package(VOLUME, id).unwrap()));
    match package(bytes, "vector") {
        Ok(manifest) => only_if(base.contains(&manifest), Fate::Accepted),
        Err(error) => {
            assert!(matches!(error.exit(), 2 | 6 | 9) && !error.to_string().is_empty());
            Fate::Refused
        }
    }
}

/// The manifest digest of a package whose every blob was compared.
fn package(volume: &[u8], id: &str) -> Result<[u8; 32], SealedError> {
    let device = File::from(rustix::fs::memfd_create("volume", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
    device.write_all_at(volume, 0).unwrap();
    let shelf = Shelf::Volume(Arc::new(Volume::open(device)?));
    let package = shelf.package(id, &[VENDOR.trim().parse().unwrap()])?;
    package.verify_blobs(&mut |_, _| {})?;
    Ok(package.manifest_digest())
}

/// The index of the base.
pub fn volume_index() -> &'static [u8] {
    let length = u64::from_be_bytes(VOLUME[32..40].try_into().unwrap());
    &VOLUME[40..40 + usize::try_from(length).unwrap()]
}

fn with_index(index: &[u8]) -> Vec<u8> {
    let mut head = [&VOLUME[..32], &(index.len() as u64).to_be_bytes(), index].concat();
    head.resize(head.len().next_multiple_of(4096), 0);
    let rest = VOLUME.get(head.len()..).unwrap_or_default();
    [&head, rest].concat()
}
