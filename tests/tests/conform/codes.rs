//! Turns the verifier's and the policies' own tables of codes into the lists of `docs/evidence.md`, and compares.
//! `TRYCMD=overwrite cargo xtask test -p vouchsafe-tests codes` writes them anew; read the difference before it is kept.

use std::{collections::BTreeMap, fmt::Write as _, fs};

use vouchsafe_policies::{Check, Class};
use vouchsafe_tests::workspace;

const BEGIN: &str = "<!-- codes: written by tests/tests/conform/codes.rs -->\n";
const END: &str = "<!-- end of codes -->\n";

/// Names of the steps, from 0: `Authentic::steps` prints the same ones.
const SNP: [&str; 14] = [
    "anchors",
    "sizes",
    "frame",
    "version",
    "algorithm",
    "reserved",
    "product",
    "leaf",
    "chain",
    "crl",
    "signature",
    "signer",
    "tcb",
    "identity",
];
const TDX: [&str; 14] = [
    "anchors",
    "sizes",
    "header",
    "body",
    "frame",
    "collateral",
    "windows",
    "platform",
    "chains",
    "statements",
    "quoting enclave",
    "signature",
    "tcb",
    "attributes",
];

/// Codes by step and exit status.
type Steps = BTreeMap<(u8, u8), Vec<String>>;

#[test]
fn the_codes_of_the_document_are_those_of_the_sources() {
    let source = |path: &str| fs::read_to_string(workspace().join(path)).unwrap();
    let snp = steps(&source("attestation/src/error.rs"));
    let tdx = steps(&source("attestation/src/tdx/error.rs"));
    let items: Vec<String> = source("attestation/src/tdx/item.rs")
        .split("codes!(\"")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap().to_owned())
        .collect();
    let count = |steps: &Steps| steps.values().map(Vec::len).sum::<usize>();
    assert!(count(&snp) > 50 && count(&tdx) > 40 && items.len() > 8, "control: the sources were understood");
    let mut text = format!("\n### SEV-SNP, by step\n\n{}", table(&snp, &SNP));
    let _ = write!(text, "\n### TDX, by step\n\n{}", table(&tdx, &TDX));
    // One code, one exit status: what verification refuses has other names than what the policy does.
    let verifies = |code: &str| snp.values().chain(tdx.values()).flatten().any(|known| known == code);
    let shared: Vec<&str> = Check::ALL.iter().map(|check| check.code()).filter(|code| verifies(code)).collect();
    assert!(shared.is_empty(), "codes of both verification and appraisal: {shared:?}");
    let items: Vec<String> = items.iter().map(|item| format!("`{item}`")).collect();
    let _ = write!(text, "\n`<ITEM>` is one of {}.\n", items.join(", "));
    let _ = write!(text, "\n### Appraisal\n\n{}", appraisal());

    let path = workspace().join("docs/evidence.md");
    let document = fs::read_to_string(&path).unwrap();
    let (before, rest) = document.split_once(BEGIN).expect("the mark before the codes");
    let (written, after) = rest.split_once(END).expect("the mark after the codes");
    if std::env::var("TRYCMD").as_deref() == Ok("overwrite") {
        fs::write(&path, format!("{before}{BEGIN}{text}\n{END}{after}")).unwrap();
        return;
    }
    assert_eq!(written, format!("{text}\n"), "docs/evidence.md lists other codes: TRYCMD=overwrite writes them anew");
}

/// The rows of a `match` whose arms are `=> (step, code, exit, advice)`.
fn steps(source: &str) -> Steps {
    let packed: String = source.split_whitespace().collect();
    let mut steps = Steps::new();
    for arm in packed.split("=>(").skip(1) {
        let mut parts = arm.splitn(4, ',');
        let (Some(step), Some(code), Some(exit)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let exit = match exit {
            "N" | "2" => 2,
            "C" | "3" => 3,
            _ => continue,
        };
        let code = match code.strip_prefix("item.codes().") {
            Some(kind) => format!("<ITEM>_{}", kind.to_uppercase()),
            None => code.trim_matches('"').to_owned(),
        };
        let Ok(step) = step.parse() else { continue };
        steps.entry((step, exit)).or_default().push(code);
    }
    steps
}

fn table(steps: &Steps, names: &[&str]) -> String {
    let mut text =
        "| Step | Not authentic (exit 2) | Collateral missing or stale (exit 3) |\n|---|---|---|\n".to_owned();
    for (number, name) in (0_u8..).zip(names) {
        let cell = |exit| {
            let codes = steps.get(&(number, exit)).map(Vec::as_slice).unwrap_or_default();
            codes.iter().map(|code| format!("`{code}`")).collect::<Vec<_>>().join(", ")
        };
        let (not_authentic, stale) = (cell(2), cell(3));
        if !(not_authentic.is_empty() && stale.is_empty()) {
            let _ = writeln!(text, "| {number} {name} | {not_authentic} | {stale} |");
        }
    }
    assert!(steps.keys().all(|(step, _)| usize::from(*step) < names.len()), "every step has a name");
    text
}

fn appraisal() -> String {
    let mut text = "| Code | Exit | Looks at |\n|---|---|---|\n".to_owned();
    for (class, exit) in [(Class::Binding, 2), (Class::Policy, 4), (Class::Stale, 3)] {
        for check in Check::ALL.iter().filter(|check| check.class() == class) {
            let _ = writeln!(text, "| `{}` | {exit} | {} |", check.code(), check.subject());
        }
    }
    text
}
