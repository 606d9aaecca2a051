//! Turns the Python of this machine into a pip that fetches pinned files, and the tests' packages on disk.
//! It does not choose versions: those stand, with their hashes, in tests/reference/requirements.txt.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::ChoreError;
use crate::workspace::{Workspace, ended_well, make_dir, sha256_of};

/// Written last: the Python and the lock that the packages were installed for.
const STAMP: &str = ".vouchsafe-installed";

/// A Python 3 that starts and has pip.
pub(crate) struct Python {
    program: &'static str,
    minor: u32,
}

impl Python {
    /// Looks for `python3`, then `python`.
    pub(crate) fn find() -> Result<Self, ChoreError> {
        for program in ["python3", "python"] {
            let printed = Command::new(program)
                .args(["-c", "import sys; print(sys.version_info[0], sys.version_info[1])"])
                .stderr(Stdio::null())
                .output();
            let Ok(output) = printed else { continue };
            let text = String::from_utf8_lossy(&output.stdout);
            let mut words = text.split_whitespace();
            let (Some("3"), Some(minor)) = (words.next(), words.next()) else {
                continue;
            };
            let python = Self { program, minor: minor.parse().unwrap_or(0) };
            let pip =
                python.command().args(["-m", "pip", "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
            return match pip {
                Ok(status) if status.success() => Ok(python),
                _ => Err(ChoreError::PipMissing),
            };
        }
        Err(ChoreError::PythonMissing)
    }

    /// This Python, without the user's own packages in its way.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(self.program);
        command.env_remove("PYTHONPATH").env_remove("PYTHONHOME");
        command
    }

    /// `pip ARGS…` with quiet defaults; its messages go to standard error.
    pub(crate) fn pip(&self, what: &'static str, args: &[&str]) -> Result<(), ChoreError> {
        let status = self
            .command()
            .args(["-m", "pip"])
            .args(args)
            .args(["--disable-pip-version-check", "--no-input", "--quiet"])
            .env("PIP_ROOT_USER_ACTION", "ignore")
            .stdin(Stdio::null())
            .stdout(std::io::stderr())
            .status()
            .map_err(|source| ChoreError::Start { program: "pip", source })?;
        if ended_well(status)? { Ok(()) } else { Err(ChoreError::Pip(what)) }
    }
}

/// The Python packages of the tests, in `target/py`; installed again when the lock or Python changed.
pub(crate) fn packages(workspace: &Workspace) -> Result<PathBuf, ChoreError> {
    let lock = workspace.root().join("tests/reference/requirements.txt");
    let digest =
        sha256_of(&lock)?.ok_or_else(|| ChoreError::file(&lock)(std::io::Error::from(std::io::ErrorKind::NotFound)))?;
    let python = Python::find()?;
    if python.minor < 11 {
        return Err(ChoreError::PythonTooOld);
    }
    let done = workspace.target().join("py");
    let stamp = format!("3.{} {digest}\n", python.minor);
    if fs::read_to_string(done.join(STAMP)).is_ok_and(|found| found == stamp) {
        return Ok(done);
    }
    eprintln!("set-up: installing the tests' Python packages under target/py (about 20 s)");
    make_dir(workspace.target())?;
    let partial = workspace.target().join(format!("py-{}.partial", std::process::id()));
    remove_dir(&partial)?;
    python.pip(
        "the tests' Python packages",
        &[
            "install",
            "--require-hashes",
            "--no-deps",
            "--only-binary=:all:",
            "--no-compile",
            "--no-warn-script-location",
            "--target",
            &partial.to_string_lossy(),
            "--requirement",
            &lock.to_string_lossy(),
        ],
    )?;
    fs::write(partial.join(STAMP), stamp).map_err(ChoreError::file(&partial))?;
    remove_dir(&done)?;
    fs::rename(&partial, &done).map_err(ChoreError::file(&done))?;
    Ok(done)
}

fn remove_dir(path: &Path) -> Result<(), ChoreError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(ChoreError::file(path)(error)),
        _ => Ok(()),
    }
}
