//! Turns a plan and a slot into a message to the runner, and its answer, or the loss of interest in it, into what the caller gets.
//! It does not bound the time: the deadline is the caller's.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tokio::sync::oneshot;

use super::answer::Answered;
use super::dispatch::{Dispatcher, Pending, State};
use super::hear::Io;
use super::plan::Plan;
use super::slot::Slot;
use crate::error::RunnerError;
use crate::message::{Order, Run, write_frame};

/// A run that was sent. Dropped before its answer came, it stops.
pub struct Sent<'a> {
    dispatcher: &'a Arc<Dispatcher>,
    io: &'a Io,
    job: u64,
    answer: oneshot::Receiver<Result<Answered, RunnerError>>,
    answered: bool,
}

/// Sends a run whose inputs lie in its slot.
///
/// # Errors
/// `RUNNER_DIED`; `INPUT_TOO_LARGE` when there are more inputs than a message holds.
pub fn submit<'a>(
    dispatcher: &'a Arc<Dispatcher>,
    io: &'a Io,
    plan: Plan,
    slot: Slot,
    deadline: Instant,
) -> Result<Sent<'a>, RunnerError> {
    let (reply, answer) = oneshot::channel();
    let mut state = dispatcher.state();
    // Decided under the same lock by which everybody is told.
    if dispatcher.dead.load(Ordering::Acquire) {
        drop(state);
        return Err(RunnerError::RunnerDied);
    }
    let job = state.last + 1;
    let order = Order::Run(Run { job, slot: slot.index, inputs: plan.inputs, outputs: plan.outputs });
    let mut frame = std::mem::take(&mut state.frame);
    frame.clear();
    if write_frame(&order, &mut frame).is_err() {
        drop(state);
        return Err(RunnerError::InputTooLarge);
    }
    let Order::Run(Run { outputs: wanted, .. }) = order else { return Err(RunnerError::System("send a run")) };
    state.last = job;
    state.pending.push_back(Pending { job, wanted, slot, reply, abandoned: false, deadline });
    post(dispatcher, &mut state, io, &frame);
    state.frame = frame;
    drop(state);
    Ok(Sent { dispatcher, io, job, answer, answered: false })
}

/// Writes a message now, or as soon as the socket takes it, behind those before it.
///
/// The runtime does not know this socket: it would be woken whenever the runner has taken a message out of it.
fn post(dispatcher: &Arc<Dispatcher>, state: &mut State, io: &Io, frame: &[u8]) {
    if !state.unsent.is_empty() {
        state.unsent.extend_from_slice(frame);
        return;
    }
    let rest = match (&dispatcher.jobs).write(frame) {
        Ok(written) => frame.get(written..).unwrap_or_default(),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => frame,
        // The process is gone: that is heard.
        Err(_) => return,
    };
    if !rest.is_empty() {
        state.unsent.extend_from_slice(rest);
        let late = dispatcher.clone();
        io.handle.spawn(async move {
            if flush(&late).await.is_err() {
                late.kill(RunnerError::System("write to the runner"));
            }
        });
    }
}

/// Writes what is left, while the runtime knows the socket for once.
async fn flush(dispatcher: &Arc<Dispatcher>) -> io::Result<()> {
    let socket = tokio::net::UnixStream::from_std(dispatcher.jobs.try_clone()?)?;
    loop {
        socket.writable().await?;
        let mut state = dispatcher.state();
        match socket.try_write(&state.unsent) {
            Ok(written) => drop(state.unsent.drain(..written)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        if state.unsent.is_empty() {
            return Ok(());
        }
    }
}

impl Sent<'_> {
    /// Waits for the answer.
    ///
    /// # Errors
    /// `ENGINE_FAILED`, `ANSWER_TOO_LARGE`, `RUNNER_DIED`.
    pub async fn answer(mut self) -> Result<Answered, RunnerError> {
        let answer = (&mut self.answer).await;
        self.answered = true;
        answer.unwrap_or(Err(RunnerError::RunnerDied))
    }
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.dispatcher.abandon(self.job, &self.io.handle);
        }
    }
}
