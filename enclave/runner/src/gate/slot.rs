//! Turns requests that come at any time into holders of a slot, in the order of arrival, and overwrites what they leave behind.
//! It bounds how many wait, not how long: the deadline is the caller's.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, TryAcquireError};

use super::dispatch::Dispatcher;
use crate::error::RunnerError;

/// A slot that nobody else uses. What was written into it is overwritten before it is another's.
pub struct Slot {
    /// Which.
    pub index: usize,
    /// Where the inputs end.
    pub request_end: usize,
    /// Where the outputs end that the runner told of. The runner wipes what it does not tell of.
    pub answer_end: usize,
    dispatcher: Arc<Dispatcher>,
    // Given back last: the slot is in the list again by then.
    _permit: OwnedSemaphorePermit,
}

/// Waits for a slot, behind everybody who came before.
///
/// # Errors
/// `BUSY` when too many wait already, `RUNNER_DIED`.
pub async fn take(dispatcher: &Arc<Dispatcher>, request_end: usize) -> Result<Slot, RunnerError> {
    let permit = match dispatcher.permits.clone().try_acquire_owned() {
        Ok(permit) => permit,
        Err(TryAcquireError::Closed) => return Err(RunnerError::RunnerDied),
        Err(TryAcquireError::NoPermits) => {
            let _place = Place::in_the_queue(dispatcher)?;
            dispatcher.permits.clone().acquire_owned().await.map_err(|_| RunnerError::RunnerDied)?
        }
    };
    // There are as many slots as permits.
    let index = dispatcher.slots.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let index = index.ok_or(RunnerError::System("find a free slot"))?;
    Ok(Slot { index, request_end, answer_end: 0, dispatcher: dispatcher.clone(), _permit: permit })
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Dispatcher { layout, memory, slots, .. } = &*self.dispatcher;
        let parts =
            [layout.in_request(self.index, 0, self.request_end), layout.in_answer(self.index, 0, self.answer_end)];
        parts.into_iter().flatten().for_each(|part| memory.wipe(part));
        slots.lock().unwrap_or_else(PoisonError::into_inner).push(self.index);
    }
}

struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn in_the_queue(dispatcher: &'a Dispatcher) -> Result<Self, RunnerError> {
        let waiting = &dispatcher.waiting;
        let more = |count: usize| (count < dispatcher.queue).then_some(count + 1);
        waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).map_err(|_| RunnerError::Busy)?;
        Ok(Self(waiting))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
