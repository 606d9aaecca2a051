//! Turns a pinned wheel, or the user's own file, into the ONNX Runtime library beside the built programs.
//! It does not establish what runs inside: the measurement covers the library, whichever file this was.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::ChoreError;
use crate::python::Python;
use crate::workspace::{Workspace, copy_atomic, ended_well, make_dir, sha256_of};

/// The one version that the enclave loads.
pub(crate) const VERSION: &str = "1.24.4";
const WHEEL: &str = "onnxruntime-1.24.4-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl";
pub(crate) const WHEEL_SHA256: &str = "e54ad52e61d2d4618dcff8fa1480ac66b24ee2eab73331322db1049f11ccf330";
const LIBRARY_SHA256: &str = "2d518e11c7767f9fdc4413bdbeb45acf30db504ff76a82fc19d9238a3f9f6c24";
/// Taken out of the wheel, the library and what its licence wants kept with it.
const MEMBERS: [&str; 3] =
    ["onnxruntime/capi/libonnxruntime.so.1.24.4", "onnxruntime/LICENSE", "onnxruntime/ThirdPartyNotices.txt"];
/// The name that the launcher looks for beside its own executable.
pub(crate) const LIBRARY_NAME: &str = "libonnxruntime.so";

/// The library's path: `ORT_DYLIB_PATH` if set, else the pinned one, fetched once and cached.
pub(crate) fn library(workspace: &Workspace) -> Result<PathBuf, ChoreError> {
    match std::env::var_os("ORT_DYLIB_PATH") {
        Some(path) if !path.is_empty() => own_library(PathBuf::from(path)),
        _ => pinned_library(workspace),
    }
}

/// The licence and the notices that belong to the pinned library, for whoever hands it on.
pub(crate) fn notices(workspace: &Workspace) -> Result<Vec<PathBuf>, ChoreError> {
    let cache = pinned_library(workspace)?.with_file_name("");
    Ok(MEMBERS.iter().skip(1).filter_map(|member| Some(cache.join(Path::new(member).file_name()?))).collect())
}

/// Puts the library beside the programs in `dir`; does nothing when it is there already.
pub(crate) fn install(library: &Path, dir: &Path) -> Result<(), ChoreError> {
    make_dir(dir)?;
    let beside = dir.join(LIBRARY_NAME);
    if sha256_of(&beside)? == sha256_of(library)? {
        return Ok(());
    }
    copy_atomic(library, &beside)
}

fn own_library(path: PathBuf) -> Result<PathBuf, ChoreError> {
    let bytes = fs::read(&path).map_err(ChoreError::file(&path))?;
    let found = version_of(&bytes);
    if found.as_deref() != Some(VERSION) {
        return Err(ChoreError::OtherVersion { found });
    }
    if sha256_of(&path)?.as_deref() != Some(LIBRARY_SHA256) {
        eprintln!(
            "note: ORT_DYLIB_PATH names ONNX Runtime {VERSION}, but not the build of the pinned wheel; \
             the enclave's measurement will differ from everybody else's"
        );
    }
    Ok(path)
}

fn pinned_library(workspace: &Workspace) -> Result<PathBuf, ChoreError> {
    let cache = workspace.target().join("onnxruntime").join(VERSION);
    let library = cache.join("libonnxruntime.so.1.24.4");
    match sha256_of(&library)? {
        Some(digest) if digest == LIBRARY_SHA256 => return Ok(library),
        Some(_) => eprintln!("set-up: the cached ONNX Runtime library was altered; fetching it again"),
        None => {}
    }
    make_dir(&cache)?;
    let python = Python::find()?;
    let wheel = cache.join(WHEEL);
    if sha256_of(&wheel)?.as_deref() != Some(WHEEL_SHA256) {
        eprintln!("set-up: fetching ONNX Runtime {VERSION} (17 MB)");
        python.pip(
            "ONNX Runtime",
            &[
                "download",
                "onnxruntime==1.24.4",
                "--no-deps",
                "--only-binary=:all:",
                "--python-version",
                "311",
                "--implementation",
                "cp",
                "--platform",
                "manylinux_2_28_x86_64",
                "--platform",
                "manylinux_2_27_x86_64",
                "--dest",
                &cache.to_string_lossy(),
            ],
        )?;
        demand(&wheel, "the ONNX Runtime wheel", WHEEL_SHA256)?;
    }
    unpack(&python, &wheel, &cache)?;
    demand(&library, "the ONNX Runtime library", LIBRARY_SHA256)?;
    Ok(library)
}

/// Python's own zip reader takes the members out, each written under a temporary name first.
fn unpack(python: &Python, wheel: &Path, cache: &Path) -> Result<(), ChoreError> {
    const SCRIPT: &str = "\
import os, sys, zipfile
wheel, cache, *members = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive:
    for member in members:
        name = os.path.join(cache, os.path.basename(member))
        with open(name + '.tmp', 'wb') as out:
            out.write(archive.read(member))
        os.replace(name + '.tmp', name)
";
    let status = python
        .command()
        .args(["-c", SCRIPT])
        .arg(wheel)
        .arg(cache)
        .args(MEMBERS)
        .status()
        .map_err(|source| ChoreError::Start { program: "python", source })?;
    if ended_well(status)? { Ok(()) } else { Err(ChoreError::Pip("the library out of the wheel")) }
}

fn demand(path: &Path, what: &'static str, expected: &'static str) -> Result<(), ChoreError> {
    match sha256_of(path)? {
        Some(actual) if actual == expected => Ok(()),
        Some(actual) => {
            // A wrong file must not be found again by the next run.
            let _ = fs::remove_file(path);
            Err(ChoreError::Digest { what, expected, actual })
        }
        None => Err(ChoreError::Pip(what)),
    }
}

/// ONNX Runtime exports its functions under one ELF symbol version, `VERS_<version>`.
fn version_of(elf: &[u8]) -> Option<String> {
    const MARK: &[u8] = b"\0VERS_";
    if !elf.starts_with(b"\x7fELF") {
        return None;
    }
    let at = elf.windows(MARK.len()).position(|window| window == MARK)?;
    let rest = &elf[at + MARK.len()..];
    let end = rest.iter().take(32).position(|byte| *byte == 0)?;
    let text = std::str::from_utf8(&rest[..end]).ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.').then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_the_symbol_version_and_nothing_else() {
        let elf = |text: &[u8]| [b"\x7fELF....\0", text].concat();
        assert_eq!(version_of(&elf(b"VERS_1.24.4\0x")).as_deref(), Some("1.24.4"));
        assert_eq!(version_of(&elf(b"VERS_1.23.0\0x")).as_deref(), Some("1.23.0"));
        assert_eq!(version_of(&elf(b"VERS_1.24.4")), None, "no end");
        assert_eq!(version_of(&elf(b"VERS_evil\x1b[2J\0")), None, "not a number");
        assert_eq!(version_of(b"\0VERS_1.24.4\0"), None, "not ELF");
        assert_eq!(version_of(b""), None);
    }
}
