//! Turns more than a hundred requests into answers of the real tritonserver and of ours, and every difference into a line of
//! tests/reference/differential.json, which says why it is meant. tests/reference/differential.py asks and compares.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Stdio},
};

use serde_json::{Value, json};
use vouchsafe_tests::{Scene, Served, models::usage, reference, workspace};

const AT_LEAST: u64 = 100;
/// Both servers give their models this version.
const SEQUENCE: u64 = 2;

/// The real server. It ends with its standard input.
struct Triton(Child);

impl Triton {
    fn start(folder: &str, models: &str) -> (Self, String) {
        let mut command = reference("differential.py", &["triton", folder, models, &SEQUENCE.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python3 starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let event: Value = serde_json::from_str(&line).expect("tritonserver comes to serve");
        (Self(child), event["address"].as_str().unwrap().to_owned())
    }
}

impl Drop for Triton {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

fn compare(ours: &str, theirs: &str, table: &str) -> (Option<i32>, Value) {
    let output = reference("differential.py", &["compare", ours, theirs, table]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{text}")))
}

#[test]
fn every_difference_from_the_real_tritonserver_is_meant() {
    let Some(folder) = std::env::var_os("VOUCHSAFE_TRITON").map(PathBuf::from) else {
        println!(
            "NOT RUN: triton_differential: VOUCHSAFE_TRITON names no folder with nvidia-pytriton; `cargo xtask prove` installs it"
        );
        return;
    };
    let scene = Scene::new();
    let models = scene.at("triton");
    fs::create_dir(&models).unwrap();
    assert!(reference("differential.py", &["models", &models]).status().unwrap().success());
    fs::copy(workspace().join("examples/breast-cancer/model.onnx"), scene.at("triton/breast-cancer.onnx")).unwrap();
    for id in ["sum", "kinds"] {
        let mut policy = usage(id);
        // As much as tritonserver allows: it knows no policy.
        policy["inputs"] = json!("any");
        let package = scene.seal_file(id, SEQUENCE, &format!("{models}/{id}.onnx"), Some(&policy));
        scene.install(&package, "operator/models", id);
    }
    scene.name_models("operator/config.toml", &["breast-cancer", "sum", "kinds"].map(|id| (id, SEQUENCE)));
    let served = Served::start(scene, |_| {});
    let (_proxy, ours) = served.proxy();
    let (_triton, theirs) = Triton::start(folder.to_str().unwrap(), &models);

    let table = workspace().join("tests/reference/differential.json");
    let (exit, report) = compare(&ours, &theirs, table.to_str().unwrap());
    let count = |key: &str| report[key].as_array().unwrap().len();
    let (asked, same) = (report["requests"].as_u64().unwrap(), report["same"].as_u64().unwrap());
    println!("{asked} requests to both: {same} answered alike, {} differences listed", count("listed"));
    for (what, key) in [("NOT LISTED", "unlisted"), ("listed and never needed", "idle")] {
        report[key].as_array().unwrap().iter().for_each(|one| println!("{what}: {one}"));
    }
    assert!(asked >= AT_LEAST, "{asked}");
    assert_eq!((exit, count("unlisted"), count("idle")), (Some(0), 0, 0));
    assert!(same >= 40, "most good requests are answered alike: {same}");

    // Controls. A server beside itself differs in nothing; without the table the differences are found.
    fs::write(served.scene.at("none.json"), json!({ "intended": [] }).to_string()).unwrap();
    let (exit, report) = compare(&ours, &theirs, &served.scene.at("none.json"));
    assert_eq!(exit, Some(1));
    assert!(!report["unlisted"].as_array().unwrap().is_empty(), "control: the comparison sees differences");
}
