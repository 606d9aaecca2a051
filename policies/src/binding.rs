//! Turns what the relying party knows of its own session or handshake into the REPORT_DATA that evidence must carry.
//! It does not say whether code, machine or models are wanted.

use vouchsafe_attestation::{
    Claims, Mode,
    session::{MerklePath, leaf, report_data, root_from_path, session_digest},
};

use crate::{
    Check,
    facts::Facts,
    table::{Prover, Table},
};

/// What the evidence must have been made for. There is no variant for "anything".
#[derive(Clone, Copy, Debug)]
pub enum Expected<'a> {
    /// This TLS session.
    Session {
        /// The nonce that this verifier sent.
        nonce: &'a [u8; 32],
        /// The exporter value of its own end of the connection.
        ekm: &'a [u8; 32],
        /// SHA-256 of the TLS key that it saw.
        spki_sha256: &'a [u8; 32],
        /// Exact bytes of the claims received.
        claims: &'a [u8],
        /// Where the session stands in the tree.
        merkle: &'a MerklePath,
    },
    /// This key-release handshake.
    Release {
        /// REPORT_DATA computed from this handshake's nonce and key.
        report_data: [u8; 64],
    },
    /// Exactly these 64 bytes, whatever protocol made them: another implementation's evidence, read from a file.
    Exact {
        /// REPORT_DATA that the caller names.
        report_data: [u8; 64],
    },
    /// Nothing that the verifier knows: evidence read from a file, without the session that it was made for.
    /// The verdict says so, and no connection and no key can follow from it.
    Unbound,
}

/// What a verdict's evidence was compared with, without the values: which deeds may follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// One TLS session: a connection or a receipt may follow.
    Session,
    /// One key-release handshake: a key may follow.
    Release,
    /// Bytes that the caller named: nothing follows.
    Exact,
    /// Nothing: nothing follows.
    Unbound,
}

impl Expected<'_> {
    /// Which kind of binding this demands.
    #[must_use]
    pub const fn binding(&self) -> Binding {
        match self {
            Self::Session { .. } => Binding::Session,
            Self::Release { .. } => Binding::Release,
            Self::Exact { .. } => Binding::Exact,
            Self::Unbound => Binding::Unbound,
        }
    }
}

/// What a verdict says whose evidence was compared with no session.
const UNBOUND: &str = "REPORT_DATA was NOT COMPARED with anything: this verdict binds the evidence to no session, no \
                       handshake and no time; whoever holds a copy of the evidence can show it";

/// A REPORT_DATA that ends so belongs to key release: SHA-384 and 16 zero bytes.
const RELEASE_TAIL: [u8; 16] = [0; 16];

/// Compares REPORT_DATA and, for a session, what the claims say with what the verifier knows.
pub(crate) fn bind(table: &mut Table, facts: &Facts, mode: Mode, expected: &Expected<'_>) -> Option<Claims> {
    let actual = facts.evidence.report_data();
    let release_shape = actual.ends_with(&RELEASE_TAIL);
    match expected {
        Expected::Release { report_data } => {
            if !release_shape {
                table.refuse(Check::ReportDataShape, Prover::Processor, "16 zero bytes at its end", "other bytes");
            }
            compare(table, Some(report_data), actual, "this key-release handshake: its nonce and its key");
            None
        }
        Expected::Exact { report_data } => {
            compare(table, Some(report_data), actual, "exactly the bytes that were asked for");
            None
        }
        Expected::Unbound => {
            table.allow(Check::ReportData, Prover::Processor, hex::encode(actual), UNBOUND);
            None
        }
        Expected::Session { nonce, ekm, spki_sha256, claims, merkle } => {
            if release_shape {
                table.refuse(Check::ReportDataShape, Prover::Processor, "no 16 zero bytes at its end", "16 zero bytes");
            }
            let session = leaf(&session_digest(mode, facts.tee(), nonce, ekm, spki_sha256, claims));
            let wanted = match root_from_path(&session, merkle) {
                Ok(root) => Some(report_data(mode, facts.tee(), &root, u64::from(merkle.size))),
                Err(_) => {
                    table.refuse(Check::MerklePath, Prover::Verifier, "a path as in RFC 9162", "a malformed path");
                    None
                }
            };
            compare(table, wanted.as_ref(), actual, "this TLS session: its nonce, exporter, key and claims");
            said(table, facts, mode, spki_sha256, claims)
        }
    }
}

fn compare(table: &mut Table, wanted: Option<&[u8; 64]>, actual: &[u8; 64], what: &str) {
    if wanted == Some(actual) {
        table.accept(Check::ReportData, Prover::Processor, format!("REPORT_DATA binds {what}"));
    } else {
        let expected = wanted.map_or("one that follows from the path".to_owned(), hex::encode);
        table.refuse(Check::ReportData, Prover::Processor, expected, hex::encode(actual));
    }
}

fn said(table: &mut Table, facts: &Facts, mode: Mode, spki: &[u8; 32], claims: &[u8]) -> Option<Claims> {
    let claims = match Claims::parse(claims) {
        Ok(claims) => claims,
        Err(error) => {
            table.refuse(Check::Claims, Prover::Enclave, "claims of version 1", error.to_string());
            return None;
        }
    };
    if claims.mode == mode {
        table.accept(Check::ClaimsMode, Prover::Enclave, mode.as_str());
    } else {
        table.refuse(Check::ClaimsMode, Prover::Enclave, mode.as_str(), claims.mode.as_str());
    }
    if claims.spki_sha256 == *spki {
        table.accept(Check::ClaimsSpki, Prover::Enclave, "the key that ends this connection");
    } else {
        table.refuse(Check::ClaimsSpki, Prover::Enclave, hex::encode(spki), hex::encode(claims.spki_sha256));
    }
    let bound = facts.evidence.config_digest();
    if claims.config_digest == bound {
        table.accept(Check::ClaimsConfigDigest, Prover::Enclave, "the digest that the evidence binds");
    } else {
        let (wanted, found) = (hex::encode(bound), hex::encode(claims.config_digest));
        table.refuse(Check::ClaimsConfigDigest, Prover::Enclave, wanted, found);
    }
    Some(claims)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_expectation_has_its_own_kind() {
        let merkle = MerklePath { index: 0, size: 1, path: Vec::new() };
        let bytes = [0; 32];
        let session =
            Expected::Session { nonce: &bytes, ekm: &bytes, spki_sha256: &bytes, claims: &[], merkle: &merkle };
        for (expected, binding) in [
            (session, Binding::Session),
            (Expected::Release { report_data: [0; 64] }, Binding::Release),
            (Expected::Exact { report_data: [0; 64] }, Binding::Exact),
            (Expected::Unbound, Binding::Unbound),
        ] {
            assert_eq!(expected.binding(), binding);
        }
    }
}
