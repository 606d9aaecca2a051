//! Turns an empty world into a served, verified, answered and receipted request: the flow of the product, step by step.
//! Each step runs a shipped command as its own process; a step that fails ends the demo.

use std::{fs, path::Path, time::Duration};

use serde_json::Value;
use vouchsafe_attestation::Tee;

use super::{
    print::Progress,
    process::Service,
    world::{Launch, Running, World, copy_dir, listening, text},
};
use crate::failure::Failure;

/// The longest lease the demo's broker grants; renewal is part of the story only when the demo is kept open.
const LEASE: [&str; 4] = ["--lease-ttl", "600", "--lease-requests", "10000"];

/// What the story leaves running for the attacks.
pub struct Stage {
    pub broker: Service,
    pub enclave: Running,
    /// The answer to the customer's request.
    pub outputs: Value,
    /// The customer's verdict.
    pub verdict: Value,
    /// What an honest launch through a script in QEMU's place led to and how long its first word took, once it was tried.
    pub control: Option<(String, Duration)>,
}

/// Plays the story.
pub fn play(world: &mut World, progress: &mut Progress) -> Result<Stage, Failure> {
    prepare(world, progress)?;
    let broker = start_broker(world, progress)?;
    let enclave = launch(world, progress)?;
    let verdict = verify(world, progress, &enclave.address)?;
    let outputs = infer(world, progress, &enclave.address)?;
    verify_receipt(world, progress)?;
    Ok(Stage { broker, enclave, outputs, verdict, control: None })
}

/// Root, keys, packages, policies: all that is made before anything runs. The fault lab begins with it, too.
pub fn prepare(world: &mut World, progress: &mut Progress) -> Result<(), Failure> {
    make_roots_and_keys(world, progress)?;
    seal_two_versions(world, progress)?;
    write_policies(world, progress)
}

fn make_roots_and_keys(world: &mut World, progress: &mut Progress) -> Result<(), Failure> {
    progress.step("root", "the tester makes a simulated root for both technologies (two RSA-4096 keys: a few seconds)");
    let root = world.at("tester/root");
    let simulator = world.programs.simulator.clone();
    let made = world.programs.call(&simulator, &["root", "--root", &root])?;
    world.root_sha256 = need(&made, "sha256")?;
    world.platform = need(&made, if world.tee == Tee::Tdx { "ppid" } else { "chip_id" })?;
    progress.step("keys", "the vendor makes a signing key, the broker its own keys");
    world.call(&["keys", &world.at("vendor/manifest.key")])?;
    let (dir, listen) = (world.at("broker/state"), world.broker.to_string());
    let (policy, vendor) = (world.at("broker/policy.toml"), world.at("vendor/manifest.key.pub"));
    let mut args = vec!["broker", "init", &dir, "--listen", &listen, "--policy", &policy, "--vendor-key", &vendor];
    args.extend(LEASE);
    let made = world.call(&args)?;
    world.release_key = need(&made, "release_key")?;
    world.broker_spki = need(&made, "tls_spki_sha256")?;
    let wrap = need(&made, "wrap_public")?;
    let path = world.dir.join("vendor/broker.pub");
    fs::write(&path, wrap + "\n").map_err(|e| Failure::file(&path, "written", &e))
}

fn seal_two_versions(world: &World, progress: &mut Progress) -> Result<(), Failure> {
    progress.step("seal", "the vendor seals versions 1 and 2 of the model, each with its own key, for the broker");
    for sequence in 1..=2 {
        seal(world, sequence)?;
    }
    publish(world, 2, "operator/models")
}

/// Seals version `sequence` and hands its wrapped key to the broker.
pub fn seal(world: &World, sequence: u32) -> Result<(), Failure> {
    let (number, model) = (sequence.to_string(), world.model.file.display().to_string());
    let (package, wrapped) =
        (world.at(&format!("vendor/v{sequence}")), world.at(&format!("vendor/v{sequence}.key.json")));
    let (key, to) = (world.at("vendor/manifest.key"), world.at("vendor/broker.pub"));
    let mut args = vec![
        "seal",
        &model,
        "--id",
        &world.model.id,
        "--sequence",
        &number,
        "--sign-with",
        &key,
        "--to",
        &to,
        "--out",
        &package,
        "--wrapped",
        &wrapped,
        "--rehearsal",
    ];
    args.extend(world.model.files.iter().flat_map(|file| ["--file", file]));
    world.call(&args)?;
    let dir = world.at("broker/state");
    world.call(&["broker", "import", &dir, "--package", &package, "--key", &wrapped]).map(drop)
}

/// Puts version `sequence` where the operator's enclave reads it; an older one is replaced by rename.
pub fn publish(world: &World, sequence: u32, models: &str) -> Result<(), Failure> {
    let target = world.dir.join(models).join(&world.model.id);
    let incoming = world.dir.join("host").join(format!("incoming-{sequence}"));
    copy_dir(&world.dir.join(format!("vendor/v{sequence}")), &incoming)?;
    if target.exists() {
        fs::remove_dir_all(&target).map_err(|e| Failure::file(&target, "replaced", &e))?;
    }
    fs::create_dir_all(world.dir.join(models)).map_err(|e| Failure::file(&target, "created", &e))?;
    fs::rename(&incoming, &target).map_err(|e| Failure::file(&target, "put in place", &e))
}

fn write_policies(world: &mut World, progress: &mut Progress) -> Result<(), Failure> {
    progress.step("measure", "vendor and customer compute which measurement and configuration they accept");
    write_config(world, "operator/config.toml", 2)?;
    let config = world.at("operator/config.toml");
    let image = world.image.as_ref().map(|image| image.display().to_string());
    let mut args = vec!["measure", "--tee", world.tee.as_str(), "--config", &config];
    match &image {
        None => args.extend(["--backend", "sim-process"]),
        Some(image) => args.extend(["--backend", "sim-vm", "--image", image]),
    }
    let measured = world.call(&args)?;
    world.measurement = need(&measured, "measurement")?;
    let registers = measured.get("rtmr").and_then(Value::as_array).into_iter().flatten();
    world.rtmr = registers.filter_map(Value::as_str).map(str::to_owned).collect();
    world.config_digest = need(&measured, "config_digest")?;
    // Version 1 may still be asked for by an enclave whose configuration allows it: the rollback attack's control.
    write_config(world, "host/config-any-version.toml", 1)?;
    let second = world.at("host/config-any-version.toml");
    let second = need(&world.call(&["measure", "--config", &second])?, "config_digest")?;
    let both = [world.config_digest.clone(), second];
    write_policy(world, "broker/policy.toml", &both, None)?;
    let vendor = world.at("vendor/manifest.key.pub");
    write_policy(world, "customer/policy.toml", &both[..1], Some(&vendor))
}

fn write_config(world: &World, path: &str, floor: u32) -> Result<(), Failure> {
    let broker = format!("{}={}", world.broker, world.broker_spki);
    let (key, model) = (world.at("vendor/manifest.key.pub"), format!("{}={floor}", world.model.id));
    let out = world.at(path);
    let mut args = vec!["config", "--manifest-key", &key, "--release-key", &world.release_key, "--broker", &broker];
    args.extend(["--model", &model, "--out", &out]);
    if world.image.is_none() {
        // A process runs on any machine; the first line of the enclave's log says what this one's kernel enforces. The
        // image brings its own kernel, which enforces all of it.
        args.push("--landlock-best-effort");
    }
    world.call(&args).map(drop)
}

fn write_policy(world: &World, path: &str, configs: &[String], vendor: Option<&str>) -> Result<(), Failure> {
    let (root, out) = (world.at("tester/root/root.pem"), world.at(path));
    let floor = format!("{}=2={}", world.model.id, vendor.unwrap_or_default());
    let mut args = vec!["policy", "init", "--mode", "simulation", "--root", &root, "--out", &out];
    args.extend(reference_values(world));
    for digest in configs {
        args.extend(["--config-digest", digest]);
    }
    match vendor {
        Some(_) => args.extend(["--model", &floor]),
        None => args.push("--any-model"),
    }
    world.call(&args).map(drop)
}

/// What a policy of this world says of technology, code and machine.
pub fn reference_values(world: &World) -> Vec<&str> {
    let mut args =
        vec!["--tee", world.tee.as_str(), "--measurement", &world.measurement, "--platform", &world.platform];
    for (option, register) in ["--rtmr0", "--rtmr1", "--rtmr2", "--rtmr3"].into_iter().zip(&world.rtmr) {
        args.extend([option, register]);
    }
    args
}

fn start_broker(world: &World, progress: &mut Progress) -> Result<Service, Failure> {
    progress.step("broker", "the vendor's key broker starts");
    serve_broker(world)
}

/// Starts the broker.
pub fn serve_broker(world: &World) -> Result<Service, Failure> {
    let dir = world.at("broker/state");
    let mut broker =
        world.programs.serve(&world.programs.vouchsafe, &["broker", "serve", &dir, "--exit-with-stdin"])?;
    broker.wait_for("the broker to listen", listening)?;
    Ok(broker)
}

fn launch(world: &World, progress: &mut Progress) -> Result<Running, Failure> {
    progress.step("launch", "the operator launches the enclave: attest, release, unseal, serve");
    world.launch(&Launch::default())
}

fn verify(world: &World, progress: &mut Progress, address: &str) -> Result<Value, Failure> {
    progress.step("verify", "the customer verifies the enclave; no data has been sent");
    let (policy, report) = (world.at("customer/policy.toml"), world.at("customer/report.md"));
    world.call(&["verify", address, "--policy", &policy, "--report", &report])
}

fn infer(world: &World, progress: &mut Progress, address: &str) -> Result<Value, Failure> {
    progress.step("infer", "the customer sends held-out rows and asks for a receipt");
    let (policy, input) = (world.at("customer/policy.toml"), world.model.input.display().to_string());
    let receipt = world.at("customer/receipt.json");
    world.call(&[
        "infer",
        address,
        "--policy",
        &policy,
        "--model",
        &world.model.id,
        "--input",
        &input,
        "--receipt",
        &receipt,
    ])
}

fn verify_receipt(world: &World, progress: &mut Progress) -> Result<(), Failure> {
    progress.step("receipt", "the receipt is verified offline: it names the exact weights that answered");
    let (policy, receipt) = (world.at("customer/policy.toml"), world.at("customer/receipt.json"));
    let now = vouchsafe_attestation::UnixTime(crate::verify::now()).to_string();
    let (request, response) = (format!("{receipt}.request"), format!("{receipt}.response"));
    let salt = format!("{receipt}.salt");
    debug_assert!(Path::new(&salt).exists(), "infer writes the salt beside the receipt");
    world
        .call(&[
            "receipt",
            "verify",
            &receipt,
            "--policy",
            &policy,
            "--at",
            &now,
            "--request",
            &request,
            "--response",
            &response,
            "--salt",
            &salt,
        ])
        .map(drop)
}

/// A text field that a step's answer must have.
pub fn need(answer: &Value, name: &str) -> Result<String, Failure> {
    text(answer, name).map(str::to_owned).ok_or_else(|| {
        Failure::new(
            "DEMO_STEP",
            10,
            format!("a step's answer lacks `{name}`"),
            "run with --keep DIR and read DIR/logs",
        )
    })
}
