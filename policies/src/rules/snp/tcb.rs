//! Security versions against the floors, and whether the firmware that runs can still be rolled back.
//! A floor says that known holes are closed, not that there are none.

use vouchsafe_attestation::{
    UnixTime,
    snp::{Cpuid, Report, SnpFacts, Tcb},
};

use super::{CpuFloor, CurrentFloor, SnpRules, TcbFloor};
use crate::{
    Check, Forbid,
    rules::dates::{Phase, Written, days},
    table::{Prover, Table},
};

/// The lowest microcode for this CPU: its own stepping's entry, else its model's.
/// A report of version 2 names no CPU; then the highest floor of the product counts.
fn microcode(floor: &TcbFloor, cpu: Option<Cpuid>) -> Option<&CpuFloor> {
    let Some(cpu) = cpu else {
        return floor.microcode.iter().max_by_key(|entry| entry.min);
    };
    let of = |stepping| {
        let same = move |e: &&CpuFloor| (e.family, e.model, e.stepping) == (cpu.family, cpu.model, stepping);
        floor.microcode.iter().find(same)
    };
    of(Some(cpu.stepping)).or_else(|| of(None))
}

/// COMMITTED (offset 0x1E0), LAUNCH (0x1F0) and REPORTED (0x180) TCB against the product's floor.
pub(crate) fn floors(table: &mut Table, facts: &SnpFacts, rules: &SnpRules) {
    // Without a floor the product is not accepted either, and that rule says so.
    let Some(CurrentFloor { written, floor }) = rules.tcb(facts.product) else { return };
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
            let by = Written { source: sources(&below, &written.source, lowest), ..*written };
            table.refuse(Check::Tcb, Prover::Processor, format!("{name}: {wanted} ({by})"), format!("{name}: {found}"));
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
            let source = sources(&below, &from.source, lowest);
            match from.phase(at) {
                Phase::Before(left) => {
                    let left = days(left);
                    let note = format!(
                        "{left} left: from {} on this machine is refused, its {name} TCB needs {wanted} and has {found} ({source})",
                        from.at
                    );
                    table.warn(Check::TcbAnnounced, Prover::Processor, format!("{name}: {found}; {left} left"), note);
                }
                Phase::Reached => {
                    let wanted = format!("{name}: {wanted} from {} on ({source})", from.at);
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

/// Where the floors of these parts come from: the table's source, and the microcode's where that is another.
fn sources(below: &[(&'static str, u8, u8)], table: &str, microcode: Option<&CpuFloor>) -> String {
    let own = microcode.filter(|_| below.iter().any(|(part, ..)| *part == MICROCODE));
    match own.map(|entry| entry.source.as_str()) {
        Some(own) if own == table || below.len() == 1 => own.to_owned(),
        Some(own) => format!("{table}; {MICROCODE}: {own}"),
        None => table.to_owned(),
    }
}

const MICROCODE: &str = "microcode";

/// Every part below its floor: name, floor, found.
fn below(tcb: &Tcb, floor: &TcbFloor, microcode: Option<&CpuFloor>) -> Vec<(&'static str, u8, u8)> {
    let parts = [
        ("fmc", floor.fmc, tcb.fmc.unwrap_or(0)),
        ("bootloader", Some(floor.bootloader), tcb.bootloader),
        ("tee", Some(floor.tee), tcb.tee),
        ("snp", Some(floor.snp), tcb.snp),
        (MICROCODE, microcode.map(|entry| entry.min), tcb.microcode),
    ];
    parts
        .into_iter()
        .filter_map(|(part, least, found)| least.filter(|l| found < *l).map(|l| (part, l, found)))
        .collect()
}

/// Whether CURRENT is newer than COMMITTED in any part, and the mitigation vectors as bit masks.
pub(crate) fn firmware(table: &mut Table, facts: &SnpFacts, rules: &SnpRules) {
    let report = &facts.report;
    let newer = report.current > report.committed || exceeds(&report.current_tcb, &report.committed_tcb);
    match (newer, rules.provisional_firmware) {
        (false, _) => {
            table.accept(Check::Provisional, Prover::Processor, format!("{} runs and is committed", report.current))
        }
        (true, Forbid::Forbidden) => {
            table.refuse(Check::Provisional, Prover::Processor, "the running firmware is committed", pair(report));
        }
        (true, Forbid::Allowed) => {
            let note = "the firmware is not committed and the policy allows that (`sev-snp.provisional_firmware`)";
            table.allow(Check::Provisional, Prover::Processor, pair(report), note);
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

/// COMMITTED is never above CURRENT (AMD 56860): a report that says so is none of working firmware. No policy allows it.
pub(crate) fn consistent(table: &mut Table, report: &Report) {
    if report.committed > report.current || exceeds(&report.committed_tcb, &report.current_tcb) {
        let wanted = "nothing committed above what runs";
        table.refuse(Check::TcbInconsistent, Prover::Processor, wanted, pair(report));
    } else {
        table.accept(Check::TcbInconsistent, Prover::Processor, "nothing committed above what runs");
    }
}

/// Whether any part of `one` is above the same part of `other`.
fn exceeds(one: &Tcb, other: &Tcb) -> bool {
    one.fmc > other.fmc
        || one.bootloader > other.bootloader
        || one.tee > other.tee
        || one.snp > other.snp
        || one.microcode > other.microcode
}

fn pair(report: &Report) -> String {
    format!(
        "running {} ({}), committed {} ({})",
        report.current, report.current_tcb, report.committed, report.committed_tcb
    )
}
