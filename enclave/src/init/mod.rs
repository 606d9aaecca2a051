//! Turns the first process of a fresh virtual machine into one that may attest: file systems, modules, randomness, network.
//! It trusts the measured kernel, initrd and command line; that they were measured is for the own report and its verifiers to say.

mod children;
mod error;
mod modules;
mod mounts;
mod network;
mod port;
mod words;

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::rand::{GetRandomFlags, getrandom};
use rustix::system::{RebootCommand, reboot};
use rustix::thread::CapabilitySet;
use vouchsafe_sealed::{SealedError, Volume};

use crate::authority::{self, Environment};
use crate::channel::HostChannel;
use crate::device::{Line, PATIENCE, Words};
use crate::error::EnclaveError;

pub use children::reap;
pub use error::InitError;
pub use network::{CARRIER_PORT, SERVICE_PORT, listen};
pub use port::Port;

/// The virtio-serial port of the host channel.
const HOST_PORT: &str = "vouchsafe.host";
/// The virtio-serial port of the simulated processor.
const TEE_PORT: &str = "vouchsafe.tee";
/// The read-only disk with the sealed packages.
const VOLUME: &str = "/dev/vda";
/// The initrd's ONNX Runtime.
pub const LIBRARY: &str = "/usr/lib/libonnxruntime.so";
/// The initrd's kernel modules.
const MODULES: &str = "/lib/modules";
/// What the kernel finds on its buses is there after so long, or not at all.
const APPEARANCE: Duration = Duration::from_secs(10);
/// Between two looks for it.
const LOOK: Duration = Duration::from_millis(20);
/// The host gets so long to take the last frame and the last line before the machine is gone.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Whether this is the first process of a fresh virtual machine. In a container the first process finds `/proc` in place.
#[must_use]
pub fn is_first_process() -> bool {
    std::process::id() == 1 && !Path::new("/proc/self").exists()
}

/// What the first process keeps for its last act.
pub const LAST: CapabilitySet = CapabilitySet::SYS_BOOT;

/// Everything that needs a whole system's authority; after it this process has none but to restart the machine and to wall off others.
///
/// # Errors
/// `INIT_*`, `ENVIRONMENT_NOT_EMPTY`, `AUTHORITY`.
pub fn prepare() -> Result<(), EnclaveError> {
    mounts::early()?;
    authority::drop_authority(Environment::Kernel)?;
    seeded()?;
    modules::load(Path::new(MODULES))?;
    mounts::late()?;
    network::bring_up(Path::new("/sys/class/net"), APPEARANCE)?;
    authority::keep(LAST | authority::NURSERY)
}

/// The two words of the kernel's command line.
///
/// # Errors
/// `INIT_COMMAND_LINE`, `USAGE`.
pub fn words() -> Result<Words, EnclaveError> {
    let unreadable = |_| InitError::CommandLine("it cannot be read");
    words::of_command_line(&std::fs::read("/proc/cmdline").map_err(unreadable)?)
}

/// The host's end of the host channel is looked for, and waited for, so long.
///
/// # Errors
/// `INIT_PORT`.
pub fn host_channel(patience: Duration) -> Result<HostChannel, EnclaveError> {
    let port = open_port(HOST_PORT, patience.min(APPEARANCE))?;
    port.wait_connected(patience).map_err(|_| InitError::Port(HOST_PORT, "has nobody at its other end"))?;
    Ok(HostChannel::of_port(port))
}

/// The line to the simulated processor.
///
/// # Errors
/// `NO_TEE`.
pub fn device_line() -> Result<Box<dyn Line>, EnclaveError> {
    let port = open_port(TEE_PORT, APPEARANCE)
        .map_err(|_| EnclaveError::NoTee("this machine has no port vouchsafe.tee, the simulated processor's"))?;
    Ok(Box::new(port.with_patience(PATIENCE)))
}

/// The volume of sealed packages.
///
/// # Errors
/// `INIT_VOLUME`, `VOLUME_*`.
pub fn volume() -> Result<Volume, EnclaveError> {
    let opened = appearing(APPEARANCE, || std::fs::File::open(VOLUME).ok());
    let device = opened.ok_or(InitError::Volume)?;
    Volume::open(device).map_err(|error: SealedError| error.into())
}

/// Ends the machine: the launcher starts it so that a restart is its end. Nothing is synced, for nothing was written.
pub fn restart() -> ! {
    let mut out = std::io::stdout().lock();
    let _ = out.flush();
    // What the console still holds would be lost.
    let _ = rustix::termios::tcdrain(out.as_fd());
    std::thread::sleep(LAST_WORDS);
    let _ = reboot(RebootCommand::Restart);
    // Without its first process the kernel panics, which ends the machine as well (panic=-1).
    std::process::exit(1)
}

/// Waits until the kernel's generator is seeded; the processor must have one of its own to seed it with.
fn seeded() -> Result<(), InitError> {
    if !std::arch::is_x86_feature_detected!("rdrand") {
        return Err(InitError::Random("the processor has no RDRAND"));
    }
    let mut byte = [0; 1];
    rustix::io::retry_on_intr(|| getrandom(&mut byte, GetRandomFlags::empty()))
        .map(|_| ())
        .map_err(|_| InitError::Random("the kernel gives none"))
}

fn open_port(name: &'static str, patience: Duration) -> Result<Port, InitError> {
    let ports = Path::new("/sys/class/virtio-ports");
    let find = || port::find(ports, Path::new("/dev"), name).transpose();
    let path = appearing(patience, find).unwrap_or(Err(InitError::Port(name, "is missing")))?;
    Port::open(&path).map_err(|_| InitError::Port(name, "cannot be opened"))
}

/// Looks until there is something, or patience ends.
fn appearing<T>(patience: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + patience;
    loop {
        match look() {
            None if Instant::now() < end => std::thread::sleep(LOOK),
            found => return found,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_is_no_first_process_and_finds_no_ports() {
        assert!(!is_first_process());
        assert_eq!(host_channel(Duration::ZERO).err().map(|e| e.code()), Some("INIT_PORT"));
    }

    #[test]
    fn what_appears_late_is_found_and_what_never_does_is_not() {
        let mut looks = 0;
        let found = appearing(Duration::from_secs(5), || {
            looks += 1;
            (looks == 3).then_some(looks)
        });
        assert_eq!(found, Some(3));
        assert_eq!(appearing(Duration::ZERO, || None::<u8>), None);
        assert_eq!(appearing(Duration::ZERO, || Some(1)), Some(1), "it is looked for once at least");
    }

    #[test]
    fn the_generator_of_this_machine_is_seeded() {
        assert_eq!(seeded(), Ok(()));
    }
}
