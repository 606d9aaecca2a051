//! Turns computed values into what a person reads, a script reads, and a policy names.
//! It computes nothing but digests of files.

use std::{fmt::Write as _, path::Path};

use serde_json::{Value, json};
use vouchsafe_attestation::{Tee, lp};
use vouchsafe_measurement::CpuModel;

use super::asked::Backend;
use crate::{failure::Failure, files};

/// What evidence of a launch will carry.
pub struct Values {
    pub backend: Backend,
    pub tee: Tee,
    /// MEASUREMENT or MRTD.
    pub measurement: [u8; 48],
    /// RTMR0 to RTMR3 where known; SEV-SNP has none.
    pub registers: Vec<Option<[u8; 48]>>,
    /// What was measured of a virtual machine.
    pub machine: Option<Machine>,
    pub config_digest: Option<[u8; 32]>,
}

/// What a virtual machine starts with.
pub struct Machine {
    /// SHA-256 of firmware, kernel and initrd.
    files: [[u8; 32]; 3],
    command_line: String,
    /// How many, which, and their SEV_FEATURES; on TDX the host's choice is in RTMR0.
    processors: Option<(u32, CpuModel, u64)>,
}

const FILES: [&str; 3] = ["firmware", "kernel", "initrd"];

impl Machine {
    pub fn of(
        firmware: &Path,
        kernel: &Path,
        initrd: &Path,
        command_line: String,
        processors: Option<(u32, CpuModel, u64)>,
    ) -> Result<Self, Failure> {
        let mut digests = [[0; 32]; 3];
        for (digest, path) in digests.iter_mut().zip([firmware, kernel, initrd]) {
            *digest = lp::sha256(&files::read(path, 1 << 30)?);
        }
        Ok(Self { files: digests, command_line, processors })
    }

    /// SHA-256 of the firmware.
    pub const fn firmware(&self) -> [u8; 32] {
        let [firmware, _, _] = self.files;
        firmware
    }

    /// One line each: name and value.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines: Vec<_> =
            FILES.iter().zip(&self.files).map(|(name, digest)| (*name, hex::encode(digest))).collect();
        lines.push(("command line", self.command_line.clone()));
        if let Some((count, cpu, features)) = self.processors {
            lines.push(("processors", format!("{count} x {cpu}, SEV_FEATURES {features:#x}")));
        }
        lines
    }
}

impl Values {
    /// What a person reads.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut put = |name: &str, value: &str| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name:<14} {value}");
        };
        match self.tee {
            Tee::SevSnp => put("measurement", &hex::encode(self.measurement)),
            Tee::Tdx => put("mr_td", &hex::encode(self.measurement)),
        }
        for (number, register) in self.registers.iter().enumerate() {
            let known = register.map(hex::encode);
            let value = known.as_deref().unwrap_or("not computed: record it from a first boot that you trust");
            put(&format!("rtmr{number}"), value);
        }
        if let Some(digest) = &self.config_digest {
            put("config digest", &hex::encode(digest));
        }
        if let Some(machine) = &self.machine {
            for (name, value) in machine.lines() {
                put(name, &value);
            }
        }
        if self.tee == Tee::Tdx {
            text += &format!("\nIn a policy:\n\n{}", self.policy());
        }
        text
    }

    /// What a script reads, and what `--out` writes.
    pub fn json(&self) -> Value {
        let measurement = hex::encode(self.measurement);
        let config = self.config_digest.map(hex::encode);
        let mut all = json!({ "backend": self.backend.as_str(), "tee": self.tee, "measurement": measurement, "config_digest": config });
        if let Some(machine) = &self.machine {
            all["mode"] = json!(self.backend.mode());
            all["command_line"] = json!(machine.command_line);
            for (name, digest) in FILES.iter().zip(&machine.files) {
                all[format!("{name}_sha256")] = json!(hex::encode(digest));
            }
            if let Some((count, cpu, features)) = machine.processors {
                all["vcpus"] = json!(count);
                all["cpu"] = json!(cpu.as_str());
                all["guest_features"] = json!(format!("{features:#x}"));
            }
        }
        if self.tee == Tee::Tdx {
            all["mr_td"] = json!(measurement);
            all["rtmr"] = json!(self.registers.iter().map(|register| register.map(hex::encode)).collect::<Vec<_>>());
            all["policy"] = json!(self.policy());
        }
        all
    }

    /// The lines of a TDX policy that name these values.
    fn policy(&self) -> String {
        let mut text = format!("[tdx]\nmr_td = [\"{}\"]\n", hex::encode(self.measurement));
        for (number, register) in self.registers.iter().enumerate() {
            text += &match register {
                Some(known) => format!("rtmr{number} = [\"{}\"]\n", hex::encode(known)),
                None => format!(
                    "# rtmr{number} = [\"96 hex digits\"]   # still to be recorded; a policy without it is refused\n"
                ),
            };
        }
        if let Some(config) = &self.config_digest {
            text += &format!("config_digests = [\"{}\"]\n", hex::encode(config));
        }
        text
    }
}
