//! Turns signals into wishes: to stop, or to read again what may be read again.
//! A signal comes from this machine's users; nothing of it reaches the guest but its effect.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{LaunchError, Stopped};

/// What a signal asks for.
pub enum Wish {
    /// SIGINT, SIGTERM.
    Stop(Stopped),
    /// SIGHUP.
    Reload,
}

/// The signals that a launcher listens to.
pub struct Signals {
    int: Signal,
    term: Signal,
    hup: Signal,
}

impl Signals {
    /// Catches them from now on.
    ///
    /// # Errors
    /// `RUNTIME`.
    pub fn new() -> Result<Self, LaunchError> {
        let catch = |kind| signal(kind).map_err(|e| LaunchError::Runtime(e.kind()));
        Ok(Self {
            int: catch(SignalKind::interrupt())?,
            term: catch(SignalKind::terminate())?,
            hup: catch(SignalKind::hangup())?,
        })
    }

    /// Waits for the next wish.
    pub async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.int.recv() => Wish::Stop(Stopped::Interrupted),
            _ = self.term.recv() => Wish::Stop(Stopped::Terminated),
            _ = self.hup.recv() => Wish::Reload,
        }
    }

    /// Waits for a wish to stop. With no enclave there is nothing to reload.
    pub async fn stop(&mut self) -> Stopped {
        loop {
            if let Wish::Stop(how) = self.next().await {
                return how;
            }
        }
    }
}
