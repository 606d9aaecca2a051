//! Turns questions that files cannot answer into questions to the running kernel and to QEMU.
//! QEMU's answers are what that program says of itself.

use std::path::Path;

use landlock::{ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, Scope};
use serde::Serialize;
use vouchsafe_launcher::backend::ask::ask;

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
        ask(program, arguments)
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
