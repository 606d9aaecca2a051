//! Turns one call into one way of loading a model, in a process of its own, and prints its seconds and its memory: `cargo xtask bench sealed`.
//! It keeps no secret and proves nothing: key and signer are constants, and no evidence is asked for.
//!
//! `load seal GRAPH PACKAGE [DATA]`, `load session WAY LIBRARY PATH`; WAY is one of
//! `file` (PATH is a graph, which ONNX Runtime loads by itself),
//! `enclave` (PATH is a package, loaded by the enclave's own code), `buffer` (the same where no pipe is read) and
//! `lean` (through a pipe, without prepacking: no enclave does that yet).

use std::{
    any::Any,
    error::Error,
    fmt::Display,
    fs,
    num::NonZero,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use ort::{
    environment::Environment,
    session::{Session, builder::SessionBuilder},
};
use ring::signature::Ed25519KeyPair;
use serde_json::json;
use vouchsafe_attestation::{Mode, dsse};
use vouchsafe_enclave::{
    EnclaveError,
    engine::Runtime,
    library::{Library, Source},
    load, pipe,
};
use vouchsafe_sealed::{ModelKey, Package, Role, SealInput, SealOptions, SealSpec, seal_with};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// As many as the enclave takes.
const THREADS: usize = 2;
/// The kernel counts memory late.
const SETTLING: Duration = Duration::from_millis(300);
const USAGE: &str = "load seal GRAPH PACKAGE [DATA] | load session WAY LIBRARY PATH";

fn main() -> Outcome {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["seal", graph, package] => seal(graph, package, None),
        ["seal", graph, package, data] => seal(graph, package, Some(data)),
        ["session", way, library, path] => session(way, Path::new(library), Path::new(path)),
        _ => Err(USAGE.into()),
    }
}

fn signer() -> Outcome<Ed25519KeyPair> {
    Ok(Ed25519KeyPair::from_seed_unchecked(&[1; 32]).map_err(|_| "no signing key")?)
}

fn key() -> ModelKey {
    ModelKey::from_bytes([5; 32])
}

fn seal(graph: &str, package: &str, data: Option<&str>) -> Outcome {
    let input = |role, path: &str| -> Outcome<SealInput> {
        let path = PathBuf::from(path);
        let name = path.file_name().and_then(|name| name.to_str()).ok_or("a file without a name")?.to_owned();
        Ok(SealInput { name, role, path })
    };
    let mut inputs = vec![input(Role::Graph, graph)?];
    if let Some(data) = data {
        inputs.push(input(Role::ExternalData, data)?);
    }
    let spec = SealSpec {
        model_id: "load".into(),
        sequence: 1,
        mode: Mode::Simulation,
        inputs,
        usage_policy: b"{}".to_vec(),
        pad_to: 1,
        provenance: Vec::new(),
    };
    let mut deaf = |_, _| {};
    seal_with(&spec, &key(), [2; 32], &[&signer()?], Path::new(package), SealOptions::new(&mut deaf))?;
    Ok(())
}

/// What a way leaves behind: the session, which must live while memory is measured.
struct Loaded {
    session: Box<dyn Any>,
    seconds: f64,
    before: u64,
    delivery: &'static str,
}

fn session(way: &str, library: &Path, path: &Path) -> Outcome {
    let loaded = match way {
        "file" => file(library, path)?,
        "lean" => lean(library, path)?,
        "enclave" => enclave(library, path, true)?,
        "buffer" => enclave(library, path, false)?,
        _ => return Err(USAGE.into()),
    };
    if way != "file" {
        // The enclave does so after every load.
        vouchsafe_system::return_freed_memory();
    }
    thread::sleep(SETTLING);
    let (peak, settled) = (status("VmHWM:")?, status("VmRSS:")?);
    drop(loaded.session);
    let Loaded { seconds, before, delivery, .. } = loaded;
    println!(
        "{}",
        json!({ "way": way, "delivery": delivery, "seconds": seconds, "before_kib": before, "peak_kib": peak,
                "settled_kib": settled })
    );
    Ok(())
}

/// From a first look at the files to a session that could run; what was loaded before is not counted, neither time nor memory.
fn measure<T: Any>(delivery: &'static str, work: impl FnOnce() -> Outcome<T>) -> Outcome<Loaded> {
    // Peak memory is counted from here on.
    let _ = fs::write("/proc/self/clear_refs", "5");
    let before = status("VmRSS:")?;
    let begun = Instant::now();
    let session = Box::new(work()?);
    Ok(Loaded { session, seconds: begun.elapsed().as_secs_f64(), before, delivery })
}

/// KiB in a line of this process's status.
fn status(field: &str) -> Outcome<u64> {
    let text = fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)).ok_or("no such line")?;
    Ok(line.split_whitespace().next().ok_or("no number")?.parse()?)
}

fn file(library: &Path, graph: &Path) -> Outcome<Loaded> {
    let environment = environment(library)?;
    measure("file", || {
        let mut builder = options(&environment, true).map_err(text)?;
        Ok(builder.commit_from_file(graph).map_err(text)?)
    })
}

/// The enclave's own way, pre-flight included. Without the probe it takes the buffer, as on a library that reads no pipe.
fn enclave(library: &Path, package: &Path, probe: bool) -> Outcome<Loaded> {
    // As the enclave begins.
    if !vouchsafe_system::wipe_freed_memory() {
        return Err("the allocator does not wipe".into());
    }
    let library = Library::read(Source::Image(library.to_owned()))?;
    let runtime = Runtime::load(&library)?;
    let runtime = if probe { runtime.probed() } else { runtime };
    let delivery = runtime.delivery().as_str();
    let signer = dsse::public(&signer()?);
    let mut loaded = measure(delivery, || {
        // A thread that ends with the work, as in the enclave.
        let work = || -> Result<_, EnclaveError> {
            let package = Package::open(package, &[signer])?;
            load::load(&package, &key(), &runtime)
        };
        let engine = thread::scope(|scope| scope.spawn(work).join());
        Ok(engine.map_err(|_| "a panic")??)
    })?;
    // No pipe takes external data, whatever the probe says.
    if Package::open(package, &[signer])?.manifest().files.iter().any(|file| file.role == Role::ExternalData) {
        loaded.delivery = "memory";
    }
    Ok(loaded)
}

fn lean(library: &Path, package: &Path) -> Outcome<Loaded> {
    if !vouchsafe_system::wipe_freed_memory() {
        return Err("the allocator does not wipe".into());
    }
    let environment = environment(library)?;
    let signer = dsse::public(&signer()?);
    measure("pipe", || {
        let package = Package::open(package, &[signer])?;
        let (key, graph) = (key(), package.manifest().graph()?.index);
        let mut builder = options(&environment, false).map_err(text)?;
        let threads = NonZero::new(THREADS).unwrap_or(NonZero::<usize>::MIN);
        let session = pipe::through(
            |feed| {
                let mut sink = |piece: &[u8]| {
                    feed.write(piece);
                    Ok(())
                };
                package.unseal_ordered(&key, graph, threads, &mut sink)?;
                Ok(())
            },
            |name| builder.commit_from_file(name).map_err(|_| EnclaveError::ModelUnsupported("refused")),
        )?;
        Ok(session)
    })
}

fn environment(library: &Path) -> Outcome<Environment> {
    let environment = ort::init_from(library).map_err(text)?.with_name("load").with_telemetry(false).build();
    Ok(environment.map_err(text)?)
}

/// The enclave's options.
fn options(environment: &Environment, prepacking: bool) -> ort::Result<SessionBuilder> {
    Ok(Session::builder(environment)?
        .with_intra_threads(THREADS)?
        .with_inter_threads(1)?
        .with_intra_op_spinning(false)?
        .with_inter_op_spinning(false)?
        .with_prepacking(prepacking)?)
}

fn text(error: impl Display) -> String {
    error.to_string()
}
