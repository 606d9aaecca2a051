//! Turns every crate's error into what a person or a script reads: fact, stable code, advice, exit status.
//! It adds no facts of its own and never prints text that came from a peer.

use serde_json::{Value, json};

/// Why a command ended without its result.
#[derive(Debug)]
pub struct Failure {
    /// Stable SCREAMING_SNAKE code.
    pub code: &'static str,
    /// What happened, in plain words.
    pub fact: String,
    /// What to do about it.
    pub advice: String,
    /// Exit status, DESIGN section 10.
    pub exit: u8,
    /// All reasons of a refusal, as the policy wrote them.
    pub reasons: Vec<Value>,
}

/// What every command returns.
pub type Outcome = Result<(), Failure>;

impl Failure {
    /// A failure of the command line itself.
    pub fn new(code: &'static str, exit: u8, fact: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { code, fact: fact.into(), advice: advice.into(), exit, reasons: Vec::new() }
    }

    /// A usage error, exit 1.
    pub fn usage(fact: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new("USAGE", 1, fact, advice)
    }

    /// A file of this machine that could not be read or written, exit 9.
    pub fn file(path: &std::path::Path, what: &str, error: &std::io::Error) -> Self {
        let kind = error.kind();
        Self::new("FILE", 9, format!("{} cannot be {what}: {kind}", path.display()), "see the path and its permissions")
    }

    /// Writes the failure to standard error, and to standard output as JSON when asked.
    pub fn print(&self, json: bool) {
        if json {
            println!("{}", self.to_json());
            return;
        }
        eprintln!("vouchsafe: {} [{}]", self.fact, self.code);
        for reason in &self.reasons {
            let field = |name| reason.get(name).and_then(Value::as_str).unwrap_or("-");
            eprintln!("  {}: expected {}, found {}", field("code"), field("expected"), field("actual"));
            eprintln!("      {}", field("remedy"));
        }
        if !self.advice.is_empty() {
            eprintln!("  what to do: {}", self.advice);
        }
    }

    /// The verdict as one JSON object.
    pub fn to_json(&self) -> Value {
        json!({
            "accepted": false, "code": self.code, "fact": self.fact, "advice": self.advice,
            "exit": self.exit, "reasons": self.reasons,
        })
    }
}

macro_rules! from_error {
    ($($error:ty),+ $(,)?) => {$(
        impl From<$error> for Failure {
            fn from(e: $error) -> Self {
                Self::new(e.code(), e.exit(), e.to_string(), e.advice())
            }
        }
    )+};
}

from_error!(
    vouchsafe_sealed::SealedError,
    vouchsafe_policies::PolicyError,
    vouchsafe_release::ReleaseError,
    vouchsafe_broker::BrokerError,
    vouchsafe_attestation::VerifyError,
);

impl From<vouchsafe_customer::CustomerError> for Failure {
    fn from(e: vouchsafe_customer::CustomerError) -> Self {
        let reasons = e.reasons().iter().filter_map(|r| serde_json::to_value(r).ok()).collect();
        Self { reasons, ..Self::new(e.code(), e.exit(), e.to_string(), e.advice()) }
    }
}
