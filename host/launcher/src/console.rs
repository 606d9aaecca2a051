//! Turns the bytes of a guest's serial console into bounded, printable lines, and recognises those that end a guest.
//! What a line says is the guest's word, or that of whoever runs in its place.

use crate::event::Code;

/// Longer lines are cut.
const MAX_LINE: usize = 1024;
/// What the kernel says last (`kernel/panic.c`).
const PANIC: &str = "Kernel panic";
/// What the enclave says last as a guest's first process: this, a code, and the fact.
const FATAL: &str = "vouchsafe: FATAL";
/// What a kernel says that found no room to unpack itself (drivers/firmware/efi/libstub/x86-stub.c). The firmware goes on.
const NO_ROOM: &str = "EFI stub: ERROR: Failed to decompress kernel";
/// What the firmware says when it was given no kernel, or none that it may start (MdeModulePkg, BdsDxe). Then it waits for ever.
const NO_KERNEL: &str = "No bootable option";

/// One line of the console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Printable text without escape sequences.
    pub text: String,
    /// What it says about the guest's end.
    pub alarm: Option<Alarm>,
}

/// A line after which nothing good follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// The kernel gave up.
    Panic,
    /// The enclave gave up, with this code.
    Fatal(Code),
    /// The kernel did not fit into memory.
    NoRoom,
    /// The firmware found no kernel that it may start.
    NoKernel,
}

impl Alarm {
    /// The alarm's code: the enclave's own, `GUEST_PANIC`, `GUEST_MEMORY` or `GUEST_NO_KERNEL`.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Panic => Code::new("GUEST_PANIC"),
            Self::Fatal(code) => code.clone(),
            Self::NoRoom => Code::new("GUEST_MEMORY"),
            Self::NoKernel => Code::new("GUEST_NO_KERNEL"),
        }
    }

    /// Whether the machine runs on and does nothing: only its host can end it.
    #[must_use]
    pub const fn leaves_it_stuck(&self) -> bool {
        matches!(self, Self::NoRoom | Self::NoKernel)
    }
}

/// The console so far.
#[derive(Default)]
pub struct Console {
    line: Vec<u8>,
    cut: bool,
    escape: Escape,
}

/// Where in an escape sequence the next byte stands (ECMA-48, section 5.4).
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Escape {
    /// In none.
    #[default]
    None,
    /// After ESC, and after intermediate bytes.
    Begun,
    /// In a control sequence: ESC [ … final byte.
    Control,
    /// In a string that BEL or ESC \ ends.
    String,
    /// After an ESC inside such a string.
    StringEnd,
}

impl Console {
    /// Takes the next bytes and hands on every line that they complete.
    pub fn feed(&mut self, bytes: &[u8], on_line: &mut dyn FnMut(Line)) {
        for byte in bytes {
            self.take(*byte, on_line);
        }
    }

    /// Hands on what came after the last line's end.
    pub fn finish(&mut self, on_line: &mut dyn FnMut(Line)) {
        let bytes = core::mem::take(&mut self.line);
        let cut = core::mem::take(&mut self.cut);
        let text = String::from_utf8_lossy(&bytes);
        let mut text: String = text.trim_end().chars().map(printable).collect();
        if text.is_empty() {
            return;
        }
        if cut {
            text.push_str(" [cut]");
        }
        on_line(Line { alarm: alarm(&text), text });
    }

    fn take(&mut self, byte: u8, on_line: &mut dyn FnMut(Line)) {
        // No sequence goes on in the next line: one that was cut off must not swallow what follows it.
        if matches!(byte, b'\n' | b'\r') {
            self.escape = Escape::None;
            return self.finish(on_line);
        }
        self.escape = match (self.escape, byte) {
            (Escape::String, 0x1b) => Escape::StringEnd,
            (_, 0x1b) => Escape::Begun,
            (Escape::None, byte) => {
                self.put(byte);
                Escape::None
            }
            (Escape::Begun, b'[') => Escape::Control,
            (Escape::Begun, b']' | b'P' | b'X' | b'^' | b'_') => Escape::String,
            (Escape::Begun, 0x20..=0x2f) => Escape::Begun,
            (Escape::Control, 0x40..=0x7e) => {
                // Firmware moves the cursor where others end a line.
                if matches!(byte, b'H' | b'f' | b'J') {
                    self.finish(on_line);
                }
                Escape::None
            }
            (Escape::Control, 0x20..=0x3f) => Escape::Control,
            (Escape::String, 0x07) => Escape::None,
            (Escape::String, _) => Escape::String,
            (Escape::Begun | Escape::Control | Escape::StringEnd, _) => Escape::None,
        };
    }

    fn put(&mut self, byte: u8) {
        if self.line.len() < MAX_LINE {
            self.line.push(byte);
        } else {
            self.cut = true;
        }
    }
}

/// Kernel and enclave write to one console, so that either may begin in the middle of the other's line.
fn alarm(text: &str) -> Option<Alarm> {
    if let Some((_, rest)) = text.split_once(FATAL) {
        return Some(Alarm::Fatal(Code::new(rest.split_whitespace().next().unwrap_or_default())));
    }
    let known = [(PANIC, Alarm::Panic), (NO_ROOM, Alarm::NoRoom), (NO_KERNEL, Alarm::NoKernel)];
    known.into_iter().find(|(words, _)| text.contains(words)).map(|(_, alarm)| alarm)
}

/// Neither controls nor the characters that turn the direction of text: a line must read as it is.
fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<Line> {
        let mut console = Console::default();
        let mut lines = Vec::new();
        for chunk in chunks {
            console.feed(chunk, &mut |line| lines.push(line));
        }
        console.finish(&mut |line| lines.push(line));
        lines
    }

    fn texts(bytes: &[u8]) -> Vec<String> {
        let whole: Vec<Line> = lines(&[bytes]);
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(lines(&single), whole, "how the bytes arrive does not matter");
        whole.into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn firmware_paints_and_lines_come_out() {
        let painted = b"\x1b[2J\x1b[01;01H\x1b[=3h\x1b[2J\x1b[01;01HBdsDxe: starting\x1b[0m Boot0001\r\n\r\n\x1b(B\x1b]0;title\x07next\x1b[2Jlast";
        assert_eq!(texts(painted), ["BdsDxe: starting Boot0001", "next", "last"]);
    }

    #[test]
    fn a_string_ends_with_its_line_at_the_latest() {
        assert_eq!(
            texts(b"\x1b]0;never ended\nseen\n\x1bPx\x1b\\seen\n\x1b[12\nseen too\n"),
            ["seen", "seen", "seen too"]
        );
    }

    #[test]
    fn nothing_unprintable_comes_out() {
        let hostile = "a\u{7}b\u{202e}c\td\u{9b}31m\u{0}".as_bytes();
        assert_eq!(texts(hostile), ["a\u{fffd}b\u{fffd}c d\u{fffd}31m\u{fffd}"]);
        assert_eq!(texts(b"\xff\xfe ok"), ["\u{fffd}\u{fffd} ok"]);
        let every: Vec<u8> = (0..=255).cycle().take(4096).collect();
        assert!(texts(&every).iter().all(|text| !text.chars().any(char::is_control)));
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let mut bytes = vec![b'x'; 5 * MAX_LINE];
        bytes.extend_from_slice(b"\nshort");
        let found = texts(&bytes);
        assert_eq!((found[0].len(), found[1].as_str()), (MAX_LINE + " [cut]".len(), "short"));
        assert!(found[0].ends_with(" [cut]"));
    }

    #[test]
    fn last_words_are_recognised() {
        let alarms = |bytes: &[u8]| lines(&[bytes]).into_iter().filter_map(|line| line.alarm).collect::<Vec<_>>();
        let panic = b"[    1.234567] Kernel panic - not syncing: VFS: Unable to mount root fs\r\n[    1.3] Kernel Offset: disabled\r\n";
        assert_eq!(alarms(panic), [Alarm::Panic]);
        let fatal = b"ready\r\nhalf a line vouchsafe: FATAL INIT_NETWORK no interface\r\n";
        assert_eq!(alarms(fatal), [Alarm::Fatal(Code::new("INIT_NETWORK"))]);
        assert_eq!(alarms(b"vouchsafe: FATAL \x1b[31mlower case\n")[0].code().to_string(), "UNREADABLE_CODE");
        assert_eq!(alarms(b"vouchsafe: FATAL "), [Alarm::Fatal(Code::new(""))]);
        assert_eq!(alarms(b"vouchsafe: serving\nno kernel panic here\n"), []);
        assert_eq!(Alarm::Panic.code().to_string(), "GUEST_PANIC");
        let painted = b"\x1b[01;01HBdsDxe: No bootable option or device was found.\r\n";
        let stub = b"EFI stub: ERROR: Failed to decompress kernel\n";
        for (text, code) in [(&painted[..], "GUEST_NO_KERNEL"), (&stub[..], "GUEST_MEMORY")] {
            let found = alarms(text);
            assert_eq!(
                (found.len(), found[0].code().to_string().as_str(), found[0].leaves_it_stuck()),
                (1, code, true)
            );
        }
        assert!(!Alarm::Panic.leaves_it_stuck());
    }
}
