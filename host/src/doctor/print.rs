//! Turns findings into a table for people and one JSON object for programs.
//! It decides nothing.

use core::fmt::Write as _;

use serde_json::{Value, json};
use vouchsafe_launcher::Backend;

use super::{
    backends::{Finding, Outcome},
    host::Host,
};

/// The table.
pub fn text(host: &Host, findings: &[Finding]) -> String {
    let mut out = format!("This host: {}\n", summary(host));
    for finding in findings {
        let verdict = if finding.can_run() { "can run here" } else { "cannot run here" };
        let _ = write!(out, "\n{} {verdict}{}\n", finding.backend.as_str(), about(finding.backend));
        for requirement in &finding.requirements {
            let (mark, word) = match requirement.outcome {
                Outcome::Met => ("yes", ""),
                Outcome::Missing => ("NO", "fix"),
                Outcome::Better => ("but", "note"),
                Outcome::Open => ("?", "do"),
            };
            let _ = writeln!(out, "  {mark:<5} {:<15} {}", requirement.name, requirement.found);
            if !requirement.fix.is_empty() {
                let _ = writeln!(out, "        {word:<15} {}", requirement.fix);
            }
        }
    }
    out
}

fn about(backend: Backend) -> &'static str {
    match backend {
        Backend::Snp | Backend::Tdx => "",
        Backend::SimVm | Backend::SimProcess => " (a rehearsal: it protects nothing)",
    }
}

fn summary(host: &Host) -> String {
    let cpu = host.cpu.name.clone().unwrap_or_else(|| "a processor without a name".to_owned());
    let place = if host.cpu.has("hypervisor") { ", a virtual machine" } else { "" };
    let kernel = host.kernel.map_or_else(|| "an unknown kernel".to_owned(), |version| format!("Linux {version}"));
    let memory = host.memory.total_mib.map_or_else(String::new, |mib| format!(", {mib} MiB of memory"));
    format!("{cpu}{place}, {kernel}{memory}")
}

/// Everything, as one object.
pub fn json(host: &Host, findings: &[Finding]) -> Value {
    let backends: Vec<Value> = findings
        .iter()
        .map(|finding| {
            json!({
                "backend": finding.backend.as_str(),
                "can_run": finding.can_run(),
                "requirements": finding.requirements,
            })
        })
        .collect();
    let runnable: Vec<&str> = findings.iter().filter(|f| f.can_run()).map(|f| f.backend.as_str()).collect();
    json!({ "can_run": runnable, "backends": backends, "host": host })
}
