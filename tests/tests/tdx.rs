//! Turns the story on Intel TDX into verdicts, receipts, ledger lines and refusals by the shipped programs.
//! Only what differs from SEV-SNP is here; the attacks of `demo --tee tdx` are in `demo.rs`, its boots in `refuse_boot.rs`.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

use std::fs;

use serde_json::{Value, json};
use vouchsafe_attestation::receipt::MAX_RECEIPT;
use vouchsafe_tests::{Scene, Service, TDX, World, scene::told, vouchsafe, vouchsafe_json};

fn printed(args: &[&str]) -> String {
    let output = vouchsafe(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_verdict_names_registers_platform_and_technology() {
    let world = World::shared_tdx();
    let (config, policy, page) =
        (world.at("operator/config.toml"), world.at("customer/policy.toml"), world.at("customer/tdx.md"));
    let (exit, measured) = vouchsafe_json(&["measure", "--tee", "tdx", "--config", &config]);
    assert_eq!(exit, 0);
    let (exit, verdict) = vouchsafe_json(&["verify", world.address(), "--policy", &policy, "--report", &page]);
    assert_eq!(exit, 0, "{verdict}");
    assert_eq!((&verdict["tee"], &verdict["mode"]), (&json!("tdx"), &json!("simulation")));
    for field in ["measurement", "rtmr", "config_digest"] {
        assert!(!measured[field].is_null());
        assert_eq!(verdict[field], measured[field], "{field}");
    }
    assert_eq!(measured["mr_td"], measured["measurement"]);
    assert_eq!(verdict["rtmr"].as_array().unwrap().len(), 4);

    let table = printed(&["verify", world.address(), "--policy", &policy]);
    assert!(table.starts_with("SIMULATED: accepted"), "{table}");
    let page = fs::read_to_string(page).unwrap();
    assert!(page.starts_with("# SIMULATED"), "{page}");
    assert!(page.contains("a SIMULATED processor that plays an Intel TDX platform"), "{page}");
    for (text, what) in [(&page, "the page"), (&table, "the table")] {
        assert!(!text.contains("AMD") && !text.contains("EPYC"), "{what} speaks of another technology: {text}");
    }
}

/// The lines that `measure` prints are the ones that a policy has.
#[test]
fn what_measure_prints_stands_in_the_policy() {
    let world = World::shared_tdx();
    let config = world.at("operator/config.toml");
    let text = printed(&["measure", "--backend", "sim-process", "--tee", "tdx", "--config", &config]);
    let policy = fs::read_to_string(world.at("customer/policy.toml")).unwrap();
    // A policy may spread a list over several lines.
    let packed = |text: &str| text.split_whitespace().collect::<String>().replace(",]", "]");
    let (_, lines) = text.split_once("[tdx]\n").expect("the policy's lines");
    assert_eq!(lines.lines().count(), 6, "{text}");
    for line in lines.lines() {
        assert!(packed(&policy).contains(&packed(line)), "{line}\n{policy}");
    }
}

#[test]
fn a_receipt_holds_the_quote_and_is_verified_offline() {
    let world = World::shared_tdx();
    let (policy, input, receipt) = (world.at("customer/policy.toml"), world.at("heldout.json"), world.at("tdx.json"));
    let infer = ["infer", world.address(), "--policy", &policy, "--model", "breast-cancer", "--input", &input];
    assert_eq!(told(&[&infer[..], &["--receipt", &receipt]].concat()), (0, "accepted".to_owned()));
    let text = fs::read_to_string(&receipt).unwrap();
    println!("a receipt with TDX evidence has {} bytes", text.len());
    assert!(text.len() < MAX_RECEIPT / 2);
    let verify = |file: &str, policy: &str| told(&["receipt", "verify", file, "--policy", policy]);
    assert_eq!(verify(&receipt, &policy), (0, "accepted".to_owned()), "control");

    let changed = |change: &dyn Fn(&mut Value)| {
        let mut value: Value = serde_json::from_str(&text).unwrap();
        change(&mut value);
        let path = world.at("tdx-changed.json");
        fs::write(&path, value.to_string()).unwrap();
        verify(&path, &policy)
    };
    assert_eq!(changed(&|_| {}), (0, "accepted".to_owned()), "control: written again");
    assert_eq!(changed(&|r| r["session"]["tee"] = json!("sev-snp")), (8, "ATTEST_RESPONSE_INVALID".to_owned()));
    let other_nonce = changed(&|r| r["session"]["nonce"] = json!("A".repeat(43)));
    assert_eq!(other_nonce, (2, "REPORT_DATA_MISMATCH".to_owned()));
    let cut = changed(&|r| {
        let quote = r["session"]["evidence"]["quote"].as_str().unwrap().to_owned();
        r["session"]["evidence"]["quote"] = json!(quote[..quote.len() - 4]);
    });
    assert_eq!(cut.0, 2, "{cut:?}");
}

#[test]
fn an_enclave_of_another_technology_is_refused_before_and_after_it_answers() {
    let world = World::shared_tdx();
    let (root, key, out) =
        (world.at("tester/root/root.pem"), world.at("vendor/manifest.key.pub"), world.at("customer/snp.toml"));
    let (measurement, model) = ("00".repeat(48), format!("breast-cancer=2={key}"));
    let init = ["policy", "init", "--mode", "simulation", "--tee", "sev-snp", "--root", &root, "--out", &out];
    let rules =
        ["--measurement", &measurement, "--config-digest", "any", "--platform", "any", "--model", model.as_str()];
    assert_eq!(told(&[&init[..], &rules].concat()).0, 0);
    // The enclave is not one of those that this customer asks for.
    assert_eq!(told(&["verify", world.address(), "--policy", &out]), (8, "ATTEST_ACCEPT".to_owned()));
    // A receipt shows evidence that nobody asked for.
    let receipt = world.at("customer/receipt.json");
    let verdict = told(&["receipt", "verify", &receipt, "--policy", &out]);
    assert_eq!((verdict.0, &verdict.1[..3]), (4, "TEE"), "{verdict:?}");
    let tdx = world.at("customer/policy.toml");
    assert_eq!(told(&["receipt", "verify", &receipt, "--policy", &tdx]).0, 0, "control");
}

#[test]
fn one_policy_can_accept_both_technologies() {
    let world = World::shared_tdx();
    let (root, key, out) =
        (world.at("tester/root/root.pem"), world.at("vendor/manifest.key.pub"), world.at("customer/both.toml"));
    let (exit, measured) = vouchsafe_json(&["measure", "--tee", "tdx", "--config", &world.at("operator/config.toml")]);
    assert_eq!(exit, 0);
    let word = |name: &str| measured[name].as_str().unwrap().to_owned();
    let (snp, mr_td, config) = ("00".repeat(48), word("mr_td"), word("config_digest"));
    let (zero, model) = ("00".repeat(48), format!("breast-cancer=2={key}"));
    let mut init = vec!["policy", "init", "--mode", "simulation", "--tee", "sev-snp", "--tee", "tdx", "--root", &root];
    init.extend(["--measurement", &snp, "--mr-td", &mr_td, "--config-digest", &config, "--platform", "any"]);
    for register in ["--rtmr0", "--rtmr1", "--rtmr2", "--rtmr3"] {
        init.extend([register, &zero]);
    }
    init.extend(["--model", &model, "--out", &out]);
    assert_eq!(told(&init), (0, "accepted".to_owned()));
    let (exit, verdict) = vouchsafe_json(&["verify", world.address(), "--policy", &out]);
    assert_eq!((exit, &verdict["tee"]), (0, &json!("tdx")), "{verdict}");
}

/// What an enclave that must not serve says last.
fn refused(scene: &Scene, enclave: &mut Service) -> (String, String) {
    let end = enclave.wait_until("serving or refusing", |e| e["state"] == "serving" || e["fatal"].is_object());
    let ticket = end["fatal"]["ticket"].as_str().unwrap_or_else(|| panic!("{end}"));
    (end["fatal"]["code"].as_str().unwrap().to_owned(), scene.ledger_code(ticket))
}

#[test]
fn a_platform_is_revoked_by_its_ppid_and_the_ledger_has_its_registers() {
    let scene = Scene::on(TDX);
    let (_broker, _) = scene.broker();
    let (enclave, address) = scene.serve();
    assert_eq!(scene.infer(&address), (0, "accepted".to_owned()), "control");
    drop(enclave);
    let granted = scene.ledger(None).into_iter().rfind(|line| line["event"] == "granted").unwrap();
    assert_eq!((&granted["tee"], &granted["rtmr"]), (&json!("tdx"), &json!(vec!["00".repeat(48); 4])));
    let platform = granted["platform"].as_str().unwrap();
    let (ppid, rest) = platform.split_at(32);
    assert_eq!(rest, "00".repeat(48));

    let state = scene.at("broker/state");
    let revoke = |platform: &str| told(&["broker", "revoke", "platform", &state, platform]);
    assert_eq!(revoke(&ppid[..30]), (1, "ARGUMENT".to_owned()));
    let other = if ppid.starts_with('0') { ppid.replacen('0', "1", 1) } else { format!("0{}", &ppid[1..]) };
    assert_eq!(revoke(&other), (0, "accepted".to_owned()), "another machine");
    let (control, _) = scene.serve();
    drop(control);
    assert_eq!(revoke(ppid), (0, "accepted".to_owned()));
    let mut enclave = scene.launch("operator/models", &["--ready-timeout", "5"]);
    assert_eq!(refused(&scene, &mut enclave), ("KEY_REFUSED".to_owned(), "PLATFORM_REVOKED".to_owned()));
    let shown = printed(&["broker", "ledger", "show", &state]);
    assert!(shown.contains(&format!("machine {ppid}\n")), "people read the PPID, without zeros: {shown}");
}
