//! What an operator does with collateral: show, pack, check, and fetch from a service that behaves well, is busy, or lies.
//! The service is a local one, made of genuine items; AMD's and Intel's own are never asked.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

#[path = "collateral/service.rs"]
mod service;
#[path = "conform/vectors.rs"]
mod vectors;

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use vouchsafe_tests::{vouchsafe, vouchsafe_json, workspace};

use service::{Reply, Service, Tls};
use vectors::{policy_for_quote, policy_for_report, vectors};

const GENOA: &str = "genoa-v5-vcek-6d1ceffa";
const QUOTE: &str = "tdx/tdx-v4-bt2-b0c06f000000-f1c85033.quote.bin";
const DCAP: &str = "tdx/b0c06f000000_2026-06-29_eval19.json";

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The exit status and code of a command.
fn told(args: &[&str]) -> (i32, String) {
    let (exit, object) = vouchsafe_json(args);
    (exit, object["code"].as_str().unwrap_or("none").to_owned())
}

#[test]
fn show_tells_dates_and_the_lines_for_a_policy() {
    let Some(vectors) = vectors("collateral show") else { return };
    let file = vectors.join(DCAP);
    let at = "2026-06-29T05:00:00Z";
    let (exit, object) = vouchsafe_json(&["collateral", "show", text(&file), "--at", at]);
    assert_eq!((exit, &object["tee"], &object["at"]), (0, &json!("tdx"), &json!(at)));
    let items = object["items"].as_array().unwrap();
    assert_eq!(items.len(), 7, "two statements, two lists, three certificates, each once");
    let find = |name: &str| items.iter().find(|item| item["name"] == name).unwrap();
    assert_eq!(find("tcb_info")["evaluation_number"], 19);
    assert_eq!(find("tcb_info")["fmspc"], "b0c06f000000");
    assert_eq!((&find("pck_crl")["number"], &find("pck_crl")["revoked"]), (&json!(1), &json!(57)));
    assert_eq!((&find("tcb_info")["days_left"], &find("root_ca_crl")["age_days"]), (&json!(29), &json!(122)));
    assert!(items.iter().all(|item| item["state"] == "in-force"));
    assert!(object["not_proven"].as_str().unwrap().contains("no signature was verified"));

    // The lines are those that policies read.
    let dir = tempfile::tempdir().unwrap();
    let policy = dir.path().join("policy.toml");
    let quote = fs::read(vectors.join(QUOTE)).unwrap();
    fs::write(&policy, format!("{}\n{}\n", policy_for_quote(&quote), object["policy_lines"].as_str().unwrap()))
        .unwrap();
    assert_eq!(vouchsafe_json(&["policy", "show", text(&policy)]).0, 0);

    let leaf = vectors.join(format!("snp/{GENOA}.vek.der"));
    let crl = vectors.join("amd-ca/genoa_vcek.crl");
    let out = dir.path().join("snp.json");
    let pack =
        ["collateral", "pack", "--tee", "sev-snp", "--leaf", text(&leaf), "--crl", text(&crl), "--out", text(&out)];
    assert_eq!(told(&pack), (0, "none".to_owned()));
    assert_eq!(told(&pack), (9, "FILE".to_owned()), "nothing is overwritten");
    assert_eq!(told(&[&pack[..], &["--replace"]].concat()).0, 0);
    let shown = vouchsafe(&["collateral", "show", text(&out), "--at", "2026-03-01T00:00:00Z"]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(
        shown.contains("of Genoa, chip d2421d976f95ce0b…, bootloader 0x0a tee 0x00 snp 0x19 microcode 0x54"),
        "{shown}"
    );
    assert!(shown.contains("min_number = { Genoa = 5 }") && shown.contains("244 days left"), "{shown}");
    assert!(shown.contains("no signature was verified"), "{shown}");
    let report = fs::read(vectors.join(format!("snp/{GENOA}.report.bin"))).unwrap();
    fs::write(
        &policy,
        format!("{}[crl]\nmin_number = {{ Milan = 6, Genoa = 5, Turin = 2 }}\n", policy_for_report(&report)),
    )
    .unwrap();
    assert_eq!(vouchsafe_json(&["policy", "show", text(&policy)]).0, 0);

    // What is not collateral.
    for bad in [&leaf, &crl, &policy] {
        assert_eq!(told(&["collateral", "show", text(bad)]), (3, "COLLATERAL_MALFORMED".to_owned()));
    }
    let swapped = [
        "collateral",
        "pack",
        "--tee",
        "sev-snp",
        "--leaf",
        text(&crl),
        "--crl",
        text(&leaf),
        "--out",
        text(&out),
        "--replace",
    ];
    assert_eq!(told(&swapped), (3, "COLLATERAL_MALFORMED".to_owned()));
    assert_eq!(vouchsafe_json(&["collateral", "show", text(&out)]).0, 0, "the old file is still there");
    assert_eq!(told(&["collateral", "show", text(dir.path())]), (9, "FILE_NOT_REGULAR".to_owned()));
}

#[test]
fn check_tells_in_time() {
    let Some(vectors) = vectors("collateral check") else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = vectors.join(DCAP);
    let check = |at: &str, more: &[&str]| {
        let (exit, object) = vouchsafe_json(&[&["collateral", "check", text(&file), "--at", at], more].concat());
        let reasons = object["reasons"].as_array().cloned().unwrap_or_default();
        let codes: Vec<String> = reasons
            .iter()
            .map(|r| format!("{} {}", r["code"].as_str().unwrap(), r["check"].as_str().unwrap()))
            .collect();
        (exit, codes)
    };
    let at = "2026-06-29T05:00:00Z";
    assert_eq!(check(at, &[]), (0, vec![]));
    assert_eq!(check(at, &["--within", "29"]), (0, vec![]));
    let soon = ["tcb_info", "qe_identity", "pck_crl"].map(|item| format!("COLLATERAL_EXPIRES_SOON {item}"));
    assert_eq!(check(at, &["--within", "30"]), (3, soon.to_vec()));
    let expired = ["tcb_info", "qe_identity", "pck_crl"].map(|item| format!("COLLATERAL_EXPIRED {item}"));
    assert_eq!(check("2026-11-21T00:00:00Z", &[]), (3, expired.to_vec()));
    let (exit, codes) = check("2026-06-29T01:00:00Z", &[]);
    assert_eq!((exit, codes.len()), (3, 2), "issued within this hour: {codes:?}");
    assert!(codes.iter().all(|code| code.starts_with("COLLATERAL_NOT_YET_VALID")), "{codes:?}");

    let policy = dir.path().join("policy.toml");
    let text_of = policy_for_quote(&fs::read(vectors.join(QUOTE)).unwrap());
    let with = |more: &str| {
        fs::write(&policy, format!("{text_of}{more}")).unwrap();
        check(at, &["--policy", text(&policy)])
    };
    assert_eq!(with(""), (0, vec![]));
    let low = ["tcb_info", "qe_identity"].map(|item| format!("COLLATERAL_BELOW_FLOOR {item}"));
    assert_eq!(with("[tdx.tcb]\nmin_tcb_evaluation_number = 20\n"), (3, low.to_vec()));
    assert_eq!(with("[tdx.collateral]\nmax_age_days = 121\n"), (3, vec!["COLLATERAL_TOO_OLD root_ca_crl".to_owned()]));
    assert_eq!(
        with("[tdx.collateral]\nmin_pck_crl_number = 2\n"),
        (3, vec!["COLLATERAL_BELOW_FLOOR pck_crl".to_owned()])
    );
    let report = fs::read(vectors.join(format!("snp/{GENOA}.report.bin"))).unwrap();
    fs::write(&policy, policy_for_report(&report)).unwrap();
    assert_eq!(check(at, &["--policy", text(&policy)]), (3, vec!["COLLATERAL_KIND tee".to_owned()]));
}

/// Nobody on the way of a request asks a vendor: the crate that does is used by the command alone.
#[test]
fn only_the_command_can_fetch() {
    let metadata = cargo_metadata::MetadataCommand::new().no_deps().current_dir(workspace()).exec().unwrap();
    let users: Vec<&str> = metadata
        .packages
        .iter()
        .filter(|package| package.dependencies.iter().any(|d| d.name == "ureq"))
        .map(|package| package.name.as_str())
        .collect();
    assert_eq!(users, ["vouchsafe"]);
}

/// A service with AMD's paths and the genuine items of one Genoa chip.
fn amd(vectors: &Path) -> (Service, String) {
    let report = fs::read(vectors.join(format!("snp/{GENOA}.report.bin"))).unwrap();
    let leaf = fs::read(vectors.join(format!("snp/{GENOA}.vek.der"))).unwrap();
    let crl = fs::read(vectors.join("amd-ca/genoa_vcek.crl")).unwrap();
    let chip = hex::encode(&report[0x1a0..0x1e0]);
    let path = format!("/vcek/v1/Genoa/{chip}?blSPL=10&teeSPL=00&snpSPL=25&ucodeSPL=84");
    let service = Service::new();
    service.answer(&path, vec![Reply::ok(leaf)]);
    service.answer("/vcek/v1/Genoa/crl", vec![Reply::ok(crl)]);
    (service, path)
}

/// `vouchsafe collateral fetch` for that chip.
fn fetch_amd(vectors: &Path, service: &Service, out: &Path, more: &[&str]) -> (i32, String, Value) {
    let report = vectors.join(format!("snp/{GENOA}.report.bin"));
    let url = service.url();
    let args =
        ["collateral", "fetch", "--tee", "sev-snp", "--evidence", text(&report), "--url", &url, "--out", text(out)];
    let (exit, object) = vouchsafe_json(&[&args[..], more].concat());
    (exit, object["code"].as_str().unwrap_or("none").to_owned(), object)
}

#[test]
fn what_is_fetched_from_amd_verifies_the_report() {
    let Some(vectors) = vectors("collateral fetch for SEV-SNP") else { return };
    let dir = tempfile::tempdir().unwrap();
    let (service, leaf_path) = amd(&vectors);
    let out = dir.path().join("collateral.json");
    let (exit, code, object) = fetch_amd(&vectors, &service, &out, &[]);
    assert_eq!((exit, code.as_str()), (0, "none"), "{object}");
    assert_eq!(service.asked(), [leaf_path.clone(), "/vcek/v1/Genoa/crl".to_owned()]);
    let report = vectors.join(format!("snp/{GENOA}.report.bin"));
    let policy = dir.path().join("policy.toml");
    fs::write(&policy, policy_for_report(&fs::read(&report).unwrap())).unwrap();
    let verify = ["evidence", "verify", "--tee", "sev-snp", "--evidence", text(&report), "--collateral", text(&out)];
    let at = ["--policy", text(&policy), "--at", "2026-03-01T00:00:00Z"];
    assert_eq!(told(&[&verify[..], &at].concat()), (0, "none".to_owned()));

    // The same by hand, and the file replaced only when that is said.
    let bytes = fs::read(&report).unwrap();
    let (chip, tcb) = (hex::encode(&bytes[0x1a0..0x1e0]), hex::encode(&bytes[0x180..0x188]));
    let url = format!("{}/", service.url());
    let by_hand = [
        "collateral",
        "fetch",
        "--tee",
        "sev-snp",
        "--product",
        "Genoa",
        "--hwid",
        &chip,
        "--tcb",
        &tcb,
        "--url",
        &url,
        "--out",
        text(&out),
    ];
    assert_eq!(told(&by_hand), (9, "FILE".to_owned()));
    assert_eq!(told(&[&by_hand[..], &["--replace"]].concat()), (0, "none".to_owned()));
    assert_eq!(service.asked().len(), 4, "nothing was asked before the file was found to be there");

    // A provider's key: its authority and list.
    service.answer("/vlek/v1/Milan/cert_chain", vec![Reply::ok(pem_chain(&vectors, &["milan_asvk", "milan_ark"]))]);
    let crl = fs::read(vectors.join("amd-ca/milan_vcek.crl")).unwrap();
    service.answer("/vlek/v1/Milan/crl", vec![Reply::ok(crl)]);
    let vlek = vectors.join("snp/milan-v3-vlek-decdab94.vek.der");
    let out = dir.path().join("vlek.json");
    let url = service.url();
    let args = [
        "collateral",
        "fetch",
        "--tee",
        "sev-snp",
        "--vlek",
        text(&vlek),
        "--product",
        "Milan",
        "--url",
        &url,
        "--out",
        text(&out),
    ];
    let (exit, object) = vouchsafe_json(&args);
    assert_eq!(exit, 0, "{object}");
    let subjects: Vec<&str> =
        object["items"].as_array().unwrap().iter().filter_map(|i| i["subject"].as_str()).collect();
    assert_eq!(subjects, ["SEV-VLEK", "SEV-VLEK-Milan"]);
}

fn pem_chain(vectors: &Path, names: &[&str]) -> Vec<u8> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let mut text = String::new();
    for name in names {
        let base64 = STANDARD.encode(fs::read(vectors.join(format!("amd-ca/{name}.der"))).unwrap());
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        for line in base64.as_bytes().chunks(64) {
            text.push_str(std::str::from_utf8(line).unwrap());
            text.push('\n');
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text.into_bytes()
}

#[test]
fn what_is_fetched_from_intel_verifies_the_quote() {
    let Some(vectors) = vectors("collateral fetch for TDX") else { return };
    let dir = tempfile::tempdir().unwrap();
    let parts: Value = serde_json::from_slice(&fs::read(vectors.join(DCAP)).unwrap()).unwrap();
    let part = |name: &str| parts[name].as_str().unwrap();
    let chain = |name: &str| part(name).bytes().map(|b| format!("%{b:02X}")).collect::<String>();
    let service = Service::new();
    let signed = |field: &str, name: &str| {
        format!("{{\"{field}\":{},\"signature\":\"{}\"}}", part(name), part(&format!("{name}_signature"))).into_bytes()
    };
    service.answer(
        "/tdx/certification/v4/tcb?fmspc=b0c06f000000&update=standard",
        vec![Reply::ok(signed("tcbInfo", "tcb_info")).header("TCB-Info-Issuer-Chain", &chain("tcb_info_issuer_chain"))],
    );
    service.answer(
        "/tdx/certification/v4/qe/identity?update=standard",
        vec![
            Reply::ok(signed("enclaveIdentity", "qe_identity"))
                .header("SGX-Enclave-Identity-Issuer-Chain", &chain("qe_identity_issuer_chain")),
        ],
    );
    service.answer(
        "/sgx/certification/v4/pckcrl?ca=platform&encoding=der",
        vec![
            Reply::ok(hex::decode(part("pck_crl")).unwrap())
                .header("SGX-PCK-CRL-Issuer-Chain", &chain("pck_crl_issuer_chain")),
        ],
    );
    service.answer("/root.der", vec![Reply::ok(hex::decode(part("root_ca_crl")).unwrap())]);
    let (out, quote) = (dir.path().join("collateral.json"), vectors.join(QUOTE));
    let (url, root) = (service.url(), format!("{}/root.der", service.url()));
    let args = [
        "collateral",
        "fetch",
        "--tee",
        "tdx",
        "--url",
        &url,
        "--root-crl-url",
        &root,
        "--out",
        text(&out),
        "--replace",
    ];
    for from in [&["--evidence", text(&quote)][..], &["--fmspc", "b0c06f000000", "--ca", "platform"]] {
        let (exit, object) = vouchsafe_json(&[&args[..], from].concat());
        assert_eq!(exit, 0, "{object}");
        let policy = dir.path().join("policy.toml");
        fs::write(&policy, policy_for_quote(&fs::read(&quote).unwrap())).unwrap();
        let verify = ["evidence", "verify", "--tee", "tdx", "--evidence", text(&quote), "--collateral", text(&out)];
        let at = ["--policy", text(&policy), "--at", "2026-06-29T04:00:00Z"];
        assert_eq!(told(&[&verify[..], &at].concat()), (0, "none".to_owned()), "signed texts arrived byte for byte");
    }
    let early = [&args[..], &["--evidence", text(&quote), "--early"]].concat();
    assert_eq!(told(&early), (8, "FETCH_STATUS".to_owned()), "this service has no levels of tomorrow");
    assert!(service.asked().last().unwrap().ends_with("fmspc=b0c06f000000&update=early"));
    // A chain is missing; a signature is no hex; a list is none.
    let good = fs::read(&out).unwrap();
    let tcb = "/tdx/certification/v4/tcb?fmspc=b0c06f000000&update=standard";
    for (reply, code, exit) in [
        (Reply::ok(signed("tcbInfo", "tcb_info")), "FETCH_MALFORMED", 8),
        (
            Reply::ok(b"{\"tcbInfo\":{},\"signature\":\"xy\"}".to_vec()).header("TCB-Info-Issuer-Chain", "x"),
            "FETCH_MALFORMED",
            8,
        ),
        (Reply::ok(b"<html>".to_vec()), "FETCH_MALFORMED", 8),
        (
            Reply::ok(b"{\"tcbInfo\":{},\"signature\":\"00\"}".to_vec()).header("TCB-Info-Issuer-Chain", "x"),
            "COLLATERAL_MALFORMED",
            3,
        ),
    ] {
        service.answer(tcb, vec![reply]);
        assert_eq!(told(&[&args[..], &["--evidence", text(&quote)]].concat()), (exit, code.to_owned()));
        assert_eq!(fs::read(&out).unwrap(), good, "nothing was written");
    }
    // An older assessment than the one that is kept.
    let older = |name: &str| part(name).replace("\"tcbEvaluationDataNumber\":19", "\"tcbEvaluationDataNumber\":18");
    let body = format!("{{\"tcbInfo\":{},\"signature\":\"{}\"}}", older("tcb_info"), part("tcb_info_signature"));
    let header = chain("tcb_info_issuer_chain");
    service.answer(tcb, vec![Reply::ok(body.into_bytes()).header("TCB-Info-Issuer-Chain", &header)]);
    let again = [&args[..], &["--evidence", text(&quote)]].concat();
    assert_eq!(told(&again), (3, "COLLATERAL_ROLLBACK".to_owned()));
    assert_eq!(fs::read(&out).unwrap(), good);
    fs::remove_file(&out).unwrap();
    assert_eq!(told(&again), (0, "none".to_owned()), "control: nothing newer is kept");
    // What cannot be asked for.
    let report = vectors.join(format!("snp/{GENOA}.report.bin"));
    for more in [&["--evidence", text(&report)][..], &[], &["--fmspc", "b0", "--ca", "platform"]] {
        assert_eq!(told(&[&args[..], more].concat()), (1, "USAGE".to_owned()), "{more:?}");
    }
}

#[test]
fn a_busy_service_is_asked_again_politely() {
    let Some(vectors) = vectors("a busy service") else { return };
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("collateral.json");
    let (service, path) = amd(&vectors);
    let leaf = fs::read(vectors.join(format!("snp/{GENOA}.vek.der"))).unwrap();
    service.answer(&path, vec![Reply::status(429).header("Retry-After", "2"), Reply::status(503), Reply::ok(leaf)]);
    let began = Instant::now();
    let (exit, code, object) = fetch_amd(&vectors, &service, &out, &[]);
    assert_eq!((exit, code.as_str()), (0, "none"), "{object}");
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(4), "2 s as asked, then 2 s of its own: {took:?}");
    assert_eq!(service.asked().len(), 4);

    // Too long a wait, or too often: gives up and says so.
    let out = dir.path().join("second.json");
    service.answer(&path, vec![Reply::status(429).header("Retry-After", "3600")]);
    let began = Instant::now();
    assert_eq!(fetch_amd(&vectors, &service, &out, &[]).1, "FETCH_BUSY");
    service.answer(&path, vec![Reply::status(503)]);
    let before = service.asked().len();
    let (exit, code, _) = fetch_amd(&vectors, &service, &out, &["--tries", "2"]);
    assert_eq!((exit, code.as_str(), service.asked().len() - before), (8, "FETCH_BUSY", 2));
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());

    // A service that is slow, or says half of it.
    for reply in [Reply::slow(Duration::from_secs(5)), Reply::half(b"never whole".to_vec())] {
        service.answer(&path, vec![reply]);
        let (exit, code, _) = fetch_amd(&vectors, &service, &out, &["--tries", "1", "--timeout", "1"]);
        assert_eq!((exit, code.as_str()), (8, "FETCH_BUSY"));
    }
    assert!(!out.exists());
}

#[test]
fn a_service_that_lies_changes_nothing() {
    let Some(vectors) = vectors("a lying service") else { return };
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("collateral.json");
    let (service, path) = amd(&vectors);
    for (reply, code, exit) in [
        (Reply::status(404), "FETCH_STATUS", 8),
        (Reply::status(403), "FETCH_STATUS", 8),
        (Reply::status(302).header("Location", "https://elsewhere.example/leaf"), "FETCH_REDIRECT", 8),
        (Reply::ok(vec![0; 300 << 10]), "FETCH_TOO_LARGE", 8),
        (Reply::ok(b"<html>not a certificate</html>".to_vec()), "COLLATERAL_MALFORMED", 3),
        (Reply::ok(Vec::new()), "COLLATERAL_MALFORMED", 3),
        (Reply::raw(b"SSH-2.0-x\r\n\r\n".to_vec()), "FETCH_PROTOCOL", 8),
    ] {
        service.answer(&path, vec![reply]);
        let (got, told, object) = fetch_amd(&vectors, &service, &out, &[]);
        assert_eq!((got, told.as_str()), (exit, code), "{object}");
        assert!(!out.exists(), "{code}");
    }
    let gone = Service::gone();
    let (exit, code, _) = fetch_amd(&vectors, &gone, &out, &[]);
    assert_eq!((exit, code.as_str()), (8, "FETCH_UNREACHABLE"));
    // https to a service that speaks http: the handshake fails, nothing is asked.
    let report = vectors.join(format!("snp/{GENOA}.report.bin"));
    let https = service.url().replace("http:", "https:");
    let before = service.asked().len();
    for (url, code, exit) in [
        (https.as_str(), "FETCH_TLS", 8),
        ("http://kds.example", "USAGE", 1),
        ("kds.example", "USAGE", 1),
        ("ftp://127.0.0.1", "USAGE", 1),
    ] {
        let args =
            ["collateral", "fetch", "--tee", "sev-snp", "--evidence", text(&report), "--url", url, "--out", text(&out)];
        assert_eq!(told(&args), (exit, code.to_owned()), "{url}");
    }
    assert_eq!(service.asked().len(), before);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "no half-written file is left");
}

#[test]
fn young_answers_come_from_the_cache() {
    let Some(vectors) = vectors("the cache") else { return };
    let dir = tempfile::tempdir().unwrap();
    let (service, _) = amd(&vectors);
    let (cache, first, second) = (dir.path().join("cache"), dir.path().join("1.json"), dir.path().join("2.json"));
    let with = ["--cache", text(&cache)];
    assert_eq!(fetch_amd(&vectors, &service, &first, &with).0, 0);
    assert_eq!(service.asked().len(), 2);
    assert_eq!(fetch_amd(&vectors, &service, &second, &with).0, 0);
    assert_eq!(service.asked().len(), 2, "nothing was asked again");
    assert_eq!(fs::read(&first).unwrap(), fs::read(&second).unwrap());
    let again = dir.path().join("3.json");
    assert_eq!(fetch_amd(&vectors, &service, &again, &[&with[..], &["--cache-hours", "0"]].concat()).0, 0);
    assert_eq!(service.asked().len(), 4, "an answer of age 0 is too old for 0 hours");
    // A spoilt cache is no answer.
    for entry in fs::read_dir(&cache).unwrap() {
        fs::write(entry.unwrap().path(), "spoilt").unwrap();
    }
    let last = dir.path().join("4.json");
    assert_eq!(fetch_amd(&vectors, &service, &last, &with).0, 0);
    assert_eq!(service.asked().len(), 6);
}

#[test]
fn https_is_for_certificates_that_are_believed() {
    let Some(vectors) = vectors("https") else { return };
    let dir = tempfile::tempdir().unwrap();
    let tls = Tls::new();
    let (ca, out) = (dir.path().join("ca.pem"), dir.path().join("collateral.json"));
    fs::write(&ca, &tls.authority).unwrap();
    let (plain, path) = amd(&vectors);
    let service = Service::https(&tls);
    for path in [path.as_str(), "/vcek/v1/Genoa/crl"] {
        service.answer(path, vec![plain.reply(path)]);
    }
    let url = service.url().replace("http://127.0.0.1", "https://localhost");
    let report = vectors.join(format!("snp/{GENOA}.report.bin"));
    let args =
        ["collateral", "fetch", "--tee", "sev-snp", "--evidence", text(&report), "--url", &url, "--out", text(&out)];
    assert_eq!(told(&args), (8, "FETCH_TLS".to_owned()));
    assert!(service.asked().is_empty() && !out.exists());
    let (exit, object) = vouchsafe_json(&[&args[..], &["--tls-ca", text(&ca)]].concat());
    assert_eq!(exit, 0, "{object}");
    let other = Tls::new();
    fs::write(&ca, &other.authority).unwrap();
    assert_eq!(told(&[&args[..], &["--replace", "--tls-ca", text(&ca)]].concat()), (8, "FETCH_TLS".to_owned()));
    fs::write(&ca, "no certificate").unwrap();
    assert_eq!(told(&[&args[..], &["--replace", "--tls-ca", text(&ca)]].concat()), (1, "USAGE".to_owned()));
}
