//! Turns the sources into the root folder of the container image: programs, ONNX Runtime, loader, C libraries, texts, a list of all.
//! It makes no image and starts none: the Dockerfile copies this folder as it is, and a digest of that image is for others to name.
//!
//! The enclave, ONNX Runtime, the loader and the libraries are those of the guest image, byte for byte, so one locked set of
//! packages stands behind both. No shell, no package manager, no user database.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::build;
use crate::error::ChoreError;
use crate::image;
use crate::onnxruntime;
use crate::sbom::{self, DOCUMENTS, ONNX_DOCUMENTS};
use crate::workspace::{Workspace, copy_atomic, make_dir, sha256_of};

/// The list of all, among the documents.
const SBOM: &str = "sbom.cdx.json";
const LOADER: &str = "lib64/ld-linux-x86-64.so.2";
const LIBRARIES: &str = "lib/x86_64-linux-gnu";
/// Paths of the guest image and what they are called here; its kernel modules stay behind.
const FROM_GUEST: [(&str, &str); 3] = [
    ("init", "usr/bin/vouchsafe-enclave"),
    ("usr/lib/libonnxruntime.so", "usr/bin/libonnxruntime.so"),
    (LOADER, LOADER),
];

/// Makes `target/container/root`; prints where it is and the digest of the enclave in it.
pub(crate) fn run(workspace: &Workspace) -> Result<u8, ChoreError> {
    let image = image::measured(workspace)?;
    let programs = image::programs(workspace)?;
    let dir = workspace.target().join("container");
    remove(&dir)?;
    make_dir(&dir)?;
    let guest = dir.join("guest");
    unpack(&programs.join("vouchsafe"), &image, &guest)?;
    let manifest = image.join("image.json");
    let manifest: Value = fs::read(&manifest)
        .map_err(ChoreError::file(&manifest))
        .and_then(|bytes| serde_json::from_slice(&bytes).map_err(|e| ChoreError::file(&manifest)(e.into())))?;

    let root = dir.join("root");
    stage(workspace, &guest, &programs, &root)?;
    starts(&root)?;
    let text = serde_json::to_vec_pretty(&sbom::document(workspace, &root, &manifest)?)
        .map_err(|e| ChoreError::file(SBOM)(e.into()))?;
    let list = root.join(DOCUMENTS).join(SBOM);
    fs::write(&list, text).map_err(ChoreError::file(&list))?;
    settle(&root, epoch(&manifest))?;
    remove(&guest)?;

    let enclave = sha256_of(&root.join("usr/bin/vouchsafe-enclave"))?.unwrap_or_default();
    if manifest["enclave_sha256"] != enclave.as_str() {
        return Err(ChoreError::Sbom { what: "the enclave is not the guest image's".to_owned() });
    }
    println!("container root  {}", root.display());
    println!("enclave         sha256:{enclave}, the same as in the guest image");
    println!("contents        {}", list.display());
    Ok(0)
}

/// Copies everything to its place.
fn stage(workspace: &Workspace, guest: &Path, programs: &Path, root: &Path) -> Result<(), ChoreError> {
    for folder in ["usr/bin", LIBRARIES, "lib64", DOCUMENTS, ONNX_DOCUMENTS, "tmp"] {
        make_dir(&root.join(folder))?;
    }
    for (from, to) in FROM_GUEST {
        copy_atomic(&guest.join(from), &root.join(to))?;
    }
    let libraries = guest.join(LIBRARIES);
    for entry in fs::read_dir(&libraries).map_err(ChoreError::file(&libraries))? {
        let entry = entry.map_err(ChoreError::file(&libraries))?;
        copy_atomic(&entry.path(), &root.join(LIBRARIES).join(entry.file_name()))?;
    }
    for program in build::others() {
        copy_atomic(&programs.join(program), &root.join("usr/bin").join(program))?;
    }
    for text in ["LICENSE", "SECURITY.md"] {
        copy_atomic(&workspace.root().join(text), &root.join(DOCUMENTS).join(text))?;
    }
    for text in onnxruntime::notices(workspace)? {
        let name = text.file_name().unwrap_or_default();
        copy_atomic(&text, &root.join(ONNX_DOCUMENTS).join(name))?;
    }
    Ok(())
}

/// Starts every program with this very loader and these libraries, and nothing of this machine.
fn starts(root: &Path) -> Result<(), ChoreError> {
    for program in build::others() {
        let status = Command::new(root.join(LOADER))
            .args(["--inhibit-cache", "--library-path"])
            .arg(root.join(LIBRARIES))
            .arg(root.join("usr/bin").join(program))
            .arg("--version")
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .map_err(|source| ChoreError::Start { program: "the container's loader", source })?;
        if !status.success() {
            return Err(ChoreError::ContainerLibraries { program });
        }
    }
    Ok(())
}

fn unpack(vouchsafe: &Path, image: &Path, out: &Path) -> Result<(), ChoreError> {
    let status = Command::new(vouchsafe)
        .args(["image", "unpack"])
        .arg(image)
        .arg("--out")
        .arg(out)
        .stdout(Stdio::null())
        .status()
        .map_err(|source| ChoreError::Start { program: "vouchsafe", source })?;
    if status.success() { Ok(()) } else { Err(ChoreError::Build) }
}

/// One time for all files: `SOURCE_DATE_EPOCH` where it is set, as reproducible builds do, else the guest image's.
fn epoch(manifest: &Value) -> SystemTime {
    let asked = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse().ok());
    let seconds = asked.or_else(|| manifest["mtime"].as_u64()).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// Sets mode and time of everything below `path`, children first: nothing of the building machine is left in them.
fn settle(path: &Path, time: SystemTime) -> Result<(), ChoreError> {
    let failed = || ChoreError::file(path);
    let meta = fs::symlink_metadata(path).map_err(failed())?;
    if meta.is_dir() {
        for entry in fs::read_dir(path).map_err(failed())? {
            settle(&entry.map_err(failed())?.path(), time)?;
        }
    }
    let runs = meta.is_dir() || path.parent().is_some_and(|p| p.ends_with("usr/bin")) || path.ends_with(LOADER);
    let mode = match (path.ends_with("root/tmp"), runs) {
        // The one place to write to, for whoever runs the image without a volume.
        (true, _) => 0o1777,
        (false, true) => 0o755,
        (false, false) => 0o644,
    };
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed())?;
    File::open(path).and_then(|file| file.set_modified(time)).map_err(failed())
}

fn remove(path: &PathBuf) -> Result<(), ChoreError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(ChoreError::file(path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_and_times_are_set_alike_everywhere() {
        let dir = std::env::temp_dir().join(format!("xtask-container-{}", std::process::id()));
        let root = dir.join("root");
        for folder in ["usr/bin", "lib64", "tmp"] {
            make_dir(&root.join(folder)).unwrap();
        }
        for file in ["usr/bin/a", LOADER, "lib64/b"] {
            fs::write(root.join(file), b"x").unwrap();
            fs::set_permissions(root.join(file), Permissions::from_mode(0o600)).unwrap();
        }
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
        settle(&root, time).unwrap();
        for (path, mode) in
            [("", 0o755), ("tmp", 0o1777), ("usr/bin/a", 0o755), (LOADER, 0o755), ("lib64/b", 0o644), ("lib64", 0o755)]
        {
            let meta = fs::metadata(root.join(path)).unwrap();
            assert_eq!((meta.permissions().mode() & 0o7777, meta.modified().unwrap()), (mode, time), "{path}");
        }
        remove(&dir).unwrap();
        remove(&dir).unwrap();
    }
}
