//! Turns what a host can do at launch and over time into refusals by the enclave and the broker.
//! The last ones change the world for good, so they are the last of all.

use std::{fs, time::Duration};

use serde_json::Value;
use vouchsafe_attestation::Claims;

use super::{
    guest::lab as broken,
    lab::{Heard, Lab},
    release::asked,
    session::{attest, metadata},
    swapped,
    table::{Fault, Group, Played, Role, SNP, TDX, played},
    wire::Wire,
};
use crate::{
    demo::{
        story::{publish, seal},
        world::{Launch, number, text},
    },
    failure::Failure,
};

type Step = Result<Played, Failure>;

const CONFIG: Group = Group::Configuration;

/// What the host changes.
pub const FAULTS: &[Fault] = &[
    played(
        "config-not-listed",
        CONFIG,
        Role::Broker,
        "CONFIG_DIGEST_NOT_ALLOWED",
        "a bound configuration that no policy names",
        config_not_listed,
    ),
    played(
        "config-unknown-setting",
        CONFIG,
        Role::Enclave,
        "CONFIG_INVALID",
        "a bound configuration with a setting that nobody knows",
        |lab| configured(lab, "version = 1\nmanifest_keys", "version = 1\ndebug = true\nmanifest_keys"),
    ),
    played(
        "config-key-in-two-roles",
        CONFIG,
        Role::Enclave,
        "CONFIG_INVALID",
        "one key signs manifests and key bundles",
        two_roles,
    ),
    Fault { tees: SNP, ..swapped("config-evil") },
    Fault { tees: TDX, ..swapped("tdx-config-evil") },
    Fault { tees: SNP, ..changed("program-changed", "MEASUREMENT_NOT_ALLOWED") },
    Fault { tees: TDX, ..changed("tdx-program-changed", "MR_TD_NOT_ALLOWED") },
    played("blob-swapped", CONFIG, Role::Enclave, "BLOB_CHUNK", "the model's blob is another version's", blob_swapped),
    played(
        "package-rolled-back",
        CONFIG,
        Role::Enclave,
        "SEQUENCE_ROLLBACK",
        "the package is older than the configuration's floor",
        rolled_back,
    ),
    played(
        "model-changed",
        Group::Protocol,
        Role::Enclave,
        "REATTEST",
        "the model changes under an open, verified session",
        model_changed,
    ),
    Fault {
        group: Group::Simulation,
        ..broker(
            "sealed-for-hardware",
            "MODE_MISMATCH",
            "a key sealed for hardware, asked for in simulation",
            for_hardware,
        )
    },
    broker("lease-revoked", "LEASE_REVOKED", "a key is asked for after the lease was revoked", lease_revoked),
    broker("model-revoked", "MODEL_REVOKED", "a key is asked for after the model was revoked", model_revoked),
    broker(
        "model-below-floor",
        "SEQUENCE_BELOW_FLOOR",
        "an older key is asked for than the vendor allows",
        below_floor,
    ),
    Fault {
        group: Group::Identity,
        ..broker("platform-revoked", "PLATFORM_REVOKED", "a key is asked for on a revoked machine", platform_revoked)
    },
];

const fn broker(name: &'static str, code: &'static str, what: &'static str, play: fn(&mut Lab) -> Step) -> Fault {
    played(name, Group::Protocol, Role::Broker, code, what, play)
}

const fn changed(name: &'static str, code: &'static str) -> Fault {
    played(name, Group::Claims, Role::Broker, code, "one byte more in the enclave's program", program_changed)
}

const fn swapped(name: &'static str) -> Fault {
    const WHAT: &str = "the good configuration is bound, another one is handed to the enclave";
    played(name, CONFIG, Role::Enclave, "CONFIG_DIGEST_MISMATCH", WHAT, swapped::play)
}

/// Launches with the operator's configuration, some words of it replaced.
fn configured(lab: &mut Lab, from: &str, to: &str) -> Step {
    let config = write_config(lab, from, to)?;
    let fatal = lab.world.launch_refused(&Launch { config, ..Launch::default() })?;
    let heard = Heard { code: fatal.code, pid: fatal.pid, program: fatal.program };
    Ok(Played { heard, control: lab.honest_launch()? })
}

fn write_config(lab: &Lab, from: &str, to: &str) -> Result<&'static str, Failure> {
    const NAME: &str = "host/lab-config.toml";
    let good = config(lab)?;
    if !good.contains(from) {
        return Err(broken("the operator's configuration does not read as expected"));
    }
    let path = lab.world.dir.join(NAME);
    fs::write(&path, good.replacen(from, to, 1)).map_err(|e| Failure::file(&path, "written", &e))?;
    Ok(NAME)
}

fn config(lab: &Lab) -> Result<String, Failure> {
    let path = lab.world.dir.join("operator/config.toml");
    fs::read_to_string(&path).map_err(|e| Failure::file(&path, "read", &e))
}

fn config_not_listed(lab: &mut Lab) -> Step {
    let config = write_config(lab, "[limits]", "# another configuration, as good as the first\n[limits]")?;
    let heard = lab.release_refused(&Launch { config, ..Launch::default() })?;
    Ok(Played { heard, control: lab.honest_launch()? })
}

fn two_roles(lab: &mut Lab) -> Step {
    let text = config(lab)?;
    let list = |name: &str| {
        let rest = text.split_once(&format!("{name} = ["))?.1;
        Some(rest.split_once(']')?.0.to_owned())
    };
    let (Some(manifest), Some(release)) = (list("manifest_keys"), list("release_keys")) else {
        return Err(broken("the operator's configuration does not read as expected"));
    };
    configured(lab, &release, &manifest)
}

fn program_changed(lab: &mut Lab) -> Step {
    const NAME: &str = "host/lab-program";
    let path = lab.world.dir.join(NAME);
    let change = || -> std::io::Result<()> {
        fs::copy(&lab.world.programs.enclave, &path)?;
        std::io::Write::write_all(&mut fs::OpenOptions::new().append(true).open(&path)?, &[0])
    };
    change().map_err(|e| Failure::file(&path, "changed", &e))?;
    let heard = lab.release_refused(&Launch { enclave: Some(NAME), ..Launch::default() })?;
    Ok(Played { heard, control: lab.honest_launch()? })
}

fn blob_swapped(lab: &mut Lab) -> Step {
    const MODELS: &str = "host/lab-swapped";
    publish(&lab.world, 2, MODELS)?;
    let blob = lab.world.dir.join(MODELS).join(&lab.world.model.id).join("0000.blob");
    fs::copy(lab.world.dir.join("vendor/v1/0000.blob"), &blob).map_err(|e| Failure::file(&blob, "replaced", &e))?;
    launched(lab, MODELS)
}

fn rolled_back(lab: &mut Lab) -> Step {
    const MODELS: &str = "host/lab-rolled-back";
    publish(&lab.world, 1, MODELS)?;
    launched(lab, MODELS)
}

fn launched(lab: &mut Lab, models: &str) -> Step {
    let fatal = lab.world.launch_refused(&Launch { models, ..Launch::default() })?;
    let heard = Heard { code: fatal.code, pid: fatal.pid, program: fatal.program };
    Ok(Played { heard, control: lab.honest_launch()? })
}

/// Version 3 is put in place while a session is open; the session must be told before it is answered.
fn model_changed(lab: &mut Lab) -> Step {
    // Its control: answered before, and again after the session fetched evidence anew.
    let mut wire = Wire::open(&lab.enclave.address)?;
    attest(lab, &mut wire)?;
    let before = metadata(lab, &mut wire)?.code;
    seal(&lab.world, 3)?;
    publish(&lab.world, 3, "operator/models")?;
    lab.enclave.service.signal(rustix::process::Signal::HUP);
    serves(lab, 3)?;
    let heard = metadata(lab, &mut wire)?;
    attest(lab, &mut wire)?;
    let after = metadata(lab, &mut wire)?.code;
    Ok(Played { heard, control: if before == "accepted" { after } else { before } })
}

/// Waits until new sessions are told of version `sequence`.
fn serves(lab: &mut Lab, sequence: u64) -> Result<(), Failure> {
    for _ in 0..400 {
        lab.claims = super::lab::claims_of(&lab.enclave.address, lab.tee)?;
        let served = |claims: &Claims| claims.model(&lab.world.model.id).is_some_and(|m| m.sequence == sequence);
        if served(&lab.claims) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(broken("the new version is not served"))
}

/// Asks for the key of a version of its own, does something at the broker, and asks again.
fn revoked(lab: &Lab, sequence: u32, what: impl FnOnce(&str) -> Result<(), Failure>) -> Step {
    seal(&lab.world, sequence)?;
    let ask = || asked(lab, &lab.world.model.id, sequence.into());
    let control = ask()?.code;
    what(&lab.world.at("broker/state"))?;
    Ok(Played { heard: ask()?, control })
}

fn lease_revoked(lab: &mut Lab) -> Step {
    const SEQUENCE: u32 = 11;
    let lab = &*lab;
    revoked(lab, SEQUENCE, |dir| {
        let listed = lab.world.call(&["broker", "leases", dir])?;
        let leases = listed.get("leases").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let lease = leases.iter().find(|l| number(l, "sequence") == u64::from(SEQUENCE));
        let lease = lease.and_then(|l| text(l, "lease")).ok_or_else(|| broken("the broker lists no such lease"))?;
        lab.world.call(&["broker", "revoke", "lease", dir, lease]).map(drop)
    })
}

fn model_revoked(lab: &mut Lab) -> Step {
    let lab = &*lab;
    revoked(lab, 12, |dir| {
        let id = &lab.world.model.id;
        lab.world.call(&["broker", "revoke", "model", dir, id, "--sequence", "12"]).map(drop)
    })
}

fn below_floor(lab: &mut Lab) -> Step {
    let lab = &*lab;
    revoked(lab, 13, |dir| lab.world.call(&["broker", "floor", dir, &lab.world.model.id, "14"]).map(drop))
}

fn platform_revoked(lab: &mut Lab) -> Step {
    let lab = &*lab;
    revoked(lab, 15, |dir| lab.world.call(&["broker", "revoke", "platform", dir, &lab.world.platform]).map(drop))
}

/// The vendor sealed this version for hardware: the stored word is compared with the verdict's, whatever a policy says.
fn for_hardware(lab: &mut Lab) -> Step {
    let world = &lab.world;
    let at = |name: &str| world.at(name);
    let (package, wrapped) = (at("vendor/v9"), at("vendor/v9.key.json"));
    let (key, to, model) = (at("vendor/manifest.key"), at("vendor/broker.pub"), world.model.file.display().to_string());
    let mut args = vec!["seal", &model, "--id", &world.model.id, "--sequence", "9", "--sign-with", &key, "--to", &to];
    args.extend(["--out", &package, "--wrapped", &wrapped]);
    world.call(&args)?;
    world.call(&["broker", "import", &at("broker/state"), "--package", &package, "--key", &wrapped])?;
    let control = asked(lab, &world.model.id, 2)?.code;
    Ok(Played { heard: asked(lab, &world.model.id, 9)?, control })
}
