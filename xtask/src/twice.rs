//! Turns the committed sources into two images, built apart from each other, and their digests into a verdict: equal or not.
//! It does not establish that somebody else's compiler gives the same; rust-toolchain.toml and the base of the build do that.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::error::ChoreError;
use crate::image::{ENCLAVE, LOCK, Order, builder};
use crate::measured::{Place, cargo_home};
use crate::onnxruntime;
use crate::workspace::{Workspace, ended_well, make_dir, sha256_of};

/// Builds the committed sources in two clones under paths of different lengths, each with a cargo folder of its own, and
/// compares the images. The clones are removed when they are equal.
pub(crate) fn run(workspace: &Workspace, profile: &'static str) -> Result<u8, ChoreError> {
    let library = onnxruntime::library(workspace)?;
    let builder = builder(workspace)?;
    let cache = workspace.target().join("image-cache");
    let home = workspace.target().join("twice");
    remove(&home)?;
    let mut folders = Vec::new();
    for name in ["one", "the-second-has-another-path"] {
        let base = home.join(name);
        make_dir(&base)?;
        let place = Place {
            root: base.join("sources"),
            target: base.join("target"),
            cargo_home: base.join(format!("cargo-home-of-{name}")),
        };
        clone(workspace, &place.root)?;
        copy_registry(&cargo_home()?, &place.cargo_home)?;
        eprintln!("image: building the enclave in {}", place.root.display());
        let enclave = place.build(workspace, ENCLAVE, ENCLAVE, profile)?;
        let order = Order { builder: &builder, enclave: &enclave, library: &library, cache: &cache };
        let folder = base.join("image");
        order.build(&place.root.join(LOCK), &folder)?;
        folders.push(folder);
    }
    let mut equal = true;
    for file in ["kernel", "initrd", "firmware.fd", "image.json"] {
        let digests: Vec<String> = folders
            .iter()
            .map(|folder| Ok(sha256_of(&folder.join(file))?.unwrap_or_default()))
            .collect::<Result<_, ChoreError>>()?;
        println!("{file:<12} {}", digests.join("  "));
        equal &= digests[0] == digests[1] && !digests[0].is_empty();
    }
    if !equal {
        let _ = Command::new(&builder).args(["image", "diff"]).args(&folders).status();
        return Err(ChoreError::NotReproducible);
    }
    println!("two clones, two cargo folders, one image: byte for byte the same");
    remove(&home)?;
    Ok(0)
}

fn clone(workspace: &Workspace, to: &Path) -> Result<(), ChoreError> {
    let status = Command::new("git")
        .args(["clone", "--quiet", "--no-hardlinks", "--depth", "1", "--"])
        .arg(format!("file://{}", workspace.root().display()))
        .arg(to)
        .status()
        .map_err(|source| ChoreError::Start { program: "git", source })?;
    if ended_well(status)? { Ok(()) } else { Err(ChoreError::Build) }
}

/// What cargo fetched before, so that it is not fetched again; not what it unpacked.
fn copy_registry(from: &Path, to: &Path) -> Result<(), ChoreError> {
    for part in ["registry/index", "registry/cache"] {
        if from.join(part).is_dir() {
            copy_tree(&from.join(part), &to.join(part))?;
        }
    }
    make_dir(to)?;
    for settings in ["config.toml", "config"] {
        if from.join(settings).is_file() {
            fs::copy(from.join(settings), to.join(settings)).map_err(ChoreError::file(from.join(settings)))?;
        }
    }
    Ok(())
}

fn copy_tree(from: &Path, to: &Path) -> Result<(), ChoreError> {
    make_dir(to)?;
    for entry in fs::read_dir(from).map_err(ChoreError::file(from))? {
        let entry = entry.map_err(ChoreError::file(from))?;
        let (path, place) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy_tree(&path, &place)?;
        } else {
            fs::copy(&path, &place).map_err(ChoreError::file(&path))?;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> Result<(), ChoreError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(ChoreError::file(path)(error)),
        _ => Ok(()),
    }
}
