//! Turns streams into packages that are the same, byte for byte, as those of files.
//! How much memory that takes is printed by `examples/speed.rs`.

use std::{
    fs,
    io::{Cursor, ErrorKind, Read, Write as _},
    path::Path,
    thread,
};

use tempfile::TempDir;

use super::{
    support::{Files, Fixture, load, pattern, signer},
    ways::{THREADS, threads},
};
use crate::{Role, SealOptions, SealedError, seal_with};

const MIB: usize = 1 << 20;

/// Gives its bytes in pieces that have nothing to do with chunks.
struct Drip(Cursor<Vec<u8>>, usize);

impl Read for Drip {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.1 = self.1 * 31 % 70_001 + 1;
        let here = into.len().min(self.1);
        self.0.read(&mut into[..here])
    }
}

fn sealed(fixture: &Fixture, change: impl FnOnce(&mut SealOptions<'_>)) -> Files {
    let dir = TempDir::new().unwrap();
    fixture.seal_as(&dir.path().join("p"), 0, change).unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing but the package");
    load(&dir.path().join("p"))
}

#[test]
fn a_stream_gives_the_package_of_its_file() {
    for len in [0, 1, MIB - 1, MIB, MIB + 1, 5 * MIB + 3] {
        for pad_to in [1, 4096, 3 * MIB as u64] {
            let fixture = Fixture::of_graph(pattern(len), pad_to);
            let of_file = fixture.files();
            for n in THREADS {
                let of_stream = sealed(&fixture, |options| {
                    options.threads = threads(n);
                    options.streams.insert(0, Box::new(Drip(Cursor::new(pattern(len)), 7)));
                });
                assert!(of_stream == of_file, "{len} bytes, {n} threads");
            }
            assert!(fixture.judge(&of_file).unwrap() == fixture.plaintexts());
        }
    }
}

#[test]
fn several_streams_and_files_mix_and_a_real_pipe_is_read_to_its_end() {
    let mut fixture = Fixture::small();
    fixture.inputs.push(("w.bin", Role::ExternalData, pattern(2 * MIB + 9)));
    let of_files = fixture.files();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let weights = pattern(2 * MIB + 9);
    let writing = thread::spawn(move || writer.write_all(&weights).unwrap());
    let graph = fixture.inputs[0].2.clone();
    let mixed = sealed(&fixture, |options| {
        options.streams.insert(2, Box::new(reader));
        options.streams.insert(0, Box::new(Cursor::new(graph)));
    });
    writing.join().unwrap();
    assert!(mixed == of_files);
}

#[test]
fn progress_counts_streams_twice_and_names_a_total_when_it_is_known() {
    let (dir, fixture) = (TempDir::new().unwrap(), Fixture::of_graph(pattern(MIB + 1), 1));
    let spec = fixture.spec(dir.path());
    let mut heard = Vec::new();
    let mut progress = |done, total| heard.push((done, total));
    let mut options = SealOptions::new(&mut progress);
    options.streams.insert(0, Box::new(Cursor::new(pattern(MIB + 1))));
    seal_with(&spec, &fixture.model_key(), fixture.uid, &[&signer(1)], &dir.path().join("p"), options).unwrap();
    let (mib, all) = (MIB as u64, MIB as u64 + 1);
    assert_eq!(heard, [(mib, 0), (all, 0), (0, all), (mib, all), (all, all)]);
}

/// Seals a stream as input `at` and expects a refusal that leaves nothing behind.
fn refused(at: usize, stream: impl Read + 'static) -> SealedError {
    let dir = TempDir::new().unwrap();
    let result = Fixture::small().seal_as(&dir.path().join("p"), 0, |options| {
        options.streams.insert(at, Box::new(stream));
    });
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    result.unwrap_err()
}

/// So many full reads, then an error.
struct Fails(usize);

impl Read for Fails {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.0 = self.0.checked_sub(1).ok_or(ErrorKind::ConnectionReset)?;
        into.fill(1);
        Ok(into.len())
    }
}

#[test]
fn streams_that_fail_or_belong_to_nothing_leave_nothing() {
    let reset = SealedError::SealInputUnreadable(1, ErrorKind::ConnectionReset);
    assert_eq!(refused(1, Fails(0)), reset);
    assert_eq!(refused(1, Fails(3)), reset);
    assert_eq!(refused(2, Cursor::new(b"x")), SealedError::SealInputs);
}

#[test]
fn while_a_stream_is_read_its_plaintext_is_in_no_file() {
    /// Looks around on the disk between two reads.
    struct Looks<'a>(Cursor<Vec<u8>>, &'a Path, u32);
    impl Read for Looks<'_> {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            let named = walk(self.1);
            assert!(named.iter().all(|bytes| !holds(bytes)), "plaintext under a name");
            for fd in fs::read_dir("/proc/self/fd").unwrap().flatten() {
                let Ok(target) = fs::read_link(fd.path()) else { continue };
                if target.starts_with(self.1) && target.to_string_lossy().ends_with("scratch (deleted)") {
                    self.2 += 1;
                    assert!(!holds(&fs::read(fd.path()).unwrap()), "plaintext in the scratch file");
                }
            }
            self.0.read(into)
        }
    }
    impl Drop for Looks<'_> {
        fn drop(&mut self) {
            assert!(self.2 > 3, "control: the scratch file was found");
        }
    }
    fn holds(bytes: &[u8]) -> bool {
        let needle = &pattern(5032)[5000..];
        bytes.windows(32).any(|window| window == needle)
    }
    fn walk(dir: &Path) -> Vec<Vec<u8>> {
        let entries = fs::read_dir(dir).unwrap().flatten().map(|entry| entry.path());
        entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![fs::read(path).unwrap()] }).collect()
    }

    let dir = TempDir::new().unwrap();
    let fixture = Fixture::of_graph(pattern(3 * MIB), 1);
    let at = fs::canonicalize(dir.path()).unwrap();
    let looks = Looks(Cursor::new(pattern(3 * MIB)), &at, 0);
    assert!(holds(&pattern(MIB)), "control");
    // In a scope of its own: the stream looks at `at` until it is dropped.
    let inputs = TempDir::new().unwrap();
    let (spec, mut deaf) = (fixture.spec(inputs.path()), |_, _| {});
    let mut options = SealOptions::new(&mut deaf);
    options.streams.insert(0, Box::new(looks));
    seal_with(&spec, &fixture.model_key(), fixture.uid, &[&signer(1)], &at.join("p"), options).unwrap();
    assert!(walk(&at).iter().all(|bytes| !holds(bytes)));
}
