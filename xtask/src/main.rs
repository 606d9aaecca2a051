//! Turns `cargo xtask …` into set-up, builds, test runs and chores, each with an exit status.
//! It establishes nothing about security: no verdict of Vouchsafe depends on this program.

mod bench;
mod bench_load;
mod bench_models;
mod bench_peers;
mod bench_sealed;
mod bench_serve;
mod bench_serve_load;
mod bench_serve_models;
mod bench_serve_parts;
mod bench_serve_peers;
mod bench_serve_plain;
mod bench_serve_process;
mod bench_serve_stage;
mod bench_serve_table;
mod bench_table;
mod build;
mod container;
mod error;
mod fuzz;
mod image;
mod large;
mod measured;
mod mutants;
mod onnxruntime;
mod prove;
mod prove_parts;
mod prove_rules;
mod python;
mod sbom;
mod test_lanes;
mod tests;
mod twice;
mod vectors;
mod vm;
mod workspace;

use std::process::ExitCode;

use error::ChoreError;
use workspace::Workspace;

const HELP: &str = "\
Chores of the Vouchsafe workspace. Linux on x86_64, Rust and Python 3.11 or newer with pip are enough.

Usage: cargo xtask COMMAND [ARGUMENTS]

Commands:
  demo [ARGS…]     set up, build, then run the whole story on this machine (`vouchsafe demo ARGS…`)
  test [ARGS…]     set up, build every binary, run all tests and say at the end which were not run
                     -p CRATE     only this crate (may be repeated)
                     FILTER…      only tests whose name contains one of these words
  setup            fetch ONNX Runtime and the Python packages of the tests, nothing else
  build            set up ONNX Runtime and build the release binaries, as `demo` does
  image [ARGS…]    build the measured enclave alone and the guest image with it: target/image
                     --profile P  `image` (optimised as a whole; default) or `release` (faster to build)
                     --twice      build the committed sources in two clones instead and compare the images
                     --relock     where a locked package is gone, build from a scratch lock of today's packages
  vm [ARGS…]       find or install QEMU, build the guest image, then run the whole story in virtual machines
                   (`vouchsafe demo --backend sim-vm --image … ARGS…`)
                     --measured   first of all: the image of `image`, not one with the release build's enclave
  container        build image and programs so that they do not show where, then the container image's root folder with a list of
                   all that is in it: target/container/root; the Dockerfile runs this
  prove [ARGS…]    play all that takes too long for every change, from quick to slow: the parts below, `fuzz` and the three benches with
                   --strict; go on after one that failed, then print the seconds of each; some hours
                     --slow       a thousand slow and silent clients hold up nobody and are cut
                     --triton     the real tritonserver (from PyPI, 200 MB in target/triton) answers as ours does, but for what
                                  tests/reference/differential.json lists
                     --large      a model of 3 GiB with external data is sealed, opened and served under a limit of
                                  8 GiB of memory (a control group, else `prlimit --as`); 16 GiB of disk, a few minutes
                     --mutations  a million mutations of a sealed package
                     --soak       a million marked requests from 200 clients, each answered with its own mark
                     --vm         `vm`: the story and every attack in virtual machines
                     --image      `image --twice`: the image depends on nothing but the sources and the lock
                     --rules      each rule of the verifier is taken out in turn, and a test must then fail; of the rules alone:
                     --steps      only those of the numbered steps, --cap N at most N, spread over all, --list only print them
  fuzz [ARGS…]     feed the decoders with cargo-fuzz (installs it), 60 s each
                     --seconds N, --target NAME, --sanitizer none|address
  bench            this verifier beside ring's primitives, `sev` and `dcap-qvl`: one table
                     --strict     exit status 10 when a target is missed
  bench sealed     sealing and opening 1 GiB beside age, rage, gpg, openssl and Python, each step alone, and models loaded from
                   packages: seconds, memory, ratios; installs age (apt, as root) and rage (cargo); about half an hour
                     --mib N      size of the file (1024), --rounds N (7)
                     --load-mib A,B   sizes of the models that are loaded (96,976)
                     --only PART  steps, whole or load
                     --dir DIR    where the files go; default: /dev/shm if 12 times the size fits there, else target/bench
                     --strict     exit status 10 when a target is missed, not only when a peer is missing
  bench serve      the server beside Triton, FastAPI, KServe, MLServer, LitServe, BentoML and Ray Serve (from PyPI, 3 GB of disk),
                   with MiniLM and with a model that costs nothing: microseconds, requests per second, processor time, ratios;
                   about half an hour
                     --quick      FastAPI alone, short rounds: a few minutes
                     --rounds N (7), --soak N marked requests (1000000; 0 for none)
                     --programs DIR  measure the programs in this folder instead of building them
                     --only PART  minilm, tiny, many, channel, tensors, sessions or soak
                     --strict     exit status 10 when a target is missed, not only when a peer is missing
  vectors [TEE]    write tests/vectors/evidence anew
  coverage         write COVERAGE.md anew: every step and code with its vectors

Environment:
  ORT_DYLIB_PATH        use this ONNX Runtime library instead of fetching one (same version only)
  VOUCHSAFE_VECTORS     where the shared vectors are; default: ../shared/vectors
  VOUCHSAFE_REQUIRE_VECTORS=1   tests fail, instead of saying NOT RUN, when vectors are missing

Examples:
  cargo xtask demo
  cargo xtask test
  cargo xtask test -p vouchsafe-sealed truncated
";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let command = args.next();
    let rest: Vec<String> = args.collect();
    match run(command.as_deref(), &rest) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("error[{}]: {error}", error.code());
            eprintln!("  help: {}", error.advice());
            ExitCode::from(error.exit())
        }
    }
}

fn run(command: Option<&str>, args: &[String]) -> Result<u8, ChoreError> {
    match command {
        None | Some("help" | "--help" | "-h") => {
            print!("{HELP}");
            return Ok(0);
        }
        Some(
            "demo" | "test" | "setup" | "build" | "image" | "vm" | "container" | "prove" | "fuzz" | "bench" | "vectors"
            | "coverage",
        ) => {}
        Some(other) => return Err(ChoreError::Usage(format!("there is no command `{other}`"))),
    }
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err(ChoreError::Platform);
    }
    let workspace = Workspace::find()?;
    match command {
        Some("demo") => demo(&workspace, args),
        Some("test") => tests::run(&workspace, args),
        Some("container") => {
            no_arguments(args)?;
            container::run(&workspace)
        }
        Some("build") => {
            no_arguments(args)?;
            build::release_binaries(&workspace)?;
            Ok(0)
        }
        Some("image") => image::run(&workspace, args),
        Some("vm") => vm::run(&workspace, args),
        Some("prove") => prove::run(&workspace, args),
        Some("fuzz") => fuzz::run(&workspace, args),
        Some("bench") => bench::run(&workspace, args),
        Some("vectors") => vectors::make(&workspace, args),
        Some("coverage") => {
            no_arguments(args)?;
            vectors::coverage(&workspace)
        }
        _ => {
            no_arguments(args)?;
            onnxruntime::library(&workspace)?;
            python::packages(&workspace)?;
            Ok(0)
        }
    }
}

/// Builds, then becomes the demo: the same process, so signals reach it without a go-between.
fn demo(workspace: &Workspace, args: &[String]) -> Result<u8, ChoreError> {
    use std::os::unix::process::CommandExt;
    let program = build::release_binaries(workspace)?.join("vouchsafe");
    let failed = std::process::Command::new(&program).arg("demo").args(args).exec();
    Err(ChoreError::Start { program: "vouchsafe", source: failed })
}

fn no_arguments(args: &[String]) -> Result<(), ChoreError> {
    match args.first() {
        None => Ok(()),
        Some(extra) => Err(ChoreError::Usage(format!("unexpected argument `{extra}`"))),
    }
}
