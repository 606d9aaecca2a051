//! Turns the test programs that cargo built into two lanes that run beside each other: those that start programs and mostly wait, and others.
//! It does not read what they print; see `tests.rs`. Two programs run at a time, never more: some measure how long answers take.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::error::ChoreError;
use crate::workspace::{Workspace, ended_well};

/// The crate whose tests start the programs.
const WAITING: &str = "vouchsafe-tests";

/// One program of tests.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Program {
    /// As `package target`.
    pub name: String,
    pub path: PathBuf,
    /// Where cargo would start it: the package's own directory.
    pub dir: PathBuf,
    /// Whether it starts programs and mostly waits for them.
    pub waits: bool,
}

/// Builds the tests: `args` are cargo's, which choose packages and profile.
pub(crate) fn build(workspace: &Workspace, args: &[&str]) -> Result<Vec<Program>, ChoreError> {
    let mut command = workspace.cargo();
    command
        .args(["test", "--locked", "--no-run", "--message-format", "json-render-diagnostics"])
        .args(args)
        .stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|source| ChoreError::Start { program: "cargo", source })?;
    let mut programs = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let line = line.map_err(ChoreError::file("the output of cargo"))?;
            programs.extend(program(&line));
        }
    }
    let status = child.wait().map_err(|source| ChoreError::Start { program: "cargo", source })?;
    if ended_well(status)? { Ok(programs) } else { Err(ChoreError::Build) }
}

/// What one of cargo's messages tells of a test program.
fn program(message: &str) -> Option<Program> {
    let message: Value = serde_json::from_str(message).ok()?;
    if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
        return None;
    }
    let dir = PathBuf::from(message["manifest_path"].as_str()?).parent()?.to_owned();
    let package = message["package_id"].as_str()?.rsplit(['#', '/']).next()?.split('@').next()?;
    let target = message["target"]["name"].as_str()?;
    let package = if package.contains(|c: char| c.is_ascii_digit() || c == '.') {
        // A package that is called like its folder has only its version there.
        dir.file_name()?.to_str()?.to_owned()
    } else {
        package.to_owned()
    };
    Some(Program {
        name: format!("{package} {target}"),
        path: PathBuf::from(message["executable"].as_str()?),
        waits: package == WAITING,
        dir,
    })
}

impl Program {
    /// Starts it; its output is the caller's to read.
    pub(crate) fn start(&self, filters: &[String], common: &[(&str, PathBuf)]) -> Command {
        let mut command = Command::new(&self.path);
        command.arg("--show-output").args(filters).current_dir(&self.dir).stdout(Stdio::piped()).stdin(Stdio::null());
        for (name, value) in common {
            command.env(name, value);
        }
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_programs_are_found_among_cargos_messages() {
        let message = |id: &str, dir: &str, test: bool| {
            format!(
                r#"{{"reason":"compiler-artifact","package_id":"path+file:///w/{id}","manifest_path":"/w/{dir}/Cargo.toml",
                "target":{{"kind":["test"],"name":"canary"}},"profile":{{"test":{test}}},"executable":"/w/target/canary-1"}}"#
            )
            .replace('\n', "")
        };
        let found = program(&message("tests#vouchsafe-tests@0.1.0", "tests", true)).unwrap();
        let path = |path: &str| PathBuf::from(path);
        let name = "vouchsafe-tests canary".to_owned();
        let (here, dir) = (path("/w/target/canary-1"), path("/w/tests"));
        assert_eq!(found, Program { name, path: here, dir, waits: true });
        let other = program(&message("xtask#0.1.0", "xtask", true)).unwrap();
        assert_eq!((other.name.as_str(), other.waits), ("xtask canary", false));
        assert_eq!(program(&message("tests#vouchsafe-tests@0.1.0", "tests", false)), None, "no test");
        assert_eq!(program(r#"{"reason":"build-finished","success":true}"#), None);
        assert_eq!(program("running 3 tests"), None);
    }
}
