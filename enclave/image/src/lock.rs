//! Turns a lock file into the exact list of packages that an image is made of, and two lock files into their difference.
//! It does not fetch anything, and a digest in it says only that it is the same file as last time, not that the file is good.
//!
//! The file is TOML: `version = 1`, `mtime`, and one `[[package]]` per input with `name`, `version`, `suite`, `architecture`,
//! `bytes` and `sha256` of the `.deb`. Everything is required; nothing else is allowed.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::error::ImageError;
use crate::folder::is_sha256;

/// The lock file that this program was made with.
const COMMITTED: &str = include_str!("../image.lock");
/// The largest lock file.
const MAX_TEXT: usize = 64 << 10;
/// The largest package: a Debian kernel has about 30 MB.
const MAX_PACKAGE: u64 = 512 << 20;
/// The packages that libraries are taken from.
pub(crate) const LIBRARIES: [&str; 3] = ["libc6", "libgcc-s1", "libstdc++6"];
/// The package that the firmware is taken from.
pub(crate) const FIRMWARE: &str = "ovmf-amdsev";
/// The kernel's package has its version in its name, between these two.
const KERNEL: (&str, &str) = ("linux-image-", "-cloud-amd64");

/// Exactly what an image is made of, besides the enclave program and ONNX Runtime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// The version of this format: 1.
    version: u32,
    /// The one time that all entries of the initrd carry, in seconds since 1970.
    mtime: u32,
    /// One kernel, one firmware and the libraries, sorted by name.
    #[serde(rename = "package")]
    packages: Vec<Input>,
}

/// One locked package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The suite that it was found in; for a stable suite its updates and security updates count as the same.
    pub suite: String,
    /// `amd64` or `all`.
    pub architecture: String,
    /// The length of the `.deb`.
    pub bytes: u64,
    /// SHA-256 of the `.deb`, in hex.
    pub sha256: String,
}

/// What is different between two locks in one package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What the package is for: `kernel`, `firmware`, or a library package's name.
    pub role: String,
    /// What it was.
    pub before: Input,
    /// What it is.
    pub after: Input,
}

impl Lock {
    /// The lock file that this program was made with.
    ///
    /// # Errors
    /// None in practice: a test reads it.
    pub fn committed() -> Result<Self, ImageError> {
        Self::parse(COMMITTED)
    }

    /// Reads a lock file.
    ///
    /// # Errors
    /// [`ImageError::Lock`] with the reason.
    pub fn parse(text: &str) -> Result<Self, ImageError> {
        if text.len() > MAX_TEXT {
            return Err(ImageError::Lock("it has more than 64 KiB"));
        }
        let lock: Self = toml::from_str(text)
            .map_err(|_| ImageError::Lock("it is not TOML with exactly `version`, `mtime` and `[[package]]` tables"))?;
        if lock.version != 1 {
            return Err(ImageError::Lock("its version is not 1"));
        }
        Self::new(lock.mtime, lock.packages)
    }

    /// A lock of these packages.
    ///
    /// # Errors
    /// [`ImageError::Lock`] when one is malformed, missing or too many.
    pub fn new(mtime: u32, mut packages: Vec<Input>) -> Result<Self, ImageError> {
        packages.iter().try_for_each(Input::well_formed)?;
        packages.sort_by(|a, b| a.name.cmp(&b.name));
        let mut roles: Vec<&str> = packages.iter().map(Input::role).collect();
        roles.sort_unstable();
        let mut wanted = [&["firmware", "kernel"][..], &LIBRARIES].concat();
        wanted.sort_unstable();
        if roles != wanted {
            return Err(ImageError::Lock(
                "it must name one cloud kernel, ovmf-amdsev, libc6, libgcc-s1 and libstdc++6",
            ));
        }
        Ok(Self { version: 1, mtime, packages })
    }

    /// The one time that all entries of the initrd carry.
    #[must_use]
    pub fn mtime(&self) -> u32 {
        self.mtime
    }

    /// All packages, sorted by name.
    #[must_use]
    pub fn packages(&self) -> &[Input] {
        &self.packages
    }

    /// What changed from this lock to a newer one.
    #[must_use]
    pub fn changes(&self, newer: &Self) -> Vec<Change> {
        // Both have the same roles, once each.
        let pairs = self.packages.iter().filter_map(|before| {
            let after = newer.packages.iter().find(|after| after.role() == before.role())?;
            (after != before).then(|| (before.clone(), after.clone()))
        });
        pairs.map(|(before, after)| Change { role: before.role().to_owned(), before, after }).collect()
    }

    /// The lock as a file, the same bytes every time.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "# What a guest image is made of, besides the enclave and ONNX Runtime. `vouchsafe image lock` writes it.\n\
             version = 1\nmtime = {}\n",
            self.mtime
        );
        for Input { name, version, suite, architecture, bytes, sha256 } in &self.packages {
            // No field can hold a quote: `well_formed` allows none.
            let _ = write!(
                text,
                "\n[[package]]\nname = \"{name}\"\nversion = \"{version}\"\nsuite = \"{suite}\"\n\
                 architecture = \"{architecture}\"\nbytes = {bytes}\nsha256 = \"{sha256}\"\n"
            );
        }
        text
    }
}

impl Input {
    /// What the package is for: `kernel`, `firmware`, or its own name for one that libraries are taken from.
    #[must_use]
    pub fn role(&self) -> &str {
        if self.name == FIRMWARE {
            "firmware"
        } else if is_kernel(&self.name) {
            "kernel"
        } else {
            &self.name
        }
    }

    /// Its name and version, for a person.
    pub(crate) fn label(&self) -> String {
        format!("{} {}", self.name, self.version)
    }

    /// These fields become arguments of apt: each has the characters that Debian's policy allows, and cannot begin with a dash.
    pub(crate) fn well_formed(&self) -> Result<(), ImageError> {
        // Debian Policy 5.6.1 and 5.6.12.
        let name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte);
        let version = |byte: u8| byte.is_ascii_alphanumeric() || b".+-:~".contains(&byte);
        let made_of = |text: &str, allowed: &dyn Fn(u8) -> bool| {
            text.len() <= 100
                && text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
                && text.bytes().all(allowed)
        };
        if !made_of(&self.name, &name) || !made_of(&self.suite, &name) {
            return Err(ImageError::Lock("a name or suite has characters that Debian does not allow"));
        }
        if !made_of(&self.version, &version) {
            return Err(ImageError::Lock("a version has characters that Debian does not allow"));
        }
        if !matches!(self.architecture.as_str(), "amd64" | "all") {
            return Err(ImageError::Lock("an architecture is neither amd64 nor all"));
        }
        if !(1..=MAX_PACKAGE).contains(&self.bytes) {
            return Err(ImageError::Lock("a package is empty or has more than 512 MiB"));
        }
        if !is_sha256(&self.sha256) {
            return Err(ImageError::Lock("a digest is not 64 lower-case hex digits"));
        }
        Ok(())
    }
}

/// Whether a package of this name holds a cloud kernel itself, and not only a dependency on one.
pub(crate) fn is_kernel(name: &str) -> bool {
    let version = name.strip_prefix(KERNEL.0).and_then(|rest| rest.strip_suffix(KERNEL.1));
    version.is_some_and(|version| version.starts_with(|first: char| first.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_lock_is_as_it_would_be_written() {
        assert_eq!(Lock::committed().unwrap().to_text(), COMMITTED);
    }

    #[test]
    fn a_change_names_what_was_and_what_is() {
        let old = Lock::committed().unwrap();
        assert_eq!(old.changes(&old), []);
        let mut packages = old.packages.clone();
        let kernel = packages.iter_mut().find(|input| input.role() == "kernel").unwrap();
        kernel.name = "linux-image-99.1+deb12-cloud-amd64".to_owned();
        let new = Lock::new(old.mtime, packages).unwrap();
        let changes = old.changes(&new);
        assert_eq!((changes.len(), changes[0].role.as_str()), (1, "kernel"));
        assert_eq!(changes[0].after.name, "linux-image-99.1+deb12-cloud-amd64");
    }
}
