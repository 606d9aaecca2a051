//! Turns what `prove` plays besides the verifier's rules into parts: each a command that can be played alone, in the order from quick to slow.
//! It does not judge what they print: a part ends well or it does not.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::bench;
use crate::error::ChoreError;
use crate::fuzz;
use crate::image;
use crate::large;
use crate::prove_rules::{self, Chosen};
use crate::python::Python;
use crate::twice;
use crate::workspace::{Workspace, ended_well, make_dir, sha256_of};

/// One thing that `prove` plays.
pub(crate) struct Part {
    /// What to write behind `cargo xtask` to have it alone.
    pub(crate) command: &'static str,
    /// In a few words.
    pub(crate) what: &'static str,
    /// Status 0 for a good end; others have said why.
    pub(crate) play: fn(&Workspace) -> Result<u8, ChoreError>,
}

impl Part {
    /// Its own flag, unless it is a command by itself.
    pub(crate) fn flag(&self) -> Option<&'static str> {
        self.command.strip_prefix("prove ")
    }
}

/// All of them, the quick ones first: what fails early is seen early.
pub(crate) const ALL: [Part; 12] = [
    Part { command: "prove --slow", what: "a thousand slow and silent clients beside good ones", play: slow },
    Part { command: "prove --triton", what: "the real tritonserver beside ours", play: triton },
    Part { command: "prove --large", what: "a model of 3 GiB under 8 GiB of memory", play: large::run },
    Part { command: "bench --strict", what: "the verifier beside others", play: |w| bench(w, &["--strict"]) },
    Part { command: "prove --mutations", what: "a million mutations of a sealed package", play: mutations },
    Part { command: "prove --soak", what: "a million marked requests from 200 clients", play: soak },
    Part { command: "fuzz", what: "every decoder for a minute", play: |w| fuzz::run(w, &[]) },
    Part { command: "prove --vm", what: "the story and every attack in virtual machines", play: vm },
    Part { command: "prove --image", what: "the image twice, byte for byte", play: |w| twice::run(w, image::MEASURED) },
    Part { command: "prove --rules", what: "each rule of the verifier taken out", play: rules },
    Part { command: "bench sealed --strict", what: "sealing and opening beside others", play: sealed },
    Part { command: "bench serve --strict --soak 0", what: "the server beside others", play: serve },
];

/// How many slow clients there are.
const SLOW_CLIENTS: &str = "1000";
const SLOW: &str = "hundreds_of_slow_clients_hold_up_nobody_and_are_cut";
const TRITON: &str = "every_difference_from_the_real_tritonserver_is_meant";
/// The crate of both tests.
const TESTS: &str = "vouchsafe-tests";

fn slow(workspace: &Workspace) -> Result<u8, ChoreError> {
    test(workspace, SLOW, ("VOUCHSAFE_SLOW", SLOW_CLIENTS.as_ref()))
}

fn triton(workspace: &Workspace) -> Result<u8, ChoreError> {
    let folder = tritonserver(workspace)?;
    test(workspace, TRITON, ("VOUCHSAFE_TRITON", folder.as_os_str()))
}

fn rules(workspace: &Workspace) -> Result<u8, ChoreError> {
    prove_rules::run(workspace, &Chosen::default())
}

fn vm(workspace: &Workspace) -> Result<u8, ChoreError> {
    child(workspace, &["vm"], &[])
}

/// The server's alone: no peer is installed for it.
fn soak(workspace: &Workspace) -> Result<u8, ChoreError> {
    bench(workspace, &["serve", "--only", "soak", "--soak", "1000000", "--strict"])
}

fn sealed(workspace: &Workspace) -> Result<u8, ChoreError> {
    bench(workspace, &["sealed", "--strict"])
}

/// Without its soak, which is a part by itself.
fn serve(workspace: &Workspace) -> Result<u8, ChoreError> {
    bench(workspace, &["serve", "--strict", "--soak", "0"])
}

fn bench(workspace: &Workspace, words: &[&str]) -> Result<u8, ChoreError> {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    bench::run(workspace, &words)
}

/// A million random mutations of a sealed package; every run of the tests has some.
fn mutations(workspace: &Workspace) -> Result<u8, ChoreError> {
    let mut command = workspace.cargo();
    let status = command
        .args([
            "test",
            "--locked",
            "--release",
            "--package",
            "vouchsafe-sealed",
            "--lib",
            "mutate",
            "--",
            "--nocapture",
        ])
        .env("VOUCHSAFE_MUTATIONS", "1000000")
        .status()
        .map_err(|source| ChoreError::Start { program: "cargo", source })?;
    if ended_well(status)? { Ok(0) } else { Err(ChoreError::TestsFailed) }
}

/// One test by the ordinary command, with a setting that makes it demand more. One that was not run has not passed here.
fn test(workspace: &Workspace, name: &str, setting: (&str, &OsStr)) -> Result<u8, ChoreError> {
    let status = child(workspace, &["test", "-p", TESTS, name], &[setting])?;
    if status != 0 {
        return Ok(status);
    }
    let path = workspace.target().join("test-summary.txt");
    let summary = fs::read_to_string(&path).map_err(ChoreError::file(&path))?;
    if was_run(&summary) { Ok(0) } else { Err(ChoreError::TestsFailed) }
}

fn was_run(summary: &str) -> bool {
    let last = summary.lines().last().unwrap_or_default();
    let passed = last.strip_suffix(" passed, 0 failed, 0 skipped").and_then(|number| number.parse::<u64>().ok());
    passed.is_some_and(|number| number > 0) && !summary.contains("NOT RUN: ")
}

/// This very program as a process of its own: with an environment of its own, or because the chore becomes another program. It is
/// found even when a build has put another in its place meanwhile. A client is one descriptor in the test and two in the
/// launcher, and many systems begin with 1024; where more are not allowed it goes on with these.
fn child(workspace: &Workspace, words: &[&str], settings: &[(&str, &OsStr)]) -> Result<u8, ChoreError> {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -S -n 8192 2>/dev/null; exec \"$@\"", "sh"]);
    command.arg(format!("/proc/{}/exe", std::process::id())).args(words).envs(settings.iter().copied());
    let status = command.current_dir(workspace.root()).stdin(Stdio::null()).status();
    let status = status.map_err(|source| ChoreError::Start { program: "sh", source })?;
    ended_well(status)?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(10))
}

/// The real server in `target/triton`; installed again when the lock or Python changed.
fn tritonserver(workspace: &Workspace) -> Result<PathBuf, ChoreError> {
    let lock = workspace.root().join("tests/reference/triton.txt");
    let digest =
        sha256_of(&lock)?.ok_or_else(|| ChoreError::file(&lock)(std::io::Error::from(std::io::ErrorKind::NotFound)))?;
    let python = Python::find()?;
    let tag = python.command().args(["-c", "import sys; print(sys.implementation.cache_tag)"]).output();
    let tag = tag.map_err(|source| ChoreError::Start { program: "python3", source })?;
    let stamp = format!("{} {digest}\n", String::from_utf8_lossy(&tag.stdout).trim());
    let done = workspace.target().join("triton");
    if fs::read_to_string(done.join(STAMP)).is_ok_and(|found| found == stamp) {
        return Ok(done);
    }
    eprintln!("set-up: installing nvidia-pytriton under target/triton (from PyPI, 200 MB on disk; once)");
    // Without the stamp it is half an installation, and pip does not replace what is there.
    if done.exists() {
        fs::remove_dir_all(&done).map_err(ChoreError::file(&done))?;
    }
    make_dir(&done)?;
    let (to, from) = (done.to_string_lossy(), lock.to_string_lossy());
    let mut words = vec!["install", "--no-deps", "--require-hashes", "--only-binary=:all:", "--no-compile"];
    words.extend(["--no-warn-script-location", "--target", &to, "--requirement", &from]);
    python.pip("the real tritonserver", &words)?;
    fs::write(done.join(STAMP), stamp).map_err(ChoreError::file(&done))?;
    Ok(done)
}

/// Written last: the Python and the lock that the server was installed for.
const STAMP: &str = ".vouchsafe-installed";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_was_not_run_has_not_passed() {
        assert!(was_run("\n1 passed, 0 failed, 0 skipped\n"));
        for wrong in [
            "",
            "\n0 passed, 0 failed, 0 skipped\n",
            "\n1 passed, 0 failed, 1 skipped\n",
            "\n1 passed, 1 failed, 0 skipped\n",
            "\nNot run, with the reason:\nNOT RUN: x: y\n\n1 passed, 0 failed, 0 skipped\n",
        ] {
            assert!(!was_run(wrong), "{wrong}");
        }
    }

    #[test]
    fn the_tests_are_called_as_they_are_asked_for() {
        let workspace = Workspace::find().unwrap();
        for (file, name) in [("serve_slow", SLOW), ("triton_differential", TRITON)] {
            let path = workspace.root().join(format!("tests/tests/{file}.rs"));
            assert!(fs::read_to_string(path).unwrap().contains(&format!("fn {name}()")), "{name}");
        }
    }

    #[test]
    fn only_what_prove_has_alone_has_a_flag() {
        let flags: Vec<_> = ALL.iter().filter_map(Part::flag).collect();
        let wanted = ["--slow", "--triton", "--large", "--mutations", "--soak", "--vm", "--image", "--rules"];
        assert_eq!(flags, wanted);
    }
}
