//! Turns the backend tests of the PyPI package `onnx` into sealed models, asks each through a proxy that has verified the enclave,
//! and compares with the expected outputs that the package brings. ONNX Runtime's own numbers are not asked for.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

use std::{collections::BTreeMap, fs, path::Path, time::Instant};

use serde_json::Value;
use vouchsafe_tests::{
    Scene,
    models::usage,
    python,
    scene::told,
    wire::{Answer, Wire},
};

/// How many models one enclave gets: their claims must fit into 16 KiB.
const PER_ENCLAVE: usize = 35;
/// How many directories the package has, and how many of them must be served at least.
const DIRECTORIES: usize = 140;
const AT_LEAST: usize = 135;

/// What is not served, the code of the refusal, and why.
const NOT_SERVED: [(&str, &str, &str); 2] = [
    ("test_gradient_of_add", "MODEL_DOMAIN", "operators of ai.onnx.preview.training, which ONNX Runtime does not have"),
    (
        "test_gradient_of_add_and_mul",
        "MODEL_DOMAIN",
        "operators of ai.onnx.preview.training, which ONNX Runtime does not have",
    ),
];

/// One directory: a model and what it answers.
struct Case {
    id: String,
    name: String,
    folder: String,
    change: String,
    sets: Vec<Value>,
}

impl Case {
    fn read(at: usize, entry: &Value) -> Self {
        let text = |key: &str| entry[key].as_str().unwrap().to_owned();
        let id = format!("{at:03}.{}", text("name").to_lowercase());
        let sets = entry["sets"].as_array().unwrap().clone();
        let id = id.chars().take(64).collect();
        Self { id, name: text("name"), folder: text("folder"), change: text("change"), sets }
    }

    fn file(&self, name: &Value) -> Vec<u8> {
        fs::read(Path::new(&self.folder).join(name.as_str().unwrap())).unwrap()
    }

    /// Asks with every data set: what differs, if anything.
    fn ask(&self, wire: &mut Wire) -> Result<usize, String> {
        let path = format!("/v2/models/{}/infer", self.id);
        for set in &self.sets {
            let length = set["header_len"].as_u64().unwrap().to_string();
            let headers = [("Inference-Header-Content-Length", length.as_str())];
            let answer = wire.send("POST", &path, &headers, &self.file(&set["request"]));
            if answer.status != 200 {
                return Err(format!("{:?}: {}", answer.verdict(), answer.json()));
            }
            let wanted = set["outputs"].as_array().unwrap();
            let found = outputs(&answer)?;
            for want in wanted {
                let name = want["name"].as_str().unwrap();
                let (head, data) = found.get(name).ok_or_else(|| format!("no output {name}"))?;
                if head["datatype"] != want["datatype"] || head["shape"] != want["shape"] {
                    return Err(format!("{head} in place of {want}"));
                }
                if !same(want["datatype"].as_str().unwrap(), data, &self.file(&want["file"])) {
                    return Err(format!("{name} has other elements"));
                }
            }
        }
        Ok(self.sets.len())
    }
}

/// The outputs of an answer whose tensors are all binary, by name.
fn outputs(answer: &Answer) -> Result<BTreeMap<String, (Value, Vec<u8>)>, String> {
    let length = answer.header("inference-header-content-length").and_then(|v| v.parse().ok());
    let (head, mut tail) = answer.body.split_at(length.ok_or("no header length")?);
    let head: Value = serde_json::from_slice(head).map_err(|e| e.to_string())?;
    let mut found = BTreeMap::new();
    for output in head["outputs"].as_array().ok_or("no outputs")? {
        let size = output["parameters"]["binary_data_size"].as_u64().ok_or("an output that is not binary")?;
        let (data, rest) =
            tail.split_at_checked(usize::try_from(size).unwrap()).ok_or("an answer that is cut short")?;
        tail = rest;
        found.insert(output["name"].as_str().unwrap().to_owned(), (output.clone(), data.to_vec()));
    }
    Ok(found)
}

/// Equal elements: floats within the bounds of onnx's own runner, everything else to the byte.
fn same(datatype: &str, have: &[u8], want: &[u8]) -> bool {
    let close = |have: f64, want: f64| {
        have == want || (have.is_nan() && want.is_nan()) || (have - want).abs() <= 1e-7 + 1e-3 * want.abs()
    };
    let pairs = |size| have.chunks_exact(size).zip(want.chunks_exact(size));
    let single = |b: &[u8]| f64::from(f32::from_le_bytes(b.try_into().unwrap()));
    let double = |b: &[u8]| f64::from_le_bytes(b.try_into().unwrap());
    have.len() == want.len()
        && match datatype {
            "FP32" => pairs(4).all(|(have, want)| close(single(have), single(want))),
            "FP64" => pairs(8).all(|(have, want)| close(double(have), double(want))),
            _ => have == want,
        }
}

/// Where the operator has the models of one round.
fn models(at: usize) -> String {
    format!("operator/models-{at}")
}

fn seal(scene: &Scene, at: usize, cases: &[&Case]) {
    for case in cases {
        let model = Path::new(&case.folder).join("model.onnx");
        // A policy of its own where the inputs are text, so that both ways are gone.
        let policy = case.name.starts_with("test_strnorm").then(|| usage(&case.id));
        let package = scene.seal_file(&case.id, 1, model.to_str().unwrap(), policy.as_ref());
        scene.install(&package, &models(at), &case.id);
    }
}

/// Serves sealed models and asks them all: what went wrong, by name.
fn round(scene: &Scene, at: usize, cases: &[&Case]) -> Vec<(String, String)> {
    let config = format!("operator/config-{at}.toml");
    let named: Vec<_> = cases.iter().map(|case| (case.id.as_str(), 1)).collect();
    scene.name_models(&config, &named);
    let begun = Instant::now();
    let (_enclave, address) = scene.serve_as(&config, &models(at));
    let served = begun.elapsed();
    let (_proxy, address) = scene.proxy(&address, &[]);
    let mut wire = Wire::plain(&address);
    let asked = Instant::now();
    let wrong: Vec<_> = cases.iter().filter_map(|case| Some((case.name.clone(), case.ask(&mut wire).err()?))).collect();
    println!("enclave {at}: {} models, serving after {served:?}, all asked in {:?}", cases.len(), asked.elapsed());
    wrong
}

#[test]
fn every_model_of_onnx_answers_sealed_as_it_should() {
    let scene = Scene::new();
    fs::create_dir(scene.at("cases")).unwrap();
    let made = python(include_str!("../reference/onnx_cases.py"), &[&scene.at("cases")]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    print!("{}", String::from_utf8_lossy(&made.stdout));
    let list: Value = serde_json::from_str(&scene.text("cases/cases.json")).unwrap();
    let all: Vec<Case> = list["cases"].as_array().unwrap().iter().enumerate().map(|(n, c)| Case::read(n, c)).collect();
    assert_eq!(all.len(), DIRECTORIES, "the package changed");

    let exception = |case: &Case| NOT_SERVED.iter().find(|(name, ..)| *name == case.name);
    for case in &all {
        if let Some((name, code, reason)) = exception(case) {
            println!("not served: {name}: {reason}");
            let model = format!("{}/model.onnx", case.folder);
            assert_eq!(told(&["model", "scan", &model]).1, *code, "{name}");
        }
    }
    let served: Vec<&Case> = all.iter().filter(|case| exception(case).is_none()).collect();
    let (_broker, _) = scene.broker();
    // The vendor seals what is served next meanwhile.
    let (sealed, next) = std::sync::mpsc::channel();
    let wrong: Vec<(String, String)> = std::thread::scope(|scope| {
        let (served, scene) = (&served, &scene);
        scope.spawn(move || {
            for (at, cases) in served.chunks(PER_ENCLAVE).enumerate() {
                seal(scene, at, cases);
                sealed.send((at, cases)).unwrap();
            }
        });
        next.iter().flat_map(|(at, cases)| round(scene, at, cases)).collect()
    });
    let mut changes = BTreeMap::<&str, usize>::new();
    for case in served.iter().filter(|case| wrong.iter().all(|(name, _)| *name != case.name)) {
        *changes.entry(if case.change.is_empty() { "as they are" } else { &case.change }).or_default() += 1;
    }
    let equal: usize = changes.values().sum();
    println!("{equal} of {DIRECTORIES} directories answered sealed as expected: {changes:?}");
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(equal >= AT_LEAST);
}

#[test]
fn control_other_elements_are_told_apart() {
    let one = 1f32.to_le_bytes();
    assert!(same("FP32", &one, &1.0005f32.to_le_bytes()), "within the bounds");
    assert!(!same("FP32", &one, &1.002f32.to_le_bytes()));
    assert!(!same("FP32", &one, &f32::NAN.to_le_bytes()));
    assert!(same("FP64", &f64::NAN.to_le_bytes(), &f64::NAN.to_le_bytes()));
    assert!(!same("INT64", &1i64.to_le_bytes(), &2i64.to_le_bytes()));
    assert!(!same("FP32", &one, &[]), "a count of its own");
    assert!(!same("BYTES", b"\x01\0\0\0a", b"\x01\0\0\0b"));
}
