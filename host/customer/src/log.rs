//! Turns verdicts and receipt digests into a hash-chained local log, one JSON line each: h_i = SHA-256(LP(label) LP(h_(i-1)) LP(line_i)).
//! Each line names the hash before it, so an edit inside shows; a changed or missing *last* line shows only against a head kept elsewhere.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, BufRead as _, BufReader, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use serde_json::{Value, json};
use vouchsafe_attestation::{UnixTime, lp::Transcript};

use crate::CustomerError;

/// Label of the chain.
pub const PROXY_LOG_LABEL: &str = "vouchsafe/1 proxy-log";
/// Longest line that is read or written.
const MAX_LINE: u64 = 64 * 1024;

/// What a log holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSummary {
    /// Whole lines.
    pub lines: u64,
    /// Hash over all of them; 32 zero bytes for none.
    pub head: [u8; 32],
    /// Bytes after the last line end: a line that was never finished.
    pub torn_bytes: u64,
}

/// An open log. One writer at a time.
pub struct ProxyLog {
    file: File,
    head: [u8; 32],
    len: u64,
    broken_by_write: bool,
}

impl ProxyLog {
    /// Opens or makes a log (0600), replays its chain, cuts an unfinished last line and records the cut.
    ///
    /// # Errors
    /// `LOG_UNREADABLE`, `LOG_LOCKED`, `LOG_BROKEN`, `LOG_UNWRITABLE`.
    pub fn open(path: &Path, now: UnixTime) -> Result<Self, CustomerError> {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
            .map_err(|e| CustomerError::local("LOG_UNREADABLE", "the log cannot be opened", &e))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let kind = io::ErrorKind::WouldBlock;
                return Err(CustomerError::Local { code: "LOG_LOCKED", fact: "another process writes this log", kind });
            }
            Err(TryLockError::Error(e)) => {
                return Err(CustomerError::local("LOG_UNREADABLE", "the log cannot be locked", &e));
            }
        }
        let summary = replay(&file)?;
        let all = file.metadata().map_err(|e| CustomerError::local("LOG_UNREADABLE", "the log cannot be read", &e))?;
        let len = all.len() - summary.torn_bytes.min(all.len());
        let mut log = Self { file, head: summary.head, len, broken_by_write: false };
        if summary.torn_bytes > 0 {
            log.file.set_len(len).map_err(|e| unwritable(&e))?;
            log.append(now, json!({"event": "cut", "bytes": summary.torn_bytes}))?;
        }
        Ok(log)
    }

    /// Appends one event, on disk before this returns. `event` is an object; `prev` and `at` are added.
    ///
    /// # Errors
    /// `LOG_UNWRITABLE`; an unfinished line is taken back, and if that fails nothing more is written.
    pub fn append(&mut self, now: UnixTime, event: Value) -> Result<[u8; 32], CustomerError> {
        let Value::Object(mut fields) = event else {
            return Err(unwritable(&io::ErrorKind::InvalidInput.into()));
        };
        fields.insert("prev".to_owned(), hex::encode(self.head).into());
        fields.insert("at".to_owned(), now.to_string().into());
        let mut line = Value::Object(fields).to_string();
        if self.broken_by_write || line.len() as u64 >= MAX_LINE {
            return Err(unwritable(&io::ErrorKind::InvalidData.into()));
        }
        let head = chain(&self.head, line.as_bytes());
        line.push('\n');
        let written = self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            self.broken_by_write = self.file.set_len(self.len).is_err();
            return Err(unwritable(&error));
        }
        self.len += line.len() as u64;
        self.head = head;
        Ok(head)
    }

    /// Hash over all lines so far.
    #[must_use]
    pub const fn head(&self) -> [u8; 32] {
        self.head
    }
}

/// Replays a log without changing it.
///
/// # Errors
/// `LOG_UNREADABLE`, `LOG_BROKEN`.
pub fn verify_log(path: &Path) -> Result<LogSummary, CustomerError> {
    let file = File::open(path).map_err(|e| CustomerError::local("LOG_UNREADABLE", "the log cannot be opened", &e))?;
    replay(&file)
}

fn replay(mut file: &File) -> Result<LogSummary, CustomerError> {
    let unreadable = |e: io::Error| CustomerError::local("LOG_UNREADABLE", "the log cannot be read", &e);
    file.seek(SeekFrom::Start(0)).map_err(unreadable)?;
    let mut reader = BufReader::new(file);
    let mut summary = LogSummary { lines: 0, head: [0; 32], torn_bytes: 0 };
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = io::Read::take(&mut reader, MAX_LINE).read_until(b'\n', &mut line).map_err(unreadable)?;
        if read == 0 {
            return Ok(summary);
        }
        if line.pop() != Some(b'\n') {
            if read as u64 == MAX_LINE {
                return Err(broken());
            }
            summary.torn_bytes = read as u64;
            return Ok(summary);
        }
        let value: Value = serde_json::from_slice(&line).map_err(|_| broken())?;
        if value.get("prev").and_then(Value::as_str) != Some(hex::encode(summary.head).as_str()) {
            return Err(broken());
        }
        summary.head = chain(&summary.head, &line);
        summary.lines += 1;
    }
}

fn chain(head: &[u8; 32], line: &[u8]) -> [u8; 32] {
    Transcript::<32>::new(PROXY_LOG_LABEL).lp(head).lp(line).finish()
}

fn broken() -> CustomerError {
    let kind = io::ErrorKind::InvalidData;
    CustomerError::Local { code: "LOG_BROKEN", fact: "a line of the log does not follow from the line before it", kind }
}

fn unwritable(error: &io::Error) -> CustomerError {
    CustomerError::local("LOG_UNWRITABLE", "the log cannot be written", error)
}
