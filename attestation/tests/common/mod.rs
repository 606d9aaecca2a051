//! Genuine vectors, and a simulated root made for the tests: shared by the test binaries of this crate.
#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "these tests are about the anchors themselves")]

pub mod forge;

use std::{
    fs,
    path::{Path, PathBuf},
};

use vouchsafe_attestation::{
    Anchors, Authentic, Collateral, Evidence, Facts, UnixTime, VerifyError, snp::SnpFacts, verify,
};

/// All revocation lists of the vectors and all leaves but the VLEK are in force.
pub const IN_FORCE: &str = "2026-03-01T00:00:00Z";
/// Inside the window of the genuine VLEK, which has expired since, and of Milan's revocation list.
pub const VLEK_IN_FORCE: &str = "2025-09-01T00:00:00Z";
/// Every revocation list of the vectors is past its next update.
pub const STALE: &str = "2026-11-21T00:00:00Z";

pub fn at(text: &str) -> UnixTime {
    UnixTime::parse_rfc3339(text).unwrap()
}

/// The directory of genuine vectors; they are not part of this repository.
pub fn vectors(test: &str) -> Option<PathBuf> {
    let dir = std::env::var_os("VOUCHSAFE_VECTORS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors"), PathBuf::from);
    if dir.join("INDEX.md").exists() {
        return Some(dir);
    }
    assert!(std::env::var("VOUCHSAFE_REQUIRE_VECTORS").as_deref() != Ok("1"), "{test}: vectors required but missing");
    println!("NOT RUN: {test}: vectors missing");
    None
}

/// One genuine report with the leaf that signs it, the revocation list of its product, and with a VLEK its authority.
#[derive(Clone, Default, PartialEq)]
pub struct Genuine {
    pub name: String,
    pub report: Vec<u8>,
    pub leaf: Vec<u8>,
    pub crl: Vec<u8>,
    pub asvk: Vec<u8>,
}

impl Genuine {
    pub fn verify(&self, anchors: &Anchors, now: UnixTime) -> Result<Authentic, VerifyError> {
        let (evidence, collateral) = self.parts();
        verify(&evidence, &collateral, anchors, now)
    }

    pub fn parts(&self) -> (Evidence, Collateral) {
        let Self { report, leaf, crl, asvk, .. } = self.clone();
        (Evidence::SevSnp { report }, Collateral::SevSnp { leaf, crl, asvk })
    }

    pub fn code(&self, anchors: &Anchors, now: UnixTime) -> &'static str {
        self.verify(anchors, now).map_or_else(|e| e.code(), |_| "AUTHENTIC")
    }

    pub fn product(&self) -> &str {
        self.name.split('-').next().unwrap()
    }
}

/// Every row of the index, sorted by name.
pub fn genuine(vectors: &Path) -> Vec<Genuine> {
    let mut all: Vec<Genuine> = fs::read_dir(vectors.join("snp"))
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".report.bin").map(str::to_owned))
        .map(|name| {
            let read = |path: String| fs::read(vectors.join(path)).unwrap();
            let product = name.split('-').next().unwrap().to_owned();
            Genuine {
                report: read(format!("snp/{name}.report.bin")),
                leaf: read(format!("snp/{name}.vek.der")),
                crl: read(format!("amd-ca/{product}_vcek.crl")),
                asvk: if name.contains("-vlek-") { read(format!("amd-ca/{product}_asvk.der")) } else { Vec::new() },
                name,
            }
        })
        .collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// The genuine Genoa report that the exhaustive tests use.
pub fn genoa(vectors: &Path) -> Genuine {
    named(vectors, "genoa-v5-vcek-6d1ceffa")
}

pub fn named(vectors: &Path, name: &str) -> Genuine {
    genuine(vectors).into_iter().find(|g| g.name == name).unwrap()
}

/// What a verdict says about SEV-SNP.
pub fn snp(authentic: &Authentic) -> &SnpFacts {
    match authentic.facts() {
        Facts::SevSnp(facts) => facts,
        Facts::Tdx(_) => panic!("SEV-SNP was verified"),
    }
}

pub fn hardware() -> Anchors {
    Anchors::hardware()
}

/// The directory of the crate `sev`, which carries a genuine Milan report: present wherever this crate was built.
pub fn sev_dir() -> PathBuf {
    let metadata = cargo_metadata::MetadataCommand::new()
        .manifest_path(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .other_options(["--offline", "--filter-platform", "x86_64-unknown-linux-gnu"].map(str::to_owned))
        .exec()
        .expect("cargo metadata");
    let sev = metadata.packages.iter().find(|p| p.name.as_str() == "sev").expect("sev is a dependency");
    sev.manifest_path.parent().unwrap().as_std_path().to_owned()
}

/// xorshift64*: seeded mutations that are the same on every run.
pub struct Seeded(pub u64);

impl Seeded {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).unwrap()
    }

    /// Flips, overwrites, truncates, repeats or swaps a few bytes.
    pub fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            if bytes.is_empty() {
                bytes.push(self.next() as u8);
                continue;
            }
            let i = self.below(bytes.len());
            match self.below(6) {
                0 => bytes[i] ^= 1 << self.below(8),
                1 => bytes[i] = self.next() as u8,
                2 => bytes.truncate(i),
                3 => bytes.insert(i, self.next() as u8),
                4 => {
                    bytes.remove(i);
                }
                _ => {
                    let j = self.below(bytes.len());
                    bytes.swap(i, j);
                }
            }
        }
    }
}
