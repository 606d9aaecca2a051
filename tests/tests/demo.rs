//! The story as a newcomer runs it: `vouchsafe demo`, its attacks, and a model that nobody saw before.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::Command;

use serde_json::Value;
use vouchsafe_tests::{bin_dir, python, vouchsafe, vouchsafe_json};

/// SHA-256 of a shipped program, as the demo reports the program behind each refusing process.
fn shipped(name: &str) -> String {
    hex::encode(vouchsafe_attestation::lp::sha256(&std::fs::read(bin_dir().join(name)).unwrap()))
}

#[test]
fn every_attack_is_refused_by_a_shipped_program_and_every_control_succeeds() {
    attacks_are_refused(&["demo"], "sev-snp");
}

#[test]
fn every_attack_on_tdx_is_refused_too() {
    attacks_are_refused(&["demo", "--tee", "tdx"], "tdx");
}

fn attacks_are_refused(demo: &[&str], tee: &str) {
    let (exit, json) = vouchsafe_json(demo);
    assert_eq!(json["tee"], tee, "{json}");
    let attacks = json["attacks"].as_array().expect("a list of attacks");
    for attack in attacks {
        println!("{attack}");
        assert_eq!(attack["code"], attack["expected"], "{attack}");
        assert_eq!(attack["control"], "accepted", "{attack}");
        let program = match attack["refused_by"].as_str().unwrap() {
            "enclave" => "vouchsafe-enclave",
            "broker" | "customer" => "vouchsafe",
            other => panic!("{other} refuses nothing"),
        };
        // Another user's process cannot be looked at; as root, and in CI, it always can.
        match attack["program_sha256"].as_str() {
            Some(digest) => assert_eq!(digest, shipped(program), "{attack}"),
            None => println!("NOT RUN: program of {}: /proc is closed to this user", attack["name"]),
        }
    }
    assert!(attacks.len() >= 8, "{} attacks", attacks.len());
    let relayed = attacks.iter().find(|a| a["name"] == "evidence-relayed").expect("the relay attack");
    assert_eq!(relayed["facts"]["application_bytes_decrypted_by_the_relay"], 0);
    assert_eq!(exit, 0);
}

#[test]
fn people_read_simulated_first_and_three_commands_last() {
    let output = vouchsafe(&["demo", "--no-attacks"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.starts_with("SIMULATED"), "{text}");
    let next = text.split("Try next:").nth(1).expect("what to try next");
    assert_eq!(next.lines().filter(|l| l.contains("vouchsafe ")).count(), 3, "{next}");
}

/// A random two-layer graph and rows from a fresh seed; the enclave's numbers are Python onnxruntime's.
#[test]
fn a_model_nobody_saw_before_answers_like_onnxruntime_in_process() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let script = r#"
import sys, json, os, numpy as np, onnx, onnxruntime
from onnx import helper, TensorProto, numpy_helper
seed = int.from_bytes(os.urandom(4), "big"); rng = np.random.default_rng(seed); print("seed", seed, file=sys.stderr)
n_in, n_mid, n_out, rows = (int(rng.integers(2, 40)) for _ in range(4))
w = lambda name, *shape: numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)
graph = helper.make_graph(
    [helper.make_node("Gemm", ["x", "a", "b"], ["m"]), helper.make_node("Tanh", ["m"], ["t"]),
     helper.make_node("Gemm", ["t", "c", "d"], ["y"])], "g",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, n_in])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, n_out])],
    [w("a", n_in, n_mid), w("b", n_mid), w("c", n_mid, n_out), w("d", n_out)])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
onnx.checker.check_model(model); onnx.save(model, sys.argv[1])
x = rng.standard_normal((rows, n_in)).astype(np.float32)
json.dump({"inputs": [{"name": "x", "datatype": "FP32", "shape": list(x.shape), "data": x.ravel().tolist()}]}, open(sys.argv[2], "w"))
y = onnxruntime.InferenceSession(sys.argv[1]).run(None, {"x": x})[0]
print(json.dumps({"shape": list(y.shape), "data": y.ravel().tolist()}))
"#;
    let made = python(script, &[&at("m.onnx"), &at("x.json")]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let expected: Value = serde_json::from_slice(&made.stdout).unwrap();
    let (exit, json) = vouchsafe_json(&["demo", "--no-attacks", "--model", &at("m.onnx"), "--input", &at("x.json")]);
    assert_eq!(exit, 0, "{json}");
    let y = &json["outputs"][0];
    assert_eq!(y["shape"], expected["shape"]);
    let numbers = |v: &Value| v.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect::<Vec<_>>();
    let (ours, theirs) = (numbers(&y["data"]), numbers(&expected["data"]));
    assert_eq!(ours.len(), theirs.len());
    for (a, b) in ours.iter().zip(&theirs) {
        assert!((a - b).abs() <= 1e-6 * b.abs().max(1.0), "{a} is not {b}");
    }
}

/// After Ctrl-C and after `kill -9` nothing of a demo runs on, and after Ctrl-C nothing of it lies around.
#[test]
fn an_interrupted_demo_leaves_nobody_behind() {
    for signal in ["INT", "KILL"] {
        let dir = tempfile::tempdir().unwrap();
        let mut demo = Command::new(bin_dir().join("vouchsafe"))
            .args(["demo", "--json"])
            .env("TMPDIR", dir.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let world = wait_for(|| {
            let entry = std::fs::read_dir(dir.path()).unwrap().flatten().next()?.path();
            entry.join("logs/vouchsafe-launch.events.log").exists().then_some(entry)
        });
        let pid = demo.id().to_string();
        assert!(Command::new("kill").args([&format!("-{signal}"), &pid]).status().unwrap().success());
        let status = demo.wait().unwrap();
        if signal == "INT" {
            assert_eq!(status.code(), Some(130));
            assert!(!world.exists(), "the folder of the demo is still there");
        }
        wait_for(|| running_in(dir.path().to_str().unwrap()).is_empty().then_some(()));
    }
}

/// Command lines of processes that mention a path.
fn running_in(path: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|p| std::fs::read(p.path().join("cmdline")).ok());
    lines.map(|l| String::from_utf8_lossy(&l).replace('\0', " ")).filter(|l| l.contains(path)).collect()
}

fn wait_for<T>(mut done: impl FnMut() -> Option<T>) -> T {
    for _ in 0..2000 {
        if let Some(found) = done() {
            return found;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("waited 20 s in vain");
}
