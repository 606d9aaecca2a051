//! Turns what a host can do to files and programs into refusals by the enclave or the broker.
//! The host of these attacks is root on the machine and launches whatever it likes.

use std::fs;

use serde_json::json;
use vouchsafe_attestation::Tee;

use super::{Played, ledger_code};
use crate::{
    demo::{
        process::program_sha256,
        story::{Stage, publish},
        world::{Launch, World},
    },
    failure::Failure,
};

/// One ciphertext chunk of the package is replaced by that of another version.
pub fn blob_swapped(world: &mut World, _: &mut Stage) -> Result<Played, Failure> {
    let models = "host/swapped";
    publish(world, 2, models)?;
    let control = launch_code(world, &Launch { models, ..Launch::default() })?;
    let package = world.dir.join(models).join(&world.model.id);
    let (blob, other) = (package.join("0000.blob"), world.dir.join("vendor/v1/0000.blob"));
    fs::copy(&other, &blob).map_err(|e| Failure::file(&blob, "replaced", &e))?;
    let fatal = world.launch_refused(&Launch { models, ..Launch::default() })?;
    Ok(Played {
        name: "blob-swapped",
        title: "host swaps a model blob for another version's",
        refused_by: "enclave",
        pid: fatal.pid,
        program: fatal.program,
        code: fatal.code,
        expected: "BLOB_CHUNK",
        control,
        facts: json!({}),
    })
}

/// The operator's folder gets version 1, genuinely signed and sealed, but older than the bound floor.
pub fn rolled_back(world: &mut World, _: &mut Stage) -> Result<Played, Failure> {
    let models = "host/rolled-back";
    publish(world, 1, models)?;
    // Control: an enclave whose configuration allows version 1 does open and serve the very same folder.
    let control = launch_code(world, &Launch { models, config: "host/config-any-version.toml", ..Launch::default() })?;
    let fatal = world.launch_refused(&Launch { models, ..Launch::default() })?;
    Ok(Played {
        name: "rolled-back",
        title: "host rolls the package back to an older sequence",
        refused_by: "enclave",
        pid: fatal.pid,
        program: fatal.program,
        code: fatal.code,
        expected: "SEQUENCE_ROLLBACK",
        control,
        facts: json!({}),
    })
}

/// The enclave program gets one byte more. It still runs; its measurement is another one.
pub fn program_changed(world: &mut World, stage: &mut Stage) -> Result<Played, Failure> {
    let (folder, program) = (world.dir.join("host/program"), "host/program/vouchsafe-enclave");
    fs::create_dir_all(&folder).map_err(|e| Failure::file(&folder, "created", &e))?;
    let path = world.dir.join(program);
    fs::copy(&world.programs.enclave, &path).map_err(|e| Failure::file(&path, "copied to", &e))?;
    let control = launch_code(world, &Launch { enclave: Some(program), ..Launch::default() })?;
    let append = || -> std::io::Result<()> {
        let mut file = fs::OpenOptions::new().append(true).open(&path)?;
        std::io::Write::write_all(&mut file, &[0])
    };
    append().map_err(|e| Failure::file(&path, "changed", &e))?;
    let fatal = world.launch_refused(&Launch { enclave: Some(program), ..Launch::default() })?;
    let code = ledger_code(world, fatal.ticket.as_deref())?;
    Ok(Played {
        name: "program-changed",
        title: "host changes one byte of the enclave program",
        refused_by: "broker",
        pid: u64::from(stage.broker.pid()),
        program: program_sha256(stage.broker.pid()),
        code,
        expected: match world.tee {
            Tee::SevSnp => "MEASUREMENT_NOT_ALLOWED",
            Tee::Tdx => "MR_TD_NOT_ALLOWED",
        },
        control,
        facts: json!({ "enclave_said": fatal.code, "ticket": fatal.ticket }),
    })
}

/// `accepted` when the launch leads to a serving enclave.
fn launch_code(world: &World, launch: &Launch<'_>) -> Result<String, Failure> {
    world.launch(launch).map(|_| "accepted".to_owned())
}
