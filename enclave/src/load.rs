//! Turns a sealed package and its key into an engine: the pre-flight reads every byte of the graph before ONNX Runtime can act on it.
//! It does not bound what an accepted model needs, and copies that ONNX Runtime makes are ONNX Runtime's.

use std::io;
use std::iter;
use std::num::NonZero;
use std::sync::Arc;

use vouchsafe_preflight::{ExternalFile, Limits, Report, Walker};
use vouchsafe_sealed::{FileEntry, ModelKey, Package, Role, SealedError};
use vouchsafe_system::SecretBuffer;
use zeroize::Zeroizing;

use crate::engine::{Engine, ExternalData, Graph, Runtime};
use crate::error::EnclaveError;
use crate::pipe::{self, Feed};
use crate::probe::Delivery;

/// Protobuf in C++ reads no larger message.
const MAX_GRAPH: u64 = i32::MAX as u64;
/// So many bytes at the end of the stream, and at least one, wait for the verdict. Without its last byte no model is whole.
const WITHHELD: usize = 4096;
/// More threads than these do not help: the disk is slower.
const MAX_THREADS: usize = 2;

/// Unseals the model's graph and external data into a session. Blocks. Key and plaintext end with this call, but for what the engine
/// keeps.
///
/// # Errors
/// `KEY_COMMITMENT`, `BLOB_*`, `UNSEAL_MEMORY`; `MODEL_*` of the pre-flight; `MODEL_UNSUPPORTED`; `SYSTEM`.
pub fn load(package: &Package, key: &ModelKey, runtime: &Runtime) -> Result<Engine, EnclaveError> {
    let manifest = package.manifest();
    let external: Vec<&FileEntry> = manifest.files.iter().filter(|file| file.role == Role::ExternalData).collect();
    let graph = manifest.graph()?.index;
    let length = package.true_len(key, graph)?;
    if length > MAX_GRAPH {
        return Err(EnclaveError::ModelUnsupported(
            "the graph is larger than 2 GiB: keep the weights as external data",
        ));
    }
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let threads = cores.min(MAX_THREADS);
    let sealed = |threads| Sealed { package, key, threads: NonZero::new(threads).unwrap_or(NonZero::<usize>::MIN) };
    match runtime.delivery() {
        Delivery::Pipe if external.is_empty() => pipe::through(
            // ONNX Runtime needs a core to itself meanwhile.
            |feed| sealed((cores - 1).min(threads)).feed(graph, length, feed),
            |name| Engine::load(runtime, Graph::Pipe(name), Vec::new(), threads),
        ),
        _ => {
            let sealed = sealed(threads);
            let (graph, report) = sealed.graph(graph, length, &external)?;
            // What no tensor refers to would be kept in memory for nobody.
            let used = |file: &&FileEntry| report.external.iter().any(|reference| reference.name == file.name);
            let external =
                external.into_iter().filter(used).map(|file| sealed.external(file)).collect::<Result<_, _>>()?;
            Engine::load(runtime, Graph::Bytes(graph.as_slice()), external, threads)
        }
    }
}

/// A package under its key.
struct Sealed<'a> {
    package: &'a Package,
    key: &'a ModelKey,
    threads: NonZero<usize>,
}

impl Sealed<'_> {
    /// Writes a graph into the pipe. Every piece is read by the pre-flight before it is written, and the last bytes stay here until
    /// every chunk was what the vendor signed and the pre-flight has accepted the whole.
    fn feed(&self, index: u32, length: u64, feed: &mut Feed) -> Result<(), EnclaveError> {
        let mut walker = Walker::new(limits(length), Vec::new());
        let mut held = Zeroizing::new(Vec::<u8>::with_capacity(WITHHELD));
        let mut refused = None;
        let mut sink = |piece: &[u8]| -> io::Result<()> {
            if let Err(refusal) = walker.feed(piece) {
                refused = Some(refusal);
                return Err(io::ErrorKind::InvalidData.into());
            }
            let (first, last) = piece.split_at(piece.len().saturating_sub(WITHHELD));
            feed.write(&held);
            feed.write(first);
            held.clear();
            held.extend_from_slice(last);
            Ok(())
        };
        let unsealed = self.package.unseal_ordered(self.key, index, self.threads, &mut sink);
        if let Some(refusal) = refused {
            return Err(refusal.into());
        }
        unsealed?;
        walker.finish()?;
        feed.write(&held);
        Ok(())
    }

    /// The graph in memory, read by the pre-flight. Its tensors may be in the named files.
    fn graph(&self, index: u32, length: u64, external: &[&FileEntry]) -> Result<(SecretBuffer, Report), EnclaveError> {
        let named = external.iter().map(|file| {
            let length = self.package.true_len(self.key, file.index)?;
            Ok(ExternalFile { name: file.name.clone(), length })
        });
        let mut walker = Walker::new(limits(length), named.collect::<Result<_, SealedError>>()?);
        let buffer = usize::try_from(length).ok().and_then(|length| SecretBuffer::new(length).ok());
        let mut buffer = buffer.ok_or(SealedError::UnsealMemory(length))?;
        self.package.unseal_into(self.key, index, self.threads, buffer.as_mut_slice())?;
        walker.feed(buffer.as_slice())?;
        let report = walker.finish()?;
        Ok((buffer, report))
    }

    /// A file of external data, decrypted where ONNX Runtime will read it: its binding takes no other memory than this.
    fn external(&self, file: &FileEntry) -> Result<ExternalData, EnclaveError> {
        let length = self.package.true_len(self.key, file.index)?;
        let bytes = reserve(length).ok_or(SealedError::UnsealMemory(length))?;
        let mut data = ExternalData { name: file.name.clone(), bytes };
        let place = Arc::get_mut(&mut data.bytes).ok_or(EnclaveError::System("unseal"))?;
        vouchsafe_system::leave_out_of_dumps(place);
        self.package.unseal_into(self.key, file.index, self.threads, place)?;
        Ok(data)
    }
}

/// No field may promise more than the sealed length leaves room for: what spoils a stream fills no more than that either.
fn limits(length: u64) -> Limits {
    Limits { model_bytes: length, ..Limits::default() }
}

/// Zeros, if there is memory for them.
fn reserve(length: u64) -> Option<Arc<[u8]>> {
    let length = usize::try_from(length).ok()?;
    // Memory for an Arc is had or the program ends: ask first, in a way that may be refused and touches no page.
    vouchsafe_system::has_room(length).then(|| iter::repeat_n(0, length).collect())
}

#[cfg(test)]
mod tests;
