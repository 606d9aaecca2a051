//! Security versions against the floors, and whether the firmware that runs can still be rolled back.
//! A floor says that known holes are closed, not that there are none.

use vouchsafe_attestation::{
    UnixTime,
    snp::{Cpuid, Report, SnpFacts, Tcb},
};

use super::{SnpRules, TcbFloor};
use crate::{
    Check, Forbid,
    rules::dates::{Phase, days},
    table::{Prover, Table},
};

/// The lowest microcode for this CPU: its own stepping's entry, else its model's.
/// A report of version 2 names no CPU; then the highest floor of the product counts.
fn microcode(floor: &TcbFloor, cpu: Option<Cpuid>) -> Option<u8> {
    let Some(cpu) = cpu else {
        return floor.microcode.iter().map(|entry| entry.min).max();
    };
    let of = |stepping| {
        let same = move |e: &&crate::CpuFloor| (e.family, e.model, e.stepping) == (cpu.family, cpu.model, stepping);
        floor.microcode.iter().find(same).map(|entry| entry.min)
    };
    of(Some(cpu.stepping)).or_else(|| of(None))
}

/// COMMITTED (offset 0x1E0), LAUNCH (0x1F0) and REPORTED (0x180) TCB against the product's floor.
pub(crate) fn floors(table: &mut Table, facts: &SnpFacts, rules: &SnpRules) {
    // Without a floor the product is not accepted either, and that rule says so.
    let Some(floor) = rules.tcb(facts.product) else { return };
    let report = &facts.report;
    let lowest = microcode(floor, report.cpuid);
    match (lowest, report.cpuid) {
        (Some(_), Some(cpu)) => table.accept(Check::CpuModel, Prover::Processor, cpu.to_string()),
        (Some(_), None) => {
            table.accept(
                Check::CpuModel,
                Prover::Processor,
                "not named; the highest microcode floor of the product counts",
            );
        }
        (None, cpu) => {
            let found = cpu.map_or("not named".to_owned(), |cpu| cpu.to_string());
            table.refuse(Check::CpuModel, Prover::Processor, "a CPU with a microcode floor", found);
        }
    }
    for (name, tcb) in three(report) {
        let below = below(&tcb, floor, lowest);
        if below.is_empty() {
            table.accept(Check::Tcb, Prover::Processor, format!("{name}: {tcb}"));
        } else {
            let (wanted, found) = words(&below);
            table.refuse(Check::Tcb, Prover::Processor, format!("{name}: {wanted}"), format!("{name}: {found}"));
        }
    }
}

/// The same three against floors to come: a warning before the day, a refusal from then on.
pub(crate) fn announced(table: &mut Table, facts: &SnpFacts, rules: &SnpRules, at: UnixTime) {
    for rule in rules.announced.iter().filter(|rule| rule.product == facts.product) {
        let lowest = microcode(&rule.floor, facts.report.cpuid);
        let from = &rule.from;
        for (name, tcb) in three(&facts.report) {
            let below = below(&tcb, &rule.floor, lowest);
            if below.is_empty() {
                let fact = format!("{name}: meets the floor of {}", from.at);
                table.accept(Check::TcbAnnounced, Prover::Processor, fact);
                continue;
            }
            let (wanted, found) = words(&below);
            match from.phase(at) {
                Phase::Before(left) => {
                    let left = days(left);
                    let note = format!(
                        "{left} left: from {} on this machine is refused, its {name} TCB needs {wanted} and has {found} ({})",
                        from.at, from.source
                    );
                    table.warn(Check::TcbAnnounced, Prover::Processor, format!("{name}: {found}; {left} left"), note);
                }
                Phase::Reached => {
                    let wanted = format!("{name}: {wanted} from {} on ({})", from.at, from.source);
                    table.refuse(Check::TcbAnnounced, Prover::Processor, wanted, format!("{name}: {found}"));
                }
            }
        }
    }
}

fn three(report: &Report) -> [(&'static str, Tcb); 3] {
    [("committed", report.committed_tcb), ("launch", report.launch_tcb), ("reported", report.reported_tcb)]
}

/// What is wanted and what was found, of every part below its floor.
fn words(below: &[(&'static str, u8, u8)]) -> (String, String) {
    let wanted: Vec<_> = below.iter().map(|(part, least, _)| format!("{part} {least:#04x} or higher")).collect();
    let found: Vec<_> = below.iter().map(|(part, _, found)| format!("{part} {found:#04x}")).collect();
    (wanted.join(", "), found.join(", "))
}

/// Every part below its floor: name, floor, found.
fn below(tcb: &Tcb, floor: &TcbFloor, microcode: Option<u8>) -> Vec<(&'static str, u8, u8)> {
    let parts = [
        ("fmc", floor.fmc, tcb.fmc.unwrap_or(0)),
        ("bootloader", Some(floor.bootloader), tcb.bootloader),
        ("tee", Some(floor.tee), tcb.tee),
        ("snp", Some(floor.snp), tcb.snp),
        ("microcode", microcode, tcb.microcode),
    ];
    parts
        .into_iter()
        .filter_map(|(part, least, found)| least.filter(|l| found < *l).map(|l| (part, l, found)))
        .collect()
}

/// CURRENT against COMMITTED, for versions and for the TCB, and the mitigation vectors as bit masks.
pub(crate) fn firmware(table: &mut Table, facts: &SnpFacts, rules: &SnpRules) {
    let report = &facts.report;
    let same = report.current == report.committed && report.current_tcb == report.committed_tcb;
    let found = format!(
        "running {} ({}), committed {} ({})",
        report.current, report.current_tcb, report.committed, report.committed_tcb
    );
    match (same, rules.provisional_firmware) {
        (true, _) => {
            table.accept(Check::Provisional, Prover::Processor, format!("{} runs and is committed", report.current))
        }
        (false, Forbid::Forbidden) => {
            table.refuse(Check::Provisional, Prover::Processor, "the running firmware is committed", found);
        }
        (false, Forbid::Allowed) => {
            let note = "the firmware is not committed and the policy allows that (`sev-snp.provisional_firmware`)";
            table.allow(Check::Provisional, Prover::Processor, found, note);
        }
    }
    // Reports before version 5 have no vectors: no bit is proven.
    let launch = report.launch_mit_vector.unwrap_or(0);
    let now = report.current_mit_vector.unwrap_or(0);
    let found = format!("launch {launch:#x}, current {now:#x}");
    if launch & now & rules.mitigations == rules.mitigations {
        table.accept(Check::Mitigation, Prover::Processor, found);
    } else {
        let wanted = format!("the bits {:#x} in both vectors", rules.mitigations);
        table.refuse(Check::Mitigation, Prover::Processor, wanted, found);
    }
}
