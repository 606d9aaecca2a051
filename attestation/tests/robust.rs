//! No input panics, and no mutant of evidence or collateral is accepted as something else.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{Genuine, Seeded, at, forge::sim};
use proptest::prelude::*;
use vouchsafe_attestation::{Anchors, EvidenceEnvelope, UnixTime, verify};

const NOW: &str = "2026-06-01T00:00:00Z";

/// One genuine case when the vectors are there, the simulated one always.
fn cases() -> Vec<(Genuine, Anchors, UnixTime)> {
    let mut cases = vec![(sim().good(), sim().anchors(), at(NOW))];
    if let Some(dir) = common::vectors("robust (genuine half)") {
        cases.push((common::genoa(&dir), common::hardware(), at(common::IN_FORCE)));
    }
    cases
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(
        report in prop::collection::vec(any::<u8>(), 0..1300),
        leaf in prop::collection::vec(any::<u8>(), 0..300),
        crl in prop::collection::vec(any::<u8>(), 0..300),
        time in any::<u64>(),
    ) {
        let case = Genuine { name: String::new(), report, leaf, crl };
        prop_assert!(case.verify(&sim().anchors(), UnixTime(time)).is_err());
    }

    #[test]
    fn random_leaf_and_list_behind_a_good_report_never_panic(
        leaf in prop::collection::vec(any::<u8>(), 1..600),
        crl in prop::collection::vec(any::<u8>(), 1..600),
    ) {
        let good = sim().good();
        let anchors = sim().anchors();
        let (bad_leaf, bad_list) = (Genuine { leaf, ..good.clone() }, Genuine { crl, ..good });
        prop_assert!(bad_leaf.verify(&anchors, at(NOW)).is_err());
        prop_assert!(bad_list.verify(&anchors, at(NOW)).is_err());
    }

    #[test]
    fn random_anchors_never_panic(bundle in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(common::forge::anchors(&bundle).is_err());
    }
}

#[test]
fn mutated_leaf_list_and_report_are_refused() {
    let mut seeded = Seeded(0x5eed_0001);
    for (good, anchors, now) in cases() {
        for round in 0..3000 {
            let mut case = good.clone();
            let target = match round % 3 {
                0 => &mut case.report,
                1 => &mut case.leaf,
                _ => &mut case.crl,
            };
            seeded.mutate(target);
            let changed = case.report != good.report || case.leaf != good.leaf || case.crl != good.crl;
            assert_eq!(case.verify(&anchors, now).is_err(), changed, "{} round {round}", good.name);
        }
    }
}

/// The evidence decoder as the customer uses it: JSON, envelope, caps, verification.
#[test]
fn ten_thousand_mutated_envelopes_never_panic() {
    let mut seeded = Seeded(0x5eed_0002);
    let mut accepted = 0;
    let cases = cases();
    for round in 0..10_000 {
        let (good, anchors, now) = &cases[round % cases.len()];
        let Genuine { report, leaf, crl, .. } = good.clone();
        let mut json = serde_json::to_vec(&EvidenceEnvelope { report, leaf, crl }).unwrap();
        seeded.mutate(&mut json);
        let Ok(envelope) = serde_json::from_slice::<EvidenceEnvelope>(&json) else { continue };
        let same = (&envelope.report, &envelope.leaf, &envelope.crl) == (&good.report, &good.leaf, &good.crl);
        let Ok((evidence, collateral)) = envelope.into_parts() else { continue };
        let verdict = verify(&evidence, &collateral, anchors, *now);
        assert_eq!(verdict.is_ok(), same, "round {round}");
        accepted += usize::from(verdict.is_ok());
    }
    println!("{accepted} of 10000 mutants decoded to the very same bytes and were accepted");
}

/// Every prefix of the leaf and of the list is refused.
#[test]
fn every_truncation_is_refused() {
    for (good, anchors, now) in cases() {
        for n in 0..good.leaf.len() {
            assert!(Genuine { leaf: good.leaf[..n].to_vec(), ..good.clone() }.verify(&anchors, now).is_err());
        }
        for n in 0..good.crl.len() {
            assert!(Genuine { crl: good.crl[..n].to_vec(), ..good.clone() }.verify(&anchors, now).is_err());
        }
    }
}

/// Every single-bit mutant of the leaf and of the list is refused: no bit of them is outside a rule.
#[test]
fn every_single_bit_of_leaf_and_list_counts() {
    for (good, anchors, now) in cases() {
        for bit in 0..good.leaf.len() * 8 {
            let mut case = good.clone();
            case.leaf[bit / 8] ^= 1 << (bit % 8);
            assert!(case.verify(&anchors, now).is_err(), "{} leaf bit {bit}", good.name);
        }
        for bit in 0..good.crl.len() * 8 {
            let mut case = good.clone();
            case.crl[bit / 8] ^= 1 << (bit % 8);
            assert!(case.verify(&anchors, now).is_err(), "{} list bit {bit}", good.name);
        }
        assert_eq!(good.code(&anchors, now), "AUTHENTIC");
    }
}
