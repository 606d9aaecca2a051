//! Turns what can go wrong between a lock file and a written image folder into a fact, a stable code, advice and an exit status.
//! It does not cover a wrong program in the right place: only the measurement tells that.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why no image was built, read or compared.
#[derive(Debug)]
pub enum ImageError {
    /// A path inside the image is empty, absolute, longer than 255 bytes, not plain ASCII, or walks upwards.
    PathInvalid,
    /// Two items want the same path, or a file stands where another item needs a directory.
    PathTaken,
    /// A file has more than 1 GiB, or the whole image would have.
    TooLarge,
    /// A file or folder of this machine cannot be read or written.
    File {
        /// The caller's own path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// `image.json` is not of the described form.
    Manifest(&'static str),
    /// A file is not the one that the manifest names.
    Mismatch {
        /// Its name in the folder.
        file: &'static str,
        /// The SHA-256 that the manifest names.
        expected: String,
        /// The SHA-256 of the file.
        found: String,
    },
    /// Something that is no image folder stands where one should be written.
    OutTaken {
        /// The caller's own path.
        path: PathBuf,
    },
    /// The lock file is not of the described form.
    Lock(&'static str),
    /// The archive no longer carries a locked package in the locked version.
    LockStale {
        /// The package, with its locked version.
        package: String,
    },
    /// A fetched package is not the locked one.
    LockDigest {
        /// The package, with its locked version.
        package: String,
        /// The locked SHA-256.
        expected: String,
        /// The SHA-256 of what was fetched.
        found: String,
    },
    /// This machine has no apt, and a package is not in the cache.
    NoApt,
    /// This machine's apt knows no Debian archive.
    NoArchive,
    /// apt ended with an error.
    Apt {
        /// What it was doing.
        doing: &'static str,
        /// The last line of what it said, made printable.
        said: String,
    },
    /// The archive has no package to lock under this name.
    NotFound {
        /// Our own name for it.
        package: &'static str,
    },
    /// A package, or a file out of it, is not what its name promises.
    Package {
        /// The package.
        package: String,
        /// What is wrong, in our words.
        fact: &'static str,
    },
    /// The package's firmware is not one whose doors this program knows how to shut (why).
    Firmware(&'static str),
    /// The kernel lacks something that the guest cannot do without.
    Kernel {
        /// The module or option, one of ours.
        lacks: &'static str,
    },
    /// A kernel module needs another one that is not loaded before it.
    ModuleOrder {
        /// The module, one of ours.
        module: &'static str,
    },
    /// A program or library for the guest is no ELF file of this platform.
    NotElf {
        /// Which one.
        file: String,
    },
    /// A program or library needs a library that no locked package carries.
    Library {
        /// Who needs it.
        file: String,
        /// What it needs.
        needs: String,
    },
    /// A program or library needs a newer version of a library than the locked one.
    LibraryOld {
        /// Who needs it.
        file: String,
        /// The library.
        library: String,
        /// The symbol version, such as `GLIBC_2.39`.
        needs: String,
    },
}

impl ImageError {
    /// The stable name of this failure.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::PathInvalid => "IMAGE_PATH_INVALID",
            Self::PathTaken => "IMAGE_PATH_TAKEN",
            Self::TooLarge => "IMAGE_TOO_LARGE",
            Self::File { .. } => "IMAGE_FILE",
            Self::Manifest(_) => "IMAGE_MANIFEST",
            Self::Mismatch { .. } => "IMAGE_MISMATCH",
            Self::OutTaken { .. } => "IMAGE_OUT_TAKEN",
            Self::Lock(_) => "LOCK_INVALID",
            Self::LockStale { .. } => "LOCK_STALE",
            Self::LockDigest { .. } => "LOCK_DIGEST",
            Self::NoApt => "IMAGE_NO_APT",
            Self::NoArchive => "IMAGE_NO_ARCHIVE",
            Self::Apt { .. } => "IMAGE_APT",
            Self::NotFound { .. } => "IMAGE_PACKAGE_MISSING",
            Self::Package { .. } => "IMAGE_PACKAGE",
            Self::Firmware(_) => "IMAGE_FIRMWARE",
            Self::Kernel { .. } => "IMAGE_KERNEL",
            Self::ModuleOrder { .. } => "IMAGE_MODULE_ORDER",
            Self::NotElf { .. } => "IMAGE_NOT_ELF",
            Self::Library { .. } => "IMAGE_LIBRARY_MISSING",
            Self::LibraryOld { .. } => "IMAGE_LIBRARY_OLD",
        }
    }

    /// The exit status of a command that ends with this failure.
    #[must_use]
    pub fn exit(&self) -> u8 {
        match self {
            Self::PathInvalid | Self::PathTaken | Self::TooLarge => 1,
            Self::Mismatch { .. } | Self::Manifest(_) | Self::LockDigest { .. } | Self::Package { .. } => 6,
            Self::LockStale { .. } | Self::Apt { .. } | Self::NotFound { .. } => 8,
            Self::File { .. }
            | Self::OutTaken { .. }
            | Self::Lock(_)
            | Self::NoApt
            | Self::NoArchive
            | Self::Firmware(_)
            | Self::Kernel { .. }
            | Self::ModuleOrder { .. }
            | Self::NotElf { .. }
            | Self::Library { .. }
            | Self::LibraryOld { .. } => 9,
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Self::PathInvalid => "write paths inside the image as `usr/bin/name`",
            Self::PathTaken => "list each path once",
            Self::TooLarge => "an initrd holds the program and its libraries; models come on a disk of their own",
            Self::File { .. } => "look at the path, its permissions and whether it is a regular file",
            Self::Manifest(_) => "build the image anew with `vouchsafe image build`",
            Self::Mismatch { .. } => "do not launch it; build the image anew with `vouchsafe image build`",
            Self::OutTaken { .. } => "name a folder that does not exist yet; only an image folder is ever replaced",
            Self::Lock(_) => "write a new one with `vouchsafe image lock --out image.lock`",
            Self::LockStale { .. } => {
                "run `vouchsafe image lock --out image.lock`, read what changed, then build with `--lock image.lock`; \
                 the measurement changes with it"
            }
            Self::LockDigest { .. } => "do not use it; look at the archive that this machine's apt is set up with",
            Self::NoApt => {
                "build on Debian or Ubuntu (or in such a container), or bring a cache folder that was filled there: `--cache DIR`"
            }
            Self::NoArchive => {
                "name a Debian archive with `--mirror URL` (Ubuntu: also apt-get install debian-archive-keyring)"
            }
            Self::Apt { .. } => "look at the network, the proxy that apt is set up with, and free space",
            Self::NotFound { .. } => "look at the archive: it should be a whole Debian mirror",
            Self::Package { .. } => "lock another version of it: `vouchsafe image lock --out image.lock`",
            Self::Firmware(_) => {
                "lock the version of ovmf-amdsev that this program was made for; another needs a new look at what it starts (SECURITY.md)"
            }
            Self::Kernel { .. } | Self::ModuleOrder { .. } => {
                "lock another version of the kernel; the cloud kernel of bookworm-backports has what the guest needs"
            }
            Self::NotElf { .. } => "name the enclave program and libonnxruntime.so as built for Linux on x86_64",
            Self::Library { .. } => "build the program without that library; `cargo xtask image` builds the right one",
            Self::LibraryOld { .. } => {
                "build the enclave on a system that is no newer than the locked libraries (Debian 12), or lock newer ones"
            }
        }
    }

    /// For a `map_err` that keeps the path.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PathInvalid => f.write_str("a path inside the image is not of the allowed form"),
            Self::PathTaken => f.write_str("two items of the image claim the same path"),
            Self::TooLarge => f.write_str("the image would have more than 1 GiB"),
            // Words of our own, or of the standard library; the system's have numbers in them.
            Self::File { path, source } if source.get_ref().is_some() => write!(f, "{}: {source}", path.display()),
            Self::File { path, source } => write!(f, "{}: {}", path.display(), source.kind()),
            Self::Manifest(fact) => write!(f, "image.json is not an image manifest: {fact}"),
            Self::Mismatch { file, expected, found } => {
                write!(f, "`{file}` is not the file that image.json names: SHA-256 expected {expected}, found {found}")
            }
            Self::OutTaken { path } => write!(f, "{} is there already, and is no image folder", path.display()),
            Self::Lock(fact) => write!(f, "the lock file is not one of an image: {fact}"),
            Self::LockStale { package } => write!(f, "the archive no longer carries the locked {package}"),
            Self::LockDigest { package, expected, found } => {
                write!(f, "{package} is not the locked file: SHA-256 expected {expected}, found {found}")
            }
            Self::NoApt => f.write_str("this machine has no apt, and not all locked packages are in the cache"),
            Self::NoArchive => f.write_str("this machine's apt knows no Debian archive"),
            Self::Apt { doing, said } if said.is_empty() => write!(f, "apt ended with an error while {doing}"),
            Self::Apt { doing, said } => write!(f, "apt ended with an error while {doing}: {said}"),
            Self::NotFound { package } => write!(f, "the archive has no {package}"),
            Self::Package { package, fact } => write!(f, "package {package}: {fact}"),
            Self::Firmware(fact) => {
                write!(f, "the firmware cannot be kept from starting what nobody measured: {fact}")
            }
            Self::Kernel { lacks } => write!(f, "the kernel lacks {lacks}, which the guest needs"),
            Self::ModuleOrder { module } => {
                write!(f, "the kernel module {module} needs another one that is not loaded before it")
            }
            Self::NotElf { file } => write!(f, "{file} is no ELF file for Linux on x86_64"),
            Self::Library { file, needs } => write!(f, "{file} needs {needs}, which no locked package carries"),
            Self::LibraryOld { file, library, needs } => {
                write!(f, "{file} needs {needs} of {library}, and the locked one is older")
            }
        }
    }
}

impl std::error::Error for ImageError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File { source, .. } => Some(source),
            _ => None,
        }
    }
}
