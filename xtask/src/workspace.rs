//! Turns the environment that cargo gives into the paths of this workspace, and files into digests.
//! It does not read any source file and does not know what is built.

use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use ring::digest;

use crate::error::ChoreError;

/// Where things are.
pub(crate) struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

impl Workspace {
    /// From `CARGO_MANIFEST_DIR` and `CARGO_TARGET_DIR`, which cargo and the user set.
    pub(crate) fn find() -> Result<Self, ChoreError> {
        let manifest_dir = PathBuf::from(
            std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| OsString::from(env!("CARGO_MANIFEST_DIR"))),
        );
        let root = manifest_dir
            .parent()
            .ok_or_else(|| ChoreError::Usage("start this with `cargo xtask`".to_owned()))?
            .to_owned();
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(dir) => root.join(dir),
            None => root.join("target"),
        };
        Ok(Self { root, target })
    }

    /// The directory of the workspace's Cargo.toml.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Cargo's target directory; everything that is fetched or made stays under it.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// The cargo that runs this very chore.
    pub(crate) fn cargo(&self) -> std::process::Command {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
        let mut command = std::process::Command::new(cargo);
        command.current_dir(&self.root);
        // What cargo tells this program about xtask is not meant for the next cargo.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST") {
                command.env_remove(&name);
            }
        }
        command
    }
}

/// Makes a directory and its parents.
pub(crate) fn make_dir(path: &Path) -> Result<(), ChoreError> {
    fs::create_dir_all(path).map_err(ChoreError::file(path))
}

/// The SHA-256 of a file in lower-case hex, or `None` when there is no such file.
pub(crate) fn sha256_of(path: &Path) -> Result<Option<String>, ChoreError> {
    let mut file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(ChoreError::file(path)(error)),
    };
    let mut context = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0_u8; 1 << 20];
    loop {
        let n = file.read(&mut buffer).map_err(ChoreError::file(path))?;
        if n == 0 {
            return Ok(Some(hex::encode(context.finish())));
        }
        context.update(&buffer[..n]);
    }
}

/// Copies a file under a temporary name and renames it, so that a reader never sees half of it.
pub(crate) fn copy_atomic(from: &Path, to: &Path) -> Result<(), ChoreError> {
    let mut name = to.as_os_str().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = PathBuf::from(name);
    fs::copy(from, &temporary).map_err(ChoreError::file(from))?;
    fs::rename(&temporary, to).map_err(|error| {
        let _ = fs::remove_file(&temporary);
        ChoreError::file(to)(error)
    })
}

/// How a child ended: `Ok(true)` for success, an error when a Ctrl-C ended it.
pub(crate) fn ended_well(status: std::process::ExitStatus) -> Result<bool, ChoreError> {
    use std::os::unix::process::ExitStatusExt;
    const SIGINT: i32 = 2;
    if status.signal() == Some(SIGINT) || status.code() == Some(130) {
        return Err(ChoreError::Interrupted);
    }
    Ok(status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_has_no_digest_and_an_empty_one_the_known_digest() {
        let dir = std::env::temp_dir().join(format!("xtask-digest-{}", std::process::id()));
        make_dir(&dir).unwrap();
        assert!(sha256_of(&dir.join("absent")).unwrap().is_none());
        fs::write(dir.join("empty"), b"").unwrap();
        let copy = dir.join("copy");
        copy_atomic(&dir.join("empty"), &copy).unwrap();
        assert_eq!(
            sha256_of(&copy).unwrap().unwrap(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert!(sha256_of(&dir).is_err(), "a directory is not a file");
        fs::remove_dir_all(&dir).unwrap();
    }
}
