//! Turns facts about programs, memory and files into requirements that several backends share.
//! Programs are looked for, not tried: QEMU alone is asked what it is.

use vouchsafe_launcher::{
    Backend,
    backend::host::{SEARCH, least_qemu},
};

use super::{
    ask::Landlock,
    backends::{Outcome, Requirement, met, missing, not},
    host::{Device, Host, Image, Version},
};

/// A guest's memory by default, and what QEMU takes beside it.
const MEMORY_MIB: u64 = 512 + 128;

const GET_QEMU: &str = "apt-get install qemu-system-x86 (on Debian bookworm from bookworm-backports)";

const NEWER_QEMU: &str =
    "build it, or take it from a newer distribution (Debian 12 with backports and Debian 13 have 10.0)";

pub fn qemu(host: &Host, backend: Backend) -> Requirement {
    let (major, minor) = least_qemu(backend);
    let needed = Version(major, minor, 0);
    let from = if backend == Backend::Tdx { NEWER_QEMU } else { GET_QEMU };
    let fix = format!("it takes QEMU {}.{} or newer: {from}", needed.0, needed.1);
    match host.qemu.as_ref().map(|qemu| qemu.version) {
        Some(Some(version)) if version >= needed => met("QEMU", version.to_string()),
        Some(Some(version)) => missing("QEMU", version.to_string(), fix),
        Some(None) => missing("QEMU", "qemu-system-x86_64 does not run or does not say its version", fix),
        None => missing("QEMU", format!("no qemu-system-x86_64 in {}", SEARCH.join(", ")), fix),
    }
}

pub fn qemu_object(host: &Host, object: &'static str, known: bool) -> Requirement {
    match (&host.qemu, known) {
        (_, true) => met(object, "known to QEMU"),
        (Some(_), false) => missing(
            object,
            "unknown to this QEMU",
            "use a QEMU that was built with it, see `qemu-system-x86_64 -object help`",
        ),
        (None, false) => missing(object, "no QEMU to ask", GET_QEMU),
    }
}

pub fn memory(host: &Host) -> Requirement {
    let name = "memory";
    match host.memory.available_mib {
        Some(mib) if mib >= MEMORY_MIB => met(name, format!("{mib} MiB available")),
        Some(mib) => missing(
            name,
            format!("{mib} MiB available"),
            format!("free {} MiB more; a guest has 512 MiB unless memory_mib says otherwise", MEMORY_MIB - mib),
        ),
        None => not(name, Outcome::Open, "not to be read", format!("a guest needs about {MEMORY_MIB} MiB")),
    }
}

pub fn image(host: &Host) -> Requirement {
    let name = "guest image";
    match &host.image {
        Image::NotNamed => {
            let tools = "vouchsafe image build --out image; then ask again with --image image";
            let other = "apt-get and dpkg-deb are missing here: build the image on a Debian machine and copy its folder; then ask again with --image";
            not(name, Outcome::Open, "not named", if host.apt { tools } else { other })
        }
        Image::Unusable { code, fact } => {
            missing(name, format!("{fact} [{code}]"), "build it again: vouchsafe image build")
        }
        Image::Complete { firmware_known: true, .. } => {
            met(name, "as its manifest says, firmware starts nothing but what was measured")
        }
        Image::Complete { firmware_known: false, firmware_sha256 } => missing(
            name,
            format!(
                "its firmware ({}…) is none that is known to start nothing but what was measured",
                firmware_sha256.get(..16).unwrap_or_default()
            ),
            "build the image again with this version; or, if you know that this firmware starts nothing else, name its digest with firmware_sha256 in the launch file",
        ),
    }
}

pub fn acceleration(host: &Host) -> Requirement {
    let name = "acceleration";
    let slow = "the guest is emulated: a boot takes 5 to 15 s and computing about 300 times as long";
    let found = match host.kvm.device {
        _ if host.kvm.is_usable() => return met(name, "KVM"),
        Device::Opens if host.kvm.modules.is_empty() => {
            "/dev/kvm opens, but neither kvm_amd nor kvm_intel is loaded".to_owned()
        }
        Device::Opens => format!(
            "/dev/kvm opens, but neither kvm_amd nor kvm_intel is behind it ({} is): stock kernels can hang there",
            host.kvm.modules.join(", ")
        ),
        Device::Missing => "no /dev/kvm".to_owned(),
        Device::Denied => "/dev/kvm is not for this user".to_owned(),
        Device::Broken => "/dev/kvm does not open".to_owned(),
    };
    not(name, Outcome::Better, found, slow)
}

pub fn programs(host: &Host, needed: &[&'static str]) -> Requirement {
    let name = "programs";
    let absent: Vec<&str> = needed.iter().copied().filter(|program| host.programs_missing.contains(program)).collect();
    if absent.is_empty() {
        return met(name, "beside this one");
    }
    let fix = "build or install all programs of the project into one folder";
    missing(name, format!("not beside this one: {}", absent.join(", ")), fix)
}

pub fn landlock(host: &Host) -> Requirement {
    let name = "landlock";
    let fix = "boot Linux 6.12 or newer with landlock among the security modules (`lsm=landlock,…`); until then the enclave starts only with a configuration of `vouchsafe config --landlock-best-effort`";
    match host.landlock {
        Landlock::Full => met(name, "enforced"),
        Landlock::Part => not(name, Outcome::Better, "enforced in part", fix),
        Landlock::None => not(name, Outcome::Better, "not enforced by this kernel", fix),
    }
}

pub fn huge_pages(host: &Host) -> Requirement {
    let name = "huge pages";
    match (host.memory.transparent, host.memory.huge_free) {
        (Some(word @ ("always" | "madvise")), _) => met(name, format!("transparent ({word})")),
        (_, Some(free)) if free > 0 => met(name, format!("{free} set aside")),
        _ => not(
            name,
            Outcome::Better,
            "none",
            "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled; without them large models are read more slowly",
        ),
    }
}
