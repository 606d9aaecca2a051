//! Turns names beneath one folder into the files of configfs-tsm: made, written, read up to a cap, removed.
//! What stands in them is the kernel's word, and is not looked at here.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags};

use super::tsm::Attributes;

/// The real folder. Names are opened beneath its descriptor, which is taken once, before the fence.
pub(super) struct Folder {
    base: OwnedFd,
}

impl Folder {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { base: rustix::fs::open(path, flags, Mode::empty())? })
    }

    fn file(&self, entry: &str, attribute: &str, access: OFlags) -> io::Result<OwnedFd> {
        let flags = access | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.base, format!("{entry}/{attribute}"), flags, Mode::empty())?)
    }
}

impl Attributes for Folder {
    fn make(&self, entry: &str) -> io::Result<()> {
        Ok(rustix::fs::mkdirat(&self.base, entry, Mode::RWXU)?)
    }

    fn remove(&self, entry: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.base, entry, AtFlags::REMOVEDIR)?)
    }

    fn read(&self, entry: &str, attribute: &str, cap: usize) -> io::Result<Vec<u8>> {
        let file = self.file(entry, attribute, OFlags::RDONLY)?;
        // One byte more than is accepted shows that there is more.
        let mut bytes = vec![0; cap + 1];
        let mut filled = 0;
        loop {
            let rest = bytes.get_mut(filled..).unwrap_or_default();
            if rest.is_empty() {
                return Err(ErrorKind::FileTooLarge.into());
            }
            match rustix::io::read(&file, rest)? {
                0 => break,
                more => filled += more,
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    fn write(&self, entry: &str, attribute: &str, bytes: &[u8]) -> io::Result<()> {
        let file = self.file(entry, attribute, OFlags::WRONLY)?;
        // A second call would be a second value. A binary attribute takes effect when its file is closed, here.
        if rustix::io::write(&file, bytes)? == bytes.len() { Ok(()) } else { Err(ErrorKind::WriteZero.into()) }
    }

    fn base(&self) -> Option<BorrowedFd<'_>> {
        Some(self.base.as_fd())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn entries_are_made_and_removed_beneath_the_folder() {
        let directory = tempfile::tempdir().unwrap();
        let folder = Folder::open(directory.path()).unwrap();
        folder.make("a").unwrap();
        assert!(directory.path().join("a").is_dir());
        assert_eq!(folder.make("a").err().unwrap().kind(), ErrorKind::AlreadyExists);
        folder.remove("a").unwrap();
        assert_eq!(folder.remove("a").err().unwrap().kind(), ErrorKind::NotFound);
        assert_eq!(Folder::open(&directory.path().join("b")).err().unwrap().kind(), ErrorKind::NotFound);
        assert!(folder.base().is_some());
    }

    #[test]
    fn a_file_is_read_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let folder = Folder::open(directory.path()).unwrap();
        folder.make("a").unwrap();
        let file = directory.path().join("a/outblob");
        assert_eq!(folder.read("a", "outblob", 9).err().unwrap().kind(), ErrorKind::NotFound);
        for len in [0, 1, 8191, 8192] {
            fs::write(&file, vec![7; len]).unwrap();
            assert_eq!(folder.read("a", "outblob", 8192).unwrap(), vec![7; len]);
        }
        fs::write(&file, vec![7; 8193]).unwrap();
        assert_eq!(folder.read("a", "outblob", 8192).err().unwrap().kind(), ErrorKind::FileTooLarge);
        // One that never ends.
        assert_eq!(
            Folder::open(Path::new("/")).unwrap().read("dev", "zero", 1184).err().unwrap().kind(),
            ErrorKind::FileTooLarge
        );
    }

    #[test]
    fn a_file_is_written_with_one_call_and_never_made_or_followed() {
        let directory = tempfile::tempdir().unwrap();
        let folder = Folder::open(directory.path()).unwrap();
        folder.make("a").unwrap();
        assert_eq!(folder.write("a", "inblob", &[1; 64]).err().unwrap().kind(), ErrorKind::NotFound);
        let file = directory.path().join("a/inblob");
        fs::write(&file, b"").unwrap();
        folder.write("a", "inblob", &[1; 64]).unwrap();
        assert_eq!(fs::read(&file).unwrap(), [1; 64]);
        std::os::unix::fs::symlink(&file, directory.path().join("a/link")).unwrap();
        assert!(folder.write("a", "link", &[2; 64]).is_err());
        assert!(folder.read("a", "link", 64).is_err());
        assert_eq!(fs::read(&file).unwrap(), [1; 64]);
        assert!(folder.remove("a").is_err(), "control: an ordinary folder that is not empty stays");
    }
}
