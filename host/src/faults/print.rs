//! Turns faults and their ends into tables, JSON and progress.
//! It adds nothing to what the lab heard.

use std::{collections::BTreeSet, io::IsTerminal as _};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use vouchsafe_attestation::Tee;

use super::{
    play::Row,
    table::{Fault, Made},
};

/// Progress on standard error: a bar on a terminal, a line now and then elsewhere.
pub struct Progress {
    bar: ProgressBar,
    lines: bool,
}

impl Progress {
    /// A bar over `total` rows.
    pub fn new(total: usize, json: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = if terminal { ProgressBar::new(total as u64) } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{pos:>3}/{len} {wide_msg} {elapsed}") {
            bar.set_style(style);
        }
        Self { bar, lines: !terminal && !json }
    }

    /// What is being done.
    pub fn say(&self, what: &str) {
        self.bar.set_message(what.to_owned());
        if self.lines {
            eprintln!("{what}");
        }
    }

    /// Something that must not be missed.
    pub fn note(&self, what: &str) {
        self.bar.suspend(|| eprintln!("{what}"));
    }

    /// One row has ended.
    pub fn played(&self, row: &Row) {
        self.bar.inc(1);
        self.bar.set_message(format!("{} {}: {}", row.tee, row.fault.name, row.code));
    }

    /// The end.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// The table of what happened.
pub fn table(rows: &[Row], seconds: f64) {
    println!(
        "SIMULATED. Every code is the refusing program's own word; the control is the same step without the fault.\n"
    );
    println!("  {:<30} {:<8} {:<9} {:<30} {:<30} control", "name", "tee", "refused", "code", "expected");
    for row in rows {
        let mark = if row.as_expected() { ' ' } else { '!' };
        println!(
            "{mark} {:<30} {:<8} {:<9} {:<30} {:<30} {}",
            row.fault.name,
            row.tee.as_str(),
            row.refused_by.as_str(),
            row.code,
            row.expected,
            row.control
        );
    }
    let totals = totals(rows);
    println!(
        "\n{} faults by name, {} refusals heard, {} as expected, in {seconds:.1} s.",
        totals["names"], totals["rows"], totals["as_expected"]
    );
}

/// One object with one entry for each row.
pub fn json(rows: &[Row], seconds: f64) -> Value {
    let faults: Vec<Value> = rows.iter().map(Row::to_json).collect();
    let accepted = rows.iter().all(Row::as_expected);
    json!({ "accepted": accepted, "mode": "simulation", "faults": faults, "totals": totals(rows), "seconds": seconds })
}

fn totals(rows: &[Row]) -> Value {
    let names = |wanted: &dyn Fn(&Row) -> bool| {
        rows.iter().filter(|r| wanted(r)).map(|r| r.fault.name).collect::<BTreeSet<_>>().len()
    };
    json!({
        "names": names(&|_| true),
        "sev-snp": names(&|r| r.tee == Tee::SevSnp),
        "tdx": names(&|r| r.tee == Tee::Tdx),
        "rows": rows.len(),
        "as_expected": rows.iter().filter(|r| r.as_expected()).count(),
    })
}

/// What would be played.
pub fn list(faults: &[&'static Fault], json: bool) {
    if json {
        let faults: Vec<Value> = faults.iter().map(|fault| entry(fault)).collect();
        println!("{}", json!({ "faults": faults }));
        return;
    }
    for fault in faults {
        println!("{:<30} {:<12} {:<14} {}", fault.name, tees(fault).join(" "), fault.group.as_str(), fault.what);
        for (role, place, code) in fault.refusals() {
            println!("{:<30} {:<12} {:<14} -> {} says {code} ({place})", "", "", "", role.as_str());
        }
    }
}

fn entry(fault: &Fault) -> Value {
    let refusals: Vec<Value> = fault
        .refusals()
        .into_iter()
        .map(|(role, place, code)| json!({ "refused_by": role.as_str(), "place": place, "expected": code }))
        .collect();
    let made_by = match fault.made {
        Made::Device(_) => "simulator",
        Made::Lab { .. } => "lab",
    };
    json!({
        "name": fault.name, "tee": tees(fault), "group": fault.group.as_str(), "what": fault.what, "made_by": made_by,
        "refusals": refusals,
    })
}

fn tees(fault: &Fault) -> Vec<&'static str> {
    fault.tees.iter().map(|tee| tee.as_str()).collect()
}
