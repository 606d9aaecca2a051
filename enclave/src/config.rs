//! Turns the bytes of the bound configuration (CoCo init-data around `vouchsafe.toml`) into a total [`Config`].
//! It does not compare the digest with the report: [`crate::boot`] did so before these bytes are parsed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;
use vouchsafe_attestation::claims::{Release, model_id};
use vouchsafe_attestation::encoding::from_hex;
use vouchsafe_attestation::{Ed25519Public, UnixTime};

use crate::error::EnclaveError;

/// A configuration longer than this is refused before it is hashed.
pub const MAX_CONFIG: usize = 256 * 1024;
/// The data item of the init-data that is read.
const ITEM: &str = "vouchsafe.toml";
/// The data item that Kata's agent reads: what may run in this guest.
const AGENT_POLICY: &str = "policy.rego";
/// Our item is not longer than this; with others, the init-data holds at most so many.
const MAX_ITEM: usize = 64 * 1024;
const MAX_ITEMS: usize = 16;
/// The claims hold at most so many models and broker pins, and fewer where those have long names or many signers.
const MAX_MODELS: usize = 64;
const MAX_PINS: usize = 16;

/// The earliest time this build can run at, 2026-11-21: the clock never shows less. Raised with every release (a test compares it
/// with CHANGELOG.md); a constant, so that the program can be built again bit by bit.
pub const BUILD_TIME: UnixTime = UnixTime(1_795_219_200);

/// Everything the configuration decides, with nothing left open.
pub struct Config {
    /// Keys that may sign manifests and usage policies.
    pub manifest_keys: Vec<Ed25519Public>,
    /// Keys that may sign key bundles.
    pub release_keys: Vec<Ed25519Public>,
    /// How much of the fence the kernel must enforce.
    pub landlock: Landlock,
    /// Brokers, in the order in which they are asked.
    pub brokers: Vec<Broker>,
    /// Models to serve.
    pub models: Vec<ModelConfig>,
    /// Largest request body in bytes.
    pub max_body_bytes: u64,
    /// Largest answer of a model, as tensors, in bytes.
    pub max_answer_bytes: u64,
    /// Memory of the process that runs a model in MiB; derived from the model's size where nothing is said.
    pub runner_memory_mib: Option<u64>,
    /// So many requests wait for one model before the next is refused.
    pub queue: usize,
    /// Connections at one time.
    pub max_connections: usize,
    /// Longest time for a handshake, a request head, or one request.
    pub request_timeout: Duration,
    /// Longest time that an attestation waits for others to share its quote.
    pub window: Duration,
    /// Most sessions that share one quote.
    pub window_leaves: usize,
    /// Answers are filled up to a multiple of so many bytes, a power of two.
    pub pad_answers_to: Option<usize>,
    /// Whether the init-data also holds a policy for the agent that starts containers. It is not read here.
    pub agent_policy: bool,
}

/// How much of the fence the kernel must enforce.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Landlock {
    /// All of it, or the enclave does not start.
    #[default]
    Required,
    /// What the kernel knows of it, down to nothing.
    BestEffort,
}

impl Landlock {
    /// The word of the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::BestEffort => "best-effort",
        }
    }
}

/// One broker.
pub struct Broker {
    /// Where it listens. An address, not a name: the enclave resolves nothing.
    pub address: SocketAddr,
    /// SHA-256 of the TLS keys it may show.
    pub spki_sha256: Vec<[u8; 32]>,
}

/// One model.
pub struct ModelConfig {
    /// Its id, also the name of its folder.
    pub id: String,
    /// The oldest version to serve.
    pub min_sequence: u64,
    /// How its key is released.
    pub release: Release,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InitData {
    version: String,
    algorithm: String,
    data: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    version: u32,
    manifest_keys: Vec<Ed25519Public>,
    release_keys: Vec<Ed25519Public>,
    #[serde(default)]
    landlock: Landlock,
    brokers: Vec<RawBroker>,
    models: Vec<RawModel>,
    #[serde(default)]
    limits: RawLimits,
    #[serde(default)]
    session: RawSession,
    #[serde(default)]
    privacy: RawPrivacy,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBroker {
    address: String,
    spki_sha256: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawModel {
    id: String,
    min_sequence: u64,
    release: Release,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawLimits {
    max_body_bytes: u64,
    max_answer_bytes: u64,
    /// 0 is derived.
    runner_memory_mib: u64,
    queue: usize,
    max_connections: usize,
    request_timeout_s: u64,
}

impl Default for RawLimits {
    fn default() -> Self {
        Self {
            max_body_bytes: 8 << 20,
            max_answer_bytes: 64 << 20,
            runner_memory_mib: 0,
            queue: 64,
            max_connections: 256,
            request_timeout_s: 30,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawSession {
    window_ms: u64,
    window_leaves: usize,
}

impl Default for RawSession {
    fn default() -> Self {
        Self { window_ms: 20, window_leaves: 1024 }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawPrivacy {
    /// 0 is off.
    pad_answers_to: usize,
}

impl Config {
    /// Reads the whole configuration file.
    ///
    /// # Errors
    /// `CONFIG_INVALID` with the rule that is broken, `CONFIG_UNSUPPORTED`.
    pub fn parse(bytes: &[u8]) -> Result<Self, EnclaveError> {
        if bytes.len() > MAX_CONFIG {
            return invalid("the file is larger than 262,144 bytes");
        }
        let text = std::str::from_utf8(bytes).map_err(|_| EnclaveError::ConfigInvalid("the file is not UTF-8"))?;
        let init: InitData = toml::from_str(text)
            .map_err(|_| EnclaveError::ConfigInvalid("the file is not init-data: version, algorithm, [data]"))?;
        if init.version != "0.1.0" || init.algorithm != "sha256" {
            return invalid("init-data is version 0.1.0 with algorithm sha256");
        }
        if init.data.len() > MAX_ITEMS {
            return invalid("[data] holds at most 16 items");
        }
        // Further items are other programs' (Kata's agent, CoCo's attestation agent). They are bound with ours, and not read.
        let inner = init.data.get(ITEM).ok_or(EnclaveError::ConfigInvalid("[data] holds the item vouchsafe.toml"))?;
        if inner.len() > MAX_ITEM {
            return invalid("vouchsafe.toml is larger than 65,536 bytes");
        }
        let agent_policy = init.data.get(AGENT_POLICY).is_some_and(|policy| !policy.trim().is_empty());
        let raw: RawConfig = toml::from_str(inner)
            .map_err(|_| EnclaveError::ConfigInvalid("vouchsafe.toml has an unknown, missing or mistyped setting"))?;
        Ok(Self { agent_policy, ..raw.into_config()? })
    }

    /// In a container, demands an agent policy: without one the host may start anything in this guest under the same evidence.
    ///
    /// # Errors
    /// `CONFIG_INVALID`.
    pub fn says_what_runs(&self, in_container: bool) -> Result<(), EnclaveError> {
        if in_container && !self.agent_policy {
            return invalid("for a container, [data] also holds policy.rego, which says what the guest may run");
        }
        Ok(())
    }

    /// The pins of all brokers, for the claims.
    #[must_use]
    pub fn broker_pins(&self) -> Vec<[u8; 32]> {
        self.brokers.iter().flat_map(|b| b.spki_sha256.iter().copied()).collect()
    }
}

impl RawConfig {
    fn into_config(self) -> Result<Config, EnclaveError> {
        if self.version != 1 {
            return invalid("version is 1");
        }
        role("manifest_keys names one to eight different keys", &self.manifest_keys)?;
        role("release_keys names one to eight different keys", &self.release_keys)?;
        if self.manifest_keys.iter().any(|k| self.release_keys.contains(k)) {
            return invalid("no key is both a manifest key and a release key");
        }
        let brokers = self.brokers.into_iter().map(RawBroker::into_broker).collect::<Result<Vec<_>, _>>()?;
        let pins = brokers.iter().map(|b| b.spki_sha256.len()).sum::<usize>();
        if brokers.is_empty() || pins > MAX_PINS {
            return invalid("there is at least one broker, with at most 16 pins in all");
        }
        if self.models.is_empty() || self.models.len() > MAX_MODELS {
            return invalid("there are 1 to 64 models");
        }
        let mut models: Vec<ModelConfig> = Vec::new();
        for model in self.models {
            if model_id(&model.id).is_err() || models.iter().any(|m| m.id == model.id) {
                return invalid("a model id is 1 to 64 characters of a-z 0-9 - _ . and stands once");
            }
            if model.release == Release::Static {
                return Err(EnclaveError::ConfigUnsupported("release = \"static\""));
            }
            models.push(ModelConfig { id: model.id, min_sequence: model.min_sequence, release: model.release });
        }
        let RawLimits {
            max_body_bytes,
            max_answer_bytes,
            runner_memory_mib,
            queue,
            max_connections,
            request_timeout_s,
        } = self.limits;
        if !(1024..=1 << 30).contains(&max_body_bytes) || !(1024..=1 << 30).contains(&max_answer_bytes) {
            return invalid("max_body_bytes and max_answer_bytes are 1,024 to 1,073,741,824");
        }
        if runner_memory_mib != 0 && !(64..=1 << 24).contains(&runner_memory_mib) {
            return invalid("runner_memory_mib is 64 to 16,777,216, or 0 for what the model's size suggests");
        }
        if !(1..=4096).contains(&queue) {
            return invalid("queue is 1 to 4,096");
        }
        if !(1..=65_536).contains(&max_connections) || !(1..=3600).contains(&request_timeout_s) {
            return invalid("max_connections is 1 to 65,536 and request_timeout_s 1 to 3,600");
        }
        let RawSession { window_ms, window_leaves } = self.session;
        if window_ms > 20 || !(1..=1024).contains(&window_leaves) {
            return invalid("window_ms is at most 20 and window_leaves 1 to 1,024");
        }
        let RawPrivacy { pad_answers_to } = self.privacy;
        if pad_answers_to != 0 && !(pad_answers_to.is_power_of_two() && (64..=65_536).contains(&pad_answers_to)) {
            return invalid("pad_answers_to is 0 or a power of two from 64 to 65,536");
        }
        Ok(Config {
            manifest_keys: self.manifest_keys,
            release_keys: self.release_keys,
            landlock: self.landlock,
            brokers,
            models,
            max_body_bytes,
            max_answer_bytes,
            runner_memory_mib: (runner_memory_mib > 0).then_some(runner_memory_mib),
            queue,
            max_connections,
            request_timeout: Duration::from_secs(request_timeout_s),
            window: Duration::from_millis(window_ms),
            window_leaves,
            pad_answers_to: (pad_answers_to > 0).then_some(pad_answers_to),
            agent_policy: false,
        })
    }
}

impl RawBroker {
    fn into_broker(self) -> Result<Broker, EnclaveError> {
        let address = self
            .address
            .parse()
            .map_err(|_| EnclaveError::ConfigInvalid("a broker's address is an IP address and a port"))?;
        let pins = self.spki_sha256.iter().map(|pin| from_hex(pin, "pin")).collect::<Result<Vec<_>, _>>();
        match pins {
            Ok(spki_sha256) if !spki_sha256.is_empty() => Ok(Broker { address, spki_sha256 }),
            _ => invalid("a broker has at least one spki_sha256 of 64 hex digits"),
        }
    }
}

fn role(rule: &'static str, keys: &[Ed25519Public]) -> Result<(), EnclaveError> {
    let repeated = keys.iter().enumerate().any(|(at, key)| keys[..at].contains(key));
    if keys.is_empty() || keys.len() > 8 || repeated { invalid(rule) } else { Ok(()) }
}

fn invalid<T>(rule: &'static str) -> Result<T, EnclaveError> {
    Err(EnclaveError::ConfigInvalid(rule))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn inner() -> String {
        let key = |n: u8| Ed25519Public([n; 32]).to_string();
        format!(
            "version = 1\nmanifest_keys = [\"{}\"]\nrelease_keys = [\"{}\"]\n\
             [[brokers]]\naddress = \"127.0.0.1:8601\"\nspki_sha256 = [\"{}\"]\n\
             [[models]]\nid = \"breast-cancer\"\nmin_sequence = 1\nrelease = \"online\"\n\
             [limits]\nmax_body_bytes = 8388608\nmax_connections = 256\nrequest_timeout_s = 30\n\
             [session]\nwindow_ms = 20\nwindow_leaves = 1024\n",
            key(1),
            key(2),
            "ab".repeat(32)
        )
    }

    pub(crate) fn wrap(inner: &str) -> String {
        format!("version = \"0.1.0\"\nalgorithm = \"sha256\"\n[data]\n\"vouchsafe.toml\" = '''\n{inner}'''\n")
    }

    #[test]
    fn the_build_time_is_not_older_than_the_newest_release() {
        let changes = include_str!("../../CHANGELOG.md");
        let dates = changes.lines().filter(|l| l.starts_with("## ")).flat_map(|l| l.split([' ', '(', ')', ',']));
        let dates = dates.filter_map(|word| UnixTime::parse_rfc3339(&format!("{word}T00:00:00Z")).ok());
        let newest = dates.max().expect("a release with a date");
        assert!(newest <= BUILD_TIME, "BUILD_TIME is before {newest}");
    }

    #[test]
    fn the_written_form_is_read() {
        let config = Config::parse(wrap(&inner()).as_bytes()).ok().unwrap();
        assert_eq!(config.models[0].id, "breast-cancer");
        assert_eq!(config.broker_pins(), vec![[0xab; 32]]);
        assert_eq!(config.landlock, Landlock::Required, "nothing less by silence");
        let lax = inner().replace("[[brokers]]", "landlock = \"best-effort\"\n[[brokers]]");
        let lax = Config::parse(wrap(&lax).as_bytes()).ok().unwrap();
        assert_eq!((lax.landlock, lax.landlock.as_str()), (Landlock::BestEffort, "best-effort"));
        assert_eq!((config.max_body_bytes, config.window), (8 << 20, Duration::from_millis(20)));
    }

    #[test]
    fn limits_and_padding_have_defaults_and_bounds() {
        let read = |limits: &str, privacy: &str| {
            let text = inner().replace("[limits]\n", &format!("[limits]\n{limits}\n"));
            Config::parse(wrap(&format!("{text}[privacy]\n{privacy}\n")).as_bytes())
        };
        let silent = Config::parse(wrap(&inner()).as_bytes()).ok().unwrap();
        assert_eq!((silent.max_answer_bytes, silent.runner_memory_mib, silent.queue), (64 << 20, None, 64));
        assert_eq!(silent.pad_answers_to, None);
        let said = read("max_answer_bytes = 1024\nrunner_memory_mib = 64\nqueue = 1", "pad_answers_to = 4096");
        let said = said.ok().unwrap();
        assert_eq!((said.max_answer_bytes, said.runner_memory_mib, said.queue), (1024, Some(64), 1));
        assert_eq!(said.pad_answers_to, Some(4096));
        let off = read("runner_memory_mib = 0", "pad_answers_to = 0").ok().unwrap();
        assert_eq!((off.runner_memory_mib, off.pad_answers_to), (None, None));
        for (limits, privacy) in [
            ("max_answer_bytes = 1023", ""),
            ("max_answer_bytes = 1073741825", ""),
            ("runner_memory_mib = 63", ""),
            ("runner_memory_mib = 16777217", ""),
            ("queue = 0", ""),
            ("queue = 4097", ""),
            ("", "pad_answers_to = 32"),
            ("", "pad_answers_to = 4095"),
            ("", "pad_answers_to = 131072"),
            ("", "pad_questions_to = 64"),
        ] {
            let error = read(limits, privacy).err().unwrap();
            assert_eq!(error.code(), "CONFIG_INVALID", "{limits} {privacy}");
        }
    }

    #[test]
    fn each_broken_rule_is_refused_by_its_code() {
        let good = inner();
        let same = Ed25519Public([1; 32]).to_string();
        let cases = [
            ("overlap of roles", good.replace(&Ed25519Public([2; 32]).to_string(), &same)),
            ("unknown setting", good.replace("version = 1\n", "version = 1\nfallback = true\n")),
            ("unknown fence", good.replace("version = 1\n", "version = 1\nlandlock = \"none\"\n")),
            ("unknown limit", good.replace("[limits]\n", "[limits]\nretries = 2\n")),
            ("repeated setting", good.replace("version = 1\n", "version = 1\nversion = 1\n")),
            ("other version", good.replace("version = 1\n", "version = 2\n")),
            ("no key", good.replace(&format!("[\"{same}\"]"), "[]")),
            ("a name", good.replace("127.0.0.1:8601", "broker:8601")),
            ("a short pin", good.replace(&"ab".repeat(32), "abab")),
            ("an upward id", good.replace("breast-cancer", "../etc")),
            ("a long window", good.replace("window_ms = 20", "window_ms = 21")),
            ("no body", good.replace("8388608", "0")),
        ];
        for (name, text) in cases {
            assert_ne!(text, good, "{name}");
            let error = Config::parse(wrap(&text).as_bytes()).err().unwrap();
            assert_eq!((error.code(), error.exit()), ("CONFIG_INVALID", 1), "{name}");
        }
        let error = Config::parse(wrap(&good.replace("online", "static")).as_bytes()).err().unwrap();
        assert_eq!(error.code(), "CONFIG_UNSUPPORTED");
    }

    #[test]
    fn the_wrapper_is_exact() {
        let good = wrap(&inner());
        for text in [
            good.replace("sha256", "sha384"),
            good.replace("0.1.0", "0.2.0"),
            good.replace("vouchsafe.toml", "other.toml"),
            format!("{good}\"aa.toml\" = 1\n"),
            format!("{good}[data.more]\n"),
            format!("{good}[more]\n"),
            format!("{good}\"vouchsafe.toml\" = ''\n"),
            String::from("\u{1}"),
        ] {
            assert_eq!(Config::parse(text.as_bytes()).err().unwrap().code(), "CONFIG_INVALID");
        }
        let long = format!("{good}#{}", " ".repeat(MAX_CONFIG));
        assert_eq!(Config::parse(long.as_bytes()).err().unwrap().code(), "CONFIG_INVALID");
    }
    #[test]
    fn other_programs_items_are_bound_with_ours_counted_and_not_read() {
        let good = wrap(&inner());
        let with = |items: &str| Config::parse(format!("{good}{items}").as_bytes());
        let policy = with("\"policy.rego\" = 'package agent_policy'\n\"aa.toml\" = \"no TOML [\"\n").ok().unwrap();
        assert!(policy.agent_policy && policy.says_what_runs(true).is_ok());
        for none in ["", "\"policy.rego\" = \" \\n\"\n", "\"Policy.rego\" = 'x'\n"] {
            let config = with(none).ok().unwrap();
            assert!(!config.agent_policy && config.says_what_runs(false).is_ok(), "{none}");
            assert_eq!(config.says_what_runs(true).err().unwrap().code(), "CONFIG_INVALID", "{none}");
        }
        let many = |count: usize| (0..count).map(|n| format!("i{n} = ''\n")).collect::<String>();
        assert!(with(&many(MAX_ITEMS - 1)).is_ok(), "control");
        assert_eq!(with(&many(MAX_ITEMS)).err().unwrap().code(), "CONFIG_INVALID");
        let long = |bytes: usize| format!("{}#{}\n", inner(), " ".repeat(bytes));
        assert!(Config::parse(wrap(&long(MAX_ITEM - 4096)).as_bytes()).is_ok(), "control");
        assert_eq!(Config::parse(wrap(&long(MAX_ITEM)).as_bytes()).err().unwrap().code(), "CONFIG_INVALID");
        assert!(with(&format!("other = '{}'\n", "x".repeat(MAX_CONFIG - 8192))).is_ok(), "others may be long");
    }
}
