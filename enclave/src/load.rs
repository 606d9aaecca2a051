//! Turns a sealed package and its key into an engine: the pre-flight reads every byte of the graph before a runner can act on it.
//! It does not bound what an accepted model needs: the runner's walls do.

use std::io;
use std::num::NonZero;

use vouchsafe_preflight::{ExternalFile, Limits, Report, Walker};
use vouchsafe_sealed::{FileEntry, ModelKey, Package, Role, SealedError};
use zeroize::Zeroizing;

use crate::engine::{Engine, Model, Runtime};
use crate::error::EnclaveError;

/// Protobuf in C++ reads no larger message.
const MAX_GRAPH: u64 = i32::MAX as u64;
/// So many bytes at the end of the stream, and at least one, wait for the verdict. Without its last byte no model is whole.
const WITHHELD: usize = 4096;
/// More threads than these do not help: the disk is slower.
const MAX_THREADS: usize = 2;

/// Unseals the model's graph and external data into a runner. Blocks. The key ends with this call, and no more of the plaintext is ever
/// here than the pieces under way.
///
/// # Errors
/// `KEY_COMMITMENT`, `BLOB_*`, `UNSEAL_MEMORY`; `MODEL_*` of the pre-flight; `MODEL_UNSUPPORTED`; `RUNNER_*`; `SYSTEM`.
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
    let sealed = Sealed { package, key, graph, length, external: lengths(package, key, &external)? };
    // What no tensor refers to would be kept in memory for nobody.
    let used = if external.is_empty() { Vec::new() } else { sealed.used(external)? };
    let model = Model { external: lengths(package, key, &used)?, graph_len: length };
    runtime.load(model, |feed| {
        for file in used {
            package.unseal_ordered(key, file.index, threads(), &mut |piece: &[u8]| {
                feed.write(piece);
                Ok(())
            })?;
        }
        sealed.pass(|piece| feed.write(piece))
    })
}

/// So many threads decrypt while the runner, which reads, needs a core to itself.
fn threads() -> NonZero<usize> {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    NonZero::new((cores - 1).min(MAX_THREADS)).unwrap_or(NonZero::<usize>::MIN)
}

fn lengths(package: &Package, key: &ModelKey, files: &[&FileEntry]) -> Result<Vec<(String, u64)>, SealedError> {
    files.iter().map(|file| Ok((file.name.clone(), package.true_len(key, file.index)?))).collect()
}

/// A graph under its key, and what its tensors may refer to.
struct Sealed<'a> {
    package: &'a Package,
    key: &'a ModelKey,
    graph: u32,
    length: u64,
    external: Vec<(String, u64)>,
}

impl Sealed<'_> {
    /// A walker that lets no field promise more than the sealed length leaves room for: what spoils a stream fills no more than that either.
    fn walker(&self) -> Walker {
        let limits = Limits { model_bytes: self.length, ..Limits::default() };
        let file = |(name, length): &(String, u64)| ExternalFile { name: name.clone(), length: *length };
        Walker::new(limits, self.external.iter().map(file).collect())
    }

    /// Reads the graph for the pre-flight alone; those of the files to which a tensor refers.
    fn used<'f>(&self, files: Vec<&'f FileEntry>) -> Result<Vec<&'f FileEntry>, EnclaveError> {
        let report = self.read(|_| ())?;
        let refers = |file: &&FileEntry| report.external.iter().any(|reference| reference.name == file.name);
        Ok(files.into_iter().filter(refers).collect())
    }

    /// Hands the graph on. The last bytes stay here until every chunk was what the vendor signed and the pre-flight has accepted the
    /// whole.
    fn pass(&self, mut to: impl FnMut(&[u8]) + Send) -> Result<(), EnclaveError> {
        let mut held = Zeroizing::new(Vec::<u8>::with_capacity(WITHHELD));
        self.read(|piece| {
            let (first, last) = piece.split_at(piece.len().saturating_sub(WITHHELD));
            to(&held);
            to(first);
            held.clear();
            held.extend_from_slice(last);
        })?;
        to(&held);
        Ok(())
    }

    /// Unseals the graph in order. Every piece is read by the pre-flight before it is handed on.
    fn read(&self, mut pass: impl FnMut(&[u8]) + Send) -> Result<Report, EnclaveError> {
        let mut walker = self.walker();
        let mut refused = None;
        let mut sink = |piece: &[u8]| -> io::Result<()> {
            if let Err(refusal) = walker.feed(piece) {
                refused = Some(refusal);
                return Err(io::ErrorKind::InvalidData.into());
            }
            pass(piece);
            Ok(())
        };
        let unsealed = self.package.unseal_ordered(self.key, self.graph, threads(), &mut sink);
        if let Some(refusal) = refused {
            return Err(refusal.into());
        }
        unsealed?;
        Ok(walker.finish()?)
    }
}

#[cfg(test)]
mod tests;
