//! Turns a hostile host's wishes into answers to `POST /v1/attest`: genuine evidence for lies, or lies about genuine evidence.
//! It holds no enclave: a customer that accepts one of these answers would send its data to the lab.

use serde_json::Value;
use vouchsafe_attestation::{
    Claims, Mode, Tee,
    session::{
        AttestRequest, AttestResponse, EXPORTER_CONTEXT, EXPORTER_LABEL, Tree, leaf, report_data, session_digest,
    },
};

use super::{
    guest::{Guest, lab as broken},
    wire::Server,
};
use crate::failure::Failure;

/// What is bound into the evidence.
pub struct Bound {
    /// Word for the trust root.
    pub mode: Mode,
    /// The customer's nonce.
    pub nonce: [u8; 32],
    /// This TLS session's exporter value.
    pub ekm: [u8; 32],
    /// The hostile server's key.
    pub spki_sha256: [u8; 32],
    /// Exact bytes of the claims.
    pub claims: Vec<u8>,
}

/// Where an answer is wrong. Each function gets what is right.
pub struct Forgery {
    /// Changes what is claimed; the evidence covers it.
    pub claims: fn(&mut Claims),
    /// Changes what the evidence binds, but not what the answer says.
    pub bound: fn(&mut Bound),
    /// Changes the 64 bytes that the device is asked for.
    pub data: fn(&mut [u8; 64]),
    /// Changes the answer.
    pub answer: fn(&mut Value),
}

/// Nothing is wrong.
pub const HONEST: Forgery = Forgery { claims: |_| (), bound: |_| (), data: |_| (), answer: |_| () };

/// What is said without a forgery, and how its bytes are changed before the evidence covers them.
type Bytes<'a> = &'a (dyn Fn(&[u8]) -> Vec<u8> + Sync);

/// Answers one customer with evidence of `guest` and the claims of the enclave that it imitates.
pub fn answer_one(
    server: &Server,
    guest: &Guest,
    claims: &Claims,
    forgery: &Forgery,
    bytes: Bytes<'_>,
) -> Result<(), Failure> {
    let mut victim = server.accept()?;
    let request: AttestRequest =
        serde_json::from_slice(&victim.request()?).map_err(|_| broken("the customer asked for something else"))?;
    let spki_sha256 = server.spki_sha256;
    let mut claims = Claims { spki_sha256, ..claims.clone() };
    (forgery.claims)(&mut claims);
    let claims = bytes(&claims.to_bytes());
    let mut bound = Bound {
        mode: Mode::Simulation,
        nonce: request.nonce,
        ekm: victim.exporter(EXPORTER_LABEL, EXPORTER_CONTEXT)?,
        spki_sha256,
        claims: claims.clone(),
    };
    (forgery.bound)(&mut bound);
    let tree = Tree::new(vec![leaf(&digest(guest.tee(), &bound))]).map_err(|_| broken("a tree of one"))?;
    let mut data = report_data(bound.mode, guest.tee(), &tree.root(), u64::from(tree.size()));
    (forgery.data)(&mut data);
    let merkle = tree.path(0).map_err(|_| broken("a tree of one"))?;
    let evidence = guest.evidence(&data)?;
    let answer = AttestResponse { v: 1, tee: guest.tee(), claims, merkle, evidence };
    let mut answer = serde_json::to_value(&answer).map_err(|_| broken("the answer cannot be written"))?;
    (forgery.answer)(&mut answer);
    let answer = serde_json::to_vec(&answer).map_err(|_| broken("the answer cannot be written"))?;
    victim.answer(&answer);
    Ok(())
}

fn digest(tee: Tee, bound: &Bound) -> [u8; 64] {
    session_digest(bound.mode, tee, &bound.nonce, &bound.ekm, &bound.spki_sha256, &bound.claims)
}
