//! Turns image folders, whole and damaged, into what a launch says about them.
//! No machine starts here, and a folder that matches itself may still be anybody's.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

use std::{fs, path::PathBuf};

use clap::Parser;
use serde_json::{Value, json};
use tempfile::TempDir;
use vouchsafe_attestation::lp::sha256;
use vouchsafe_launcher::{
    cli::Cli,
    image::{Parts, Paths, judge},
    spec::MachineSpec,
};

/// A folder whose manifest is right, and the machine of it.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        for name in ["kernel", "initrd", "firmware.fd"] {
            fs::write(folder.at(name), name).unwrap();
        }
        let part = |name: &str| json!({ "bytes": name.len(), "sha256": hex::encode(sha256(name.as_bytes())) });
        folder.state(&json!({
            "version": 1,
            "mtime": 0,
            "kernel": part("kernel"),
            "initrd": part("initrd"),
            "firmware": part("firmware.fd"),
        }));
        folder
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn state(&self, manifest: &Value) {
        fs::write(self.at("image.json"), manifest.to_string()).unwrap();
    }

    fn machine(&self) -> MachineSpec {
        let image = self.0.path().to_str().unwrap();
        let flags = ["--backend", "snp", "--config", "c", "--models", "m", "--image", image];
        let cli = Cli::try_parse_from([&["vouchsafe-launch"], &flags[..]].concat()).unwrap();
        let mut machine = cli.spec().unwrap().machine;
        machine.firmware_sha256 = Some(sha256(b"firmware.fd"));
        machine
    }

    fn code(&self, machine: &MachineSpec) -> Result<(), &'static str> {
        let judged = Parts::open(&Paths::of(machine)).and_then(|parts| judge(&parts, machine));
        judged.map(drop).map_err(|error| error.code())
    }
}

#[test]
fn a_folder_is_its_manifests_or_refused() {
    let folder = Folder::new();
    let machine = folder.machine();
    assert_eq!(folder.code(&machine), Ok(()), "control");
    for name in ["kernel", "initrd", "firmware.fd"] {
        // One bit, and one byte more.
        let mut bytes = name.as_bytes().to_vec();
        bytes[0] ^= 1;
        fs::write(folder.at(name), bytes).unwrap();
        assert_eq!(folder.code(&machine), Err("IMAGE_MISMATCH"), "{name}");
        fs::write(folder.at(name), format!("{name}\0")).unwrap();
        assert_eq!(folder.code(&machine), Err("IMAGE_MISMATCH"), "{name}");
        fs::write(folder.at(name), name).unwrap();
    }
    assert_eq!(folder.code(&machine), Ok(()), "control");
}

#[test]
fn only_a_known_firmware_or_a_named_one_runs() {
    let folder = Folder::new();
    let mut machine = folder.machine();
    machine.firmware_sha256 = None;
    assert_eq!(folder.code(&machine), Err("FIRMWARE_UNKNOWN"));
    fs::write(folder.at("other.fd"), "other").unwrap();
    machine.firmware = Some(folder.at("other.fd"));
    assert_eq!(folder.code(&machine), Err("FIRMWARE_UNKNOWN"));
    machine.firmware_sha256 = Some(sha256(b"other"));
    assert_eq!(folder.code(&machine), Ok(()), "the image's own firmware is not compared when another one runs");
}

#[test]
fn a_manifest_is_one_of_version_1_or_none() {
    let folder = Folder::new();
    let machine = folder.machine();
    fs::remove_file(folder.at("image.json")).unwrap();
    assert_eq!(folder.code(&machine), Err("LAUNCH_FILE"));
    for text in ["", "{}", "[]", "{\"version\":2}", "\u{0}"] {
        fs::write(folder.at("image.json"), text).unwrap();
        assert_eq!(folder.code(&machine), Err("IMAGE_MANIFEST"), "{text}");
    }
    fs::write(folder.at("image.json"), vec![b' '; (1 << 20) + 1]).unwrap();
    assert_eq!(folder.code(&machine), Err("IMAGE_MANIFEST"));
}
