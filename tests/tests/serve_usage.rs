//! Turns the rules of a vendor's usage policy into what callers see through the shipped commands: who may ask, how often, what, what
//! leaves, and until when. That the policy cannot be changed on the way is tested where packages are.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

use std::{
    fs,
    process::Command,
    sync::{Mutex, OnceLock},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use vouchsafe_tests::{
    Scene, Served, Wire,
    load::{answered, infer_path, numbers},
    models::usage,
    onnx,
    scene::code,
    vouchsafe, vouchsafe_json, workspace,
};

/// Requests of the role `clinic` in a minute.
const QUOTA: usize = 5;

/// Everything that is served here, and the keys of its callers.
struct Rules {
    served: Served,
}

/// Made once, with keys for two clinics and one researcher; nobody else is known to the model `asked`.
fn rules() -> &'static Mutex<Rules> {
    static RULES: OnceLock<Mutex<Rules>> = OnceLock::new();
    RULES.get_or_init(|| {
        let scene = Scene::new();
        let callers = json!([
            made(&scene, "caller", "clinic-1", "clinic"),
            made(&scene, "caller", "clinic-2", "clinic"),
            made(&scene, "api-key", "research", "research"),
        ]);
        made(&scene, "caller", "stranger", "clinic");
        made(&scene, "api-key", "stranger-api", "research");

        let mut policy = usage("asked");
        policy["callers"] = callers.clone();
        policy["quotas"] = json!([{ "role": "clinic", "requests": QUOTA, "per_s": 60 }]);
        put(&scene, "asked", 1, &onnx::marked(1000), &policy);

        let mut policy = usage("ranged");
        let range = json!({ "min": -10, "max": 10 });
        policy["inputs"] = json!([{ "name": "x", "dtype": "INT64", "shape": [-1], "finite": true, "range": range }]);
        put(&scene, "ranged", 1, &onnx::marked(1000), &policy);

        let model = fs::read(workspace().join("examples/breast-cancer/model.onnx")).unwrap();
        for (id, outputs) in [
            ("rounded", json!([{ "name": "label" }, { "name": "probabilities", "round": 2 }])),
            ("top", json!([{ "name": "probabilities", "top_k": 1 }])),
            ("argmax", json!([{ "name": "probabilities", "argmax_only": true }])),
        ] {
            let mut policy = usage(id);
            policy["outputs"] = outputs;
            put(&scene, id, 1, &model, &policy);
        }
        let named = ["asked", "ranged", "rounded", "top", "argmax"].map(|id| (id, 1));
        scene.name_models("operator/config.toml", &[&named[..], &[("breast-cancer", 2)]].concat());
        write_numbers(&scene, "one.json", &[1]);
        Mutex::new(Rules { served: Served::start(scene, |_| {}) })
    })
}

fn put(scene: &Scene, id: &str, sequence: u64, model: &[u8], policy: &Value) {
    let package = scene.seal(id, sequence, model, Some(policy));
    scene.install(&package, "operator/models", id);
}

fn write_numbers(scene: &Scene, name: &str, data: &[i64]) {
    scene.write(name, std::str::from_utf8(&numbers("x", data)).unwrap());
}

/// Makes a caller's key with the shipped command: the line for the policy.
fn made(scene: &Scene, kind: &str, name: &str, role: &str) -> Value {
    let path = scene.at(&format!("customer/{name}.key"));
    let output = vouchsafe(&["keys", kind, "--out", &path, "--role", role]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let line: Value = serde_json::from_slice(&output.stdout).expect("a line for the policy");
    assert_eq!(line["role"], role, "{line}");
    let secret = fs::read(path).unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(!printed.contains(&*String::from_utf8_lossy(&secret)), "the secret is not printed");
    line
}

/// `vouchsafe infer` with these words more: exit status and answer.
fn infer(served: &Served, model: &str, input: &str, more: &[&str]) -> (i32, Value) {
    let (policy, input) = (served.scene.at("customer/policy.toml"), served.scene.at(input));
    let words = ["infer", &served.address, "--policy", &policy, "--model", model, "--input", &input];
    vouchsafe_json(&[&words[..], more].concat())
}

fn verdict(answer: &(i32, Value)) -> String {
    if answer.0 == 0 { "accepted".to_owned() } else { code(&answer.1) }
}

#[test]
fn only_callers_of_the_policy_are_answered_and_roles_have_their_quota() {
    let rules = rules().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let served = &rules.served;
    let key = |name: &str| served.scene.at(&format!("customer/{name}.key"));
    let ask = |more: &[&str]| verdict(&infer(served, "asked", "one.json", more));

    assert_eq!(ask(&[]), "CALLER_UNKNOWN", "without a name");
    assert_eq!(ask(&["--caller-key", &key("stranger")]), "CALLER_FORBIDDEN", "a key that nobody listed");
    assert_eq!(ask(&["--api-key-file", &key("stranger-api")]), "CALLER_UNKNOWN", "an API key that nobody listed");
    let answer = infer(served, "asked", "one.json", &["--caller-key", &key("clinic-1")]);
    assert_eq!(answer.1["outputs"][0]["data"], json!([1001]), "{}", answer.1);
    assert_eq!(ask(&["--api-key-file", &key("research")]), "accepted");
    let open = verdict(&infer(served, "breast-cancer", "heldout.json", &[]));
    assert_eq!(open, "accepted", "control: a model whose policy names nobody");

    // Both clinics are one role: they share what is left of the minute. One minute may end meanwhile, not two.
    let mut told = Vec::new();
    for turn in 0..3 * QUOTA {
        let name = if turn % 2 == 0 { "clinic-1" } else { "clinic-2" };
        told.push(ask(&["--caller-key", &key(name)]));
        if told.last().unwrap() == "QUOTA_EXCEEDED" {
            break;
        }
    }
    println!("the role's requests: {told:?}");
    assert_eq!(told.pop().as_deref(), Some("QUOTA_EXCEEDED"));
    assert!(told.iter().all(|code| code == "accepted") && told.len() < 2 * QUOTA, "{told:?}");
    assert_eq!(ask(&["--api-key-file", &key("research")]), "accepted", "control: another role has a quota of its own");
}

#[test]
fn a_proxy_asks_in_its_callers_name_and_what_a_stranger_sends_counts_for_nobody() {
    let rules = rules().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let served = &rules.served;
    let key = served.scene.at("customer/research.key");
    let ask = |more: &[&str]| {
        let (_proxy, address) = served.scene.proxy(&served.address, more);
        Wire::plain(&address).send("POST", &infer_path("asked"), &[], &numbers("x", &[5]))
    };
    let answer = ask(&["--api-key-file", &key]);
    assert_eq!(answered(&answer), Some(vec![1005]), "{}", answer.json());
    let answer = ask(&[]);
    assert_eq!(answer.verdict(), (401, "CALLER_UNKNOWN".to_owned()), "{}", answer.json());

    // Over the attested channel itself, by hand.
    let secret = fs::read_to_string(&key).unwrap();
    let send = |headers: &[(&str, &str)]| {
        Wire::attested(&served.address).send("POST", &infer_path("asked"), headers, &numbers("x", &[5])).verdict()
    };
    let bearer = format!("Bearer {secret}");
    assert_eq!(send(&[("Authorization", &bearer)]), (200, "accepted".to_owned()), "control");
    for (what, value) in [
        ("another key", format!("Bearer {}", secret.chars().rev().collect::<String>())),
        ("half of the key", format!("Bearer {}", &secret[..secret.len() / 2])),
        ("another scheme", format!("Basic {secret}")),
    ] {
        let (status, code) = send(&[("Authorization", &value)]);
        assert!(status == 401 && code.starts_with("CALLER_"), "{what}: {status} {code}");
    }
    // A key that somebody has. Under the key of zeros every fourth signature of zeros verifies: its order is four.
    let public = "iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w";
    for forged in [format!("{public}.1.{}", "A".repeat(86)), "nonsense".to_owned(), format!("{public}.-1.x")] {
        let (status, code) = send(&[("Vouchsafe-Caller", &forged)]);
        assert!(status == 401 && code.starts_with("CALLER_"), "{forged}: {status} {code}");
    }
}

#[test]
fn inputs_stay_within_their_range() {
    let rules = rules().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let served = &rules.served;
    let ask = |data: &[i64]| {
        write_numbers(&served.scene, "ranged.json", data);
        verdict(&infer(served, "ranged", "ranged.json", &[]))
    };
    assert_eq!(ask(&[-10, 0, 10]), "accepted", "control: the bounds themselves");
    for outside in [&[11][..], &[-11], &[0, 0, 11, 0], &[i64::MAX], &[i64::MIN]] {
        assert_eq!(ask(outside), "INPUT_RANGE", "{outside:?}");
    }
}

#[test]
fn outputs_leave_as_the_policy_shapes_them() {
    let rules = rules().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let served = &rules.served;
    let ask = |model: &str| {
        let (exit, answer) = infer(served, model, "heldout.json", &[]);
        assert_eq!(exit, 0, "{model}: {answer}");
        answer["outputs"].as_array().unwrap().clone()
    };
    let named = |outputs: &[Value], name: &str| outputs.iter().find(|o| o["name"] == name).cloned();
    let floats = |output: &Value| -> Vec<f64> {
        output["data"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
    };

    let plain = ask("breast-cancer");
    let whole = floats(&named(&plain, "probabilities").unwrap());
    let is_round = |v: &f64| (v * 100.0 - (v * 100.0).round()).abs() < 1e-4;
    assert!(!whole.iter().all(is_round), "control: as the model gives them they have more digits");

    let rounded = ask("rounded");
    let found = floats(&named(&rounded, "probabilities").unwrap());
    assert!(found.iter().all(is_round), "{found:?}");
    assert!(found.iter().zip(&whole).all(|(have, want)| (have - want).abs() <= 0.005 + 1e-6), "{found:?} of {whole:?}");
    assert_eq!(named(&rounded, "label"), named(&plain, "label"), "an output without rules is as it was");

    let top = ask("top");
    assert!(named(&top, "label").is_none(), "it is not in the list: {top:?}");
    let found = floats(&named(&top, "probabilities").unwrap());
    for (row, have) in whole.chunks(2).zip(found.chunks(2)) {
        let greatest = row[0].max(row[1]);
        assert_eq!(have.iter().filter(|v| **v != 0.0).count(), 1, "{have:?}");
        assert!(have.iter().any(|v| (v - greatest).abs() < 1e-6), "{have:?} of {row:?}");
    }

    let argmax = named(&ask("argmax"), "probabilities").unwrap();
    let wanted: Vec<i64> = whole.chunks(2).map(|row| i64::from(row[1] > row[0])).collect();
    assert_eq!((&argmax["datatype"], &argmax["shape"]), (&json!("INT64"), &json!([wanted.len()])), "{argmax}");
    assert_eq!(argmax["data"], json!(wanted));

    // What may not leave cannot be asked for either.
    let mut request: Value = serde_json::from_str(&served.scene.text("heldout.json")).unwrap();
    request["outputs"] = json!([{ "name": "label" }]);
    served.scene.write("label.json", &request.to_string());
    let refused = verdict(&infer(served, "top", "label.json", &[]));
    assert!(["OUTPUT_FORBIDDEN", "OUTPUT_UNKNOWN"].contains(&refused.as_str()), "{refused}");
    assert_eq!(verdict(&infer(served, "rounded", "label.json", &[])), "accepted", "control");
}

/// A day's quota is worth only as much as the lease under it: a host that restarts the enclave would begin the day anew.
#[test]
fn a_quota_of_a_day_is_covered_by_the_lease_or_the_model_is_not_served() {
    let mut policy = usage("daily");
    policy["quotas"] = json!([{ "role": "any", "requests": 50, "per_s": 86400 }]);
    let scene = Scene::new();
    put(&scene, "daily", 1, &onnx::marked(1000), &policy);
    scene.name_models("operator/config.toml", &[("daily", 1)]);
    let (mut broker, _) = scene.broker();
    let mut enclave = scene.launch("operator/models", &[]);
    let fatal = enclave.wait_until("a refusal", |e| e["fatal"]["code"].is_string());
    assert_eq!(fatal["fatal"]["code"], "QUOTA_NOT_COVERED", "{fatal}");
    enclave.kill();
    broker.kill();

    scene.edit("broker/state/broker.toml", "max_requests = 10000", "max_requests = 50");
    let (_broker, _) = scene.broker();
    let (_enclave, address) = scene.serve();
    let mut wire = Wire::attested(&address);
    let codes: Vec<_> =
        (0..51).map(|n| wire.send("POST", &infer_path("daily"), &[], &numbers("x", &[n])).verdict().1).collect();
    let accepted = codes.iter().filter(|code| *code == "accepted").count();
    println!("{accepted} of 51 requests of one day; the last one: {}", codes[50]);
    assert!(accepted == 50 && codes[50] != "accepted", "{codes:?}");
}

/// The right to use a model ends while it is served.
#[test]
fn after_the_policy_expired_nobody_is_answered() {
    let scene = Scene::new();
    let date = Command::new("date").args(["-u", "-d", "+10 seconds", "+%Y-%m-%dT%H:%M:%SZ"]).output().unwrap();
    let ends = String::from_utf8(date.stdout).unwrap().trim().to_owned();
    let begun = Instant::now();
    let mut policy = usage("ending");
    policy["expires"] = json!(ends);
    put(&scene, "ending", 1, &onnx::marked(1000), &policy);
    put(&scene, "lasting", 1, &onnx::marked(2000), &usage("lasting"));
    scene.name_models("operator/config.toml", &[("ending", 1), ("lasting", 1)]);
    write_numbers(&scene, "one.json", &[1]);
    let served = Served::start(scene, |_| {});
    let ask = |model: &str| verdict(&infer(&served, model, "one.json", &[]));
    let first = ask("ending");
    if begun.elapsed() > Duration::from_secs(9) {
        println!("NOT RUN: serve_usage: the machine is too slow to see a policy before it expires");
        return;
    }
    assert_eq!(first, "accepted", "control: before");
    while begun.elapsed() < Duration::from_secs(12) {
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(ask("ending"), "USAGE_EXPIRED");
    assert_eq!(ask("lasting"), "accepted", "control: another model");
}
