//! The committed cases, as far as verification judges them: each must come to its exact code, step and exit status.
//! It does not appraise: the walker of `vouchsafe-tests` does, and counts.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../../tests/tests/vectors/case.rs"]
mod case;

use case::{Case, Kind};

fn differs(case: &Case) -> Option<String> {
    let refuses = case.kind == Kind::Verify && case.is_negative();
    let found = match case.verify() {
        Ok(_) => "authentic".to_owned(),
        Err(error) => {
            assert!(!error.to_string().is_empty() && !error.advice().is_empty());
            format!("{} at step {}, exit {}", error.code(), error.step(), error.exit())
        }
    };
    let wanted = match case.step {
        Some(step) if refuses => format!("{} at step {step}, exit {}", case.code, case.exit),
        _ => "authentic".to_owned(),
    };
    (found != wanted).then(|| format!("{}: {found} instead of {wanted}", case.path()))
}

#[test]
fn every_committed_case_comes_to_its_code() {
    let cases = case::all(&case::directory(env!("CARGO_MANIFEST_DIR")));
    let judged: Vec<_> = cases.iter().filter(|case| case.kind != Kind::Policy).collect();
    let broken: Vec<String> = judged.iter().filter_map(|case| differs(case)).collect();
    assert!(broken.is_empty(), "{} of {} cases:\n  {}", broken.len(), judged.len(), broken.join("\n  "));
    println!("{} committed cases verified", judged.len());
}
