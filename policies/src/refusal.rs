//! Turns rules that said no into reasons with a stable code, expected and actual, and what to do.
//! A refusal does not say who is to blame: the evidence may be genuine and merely not wanted.

use core::fmt;

use serde::Serialize;
use serde_json::{Value, json};
use vouchsafe_attestation::Mode;

use crate::{
    Check, Class,
    table::{Row, columns},
};

/// One rule that said no.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// The stable code.
    pub code: &'static str,
    /// What was looked at.
    pub check: &'static str,
    /// What the policy accepts.
    pub expected: String,
    /// What was found.
    pub actual: String,
    /// What to do.
    pub remedy: &'static str,
    /// The rule.
    #[serde(skip)]
    pub rule: Check,
}

impl Reason {
    pub(crate) fn new(rule: Check, expected: String, actual: String) -> Self {
        Self { code: rule.code(), check: rule.subject(), expected, actual, remedy: rule.remedy(), rule }
    }
}

/// The verdict that evidence is not wanted, with every reason.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Every rule that said no; binding failures first. Never empty.
    pub reasons: Vec<Reason>,
    mode: Mode,
    policy: String,
    rows: Vec<Row>,
}

impl Refusal {
    pub(crate) fn new(mut reasons: Vec<Reason>, mode: Mode, policy: String, rows: Vec<Row>) -> Self {
        reasons.sort_by_key(|reason| match reason.rule.class() {
            Class::Binding => 0,
            Class::Policy => 1,
            Class::Stale => 2,
        });
        Self { reasons, mode, policy, rows }
    }

    fn first(&self) -> Check {
        // `appraise` makes a refusal only when there is a reason; without one, the least committal code stands.
        self.reasons.first().map_or(Check::ReportData, |reason| reason.rule)
    }

    /// The code of the first reason.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.first().code()
    }

    /// The exit status: 2 when the evidence does not speak for this session, 4 when the policy refuses,
    /// 3 when nothing but newer collateral is wanting.
    #[must_use]
    pub fn exit(&self) -> u8 {
        match self.first().class() {
            Class::Binding => 2,
            Class::Policy => 4,
            Class::Stale => 3,
        }
    }

    /// What to do about the first reason.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        self.first().remedy()
    }

    /// Whether a rule is among the reasons.
    #[must_use]
    pub fn names(&self, check: Check) -> bool {
        self.reasons.iter().any(|reason| reason.rule == check)
    }

    /// The policy's mode.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Everything that was looked at, accepted or not.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The verdict for `--json`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "accepted": false,
            "mode": self.mode.as_str(),
            "simulated": self.mode == Mode::Simulation,
            "policy": self.policy,
            "code": self.code(),
            "exit": self.exit(),
            "reasons": self.reasons,
            "rows": self.rows,
        })
    }

    /// The whole table, for people.
    #[must_use]
    pub fn table(&self) -> String {
        format!("{}\n{}", self.headline(), columns(&self.rows))
    }

    fn headline(&self) -> String {
        let word = match self.mode {
            Mode::Hardware => "",
            Mode::Simulation => "SIMULATED: ",
        };
        let n = self.reasons.len();
        let plural = if n == 1 { "reason" } else { "reasons" };
        format!("{word}refused by the policy \"{}\" (mode {}), {n} {plural}", self.policy, self.mode)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.headline())?;
        for reason in &self.reasons {
            write!(
                f,
                "\n  {}: {}: expected {}; found {}\n      {}",
                reason.code, reason.check, reason.expected, reason.actual, reason.remedy
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}
