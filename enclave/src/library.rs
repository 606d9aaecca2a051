//! Turns the descriptor of ONNX Runtime's library, or a file of the initrd or image, into one that others vouch for.
//! It trusts the own report and this very program: a host that runs another program under simulation is not noticed here.

use std::fs::File;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use ring::digest::{Context, SHA384};
use rustix::fs::{SealFlags, fcntl_get_seals};
use vouchsafe_attestation::process::process_measurement;

use crate::device::Words;
use crate::engine::ORT_VERSION;
use crate::error::EnclaveError;
use crate::init::InitError;

/// The library's symbols carry its version: `OrtGetApiBase@@VERS_1.24.4`.
const VERSION_NODE: &[u8] = b"\0VERS_1.";
/// A version node is shorter than this.
const LONGEST_NODE: usize = 64;
/// So much of a file is hashed at a time.
const PIECE: usize = 1 << 20;

/// Where the library stands.
pub enum Source {
    /// In memory that the host hands over to a process, sealed.
    Handed(OwnedFd),
    /// In the initrd of a machine, at this path.
    Initrd(&'static str),
    /// In the image of a container, at this path.
    Image(PathBuf),
}

/// The library: of the supported version, and not to be changed. Kept open for as long as it may be loaded.
pub struct Library {
    file: File,
    measured: Measured,
}

/// What says that the library was measured.
enum Measured {
    /// The own report, if it names this digest.
    Digest([u8; 48]),
    /// What brought this program brought it too: the measured initrd, or the image that the bound agent policy pins.
    WithTheProgram,
}

impl Library {
    /// Demands that nobody can change the file any more, and reads it once.
    ///
    /// # Errors
    /// `MEASUREMENT_MISMATCH` when it can change, `INIT_INITRD` when a part is missing, `ORT_VERSION`, `ORT_LOAD`.
    pub fn read(source: Source) -> Result<Self, EnclaveError> {
        let (file, alone) = match source {
            Source::Handed(descriptor) => {
                is_sealed(&descriptor)?;
                (File::from(descriptor), true)
            }
            Source::Initrd(path) => {
                let file = File::open(path).map_err(|_| EnclaveError::OrtLoad)?;
                is_whole(&file)?;
                (file, false)
            }
            Source::Image(path) => (File::open(path).map_err(|_| EnclaveError::OrtLoad)?, false),
        };
        let mut version = Version::new();
        let sha384 = sha384(&file, |piece| version.read(piece)).map_err(|_| EnclaveError::OrtLoad)?;
        if version.found.as_deref() != Some(ORT_VERSION.as_bytes()) {
            return Err(EnclaveError::OrtVersion);
        }
        Ok(Self { file, measured: if alone { Measured::Digest(sha384) } else { Measured::WithTheProgram } })
    }

    /// Compares a process's program and library with what the own report says was measured. In a machine the processor did that; in a
    /// container the report says nothing of either.
    ///
    /// # Errors
    /// `MEASUREMENT_MISMATCH`, `SYSTEM`.
    pub fn is_measured(&self, words: Words, measurement: &[u8; 48]) -> Result<(), EnclaveError> {
        let Measured::Digest(library) = &self.measured else { return Ok(()) };
        // The file that this process was made of, whatever has become of its path.
        let program = File::open("/proc/self/exe").and_then(|program| sha384(&program, |_| ()));
        let program = program.map_err(|_| EnclaveError::System("read the own program"))?;
        if process_measurement(words.tee, words.mode, &program, library) != *measurement {
            return Err(EnclaveError::MeasurementMismatch("program and library are not what was measured"));
        }
        Ok(())
    }

    /// The very descriptor that was read.
    #[must_use]
    pub const fn file(&self) -> &File {
        &self.file
    }
}

fn is_sealed(descriptor: impl AsFd) -> Result<(), EnclaveError> {
    let all = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    match fcntl_get_seals(descriptor) {
        Ok(seals) if seals.contains(all) => Ok(()),
        _ => Err(EnclaveError::MeasurementMismatch("the library can still be changed")),
    }
}

/// Refuses a file without its last section header: linkers write those last (System V ABI, ELF-64).
///
/// When memory ends while the kernel unpacks the initrd, it says no more than a line, leaves the rest of the file zero, and starts
/// what it has: a host could cut a measured initrd by the size of the machine. The library is its last file, so with the
/// library's end everything is there.
fn is_whole(file: &File) -> Result<(), InitError> {
    let read = |at: u64| {
        let mut bytes = [0; 64];
        file.read_exact_at(&mut bytes, at).map(|()| bytes).map_err(|_| InitError::Initrd)
    };
    let header = read(0)?;
    let number = |at: Range<usize>| {
        let bytes = header.get(at).unwrap_or_default().iter().rev();
        bytes.fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
    };
    // e_shoff, e_shentsize, e_shnum.
    let (start, size, count) = (number(0x28..0x30), number(0x3A..0x3C), number(0x3C..0x3E));
    let last = count.checked_sub(1).and_then(|before| start.checked_add(size * before)).ok_or(InitError::Initrd)?;
    // What lies behind the last header could be missing all the same.
    if file.metadata().map_or(0, |metadata| metadata.len()) != last.saturating_add(size) {
        return Err(InitError::Initrd);
    }
    let last = read(last)?;
    // sh_name and sh_type: zero in the first header only.
    if header.starts_with(b"\x7fELF") && last.iter().take(8).any(|byte| *byte != 0) {
        Ok(())
    } else {
        Err(InitError::Initrd)
    }
}

/// The digest of a whole file, read from its start whatever the descriptor's offset; every piece is shown to `see`.
fn sha384(file: &File, mut see: impl FnMut(&[u8])) -> std::io::Result<[u8; 48]> {
    let mut context = Context::new(&SHA384);
    let (mut buffer, mut at) = (vec![0; PIECE], 0);
    loop {
        let piece = match file.read_at(&mut buffer, at) {
            Ok(0) => break,
            Ok(count) => buffer.get(..count).unwrap_or_default(),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        context.update(piece);
        see(piece);
        at += piece.len() as u64;
    }
    let mut digest = [0; 48];
    digest.copy_from_slice(context.finish().as_ref());
    Ok(digest)
}

/// Looks for the first version node in pieces; a node may lie across two.
struct Version {
    carried: Vec<u8>,
    found: Option<Vec<u8>>,
}

impl Version {
    fn new() -> Self {
        Self { carried: Vec::new(), found: None }
    }

    fn read(&mut self, piece: &[u8]) {
        if self.found.is_some() {
            return;
        }
        self.carried.extend_from_slice(piece);
        self.found = version_of(&self.carried).map(<[u8]>::to_vec);
        let keep = self.carried.len().saturating_sub(LONGEST_NODE);
        self.carried.drain(..keep);
    }
}

/// The version in the library's symbol version node.
fn version_of(library: &[u8]) -> Option<&[u8]> {
    let at = library.windows(VERSION_NODE.len()).position(|w| w == VERSION_NODE)?;
    let word = library.get(at + b"\0VERS_".len()..)?;
    word.get(..word.iter().position(|b| *b == 0)?)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use rustix::fs::{MemfdFlags, fcntl_add_seals, memfd_create};
    use std::io::Write as _;
    use vouchsafe_attestation::lp;
    use vouchsafe_attestation::{Mode, Tee};

    const WORDS: Words = Words { tee: Tee::SevSnp, mode: Mode::Simulation };
    const NODE: &[u8] = b"..\0VERS_1.24.4\0";

    /// A copy in memory under these seals.
    pub(crate) fn memory_file(bytes: &[u8], seals: SealFlags) -> OwnedFd {
        let mut file = File::from(memfd_create("library", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap());
        file.write_all(bytes).unwrap();
        fcntl_add_seals(&file, seals).unwrap();
        file.into()
    }

    /// A copy in memory that nobody can change.
    pub(crate) fn sealed(bytes: &[u8]) -> Source {
        Source::Handed(memory_file(bytes, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL))
    }

    #[test]
    fn the_version_is_read_from_the_symbols_wherever_a_piece_ends() {
        assert_eq!(version_of(b"..\0VERS_1.24.4\0GLIBC"), Some(&b"1.24.4"[..]));
        assert_eq!(version_of(b"..\0VERS_1.23.0\0"), Some(&b"1.23.0"[..]));
        assert_eq!((version_of(b"\0VERS_1.24.4"), version_of(b"nothing")), (None, None));
        let long = [vec![b'x'; 100], NODE.to_vec(), vec![b'y'; 100]].concat();
        for cut in 0..long.len() {
            let mut version = Version::new();
            version.read(&long[..cut]);
            version.read(&long[cut..]);
            assert_eq!(version.found.as_deref(), Some(&b"1.24.4"[..]), "{cut}");
        }
    }

    #[test]
    fn another_version_or_a_file_that_can_change_is_refused_before_it_is_loaded() {
        assert!(Library::read(sealed(NODE)).is_ok(), "control");
        assert_eq!(Library::read(sealed(b"\0VERS_1.23.2\0")).err(), Some(EnclaveError::OrtVersion));
        let changeable = EnclaveError::MeasurementMismatch("the library can still be changed");
        let lasting = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK;
        for seals in [SealFlags::empty(), lasting, SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL] {
            assert_eq!(
                Library::read(Source::Handed(memory_file(NODE, seals))).err().as_ref(),
                Some(&changeable),
                "{seals:?}"
            );
        }
        let file = tempfile::tempfile().unwrap();
        assert_eq!(Library::read(Source::Handed(file.into())).err(), Some(changeable), "a file on disk");
    }

    #[test]
    fn only_the_measured_program_and_library_pass() {
        let library = Library::read(sealed(NODE)).ok().unwrap();
        let program = lp::sha384(&std::fs::read("/proc/self/exe").unwrap());
        let measured = process_measurement(WORDS.tee, WORDS.mode, &program, &lp::sha384(NODE));
        assert_eq!(library.is_measured(WORDS, &measured), Ok(()));
        let other_library = process_measurement(WORDS.tee, WORDS.mode, &program, &lp::sha384(b"another"));
        let other_program = process_measurement(WORDS.tee, WORDS.mode, &[1; 48], &lp::sha384(NODE));
        for wrong in [other_library, other_program] {
            let error = library.is_measured(WORDS, &wrong).err().unwrap();
            assert_eq!((error.code(), error.exit()), ("MEASUREMENT_MISMATCH", 2));
        }
    }

    #[test]
    fn in_the_initrd_the_version_is_compared_and_the_launch_measured_it() {
        let directory = tempfile::tempdir().unwrap();
        let place = |name: &str, bytes: &[u8]| -> &'static str {
            let path = directory.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            String::leak(path.to_str().unwrap().to_owned())
        };
        // A header that names three section headers of 64 bytes, the node, and those headers.
        let elf = |node: &[u8]| {
            let mut file = vec![0; 64];
            file[..4].copy_from_slice(b"\x7fELF");
            file[0x28] = u8::try_from(64 + node.len()).unwrap();
            (file[0x3A], file[0x3C]) = (64, 3);
            [&file, node, &[0; 2 * 64], &[3; 64]].concat()
        };
        let whole = elf(NODE);
        let library = Library::read(Source::Initrd(place("good", &whole))).ok().unwrap();
        assert_eq!(library.is_measured(WORDS, &[1; 48]), Ok(()));
        let other = Library::read(Source::Initrd(place("other", &elf(b"\0VERS_1.23.2\0")))).err();
        assert_eq!(other, Some(EnclaveError::OrtVersion));
        assert_eq!(Library::read(Source::Initrd("/nonexistent")).err(), Some(EnclaveError::OrtLoad));
        for cut in [0, 63, 64, 100, whole.len() - 1] {
            let error = Library::read(Source::Initrd(place("cut", &whole[..cut]))).err();
            assert_eq!(error, Some(InitError::Initrd.into()), "{cut}");
        }
        for zeros in [1, 64, 100].map(|zeros| (56 + zeros).min(whole.len())) {
            let kept = whole.len() - zeros;
            let unwritten = [&whole[..kept], &vec![0; zeros]].concat();
            let error = Library::read(Source::Initrd(place("unwritten", &unwritten))).err();
            assert_eq!(error.is_some(), zeros >= 64, "the kernel makes the file as long as it should be: {zeros}");
        }
        let more = [&whole[..], &[5]].concat();
        let error = Library::read(Source::Initrd(place("more", &more))).err();
        assert_eq!(error, Some(InitError::Initrd.into()), "what lies behind the end that is looked at");
        assert_eq!(Library::read(Source::Initrd(place("text", &[b'x'; 500]))).err(), Some(InitError::Initrd.into()));
    }
}
