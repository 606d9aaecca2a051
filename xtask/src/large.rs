//! Turns a model of 3 GiB with external data into a played story: sealed, opened and served, all of it under a limit of 8 GiB of memory.
//! It does not prove that a machine of that size is enough: the limit is one of this kernel's, and the text says which.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::bench_models::{self, Form};
use crate::build;
use crate::error::ChoreError;
use crate::vm;
use crate::workspace::{Workspace, ended_well, make_dir};

const MIB: u64 = 3 << 10;
const LIMIT: u64 = 8 << 30;
/// Where a limit for a group of processes can be made, and how its files are called in version 2 and version 1.
const GROUPS: [(&str, &str, &str); 2] = [
    ("/sys/fs/cgroup", "memory.max", "memory.peak"),
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.max_usage_in_bytes"),
];

/// `cargo xtask prove --large`: the demo with such a model, without its attacks, which copy the package once more each.
pub(crate) fn run(workspace: &Workspace) -> Result<u8, ChoreError> {
    let programs = build::release_binaries(workspace)?;
    let dir = Folder::make(workspace)?;
    eprintln!("prove: making a model of {MIB} MiB with external data");
    let model = bench_models::make(workspace, Form::External, MIB, &dir.0.join("model"))?;
    let data = model.data.as_ref().ok_or(ChoreError::LargeModel)?;
    let world = dir.0.join("world");
    make_dir(&world)?;
    let mut file = std::ffi::OsString::from("external-data=");
    file.push(data);
    let limit = Limit::make();
    println!(
        "prove: a model of {} MiB with external data, everything of the story together under {}",
        model.bytes >> 20,
        limit.describe()
    );
    if matches!(limit, Limit::None) {
        return Err(ChoreError::LargeModel);
    }
    let mut demo = limit.command(&programs.join("vouchsafe"));
    demo.args(["demo", "--json", "--no-attacks", "--model"]).arg(&model.graph).arg("--file").arg(file);
    demo.arg("--input").arg(&model.input).env("TMPDIR", &world).stdin(Stdio::null());
    let output = demo.stderr(Stdio::inherit()).output();
    let output = output.map_err(|source| ChoreError::Start { program: "vouchsafe", source })?;
    let peak = limit.peak();
    drop(limit);
    let said: Option<serde_json::Value> = serde_json::from_slice(&output.stdout).ok();
    let answered = said.as_ref().and_then(|said| said.get("outputs")?.get(0)?.get("data")?.as_array());
    // The story is an attested request and its receipt, so an answer was computed from the opened model.
    if !ended_well(output.status)? || answered.is_none_or(Vec::is_empty) {
        let _ = std::io::stderr().write_all(&output.stdout);
        return Err(ChoreError::LargeModel);
    }
    let seconds = said.as_ref().and_then(|said| said.get("seconds")?.as_f64()).unwrap_or(f64::NAN);
    let numbers = answered.map_or(0, Vec::len);
    println!("sealed, opened and served: {numbers} numbers came back; {seconds:.0} s");
    match peak {
        Some(peak) => println!("most memory of all processes together, page cache included: {} MiB", peak >> 20),
        None => println!("NOT RUN: the most memory of all processes together: this kernel does not say"),
    }
    Ok(0)
}

/// A limit that holds for a program and all it starts.
enum Limit {
    /// A control group of our own: all of them together, as in a machine of that size.
    Group { dir: PathBuf, peak: &'static str },
    /// Address space of each process by itself: stricter for one, laxer for all.
    Each,
    /// There is nothing to limit it with.
    None,
}

impl Limit {
    fn make() -> Self {
        for (parent, limit, peak) in GROUPS {
            let dir = Path::new(parent).join(format!("vouchsafe-prove-{}", std::process::id()));
            if !Path::new(parent).join("cgroup.procs").is_file() || fs::create_dir(&dir).is_err() {
                continue;
            }
            // Where memory is not among the group's controllers there is no such file, and none can be made.
            let limited = fs::OpenOptions::new().write(true).open(dir.join(limit));
            if limited.and_then(|mut file| file.write_all(LIMIT.to_string().as_bytes())).is_ok() {
                // No swap in its place; not every kernel has the file.
                let _ =
                    fs::OpenOptions::new().write(true).open(dir.join("memory.swap.max")).map(|mut f| f.write_all(b"0"));
                return Self::Group { dir, peak };
            }
            let _ = fs::remove_dir(&dir);
        }
        if vm::present("prlimit") { Self::Each } else { Self::None }
    }

    fn describe(&self) -> String {
        let gib = LIMIT >> 30;
        match self {
            Self::Group { dir, .. } => format!("a control group of {gib} GiB ({})", dir.display()),
            Self::Each => {
                format!("`prlimit --as`, {gib} GiB of address space for each process: no control group can be made")
            }
            Self::None => "NO LIMIT: no control group can be made, and there is no prlimit".to_owned(),
        }
    }

    /// `program` under the limit, without its arguments.
    fn command(&self, program: &Path) -> Command {
        match self {
            Self::Group { dir, .. } => {
                let mut command = Command::new("sh");
                command.args(["-c", "echo $$ > \"$1\" && shift && exec \"$@\"", "sh"]);
                command.arg(dir.join("cgroup.procs")).arg(program);
                command
            }
            Self::Each => {
                let mut command = Command::new("prlimit");
                command.arg(format!("--as={LIMIT}")).arg("--").arg(program);
                command
            }
            Self::None => Command::new(program),
        }
    }

    /// Bytes at the height of it.
    fn peak(&self) -> Option<u64> {
        let Self::Group { dir, peak } = self else { return None };
        fs::read_to_string(dir.join(peak)).ok()?.trim().parse().ok()
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        if let Self::Group { dir, .. } = self {
            let _ = fs::remove_dir(dir);
        }
    }
}

/// Under target, on its disk, and gone in the end: 3 GiB of model, and four times that of packages.
struct Folder(PathBuf);

impl Folder {
    fn make(workspace: &Workspace) -> Result<Self, ChoreError> {
        let dir = workspace.target().join("prove/large");
        // What a killed run left.
        if dir.exists() {
            fs::remove_dir_all(&dir).map_err(ChoreError::file(&dir))?;
        }
        make_dir(&dir)?;
        Ok(Self(dir))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_runs_the_program_with_its_arguments() {
        let limits = if vm::present("prlimit") { vec![Limit::Each, Limit::None] } else { vec![Limit::None] };
        for limit in limits {
            let output = limit.command(Path::new("/bin/echo")).arg("one two").output().unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), "one two\n", "{}", limit.describe());
            assert_eq!(limit.peak(), None);
        }
        // The group's own way in, with a plain file in its place.
        let dir = std::env::temp_dir().join(format!("xtask-limit-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let group = Limit::Group { dir: dir.clone(), peak: "peak" };
        let output = group.command(Path::new("/bin/echo")).arg("one two").output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "one two\n");
        assert!(fs::read_to_string(dir.join("cgroup.procs")).unwrap().trim().parse::<u32>().is_ok());
        fs::write(dir.join("peak"), "17\n").unwrap();
        assert_eq!(group.peak(), Some(17));
        fs::remove_dir_all(&dir).unwrap();
    }
}
