//! Genuine reports under the default hardware policy: the expected verdicts of the vectors' own index, in our codes.
//! It does not establish anything about simulated evidence: the scenarios do.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{collections::BTreeSet, fs, path::PathBuf};

use vouchsafe_attestation::{Authentic, Collateral, Evidence, UnixTime, VerifyError, verify};
use vouchsafe_policies::{Class, Expected, Policy, Refusal, appraise};

/// All leaves but the expired VLEK and all three revocation lists are in force.
const NOW: UnixTime = UnixTime(1_772_323_200); // 2026-03-01T00:00:00Z

/// The words of the index, what appraisal says instead, and what verification says when it refuses first.
const WORDS: [(&str, &str, &str); 8] = [
    ("VersionTooOld", "VERSION_TOO_OLD", ""),
    ("DebugAllowed", "DEBUG_ALLOWED", ""),
    ("AliasCheckIncomplete", "ALIAS_CHECK_INCOMPLETE", ""),
    ("TcbBelowMinimum", "TCB_BELOW_FLOOR", ""),
    ("ProvisionalFirmware", "FIRMWARE_PROVISIONAL", ""),
    ("VmplNotAllowed", "VMPL_NOT_ALLOWED", ""),
    ("VlekNotAllowed", "VLEK_NOT_ALLOWED", "LEAF_VLEK_UNSUPPORTED"),
    ("VekExpired", "", "LEAF_EXPIRED"),
];

struct Row {
    name: String,
    product: &'static str,
    words: Vec<String>,
}

fn vectors(test: &str) -> Option<PathBuf> {
    let dir = std::env::var_os("VOUCHSAFE_VECTORS")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors")), PathBuf::from);
    if dir.join("INDEX.md").is_file() {
        return Some(dir);
    }
    assert_ne!(std::env::var("VOUCHSAFE_REQUIRE_VECTORS").as_deref(), Ok("1"), "{test}: vectors missing");
    println!("NOT RUN: {test}: vectors missing");
    None
}

fn rows(dir: &std::path::Path) -> Vec<Row> {
    let index = fs::read_to_string(dir.join("INDEX.md")).unwrap();
    let mut rows = Vec::new();
    for line in index.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let Some(product) = ["Milan", "Genoa", "Turin"].into_iter().find(|p| cells[2].starts_with(p)) else { continue };
        let words = cells[10].split(", ").filter(|word| *word != "ACCEPT").map(str::to_owned).collect();
        rows.push(Row { name: cells[1].to_owned(), product, words });
    }
    rows
}

fn evidence(dir: &std::path::Path, row: &Row) -> (Vec<u8>, Result<Authentic, VerifyError>) {
    let snp = dir.join("snp");
    let report = fs::read(snp.join(format!("{}.report.bin", row.name))).unwrap();
    let leaf = fs::read(snp.join(format!("{}.vek.der", row.name))).unwrap();
    let crl = fs::read(dir.join(format!("amd-ca/{}_vcek.crl", row.product.to_lowercase()))).unwrap();
    let policy = policy(&report, "");
    let verdict =
        verify(&Evidence::SevSnp { report: report.clone() }, &Collateral::SevSnp { leaf, crl }, policy.anchors(), NOW);
    (report, verdict)
}

/// The strict base with this report's own code, any machine, and `more` under `[sev-snp]`.
fn policy(report: &[u8], more: &str) -> Policy {
    let text = format!(
        "version = 1\nmode = \"hardware\"\nextends = \"hardware-snp-strict\"\nmodels = \"any\"\n[sev-snp]\n\
         measurements = [\"{}\"]\nconfig_digests = \"any\"\nplatforms = \"any\"\n{more}\n",
        hex::encode(&report[0x90..0xc0]),
    );
    Policy::parse(&text, &|_| Err(std::io::ErrorKind::NotFound.into())).unwrap()
}

/// The REPORT_DATA of a recorded report belongs to somebody else's protocol: binding is left out here, on purpose and only here.
fn codes(refusal: &Refusal) -> BTreeSet<&'static str> {
    refusal.reasons.iter().filter(|r| r.rule.class() != Class::Binding).map(|r| r.code).collect()
}

fn judged(report: &[u8], authentic: Authentic, more: &str) -> BTreeSet<&'static str> {
    let report_data = report[0x50..0x90].try_into().unwrap();
    match appraise(authentic, &policy(report, more), &Expected::Release { report_data }, NOW) {
        Ok(appraised) => {
            assert!(!appraised.to_string().contains("SIMULATED"));
            BTreeSet::new()
        }
        Err(refusal) => codes(&refusal),
    }
}

#[test]
fn genuine_reports_get_the_verdicts_of_their_index() {
    let Some(dir) = vectors("genuine_reports_get_the_verdicts_of_their_index") else { return };
    let rows = rows(&dir);
    let on_disk = fs::read_dir(dir.join("snp")).unwrap().count();
    assert_eq!((rows.len(), on_disk), (10, 20), "every vector has its row");
    let mut accepted = 0;
    for row in &rows {
        let known: Vec<_> = row.words.iter().map(|word| WORDS.iter().find(|w| w.0 == word).unwrap()).collect();
        match evidence(&dir, row) {
            (_, Err(error)) => {
                assert!(known.iter().any(|w| w.2 == error.code()), "{}: {}", row.name, error.code());
            }
            (report, Ok(authentic)) => {
                let wanted: BTreeSet<_> = known.iter().map(|w| w.1).filter(|code| !code.is_empty()).collect();
                let got = judged(&report, authentic, "products = [\"Milan\", \"Genoa\", \"Turin\"]");
                assert_eq!(got, wanted, "{}", row.name);
                accepted += usize::from(got.is_empty());
            }
        }
    }
    assert_eq!(accepted, 6);
}

#[test]
fn without_the_opt_in_every_milan_fails_on_the_product() {
    let Some(dir) = vectors("without_the_opt_in_every_milan_fails_on_the_product") else { return };
    let mut milans = 0;
    for row in rows(&dir) {
        let (report, Ok(authentic)) = evidence(&dir, &row) else { continue };
        let got = judged(&report, authentic, "");
        assert_eq!(got.contains("PRODUCT_NOT_ALLOWED"), row.product == "Milan", "{}: {got:?}", row.name);
        milans += usize::from(row.product == "Milan");
    }
    assert_eq!(milans, 6);
}

#[test]
fn a_genuine_verdict_prints_what_was_and_was_not_proven() {
    let Some(dir) = vectors("a_genuine_verdict_prints_what_was_and_was_not_proven") else { return };
    let row = rows(&dir).into_iter().find(|row| row.product == "Turin").unwrap();
    let (report, authentic) = evidence(&dir, &row);
    let policy = policy(&report, "");
    let report_data = report[0x50..0x90].try_into().unwrap();
    let appraised = appraise(authentic.unwrap(), &policy, &Expected::Release { report_data }, NOW).unwrap();
    let text = appraised.to_string();
    for part in [
        "availability",
        "interposer",
        "which machine it is",
        "`sev-snp.platforms` = any",
        "`models` = any",
        "single_socket",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let json = appraised.to_json();
    assert_eq!((json["accepted"].as_bool(), json["mode"].as_str()), (Some(true), Some("hardware")));
    assert_eq!(json["rows"].as_array().unwrap().len(), appraised.rows().len());
    assert_eq!(appraised.policy_digest(), policy.digest());
    assert!(appraised.claims().is_none());
}

#[test]
fn an_old_list_alone_asks_for_collateral_and_binding_outranks_all() {
    let Some(dir) = vectors("an_old_list_alone_asks_for_collateral_and_binding_outranks_all") else { return };
    let row = rows(&dir).into_iter().find(|row| row.name == "genoa-v5-vcek-6d1ceffa").unwrap();
    let judge = |more: &str, flip: u8| {
        let (report, authentic) = evidence(&dir, &row);
        let mut report_data: [u8; 64] = report[0x50..0x90].try_into().unwrap();
        report_data[0] ^= flip;
        appraise(authentic.unwrap(), &policy(&report, more), &Expected::Release { report_data }, NOW).unwrap_err()
    };
    let old = judge("[crl]\nmax_age_days = 10", 0);
    assert_eq!((old.code(), old.exit(), old.reasons.len()), ("CRL_TOO_OLD", 3, 1));
    let both = judge("vmpl = [1]\n[crl]\nmax_age_days = 10", 0);
    assert_eq!((both.code(), both.exit(), both.reasons.len()), ("VMPL_NOT_ALLOWED", 4, 2));
    let all = judge("vmpl = [1]\n[crl]\nmax_age_days = 10", 1);
    assert_eq!((all.code(), all.exit(), all.reasons.len()), ("REPORT_DATA_MISMATCH", 2, 3));
    let json = all.to_json();
    assert_eq!(
        (json["accepted"].as_bool(), json["reasons"][1]["code"].as_str()),
        (Some(false), Some("VMPL_NOT_ALLOWED"))
    );
    assert!(all.to_string().lines().count() >= 7 && all.table().contains("REFUSED"), "{all}");
}
