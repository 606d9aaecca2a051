//! The shared genuine vectors (where they are, their index, their files), and policy files of our own.

#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

pub mod files;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use vouchsafe_attestation::{Authentic, Collateral, Evidence, TdxCollateral, UnixTime, VerifyError, verify};
use vouchsafe_policies::{Class, Expected, Policy, Refusal, appraise};

/// The words of the index, what appraisal says instead, and what verification says when it refuses first.
pub const WORDS: [(&str, &str, &str); 8] = [
    ("VersionTooOld", "VERSION_TOO_OLD", ""),
    ("DebugAllowed", "DEBUG_ALLOWED", ""),
    ("AliasCheckIncomplete", "ALIAS_CHECK_INCOMPLETE", ""),
    ("TcbBelowMinimum", "TCB_BELOW_FLOOR", ""),
    ("ProvisionalFirmware", "FIRMWARE_PROVISIONAL", ""),
    ("VmplNotAllowed", "VMPL_NOT_ALLOWED", ""),
    ("VlekNotAllowed", "VLEK_NOT_ALLOWED", ""),
    ("VekExpired", "", "LEAF_EXPIRED"),
];

pub fn vectors(test: &str) -> Option<PathBuf> {
    let dir = std::env::var_os("VOUCHSAFE_VECTORS")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors")), PathBuf::from);
    if dir.join("INDEX.md").is_file() {
        return Some(dir);
    }
    assert_ne!(std::env::var("VOUCHSAFE_REQUIRE_VECTORS").as_deref(), Ok("1"), "{test}: vectors missing");
    println!("NOT RUN: {test}: vectors missing");
    None
}

pub fn at(text: &str) -> UnixTime {
    UnixTime::parse_rfc3339(text).unwrap()
}

/// The cells of every row of the index whose first cell starts so.
fn cells(dir: &Path, section: &str) -> Vec<Vec<String>> {
    let index = fs::read_to_string(dir.join("INDEX.md")).unwrap();
    let table = index.split("\n## ").find(|part| part.starts_with(section)).unwrap().to_owned();
    let rows = table.lines().filter(|line| line.starts_with("| ")).skip(1);
    rows.map(|line| line.split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// A genuine report.
pub struct Snp {
    pub name: String,
    pub product: &'static str,
    pub words: Vec<String>,
    pub report: Vec<u8>,
    collateral: Collateral,
}

/// All of them, as the index names them; every file in the directory has its row.
pub fn snp(dir: &Path) -> Vec<Snp> {
    let rows = cells(dir, "SNP");
    assert_eq!(fs::read_dir(dir.join("snp")).unwrap().count(), 2 * rows.len());
    let row = |cells: Vec<String>| {
        let product = ["Milan", "Genoa", "Turin"].into_iter().find(|p| cells[2].starts_with(p)).unwrap();
        let read = |name: String| fs::read(dir.join(name)).unwrap();
        let (name, lower) = (&cells[1], product.to_lowercase());
        let vlek = cells[4].starts_with("vlek");
        Snp {
            name: name.clone(),
            product,
            words: cells[10].split(", ").filter(|word| *word != "ACCEPT").map(str::to_owned).collect(),
            report: read(format!("snp/{name}.report.bin")),
            collateral: Collateral::SevSnp {
                leaf: read(format!("snp/{name}.vek.der")),
                crl: read(format!("amd-ca/{lower}_vcek.crl")),
                asvk: if vlek { read(format!("amd-ca/{lower}_asvk.der")) } else { Vec::new() },
            },
        }
    };
    rows.into_iter().map(row).collect()
}

impl Snp {
    pub fn verify(&self, policy: &Policy, now: UnixTime) -> Result<Authentic, VerifyError> {
        verify(&Evidence::SevSnp { report: self.report.clone() }, &self.collateral, policy.anchors(), now)
    }

    /// What the words of the index are in our codes; verification's own is left out.
    pub fn wanted(&self) -> BTreeSet<&'static str> {
        let known = |word: &String| WORDS.iter().find(|known| known.0 == word).unwrap();
        self.words.iter().map(|word| known(word).1).filter(|code| !code.is_empty()).collect()
    }

    pub fn expected(&self) -> Expected<'static> {
        Expected::Release { report_data: self.report[0x50..0x90].try_into().unwrap() }
    }

    /// The strict base with this report's own code, any machine, and `more` under `[sev-snp]`.
    pub fn policy(&self, more: &str) -> Policy {
        parse(&format!(
            "version = 1\nmode = \"hardware\"\nextends = \"hardware-snp-strict\"\nmodels = \"any\"\n[sev-snp]\n\
             measurements = [\"{}\"]\nconfig_digests = \"any\"\nplatforms = \"any\"\n{more}\n",
            hex::encode(&self.report[0x90..0xc0]),
        ))
    }
}

/// A genuine quote.
pub struct Tdx {
    pub name: String,
    pub fmspc: String,
    /// What dcap-qvl says of it.
    pub words: String,
    pub quote: Vec<u8>,
}

/// All of them, as the index names them; every quote in the directory has its row.
pub fn tdx(dir: &Path) -> Vec<Tdx> {
    let rows = cells(dir, "TDX");
    let files = fs::read_dir(dir.join("tdx")).unwrap();
    let quotes = files.filter(|file| file.as_ref().unwrap().path().to_str().unwrap().ends_with(".quote.bin"));
    assert_eq!(quotes.count(), rows.len());
    let row = |cells: Vec<String>| Tdx {
        fmspc: cells[3].clone(),
        // The words themselves hold a bar.
        words: cells[6..cells.len() - 3].join(" | "),
        quote: fs::read(dir.join("tdx").join(&cells[1])).unwrap(),
        name: cells[1].clone(),
    };
    rows.into_iter().map(row).collect()
}

impl Tdx {
    fn body(&self) -> &[u8] {
        &self.quote[if self.quote[0] == 4 { 48 } else { 54 }..]
    }

    pub fn verify(&self, collateral: &TdxCollateral, policy: &Policy, now: UnixTime) -> Result<Authentic, VerifyError> {
        let evidence = Evidence::Tdx { quote: self.quote.clone() };
        verify(&evidence, &Collateral::Tdx(collateral.clone()), policy.anchors(), now)
    }

    pub fn expected(&self) -> Expected<'static> {
        Expected::Release { report_data: self.body()[520..584].try_into().unwrap() }
    }

    /// The strict base with this quote's own code, any machine, and `more` under `[tdx]`.
    pub fn policy(&self, more: &str) -> Policy {
        parse(&self.text(more))
    }

    /// The same for one machine.
    pub fn on(&self, ppid: &str) -> Policy {
        parse(&self.text("").replace("platforms = \"any\"", &format!("platforms = [\"{ppid}\"]")))
    }

    fn text(&self, more: &str) -> String {
        let at = |offset: usize| hex::encode(&self.body()[offset..offset + 48]);
        format!(
            "version = 1\nmode = \"hardware\"\nextends = \"hardware-tdx-strict\"\nmodels = \"any\"\n[tdx]\n\
             mr_td = [\"{}\"]\nrtmr0 = [\"{}\"]\nrtmr1 = [\"{}\"]\nrtmr2 = [\"{}\"]\nrtmr3 = [\"{}\"]\n\
             config_digests = \"any\"\nplatforms = \"any\"\n{more}\n",
            at(136),
            at(328),
            at(376),
            at(424),
            at(472),
        )
    }
}

/// A bundle in the form of dcap-qvl, and two hours after its date.
pub fn bundle(path: &Path) -> (TdxCollateral, UnixTime) {
    let json: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let text = |name: &str| json[name].as_str().unwrap().to_owned();
    let bytes = |name: &str| hex::decode(text(name)).unwrap();
    let issued = |name: &str| {
        let item: serde_json::Value = serde_json::from_str(&text(name)).unwrap();
        at(item["issueDate"].as_str().unwrap())
    };
    let now = issued("tcb_info").max(issued("qe_identity")).plus(2 * 3600);
    let collateral = TdxCollateral {
        pck_crl_issuer_chain: text("pck_crl_issuer_chain"),
        root_ca_crl: bytes("root_ca_crl"),
        pck_crl: bytes("pck_crl"),
        tcb_info_issuer_chain: text("tcb_info_issuer_chain"),
        tcb_info: text("tcb_info"),
        tcb_info_signature: bytes("tcb_info_signature"),
        qe_identity_issuer_chain: text("qe_identity_issuer_chain"),
        qe_identity: text("qe_identity"),
        qe_identity_signature: bytes("qe_identity_signature"),
    };
    (collateral, now)
}

fn parse(text: &str) -> Policy {
    Policy::parse(text, &|_| Err(std::io::ErrorKind::NotFound.into())).unwrap()
}

/// The REPORT_DATA of a recorded report belongs to somebody else's protocol: binding is left out here, on purpose and only here.
pub fn codes(refusal: &Refusal) -> BTreeSet<&'static str> {
    refusal.reasons.iter().filter(|r| r.rule.class() != Class::Binding).map(|r| r.code).collect()
}

pub fn judged(authentic: Authentic, policy: &Policy, expected: &Expected<'_>) -> BTreeSet<&'static str> {
    match appraise(authentic, policy, expected) {
        Ok(appraised) => {
            assert!(!appraised.to_string().contains("SIMULATED"));
            BTreeSet::new()
        }
        Err(refusal) => codes(&refusal),
    }
}
