//! Turns the runner's answers into the answers of those who wait, in order, and decides when the process has to end.
//! It believes nothing: an answer that nobody asked for, out of order or outside the slot ends the process and every run with it.

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot, watch};
use vouchsafe_oip::Ports;
use vouchsafe_system::SharedMemory;

use super::Spec;
use super::answer::Answered;
use super::hold::{Hold, end_now, end_within};
use super::slot::Slot;
use crate::error::RunnerError;
use crate::message::layout::Layout;
use crate::message::ports::are_places;
use crate::message::{Failure, Place};
use crate::nursery::Ending;

/// What the runner and those who wait for it have in common.
pub struct Dispatcher {
    /// What the model takes and gives.
    pub ports: Ports,
    /// Where tensors lie.
    pub layout: Layout,
    /// Tensors.
    pub memory: SharedMemory,
    /// The process.
    pub hold: Arc<dyn Hold>,
    /// One for each free slot.
    pub permits: Arc<Semaphore>,
    /// The free slots.
    pub slots: Mutex<Vec<usize>>,
    /// How many wait for a slot.
    pub waiting: AtomicUsize,
    /// So many may.
    pub queue: usize,
    /// Nothing will be answered any more.
    pub dead: AtomicBool,
    /// The last handle is gone.
    pub ending: AtomicBool,
    /// How the process went, once it has; the inner one is nothing when nobody knows.
    pub ended: watch::Sender<Option<Option<Ending>>>,
    grace: Duration,
    /// Where orders go.
    pub jobs: UnixStream,
    stops: UnixStream,
    state: Mutex<State>,
}

/// What changes with every run.
#[derive(Default)]
pub struct State {
    /// The number of the last run.
    pub last: u64,
    /// What the runner has not answered, in the order it was sent.
    pub pending: VecDeque<Pending>,
    /// What the socket did not take at once.
    pub unsent: Vec<u8>,
    /// Room for a message.
    pub frame: Vec<u8>,
    /// Why the gate killed the process.
    fault: Option<RunnerError>,
}

/// A run that was sent.
pub struct Pending {
    /// Its number.
    pub job: u64,
    /// The outputs.
    pub wanted: Vec<usize>,
    /// Where its tensors lie.
    pub slot: Slot,
    /// Who waits for it.
    pub reply: oneshot::Sender<Result<Answered, RunnerError>>,
    /// Nobody does any more.
    pub abandoned: bool,
    /// It may take so long, whoever waits for it.
    pub deadline: Instant,
}

impl Dispatcher {
    /// Of a process that has loaded its model. The sockets do not block from here on.
    pub fn new(
        spec: &Spec,
        (ports, layout): (Ports, Layout),
        hold: Arc<dyn Hold>,
        (jobs, stops): (UnixStream, UnixStream),
        memory: SharedMemory,
    ) -> io::Result<Self> {
        jobs.set_nonblocking(true)?;
        stops.set_nonblocking(true)?;
        Ok(Self {
            ports,
            layout,
            memory,
            hold,
            permits: Arc::new(Semaphore::new(layout.slots())),
            slots: Mutex::new((0..layout.slots()).rev().collect()),
            waiting: AtomicUsize::new(0),
            queue: spec.queue,
            dead: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            ended: watch::Sender::new(None),
            grace: spec.grace,
            jobs,
            stops,
            state: Mutex::default(),
        })
    }

    /// Another handle to the socket over which the runner answers.
    pub fn socket(&self) -> io::Result<UnixStream> {
        self.stops.try_clone()
    }

    /// What changes with every run, while nobody else looks at it.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the gate killed it.
    pub fn fault(&self) -> Option<RunnerError> {
        self.state().fault
    }

    /// Kills the process for a reason, and every run with it.
    pub fn kill(&self, fault: RunnerError) {
        self.state().fault.get_or_insert(fault);
        end_now(&self.hold);
        // Whoever hears the runner has nothing more to hear.
        self.close();
        self.lose();
    }

    /// Lets the process end: it sees that its sockets close.
    pub fn end(&self) {
        self.ending.store(true, Ordering::Release);
        self.close();
        self.lose();
        if !self.hold.is_over() {
            end_within(&self.hold, self.grace);
        }
    }

    fn close(&self) {
        let _ = self.jobs.shutdown(Shutdown::Both);
        let _ = self.stops.shutdown(Shutdown::Both);
    }

    /// No answer will come any more: everybody is told.
    pub fn lose(&self) {
        let lost = {
            let mut state = self.state();
            self.dead.store(true, Ordering::Release);
            std::mem::take(&mut state.pending)
        };
        self.permits.close();
        for pending in lost {
            let _ = pending.reply.send(Err(RunnerError::RunnerDied));
        }
    }

    /// Gives the answer that came to whoever waits for it. `Err` when it is no answer to anything, or a lie.
    pub fn settle(
        self: &Arc<Self>,
        job: u64,
        answer: Result<Vec<Place>, Failure>,
        handle: &Handle,
    ) -> Result<(), &'static str> {
        let (pending, next) = {
            let mut state = self.state();
            let Some(pending) = state.pending.pop_front_if(|first| first.job == job) else {
                return Err("the order of answers");
            };
            (pending, state.pending.front().filter(|next| next.abandoned).map(|next| (next.job, next.deadline)))
        };
        // It was stopped before its turn, which it has now.
        if let Some((next, deadline)) = next {
            self.watch(next, deadline, handle);
        }
        let Pending { wanted, mut slot, reply, .. } = pending;
        let answered = match answer {
            Ok(places) if are_places(&self.ports, &self.layout, &wanted, &places) => {
                slot.answer_end = places.last().map_or(0, |place| place.at.saturating_add(place.len));
                Ok(Answered { wanted, places, slot })
            }
            Ok(_) => {
                let _ = reply.send(Err(RunnerError::RunnerDied));
                return Err("the places of an answer");
            }
            Err(Failure::TooLarge) => Err(RunnerError::AnswerTooLarge),
            Err(Failure::Engine) => Err(RunnerError::EngineFailed),
            // Nobody else stops a run than those who do not wait for it any more.
            Err(Failure::Stopped) => Err(RunnerError::RunTimeout),
        };
        // When nobody waits any more, the slot is free with this.
        let _ = reply.send(answered);
        Ok(())
    }

    /// Kills the process if this run, the first of those in it and told to stop, is still there when its time and the grace are over.
    /// Whoever goes away early must not be the end of a runner that is in the middle of one long operator.
    fn watch(self: &Arc<Self>, job: u64, deadline: Instant, handle: &Handle) {
        let dispatcher = self.clone();
        handle.spawn(async move {
            tokio::time::sleep_until(deadline.max(Instant::now()).into()).await;
            tokio::time::sleep(dispatcher.grace).await;
            let stuck = dispatcher.state().pending.front().is_some_and(|first| first.job == job);
            if stuck {
                dispatcher.kill(RunnerError::RunTimeout);
            }
        });
    }

    /// Tells the runner that nobody waits for a run any more.
    pub fn abandon(self: &Arc<Self>, job: u64, handle: &Handle) {
        let first = {
            let mut state = self.state();
            let Some(pending) = state.pending.iter_mut().find(|pending| pending.job == job) else { return };
            pending.abandoned = true;
            state.pending.front().filter(|first| first.job == job).map(|first| first.deadline)
        };
        // Should it not get through, the watch ends what does not stop.
        let _ = (&self.stops).write_all(&job.to_le_bytes());
        if let Some(deadline) = first {
            self.watch(job, deadline, handle);
        }
    }
}
