//! Turns one large model into a table of rates: each step alone, then sealing and unsealing as a whole, medians of interleaved rounds.
//! It proves nothing about other machines, and nothing about correctness: the tests do.
//!
//! `cargo run --release -p vouchsafe-sealed --example speed -- [DIR] [--mib N] [--rounds N] [--direct] [--only-direct] [--json] [--pipe MIB]`
//!
//! DIR needs three times the size of the model. `--direct` adds reads past the page cache, `--only-direct` makes no others,
//! `--json` prints the seconds of every round instead of a table (`cargo xtask bench sealed` reads them), `--pipe` seals a
//! stream of that size and prints the peak of this process's memory.

use std::{
    collections::BTreeMap,
    error::Error,
    fs::{self, File},
    hint::black_box,
    io::{self, Read as _, Write as _},
    num::NonZero,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Instant,
};

use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, Tag, UnboundKey},
    signature::Ed25519KeyPair,
};
use vouchsafe_attestation::{Mode, dsse};
use vouchsafe_sealed::{
    CHUNK_LEN, HEADER_LEN, ModelKey, Package, Read, Role, SealInput, SealOptions, SealSpec, seal_with,
};
use zeroize::Zeroize as _;

const GIB: f64 = (1 << 30) as f64;
const PAGE: usize = 4096;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

struct Args {
    dir: PathBuf,
    mib: usize,
    rounds: usize,
    direct: bool,
    only_direct: bool,
    json: bool,
    pipe: Option<u64>,
}

impl Args {
    fn read() -> Outcome<Self> {
        let mut out = Self {
            dir: std::env::temp_dir(),
            mib: 1024,
            rounds: 5,
            direct: false,
            only_direct: false,
            json: false,
            pipe: None,
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut number = || words.next().unwrap_or_default().parse::<u64>();
            match word.as_str() {
                "--mib" => out.mib = usize::try_from(number()?)?.max(2),
                "--rounds" => out.rounds = usize::try_from(number()?)?.max(1),
                "--pipe" => out.pipe = Some(number()?),
                "--direct" => out.direct = true,
                "--only-direct" => (out.direct, out.only_direct) = (true, true),
                "--json" => out.json = true,
                path => out.dir = PathBuf::from(path),
            }
        }
        Ok(out)
    }
}

/// Seconds of every round, by what was done, in the order of the first round.
#[derive(Default)]
struct Times(Vec<(&'static str, Vec<f64>)>);

impl Times {
    fn take<T>(&mut self, what: &'static str, work: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let out = work();
        let seconds = begun.elapsed().as_secs_f64();
        match self.0.iter_mut().find(|(name, _)| *name == what) {
            Some((_, all)) => all.push(seconds),
            None => self.0.push((what, vec![seconds])),
        }
        out
    }

    /// GiB per second.
    fn rate(&self, what: &str, bytes: usize) -> f64 {
        let Some((_, all)) = self.0.iter().find(|(name, _)| *name == what) else { return f64::NAN };
        let mut all = all.clone();
        all.sort_by(f64::total_cmp);
        bytes as f64 / GIB / all[all.len() / 2]
    }

    /// The seconds of every round, by what was done.
    fn json(&self) -> serde_json::Value {
        self.0.iter().map(|(what, all)| (*what, all.clone())).collect()
    }

    fn print(&self, bytes: usize) {
        for (what, all) in &self.0 {
            let (least, most) = all.iter().fold((f64::MAX, 0_f64), |(a, b), s| (a.min(*s), b.max(*s)));
            let rate = self.rate(what, bytes);
            println!("{what:<34} {rate:>7.2} GiB/s   ({least:.3} to {most:.3} s, {} rounds)", all.len());
        }
    }
}

/// What one package needs, beside its model.
struct Vendor {
    signer: Ed25519KeyPair,
    key: ModelKey,
}

impl Vendor {
    fn new() -> Outcome<Self> {
        let signer = Ed25519KeyPair::from_seed_unchecked(&[1; 32]).map_err(|_| "no signing key")?;
        Ok(Self { signer, key: ModelKey::generate()? })
    }

    fn seal(&self, model: &Path, out: &Path, threads: usize, stream: Option<Box<dyn io::Read>>) -> Outcome {
        let input = SealInput { name: "model.onnx".into(), role: Role::Graph, path: model.to_owned() };
        let spec = SealSpec {
            model_id: "speed".into(),
            sequence: 1,
            mode: Mode::Simulation,
            inputs: vec![input],
            usage_policy: b"{}".to_vec(),
            provenance: Vec::new(),
            pad_to: 1,
        };
        let mut deaf = |_, _| {};
        let streams: BTreeMap<_, _> = stream.into_iter().map(|stream| (0, stream)).collect();
        let options = SealOptions { threads: lanes(threads), streams, ..SealOptions::new(&mut deaf) };
        seal_with(&spec, &self.key, [2; 32], &[&self.signer], out, options)?;
        Ok(())
    }

    fn open(&self, package: &Path) -> Outcome<Package> {
        Ok(Package::open(package, &[dsse::public(&self.signer)])?)
    }
}

fn main() -> Outcome {
    let args = Args::read()?;
    let dir = tempfile::Builder::new().prefix("vouchsafe-speed-").tempdir_in(&args.dir)?;
    let vendor = Vendor::new()?;
    match args.pipe {
        Some(mib) => pipe(&vendor, dir.path(), mib),
        None => rates(&args, &vendor, dir.path()),
    }
}

/// Seals a stream, and says what it took.
fn pipe(vendor: &Vendor, dir: &Path, mib: u64) -> Outcome {
    let (len, begun) = (mib << 20, Instant::now());
    let package = dir.join("package");
    vendor.seal(Path::new("-"), &package, 2, Some(Box::new(io::repeat(7).take(len))))?;
    println!("sealed a stream of {mib} MiB in {:.1} s; {}", begun.elapsed().as_secs_f64(), peak()?);
    let (mut seen, mut wrong) = (0, 0);
    vendor.open(&package)?.unseal_ordered(&vendor.key, 0, lanes(2), &mut |data| {
        seen += data.len() as u64;
        wrong += u32::from(data != &vec![7; data.len()][..]);
        Ok(())
    })?;
    println!("unsealed again: {seen} bytes, {wrong} chunks with other bytes; {}", peak()?);
    if (seen, wrong) == (len, 0) { Ok(()) } else { Err("not what was sealed".into()) }
}

fn peak() -> Outcome<String> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn rates(args: &Args, vendor: &Vendor, dir: &Path) -> Outcome {
    let bytes = args.mib << 20;
    let (model, package_dir) = (dir.join("model.onnx"), dir.join("package"));
    write_model(&model, args.mib)?;
    vendor.seal(&model, &package_dir, 2, None)?;
    let package = vendor.open(&package_dir)?;
    let blob = File::open(package_dir.join("0000.blob"))?;
    // Touched before any clock runs; begins on a page.
    let (mut memory, mut chunk) = (vec![1; bytes + PAGE], vec![1; CHUNK_LEN]);
    let shift = memory.as_ptr().addr().next_multiple_of(PAGE) - memory.as_ptr().addr();
    let out = &mut memory[shift..shift + bytes];
    let steps = Steps::new()?;
    let mut times = Times::default();
    let rounds = if args.only_direct { 0 } else { args.rounds };
    for _ in 0..rounds {
        times.take("read, page cache", || read(&blob, out))?;
        times.take("BLAKE3, chunks of 1 MiB", || hash(out));
        let tags = steps.seal(out);
        times.take("ring open, chunks of 1 MiB", || steps.open(out, &tags))?;
        times.take("unseal_into, 1 thread", || package.unseal_into(&vendor.key, 0, lanes(1), out))?;
        times.take("unseal_into, 2 threads", || package.unseal_into(&vendor.key, 0, lanes(2), out))?;
        // A receiver that copies, as a pipe does.
        let mut sink = |data: &[u8]| {
            chunk[..data.len()].copy_from_slice(data);
            black_box(&chunk);
            Ok(())
        };
        times.take("unseal_ordered, 1 thread", || package.unseal_ordered(&vendor.key, 0, lanes(1), &mut sink))?;
        times.take("unseal_ordered, 2 threads", || package.unseal_ordered(&vendor.key, 0, lanes(2), &mut sink))?;
        times.take("wipe: fill and barrier", || {
            out.fill(0);
            zeroize::optimization_barrier(out);
        });
        times.take("wipe: zeroize", || out.zeroize());
        for (what, threads) in [("seal, 1 thread", 1), ("seal, 2 threads", 2)] {
            let target = dir.join("again");
            // Once without a clock: files take memory as well, and its first touch is slow on some machines.
            vendor.seal(&model, &target, 2, None)?;
            fs::remove_dir_all(&target)?;
            times.take(what, || vendor.seal(&model, &target, threads, None))?;
            fs::remove_dir_all(target)?;
        }
    }
    if args.json {
        if args.direct {
            direct(args, vendor, package.reading(Read::Direct), &package_dir.join("0000.blob"), out, &mut times)?;
        }
        println!("{}", times.json());
        return Ok(());
    }
    if !args.only_direct {
        print(&times, bytes);
    }
    if args.direct {
        let mut times = Times::default();
        direct(args, vendor, package.reading(Read::Direct), &package_dir.join("0000.blob"), out, &mut times)?;
        times.print(bytes);
        let raw = times.rate("raw disk, O_DIRECT, 1 thread", bytes);
        let ratio = times.rate("unseal_into direct, 2 threads", bytes) / raw;
        println!("direct, two threads to raw disk    {ratio:>7.2}         (at least 0.85)");
    }
    Ok(())
}

/// The table and its ratios.
fn print(times: &Times, bytes: usize) {
    times.print(bytes);
    let rate = |what| times.rate(what, bytes);
    let (one, two) = (rate("unseal_into, 1 thread"), rate("unseal_into, 2 threads"));
    let alone = [rate("read, page cache"), rate("BLAKE3, chunks of 1 MiB"), rate("ring open, chunks of 1 MiB")];
    let composite = 1.0 / alone.iter().map(|rate| 1.0 / rate).sum::<f64>();
    println!("{:<34} {composite:>7.2} GiB/s", "composite 1/(1/r + 1/b + 1/o)");
    println!("one thread to the composite        {:>7.2}         (at least 0.9)", one / composite);
    println!("two threads to the composite       {:>7.2}", two / composite);
    println!("two threads to one                 {:>7.2}         (at least 1.7)", two / one);
    println!("sealing, two threads to one        {:>7.2}", rate("seal, 2 threads") / rate("seal, 1 thread"));
}

/// Reads past the page cache, raw and with everything else.
fn direct(args: &Args, vendor: &Vendor, package: Package, blob: &Path, out: &mut [u8], times: &mut Times) -> Outcome {
    let flags = rustix::fs::OFlags::DIRECT.bits().cast_signed();
    let Ok(raw) = File::options().read(true).custom_flags(flags).open(blob) else {
        eprintln!("NOT RUN: direct reads: this file system does not allow them");
        return Ok(());
    };
    for _ in 0..args.rounds {
        times.take("raw disk, O_DIRECT, 1 thread", || read(&raw, out))?;
        times.take("unseal_into direct, 1 thread", || package.unseal_into(&vendor.key, 0, lanes(1), out))?;
        times.take("unseal_into direct, 2 threads", || package.unseal_into(&vendor.key, 0, lanes(2), out))?;
    }
    Ok(())
}

fn lanes(threads: usize) -> NonZero<usize> {
    NonZero::new(threads).unwrap_or(NonZero::<usize>::MIN)
}

fn write_model(path: &Path, mib: usize) -> io::Result<()> {
    let mut file = File::create(path)?;
    for n in 0..mib {
        let chunk: Vec<u8> = (0..CHUNK_LEN).map(|i| (i * 31 + n * 7 + i / 251) as u8).collect();
        file.write_all(&chunk)?;
    }
    Ok(())
}

/// Reads the body of a blob, chunk by chunk, each into its place.
fn read(blob: &File, out: &mut [u8]) -> io::Result<()> {
    for (i, place) in out.chunks_mut(CHUNK_LEN).enumerate() {
        blob.read_exact_at(place, (HEADER_LEN + i * CHUNK_LEN) as u64)?;
    }
    Ok(())
}

fn hash(data: &[u8]) {
    for chunk in data.chunks(CHUNK_LEN) {
        black_box(blake3::hash(chunk));
    }
}

/// ring's AES-256-GCM as the format uses it.
struct Steps(LessSafeKey);

impl Steps {
    fn new() -> Outcome<Self> {
        let key = UnboundKey::new(&AES_256_GCM, &[3; 32]).map_err(|_| "no key")?;
        Ok(Self(LessSafeKey::new(key)))
    }

    fn nonce(i: usize) -> Nonce {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&(i as u64).to_be_bytes());
        Nonce::assume_unique_for_key(nonce)
    }

    fn seal(&self, data: &mut [u8]) -> Vec<Option<Tag>> {
        let chunks = data.chunks_mut(CHUNK_LEN).enumerate();
        chunks.map(|(i, c)| self.0.seal_in_place_separate_tag(Self::nonce(i), Aad::empty(), c).ok()).collect()
    }

    fn open(&self, data: &mut [u8], tags: &[Option<Tag>]) -> Outcome {
        for (i, (chunk, tag)) in data.chunks_mut(CHUNK_LEN).zip(tags).enumerate() {
            let tag = tag.ok_or("not sealed")?;
            let opened = self.0.open_in_place_separate_tag(Self::nonce(i), Aad::empty(), tag, chunk, 0..);
            opened.map_err(|_| "not opened")?;
        }
        Ok(())
    }
}
