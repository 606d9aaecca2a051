//! Turns the release programs and the models into a small world: sealed packages, a broker, and enclaves that serve them.
//! Every file in it is made by the shipped commands; the processor is the simulated one.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::bench_serve_load::{Channel, Target};
use crate::bench_serve_models::{MODELS, Models};
use crate::bench_serve_process::tree;
use crate::error::ChoreError;
use crate::workspace::{Workspace, make_dir};

/// Until an enclave serves: it has to load MiniLM.
const PATIENCE: Duration = Duration::from_secs(120);
/// No lease lapses while anything is measured.
const LEASE: [&str; 4] = ["--lease-ttl", "86400", "--lease-requests", "1000000000"];
const FAILED: ChoreError = ChoreError::BenchProgram("the enclave's world");

/// The folders of all roles, and a running broker.
pub(crate) struct Stage {
    dir: PathBuf,
    programs: PathBuf,
    broker: Option<Service>,
}

impl Stage {
    /// Makes it all in the new folder `dir`, with the programs in the folder `programs`.
    pub(crate) fn set(programs: &Path, models: &Models, dir: PathBuf) -> Result<Self, ChoreError> {
        for name in ["vendor", "broker", "operator/models", "logs"] {
            make_dir(&dir.join(name))?;
        }
        let mut stage = Self { dir, programs: programs.to_owned(), broker: None };
        stage.prepare(models)?;
        let mut broker =
            stage.serve("vouchsafe", &["broker", "serve", &stage.at("broker/state"), "--exit-with-stdin"])?;
        broker.wait(|event| (event.get("event")? == "listening").then_some(()))?;
        stage.broker = Some(broker);
        Ok(stage)
    }

    fn prepare(&self, models: &Models) -> Result<(), ChoreError> {
        let (root, key, state) = (self.at("root"), self.at("vendor/key"), self.at("broker/state"));
        let (public, policy) = (format!("{key}.pub"), self.at("broker/policy.toml"));
        let made = self.call("vouchsafe-simulator", &["root", "--root", &root])?;
        self.call("vouchsafe", &["keys", &key])?;
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
        let listen = free.map_err(ChoreError::file("127.0.0.1:0"))?.to_string();
        let mut words =
            vec!["broker", "init", &state, "--listen", &listen, "--policy", &policy, "--vendor-key", &public];
        words.extend(LEASE);
        let broker = self.call("vouchsafe", &words)?;
        let mut ids = Vec::new();
        for (id, _) in MODELS {
            self.seal(models, id, &text(&broker, "wrap_public")?)?;
            ids.push(format!("{id}=1"));
        }
        let (config, pinned) =
            (self.at("operator/config.toml"), format!("{listen}={}", text(&broker, "tls_spki_sha256")?));
        let release = text(&broker, "release_key")?;
        let mut words = vec!["config", "--manifest-key", &public, "--release-key", &release, "--broker", &pinned];
        words.extend(["--max-connections", "1024", "--landlock-best-effort", "--out", &config]);
        words.extend(ids.iter().flat_map(|id| ["--model", id.as_str()]));
        self.call("vouchsafe", &words)?;
        // Two hundred clients may all ask the same model at once.
        set(&config, "request_timeout_s = 30", "request_timeout_s = 30\nqueue = 256")?;
        let measured = self.call("vouchsafe", &["measure", "--backend", "sim-process", "--config", &config])?;
        let (measurement, digest) = (text(&measured, "measurement")?, text(&measured, "config_digest")?);
        let (platform, anchor) = (text(&made, "chip_id")?, self.at("root/root.pem"));
        let mut words =
            vec!["policy", "init", "--mode", "simulation", "--root", &anchor, "--out", &policy, "--any-model"];
        words.extend(["--tee", "sev-snp", "--measurement", &measurement, "--platform", &platform]);
        words.extend(["--config-digest", &digest]);
        self.call("vouchsafe", &words).map(drop)
    }

    fn seal(&self, models: &Models, id: &str, wrapping: &str) -> Result<(), ChoreError> {
        let (model, key) = (models.file(id).to_string_lossy().into_owned(), self.at("vendor/key"));
        let (package, wrapped) = (self.at(&format!("operator/models/{id}")), self.at(&format!("vendor/{id}.key.json")));
        let to = self.at("vendor/broker.pub");
        fs::write(&to, format!("{wrapping}\n")).map_err(ChoreError::file(&to))?;
        let mut words = vec!["seal", &model, "--id", id, "--sequence", "1", "--sign-with", &key, "--to", &to];
        words.extend(["--out", &package, "--wrapped", &wrapped, "--rehearsal"]);
        self.call("vouchsafe", &words)?;
        let state = self.at("broker/state");
        self.call("vouchsafe", &["broker", "import", &state, "--package", &package, "--key", &wrapped]).map(drop)
    }

    /// Launches an enclave and waits until it serves. `quotes_per_s` slows its simulated processor down.
    pub(crate) fn launch(&self, quotes_per_s: Option<u32>) -> Result<Enclave, ChoreError> {
        let mut simulator = self.programs.join("vouchsafe-simulator");
        if let Some(n) = quotes_per_s {
            let script = self.dir.join(format!("simulator-{n}"));
            let text = format!("#!/bin/sh\nexec '{}' \"$@\" --quotes-per-second {n}\n", simulator.display());
            fs::write(&script, text).map_err(ChoreError::file(&script))?;
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(&script, mode).map_err(ChoreError::file(&script))?;
            simulator = script;
        }
        let (config, models, root) = (self.at("operator/config.toml"), self.at("operator/models"), self.at("root"));
        let simulator = simulator.to_string_lossy().into_owned();
        let mut words =
            vec!["--backend", "sim-process", "--tee", "sev-snp", "--listen", "127.0.0.1:0", "--exit-with-stdin"];
        words.extend(["--config", &config, "--models", &models, "--simulator-root", &root, "--simulator", &simulator]);
        let mut launcher = self.serve("vouchsafe-launch", &words)?;
        let (mut address, mut root) = (None, 0);
        launcher.wait(|event| {
            if let Some(pid) = event.get("enclave_pid").and_then(Value::as_u64).filter(|pid| *pid > 0) {
                root = u32::try_from(pid).unwrap_or(0);
            }
            if event.get("event").is_some_and(|event| event == "listening") {
                address = event.get("address").and_then(Value::as_str).and_then(|text| text.parse().ok());
            }
            (event.get("state")? == "serving").then_some(())
        })?;
        let target = Target { address: address.ok_or(FAILED)?, channel: Channel::Attested, root };
        Ok(Enclave { launcher, target })
    }

    /// The broker, with all its processes.
    pub(crate) fn broker_processes(&self) -> Vec<u32> {
        self.broker.as_ref().map(|broker| tree(broker.child.id())).unwrap_or_default()
    }

    fn at(&self, name: &str) -> String {
        self.dir.join(name).to_string_lossy().into_owned()
    }

    fn call(&self, program: &'static str, words: &[&str]) -> Result<Value, ChoreError> {
        let mut command = Command::new(self.programs.join(program));
        command.args(words).arg("--json").stdin(Stdio::null());
        let output = command.output().map_err(|source| ChoreError::Start { program, source })?;
        let said = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            eprintln!("{program} {}: {said}", words.first().unwrap_or(&""));
            return Err(FAILED);
        }
        Ok(said.lines().rev().find_map(|line| serde_json::from_str(line).ok()).unwrap_or(Value::Null))
    }

    fn serve(&self, program: &'static str, words: &[&str]) -> Result<Service, ChoreError> {
        let log = self.dir.join(format!("logs/{program}"));
        let errors = fs::OpenOptions::new().create(true).append(true).open(&log).map_err(ChoreError::file(&log))?;
        let mut command = Command::new(self.programs.join(program));
        command.args(words).arg("--json").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors);
        Service::start(program, command)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.broker = None;
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A serving enclave. It ends with this.
pub(crate) struct Enclave {
    launcher: Service,
    target: Target,
}

impl Enclave {
    /// Where load goes; its processes are the enclave's alone.
    pub(crate) fn target(&self) -> Target {
        self.target
    }

    /// The launcher, the simulator and the enclave.
    pub(crate) fn processes(&self) -> Vec<u32> {
        tree(self.launcher.child.id())
    }
}

/// A running program that prints events. It ends when its standard input does: with this, or with this program.
pub(crate) struct Service {
    child: Child,
    events: Receiver<Value>,
}

impl Service {
    /// Starts it; standard input and output must be pipes.
    pub(crate) fn start(program: &'static str, mut command: Command) -> Result<Self, ChoreError> {
        let mut child = command.spawn().map_err(|source| ChoreError::Start { program, source })?;
        let (send, events) = channel();
        let out = child.stdout.take().ok_or(FAILED)?;
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if let Ok(event) = serde_json::from_str(&line) {
                    let _ = send.send(event);
                }
            }
        });
        Ok(Self { child, events })
    }

    /// Process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Writes a line to its standard input.
    pub(crate) fn say(&mut self, line: &str) -> Result<(), ChoreError> {
        use std::io::Write as _;
        let input = self.child.stdin.as_mut().ok_or(FAILED)?;
        writeln!(input, "{line}").and_then(|()| input.flush()).map_err(|_| FAILED)
    }

    /// The first event that `wanted` makes something of.
    pub(crate) fn wait<T>(&mut self, mut wanted: impl FnMut(&Value) -> Option<T>) -> Result<T, ChoreError> {
        let end = Instant::now() + PATIENCE;
        let mut last = Value::Null;
        while let Ok(event) = self.events.recv_timeout(end.saturating_duration_since(Instant::now())) {
            if let Some(found) = wanted(&event) {
                return Ok(found);
            }
            if event.get("fatal").is_some() {
                last = event;
                break;
            }
            last = event;
        }
        eprintln!("the last word was {last}");
        Err(FAILED)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let end = Instant::now() + Duration::from_secs(15);
        while Instant::now() < end && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Replaces a line of the configuration, which nothing has measured yet.
fn set(config: &str, line: &str, by: &str) -> Result<(), ChoreError> {
    let text = fs::read_to_string(config).map_err(ChoreError::file(config))?;
    if !text.contains(line) {
        return Err(FAILED);
    }
    fs::write(config, text.replacen(line, by, 1)).map_err(ChoreError::file(config))
}

fn text(value: &Value, name: &str) -> Result<String, ChoreError> {
    value.get(name).and_then(Value::as_str).map(str::to_owned).ok_or(FAILED)
}

/// A folder for one world; those of runs that were killed are removed on the way.
pub(crate) fn folder(workspace: &Workspace) -> Result<PathBuf, ChoreError> {
    const PREFIX: &str = "world-";
    let place = workspace.target().join("bench/serve");
    make_dir(&place)?;
    for entry in fs::read_dir(&place).map_err(ChoreError::file(&place))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix(PREFIX).and_then(|pid| pid.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    Ok(place.join(format!("{PREFIX}{}", std::process::id())))
}
