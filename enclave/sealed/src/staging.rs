//! Turns a new directory beside the target into the target itself, whole or not at all.
//! It does not outlive a killed process: a `.vouchsafe-seal-*` directory may then be left and can be deleted.

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
    written: u64,
}

impl Staging {
    /// Makes the directory beside `target`, which must not exist.
    pub(crate) fn create(target: &Path) -> Result<Self, SealedError> {
        if target.file_name().is_none() {
            return Err(SealedError::SealTarget);
        }
        absent(target)?;
        let mut random = [0; 8];
        SystemRandom::new().fill(&mut random).map_err(|_| SealedError::SealRandom)?;
        let path = parent(target).join(format!(".vouchsafe-seal-{:016x}", u64::from_be_bytes(random)));
        fs::create_dir(&path).map_err(failed)?;
        Ok(Self { path, target: target.to_owned(), written: 0 })
    }

    /// Makes the file `name`.
    pub(crate) fn file(&self, name: &str) -> Result<File, SealedError> {
        File::create_new(self.path.join(name)).map_err(failed)
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

    /// Gives the finished package its name, durably, and tells how many bytes it has.
    pub(crate) fn commit(mut self) -> Result<u64, SealedError> {
        sync(&File::open(&self.path).map_err(failed)?)?;
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
        // From here on the package stands: nothing is left to remove.
        self.path.clear();
        sync(&File::open(parent(&self.target)).map_err(failed)?)?;
        Ok(self.written)
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

fn failed(e: io::Error) -> SealedError {
    SealedError::SealWrite(e.kind())
}
