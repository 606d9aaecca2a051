//! Turns the writable memory of a running process into bytes to search, as the root of its host could under simulation.
//! It does not look into registers, swap, or what the kernel keeps for a process, such as the contents of a pipe.

use std::{fs, io, os::unix::fs::FileExt as _};

use rustix::{fs::SeekFrom, io::Errno};

/// How many bytes were looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    /// Of the process alone.
    pub own: usize,
    /// Shared with others.
    pub shared: usize,
}

impl Looked {
    /// All of them.
    #[must_use]
    pub const fn all(self) -> usize {
        self.own + self.shared
    }
}

/// Shows `see` every run of bytes that the process may write, and what is mapped there. Of shared memory, those pages are shown that
/// exist, whichever process wrote them: the others are zeros, and would exist once they were read.
///
/// # Panics
/// When the process is gone, or may not be looked into: that takes root.
pub fn look(process: u32, mut see: impl FnMut(&str, &[u8])) -> Looked {
    let memory = fs::File::open(format!("/proc/{process}/mem")).expect("the memory of a process");
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).expect("the mappings of a process");
    let mut looked = Looked::default();
    for line in maps.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if !words[1].starts_with("rw") {
            continue;
        }
        let place = words.get(5).copied().unwrap_or("anonymous");
        let (from, to) = words[0].split_once('-').expect("a range");
        let [from, to, offset] = [from, to, words[2]].map(|word| u64::from_str_radix(word, 16).expect("hex digits"));
        let shared = words[1].ends_with('s');
        let file = fs::File::open(format!("/proc/{process}/map_files/{}", words[0])).ok().filter(|_| shared);
        let runs = match file.map(|file| existing(&file, offset, offset + to - from).map(|runs| (file, runs))) {
            Some(Ok((file, runs))) => runs.into_iter().map(|(at, end)| read(&file, at, end)).collect(),
            // The kernel does not tell: all of it.
            Some(Err(_)) | None => vec![read(&memory, from, to)],
        };
        for bytes in runs {
            see(place, &bytes);
            *(if shared { &mut looked.shared } else { &mut looked.own }) += bytes.len();
        }
    }
    looked
}

/// The runs of a file's pages that are there, from `at` up to `end`.
fn existing(file: &fs::File, mut at: u64, end: u64) -> io::Result<Vec<(u64, u64)>> {
    let mut runs = Vec::new();
    while at < end {
        let begin = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Err(Errno::NXIO) => break,
            begin => begin?,
        };
        let stop = rustix::fs::seek(file, SeekFrom::Hole(begin))?.min(end);
        if begin < end {
            runs.push((begin, stop));
        }
        at = stop.max(begin);
    }
    Ok(runs)
}

/// What can be read of a range: a mapping may be gone by now.
fn read(file: &fs::File, from: u64, to: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(to - from).expect("a range that fits")];
    let (mut count, mut at) = (0, from);
    while let Ok(some @ 1..) = file.read_at(&mut bytes[count..], at) {
        count += some;
        at += some as u64;
    }
    bytes.truncate(count);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{Read as _, Write as _},
        process::{Command, Stdio},
    };

    use rustix::fs::{MemfdFlags, memfd_create};

    #[test]
    fn what_another_process_holds_is_seen() {
        let mut cat = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let held: Vec<u8> = (0..64_u8).map(|n| n.wrapping_mul(37) ^ 0x5C).collect();
        let count = |process: u32| {
            let mut found = 0;
            let looked = look(process, |_, bytes| found += bytes.windows(64).filter(|some| *some == held).count());
            assert!(looked.own > 10_000 && looked.all() >= looked.own, "{looked:?}");
            found
        };
        // It has begun once it answers.
        cat.stdin.as_mut().unwrap().write_all(b"?").unwrap();
        cat.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let pid = cat.id();
        assert_eq!(count(pid), 0, "control");
        cat.stdin.as_mut().unwrap().write_all(&held).unwrap();
        cat.stdout.as_mut().unwrap().read_exact(&mut [0; 64]).unwrap();
        assert!(count(pid) >= 1);
        drop(cat.stdin.take());
        assert!(cat.wait().unwrap().success());
    }

    #[test]
    fn the_pages_of_a_file_that_exist_are_found() {
        let file = fs::File::from(memfd_create("pages", MemfdFlags::CLOEXEC).unwrap());
        file.set_len(1 << 20).unwrap();
        assert_eq!(existing(&file, 0, 1 << 20).unwrap(), []);
        for at in [8192_u64, 12288, 1 << 19] {
            file.write_at(b"x", at).unwrap();
        }
        let (first, second) = ((8192, 16384), (1 << 19, (1 << 19) + 4096));
        assert_eq!(existing(&file, 0, 1 << 20).unwrap(), [first, second]);
        assert_eq!(existing(&file, 0, 1 << 19).unwrap(), [first]);
        assert_eq!(existing(&file, 12288, 1 << 20).unwrap(), [(12288, 16384), second]);
        assert_eq!(read(&file, 8192, 8195), b"x\0\0");
        assert_eq!(read(&file, (1 << 20) - 2, (1 << 20) + 9), b"\0\0");
    }
}
