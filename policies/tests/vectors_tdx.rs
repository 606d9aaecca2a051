//! Genuine quotes under the default hardware policy: the expected verdicts of the vectors' own index, in our codes.
//! It does not establish anything about simulated evidence: the scenarios do.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::{collections::BTreeSet, path::Path};

use common::{Tdx, at, bundle, judged, tdx, vectors};
use vouchsafe_attestation::{TdxCollateral, UnixTime};
use vouchsafe_policies::appraise;

/// The words of the index, and what appraisal says instead.
const WORDS: [(&str, &[&str]); 3] = [
    ("strict+flags=OK", &[]),
    (
        "strict+flags=ERR TCB status OutOfDate is not acceptable by policy",
        &["TCB_STATUS_NOT_ALLOWED", "TCB_ADVISORY_NOT_ALLOWED"],
    ),
    ("no collateral", &[]),
];

/// What the default hardware policy of this project says besides, quote by quote: these guests put other things than a
/// digest and 16 zero bytes into MRCONFIGID.
const BESIDES: [(&str, &str); 1] = [("0c699dd4", "MR_CONFIG_ID_SHAPE")];

fn eval19(dir: &Path, fmspc: &str) -> Option<(TdxCollateral, UnixTime)> {
    let path = dir.join(format!("tdx/{fmspc}_2026-06-29_eval19.json"));
    path.is_file().then(|| bundle(&path))
}

fn named(dir: &Path, id: &str) -> Tdx {
    tdx(dir).into_iter().find(|row| row.name.contains(id)).unwrap()
}

#[test]
fn genuine_quotes_get_the_verdicts_of_their_index() {
    let Some(dir) = vectors("genuine_quotes_get_the_verdicts_of_their_index") else { return };
    let rows = tdx(&dir);
    let (mut accepted, mut refused, mut foreign) = (0, 0, 0);
    for row in &rows {
        let (word, mapped) = WORDS.iter().find(|(word, _)| row.words.ends_with(word)).unwrap();
        let policy = row.policy("");
        let Some((collateral, now)) = eval19(&dir, &row.fmspc) else {
            // Only the collateral of another processor family is at hand, and it must not do.
            let (collateral, now) = eval19(&dir, "90c06f000000").unwrap();
            let error = row.verify(&collateral, &policy, now).unwrap_err();
            assert_eq!((*word, error.exit()), ("no collateral", 2), "{}: {}", row.name, error.code());
            foreign += 1;
            continue;
        };
        let mut wanted: BTreeSet<_> = mapped.iter().copied().collect();
        wanted.extend(BESIDES.iter().filter(|(id, _)| row.name.contains(id)).map(|(_, code)| *code));
        let authentic = row.verify(&collateral, &policy, now).unwrap_or_else(|e| panic!("{}: {}", row.name, e.code()));
        let got = judged(authentic, &policy, &row.expected());
        assert_eq!(got, wanted, "{}", row.name);
        println!("{now} {:46} {got:?}", row.name);
        if got.is_empty() { accepted += 1 } else { refused += 1 }
    }
    assert_eq!((rows.len(), accepted, refused, foreign), (7, 3, 2, 2));
}

#[test]
fn an_older_assessment_is_below_the_floor() {
    let Some(dir) = vectors("an_older_assessment_is_below_the_floor") else { return };
    let row = named(&dir, "cf77a6e9");
    let (collateral, now) = bundle(&dir.join("tdx/90c06f000000_2026-04-24_eval18.json"));
    let appraised = |more: &str| {
        let policy = row.policy(more);
        judged(row.verify(&collateral, &policy, now).unwrap(), &policy, &row.expected())
    };
    assert_eq!(appraised(""), BTreeSet::from(["TCB_EVALUATION_BELOW_FLOOR"]));
    assert_eq!(
        appraised("tcb.min_tcb_evaluation_number = 18\ntcb.written = \"2026-03-01\"\ntcb.source = \"own\""),
        BTreeSet::new(),
        "control"
    );
}

/// The newest bundle at hand: Intel's assessment 20 of October 2026.
#[test]
fn a_newer_assessment_passes_and_may_be_demanded() {
    let Some(dir) = vectors("a_newer_assessment_passes_and_may_be_demanded") else { return };
    let row = named(&dir, "0c699dd4");
    let (collateral, now) = bundle(&dir.join("tdx/dcap-qvl/tdx_quote_td15ex_collateral.json"));
    for (floor, wanted) in [(19, &[][..]), (20, &[]), (21, &["TCB_EVALUATION_BELOW_FLOOR"])] {
        let policy = row.policy(&format!(
            "[tdx.tcb]\nmin_tcb_evaluation_number = {floor}\nwritten = \"2026-03-01\"\nsource = \"own\""
        ));
        let mut got = judged(row.verify(&collateral, &policy, now).unwrap(), &policy, &row.expected());
        assert!(got.remove("MR_CONFIG_ID_SHAPE"));
        assert_eq!(got, wanted.iter().copied().collect(), "floor {floor}");
    }
}

#[test]
fn an_out_of_date_machine_lives_until_its_grace_ends() {
    let Some(dir) = vectors("an_out_of_date_machine_lives_until_its_grace_ends") else { return };
    let row = named(&dir, "afb2d8f7");
    let (collateral, now) = eval19(&dir, &row.fmspc).unwrap();
    let until = |end: UnixTime| {
        format!(
            "[tdx.tcb.grace]\nstatuses = [\"OutOfDate\"]\nadvisories = \"any\"\nuntil = \"{end}\"\nsource = \"update planned\"\n"
        )
    };
    for (end, wanted) in [
        (now.plus(1), &[][..]),
        (now, &["TCB_GRACE_ENDED", "TCB_ADVISORY_NOT_ALLOWED"]),
        (UnixTime(now.0 - 1), &["TCB_GRACE_ENDED", "TCB_ADVISORY_NOT_ALLOWED"]),
    ] {
        let policy = row.policy(&until(end));
        let got = judged(row.verify(&collateral, &policy, now).unwrap(), &policy, &row.expected());
        assert_eq!(got, wanted.iter().copied().collect(), "until {end}");
    }
}

#[test]
fn a_machine_is_known_by_its_ppid() {
    let Some(dir) = vectors("a_machine_is_known_by_its_ppid") else { return };
    let row = named(&dir, "cf77a6e9");
    let (collateral, now) = eval19(&dir, &row.fmspc).unwrap();
    for (ppid, wanted) in
        [("2734b654f553596897eaadfb5667a954", &[][..]), ("2734b654f553596897eaadfb5667a955", &["PLATFORM_NOT_ALLOWED"])]
    {
        let policy = row.on(ppid);
        let got = judged(row.verify(&collateral, &policy, now).unwrap(), &policy, &row.expected());
        assert_eq!(got, wanted.iter().copied().collect());
    }
}

#[test]
fn a_genuine_verdict_says_whose_word_each_finding_is() {
    let Some(dir) = vectors("a_genuine_verdict_says_whose_word_each_finding_is") else { return };
    let row = named(&dir, "cf77a6e9");
    let (collateral, now) = eval19(&dir, &row.fmspc).unwrap();
    let policy = row.policy("");
    let appraised = appraise(row.verify(&collateral, &policy, now).unwrap(), &policy, &row.expected());
    // The REPORT_DATA of this quote has another protocol's shape; all else is accepted.
    let refusal = appraised.map(|_| ()).unwrap_err();
    assert_eq!((refusal.code(), refusal.reasons.len()), ("REPORT_DATA_SHAPE", 1), "{refusal}");
    let text = refusal.table();
    for part in [
        "hardware: Intel's root",
        "Intel, in its signed collateral",
        "Intel, in its signed revocation lists",
        "UpToDate (platform UpToDate, quoting enclave UpToDate)",
        "RTMR3: ",
        "2734b654f553596897eaadfb5667a954",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert!(!text.contains("AMD"), "{text}");
    assert!(now > at("2026-06-29T00:00:00Z"));
}
