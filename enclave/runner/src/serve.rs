//! Turns a process behind its walls into a model that answers: one message in, one run, one message out, on one thread.
//! It keeps nothing of a request but what ONNX Runtime keeps, and it does not judge: gate and pre-flight did.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use ort::session::RunOptions;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::retry_on_intr;
use vouchsafe_system::SharedMemory;

use crate::message::layout::{Layout, next_place};
use crate::message::{Failure, Inbox, Order, Place, Report, Run, write_frame};
use crate::nursery::Inherited;
use crate::session::{Given, Model};
use crate::walls;

mod load;

/// So much is read of the socket at a time: much more than one message has.
const READING: usize = 16 * 1024;
/// So many jobs that are to be stopped may wait for their turn. The gate has fewer slots.
const MOST_STOPS: usize = 4096;

/// The gate ended the conversation.
const ENDED: u8 = 0;
/// The conversation made no sense, or broke.
const BROKEN: u8 = 1;
/// The model could not be loaded, and the gate was told why.
const NOT_LOADED: u8 = 2;
/// The last wall, after loading, could not be raised.
const WALLS: u8 = 3;

/// The runner's life: loads the model that the gate sends, then runs it until the gate closes the sockets. The result is its exit status.
pub fn main(inherited: Inherited) -> u8 {
    let Inherited { jobs, stops, memory, raised } = inherited;
    let stops = Arc::new(stops);
    let (model, layout) = match load::first(&jobs, &raised) {
        Ok(loaded) => loaded,
        Err(load::Failed::Refused(refusal)) => {
            let told = send(&stops, &Report::Refused(refusal), &mut Vec::new());
            return if told.is_some() { NOT_LOADED } else { BROKEN };
        }
        Err(load::Failed::Ended) => return ENDED,
        Err(load::Failed::Broken) => return BROKEN,
    };
    if layout.total() > memory.len() {
        return BROKEN;
    }
    vouchsafe_system::return_freed_memory();
    let running = Arc::new(Running::new(model.options()));
    let (watched, heard) = (running.clone(), stops.clone());
    if thread::Builder::new().name("stops".into()).spawn(move || watched.watch(&heard)).is_err() {
        return BROKEN;
    }
    // From here on nothing is opened any more, by any thread.
    if walls::close_files().is_err() {
        return WALLS;
    }
    let ports = model.ports().clone();
    if send(&stops, &Report::Loaded(ports), &mut Vec::new()).is_none() {
        return BROKEN;
    }
    Runner { model, layout, memory, running }.serve(&jobs, &stops)
}

struct Runner {
    model: Model,
    layout: Layout,
    memory: SharedMemory,
    running: Arc<Running>,
}

impl Runner {
    fn serve(mut self, mut jobs: &UnixStream, answers: &UnixStream) -> u8 {
        let (mut inbox, mut bytes, mut frame) = (Inbox::default(), vec![0; READING], Vec::new());
        loop {
            let read = match jobs.read(&mut bytes) {
                Ok(0) => return if inbox.is_empty() { ENDED } else { BROKEN },
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(_) => return BROKEN,
            };
            inbox.push(bytes.get(..read).unwrap_or_default());
            loop {
                match inbox.next::<Order>() {
                    Ok(Some(Order::Run(run))) => {
                        let report = self.answer(&run);
                        if send(answers, &report, &mut frame).is_none() {
                            return BROKEN;
                        }
                    }
                    Ok(None) => break,
                    _ => return BROKEN,
                }
            }
        }
    }

    fn answer(&mut self, run: &Run) -> Report {
        if !self.running.begin(run.job) {
            return Report::Failed(run.job, Failure::Stopped);
        }
        let mut answer =
            Answer { layout: self.layout, memory: &self.memory, slot: run.slot, places: Vec::new(), end: 0 };
        let result = fill(&mut self.model, run, &mut answer);
        let places = std::mem::take(&mut answer.places);
        let stopped = self.running.end();
        match result {
            // The gate wipes what it is told of, and here it is told of nothing.
            Err(failure) => {
                answer.wipe();
                Report::Failed(run.job, if stopped { Failure::Stopped } else { failure })
            }
            Ok(()) => Report::Done(run.job, places),
        }
    }
}

fn fill(model: &mut Model, run: &Run, answer: &mut Answer<'_>) -> Result<(), Failure> {
    let given = |(port, place): &'_ (usize, Place)| {
        let part = answer.layout.in_request(run.slot, place.at, place.len)?;
        Some((*port, part))
    };
    let parts: Option<Vec<_>> = run.inputs.iter().map(given).collect();
    let memory = answer.memory;
    let mut inputs = Vec::with_capacity(run.inputs.len());
    for ((port, part), (_, place)) in parts.ok_or(Failure::Engine)?.into_iter().zip(&run.inputs) {
        // Until the answer is sent the gate does not touch this slot.
        let bytes = memory.borrow(part).ok_or(Failure::Engine)?;
        inputs.push(Given { port, shape: &place.shape, bytes });
    }
    model.run(&inputs, &run.outputs, &mut |shape, bytes| answer.put(shape, bytes))
}

/// What was written into a slot's answer half.
struct Answer<'a> {
    layout: Layout,
    memory: &'a SharedMemory,
    slot: usize,
    places: Vec<Place>,
    end: usize,
}

impl Answer<'_> {
    fn put(&mut self, shape: &[usize], bytes: &[u8]) -> bool {
        let part = next_place(self.end).and_then(|at| Some((at, self.layout.in_answer(self.slot, at, bytes.len())?)));
        let Some((at, part)) = part else { return false };
        if !self.memory.write(part.start, bytes) {
            return false;
        }
        self.places.push(Place { shape: shape.to_vec(), at, len: bytes.len() });
        self.end = at + bytes.len();
        true
    }

    fn wipe(&self) {
        if let Some(part) = self.layout.in_answer(self.slot, 0, self.end) {
            self.memory.wipe(part);
        }
    }
}

/// Sends one message with one call.
fn send(mut socket: &UnixStream, report: &Report, frame: &mut Vec<u8>) -> Option<()> {
    frame.clear();
    write_frame(report, frame).ok()?;
    socket.write_all(frame).ok()
}

/// What runs now, and what is not to run.
struct Running {
    options: Arc<RunOptions>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The job that runs now.
    job: Option<u64>,
    /// It was told to end.
    stopped: bool,
    /// Jobs that are to be stopped and did not begin yet.
    later: BTreeSet<u64>,
    /// The last job that began.
    last: u64,
}

impl Running {
    fn new(options: Arc<RunOptions>) -> Self {
        Self { options, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `false` when the job is not to run.
    fn begin(&self, job: u64) -> bool {
        let mut state = self.state();
        state.last = job;
        if !state.later.is_empty() {
            // Jobs begin in the order of their numbers: those before this one are through.
            let mut later = state.later.split_off(&job);
            let stopped = later.remove(&job);
            state.later = later;
            if stopped {
                return false;
            }
        }
        state.job = Some(job);
        true
    }

    /// `true` when it was told to end meanwhile.
    fn end(&self) -> bool {
        let mut state = self.state();
        state.job = None;
        let stopped = std::mem::take(&mut state.stopped);
        if stopped {
            let _ = self.options.unterminate();
        }
        stopped
    }

    fn stop(&self, job: u64) {
        let mut state = self.state();
        if state.job == Some(job) {
            state.stopped = true;
            let _ = self.options.terminate();
        } else if job > state.last && state.later.len() < MOST_STOPS {
            state.later.insert(job);
        }
    }

    /// Reads numbers of jobs until the gate is gone.
    fn watch(&self, mut stops: &UnixStream) {
        let mut number = [0; 8];
        // Whoever waits in a read is woken when the gate takes an answer out, whoever waits here is not.
        while readable(stops) && stops.read_exact(&mut number).is_ok() {
            self.stop(u64::from_le_bytes(number));
        }
        // Whoever might want the answer is gone as well.
        let running = self.state().job;
        if let Some(job) = running {
            self.stop(job);
        }
    }
}

/// Waits until there is something to read, or the end.
fn readable(socket: &UnixStream) -> bool {
    retry_on_intr(|| poll(&mut [PollFd::new(socket, PollFlags::IN)], None)).is_ok()
}

#[cfg(test)]
mod tests;
