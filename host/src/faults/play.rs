//! Turns chosen faults into rows: who refused, with which code, which was expected, and how the control ended.
//! A row that is not as expected changes nothing for the next one.

use std::path::Path;

use serde_json::{Value, json};
use vouchsafe_attestation::Tee;

use super::{
    lab::{Heard, Lab},
    print::Progress,
    release,
    table::{Fault, LAB, Made, Played, Role},
};
use crate::failure::Failure;

/// One fault at one place, and how it ended.
pub struct Row {
    /// The fault.
    pub fault: &'static Fault,
    /// The technology.
    pub tee: Tee,
    /// Who must refuse.
    pub refused_by: Role,
    /// How the fault reaches it.
    pub place: &'static str,
    /// Its process.
    pub pid: u64,
    /// SHA-256 of its program, where this user may look at it.
    pub program: Option<String>,
    /// What it said.
    pub code: String,
    /// What it must say.
    pub expected: &'static str,
    /// What the same steps without the fault led to: `accepted`, or a code.
    pub control: String,
}

impl Row {
    /// Whether the fault was refused with the expected code, and its control accepted.
    pub fn as_expected(&self) -> bool {
        self.code == self.expected && self.control == "accepted"
    }

    /// For `--json`.
    pub fn to_json(&self) -> Value {
        json!({
            "name": self.fault.name, "tee": self.tee.as_str(), "group": self.fault.group.as_str(),
            "refused_by": self.refused_by.as_str(), "place": self.place, "pid": self.pid, "program_sha256": self.program,
            "code": self.code, "expected": self.expected, "control": self.control,
        })
    }
}

/// How many rows the faults have in one technology.
pub fn rows_of(faults: &[&'static Fault], tee: Tee) -> usize {
    faults.iter().filter(|fault| fault.tees.contains(&tee)).map(|fault| fault.refusals().len()).sum()
}

/// Plays the faults of one technology in a world of their own.
pub fn world(dir: &Path, tee: Tee, faults: &[&'static Fault], progress: &Progress) -> Result<Vec<Row>, Failure> {
    let mut lab = Lab::start(dir, tee, &|step| progress.say(&format!("{tee}: {step}")))?;
    if tee == Tee::SevSnp && faults.iter().any(|fault| fault.name.starts_with("vlek-")) {
        progress.say(&format!("{tee}: a cloud provider's key"));
        lab.load_key()?;
    }
    if faults.iter().any(|fault| fault.name == "nonce-expired") {
        release::take_early(&mut lab)?;
    }
    let mut rows = Vec::new();
    for fault in faults.iter().filter(|fault| fault.tees.contains(&tee)) {
        match fault.made {
            Made::Device(places) => {
                for (against, expected) in places {
                    let played = lab.device(fault.name, *against);
                    rows.push(row(fault, tee, (against.role(), against.as_str(), expected), played, progress));
                }
            }
            Made::Lab { refused_by, expected, play } => {
                let played = play(&mut lab);
                rows.push(row(fault, tee, (refused_by, LAB, expected), played, progress));
            }
        }
    }
    Ok(rows)
}

/// A failure of the lab itself is a row too: nobody refused anything.
fn row(
    fault: &'static Fault,
    tee: Tee,
    (refused_by, place, expected): (Role, &'static str, &'static str),
    played: Result<Played, Failure>,
    progress: &Progress,
) -> Row {
    let row = match played {
        Ok(Played { heard, control }) => {
            let Heard { code, pid, program } = heard;
            Row { fault, tee, refused_by, place, pid, program, code, expected, control }
        }
        Err(failure) => {
            progress.note(&format!("{tee} {}: {} [{}]", fault.name, failure.fact, failure.code));
            let (code, control) = (failure.code.to_owned(), "not played".to_owned());
            Row { fault, tee, refused_by, place, pid: 0, program: None, code, expected, control }
        }
    };
    progress.played(&row);
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::table::all;

    #[test]
    fn only_the_expected_code_with_an_accepted_control_will_do() {
        let fault = all().next().unwrap();
        let ended = |code: &str, control: &str| {
            let (code, control) = (code.to_owned(), control.to_owned());
            let row = Row {
                fault,
                tee: Tee::SevSnp,
                refused_by: Role::Broker,
                place: LAB,
                pid: 1,
                program: None,
                code,
                expected: "A",
                control,
            };
            row.as_expected()
        };
        assert!(ended("A", "accepted"));
        assert!(!ended("accepted", "accepted"), "a fault that was accepted");
        assert!(!ended("B", "accepted"), "another code");
        assert!(!ended("", "accepted"), "no code");
        assert!(!ended("A", "A"), "a control that was refused as well proves nothing");
        assert!(!ended("A", "not played"));
    }
}
