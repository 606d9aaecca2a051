//! Turns an address and a policy into a [`Pinned`] connection: TLS, exporter, evidence, verify, appraise, in this order.
//! An address that fails any step has received one attestation request and not a byte more.

use std::sync::Arc;

use vouchsafe_attestation::LeafCache;
use vouchsafe_policies::Policy;

use crate::{ConnectOptions, CustomerError, Pinned, attest::attest, channel, line::Line};

/// Connects under the default limits.
///
/// # Errors
/// `ADDRESS_INVALID`, `PEER_*`, `ATTEST_RESPONSE_INVALID`, and every code of verification and appraisal.
pub async fn connect(address: &str, policy: Arc<Policy>) -> Result<Pinned, CustomerError> {
    connect_with(address, policy, ConnectOptions::default()).await
}

/// Connects under the limits given.
///
/// # Errors
/// As [`connect`].
pub async fn connect_with(
    address: &str,
    policy: Arc<Policy>,
    options: ConnectOptions,
) -> Result<Pinned, CustomerError> {
    connect_sharing(address, policy, options, Arc::default()).await
}

/// The same; `cache` remembers collateral whose signatures were verified for an earlier connection.
pub(crate) async fn connect_sharing(
    address: &str,
    policy: Arc<Policy>,
    options: ConnectOptions,
    cache: Arc<LeafCache>,
) -> Result<Pinned, CustomerError> {
    let address = host_and_port(address)?;
    // 1. TLS 1.3 to whoever answers; 2. what tells this channel from every other.
    let (stream, facts) = channel::open(address, &options).await?;
    // 3. HTTP on that very stream, with no way to a second one.
    let mut line = Line::over(stream, address).await?;
    // 4. Evidence for it, 5. verified, 6. appraised.
    let attested = attest(&mut line, &facts, &policy, &options, &cache).await?;
    Ok(Pinned::new(address, line, facts, attested, policy, options, cache))
}

/// `HOST:PORT`, with `https://` and a last `/` forgiven.
pub(crate) fn host_and_port(address: &str) -> Result<&str, CustomerError> {
    let bare = address.strip_prefix("https://").unwrap_or(address);
    let bare = bare.strip_suffix('/').unwrap_or(bare);
    let refused = CustomerError::usage("ADDRESS_INVALID", "the address is not HOST:PORT");
    match bare.rsplit_once(':') {
        Some((host, port))
            if !host.is_empty()
                && port.parse::<u16>().is_ok_and(|p| p > 0)
                && bare.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_:[]".contains(&b)) =>
        {
            Ok(bare)
        }
        _ => Err(refused),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_host_and_port() {
        for good in ["localhost:8443", "https://127.0.0.1:1/", "[::1]:8443", "a-b.example:65535"] {
            assert!(host_and_port(good).is_ok(), "{good}");
        }
        for bad in ["", "localhost", ":1", "a:0", "a:65536", "a:http", "a:1/v2", "a b:1", "u@h:1"] {
            assert_eq!(host_and_port(bad).unwrap_err().code(), "ADDRESS_INVALID", "{bad}");
        }
    }
}
