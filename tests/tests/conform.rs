//! Turns the conformance interface of `docs/evidence.md` into tests: the built program on genuine evidence, and on bad input.
//! The expected codes stand in `conform/table.rs`; the verifier's own tests are beside the verifier.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

#[path = "vectors/case.rs"]
mod case;
#[path = "conform/codes.rs"]
mod codes;
#[path = "conform/table.rs"]
mod table;
#[path = "conform/vectors.rs"]
mod vectors;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use vouchsafe_attestation::collateral;
use vouchsafe_tests::vouchsafe;

use case::Kind;
use table::{IN_FORCE, LISTS_EXPIRED, QUOTES, VLEK_IN_FORCE, WORDS};
use vectors::{policy_for_quote, policy_for_report, rows, vectors};

/// What is given to `vouchsafe evidence verify`, by option.
#[derive(Clone)]
struct Words(Vec<(&'static str, String)>);

impl Words {
    /// A genuine report with its leaf and list, and a policy in `dir` that wants it.
    fn report(vectors: &Path, name: &str, dir: &Path) -> Self {
        let product = name.split('-').next().unwrap();
        let at = |file: String| text(&vectors.join(file));
        let report = at(format!("snp/{name}.report.bin"));
        let policy = dir.join("policy.toml");
        fs::write(&policy, policy_for_report(&fs::read(&report).unwrap())).unwrap();
        let mut words = Self(vec![
            ("--tee", "sev-snp".to_owned()),
            ("--evidence", report),
            ("--leaf", at(format!("snp/{name}.vek.der"))),
            ("--crl", at(format!("amd-ca/{product}_vcek.crl"))),
            ("--policy", text(&policy)),
            ("--at", IN_FORCE.to_owned()),
        ]);
        if name.contains("-vlek-") {
            words.0.push(("--asvk", at(format!("amd-ca/{product}_asvk.der"))));
        }
        words
    }

    /// A genuine quote with a collateral file, and a policy in `dir` that wants it.
    fn quote(vectors: &Path, name: &str, collateral: &str, at: &str, dir: &Path) -> Self {
        let quote = vectors.join(format!("tdx/{name}.quote.bin"));
        let policy = dir.join("policy.toml");
        fs::write(&policy, policy_for_quote(&fs::read(&quote).unwrap())).unwrap();
        Self(vec![
            ("--tee", "tdx".to_owned()),
            ("--evidence", text(&quote)),
            ("--collateral", text(&vectors.join("tdx").join(collateral))),
            ("--policy", text(&policy)),
            ("--at", at.to_owned()),
        ])
    }

    fn with(&self, option: &'static str, value: &str) -> Self {
        let mut words = self.without(option);
        words.0.push((option, value.to_owned()));
        words
    }

    fn without(&self, option: &str) -> Self {
        Self(self.0.iter().filter(|(name, _)| *name != option).cloned().collect())
    }

    /// Exit status, codes, the whole object; every rule of the interface is looked at on the way.
    fn judged(&self) -> (i32, Vec<String>, Value) {
        let mut args = vec!["evidence", "verify", "--json"];
        args.extend(self.0.iter().flat_map(|(option, value)| [*option, value.as_str()]));
        let output = vouchsafe(&args);
        let said = String::from_utf8(output.stdout).unwrap();
        let status = output.status.code().unwrap();
        assert_eq!(said.lines().count(), 1, "{args:?} prints one line: {said}");
        let object: Value = serde_json::from_str(&said).unwrap();
        let codes: Vec<String> =
            object["codes"].as_array().unwrap().iter().map(|c| c.as_str().unwrap().to_owned()).collect();
        assert_form(&object, status, &codes);
        (status, codes, object)
    }
}

/// The form that `docs/evidence.md` promises.
fn assert_form(object: &Value, status: i32, codes: &[String]) {
    let names: BTreeSet<&str> = object.as_object().unwrap().keys().map(String::as_str).collect();
    let promised = [
        "accepted",
        "codes",
        "claims",
        "mode",
        "simulated",
        "tee",
        "at",
        "policy",
        "report_data",
        "exit",
        "step",
        "steps",
        "rows",
        "reasons",
        "notes",
        "not_proven",
        "code",
        "fact",
        "advice",
    ];
    assert_eq!(names, promised.into_iter().collect::<BTreeSet<_>>());
    assert_eq!(object["exit"], status);
    assert_eq!(object["accepted"], status == 0);
    assert_eq!(codes.is_empty(), status == 0);
    assert!(object["claims"].is_object());
    assert_eq!(object["simulated"].is_null(), object["mode"].is_null());
    let unique: BTreeSet<&String> = codes.iter().collect();
    assert_eq!(unique.len(), codes.len(), "each code once");
    if let Some(first) = codes.first() {
        assert_eq!(object["code"], **first, "the first code decides the exit status");
    }
    for reason in object["reasons"].as_array().unwrap() {
        for field in ["code", "check", "expected", "actual", "remedy"] {
            assert!(reason[field].is_string(), "{reason}");
        }
    }
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

fn set(codes: &[String]) -> BTreeSet<&str> {
    codes.iter().map(String::as_str).collect()
}

#[test]
fn every_report_of_the_index_gets_the_verdict_of_the_table() {
    let Some(vectors) = vectors("reports of the index") else { return };
    let dir = tempfile::tempdir().unwrap();
    let rows = rows(&vectors, "SNP", "strict");
    assert_eq!(rows.len(), 10, "rows of the index");
    let mut accepted = 0;
    for (name, strict) in &rows {
        let words = Words::report(&vectors, name, dir.path());
        let expected: Vec<_> = match strict.as_str() {
            "ACCEPT" => Vec::new(),
            strict => strict
                .split(", ")
                .map(|word| *WORDS.iter().find(|(w, ..)| *w == word).unwrap_or_else(|| panic!("{word} is in no table")))
                .collect(),
        };
        let (stops, collected): (Vec<_>, Vec<_>) = expected.iter().partition(|(.., exit)| *exit == 3);
        let (status, codes, object) = words.judged();
        match (stops.first(), collected.is_empty()) {
            (Some((_, code, exit)), _) => {
                assert_eq!((status, &codes), (*exit, &vec![(*code).to_owned()]), "{name}");
                assert_eq!(object["claims"], serde_json::json!({}), "{name}: nothing is authentic");
                // The other words show once the leaf is in force.
                let (status, codes, _) = words.with("--at", VLEK_IN_FORCE).judged();
                assert_eq!((status, set(&codes)), (4, collected.iter().map(|(_, c, _)| *c).collect()), "{name}");
            }
            (None, true) => {
                assert_eq!((status, &codes), (0, &Vec::new()), "{name}: {object}");
                accepted += 1;
            }
            (None, false) => {
                assert_eq!((status, set(&codes)), (4, collected.iter().map(|(_, c, _)| *c).collect()), "{name}");
                assert!(object["claims"]["measurement"].is_string(), "{name} is authentic, and refused");
            }
        }
        // Once more on a day when every list has expired: a leaf that has expired is told first.
        let late = words.with("--at", LISTS_EXPIRED).judged();
        let code = stops.first().map_or("CRL_EXPIRED", |(_, code, _)| code);
        assert_eq!((late.0, late.1), (3, vec![code.to_owned()]), "{name}");
    }
    println!("{} reports: {accepted} accepted, {} refused", rows.len(), rows.len() - accepted);
}

#[test]
fn without_the_opt_in_every_milan_fails_on_the_product() {
    let Some(vectors) = vectors("Milan") else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut milans = 0;
    for (name, _) in rows(&vectors, "SNP", "strict").iter().filter(|(name, _)| name.starts_with("milan")) {
        let words = Words::report(&vectors, name, dir.path()).with("--at", VLEK_IN_FORCE);
        let policy = fs::read_to_string(dir.path().join("policy.toml")).unwrap();
        let base: Vec<&str> = policy.lines().filter(|line| !line.starts_with("products")).collect();
        fs::write(dir.path().join("policy.toml"), base.join("\n")).unwrap();
        let (status, codes, _) = words.judged();
        if codes != ["LEAF_NOT_YET_VALID"] {
            assert_eq!(status, 4, "{name}: {codes:?}");
            assert!(codes.contains(&"PRODUCT_NOT_ALLOWED".to_owned()), "{name}: {codes:?}");
            milans += 1;
        }
    }
    assert_eq!(milans, 6, "one of seven leaves was issued later");
}

#[test]
fn every_quote_of_the_index_gets_the_verdict_of_the_table() {
    let Some(vectors) = vectors("quotes of the index") else { return };
    let dir = tempfile::tempdir().unwrap();
    let named: BTreeSet<String> = rows(&vectors, "TDX", "fmspc").into_iter().map(|(file, _)| file).collect();
    let judged: BTreeSet<String> = QUOTES.iter().map(|(quote, ..)| format!("{quote}.quote.bin")).collect();
    assert_eq!(judged, named, "the table judges every quote of the index");
    for (quote, collateral, at, expected, exit) in QUOTES {
        let (status, codes, object) = Words::quote(&vectors, quote, collateral, at, dir.path()).judged();
        assert_eq!((status, codes), (exit, expected.iter().map(|c| (*c).to_owned()).collect()), "{quote}: {object}");
    }
}

#[test]
fn report_data_is_compared_exactly_or_the_verdict_says_that_it_was_not() {
    let Some(vectors) = vectors("report data") else { return };
    let dir = tempfile::tempdir().unwrap();
    let snp = Words::report(&vectors, "genoa-v5-vcek-6d1ceffa", dir.path());
    let other = tempfile::tempdir().unwrap();
    let (quote, collateral, at, ..) = QUOTES[3];
    let tdx = Words::quote(&vectors, quote, collateral, at, other.path());
    for words in [snp, tdx] {
        let (status, _, object) = words.judged();
        assert_eq!((status, &object["report_data"]), (0, &Value::from("not-compared")));
        let notes = object["notes"].to_string();
        assert!(notes.contains("NOT COMPARED"), "{notes}");
        let carried = object["claims"]["report_data"].as_str().unwrap().to_owned();
        for given in [carried.clone(), carried.to_uppercase()] {
            let (status, _, object) = words.with("--report-data", &given).judged();
            assert_eq!((status, &object["report_data"]), (0, &Value::from("compared")));
            assert!(!object["notes"].to_string().contains("NOT COMPARED"));
        }
        // The last digit, and the first half alone: verifiers have compared 32 bytes only.
        let last = if carried.ends_with('0') { '1' } else { '0' };
        let mut wrong = vec![format!("{}{last}", &carried[..127])];
        if carried[64..] != "0".repeat(64) {
            wrong.push(format!("{}{}", &carried[..64], "0".repeat(64)));
        }
        for given in wrong {
            let (status, codes, _) = words.with("--report-data", &given).judged();
            assert_eq!((status, codes), (2, vec!["REPORT_DATA_MISMATCH".to_owned()]), "{given}");
        }
        for given in ["", "00", &carried[1..], &format!("{carried}00"), &"x".repeat(128)] {
            let (status, codes, _) = words.with("--report-data", given).judged();
            assert_eq!((status, codes), (1, vec!["USAGE".to_owned()]), "{given}");
        }
    }
}

#[test]
fn pem_is_read_with_a_note_and_a_bundle_like_its_parts() {
    let Some(vectors) = vectors("PEM") else { return };
    let dir = tempfile::tempdir().unwrap();
    let words = Words::report(&vectors, "genoa-v5-vcek-6d1ceffa", dir.path());
    let file = |option: &str| PathBuf::from(&words.0.iter().find(|(name, _)| *name == option).unwrap().1);
    let pem = |option: &str, label: &str| {
        let base64 = STANDARD.encode(fs::read(file(option)).unwrap());
        let lines: Vec<&str> = base64.as_bytes().chunks(64).map(|l| std::str::from_utf8(l).unwrap()).collect();
        let path = dir.path().join(label);
        fs::write(&path, format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))).unwrap();
        text(&path)
    };
    let (leaf, crl) = (pem("--leaf", "CERTIFICATE"), pem("--crl", "X509 CRL"));
    let (status, _, object) = words.with("--leaf", &leaf).with("--crl", &crl).judged();
    let notes = object["notes"].to_string();
    assert_eq!(status, 0, "{object}");
    assert!(notes.contains("--leaf is PEM") && notes.contains("--crl is PEM"), "{notes}");
    assert!(!words.judged().2["notes"].to_string().contains("PEM"), "control");
    // A PEM file of something else is not a certificate.
    let key = pem("--leaf", "PRIVATE KEY");
    assert_eq!(words.with("--leaf", &key).judged().1, ["LEAF_MALFORMED"]);
    // The report itself is raw or nothing.
    let report = pem("--evidence", "CERTIFICATE");
    assert_eq!(words.with("--evidence", &report).judged().1, ["REPORT_LENGTH"]);

    let bundle = dir.path().join("bundle.json");
    let (leaf, crl) = (text(&file("--leaf")), text(&file("--crl")));
    let pack =
        ["collateral", "pack", "--tee", "sev-snp", "--leaf", &leaf, "--crl", &crl, "--out", bundle.to_str().unwrap()];
    assert!(vouchsafe(&pack).status.success());
    let from_bundle = words.without("--leaf").without("--crl").with("--collateral", bundle.to_str().unwrap());
    let (mut one, mut two) = (words.judged().2, from_bundle.judged().2);
    assert_eq!(one["accepted"], true);
    (one["notes"], two["notes"]) = (Value::Null, Value::Null);
    assert_eq!(one, two, "the same verdict");
    assert_eq!(from_bundle.with("--tee", "tdx").judged().1, ["COLLATERAL_KIND"]);
}

#[test]
fn every_bad_input_has_its_code() {
    let Some(vectors) = vectors("bad input") else { return };
    let dir = tempfile::tempdir().unwrap();
    let words = Words::report(&vectors, "genoa-v5-vcek-6d1ceffa", dir.path());
    let make = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        text(&path)
    };
    let (empty, garbage, folder) = (make("empty", b""), make("garbage", b"no such format\n"), text(dir.path()));
    let huge = make("huge", b"");
    fs::OpenOptions::new().write(true).open(&huge).unwrap().set_len(100 << 20).unwrap();
    let absent = text(&dir.path().join("absent"));
    let pipe = text(&dir.path().join("pipe"));
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let bundled = words.without("--leaf").without("--crl");
    let tdx = bundled.with("--tee", "tdx");
    for (words, option, file, code, exit) in [
        (&words, "--evidence", &empty, "REPORT_LENGTH", 2),
        (&words, "--evidence", &garbage, "REPORT_LENGTH", 2),
        (&words, "--evidence", &folder, "FILE_NOT_REGULAR", 9),
        (&words, "--evidence", &pipe, "FILE_NOT_REGULAR", 9),
        (&words, "--evidence", &huge, "FILE_TOO_LARGE", 9),
        (&words, "--evidence", &absent, "FILE", 9),
        (&words, "--leaf", &empty, "LEAF_MISSING", 3),
        (&words, "--leaf", &garbage, "LEAF_MALFORMED", 2),
        (&words, "--leaf", &folder, "FILE_NOT_REGULAR", 9),
        (&words, "--leaf", &huge, "FILE_TOO_LARGE", 9),
        (&words, "--crl", &empty, "CRL_MISSING", 3),
        (&words, "--crl", &garbage, "CRL_MALFORMED", 2),
        (&words, "--crl", &folder, "FILE_NOT_REGULAR", 9),
        (&words, "--crl", &huge, "FILE_TOO_LARGE", 9),
        (&words, "--asvk", &empty, "FILE_EMPTY", 9),
        (&words, "--asvk", &garbage, "ASVK_UNEXPECTED", 2),
        (&words, "--policy", &empty, "POLICY_INCOMPLETE", 1),
        (&words, "--policy", &garbage, "POLICY_INVALID", 1),
        (&words, "--policy", &folder, "POLICY_UNREADABLE", 9),
        (&words, "--policy", &huge, "POLICY_INVALID", 1),
        (&words, "--policy", &absent, "POLICY_UNREADABLE", 9),
        (&bundled, "--collateral", &empty, "COLLATERAL_MALFORMED", 3),
        (&bundled, "--collateral", &garbage, "COLLATERAL_MALFORMED", 3),
        (&bundled, "--collateral", &folder, "FILE_NOT_REGULAR", 9),
        (&bundled, "--collateral", &huge, "FILE_TOO_LARGE", 9),
        (&tdx, "--evidence", &empty, "COLLATERAL_MISSING", 3),
    ] {
        let (status, codes, _) = words.with(option, file).judged();
        assert_eq!((status, codes), (exit, vec![code.to_owned()]), "{option} {file}");
    }
    for (words, code, exit) in [
        (words.without("--leaf"), "LEAF_MISSING", 3),
        (words.without("--crl"), "CRL_MISSING", 3),
        (words.with("--at", "yesterday"), "USAGE", 1),
        (words.with("--tee", "tdx"), "USAGE", 1),
        (words.without("--at"), "CRL_EXPIRED", 3),
    ] {
        let (status, codes, _) = words.judged();
        assert_eq!((status, codes), (exit, vec![code.to_owned()]), "{:?}", words.0);
    }
    let good = fs::read_to_string(dir.path().join("policy.toml")).unwrap();
    for (from, to, code) in [
        ("measurements = [\"", "measurements = []\n# [\"", "POLICY_INVALID"),
        ("products =", "prodcuts =", "POLICY_INVALID"),
        ("mode = \"hardware\"\n", "mode = \"hardware\"\nmode = \"hardware\"\n", "POLICY_INVALID"),
        ("mode = \"hardware\"\n", "", "POLICY_INCOMPLETE"),
        ("mode = \"hardware\"\n", "mode = \"simulation\"\n", "POLICY_INVALID"),
        (
            "[sev-snp]\n",
            "[sev-snp.tcb.Genoa]\nsnp = 1\nbootloader = 0\ntee = 0\nmicrocode = [{ family = 25, min = 1 }]\n[sev-snp]\n",
            "POLICY_INVALID",
        ),
        ("measurements = [", "measurements = \"any\"\n# [", "POLICY_INVALID"),
    ] {
        assert!(good.contains(from), "{from}");
        let policy = make("bad.toml", good.replacen(from, to, 1).as_bytes());
        let (status, codes, object) = words.with("--policy", &policy).judged();
        assert_eq!((status, codes), (1, vec![code.to_owned()]), "{to}: {object}");
        assert_eq!(object["mode"], Value::Null, "no policy, no mode");
    }
    assert_eq!(words.judged().0, 0, "control");
}

#[test]
fn every_claim_stands_in_the_document() {
    let Some(vectors) = vectors("claims") else { return };
    let document = fs::read_to_string(vouchsafe_tests::workspace().join("docs/evidence.md")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (quote, collateral, at, ..) = QUOTES[4];
    let snp = Words::report(&vectors, "turin-v5-vcek-85da705e", dir.path()).judged().2;
    let tdx = Words::quote(&vectors, quote, collateral, at, dir.path()).judged().2;
    for (object, least) in [(snp, 30), (tdx, 35)] {
        let claims = object["claims"].as_object().unwrap();
        // "rtmr0 to rtmr3".
        let names = claims.keys().filter(|name| !["rtmr1", "rtmr2"].contains(&name.as_str()));
        let unsaid: Vec<&String> = names.filter(|name| !document.contains(&format!("`{name}`"))).collect();
        assert!(unsaid.is_empty() && claims.len() >= least, "{unsaid:?} of {}", claims.len());
    }
}

/// The program says of every committed case what the library says: `vectors.rs` compares the library.
#[test]
fn every_committed_case_gets_the_same_verdict_from_the_program() {
    let (mut same, mut left_out) = (0, 0);
    let mut broken = Vec::new();
    for case in case::all(&case::directory(env!("CARGO_MANIFEST_DIR"))) {
        // The program verifies under the root that its policy names and no other; and the shape of REPORT_DATA is a matter of
        // sessions and key releases.
        let not_for_files = ["ROOT_MISMATCH", "REPORT_DATA_SHAPE"];
        let session = case.has("session.json");
        if session
            || !case.under_the_common_root()
            || case.codes.iter().any(|code| not_for_files.contains(&code.as_str()))
        {
            left_out += 1;
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            fs::write(dir.path().join(name), bytes).unwrap();
            text(&dir.path().join(name))
        };
        for name in ["root.pem", "other-root.pem"] {
            if case.has(name) {
                write(name, &case.file(name));
            }
        }
        let evidence = if case.tee == "tdx" { "quote.bin" } else { "report.bin" };
        let words = Words(vec![
            ("--tee", case.tee.to_owned()),
            ("--evidence", write(evidence, &case.file(evidence))),
            ("--collateral", write("bundle.json", &collateral::to_bytes(&case.collateral()))),
            ("--policy", write("policy.toml", &case.file("policy.toml"))),
            ("--at", case.at.to_string()),
        ]);
        let words = match (case.kind, case.verify()) {
            (Kind::Appraise, Ok(authentic)) => words.with("--report-data", &hex::encode(case.report_data(&authentic))),
            _ => words,
        };
        let (status, codes, object) = words.judged();
        let wanted = (i32::from(case.exit), case.codes.as_slice(), case.step.map_or(Value::Null, Value::from));
        let agrees = match case.kind {
            // What is authentic may still be refused by the policy; what is not stops at its step.
            Kind::Verify if !case.is_negative() => object["claims"] != serde_json::json!({}),
            _ if !case.is_negative() => status == 0,
            _ => (status, codes.as_slice(), object["step"].clone()) == wanted,
        };
        let said = object["fact"].as_str().unwrap_or_default();
        if !agrees {
            broken.push(format!("{}: {status} {codes:?} {said}, instead of {wanted:?}", case.path()));
        }
        // Every verdict of a simulation says so.
        let about_evidence = case.kind != Kind::Policy && object["mode"] == "simulation";
        if about_evidence && !(object["simulated"] == true && (status == 0 || said.starts_with("SIMULATED"))) {
            broken.push(format!("{}: does not say SIMULATED: {said}", case.path()));
        }
        same += 1;
    }
    assert!(broken.is_empty(), "{} cases:\n  {}", broken.len(), broken.join("\n  "));
    println!("{same} cases, {left_out} of other roots or about sessions left out");
    assert!(same > 200 && left_out < same / 5);
}

#[test]
fn people_read_the_same_verdict() {
    let Some(vectors) = vectors("verdicts for people") else { return };
    let dir = tempfile::tempdir().unwrap();
    let words = Words::report(&vectors, "milan-v2-vcek-377e6241", dir.path());
    let read = |words: &Words| {
        let mut args = vec!["evidence", "verify"];
        args.extend(words.0.iter().flat_map(|(option, value)| [*option, value.as_str()]));
        let output = vouchsafe(&args);
        let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        (output.status.code().unwrap(), out, err)
    };
    let (status, out, err) = read(&words);
    assert_eq!(status, 4);
    assert!(out.contains("step 13  identity") && out.contains("authentic as of 2026-03-01T00:00:00Z"), "{out}");
    for word in ["DEBUG_ALLOWED", "TCB_BELOW_FLOOR", "expected", "remedy"] {
        assert!(err.contains(word), "{word}: {err}");
    }
    let (status, out, err) = read(&words.with("--at", LISTS_EXPIRED));
    assert_eq!(status, 3);
    assert!(
        out.contains("refused at step 9") && err.contains("CRL_EXPIRED") && err.contains("what to do"),
        "{out}{err}"
    );
    let (status, out, err) = read(&Words::report(&vectors, "genoa-v5-vcek-6d1ceffa", dir.path()));
    assert_eq!((status, err.as_str()), (0, ""));
    assert!(out.contains("accepted under the policy") && out.contains("NOT COMPARED"), "{out}");
}
