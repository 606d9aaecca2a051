//! Turns verdicts and failures into JSON for `--json`, every reason with expected and actual.
//! JSON is a copy of a verdict, never a verdict: nothing here reads it back.

use serde_json::{Value, json};
use vouchsafe_attestation::encoding::b64url;
use vouchsafe_policies::Appraised;

use crate::{BodiesVerdict, CustomerError, Pinned, RECEIPT_PROVES_NO_TIME, ReceiptVerdict};

/// The verdict over a live connection.
#[must_use]
pub fn verdict_json(pinned: &Pinned) -> Value {
    let record = pinned.record();
    let connection = json!({
        "address": pinned.address(),
        "attested_at": pinned.attested_at().to_string(),
        "tls": "1.3",
        "tls_group": pinned.tls_group(),
        "tls_key_sha256": hex::encode(record.spki_sha256),
        "nonce": b64url(&record.nonce),
        "exit": 0,
    });
    with(evidence_json(pinned.appraised()), connection)
}

/// The verdict over a receipt.
#[must_use]
pub fn receipt_json(verdict: &ReceiptVerdict) -> Value {
    let bodies = match verdict.bodies() {
        BodiesVerdict::Equal => "equal",
        BodiesVerdict::NotGiven => "not given",
    };
    let receipt = json!({
        "receipt_sha256": hex::encode(verdict.digest()),
        "statement": verdict.statement(),
        "bodies": bodies,
        "assumed_time": verdict.at().to_string(),
        "proves_no_time": RECEIPT_PROVES_NO_TIME,
        "exit": 0,
    });
    with(evidence_json(verdict.appraised()), receipt)
}

/// A failure.
#[must_use]
pub fn error_json(error: &CustomerError) -> Value {
    let retry = match error {
        CustomerError::Peer { retry_after_s, .. } => *retry_after_s,
        _ => None,
    };
    let failure = json!({
        "accepted": false,
        "code": error.code(),
        "codes": error.codes(),
        "exit": error.exit(),
        "fact": error.to_string(),
        "advice": error.advice(),
        "reasons": error.reasons(),
    });
    match error {
        CustomerError::Refused(refusal) => with(refusal.to_json(), failure),
        _ => with(failure, retry.map_or(json!({}), |seconds| json!({"retry_after_s": seconds}))),
    }
}

/// What evidence and claims say of each model.
pub(crate) fn models_json(appraised: &Appraised) -> Value {
    let models = appraised.claims().map_or(&[][..], |c| &c.models);
    let of = |m: &vouchsafe_attestation::claims::ModelClaim| json!({"id": m.id, "sequence": m.sequence, "manifest_digest": hex::encode(m.manifest_digest)});
    models.iter().map(of).collect()
}

/// RTMR0 to RTMR3 of a TD; an empty list on SEV-SNP.
pub(crate) fn registers_json(appraised: &Appraised) -> Value {
    appraised.authentic().registers().iter().map(hex::encode).collect()
}

fn evidence_json(appraised: &Appraised) -> Value {
    let authentic = appraised.authentic();
    let steps: Vec<Value> =
        authentic.steps().iter().map(|s| json!({"number": s.number, "name": s.name, "detail": s.detail})).collect();
    let evidence = json!({
        "measurement": hex::encode(authentic.measurement()),
        "rtmr": registers_json(appraised),
        "config_digest": hex::encode(authentic.config_digest()),
        "steps": steps,
        "models": models_json(appraised),
    });
    with(appraised.to_json(), evidence)
}

fn with(mut base: Value, more: Value) -> Value {
    if let (Some(base), Value::Object(more)) = (base.as_object_mut(), more) {
        base.extend(more);
    }
    base
}
