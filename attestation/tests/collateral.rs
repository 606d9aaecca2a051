//! Collateral files and what evidence asks for: genuine ones are read, and no byte string makes the readers panic.
//! Signatures are not the matter here.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use proptest::prelude::*;
use vouchsafe_attestation::{
    Collateral, UnixTime,
    collateral::{About, PckAuthority, SoughtError, items, parse, sought_by_quote, sought_by_report, to_bytes},
    snp::Product,
};

fn vectors(test: &str) -> Option<PathBuf> {
    let dir = std::env::var_os("VOUCHSAFE_VECTORS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors"), PathBuf::from);
    if dir.join("INDEX.md").exists() {
        return Some(dir);
    }
    assert!(std::env::var("VOUCHSAFE_REQUIRE_VECTORS").as_deref() != Ok("1"), "{test}: vectors required but missing");
    println!("NOT RUN: {test}: vectors missing");
    None
}

#[test]
fn genuine_items_tell_their_numbers_and_dates() {
    let Some(vectors) = vectors("collateral items") else { return };
    for (product, number, revoked) in [("milan", 6, 0), ("genoa", 5, 1), ("turin", 2, 0)] {
        let read = |path: String| fs::read(vectors.join(path)).unwrap();
        let collateral = Collateral::SevSnp {
            leaf: read(format!("amd-ca/{product}_ask.der")),
            crl: read(format!("amd-ca/{product}_vcek.crl")),
            asvk: read(format!("amd-ca/{product}_asvk.der")),
        };
        let items = items(&collateral).unwrap();
        assert_eq!(items.iter().map(|i| i.name).collect::<Vec<_>>(), ["leaf", "asvk", "crl"]);
        let About::RevocationList { number: found, revoked: entries, issuer } = &items[2].about else { panic!() };
        assert_eq!((*found, *entries), (number, revoked), "{product}");
        assert_eq!(issuer.to_lowercase(), format!("ark-{product}"));
    }
    let mut files = 0;
    for folder in ["tdx", "tdx/dcap-qvl"] {
        for entry in fs::read_dir(vectors.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "json") {
                let collateral = parse(&fs::read(&path).unwrap()).unwrap();
                assert_eq!(parse(&to_bytes(&collateral)).unwrap(), collateral, "{}", path.display());
                let items = items(&collateral).unwrap();
                assert!(items.iter().all(|item| item.issued < item.expires && item.issued > UnixTime(1_500_000_000)));
                files += 1;
            }
        }
    }
    assert_eq!(files, 6);
}

#[test]
fn genuine_evidence_tells_what_to_ask_for() {
    let Some(vectors) = vectors("what evidence asks for") else { return };
    let report = |name: &str| fs::read(vectors.join(format!("snp/{name}.report.bin"))).unwrap();
    let genoa = sought_by_report(&report("genoa-v5-vcek-6d1ceffa"), None).unwrap();
    assert_eq!((genoa.product, genoa.hwid.len(), genoa.tcb.microcode), (Product::Genoa, 64, 0x54));
    let turin = sought_by_report(&report("turin-v5-vcek-85da705e"), None).unwrap();
    assert_eq!((turin.product, turin.hwid.len(), turin.tcb.fmc), (Product::Turin, 8, Some(1)));
    let old = report("milan-v2-vcek-7c614616");
    assert_eq!(sought_by_report(&old, None), Err(SoughtError::ProductNotNamed));
    assert_eq!(sought_by_report(&old, Some(Product::Milan)).unwrap().tcb.microcode, 0x73);
    assert_eq!(sought_by_report(&report("milan-v3-vlek-decdab94"), None), Err(SoughtError::Vlek));
    let mut masked = report("genoa-v5-vcek-6d1ceffa");
    masked[0x1a0..0x1e0].fill(0);
    assert_eq!(sought_by_report(&masked, None), Err(SoughtError::ChipMasked));
    assert_eq!(sought_by_report(&masked[1..], None), Err(SoughtError::Form));

    let quote = fs::read(vectors.join("tdx/tdx-v4-bt2-90c06f000000-509f50f8.quote.bin")).unwrap();
    let sought = sought_by_quote(&quote).unwrap();
    assert_eq!((hex::encode(sought.fmspc).as_str(), sought.authority), ("90c06f000000", PckAuthority::Platform));
    assert_eq!(sought_by_quote(&masked), Err(SoughtError::Form));
}

/// Each case changes four or five inputs: about ten thousand readings.
fn many() -> ProptestConfig {
    ProptestConfig { cases: 2_500, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(many())]

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
        let _ = parse(&bytes);
        let _ = sought_by_report(&bytes, Some(Product::Turin));
        let _ = sought_by_quote(&bytes);
        let _ = items(&Collateral::SevSnp { leaf: bytes.clone(), crl: bytes.clone(), asvk: bytes });
    }

    #[test]
    fn no_change_of_genuine_collateral_makes_a_reader_panic(at in any::<prop::sample::Index>(), to in any::<u8>(), cut in any::<bool>()) {
        let Some(vectors) = vectors("changed collateral") else { return Ok(()) };
        let changed = |path: &str| {
            let mut bytes = fs::read(vectors.join(path)).unwrap();
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else { bytes[at] = to }
            bytes
        };
        let leaf = changed("snp/genoa-v5-vcek-6d1ceffa.vek.der");
        let crl = fs::read(vectors.join("amd-ca/genoa_vcek.crl")).unwrap();
        let _ = items(&Collateral::SevSnp { leaf, crl: crl.clone(), asvk: Vec::new() });
        let leaf = fs::read(vectors.join("snp/genoa-v5-vcek-6d1ceffa.vek.der")).unwrap();
        let _ = items(&Collateral::SevSnp { leaf, crl: changed("amd-ca/genoa_vcek.crl"), asvk: Vec::new() });
        if let Ok(collateral) = parse(&changed("tdx/b0c06f000000_2026-06-29_eval19.json")) {
            let _ = items(&collateral);
        }
        let _ = sought_by_quote(&changed("tdx/tdx-v4-bt2-90c06f000000-509f50f8.quote.bin"));
        let _ = sought_by_report(&changed("snp/genoa-v5-vcek-6d1ceffa.report.bin"), None);
    }
}
