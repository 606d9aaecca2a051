//! Turns what happens during a launch into lines: JSON for programs, words for people.
//! States and codes are the enclave's own words to its host; they prove nothing about it.

use core::fmt;

use serde::{Deserialize, Serialize};

/// A stable code that another process sent: only capitals, digits and underscores, at most 64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Code(String);

impl Code {
    /// The code, or a word of ours when it is none.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let is_code = (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
        Self(if is_code { text } else { "UNREADABLE_CODE" }.to_owned())
    }

    /// The code as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d).map(|text| Self::new(&text))
    }
}

/// How far an enclave says that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Reading its descriptors and configuration.
    Booting,
    /// It has evidence.
    Attested,
    /// It has opened a model.
    Unsealed,
    /// It answers requests.
    Serving,
}

/// Why an enclave gives up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastWord {
    /// A stable code.
    pub code: Code,
    /// The broker's ticket, when the broker refused: its ledger says why under this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<Ticket>,
}

/// A broker's ticket: lower-case hex, at most 64 digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Ticket(String);

impl TryFrom<String> for Ticket {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_hex = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if is_hex && (1..=64).contains(&text.len()) { Ok(Self(text)) } else { Err("a ticket is lower-case hex") }
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a reload renews.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Renews {
    /// The packages and the collateral.
    ModelsAndCollateral,
    /// The collateral: newer packages did not get into the machine's volume.
    Collateral,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The public address accepts connections.
    Listening {
        /// The word SIMULATED, when the backend protects nothing.
        #[serde(skip_serializing_if = "Option::is_none")]
        simulation: Option<&'static str>,
        /// The public address, with the real port.
        address: String,
        /// The backend.
        backend: &'static str,
        /// The technology.
        tee: &'static str,
        /// The mode.
        mode: &'static str,
        /// This launcher's process.
        pid: u32,
    },
    /// An enclave was started.
    Launched {
        /// MEASUREMENT or MRTD, hex.
        measurement: String,
        /// What HOST_DATA or MRCONFIGID binds, hex.
        config_digest: String,
        /// The enclave's process, or QEMU's.
        enclave_pid: u32,
        /// The simulator's process, when there is one.
        #[serde(skip_serializing_if = "Option::is_none")]
        simulator_pid: Option<u32>,
        /// What executes a machine: kvm or tcg.
        #[serde(skip_serializing_if = "Option::is_none")]
        accel: Option<&'static str>,
        /// How often an enclave was started before.
        restarts: u32,
    },
    /// The enclave said how far it is.
    State {
        /// How far.
        state: State,
        /// The enclave's process.
        enclave_pid: u32,
    },
    /// The enclave said why it gives up.
    Fatal {
        /// Its last word.
        fatal: LastWord,
        /// The enclave's process.
        enclave_pid: u32,
    },
    /// The enclave (or the simulator below it) ended, or could not be started; another try follows.
    Restarting {
        /// Why.
        code: Code,
        /// When the next try starts.
        restart_in_ms: u64,
        /// How many tries failed.
        restarts: u32,
    },
    /// A machine did not come to life under KVM: QEMU's interpreter runs it from now on.
    Fallback {
        /// What failed.
        from: &'static str,
        /// What follows.
        to: &'static str,
        /// Why.
        code: Code,
    },
    /// SIGHUP was handed on.
    Reload {
        /// What the enclave reads again: everything, or the collateral alone.
        renews: Renews,
    },
    /// The collateral file could not be opened again: the enclave goes on with what it serves.
    CollateralKept {
        /// The code.
        code: &'static str,
        /// The fact.
        fact: String,
    },
    /// Newer packages did not get into the machine's volume: the enclave goes on with those that it serves.
    PackagesKept {
        /// The code.
        code: &'static str,
        /// The fact.
        fact: String,
        /// What to do.
        advice: &'static str,
    },
    /// The enclave was asked to stop.
    Stopping {
        /// `interrupt` or `terminate`.
        reason: &'static str,
    },
    /// Everything has ended.
    Stopped,
    /// The launch failed for good.
    Error {
        /// The code.
        code: &'static str,
        /// The fact.
        fact: String,
        /// What to do.
        advice: &'static str,
    },
}

impl Event {
    /// One line of JSON.
    #[must_use]
    pub fn json(&self) -> String {
        // Strings, numbers and fixed words always serialise.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listening { simulation: Some(word), address, backend, tee, .. } => {
                write!(f, "{word} backend {backend} ({tee}), listening on {address}; no hardware protects it")
            }
            Self::Listening { simulation: None, address, backend, tee, .. } => {
                write!(f, "backend {backend} ({tee}), listening on {address}")
            }
            Self::Launched { measurement, config_digest, enclave_pid, accel, restarts, .. } => {
                match accel {
                    None => write!(f, "launched enclave process {enclave_pid}")?,
                    Some(accel) => write!(f, "launched a virtual machine, QEMU ({accel}) process {enclave_pid}")?,
                }
                write!(f, " (restarts: {restarts})\n  measurement    {measurement}\n  config digest  {config_digest}")
            }
            Self::State { state, .. } => match state {
                State::Booting => f.write_str("enclave: booting"),
                State::Attested => f.write_str("enclave: attested, asking for its model keys"),
                State::Unsealed => f.write_str("enclave: unsealed its models"),
                State::Serving => f.write_str("enclave: serving"),
            },
            Self::Fatal { fatal: LastWord { code, ticket: None }, .. } => write!(f, "enclave: gives up, {code}"),
            Self::Fatal { fatal: LastWord { code, ticket: Some(ticket) }, .. } => {
                write!(f, "enclave: gives up, {code} (the broker's ticket: {ticket})")
            }
            Self::Restarting { code, restart_in_ms, restarts } => {
                write!(f, "enclave ended ({code}); try {} in {restart_in_ms} ms", restarts + 1)
            }
            Self::CollateralKept { code, fact } => {
                write!(f, "{fact} [{code}]; the enclave keeps the collateral that it serves")
            }
            Self::PackagesKept { code, fact, advice } => {
                write!(f, "{fact} [{code}]; the enclave keeps the packages that it serves\n  {advice}")
            }
            Self::Fallback { from, to, code } => {
                write!(f, "the machine did not come to life under {from} ({code}): {to} runs it from now on, slowly")
            }
            Self::Reload { renews: Renews::ModelsAndCollateral } => f.write_str("reload handed to the enclave"),
            Self::Reload { renews: Renews::Collateral } => f.write_str("collateral handed to the enclave"),
            Self::Stopping { reason } => write!(f, "stopping ({reason}); the enclave has 12 s"),
            Self::Stopped => f.write_str("stopped"),
            Self::Error { code, fact, advice } => write!(f, "{fact} [{code}]\n  {advice}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_never_becomes_a_code() {
        assert_eq!(Code::new("LEASE_LAPSED").to_string(), "LEASE_LAPSED");
        for text in ["", "lower", "A B", "A\u{1b}[31m", &"A".repeat(65)] {
            assert_eq!(Code::new(text).to_string(), "UNREADABLE_CODE");
        }
    }

    #[test]
    fn a_ticket_is_hex_or_nothing() {
        let word = |text: &str| serde_json::from_str::<LastWord>(text).ok();
        assert!(word(r#"{"code":"KEY_REFUSED"}"#).is_some_and(|w| w.ticket.is_none()));
        assert!(word(r#"{"code":"KEY_REFUSED","ticket":"00ff"}"#).is_some_and(|w| w.ticket.is_some()));
        assert!(word(r#"{"code":"KEY_REFUSED","ticket":"\u001b"}"#).is_none());
    }

    #[test]
    fn events_are_one_line_of_json() {
        let event = Event::State { state: State::Serving, enclave_pid: 7 };
        assert_eq!(event.json(), r#"{"event":"state","state":"serving","enclave_pid":7}"#);
        let event = Event::Reload { renews: Renews::Collateral };
        assert_eq!(event.json(), r#"{"event":"reload","renews":"collateral"}"#);
    }
}
