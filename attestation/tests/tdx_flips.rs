//! Every single-bit mutant of genuine quotes must be refused: header, TD report, signatures, key, quoting enclave.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
mod tdx_common;

use std::{collections::BTreeMap, ops::Range, thread};

use common::{Seeded, at, hardware, vectors};
use proptest::prelude::*;
use tdx_common::{
    Case,
    forge::{NOW, Parts, sim_anchors},
    genuine, sample, two_hours_after,
};
use vouchsafe_attestation::tdx::{Kind, QUOTE_LAYOUT};

/// Before the PCK chain: header, descriptor, body, signature data, quoting enclave's report and authentication data.
fn before_the_chain(case: &Case) -> Range<usize> {
    let body = if case.quote[0] == 4 { 48 + 584 } else { 54 + 648 };
    0..body + 4 + 128 + 6 + 384 + 64 + 2 + 32 + 6
}

fn refuse_every_flip(case: &Case, bytes: Range<usize>) -> BTreeMap<(u8, &'static str), usize> {
    let (anchors, now) = (hardware(), two_hours_after(&case.collateral));
    assert_eq!(case.code(&anchors, now), "AUTHENTIC");
    let workers = thread::available_parallelism().map_or(2, usize::from);
    let one = |worker: usize| {
        let mut histogram: BTreeMap<(u8, &str), usize> = BTreeMap::new();
        let mut flipped = case.clone();
        for bit in (bytes.start * 8..bytes.end * 8).filter(|bit| bit % workers == worker) {
            flipped.quote[bit / 8] ^= 1 << (bit % 8);
            let Err(error) = flipped.verify(&anchors, now) else {
                panic!("{}: accepted with bit {} of byte {:#x} flipped", case.name, bit % 8, bit / 8);
            };
            if let Some(expected) = expected(&flipped.quote, bit / 8) {
                assert_eq!(error.code(), expected, "{} byte {:#x} bit {}", case.name, bit / 8, bit % 8);
            }
            *histogram.entry((error.step(), error.code())).or_default() += 1;
            flipped.quote[bit / 8] ^= 1 << (bit % 8);
        }
        histogram
    };
    let mut all: BTreeMap<(u8, &str), usize> = BTreeMap::new();
    thread::scope(|scope| {
        let one = &one;
        let handles: Vec<_> = (0..workers).map(|worker| scope.spawn(move || one(worker))).collect();
        for handle in handles {
            for (key, count) in handle.join().unwrap() {
                *all.entry(key).or_default() += count;
            }
        }
    });
    assert_eq!(case.code(&anchors, now), "AUTHENTIC");
    assert_eq!(all.values().sum::<usize>(), bytes.len() * 8);
    all
}

type Histogram = BTreeMap<(u8, &'static str), usize>;

/// The counts first: of a test that passes, only the first lines are shown.
fn print(quotes: &[(String, Histogram)]) {
    for (name, histogram) in quotes {
        println!("{name}: {} single-bit mutants, 0 accepted", histogram.values().sum::<usize>());
    }
    for (name, histogram) in quotes {
        println!("{name}:");
        for ((step, code), count) in histogram {
            println!("  step {step:2} {code:24} {count:6}");
        }
    }
}

/// Which rule refuses, where the specification alone tells: the structure first, legal mutants by their signature.
fn expected(flipped: &[u8], offset: usize) -> Option<&'static str> {
    let table = |name: &str| QUOTE_LAYOUT.iter().find(|(table, _)| *table == name).unwrap().1;
    let within = |name: &str, start: usize| {
        let field = |f: &&_| {
            let f: &vouchsafe_attestation::tdx::Field = f;
            (start + f.offset..start + f.offset + f.size).contains(&offset)
        };
        table(name).iter().find(field)
    };
    if let Some(field) = within("header", 0) {
        return Some(match (field.kind, field.name) {
            (Kind::Reserved, _) => "QUOTE_RESERVED",
            (_, "Attestation Key Type") => "QUOTE_KEY_TYPE",
            (_, "TEE Type") => "QUOTE_TEE_TYPE",
            (_, "QE Vendor ID") => "QUOTE_VENDOR",
            (_, "User Data") => "QUOTE_SIGNATURE",
            // Version 4 is one bit from 5, whose structure then is another.
            _ => return None,
        });
    }
    let body = if flipped[0] == 4 { 48..48 + 584 } else { 54..54 + 648 };
    if body.contains(&offset) {
        return Some("QUOTE_SIGNATURE");
    }
    let data = body.end + 138;
    match offset {
        _ if offset < body.start => None,
        o if (body.end + 4..body.end + 68).contains(&o) => Some("QUOTE_SIGNATURE"),
        o if (body.end + 68..body.end + 132).contains(&o) => Some("QE_REPORT_DATA"),
        o if (data..data + 448).contains(&o) => match within("QE report", data) {
            Some(field) if field.kind == Kind::Reserved => Some("QE_RESERVED"),
            _ => Some("QE_REPORT_SIGNATURE"),
        },
        o if (data + 450..data + 482).contains(&o) => Some("QE_REPORT_DATA"),
        _ => None,
    }
}

/// The three quotes of the index that differ most: version 4 outdated, version 4 of another family, version 5.
#[test]
fn every_single_bit_before_the_chain_counts() {
    let Some(dir) = vectors("every_single_bit_before_the_chain_counts") else { return };
    let cases = genuine(&dir);
    let three = cases.iter().filter(|case| ["afb2d8f7", "0c699dd4", "cf77a6e9"].contains(&case.name.as_str()));
    let refused: Vec<_> =
        three.map(|case| (case.name.clone(), refuse_every_flip(case, before_the_chain(case)))).collect();
    print(&refused);
    assert_eq!(refused.len(), 3);
}

/// Always there: every bit of dcap-qvl's own sample. In the PCK chain some bits are outside any signature (the root's own,
/// the layout of the text); they count too, because a chain is leaf, authority and the very root, in strict PEM.
#[test]
fn every_single_bit_of_the_sample_counts() {
    let case = sample("tdx_quote");
    let end = case.quote.len() - 1;
    let histogram = refuse_every_flip(&case, 0..end);
    assert!(histogram.contains_key(&(8, "PCK_CHAIN")) && histogram.contains_key(&(7, "CHAIN_ROOT")));
    print(&[(case.name.clone(), histogram)]);
    // The zero byte behind the chain: a letter or a control character there is no certificate.
    for bit in 0..8 {
        let mut flipped = case.clone();
        flipped.quote[end] ^= 1 << bit;
        assert_eq!(flipped.code(&hardware(), two_hours_after(&case.collateral)), "PCK_MALFORMED", "{bit}");
    }
}

/// Random edits of every item never panic and are never accepted.
#[test]
fn random_edits_of_quote_and_collateral_are_refused() {
    let good = sample("tdx_quote");
    let (anchors, now) = (hardware(), two_hours_after(&good.collateral));
    let mut seeded = Seeded(0x5eed_0021);
    let mut histogram: BTreeMap<&str, usize> = BTreeMap::new();
    for round in 0..6000 {
        let mut case = good.clone();
        let c = &mut case.collateral;
        let text = |text: &mut String, seeded: &mut Seeded| {
            let mut bytes = std::mem::take(text).into_bytes();
            seeded.mutate(&mut bytes);
            *text = String::from_utf8_lossy(&bytes).into_owned();
        };
        match round % 10 {
            0 => seeded.mutate(&mut case.quote),
            1 => seeded.mutate(&mut c.root_ca_crl),
            2 => seeded.mutate(&mut c.pck_crl),
            3 => seeded.mutate(&mut c.tcb_info_signature),
            4 => seeded.mutate(&mut c.qe_identity_signature),
            5 => text(&mut c.tcb_info, &mut seeded),
            6 => text(&mut c.qe_identity, &mut seeded),
            7 => text(&mut c.tcb_info_issuer_chain, &mut seeded),
            8 => text(&mut c.qe_identity_issuer_chain, &mut seeded),
            _ => text(&mut c.pck_crl_issuer_chain, &mut seeded),
        }
        // Line ends around certificates carry nothing.
        let same = case.quote == good.quote && without_line_ends(&case) == without_line_ends(&good);
        let code = case.code(&anchors, now);
        assert!(code != "AUTHENTIC" || same, "round {round}");
        *histogram.entry(code).or_default() += 1;
    }
    println!("{histogram:?}");
}

fn without_line_ends(case: &Case) -> vouchsafe_attestation::TdxCollateral {
    let mut collateral = case.collateral.clone();
    let c = &mut collateral;
    for chain in [&mut c.tcb_info_issuer_chain, &mut c.qe_identity_issuer_chain, &mut c.pck_crl_issuer_chain] {
        chain.retain(|letter| letter != '\n');
    }
    collateral
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Behind a good header: every length and type of the rest is random.
    #[test]
    fn random_quotes_never_panic(rest in prop::collection::vec(any::<u8>(), 0..6000), time in any::<u64>(), keep in 0..1200_usize) {
        let mut case = Parts::v15().case();
        case.quote.truncate(48 + keep);
        case.quote.extend(rest);
        prop_assert!(case.verify(&sim_anchors(), at(NOW)).is_err());
        prop_assert!(case.verify(&sim_anchors(), vouchsafe_attestation::UnixTime(time)).is_err());
    }

    #[test]
    fn random_collateral_never_panics(
        bytes in prop::collection::vec(any::<u8>(), 1..400),
        text in ".{1,200}",
        which in 0..7,
    ) {
        let mut case = Parts::v4().case();
        let c = &mut case.collateral;
        match which {
            0 => c.root_ca_crl = bytes,
            1 => c.pck_crl = bytes,
            2 => c.tcb_info = text,
            3 => c.qe_identity = text,
            4 => c.tcb_info_issuer_chain = text,
            5 => c.qe_identity_issuer_chain = text,
            _ => c.pck_crl_issuer_chain = text,
        }
        prop_assert!(case.verify(&sim_anchors(), at(NOW)).is_err());
    }
}
