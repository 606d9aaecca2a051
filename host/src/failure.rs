//! Turns every crate's error into what a person or a script reads: fact, stable code, advice, exit status.
//! It adds no facts of its own and never prints text that came from a peer.

use std::io::ErrorKind;

use serde_json::{Value, json};
use vouchsafe_attestation::Mode;
use vouchsafe_customer::CustomerError;

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
    /// What else `--json` says of it.
    pub more: Box<Value>,
}

/// What every command returns.
pub type Outcome = Result<(), Failure>;

impl Failure {
    /// A failure of the command line itself.
    pub fn new(code: &'static str, exit: u8, fact: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            code,
            fact: plain(fact.into()),
            advice: advice.into(),
            exit,
            reasons: Vec::new(),
            more: Box::new(json!({})),
        }
    }

    /// A usage error, exit 1.
    pub fn usage(fact: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new("USAGE", 1, fact, advice)
    }

    /// A file of this machine that could not be read or written, exit 9.
    pub fn file(path: &std::path::Path, what: &str, error: &std::io::Error) -> Self {
        let kind = error.kind();
        let advice = match kind {
            ErrorKind::AlreadyExists => "name another file: nothing is overwritten",
            ErrorKind::NotFound => "is the path right, seen from this folder?",
            ErrorKind::StorageFull => "free some space",
            _ => "see the path and its permissions",
        };
        Self::new("FILE", 9, format!("{} cannot be {what}: {kind}", path.display()), advice)
    }

    /// A customer's failure under a policy; one that is a verdict of a simulation says so first.
    pub fn under(error: &CustomerError, mode: Mode) -> Self {
        let mut failure = Self::from(error);
        let verdict =
            matches!(error, CustomerError::Verify(_) | CustomerError::Refused(_) | CustomerError::Receipt { .. });
        if verdict && mode == Mode::Simulation && !failure.fact.starts_with("SIMULATED") {
            failure.fact.insert_str(0, "SIMULATED: ");
        }
        failure
    }

    /// The same failure, with the path that it is about.
    pub fn about(mut self, path: &std::path::Path) -> Self {
        self.fact = format!("{}: {}", path.display(), self.fact);
        self
    }

    /// Writes the failure to standard error, and to standard output as JSON when asked.
    pub fn print(&self, json: bool) {
        if json {
            println!("{}", self.to_json());
            return;
        }
        eprintln!("vouchsafe: {} [{}]", self.fact, self.code);
        // Where nothing was expected, the reason is the fact itself.
        let expected: Vec<&Value> = self.reasons.iter().filter(|r| r["expected"].is_string()).collect();
        for reason in &expected {
            let field = |name| reason.get(name).and_then(Value::as_str).unwrap_or("-");
            eprintln!("  {}: {}", field("code"), field("check"));
            eprintln!("    expected  {}", field("expected"));
            eprintln!("    found     {}", field("actual"));
            eprintln!("    remedy    {}", field("remedy"));
        }
        if expected.is_empty() && !self.advice.is_empty() {
            eprintln!("  what to do: {}", self.advice);
        }
    }

    /// The verdict as one JSON object.
    pub fn to_json(&self) -> Value {
        let mut all = (*self.more).clone();
        for (name, value) in [
            ("accepted", json!(false)),
            ("code", json!(self.code)),
            ("fact", json!(self.fact)),
            ("advice", json!(self.advice)),
            ("exit", json!(self.exit)),
            ("reasons", json!(self.reasons)),
        ] {
            all[name] = value;
        }
        all
    }
}

/// The standard library's words for what happens to newcomers most often, in plainer ones.
fn plain(fact: String) -> String {
    [(ErrorKind::NotFound, "there is no such file or folder"), (ErrorKind::AlreadyExists, "it exists already")]
        .iter()
        .fold(fact, |text, (kind, words)| text.replace(&kind.to_string(), words))
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
    vouchsafe_image::ImageError,
    vouchsafe_attestation::VerifyError,
    vouchsafe_measurement::MeasurementError,
);

impl From<&CustomerError> for Failure {
    fn from(e: &CustomerError) -> Self {
        // The reasons of a refusal follow one by one; its first line says how many there are.
        let fact = e.to_string().lines().next().unwrap_or_default().to_owned();
        let more = Box::new(vouchsafe_customer::error_json(e));
        Self { reasons: e.reasons(), more, ..Self::new(e.code(), e.exit(), fact, e.advice()) }
    }
}

impl From<CustomerError> for Failure {
    fn from(e: CustomerError) -> Self {
        Self::from(&e)
    }
}
