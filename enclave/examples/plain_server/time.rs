//! Turns lines of standard input into rounds of MiniLM in a bare loop of this process, and their times into lines of JSON.
//! It serves nobody: it is what no server can be faster than.

use std::io::BufRead as _;
use std::path::Path;
use std::time::{Duration, Instant};

use ort::session::Session;
use ort::value::TensorRef;
use serde_json::{Value, json};

use crate::bare::{environment, session};
use crate::{Outcome, say};

/// Rounds begin warm.
const WARM: usize = 20;

/// Loads the model twice, with threads that spin and with threads that do not, and answers every line.
///
/// # Errors
/// When the model cannot be loaded or run.
pub fn run(library: &Path, model: &Path, threads: usize) -> Outcome {
    let environment = environment(library)?;
    let mut still = session(&environment, model, threads, false)?;
    let mut spin = session(&environment, model, threads, true)?;
    say(&json!({ "ready": true }))?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let &[way, length, millis] = words.as_slice() else { return Err("not such a line".into()) };
        let session = if way == "spin" { &mut spin } else { &mut still };
        say(&round(session, length.parse()?, Duration::from_millis(millis.parse()?))?)?;
    }
    Ok(())
}

fn round(session: &mut Session, length: usize, time: Duration) -> Outcome<Value> {
    let ids: Vec<i64> = (0..i64::try_from(length)?).map(|n| 2000 + n).collect();
    let (ones, zeros, shape) = (vec![1_i64; length], vec![0_i64; length], [1, length]);
    let mut once = || -> ort::Result<f32> {
        let given = session.run(ort::inputs![
            "input_ids" => TensorRef::from_array_view((shape, ids.as_slice()))?,
            "attention_mask" => TensorRef::from_array_view((shape, ones.as_slice()))?,
            "token_type_ids" => TensorRef::from_array_view((shape, zeros.as_slice()))?,
        ])?;
        let (_, embedding) = given["embedding"].try_extract_tensor::<f32>()?;
        Ok(embedding.first().copied().unwrap_or_default())
    };
    for _ in 0..WARM {
        once()?;
    }
    let (mut taken, before, begun) = (Vec::with_capacity(4096), cpu_seconds()?, Instant::now());
    let mut now = begun;
    while now - begun < time {
        std::hint::black_box(once()?);
        let after = Instant::now();
        taken.push(after - now);
        now = after;
    }
    let (seconds, cpu) = (begun.elapsed().as_secs_f64(), cpu_seconds()? - before);
    taken.sort_unstable();
    // Nearest rank, as the load generator does.
    let micros = |share: f64| {
        let rank = (share * taken.len() as f64).ceil().max(1.0) as usize;
        taken.get(rank - 1).map(|time| time.as_secs_f64() * 1e6)
    };
    Ok(json!({
        "requests": taken.len(),
        "seconds": seconds,
        "per_s": taken.len() as f64 / seconds,
        "p50_us": micros(0.5),
        "p99_us": micros(0.99),
        "cpu_seconds": cpu,
    }))
}

/// Processor time of this process, in hundredths of a second.
fn cpu_seconds() -> Outcome<f64> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    // Behind the name, which may hold anything, stand the state and ten numbers, then time in user mode and in the kernel.
    let fields = text.rsplit_once(')').map(|(_, rest)| rest.split_whitespace()).ok_or("no such file")?;
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(ticks as f64 / 100.0)
}
