//! Turns every committed case of evidence into its exact code, step and exit status, and all of them into COVERAGE.md.
//! It does not make cases: `cargo xtask vectors` does, and what it writes is committed.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

#[path = "vectors/case.rs"]
mod case;
#[path = "vectors/coverage.rs"]
mod coverage;
#[path = "vectors/genuine.rs"]
mod genuine;

use std::{collections::BTreeMap, io};

use case::{ACCEPTED, Case, Kind};
use vouchsafe_attestation::{EvidenceEnvelope, session::MerklePath};
use vouchsafe_policies::{Expected, Policy, PolicyError, appraise};

/// Fewer would not hold every rule.
const NEGATIVES: usize = 110;

fn cases() -> Vec<Case> {
    case::all(&case::directory(env!("CARGO_MANIFEST_DIR")))
}

/// What became of a case: its codes, its step where verification refused, its exit status.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    codes: Vec<String>,
    step: Option<u8>,
    exit: u8,
}

impl Outcome {
    fn of(code: &str, step: Option<u8>, exit: u8) -> Self {
        Self { codes: vec![code.to_owned()], step, exit }
    }

    fn wanted(case: &Case) -> Self {
        Self { codes: case.codes.clone(), step: case.step, exit: case.exit }
    }
}

fn judge(case: &Case) -> Outcome {
    let verdict = match case.kind {
        Kind::Policy => {
            return policy(case)
                .err()
                .map_or(Outcome::of(ACCEPTED, None, 0), |e| Outcome::of(e.code(), None, e.exit()));
        }
        Kind::Verify | Kind::Appraise => case.verify(),
    };
    let authentic = match verdict {
        Ok(authentic) if case.kind == Kind::Appraise => authentic,
        Ok(_) => return Outcome::of(ACCEPTED, None, 0),
        Err(error) => return Outcome::of(error.code(), Some(error.step()), error.exit()),
    };
    let policy = match policy(case) {
        Ok(policy) => policy,
        Err(error) => return Outcome::of(error.code(), None, error.exit()),
    };
    let (session, claims) = (session(case), case.file("claims.json"));
    let expected = match &session {
        Some(Session { nonce, ekm, spki_sha256, merkle }) => {
            Expected::Session { nonce, ekm, spki_sha256, claims: &claims, merkle }
        }
        None => Expected::Release { report_data: case.report_data(&authentic) },
    };
    match appraise(authentic, &policy, &expected) {
        Ok(_) => Outcome::of(ACCEPTED, None, 0),
        Err(refusal) => {
            let mut codes: Vec<String> = Vec::new();
            for reason in &refusal.reasons {
                assert!(!reason.remedy.is_empty() && !reason.expected.is_empty() && !reason.actual.is_empty());
                if !codes.iter().any(|code| code == reason.code) {
                    codes.push(reason.code.to_owned());
                }
            }
            Outcome { codes, step: None, exit: refusal.exit() }
        }
    }
}

/// What a verifier knows of its session.
struct Session {
    nonce: [u8; 32],
    ekm: [u8; 32],
    spki_sha256: [u8; 32],
    merkle: MerklePath,
}

fn session(case: &Case) -> Option<Session> {
    if !case.has("session.json") {
        return None;
    }
    let json: serde_json::Value = serde_json::from_slice(&case.file("session.json")).unwrap();
    assert_eq!(json.as_object().unwrap().len(), 4, "{}: session.json", case.path());
    let bytes = |name: &str| hex::decode(json[name].as_str().unwrap()).unwrap().try_into().unwrap();
    Some(Session {
        nonce: bytes("nonce"),
        ekm: bytes("ekm"),
        spki_sha256: bytes("spki_sha256"),
        merkle: serde_json::from_value(json["merkle"].clone()).unwrap(),
    })
}

/// The policy of a case; roots are read from the case and nowhere else.
fn policy(case: &Case) -> Result<Policy, PolicyError> {
    let text = String::from_utf8(case.file("policy.toml")).unwrap();
    let read = |name: &str| {
        if case.has(name) && name.ends_with(".pem") { Ok(case.file(name)) } else { Err(io::ErrorKind::NotFound.into()) }
    };
    Policy::parse(&text, &read)
}

#[test]
fn every_committed_case_comes_to_its_code_step_and_exit_status() {
    let cases = cases();
    let broken: Vec<String> = cases
        .iter()
        .filter_map(|case| {
            let (found, wanted) = (judge(case), Outcome::wanted(case));
            (found != wanted).then(|| format!("{}: {found:?} instead of {wanted:?}", case.path()))
        })
        .collect();
    assert!(broken.is_empty(), "{} of {} cases:\n  {}", broken.len(), cases.len(), broken.join("\n  "));

    let mut counts: BTreeMap<(&str, &str), (usize, usize)> = BTreeMap::new();
    for case in &cases {
        let kind = match case.kind {
            Kind::Verify => "verified",
            Kind::Appraise => "appraised",
            Kind::Policy => "policy file",
        };
        let count = counts.entry((case.tee, kind)).or_default();
        if case.is_negative() { count.1 += 1 } else { count.0 += 1 }
    }
    for ((tee, kind), (accepted, refused)) in &counts {
        println!("{tee:8} {kind:12} {accepted:4} accepted {refused:4} refused");
    }
    let negatives = cases.iter().filter(|case| case.is_negative()).count();
    println!("{negatives} negative cases, {} positive ones", cases.len() - negatives);
    assert!(negatives >= NEGATIVES, "{negatives} negative cases are too few");
    for tee in ["sev-snp", "tdx"] {
        assert!(cases.iter().any(|case| case.tee == tee && !case.is_negative()), "{tee}: nothing is accepted");
    }
}

/// The envelope of a base holds exactly its parts.
#[test]
fn the_envelopes_are_the_bases() {
    for case in cases().iter().filter(|case| case.name == "accepted") {
        let envelope: EvidenceEnvelope = serde_json::from_slice(&case.file("envelope.json")).unwrap();
        assert_eq!(envelope.into_parts().unwrap(), case.parts(), "{}", case.path());
    }
}

#[test]
fn every_sentence_and_name_is_written_once() {
    let cases = cases();
    let mut seen: BTreeMap<(&str, &str), String> = BTreeMap::new();
    for case in &cases {
        let begins = case.what.starts_with("Nothing");
        assert_eq!(begins, !case.is_negative(), "{}: {}", case.path(), case.what);
        assert_eq!(case.name.starts_with("accepted"), !case.is_negative(), "{}", case.path());
        assert_eq!(case.step.is_some(), case.kind == Kind::Verify && case.is_negative(), "{}", case.path());
        if let Some(other) = seen.insert((case.tee, &case.what), case.path()) {
            panic!("{} and {other} say the same", case.path());
        }
    }
}

/// `cargo xtask coverage` names a file where the page is wanted.
#[test]
fn coverage_is_up_to_date_and_leaves_no_step_out() {
    let page = coverage::page(&cases());
    if let Some(place) = std::env::var_os("VOUCHSAFE_COVERAGE_PAGE") {
        std::fs::write(place, &page.text).unwrap();
        return;
    }
    assert!(page.gaps.is_empty(), "steps without a vector of each kind:\n  {}", page.gaps.join("\n  "));
    let committed = std::fs::read_to_string(vouchsafe_tests::workspace().join("COVERAGE.md")).unwrap_or_default();
    assert!(committed == page.text, "COVERAGE.md is not up to date: run `cargo xtask coverage`");
}
