//! Turns a wish to send into a [`Pinned`] connection: an idle one that is still open, else a new one that proves itself anew.
//! It is no pool that reconnects: a lost connection is dropped, and the next one goes through every step again.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use vouchsafe_attestation::LeafCache;
use vouchsafe_policies::Policy;

use super::{ProxyOptions, journal::Journal};
use crate::{Caller, ConnectOptions, CustomerError, Pinned, channel::within, connect::connect_sharing};

pub(super) struct Lanes {
    upstream: String,
    policy: Arc<Policy>,
    connect: ConnectOptions,
    caller: Option<Arc<Caller>>,
    /// Every connection shows the same machine's collateral.
    cache: Arc<LeafCache>,
    wait: std::time::Duration,
    free: Arc<Semaphore>,
    idle: Mutex<Vec<Pinned>>,
}

/// A connection in use, and the right to it. Dropped half-way, the connection ends.
pub(super) struct Lane {
    pub pinned: Pinned,
    pub reused: bool,
    _permit: OwnedSemaphorePermit,
}

impl Lanes {
    pub fn new(options: &ProxyOptions, upstream: String) -> Self {
        Self {
            upstream,
            policy: Arc::clone(&options.policy),
            connect: options.connect,
            caller: options.caller.clone(),
            cache: Arc::default(),
            wait: options.lane_wait,
            free: Arc::new(Semaphore::new(options.max_lanes.max(1))),
            idle: Mutex::new(Vec::new()),
        }
    }

    pub fn mode(&self) -> &'static str {
        self.policy.mode().as_str()
    }

    /// Waits its turn (first come, first served), then takes an idle connection or makes one.
    pub async fn take(&self, journal: &Journal) -> Result<Lane, CustomerError> {
        let permit = self.turn().await?;
        loop {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            match idle {
                Some(pinned) if pinned.is_open() => return Ok(Lane { pinned, reused: true, _permit: permit }),
                Some(_lost) => {}
                None => return Ok(Lane { pinned: self.fresh(journal).await?, reused: false, _permit: permit }),
            }
        }
    }

    /// Swaps a lost connection for a new one, with the same right.
    pub async fn renew(&self, lane: Lane, journal: &Journal) -> Result<Lane, CustomerError> {
        let Lane { _permit, .. } = lane;
        Ok(Lane { pinned: self.fresh(journal).await?, reused: false, _permit })
    }

    /// Gives a connection back after a whole answer.
    pub fn give_back(&self, lane: Lane) {
        if lane.pinned.is_open() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(lane.pinned);
        }
    }

    async fn turn(&self) -> Result<OwnedSemaphorePermit, CustomerError> {
        let permit = within("wait for a free connection", self.wait, Arc::clone(&self.free).acquire_owned()).await?;
        permit.map_err(|_| CustomerError::closed("the proxy is ending"))
    }

    async fn fresh(&self, journal: &Journal) -> Result<Pinned, CustomerError> {
        match connect_sharing(&self.upstream, Arc::clone(&self.policy), self.connect, Arc::clone(&self.cache)).await {
            Ok(pinned) => {
                journal.verdict(&pinned).await?;
                Ok(pinned.with_caller(self.caller.clone()))
            }
            Err(error) => {
                journal.refused(&error, self.mode()).await?;
                Err(error)
            }
        }
    }
}
