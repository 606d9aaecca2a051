//! No input panics, and no mutant of evidence or collateral is accepted as something else.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::OnceLock;

use common::{Genuine, Seeded, VLEK_IN_FORCE, at, forge::sim};
use proptest::{prelude::*, sample::Index};
use vouchsafe_attestation::{Anchors, EvidenceEnvelope, SnpEnvelope, UnixTime, verify};

const NOW: &str = "2026-06-01T00:00:00Z";

struct Case {
    good: Genuine,
    anchors: Anchors,
    now: UnixTime,
}

/// Genuine cases when the vectors are there, the simulated ones always; of each a chip's key and a loaded one.
fn cases() -> &'static [Case] {
    static CASES: OnceLock<Vec<Case>> = OnceLock::new();
    CASES.get_or_init(|| {
        let simulated = |good| Case { good, anchors: sim().anchors(), now: at(NOW) };
        let mut cases = vec![simulated(sim().good()), simulated(sim().good_vlek())];
        if let Some(dir) = common::vectors("robust (genuine half)") {
            let genuine =
                |name: &str, now| Case { good: common::named(&dir, name), anchors: common::hardware(), now: at(now) };
            cases.push(genuine("genoa-v5-vcek-6d1ceffa", common::IN_FORCE));
            cases.push(genuine("milan-v3-vlek-decdab94", VLEK_IN_FORCE));
        }
        cases
    })
}

impl Case {
    fn accepts(&self, mutant: &Genuine) -> bool {
        mutant.verify(&self.anchors, self.now).is_ok()
    }
}

fn part(case: &mut Genuine, which: usize) -> &mut Vec<u8> {
    match which % 4 {
        0 => &mut case.report,
        1 => &mut case.leaf,
        2 => &mut case.crl,
        _ => &mut case.asvk,
    }
}

/// One edit of a byte string.
#[derive(Debug, Clone)]
enum Edit {
    Set(Index, u8),
    Flip(Index, u8),
    Insert(Index, u8),
    Remove(Index),
    Truncate(Index),
    Copy(Index, Index, u8),
}

impl Edit {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let len = bytes.len();
        match self {
            Self::Insert(at, byte) => bytes.insert(at.index(len + 1), *byte),
            _ if len == 0 => {}
            Self::Set(at, byte) => bytes[at.index(len)] = *byte,
            Self::Flip(at, bit) => bytes[at.index(len)] ^= 1 << (bit % 8),
            Self::Remove(at) => {
                bytes.remove(at.index(len));
            }
            Self::Truncate(at) => bytes.truncate(at.index(len)),
            Self::Copy(from, to, many) => {
                let (from, to) = (from.index(len), to.index(len));
                let many = usize::from(*many).min(len - from.max(to));
                bytes.copy_within(from..from + many, to);
            }
        }
    }
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let at = any::<Index>;
    let edit = prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Edit::Set(at, byte)),
        (at(), any::<u8>()).prop_map(|(at, bit)| Edit::Flip(at, bit)),
        (at(), any::<u8>()).prop_map(|(at, byte)| Edit::Insert(at, byte)),
        at().prop_map(Edit::Remove),
        at().prop_map(Edit::Truncate),
        (at(), at(), any::<u8>()).prop_map(|(from, to, many)| Edit::Copy(from, to, many)),
    ];
    prop::collection::vec(edit, 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(
        report in prop::collection::vec(any::<u8>(), 0..1300),
        leaf in prop::collection::vec(any::<u8>(), 0..300),
        crl in prop::collection::vec(any::<u8>(), 0..300),
        asvk in prop::collection::vec(any::<u8>(), 0..300),
        time in any::<u64>(),
    ) {
        let case = Genuine { name: String::new(), report, leaf, crl, asvk };
        prop_assert!(case.verify(&sim().anchors(), UnixTime(time)).is_err());
    }

    #[test]
    fn random_collateral_behind_a_good_report_never_panics(
        which in 1_usize..4,
        bytes in prop::collection::vec(any::<u8>(), 1..600),
    ) {
        for case in cases() {
            let mut mutant = case.good.clone();
            part(&mut mutant, which).clone_from(&bytes);
            prop_assert!(!case.accepts(&mutant));
        }
    }

    #[test]
    fn random_anchors_never_panic(bundle in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(common::forge::anchors(&bundle).is_err());
    }

    /// Any edits of one part: accepted if and only if they cancelled each other out.
    #[test]
    fn an_edited_part_is_never_accepted(which in 0_usize..4, edits in edits(), pick in any::<Index>()) {
        let case = &cases()[pick.index(cases().len())];
        let mut mutant = case.good.clone();
        edits.iter().for_each(|edit| edit.apply(part(&mut mutant, which)));
        prop_assert_eq!(case.accepts(&mutant), mutant == case.good);
    }

    /// The time may be anything: no overflow, and no acceptance outside the leaf's window.
    #[test]
    fn any_time_is_judged(time in any::<u64>()) {
        for case in cases() {
            prop_assert!(time < 4_102_444_800 || case.good.verify(&case.anchors, UnixTime(time)).is_err());
        }
    }
}

#[test]
fn mutated_parts_are_refused() {
    let mut seeded = Seeded(0x5eed_0001);
    for case in cases() {
        for round in 0..3000 {
            let mut mutant = case.good.clone();
            seeded.mutate(part(&mut mutant, round));
            assert_eq!(case.accepts(&mutant), mutant == case.good, "{} round {round}", case.good.name);
        }
    }
}

/// The evidence decoder as the customer uses it: JSON, envelope, caps, verification.
#[test]
fn ten_thousand_mutated_envelopes_never_panic() {
    let mut seeded = Seeded(0x5eed_0002);
    let mut accepted = 0;
    for round in 0..10_000 {
        let Case { good, anchors, now } = &cases()[round % cases().len()];
        let Genuine { report, leaf, crl, asvk, .. } = good.clone();
        let envelope = EvidenceEnvelope::SevSnp(SnpEnvelope { report, leaf, crl, asvk });
        let mut json = serde_json::to_vec(&envelope).unwrap();
        seeded.mutate(&mut json);
        let Ok(envelope) = serde_json::from_slice::<EvidenceEnvelope>(&json) else { continue };
        let Ok((evidence, collateral)) = envelope.into_parts() else { continue };
        let same = (&evidence, &collateral) == (&good.parts().0, &good.parts().1);
        let verdict = verify(&evidence, &collateral, anchors, *now);
        assert_eq!(verdict.is_ok(), same, "round {round}");
        accepted += usize::from(verdict.is_ok());
    }
    println!("{accepted} of 10000 mutants decoded to the very same bytes and were accepted");
}

/// Every prefix of the leaf, the list and the authority is refused.
#[test]
fn every_truncation_is_refused() {
    for case in cases() {
        for which in 1..4 {
            let whole = part(&mut case.good.clone(), which).clone();
            for n in 0..whole.len() {
                let mut mutant = case.good.clone();
                part(&mut mutant, which).truncate(n);
                assert!(!case.accepts(&mutant), "{} part {which} cut to {n}", case.good.name);
            }
        }
    }
}

/// Every single-bit mutant of the leaf, the list and the authority is refused: no bit of them is outside a rule.
#[test]
fn every_single_bit_of_collateral_counts() {
    for case in cases() {
        let mut flips = 0;
        for which in 1..4 {
            let mut mutant = case.good.clone();
            for bit in 0..part(&mut mutant, which).len() * 8 {
                part(&mut mutant, which)[bit / 8] ^= 1 << (bit % 8);
                assert!(!case.accepts(&mutant), "{} part {which} bit {bit}", case.good.name);
                part(&mut mutant, which)[bit / 8] ^= 1 << (bit % 8);
                flips += 1;
            }
        }
        println!("{}: {flips} single-bit mutants of leaf, list and authority, 0 accepted", case.good.name);
        assert!(case.accepts(&case.good));
    }
}
