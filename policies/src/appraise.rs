//! Turns [`Authentic`] evidence and a [`Policy`] into [`Appraised`], or into a [`Refusal`] with every reason.
//! It does not verify signatures: it takes the verdict of [`vouchsafe_attestation::verify`] and nothing less.

use core::fmt;

use serde_json::{Value, json};
use vouchsafe_attestation::{Authentic, Claims, Mode, Tee, UnixTime};

use crate::{
    Binding, Expected, Policy, RULES_WRITTEN, Refusal, Row,
    facts::Facts,
    rules,
    table::{Table, columns},
};

/// Appraises authentic evidence, at the relying party's own time under which it was verified.
///
/// # Errors
/// Every rule that says no, in one refusal.
pub fn appraise(authentic: Authentic, policy: &Policy, expected: &Expected<'_>) -> Result<Appraised, Refusal> {
    let rules = policy.rules();
    let (table, claims) = rules::judge(&Facts::of(&authentic, policy.anchors().id()), rules, expected);
    let Table { rows, reasons, warnings, notes, mut not_proven, .. } = table;
    if !reasons.is_empty() {
        return Err(Refusal::new(reasons, rules.mode, rules.name.clone(), rows));
    }
    let warned = warnings.len();
    let mut all_notes = warnings;
    all_notes.extend(rules.written.iter().cloned());
    all_notes.extend(rules.anys(authentic.tee()));
    all_notes.extend(notes);
    not_proven.extend(never_proven(rules.mode, expected));
    let at = authentic.at();
    if at < RULES_WRITTEN {
        all_notes.push(format!(
            "the time of this verdict, {at}, is before this release's rules were written ({RULES_WRITTEN})"
        ));
    }
    Ok(Appraised {
        authentic,
        binding: expected.binding(),
        claims,
        rows,
        warned,
        notes: all_notes,
        not_proven,
        policy_name: rules.name.clone(),
        policy_digest: rules.digest,
        at,
    })
}

/// What no attestation of this kind can prove, in plain words.
fn never_proven(mode: Mode, expected: &Expected<'_>) -> Vec<String> {
    let mut words = Vec::new();
    if mode == Mode::Simulation {
        words.push(
            "anything about hardware: the processor is SIMULATED, and whoever holds the simulated root's key can make this evidence",
        );
    }
    words.push("availability: the host can stop, delay or slow the service at any time");
    words.push("that nobody taps the memory bus with a physical interposer (TEE.fail class): trust the place where the machine stands");
    words.push("that the processor has no leak beyond those its vendor has fixed");
    words.push("that the model itself answers well, or is not malicious within what its usage policy allows");
    if matches!(expected, Expected::Release { .. }) {
        words.push("that a customer's connection ends in this enclave: the verdict is about a key release");
    }
    words.into_iter().map(str::to_owned).collect()
}

/// The verdict that authentic evidence is wanted. Nobody but [`appraise`] can make one.
#[must_use = "a verdict that nobody uses protects nothing"]
pub struct Appraised {
    authentic: Authentic,
    binding: Binding,
    claims: Option<Claims>,
    rows: Vec<Row>,
    /// So many of the notes, the first ones, are warnings.
    warned: usize,
    notes: Vec<String>,
    not_proven: Vec<String>,
    policy_name: String,
    policy_digest: [u8; 32],
    at: UnixTime,
}

impl Appraised {
    /// Under which kind of root. `Simulation` proves nothing about hardware.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.authentic.mode()
    }

    /// Which technology.
    #[must_use]
    pub fn tee(&self) -> Tee {
        self.authentic.tee()
    }

    /// The verified evidence.
    pub fn authentic(&self) -> &Authentic {
        &self.authentic
    }

    /// What the evidence was compared with. Whoever acts on a verdict demands the kind that allows the deed.
    #[must_use]
    pub fn binding(&self) -> Binding {
        self.binding
    }

    /// What the enclave said, bound by the evidence. A key release has no claims.
    #[must_use]
    pub fn claims(&self) -> Option<&Claims> {
        self.claims.as_ref()
    }

    /// What is accepted until a written day only, with the days left.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        self.parted().0
    }

    /// All warnings, then what the policy left open in writing, re-set, or accepts with a remark.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What was looked at, who proved it, what became of it.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// What this verdict does not prove, in plain words.
    #[must_use]
    pub fn not_proven(&self) -> &[String] {
        &self.not_proven
    }

    /// SHA-256 of the policy file.
    #[must_use]
    pub fn policy_digest(&self) -> [u8; 32] {
        self.policy_digest
    }

    /// The policy's name.
    #[must_use]
    pub fn policy_name(&self) -> &str {
        &self.policy_name
    }

    /// The relying party's time of the appraisal.
    #[must_use]
    pub fn at(&self) -> UnixTime {
        self.at
    }

    /// The verdict for `--json`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "accepted": true,
            "mode": self.mode().as_str(),
            "simulated": self.mode() == Mode::Simulation,
            "tee": self.tee().as_str(),
            "at": self.at.to_string(),
            "policy": self.policy_name,
            "policy_sha256": hex::encode(self.policy_digest),
            "rows": self.rows,
            "warnings": self.warnings(),
            "notes": self.notes,
            "not_proven": self.not_proven,
            "claims": self.claims,
        })
    }

    fn parted(&self) -> (&[String], &[String]) {
        self.notes.split_at(self.warned.min(self.notes.len()))
    }

    fn headline(&self) -> String {
        match self.mode() {
            Mode::Hardware => format!("accepted under the policy \"{}\" (mode hardware)", self.policy_name),
            Mode::Simulation => format!(
                "SIMULATED: accepted under the policy \"{}\" (mode simulation); no hardware protects anything here",
                self.policy_name
            ),
        }
    }
}

impl fmt::Display for Appraised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.headline())?;
        f.write_str(&columns(&self.rows))?;
        for (title, lines) in [
            ("WARNING, accepted until a day", self.parted().0),
            ("left open or worth knowing", self.parted().1),
            ("not proven", &self.not_proven[..]),
        ] {
            if !lines.is_empty() {
                writeln!(f, "{title}:")?;
            }
            for line in lines {
                writeln!(f, "  - {line}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Appraised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.headline())
    }
}
