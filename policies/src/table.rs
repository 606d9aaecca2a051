//! Turns findings into rows, reasons and notes: what was found, who proved it, what became of it.
//! It decides nothing: every rule brings its own outcome.

use serde::Serialize;
use vouchsafe_attestation::{Mode, Tee};

use crate::{Check, Reason};

/// One line of the table that a verdict prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// What was looked at.
    pub subject: &'static str,
    /// What was found.
    pub fact: String,
    /// Whose word it is.
    pub proven_by: &'static str,
    /// What the policy says to it.
    pub outcome: Outcome,
}

/// What became of one finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It is what the policy names.
    Accepted,
    /// The policy says `any`, or allows what it could forbid.
    Any,
    /// Accepted until a written day, which is named.
    Warned,
    /// It is not.
    Refused,
}

impl Outcome {
    /// One word for a table.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Any => "any",
            Self::Warned => "WARNING",
            Self::Refused => "REFUSED",
        }
    }
}

/// Whose word a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prover {
    /// The root and its certificates.
    Root,
    /// The secure processor, in its signed report.
    Processor,
    /// The root, in its signed revocation list.
    RevocationList,
    /// The root, in its signed assessment of the platform.
    Collateral,
    /// This program's own computation.
    Verifier,
    /// The enclave itself, in claims bound by the report.
    Enclave,
}

impl Prover {
    /// The words for a table.
    #[must_use]
    pub const fn as_str(self, mode: Mode, tee: Tee) -> &'static str {
        match (self, mode, tee) {
            (Self::Root, Mode::Hardware, Tee::SevSnp) => "AMD, by its certificates",
            (Self::Root, Mode::Hardware, Tee::Tdx) => "Intel, by its certificates",
            (Self::Root, Mode::Simulation, _) => "SIMULATED root, by its certificates",
            (Self::Processor, Mode::Hardware, Tee::SevSnp) => "the processor, in its signed report",
            (Self::Processor, Mode::Hardware, Tee::Tdx) => "the processor, in its signed quote",
            (Self::Processor, Mode::Simulation, Tee::SevSnp) => "SIMULATED processor, in its signed report",
            (Self::Processor, Mode::Simulation, Tee::Tdx) => "SIMULATED processor, in its signed quote",
            (Self::RevocationList, Mode::Hardware, Tee::SevSnp) => "AMD, in its signed revocation list",
            (Self::RevocationList, Mode::Hardware, Tee::Tdx) => "Intel, in its signed revocation lists",
            (Self::RevocationList, Mode::Simulation, _) => "SIMULATED root, in its revocation list",
            (Self::Collateral, Mode::Hardware, Tee::SevSnp) => "AMD, in its signed collateral",
            (Self::Collateral, Mode::Hardware, Tee::Tdx) => "Intel, in its signed collateral",
            (Self::Collateral, Mode::Simulation, _) => "SIMULATED root, in its collateral",
            (Self::Verifier, _, _) => "this program, by its own computation",
            (Self::Enclave, _, Tee::SevSnp) => "the measured code, in claims bound by the report",
            (Self::Enclave, _, Tee::Tdx) => "the measured code, in claims bound by the quote",
        }
    }
}

/// What the rules have found so far.
#[derive(Debug)]
pub(crate) struct Table {
    mode: Mode,
    tee: Tee,
    pub rows: Vec<Row>,
    pub reasons: Vec<Reason>,
    pub warnings: Vec<String>,
    pub notes: Vec<String>,
    pub not_proven: Vec<String>,
}

impl Table {
    pub(crate) fn new(mode: Mode, tee: Tee) -> Self {
        Self {
            mode,
            tee,
            rows: Vec::new(),
            reasons: Vec::new(),
            warnings: Vec::new(),
            notes: Vec::new(),
            not_proven: Vec::new(),
        }
    }

    /// The finding is what the policy names.
    pub(crate) fn accept(&mut self, check: Check, by: Prover, fact: impl Into<String>) {
        self.row(check.subject(), by, fact.into(), Outcome::Accepted);
    }

    /// The policy says `any`; [`crate::Rules`] notes that once for the whole policy.
    pub(crate) fn any(&mut self, check: Check, by: Prover, fact: impl Into<String>) {
        self.row(check.subject(), by, fact.into(), Outcome::Any);
    }

    /// The policy allows what it could forbid, and it is there.
    pub(crate) fn allow(&mut self, check: Check, by: Prover, fact: impl Into<String>, note: impl Into<String>) {
        self.any(check, by, fact);
        self.notes.push(note.into());
    }

    /// The finding is accepted until a written day.
    pub(crate) fn warn(&mut self, check: Check, by: Prover, fact: impl Into<String>, warning: String) {
        self.row(check.subject(), by, fact.into(), Outcome::Warned);
        self.warnings.push(warning);
    }

    /// The finding is not what the policy names.
    pub(crate) fn refuse(&mut self, check: Check, by: Prover, expected: impl Into<String>, actual: impl Into<String>) {
        let actual = actual.into();
        self.row(check.subject(), by, actual.clone(), Outcome::Refused);
        self.reasons.push(Reason::new(check, expected.into(), actual));
    }

    fn row(&mut self, subject: &'static str, by: Prover, fact: String, outcome: Outcome) {
        self.rows.push(Row { subject, fact, proven_by: by.as_str(self.mode, self.tee), outcome });
    }
}

/// Lays rows out in columns.
pub(crate) fn columns(rows: &[Row]) -> String {
    let width = |of: fn(&Row) -> usize| rows.iter().map(of).max().unwrap_or(0);
    let subject = width(|r| r.subject.chars().count());
    let prover = width(|r| r.proven_by.chars().count());
    let mut text = String::new();
    for row in rows {
        let outcome = row.outcome.as_str();
        text.push_str(&format!("  {outcome:8}  {:subject$}  {:prover$}  {}\n", row.subject, row.proven_by, row.fact));
    }
    text
}
