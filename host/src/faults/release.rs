//! Turns the moves of a hostile client of the broker into its ledger's codes: old nonces, used tokens, borrowed evidence.
//! The client holds a genuine simulated guest, so that only the move itself can be what the broker refuses.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vouchsafe_attestation::{Mode, Tee, session};
use vouchsafe_release::{
    client::{Auth, Outgoing},
    rcar,
};

use super::{
    guest::{lab as broken, released},
    lab::{Heard, Lab, NONCE_TTL_S},
    table::{Fault, Group, Played, Role, played},
};
use crate::failure::Failure;

type Step = Result<Played, Failure>;

const fn broker(name: &'static str, expected: &'static str, what: &'static str, play: fn(&mut Lab) -> Step) -> Fault {
    played(name, Group::Protocol, Role::Broker, expected, what, play)
}

/// Conversations with the broker.
pub const FAULTS: &[Fault] = &[
    broker("nonce-replayed", "NONCE_USED", "a whole, once accepted attest message is sent again", nonce_replayed),
    broker("nonce-unknown", "SESSION_UNKNOWN", "the session is one that this broker never opened", nonce_unknown),
    broker("nonce-missing", "SESSION_UNKNOWN", "the message comes without any session", nonce_missing),
    broker("nonce-other", "NONCE_MISMATCH", "the message answers another session's nonce", nonce_other),
    broker("nonce-concurrent", "NONCE_USED", "one nonce is answered on two connections at once", nonce_concurrent),
    broker("evidence-old", "REPORT_DATA_MISMATCH", "old evidence is offered under a fresh nonce", evidence_old),
    broker("evidence-borrowed", "REPORT_DATA_MISMATCH", "evidence of one handshake, key of another", evidence_borrowed),
    broker("evidence-addition", "REPORT_DATA_MISMATCH", "evidence of devices is added that was not bound", addition),
    broker("evidence-foreign", "EVIDENCE_FORMAT", "the evidence is a parsed report instead of raw bytes", foreign),
    broker("role-swapped-release", "REPORT_DATA_SHAPE", "evidence of a session is offered for a key", role_swapped),
    broker("tee-other", "TEE_MISMATCH", "the evidence is of another technology than was announced", tee_other),
    broker("tee-unknown", "TEE_UNSUPPORTED", "a technology is announced that nobody serves", tee_unknown),
    broker("token-missing", "TOKEN_MISSING", "a key is asked for before attesting", token_missing),
    broker("token-reused", "TOKEN_USED", "one token is used for two keys", token_reused),
    broker("model-unknown", "MODEL_UNKNOWN", "the key of a model is asked for that the broker has not", model_unknown),
    broker("version-unknown", "MODEL_UNKNOWN", "the key of a later version is asked for", version_unknown),
    broker("resource-elsewhere", "RESOURCE_PATH", "the path names another repository", resource_elsewhere),
    broker("ledger-head-unknown", "LEDGER_HEAD_UNKNOWN", "a renewal echoes a head the ledger never had", head_unknown),
    broker("rcar-version", "RCAR_VERSION", "the client speaks an older protocol", rcar_version),
    broker("rcar-hash", "RCAR_HASH", "the client offers only a weaker hash", rcar_hash),
    broker("message-repeated-key", "RCAR_MESSAGE", "a name stands twice in the JSON of a message", repeated_key),
    broker("message-unknown-field", "RCAR_MESSAGE", "a message has a field that the protocol has not", unknown_field),
    broker("handshake-key-off-curve", "TEE_PUBKEY", "the handshake key is no point of its curve", off_curve),
    broker("nonce-expired", "SESSION_EXPIRED", "a challenge is answered after its time", nonce_expired),
];

/// Takes the early challenge that `nonce-expired` answers late.
pub fn take_early(lab: &mut Lab) -> Result<(), Failure> {
    lab.early = Some((Instant::now(), lab.guest.challenged()?));
    Ok(())
}

/// A handshake as it should be, up to the token: the control of most of these.
fn honest(lab: &Lab) -> Result<String, Failure> {
    let (_, out) = lab.guest.answered()?;
    let reply = lab.guest.send(&out)?;
    Ok(lab.broker_said(&reply)?.code)
}

/// Sends a message that the lab changed, then one that it did not.
fn sent(lab: &Lab, out: &Outgoing) -> Step {
    let reply = lab.guest.send(out)?;
    let heard = lab.broker_said(&reply)?;
    Ok(Played { heard, control: honest(lab)? })
}

/// An attest message whose JSON is changed before it is sent.
fn edited(lab: &Lab, edit: impl FnOnce(&mut Value)) -> Step {
    let (_, mut out) = lab.guest.answered()?;
    let mut body = parsed(&out.body)?;
    edit(&mut body);
    out.body = body.to_string().into_bytes();
    sent(lab, &out)
}

fn parsed(body: &[u8]) -> Result<Value, Failure> {
    serde_json::from_slice(body).map_err(|_| broken("the lab's own message"))
}

fn nonce_replayed(lab: &mut Lab) -> Step {
    let (_, out) = lab.guest.answered()?;
    let first = lab.guest.send(&out)?;
    let control = lab.broker_said(&first)?.code;
    let again = lab.guest.send(&out)?;
    Ok(Played { heard: lab.broker_said(&again)?, control })
}

fn nonce_unknown(lab: &mut Lab) -> Step {
    let (_, mut out) = lab.guest.answered()?;
    let cookie = out.cookie.take().unwrap_or_default();
    let (name, value) = cookie.split_once('=').ok_or_else(|| broken("a session without a cookie"))?;
    out.cookie = Some(format!("{name}={}", value.chars().rev().collect::<String>()));
    sent(lab, &out)
}

fn nonce_missing(lab: &mut Lab) -> Step {
    let (_, out) = lab.guest.answered()?;
    sent(lab, &Outgoing { cookie: None, ..out })
}

fn nonce_other(lab: &mut Lab) -> Step {
    let (one, _) = lab.guest.answered()?;
    let (_, other) = lab.guest.answered()?;
    sent(lab, &Outgoing { cookie: Some(one.cookie), ..other })
}

fn nonce_concurrent(lab: &mut Lab) -> Step {
    let (_, out) = lab.guest.answered()?;
    let guest = &lab.guest;
    let (one, two) = std::thread::scope(|scope| {
        let other = scope.spawn(|| guest.send(&out));
        (guest.send(&out), other.join().map_err(|_| broken("a thread of the lab panicked")))
    });
    let (one, two) = (lab.broker_said(&one?)?, lab.broker_said(&two??)?);
    // One of them is answered; which one is chance.
    let (accepted, refused) = if one.code == "accepted" { (one, two) } else { (two, one) };
    Ok(Played { heard: refused, control: accepted.code })
}

fn evidence_old(lab: &mut Lab) -> Step {
    let (_, old) = lab.guest.answered()?;
    let old = parsed(&old.body)?;
    edited(lab, |fresh| fresh["tee-evidence"] = old["tee-evidence"].clone())
}

fn evidence_borrowed(lab: &mut Lab) -> Step {
    let (_, other) = lab.guest.answered()?;
    let other = parsed(&other.body)?;
    edited(lab, |body| body["runtime-data"]["tee-pubkey"] = other["runtime-data"]["tee-pubkey"].clone())
}

fn addition(lab: &mut Lab) -> Step {
    edited(lab, |body| body["tee-evidence"]["additional_evidence"] = json!("{\"gpu\":\"added\"}"))
}

fn foreign(lab: &mut Lab) -> Step {
    edited(lab, |body| body["tee-evidence"]["primary_evidence"] = json!({ "attestation_report": { "version": 5 } }))
}

fn role_swapped(lab: &mut Lab) -> Step {
    let challenged = lab.guest.challenged()?;
    // The same handshake's digest in a session's dress: genuine evidence, made for a customer.
    let leaf = session::leaf(&challenged.attest.report_data());
    let data = session::report_data(Mode::Simulation, lab.tee, &leaf, 1);
    let out = challenged.attest.request(&lab.guest.evidence(&data)?).map_err(released)?;
    sent(lab, &out)
}

fn tee_other(lab: &mut Lab) -> Step {
    let other = match lab.tee {
        Tee::SevSnp => Tee::Tdx,
        Tee::Tdx => Tee::SevSnp,
    };
    let challenged = lab.guest.challenged_as(Auth::begin(other, None).map_err(released)?)?;
    let evidence = lab.guest.evidence(&challenged.attest.report_data())?;
    let out = challenged.attest.request(&evidence).map_err(released)?;
    sent(lab, &out)
}

fn token_missing(lab: &mut Lab) -> Step {
    let challenged = lab.guest.challenged()?;
    let path = rcar::resource_path(&lab.world.model.id, 2);
    let reply = lab.guest.resource(Some(&challenged.cookie), path)?;
    Ok(Played { heard: lab.broker_said(&reply)?, control: with_key(lab)? })
}

/// The whole handshake, the key included.
fn with_key(lab: &Lab) -> Result<String, Failure> {
    Ok(asked(lab, &lab.world.model.id, 2)?.code)
}

/// Attests, then asks for a key.
pub fn asked(lab: &Lab, model: &str, sequence: u64) -> Result<Heard, Failure> {
    asked_at(lab, rcar::resource_path(model, sequence))
}

fn asked_at(lab: &Lab, path: String) -> Result<Heard, Failure> {
    let (challenged, out) = lab.guest.answered()?;
    let reply = lab.guest.send(&out)?;
    let attested = lab.broker_said(&reply)?;
    if attested.code != "accepted" {
        return Ok(attested);
    }
    let reply = lab.guest.resource(Some(&challenged.cookie), path)?;
    lab.broker_said(&reply)
}

fn token_reused(lab: &mut Lab) -> Step {
    let (challenged, out) = lab.guest.answered()?;
    lab.guest.send(&out)?;
    let ask = || lab.guest.resource(Some(&challenged.cookie), rcar::resource_path(&lab.world.model.id, 2));
    let control = lab.broker_said(&ask()?)?.code;
    Ok(Played { heard: lab.broker_said(&ask()?)?, control })
}

fn model_unknown(lab: &mut Lab) -> Step {
    Ok(Played { heard: asked(lab, "another-model", 2)?, control: with_key(lab)? })
}

fn version_unknown(lab: &mut Lab) -> Step {
    Ok(Played { heard: asked(lab, &lab.world.model.id, 9)?, control: with_key(lab)? })
}

fn resource_elsewhere(lab: &mut Lab) -> Step {
    let path = format!("{}default/{}/2", rcar::RESOURCE_PREFIX, lab.world.model.id);
    Ok(Played { heard: asked_at(lab, path)?, control: with_key(lab)? })
}

fn head_unknown(lab: &mut Lab) -> Step {
    let challenged = lab.guest.challenged_as(Auth::begin(lab.tee, Some([7; 32])).map_err(released)?)?;
    let evidence = lab.guest.evidence(&challenged.attest.report_data())?;
    let out = challenged.attest.request(&evidence).map_err(released)?;
    sent(lab, &out)
}

/// The first request, its JSON changed.
fn auth(lab: &Lab, edit: impl FnOnce(&mut Value)) -> Step {
    let mut out = Auth::begin(lab.tee, None).map_err(released)?.request();
    let mut body = parsed(&out.body)?;
    edit(&mut body);
    out.body = body.to_string().into_bytes();
    sent(lab, &out)
}

fn tee_unknown(lab: &mut Lab) -> Step {
    let mut out = Auth::begin(lab.tee, None).map_err(released)?.request();
    let mut body = parsed(&out.body)?;
    body["tee"] = json!("cca");
    out.body = body.to_string().into_bytes();
    let reply = lab.guest.send(&out)?;
    if reply.status != 200 {
        return Ok(Played { heard: lab.broker_said(&reply)?, control: honest(lab)? });
    }
    // The broker says so when evidence comes.
    let cookie = reply.cookies.first().and_then(|c| c.split(';').next()).unwrap_or_default().to_owned();
    let (_, message) = lab.guest.answered()?;
    let mut message = parsed(&message.body)?;
    message["runtime-data"]["nonce"] = json!(reply.text("nonce").unwrap_or_default());
    let reply = lab.guest.attest(Some(&cookie), message.to_string().into_bytes())?;
    Ok(Played { heard: lab.broker_said(&reply)?, control: honest(lab)? })
}

fn rcar_version(lab: &mut Lab) -> Step {
    auth(lab, |body| body["version"] = json!("0.1.0"))
}

fn rcar_hash(lab: &mut Lab) -> Step {
    auth(lab, |body| body["extra-params"]["supported-hash-algorithms"] = json!(["sha256"]))
}

fn repeated_key(lab: &mut Lab) -> Step {
    let (_, mut out) = lab.guest.answered()?;
    let text = String::from_utf8(out.body).map_err(|_| broken("the lab's own message"))?;
    out.body = text.replacen('{', "{\"init-data\":null,", 1).into_bytes();
    sent(lab, &out)
}

fn unknown_field(lab: &mut Lab) -> Step {
    edited(lab, |body| body["debug"] = json!(true))
}

fn off_curve(lab: &mut Lab) -> Step {
    edited(lab, |body| {
        let key = &mut body["runtime-data"]["tee-pubkey"];
        key["x"] = key["y"].clone();
    })
}

fn nonce_expired(lab: &mut Lab) -> Step {
    if lab.early.is_none() {
        take_early(lab)?;
    }
    let (taken, challenged) = lab.early.take().ok_or_else(|| broken("no early challenge"))?;
    let evidence = lab.guest.evidence(&challenged.attest.report_data())?;
    let out = challenged.attest.request(&evidence).map_err(released)?;
    let end = taken + Duration::from_secs(NONCE_TTL_S) + Duration::from_millis(500);
    std::thread::sleep(end.saturating_duration_since(Instant::now()));
    sent(lab, &out)
}
