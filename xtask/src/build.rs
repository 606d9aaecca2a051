//! Turns the sources into the four programs and puts the ONNX Runtime library beside them.
//! It does not run them, and what it builds is trusted by nobody: verifiers compare measurements.

use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::error::ChoreError;
use crate::onnxruntime;
use crate::workspace::{Workspace, copy_atomic, ended_well, make_dir};

/// The measured program. It is always built alone: beside other crates, their features would change it.
const ENCLAVE: &str = "vouchsafe-enclave";
/// The package and the program of everything else.
pub(crate) const OTHERS: [(&str, &str); 3] = [
    ("vouchsafe", "vouchsafe"),
    ("vouchsafe-launcher", "vouchsafe-launch"),
    ("vouchsafe-simulator", "vouchsafe-simulator"),
];

/// Which of cargo's profiles.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    Dev,
    Release,
    /// Optimised as a whole, which takes minutes: as the measured program is in a guest image.
    Image,
}

impl Profile {
    /// Its directory under target.
    pub(crate) fn dir(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release => "release",
            Self::Image => "image",
        }
    }

    /// The argument for cargo, if it is not the default.
    pub(crate) fn flag(self) -> Option<&'static str> {
        match self {
            Self::Dev => None,
            Self::Release => Some("--release"),
            Self::Image => Some("--profile=image"),
        }
    }
}

/// Builds what `demo` needs; returns the directory of the programs.
pub(crate) fn release_binaries(workspace: &Workspace) -> Result<PathBuf, ChoreError> {
    let library = onnxruntime::library(workspace)?;
    build(workspace, Profile::Release)?;
    let dir = workspace.target().join(Profile::Release.dir());
    onnxruntime::install(&library, &dir)?;
    Ok(dir)
}

/// Builds the release programs and the measured one as a guest image has it, beside each other in the directory `dir`.
pub(crate) fn image_binaries(workspace: &Workspace, dir: &Path) -> Result<(), ChoreError> {
    let built = release_binaries(workspace)?;
    make_dir(dir)?;
    onnxruntime::install(&onnxruntime::library(workspace)?, dir)?;
    for program in others() {
        copy_atomic(&built.join(program), &dir.join(program))?;
    }
    eprintln!("build: {ENCLAVE} once more, with the profile of guest images (the first time takes minutes)");
    let mut enclave = cargo_build(workspace, Profile::Image);
    enclave.args(["--package", ENCLAVE, "--bin", ENCLAVE]);
    wait("building the enclave", enclave)?;
    copy_atomic(&workspace.target().join(Profile::Image.dir()).join(ENCLAVE), &dir.join(ENCLAVE))
}

/// Builds what the tests run and copies it to a directory of its own, since `cargo test` builds
/// some of the programs again, with other features, under the usual name. Returns that directory.
pub(crate) fn test_binaries(workspace: &Workspace, profile: Profile) -> Result<PathBuf, ChoreError> {
    let library = onnxruntime::library(workspace)?;
    let built = workspace.target().join(profile.dir());
    let dir = built.join("programs");
    make_dir(&dir)?;
    onnxruntime::install(&library, &dir)?;
    build(workspace, profile)?;
    for program in programs() {
        let (from, to) = (built.join(program), dir.join(program));
        let newer = match (modified(&from), modified(&to)) {
            (Some(from), Some(to)) => from > to,
            _ => true,
        };
        if newer {
            copy_atomic(&from, &to)?;
        }
        // Cargo's list of what a program was built from: the tests refuse a program older than one of these.
        let list = format!("{program}.d");
        copy_atomic(&built.join(&list), &dir.join(&list))?;
    }
    Ok(dir)
}

/// The names of all four programs.
pub(crate) fn programs() -> impl Iterator<Item = &'static str> {
    std::iter::once(ENCLAVE).chain(OTHERS.iter().map(|(_, program)| *program))
}

/// The names of all programs but the measured one.
pub(crate) fn others() -> impl Iterator<Item = &'static str> {
    OTHERS.iter().map(|(_, program)| *program)
}

fn modified(path: &Path) -> Option<std::time::SystemTime> {
    fs::metadata(path).and_then(|meta| meta.modified()).ok()
}

fn build(workspace: &Workspace, profile: Profile) -> Result<(), ChoreError> {
    if !workspace.target().join(profile.dir()).join("vouchsafe").is_file() {
        eprintln!(
            "build: the first build of about 350 crates takes about five minutes on two cores; later ones take seconds"
        );
    }
    eprintln!("build: 1/2 {ENCLAVE}, the measured program, alone");
    let mut enclave = cargo_build(workspace, profile);
    enclave.args(["--package", ENCLAVE, "--bin", ENCLAVE]);
    wait("building the enclave", enclave)?;

    let names: Vec<_> = OTHERS.iter().map(|(_, program)| *program).collect();
    eprintln!("build: 2/2 {}", names.join(", "));
    let mut others = cargo_build(workspace, profile);
    for (package, program) in OTHERS {
        others.args(["--package", package, "--bin", program]);
    }
    wait("building the other programs", others)
}

fn cargo_build(workspace: &Workspace, profile: Profile) -> Command {
    let mut command = workspace.cargo();
    command.args(["build", "--locked"]).args(profile.flag());
    command
}

/// Runs a build with cargo's own progress; where that is not drawn, a line every 20 s says that it goes on.
fn wait(what: &'static str, mut command: Command) -> Result<(), ChoreError> {
    let started = Instant::now();
    let child = command.spawn().map_err(|source| ChoreError::Start { program: "cargo", source })?;
    let status = if std::io::stderr().is_terminal() {
        end_of(child)?
    } else {
        let (done, ended) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                while ended.recv_timeout(Duration::from_secs(20)) == Err(mpsc::RecvTimeoutError::Timeout) {
                    eprintln!("build: {what}, {} s so far", started.elapsed().as_secs());
                }
            });
            let status = end_of(child);
            drop(done);
            status
        })?
    };
    if ended_well(status)? { Ok(()) } else { Err(ChoreError::Build) }
}

fn end_of(mut child: Child) -> Result<std::process::ExitStatus, ChoreError> {
    child.wait().map_err(|source| ChoreError::Start { program: "cargo", source })
}
