//! Turns a question to an installed program into what it prints.
//! It believes nothing of it: that is the caller's.

use std::{
    io::Read,
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

/// How much of a program's answer is read, in bytes.
const MAX_ANSWER: u64 = 256 << 10;
/// How long a program may take to say what it is.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the program prints to standard output, with an empty environment; nothing when it cannot be run or takes more than 10 s.
#[must_use]
pub fn ask(program: &Path, arguments: &[&str]) -> Option<String> {
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let out = child.stdout.take()?;
    let (sender, answer) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = out.take(MAX_ANSWER).read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    let bytes = answer.recv_timeout(PATIENCE).ok();
    let _ = child.kill();
    let _ = child.wait();
    bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}
