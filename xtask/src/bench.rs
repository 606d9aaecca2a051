//! Turns the verifier, ring, `sev` and `dcap-qvl` into one table of times, from one run of one release build; `sealed` and `serve` have their own.
//! It is no test: nothing depends on how fast the machine is that prints it.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::bench_sealed;
use crate::bench_serve;
use crate::build::Profile;
use crate::error::ChoreError;
use crate::workspace::{Workspace, ended_well};

const PACKAGE: &str = "vouchsafe-attestation";
const BENCH: &str = "verify";

/// `cargo xtask bench [--strict]`, or `bench sealed …`, or `bench serve …`: the status is the table's own, 10 when something to compare with is missing.
pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<u8, ChoreError> {
    match args.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        Some(("sealed", rest)) => return bench_sealed::run(workspace, rest),
        Some(("serve", rest)) => return bench_serve::run(workspace, rest),
        _ => {}
    }
    if let Some(other) = args.iter().find(|arg| *arg != "--strict") {
        return Err(ChoreError::Usage(format!("`bench` has no argument `{other}`")));
    }
    let program = built(workspace, &["bench", "--no-run", "--package", PACKAGE, "--bench", BENCH])?;
    let vectors = workspace.root().join("../shared/vectors");
    let mut table = Command::new(program);
    table.current_dir(workspace.root()).args(args);
    if std::env::var_os("VOUCHSAFE_VECTORS").is_none() {
        table.env("VOUCHSAFE_VECTORS", vectors);
    }
    let status = table.status().map_err(|source| ChoreError::Start { program: "the benchmark", source })?;
    ended_well(status)?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(10))
}

/// The release build of an example.
pub(crate) fn example(workspace: &Workspace, package: &str, name: &str) -> Result<PathBuf, ChoreError> {
    example_in(workspace, Profile::Release, package, name)
}

/// An example, built with this profile.
pub(crate) fn example_in(
    workspace: &Workspace,
    profile: Profile,
    package: &str,
    name: &str,
) -> Result<PathBuf, ChoreError> {
    let words = ["build", "--package", package, "--example", name];
    built(workspace, &words.into_iter().chain(profile.flag()).collect::<Vec<_>>())
}

/// Runs cargo, which makes one program; returns its path.
fn built(workspace: &Workspace, args: &[&str]) -> Result<PathBuf, ChoreError> {
    let mut build = workspace.cargo();
    build.args(args).args(["--locked", "--message-format", "json-render-diagnostics"]).stdout(Stdio::piped());
    let mut child = build.spawn().map_err(|source| ChoreError::Start { program: "cargo", source })?;
    let mut messages = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut messages).map_err(ChoreError::file("the output of cargo"))?;
    }
    let status = child.wait().map_err(|source| ChoreError::Start { program: "cargo", source })?;
    if !ended_well(status)? {
        return Err(ChoreError::Build);
    }
    executable(&messages).map(PathBuf::from).ok_or(ChoreError::Build)
}

/// The program that cargo names in its messages, one JSON object per line.
fn executable(messages: &str) -> Option<String> {
    let (_, rest) = messages.rsplit_once("\"executable\":\"")?;
    let (path, _) = rest.split_once('"')?;
    (!path.contains('\\')).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_the_last_one_that_cargo_names() {
        let lines = "{\"executable\":null}\n{\"executable\":\"/t/verify-1\",\"fresh\":true}\n{\"success\":true}\n";
        assert_eq!(executable(lines).as_deref(), Some("/t/verify-1"));
        assert_eq!(executable("{\"executable\":null}"), None);
    }
}
