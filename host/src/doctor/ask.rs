//! Turns questions that files cannot answer into questions to the running kernel and to QEMU.
//! QEMU's answers are what that program says of itself.

use std::{
    io::Read,
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use landlock::{ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, Scope};
use serde::Serialize;

/// How much of a program's answer is read.
const MAX_ANSWER: u64 = 256 << 10;
/// How long a program may take to say what it is.
const PATIENCE: Duration = Duration::from_secs(10);

/// How much of the enclave's fence this kernel enforces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Landlock {
    /// All of it.
    Full,
    /// Files, but not sockets or signals.
    Part,
    /// Nothing.
    None,
}

/// Whoever answers; tests have one of their own.
pub trait Ask {
    /// What the program prints to standard output; nothing when it cannot be run or takes too long.
    fn run(&self, program: &Path, arguments: &[&str]) -> Option<String>;
    /// What the kernel enforces.
    fn landlock(&self) -> Landlock;
}

/// The machine that this runs on.
pub struct ThisMachine;

impl Ask for ThisMachine {
    fn run(&self, program: &Path, arguments: &[&str]) -> Option<String> {
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

    fn landlock(&self) -> Landlock {
        // Rules are made and dropped; nothing is enforced on this process. ABI 6 is what the enclave asks for.
        let hard = || Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
        let part = hard().handle_access(AccessFs::from_all(ABI::V1)).and_then(Ruleset::create);
        let full = hard()
            .handle_access(AccessFs::from_all(ABI::V6))
            .and_then(|rules| rules.handle_access(AccessNet::from_all(ABI::V6)))
            .and_then(|rules| rules.scope(Scope::from_all(ABI::V6)))
            .and_then(Ruleset::create);
        match (full, part) {
            (Ok(_), _) => Landlock::Full,
            (Err(_), Ok(_)) => Landlock::Part,
            (Err(_), Err(_)) => Landlock::None,
        }
    }
}
