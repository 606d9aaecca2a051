//! Turns dead children into nothing: whoever loses its parent becomes a child of the first process.
//! No child is expected, for this program executes none.

use rustix::process::{WaitOptions, waitpid};
use tokio::signal::unix::{SignalKind, signal};

use crate::error::EnclaveError;

/// Reaps from now on. Must be called within the runtime.
///
/// # Errors
/// `SYSTEM`.
pub fn reap() -> Result<(), EnclaveError> {
    let mut died = signal(SignalKind::child()).map_err(|_| EnclaveError::System("wait for children"))?;
    tokio::spawn(async move {
        while died.recv().await.is_some() {
            while let Ok(Some(_)) = waitpid(None, WaitOptions::NOHANG) {}
        }
    });
    Ok(())
}
