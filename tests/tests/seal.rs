//! Turns the sealed-model format into an agreement of two programs: this code and `tests/reference/unseal.py`.
//! It does not show that either is safe against a hostile host; `enclave/sealed/src/tests` does that for ours.
//! The last test is of the command: a model that never lay in a file is sealed like one that did.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::Arc,
    thread,
};

use ring::signature::Ed25519KeyPair;
use rustix::fs::{CWD, FileType, Mode as FileMode, mknodat};
use serde_json::Value;
use tempfile::TempDir;
use vouchsafe_attestation::{Ed25519Public, Mode, dsse, lp::sha256};
use vouchsafe_policies::usage::UsagePolicy;
use vouchsafe_sealed::{ModelKey, Package, Provenance, Role, SealInput, SealSpec, Shelf, Statement, Volume, seal};
use vouchsafe_tests::programs::program;

const MIB: usize = 1 << 20;
const KEY: [u8; 32] = [0x5a; 32];
const SEED: [u8; 32] = [0x6b; 32];
const USAGE: &[u8] = br#"{"version":1}"#;
/// Committed vectors: (accepted, refused). `enclave/sealed/src/tests/vectors.rs` counts them too.
const VECTORS: (usize, usize) = (5, 58);
/// Committed volumes; `enclave/sealed/src/tests/volume_vectors.rs` counts them too.
const VOLUMES: (usize, usize) = (2, 16);

/// The reference program with its libraries, or nothing where `cargo xtask test` has not installed them.
struct Reference {
    workspace: PathBuf,
}

impl Reference {
    fn find(test: &str) -> Option<Self> {
        let found = Self { workspace: Path::new(env!("CARGO_MANIFEST_DIR")).join("..") };
        let output = found.python().args(["-c", "import blake3, cryptography"]).output();
        if output.is_ok_and(|o| o.status.success()) {
            return Some(found);
        }
        let fact =
            "python3 with `cryptography` and `blake3` under target/py is missing; `cargo xtask test` installs them";
        assert!(env::var_os("VOUCHSAFE_BIN_DIR").is_none(), "{fact}");
        println!("NOT RUN: {test}: {fact}");
        None
    }

    fn python(&self) -> Command {
        let mut command = Command::new("python3");
        command.env("PYTHONPATH", self.workspace.join("target/py")).env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }

    fn run(&self, verb: &str, arguments: &[&Path]) -> Output {
        let script = self.workspace.join("tests/reference/unseal.py");
        self.python().arg(script).arg(verb).args(arguments).output().unwrap()
    }
}

fn signer() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&SEED).unwrap()
}

fn vendor() -> Ed25519Public {
    dsse::public(&signer())
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * i % 251) as u8).collect()
}

/// Sizes of graph and padding that meet every border of a chunk.
fn sizes() -> impl Iterator<Item = (usize, u64)> {
    [0, 1, MIB - 1, MIB, MIB + 1, 3 * MIB].into_iter().flat_map(|len| [(len, 1), (len, 4096)])
}

#[test]
fn the_reference_opens_what_this_code_seals() {
    let Some(reference) = Reference::find("the_reference_opens_what_this_code_seals") else { return };
    for (len, pad_to) in sizes() {
        let dir = TempDir::new().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("graph"), pattern(len)).unwrap();
        fs::write(at("weights"), pattern(1000)).unwrap();
        fs::write(at("key"), hex::encode(KEY)).unwrap();
        fs::write(at("vendor"), vendor().to_string()).unwrap();
        let input = |name: &str, role, path: &str| SealInput { name: name.to_owned(), role, path: at(path) };
        let spec = SealSpec {
            model_id: "reference".to_owned(),
            sequence: 3,
            mode: Mode::Simulation,
            inputs: vec![input("m.onnx", Role::Graph, "graph"), input("m.onnx_data", Role::ExternalData, "weights")],
            usage_policy: USAGE.to_vec(),
            provenance: Statement::ALL.map(|kind| Provenance { kind, sha256: [8; 32] }).to_vec(),
            pad_to,
        };
        let key = ModelKey::from_bytes(KEY);
        seal(&spec, &key, [0x7c; 32], &[&signer()], &at("package"), &mut |_, _| {}).unwrap();
        let output = reference.run("open", &[&at("package"), &at("key"), &at("vendor"), &at("out")]);
        assert!(output.status.success(), "{len}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(fs::read(at("out/0000")).unwrap() == pattern(len), "{len}");
        assert!(fs::read(at("out/0001")).unwrap() == pattern(1000), "{len}");
    }
}

#[test]
fn this_code_opens_what_the_reference_seals() {
    let Some(reference) = Reference::find("this_code_opens_what_the_reference_seals") else { return };
    for (len, pad_to) in sizes() {
        let dir = TempDir::new().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("graph"), pattern(len)).unwrap();
        fs::write(at("labels"), "benign\n").unwrap();
        fs::write(at("key"), hex::encode(KEY)).unwrap();
        fs::write(at("usage"), USAGE).unwrap();
        fs::write(at("built"), "what built the model\n").unwrap();
        let (seed, pad, more) =
            (hex::encode(SEED), pad_to.to_string(), format!("l.txt=labels={}", at("labels").display()));
        let beside = format!("slsa-provenance={}", at("built").display());
        let words = [seed.as_str(), "reference", "3", &pad].map(Path::new);
        let arguments = [
            &[&*at("package"), &at("key")],
            &words[..],
            &[&at("usage"), &at("graph"), Path::new(&more), Path::new(&beside)],
        ];
        let output = reference.run("seal", &arguments.concat());
        assert!(output.status.success(), "{len}: {}", String::from_utf8_lossy(&output.stderr));

        let key = ModelKey::from_bytes(KEY);
        let package = Package::open(&at("package"), &[vendor()]).unwrap();
        assert_eq!(package.usage_policy_bytes(), USAGE);
        let statement = Provenance { kind: Statement::SlsaProvenance, sha256: sha256(b"what built the model\n") };
        assert_eq!(package.manifest().provenance, [statement]);
        package.verify_blobs(&mut |_, _| {}).unwrap();
        assert!(*package.unseal_to_vec(&key, 0).unwrap() == *pattern(len), "{len}");
        assert_eq!(*package.unseal_to_vec(&key, 1).unwrap(), *b"benign\n");
        assert_eq!(package.digests(&key).unwrap().files.len(), 2);

        let mut blob = fs::read(at("package/0000.blob")).unwrap();
        *blob.last_mut().unwrap() ^= 1;
        fs::write(at("package/0000.blob"), blob).unwrap();
        assert!(package.unseal_to_vec(&key, 0).is_err(), "{len}");
    }
}

#[test]
fn the_reference_agrees_with_every_committed_vector() {
    let Some(reference) = Reference::find("the_reference_agrees_with_every_committed_vector") else { return };
    let (root, out) = (reference.workspace.join("tests/vectors/sealed"), TempDir::new().unwrap());
    let (mut accepted, mut refused) = (0, 0);
    for entry in fs::read_dir(root).unwrap().map(Result::unwrap).filter(|e| e.file_type().unwrap().is_dir()) {
        let (dir, name) = (entry.path(), entry.file_name());
        let target = out.path().join(&name);
        let arguments = [&*dir.join("package"), &dir.join("model.key.hex"), &dir.join("vendor.pub"), &target];
        let output = reference.run("open", &arguments);
        if dir.join("code").exists() {
            let words = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success() && words.starts_with("refused: "), "{name:?}: {words}");
            assert!(!target.exists(), "{name:?}");
            refused += 1;
        } else {
            for plain in fs::read_dir(dir.join("plaintext")).unwrap().map(Result::unwrap) {
                let theirs = fs::read(target.join(plain.file_name())).unwrap();
                assert_eq!(theirs, fs::read(plain.path()).unwrap(), "{name:?}");
            }
            accepted += 1;
        }
    }
    assert_eq!((accepted, refused), VECTORS);
}

#[test]
fn the_reference_agrees_with_every_committed_volume() {
    let Some(reference) = Reference::find("the_reference_agrees_with_every_committed_volume") else { return };
    let (root, out) = (reference.workspace.join("tests/vectors/volume"), TempDir::new().unwrap());
    let (mut accepted, mut refused) = (0, 0);
    for entry in fs::read_dir(&root).unwrap().map(Result::unwrap) {
        let (dir, name) = (entry.path(), entry.file_name());
        let target = out.path().join(&name);
        let output = reference.run("files", &[&dir.join("volume.bin"), &target]);
        let words = String::from_utf8_lossy(&output.stderr);
        if dir.join("code").exists() {
            assert!(!output.status.success() && words.starts_with("refused: "), "{name:?}: {words}");
            assert!(!target.exists(), "{name:?}");
            refused += 1;
            continue;
        }
        assert!(output.status.success(), "{name:?}: {words}");
        for line in fs::read_to_string(dir.join("models")).unwrap().lines() {
            let (id, vector) = line.split_once(' ').unwrap();
            let package = root.join("../sealed").join(vector).join("package");
            let names = |dir: &Path| {
                let names = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name());
                names.collect::<std::collections::BTreeSet<_>>()
            };
            assert_eq!(names(&target.join(id)), names(&package), "{name:?}");
            for file in names(&package) {
                assert!(fs::read(target.join(id).join(&file)).unwrap() == fs::read(package.join(&file)).unwrap());
            }
        }
        accepted += 1;
    }
    assert_eq!((accepted, refused), VOLUMES);
}

#[test]
fn both_readers_judge_the_launchers_volume_alike() {
    let Some(reference) = Reference::find("both_readers_judge_the_launchers_volume_alike") else { return };
    let (root, dir) = (reference.workspace.join("tests/vectors"), TempDir::new().unwrap());
    let (models, path) = (dir.path().join("models"), dir.path().join("volume"));
    for (id, vector) in [("empty", "accept-empty-graph"), ("vector", "accept-small")] {
        fs::create_dir_all(models.join(id)).unwrap();
        for file in fs::read_dir(root.join("sealed").join(vector).join("package")).unwrap().map(Result::unwrap) {
            fs::copy(file.path(), models.join(id).join(file.file_name())).unwrap();
        }
    }
    let file = fs::File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    vouchsafe_launcher::volume::Volume::create(&models, file, 0).unwrap();
    let judge = |what: &str| {
        let ours = Volume::open(fs::File::open(&path).unwrap()).map(|volume| Shelf::Volume(Arc::new(volume)));
        let output = reference.run("files", &[&path, &dir.path().join("out")]);
        let _ = fs::remove_dir_all(dir.path().join("out"));
        assert_eq!(ours.is_ok(), output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
        ours
    };
    let vendor = fs::read_to_string(root.join("sealed/accept-small/vendor.pub")).unwrap().trim().parse().unwrap();
    let package = judge("as the launcher wrote it").unwrap().package("vector", &[vendor]).unwrap();
    package.verify_blobs(&mut |_, _| {}).unwrap();

    let whole = fs::read(&path).unwrap();
    let index = u64::from_be_bytes(whole[32..40].try_into().unwrap());
    let mut opened = 0;
    for at in (0..40 + usize::try_from(index).unwrap() + 2).step_by(37) {
        let mut bad = whole.clone();
        bad[at] ^= 1 << (at % 8);
        fs::write(&path, bad).unwrap();
        opened += usize::from(judge(&format!("byte {at}")).is_ok());
    }
    println!("{opened} of the changed volumes are opened, by both readers or by none");
}

#[test]
fn the_command_seals_a_model_from_its_standard_input_and_from_a_named_pipe() {
    // Several times what a pipe holds.
    let model = pattern(2 * MIB + 12_345);
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("model.onnx"), &model).unwrap();
    fs::write(at("usage.json"), UsagePolicy::template("piped", &[])).unwrap();
    mknodat(CWD, at("model.pipe"), FileType::Fifo, FileMode::RWXU, 0).unwrap();
    let run = |words: &[&str], stdin: Stdio| {
        let output = Command::new(program("vouchsafe"))
            .args(words)
            .arg("--json")
            .current_dir(dir.path())
            .stdin(stdin)
            .output()
            .unwrap();
        let json: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        assert!(output.status.success(), "{words:?}: {json} {}", String::from_utf8_lossy(&output.stderr));
        json
    };
    run(&["keys", "sign.key"], Stdio::null());
    let vendor = fs::read_to_string(at("sign.key.pub")).unwrap().trim().parse().unwrap();

    for (input, out) in [("model.onnx", "of-file"), ("-", "of-stdin"), ("model.pipe", "of-pipe")] {
        let stdin = if input == "-" { Stdio::from(fs::File::open(at("model.onnx")).unwrap()) } else { Stdio::null() };
        thread::scope(|scope| {
            if input == "model.pipe" {
                scope.spawn(|| fs::write(at(input), &model).unwrap());
            }
            let key = format!("{out}.key");
            let words = ["seal", input, "--id", "piped", "--sequence", "1", "--sign-with", "sign.key"];
            let more = ["--usage-policy", "usage.json", "--out", out, "--key-out", &key];
            run(&[&words[..], &more].concat(), stdin);
        });
        let verified = run(&["package", "verify", out, "--vendor-key", "sign.key.pub"], Stdio::null());
        assert_eq!((&verified["accepted"], &verified["blobs_verified"]), (&true.into(), &true.into()), "{out}");
        // Not padded, so this is the length of the plaintext.
        assert_eq!(verified["files"][0]["padded_len"], model.len(), "{out}");

        let package = Package::open(&at(out), &[vendor]).unwrap();
        let key = ModelKey::from_bytes(fs::read(at(&format!("{out}.key"))).unwrap().try_into().unwrap());
        assert_eq!(package.true_len(&key, 0), Ok(model.len() as u64), "{out}");
        assert!(*package.unseal_to_vec(&key, 0).unwrap() == *model, "{out}");
    }
}
