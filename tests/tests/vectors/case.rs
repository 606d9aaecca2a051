//! Turns the directories under `tests/vectors/evidence` into cases: bytes to judge, and what they must come to.
//! It does not judge them. Shared by the walkers of `vouchsafe-attestation` and of `vouchsafe-tests`.
#![allow(dead_code, reason = "each walker uses a part")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a case that cannot be read is a failed test")]
#![allow(clippy::disallowed_methods, reason = "these tests are about the anchors themselves")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use vouchsafe_attestation::{
    Anchors, Authentic, Collateral, Evidence, TdxCollateral, UnixTime, VerifyError, lp::sha256, verify,
};

/// The code of a case that is accepted.
pub const ACCEPTED: &str = "ACCEPTED";
/// Every file that a case or a base may have, by technology. Anything else is refused by the walkers.
const FILES: [(&str, &[&str]); 2] = [
    (
        "sev-snp",
        &[
            "asvk.der",
            "claims.json",
            "crl.der",
            "envelope.json",
            "leaf.der",
            "other-root.pem",
            "policy.toml",
            "report.bin",
            "root.pem",
            "session.json",
        ],
    ),
    (
        "tdx",
        &[
            "claims.json",
            "collateral.json",
            "envelope.json",
            "other-root.pem",
            "policy.toml",
            "quote.bin",
            "root.pem",
            "session.json",
        ],
    ),
];
/// The lines of `case.toml`.
const KEYS: [&str; 11] =
    ["what", "kind", "step", "code", "codes", "exit", "at", "report_data", "root_sha256", "anchors", "collateral"];

/// What a case is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Verification alone.
    Verify,
    /// Verification, which accepts, then appraisal.
    Appraise,
    /// The policy file alone.
    Policy,
}

/// One committed case.
pub struct Case {
    /// `sev-snp` or `tdx`.
    pub tee: &'static str,
    pub name: String,
    pub what: String,
    pub kind: Kind,
    /// The step that refuses, for a refused verification.
    pub step: Option<u8>,
    pub code: String,
    /// Every reason of an appraisal; the code alone where `case.toml` does not list more.
    pub codes: Vec<String>,
    pub exit: u8,
    pub at: UnixTime,
    report_data: Option<[u8; 64]>,
    root_sha256: Option<[u8; 32]>,
    hardware: bool,
    collateral: &'static str,
    /// The base's files, overlaid with the case's own.
    files: BTreeMap<String, Vec<u8>>,
    all: PathBuf,
}

/// `tests/vectors/evidence`, seen from a crate's own directory.
pub fn directory(manifest_dir: &str) -> PathBuf {
    let crate_dir = Path::new(manifest_dir);
    let tests = if crate_dir.ends_with("tests") { crate_dir.to_owned() } else { crate_dir.join("../tests") };
    tests.join("vectors/evidence")
}

/// Every case, sorted by technology and name. Anything that is not a case ends the test.
pub fn all(dir: &Path) -> Vec<Case> {
    let mut cases = Vec::new();
    for tee in names(dir) {
        let (tee, known) = FILES.into_iter().find(|(known, _)| *known == tee).expect("a directory per technology");
        let base = files(&dir.join(tee).join("base"), known);
        assert!(!base.is_empty(), "{tee}: the base is empty");
        for name in names(&dir.join(tee)) {
            if name != "base" {
                cases.push(case(dir, tee, &name, known, &base));
            }
        }
    }
    cases
}

fn case(all: &Path, tee: &'static str, name: &str, known: &[&str], base: &BTreeMap<String, Vec<u8>>) -> Case {
    let dir = all.join(tee).join(name);
    let text = fs::read_to_string(dir.join("case.toml")).unwrap_or_else(|e| panic!("{tee}/{name}: case.toml: {e}"));
    let table: toml::Table = text.parse().unwrap_or_else(|e| panic!("{tee}/{name}: {e}"));
    let unknown: Vec<_> = table.keys().filter(|key| !KEYS.contains(&key.as_str())).collect();
    assert!(unknown.is_empty(), "{tee}/{name}: unknown {unknown:?}");
    let optional = |key: &str| table.get(key).map(|value| value.as_str().expect(key).to_owned());
    let string = |key: &str| optional(key).unwrap_or_else(|| panic!("{tee}/{name}: no {key}"));
    let number = |key: &str| table.get(key).map(|value| u8::try_from(value.as_integer().expect(key)).expect(key));
    let own = files(&dir, known);
    for (file, bytes) in &own {
        assert_ne!(base.get(file), Some(bytes), "{tee}/{name}: {file} is the base's");
    }
    let mut overlaid = base.clone();
    overlaid.extend(own);
    let code = string("code");
    let codes = table.get("codes").map_or_else(
        || vec![code.clone()],
        |list| list.as_array().unwrap().iter().map(|code| code.as_str().unwrap().to_owned()).collect(),
    );
    Case {
        tee,
        name: name.to_owned(),
        what: string("what"),
        kind: match string("kind").as_str() {
            "verify" => Kind::Verify,
            "appraise" => Kind::Appraise,
            "policy" => Kind::Policy,
            other => panic!("{tee}/{name}: kind {other}"),
        },
        step: number("step"),
        code,
        codes,
        exit: number("exit").unwrap_or_else(|| panic!("{tee}/{name}: no exit")),
        at: UnixTime::parse_rfc3339(&string("at")).unwrap(),
        report_data: optional("report_data").map(|text| array(&text)),
        root_sha256: optional("root_sha256").map(|text| array(&text)),
        hardware: optional("anchors").is_some_and(|word| word == "hardware"),
        collateral: if optional("collateral").as_deref().unwrap_or(tee) == "tdx" { "tdx" } else { "sev-snp" },
        files: overlaid,
        all: all.to_owned(),
    }
}

impl Case {
    /// Whether something must refuse it.
    pub fn is_negative(&self) -> bool {
        self.code != ACCEPTED
    }

    /// The name of the case with its technology.
    pub fn path(&self) -> String {
        format!("{}/{}", self.tee, self.name)
    }

    /// A file of the case or of its base; empty when there is none.
    pub fn file(&self, name: &str) -> Vec<u8> {
        self.files.get(name).cloned().unwrap_or_default()
    }

    /// A file that must be there.
    pub fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// Verification as the case asks for it.
    pub fn verify(&self) -> Result<Authentic, VerifyError> {
        let root = self.file("root.pem");
        let anchors = if self.hardware {
            Anchors::hardware()
        } else {
            Anchors::simulated(&root, &self.root_sha256.unwrap_or_else(|| sha256(&root)))?
        };
        let (evidence, collateral) = self.parts();
        verify(&evidence, &collateral, &anchors, self.at)
    }

    /// What the case offers.
    pub fn parts(&self) -> (Evidence, Collateral) {
        let evidence = match self.tee {
            "tdx" => Evidence::Tdx { quote: self.file("quote.bin") },
            _ => Evidence::SevSnp { report: self.file("report.bin") },
        };
        (evidence, self.collateral())
    }

    /// Whether it is judged under the root that the base's policy names.
    pub fn under_the_common_root(&self) -> bool {
        let common = fs::read(self.all.join(self.tee).join("base/root.pem")).unwrap();
        !self.hardware && self.root_sha256.is_none() && self.file("root.pem") == common
    }

    /// What comes with the evidence.
    pub fn collateral(&self) -> Collateral {
        let other = self.collateral != self.tee;
        let read = |name: &str| {
            if other {
                fs::read(self.all.join(self.collateral).join("base").join(name)).unwrap_or_default()
            } else {
                self.file(name)
            }
        };
        match self.collateral {
            "tdx" => Collateral::Tdx(
                serde_json::from_slice::<TdxCollateral>(&read("collateral.json")).unwrap_or_else(|_| no_collateral()),
            ),
            _ => Collateral::SevSnp { leaf: read("leaf.der"), crl: read("crl.der"), asvk: read("asvk.der") },
        }
    }

    /// What the relying party expects in REPORT_DATA: what the evidence has, unless the case says otherwise.
    pub fn report_data(&self, authentic: &Authentic) -> [u8; 64] {
        self.report_data.unwrap_or(*authentic.report_data())
    }
}

/// Collateral with nothing in it.
fn no_collateral() -> TdxCollateral {
    TdxCollateral {
        pck_crl_issuer_chain: String::new(),
        root_ca_crl: Vec::new(),
        pck_crl: Vec::new(),
        tcb_info_issuer_chain: String::new(),
        tcb_info: String::new(),
        tcb_info_signature: Vec::new(),
        qe_identity_issuer_chain: String::new(),
        qe_identity: String::new(),
        qe_identity_signature: Vec::new(),
    }
}

fn array<const N: usize>(text: &str) -> [u8; N] {
    hex::decode(text).unwrap().try_into().unwrap()
}

/// The names in a directory, sorted.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
        .map(|entry| {
            let entry = entry.unwrap();
            assert!(entry.file_type().unwrap().is_dir(), "{} is not a directory", entry.path().display());
            entry.file_name().into_string().unwrap()
        })
        .collect();
    names.sort();
    names
}

/// Every file of a case but `case.toml`; unknown names end the test.
fn files(dir: &Path, known: &[&str]) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if name == "case.toml" {
            continue;
        }
        assert!(known.contains(&name.as_str()), "{}: unknown file {name}", dir.display());
        found.insert(name, fs::read(entry.path()).unwrap());
    }
    found
}
