//! Turns the example `plain_server` of the enclave into what ours is compared with: the same model in a bare loop, and the same server without walls.
//! It does not claim that anybody should serve so: nothing of it is attested.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::bench;
use crate::bench_serve_load::{Channel, Target};
use crate::bench_serve_models::Models;
use crate::bench_serve_stage::Service;
use crate::bench_serve_table::Sample;
use crate::build::Profile;
use crate::error::ChoreError;
use crate::workspace::Workspace;

const NAME: &str = "plain_server";
const FAILED: ChoreError = ChoreError::BenchProgram("the example `plain_server`");

/// The built example.
pub(crate) struct Plain {
    program: PathBuf,
    library: PathBuf,
    folder: PathBuf,
    threads: usize,
}

/// Where the model runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the process that serves.
    Here,
    /// In a runner, behind its walls.
    Runner,
}

impl Plain {
    /// Builds it.
    pub(crate) fn build(
        workspace: &Workspace,
        profile: Profile,
        library: &Path,
        models: &Models,
        threads: usize,
    ) -> Result<Self, ChoreError> {
        let program = bench::example_in(workspace, profile, "vouchsafe-enclave", NAME)?;
        Ok(Self { program, library: library.to_owned(), folder: models.folder().to_owned(), threads })
    }

    /// Starts the server.
    pub(crate) fn serve(&self, place: Place) -> Result<Server, ChoreError> {
        let mut service = self.start(&["serve", if place == Place::Here { "here" } else { "runner" }])?;
        let (plain, tls) = service.wait(|event| {
            let address = |name: &str| event.get(name)?.as_str()?.parse::<SocketAddr>().ok();
            Some((address("plain")?, address("tls")?))
        })?;
        Ok(Server { service, plain, tls })
    }

    /// Starts the loop that runs MiniLM in its own process.
    pub(crate) fn in_process(&self) -> Result<InProcess, ChoreError> {
        let mut service = self.start(&["time"])?;
        service.wait(|event| event.get("ready").map(drop))?;
        Ok(InProcess(service))
    }

    fn start(&self, words: &[&str]) -> Result<Service, ChoreError> {
        let mut command = Command::new(&self.program);
        command.args(words).arg(&self.library).arg(&self.folder).arg(self.threads.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Service::start(NAME, command)
    }
}

/// A running server; it ends with this.
pub(crate) struct Server {
    service: Service,
    plain: SocketAddr,
    tls: SocketAddr,
}

impl Server {
    /// Where load goes.
    pub(crate) fn target(&self, channel: Channel) -> Target {
        let address = if channel == Channel::Plain { self.plain } else { self.tls };
        Target { address, channel, root: self.service.pid() }
    }
}

/// MiniLM in a bare loop, in a process of its own that waits between two rounds.
pub(crate) struct InProcess(Service);

impl InProcess {
    /// One round; `spin` is ONNX Runtime's default, whose threads wait busily for each other.
    pub(crate) fn round(&mut self, spin: bool, length: usize, millis: u64) -> Result<Sample, ChoreError> {
        let word = if spin { "spin" } else { "still" };
        self.0.say(&format!("{word} {length} {millis}"))?;
        let told = self.0.wait(|event: &Value| event.get("requests").is_some().then(|| event.clone()))?;
        let cpu = told.get("cpu_seconds").and_then(Value::as_f64);
        Sample::of(&told, cpu).ok_or(FAILED)
    }
}
