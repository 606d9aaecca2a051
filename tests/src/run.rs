//! Turns short calls of the shipped `vouchsafe` command, and of Python, into their output.
//! It judges nothing: exit statuses and codes are compared by the tests.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::{programs::program, workspace};

/// Runs `vouchsafe` to its end.
///
/// # Panics
/// When it cannot be started.
#[must_use]
pub fn vouchsafe(args: &[&str]) -> Output {
    Command::new(program("vouchsafe")).args(args).stdin(Stdio::null()).output().expect("vouchsafe starts")
}

/// Runs `vouchsafe … --json`: its exit status and its last JSON object, or null when it printed none.
///
/// # Panics
/// When it cannot be started or is killed by a signal.
#[must_use]
pub fn vouchsafe_json(args: &[&str]) -> (i32, Value) {
    let output = vouchsafe(&[args, &["--json"]].concat());
    let text = String::from_utf8_lossy(&output.stdout);
    let json = text.lines().rev().find_map(|line| serde_json::from_str(line).ok()).unwrap_or(Value::Null);
    (output.status.code().expect("no signal"), json)
}

/// Runs a Python script with the packages that `cargo xtask test` installs.
///
/// # Panics
/// When Python cannot be started.
#[must_use]
pub fn python(script: &str, args: &[&str]) -> Output {
    python3().arg("-c").arg(script).args(args).output().expect("python3 starts")
}

/// A Python file of tests/reference, ready to be started with these packages.
#[must_use]
pub fn reference(file: &str, args: &[&str]) -> Command {
    let mut command = python3();
    command.arg(workspace().join("tests/reference").join(file)).args(args);
    command
}

fn python3() -> Command {
    let packages = std::env::var_os("VOUCHSAFE_PY").unwrap_or_else(|| workspace().join("target/py").into());
    let mut command = Command::new("python3");
    command.env("PYTHONPATH", packages).env("PYTHONDONTWRITEBYTECODE", "1").stdin(Stdio::null());
    command
}
