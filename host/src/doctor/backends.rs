//! Turns facts about a host into the requirements of one backend: what it needs, what is there, and the fix.
//! A met requirement is what files and programs of this host say; the launch itself is the last word.

use serde::Serialize;
use vouchsafe_launcher::Backend;

use super::{
    hardware,
    host::{ENCLAVE, Host, LAUNCHER, LIBRARY, SIMULATOR, Version},
    software,
};

/// KVM starts SEV-SNP guests since Linux 6.11.
const KERNEL_SNP: Version = Version(6, 11, 0);
/// KVM starts TDX guests since Linux 6.16.
const KERNEL_TDX: Version = Version(6, 16, 0);

/// What is known about a requirement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It is met.
    Met,
    /// It is not met, and the backend cannot run.
    Missing,
    /// It is not met, and the backend runs all the same, with what the fix says it loses.
    Better,
    /// It cannot be told here.
    Open,
}

/// One line of a backend's table.
#[derive(Clone, Debug, Serialize)]
pub struct Requirement {
    pub name: &'static str,
    pub outcome: Outcome,
    /// What was found.
    pub found: String,
    /// What to do; empty when there is nothing to do.
    pub fix: String,
}

/// A backend's table.
#[derive(Clone, Debug)]
pub struct Finding {
    pub backend: Backend,
    pub requirements: Vec<Requirement>,
}

impl Finding {
    /// Whether nothing that it needs is missing.
    pub fn can_run(&self) -> bool {
        self.requirements.iter().all(|requirement| requirement.outcome != Outcome::Missing)
    }
}

/// Goes through everything that a backend needs.
pub fn examine(backend: Backend, host: &Host) -> Finding {
    let requirements = match backend {
        Backend::Snp => vec![
            hardware::snp_processor(host),
            hardware::kernel(host, KERNEL_SNP, "SEV-SNP"),
            hardware::kvm_amd(host),
            hardware::kvm_device(host),
            hardware::sev_device(host),
            software::qemu(host, backend),
            software::qemu_object(host, "sev-snp-guest", host.qemu.as_ref().is_some_and(|qemu| qemu.sev_snp_guest)),
            software::memory(host),
            software::image(host),
            software::programs(host, &[LAUNCHER]),
            software::huge_pages(host),
        ],
        Backend::Tdx => vec![
            hardware::tdx_processor(host),
            hardware::kernel(host, KERNEL_TDX, "TDX"),
            hardware::kvm_intel(host),
            hardware::kvm_device(host),
            software::qemu(host, backend),
            software::qemu_object(host, "tdx-guest", host.qemu.as_ref().is_some_and(|qemu| qemu.tdx_guest)),
            hardware::quote_service(host),
            software::memory(host),
            hardware::tdx_image(host),
            hardware::tdx_firmware(),
            software::programs(host, &[LAUNCHER]),
            software::huge_pages(host),
        ],
        Backend::SimVm => {
            vec![
                software::qemu(host, backend),
                software::programs(host, &[LAUNCHER, SIMULATOR]),
                software::memory(host),
                software::image(host),
                software::acceleration(host),
                software::huge_pages(host),
            ]
        }
        Backend::SimProcess => {
            vec![software::programs(host, &[LAUNCHER, SIMULATOR, ENCLAVE, LIBRARY]), software::landlock(host)]
        }
    };
    Finding { backend, requirements }
}

pub(super) fn met(name: &'static str, found: impl Into<String>) -> Requirement {
    Requirement { name, outcome: Outcome::Met, found: found.into(), fix: String::new() }
}

pub(super) fn not(
    name: &'static str,
    outcome: Outcome,
    found: impl Into<String>,
    fix: impl Into<String>,
) -> Requirement {
    Requirement { name, outcome, found: found.into(), fix: fix.into() }
}

pub(super) fn missing(name: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Requirement {
    not(name, Outcome::Missing, found, fix)
}
