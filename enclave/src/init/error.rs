//! Turns every way the first process of a virtual machine can fail into fact, stable code and advice.
//! It establishes nothing; what it names comes from the measured initrd or from this program.

use std::fmt;

/// Why the first process could not make its machine ready. Numbers are Linux error numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InitError {
    /// A file system cannot be mounted (where).
    Mount(&'static str, i32),
    /// The kernel did not unpack all of the initrd: the machine is too small for it.
    Initrd,
    /// The folder of modules is not as the image builder writes it (how).
    ModuleList(&'static str),
    /// The kernel refuses a module (its name in the initrd).
    Module(String, i32),
    /// The kernel's command line is not one that this program reads (why).
    CommandLine(&'static str),
    /// There is no randomness (why).
    Random(&'static str),
    /// An interface is missing (which).
    Interface(&'static str),
    /// The network cannot be set up (what).
    Network(&'static str, i32),
    /// A port cannot be listened on.
    Listen(u16),
    /// A virtio-serial port fails (its name, how).
    Port(&'static str, &'static str),
    /// There is no disk with sealed packages.
    Volume,
}

const IMAGE: &str = "build the image again with vouchsafe image build, and launch that";
const LAUNCH: &str = "launch with vouchsafe launch, which gives the machine its ports, disk and network";

impl InitError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Mount(..) => "INIT_MOUNT",
            Self::Initrd => "INIT_INITRD",
            Self::ModuleList(_) | Self::Module(..) => "INIT_MODULE",
            Self::CommandLine(_) => "INIT_COMMAND_LINE",
            Self::Random(_) => "INIT_RANDOM",
            Self::Interface(_) | Self::Network(..) => "INIT_NETWORK",
            Self::Listen(_) => "INIT_LISTEN",
            Self::Port(..) => "INIT_PORT",
            Self::Volume => "INIT_VOLUME",
        }
    }

    /// What to do about it.
    #[must_use]
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::Mount(..) | Self::ModuleList(_) | Self::Module(..) | Self::Listen(_) => IMAGE,
            Self::Initrd => "launch with more memory",
            Self::CommandLine(_) => "launch with the measured command line and nothing else",
            Self::Random(_) => "launch with a processor model that has RDRAND",
            Self::Interface(_) | Self::Network(..) | Self::Port(..) | Self::Volume => LAUNCH,
        }
    }
}

impl fmt::Display for InitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mount(place, number) => write!(f, "{place} cannot be mounted: error {number}"),
            Self::Initrd => f.write_str("the initrd was not unpacked whole, for want of memory"),
            Self::ModuleList(how) => write!(f, "the initrd's modules are wrong: {how}"),
            Self::Module(name, number) => write!(f, "the kernel refuses the module {name}: error {number}"),
            Self::CommandLine(why) => write!(f, "the kernel's command line is wrong: {why}"),
            Self::Random(why) => write!(f, "there is no randomness: {why}"),
            Self::Interface(name) => write!(f, "the machine has no interface {name}"),
            Self::Network(what, number) => write!(f, "the network cannot be set up: {what}: error {number}"),
            Self::Listen(port) => write!(f, "port {port} cannot be listened on"),
            Self::Port(name, how) => write!(f, "the virtio-serial port {name} {how}"),
            Self::Volume => f.write_str("there is no disk with sealed packages"),
        }
    }
}
