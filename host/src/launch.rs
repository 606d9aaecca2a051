//! Turns `vouchsafe launch …` into `vouchsafe-launch …`: another program, since it must link no key code.
//! It passes the words on as they are.

use std::{ffi::OsString, os::unix::process::CommandExt as _, process::Command};

use crate::failure::{Failure, Outcome};

/// Launch the enclave; all arguments go to vouchsafe-launch (see vouchsafe-launch --help).
#[derive(clap::Args)]
#[command(
    disable_help_flag = true,
    after_help = "Example:\n  vouchsafe launch --backend sim-process --config config.toml --models models \\\n    --simulator-root sim-root --listen 127.0.0.1:8443"
)]
pub struct Args {
    /// Arguments of vouchsafe-launch.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

pub fn run(args: &Args, json: bool) -> Outcome {
    let program = beside("vouchsafe-launch")?;
    let mut command = Command::new(&program);
    command.args(&args.rest);
    if json {
        command.arg("--json");
    }
    // `exec` returns only when it failed.
    Err(Failure::file(&program, "started", &command.exec()))
}

/// A program of this project that lies beside this one.
pub fn beside(name: &str) -> Result<std::path::PathBuf, Failure> {
    let exe = std::env::current_exe().map_err(|e| Failure::file("/proc/self/exe".as_ref(), "read", &e))?;
    let path = exe.with_file_name(name);
    if path.is_file() {
        return Ok(path);
    }
    let fact = format!("{} is missing", path.display());
    Err(Failure::new("PROGRAM_MISSING", 9, fact, "build or install all programs of the project into one folder"))
}
