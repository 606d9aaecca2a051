//! Each of the 9,472 single-bit mutants of a genuine report must be refused, and by the right rule.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeMap;

use common::{Genuine, IN_FORCE, VLEK_IN_FORCE, at, genuine, hardware, vectors};
use vouchsafe_attestation::{
    Anchors, LeafCache, UnixTime,
    snp::{Kind, Product, REPORT_LAYOUT},
    verify_cached,
};

const BITS: usize = 1184 * 8;

/// One of each version, product and kind of key, with a time at which it is in force.
const REPORTS: [(&str, &str); 6] = [
    ("milan-v2-vcek-377e6241", IN_FORCE),
    ("milan-v3-vcek-14fd2b6e", IN_FORCE),
    ("milan-v3-vlek-decdab94", VLEK_IN_FORCE),
    ("genoa-v5-vcek-6d1ceffa", IN_FORCE),
    ("genoa-v5-vcek-7ea4daeb", IN_FORCE),
    ("turin-v5-vcek-85da705e", IN_FORCE),
];

type Histogram = BTreeMap<(u8, &'static str), usize>;

#[test]
fn all_9472_single_bit_flips_of_six_reports_are_refused() {
    let Some(dir) = vectors("all_9472_single_bit_flips_of_six_reports_are_refused") else { return };
    let all = genuine(&dir);
    let anchors = hardware();
    let histograms: Vec<(&str, Histogram)> = std::thread::scope(|scope| {
        let started: Vec<_> = REPORTS
            .iter()
            .map(|(name, now)| {
                let case = all.iter().find(|case| case.name == *name).unwrap();
                let anchors = &anchors;
                (*name, scope.spawn(move || flip_every_bit(case, anchors, at(now))))
            })
            .collect();
        started.into_iter().map(|(name, thread)| (name, thread.join().unwrap())).collect()
    });
    for (name, histogram) in &histograms {
        println!("{name}: {} flips, 0 accepted", histogram.values().sum::<usize>());
    }
    for (name, histogram) in &histograms {
        println!("{name}:");
        for ((step, code), count) in histogram {
            println!("  step {step:2} {code:20} {count:5}");
        }
        assert_eq!(histogram.values().sum::<usize>(), BITS);
        // 0x2A0 bytes less what structure refuses, and two times 48 bytes of the signature itself.
        assert!(histogram[&(10, "SIGNATURE_INVALID")] > 4000, "{name}");
        assert_eq!(histogram[&(5, "SIGNATURE_PADDING")], (24 + 24 + 368) * 8, "{name}");
    }
}

/// The leaf and its list are never touched, so their signatures are verified once; the report's is verified every time.
fn flip_every_bit(case: &Genuine, anchors: &Anchors, now: UnixTime) -> Histogram {
    let cache = LeafCache::new();
    let (_, collateral) = case.parts();
    let product = Product::from_leaf_name(match case.product() {
        "milan" => "Milan",
        "genoa" => "Genoa",
        _ => "Turin",
    });
    assert_eq!(case.code(anchors, now), "AUTHENTIC", "before");
    let mut histogram = Histogram::new();
    let mut flipped = case.clone();
    for bit in 0..BITS {
        flipped.report[bit / 8] ^= 1 << (bit % 8);
        let (evidence, _) = Genuine { leaf: vec![], crl: vec![], asvk: vec![], ..flipped.clone() }.parts();
        let error = verify_cached(&evidence, &collateral, anchors, now, &cache).unwrap_err();
        let expected = expected(&flipped.report, bit, product.unwrap());
        assert_eq!(error.code(), expected, "{} byte {:#05x} bit {}", case.name, bit / 8, bit % 8);
        *histogram.entry((error.step(), error.code())).or_default() += 1;
        flipped.report[bit / 8] ^= 1 << (bit % 8);
    }
    assert_eq!(flipped.report, case.report);
    assert_eq!(case.code(anchors, now), "AUTHENTIC", "after");
    histogram
}

/// Which rule refuses, told from the specification: structure first, and every structurally legal mutant by its signature.
fn expected(flipped: &[u8], bit: usize, product: Product) -> &'static str {
    let version = u32::from_le_bytes(flipped[..4].try_into().unwrap());
    if !matches!(version, 2 | 3 | 5) {
        return "REPORT_VERSION";
    }
    let offset = bit / 8;
    let field = REPORT_LAYOUT.iter().find(|f| (f.offset..f.offset + f.size).contains(&offset)).unwrap();
    match (field.kind, field.name) {
        (Kind::Padding, _) => return "SIGNATURE_PADDING",
        (Kind::Reserved, _) => return "REPORT_RESERVED",
        (_, "SIGNATURE_ALGO") => return "SIGNATURE_ALGORITHM",
        // POLICY bit 17 must be one, bits 63 to 26 zero; the key flags have five bits.
        (_, "POLICY") if bit - 64 == 17 || bit - 64 >= 26 => return "REPORT_RESERVED",
        (_, "AUTHOR_KEY_EN, MASK_CHIP_KEY, SIGNING_KEY") if bit - 0x48 * 8 >= 5 => return "REPORT_RESERVED",
        _ => {}
    }
    // What a version does not have yet is reserved in it: also when the flip changed the version.
    let newer = |f: &&vouchsafe_attestation::snp::Field| {
        f.since > version && flipped[f.offset..f.offset + f.size].iter().any(|b| *b != 0)
    };
    if REPORT_LAYOUT.iter().any(|f| newer(&f)) {
        return "REPORT_RESERVED";
    }
    match Product::from_cpuid(flipped[0x188], flipped[0x189]) {
        _ if version == 2 => "SIGNATURE_INVALID",
        None => "PRODUCT_UNKNOWN",
        Some(named) if named == product => "SIGNATURE_INVALID",
        Some(_) => "LEAF_PRODUCT",
    }
}
