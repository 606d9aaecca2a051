//! Turns a number into so many requests, each with a mark of its own, from many clients over several models, and demands every mark back.
//! It does not time them: it looks for an answer that belongs to somebody else.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::load::together;
use crate::wire::{Answer, Connector, request};
use crate::{Job, pause, say};

/// A model and the number that it adds.
pub type Adder = (String, f32);

/// What one client sends in one request.
struct Mark {
    id: String,
    numbers: [f32; 4],
}

impl Mark {
    /// Client, high and low part of the count, and something that no neighbour has. All of them are whole in FP32.
    fn new(client: usize, count: u64) -> Self {
        let mixed = (client as u64 * 2_654_435_761 + count * 40_503) % 1_000_003;
        let number = |n: u64| n as f32;
        let numbers = [number(client as u64), number(count >> 16), number(count & 0xffff), number(mixed)];
        Self { id: format!("{client}-{count}"), numbers }
    }

    /// Every other one in binary form.
    fn request(&self, model: &str, binary: bool) -> Vec<u8> {
        let path = format!("/v2/models/{model}/infer");
        let mut input = json!({ "name": "x", "datatype": "FP32", "shape": [1, 4] });
        if !binary {
            input["data"] = json!(self.numbers);
            return request(&path, &[], json!({ "id": self.id, "inputs": [input] }).to_string().as_bytes());
        }
        input["parameters"] = json!({ "binary_data_size": 16 });
        let parameters = json!({ "binary_data_output": true });
        let text = json!({ "id": self.id, "inputs": [input], "parameters": parameters }).to_string();
        let tail: Vec<u8> = self.numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        let headers = [
            ("Inference-Header-Content-Length".to_owned(), text.len().to_string()),
            ("Content-Type".to_owned(), "application/octet-stream".to_owned()),
        ];
        request(&path, &headers, &[text.as_bytes(), &tail].concat())
    }

    /// Whether this answer is the one to this request, and to no other.
    fn matches(&self, answer: &Answer<'_>, (model, number): &Adder, binary: bool) -> bool {
        let length = answer.header("inference-header-content-length").and_then(|word| word.parse::<usize>().ok());
        let (text, tail) = answer.body.split_at(length.unwrap_or(answer.body.len()).min(answer.body.len()));
        let Ok(value) = serde_json::from_slice::<Value>(text) else { return false };
        let expected = self.numbers.map(|n| n + number);
        let same = if binary {
            tail.chunks(4).map(<[u8]>::to_vec).eq(expected.iter().map(|n| n.to_le_bytes().to_vec()))
        } else {
            let data = value["outputs"][0]["data"].as_array();
            data.is_some_and(|data| data.iter().map(Value::as_f64).eq(expected.iter().map(|n| Some(f64::from(*n)))))
        };
        answer.status == 200 && same && value["id"] == self.id.as_str() && value["model_name"] == model.as_str()
    }
}

/// What was counted.
#[derive(Default)]
struct Count {
    done: AtomicU64,
    /// Answers with status 200 that belong to somebody else.
    wrong: AtomicU64,
    /// Answers with another status.
    refused: AtomicU64,
    /// Connections that ended.
    broken: AtomicU64,
}

impl Count {
    /// One more; the first of each kind is shown.
    fn add(&self, kind: &AtomicU64, what: &str, id: &str, detail: &str) {
        if kind.fetch_add(1, Ordering::Relaxed) == 0 {
            eprintln!("{what} {id}: {detail}");
        }
    }
}

/// `total` marked requests; prints how far it is at every twentieth of them.
///
/// # Errors
/// When the connections cannot be opened. What goes wrong later is counted.
pub async fn run(
    job: &Arc<Job>,
    connector: &Arc<Connector>,
    clients: usize,
    total: u64,
    models: &Arc<Vec<Adder>>,
) -> io::Result<Value> {
    let mut wires = Vec::with_capacity(clients);
    for _ in 0..clients {
        wires.push(connector.open(job.address, job.channel).await?);
    }
    pause()?;
    let count = Arc::new(Count::default());
    let begun = std::time::Instant::now();
    together(wires.into_iter().enumerate().map(|(client, mut wire)| {
        let (job, connector) = (Arc::clone(job), Arc::clone(connector));
        let (models, tally) = (Arc::clone(models), Arc::clone(&count));
        let mine = total / clients as u64 + u64::from((client as u64) < total % clients as u64);
        async move {
            for n in 0..mine {
                let Some(model) = models.get((client + n as usize) % models.len()) else { break };
                let (mark, binary) = (Mark::new(client, n), n % 2 == 1);
                match wire.ask(&mark.request(&model.0, binary)).await {
                    Ok(answer) if mark.matches(&answer, model, binary) => {}
                    Ok(answer) => {
                        let text = String::from_utf8_lossy(answer.body);
                        if answer.status == 200 {
                            tally.add(&tally.wrong, "another's answer to", &mark.id, &text);
                        } else {
                            tally.add(&tally.refused, "refused", &mark.id, &text);
                        }
                    }
                    Err(error) => {
                        tally.add(&tally.broken, "no answer to", &mark.id, &error.to_string());
                        wire = connector.open(job.address, job.channel).await?;
                    }
                }
                let done = tally.done.fetch_add(1, Ordering::Relaxed) + 1;
                if done % (total / 20).max(1) == 0 {
                    say(&json!({ "done": done }))?;
                }
            }
            Ok(())
        }
    }))
    .await?;
    let number = |n: &AtomicU64| n.load(Ordering::Relaxed);
    let seconds = begun.elapsed().as_secs_f64();
    Ok(json!({
        "requests": number(&count.done),
        "wrong": number(&count.wrong),
        "refused": number(&count.refused),
        "broken": number(&count.broken),
        "seconds": seconds,
        "per_s": number(&count.done) as f64 / seconds,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_to_somebody_else_is_noticed() {
        let (mark, adder) = (Mark::new(3, 70_000), ("tiny-2".to_owned(), 2.0));
        let text = |id: &str, model: &str, last: f32| {
            let [a, b, c, d] = mark.numbers.map(|n| n + 2.0);
            let outputs = json!([{ "name": "y", "datatype": "FP32", "shape": [1, 4], "data": [a, b, c, d + last] }]);
            json!({ "id": id, "model_name": model, "outputs": outputs }).to_string()
        };
        let judge = |text: &str, status| {
            let answer = Answer { status, head: "", body: text.as_bytes() };
            mark.matches(&answer, &adder, false)
        };
        assert!(judge(&text("3-70000", "tiny-2", 0.0), 200));
        assert!(!judge(&text("3-70000", "tiny-2", 0.0), 503));
        assert!(!judge(&text("3-70001", "tiny-2", 0.0), 200));
        assert!(!judge(&text("3-70000", "tiny-3", 0.0), 200));
        assert!(!judge(&text("3-70000", "tiny-2", 1.0), 200));
        assert_ne!(Mark::new(3, 1).numbers, Mark::new(3, 65_537).numbers);
    }
}
