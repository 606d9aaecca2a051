//! Turns a fork of the gate, made while there was one thread and no secret, into fresh processes for models, each behind its walls.
//! It reads nothing that a model or a caller sent, and what a runner does behind its walls is not known here.

mod brood;
mod hatchling;
mod wire;

use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Signal, pidfd_send_signal};
use vouchsafe_system::{Forked, SharedMemory, end, fork, has_one_thread};

use crate::error::RunnerError;
use crate::walls::Raised;

use wire::{Answer, Ask};

pub use hatchling::Inherited;
pub use wire::{Ending, WallLimits};

/// Walls stand after milliseconds; a machine that swaps may take longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// The gate's hold of the process that forks runners. When the gate ends, so does that process, and every runner with it.
pub struct Nursery {
    line: Arc<Line>,
}

/// What the gate has of a new runner, whose walls stand.
pub struct Hatched {
    /// The gate's end of the jobs socket. Blocking.
    pub jobs: UnixStream,
    /// The gate's end of the stops socket. Blocking.
    pub stops: UnixStream,
    /// Tensors: the gate's mapping.
    pub memory: SharedMemory,
    /// Readable when the runner has ended. A signal through it may be refused, where the runner has a user of its own: see [`Life`].
    pub pidfd: OwnedFd,
    /// Counts runners.
    pub number: u64,
    /// Its walls, as it told before it read anything.
    pub raised: Raised,
    /// Ends it, and tells how it ended.
    pub life: Life,
}

/// A runner's life, in the gate's hands. Dropping it ends nothing.
#[derive(Clone)]
pub struct Life {
    line: Arc<Line>,
    pidfd: Arc<OwnedFd>,
    number: u64,
}

/// An answer, and a new runner's descriptor with it.
type Answered = (Answer, Option<OwnedFd>);

/// The socket to the nursery: one question and its answer at a time.
struct Line {
    socket: Mutex<Held>,
}

struct Held {
    socket: OwnedFd,
    /// How many runners there were; none after an answer was missed, for the next one might be that.
    next: Option<u64>,
}

impl Nursery {
    /// Forks the nursery, which loads ONNX Runtime from this file. Call it while this process has one thread, from the thread that lives
    /// longest: the nursery ends with that thread.
    ///
    /// # Errors
    /// `ORT_LOAD`, `RUNNER_WALLS`, `SYSTEM`.
    pub fn start(library: &File) -> Result<Self, RunnerError> {
        Self::start_with(Some(library), crate::serve::main)
    }

    /// The same, with another program in its runners, behind the same walls: for tests. Its result is the runner's exit status.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(library: Option<&File>, entry: fn(Inherited) -> u8) -> Result<Self, RunnerError> {
        if !has_one_thread().map_err(|_| RunnerError::System("count threads"))? {
            return Err(RunnerError::System("start the nursery: the process has several threads"));
        }
        let (ours, theirs) = wire::pair().map_err(|_| RunnerError::System("make a socket"))?;
        let gate = rustix::process::getpid();
        match fork().map_err(|_| RunnerError::System("start the nursery"))? {
            Forked::Child => {
                drop(ours);
                // Nothing may unwind into the gate's own frames.
                end(catch_unwind(AssertUnwindSafe(|| brood::main(theirs, library, entry, gate)))
                    .unwrap_or(hatchling::PANICKED))
            }
            Forked::Parent(_) => drop(theirs),
        }
        let line = Line { socket: Mutex::new(Held { socket: ours, next: Some(1) }) };
        match line.answer()? {
            (Answer::Ready, _) => Ok(Self { line: Arc::new(line) }),
            (answer, _) => Err(answer.into_error()),
        }
    }

    /// Makes a runner and waits until its walls stand. Blocks, for milliseconds.
    ///
    /// # Errors
    /// `RUNNER_WALLS` when a demanded wall cannot be raised, `RUNNER_NURSERY`, `SYSTEM`.
    pub fn hatch(&self, limits: WallLimits) -> Result<Hatched, RunnerError> {
        let socket = |_| RunnerError::System("make a socket");
        let (jobs, their_jobs) = UnixStream::pair().map_err(socket)?;
        let (stops, their_stops) = UnixStream::pair().map_err(socket)?;
        let (memory, descriptor) =
            SharedMemory::new(limits.shared_bytes).map_err(|_| RunnerError::System("make shared memory"))?;
        let (number, pidfd) = self.line.hatch(limits, [&their_jobs.into(), &their_stops.into(), &descriptor])?;
        drop(descriptor);
        let again = pidfd.try_clone().map_err(|_| RunnerError::System("copy a descriptor"))?;
        let life = Life { line: self.line.clone(), pidfd: Arc::new(again), number };
        let raised = hatchling::listen(&jobs, PATIENCE).inspect_err(|_| {
            // Whatever holds it up: nobody will ever talk to it.
            let _ = life.kill();
        })?;
        Ok(Hatched { jobs, stops, memory, pidfd, number, raised, life })
    }
}

impl Life {
    /// Ends the runner at once. It is no error if it has ended.
    ///
    /// # Errors
    /// `RUNNER_NURSERY`: then it ends with the nursery.
    pub fn kill(&self) -> Result<(), RunnerError> {
        match pidfd_send_signal(&*self.pidfd, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            // The runner has a user of its own, and the gate gave up the right to signal others; its parent did not.
            Err(_) => match self.line.ask(&Ask::Kill(self.number), &[])? {
                (Answer::Done, _) => Ok(()),
                (answer, _) => Err(answer.into_error()),
            },
        }
    }

    /// How the runner ended. Blocks, for less than a millisecond.
    ///
    /// # Errors
    /// `RUNNER_NURSERY`.
    pub fn ending(&self) -> Result<Ending, RunnerError> {
        match self.line.ask(&Ask::Ending(self.number), &[])? {
            (Answer::Ending(ending), _) => Ok(ending),
            (answer, _) => Err(answer.into_error()),
        }
    }
}

impl Line {
    fn hatch(&self, limits: WallLimits, descriptors: [&OwnedFd; 3]) -> Result<(u64, OwnedFd), RunnerError> {
        let mut held = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let number = held.next.ok_or(RunnerError::Nursery)?;
        let answer = held.ask(&Ask::Hatch { number, limits }, &descriptors.map(OwnedFd::as_fd))?;
        // A number is never used again, whatever became of its runner.
        held.next = held.next.map(|number| number + 1);
        match answer {
            (Answer::Done, Some(pidfd)) => Ok((number, pidfd)),
            (answer, _) => Err(answer.into_error()),
        }
    }

    fn ask(&self, ask: &Ask, descriptors: &[BorrowedFd<'_>]) -> Result<Answered, RunnerError> {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner).ask(ask, descriptors)
    }

    fn answer(&self) -> Result<Answered, RunnerError> {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner).answer()
    }
}

impl Held {
    fn ask(&mut self, ask: &Ask, descriptors: &[BorrowedFd<'_>]) -> Result<Answered, RunnerError> {
        if self.next.is_none() {
            return Err(RunnerError::Nursery);
        }
        if wire::send(self.socket.as_fd(), ask, descriptors).is_err() {
            return Err(self.lost());
        }
        self.answer()
    }

    /// Who cannot be asked any more must not live on: without its line the nursery ends, and every runner with it.
    fn lost(&mut self) -> RunnerError {
        self.next = None;
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
        RunnerError::Nursery
    }

    fn answer(&mut self) -> Result<Answered, RunnerError> {
        let received = wire::receive_within::<Answer>(self.socket.as_fd(), PATIENCE);
        let Ok(Some((answer, mut descriptors))) = received else {
            return Err(self.lost());
        };
        Ok((answer, descriptors.pop()))
    }
}
