//! Turns the numbered steps of both orchestrators, every code, and the committed cases into the page COVERAGE.md.
//! It does not judge cases: a case that does not come to its code fails the walker beside this.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
};

use vouchsafe_policies::Check;

use crate::{
    case::{Case, Kind},
    genuine,
};

/// The page, and the steps that lack a vector.
pub struct Page {
    pub text: String,
    pub gaps: Vec<String>,
}

struct Technology {
    title: &'static str,
    tee: &'static str,
    orchestrator: &'static str,
    genuine: &'static [&'static str],
}

const TECHNOLOGIES: [Technology; 2] = [
    Technology {
        title: "SEV-SNP",
        tee: "sev-snp",
        orchestrator: "attestation/src/snp/verify.rs",
        genuine: &genuine::SNP,
    },
    Technology { title: "TDX", tee: "tdx", orchestrator: "attestation/src/tdx/verify.rs", genuine: &genuine::TDX },
];

/// Where verification's codes are written.
const ERRORS: [&str; 2] = ["attestation/src/error.rs", "attestation/src/tdx/error.rs"];

/// Codes that no committed case can show, each with its reason.
const WITHOUT_CASE: &[(&str, &str)] = &[
    (
        "ANCHOR_PIN",
        "compiled-in certificates would have to be damaged; `attestation/tests` and `cargo xtask prove` look at the pins",
    ),
    ("ASVK_PIN", "concerns AMD's own anchors: `attestation/tests/vlek.rs`, with the shared genuine vectors"),
    (
        "SEAM_ATTRIBUTES_NOT_ZERO",
        "verification refuses it first: dcap-qvl wants the TCB info's attributes exactly (TDX_MODULE_ATTRIBUTES)",
    ),
    (
        "QUOTE_AMBIGUOUS",
        "stands for two readings of the same bytes, of which none is known: the unit tests of `attestation/src/tdx/qvl.rs`",
    ),
    ("QUOTE_REFUSED", "stands for what a later dcap-qvl may refuse; nothing is known that comes to it"),
];

pub fn page(cases: &[Case]) -> Page {
    let mut text = String::from(
        "# Coverage\n\n\
         Written by `cargo xtask coverage` from `tests/vectors/evidence` and the sources; a test compares. Every case is a directory with\n\
         a `case.toml`: what is wrong in one sentence, and the exact code, step and exit status that it must come to.\n\n",
    );
    let negatives = cases.iter().filter(|case| case.is_negative()).count();
    let _ = writeln!(text, "{negatives} negative cases, {} positive ones.", cases.len() - negatives);
    let mut gaps = Vec::new();
    for technology in &TECHNOLOGIES {
        steps(&mut text, &mut gaps, technology, cases);
    }
    verification_codes(&mut text, cases);
    appraisal_codes(&mut text, cases);
    policy_codes(&mut text, cases);
    Page { text, gaps }
}

/// One row for each numbered step: a positive case passes all of them.
fn steps(text: &mut String, gaps: &mut Vec<String>, technology: &Technology, cases: &[Case]) {
    let own = |case: &&Case| case.tee == technology.tee && case.kind != Kind::Policy;
    let accepted: Vec<&Case> =
        cases.iter().filter(own).filter(|c| c.kind == Kind::Verify && !c.is_negative()).collect();
    let _ = write!(
        text,
        "\n## {}: steps of `{}`\n\n\
         What passes verification passes every step: {} committed positive cases ({}), and the genuine ones by name: {}.\n\n\
         | Step | Positive | Negative | Negative cases |\n|---|---|---|---|\n",
        technology.title,
        technology.orchestrator,
        accepted.len(),
        names(&accepted),
        quoted(technology.genuine.iter().copied()),
    );
    let mut all = numbered(technology.orchestrator);
    // The anchors are one root file for both technologies; its cases stand with the first.
    if technology.tee == "sev-snp" {
        all.insert(0, (0, "Anchors".to_owned()));
    }
    for (number, name) in all {
        let refused: Vec<&Case> = cases.iter().filter(own).filter(|case| case.step == Some(number)).collect();
        let _ = writeln!(
            text,
            "| {number} {name} | {} | {} | {} |",
            accepted.len() + technology.genuine.len(),
            refused.len(),
            names(&refused)
        );
        if accepted.is_empty() || refused.is_empty() {
            gaps.push(format!("{} step {number} {name}", technology.title));
        }
    }
}

/// `// 3. Version: offset 0x000.` -> (3, Version)
fn numbered(orchestrator: &str) -> Vec<(u8, String)> {
    let steps: Vec<(u8, String)> = source(orchestrator)
        .lines()
        .filter_map(|line| line.trim().strip_prefix("// ")?.split_once(". "))
        .filter_map(|(number, rest)| Some((number.parse().ok()?, rest.split([':', ',']).next()?.to_owned())))
        .collect();
    let numbers: Vec<u8> = steps.iter().map(|step| step.0).collect();
    let expected: Vec<u8> = (1..).take(steps.len()).collect();
    assert!(steps.len() >= 10 && numbers == expected, "{orchestrator}: the steps are not numbered from 1: {numbers:?}");
    steps
}

fn verification_codes(text: &mut String, cases: &[Case]) {
    let by_code = by_code(cases, Kind::Verify);
    let mut written: BTreeSet<String> = ERRORS.iter().flat_map(|path| codes_in(&source(path))).collect();
    written.extend(by_code.keys().map(|code| (*code).to_owned()));
    text.push_str("\n## Codes of verification\n\n| Code | Cases |\n|---|---|\n");
    for code in &written {
        row(text, code, by_code.get(code.as_str()));
    }
}

fn appraisal_codes(text: &mut String, cases: &[Case]) {
    let by_code = by_code(cases, Kind::Appraise);
    text.push_str("\n## Codes of appraisal\n\n| Code | Cases |\n|---|---|\n");
    let codes: BTreeSet<&str> = Check::ALL.iter().map(|check| check.code()).collect();
    for code in codes {
        row(text, code, by_code.get(code));
    }
}

fn policy_codes(text: &mut String, cases: &[Case]) {
    text.push_str("\n## Codes of policy files\n\n| Code | Cases |\n|---|---|\n");
    for (code, list) in by_code(cases, Kind::Policy) {
        row(text, code, Some(&list));
    }
}

fn row(text: &mut String, code: &str, cases: Option<&Vec<&Case>>) {
    let without = WITHOUT_CASE.iter().find(|(known, _)| *known == code);
    let listed = match (cases, without) {
        (Some(cases), _) => cases.iter().map(|case| format!("`{}`", case.path())).collect::<Vec<_>>().join(", "),
        (None, Some((_, why))) => format!("none: {why}"),
        (None, None) => "none committed".to_owned(),
    };
    let _ = writeln!(text, "| {code} | {listed} |");
}

/// Every code of the negative cases of one kind, with its cases.
fn by_code(cases: &[Case], kind: Kind) -> BTreeMap<&str, Vec<&Case>> {
    let mut found: BTreeMap<&str, Vec<&Case>> = BTreeMap::new();
    for case in cases.iter().filter(|case| case.kind == kind && case.is_negative()) {
        for code in &case.codes {
            found.entry(code).or_default().push(case);
        }
    }
    found
}

/// Every string in SCREAMING_SNAKE of a source.
fn codes_in(source: &str) -> BTreeSet<String> {
    let shipped = &source[..source.find("#[cfg(test)]").unwrap_or(source.len())];
    let is_code = |word: &&str| {
        word.contains('_')
            && word.len() > 4
            && word.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
    };
    shipped.split('"').skip(1).step_by(2).filter(is_code).map(str::to_owned).collect()
}

fn names(cases: &[&Case]) -> String {
    if cases.is_empty() { "none".to_owned() } else { quoted(cases.iter().map(|case| case.name.as_str())) }
}

fn quoted<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn source(path: &str) -> String {
    let root = vouchsafe_tests::workspace();
    fs::read_to_string(Path::new(&root).join(path)).unwrap()
}
