//! Turns a child's output into bounded, printable lines with a prefix on standard error.
//! What a line says is the child's word.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    thread,
    time::{Duration, Instant},
};

/// How long the last line of a child is waited for.
const PATIENCE: Duration = Duration::from_millis(500);
/// Longer lines are cut.
const MAX_LINE: usize = 8 * 1024;

/// Lines under way.
pub struct Lines(Option<thread::JoinHandle<()>>);

impl Lines {
    /// Those that another thread forwards.
    pub(crate) const fn of(thread: thread::JoinHandle<()>) -> Self {
        Self(Some(thread))
    }

    /// Waits for the last line of a child that has ended, since it often says why; not for a reader who has stopped reading.
    pub fn finish(&mut self) {
        let until = Instant::now() + PATIENCE;
        while self.0.as_ref().is_some_and(|thread| !thread.is_finished()) && Instant::now() < until {
            thread::sleep(Duration::from_millis(2));
        }
        self.0 = None;
    }
}

/// Forwards `source` until it ends, on a thread of its own.
pub fn forward(prefix: &'static str, source: impl Read + Send + 'static) -> Lines {
    watch(prefix, source, |_| {})
}

/// The same, and shows every line to `look`.
pub fn watch(prefix: &'static str, source: impl Read + Send + 'static, look: impl Fn(&str) + Send + 'static) -> Lines {
    let copy = move || {
        let mut source = BufReader::new(source);
        while let Ok(Some(line)) = next_line(&mut source) {
            look(&line);
            if writeln!(io::stderr().lock(), "{prefix} | {line}").is_err() {
                // Nobody reads: keep the child's pipe empty all the same.
                let _ = io::copy(&mut source, &mut io::sink());
            }
        }
    };
    // Without a thread the child's lines stay unread in its pipe; the launch itself does not depend on them.
    Lines(thread::Builder::new().name("lines".into()).spawn(copy).ok())
}

/// The next line, cut and made printable; `None` at the end.
fn next_line(source: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    let count = source.by_ref().take(MAX_LINE as u64).read_until(b'\n', &mut line)?;
    if count == 0 {
        return Ok(None);
    }
    if line.last() != Some(&b'\n') && count == MAX_LINE {
        skip_line(source)?;
        line.extend_from_slice(b" [cut]");
    }
    let text = String::from_utf8_lossy(&line);
    Ok(Some(text.trim_end().chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()))
}

fn skip_line(source: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = source.fill_buf()?;
        if buffer.is_empty() {
            return Ok(());
        }
        let (used, found) = buffer.iter().position(|b| *b == b'\n').map_or((buffer.len(), false), |at| (at + 1, true));
        source.consume(used);
        if found {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_and_printable() {
        let mut text = b"one\n\x1b[31mred\xff\n".to_vec();
        text.extend(vec![b'x'; 3 * MAX_LINE]);
        text.extend_from_slice(b"\nlast");
        let mut source = BufReader::new(&text[..]);
        let mut lines = Vec::new();
        while let Some(line) = next_line(&mut source).unwrap() {
            lines.push(line);
        }
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[1], "\u{fffd}[31mred\u{fffd}");
        assert!(lines[2].len() < MAX_LINE + 10 && lines[2].ends_with(" [cut]"));
        assert_eq!((lines[0].as_str(), lines[3].as_str()), ("one", "last"));
    }
}
