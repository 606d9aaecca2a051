//! Turns a list of faults into a kernel that commits them: configfs-tsm as Linux, drivers/virt/coco/tsm.c, behaves, played in memory.
//! It shows how the devices take what a kernel or a host answers; it proves nothing about a real one.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard};

use rustix::io::Errno;

use super::tsm::Attributes;

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing.
    None,
    /// Somebody else writes to the request while its blob is read.
    Generation,
    /// `inblob` never arrives, and nobody says so.
    Lost,
    /// `generation` is this text.
    Count(&'static str),
    /// The provider's name is this.
    Provider(&'static str),
    /// `outblob` is so long.
    Length(usize),
    /// `outblob` is about other data.
    OtherData,
    /// This operation fails with this, so many times.
    Fails(&'static str, Errno, u32),
}

#[derive(Default)]
struct Request {
    privlevel: Vec<u8>,
    inblob: Vec<u8>,
    generation: u64,
}

/// Everything the played kernel knows.
pub(super) struct State {
    pub(super) fault: Fault,
    pub(super) provider: &'static str,
    /// The certificate table of the host.
    pub(super) table: Vec<u8>,
    /// The blob about 64 bytes.
    pub(super) blob: fn(&[u8; 64]) -> Vec<u8>,
    /// Every operation since the start, as `read outblob`.
    pub(super) log: Vec<String>,
    /// Names left by an earlier program.
    pub(super) left: Vec<String>,
    requests: BTreeMap<String, Request>,
}

/// A played kernel; clones are the same one.
#[derive(Clone)]
pub(super) struct Played(Arc<Mutex<State>>);

impl Played {
    pub(super) fn new(provider: &'static str, blob: fn(&[u8; 64]) -> Vec<u8>) -> Self {
        let (table, log, left, requests) = (Vec::new(), Vec::new(), Vec::new(), BTreeMap::new());
        Self(Arc::new(Mutex::new(State { fault: Fault::None, provider, table, blob, log, left, requests })))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// How many requests nobody removed.
    pub(super) fn open_requests(&self) -> usize {
        self.state().requests.len()
    }
}

impl State {
    /// Takes note of an operation, and lets it fail if that is its fault.
    fn note(&mut self, operation: String) -> io::Result<()> {
        let failed = match &mut self.fault {
            Fault::Fails(what, errno, times) if *what == operation && *times > 0 => {
                *times -= 1;
                Err(io::Error::from(*errno))
            }
            _ => Ok(()),
        };
        self.log.push(operation);
        failed
    }
}

impl Attributes for Played {
    fn make(&self, entry: &str) -> io::Result<()> {
        let mut state = self.state();
        state.note("make".into())?;
        if state.left.iter().any(|name| name == entry) || state.requests.contains_key(entry) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        state.requests.insert(entry.into(), Request::default());
        Ok(())
    }

    fn remove(&self, entry: &str) -> io::Result<()> {
        let mut state = self.state();
        state.note("remove".into())?;
        state.requests.remove(entry).map(drop).ok_or(ErrorKind::NotFound.into())
    }

    fn read(&self, entry: &str, attribute: &str, cap: usize) -> io::Result<Vec<u8>> {
        let mut state = self.state();
        state.note(format!("read {attribute}"))?;
        let State { fault, provider, table, blob, requests, .. } = &mut *state;
        let request = requests.get_mut(entry).ok_or(ErrorKind::NotFound)?;
        let about = <[u8; 64]>::try_from(request.inblob.as_slice());
        let bytes = match (attribute, fault) {
            ("provider", Fault::Provider(name)) => format!("{name}\n").into_bytes(),
            ("provider", _) => format!("{provider}\n").into_bytes(),
            ("generation", Fault::Count(text)) => text.as_bytes().to_vec(),
            ("generation", _) => format!("{}\n", request.generation).into_bytes(),
            // Like the kernel: without 64 bytes there is no report.
            ("outblob" | "auxblob", _) if about.is_err() => return Err(Errno::INVAL.into()),
            ("outblob", Fault::OtherData) => blob(&[0xEE; 64]),
            ("outblob", Fault::Length(length)) => {
                let mut bytes = blob(&about.unwrap());
                bytes.resize(*length, 0);
                bytes
            }
            ("outblob", fault) => {
                if *fault == Fault::Generation {
                    request.generation += 1;
                }
                blob(&about.unwrap())
            }
            ("auxblob", _) if *provider == "sev_guest" => table.clone(),
            _ => return Err(ErrorKind::NotFound.into()),
        };
        if bytes.len() > cap { Err(ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
    }

    fn write(&self, entry: &str, attribute: &str, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        state.note(format!("write {attribute} {}", if attribute == "inblob" { "64" } else { "0" }))?;
        let State { fault, provider, requests, .. } = &mut *state;
        let request = requests.get_mut(entry).ok_or(ErrorKind::NotFound)?;
        match attribute {
            "inblob" if bytes.len() != 64 => return Err(Errno::INVAL.into()),
            "inblob" if *fault == Fault::Lost => return Ok(()),
            "inblob" => request.inblob = bytes.to_vec(),
            "privlevel" if *provider == "sev_guest" && bytes == b"0" => request.privlevel = bytes.to_vec(),
            "privlevel" if *provider == "sev_guest" => return Err(Errno::INVAL.into()),
            _ => return Err(ErrorKind::NotFound.into()),
        }
        request.generation += 1;
        Ok(())
    }

    fn base(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
