//! Turns `VOUCHSAFE_BIN_DIR` into the paths of the built programs, refusing ones older than their sources.
//! It does not build anything: `cargo xtask test` does, and sets the variable.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The four programs of a release.
pub const PROGRAMS: [&str; 4] = ["vouchsafe", "vouchsafe-enclave", "vouchsafe-launch", "vouchsafe-simulator"];

/// The workspace's root directory.
#[must_use]
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

/// The directory with all programs and the ONNX Runtime library, fresh.
///
/// # Panics
/// When `VOUCHSAFE_BIN_DIR` is not set, a program is missing, or one is older than a file it was built from.
#[must_use]
pub fn directory() -> PathBuf {
    let Some(dir) = std::env::var_os("VOUCHSAFE_BIN_DIR").map(PathBuf::from) else {
        panic!("VOUCHSAFE_BIN_DIR is not set: run this through `cargo xtask test`");
    };
    for name in PROGRAMS {
        if let Err(reason) = fresh(&dir, name) {
            panic!("{name} in VOUCHSAFE_BIN_DIR {reason}: run this through `cargo xtask test`");
        }
    }
    dir
}

/// The folder of a guest image: what `VOUCHSAFE_IMAGE` names, which `cargo xtask test` sets where one was built. Without one the
/// test says by name that it did not run.
///
/// # Panics
/// When there is none and `VOUCHSAFE_REQUIRE_VM` is set.
#[must_use]
pub fn image(test: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("VOUCHSAFE_IMAGE").map(PathBuf::from);
    if folder.is_none() {
        assert!(std::env::var_os("VOUCHSAFE_REQUIRE_VM").is_none(), "{test}: there is no guest image");
        println!("NOT RUN: {test}: there is no guest image; `cargo xtask image` builds one");
    }
    folder
}

/// Whether a QEMU is installed; without one the test says by name that it did not run.
///
/// # Panics
/// When there is none and `VOUCHSAFE_REQUIRE_VM` is set.
#[must_use]
pub fn has_qemu(test: &str) -> bool {
    let found =
        ["/usr/local/bin", "/usr/bin", "/bin"].iter().any(|dir| Path::new(dir).join("qemu-system-x86_64").is_file());
    if !found {
        assert!(std::env::var_os("VOUCHSAFE_REQUIRE_VM").is_none(), "{test}: there is no QEMU");
        println!("NOT RUN: {test}: there is no QEMU; `vouchsafe doctor` says how to install one");
    }
    found
}

/// The path of one program; see [`directory`].
///
/// # Panics
/// As [`directory`], and for a name that is no program of ours.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    assert!(PROGRAMS.contains(&name), "there is no program {name}");
    directory().join(name)
}

/// Compares a program with the sources that cargo's dep-info file beside it lists.
fn fresh(dir: &Path, name: &str) -> Result<(), String> {
    let built = modified(&dir.join(name)).ok_or("is missing")?;
    let list = std::fs::read_to_string(dir.join(format!("{name}.d"))).map_err(|_| "has no list of its sources")?;
    for source in sources(&list) {
        match modified(&source) {
            Some(time) if time <= built => {}
            Some(_) => return Err(format!("is older than {}", source.display())),
            None => return Err(format!("was built from {}, which is gone", source.display())),
        }
    }
    Ok(())
}

/// The right-hand side of the one rule in a dep-info file; a space in a path is written `\ `.
fn sources(list: &str) -> Vec<PathBuf> {
    let Some((_, right)) = list.split_once(": ") else { return Vec::new() };
    let marked = right.replace("\\ ", "\0");
    marked.split_whitespace().map(|path| PathBuf::from(path.replace('\0', " "))).collect()
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|about| about.modified()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_older_than_its_source_is_stale() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        assert_eq!(fresh(dir.path(), "p").unwrap_err(), "is missing");
        std::fs::write(at("a b.rs"), "").unwrap();
        std::fs::write(at("p"), "").unwrap();
        assert_eq!(fresh(dir.path(), "p").unwrap_err(), "has no list of its sources");

        let source = at("a b.rs").display().to_string().replace(' ', "\\ ");
        std::fs::write(at("p.d"), format!("{}: {source}\n", at("p").display())).unwrap();
        assert_eq!(fresh(dir.path(), "p"), Ok(()));
        let later = SystemTime::now() + std::time::Duration::from_secs(60);
        std::fs::File::open(at("a b.rs")).unwrap().set_modified(later).unwrap();
        assert!(fresh(dir.path(), "p").unwrap_err().starts_with("is older than"));
        std::fs::remove_file(at("a b.rs")).unwrap();
        assert!(fresh(dir.path(), "p").unwrap_err().ends_with("which is gone"));
    }
}
