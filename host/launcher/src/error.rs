//! Turns every failure of a launch into a fact, a stable code, an exit status and advice.
//! A code of the simulator or the enclave is repeated only if it looks like a code of ours.

use core::fmt;
use std::io::ErrorKind;

use vouchsafe_measurement::MeasurementError;

use crate::{event::Code, volume::VolumeError};

/// Why a launch failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LaunchError {
    /// Something on the command line or in the launch file is missing or contradicts itself.
    Usage(&'static str),
    /// The launch file is no TOML of the documented form (the line).
    SpecFile(usize),
    /// The launch file has another version.
    SpecVersion,
    /// The backend cannot show this technology.
    BackendTee,
    /// A machine with less than 512 MiB was asked for.
    MemoryTooSmall(u32),
    /// This host lacks something that the backend needs (what).
    HostUnsupported(&'static str),
    /// QEMU is not installed.
    QemuMissing,
    /// QEMU is too old.
    QemuVersion {
        /// What is there.
        found: (u32, u32),
        /// What is needed.
        least: (u32, u32),
    },
    /// QEMU could not be started.
    QemuSpawn(ErrorKind),
    /// QEMU refused its command line or this host (how it ended).
    QemuRefused(Code),
    /// Other programs took the loopback ports of three tries in a row.
    GuestPorts,
    /// The image's manifest is not of the documented form.
    ImageManifest,
    /// A file of the image is not the manifest's (which one).
    ImageMismatch(&'static str),
    /// The firmware is not known to refuse other kernels.
    FirmwareUnknown(&'static str),
    /// The ID block is for another launch (what differs).
    IdBlockMismatch(&'static str),
    /// The measurement of a machine cannot be computed, or its ID block is none.
    Measurement(MeasurementError),
    /// A file or directory cannot be opened or read (which one).
    File(&'static str, ErrorKind),
    /// Something that must be a file is a folder, a pipe or a device (which one).
    NotAFile(&'static str),
    /// A path is not UTF-8 text (which one).
    PathEncoding(&'static str),
    /// The configuration is larger than 256 KiB.
    ConfigTooLarge,
    /// The listening address is taken.
    PortInUse,
    /// The listening address cannot be used.
    Listen(ErrorKind),
    /// The simulator cannot be started, ended, or did not answer.
    SimulatorFailed,
    /// The simulator refused the launch.
    SimulatorRefused(Code),
    /// The enclave's program cannot be started.
    EnclaveSpawn(ErrorKind),
    /// The enclave's host channel broke before it had taken its descriptors.
    HostChannel(ErrorKind),
    /// The enclave did not serve in time (seconds, its last word).
    EnclaveNotReady(u64, Option<Code>),
    /// The ready file cannot be written.
    ReadyFile(ErrorKind),
    /// The runtime or a signal handler cannot be set up.
    Runtime(ErrorKind),
    /// The packages cannot be made into a volume.
    Volume(VolumeError),
}

impl LaunchError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Usage(_) => "USAGE",
            Self::SpecFile(_) | Self::SpecVersion => "LAUNCH_TOML",
            Self::BackendTee => "BACKEND_TEE",
            Self::MemoryTooSmall(_) => "MEMORY_TOO_SMALL",
            Self::HostUnsupported(_) => "HOST_UNSUPPORTED",
            Self::QemuMissing => "QEMU_MISSING",
            Self::QemuVersion { .. } => "QEMU_VERSION",
            Self::QemuSpawn(_) => "QEMU_SPAWN",
            Self::QemuRefused(_) => "QEMU_REFUSED",
            Self::ImageManifest => "IMAGE_MANIFEST",
            Self::ImageMismatch(_) => "IMAGE_MISMATCH",
            Self::FirmwareUnknown(_) => "FIRMWARE_UNKNOWN",
            Self::IdBlockMismatch(_) => "ID_BLOCK_MISMATCH",
            Self::Measurement(error) => error.code(),
            Self::File(..) | Self::NotAFile(_) => "LAUNCH_FILE",
            Self::PathEncoding(_) => "PATH_ENCODING",
            Self::ConfigTooLarge => "CONFIG_TOO_LARGE",
            Self::PortInUse | Self::GuestPorts => "PORT_IN_USE",
            Self::Listen(_) => "LISTEN_FAILED",
            Self::SimulatorFailed => "SIMULATOR_FAILED",
            Self::SimulatorRefused(_) => "SIMULATOR_REFUSED",
            Self::EnclaveSpawn(_) => "ENCLAVE_SPAWN",
            Self::HostChannel(_) => "HOST_CHANNEL",
            Self::EnclaveNotReady(..) => "ENCLAVE_NOT_READY",
            Self::ReadyFile(_) => "READY_FILE",
            Self::Runtime(_) => "RUNTIME",
            Self::Volume(error) => error.code(),
        }
    }

    /// The exit status of a command that ends with it.
    #[must_use]
    pub const fn exit(&self) -> u8 {
        match self {
            Self::PathEncoding(_)
            | Self::Usage(_)
            | Self::SpecFile(_)
            | Self::SpecVersion
            | Self::BackendTee
            | Self::MemoryTooSmall(_) => 1,
            Self::HostUnsupported(_)
            | Self::QemuMissing
            | Self::QemuVersion { .. }
            | Self::QemuRefused(_)
            | Self::SimulatorFailed
            | Self::SimulatorRefused(_) => 7,
            Self::Measurement(error) => error.exit(),
            Self::ImageManifest | Self::ImageMismatch(_) => 6,
            Self::HostChannel(_) | Self::EnclaveNotReady(..) => 8,
            _ => 9,
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Usage(_) => "see `vouchsafe-launch --help`; a launch file holds the same settings",
            Self::SpecFile(_) => {
                "compare that line with docs/operations.md: settings that it does not name are refused"
            }
            Self::SpecVersion => "begin the launch file with `version = 1`",
            Self::BackendTee => "snp and sim-vm show sev-snp, tdx shows tdx; rehearse TDX with --backend sim-process",
            Self::MemoryTooSmall(_) => "give the machine at least 512 MiB: --memory-mib 512",
            Self::HostUnsupported(_) => {
                "run `vouchsafe doctor`: it names everything that is missing, with the fix for each"
            }
            Self::QemuMissing => {
                "install QEMU 10 or newer: `apt-get install qemu-system-x86` on Debian 13, `apt-get install -t bookworm-backports qemu-system-x86` on Debian 12; or name its program with --qemu"
            }
            Self::QemuVersion { .. } => {
                "install a newer QEMU, on Debian 12 from bookworm-backports, or name its program with --qemu"
            }
            Self::QemuSpawn(_) => "let this user execute QEMU's program",
            Self::QemuRefused(_) => "read QEMU's lines above; `vouchsafe doctor` says what this host can run",
            Self::GuestPorts => "free some loopback ports: another program takes each as soon as it is chosen",
            Self::ImageManifest => "build the image again: `vouchsafe image build`",
            Self::ImageMismatch(_) => {
                "the folder holds files of two builds, or was damaged: build it again with `vouchsafe image build`"
            }
            Self::FirmwareUnknown(_) => {
                "use the firmware of the image's lock; one that you know to enforce kernel hashes can be named by its digest in the launch file: firmware_sha256"
            }
            Self::IdBlockMismatch(_) => {
                "the processor would refuse this launch: sign a block for these files, processors and guest_policy (`vouchsafe measure id-block`)"
            }
            Self::Measurement(error) => error.advice(),
            Self::File(..) | Self::NotAFile(_) => {
                "name an existing, readable file; program files are looked for beside vouchsafe-launch"
            }
            Self::PathEncoding(_) => "use paths of UTF-8 text",
            Self::ConfigTooLarge => "shorten the configuration to 256 KiB",
            Self::PortInUse => "choose another --listen address, or stop the program that holds it",
            Self::Listen(_) => "choose a --listen address of this machine",
            Self::SimulatorFailed => "read the simulator's lines above; try `vouchsafe-simulator root --root DIR`",
            Self::SimulatorRefused(_) => {
                "SIMULATOR_GUEST_FILE: make --enclave and --onnxruntime, or the image's files, regular files that can be read; all others: see its lines above"
            }
            Self::EnclaveSpawn(_) => "the enclave's program must be an executable for Linux x86_64",
            Self::HostChannel(_) => "read the enclave's lines above; program and launcher must be of one version",
            Self::EnclaveNotReady(_, Some(code)) if guest_advice(code).is_some() => {
                guest_advice(code).unwrap_or_default()
            }
            Self::EnclaveNotReady(..) => {
                "read the enclave's lines above (is the broker reachable, is a package in the models directory?), or raise --ready-timeout"
            }
            Self::ReadyFile(_) => "give --ready-file a place that this user can write",
            Self::Runtime(_) => "raise the limits of this user's processes and files",
            Self::Volume(error) => error.advice(),
        }
    }
}

/// What to do about a machine that did not get as far as the enclave.
fn guest_advice(code: &Code) -> Option<&'static str> {
    Some(match code.as_str() {
        "GUEST_MEMORY" => "the kernel did not fit: give the machine more memory with --memory-mib",
        "GUEST_NO_KERNEL" => {
            "the firmware got no kernel that it may start: use the image's own firmware, or build the image again with `vouchsafe image build`"
        }
        "GUEST_SILENT" => {
            "the firmware refuses a kernel, initrd or command line other than the measured ones in silence: build the image again; or the machine hangs or is slow: try --accel tcg, or raise --silence-timeout"
        }
        "GUEST_PANIC" => {
            "read the kernel's lines above; with too little memory (--memory-mib) it cannot unpack the image"
        }
        code if code.starts_with("QEMU_") => {
            "read QEMU's lines above; when the kernel killed it for memory, `dmesg` says so"
        }
        _ => return None,
    })
}

impl fmt::Display for LaunchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(what) => f.write_str(what),
            Self::SpecFile(line) => {
                write!(f, "line {line} of the launch file has an unknown, missing, doubled or mistyped setting")
            }
            Self::SpecVersion => f.write_str("the launch file is of another version than 1"),
            Self::BackendTee => f.write_str("this backend does not show this technology"),
            Self::MemoryTooSmall(mib) => write!(f, "{mib} MiB are too little memory for a machine"),
            Self::HostUnsupported(what) => write!(f, "this host lacks {what}"),
            Self::QemuMissing => f.write_str("there is no QEMU here that says its version (qemu-system-x86_64)"),
            Self::QemuVersion { found, least } => {
                write!(f, "QEMU is of version {}.{}, {}.{} is needed", found.0, found.1, least.0, least.1)
            }
            Self::QemuSpawn(kind) => write!(f, "QEMU cannot be started: {kind}"),
            Self::QemuRefused(code) => write!(f, "QEMU ended before the guest ran ({code})"),
            Self::GuestPorts => f.write_str("the loopback ports for the guest were taken, three times in a row"),
            Self::ImageManifest => f.write_str("the image's manifest (image.json) is not of version 1 of its format"),
            Self::ImageMismatch(what) => write!(f, "{what} is not the one that the image's manifest names"),
            Self::FirmwareUnknown(fact) => f.write_str(fact),
            Self::IdBlockMismatch(what) => write!(f, "the ID block is for a launch with another {what}"),
            Self::Measurement(error) => error.fmt(f),
            Self::File(what, ErrorKind::NotFound) => write!(f, "{what}: there is no such file or folder"),
            Self::File(what, kind) => write!(f, "{what}: {kind}"),
            Self::NotAFile(what) => write!(f, "{what} is a folder, a pipe or a device, and no file"),
            Self::PathEncoding(what) => write!(f, "the path of {what} is not UTF-8 text"),
            Self::ConfigTooLarge => f.write_str("the configuration is larger than 256 KiB"),
            Self::PortInUse => f.write_str("the listening address is in use"),
            Self::Listen(kind) => write!(f, "cannot listen: {kind}"),
            Self::SimulatorFailed => f.write_str("the simulated processor did not start, or ended"),
            Self::SimulatorRefused(code) => write!(f, "the simulated processor refused the launch ({code})"),
            Self::EnclaveSpawn(kind) => write!(f, "the enclave's program cannot be started: {kind}"),
            Self::HostChannel(kind) => write!(f, "the enclave did not take its descriptors: {kind}"),
            Self::EnclaveNotReady(seconds, None) => write!(f, "the enclave did not serve within {seconds} s"),
            Self::EnclaveNotReady(seconds, Some(code)) => {
                write!(f, "the enclave did not serve within {seconds} s; its last word was {code}")
            }
            Self::ReadyFile(kind) => write!(f, "the ready file cannot be written: {kind}"),
            Self::Runtime(kind) => write!(f, "the operating system refused a resource: {kind}"),
            Self::Volume(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for LaunchError {}
