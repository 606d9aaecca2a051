//! Turns the demo's progress and results into lines for a person.
//! It adds nothing to what the steps found.

use std::{
    io::IsTerminal as _,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use vouchsafe_attestation::Tee;

use super::attacks::Played;

/// One line a step, with its seconds; a spinner while it runs when standard error is a terminal.
pub struct Progress {
    current: Option<(&'static str, String, Instant, ProgressBar)>,
    count: u32,
    quiet: bool,
}

impl Progress {
    /// `quiet` prints nothing at all, for `--json`.
    pub fn new(quiet: bool) -> Self {
        Self { current: None, count: 0, quiet }
    }

    /// Ends the step before and begins the next.
    pub fn step(&mut self, name: &'static str, what: &str) {
        self.finish();
        let bar = if self.quiet || !std::io::stderr().is_terminal() {
            ProgressBar::hidden()
        } else {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}  {elapsed}") {
                bar.set_style(style);
            }
            bar.set_message(format!("{name}: {what}"));
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        };
        self.current = Some((name, what.to_owned(), Instant::now(), bar));
    }

    /// Ends the current step.
    pub fn finish(&mut self) {
        if let Some((name, what, start, bar)) = self.current.take() {
            bar.finish_and_clear();
            self.count += 1;
            if !self.quiet {
                println!("{:>2}  {name:<9} {what}  ({:.2} s)", self.count, start.elapsed().as_secs_f64());
            }
        }
    }
}

/// The first lines: what this is and what it is not.
pub fn headline(tee: Tee) {
    println!(
        "SIMULATED. Real programs, real cryptography, the production verifier; the trust root was made on this machine,\n\
         so nothing here says anything about hardware. The same story on {} differs in the root and the device.\n",
        match tee {
            Tee::SevSnp => "AMD SEV-SNP",
            Tee::Tdx => "Intel TDX",
        }
    );
}

/// The rows that tell the story; all of them stand in `vouchsafe verify`.
const TOLD: [&str; 10] = [
    "trust root",
    "binding",
    "measured code",
    "measured code (MRTD)",
    "bound configuration",
    "machine",
    "signing key",
    "status of the platform",
    "model version",
    "model signature",
];

/// What the customer's verdict said, in short.
pub fn verdict(verdict: &Value) {
    let rows = verdict.get("rows").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let field = |row: &Value, name: &str| row.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
    println!("\nWhat the customer's verifier established before a byte of data left:");
    let told: Vec<_> = rows.iter().filter(|r| TOLD.contains(&field(r, "subject").as_str())).collect();
    let width = told.iter().map(|row| field(row, "subject").len()).max().unwrap_or(0).max(20);
    for row in &told {
        let fact: String = field(row, "fact").chars().take(96).collect();
        println!("  {:<width$} {fact}", field(row, "subject"));
    }
    println!("  … and {} more rows: vouchsafe verify prints them all", rows.len() - told.len());
    println!("Not established:");
    for line in verdict.get("not_proven").and_then(Value::as_array).into_iter().flatten() {
        println!("  - {}", line.as_str().unwrap_or(""));
    }
}

/// The measurement of the image, as the policy demanded it and as the evidence carried it.
pub fn measurement(demanded: &str, carried: Option<&str>) {
    println!("Measurement demanded  {demanded}\n            carried   {}", carried.unwrap_or("none"));
}

/// Predictions beside the true labels.
pub fn predictions(outputs: &Value, labels: Option<&[String]>, classes: &[String]) {
    let tensor = |name: &str| {
        let all = outputs.get("outputs").and_then(Value::as_array)?;
        all.iter().find(|o| o.get("name").and_then(Value::as_str) == Some(name))?.get("data").cloned()
    };
    let (Some(Value::Array(predicted)), Some(Value::Array(probabilities)), Some(labels)) =
        (tensor("label"), tensor("probabilities"), labels)
    else {
        println!("\nThe model's answer:\n{}", serde_json::to_string_pretty(outputs).unwrap_or_default());
        return;
    };
    println!("\nHeld-out rows, answered from inside the enclave:");
    println!("  row  predicted   probability  label");
    let mut right = 0;
    for (row, (class, label)) in predicted.iter().zip(labels).enumerate() {
        let class = class.as_u64().and_then(|c| usize::try_from(c).ok()).unwrap_or(usize::MAX);
        let name = classes.get(class).map_or("?", String::as_str);
        let probability = probabilities.get(row * classes.len() + class).and_then(Value::as_f64).unwrap_or(f64::NAN);
        right += u32::from(name == label);
        let mark = if name == label { "" } else { "   (wrong: no model is perfect)" };
        println!("  {row:>3}  {name:<10}  {probability:>11.4}  {label}{mark}");
    }
    println!("  {right} of {} right", labels.len());
}

/// The table of attacks.
pub fn attacks(played: &[Played]) {
    println!("\nAttacks, each against the running programs; the control is the same step without the fault:");
    println!("  {:<24} {:<10} {:<28} {:<8} what was tried", "name", "refused by", "code", "control");
    for attack in played {
        let mark = if attack.as_expected() { ' ' } else { '!' };
        println!(
            "{mark} {:<24} {:<10} {:<28} {:<8} {}",
            attack.name, attack.refused_by, attack.code, attack.control, attack.title
        );
        if !attack.as_expected() {
            println!("    EXPECTED {} and a control that was accepted", attack.expected);
        }
    }
}
