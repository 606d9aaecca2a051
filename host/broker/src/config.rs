//! Turns broker.toml into a total configuration.
//! It names the policy file; what that policy accepts is for `vouchsafe-policies` to say.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use vouchsafe_attestation::Ed25519Public;
use vouchsafe_release::Lease;

use crate::{
    BrokerError,
    files::{self, CONFIG},
};

/// A broker's settings.
pub(crate) struct Config {
    pub(crate) listen: SocketAddr,
    pub(crate) policy: PathBuf,
    pub(crate) manifest_keys: Vec<Ed25519Public>,
    pub(crate) lease: Lease,
    pub(crate) limits: Limits,
}

/// What one broker lends to strangers.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    /// Accepted enclaves between their token and their resource.
    pub(crate) max_sessions: usize,
    /// TCP connections.
    pub(crate) max_connections: usize,
    /// Requests on one connection; it is closed after the last.
    pub(crate) max_requests_per_connection: u32,
    /// How long a nonce, and then a token, can be used.
    pub(crate) nonce_ttl_s: u64,
    /// For the TLS handshake, for a request's head and for its body, each.
    pub(crate) read_timeout_s: u64,
    /// For a whole connection.
    pub(crate) connection_s: u64,
    /// Ledger lines that the refusals of one address may cause, on average; ten times as many at once; twice that for all.
    pub(crate) refusals_per_second: u32,
    /// Leases in force at once on one machine for one model.
    pub(crate) max_current_leases: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_sessions: 1_024,
            max_connections: 256,
            max_requests_per_connection: 32,
            nonce_ttl_s: 60,
            read_timeout_s: 10,
            connection_s: 120,
            refusals_per_second: 10,
            max_current_leases: 16,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    version: u32,
    listen: String,
    policy: PathBuf,
    #[serde(default)]
    manifest_keys: Vec<Ed25519Public>,
    lease: Lease,
    #[serde(default)]
    limits: Limits,
}

impl Config {
    /// Reads `DIR/broker.toml`. A relative policy path is relative to `DIR`.
    pub(crate) fn load(dir: &Path) -> Result<Self, BrokerError> {
        let bytes = files::read(dir, CONFIG).map_err(|e| match e {
            BrokerError::File(_, std::io::ErrorKind::NotFound) => BrokerError::StateMissing,
            other => other,
        })?;
        let text = core::str::from_utf8(&bytes).map_err(|_| BrokerError::Config("it is not UTF-8"))?;
        Self::parse(text, dir)
    }

    fn parse(text: &str, dir: &Path) -> Result<Self, BrokerError> {
        let raw: RawConfig = toml::from_str(text)
            .map_err(|_| BrokerError::Config("a setting is missing, unknown or of the wrong type"))?;
        if raw.version != 1 {
            return Err(BrokerError::Config("version is not 1"));
        }
        let limits = raw.limits;
        let smallest = [
            limits.max_sessions as u64,
            limits.max_connections as u64,
            limits.max_requests_per_connection.into(),
            limits.nonce_ttl_s,
            limits.read_timeout_s,
            limits.connection_s,
            limits.refusals_per_second.into(),
            limits.max_current_leases as u64,
        ];
        if smallest.contains(&0) {
            return Err(BrokerError::Config("a limit is zero"));
        }
        Ok(Self {
            listen: raw.listen.parse().map_err(|_| BrokerError::Config("listen is not ADDRESS:PORT"))?,
            policy: dir.join(raw.policy),
            manifest_keys: raw.manifest_keys,
            lease: raw.lease.granting()?,
            limits,
        })
    }
}

/// The text that `init` writes.
pub(crate) fn text(
    listen: SocketAddr,
    policy: &Path,
    keys: &[Ed25519Public],
    lease: Lease,
) -> Result<String, BrokerError> {
    let policy = policy.to_str().ok_or(BrokerError::Argument("the policy's path"))?;
    let keys: Vec<String> = keys.iter().map(|k| format!("\"{k}\"")).collect();
    Ok(format!(
        "# A Vouchsafe key broker. docs/key-release.md explains every setting.\n\
         version = 1\n\
         listen = \"{listen}\"\n\
         policy = {policy}\n\
         # The vendor's manifest keys: import refuses packages that none of them signed.\n\
         manifest_keys = [{keys}]\n\n\
         [lease]\n\
         ttl_s = {ttl}\n\
         max_requests = {requests}\n",
        policy = toml::Value::from(policy),
        keys = keys.join(", "),
        ttl = lease.ttl_s,
        requests = lease.max_requests,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_init_writes_is_read_back() {
        let (listen, key) = ("127.0.0.1:8601".parse().unwrap(), Ed25519Public([7; 32]));
        let text = text(listen, Path::new("/a \"b\"/policy.toml"), &[key], Lease::DEFAULT).unwrap();
        let config = Config::parse(&text, Path::new("/state")).unwrap();
        assert_eq!((config.listen, config.lease), (listen, Lease::DEFAULT));
        assert_eq!(config.policy, Path::new("/a \"b\"/policy.toml"));
        assert_eq!(config.manifest_keys, [key]);
        let relative = text.replace("policy = '/a \"b\"/policy.toml'", "policy = \"p.toml\"");
        assert_ne!(relative, text);
        assert_eq!(Config::parse(&relative, Path::new("/state")).unwrap().policy, Path::new("/state/p.toml"));
    }

    #[test]
    fn bad_settings_are_refused() {
        let listen = "127.0.0.1:1".parse().unwrap();
        let good = text(listen, Path::new("p"), &[], Lease::DEFAULT).unwrap();
        for (from, to, code) in [
            ("version = 1", "version = 2", "BROKER_CONFIG"),
            ("version = 1", "version = 1\nextra = 1", "BROKER_CONFIG"),
            ("127.0.0.1:1", "here", "BROKER_CONFIG"),
            ("ttl_s = 3600", "ttl_s = 0", "LEASE_EMPTY"),
            ("[lease]", "[limits]\nmax_sessions = 0\n[lease]", "BROKER_CONFIG"),
        ] {
            let text = good.replacen(from, to, 1);
            assert_ne!(text, good);
            let error = Config::parse(&text, Path::new("/")).err().unwrap();
            assert_eq!(error.code(), code);
        }
    }
}
