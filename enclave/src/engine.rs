//! Turns a model's plaintext, from a pipe or in memory, into an ONNX Runtime session on its own thread, and tensors into tensors.
//! It does not contain ONNX Runtime: until the runner is a process of its own, a heap bug there is a bug here (SECURITY.md).

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use half::f16;
use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::session::builder::SessionBuilder;
use ort::session::{RunOptions, Session, SessionInputValue};
use ort::value::{DynValue, Outlet, TensorElementType, ValueType};
use tokio::sync::oneshot;

use crate::error::EnclaveError;
use crate::library::Library;
use crate::probe::{self, Delivery};
use crate::serve::tensor::{Data, Dtype, Tensor};

/// The one supported version of the library.
pub const ORT_VERSION: &str = "1.24.4";
/// So many requests wait for one model before the next is refused.
const QUEUE: usize = 64;

/// The loaded library. One per process.
#[derive(Clone)]
pub struct Runtime {
    environment: Environment,
    delivery: Delivery,
}

/// An input or output of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name in the graph.
    pub name: String,
    /// Its datatype.
    pub dtype: Dtype,
    /// Its dimensions, -1 where any size fits.
    pub shape: Vec<i64>,
}

/// What a model takes and gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Inputs, all of them needed.
    pub inputs: Vec<Port>,
    /// Outputs.
    pub outputs: Vec<Port>,
}

/// Where a graph comes from.
#[derive(Clone, Copy)]
pub enum Graph<'a> {
    /// The name of a pipe, which is opened and read once. Such a graph has no external data.
    Pipe(&'a Path),
    /// Memory, which is not needed any more once the engine is loaded.
    Bytes(&'a [u8]),
}

/// A file of the model besides the graph, in memory; wiped when the engine ends.
pub struct ExternalData {
    /// The name that the graph calls it by.
    pub name: String,
    /// Its plaintext.
    pub bytes: Arc<[u8]>,
}

impl Drop for ExternalData {
    fn drop(&mut self) {
        // Whoever was handed another handle, the session's options, is gone by now.
        if let Some(bytes) = Arc::get_mut(&mut self.bytes) {
            vouchsafe_system::wipe(bytes);
        }
    }
}

/// One model, ready to run. When the last handle is dropped, the thread ends and the session with it.
pub struct Engine {
    jobs: mpsc::SyncSender<Job>,
    thread: JoinHandle<()>,
    ports: Ports,
    options: fn() -> ort::Result<Option<RunOptions>>,
}

/// Lets the asking side end a run; nothing in an engine without ONNX Runtime.
type Stop = Arc<Option<RunOptions>>;

struct Job {
    inputs: Vec<Tensor>,
    outputs: Vec<String>,
    options: Stop,
    reply: oneshot::Sender<Result<Vec<Tensor>, EnclaveError>>,
}

impl Runtime {
    /// Loads the very library that was read.
    ///
    /// # Errors
    /// `ORT_LOAD`.
    pub fn load(library: &Library) -> Result<Self, EnclaveError> {
        // What ONNX Runtime has to say may quote tensors and names: nothing of it leaves.
        let environment = ort::init_from(library.path())
            .map_err(|_| EnclaveError::OrtLoad)?
            .with_name("vouchsafe")
            .with_telemetry(false)
            .with_logger(Arc::new(|_, _, _, _, _| {}))
            .build()
            .map_err(|_| EnclaveError::OrtLoad)?;
        environment.set_log_level(LogLevel::Fatal);
        Ok(Self { environment, delivery: Delivery::Buffer })
    }

    /// Finds out whether this library, in this process as it is fenced now, reads models through a pipe. It does not until then.
    #[must_use]
    pub fn probed(mut self) -> Self {
        self.delivery = probe::delivery(&self);
        self
    }

    /// How it gets a graph that has no external data.
    #[must_use]
    pub const fn delivery(&self) -> Delivery {
        self.delivery
    }

    /// The same library, whatever a probe would say.
    #[cfg(test)]
    pub(crate) fn delivering(&self, delivery: Delivery) -> Self {
        Self { environment: self.environment.clone(), delivery }
    }
}

impl Engine {
    /// Loads a graph. Blocks. It reads no rule of ours: the pre-flight is its caller's, see [`crate::load`].
    ///
    /// # Errors
    /// `MODEL_UNSUPPORTED`, `SYSTEM`.
    pub fn load(
        runtime: &Runtime,
        graph: Graph<'_>,
        external: Vec<ExternalData>,
        threads: usize,
    ) -> Result<Self, EnclaveError> {
        let mut builder = options(runtime, threads).map_err(|_| EnclaveError::System("ONNX Runtime's options"))?;
        for file in &external {
            builder = builder
                .with_external_initializer_file_in_memory(&file.name, file.bytes.clone())
                .map_err(|_| EnclaveError::ModelUnsupported("ONNX Runtime refuses the external data"))?;
        }
        let session = match graph {
            Graph::Pipe(name) => builder.commit_from_file(name),
            Graph::Bytes(bytes) => builder.commit_from_memory(bytes),
        };
        let session = session.map_err(|_| EnclaveError::ModelUnsupported("ONNX Runtime refuses the graph"))?;
        drop(builder);
        let ports = Ports { inputs: ports(session.inputs())?, outputs: ports(session.outputs())? };
        let mut loaded = Loaded { session, _external: external };
        let run = move |inputs, outputs: &[String], options: &Stop| loaded.run(inputs, outputs, options);
        Self::start(ports, || RunOptions::new().map(Some), run)
    }

    /// Runs `run` for every request, in turn, on a thread of its own.
    fn start(
        ports: Ports,
        options: fn() -> ort::Result<Option<RunOptions>>,
        mut run: impl FnMut(Vec<Tensor>, &[String], &Stop) -> Result<Vec<Tensor>, EnclaveError> + Send + 'static,
    ) -> Result<Self, EnclaveError> {
        let (jobs, queue) = mpsc::sync_channel::<Job>(QUEUE);
        let serve = move || {
            while let Ok(job) = queue.recv() {
                if !job.reply.is_closed() {
                    let result = run(job.inputs, &job.outputs, &job.options);
                    // Whoever asked may have gone away meanwhile.
                    let _ = job.reply.send(result);
                }
            }
            // The session ends on its own thread, and what it frees goes back to the kernel.
            drop(run);
            vouchsafe_system::return_freed_memory();
        };
        let thread = std::thread::Builder::new().name("inference".into()).spawn(serve);
        let thread = thread.map_err(|_| EnclaveError::System("start a thread"))?;
        Ok(Self { jobs, thread, ports, options })
    }

    /// An engine without ONNX Runtime, for tests of what stands around it.
    #[cfg(test)]
    pub(crate) fn of_function(ports: Ports, run: fn(Vec<Tensor>) -> Vec<Tensor>) -> Self {
        Self::start(
            ports,
            || Ok(None),
            move |inputs, wanted, _| {
                let outputs = run(inputs);
                let find = |name: &String| outputs.iter().find(|t| t.name == *name).cloned();
                wanted.iter().map(|name| find(name).ok_or(EnclaveError::EngineFailed)).collect()
            },
        )
        .unwrap()
    }

    /// Whether its thread runs: a panic in a run ends it.
    #[must_use]
    pub fn is_running(&self) -> bool {
        !self.thread.is_finished()
    }

    /// What the model takes and gives.
    #[must_use]
    pub fn ports(&self) -> &Ports {
        &self.ports
    }

    /// Runs the model. A caller that goes away stops the run.
    ///
    /// # Errors
    /// `BUSY`, `ENGINE_FAILED`.
    pub async fn run(&self, inputs: Vec<Tensor>, outputs: Vec<String>) -> Result<Vec<Tensor>, EnclaveError> {
        let options: Stop = Arc::new((self.options)().map_err(|_| EnclaveError::EngineFailed)?);
        let (reply, answer) = oneshot::channel();
        let stop = StopOnDrop(options.clone());
        self.jobs.try_send(Job { inputs, outputs, options, reply }).map_err(|error| match error {
            mpsc::TrySendError::Full(_) => EnclaveError::Busy,
            mpsc::TrySendError::Disconnected(_) => EnclaveError::EngineFailed,
        })?;
        let result = answer.await.map_err(|_| EnclaveError::EngineFailed)?;
        drop(stop);
        result
    }
}

struct StopOnDrop(Stop);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        if let Some(options) = &*self.0 {
            // Harmless after the run; during it, it makes the run return.
            let _ = options.terminate();
        }
    }
}

fn options(runtime: &Runtime, threads: usize) -> ort::Result<SessionBuilder> {
    Ok(Session::builder(&runtime.environment)?
        .with_log_level(LogLevel::Fatal)?
        .with_intra_threads(threads)?
        .with_inter_threads(1)?
        .with_intra_op_spinning(false)?
        .with_inter_op_spinning(false)?)
}

/// A session and the files behind it, dropped in this order: the session may read them as long as it lives.
struct Loaded {
    session: Session,
    _external: Vec<ExternalData>,
}

impl Loaded {
    fn run(&mut self, inputs: Vec<Tensor>, wanted: &[String], stop: &Stop) -> Result<Vec<Tensor>, EnclaveError> {
        let failed = |_| EnclaveError::EngineFailed;
        let Some(options) = &**stop else { return Err(EnclaveError::EngineFailed) };
        let mut values: Vec<(String, SessionInputValue<'_>)> = Vec::with_capacity(inputs.len());
        for tensor in inputs {
            values.push((tensor.name, to_ort(tensor.shape, tensor.data).map_err(failed)?.into()));
        }
        let outputs = self.session.run_with_options(values, options).map_err(failed)?;
        let tensor = |name: &String| from_ort(name, outputs.get(name).ok_or(EnclaveError::EngineFailed)?);
        wanted.iter().map(tensor).collect()
    }
}

macro_rules! conversions {
    ($(($variant:ident, $t:ty, $word:literal, $ort:ident)),+) => {
        fn to_ort(shape: Vec<usize>, data: Data) -> ort::Result<DynValue> {
            Ok(match data {
                $(Data::$variant(list) => ort::value::Tensor::<$t>::from_array((shape, list))?.into_dyn()),+
            })
        }

        fn from_ort(name: &str, value: &DynValue) -> Result<Tensor, EnclaveError> {
            let ValueType::Tensor { ty, .. } = value.dtype() else { return Err(EnclaveError::EngineFailed) };
            match ty {
                $(TensorElementType::$ort => {
                    let (shape, list) = value.try_extract_tensor::<$t>().map_err(|_| EnclaveError::EngineFailed)?;
                    let shape: Result<Vec<usize>, _> = shape.iter().map(|d| usize::try_from(*d)).collect();
                    Ok(Tensor {
                        name: name.to_owned(),
                        shape: shape.map_err(|_| EnclaveError::EngineFailed)?,
                        data: Data::$variant(list.to_vec()),
                    })
                })+
                _ => Err(EnclaveError::EngineFailed),
            }
        }

        fn dtype_of(ty: TensorElementType) -> Option<Dtype> {
            match ty { $(TensorElementType::$ort => Some(Dtype::$variant),)+ _ => None }
        }
    };
}
crate::with_datatypes!(conversions);

fn ports(outlets: &[Outlet]) -> Result<Vec<Port>, EnclaveError> {
    let port = |outlet: &Outlet| {
        let ValueType::Tensor { ty, shape, .. } = outlet.dtype() else {
            return Err(EnclaveError::ModelUnsupported("an input or output is no tensor (export without ZipMap)"));
        };
        let dtype =
            dtype_of(*ty).ok_or(EnclaveError::ModelUnsupported("an input or output has an unsupported datatype"))?;
        Ok(Port { name: outlet.name().to_owned(), dtype, shape: shape.to_vec() })
    };
    outlets.iter().map(port).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::library::tests::sealed;
    use std::sync::OnceLock;

    /// `field` of a protobuf message, as bytes.
    pub(crate) fn bytes(field: u8, body: &[u8]) -> Vec<u8> {
        let mut out = vec![field << 3 | 2];
        let mut length = body.len();
        while length >= 128 {
            out.push((length & 127) as u8 | 128);
            length >>= 7;
        }
        out.push(length as u8);
        out.extend_from_slice(body);
        out
    }

    pub(crate) fn number(field: u8, value: u8) -> Vec<u8> {
        vec![field << 3, value]
    }

    /// `name: float[N, 2]`
    fn value(name: &str) -> Vec<u8> {
        let shape = [bytes(1, &bytes(2, b"N")), bytes(1, &number(1, 2))].concat();
        let tensor = [number(1, 1), bytes(2, &shape)].concat();
        [bytes(1, name.as_bytes()), bytes(2, &bytes(1, &tensor))].concat()
    }

    /// y = x + w, with w = [10, 20] in the graph, or in the file `w.bin`.
    pub(crate) fn graph(external: bool) -> Vec<u8> {
        let node = [bytes(1, b"x"), bytes(1, b"w"), bytes(2, b"y"), bytes(4, b"Add")].concat();
        let entry = |k: &str, v: &str| bytes(13, &[bytes(1, k.as_bytes()), bytes(2, v.as_bytes())].concat());
        let data = if external { [entry("location", "w.bin"), number(14, 1)].concat() } else { bytes(9, &weights()) };
        let tensor = [number(1, 2), number(2, 1), bytes(8, b"w"), data].concat();
        let graph =
            [bytes(1, &node), bytes(2, b"g"), bytes(5, &tensor), bytes(11, &value("x")), bytes(12, &value("y"))]
                .concat();
        [number(1, 8), bytes(7, &graph), bytes(8, &number(2, 13))].concat()
    }

    pub(crate) fn weights() -> Vec<u8> {
        [10_f32, 20.0].iter().flat_map(|x| x.to_le_bytes()).collect()
    }

    pub(crate) fn x(rows: usize) -> Tensor {
        let data = (0..rows * 2).map(|n| n as f32).collect();
        Tensor { name: "x".into(), shape: vec![rows, 2], data: Data::F32(data) }
    }

    /// ONNX Runtime, which a process has once: every test that runs a model shares it. Nothing where there is no library.
    pub(crate) fn runtime(test: &str) -> Option<&'static Runtime> {
        static RUNTIME: OnceLock<Option<Runtime>> = OnceLock::new();
        let load = || {
            let library =
                std::env::var_os("VOUCHSAFE_BIN_DIR").map(|d| std::path::PathBuf::from(d).join("libonnxruntime.so"));
            let library = library.filter(|l| l.exists())?;
            let library = Library::read(sealed(&std::fs::read(library).unwrap())).ok().unwrap();
            let runtime = Runtime::load(&library).ok().unwrap();
            // Loaded by the name of its descriptor.
            std::mem::forget(library);
            Some(runtime)
        };
        let runtime = RUNTIME.get_or_init(load).as_ref();
        if runtime.is_none() {
            println!("NOT RUN: {test}: no libonnxruntime.so in VOUCHSAFE_BIN_DIR");
        }
        runtime
    }

    #[tokio::test]
    async fn models_run_from_memory() {
        let Some(runtime) = runtime("models_run_from_memory") else { return };
        let inside = Engine::load(runtime, Graph::Bytes(&graph(false)), vec![], 1).unwrap();
        let port = |name: &str| Port { name: name.into(), dtype: Dtype::F32, shape: vec![-1, 2] };
        assert_eq!(*inside.ports(), Ports { inputs: vec![port("x")], outputs: vec![port("y")] });
        let expected =
            vec![Tensor { name: "y".into(), shape: vec![2, 2], data: Data::F32(vec![10.0, 21.0, 12.0, 23.0]) }];
        assert_eq!(inside.run(vec![x(2)], vec!["y".into()]).await.unwrap(), expected);
        assert_eq!(inside.run(vec![x(0)], vec!["y".into()]).await.unwrap()[0].shape, [0, 2]);

        let file = ExternalData { name: "w.bin".into(), bytes: weights().into() };
        let outside = Engine::load(runtime, Graph::Bytes(&graph(true)), vec![file], 2).unwrap();
        assert_eq!(outside.run(vec![x(2)], vec!["y".into()]).await.unwrap(), expected);
        assert_eq!(outside.run(vec![], vec!["y".into()]).await, Err(EnclaveError::EngineFailed));
        assert_eq!(
            outside.run(vec![x(2)], vec!["y".into()]).await.unwrap(),
            expected,
            "a failed run harms no later one"
        );

        for bad in [&b"no protobuf"[..], &graph(true), &graph(false)[..60], b""] {
            let error = Engine::load(runtime, Graph::Bytes(bad), vec![], 1).err().unwrap();
            assert_eq!(error.code(), "MODEL_UNSUPPORTED");
        }
    }
}
