//! Turns one large file into a table: our sealed package beside age, rage, gpg, openssl and Python, and models loaded from it.
//! It is no test: ratios of one run on one machine, with the seconds that they come from.

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use crate::bench;
use crate::bench_load;
use crate::bench_peers::{self, Contender};
use crate::bench_table::{Target, Times, Verdicts};
use crate::error::ChoreError;
use crate::workspace::{Workspace, ended_well, make_dir};

const PACKAGE: &str = "vouchsafe-sealed";
const CHUNK: usize = 1 << 20;
/// The model, what each contender makes of it, and what is being made: so many times its size must fit into memory.
const SIZES_IN_MEMORY: u64 = 12;
/// A folder of this benchmark in a place for temporary files, before the process's number.
const PREFIX: &str = "vouchsafe-bench-";
/// How the table calls ours.
const OURS: &str = "vouchsafe, 2 threads";

/// `cargo xtask bench sealed [--mib N] [--rounds N] [--load-mib N,N] [--only PART] [--dir DIR] [--strict]`; status 10 when a peer is
/// missing or, with `--strict`, a target is missed.
pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<u8, ChoreError> {
    let arguments = Arguments::parse(args)?;
    let bytes = arguments.mib << 20;
    let scratch = Scratch::make(workspace, arguments.dir.as_deref(), bytes)?;
    println!(
        "sealed models: {} MiB, {} rounds, all contenders in turn in each; files under {}",
        arguments.mib,
        arguments.rounds,
        scratch.0.display()
    );
    let (mut verdicts, mut missing) = (Verdicts::default(), Vec::new());
    let of = |part: Part| arguments.only.is_none_or(|only| only == part);
    if of(Part::Steps) {
        steps(workspace, &arguments, &scratch.0, &mut verdicts)?;
    }
    if of(Part::Whole) {
        missing = whole(workspace, &arguments, &scratch.0, &mut verdicts)?;
    }
    if of(Part::Load) {
        bench_load::run(workspace, &arguments.load_mib, arguments.rounds, &scratch.0, &mut verdicts)?;
    }
    drop(scratch);
    if verdicts.missed > 0 {
        println!("\n{} targets missed", verdicts.missed);
    }
    if !missing.is_empty() || verdicts.absent > 0 {
        return Err(ChoreError::BenchIncomplete { missing, ratios: verdicts.absent });
    }
    Ok(if arguments.strict && verdicts.missed > 0 { 10 } else { 0 })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Steps,
    Whole,
    Load,
}

#[derive(Debug, PartialEq, Eq)]
struct Arguments {
    mib: u64,
    rounds: usize,
    load_mib: Vec<u64>,
    only: Option<Part>,
    dir: Option<PathBuf>,
    strict: bool,
}

impl Arguments {
    fn parse(args: &[String]) -> Result<Self, ChoreError> {
        let mut out = Self { mib: 1024, rounds: 7, load_mib: vec![96, 976], only: None, dir: None, strict: false };
        let mut words = args.iter();
        while let Some(word) = words.next() {
            if word == "--strict" {
                out.strict = true;
                continue;
            }
            let wrong = || ChoreError::Usage(format!("`bench sealed` cannot take `{word}` as it is used"));
            let value = words.next().ok_or_else(wrong)?;
            let number = |text: &str| text.parse::<u64>().ok().filter(|n| (1..=1 << 20).contains(n)).ok_or_else(wrong);
            match word.as_str() {
                "--mib" => out.mib = number(value)?.max(2),
                "--rounds" => out.rounds = usize::try_from(number(value)?).map_err(|_| wrong())?,
                "--load-mib" => out.load_mib = value.split(',').map(number).collect::<Result<_, _>>()?,
                "--dir" => out.dir = Some(PathBuf::from(value)),
                "--only" => {
                    out.only = Some(match value.as_str() {
                        "steps" => Part::Steps,
                        "whole" => Part::Whole,
                        "load" => Part::Load,
                        _ => return Err(wrong()),
                    });
                }
                _ => return Err(wrong()),
            }
        }
        Ok(out)
    }
}

/// A folder that is removed when it is dropped; a run that was killed leaves it to the next one.
struct Scratch(PathBuf);

impl Scratch {
    /// In memory if everything fits there, else under target.
    fn make(workspace: &Workspace, dir: Option<&Path>, bytes: u64) -> Result<Self, ChoreError> {
        let memory = Path::new("/dev/shm");
        let fits = memory.is_dir() && available_memory() >= bytes * SIZES_IN_MEMORY;
        let parent = match dir {
            Some(dir) => dir.to_owned(),
            None if fits => memory.to_owned(),
            None => workspace.target().join("bench"),
        };
        make_dir(&parent)?;
        for entry in fs::read_dir(&parent).map_err(ChoreError::file(&parent))?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let pid = name.strip_prefix(PREFIX).and_then(|pid| pid.parse::<u32>().ok());
            if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let own = parent.join(format!("{PREFIX}{}", std::process::id()));
        make_dir(&own)?;
        Ok(Self(own))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Bytes that programs may still take; 0 where the kernel does not say.
fn available_memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) << 10
}

/// Every step alone and all of them together, in one process whose buffers are touched before; then the disk, past the page cache.
fn steps(workspace: &Workspace, arguments: &Arguments, dir: &Path, verdicts: &mut Verdicts) -> Result<(), ChoreError> {
    let speed = bench::example(workspace, PACKAGE, "speed")?;
    let bytes = arguments.mib << 20;
    let measure = |dir: &Path, more: &[&str]| -> Result<Times, ChoreError> {
        let output = Command::new(&speed)
            .arg(dir)
            .args(["--json", "--mib", &arguments.mib.to_string(), "--rounds", &arguments.rounds.to_string()])
            .args(more)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .map_err(|source| ChoreError::Start { program: "the benchmark", source })?;
        let times = ended_well(output.status)?.then(|| Times::of_json(&String::from_utf8_lossy(&output.stdout)));
        times.flatten().ok_or(ChoreError::BenchProgram("the benchmark of single steps"))
    };
    let cached = measure(dir, &[])?;
    cached.print("Steps, in one process, page cache and buffers primed", bytes);
    let disk = workspace.target().join("bench");
    make_dir(&disk)?;
    let direct = measure(&disk, &["--only-direct"])?;
    direct.print("Cold file, O_DIRECT", bytes);
    println!();
    let alone = ["read, page cache", "BLAKE3, chunks of 1 MiB", "ring open, chunks of 1 MiB"];
    let composite = alone.iter().map(|what| cached.median(what)).sum::<Option<f64>>();
    let (one, two) = (cached.median("unseal_into, 1 thread"), cached.median("unseal_into, 2 threads"));
    verdicts.ratio("open on 1 thread, to the composite of its steps", composite, one, "s", Target::AtLeast(0.9));
    verdicts.ratio("open on 2 threads, to 1 thread", one, two, "s", Target::AtLeast(1.7));
    let sealing = (cached.median("seal, 1 thread"), cached.median("seal, 2 threads"));
    verdicts.ratio("seal on 2 threads, to 1 thread", sealing.0, sealing.1, "s", Target::None);
    let (raw, all) = (direct.median("raw disk, O_DIRECT, 1 thread"), direct.median("unseal_into direct, 2 threads"));
    verdicts.ratio("open with O_DIRECT, to the raw disk", raw, all, "s", Target::AtLeast(0.85));
    Ok(())
}

/// Every contender as a process of its own; returns the names of those that are not here.
fn whole(
    workspace: &Workspace,
    arguments: &Arguments,
    dir: &Path,
    verdicts: &mut Verdicts,
) -> Result<Vec<&'static str>, ChoreError> {
    let program = bench::example(workspace, PACKAGE, "whole")?;
    let (model, bytes) = (dir.join("model.onnx"), arguments.mib << 20);
    write_model(&model, arguments.mib)?;
    let (peers, agent) = bench_peers::find(workspace, &model, dir)?;
    let ours = ours(&program, &model, dir.join("package"));
    let contenders: Vec<&Contender> = std::iter::once(&ours).chain(&peers.contenders).collect();
    println!("\nWhole processes. Ours writes and compares a BLAKE3 digest of every MiB besides. Peers:");
    for peer in &peers.contenders {
        println!("  {:<34} {}", peer.name, peer.version);
    }
    for name in &peers.missing {
        println!("  {name:<34} MISSING");
    }
    let (mut opened, mut sealed) = (Times::default(), Times::default());
    // Round 0 has no clock: it leaves behind what is opened, in memory that the host has handed out.
    for round in 0..=arguments.rounds {
        for contender in &contenders {
            contender.forget()?;
            prime(bytes);
            let seconds = timed(contender, &contender.seal)?;
            if round > 0 {
                sealed.add(contender.name, seconds);
            }
        }
        for contender in &contenders {
            prime(bytes);
            let seconds = timed(contender, &contender.open)?;
            if round > 0 {
                opened.add(contender.name, seconds);
            }
        }
    }
    drop(agent);
    opened.print("Whole process: open", bytes);
    sealed.print("Whole process: seal", bytes);
    println!();
    let target = |target: Option<f64>| target.map_or(Target::None, Target::AtLeast);
    let seconds = (opened.median(OURS), sealed.median(OURS));
    for peer in &peers.contenders {
        let what = format!("open: {}, to ours", peer.name);
        verdicts.ratio(&what, opened.median(peer.name), seconds.0, "s", target(peer.open_target));
    }
    for peer in &peers.contenders {
        let what = format!("seal: {}, to ours", peer.name);
        verdicts.ratio(&what, sealed.median(peer.name), seconds.1, "s", target(peer.seal_target));
    }
    for contender in contenders {
        contender.forget()?;
    }
    fs::remove_file(&model).map_err(ChoreError::file(&model))?;
    Ok(peers.missing)
}

fn ours(program: &Path, model: &Path, package: PathBuf) -> Contender {
    let line = |words: &[&Path]| std::iter::once(program).chain(words.iter().copied()).map(OsString::from).collect();
    Contender {
        name: OURS,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        seal: line(&[Path::new("seal"), model, &package]),
        open: line(&[Path::new("open"), &package]),
        sealed: package,
        open_target: None,
        seal_target: None,
    }
}

/// Seconds from its start to its end. What it prints is the plaintext of some, and goes nowhere.
fn timed(contender: &Contender, line: &[OsString]) -> Result<f64, ChoreError> {
    let (program, arguments) = line.split_first().ok_or(ChoreError::BenchProgram(contender.name))?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
    let begun = Instant::now();
    let status = command.status().map_err(|source| ChoreError::Start { program: contender.name, source })?;
    let seconds = begun.elapsed().as_secs_f64();
    if ended_well(status)? { Ok(seconds) } else { Err(ChoreError::BenchProgram(contender.name)) }
}

/// Touches as much memory as a contender will: on a virtual machine the first touch of what the host took back costs seconds, and would
/// be charged to whoever comes next.
fn prime(bytes: u64) {
    let len = usize::try_from(bytes + (64 << 20)).unwrap_or(0);
    std::hint::black_box(vec![1_u8; len]);
}

/// Bytes that nothing compresses, the same in every run: AES-256-GCM of zeros.
fn write_model(path: &Path, mib: u64) -> Result<(), ChoreError> {
    let key = UnboundKey::new(&AES_256_GCM, &[5; 32]).map_err(|_| ChoreError::BenchProgram("the maker of models"))?;
    let key = LessSafeKey::new(key);
    let mut file = fs::File::create(path).map_err(ChoreError::file(path))?;
    for n in 0..mib {
        let mut chunk = vec![0_u8; CHUNK];
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&n.to_be_bytes());
        let _tag = key
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut chunk)
            .map_err(|_| ChoreError::BenchProgram("the maker of models"))?;
        file.write_all(&chunk).map_err(ChoreError::file(path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_sizes_rounds_parts_and_a_flag() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let parsed =
            Arguments::parse(&words("--mib 64 --rounds 3 --load-mib 16,32 --only load --dir d --strict")).unwrap();
        let only = Some(Part::Load);
        let dir = Some(PathBuf::from("d"));
        assert_eq!(parsed, Arguments { mib: 64, rounds: 3, load_mib: vec![16, 32], only, dir, strict: true });
        assert_eq!(Arguments::parse(&[]).unwrap().mib, 1024);
        for wrong in ["--mib", "--mib 0", "--mib x", "--rounds -1", "--only all", "--load-mib 1,", "--else 1", "x"] {
            assert_eq!(Arguments::parse(&words(wrong)).unwrap_err().code(), "USAGE", "{wrong}");
        }
    }

    #[test]
    fn the_model_is_the_same_every_time_and_of_its_size() {
        let path = std::env::temp_dir().join(format!("xtask-bench-model-{}", std::process::id()));
        write_model(&path, 2).unwrap();
        let first = fs::read(&path).unwrap();
        write_model(&path, 2).unwrap();
        assert_eq!(first.len(), 2 * CHUNK);
        assert!(first == fs::read(&path).unwrap());
        assert!(first[..CHUNK] != first[CHUNK..], "no two chunks are alike");
        fs::remove_file(&path).unwrap();
    }
}
