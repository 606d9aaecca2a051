//! Turns events into a hash-chained, durable file, and that file back into events.
//! It establishes order, and completeness up to the head file; when both are put back together, only a head known elsewhere tells.
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
    head::{HeadFile, HeadKey},
};

/// Our own longest line is below 2 KiB.
const MAX_LINE: u64 = 16 * 1024;
const HEAD_OLD: &str = "its head file is an old one";

/// The single writer of a ledger. Holds its lock.
pub struct Ledger {
    file: File,
    head_file: HeadFile,
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

impl Head {
    /// Before the first line.
    pub(crate) const NONE: Self = Self { n: 0, hash: [0; 32] };
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
    /// Makes an empty ledger with its head file; neither may exist.
    ///
    /// # Errors
    /// `STATE_LOCKED`, `FILE_IO`.
    pub fn create(path: &Path, key: &HeadKey) -> Result<Self, BrokerError> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(path);
        let file = file.map_err(files::failed(LEDGER))?;
        files::lock(&file, LEDGER)?;
        let head_file = HeadFile::beside(path, key);
        head_file.stage(Head::NONE)?;
        head_file.commit()?;
        Ok(Self { file, head_file, len: 0, head: Head::NONE, usable: Usable::Yes })
    }

    /// Opens a ledger, replays every line into `visit`, cuts a torn last line and records the cut.
    ///
    /// The head file must name the last line or, after a crash between the two writes, the one before it.
    ///
    /// # Errors
    /// `STATE_LOCKED`, `LEDGER_BROKEN`, `LEDGER_UNWRITABLE`, `FILE_IO`.
    pub fn open(path: &Path, key: &HeadKey, at: UnixTime, visit: &mut dyn FnMut(&Entry)) -> Result<Self, BrokerError> {
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(missing)?;
        files::lock(&file, LEDGER)?;
        let head_file = HeadFile::beside(path, key);
        let written = head_file.read()?;
        let (summary, len) = replay_past(&file, written, visit)?;
        if summary.head.n > written.n + 1 {
            return Err(BrokerError::LedgerHead(HEAD_OLD));
        }
        let mut ledger = Self { file, head_file, len, head: summary.head, usable: Usable::Yes };
        if summary.head != written {
            ledger.head_file.stage(summary.head).and_then(|()| ledger.head_file.commit())?;
        }
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

    /// Appends a line and returns once it is durable (`fdatasync`) and the head file names it.
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
        // A full disk may have taken a part of the line: give it back, or stop for good. (A whole line stays: `len` covers it.)
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
        let head = Head { n: line.n, hash };
        // Prepared first, so that a full disk shows before the line is written; in force only after the line is durable.
        self.head_file.stage(head).map_err(|_| BrokerError::LedgerUnwritable)?;
        self.file.write_all_at(&bytes, self.len).map_err(|_| BrokerError::LedgerUnwritable)?;
        if fdatasync(&self.file).is_err() {
            self.usable = Usable::NotUntilRestart;
            return Err(BrokerError::LedgerUnwritable);
        }
        self.len += bytes.len() as u64;
        self.head = head;
        if self.head_file.commit().is_err() {
            self.usable = Usable::NotUntilRestart;
            return Err(BrokerError::LedgerUnwritable);
        }
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

/// Recomputes the whole chain and compares it with the head file, also while a broker writes both.
///
/// # Errors
/// `LEDGER_BROKEN`, `FILE_IO`.
pub fn verify(path: &Path, key: &HeadKey) -> Result<Summary, BrokerError> {
    let head_file = HeadFile::beside(path, key);
    let before = head_file.read()?;
    let file = File::open(path).map_err(missing)?;
    let (summary, _) = replay_past(&file, before, &mut |_| {})?;
    // A line may have come while reading; its head follows it.
    if summary.head.n > head_file.read()?.n + 1 {
        return Err(BrokerError::LedgerHead(HEAD_OLD));
    }
    Ok(summary)
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

/// Beside a head file there was a ledger from the first day.
fn missing(e: std::io::Error) -> BrokerError {
    match e.kind() {
        std::io::ErrorKind::NotFound => BrokerError::LedgerHead("the file is missing"),
        kind => BrokerError::File(LEDGER, kind),
    }
}

fn chain(previous: &[u8; 32], json: &[u8]) -> [u8; 32] {
    Transcript::<32>::new("vouchsafe/1 ledger").lp(previous).lp(json).finish()
}

/// [`replay`], and the line that the head file names must be among the lines.
fn replay_past(file: &File, written: Head, visit: &mut dyn FnMut(&Entry)) -> Result<(Summary, u64), BrokerError> {
    let mut found = written == Head::NONE;
    let replayed = replay(file, &mut |entry| {
        found |= Head { n: entry.line.n, hash: entry.hash } == written;
        visit(entry);
    })?;
    if !found {
        let cut = replayed.0.head.n < written.n;
        return Err(BrokerError::LedgerHead(if cut { "its last lines are gone" } else { "its lines are others" }));
    }
    Ok(replayed)
}

/// Everything up to the last whole line; returns its length too.
fn replay(file: &File, visit: &mut dyn FnMut(&Entry)) -> Result<(Summary, u64), BrokerError> {
    let mut reader = BufReader::new(file);
    let mut head = Head::NONE;
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

    fn key() -> HeadKey {
        HeadKey::derive(&[7; 32]).unwrap()
    }

    /// Three lines; what comes back besides the head is the head file after each number of lines.
    fn three(path: &Path) -> (Head, Vec<Vec<u8>>) {
        let mut ledger = Ledger::create(path, &key()).unwrap();
        let head_file = || fs::read(path.with_file_name(files::HEAD)).unwrap();
        let mut heads = vec![head_file()];
        for n in 1..=3 {
            assert_eq!(ledger.append(floor(n), AT).unwrap().line.n, n);
            heads.push(head_file());
        }
        (ledger.head(), heads)
    }

    fn lines(whole: &[u8]) -> Vec<&[u8]> {
        whole.split_inclusive(|b| *b == b'\n').collect()
    }

    #[test]
    fn the_chain_is_what_the_design_says() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(LEDGER);
        let (head, _) = three(&path);
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
        assert_eq!(verify(&path, &key()).unwrap(), Summary { head, torn_bytes: 0 });
    }

    #[test]
    fn a_torn_last_line_is_cut_and_the_cut_recorded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(LEDGER);
        let (_, heads) = three(&path);
        let whole = fs::read(&path).unwrap();
        let second = whole.iter().enumerate().filter(|(_, b)| **b == b'\n').nth(1).unwrap().0 + 1;
        for cut in second + 1..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let mut events = Vec::new();
            // Torn after the line was acknowledged, it is no crash that tore it.
            fs::write(path.with_file_name(files::HEAD), &heads[3]).unwrap();
            let cut_later = Ledger::open(&path, &key(), AT, &mut |_| {});
            assert_eq!(cut_later.err().map(|e| e.code()), Some("LEDGER_BROKEN"));
            fs::write(path.with_file_name(files::HEAD), &heads[2]).unwrap();
            drop(Ledger::open(&path, &key(), AT, &mut |e| events.push(e.line.event.clone())).unwrap());
            let bytes = (cut - second) as u64;
            assert_eq!(events, [floor(1), floor(2), Event::Torn { bytes }]);
            let summary = verify(&path, &key()).unwrap();
            assert_eq!((summary.head.n, summary.torn_bytes), (3, 0));
        }
    }

    #[test]
    fn a_cut_ledger_is_noticed_by_its_head_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(LEDGER);
        let (head, heads) = three(&path);
        let whole = fs::read(&path).unwrap();
        let kept = |n: usize| lines(&whole)[..n].concat();
        let codes = |ledger: &[u8], head_file: Option<&Vec<u8>>| {
            fs::write(&path, ledger).unwrap();
            let _ = fs::remove_file(path.with_file_name(files::HEAD));
            if let Some(bytes) = head_file {
                fs::write(path.with_file_name(files::HEAD), bytes).unwrap();
            }
            let verified = verify(&path, &key()).err().map(|e| e.code());
            let opened = Ledger::open(&path, &key(), AT, &mut |_| {}).err().map(|e| e.code());
            assert_eq!(verified, opened);
            opened
        };
        let broken = Some("LEDGER_BROKEN");
        assert_eq!(codes(&whole, Some(&heads[3])), None, "control");
        for n in 0..3 {
            assert_eq!(codes(&kept(n), Some(&heads[3])), broken, "cut to {n} lines");
        }
        assert_eq!(codes(&whole, None), broken, "no head file");
        assert_eq!(codes(&[], None), broken, "neither");
        assert_eq!(codes(&whole, Some(&heads[1])), broken, "an old head file");
        assert_eq!(codes(&whole, Some(&heads[0])), broken, "the first head file");
        // A crash between the two writes: the line counts, and the head file follows.
        assert_eq!(codes(&whole, Some(&heads[2])), None);
        assert_eq!(fs::read(path.with_file_name(files::HEAD)).unwrap(), heads[3]);
        assert_eq!(verify(&path, &key()).unwrap().head, head);

        // Cut and written on: as long as before, with another third line.
        fs::write(&path, kept(2)).unwrap();
        fs::write(path.with_file_name(files::HEAD), &heads[2]).unwrap();
        Ledger::open(&path, &key(), AT, &mut |_| {}).unwrap().append(floor(9), AT).unwrap();
        let other = fs::read(&path).unwrap();
        assert_eq!(codes(&other, Some(&heads[3])), broken, "another line in its place");
        fs::remove_file(&path).unwrap();
        assert_eq!(Ledger::open(&path, &key(), AT, &mut |_| {}).err().map(|e| e.code()), broken, "no ledger");
        assert_eq!(verify(&path, &key()).err().map(|e| e.code()), broken);
    }

    #[test]
    fn without_its_head_a_line_is_not_acknowledged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(LEDGER);
        let mut ledger = Ledger::create(&path, &key()).unwrap();
        ledger.append(floor(1), AT).unwrap();
        // A directory in its place: the head can be prepared, and not put in force.
        fs::remove_file(path.with_file_name(files::HEAD)).unwrap();
        fs::create_dir(path.with_file_name(files::HEAD)).unwrap();
        for _ in 0..2 {
            assert_eq!(ledger.append(floor(2), AT).unwrap_err().code(), "LEDGER_UNWRITABLE");
        }
        assert_eq!(lines(&fs::read(&path).unwrap()).len(), 2, "it stays where a restart finds it, and nothing follows");
    }

    #[test]
    fn any_other_break_refuses_to_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(LEDGER);
        three(&path);
        let whole = fs::read(&path).unwrap();
        let open = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            Ledger::open(&path, &key(), AT, &mut |_| {}).map(|_| ()).map_err(|e| e.code())
        };
        assert_eq!(open(&whole), Ok(()));
        for at in 0..whole.len() - 1 {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert_eq!(open(&changed), Err("LEDGER_BROKEN"), "byte {at}");
        }
        let lines = lines(&whole);
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
        let mut ledger = Ledger::create(&path, &key()).unwrap();
        let second = Ledger::open(&path, &key(), AT, &mut |_| {});
        assert_eq!(second.map(|_| ()).map_err(|e| e.code()), Err("STATE_LOCKED"));
        ledger.append(floor(1), AT).unwrap();
        let before = fs::read(&path).unwrap();
        fs::write(&path, b"").unwrap();
        for _ in 0..2 {
            assert_eq!(ledger.append(floor(2), AT).unwrap_err().code(), "LEDGER_UNWRITABLE");
        }
        drop(ledger);
        fs::write(&path, before).unwrap();
        assert!(Ledger::open(&path, &key(), AT, &mut |_| {}).unwrap().append(floor(1), AT).is_ok());
    }
}
