//! Turns events into a hash-chained, durable file, and that file back into events.
//! It establishes order and completeness up to the last head that somebody else knows; a cut tail shows only at renewal.
//!
//! One line is `json TAB hex(h_i) LF`, with `h_i = SHA-256(LP("vouchsafe/1 ledger") LP(h_(i-1)) LP(json))` and `h_0 = 0^32`.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead as _, BufReader, Read as _},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
};

use rustix::fs::fdatasync;
use serde::Serialize;
use vouchsafe_attestation::{
    UnixTime,
    encoding::{from_hex, serde_hex},
    lp::Transcript,
};

use crate::{
    BrokerError,
    event::{Event, Id, Line},
    files::{self, LEDGER},
};

/// Our own longest line is below 2 KiB.
const MAX_LINE: u64 = 16 * 1024;

/// The single writer of a ledger. Holds its lock.
pub struct Ledger {
    file: File,
    len: u64,
    head: Head,
    usable: Usable,
}

/// Whether the file is known to hold exactly what was appended.
#[derive(PartialEq, Eq)]
enum Usable {
    Yes,
    /// A failed sync or a change from outside: what is on the disk is not known any more.
    NotUntilRestart,
}

/// The last line: its number and its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Head {
    /// Number of lines.
    pub n: u64,
    /// `h_n`.
    #[serde(with = "serde_hex")]
    pub hash: [u8; 32],
}

/// What a whole ledger amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The last whole line.
    pub head: Head,
    /// Bytes after it: 0, or a line that is being written or was torn.
    pub torn_bytes: u64,
}

/// One line with its hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// What happened.
    pub line: Line,
    /// The chain's value here.
    #[serde(with = "serde_hex")]
    pub hash: [u8; 32],
}

impl Ledger {
    /// Opens or makes a ledger, replays every line into `visit`, cuts a torn last line and records the cut.
    ///
    /// # Errors
    /// `STATE_LOCKED`, `LEDGER_BROKEN`, `LEDGER_UNWRITABLE`, `FILE_IO`.
    pub fn open(path: &Path, at: UnixTime, visit: &mut dyn FnMut(&Entry)) -> Result<Self, BrokerError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(files::failed(LEDGER))?;
        files::lock(&file, LEDGER)?;
        let (summary, len) = replay(&file, visit)?;
        let mut ledger = Self { file, len, head: summary.head, usable: Usable::Yes };
        if summary.torn_bytes > 0 {
            // The record is written over the torn bytes first, so that no crash here can lose the fact of the cut.
            let entry = ledger.write(Event::Torn { bytes: summary.torn_bytes }, at)?;
            ledger.file.set_len(ledger.len).map_err(|_| BrokerError::LedgerUnwritable)?;
            fdatasync(&ledger.file).map_err(|_| BrokerError::LedgerUnwritable)?;
            visit(&entry);
        }
        Ok(ledger)
    }

    /// The last line.
    #[must_use]
    pub const fn head(&self) -> Head {
        self.head
    }

    /// Appends a line and returns once it is durable (`fdatasync`).
    ///
    /// After a full disk the file is as before, and a later call may succeed. After a failed sync, or when somebody else
    /// changed the file, every later call fails: what the disk holds is known again only after a restart.
    ///
    /// # Errors
    /// `LEDGER_UNWRITABLE`.
    pub fn append(&mut self, event: Event, at: UnixTime) -> Result<Entry, BrokerError> {
        let unchanged = self.file.metadata().is_ok_and(|m| m.len() == self.len);
        if self.usable != Usable::Yes || !unchanged {
            self.usable = Usable::NotUntilRestart;
            return Err(BrokerError::LedgerUnwritable);
        }
        let written = self.write(event, at);
        // A full disk may have taken a part of the line: give it back, or stop for good.
        if written.is_err() && self.file.set_len(self.len).is_err() {
            self.usable = Usable::NotUntilRestart;
        }
        written
    }

    fn write(&mut self, event: Event, at: UnixTime) -> Result<Entry, BrokerError> {
        let line = Line { v: 1, n: self.head.n + 1, at, event };
        let mut bytes = line.to_bytes();
        let hash = chain(&self.head.hash, &bytes);
        bytes.push(b'\t');
        bytes.extend_from_slice(hex::encode(hash).as_bytes());
        bytes.push(b'\n');
        self.file.write_all_at(&bytes, self.len).map_err(|_| BrokerError::LedgerUnwritable)?;
        if fdatasync(&self.file).is_err() {
            self.usable = Usable::NotUntilRestart;
            return Err(BrokerError::LedgerUnwritable);
        }
        self.len += bytes.len() as u64;
        self.head = Head { n: line.n, hash };
        Ok(Entry { line, hash })
    }
}

/// Reads a ledger without its lock, also while a broker writes it.
///
/// # Errors
/// `LEDGER_BROKEN`, `FILE_IO`.
pub fn read(path: &Path, visit: &mut dyn FnMut(&Entry)) -> Result<Summary, BrokerError> {
    let file = File::open(path).map_err(files::failed(LEDGER))?;
    replay(&file, visit).map(|(summary, _)| summary)
}

/// Recomputes the whole chain.
///
/// # Errors
/// `LEDGER_BROKEN`, `FILE_IO`.
pub fn verify(path: &Path) -> Result<Summary, BrokerError> {
    read(path, &mut |_| {})
}

/// The lines about a ticket or a lease.
///
/// # Errors
/// `LEDGER_BROKEN`, `FILE_IO`.
pub fn find(path: &Path, id: Id) -> Result<Vec<Entry>, BrokerError> {
    let mut found = Vec::new();
    read(path, &mut |entry| {
        if entry.line.id() == Some(id) {
            found.push(entry.clone());
        }
    })?;
    Ok(found)
}

fn chain(previous: &[u8; 32], json: &[u8]) -> [u8; 32] {
    Transcript::<32>::new("vouchsafe/1 ledger").lp(previous).lp(json).finish()
}

/// Everything up to the last whole line; returns its length too.
fn replay(file: &File, visit: &mut dyn FnMut(&Entry)) -> Result<(Summary, u64), BrokerError> {
    let mut reader = BufReader::new(file);
    let mut head = Head { n: 0, hash: [0; 32] };
    let (mut len, mut bytes) = (0, Vec::new());
    loop {
        bytes.clear();
        let read = reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut bytes).map_err(files::failed(LEDGER))?;
        if bytes.pop_if(|last| *last == b'\n').is_none() {
            let torn_bytes = read as u64;
            // A tail longer than any line of ours is no torn line.
            if torn_bytes >= MAX_LINE {
                return Err(BrokerError::LedgerBroken(head.n + 1));
            }
            return Ok((Summary { head, torn_bytes }, len));
        }
        let entry = parse(&head, &bytes).ok_or(BrokerError::LedgerBroken(head.n + 1))?;
        head = Head { n: entry.line.n, hash: entry.hash };
        len += read as u64;
        visit(&entry);
    }
}

fn parse(previous: &Head, bytes: &[u8]) -> Option<Entry> {
    let tab = bytes.iter().position(|b| *b == b'\t')?;
    let (json, hash) = (&bytes[..tab], core::str::from_utf8(&bytes[tab + 1..]).ok()?);
    let hash: [u8; 32] = from_hex(hash, "hash").ok()?;
    if hash != chain(&previous.hash, json) {
        return None;
    }
    let line = Line::parse(json)?;
    (line.n == previous.n + 1).then_some(Entry { line, hash })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const AT: UnixTime = UnixTime(1_795_254_000);

    fn floor(sequence: u64) -> Event {
        Event::FloorRaised { model: "m".to_owned(), sequence }
    }

    fn three(path: &Path) -> Head {
        let mut ledger = Ledger::open(path, AT, &mut |_| {}).unwrap();
        for n in 1..=3 {
            assert_eq!(ledger.append(floor(n), AT).unwrap().line.n, n);
        }
        ledger.head()
    }

    #[test]
    fn the_chain_is_what_the_design_says() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(LEDGER);
        let head = three(&path);
        let text = fs::read_to_string(&path).unwrap();
        let mut previous = [0; 32];
        for line in text.lines() {
            let (json, hash) = line.split_once('\t').unwrap();
            let mut input = Vec::new();
            for part in [b"vouchsafe/1 ledger".as_slice(), &previous, json.as_bytes()] {
                vouchsafe_attestation::lp::put_lp(&mut input, part);
            }
            previous = vouchsafe_attestation::lp::sha256(&input);
            assert_eq!(hash, hex::encode(previous));
        }
        assert_eq!(head, Head { n: 3, hash: previous });
        assert_eq!(verify(&path).unwrap(), Summary { head, torn_bytes: 0 });
    }

    #[test]
    fn a_torn_last_line_is_cut_and_the_cut_recorded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(LEDGER);
        three(&path);
        let whole = fs::read(&path).unwrap();
        let second = whole.iter().enumerate().filter(|(_, b)| **b == b'\n').nth(1).unwrap().0 + 1;
        for cut in second + 1..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let mut events = Vec::new();
            drop(Ledger::open(&path, AT, &mut |e| events.push(e.line.event.clone())).unwrap());
            let bytes = (cut - second) as u64;
            assert_eq!(events, [floor(1), floor(2), Event::Torn { bytes }]);
            assert_eq!(verify(&path).unwrap().head.n, 3);
            assert_eq!(verify(&path).unwrap().torn_bytes, 0);
        }
    }

    #[test]
    fn any_other_break_refuses_to_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(LEDGER);
        three(&path);
        let whole = fs::read(&path).unwrap();
        let open = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            Ledger::open(&path, AT, &mut |_| {}).map(|_| ()).map_err(|e| e.code())
        };
        assert_eq!(open(&whole), Ok(()));
        for at in 0..whole.len() - 1 {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert_eq!(open(&changed), Err("LEDGER_BROKEN"), "byte {at}");
        }
        let lines: Vec<&[u8]> = whole.split_inclusive(|b| *b == b'\n').collect();
        assert_eq!(open(&[lines[0], lines[2]].concat()), Err("LEDGER_BROKEN"));
        assert_eq!(open(&[lines[1], lines[0], lines[2]].concat()), Err("LEDGER_BROKEN"));
        assert_eq!(open(&[lines[0], lines[0]].concat()), Err("LEDGER_BROKEN"));
        assert_eq!(open(&[whole.as_slice(), &[b'x'; 20_000]].concat()), Err("LEDGER_BROKEN"));
        assert_eq!(open(&whole), Ok(()));
    }

    #[test]
    fn one_writer_and_no_change_from_outside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(LEDGER);
        let mut ledger = Ledger::open(&path, AT, &mut |_| {}).unwrap();
        let second = Ledger::open(&path, AT, &mut |_| {});
        assert_eq!(second.map(|_| ()).map_err(|e| e.code()), Err("STATE_LOCKED"));
        ledger.append(floor(1), AT).unwrap();
        fs::write(&path, b"").unwrap();
        for _ in 0..2 {
            assert_eq!(ledger.append(floor(2), AT).unwrap_err().code(), "LEDGER_UNWRITABLE");
        }
        drop(ledger);
        assert!(Ledger::open(&path, AT, &mut |_| {}).unwrap().append(floor(1), AT).is_ok());
    }
}
