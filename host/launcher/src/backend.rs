//! Turns a launch spec into a running guest, whatever runs it: a process or a virtual machine behind one small surface.
//! A guest's words prove nothing: evidence does, and the customer verifies that.

pub mod ask;
pub mod helper;
pub mod host;
mod life;
mod machine;
mod port;
mod prepare;
pub mod qemu;

use std::{fs::File, io, time::Duration};

pub use machine::Machine;
pub use prepare::{Ingredients, MachineParts, Prepared, SimulatedParts, prepare};

use crate::{
    enclave::{Enclave, Message},
    event::Code,
    relay::Target,
};

/// A running guest. It is killed when this is dropped.
pub enum Guest {
    /// A process.
    Process(Enclave),
    /// A virtual machine.
    Machine(Box<Machine>),
}

/// What a guest lets its host hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A message.
    Message(Message),
    /// No sign of life for too long, and not one word before that.
    Silence,
    /// Its channel has closed, or its console says that nothing follows.
    End,
}

/// How a guest ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Why, as far as the host can see.
    pub code: Code,
    /// What kept a machine from starting at all.
    pub early: Option<Early>,
}

/// Why QEMU ended before its guest had run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Early {
    /// Another program took one of the two loopback ports first.
    PortTaken,
    /// It refused its command line or its host.
    Refused,
}

impl Guest {
    /// Its process: the enclave itself, or QEMU.
    #[must_use]
    pub fn pid(&self) -> u32 {
        match self {
            Self::Process(enclave) => enclave.pid(),
            Self::Machine(machine) => machine.pid(),
        }
    }

    /// Who accepts its connections.
    #[must_use]
    pub fn target(&self) -> Target {
        match self {
            Self::Process(_) => Target::Itself,
            Self::Machine(machine) => Target::At(machine.address()),
        }
    }

    /// What it lets its host hear next. May be dropped and called again.
    pub async fn hear(&mut self) -> Heard {
        match self {
            Self::Process(enclave) => enclave.message().await.map_or(Heard::End, Heard::Message),
            Self::Machine(machine) => machine.hear().await,
        }
    }

    /// Asks it to read its packages again, and to serve this collateral file from now on.
    ///
    /// # Errors
    /// Those of the channel and of the file.
    pub fn reload(&self, collateral: Option<&File>) -> io::Result<()> {
        match self {
            Self::Process(enclave) => enclave.reload(collateral),
            Self::Machine(machine) => machine.reload(collateral),
        }
    }

    /// Asks it to stop.
    ///
    /// # Errors
    /// Those of the channel.
    pub fn stop(&self) -> io::Result<()> {
        match self {
            Self::Process(enclave) => enclave.stop(),
            Self::Machine(machine) => machine.stop(),
        }
    }

    /// Waits at most `grace` for it to end by itself, then kills it.
    pub async fn finish(self, grace: Duration) -> Ending {
        match self {
            Self::Process(enclave) => Ending { code: enclave.finish(grace).await, early: None },
            Self::Machine(machine) => machine.finish(grace).await,
        }
    }
}
