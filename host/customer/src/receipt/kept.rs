//! Turns a kept receipt, a policy and a time into a verdict: evidence, claims, statement and, when given, the two bodies.
//! The time is the caller's assumption: a receipt proves none.

use vouchsafe_attestation::{
    Claims, LeafCache, UnixTime,
    lp::sha256,
    receipt::{ReceiptFile, Statement, request_digest, response_digest},
};
use vouchsafe_policies::{Appraised, Policy};

use super::{Salt, statement_of};
use crate::{CustomerError, attest::appraise_session};

/// Said with every verdict over a receipt.
pub const RECEIPT_PROVES_NO_TIME: &str =
    "A receipt proves no time: it shows that this enclave answered with these weights, not when.";

/// One body as it was sent or received.
#[derive(Clone, Copy)]
pub struct Body<'a> {
    /// Its exact bytes.
    pub bytes: &'a [u8],
    /// `Inference-Header-Content-Length`, 0 when the header was absent.
    pub header_len: u64,
}

/// Both bodies and the salt.
#[derive(Clone, Copy)]
pub struct Bodies<'a> {
    /// What was sent.
    pub request: Body<'a>,
    /// What was received.
    pub response: Body<'a>,
    /// The salt of this receipt.
    pub salt: &'a Salt,
}

/// What the verdict says of the bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodiesVerdict {
    /// The statement names exactly the bodies given.
    Equal,
    /// None were given: the verdict names the model, not the data.
    NotGiven,
}

/// A receipt that holds under a policy at a time.
#[must_use]
pub struct ReceiptVerdict {
    appraised: Appraised,
    statement: Statement,
    bodies: BodiesVerdict,
    at: UnixTime,
    digest: [u8; 32],
}

impl ReceiptVerdict {
    /// The verdict over the session's evidence.
    pub const fn appraised(&self) -> &Appraised {
        &self.appraised
    }

    /// What the enclave signed.
    #[must_use]
    pub const fn statement(&self) -> &Statement {
        &self.statement
    }

    /// Whether bodies were compared.
    #[must_use]
    pub const fn bodies(&self) -> BodiesVerdict {
        self.bodies
    }

    /// The time that was assumed.
    #[must_use]
    pub const fn at(&self) -> UnixTime {
        self.at
    }

    /// SHA-256 of the receipt file.
    #[must_use]
    pub const fn digest(&self) -> &[u8; 32] {
        &self.digest
    }
}

/// Verifies a receipt file offline, under `policy`, as if it were `at`.
///
/// # Errors
/// `ENCODING_*` for a damaged file, every code of verification and appraisal, `RECEIPT_SIGNATURE`,
/// `RECEIPT_STATEMENT_MISMATCH`, `RECEIPT_BODY_MISMATCH`.
pub fn verify_receipt(
    file: &[u8],
    policy: &Policy,
    at: UnixTime,
    bodies: Option<Bodies<'_>>,
) -> Result<ReceiptVerdict, CustomerError> {
    let receipt = ReceiptFile::parse(file)?;
    let appraised = appraise_session(&receipt.session, policy, at, &LeafCache::new())?;
    // The evidence binds these exact bytes, so their receipt key may now be asked.
    let claims = Claims::parse(&receipt.session.claims)?;
    let statement = statement_of(&receipt.receipt, &claims, &receipt.session)?;
    let bodies = match bodies {
        None => BodiesVerdict::NotGiven,
        Some(given) => {
            let (salt, sent, got) = (given.salt.expose(), given.request, given.response);
            if statement.request_digest != request_digest(salt, sent.bytes, sent.header_len) {
                return Err(CustomerError::receipt("RECEIPT_BODY_MISMATCH", "the statement speaks of another request"));
            }
            if statement.response_digest != response_digest(salt, got.bytes, got.header_len) {
                return Err(CustomerError::receipt(
                    "RECEIPT_BODY_MISMATCH",
                    "the statement speaks of another response",
                ));
            }
            BodiesVerdict::Equal
        }
    };
    Ok(ReceiptVerdict { appraised, statement, bodies, at, digest: sha256(file) })
}
