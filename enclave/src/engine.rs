//! Turns a model's plaintext, handed on piece by piece, into a runner process, and tensors into tensors.
//! It runs no model itself and does not look into tensors: ONNX Runtime is in the runner, behind its walls.

use std::num::NonZero;
use std::thread;
use std::time::{Duration, Instant};

use vouchsafe_oip::{Ports, Tensor};
use vouchsafe_runner::{Delivery, Ending, Feed, LoadError, Nursery, Parts, Runner, Spec, probe};

use crate::config::{Config, Landlock};
use crate::error::EnclaveError;
use crate::library::Library;
use crate::public_event;

/// The one supported version of the library.
pub const ORT_VERSION: &str = "1.24.4";
/// One request runs, another one is in place when it ends, and two are being written or read.
const SLOTS: usize = 4;
/// Further threads of one model do not make it faster, they only wait for each other.
const MAX_THREADS: usize = 16;
/// ONNX Runtime loads with 1.2 to 1.5 times a model's size and keeps it once; runs take from the rest.
const TIMES: u64 = 4;
/// What threads and allocator reserve, mostly without using it, and room for the runs of a small model.
const BASE: u64 = 2 << 30;
/// JSON takes two bytes or more for an element of at most eight.
const DECODED: u64 = 4;
/// Tensors begin at multiples of 64 bytes.
const ALIGNED: u64 = 64 * 1024;
/// A run that is told to stop may go on so long.
const GRACE: Duration = Duration::from_secs(2);
/// Loading may take so long, and beside it a second for so many bytes: disks are faster, and other models may wait for it.
const LOAD_LIMIT: (Duration, u64) = (Duration::from_secs(60), 4 << 20);

/// Where runners come from, and what each may have.
pub struct Runtime {
    nursery: Nursery,
    delivery: Delivery,
    spec: Spec,
    memory: Option<u64>,
}

/// One model, ready to run. When the last handle is dropped, its process ends.
pub struct Engine(Kind);

enum Kind {
    Runner(Box<Runner>),
    #[cfg(test)]
    Function(tests::Function),
}

impl Runtime {
    /// Forks the nursery, which loads the very library that was read. Call it while there is one thread and no secret.
    ///
    /// # Errors
    /// `ORT_LOAD`, `RUNNER_WALLS`, `SYSTEM`.
    pub fn start(library: &Library, config: &Config) -> Result<Self, EnclaveError> {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let spec = Spec {
            memory_bytes: BASE,
            threads: cores.min(MAX_THREADS),
            slots: SLOTS,
            request_bytes: bytes(config.max_body_bytes.saturating_mul(DECODED).saturating_add(ALIGNED)),
            answer_bytes: bytes(config.max_answer_bytes.saturating_add(ALIGNED)),
            queue: config.queue,
            grace: GRACE,
            load_limit: LOAD_LIMIT.0,
            whole_fence: config.landlock == Landlock::Required,
        };
        let nursery = Nursery::start(library.file())?;
        let memory = config.runner_memory_mib.map(|mib| mib << 20);
        Ok(Self { nursery, delivery: Delivery::Buffer, spec, memory })
    }

    /// Finds out whether this library, behind a runner's walls, reads models through a pipe. It does not until then.
    #[must_use]
    pub fn probed(mut self) -> Self {
        self.delivery = probe(&self.nursery);
        self
    }

    /// How a runner gets a graph that has no external data.
    #[must_use]
    pub const fn delivery(&self) -> Delivery {
        self.delivery
    }

    /// Has a runner load what `feed` writes: the files of external data in their order, then the graph. Blocks.
    ///
    /// # Errors
    /// Those of `feed`, else `MODEL_UNSUPPORTED`, `RUNNER_*`; `RUNNER_WALLS` too when its fence is not what the configuration demands.
    pub fn load(
        &self,
        model: Model,
        feed: impl FnOnce(&mut Feed) -> Result<(), EnclaveError> + Send,
    ) -> Result<Engine, EnclaveError> {
        let Model { external, graph_len } = model;
        let size = external.iter().fold(graph_len, |sum, (_, len)| sum.saturating_add(*len));
        let load_limit = LOAD_LIMIT.0 + Duration::from_secs(size / LOAD_LIMIT.1);
        let memory_bytes = self.memory.unwrap_or(size.saturating_mul(TIMES).saturating_add(BASE));
        // A graph from a pipe has no folder in which ONNX Runtime would look for other files.
        let delivery = if external.is_empty() { self.delivery } else { Delivery::Buffer };
        let parts = Parts { delivery, external, graph_len };
        let runner = Runner::load(&self.nursery, &Spec { memory_bytes, load_limit, ..self.spec }, &parts, feed);
        let runner = runner.map_err(|error| match error {
            LoadError::Feed(error) => error,
            LoadError::Runner(error) => error.into(),
        })?;
        let raised = runner.raised();
        public_event!(
            "runner",
            pub_number = runner.number(),
            pub_own_user = raised.own_uid,
            pub_root = raised.root.as_str(),
            pub_own_network = raised.network_namespace,
            pub_landlock = raised.landlock.as_str(),
        );
        Ok(Engine(Kind::Runner(Box::new(runner))))
    }
}

/// What of a model goes to its runner.
pub struct Model {
    /// Names, as the graph calls them, and lengths of external data in bytes.
    pub external: Vec<(String, u64)>,
    /// The graph's length in bytes.
    pub graph_len: u64,
}

impl Engine {
    /// Whether it can be expected to answer.
    #[must_use]
    pub fn is_running(&self) -> bool {
        match &self.0 {
            Kind::Runner(runner) => runner.is_running(),
            #[cfg(test)]
            Kind::Function(function) => function.is_running(),
        }
    }

    /// Whether the next request would be told to come again.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match &self.0 {
            Kind::Runner(runner) => runner.is_full(),
            #[cfg(test)]
            Kind::Function(_) => false,
        }
    }

    /// Waits until it can answer no more, and tells the public log how it ended.
    pub async fn ended(&self) {
        match &self.0 {
            Kind::Runner(runner) => {
                let ending = runner.ended().await;
                let fault = runner.fault().map_or("", |fault| fault.code());
                // Few words: a runner that somebody took over chooses how it ends.
                let how = match ending {
                    Some(Ending::Exited(0)) => "ended",
                    Some(Ending::Exited(_)) => "failed",
                    Some(Ending::Signalled(9)) => "killed",
                    Some(Ending::Signalled(_)) => "crashed",
                    Some(Ending::Running | Ending::Forgotten) | None => "unknown",
                };
                public_event!("runner-ended", pub_number = runner.number(), pub_how = how, pub_code = fault);
            }
            #[cfg(test)]
            Kind::Function(_) => std::future::pending().await,
        }
    }

    /// What the model takes and gives.
    #[must_use]
    pub fn ports(&self) -> &Ports {
        match &self.0 {
            Kind::Runner(runner) => runner.ports(),
            #[cfg(test)]
            Kind::Function(function) => &function.ports,
        }
    }

    /// Runs the model. A caller that goes away stops the run.
    ///
    /// # Errors
    /// `BUSY`, `RUN_TIMEOUT`, `INPUT_TOO_LARGE`, `ANSWER_TOO_LARGE`, `ENGINE_FAILED`, `RUNNER_DIED`.
    pub async fn run(
        &self,
        inputs: &[Tensor],
        outputs: &[String],
        deadline: Instant,
    ) -> Result<Vec<Tensor>, EnclaveError> {
        match &self.0 {
            Kind::Runner(runner) => Ok(runner.run(inputs, outputs, deadline).await?),
            #[cfg(test)]
            Kind::Function(function) => function.run(inputs, outputs),
        }
    }

    /// An engine without a process, for tests of what stands around it.
    #[cfg(test)]
    pub(crate) fn of_function(ports: Ports, run: fn(Vec<Tensor>) -> Vec<Tensor>) -> Self {
        Self(Kind::Function(tests::Function::new(ports, run)))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicBool, Ordering};

    use vouchsafe_runner::RunnerError;

    use super::*;

    /// A model that is a function. A panic ends it, as a crash ends a runner.
    pub struct Function {
        pub ports: Ports,
        run: fn(Vec<Tensor>) -> Vec<Tensor>,
        ended: AtomicBool,
    }

    impl Function {
        pub fn new(ports: Ports, run: fn(Vec<Tensor>) -> Vec<Tensor>) -> Self {
            Self { ports, run, ended: AtomicBool::new(false) }
        }

        pub fn is_running(&self) -> bool {
            !self.ended.load(Ordering::SeqCst)
        }

        pub fn run(&self, inputs: &[Tensor], wanted: &[String]) -> Result<Vec<Tensor>, EnclaveError> {
            let outputs = catch_unwind(AssertUnwindSafe(|| (self.run)(inputs.to_vec()))).map_err(|_| {
                self.ended.store(true, Ordering::SeqCst);
                EnclaveError::Runner(RunnerError::RunnerDied)
            })?;
            let find = |name: &String| outputs.iter().find(|t| t.name == *name).cloned();
            wanted.iter().map(|name| find(name).ok_or(EnclaveError::Runner(RunnerError::EngineFailed))).collect()
        }
    }
}
