//! Turns every failure of the simulator into a fact, a stable code, an exit status and advice.
//! No message repeats text that came over a channel.

use core::fmt;

use vouchsafe_measurement::MeasurementError;

/// Why the simulator, or one request to it, failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SimulatorError {
    /// A file of the root directory cannot be read or written (which file).
    RootFile(&'static str, std::io::ErrorKind),
    /// The root directory lacks one of its files (which file).
    RootIncomplete(&'static str),
    /// A key file can be read by others than its owner (which file).
    RootPermissions(&'static str),
    /// A file of the root directory does not hold what it should (which file).
    RootMalformed(&'static str),
    /// The directory was made by a version that simulated SEV-SNP only: it holds no root of TDX.
    RootOutdated,
    /// A key or certificate could not be made.
    RootMaking(&'static str),
    /// Standard input is not a Unix stream socket.
    ControlChannel,
    /// The control channel ended inside a frame, or announced a frame above the cap.
    ControlFrame,
    /// A request is not JSON of the expected form.
    RequestInvalid,
    /// A launch asked for another mode than simulation.
    ModeUnsupported,
    /// A launch asked for a technology that is not simulated.
    TeeUnsupported,
    /// A launch asked for a machine of a technology that boots none here.
    MachineTee,
    /// The launch digest of a machine cannot be computed.
    Measurement(MeasurementError),
    /// A file of the guest cannot be opened or read (which file).
    GuestFile(&'static str, std::io::ErrorKind),
    /// A file of the guest is empty, not a regular file, or above the cap (which file).
    GuestFileShape(&'static str),
    /// The kernel refused an anonymous file, its seals or a thread.
    GuestMemory(std::io::ErrorKind),
    /// The root's `fault` file names no fault of this program.
    FaultUnknown,
    /// The relay's listening address is taken.
    PortInUse,
    /// The relay cannot listen on this address.
    Listen(std::io::ErrorKind),
    /// The relay cannot make its TLS identity.
    RelayTls,
    /// The recording of an attestation answer cannot be read or written.
    Recording(std::io::ErrorKind),
}

impl SimulatorError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::RootFile(..) => "SIMULATOR_ROOT_FILE",
            Self::RootIncomplete(_) => "SIMULATOR_ROOT_INCOMPLETE",
            Self::RootPermissions(_) => "SIMULATOR_ROOT_PERMISSIONS",
            Self::RootMalformed(_) => "SIMULATOR_ROOT_MALFORMED",
            Self::RootOutdated => "SIMULATOR_ROOT_OUTDATED",
            Self::RootMaking(_) => "SIMULATOR_ROOT_MAKING",
            Self::ControlChannel => "SIMULATOR_CONTROL_CHANNEL",
            Self::ControlFrame => "SIMULATOR_FRAME",
            Self::RequestInvalid => "SIMULATOR_REQUEST",
            Self::ModeUnsupported => "SIMULATOR_MODE",
            Self::TeeUnsupported | Self::MachineTee => "SIMULATOR_TEE",
            Self::Measurement(error) => error.code(),
            Self::GuestFile(..) | Self::GuestFileShape(_) => "SIMULATOR_GUEST_FILE",
            Self::GuestMemory(_) => "SIMULATOR_GUEST_MEMORY",
            Self::FaultUnknown => "SIMULATOR_FAULT",
            Self::PortInUse => "PORT_IN_USE",
            Self::Listen(_) => "LISTEN_FAILED",
            Self::RelayTls => "RELAY_TLS",
            Self::Recording(_) => "RELAY_RECORDING",
        }
    }

    /// The exit status of a command that ends with it.
    #[must_use]
    pub const fn exit(&self) -> u8 {
        match self {
            Self::ControlChannel | Self::RequestInvalid => 1,
            Self::ModeUnsupported | Self::TeeUnsupported | Self::MachineTee => 7,
            Self::Measurement(error) => error.exit(),
            Self::ControlFrame | Self::RelayTls => 8,
            _ => 9,
        }
    }

    /// What to do about it.
    #[must_use]
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::RootFile(..) => "give --root a directory that this user can write",
            Self::RootIncomplete(_) | Self::RootMalformed(_) | Self::RootOutdated => {
                "remove the root directory; the next start makes a new root (policies must then name its new SHA-256)"
            }
            Self::RootPermissions(_) => {
                "chmod 600 the *.key files, or remove the root directory and let a new one be made"
            }
            Self::RootMaking(_) => "try again; report it if it stays",
            Self::ControlChannel => {
                "`serve` is started by the launcher, which passes the control channel as standard input"
            }
            Self::ControlFrame | Self::RequestInvalid => {
                "speak the framing of docs/protocol.md: u32be length, JSON, at most 1 MiB"
            }
            Self::ModeUnsupported => "this processor is simulated: ask for mode simulation, or use a hardware backend",
            Self::TeeUnsupported => "ask for sev-snp or tdx",
            Self::MachineTee => "rehearse tdx with the backend sim-process; sim-vm boots sev-snp machines",
            Self::Measurement(error) => error.advice(),
            Self::GuestFile(..) | Self::GuestFileShape(_) => "name readable, regular, non-empty files of at most 1 GiB",
            Self::GuestMemory(_) => "free memory or raise the process limits",
            Self::FaultUnknown => {
                "empty or remove the file `fault` of the root directory, or name a fault of `vouchsafe-simulator faults`"
            }
            Self::PortInUse => "choose another --listen address, or stop the program that holds it",
            Self::Listen(_) => "choose a --listen address of this machine",
            Self::RelayTls => "report it: the relay's self-signed certificate could not be made",
            Self::Recording(_) => "name a readable recording (at most 1 MiB) or a writable place for it",
        }
    }
}

impl fmt::Display for SimulatorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RootFile(file, kind) => write!(f, "{file} of the simulated root: {kind}"),
            Self::RootIncomplete(file) => write!(f, "the simulated root has no {file}"),
            Self::RootPermissions(file) => {
                write!(f, "{file} of the simulated root can be read by others than its owner")
            }
            Self::RootMalformed(file) => write!(f, "{file} of the simulated root is malformed"),
            Self::RootOutdated => f.write_str("the simulated root was made by an older version and has no root of TDX"),
            Self::RootMaking(what) => write!(f, "the simulated root could not be made: {what}"),
            Self::ControlChannel => f.write_str("standard input is not a Unix stream socket"),
            Self::ControlFrame => f.write_str("the channel ended inside a frame or announced more than 1 MiB"),
            Self::RequestInvalid => f.write_str("the request is not JSON of the expected form"),
            Self::ModeUnsupported => f.write_str("only mode simulation is served here"),
            Self::TeeUnsupported => f.write_str("only sev-snp and tdx are simulated"),
            Self::MachineTee => f.write_str("a simulated virtual machine is an sev-snp guest, not a tdx one"),
            Self::Measurement(error) => error.fmt(f),
            Self::GuestFile(file, kind) => write!(f, "{file} cannot be read: {kind}"),
            Self::GuestFileShape(file) => write!(f, "{file} is empty, not a regular file, or larger than 1 GiB"),
            Self::GuestMemory(kind) => write!(f, "no memory for the measured copy of the guest: {kind}"),
            Self::FaultUnknown => f.write_str("the file `fault` of the root directory names no fault"),
            Self::PortInUse => f.write_str("the listening address is in use"),
            Self::Listen(kind) => write!(f, "cannot listen: {kind}"),
            Self::RelayTls => f.write_str("no TLS identity for the relay"),
            Self::Recording(kind) => write!(f, "the recorded attestation answer: {kind}"),
        }
    }
}

impl std::error::Error for SimulatorError {}
