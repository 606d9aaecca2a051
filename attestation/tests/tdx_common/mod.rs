//! Genuine quotes with their collateral, and a simulated TDX machine of the tests: shared by the TDX test binaries.
#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

pub mod forge;
pub mod tries;

use std::{
    fs,
    path::{Path, PathBuf},
};

use dcap_qvl::QuoteCollateralV3;
use vouchsafe_attestation::{
    Anchors, Authentic, Collateral, Evidence, Facts, TdxCollateral, UnixTime, VerifyError,
    tdx::{TcbStatus, TdxFacts},
    verify,
};

/// A quote with what verifies it.
#[derive(Clone)]
pub struct Case {
    pub name: String,
    pub quote: Vec<u8>,
    pub collateral: TdxCollateral,
}

impl Case {
    pub fn verify(&self, anchors: &Anchors, now: UnixTime) -> Result<Authentic, VerifyError> {
        let evidence = Evidence::Tdx { quote: self.quote.clone() };
        verify(&evidence, &Collateral::Tdx(self.collateral.clone()), anchors, now)
    }

    pub fn code(&self, anchors: &Anchors, now: UnixTime) -> &'static str {
        self.verify(anchors, now).map_or_else(|error| error.code(), |_| "AUTHENTIC")
    }

    pub fn facts(&self, anchors: &Anchors, now: UnixTime) -> TdxFacts {
        tdx(&self.verify(anchors, now).unwrap_or_else(|error| panic!("{}: {}", self.name, error.code()))).clone()
    }
}

pub fn tdx(authentic: &Authentic) -> &TdxFacts {
    match authentic.facts() {
        Facts::Tdx(facts) => facts,
        Facts::SevSnp(_) => panic!("not TDX"),
    }
}

/// A bundle in dcap-qvl's JSON form.
pub fn bundle(path: &Path) -> TdxCollateral {
    ours(&serde_json::from_slice(&fs::read(path).unwrap()).unwrap())
}

pub fn ours(theirs: &QuoteCollateralV3) -> TdxCollateral {
    let theirs = theirs.clone();
    TdxCollateral {
        pck_crl_issuer_chain: theirs.pck_crl_issuer_chain,
        root_ca_crl: theirs.root_ca_crl,
        pck_crl: theirs.pck_crl,
        tcb_info_issuer_chain: theirs.tcb_info_issuer_chain,
        tcb_info: theirs.tcb_info,
        tcb_info_signature: theirs.tcb_info_signature,
        qe_identity_issuer_chain: theirs.qe_identity_issuer_chain,
        qe_identity: theirs.qe_identity,
        qe_identity_signature: theirs.qe_identity_signature,
    }
}

pub fn theirs(ours: &TdxCollateral) -> QuoteCollateralV3 {
    let ours = ours.clone();
    QuoteCollateralV3 {
        pck_crl_issuer_chain: ours.pck_crl_issuer_chain,
        root_ca_crl: ours.root_ca_crl,
        pck_crl: ours.pck_crl,
        tcb_info_issuer_chain: ours.tcb_info_issuer_chain,
        tcb_info: ours.tcb_info,
        tcb_info_signature: ours.tcb_info_signature,
        qe_identity_issuer_chain: ours.qe_identity_issuer_chain,
        qe_identity: ours.qe_identity,
        qe_identity_signature: ours.qe_identity_signature,
        pck_certificate_chain: None,
    }
}

/// Two hours after the younger of TCB info and QE identity.
pub fn two_hours_after(collateral: &TdxCollateral) -> UnixTime {
    let issued = |text: &str| {
        let json: serde_json::Value = serde_json::from_str(text).unwrap();
        UnixTime::parse_rfc3339(json["issueDate"].as_str().unwrap()).unwrap()
    };
    issued(&collateral.tcb_info).max(issued(&collateral.qe_identity)).plus(2 * 3600)
}

/// A quote of the index, by the end of its name.
pub fn quote(vectors: &Path, id: &str) -> Vec<u8> {
    let end = format!("-{id}.quote.bin");
    let mut entries = fs::read_dir(vectors.join("tdx")).unwrap().map(|entry| entry.unwrap().path());
    fs::read(entries.find(|path| path.to_str().unwrap().ends_with(&end)).unwrap()).unwrap()
}

/// The quotes of the index that have collateral: identifier, bundle, and the status that dcap-qvl 0.7.1 gives.
pub const WITH_COLLATERAL: [(&str, &str, TcbStatus); 5] = [
    ("509f50f8", "90c06f000000_2026-06-29_eval19", TcbStatus::UpToDate),
    ("afb2d8f7", "90c06f000000_2026-06-29_eval19", TcbStatus::OutOfDate),
    ("0c699dd4", "b0c06f000000_2026-06-29_eval19", TcbStatus::UpToDate),
    ("f1c85033", "b0c06f000000_2026-06-29_eval19", TcbStatus::UpToDate),
    ("cf77a6e9", "90c06f000000_2026-06-29_eval19", TcbStatus::UpToDate),
];

/// All of them.
pub fn genuine(vectors: &Path) -> Vec<Case> {
    let one = |(id, name, _): &(&str, &str, TcbStatus)| Case {
        name: (*id).to_owned(),
        quote: quote(vectors, id),
        collateral: bundle(&vectors.join(format!("tdx/{name}.json"))),
    };
    WITH_COLLATERAL.iter().map(one).collect()
}

/// The directory of the crate `dcap-qvl`, which carries genuine quotes: present wherever this crate was built.
pub fn dcap_dir() -> PathBuf {
    let metadata = cargo_metadata::MetadataCommand::new()
        .manifest_path(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .other_options(["--offline", "--filter-platform", "x86_64-unknown-linux-gnu"].map(str::to_owned))
        .exec()
        .expect("cargo metadata");
    let found = metadata.packages.iter().find(|p| p.name.as_str() == "dcap-qvl").expect("dcap-qvl is a dependency");
    found.manifest_path.parent().unwrap().as_std_path().join("sample")
}

/// A sample of that crate, cut to its declared length.
pub fn sample(name: &str) -> Case {
    let dir = dcap_dir();
    let quote = fs::read(dir.join(name)).unwrap();
    let body = match (quote[0], quote[48]) {
        (4, _) => 48 + 584,
        (_, 3) => 54 + 648,
        _ => 54 + 885,
    };
    let declared = u32::from_le_bytes(quote[body..body + 4].try_into().unwrap());
    let end = body + 4 + usize::try_from(declared).unwrap();
    Case {
        name: name.to_owned(),
        quote: quote[..end].to_vec(),
        collateral: bundle(&dir.join(format!("{name}_collateral.json"))),
    }
}
