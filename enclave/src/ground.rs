//! Turns the place where the program runs, a process, a machine of its own or a container, into what the boot needs.
//! Nothing that the host hands over is judged here: the own report binds the configuration, and signatures bind the packages.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use rustix::thread::CapabilitySet;
use tokio::sync::mpsc;
use vouchsafe_attestation::Mode;
use vouchsafe_sealed::Shelf;

use crate::authority::{self, Environment};
use crate::channel::{Descriptors, Handed, Hello, HostChannel, HostRequest};
use crate::container;
use crate::device::{EvidenceDevice, Words, socket_line};
use crate::dial::Way;
use crate::error::EnclaveError;
use crate::init;
use crate::library::Source;
use crate::public_event;

/// A launcher connects its end of a machine's host channel within this time.
const LAUNCHER: Duration = Duration::from_secs(30);

/// Where the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// In a process of a host, which hands over descriptors.
    Process,
    /// In a virtual machine of its own, where it is the first process and finds what it needs among the devices.
    Machine,
    /// In a container of a confidential pod, where everything is mounted and nobody launches.
    Container,
}

/// What the boot needs, as it was found or handed over.
pub struct Supplies {
    /// The evidence device.
    pub device: Arc<dyn EvidenceDevice>,
    /// The bound configuration.
    pub config: Handed,
    /// The sealed packages.
    pub models: Shelf,
    /// ONNX Runtime's library.
    pub library: Source,
    /// Where the service listens.
    pub listener: TcpListener,
    /// How brokers are reached.
    pub way: Way,
    /// The collateral file; without one, the device's own collateral is served.
    pub collateral: Option<Handed>,
    /// Whether the configuration must hold the policy of the agent that starts containers: it alone says what this container is.
    pub agent_policy: bool,
}

impl Ground {
    /// The ground under this process. A container is never guessed: its first word says so.
    #[must_use]
    pub fn here(first_word: Option<&str>) -> Self {
        match first_word {
            _ if init::is_first_process() => Self::Machine,
            Some(container::WORD) => Self::Container,
            _ => Self::Process,
        }
    }

    /// Gives up what can be given up; in a machine, after making it ready.
    ///
    /// # Errors
    /// `ENVIRONMENT_NOT_EMPTY`, `AUTHORITY`, `INIT_*`.
    pub fn prepare(self) -> Result<(), EnclaveError> {
        match self {
            Self::Process => authority::drop_authority(Environment::Empty),
            Self::Machine => {
                // The firmware leaves its cursor in the middle of a line.
                println!();
                init::prepare()
            }
            Self::Container => container::prepare(),
        }
    }

    /// The capabilities that stay once the nursery runs; a process of a host has what its user has.
    #[must_use]
    pub fn kept(self) -> Option<CapabilitySet> {
        match self {
            Self::Process => None,
            Self::Machine => Some(init::LAST),
            Self::Container => Some(CapabilitySet::empty()),
        }
    }

    /// The channel to the launcher, where there is one. In a machine that is not ready it is only looked at, not waited for.
    ///
    /// # Errors
    /// `HOST_CHANNEL`, `INIT_PORT`.
    pub fn channel(self, ready: &Result<(), EnclaveError>) -> Result<Option<HostChannel>, EnclaveError> {
        match self {
            Self::Process => HostChannel::stdin().map(Some),
            Self::Machine => init::host_channel(if ready.is_ok() { LAUNCHER } else { Duration::ZERO }).map(Some),
            Self::Container => Ok(None),
        }
    }

    /// The two words: a process's arguments, the kernel's command line, or what a container's first argument is followed by.
    ///
    /// # Errors
    /// `USAGE`, `INIT_COMMAND_LINE`.
    pub fn words(self, mut arguments: impl Iterator<Item = String>) -> Result<Words, EnclaveError> {
        match self {
            Self::Process => Words::parse(arguments),
            // The kernel hands over the words that mean nothing to it.
            Self::Machine if arguments.next().is_some() => {
                Err(EnclaveError::Usage("it has words that neither the kernel nor this program knows"))
            }
            Self::Machine => init::words(),
            Self::Container => match Words::parse(arguments.skip(1))? {
                Words { mode: Mode::Simulation, .. } => {
                    Err(EnclaveError::Usage("a container is no place for a simulation: rehearse with vouchsafe launch"))
                }
                words => Ok(words),
            },
        }
    }

    /// Takes the first frame and gathers the rest. Without a channel everything is mounted.
    ///
    /// # Errors
    /// `HOST_CHANNEL`, `NO_TEE`, `EVIDENCE_DEVICE`, `INIT_*`, `VOLUME_*`, `SUPPLY_MISSING`.
    pub fn supplies(words: Words, channel: Option<&HostChannel>) -> Result<Supplies, EnclaveError> {
        let Some(channel) = channel else { return container::supplies(words) };
        match channel.receive_hello()? {
            Hello::Descriptors(Descriptors { device, config, models, onnxruntime, listener, collateral }) => {
                let listener = TcpListener::from(listener);
                listener
                    .set_nonblocking(true)
                    .map_err(|_| EnclaveError::Channel("the fifth descriptor is no listening socket"))?;
                Ok(Supplies {
                    device: words.open_device(|| socket_line(device))?.into(),
                    config: config.into(),
                    models: Shelf::Directory(models),
                    library: Source::Handed(onnxruntime),
                    listener,
                    way: Way::Direct,
                    collateral: collateral.map(Handed::from),
                    agent_policy: false,
                })
            }
            Hello::Bytes { config, collateral } => Ok(Supplies {
                device: words.open_device(init::device_line)?.into(),
                config: Handed::Bytes(config),
                models: Shelf::Volume(Arc::new(init::volume()?)),
                library: Source::Initrd(init::LIBRARY),
                listener: init::listen(init::SERVICE_PORT)?,
                way: Way::Carried(init::listen(init::CARRIER_PORT)?),
                collateral: collateral.map(Handed::Bytes),
                agent_policy: false,
            }),
        }
    }

    /// What a first process does beside its work; a container's also hears who asks it to stop. Must be called within the runtime.
    ///
    /// # Errors
    /// `SYSTEM`.
    pub fn attend(self, requests: mpsc::Sender<HostRequest>) -> Result<(), EnclaveError> {
        match self {
            Self::Process => Ok(()),
            Self::Machine => init::reap(),
            Self::Container => container::attend(requests),
        }
    }

    /// The last line: an event, for a machine one line on its console.
    pub fn report(self, error: &EnclaveError) {
        let fact = error.to_string();
        match self {
            Self::Process | Self::Container => {
                let ticket = error.ticket();
                public_event!(
                    "fatal",
                    pub_code = error.code(),
                    pub_fact = fact,
                    pub_advice = error.advice(),
                    pub_ticket = ticket
                );
            }
            Self::Machine => println!("vouchsafe: FATAL {} {fact}", error.code()),
        }
    }

    /// Ends: a process or container with this exit status, a machine by its restart.
    #[must_use]
    pub fn end(self, status: u8) -> u8 {
        match self {
            Self::Process | Self::Container => status,
            Self::Machine => init::restart(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::Port;
    use std::fs::File;
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;

    #[test]
    fn this_test_stands_on_a_process() {
        assert_eq!(Ground::here(None), Ground::Process);
        assert_eq!(Ground::here(None).end(7), 7);
    }

    #[test]
    fn a_container_is_named_by_its_first_word_and_never_simulates() {
        assert_eq!(Ground::here(Some("container")), Ground::Container);
        for other in ["Container", "container ", "vouchsafe.tee=tdx", ""] {
            assert_eq!(Ground::here(Some(other)), Ground::Process, "{other}");
        }
        let words = |list: &[&str]| Ground::Container.words(list.iter().map(ToString::to_string));
        let good = words(&["container", "vouchsafe.tee=tdx", "vouchsafe.mode=hardware"]).unwrap();
        assert_eq!(good, Words { tee: vouchsafe_attestation::Tee::Tdx, mode: Mode::Hardware });
        for bad in [
            &["container"][..],
            &["container", "vouchsafe.tee=tdx"],
            &["container", "vouchsafe.tee=tdx", "vouchsafe.mode=simulation"],
            &["container", "container", "vouchsafe.tee=tdx", "vouchsafe.mode=hardware"],
            &["container", "vouchsafe.tee=tdx", "vouchsafe.mode=hardware", "vouchsafe.config=/x"],
        ] {
            assert_eq!(words(bad).err().map(|e| (e.code(), e.exit())), Some(("USAGE", 1)), "{bad:?}");
        }
        assert!(Ground::Container.channel(&Ok(())).is_ok_and(|channel| channel.is_none()));
        assert_eq!(Ground::Container.end(7), 7);
    }

    #[test]
    fn a_machines_program_is_given_no_words() {
        let words = ["vouchsafe.tee=sev-snp", "vouchsafe.mode=simulation"].map(String::from);
        assert!(Ground::Process.words(words.clone().into_iter()).is_ok(), "control");
        assert_eq!(Ground::Machine.words(words.into_iter()).err().map(|e| e.code()), Some("USAGE"));
        // This machine's kernel was given other words than ours.
        let own = Ground::Machine.words(std::iter::empty()).err().map(|e| e.code());
        assert!(matches!(own, Some("USAGE" | "INIT_COMMAND_LINE")), "{own:?}");
    }

    #[test]
    fn a_machine_looks_for_its_own_device_and_never_for_descriptors() {
        let (mut host, guest) = UnixStream::pair().unwrap();
        let channel = HostChannel::of_port(Port::new(guest.into()).unwrap());
        let text = b"{\"v\":1,\"config\":\"AA\"}";
        host.write_all(&u32::try_from(text.len()).unwrap().to_be_bytes()).unwrap();
        host.write_all(text).unwrap();
        let words = Words::parse(["vouchsafe.tee=tdx", "vouchsafe.mode=hardware"].map(String::from).into_iter());
        let supplies = Ground::supplies(words.unwrap(), Some(&channel));
        if File::open("/dev/tdx_guest").is_ok() {
            println!("NOT RUN: a machine without its device: this machine has one");
        } else {
            assert_eq!(supplies.err().map(|e| e.code()), Some("NO_TEE"));
        }
    }
}
