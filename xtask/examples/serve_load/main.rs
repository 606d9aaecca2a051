//! Turns one job, a line of JSON on standard input, into load on one server, and what was measured into lines of JSON on standard output.
//! It does not start, pin or judge the server: `cargo xtask bench serve` does, between the lines.

mod load;
mod soak;
mod wire;

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use wire::{Channel, Connector};

/// What to do, and to whom.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// The server.
    pub address: SocketAddr,
    /// How to reach it.
    pub channel: Channel,
    /// What to ask it, if it is always the same.
    #[serde(default)]
    request: Option<Fixed>,
    /// A header that every answer must have.
    #[serde(default)]
    pub demand: Option<String>,
    work: Work,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fixed {
    path: String,
    #[serde(default)]
    headers: Vec<(String, String)>,
    /// The file with its body.
    body: PathBuf,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
enum Work {
    /// Ask once, and print the answer.
    Ask,
    /// Ask for so long.
    Load { clients: usize, warm: usize, millis: u64 },
    /// Open sessions for so long.
    Sessions { clients: usize, millis: u64 },
    /// Send so many marked requests.
    Soak { clients: usize, requests: u64, models: Vec<soak::Adder> },
}

fn main() -> ExitCode {
    let outcome = read_job().and_then(|job| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(run(job))
    });
    match outcome.and_then(|told| say(&told)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("serve_load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn read_job() -> io::Result<Job> {
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    serde_json::from_str(&line).map_err(io::Error::other)
}

async fn run(job: Job) -> io::Result<Value> {
    let connector = Arc::new(Connector::new()?);
    let work = job.work.clone();
    let request = match &job.request {
        Some(fixed) => wire::request(&fixed.path, &fixed.headers, &std::fs::read(&fixed.body)?),
        None => Vec::new(),
    };
    let job = Arc::new(job);
    match work {
        Work::Ask => {
            let mut wire = connector.open(job.address, job.channel).await?;
            let answer = wire.ask(&request).await?;
            let length = answer.header("inference-header-content-length").and_then(|word| word.parse::<usize>().ok());
            let (text, tail) = answer.body.split_at(length.unwrap_or(answer.body.len()).min(answer.body.len()));
            let floats = tail.chunks_exact(4).filter_map(|four| Some(f32::from_le_bytes(four.try_into().ok()?)));
            let floats: Vec<f32> = floats.collect();
            Ok(json!({ "status": answer.status, "text": String::from_utf8_lossy(text), "binary": floats }))
        }
        Work::Load { clients, warm, millis } => {
            let plan = load::Plan { job, request: Arc::new(request) };
            load::run(&plan, &connector, clients, warm, millis).await
        }
        Work::Sessions { clients, millis } => load::sessions(&job, &connector, clients, millis).await,
        Work::Soak { clients, requests, models } => {
            soak::run(&job, &connector, clients, requests, &Arc::new(models)).await
        }
    }
}

/// Says that everything is warm, and waits for a line: whoever started this reads the clocks of the server meanwhile.
///
/// # Errors
/// When standard input or output is gone.
pub fn pause() -> io::Result<()> {
    say(&json!({ "ready": true }))?;
    let mut line = String::new();
    if io::stdin().read_line(&mut line)? == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

/// Prints one line.
///
/// # Errors
/// When standard output is gone.
pub fn say(value: &Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{value}")?;
    out.flush()
}
