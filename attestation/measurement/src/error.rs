//! Turns every way in which a measurement cannot be computed into a fact, a stable code, an exit status and advice.
//! It repeats nothing of the files that were read: a fact is one of our own sentences.

use core::fmt;

/// Why a measurement could not be computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MeasurementError {
    /// The firmware, kernel or initrd cannot be read, or is larger than any such file.
    LaunchInputs,
    /// A machine without a processor was asked for.
    NoProcessor,
    /// A machine with more processors than QEMU's q35 machine takes was asked for.
    TooManyProcessors,
    /// The processor's name is none that this version knows.
    CpuUnknown,
    /// The command line cannot be measured as it stands (what is wrong with it).
    CommandLine(&'static str),
    /// The firmware's tables cannot be read (what is wrong with them).
    Firmware(&'static str),
    /// The firmware lacks something that this measurement needs (what).
    FirmwareLacks(&'static str),
    /// The kernel is not a PE image that firmware can measure (what is wrong with it).
    KernelImage(&'static str),
    /// These bytes are no ID block or ID authentication page (what is wrong with them).
    IdBlock(&'static str),
    /// A signature in the ID authentication page does not verify (whose).
    IdSignature(&'static str),
}

impl MeasurementError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::LaunchInputs => "MEASUREMENT_INPUTS",
            Self::NoProcessor => "MEASUREMENT_NO_PROCESSOR",
            Self::TooManyProcessors => "MEASUREMENT_PROCESSORS",
            Self::CpuUnknown => "CPU_UNKNOWN",
            Self::CommandLine(_) => "COMMAND_LINE",
            Self::Firmware(_) => "FIRMWARE_FORMAT",
            Self::FirmwareLacks(_) => "FIRMWARE_LACKS",
            Self::KernelImage(_) => "KERNEL_FORMAT",
            Self::IdBlock(_) => "ID_BLOCK_FORMAT",
            Self::IdSignature(_) => "ID_BLOCK_SIGNATURE",
        }
    }

    /// The exit status of a command that ends with it.
    #[must_use]
    pub const fn exit(&self) -> u8 {
        match self {
            Self::NoProcessor | Self::TooManyProcessors | Self::CpuUnknown | Self::CommandLine(_) => 1,
            Self::IdSignature(_) => 2,
            Self::LaunchInputs
            | Self::Firmware(_)
            | Self::FirmwareLacks(_)
            | Self::KernelImage(_)
            | Self::IdBlock(_) => 9,
        }
    }

    /// What to do about it.
    #[must_use]
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::LaunchInputs => {
                "name readable files: a firmware of at most 16 MiB, a kernel and an initrd of at most 256 MiB"
            }
            Self::NoProcessor | Self::TooManyProcessors => "ask for 1 to 288 virtual processors",
            Self::CpuUnknown => "name one of QEMU's EPYC models, for example EPYC-v4 or EPYC-Milan; --help lists them",
            Self::CommandLine(_) => {
                "give 1 to 2,047 bytes without a zero byte, and with no white space at either end: tools differ in what they cut off there"
            }
            Self::Firmware(_) => "name an OVMF image that was built for QEMU, whole and not as a variable store",
            Self::FirmwareLacks(_) => {
                "use OVMF's AmdSev build for SEV-SNP (Debian: ovmf-amdsev) and its IntelTdx or OvmfPkgX64 build for TDX"
            }
            Self::KernelImage(_) => "name a bzImage with an EFI stub for x86_64, as distributions ship it",
            Self::IdBlock(_) => "make both with `vouchsafe measure id-block`",
            Self::IdSignature(_) => "sign this ID block again; it was changed, or signed with another key",
        }
    }
}

impl fmt::Display for MeasurementError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LaunchInputs => {
                f.write_str("the firmware, kernel or initrd cannot be read, or is larger than any such file")
            }
            Self::NoProcessor => f.write_str("a machine with no virtual processor has no launch digest"),
            Self::TooManyProcessors => f.write_str("no q35 machine has more than 288 virtual processors"),
            Self::CpuUnknown => f.write_str("this version knows no processor of that name"),
            Self::CommandLine(what) => write!(f, "the kernel command line {what}"),
            Self::Firmware(what) => write!(f, "the firmware's tables cannot be read: {what}"),
            Self::FirmwareLacks(what) => write!(f, "the firmware has no {what}"),
            Self::KernelImage(what) => write!(f, "the kernel is no PE image that firmware measures: {what}"),
            Self::IdBlock(what) => write!(f, "this is no ID block with its authentication page: {what}"),
            Self::IdSignature(whose) => write!(f, "the signature of the {whose} key does not verify"),
        }
    }
}

impl std::error::Error for MeasurementError {}
