//! Turns facts about processor, kernel and devices into the requirements of the two hardware backends.
//! What the kernel shows is believed: a launch, and then its evidence, are the last words.

use super::{
    backends::{Outcome, Requirement, met, missing, not},
    host::{Device, Host, Image, Switch, Vendor, Version},
    software::image,
};

/// Inside a virtual machine no processor feature is the host's own.
const ASK_FOR_THE_MACHINE: &str =
    "run on the machine itself: a virtual machine is not handed this; to rehearse, use sim-vm or sim-process";

/// No module makes up for the processor.
const AMD_ONLY: &str = "it comes with AMD's processors only, see above";

const INTEL_ONLY: &str = "it comes with Intel's processors only, see above";

pub fn snp_processor(host: &Host) -> Requirement {
    let (name, virtual_machine) = ("processor", host.cpu.has("hypervisor"));
    match host.cpu.vendor {
        Vendor::Amd if host.cpu.has("sev_snp") => met(name, "AMD with SEV-SNP"),
        Vendor::Amd if virtual_machine => {
            missing(name, "AMD without SEV-SNP, seen from a virtual machine", ASK_FOR_THE_MACHINE)
        }
        Vendor::Amd => missing(
            name,
            "AMD without SEV-SNP",
            "it takes an EPYC 7003 or newer, with SMEE, SEV-ES and SEV-SNP switched on in the machine's firmware set-up",
        ),
        Vendor::Intel => missing(name, "Intel", "use a machine with an AMD EPYC 7003 or newer, or the tdx backend"),
        Vendor::Other => {
            missing(name, "neither AMD nor Intel, or not to be read", "use a machine with an AMD EPYC 7003 or newer")
        }
    }
}

pub fn tdx_processor(host: &Host) -> Requirement {
    let (name, virtual_machine) = ("processor", host.cpu.has("hypervisor"));
    match host.cpu.vendor {
        Vendor::Intel if host.cpu.has("tdx_host_platform") => met(name, "Intel with TDX"),
        Vendor::Intel if virtual_machine => {
            missing(name, "Intel without TDX, seen from a virtual machine", ASK_FOR_THE_MACHINE)
        }
        Vendor::Intel => missing(
            name,
            "Intel without TDX",
            "it takes a Xeon of the 5th generation or newer (some of the 4th), with TME-MT, TDX and SGX switched on in the machine's firmware set-up",
        ),
        Vendor::Amd => missing(name, "AMD", "use a machine with an Intel Xeon that has TDX, or the snp backend"),
        Vendor::Other => {
            missing(name, "neither AMD nor Intel, or not to be read", "use a machine with an Intel Xeon that has TDX")
        }
    }
}

pub fn kernel(host: &Host, needed: Version, what: &str) -> Requirement {
    let fix = || format!("boot Linux {}.{} or newer: KVM starts {what} guests since then", needed.0, needed.1);
    match host.kernel {
        Some(version) if version >= needed => met("kernel", format!("Linux {version}")),
        Some(version) => missing("kernel", format!("Linux {version}"), fix()),
        None => missing("kernel", "no version to be read", fix()),
    }
}

pub fn kvm_amd(host: &Host) -> Requirement {
    let name = "kvm_amd";
    let load = match host.cpu.vendor {
        Vendor::Amd => {
            "modprobe -r kvm_amd; modprobe kvm_amd sev=1 sev_es=1 sev_snp=1; if it stays off, `dmesg | grep -i -e sev -e iommu` says why"
        }
        _ => AMD_ONLY,
    };
    match (host.kvm.loaded(name), host.sev.sev_snp) {
        (_, Switch::On) => met(name, "loaded, with SEV-SNP"),
        (false, _) => missing(name, not_loaded(host, name), load),
        (true, Switch::Absent) => missing(name, "loaded, without the parameter sev_snp", load),
        (true, Switch::Off) => {
            let older = [("SEV", host.sev.sev), ("SEV-ES", host.sev.sev_es)];
            let older: Vec<&str> =
                older.iter().filter(|(_, switch)| *switch == Switch::On).map(|(name, _)| *name).collect();
            let found = match older.is_empty() {
                true => "loaded, SEV-SNP off".to_owned(),
                false => format!("loaded, SEV-SNP off ({} on)", older.join(" and ")),
            };
            missing(name, found, load)
        }
    }
}

pub fn kvm_intel(host: &Host) -> Requirement {
    let name = "kvm_intel";
    let load = match host.cpu.vendor {
        Vendor::Intel => {
            "modprobe -r kvm_intel; modprobe kvm_intel tdx=1; if it stays off, `dmesg | grep -i tdx` says why (some kernels need nohibernate on their command line)"
        }
        _ => INTEL_ONLY,
    };
    match (host.kvm.loaded(name), host.tdx) {
        (_, Switch::On) => met(name, "loaded, with TDX"),
        (false, _) => missing(name, not_loaded(host, name), load),
        (true, Switch::Absent) => missing(name, "loaded, without the parameter tdx", load),
        (true, Switch::Off) => missing(name, "loaded, TDX off", load),
    }
}

fn not_loaded(host: &Host, name: &str) -> String {
    let others: Vec<&str> = host.kvm.modules.iter().map(String::as_str).filter(|other| *other != name).collect();
    if others.is_empty() { "not loaded".to_owned() } else { format!("not loaded ({} is)", others.join(", ")) }
}

pub fn kvm_device(host: &Host) -> Requirement {
    device(
        "/dev/kvm",
        host.kvm.device,
        "load kvm_amd or kvm_intel; virtualisation must be on in the machine's firmware set-up",
    )
}

pub fn sev_device(host: &Host) -> Requirement {
    let load = match host.cpu.vendor {
        Vendor::Amd => "modprobe ccp; SEV-SNP must be on in the machine's firmware set-up",
        _ => AMD_ONLY,
    };
    device("/dev/sev", host.sev.device, load)
}

fn device(name: &'static str, device: Device, load: &str) -> Requirement {
    match device {
        Device::Opens => met(name, "opens"),
        Device::Missing => missing(name, "missing", load),
        Device::Denied => missing(
            name,
            "not for this user",
            format!(
                "let the group of whoever launches open it: chgrp kvm {name} and chmod 660 {name}, or a udev rule that says so"
            ),
        ),
        Device::Broken => missing(name, "there, but does not open", "`dmesg` says why"),
    }
}

pub fn quote_service(host: &Host) -> Requirement {
    match host.quote_service {
        Some(path) => met("quote service", format!("/{path}")),
        None => missing(
            "quote service",
            "neither the socket nor the settings of Intel's quote generation service",
            "install Intel's tdx-qgs, register the platform with Intel, and name the service with quote_service in the launch file",
        ),
    }
}

/// The image's own firmware is AMD's; TDX takes kernel and initrd from the image alone.
pub fn tdx_image(host: &Host) -> Requirement {
    match &host.image {
        Image::Complete { .. } => met("guest image", "as its manifest says"),
        _ => image(host),
    }
}

pub fn tdx_firmware() -> Requirement {
    not(
        "TDX firmware",
        Outcome::Open,
        "none comes with the image",
        "name a TDVF that you trust with firmware and firmware_sha256 in the launch file",
    )
}
