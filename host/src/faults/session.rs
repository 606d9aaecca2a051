//! Turns the moves of a hostile server, relay or client of the enclave into refusals by the customer or the enclave.
//! The hostile server has genuine simulated evidence for its own TLS session: what it says beside it is what is wrong.

use std::fs;

use serde_json::{Value, json};
use vouchsafe_attestation::{Claims, Mode, encoding::b64url};

use super::{
    guest::lab as broken,
    hostile::{Forgery, HONEST},
    lab::{Heard, Lab, challenge},
    table::{Fault, Group, Played, Role, played},
    wire::Wire,
};
use crate::{
    demo::{process::Service, world::listening},
    failure::Failure,
};

type Step = Result<Played, Failure>;

const fn claims(name: &'static str, expected: &'static str, what: &'static str, play: fn(&mut Lab) -> Step) -> Fault {
    played(name, Group::Claims, Role::Customer, expected, what, play)
}

const fn customer(name: &'static str, expected: &'static str, what: &'static str, play: fn(&mut Lab) -> Step) -> Fault {
    played(name, Group::Protocol, Role::Customer, expected, what, play)
}

const fn enclave(name: &'static str, expected: &'static str, what: &'static str, play: fn(&mut Lab) -> Step) -> Fault {
    played(name, Group::Protocol, Role::Enclave, expected, what, play)
}

const MISMATCH: &str = "REPORT_DATA_MISMATCH";

/// Conversations between customer and enclave.
pub const FAULTS: &[Fault] = &[
    played(
        "simulated-as-hardware",
        Group::Simulation,
        Role::Customer,
        "LEAF_SIMULATED",
        "simulated evidence is offered under a hardware policy",
        simulated_as_hardware,
    ),
    played(
        "root-changed",
        Group::Simulation,
        Role::Customer,
        "ANCHOR_DIGEST",
        "the simulated root's file is not the one that the policy names",
        root_changed,
    ),
    claims("claims-config", "CLAIMS_CONFIG_DIGEST", "the claims name another configuration than is bound", |lab| {
        claimed(lab, |c| c.config_digest[31] ^= 1)
    }),
    claims("claims-mode", "CLAIMS_MODE", "simulated claims that say hardware", |lab| {
        claimed(lab, |c| c.mode = Mode::Hardware)
    }),
    claims("claims-key", "CLAIMS_SPKI", "the claims name another TLS key than the connection's", |lab| {
        claimed(lab, |c| c.spki_sha256[0] ^= 1)
    }),
    claims("claims-version", "CLAIMS_INVALID", "the claims are of a later version", |lab| claimed(lab, |c| c.v = 2)),
    claims("claims-changed", MISMATCH, "the claims were changed after the evidence was made", claims_changed),
    claims("claims-repeated-key", "CLAIMS_INVALID", "a name stands twice in the claims", claims_repeated),
    claims("model-other", "MODEL_NOT_LISTED", "another model is served", |lab| {
        claimed(lab, |c| model(c, |m| m.id = "another-model".to_owned()))
    }),
    claims("model-rolled-back", "MODEL_SEQUENCE_BELOW_FLOOR", "an older version of the model is served", |lab| {
        claimed(lab, |c| model(c, |m| m.sequence = 1))
    }),
    claims("model-vendor-other", "VENDOR_KEY_NOT_ALLOWED", "the model is signed by somebody else", |lab| {
        // The receipt key is a key of somebody, and not of the vendor.
        claimed(lab, |c| {
            let key = c.receipt_key;
            model(c, |m| m.vendor_keys = vec![key]);
        })
    }),
    customer("session-nonce-other", MISMATCH, "evidence made for another verifier's nonce", |lab| {
        forged(lab, &Forgery { bound: |b| b.nonce[0] ^= 1, ..HONEST })
    }),
    customer("session-channel-other", MISMATCH, "evidence made for another TLS session", |lab| {
        forged(lab, &Forgery { bound: |b| b.ekm[31] ^= 1, ..HONEST })
    }),
    customer("session-key-other", MISMATCH, "evidence made for another TLS key", |lab| {
        forged(lab, &Forgery { bound: |b| b.spki_sha256[31] ^= 1, ..HONEST })
    }),
    customer("session-mode-other", MISMATCH, "evidence whose digest says hardware", |lab| {
        forged(lab, &Forgery { bound: |b| b.mode = Mode::Hardware, ..HONEST })
    }),
    customer("role-swapped-session", "REPORT_DATA_SHAPE", "evidence of a key release is shown to a customer", |lab| {
        forged(lab, &Forgery { data: |d| d[48..].fill(0), ..HONEST })
    }),
    customer("merkle-path-long", "MERKLE_PATH_INVALID", "a tree of one with a path of one node", |lab| {
        forged(lab, &Forgery { answer: |a| a["merkle"]["path"] = json!([b64url(&[0; 64])]), ..HONEST })
    }),
    customer("merkle-path-short", "MERKLE_PATH_INVALID", "a tree of two with an empty path", |lab| {
        forged(lab, &Forgery { answer: |a| a["merkle"]["size"] = json!(2), ..HONEST })
    }),
    customer("merkle-index", "MERKLE_PATH_INVALID", "a place outside the tree", |lab| {
        forged(lab, &Forgery { answer: |a| a["merkle"]["index"] = json!(1), ..HONEST })
    }),
    customer("merkle-sibling", MISMATCH, "a path through a sibling that is not in the tree", |lab| {
        let answer = |a: &mut Value| a["merkle"] = json!({ "index": 0, "size": 2, "path": [b64url(&[0; 64])] });
        forged(lab, &Forgery { answer, ..HONEST })
    }),
    customer("answer-tee-other", "ATTEST_RESPONSE_INVALID", "the answer names another technology", |lab| {
        let answer = |a: &mut Value| {
            let other = if a["tee"] == "tdx" { "sev-snp" } else { "tdx" };
            a["tee"] = json!(other);
        };
        forged(lab, &Forgery { answer, ..HONEST })
    }),
    customer("answer-unknown-field", "ATTEST_RESPONSE_INVALID", "the answer has a field the protocol has not", |lab| {
        forged(lab, &Forgery { answer: |a| a["accepted"] = json!(true), ..HONEST })
    }),
    customer("answer-version", "ATTEST_RESPONSE_INVALID", "the answer is of a later version", |lab| {
        forged(lab, &Forgery { answer: |a| a["v"] = json!(2), ..HONEST })
    }),
    customer("evidence-relayed", MISMATCH, "fresh evidence is relayed into the attacker's own TLS session", relayed),
    customer("evidence-replayed", MISMATCH, "recorded evidence is replayed to the next customer", replayed),
    enclave("attest-first", "ATTEST_FIRST", "a model is asked before the connection fetched evidence", attest_first),
    enclave("attest-accept", "ATTEST_ACCEPT", "evidence is asked for in technologies this machine has not", accept),
    enclave("attest-nonce-short", "JSON_INVALID", "the verifier's nonce has 31 bytes", nonce_short),
    enclave("attest-repeated-key", "JSON_INVALID", "a name stands twice in the verifier's request", repeated_key),
];

/// Genuine simulated evidence under a policy that demands hardware.
fn simulated_as_hardware(lab: &mut Lab) -> Step {
    let heard = lab.verify(&lab.enclave.address, "customer/hardware.toml")?;
    let control = lab.verify(&lab.enclave.address, "customer/policy.toml")?.code;
    Ok(Played { heard, control })
}

/// The policy's root file with a byte more; the policy still names the SHA-256 of the right one.
fn root_changed(lab: &mut Lab) -> Step {
    const POLICY: &str = "customer/lab-other-root.toml";
    let at = |name: &str| lab.world.dir.join(name);
    let change = || -> std::io::Result<()> {
        let mut root = fs::read(at("tester/root/root.pem"))?;
        root.push(b'\n');
        fs::write(at("host/lab-root.pem"), root)?;
        let policy = fs::read_to_string(at("customer/policy.toml"))?;
        fs::write(at(POLICY), policy.replace(&lab.world.at("tester/root/root.pem"), &lab.world.at("host/lab-root.pem")))
    };
    change().map_err(|e| Failure::file(&at(POLICY), "written", &e))?;
    let heard = lab.verify(&lab.enclave.address, POLICY)?;
    let control = lab.verify(&lab.enclave.address, "customer/policy.toml")?.code;
    Ok(Played { heard, control })
}

/// One dishonest answer to the customer's command, then an honest one.
fn forged(lab: &Lab, forgery: &Forgery) -> Step {
    let heard = lab.verify_hostile(forgery)?;
    let control = lab.verify_hostile(&HONEST)?.code;
    Ok(Played { heard, control })
}

fn claimed(lab: &Lab, claims: fn(&mut Claims)) -> Step {
    forged(lab, &Forgery { claims, ..HONEST })
}

fn model(claims: &mut Claims, edit: impl FnOnce(&mut vouchsafe_attestation::claims::ModelClaim)) {
    if let Some(model) = claims.models.first_mut() {
        edit(model);
    }
}

fn claims_changed(lab: &mut Lab) -> Step {
    let bound = |b: &mut super::hostile::Bound| b.claims.push(b' ');
    forged(lab, &Forgery { bound, ..HONEST })
}

fn claims_repeated(lab: &mut Lab) -> Step {
    // The evidence covers exactly these bytes: only their form is wrong.
    let repeat = |claims: &[u8]| [b"{\"v\":1,", claims.get(1..).unwrap_or_default()].concat();
    let heard = lab.verify_hostile_bytes(&HONEST, &repeat)?;
    let control = lab.verify_hostile(&HONEST)?.code;
    Ok(Played { heard, control })
}

fn relayed(lab: &mut Lab) -> Step {
    let control = lab.verify(&lab.enclave.address, "customer/policy.toml")?.code;
    let (_relay, address) = relay(lab, &[])?;
    Ok(Played { heard: lab.verify(&address, "customer/policy.toml")?, control })
}

fn replayed(lab: &mut Lab) -> Step {
    let control = lab.verify(&lab.enclave.address, "customer/policy.toml")?.code;
    let record = lab.world.at("host/lab-recorded.json");
    let (mut recorder, address) = relay(lab, &["--record", &record])?;
    lab.verify(&address, "customer/policy.toml")?;
    recorder.stop();
    let (_replayer, address) = relay(lab, &["--replay", &record])?;
    Ok(Played { heard: lab.verify(&address, "customer/policy.toml")?, control })
}

fn relay(lab: &Lab, more: &[&str]) -> Result<(Service, String), Failure> {
    let mut args = vec!["relay", "--listen", "127.0.0.1:0", "--upstream", &lab.enclave.address, "--exit-with-stdin"];
    args.extend(more);
    let mut service = lab.world.programs.serve(&lab.world.programs.simulator, &args)?;
    let address = service.wait_for("the relay to listen", listening)?;
    Ok((service, address))
}

fn path(lab: &Lab) -> String {
    format!("/v2/models/{}", lab.world.model.id)
}

fn attest_first(lab: &mut Lab) -> Step {
    let mut wire = Wire::open(&lab.enclave.address)?;
    let heard = lab.enclave_said(&wire.send("GET", &path(lab), None, b"")?);
    attest(lab, &mut wire)?;
    let control = lab.enclave_said(&wire.send("GET", &path(lab), None, b"")?).code;
    Ok(Played { heard, control })
}

/// Fetches evidence on a connection.
pub fn attest(lab: &Lab, wire: &mut Wire) -> Result<Heard, Failure> {
    let heard = lab.enclave_said(&wire.send("POST", "/v1/attest", None, &challenge(lab.tee))?);
    if heard.code == "accepted" { Ok(heard) } else { Err(broken(format!("the live enclave refused [{}]", heard.code))) }
}

/// A model's metadata on a connection that has evidence, or not.
pub fn metadata(lab: &Lab, wire: &mut Wire) -> Result<Heard, Failure> {
    Ok(lab.enclave_said(&wire.send("GET", &path(lab), None, b"")?))
}

fn accept(lab: &mut Lab) -> Step {
    let (own, other) = match lab.tee.as_str() {
        "tdx" => ("tdx", "sev-snp"),
        own => (own, "tdx"),
    };
    asked(lab, |text| text.replace(own, other))
}

fn nonce_short(lab: &mut Lab) -> Step {
    asked(lab, |text| text.replacen("\"AA", "\"", 1))
}

fn repeated_key(lab: &mut Lab) -> Step {
    asked(lab, |text| text.replacen('{', "{\"v\":1,", 1))
}

/// A request for evidence whose text is changed, then one that is not.
fn asked(lab: &Lab, edit: impl FnOnce(String) -> String) -> Step {
    let good = challenge(lab.tee);
    let bad = edit(String::from_utf8_lossy(&good).into_owned());
    let mut wire = Wire::open(&lab.enclave.address)?;
    let heard = lab.enclave_said(&wire.send("POST", "/v1/attest", None, bad.as_bytes())?);
    let mut wire = Wire::open(&lab.enclave.address)?;
    let control = lab.enclave_said(&wire.send("POST", "/v1/attest", None, &good)?).code;
    Ok(Played { heard, control })
}
