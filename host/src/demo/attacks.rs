//! Turns a running world into attacks that must be refused, each with a control that must succeed.
//! A code is always read from the refuser's own words: the enclave's event, the broker's ledger, the customer's verdict.

mod customer;
mod host;
mod machine;
mod session;
mod swapped;
mod unmeasured;

use serde_json::{Value, json};

use super::{print::Progress, story::Stage, world::World};
use crate::failure::Failure;

/// One attack and how it ended.
pub struct Played {
    /// Stable name.
    pub name: &'static str,
    /// What was tried, in plain words.
    pub title: &'static str,
    /// Which role refused.
    pub refused_by: &'static str,
    /// Its process.
    pub pid: u64,
    /// SHA-256 of its program, where this user may look at it.
    pub program: Option<String>,
    /// The code that it gave.
    pub code: String,
    /// The code that it should have given.
    pub expected: &'static str,
    /// How the same steps without the fault ended: `accepted` or a code.
    pub control: String,
    /// More facts, by name.
    pub facts: Value,
}

impl Played {
    /// Whether the attack was refused with the expected code and the control accepted.
    pub fn as_expected(&self) -> bool {
        self.code == self.expected && self.control == "accepted"
    }

    /// For `--json`.
    pub fn to_json(&self) -> Value {
        json!({
            "name": self.name, "refused_by": self.refused_by, "pid": self.pid, "program_sha256": self.program, "code": self.code,
            "expected": self.expected, "control": self.control, "facts": self.facts,
        })
    }
}

type Attack = fn(&mut World, &mut Stage) -> Result<Played, Failure>;

/// On every backend, in this order.
const ANYWHERE: [(&str, Attack); 5] = [
    ("the host swaps a model blob", host::blob_swapped),
    ("the host rolls the package back to version 1", host::rolled_back),
    ("a simulated verdict is offered under a hardware policy", customer::hardware_policy),
    ("recorded evidence is replayed", customer::replayed),
    ("evidence is relayed into another TLS session", customer::relayed),
];
/// Where the enclave is a process.
const PROCESS: [(&str, Attack); 1] = [("the host changes the enclave program", host::program_changed)];
/// Where it is a machine.
const MACHINE: [(&str, Attack); 10] = [
    ("the host changes the guest image", machine::image_changed),
    ("the host starts the machine with two processors", machine::other_vcpus),
    ("the host boots another command line than was measured", machine::command_line_changed),
    ("the host boots another initrd than was measured", machine::initrd_changed),
    ("the host leaves settings where a careless guest looks for them", machine::hostile_strings),
    ("the host hands the guest's kernel a program in an ACPI table", machine::acpi_table),
    ("the host offers the firmware a shim", unmeasured::shim_offered),
    ("the host gives a device a ROM with a driver for the firmware", unmeasured::option_rom),
    ("the host starves the kernel and attaches a disk", unmeasured::disk_booted),
    ("the host hands over another configuration than it bound", swapped::configuration),
];
/// These change the world for good, so they come last.
const FOR_GOOD: [(&str, Attack); 2] = [
    ("the model changes under an open session", session::model_changed),
    ("a key is asked for after the lease was revoked", session::revoked),
];

/// Plays every attack, or so many of them, into `played`; what was played stands there too when a later one cannot be.
pub fn play(
    world: &mut World,
    stage: &mut Stage,
    progress: &mut Progress,
    most: usize,
    played: &mut Vec<Played>,
) -> Result<(), Failure> {
    let own = if world.image.is_some() { &MACHINE[..] } else { &PROCESS };
    let all = [&ANYWHERE[..], own, &FOR_GOOD].concat();
    let most = most.min(all.len());
    // Evenly spread, the last one always among them.
    for (title, attack) in (1..=most).filter_map(|n| all.get((n * all.len()).div_ceil(most) - 1)) {
        progress.step("attack", title);
        played.push(attack(world, stage)?);
    }
    Ok(())
}

/// The code that stands in the broker's ledger under `ticket`.
fn ledger_code(world: &World, ticket: Option<&str>) -> Result<String, Failure> {
    let Some(ticket) = ticket else { return Ok("NO_TICKET".to_owned()) };
    let dir = world.at("broker/state");
    let shown = world.call(&["broker", "ledger", "show", &dir, ticket])?;
    let code = shown.get("entries").and_then(|e| e.get(0)).and_then(|e| e.get("code")).and_then(Value::as_str);
    Ok(code.unwrap_or("NO_LEDGER_LINE").to_owned())
}

/// `accepted`, or the code of the answer.
fn verdict_of(answer: &super::process::Answer) -> String {
    if answer.exit == 0 {
        return "accepted".to_owned();
    }
    answer.json.get("code").and_then(Value::as_str).unwrap_or("NO_CODE").to_owned()
}
