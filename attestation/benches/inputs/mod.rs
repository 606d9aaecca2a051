//! Turns shared vectors, or the peers' own samples, into the inputs of the table.
//! It does not verify them: a contender that refuses ends the run.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use dcap_qvl::QuoteCollateralV3;
use ring::signature::{ECDSA_P384_SHA384_FIXED, RSA_PSS_2048_8192_SHA384, UnparsedPublicKey};
use vouchsafe_attestation::{Collateral, Evidence, TdxCollateral, UnixTime};

/// A time at which leaf and list of the shared Genoa vector are in force.
const SNP_AT: UnixTime = UnixTime(1_772_323_200); // 2026-03-01T00:00:00Z
const SNP_NAME: &str = "genoa-v5-vcek-6d1ceffa";
const TDX_NAME: &str = "tdx-v4-bt2-b0c06f000000-f1c85033";
const TDX_COLLATERAL: &str = "b0c06f000000_2026-06-29_eval19.json";

/// What the table cannot do without.
#[derive(Debug)]
pub struct Missing(pub &'static str);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "missing or refused: {}", self.0)
    }
}

/// SEV-SNP: the same bytes for everybody.
pub struct Snp {
    pub source: String,
    pub report: Vec<u8>,
    pub leaf: Vec<u8>,
    pub evidence: Evidence,
    pub collateral: Collateral,
    pub at: UnixTime,
    report_key: Vec<u8>,
    report_signature: Vec<u8>,
    ark_key: Vec<u8>,
    ask_key: Vec<u8>,
    crl: Vec<u8>,
}

impl Snp {
    /// The genuine Genoa vector. No crate carries a revocation list, and without one nothing is verified cold.
    pub fn find() -> Result<Self, Missing> {
        let dir = vectors().ok_or(Missing("the shared vectors of SEV-SNP (no crate carries a revocation list)"))?;
        let read = |path: String| {
            fs::read(dir.join(path)).map_err(|_| Missing("the genuine Genoa report of the shared vectors"))
        };
        let report = read(format!("snp/{SNP_NAME}.report.bin"))?;
        let leaf = read(format!("snp/{SNP_NAME}.vek.der"))?;
        let crl = read("amd-ca/genoa_vcek.crl".to_owned())?;
        let malformed = Missing("a well-formed certificate");
        let (ark, ask) = (read("amd-ca/genoa_ark.der".to_owned())?, read("amd-ca/genoa_ask.der".to_owned())?);
        let (ark_key, ask_key, report_key) = (key_of(&ark), key_of(&ask), key_of(&leaf));
        let (Some(ark_key), Some(ask_key), Some(report_key)) = (ark_key, ask_key, report_key) else {
            return Err(malformed);
        };
        let mut report_signature: Vec<u8> = report[0x2a0..0x2d0].iter().rev().copied().collect();
        report_signature.extend(report[0x2e8..0x318].iter().rev());
        Ok(Self {
            source: format!("{SNP_NAME} of the shared vectors, genuine, with AMD's list"),
            evidence: Evidence::SevSnp { report: report.clone() },
            collateral: Collateral::SevSnp { leaf: leaf.clone(), crl: crl.clone(), asvk: Vec::new() },
            at: SNP_AT,
            report,
            leaf,
            report_key,
            report_signature,
            ark_key,
            ask_key,
            crl,
        })
    }

    /// The report under the leaf's key: hash and P-384.
    pub fn p384(&self) -> bool {
        UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, &self.report_key)
            .verify(&self.report[..0x2a0], &self.report_signature)
            .is_ok()
    }

    /// The leaf under the ASK, the list under the ARK: hash and RSA-4096 each. The anchors themselves are verified at start.
    pub fn rsa(&self) -> bool {
        rsa(&self.leaf, &self.ask_key) && rsa(&self.crl, &self.ark_key)
    }
}

fn rsa(signed: &[u8], key: &[u8]) -> bool {
    let Some((tbs, signature)) = halves(signed) else { return false };
    UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA384, key).verify(tbs, signature).is_ok()
}

/// TDX: one quote, and its collateral in both crates' forms.
pub struct Tdx {
    pub source: String,
    pub quote: Vec<u8>,
    pub theirs: QuoteCollateralV3,
    pub evidence: Evidence,
    pub collateral: Collateral,
    pub at: UnixTime,
}

impl Tdx {
    /// The shared vector, or else the sample that dcap-qvl carries in its own sources.
    pub fn find() -> Result<Self, Missing> {
        let found = vectors().and_then(|dir| {
            let quote = fs::read(dir.join(format!("tdx/{TDX_NAME}.quote.bin"))).ok()?;
            let json = fs::read(dir.join("tdx").join(TDX_COLLATERAL)).ok()?;
            Some((format!("{TDX_NAME} of the shared vectors, genuine"), quote, json))
        });
        let found = found.or_else(|| {
            let sample = dcap_dir()?.join("sample");
            let quote = fs::read(sample.join("tdx_quote")).ok()?;
            let json = fs::read(sample.join("tdx_quote_collateral.json")).ok()?;
            Some(("the sample quote in dcap-qvl's own sources, genuine".to_owned(), quote, json))
        });
        let (source, quote, json) =
            found.ok_or(Missing("a TDX quote: neither shared vectors nor dcap-qvl's sample"))?;
        let theirs: QuoteCollateralV3 =
            serde_json::from_slice(&json).map_err(|_| Missing("collateral in dcap-qvl's form"))?;
        let at = in_force(&theirs).ok_or(Missing("an issue date in the collateral"))?;
        let ours = TdxCollateral {
            pck_crl_issuer_chain: theirs.pck_crl_issuer_chain.clone(),
            root_ca_crl: theirs.root_ca_crl.clone(),
            pck_crl: theirs.pck_crl.clone(),
            tcb_info_issuer_chain: theirs.tcb_info_issuer_chain.clone(),
            tcb_info: theirs.tcb_info.clone(),
            tcb_info_signature: theirs.tcb_info_signature.clone(),
            qe_identity_issuer_chain: theirs.qe_identity_issuer_chain.clone(),
            qe_identity: theirs.qe_identity.clone(),
            qe_identity_signature: theirs.qe_identity_signature.clone(),
        };
        Ok(Self {
            source,
            evidence: Evidence::Tdx { quote: quote.clone() },
            collateral: Collateral::Tdx(ours),
            quote,
            theirs,
            at,
        })
    }
}

/// Two hours after the later of the two issue dates.
fn in_force(collateral: &QuoteCollateralV3) -> Option<UnixTime> {
    let date = |json: &str| {
        let after = json.split("\"issueDate\":\"").nth(1)?;
        UnixTime::parse_rfc3339(after.split('"').next()?).ok()
    };
    let later = date(&collateral.tcb_info)?.max(date(&collateral.qe_identity)?);
    Some(UnixTime(later.0 + 2 * 3600))
}

fn vectors() -> Option<PathBuf> {
    let dir = std::env::var_os("VOUCHSAFE_VECTORS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors"), PathBuf::from);
    dir.join("INDEX.md").exists().then_some(dir)
}

fn dcap_dir() -> Option<PathBuf> {
    let metadata = cargo_metadata::MetadataCommand::new()
        .manifest_path(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .other_options(["--offline", "--filter-platform", "x86_64-unknown-linux-gnu"].map(str::to_owned))
        .exec()
        .ok()?;
    let package = metadata.packages.iter().find(|p| p.name.as_str() == "dcap-qvl")?;
    package.manifest_path.parent().map(|dir| dir.as_std_path().to_owned())
}

/// The subject's public key as ring wants it, by the crate x509-cert.
fn key_of(der: &[u8]) -> Option<Vec<u8>> {
    use der::Decode as _;
    let certificate = x509_cert::Certificate::from_der(der).ok()?;
    Some(certificate.tbs_certificate().subject_public_key_info().subject_public_key.raw_bytes().to_vec())
}

/// `SEQUENCE { signed, algorithm, BIT STRING }` -> the signed bytes as they are, and the signature.
fn halves(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (_, outer, _) = element(der)?;
    let (signed, _, rest) = element(outer)?;
    let (_, _, rest) = element(rest)?;
    let (_, bits, _) = element(rest)?;
    Some((signed, bits.get(1..)?))
}

/// The first element: all of it, its content, and what follows.
fn element(der: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (header, length) = match *der.get(1)? {
        short @ 0..=0x7f => (2, usize::from(short)),
        0x81 => (3, usize::from(*der.get(2)?)),
        0x82 => (4, usize::from(*der.get(2)?) << 8 | usize::from(*der.get(3)?)),
        _ => return None,
    };
    let end = header + length;
    Some((der.get(..end)?, der.get(header..end)?, der.get(end..)?))
}
