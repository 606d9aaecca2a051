//! What an operator does with collateral: show, pack, check, and fetch from a service that behaves well, is busy, or lies.
//! The service is a local one, made of genuine or committed items; AMD's and Intel's own are never asked.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

#[path = "collateral/keep.rs"]
mod keep;
#[path = "collateral/service.rs"]
mod service;
#[path = "conform/vectors.rs"]
mod vectors;

use std::{
    fs,
    path::{Path, PathBuf},
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

/// A Genoa chip: its report, certificate and list.
struct Chip {
    report: PathBuf,
    leaf: Vec<u8>,
    crl: Vec<u8>,
}

impl Chip {
    /// A genuine one.
    fn genuine(vectors: &Path) -> Self {
        let read = |name: &str| fs::read(vectors.join(name)).unwrap();
        let report = vectors.join(format!("snp/{GENOA}.report.bin"));
        Self { report, leaf: read(&format!("snp/{GENOA}.vek.der")), crl: read("amd-ca/genoa_vcek.crl") }
    }

    /// One of ours, for what does not depend on genuine bytes.
    fn committed() -> Self {
        Self { report: committed("base/report.bin"), leaf: read("base/leaf.der"), crl: read("base/crl.der") }
    }
}

/// A file of the committed evidence for SEV-SNP.
fn committed(name: &str) -> PathBuf {
    workspace().join("tests/vectors/evidence/sev-snp").join(name)
}

fn read(name: &str) -> Vec<u8> {
    fs::read(committed(name)).unwrap()
}

/// The committed collateral for TDX, in the frame of a file.
fn tdx_file() -> Vec<u8> {
    let collateral: Value = serde_json::from_slice(&read("../tdx/base/collateral.json")).unwrap();
    json!({ "v": 1, "tee": "tdx", "collateral": collateral }).to_string().into_bytes()
}

const CRL_PATH: &str = "/vcek/v1/Genoa/crl";

/// A service with AMD's paths and the items of one chip.
fn amd(chip: &Chip) -> (Service, String) {
    let report = fs::read(&chip.report).unwrap();
    let id = hex::encode(&report[0x1a0..0x1e0]);
    let tcb = &report[0x180..0x188];
    let path = format!(
        "/vcek/v1/Genoa/{id}?blSPL={:02}&teeSPL={:02}&snpSPL={:02}&ucodeSPL={:02}",
        tcb[0], tcb[1], tcb[6], tcb[7]
    );
    let service = Service::new();
    service.answer(&path, vec![Reply::ok(chip.leaf.clone())]);
    service.answer(CRL_PATH, vec![Reply::ok(chip.crl.clone())]);
    (service, path)
}

/// `vouchsafe collateral fetch` for that chip.
fn fetch_amd(chip: &Chip, service: &Service, out: &Path, more: &[&str]) -> (i32, String, Value) {
    let url = service.url();
    let report = text(&chip.report);
    let args = ["collateral", "fetch", "--tee", "sev-snp", "--evidence", report, "--url", &url, "--out", text(out)];
    let (exit, object) = vouchsafe_json(&[&args[..], more].concat());
    (exit, object["code"].as_str().unwrap_or("none").to_owned(), object)
}

#[test]
fn what_is_fetched_from_amd_verifies_the_report() {
    let Some(vectors) = vectors("collateral fetch for SEV-SNP") else { return };
    let dir = tempfile::tempdir().unwrap();
    let chip = Chip::genuine(&vectors);
    let (service, leaf_path) = amd(&chip);
    assert!(leaf_path.ends_with("?blSPL=10&teeSPL=00&snpSPL=25&ucodeSPL=84"), "{leaf_path}");
    let out = dir.path().join("collateral.json");
    let (exit, code, object) = fetch_amd(&chip, &service, &out, &[]);
    assert_eq!((exit, code.as_str()), (0, "none"), "{object}");
    assert_eq!(service.asked(), [leaf_path.clone(), CRL_PATH.to_owned()]);
    let report = chip.report;
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
    // The same assessment, issued earlier.
    let day = serde_json::from_str::<Value>(part("tcb_info")).unwrap()["issueDate"].as_str().unwrap().to_owned();
    let earlier = part("tcb_info").replace(&day, "2026-06-01T00:00:00Z");
    let body = format!("{{\"tcbInfo\":{earlier},\"signature\":\"{}\"}}", part("tcb_info_signature"));
    service.answer(tcb, vec![Reply::ok(body.into_bytes()).header("TCB-Info-Issuer-Chain", &header)]);
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
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("collateral.json");
    let chip = Chip::committed();
    let (service, path) = amd(&chip);
    let good = Reply::ok(chip.leaf.clone());
    service.answer(&path, vec![Reply::status(429).header("Retry-After", "2"), Reply::status(503), good.clone()]);
    let began = Instant::now();
    let (exit, code, object) = fetch_amd(&chip, &service, &out, &[]);
    assert_eq!((exit, code.as_str()), (0, "none"), "{object}");
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(4), "2 s as asked, then 2 s of its own: {took:?}");
    assert_eq!(service.asked().len(), 4);

    // Too long a wait, or too often: gives up and says so.
    let out = dir.path().join("second.json");
    let began = Instant::now();
    for after in ["61", "3600", "18446744073709551615", "99999999999999999999"] {
        service.answer(&path, vec![Reply::status(429).header("Retry-After", after)]);
        let (exit, code, object) = fetch_amd(&chip, &service, &out, &[]);
        assert_eq!((exit, code.as_str()), (8, "FETCH_BUSY"), "{after}: {object}");
    }
    service.answer(&path, vec![Reply::status(503)]);
    let before = service.asked().len();
    let (exit, code, _) = fetch_amd(&chip, &service, &out, &["--tries", "2"]);
    assert_eq!((exit, code.as_str(), service.asked().len() - before), (8, "FETCH_BUSY", 2));
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());

    // Our own pauses are cut to what is allowed: they end nothing.
    service.answer(&path, vec![Reply::status(503), Reply::status(503), Reply::status(503), good]);
    let third = dir.path().join("third.json");
    let began = Instant::now();
    assert_eq!(fetch_amd(&chip, &service, &third, &["--max-wait", "1"]).1, "none");
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(3) && took < Duration::from_secs(7), "three times one second: {took:?}");

    // A service that is slow, or says half of it.
    for reply in [Reply::slow(Duration::from_secs(5)), Reply::half(b"never whole".to_vec())] {
        service.answer(&path, vec![reply]);
        let (exit, code, _) = fetch_amd(&chip, &service, &out, &["--tries", "1", "--timeout", "1"]);
        assert_eq!((exit, code.as_str()), (8, "FETCH_BUSY"));
    }
    assert!(!out.exists());
}

#[test]
fn a_service_that_lies_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("collateral.json");
    let chip = Chip::committed();
    let (service, path) = amd(&chip);
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
        let (got, told, object) = fetch_amd(&chip, &service, &out, &[]);
        assert_eq!((got, told.as_str()), (exit, code), "{object}");
        assert!(!out.exists(), "{code}");
    }
    let gone = Service::gone();
    let (exit, code, _) = fetch_amd(&chip, &gone, &out, &[]);
    assert_eq!((exit, code.as_str()), (8, "FETCH_UNREACHABLE"));
    // https to a service that speaks http: the handshake fails, nothing is asked.
    let report = chip.report;
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
    let dir = tempfile::tempdir().unwrap();
    let chip = Chip::committed();
    let (service, path) = amd(&chip);
    let (cache, first, second) = (dir.path().join("cache"), dir.path().join("1.json"), dir.path().join("2.json"));
    let with = ["--cache", text(&cache)];
    assert_eq!(fetch_amd(&chip, &service, &first, &with).0, 0);
    assert_eq!(service.asked().len(), 2);
    assert_eq!(fetch_amd(&chip, &service, &second, &with).0, 0);
    assert_eq!(service.asked().len(), 2, "nothing was asked again");
    assert_eq!(fs::read(&first).unwrap(), fs::read(&second).unwrap());
    let again = dir.path().join("3.json");
    assert_eq!(fetch_amd(&chip, &service, &again, &[&with[..], &["--cache-hours", "0"]].concat()).0, 0);
    assert_eq!(service.asked().len(), 4, "an answer of age 0 is too old for 0 hours");
    // A spoilt cache is no answer.
    for entry in fs::read_dir(&cache).unwrap() {
        fs::write(entry.unwrap().path(), "spoilt").unwrap();
    }
    let last = dir.path().join("4.json");
    assert_eq!(fetch_amd(&chip, &service, &last, &with).0, 0);
    assert_eq!(service.asked().len(), 6);
    // Nor does a cache that is none cost what was fetched.
    let despite = dir.path().join("5.json");
    assert_eq!(fetch_amd(&chip, &service, &despite, &["--cache", text(&first)]).0, 0);
    assert_eq!((fs::read(&despite).unwrap(), service.asked().len()), (fs::read(&first).unwrap(), 8));

    // What nobody could read is not kept: a captive portal's page, whichever of the two it stands in for.
    let portal = || Reply::ok(b"<html>Welcome! Please log in.</html>".to_vec());
    for (i, spoilt) in [path.as_str(), CRL_PATH].into_iter().enumerate() {
        let (cache, out) = (dir.path().join(format!("portal-{i}")), dir.path().join(format!("portal-{i}.json")));
        let with = ["--cache", text(&cache)];
        let good = service.reply(spoilt);
        service.answer(spoilt, vec![portal()]);
        assert_eq!(fetch_amd(&chip, &service, &out, &with).1, "COLLATERAL_MALFORMED");
        assert!(!cache.exists() && !out.exists());
        service.answer(spoilt, vec![good]);
        let before = service.asked().len();
        assert_eq!(fetch_amd(&chip, &service, &out, &with).1, "none");
        assert_eq!(service.asked().len() - before, 2, "both were asked for again");
    }
}

#[test]
fn nothing_older_replaces_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let (out, cache) = (dir.path().join("collateral.json"), dir.path().join("cache"));
    let chip = Chip::committed();
    let (service, _) = amd(&chip);
    let list = |bytes: Vec<u8>| service.answer(CRL_PATH, vec![Reply::ok(bytes)]);
    let more = ["--replace", "--cache", text(&cache)];
    // Number 7 of January is kept while the file gets number 7 of July from elsewhere.
    assert_eq!(fetch_amd(&chip, &service, &out, &more).1, "none");
    list(read("crl-from-the-future/crl.der"));
    assert_eq!(fetch_amd(&chip, &service, &out, &["--replace"]).1, "none");
    let july = fs::read(&out).unwrap();
    let (exit, code, object) = fetch_amd(&chip, &service, &out, &more);
    assert_eq!((exit, code.as_str()), (3, "COLLATERAL_ROLLBACK"), "{object}");
    assert!(object["fact"].to_string().contains("same number but was issued before"), "{object}");
    assert_eq!(fs::read(&out).unwrap(), july);
    // The old answer was dropped from the cache, so the service is asked again.
    assert_eq!(fetch_amd(&chip, &service, &out, &more).1, "none");
    assert_eq!(fs::read(&out).unwrap(), july);
    // Number 6 is older whatever its date; and neither is kept.
    for older in [read("policy-crl-replayed/crl.der"), chip.crl.clone()] {
        list(older);
        let fresh = dir.path().join("fresh");
        let (exit, code, _) = fetch_amd(&chip, &service, &out, &["--replace", "--cache", text(&fresh)]);
        assert_eq!((exit, code.as_str(), fresh.exists()), (3, "COLLATERAL_ROLLBACK", false));
        assert_eq!(fs::read(&out).unwrap(), july);
    }

    // A file that cannot be compared is replaced, but not in silence.
    let url = service.url();
    let report = text(&chip.report);
    let args = ["collateral", "fetch", "--tee", "sev-snp", "--evidence", report, "--url", &url, "--out", text(&out)];
    let line = || {
        let output = vouchsafe(&[&args[..], &["--replace"]].concat());
        assert!(output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    for (before, why) in [(b"{".to_vec(), "no collateral"), (tdx_file(), "other technology")] {
        fs::write(&out, before).unwrap();
        let told = line();
        assert_eq!(told.matches("nothing could be compared").count(), 1, "{told}");
        assert!(told.contains(why), "{told}");
    }
    assert!(!line().contains("compared"), "the same again can be compared");
    fs::remove_file(&out).unwrap();
    assert!(!line().contains("compared"), "there is nothing to compare with");
}

#[test]
fn what_is_too_large_to_be_served_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (small, large) = (dir.path().join("small.json"), dir.path().join("large.json"));
    let mut object: Value = serde_json::from_slice(&tdx_file()).unwrap();
    fs::write(&small, object.to_string()).unwrap();
    let identity = &mut object["collateral"]["qe_identity"];
    *identity = json!(format!("{}{}", identity.as_str().unwrap(), " ".repeat(192 << 10)));
    fs::write(&large, object.to_string()).unwrap();
    let at = ["--at", "2026-06-01T00:00:00Z"];
    for (file, notes) in [(&small, 0), (&large, 1)] {
        let out = dir.path().join("packed.json");
        let pack =
            ["collateral", "pack", "--tee", "tdx", "--from", text(file), "--out", text(&out), "--replace"].to_vec();
        let check = [&["collateral", "check", text(file)], &at[..]].concat();
        for args in [pack, check] {
            let (exit, object) = vouchsafe_json(&args);
            assert_eq!((exit, object["notes"].as_array().unwrap().len()), (0, notes), "{object}");
            let told = String::from_utf8(vouchsafe(&args).stderr).unwrap();
            assert_eq!(told.matches("too large to be served").count(), notes, "{told}");
        }
    }
}

#[test]
fn https_is_for_certificates_that_are_believed() {
    let dir = tempfile::tempdir().unwrap();
    let tls = Tls::new();
    let (ca, out) = (dir.path().join("ca.pem"), dir.path().join("collateral.json"));
    fs::write(&ca, &tls.authority).unwrap();
    let chip = Chip::committed();
    let (plain, path) = amd(&chip);
    let service = Service::https(&tls);
    for path in [path.as_str(), CRL_PATH] {
        service.answer(path, vec![plain.reply(path)]);
    }
    let url = service.url().replace("http://127.0.0.1", "https://localhost");
    let report = chip.report;
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
