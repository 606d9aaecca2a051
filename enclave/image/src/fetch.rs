//! Turns a lock into the bytes of its packages, out of a cache folder or the archive, and the archive of today into a new lock.
//! It does not say that a package is good: the lock's digest says it is the one that somebody looked at.
//!
//! The cache holds each package under its digest. When all are there, neither apt nor a network is needed.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::apt::{Apt, Wanted};
use crate::error::ImageError;
use crate::folder::{Part, open};
use crate::lock::{FIRMWARE, Input, LIBRARIES, Lock, is_kernel};
use crate::sources::Mirror;

/// Where today's packages are looked for. The kernel's own name changes with each version: this one always depends on it.
const KERNEL: (&str, &str) = ("linux-image-cloud-amd64", "bookworm-backports");
const FIRMWARE_SUITE: &str = "sid";
const LIBRARY_SUITE: &str = "bookworm";

/// Where packages come from.
#[derive(Debug, Clone)]
pub struct Origin {
    /// A folder that keeps packages and apt's lists; made when it is missing.
    pub cache: PathBuf,
    /// A Debian archive to use instead of the one that this machine's apt is set up with.
    pub mirror: Option<String>,
    /// The folder of apt's programs: `/usr/bin` wherever there is apt.
    pub programs: PathBuf,
    /// The folder of the system's apt configuration: `/etc/apt`.
    pub etc: PathBuf,
}

/// One package of a lock, with its bytes.
pub struct Fetched {
    /// What was locked.
    pub input: Input,
    /// The `.deb`; its digest is the locked one.
    pub bytes: Vec<u8>,
}

/// Gets every package of a lock; `say` hears what is being done.
///
/// # Errors
/// [`ImageError::LockStale`] when the archive no longer carries one, [`ImageError::LockDigest`] when it carries another file
/// under the same version, and what keeps apt from working.
pub fn fetch(lock: &Lock, origin: &Origin, say: &mut dyn FnMut(&str)) -> Result<Vec<Fetched>, ImageError> {
    let cache = Cache::open(&origin.cache)?;
    let mut fetched = Vec::new();
    let mut apt = None;
    for input in lock.packages() {
        let bytes = match cache.get(input) {
            Some(bytes) => bytes,
            None => {
                if apt.is_none() {
                    let suites: Vec<&str> = lock.packages().iter().map(|input| input.suite.as_str()).collect();
                    apt = Some(origin.apt(&suites, Wanted::Locked, say)?);
                }
                let Some(apt) = &apt else { return Err(ImageError::NoApt) };
                say(&format!("fetching {} ({} kB)", input.label(), input.bytes / 1000));
                cache.put(apt, input)?
            }
        };
        fetched.push(Fetched { input: input.clone(), bytes });
    }
    Ok(fetched)
}

/// Asks the archive for today's packages and locks them; `mtime` is kept as given.
///
/// # Errors
/// [`ImageError::NotFound`] when the archive lacks one, and what keeps apt from working.
pub fn resolve(mtime: u32, origin: &Origin, say: &mut dyn FnMut(&str)) -> Result<Lock, ImageError> {
    let _cache = Cache::open(&origin.cache)?;
    let apt = origin.apt(&[KERNEL.1, FIRMWARE_SUITE, LIBRARY_SUITE], Wanted::Newest, say)?;
    let (package, suite) = KERNEL;
    let version = newest(&apt, package, package, suite)?;
    let about = apt.show(package, &version)?;
    let depends = about.field("Depends").unwrap_or_default();
    let kernel = depends
        .split(',')
        .filter_map(|dependency| dependency.split_whitespace().next())
        .find(|name| is_kernel(name))
        .ok_or(ImageError::NotFound { package })?;
    let mut packages = vec![locked(&apt, kernel, package, suite)?];
    packages.push(locked(&apt, FIRMWARE, FIRMWARE, FIRMWARE_SUITE)?);
    for library in LIBRARIES {
        packages.push(locked(&apt, library, library, LIBRARY_SUITE)?);
    }
    Lock::new(mtime, packages)
}

fn newest(apt: &Apt, name: &str, ours: &'static str, suite: &str) -> Result<String, ImageError> {
    apt.versions(name, suite)?.into_iter().next().ok_or(ImageError::NotFound { package: ours })
}

fn locked(apt: &Apt, name: &str, ours: &'static str, suite: &str) -> Result<Input, ImageError> {
    let version = newest(apt, name, ours, suite)?;
    let about = apt.show(name, &version)?;
    let field = |field| about.field(field).map(str::to_owned).ok_or(ImageError::NotFound { package: ours });
    Ok(Input {
        name: name.to_owned(),
        architecture: field("Architecture")?,
        bytes: field("Size")?.parse().map_err(|_| ImageError::NotFound { package: ours })?,
        sha256: field("SHA256")?,
        suite: suite.to_owned(),
        version,
    })
}

impl Origin {
    fn apt(&self, suites: &[&str], wanted: Wanted, say: &mut dyn FnMut(&str)) -> Result<Apt, ImageError> {
        let mirror = match &self.mirror {
            Some(uri) => Mirror::at(uri)?,
            None => Mirror::of_system(&self.etc)?,
        };
        let home = std::path::absolute(self.cache.join("apt")).map_err(ImageError::file(&self.cache))?;
        let apt = Apt::set_up(&home, &self.programs, &mirror, suites, wanted)?;
        say("fetching the archive's lists of packages");
        apt.update()?;
        Ok(apt)
    }
}

/// Packages by digest. One process at a time: apt keeps its lists there, too.
struct Cache {
    dir: PathBuf,
    _lock: File,
}

impl Cache {
    fn open(dir: &Path) -> Result<Self, ImageError> {
        let packages = dir.join("packages");
        fs::create_dir_all(&packages).map_err(ImageError::file(&packages))?;
        let path = dir.join("lock");
        let lock = File::create(&path).map_err(ImageError::file(&path))?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive)
            .map_err(|error| ImageError::file(&path)(error.into()))?;
        Ok(Self { dir: packages, _lock: lock })
    }

    fn path(&self, input: &Input) -> PathBuf {
        self.dir.join(format!("{}.deb", input.sha256))
    }

    /// The package's bytes, if the cache has them; a file that was altered is as good as none.
    fn get(&self, input: &Input) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        open(&self.path(input)).ok()?.take(input.bytes + 1).read_to_end(&mut bytes).ok()?;
        (Part::of(&bytes) == input.part()).then_some(bytes)
    }

    /// Fetches a package, compares it with the lock and keeps it.
    fn put(&self, apt: &Apt, input: &Input) -> Result<Vec<u8>, ImageError> {
        if !apt.versions(&input.name, &input.suite)?.contains(&input.version) {
            return Err(ImageError::LockStale { package: input.label() });
        }
        let empty =
            tempfile::Builder::new().prefix(".fetch-").tempdir_in(&self.dir).map_err(ImageError::file(&self.dir))?;
        let file = apt.download(input, empty.path())?;
        let mut bytes = Vec::new();
        open(&file)?.take(input.bytes + 1).read_to_end(&mut bytes).map_err(ImageError::file(&file))?;
        let found = Part::of(&bytes);
        if found != input.part() {
            let expected = input.sha256.clone();
            return Err(ImageError::LockDigest { package: input.label(), expected, found: found.sha256 });
        }
        let path = self.path(input);
        fs::rename(&file, &path).map_err(ImageError::file(&path))?;
        Ok(bytes)
    }
}

impl Input {
    fn part(&self) -> Part {
        Part { bytes: self.bytes, sha256: self.sha256.clone() }
    }
}
