//! Turns tensors of the gate into runs of a model in another process, and whatever that process says into tensors or an error.
//! It does not trust the process: every number that comes back is compared, and who breaks the rules is killed. It does not authenticate
//! callers or know rules about inputs: that is done before.
//!
//! A request takes one copy into shared memory, one message there, one run, one message back and one copy out. The task that reads the
//! answers, and sees the process end, runs on the runtime of whoever uses the runner first.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use vouchsafe_oip::{Ports, Tensor};

use crate::error::{RunnerError, Wall};
use crate::feed::Feed;
use crate::message::Delivery;
use crate::message::layout::Layout;
use crate::nursery::{Ending, Nursery, WallLimits};
use crate::walls::{Fence, Raised};
use dispatch::Dispatcher;
use hear::Io;

mod answer;
mod dispatch;
mod hear;
mod hold;
mod load;
mod plan;
mod send;
mod slot;
#[cfg(test)]
pub(crate) mod tests;

/// So many bytes are copied at once.
const COPIED_HERE: usize = 2 << 20;

/// What a runner may have and how long it may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Bytes of memory beyond what a new runner has, for the model and its runs.
    pub memory_bytes: u64,
    /// ONNX Runtime's threads within an operator, the one that runs among them. At least 1.
    pub threads: usize,
    /// So many requests may lie in the runner's memory: one runs, the others are there when it ends. At least 1; 2 keep it busy.
    pub slots: usize,
    /// The largest request: bytes of all its tensors, each rounded up to 64.
    pub request_bytes: usize,
    /// The largest answer, likewise.
    pub answer_bytes: usize,
    /// So many requests may wait for a slot before the next is refused.
    pub queue: usize,
    /// A run that was told to stop may go on so long before the process is killed, and so may a process that was told to end.
    pub grace: Duration,
    /// Loading may take so long, the feeding included.
    pub load_limit: Duration,
    /// Whether the kernel must enforce all of Landlock's fence; otherwise the runner gets nothing of the model.
    pub whole_fence: bool,
}

/// What of a model goes through the pipe: the files of external data in this order, then the graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// How the graph is to reach ONNX Runtime.
    pub delivery: Delivery,
    /// Names, as the graph calls them, and lengths in bytes.
    pub external: Vec<(String, u64)>,
    /// The graph's length in bytes.
    pub graph_len: u64,
}

/// Why there is no runner.
#[derive(Debug, PartialEq, Eq)]
pub enum LoadError<E> {
    /// Whoever fed the model refused it or failed.
    Feed(E),
    /// The runner did.
    Runner(RunnerError),
}

impl<E> From<RunnerError> for LoadError<E> {
    fn from(error: RunnerError) -> Self {
        Self::Runner(error)
    }
}

/// A model in a process of its own, ready to run. When it is dropped, the process ends, if need be by force after the grace.
pub struct Runner {
    dispatcher: Arc<Dispatcher>,
    /// The socket, until there is a runtime.
    waiting: Mutex<Option<std::os::unix::net::UnixStream>>,
    io: OnceLock<Option<Io>>,
    raised: Raised,
    number: u64,
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Runner {
    /// Has a runner hatched and loads a model into it. Blocks: not for a thread with a runtime.
    ///
    /// `feed` runs on a thread of its own and writes what `parts` names: the files of external data in their order, then the graph. What
    /// it writes before it fails makes no model.
    ///
    /// # Errors
    /// Those of `feed`, in preference to the runner's: `MODEL_UNSUPPORTED`, `RUNNER_DIED`, `RUNNER_PROTOCOL`, `RUN_TIMEOUT` past the
    /// limit; those of [`Nursery::hatch`]; `SYSTEM`.
    pub fn load<E: Send>(
        nursery: &Nursery,
        spec: &Spec,
        parts: &Parts,
        feed: impl FnOnce(&mut Feed) -> Result<(), E> + Send,
    ) -> Result<Self, LoadError<E>> {
        let layout = layout(spec)?;
        let hatched = nursery.hatch(walls(spec, layout))?;
        if spec.whole_fence && hatched.raised.landlock != Fence::Full {
            return Err(RunnerError::Walls(Wall::Landlock).into());
        }
        load::load(hatched, spec, layout, parts, feed)
    }

    /// What the model takes and gives, as the runner told: names, dimensions and datatypes are sound, and otherwise anything.
    #[must_use]
    pub fn ports(&self) -> &Ports {
        &self.dispatcher.ports
    }

    /// The walls around the process, as it told before it had read anything of a model or caller.
    #[must_use]
    pub const fn raised(&self) -> &Raised {
        &self.raised
    }

    /// The process's number among those of the nursery.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Whether it can be expected to answer.
    #[must_use]
    pub fn is_running(&self) -> bool {
        let dead = self.dispatcher.dead.load(Ordering::Acquire);
        // Until somebody uses it nobody hears of its end.
        !dead && self.io.get().map_or_else(|| !self.dispatcher.hold.is_over(), Option::is_some)
    }

    /// Whether the next request would find no place in the queue.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let Dispatcher { permits, waiting, queue, .. } = &*self.dispatcher;
        permits.available_permits() == 0 && waiting.load(Ordering::Acquire) >= *queue
    }

    /// Why the gate killed it, if it did: `RUNNER_PROTOCOL`, or `RUN_TIMEOUT` of a run that did not stop.
    #[must_use]
    pub fn fault(&self) -> Option<RunnerError> {
        self.dispatcher.fault()
    }

    /// Waits until the process is gone, and says how it went. On a runtime with time and I/O. `None` when nobody knows any more.
    pub async fn ended(&self) -> Option<Ending> {
        self.attach().ok()?;
        let mut ended = self.dispatcher.ended.subscribe();
        ended.wait_for(Option::is_some).await.ok().and_then(|ending| ending.flatten())
    }

    /// Runs the model on these inputs, which fit its ports, for these outputs. In the order of arrival. Whoever drops the future stops the
    /// run; its slot is free again when the runner has stopped. On a runtime with time and I/O.
    ///
    /// # Errors
    /// `BUSY`, `RUN_TIMEOUT` past the deadline, `INPUT_TOO_LARGE`, `ANSWER_TOO_LARGE`, `ENGINE_FAILED`, `RUNNER_DIED`, `SYSTEM`.
    pub async fn run(
        &self,
        inputs: &[Tensor],
        outputs: &[String],
        deadline: Instant,
    ) -> Result<Vec<Tensor>, RunnerError> {
        let io = self.attach()?;
        let plan = plan::plan(&self.dispatcher.ports, &self.dispatcher.layout, inputs, outputs)?;
        let answered = self.answered(io, plan, inputs, deadline);
        tokio::time::timeout_at(deadline.into(), answered).await.unwrap_or(Err(RunnerError::RunTimeout))
    }

    async fn answered(
        &self,
        io: &Io,
        plan: plan::Plan,
        inputs: &[Tensor],
        deadline: Instant,
    ) -> Result<Vec<Tensor>, RunnerError> {
        let slot = slot::take(&self.dispatcher, plan.end).await?;
        let plan = self.written(plan, slot.index, inputs).await?;
        let run = send::submit(&self.dispatcher, io, plan, slot, deadline)?;
        let answered = run.answer().await?;
        let dispatcher = self.dispatcher.clone();
        let read = aside(answered.len(), move || answered.read(&dispatcher)).await?;
        match read {
            Some(tensors) => Ok(tensors),
            None => {
                self.dispatcher.kill(RunnerError::Protocol("the elements of an answer"));
                Err(RunnerError::RunnerDied)
            }
        }
    }

    async fn written(&self, plan: plan::Plan, slot: usize, inputs: &[Tensor]) -> Result<plan::Plan, RunnerError> {
        let failed = RunnerError::System("write to shared memory");
        if plan.end <= COPIED_HERE {
            return if plan.write(&self.dispatcher, slot, inputs) { Ok(plan) } else { Err(failed) };
        }
        let (dispatcher, inputs) = (self.dispatcher.clone(), inputs.to_vec());
        aside(plan.end, move || plan.write(&dispatcher, slot, &inputs).then_some(plan)).await?.ok_or(failed)
    }

    /// Starts the task that hears the runner, once.
    fn attach(&self) -> Result<&Io, RunnerError> {
        let start = || {
            let socket = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take()?;
            hear::start(&self.dispatcher, socket, &Handle::try_current().ok()?).ok()
        };
        self.io.get_or_init(start).as_ref().ok_or(RunnerError::System("hear the runner"))
    }
}

/// Copies here, or on a thread of its own where others would wait too long for so many bytes.
async fn aside<T: Send + 'static>(bytes: usize, copy: impl FnOnce() -> T + Send + 'static) -> Result<T, RunnerError> {
    if bytes <= COPIED_HERE {
        return Ok(copy());
    }
    tokio::task::spawn_blocking(copy).await.map_err(|_| RunnerError::System("copy tensors"))
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.dispatcher.end();
    }
}

/// Whether a new runner, which ends at once, loads what is fed to it, whatever its writer says of it: the ports, or nothing.
pub(crate) fn ask(
    nursery: &Nursery,
    spec: &Spec,
    parts: &Parts,
    feed: impl FnOnce(&mut Feed) -> Result<(), ()> + Send,
) -> Option<Ports> {
    let layout = layout(spec).ok()?;
    load::ask(nursery.hatch(walls(spec, layout)).ok()?, spec, layout, parts, feed)
}

fn walls(spec: &Spec, layout: Layout) -> WallLimits {
    // Beside the first thread: ONNX Runtime's others, and the one that hears of stops.
    WallLimits { memory_bytes: spec.memory_bytes, threads: spec.threads.max(1), shared_bytes: layout.total() }
}

fn layout(spec: &Spec) -> Result<Layout, RunnerError> {
    let layout = Layout::new(spec.slots, spec.request_bytes, spec.answer_bytes);
    layout.ok_or(RunnerError::System("the sizes of requests and answers"))
}
