//! Turns nothing into the limits of a connection: how long each step may take and how much may come back.
//! No option here weakens a check: what is accepted is the policy's word alone.

use std::time::Duration;

/// Limits of one connection.
#[derive(Clone, Copy, Debug)]
pub struct ConnectOptions {
    /// Name look-up and TCP.
    pub connect_timeout: Duration,
    /// TLS handshake.
    pub handshake_timeout: Duration,
    /// `POST /v1/attest`, to the last byte of its answer.
    pub attest_timeout: Duration,
    /// Any other request, to the last byte of its answer.
    pub request_timeout: Duration,
    /// Longest body of an answer.
    pub max_response_bytes: usize,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(10),
            attest_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(120),
            max_response_bytes: 64 * 1024 * 1024,
        }
    }
}
