//! What evidence must be bound to, for both technologies.

use vouchsafe_attestation::{
    Claims, Tee,
    claims::{Clock, ModelClaim, Release},
    session::{MerklePath, Tree, leaf, report_data, session_digest},
};

use super::*;

const NONCE: [u8; 32] = [1; 32];
const EKM: [u8; 32] = [2; 32];
const SPKI: [u8; 32] = [3; 32];

fn claims() -> Claims {
    Claims {
        v: 1,
        mode: Mode::Hardware,
        version: "0.1.0".to_owned(),
        boot_id: [9; 16],
        spki_sha256: SPKI,
        config_digest: CONFIG,
        brokers: Vec::new(),
        models: vec![ModelClaim {
            id: "m".to_owned(),
            uid: [1; 32],
            sequence: 3,
            manifest_digest: [2; 32],
            vendor_keys: vec![Ed25519Public([8; 32])],
            usage_policy_digest: [3; 32],
            release: Release::Online,
        }],
        receipt_key: Ed25519Public([7; 32]),
        clock: Clock::HostInfluenced,
    }
}

const BOTH: [Tee; 2] = [Tee::SevSnp, Tee::Tdx];

/// Genuine facts with this REPORT_DATA.
fn facts(tee: Tee, report_data: [u8; 64]) -> Facts {
    match tee {
        Tee::SevSnp => {
            let mut facts = snp_facts();
            facts.report.report_data = report_data;
            facts.at(NOW)
        }
        Tee::Tdx => {
            let mut facts = tdx_facts();
            facts.body.report_data = report_data;
            facts.at(NOW)
        }
    }
}

fn rules(tee: Tee) -> Rules {
    parse(&match tee {
        Tee::SevSnp => snp_text(),
        Tee::Tdx => tdx_text(),
    })
}

/// A session of a window of three, and genuine facts for it.
fn session(tee: Tee, claims: &[u8]) -> (Facts, MerklePath) {
    let own = leaf(&session_digest(Mode::Hardware, tee, &NONCE, &EKM, &SPKI, claims));
    let tree = Tree::new(vec![[1; 64], own, [2; 64]]).unwrap();
    (facts(tee, report_data(Mode::Hardware, tee, &tree.root(), 3)), tree.path(1).unwrap())
}

fn session_codes(tee: Tee, claims: &Claims) -> Vec<&'static str> {
    let claims = claims.to_bytes();
    let (facts, merkle) = session(tee, &claims);
    let expected = Expected::Session { nonce: &NONCE, ekm: &EKM, spki_sha256: &SPKI, claims: &claims, merkle: &merkle };
    let (table, _) = judge(&facts, &rules(tee), &expected);
    table.reasons.iter().map(|reason| reason.code).collect()
}

#[test]
fn every_part_of_a_session_counts() {
    BOTH.into_iter().for_each(every_part);
}

fn every_part(tee: Tee) {
    let bytes = claims().to_bytes();
    let (facts, merkle) = session(tee, &bytes);
    let rules = rules(tee);
    let judged = |nonce: &[u8; 32], ekm: &[u8; 32], spki: &[u8; 32], claims: &[u8], merkle: &MerklePath| {
        let expected = Expected::Session { nonce, ekm, spki_sha256: spki, claims, merkle };
        judge(&facts, &rules, &expected).0.reasons.iter().map(|r| r.code).collect::<Vec<_>>()
    };
    assert_eq!(judged(&NONCE, &EKM, &SPKI, &bytes, &merkle), [""; 0], "the control");
    assert_eq!(judged(&[0; 32], &EKM, &SPKI, &bytes, &merkle), ["REPORT_DATA_MISMATCH"], "replayed nonce");
    assert_eq!(judged(&NONCE, &[0; 32], &SPKI, &bytes, &merkle), ["REPORT_DATA_MISMATCH"], "relayed session");
    let other_key = judged(&NONCE, &EKM, &[0; 32], &bytes, &merkle);
    assert_eq!(other_key, ["REPORT_DATA_MISMATCH", "CLAIMS_SPKI"]);
    let mut longer = bytes.clone();
    longer.push(b' ');
    assert_eq!(judged(&NONCE, &EKM, &SPKI, &longer, &merkle), ["REPORT_DATA_MISMATCH"], "other bytes, same claims");
    let size = MerklePath { size: 4, ..merkle.clone() };
    assert_eq!(judged(&NONCE, &EKM, &SPKI, &bytes, &size), ["REPORT_DATA_MISMATCH"]);
    let other = if tee == Tee::Tdx { Tee::SevSnp } else { Tee::Tdx };
    let (swapped, merkle) = session(other, &bytes);
    let of_other = self::facts(tee, *swapped.evidence.report_data());
    let expected = Expected::Session { nonce: &NONCE, ekm: &EKM, spki_sha256: &SPKI, claims: &bytes, merkle: &merkle };
    let (table, _) = judge(&of_other, &rules, &expected);
    assert_eq!(table.reasons[0].code, "REPORT_DATA_MISMATCH", "the technology is in the hash");
    let short = MerklePath { path: Vec::new(), ..merkle.clone() };
    assert_eq!(judged(&NONCE, &EKM, &SPKI, &bytes, &short), ["MERKLE_PATH_INVALID", "REPORT_DATA_MISMATCH"]);
}

#[test]
fn the_mode_in_the_hash_is_the_policys() {
    let bytes = claims().to_bytes();
    let own = leaf(&session_digest(Mode::Simulation, Tee::SevSnp, &NONCE, &EKM, &SPKI, &bytes));
    let tree = Tree::new(vec![own]).unwrap();
    let facts = facts(Tee::SevSnp, report_data(Mode::Simulation, Tee::SevSnp, &tree.root(), 1));
    let merkle = tree.path(0).unwrap();
    let expected = Expected::Session { nonce: &NONCE, ekm: &EKM, spki_sha256: &SPKI, claims: &bytes, merkle: &merkle };
    let (table, _) = judge(&facts, &rules(Tee::SevSnp), &expected);
    assert_eq!(table.reasons.iter().map(|r| r.code).collect::<Vec<_>>(), ["REPORT_DATA_MISMATCH"]);
}

#[test]
fn what_claims_say_is_compared() {
    type Edit = fn(&mut Claims);
    let cases: &[(&str, Edit)] = &[
        ("CLAIMS_INVALID", |c| c.v = 2),
        ("CLAIMS_MODE", |c| c.mode = Mode::Simulation),
        ("CLAIMS_SPKI", |c| c.spki_sha256[0] ^= 1),
        ("CLAIMS_CONFIG_DIGEST", |c| c.config_digest[0] ^= 1),
        ("MODEL_NOT_LISTED", |c| c.models[0].id = "other".to_owned()),
        ("MODEL_SEQUENCE_BELOW_FLOOR", |c| c.models[0].sequence = 2),
        ("VENDOR_KEY_NOT_ALLOWED", |c| c.models[0].vendor_keys = vec![Ed25519Public([1; 32])]),
        ("VENDOR_KEY_NOT_ALLOWED", |c| c.models[0].vendor_keys.push(Ed25519Public([1; 32]))),
    ];
    for tee in BOTH {
        assert_eq!(session_codes(tee, &claims()), [""; 0], "the control");
        for (code, edit) in cases {
            let mut claims = claims();
            edit(&mut claims);
            assert_eq!(session_codes(tee, &claims), [*code]);
        }
    }
}

#[test]
fn the_two_shapes_of_report_data_never_meet() {
    for tee in BOTH {
        let bytes = claims().to_bytes();
        let (whole, merkle) = session(tee, &bytes);
        let mut shaped = *whole.evidence.report_data();
        shaped[48..].fill(0);
        let expected =
            Expected::Session { nonce: &NONCE, ekm: &EKM, spki_sha256: &SPKI, claims: &bytes, merkle: &merkle };
        let (table, _) = judge(&facts(tee, shaped), &rules(tee), &expected);
        let got: Vec<_> = table.reasons.iter().map(|r| r.code).collect();
        assert_eq!(got, ["REPORT_DATA_SHAPE", "REPORT_DATA_MISMATCH"]);
        let (table, _) = judge(&facts(tee, [1; 64]), &rules(tee), &Expected::Release { report_data: [1; 64] });
        assert_eq!(table.reasons.iter().map(|r| r.code).collect::<Vec<_>>(), ["REPORT_DATA_SHAPE"]);
    }
}

#[test]
fn a_host_influenced_clock_and_a_static_release_are_said() {
    let mut claims = claims();
    claims.models[0].release = Release::Static;
    let bytes = claims.to_bytes();
    let (facts, merkle) = session(Tee::SevSnp, &bytes);
    let expected = Expected::Session { nonce: &NONCE, ekm: &EKM, spki_sha256: &SPKI, claims: &bytes, merkle: &merkle };
    let (table, claims) = judge(&facts, &rules(Tee::SevSnp), &expected);
    assert!(table.reasons.is_empty() && claims.is_some());
    assert!(table.notes.iter().any(|n| n.contains("host-influenced")));
    assert!(
        table.not_proven.iter().any(|n| n.contains("time"))
            && table.not_proven.iter().any(|n| n.contains("revocation"))
    );
}
