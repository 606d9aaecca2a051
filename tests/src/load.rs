//! Turns numbers into requests for the small models of `onnx.rs`, answers back into numbers, and times into percentiles.
//! It measures on a machine that does other things too: a test compares times with times of the same run.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::wire::{Answer, Wire};

/// Where to ask a model.
#[must_use]
pub fn infer_path(model: &str) -> String {
    format!("/v2/models/{model}/infer")
}

/// A request of 64-bit numbers under a tensor's name.
#[must_use]
pub fn numbers(tensor: &str, data: &[i64]) -> Vec<u8> {
    let tensor = json!({ "name": tensor, "datatype": "INT64", "shape": [data.len()], "data": data });
    json!({ "inputs": [tensor] }).to_string().into_bytes()
}

/// The numbers of an answer's one output; nothing for a refusal.
#[must_use]
pub fn answered(answer: &Answer) -> Option<Vec<i64>> {
    let json = answer.json();
    let data = json["outputs"][0]["data"].as_array().filter(|_| answer.status == 200)?;
    data.iter().map(Value::as_i64).collect()
}

/// Asks and times one request.
pub fn timed(wire: &mut Wire, path: &str, body: &[u8]) -> (Answer, Duration) {
    let asked = Instant::now();
    let answer = wire.send("POST", path, &[], body);
    (answer, asked.elapsed())
}

/// Times of requests.
#[derive(Default)]
pub struct Times(Vec<Duration>);

impl Times {
    /// One more.
    pub fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// All of another.
    pub fn append(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The time that `percent` of a hundred are not above.
    ///
    /// # Panics
    /// When there are none.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = (sorted.len() * percent).div_ceil(100).clamp(1, sorted.len());
        sorted[at - 1]
    }
}
