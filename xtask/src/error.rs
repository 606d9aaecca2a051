//! Turns what can go wrong in a chore into a fact, a stable code, advice and an exit status.
//! It does not cover the product's own errors: a demo that fails speaks for itself.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why a chore stopped.
#[derive(Debug)]
pub(crate) enum ChoreError {
    /// The command line asks for something that does not exist.
    Usage(String),
    /// This is not Linux on x86_64.
    Platform,
    /// Neither `python3` nor `python` starts.
    PythonMissing,
    /// Python starts, and is older than the pinned packages need.
    PythonTooOld,
    /// Python starts, and has no pip.
    PipMissing,
    /// pip ended with an error: no network, or a file whose SHA-256 is not the pinned one.
    Pip(&'static str),
    /// A fetched file is not the pinned one.
    Digest { what: &'static str, expected: &'static str, actual: String },
    /// `ORT_DYLIB_PATH` names a library of another version.
    OtherVersion { found: Option<String> },
    /// A local file or directory cannot be used.
    File { path: PathBuf, source: io::Error },
    /// A program does not start.
    Start { program: &'static str, source: io::Error },
    /// `cargo build` ended with an error.
    Build,
    /// A program does not start with the libraries of the guest image.
    ContainerLibraries { program: &'static str },
    /// The list of what is inside the container image would not be whole.
    Sbom { what: String },
    /// `vouchsafe image …` ended with an error.
    Image { status: u8 },
    /// There is no QEMU that is new enough, and none can be installed by this user on this system.
    QemuMissing,
    /// apt ended with an error.
    Apt,
    /// Two builds of the same sources gave two images.
    NotReproducible,
    /// At least one test failed, or did not compile.
    TestsFailed,
    /// At least one rule of the verifier could be taken out without any test noticing.
    StepUnguarded { steps: Vec<String> },
    /// The tests fail before any step is taken out, so nothing can be proved.
    ProveBaseline,
    /// A fuzz target ended with a crash, a hang or too much memory.
    FuzzFound { targets: Vec<String> },
    /// A benchmark lacks something to compare with.
    BenchIncomplete { missing: Vec<&'static str>, ratios: usize },
    /// A program that is measured, or that makes what is measured, ended with an error or printed no numbers.
    BenchProgram(&'static str),
    /// The story with a large model did not end as it should.
    LargeModel,
    /// The verifier's source has no numbered steps where `prove` looks for them.
    NoSteps,
    /// The user pressed Ctrl-C while a child was running.
    Interrupted,
}

impl ChoreError {
    /// The stable name of this failure.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Usage(_) => "USAGE",
            Self::Platform => "PLATFORM_UNSUPPORTED",
            Self::PythonMissing => "PYTHON_MISSING",
            Self::PythonTooOld => "PYTHON_TOO_OLD",
            Self::PipMissing => "PIP_MISSING",
            Self::Pip(_) => "PIP_FAILED",
            Self::Digest { .. } => "DOWNLOAD_DIGEST_MISMATCH",
            Self::OtherVersion { .. } => "ONNXRUNTIME_VERSION",
            Self::File { .. } => "LOCAL_FILE",
            Self::Start { .. } => "PROGRAM_NOT_STARTED",
            Self::Build => "BUILD_FAILED",
            Self::ContainerLibraries { .. } => "CONTAINER_LIBRARIES",
            Self::Sbom { .. } => "SBOM_INCOMPLETE",
            Self::Image { .. } => "IMAGE_FAILED",
            Self::QemuMissing => "QEMU_MISSING",
            Self::Apt => "APT_FAILED",
            Self::NotReproducible => "NOT_REPRODUCIBLE",
            Self::TestsFailed => "TESTS_FAILED",
            Self::StepUnguarded { .. } => "STEP_UNGUARDED",
            Self::ProveBaseline => "PROVE_BASELINE",
            Self::FuzzFound { .. } => "FUZZ_FOUND",
            Self::BenchIncomplete { .. } => "BENCH_INCOMPLETE",
            Self::BenchProgram(_) => "BENCH_PROGRAM",
            Self::LargeModel => "LARGE_MODEL",
            Self::NoSteps => "PROVE_NO_STEPS",
            Self::Interrupted => "INTERRUPTED",
        }
    }

    /// The exit status, by the same table as every Vouchsafe program.
    pub(crate) fn exit(&self) -> u8 {
        match self {
            Self::Usage(_) => 1,
            Self::Platform => 7,
            Self::Pip(_) | Self::Apt => 8,
            Self::Digest { .. } => 6,
            Self::PythonMissing
            | Self::PythonTooOld
            | Self::PipMissing
            | Self::OtherVersion { .. }
            | Self::File { .. }
            | Self::Start { .. }
            | Self::Build
            | Self::ContainerLibraries { .. }
            | Self::Sbom { .. }
            | Self::QemuMissing => 9,
            Self::Image { status } => *status,
            Self::NotReproducible
            | Self::TestsFailed
            | Self::StepUnguarded { .. }
            | Self::ProveBaseline
            | Self::FuzzFound { .. }
            | Self::BenchIncomplete { .. }
            | Self::BenchProgram(_)
            | Self::LargeModel
            | Self::NoSteps => 10,
            Self::Interrupted => 130,
        }
    }

    /// What to do about it.
    pub(crate) fn advice(&self) -> &'static str {
        match self {
            Self::Usage(_) => "`cargo xtask help` lists the commands",
            Self::Platform => "use a Linux machine or virtual machine with an x86_64 processor",
            Self::PythonMissing => "install Python 3.11 or newer (Debian: apt-get install python3 python3-pip)",
            Self::PythonTooOld => "put a `python3` of version 3.11 or newer first in PATH",
            Self::PipMissing => "install pip for this Python (Debian: apt-get install python3-pip)",
            Self::Pip(_) => {
                "pip's own message stands above; for a machine without a network see ORT_DYLIB_PATH in `cargo xtask help`"
            }
            Self::Digest { .. } => "do not use the file; remove target/onnxruntime and run the command again",
            Self::OtherVersion { .. } => {
                "unset ORT_DYLIB_PATH to have the right library fetched, or point it at version 1.24.4"
            }
            Self::File { .. } => "look at the path's owner, permissions and free space",
            Self::Start { .. } => "run `cargo xtask build` and look at its output",
            Self::Build => "cargo's own message stands above",
            Self::ContainerLibraries { .. } => {
                "build on Debian 12 or older: the C library here is newer than the locked one"
            }
            Self::Sbom { .. } => "name the new file's or crate's origin in xtask/src/sbom.rs",
            Self::Image { .. } => "the image builder's own message stands above",
            Self::QemuMissing => {
                "install qemu-system-x86 10 or newer (Debian 12: from bookworm-backports; docs/operations.md says how)"
            }
            Self::Apt => "apt's own message stands above; is the archive reachable?",
            Self::NotReproducible => "both clones are kept under target/twice; what differs stands above",
            Self::TestsFailed => "the failures stand above; `cargo xtask test NAME` runs one again",
            Self::StepUnguarded { .. } => "add a vector that only this rule refuses; CONTRIBUTING.md says how",
            Self::ProveBaseline => "run `cargo xtask test -p vouchsafe-attestation` first",
            Self::FuzzFound { .. } => {
                "`cargo xtask fuzz --target NAME` goes on; make the found input a committed case once it is mended"
            }
            Self::BenchIncomplete { .. } => {
                "install what is named above (for `bench sealed` on Debian: apt-get install age gpg openssl); the rest needs a network"
            }
            Self::BenchProgram(_) => {
                "its own message stands above; is there memory and disk for it? --mib makes it smaller"
            }
            Self::LargeModel => "the story's own message stands above; it needs 16 GiB of disk and 8 GiB of memory",
            Self::NoSteps => {
                "each step of the verifier starts with a comment `// N. Name: why`; CONTRIBUTING.md says how"
            }
            Self::Interrupted => "run the same command again; it goes on where it stopped",
        }
    }

    /// For a `map_err` that keeps the path.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}

impl fmt::Display for ChoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(what) => f.write_str(what),
            Self::Platform => f.write_str("Vouchsafe builds and runs on Linux x86_64 only"),
            Self::PythonMissing => f.write_str("no Python 3 was found, and ONNX Runtime is fetched with its pip"),
            Self::PythonTooOld => f.write_str("the tests need Python 3.11 or newer, and this one is older"),
            Self::PipMissing => f.write_str("this Python has no pip, which fetches ONNX Runtime"),
            Self::Pip(what) => write!(f, "pip could not fetch {what}"),
            Self::Digest { what, expected, actual } => {
                write!(f, "{what} is not the pinned one: SHA-256 expected {expected}, found {actual}")
            }
            Self::OtherVersion { found: Some(found) } => {
                write!(f, "ORT_DYLIB_PATH names ONNX Runtime {found}, and the enclave takes 1.24.4 only")
            }
            Self::OtherVersion { found: None } => {
                f.write_str("ORT_DYLIB_PATH names a file that is not an ONNX Runtime library with a version")
            }
            Self::File { path, source } => write!(f, "{}: {source}", path.display()),
            Self::Start { program, source } => write!(f, "{program} does not start: {source}"),
            Self::Build => f.write_str("the build failed"),
            Self::ContainerLibraries { program } => {
                write!(f, "{program} does not start with the libraries of the guest image")
            }
            Self::Sbom { what } => write!(f, "the list of the container's content is not whole: {what}"),
            Self::Image { .. } => f.write_str("there is no image"),
            Self::QemuMissing => f.write_str("there is no qemu-system-x86_64 of version 10 or newer"),
            Self::Apt => f.write_str("apt could not install QEMU"),
            Self::NotReproducible => f.write_str("two builds of the same sources gave two images"),
            Self::TestsFailed => f.write_str("not all tests passed"),
            Self::StepUnguarded { steps } => {
                write!(f, "no test noticed that these rules were taken out: {}", steps.join("; "))
            }
            Self::ProveBaseline => f.write_str("the verifier's tests fail before any step is taken out"),
            Self::FuzzFound { targets } => {
                write!(f, "an input was found that a decoder does not survive: {}", targets.join(", "))
            }
            Self::BenchIncomplete { missing, ratios } => {
                let names = missing.join(", ");
                write!(f, "the table is not whole: {} peers are missing ({names}), and {ratios} ratios", missing.len())
            }
            Self::BenchProgram(name) => write!(f, "{name} failed or printed no numbers"),
            Self::LargeModel => f.write_str("the model of 3 GiB was not sealed, opened and served under the limit"),
            Self::NoSteps => f.write_str("no numbered step was found in the verifier's source"),
            Self::Interrupted => f.write_str("stopped by Ctrl-C"),
        }
    }
}

impl std::error::Error for ChoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File { source, .. } | Self::Start { source, .. } => Some(source),
            _ => None,
        }
    }
}
