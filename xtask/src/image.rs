//! Turns the sources into the guest image: the measured enclave, built so that it does not show where, then `vouchsafe image build`.
//! It does not establish that the image is good; `--twice` establishes that it depends on nothing but the sources and the lock.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::build;
use crate::error::ChoreError;
use crate::measured::Place;
use crate::onnxruntime;
use crate::twice;
use crate::workspace::{Workspace, ended_well, sha256_of};

/// The measured program and its package.
pub(crate) const ENCLAVE: &str = "vouchsafe-enclave";
/// The committed lock file, below the workspace.
pub(crate) const LOCK: &str = "enclave/image/image.lock";
/// The measured program's own profile: optimised as a whole, which takes minutes.
pub(crate) const MEASURED: &str = "image";

#[derive(Debug, PartialEq, Eq)]
struct Arguments {
    profile: &'static str,
    twice: bool,
    relock: bool,
}

/// `cargo xtask image [--profile image|release] [--twice] [--relock]`
pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<u8, ChoreError> {
    let arguments = Arguments::parse(args)?;
    if arguments.twice {
        return twice::run(workspace, arguments.profile);
    }
    let folder = workspace.target().join("image");
    make(workspace, arguments.profile, &folder, arguments.relock)?;
    println!("image           {}", folder.display());
    Ok(0)
}

/// The image folder with the measured enclave, built when something that goes into it changed.
pub(crate) fn measured(workspace: &Workspace) -> Result<PathBuf, ChoreError> {
    let folder = workspace.target().join("image");
    make(workspace, MEASURED, &folder, false)?;
    Ok(folder)
}

/// The image folder that was built last, if there is one.
pub(crate) fn built(workspace: &Workspace) -> Option<PathBuf> {
    let folders = ["image", "image-release"].map(|name| workspace.target().join(name));
    let age = |folder: &PathBuf| fs::metadata(folder.join("image.json")).and_then(|about| about.modified()).ok();
    folders.into_iter().filter(|folder| age(folder).is_some()).max_by_key(age)
}

/// An image folder with the enclave of the ordinary release build, which shows where it was built.
pub(crate) fn of_programs(workspace: &Workspace, programs: &Path) -> Result<PathBuf, ChoreError> {
    let folder = workspace.target().join("image-release");
    let library = onnxruntime::library(workspace)?;
    let parts = Parts { enclave: programs.join(ENCLAVE), library, builder: programs.join("vouchsafe") };
    // A rehearsal, so that a package that is gone from the archive does not stop it.
    parts.make(workspace, &folder, true)?;
    Ok(folder)
}

/// The folder of all programs but the enclave, built as the enclave is: they do not show where, either.
pub(crate) fn programs(workspace: &Workspace) -> Result<PathBuf, ChoreError> {
    let place = Place::of(workspace)?;
    for (package, program) in build::OTHERS {
        eprintln!("image: building {program}");
        place.build(workspace, package, program, "release")?;
    }
    Ok(place.target.join("release"))
}

fn make(workspace: &Workspace, profile: &str, folder: &Path, relock: bool) -> Result<(), ChoreError> {
    let library = onnxruntime::library(workspace)?;
    let place = Place::of(workspace)?;
    eprintln!("image: building the measured enclave alone, profile {profile} (the first time takes minutes)");
    let enclave = place.build(workspace, ENCLAVE, ENCLAVE, profile)?;
    let builder = builder(workspace)?;
    Parts { enclave, library, builder }.make(workspace, folder, relock)
}

/// What goes into an image besides the lock, and who puts it there.
struct Parts {
    enclave: PathBuf,
    library: PathBuf,
    builder: PathBuf,
}

impl Parts {
    fn make(&self, workspace: &Workspace, folder: &Path, relock: bool) -> Result<(), ChoreError> {
        let Self { enclave, library, builder } = self;
        let lock = workspace.root().join(LOCK);
        // Compressing takes half a minute: not when nothing changed.
        let stamp = folder.with_extension("stamp");
        let mut inputs = String::new();
        for path in [enclave, library, builder, &lock] {
            inputs.push_str(&sha256_of(path)?.unwrap_or_default());
            inputs.push('\n');
        }
        if fs::read_to_string(&stamp).is_ok_and(|text| text == inputs) && shows(builder, folder)? {
            return Ok(());
        }
        let _ = fs::remove_file(&stamp);
        let cache = workspace.target().join("image-cache");
        let order = Order { builder, enclave, library, cache: &cache };
        match order.build(&lock, folder) {
            // The archive moved on. A scratch lock is for whoever only wants to see that today's packages work.
            Err(ChoreError::Image { status: 8 }) if relock => {
                let scratch = workspace.target().join("image-scratch.lock");
                eprintln!(
                    "warning: the locked packages could not be fetched; building from a scratch lock of today's packages"
                );
                order.relock(&lock, &scratch)?;
                return order.build(&scratch, folder);
            }
            other => other?,
        }
        fs::write(&stamp, inputs).map_err(ChoreError::file(&stamp))
    }
}

/// The `vouchsafe` that puts images together: the ordinary one where there is one, else the one of [`programs`].
pub(crate) fn builder(workspace: &Workspace) -> Result<PathBuf, ChoreError> {
    let ordinary = workspace.target().join("release/vouchsafe");
    if !ordinary.is_file() {
        return Ok(programs(workspace)?.join("vouchsafe"));
    }
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--locked", "--release", "--package", "vouchsafe", "--bin", "vouchsafe"]);
    let status = cargo.status().map_err(|source| ChoreError::Start { program: "cargo", source })?;
    if ended_well(status)? { Ok(ordinary) } else { Err(ChoreError::Build) }
}

/// What goes into an image besides the lock.
pub(crate) struct Order<'a> {
    pub(crate) builder: &'a Path,
    pub(crate) enclave: &'a Path,
    pub(crate) library: &'a Path,
    pub(crate) cache: &'a Path,
}

impl Order<'_> {
    pub(crate) fn build(&self, lock: &Path, out: &Path) -> Result<(), ChoreError> {
        let mut command = Command::new(self.builder);
        command.args(["image", "build", "--lock"]).arg(lock).arg("--out").arg(out);
        command.arg("--enclave").arg(self.enclave).arg("--onnxruntime").arg(self.library);
        self.run(command)
    }

    fn relock(&self, old: &Path, out: &Path) -> Result<(), ChoreError> {
        let mut command = Command::new(self.builder);
        command.args(["image", "lock", "--lock"]).arg(old).arg("--out").arg(out);
        self.run(command)
    }

    fn run(&self, mut command: Command) -> Result<(), ChoreError> {
        let status = command
            .arg("--cache")
            .arg(self.cache)
            .status()
            .map_err(|source| ChoreError::Start { program: "vouchsafe", source })?;
        if ended_well(status)? {
            return Ok(());
        }
        Err(ChoreError::Image { status: status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(9) })
    }
}

/// Whether an image folder is the one of its manifest.
fn shows(builder: &Path, folder: &Path) -> Result<bool, ChoreError> {
    let status = Command::new(builder)
        .args(["image", "show"])
        .arg(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map_err(|source| ChoreError::Start { program: "vouchsafe", source })?;
    ended_well(status)
}

impl Arguments {
    fn parse(args: &[String]) -> Result<Self, ChoreError> {
        let mut parsed = Self { profile: MEASURED, twice: false, relock: false };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--twice" => parsed.twice = true,
                "--relock" => parsed.relock = true,
                "--profile" => {
                    parsed.profile = match args.next().map(String::as_str) {
                        Some("image") => "image",
                        Some("release") => "release",
                        _ => return Err(ChoreError::Usage("--profile is image or release".to_owned())),
                    }
                }
                _ => return Err(ChoreError::Usage(format!("`image` has no argument `{arg}`"))),
            }
        }
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_two_flags_and_a_profile() {
        let words = |text: &str| text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect::<Vec<_>>();
        let parsed = Arguments::parse(&words("--twice --profile release")).unwrap();
        assert_eq!(parsed, Arguments { profile: "release", twice: true, relock: false });
        assert_eq!(Arguments::parse(&[]).unwrap(), Arguments { profile: "image", twice: false, relock: false });
        for wrong in ["--profile", "--profile dev", "other"] {
            assert_eq!(Arguments::parse(&words(wrong)).unwrap_err().code(), "USAGE");
        }
    }
}
