//! Turns a server and a request into one round's sample: runs the load generator on it and reads the server's clocks before and after.
//! It does not generate load itself: the example `serve_load` does, in a release build and a process of its own.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::bench;
use crate::bench_serve_models::{MODELS, Request};
use crate::bench_serve_process::{cpu_seconds, pin, resident_kib, tree};
use crate::bench_serve_table::Sample;
use crate::build::Profile;
use crate::error::ChoreError;
use crate::workspace::{Workspace, ended_well};

const FAILED: ChoreError = ChoreError::BenchProgram("the load generator");

/// How a connection begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Channel {
    Plain,
    Tls,
    Attested,
}

/// Where load goes, and whose time is counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) channel: Channel,
    /// The process whose tree is the server.
    pub(crate) root: u32,
}

/// How much load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Amount {
    pub(crate) clients: usize,
    pub(crate) millis: u64,
    /// Everything, the load generator too, on one processor.
    pub(crate) one_core: bool,
}

/// The built load generator.
pub(crate) struct Load {
    program: PathBuf,
}

impl Load {
    /// Builds it.
    pub(crate) fn build(workspace: &Workspace, profile: Profile) -> Result<Self, ChoreError> {
        Ok(Self { program: bench::example_in(workspace, profile, "xtask", "serve_load")? })
    }

    /// One answer; nothing when there is none.
    pub(crate) fn ask(&self, target: &Target, request: &Request) -> Option<Value> {
        let mut running = self.start(target, json!("ask"), Some(request.to_json(None)), None, false).ok()?;
        let told = running.line()?;
        running.child.wait().ok()?.success().then_some(told)
    }

    /// One round. `header` goes with every request, and an answer without a header of the same name is a failure.
    pub(crate) fn round(
        &self,
        target: &Target,
        request: &Request,
        header: Option<(&str, &str)>,
        amount: Amount,
    ) -> Result<Sample, ChoreError> {
        // Threads that were made for the first requests are there once it is warm.
        let warm = if amount.clients == 1 { 20 } else { 3 };
        let work = json!({ "load": { "clients": amount.clients, "warm": warm, "millis": amount.millis } });
        let request = request.to_json(header);
        let running = self.start(target, work, Some(request), header.map(|(name, _)| name), amount.one_core)?;
        self.measure(target, running, amount.one_core)
    }

    /// New attested sessions.
    pub(crate) fn sessions(&self, target: &Target, clients: usize, millis: u64) -> Result<Sample, ChoreError> {
        let work = json!({ "sessions": { "clients": clients, "millis": millis } });
        let running = self.start(target, work, None, None, false)?;
        self.measure(target, running, false)
    }

    fn measure(&self, target: &Target, mut running: Running, one_core: bool) -> Result<Sample, ChoreError> {
        running.ready()?;
        let server = tree(target.root);
        if one_core {
            pin(&server, "0");
        }
        let before = cpu_seconds(&server);
        running.go()?;
        let told = running.line();
        let taken = cpu_seconds(&server) - before;
        if one_core {
            pin(&server, &all_processors());
        }
        running.end()?;
        told.and_then(|told| Sample::of(&told, Some(taken))).ok_or(FAILED)
    }

    /// Marked requests to all tiny models; what came of them, and the memory of `processes` after warming up and at the end, in KiB.
    pub(crate) fn soak(
        &self,
        target: &Target,
        clients: usize,
        requests: u64,
        processes: impl Fn() -> Vec<u32>,
    ) -> Result<(Value, u64, u64), ChoreError> {
        let models: Vec<Value> = MODELS.iter().filter_map(|(id, adds)| adds.map(|adds| json!([id, adds]))).collect();
        let work = json!({ "soak": { "clients": clients, "requests": requests, "models": models } });
        let mut running = self.start(target, work, None, None, false)?;
        running.ready()?;
        running.go()?;
        let (mut warm, mut last) = (None, 0);
        loop {
            let told = running.line().ok_or(FAILED)?;
            let Some(done) = told.get("done").and_then(Value::as_u64) else {
                running.end()?;
                return Ok((told, warm.unwrap_or(last), last));
            };
            last = resident_kib(&processes());
            // A tenth of the way every thread and every buffer is there.
            if done * 10 >= requests {
                warm.get_or_insert(last);
            }
            eprintln!("soak: {done} of {requests}, {} MiB resident", last >> 10);
        }
    }

    fn start(
        &self,
        target: &Target,
        work: Value,
        request: Option<Value>,
        demand: Option<&str>,
        one_core: bool,
    ) -> Result<Running, ChoreError> {
        let channel = match target.channel {
            Channel::Plain => "plain",
            Channel::Tls => "tls",
            Channel::Attested => "attested",
        };
        let job = json!({ "address": target.address, "channel": channel, "request": request, "demand": demand, "work": &work });
        let mut command = Command::new(if one_core { "taskset".into() } else { self.program.clone() });
        if one_core {
            command.args(["--cpu-list", "0"]).arg(&self.program);
        }
        if work == "ask" {
            // Whoever asks judges the answer, and says so.
            command.stderr(Stdio::null());
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|source| ChoreError::Start { program: "the load generator", source })?;
        let out = BufReader::new(child.stdout.take().ok_or(FAILED)?);
        let mut running = Running { child, out };
        running.say(&job.to_string())?;
        Ok(running)
    }
}

/// A load generator at work.
struct Running {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Running {
    fn line(&mut self) -> Option<Value> {
        let mut line = String::new();
        self.out.read_line(&mut line).ok()?;
        serde_json::from_str(&line).ok()
    }

    fn say(&mut self, line: &str) -> Result<(), ChoreError> {
        let input = self.child.stdin.as_mut().ok_or(FAILED)?;
        writeln!(input, "{line}").map_err(|_| FAILED)
    }

    fn ready(&mut self) -> Result<(), ChoreError> {
        let told = self.line();
        if told.is_some_and(|told| told.get("ready").is_some()) { Ok(()) } else { Err(FAILED) }
    }

    fn go(&mut self) -> Result<(), ChoreError> {
        self.say("go")
    }

    fn end(mut self) -> Result<(), ChoreError> {
        let status = self.child.wait().map_err(|source| ChoreError::Start { program: "the load generator", source })?;
        if ended_well(status)? { Ok(()) } else { Err(FAILED) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// As `taskset` wants them.
fn all_processors() -> String {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    if text.trim().is_empty() { "0".to_owned() } else { text.trim().to_owned() }
}
