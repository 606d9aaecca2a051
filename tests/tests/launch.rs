//! Turns the launcher's program and a stand-in enclave into a life: start, serve, reload, crash, restart, stop.
//! It proves nothing about the real enclave, which other scenarios launch; the stand-in does what its config says.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;
use vouchsafe_attestation::{EvidenceEnvelope, Mode, Tee, lp::sha256};
use vouchsafe_launcher::measure_process;
use vouchsafe_measurement::MAX_CONFIG;
use vouchsafe_tests::programs::program;

const STAND_IN: &str = env!("CARGO_BIN_EXE_stand-in-enclave");
const PATIENCE: Duration = Duration::from_secs(30);

/// What one launch needs, each in a folder of its own; the simulated root is shared.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("config"), config).unwrap();
        fs::write(dir.path().join("library"), b"a library").unwrap();
        fs::create_dir_all(dir.path().join("models/m")).unwrap();
        Self { dir }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(program("vouchsafe-launch"));
        command.args(["--backend", "sim-process", "--json", "--enclave", STAND_IN]);
        if !more.contains(&"--tee") {
            command.args(["--tee", "sev-snp"]);
        }
        for (option, path) in [("--config", "config"), ("--models", "models"), ("--onnxruntime", "library")] {
            command.arg(option).arg(self.at(path));
        }
        command.arg("--simulator-root").arg(root());
        command.arg("--ready-file").arg(self.at("ready"));
        if !more.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        command.args(more);
        command
    }

    fn launch(&self, more: &[&str]) -> Launch {
        let mut child =
            self.command(more).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (send, events) = channel();
        let out = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let _ = send.send(serde_json::from_str::<Value>(&line).unwrap());
            }
        });
        Launch { child, events }
    }

    /// Runs a launch that must fail: its exit status and code.
    fn fails(&self, more: &[&str]) -> (i32, String) {
        let output = self.command(more).stdin(Stdio::null()).output().unwrap();
        let last = String::from_utf8(output.stdout).unwrap();
        let code = last.lines().last().map(|line| serde_json::from_str::<Value>(line).unwrap()["code"].clone());
        (output.status.code().unwrap(), code.and_then(|c| c.as_str().map(str::to_owned)).unwrap_or_default())
    }
}

/// Made once for this file; kept in cargo's own temporary folder, so that a second run finds it.
fn root() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("launch-root-both")
}

struct Launch {
    child: Child,
    events: Receiver<Value>,
}

impl Launch {
    fn wait_for(&self, name: &str) -> Value {
        self.wait_until(|event| event["event"] == name)
    }

    fn wait_until(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        while let Ok(event) = self.events.recv_timeout(until.saturating_duration_since(Instant::now())) {
            if wanted(&event) {
                return event;
            }
            seen.push(event);
        }
        panic!("not among {seen:?}");
    }

    fn serving(&self) -> Value {
        self.wait_until(|event| event["state"] == "serving")
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    fn exit(&mut self) -> Option<i32> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < until, "the launcher runs on");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn stderr(&mut self) -> String {
        let mut text = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Launch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One line to the stand-in at the launcher's address, and its answer.
fn ask(address: &str, question: &str) -> Value {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    writeln!(stream, "{question}").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    serde_json::from_str(&answer).unwrap_or(Value::Null)
}

fn is_running(pid: u64) -> bool {
    // A process that has ended but was not reaped has no more memory.
    fs::read_to_string(format!("/proc/{pid}/statm")).is_ok_and(|text| !text.starts_with('0'))
}

fn wait_until_gone(pids: &[u64]) {
    let until = Instant::now() + PATIENCE;
    while pids.iter().any(|pid| is_running(*pid)) {
        assert!(Instant::now() < until, "orphans of {pids:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn pids(launched: &Value) -> [u64; 2] {
    ["enclave_pid", "simulator_pid"].map(|name| launched[name].as_u64().unwrap())
}

#[test]
fn an_enclave_gets_exactly_what_was_measured_and_nothing_else() {
    let place = Place::new("serve");
    let mut launch = place.launch(&[]);
    let listening = launch.wait_for("listening");
    assert_eq!((&listening["simulation"], &listening["mode"]), (&"SIMULATED".into(), &"simulation".into()));
    let address = listening["address"].as_str().unwrap();
    let launched = launch.wait_for("launched");
    let serving = launch.serving();
    assert_eq!(serving["enclave_pid"], launched["enclave_pid"]);

    let measured = measure_process(Path::new(STAND_IN), &place.at("library"), Tee::SevSnp, Mode::Simulation).unwrap();
    assert_eq!(launched["measurement"], hex::encode(measured));
    assert_eq!(launched["config_digest"], hex::encode(sha256(b"serve")));
    let [enclave, simulator] = pids(&launched);
    assert_eq!(fs::read(format!("/proc/{enclave}/exe")).unwrap(), fs::read(STAND_IN).unwrap());
    assert!(fs::read_link(format!("/proc/{enclave}/exe")).unwrap().to_string_lossy().starts_with("/memfd:"));

    let facts = ask(address, "facts");
    assert_eq!((&facts["environment"], &facts["directory"]), (&0.into(), &"/".into()));
    let arguments = ["vouchsafe-enclave", "vouchsafe.tee=sev-snp", "vouchsafe.mode=simulation"];
    assert_eq!(facts["arguments"], serde_json::json!(arguments));
    assert_eq!((&facts["config"], &facts["library"]), (&"serve".into(), &9.into()));
    assert_eq!(facts["models"], serde_json::json!(["m"]));
    let envelope: EvidenceEnvelope = serde_json::from_value(ask(address, "report")).unwrap();
    assert_eq!(envelope.signed()[0xC0..0xE0], sha256(b"serve"));
    assert_eq!(envelope.signed()[0x90..0xC0], measured);

    let ready: Value = serde_json::from_slice(&fs::read(place.at("ready")).unwrap()).unwrap();
    assert_eq!(ready["address"], address);
    launch.signal("HUP");
    launch.wait_for("reload");
    let until = Instant::now() + PATIENCE;
    while ask(address, "facts")["reloads"] != 1 {
        assert!(Instant::now() < until, "the reload did not arrive");
    }

    launch.signal("TERM");
    assert_eq!(launch.exit(), Some(0));
    launch.wait_for("stopped");
    assert!(!place.at("ready").exists());
    wait_until_gone(&[enclave, simulator]);
    let stderr = launch.stderr();
    assert!(stderr.contains("enclave | a public line\u{fffd}[31m\n"), "{stderr}");
    assert!(stderr.contains("simulator | SIMULATED"), "{stderr}");
}

/// Offsets of a TDX quote of version 4: the body begins at 48, MRTD at 136 in it, MRCONFIGID and RTMR0 behind.
#[test]
fn a_guest_on_tdx_gets_the_word_the_measurement_and_the_configuration_of_its_technology() {
    let place = Place::new("serve");
    let launch = place.launch(&["--tee", "tdx"]);
    let listening = launch.wait_for("listening");
    assert_eq!(listening["tee"], "tdx");
    let launched = launch.wait_for("launched");
    launch.serving();
    let measured = |tee| measure_process(Path::new(STAND_IN), &place.at("library"), tee, Mode::Simulation).unwrap();
    assert_eq!(launched["measurement"], hex::encode(measured(Tee::Tdx)));
    assert_ne!(measured(Tee::Tdx), measured(Tee::SevSnp));
    let address = listening["address"].as_str().unwrap();
    let arguments = ["vouchsafe-enclave", "vouchsafe.tee=tdx", "vouchsafe.mode=simulation"];
    assert_eq!(ask(address, "facts")["arguments"], serde_json::json!(arguments));
    let envelope: EvidenceEnvelope = serde_json::from_value(ask(address, "report")).unwrap();
    assert_eq!(envelope.tee(), Tee::Tdx);
    let body = &envelope.signed()[48..];
    assert_eq!(body[136..184], measured(Tee::Tdx));
    assert_eq!(body[184..216], sha256(b"serve"));
    assert_eq!(body[216..232], [0; 16]);
    assert_eq!(body[328..520], [0; 192], "a process extends no register");
    assert_eq!(body[520..584], [0x77; 64]);
}

#[test]
fn a_crashed_enclave_is_started_again() {
    let place = Place::new("serve");
    let mut launch = place.launch(&[]);
    let address = launch.wait_for("listening")["address"].as_str().unwrap().to_owned();
    let first = launch.wait_for("launched");
    launch.serving();
    ask(&address, "crash");
    let restarting = launch.wait_for("restarting");
    assert_eq!(restarting["code"], "ENCLAVE_EXIT_3");
    assert_eq!((&restarting["restarts"], &restarting["restart_in_ms"]), (&1.into(), &500.into()));
    let second = launch.wait_for("launched");
    launch.serving();
    assert_eq!((&second["restarts"], &second["measurement"]), (&1.into(), &first["measurement"]));
    assert_ne!(second["enclave_pid"], first["enclave_pid"]);
    assert_eq!(ask(&address, "hello")["echo"], "hello");

    // The simulator is no better than the enclave: when it dies, both are started again, later each time.
    let [_, simulator] = pids(&second);
    assert!(Command::new("kill").args(["-9", &simulator.to_string()]).status().unwrap().success());
    let restarting = launch.wait_for("restarting");
    assert_eq!((&restarting["code"], &restarting["restart_in_ms"]), (&"SIMULATOR_ENDED".into(), &1000.into()));
    let third = launch.wait_for("launched");
    launch.serving();
    assert_eq!(ask(&address, "hello")["echo"], "hello");
    launch.signal("INT");
    assert_eq!(launch.exit(), Some(130));
    wait_until_gone(&pids(&third));
}

#[test]
fn a_killed_launcher_leaves_nobody_behind() {
    let place = Place::new("serve");
    let mut launch = place.launch(&[]);
    let launched = launch.wait_for("launched");
    launch.serving();
    let pids = pids(&launched);
    assert!(pids.iter().all(|pid| is_running(*pid)), "control");
    launch.signal("KILL");
    assert_eq!(launch.exit(), None);
    wait_until_gone(&pids);
}

#[test]
fn an_enclave_that_does_not_stop_is_killed_after_twelve_seconds() {
    let place = Place::new("serve deaf");
    let mut launch = place.launch(&[]);
    let launched = launch.wait_for("launched");
    launch.serving();
    launch.signal("TERM");
    let asked = Instant::now();
    assert_eq!(launch.exit(), Some(0));
    let took = asked.elapsed();
    assert!((11.9..15.0).contains(&took.as_secs_f64()), "{took:?}");
    wait_until_gone(&pids(&launched));
}

#[test]
fn an_enclave_that_never_serves_is_given_up() {
    let place = Place::new("silent");
    assert_eq!(place.fails(&["--ready-timeout", "1"]), (8, "ENCLAVE_NOT_READY".to_owned()));
    assert!(!place.at("ready").exists());

    let place = Place::new("fatal");
    let mut launch = place.launch(&["--ready-timeout", "2"]);
    let fatal = launch.wait_for("fatal");
    assert_eq!((&fatal["fatal"]["code"], &fatal["fatal"]["ticket"]), (&"STAND_IN_FATAL".into(), &"00ff".into()));
    assert_eq!(launch.wait_for("restarting")["code"], "STAND_IN_FATAL");
    let error = launch.wait_for("error");
    assert_eq!(error["code"], "ENCLAVE_NOT_READY");
    assert!(error["fact"].as_str().unwrap().contains("STAND_IN_FATAL"), "{error}");
    assert_eq!(launch.exit(), Some(8));
}

#[test]
fn what_is_missing_is_named() {
    let place = Place::new("serve");
    let gone = place.at("gone");
    let gone = gone.to_str().unwrap();
    let failed = |arguments: &[&str]| {
        // A launch that should have failed and serves must end as well.
        let output =
            Command::new("timeout").arg("60").arg(program("vouchsafe-launch")).args(arguments).output().unwrap();
        let last = String::from_utf8(output.stdout).unwrap();
        let code = last.lines().last().and_then(|line| serde_json::from_str::<Value>(line).ok());
        (output.status.code().unwrap(), code.map(|c| c["code"].as_str().unwrap().to_owned()).unwrap_or_default())
    };
    let (config, models, library) = (place.at("config"), place.at("models"), place.at("library"));
    let root = root();
    let good = [
        "--backend",
        "sim-process",
        "--json",
        "--listen",
        "127.0.0.1:0",
        "--ready-timeout",
        "1",
        "--config",
        config.to_str().unwrap(),
        "--models",
        models.to_str().unwrap(),
        "--onnxruntime",
        library.to_str().unwrap(),
        "--enclave",
        STAND_IN,
        "--simulator-root",
        root.to_str().unwrap(),
    ];
    for option in ["--config", "--models", "--onnxruntime", "--enclave"] {
        let mut arguments = good.to_vec();
        let at = arguments.iter().position(|a| *a == option).unwrap();
        arguments[at + 1] = gone;
        assert_eq!(failed(&arguments), (9, "LAUNCH_FILE".to_owned()), "{option}");
    }
    let with = |more: &[&'static str]| failed(&[&good[..], more].concat());
    assert_eq!(failed(&[&good[..], &["--simulator", gone]].concat()), (9, "LAUNCH_FILE".to_owned()));
    assert_eq!(with(&["--tee", "sgx"]).0, 1);
    for backend in ["snp", "tdx", "sim-vm"] {
        let mut arguments = good.to_vec();
        arguments[1] = backend;
        assert_eq!(failed(&arguments), (1, "USAGE".to_owned()), "{backend} without an image");
    }
    assert_eq!(with(&["--nonsense"]).0, 1);
    fs::write(place.at("config"), vec![b'#'; MAX_CONFIG + 1]).unwrap();
    assert_eq!(with(&[]), (9, "CONFIG_TOO_LARGE".to_owned()));
}

#[test]
fn a_taken_port_and_a_broken_root_are_named() {
    let place = Place::new("serve");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    assert_eq!(place.fails(&["--listen", &address]), (9, "PORT_IN_USE".to_owned()));
    drop(taken);
    let launch = place.launch(&["--listen", &address]);
    launch.serving();
    drop(launch);

    let root = place.at("root");
    let made = Command::new(program("vouchsafe-simulator")).arg("root").arg("--root").arg(&root).output().unwrap();
    assert!(made.status.success());
    fs::set_permissions(root.join("vcek.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let broken = ["--simulator-root", root.to_str().unwrap()];
    let mut command = Command::new(program("vouchsafe-launch"));
    command.args(["--backend", "sim-process", "--json", "--listen", "127.0.0.1:0", "--enclave", STAND_IN]);
    for (option, path) in [("--config", "config"), ("--models", "models"), ("--onnxruntime", "library")] {
        command.arg(option).arg(place.at(path));
    }
    let output = command.args(broken).output().unwrap();
    assert_eq!(output.status.code(), Some(7));
    assert!(String::from_utf8(output.stdout).unwrap().contains("SIMULATOR_FAILED"));
    assert!(String::from_utf8(output.stderr).unwrap().contains("SIMULATOR_ROOT_PERMISSIONS"));
}

#[test]
fn a_program_that_is_none_cannot_be_started() {
    let place = Place::new("serve");
    fs::write(place.at("text"), "#!/bin/sh\necho hello\n").unwrap();
    fs::write(place.at("garbage"), [0x7f; 64]).unwrap();
    for name in ["text", "garbage"] {
        let mut command = Command::new(program("vouchsafe-launch"));
        command.args(["--backend", "sim-process", "--json", "--listen", "127.0.0.1:0", "--ready-timeout", "2"]);
        for (option, path) in
            [("--config", "config"), ("--models", "models"), ("--onnxruntime", "library"), ("--enclave", name)]
        {
            command.arg(option).arg(place.at(path));
        }
        let output = command.arg("--simulator-root").arg(root()).output().unwrap();
        let code = output.status.code().unwrap();
        assert!(matches!(code, 8 | 9), "{name}: {code}");
    }
}

#[test]
fn help_shows_an_example() {
    let output = Command::new(program("vouchsafe-launch")).arg("--help").output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8(output.stdout).unwrap().contains("Example:"));
}
