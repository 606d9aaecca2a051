//! Turns every failure of a launch into a fact, a stable code, an exit status and advice.
//! A code of the simulator or the enclave is repeated only if it looks like a code of ours.

use core::fmt;
use std::io::ErrorKind;

use crate::event::Code;

/// Why a launch failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LaunchError {
    /// The backend does not exist in this version.
    BackendUnsupported,
    /// A file or directory cannot be opened or read (which one).
    File(&'static str, ErrorKind),
    /// A path is not UTF-8 text (which one).
    PathEncoding(&'static str),
    /// The configuration is larger than 64 KiB.
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
}

impl LaunchError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::BackendUnsupported => "BACKEND_UNSUPPORTED",
            Self::File(..) => "LAUNCH_FILE",
            Self::PathEncoding(_) => "PATH_ENCODING",
            Self::ConfigTooLarge => "CONFIG_TOO_LARGE",
            Self::PortInUse => "PORT_IN_USE",
            Self::Listen(_) => "LISTEN_FAILED",
            Self::SimulatorFailed => "SIMULATOR_FAILED",
            Self::SimulatorRefused(_) => "SIMULATOR_REFUSED",
            Self::EnclaveSpawn(_) => "ENCLAVE_SPAWN",
            Self::HostChannel(_) => "HOST_CHANNEL",
            Self::EnclaveNotReady(..) => "ENCLAVE_NOT_READY",
            Self::ReadyFile(_) => "READY_FILE",
            Self::Runtime(_) => "RUNTIME",
        }
    }

    /// The exit status of a command that ends with it.
    #[must_use]
    pub const fn exit(&self) -> u8 {
        match self {
            Self::PathEncoding(_) => 1,
            Self::BackendUnsupported | Self::SimulatorFailed | Self::SimulatorRefused(_) => 7,
            Self::HostChannel(_) | Self::EnclaveNotReady(..) => 8,
            _ => 9,
        }
    }

    /// What to do about it.
    #[must_use]
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::BackendUnsupported => "use --backend sim-process; snp, tdx and sim-vm come with a later version",
            Self::File(..) => "name an existing, readable file; program files are looked for beside vouchsafe-launch",
            Self::PathEncoding(_) => "use paths of UTF-8 text",
            Self::ConfigTooLarge => "shorten the configuration to 64 KiB",
            Self::PortInUse => "choose another --listen address, or stop the program that holds it",
            Self::Listen(_) => "choose a --listen address of this machine",
            Self::SimulatorFailed => "read the simulator's lines above; try `vouchsafe-simulator root --root DIR`",
            Self::SimulatorRefused(_) => {
                "SIMULATOR_GUEST_FILE: make --enclave and --onnxruntime regular files that can be read; SIMULATOR_ROOT_*: see its lines above"
            }
            Self::EnclaveSpawn(_) => "the enclave's program must be an executable for Linux x86_64",
            Self::HostChannel(_) => "read the enclave's lines above; program and launcher must be of one version",
            Self::EnclaveNotReady(..) => {
                "read the enclave's lines above (is the broker reachable, is a package in the models directory?), or raise --ready-timeout"
            }
            Self::ReadyFile(_) => "give --ready-file a place that this user can write",
            Self::Runtime(_) => "raise the limits of this user's processes and files",
        }
    }
}

impl fmt::Display for LaunchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BackendUnsupported => f.write_str("this version runs the sim-process backend only"),
            Self::File(what, kind) => write!(f, "{what}: {kind}"),
            Self::PathEncoding(what) => write!(f, "the path of {what} is not UTF-8 text"),
            Self::ConfigTooLarge => f.write_str("the configuration is larger than 64 KiB"),
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
        }
    }
}

impl std::error::Error for LaunchError {}
