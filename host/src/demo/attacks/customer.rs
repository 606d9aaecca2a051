//! Turns what a host can do to the customer's connection into refusals by the customer's own verifier.
//! The relay is another process with a TLS key of its own; it ends the customer's TLS and forwards what it likes.

use serde_json::{Value, json};

use super::{Played, verdict_of};
use crate::{
    demo::{
        process::Service,
        story::{Stage, reference_values},
        world::{World, listening},
    },
    failure::Failure,
};

/// The customer's policy demands AMD's root.
pub fn hardware_policy(world: &mut World, stage: &mut Stage) -> Result<Played, Failure> {
    let policy = world.at("customer/hardware.toml");
    let vendor = world.at("vendor/manifest.key.pub");
    let model = format!("{}=2={vendor}", world.model.id);
    let mut args = vec!["policy", "init", "--mode", "hardware", "--model", &model, "--out", &policy];
    args.extend(["--config-digest", &world.config_digest]);
    args.extend(reference_values(world));
    world.call(&args)?;
    let simulated = world.at("customer/policy.toml");
    let control = world.ask(&["verify", &stage.enclave.address, "--policy", &simulated])?;
    let refused = world.ask(&["verify", &stage.enclave.address, "--policy", &policy])?;
    Ok(Played {
        name: "simulated-as-hardware",
        title: "simulated evidence offered under a hardware policy",
        refused_by: "customer",
        pid: u64::from(refused.pid),
        program: refused.program.clone(),
        code: verdict_of(&refused),
        expected: "LEAF_SIMULATED",
        control: verdict_of(&control),
        facts: json!({}),
    })
}

/// A relay records a genuine answer of the enclave and gives it to the next customer.
pub fn replayed(world: &mut World, stage: &mut Stage) -> Result<Played, Failure> {
    let (policy, record) = (world.at("customer/policy.toml"), world.at("host/recorded.json"));
    let control = world.ask(&["verify", &stage.enclave.address, "--policy", &policy])?;
    let (mut recorder, address) = relay(world, &stage.enclave.address, &["--record", &record])?;
    world.ask(&["verify", &address, "--policy", &policy])?;
    recorder.stop();
    let (_replayer, address) = relay(world, &stage.enclave.address, &["--replay", &record])?;
    let refused = world.ask(&["verify", &address, "--policy", &policy])?;
    Ok(Played {
        name: "evidence-replayed",
        title: "recorded evidence replayed to another customer",
        refused_by: "customer",
        pid: u64::from(refused.pid),
        program: refused.program.clone(),
        code: verdict_of(&refused),
        expected: "REPORT_DATA_MISMATCH",
        control: verdict_of(&control),
        facts: json!({}),
    })
}

/// A relay between customer and enclave asks the enclave for fresh evidence with the customer's own nonce.
pub fn relayed(world: &mut World, stage: &mut Stage) -> Result<Played, Failure> {
    let (policy, input) = (world.at("customer/policy.toml"), world.model.input.display().to_string());
    let id = world.model.id.clone();
    let infer = |address: &str| world.ask(&["infer", address, "--policy", &policy, "--model", &id, "--input", &input]);
    let control = infer(&stage.enclave.address)?;
    let (mut relay, address) = relay(world, &stage.enclave.address, &[])?;
    let refused = infer(&address)?;
    let read = relay.wait_for("the relay's count", |e| e.get("application_bytes").and_then(Value::as_u64))?;
    let code = if read == 0 { verdict_of(&refused) } else { format!("{read} BYTES DECRYPTED") };
    Ok(Played {
        name: "evidence-relayed",
        title: "fresh evidence relayed into the attacker's own TLS session",
        refused_by: "customer",
        pid: u64::from(refused.pid),
        program: refused.program.clone(),
        code,
        expected: "REPORT_DATA_MISMATCH",
        control: verdict_of(&control),
        facts: json!({ "relay_pid": relay.pid(), "application_bytes_decrypted_by_the_relay": read }),
    })
}

fn relay(world: &World, upstream: &str, more: &[&str]) -> Result<(Service, String), Failure> {
    let mut args = vec!["relay", "--listen", "127.0.0.1:0", "--upstream", upstream, "--exit-with-stdin"];
    args.extend(more);
    let mut service = world.programs.serve(&world.programs.simulator, &args)?;
    let address = service.wait_for("the relay to listen", listening)?;
    Ok((service, address))
}
