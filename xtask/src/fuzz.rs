//! Turns the decoders of `tests/fuzz` into minutes of cargo-fuzz, with a cap on memory and on the time of one input.
//! It establishes no more than that nothing was found: a found input is printed and kept.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::error::ChoreError;
use crate::workspace::{Workspace, ended_well, make_dir};

const CARGO_FUZZ_VERSION: &str = "0.13.2";
/// Every target; each is a file of this name under `tests/fuzz/targets`.
pub(crate) const TARGETS: [&str; 11] = [
    "report",
    "quote",
    "certificate",
    "crl",
    "collateral_json",
    "policy",
    "evidence_envelope",
    "volume",
    "infer",
    "inflate",
    "usage_policy",
];
/// No decoder may need more, the harness and its corpus included.
const MEMORY_MIB: u32 = 256;
/// No single input may take longer, in seconds.
const INPUT_SECONDS: u32 = 10;
/// Nor may one allocation be larger: four times the largest cap of a decoder.
const ALLOCATION_MIB: u32 = 4;
/// Longest input that is tried. Larger are the caps of collateral files (1 MiB) and usage policies (256 KiB), which serde reads in pieces,
/// and those of request bodies.
const LONGEST: u32 = 96 * 1024;

/// `cargo xtask fuzz [--seconds N] [--target NAME] [--sanitizer none|address]`
pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<u8, ChoreError> {
    let arguments = Arguments::parse(args)?;
    let tool = cargo_fuzz(workspace)?;
    let project = workspace.root().join("tests/fuzz");
    // The very versions that are shipped; cargo adds what only the fuzzer needs.
    let lock = project.join("Cargo.lock");
    fs::copy(workspace.root().join("Cargo.lock"), &lock).map_err(ChoreError::file(&lock))?;
    let mut rows = Vec::new();
    for target in arguments.targets() {
        let corpus = workspace.target().join("fuzz/corpus").join(target);
        // What an earlier run kept there belongs to earlier vectors, signed by other keys.
        if corpus.exists() {
            fs::remove_dir_all(&corpus).map_err(ChoreError::file(&corpus))?;
        }
        make_dir(&corpus)?;
        seed(workspace.root(), target, &corpus)?;
        let started = Instant::now();
        let mut command = Command::new(&tool);
        command
            .current_dir(workspace.root())
            .args(["fuzz", "run", "--fuzz-dir", "tests/fuzz", "--sanitizer", &arguments.sanitizer, "--target-dir"])
            .arg(workspace.target().join("fuzz/build"))
            .arg(target)
            .arg(&corpus)
            .arg("--")
            .args([
                format!("-max_total_time={}", arguments.seconds),
                format!("-rss_limit_mb={MEMORY_MIB}"),
                format!("-malloc_limit_mb={ALLOCATION_MIB}"),
                format!("-timeout={INPUT_SECONDS}"),
                format!("-max_len={LONGEST}"),
                "-print_final_stats=1".to_owned(),
            ])
            // Coverage needs flags that the stable compiler keeps for nightly ones.
            .env("RUSTC_BOOTSTRAP", "1")
            // The sanitizer's own quarantine would count as ours.
            .env("ASAN_OPTIONS", "quarantine_size_mb=8:malloc_context_size=4");
        let status = command.status().map_err(|source| ChoreError::Start { program: "cargo-fuzz", source })?;
        let passed = ended_well(status)?;
        rows.push((target, started.elapsed().as_secs(), passed));
        if !passed {
            eprintln!("fuzz: what was found is under tests/fuzz/artifacts/{target}");
        }
    }
    println!();
    for (target, seconds, passed) in &rows {
        println!("{target:<20} {seconds:>5} s with its build  {}", if *passed { "nothing found" } else { "FOUND" });
    }
    let found: Vec<String> = rows.iter().filter(|row| !row.2).map(|row| row.0.to_owned()).collect();
    if found.is_empty() { Ok(0) } else { Err(ChoreError::FuzzFound { targets: found }) }
}

struct Arguments {
    seconds: u32,
    target: Option<&'static str>,
    sanitizer: String,
}

impl Arguments {
    fn parse(args: &[String]) -> Result<Self, ChoreError> {
        let mut parsed = Self { seconds: 60, target: None, sanitizer: "address".to_owned() };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let value = args.next().ok_or_else(|| ChoreError::Usage(format!("`{arg}` needs a value")))?;
            match arg.as_str() {
                "--seconds" => {
                    let number = value.parse().ok().filter(|number| *number > 0);
                    parsed.seconds =
                        number.ok_or_else(|| ChoreError::Usage("--seconds needs a number above 0".to_owned()))?;
                }
                "--target" => {
                    let known = TARGETS.into_iter().find(|target| target == value);
                    parsed.target = Some(
                        known.ok_or_else(|| ChoreError::Usage(format!("the targets are {}", TARGETS.join(", "))))?,
                    );
                }
                "--sanitizer" if value == "none" || value == "address" => parsed.sanitizer.clone_from(value),
                _ => return Err(ChoreError::Usage(format!("`fuzz` has no argument `{arg} {value}`"))),
            }
        }
        Ok(parsed)
    }

    fn targets(&self) -> Vec<&'static str> {
        self.target.map_or_else(|| TARGETS.to_vec(), |target| vec![target])
    }
}

/// The tool, of this version, installed under target when it is not there.
fn cargo_fuzz(workspace: &Workspace) -> Result<PathBuf, ChoreError> {
    let root = workspace.target().join("tools");
    let tool = root.join("bin/cargo-fuzz");
    let version = Command::new(&tool).args(["fuzz", "--version"]).output();
    let wanted = format!(" {CARGO_FUZZ_VERSION}");
    if version.is_ok_and(|out| String::from_utf8_lossy(&out.stdout).trim().ends_with(&wanted)) {
        return Ok(tool);
    }
    eprintln!("fuzz: installing cargo-fuzz {CARGO_FUZZ_VERSION}");
    let mut command = workspace.cargo();
    let status = command
        .args(["install", "cargo-fuzz", "--locked", "--version", CARGO_FUZZ_VERSION, "--root"])
        .arg(&root)
        .status()
        .map_err(|source| ChoreError::Start { program: "cargo", source })?;
    if ended_well(status)? { Ok(tool) } else { Err(ChoreError::Build) }
}

/// What the targets of the server begin with: a request (its header's length is not told), the same compressed, a vendor's rules.
const SMALL: [(&str, &[u8]); 3] = [
    (
        "infer",
        b"\xff\xff\xff\xff{\"id\":\"7\",\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[1,2],\"data\":[[0.5,-1e-3]]}],\
          \"outputs\":[{\"name\":\"y\",\"parameters\":{\"binary_data\":true}}]}",
    ),
    // Zlib's "stored" block of the three letters `abc`.
    ("inflate", b"\x78\x01\x01\x03\x00\xfc\xff\x61\x62\x63\x02\x4d\x01\x27"),
    (
        "usage_policy",
        b"{\"version\":1,\"model\":\"m\",\"expires\":\"never\",\"limits\":{\"max_batch\":16,\"max_body_bytes\":65536},\
          \"inputs\":[{\"name\":\"x\",\"dtype\":\"FP32\",\"shape\":[-1,30],\"finite\":true,\"range\":{\"min\":-5,\"max\":0.5}}],\
          \"outputs\":[{\"name\":\"p\",\"round\":2,\"top_k\":3},{\"name\":\"l\",\"argmax_only\":true}],\
          \"callers\":[{\"key\":\"ed25519:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE\",\"role\":\"ward\"}],\
          \"quotas\":[{\"role\":\"ward\",\"requests\":9,\"per_s\":60}]}",
    ),
];

/// Fills the corpus with committed files: the bases, and cases with one faulty file. What other signed cases hold would be
/// accepted beside the base's other files, which is what the targets take for a finding.
fn seed(root: &Path, target: &str, corpus: &Path) -> Result<(), ChoreError> {
    if target == "volume" {
        return seed_volumes(root, corpus);
    }
    if let Some((_, bytes)) = SMALL.iter().find(|(name, _)| *name == target) {
        let to = corpus.join("small");
        return fs::write(&to, bytes).map_err(ChoreError::file(&to));
    }
    let wanted: &[&str] = match target {
        "report" => &["report.bin"],
        "quote" => &["quote.bin"],
        "certificate" => &["leaf.der"],
        "crl" => &["crl.der"],
        "collateral_json" => &["collateral.json"],
        "policy" => &["policy.toml"],
        _ => &["envelope.json"],
    };
    for technology in ["sev-snp", "tdx"] {
        let dir = root.join("tests/vectors/evidence").join(technology);
        for case in fs::read_dir(&dir).map_err(ChoreError::file(&dir))? {
            let case = case.map_err(ChoreError::file(&dir))?.path();
            let Some(name) = case.file_name().and_then(|name| name.to_str()) else { continue };
            let files = fs::read_dir(&case).map_err(ChoreError::file(&case))?.count();
            let text = fs::read_to_string(case.join("case.toml")).unwrap_or_default();
            let one_fault = files == 2 && text.contains("kind = \"verify\"") && !text.contains("code = \"ACCEPTED\"");
            if name != "base" && !one_fault && target != "policy" {
                continue;
            }
            for file in wanted {
                let from = case.join(file);
                if from.is_file() {
                    let to = corpus.join(format!("{technology}-{name}"));
                    fs::copy(&from, to).map_err(ChoreError::file(&from))?;
                }
            }
        }
    }
    Ok(())
}

/// Every committed volume, and its index alone: the target takes both.
fn seed_volumes(root: &Path, corpus: &Path) -> Result<(), ChoreError> {
    let dir = root.join("tests/vectors/volume");
    for case in fs::read_dir(&dir).map_err(ChoreError::file(&dir))? {
        let case = case.map_err(ChoreError::file(&dir))?;
        let from = case.path().join("volume.bin");
        let bytes = fs::read(&from).map_err(ChoreError::file(&from))?;
        let index = bytes.get(40..).unwrap_or_default().split(|b| *b == 0).next().unwrap_or_default();
        let name = case.file_name();
        for (kind, seed) in [("whole", bytes.as_slice()), ("index", index)] {
            let to = corpus.join(format!("{kind}-{}", name.display()));
            fs::write(&to, seed).map_err(ChoreError::file(&to))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn without_arguments_every_target_gets_a_minute() {
        let parsed = Arguments::parse(&[]).unwrap();
        assert_eq!((parsed.seconds, parsed.targets().len(), parsed.sanitizer.as_str()), (60, TARGETS.len(), "address"));
        let parsed = Arguments::parse(&words("--target crl --seconds 5 --sanitizer none")).unwrap();
        assert_eq!((parsed.seconds, parsed.targets(), parsed.sanitizer.as_str()), (5, vec!["crl"], "none"));
        for wrong in ["--target other", "--seconds 0", "--seconds", "other 1", "--sanitizer thread"] {
            assert_eq!(Arguments::parse(&words(wrong)).err().unwrap().code(), "USAGE");
        }
    }

    #[test]
    fn every_target_has_its_file() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("tests/fuzz");
        let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
        for target in TARGETS {
            assert!(root.join(format!("targets/{target}.rs")).is_file(), "{target}");
            assert!(manifest.contains(&format!("path = \"targets/{target}.rs\"")), "{target}");
        }
    }
}
