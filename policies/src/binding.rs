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
}

/// A REPORT_DATA that ends so belongs to key release: SHA-384 and 16 zero bytes.
const RELEASE_TAIL: [u8; 16] = [0; 16];

/// Compares REPORT_DATA and, for a session, what the claims say with what the verifier knows.
pub(crate) fn bind(table: &mut Table, facts: &Facts, mode: Mode, expected: &Expected<'_>) -> Option<Claims> {
    let actual = &facts.report.report_data;
    let release_shape = actual.ends_with(&RELEASE_TAIL);
    match expected {
        Expected::Release { report_data } => {
            if !release_shape {
                table.refuse(Check::ReportDataShape, Prover::Processor, "16 zero bytes at its end", "other bytes");
            }
            compare(table, Some(report_data), actual, "this key-release handshake: its nonce and its key");
            None
        }
        Expected::Session { nonce, ekm, spki_sha256, claims, merkle } => {
            if release_shape {
                table.refuse(Check::ReportDataShape, Prover::Processor, "no 16 zero bytes at its end", "16 zero bytes");
            }
            let session = leaf(&session_digest(mode, facts.tee, nonce, ekm, spki_sha256, claims));
            let wanted = match root_from_path(&session, merkle) {
                Ok(root) => Some(report_data(mode, facts.tee, &root, u64::from(merkle.size))),
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
    let bound = facts.report.host_data;
    if claims.config_digest == bound {
        table.accept(Check::ClaimsConfigDigest, Prover::Enclave, "the same digest as in the report");
    } else {
        let (wanted, found) = (hex::encode(bound), hex::encode(claims.config_digest));
        table.refuse(Check::ClaimsConfigDigest, Prover::Enclave, wanted, found);
    }
    Some(claims)
}
