//! Turns one call into one way of loading a model, in a process of its own, and prints its seconds and its memory: `cargo xtask bench sealed`.
//! It keeps no secret and proves nothing: key and signer are constants, and no evidence is asked for.
//!
//! `load seal GRAPH PACKAGE [DATA]`, `load session WAY LIBRARY PATH`; WAY is one of
//! `file` (PATH is a graph, which ONNX Runtime loads by itself),
//! `enclave` (PATH is a package, loaded by the enclave's own code into a runner), `buffer` (the same where no pipe is read).
//! Memory is that of all its processes; what they share is counted in each.

use std::{
    any::Any,
    error::Error,
    fmt::Display,
    fs,
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
use vouchsafe_attestation::{Ed25519Public, Mode, dsse};
use vouchsafe_enclave::{
    EnclaveError,
    config::Config,
    engine::Runtime,
    library::{Library, Source},
    load,
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

/// KiB in a line of the status of this process and of all that descend from it: the nursery and its runners.
fn status(field: &str) -> Outcome<u64> {
    let mut sum = number(&fs::read_to_string("/proc/self/status")?, field).ok_or("no such line")?;
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().filter(|name| name.parse::<u32>().is_ok()).map(str::to_owned) else {
            continue;
        };
        if descends(&pid) {
            sum += fs::read_to_string(format!("/proc/{pid}/status")).ok().and_then(|s| number(&s, field)).unwrap_or(0);
        }
    }
    Ok(sum)
}

fn number(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse().ok()
}

fn parent(pid: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name, which may hold anything, stand the state and the parent.
    text.rsplit_once(") ")?.1.split_whitespace().nth(1).map(str::to_owned)
}

fn descends(pid: &str) -> bool {
    let (mut at, own) = (pid.to_owned(), std::process::id().to_string());
    while let Some(parent) = parent(&at) {
        if parent == own {
            return true;
        }
        at = parent;
    }
    false
}

fn file(library: &Path, graph: &Path) -> Outcome<Loaded> {
    let environment = environment(library)?;
    measure("file", || {
        let mut builder = options(&environment).map_err(text)?;
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
    let runtime = Runtime::start(&library, &config()?)?;
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

/// What a runner may have is the configuration's to say; keys and brokers are nobody's.
fn config() -> Outcome<Config> {
    let (key, pin) = (|byte: u8| Ed25519Public([byte; 32]).to_string(), "ab".repeat(32));
    let inner = format!(
        "version = 1\nmanifest_keys = [\"{}\"]\nrelease_keys = [\"{}\"]\n[[brokers]]\naddress = \"127.0.0.1:1\"\n\
         spki_sha256 = [\"{pin}\"]\n[[models]]\nid = \"load\"\nmin_sequence = 1\nrelease = \"online\"\n",
        key(1),
        key(2),
    );
    let text = format!("version = \"0.1.0\"\nalgorithm = \"sha256\"\n[data]\n\"vouchsafe.toml\" = '''\n{inner}'''\n");
    Ok(Config::parse(text.as_bytes())?)
}

fn environment(library: &Path) -> Outcome<Environment> {
    let environment = ort::init_from(library).map_err(text)?.with_name("load").with_telemetry(false).build();
    Ok(environment.map_err(text)?)
}

/// The enclave's options.
fn options(environment: &Environment) -> ort::Result<SessionBuilder> {
    Ok(Session::builder(environment)?
        .with_intra_threads(THREADS)?
        .with_inter_threads(1)?
        .with_intra_op_spinning(false)?
        .with_inter_op_spinning(false)?)
}

fn text(error: impl Display) -> String {
    error.to_string()
}
