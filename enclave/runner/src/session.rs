//! Turns a model's plaintext, from a pipe or in memory, into an ONNX Runtime session, and borrowed tensors into borrowed tensors.
//! It does not contain ONNX Runtime: the walls around the process do. It reads no rule of ours either: the pre-flight is the gate's.
//!
//! A session runs one request at a time. ONNX Runtime's own interface allows concurrent `Run` calls on one session; its Rust binding does
//! not (`Session::run` takes `&mut self`), because parts of ONNX Runtime behind `Run` were found not to be safe for that, and a race there
//! would show up as memory corruption. One run at a time costs no throughput on the machines this is for: within an operator a run uses
//! as many threads as the session was given (the calling thread and a pool of the others), so that one run already keeps the cores busy,
//! and with one thread there is nothing to overlap but the copying of tensors, which the gate does into the next slot meanwhile. Waiting
//! threads do not spin: a core that spins is taken from the gate.

use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::session::builder::SessionBuilder;
use ort::session::{RunOptions, Session, SessionInputValue};
use ort::value::{Outlet, TensorElementType, ValueType};
use vouchsafe_oip::{Dtype, Port, Ports};

use crate::error::RunnerError;
use crate::message::ports::are_ports;
use crate::message::{Failure, Refusal};

#[cfg(test)]
pub(crate) mod tests;
mod value;

/// The library's environment, of which ONNX Runtime has one per process.
static ENVIRONMENT: OnceLock<Environment> = OnceLock::new();

/// Loads ONNX Runtime from this path, and makes its environment. Starts no thread, so that a process may be forked afterwards; what
/// ONNX Runtime asks of the machine (processor, number of cores) it asks here, where nothing is walled off yet.
///
/// # Errors
/// `ORT_LOAD`.
pub fn open_library(path: &Path) -> Result<(), RunnerError> {
    static ONCE: Mutex<()> = Mutex::new(());
    let _once = ONCE.lock().unwrap_or_else(PoisonError::into_inner);
    if ENVIRONMENT.get().is_some() {
        return Ok(());
    }
    // What ONNX Runtime has to say may quote tensors and names: nothing of it leaves.
    let environment = ort::init_from(path)
        .map_err(|_| RunnerError::OrtLoad)?
        .with_name("vouchsafe")
        .with_telemetry(false)
        .with_logger(Arc::new(|_, _, _, _, _| {}))
        .build()
        .map_err(|_| RunnerError::OrtLoad)?;
    environment.set_log_level(LogLevel::Fatal);
    ENVIRONMENT.get_or_init(|| environment);
    Ok(())
}

/// Where a graph comes from.
#[derive(Clone, Copy)]
pub enum Graph<'a> {
    /// The name of a pipe, which is opened and read once.
    Pipe(&'a Path),
    /// Memory, which is not needed any more once the model is loaded.
    Bytes(&'a [u8]),
}

/// A file of the model besides the graph, in memory: ONNX Runtime reads it as long as the session lives.
pub struct ExternalData {
    /// The name that the graph calls it by.
    pub name: String,
    /// Its plaintext.
    pub bytes: Arc<[u8]>,
}

/// A model, ready to run.
pub struct Model {
    // Dropped in this order: the session may read the files as long as it lives.
    session: Session,
    _external: Vec<ExternalData>,
    ports: Ports,
    options: Arc<RunOptions>,
}

/// An input as it lies in memory.
pub struct Given<'a> {
    /// The number of its port.
    pub port: usize,
    /// Its dimensions.
    pub shape: &'a [usize],
    /// Its elements, little-endian, or framed strings.
    pub bytes: &'a [u8],
}

/// Takes an output: its dimensions and its bytes. `false` when there is no room for it.
pub type Take<'a> = dyn FnMut(&[usize], &[u8]) -> bool + 'a;

impl Model {
    /// Loads a graph. Blocks.
    ///
    /// # Errors
    /// Why it cannot be served.
    pub fn load(graph: Graph<'_>, external: Vec<ExternalData>, threads: usize) -> Result<Self, Refusal> {
        let environment = ENVIRONMENT.get().ok_or(Refusal::System)?;
        let mut builder = options(environment, threads).map_err(|_| Refusal::System)?;
        for file in &external {
            builder = builder
                .with_external_initializer_file_in_memory(&file.name, file.bytes.clone())
                .map_err(|_| Refusal::External)?;
        }
        let session = match graph {
            Graph::Pipe(name) => builder.commit_from_file(name),
            Graph::Bytes(bytes) => builder.commit_from_memory(bytes),
        };
        let session = session.map_err(|_| Refusal::Graph)?;
        drop(builder);
        let ports = Ports { inputs: ports(session.inputs())?, outputs: ports(session.outputs())? };
        if !are_ports(&ports) {
            return Err(Refusal::Ports);
        }
        let options = Arc::new(RunOptions::new().map_err(|_| Refusal::System)?);
        Ok(Self { session, _external: external, ports, options })
    }

    /// What it takes and gives.
    pub const fn ports(&self) -> &Ports {
        &self.ports
    }

    /// With these, another thread stops a run. Whoever does has to undo it (`unterminate`) before the next run.
    pub fn options(&self) -> Arc<RunOptions> {
        self.options.clone()
    }

    /// Runs the model on borrowed inputs and hands every wanted output to `take`, in their order.
    ///
    /// # Errors
    /// [`Failure::Engine`], or [`Failure::TooLarge`] when `take` has no room. `take` may have been called all the same.
    pub fn run(&mut self, inputs: &[Given<'_>], wanted: &[usize], take: &mut Take<'_>) -> Result<(), Failure> {
        let failed = |_| Failure::Engine;
        let mut values = Vec::with_capacity(inputs.len());
        for given in inputs {
            let port = self.ports.inputs.get(given.port).ok_or(Failure::Engine)?;
            let value: SessionInputValue<'_> = value::borrow(port.dtype, given.shape, given.bytes)?;
            values.push((port.name.as_str(), value));
        }
        let outputs = self.session.run_with_options(values, &*self.options).map_err(failed)?;
        for number in wanted {
            let port = self.ports.outputs.get(*number).ok_or(Failure::Engine)?;
            let output = outputs.get(&port.name).ok_or(Failure::Engine)?;
            value::view(port, output, take)?;
        }
        Ok(())
    }
}

fn options(environment: &Environment, threads: usize) -> ort::Result<SessionBuilder> {
    Ok(Session::builder(environment)?
        .with_log_level(LogLevel::Fatal)?
        .with_intra_threads(threads)?
        .with_inter_threads(1)?
        .with_intra_op_spinning(false)?
        .with_inter_op_spinning(false)?)
}

fn ports(outlets: &[Outlet]) -> Result<Vec<Port>, Refusal> {
    let port = |outlet: &Outlet| {
        let ValueType::Tensor { ty, shape, .. } = outlet.dtype() else { return Err(Refusal::NoTensor) };
        let dtype = dtype_of(*ty).ok_or(Refusal::Datatype)?;
        Ok(Port { name: outlet.name().to_owned(), dtype, shape: shape.to_vec() })
    };
    outlets.iter().map(port).collect()
}

const fn dtype_of(ty: TensorElementType) -> Option<Dtype> {
    Some(match ty {
        TensorElementType::Bool => Dtype::Bool,
        TensorElementType::Uint8 => Dtype::U8,
        TensorElementType::Uint16 => Dtype::U16,
        TensorElementType::Uint32 => Dtype::U32,
        TensorElementType::Uint64 => Dtype::U64,
        TensorElementType::Int8 => Dtype::I8,
        TensorElementType::Int16 => Dtype::I16,
        TensorElementType::Int32 => Dtype::I32,
        TensorElementType::Int64 => Dtype::I64,
        TensorElementType::Float16 => Dtype::F16,
        TensorElementType::Bfloat16 => Dtype::Bf16,
        TensorElementType::Float32 => Dtype::F32,
        TensorElementType::Float64 => Dtype::F64,
        TensorElementType::String => Dtype::Bytes,
        _ => return None,
    })
}
