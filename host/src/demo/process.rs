//! Turns the project's programs into children of the demo: short calls with a JSON answer, and services with JSON events.
//! It trusts nothing that they say: the demo compares every code with the one it expects.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::{File, OpenOptions},
    io::{BufRead as _, BufReader, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    time::{Duration, Instant},
};

use serde_json::Value;

use super::ending;
use crate::{failure::Failure, launch::beside};

/// Longest wait for a service to say something: an emulated machine on a busy processor boots slowly.
const PATIENCE: Duration = Duration::from_secs(180);
/// A line of a child's output is read up to this length.
const MAX_LINE: u64 = 1 << 20;

/// Where the programs are, and where their output is kept.
pub struct Programs {
    pub vouchsafe: PathBuf,
    pub launch: PathBuf,
    pub simulator: PathBuf,
    pub enclave: PathBuf,
    pub onnxruntime: PathBuf,
    pub logs: PathBuf,
}

/// What a short call answered.
pub struct Answer {
    /// Its last JSON object on standard output.
    pub json: Value,
    pub exit: i32,
    pub pid: u32,
    /// SHA-256 of the program that ran, where this user may look at it.
    pub program: Option<String>,
}

impl Programs {
    /// Finds every program beside this one.
    pub fn find(logs: PathBuf) -> Result<Self, Failure> {
        Ok(Self {
            vouchsafe: std::env::current_exe().map_err(|e| Failure::file("/proc/self/exe".as_ref(), "read", &e))?,
            launch: beside("vouchsafe-launch")?,
            simulator: beside("vouchsafe-simulator")?,
            enclave: beside("vouchsafe-enclave")?,
            onnxruntime: beside("libonnxruntime.so")?,
            logs,
        })
    }

    /// Runs `program args --json` to its end, whatever its exit status.
    pub fn ask<S: AsRef<OsStr>>(&self, program: &Path, args: &[S]) -> Result<Answer, Failure> {
        let name = label(program, args);
        let mut command = Command::new(program);
        command.args(args).arg("--json").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(self.log(&name)?);
        let mut child = ending::spawn(&mut command).map_err(|e| Failure::file(program, "started", &e))?;
        let pid = child.id();
        let program_sha256 = program_sha256(pid);
        let mut text = String::new();
        if let Some(out) = child.stdout.as_mut() {
            let _ = out.take(16 * MAX_LINE).read_to_string(&mut text);
        }
        let status = child.wait().map_err(|e| Failure::file(program, "awaited", &e))?;
        ending::ended(&child);
        let json = text.lines().rev().find_map(|l| serde_json::from_str(l).ok()).unwrap_or(Value::Null);
        Ok(Answer { json, exit: status.code().unwrap_or(-1), pid, program: program_sha256 })
    }

    /// Runs `program args --json` and demands exit status 0.
    pub fn call<S: AsRef<OsStr>>(&self, program: &Path, args: &[S]) -> Result<Value, Failure> {
        let answer = self.ask(program, args)?;
        if answer.exit == 0 {
            return Ok(answer.json);
        }
        let field = |name| answer.json.get(name).and_then(Value::as_str).unwrap_or("no word");
        let step = label(program, args).replacen("vouchsafe-", "vouchsafe ", 1);
        let fact = format!("`{step}` ended with status {}: {} [{}]", answer.exit, field("fact"), field("code"));
        Err(Failure::new("DEMO_STEP", 10, fact, "run with --keep DIR and read DIR/logs"))
    }

    /// Starts `program args --json` and listens to its events.
    pub fn serve<S: AsRef<OsStr>>(&self, program: &Path, args: &[S]) -> Result<Service, Failure> {
        let name = label(program, args);
        let mut command = Command::new(program);
        command.args(args).arg("--json").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(self.log(&name)?);
        let mut child = ending::spawn(&mut command).map_err(|e| Failure::file(program, "started", &e))?;
        let (sender, events) = channel();
        if let Some(out) = child.stdout.take() {
            let mut copy = self.log(&format!("{name}.events"))?;
            std::thread::spawn(move || {
                let mut lines = BufReader::new(out);
                let mut line = String::new();
                while lines.by_ref().take(MAX_LINE).read_line(&mut line).is_ok_and(|n| n > 0) {
                    let _ = std::io::Write::write_all(&mut copy, line.as_bytes());
                    if let Ok(event) = serde_json::from_str(&line)
                        && sender.send(event).is_err()
                    {
                        break;
                    }
                    line.clear();
                }
            });
        }
        Ok(Service { child, events, seen: Vec::new(), name })
    }

    fn log(&self, name: &str) -> Result<File, Failure> {
        let path = self.logs.join(format!("{name}.log"));
        OpenOptions::new().create(true).append(true).open(&path).map_err(|e| Failure::file(&path, "created", &e))
    }
}

fn label<S: AsRef<OsStr>>(program: &Path, args: &[S]) -> String {
    let words = args.iter().filter_map(|a| a.as_ref().to_str()).take(2);
    let words = words.take_while(|w| w.bytes().all(|b| b.is_ascii_lowercase() || b == b'-') && !w.starts_with('-'));
    let program = program.file_name().and_then(OsStr::to_str).unwrap_or("program");
    std::iter::once(program).chain(words).collect::<Vec<_>>().join("-")
}

/// A running program that prints events. It is stopped when dropped, and by itself when its standard input ends with us.
pub struct Service {
    child: Child,
    events: Receiver<Value>,
    seen: Vec<Value>,
    name: String,
}

impl Service {
    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next event that `wanted` turns into something; earlier ones are remembered and not looked at again.
    pub fn wait_for<T>(&mut self, what: &str, mut wanted: impl FnMut(&Value) -> Option<T>) -> Result<T, Failure> {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.events.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(event) => {
                    let found = wanted(&event);
                    self.seen.push(event);
                    if let Some(found) = found {
                        return Ok(found);
                    }
                }
                Err(reason) => {
                    let how = match reason {
                        RecvTimeoutError::Timeout => "said nothing of it in time",
                        RecvTimeoutError::Disconnected => "ended first",
                    };
                    let code = self.seen.iter().rev().find_map(|e| e.get("code").and_then(Value::as_str));
                    let fact = format!("waiting for {what}: {} {how} [{}]", self.name, code.unwrap_or("no code"));
                    return Err(Failure::new("DEMO_STEP", 10, fact, "run with --keep DIR and read DIR/logs"));
                }
            }
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id().cast_signed()) {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// Asks it to stop and waits for its end.
    pub fn stop(&mut self) {
        self.signal(rustix::process::Signal::TERM);
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop();
        ending::ended(&self.child);
    }
}

/// SHA-256 of the program behind a process, where this user may look at it. A file that has not changed is hashed once.
pub fn program_sha256(pid: u32) -> Option<String> {
    static KNOWN: Mutex<BTreeMap<[i64; 5], String>> = Mutex::new(BTreeMap::new());
    let mut program = File::open(format!("/proc/{pid}/exe")).ok()?;
    let about = program.metadata().ok()?;
    let (device, inode) = (about.dev().cast_signed(), about.ino().cast_signed());
    let file = [device, inode, about.size().cast_signed(), about.mtime(), about.mtime_nsec()];
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(digest) = known().get(&file) {
        return Some(digest.clone());
    }
    let mut bytes = Vec::new();
    program.read_to_end(&mut bytes).ok()?;
    let digest = hex::encode(vouchsafe_attestation::lp::sha256(&bytes));
    known().insert(file, digest.clone());
    Some(digest)
}
