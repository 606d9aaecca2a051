//! Turns a new directory beside the target into the target itself, whole or not at all.
//! It does not outlive a killed process: a `.vouchsafe-seal-*` directory may then be left and can be deleted.
//! Whatever can be told before the long work is told then: that the target is there, that its directory cannot be opened.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use ring::rand::{SecureRandom as _, SystemRandom};
use rustix::{
    fs::{CWD, RenameFlags, renameat_with},
    io::Errno,
};

use crate::SealedError;

/// A package being written. Dropped before [`Staging::commit`], it removes itself.
pub(crate) struct Staging {
    path: PathBuf,
    target: PathBuf,
    /// The directory of both, to make the new name durable.
    parent: File,
    written: u64,
}

impl Staging {
    /// Makes the directory beside `target`, which must not exist.
    pub(crate) fn create(target: &Path) -> Result<Self, SealedError> {
        if target.file_name().is_none() {
            return Err(SealedError::SealTarget);
        }
        absent(target)?;
        let parent = File::open(parent(target)).map_err(failed)?;
        let mut random = [0; 8];
        SystemRandom::new().fill(&mut random).map_err(|_| SealedError::SealRandom)?;
        let path = self::parent(target).join(format!(".vouchsafe-seal-{:016x}", u64::from_be_bytes(random)));
        fs::create_dir(&path).map_err(failed)?;
        Ok(Self { path, target: target.to_owned(), parent, written: 0 })
    }

    /// Makes the file `name`.
    pub(crate) fn file(&self, name: &str) -> Result<File, SealedError> {
        File::create_new(self.path.join(name)).map_err(failed)
    }

    /// Makes a file without a name, on the same disk, for as long as it is open.
    pub(crate) fn scratch(&self) -> Result<File, SealedError> {
        let path = self.path.join("scratch");
        let file = File::options().read(true).write(true).create_new(true).open(&path).map_err(failed)?;
        fs::remove_file(&path).map_err(failed)?;
        Ok(file)
    }

    /// Appends to a file of this package.
    pub(crate) fn append(&mut self, file: &mut File, bytes: &[u8]) -> Result<(), SealedError> {
        file.write_all(bytes).map_err(failed)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Makes the file `name` of these bytes, durably.
    pub(crate) fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), SealedError> {
        let mut file = self.file(name)?;
        self.append(&mut file, bytes)?;
        sync(&file)
    }

    /// How many bytes the package has.
    pub(crate) const fn written(&self) -> u64 {
        self.written
    }

    /// Makes the names of all its files durable: the package is whole, under its own name only.
    pub(crate) fn finish(&self) -> Result<(), SealedError> {
        sync(&File::open(&self.path).map_err(failed)?)
    }

    /// Gives the finished package its name, durably. After an error it does not have that name.
    pub(crate) fn commit(mut self) -> Result<(), SealedError> {
        match renameat_with(CWD, &self.path, CWD, &self.target, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Err(SealedError::SealTargetExists),
            // A file system without the no-replace form.
            Err(Errno::INVAL | Errno::NOSYS) => {
                absent(&self.target)?;
                fs::rename(&self.path, &self.target).map_err(failed)?;
            }
            Err(e) => return Err(failed(e.into())),
        }
        if let Err(error) = sync(&self.parent) {
            // The caller hears that there is no package, so there is none. If even this fails, nothing more can be done here.
            let _ = fs::rename(&self.target, &self.path);
            return Err(error);
        }
        // From here on the package stands: nothing is left to remove.
        self.path.clear();
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            // An error here cannot be told; the name says what may be deleted.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Makes a file's contents durable.
pub(crate) fn sync(file: &File) -> Result<(), SealedError> {
    file.sync_all().map_err(failed)
}

fn absent(target: &Path) -> Result<(), SealedError> {
    match target.symlink_metadata() {
        Ok(_) => Err(SealedError::SealTargetExists),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(failed(e)),
    }
}

fn parent(target: &Path) -> &Path {
    target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

pub(crate) fn failed(e: io::Error) -> SealedError {
    SealedError::SealWrite(e.kind())
}
