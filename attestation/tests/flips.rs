//! Each of the 9,472 single-bit mutants of a genuine report must be refused, and by the right rule.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeMap;

use common::{Genuine, IN_FORCE, at, genoa, hardware, vectors};
use vouchsafe_attestation::snp::{Kind, Product, REPORT_LAYOUT};

#[test]
fn all_9472_single_bit_flips_are_refused() {
    let Some(dir) = vectors("all_9472_single_bit_flips_are_refused") else { return };
    let case = genoa(&dir);
    let (anchors, now) = (hardware(), at(IN_FORCE));
    assert_eq!(case.code(&anchors, now), "AUTHENTIC");

    let mut histogram: BTreeMap<(u8, &str), usize> = BTreeMap::new();
    for bit in 0..1184 * 8 {
        let mut flipped = Genuine { report: case.report.clone(), ..case.clone() };
        flipped.report[bit / 8] ^= 1 << (bit % 8);
        let error = flipped.verify(&anchors, now).unwrap_err();
        assert_eq!(error.code(), expected(&flipped.report, bit), "byte {:#05x} bit {}", bit / 8, bit % 8);
        *histogram.entry((error.step(), error.code())).or_default() += 1;
    }

    assert_eq!(case.code(&anchors, now), "AUTHENTIC");
    for ((step, code), count) in &histogram {
        println!("step {step:2} {code:20} {count:5}");
    }
    assert_eq!(histogram.values().sum::<usize>(), 9472);
}

/// Which rule refuses, told from the specification: structure first, and every structurally legal mutant by its signature.
fn expected(flipped: &[u8], bit: usize) -> &'static str {
    let offset = bit / 8;
    let field = REPORT_LAYOUT.iter().find(|f| (f.offset..f.offset + f.size).contains(&offset)).unwrap();
    match (field.kind, field.name) {
        (Kind::Padding, _) => "SIGNATURE_PADDING",
        (Kind::Reserved, _) => "REPORT_RESERVED",
        (_, "VERSION") => "REPORT_VERSION",
        (_, "SIGNATURE_ALGO") => "SIGNATURE_ALGORITHM",
        // POLICY bit 17 must be one, bits 63 to 26 zero; the key flags have five bits.
        (_, "POLICY") if bit - 64 == 17 || bit - 64 >= 26 => "REPORT_RESERVED",
        (_, "AUTHOR_KEY_EN, MASK_CHIP_KEY, SIGNING_KEY") if bit - 0x48 * 8 >= 5 => "REPORT_RESERVED",
        (_, "CPUID_FAM_ID" | "CPUID_MOD_ID") => match Product::from_cpuid(flipped[0x188], flipped[0x189]) {
            None => "PRODUCT_UNKNOWN",
            Some(Product::Genoa) => "SIGNATURE_INVALID",
            Some(_) => "LEAF_PRODUCT",
        },
        _ => "SIGNATURE_INVALID",
    }
}
