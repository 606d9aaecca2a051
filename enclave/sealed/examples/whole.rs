//! Turns one call into one whole process that seals or opens a package, for a clock outside: `cargo xtask bench sealed`.
//! It keeps no secret: key and signer are constants, as nobody may ever use them outside a benchmark.
//!
//! `whole seal MODEL PACKAGE [THREADS]`, `whole open PACKAGE [THREADS]`

use std::{
    error::Error,
    hint::black_box,
    num::NonZero,
    path::{Path, PathBuf},
};

use ring::signature::Ed25519KeyPair;
use vouchsafe_attestation::{Mode, dsse};
use vouchsafe_sealed::{ModelKey, Package, Role, SealInput, SealOptions, SealSpec, seal_with};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// As many as the targets name.
const THREADS: usize = 2;
const USAGE: &str = "whole seal MODEL PACKAGE [THREADS] | whole open PACKAGE [THREADS]";

fn main() -> Outcome {
    let mut words = std::env::args().skip(1);
    let what = words.next().ok_or(USAGE)?;
    let mut path = || words.next().map(PathBuf::from).ok_or(USAGE);
    match what.as_str() {
        "seal" => {
            let (model, package) = (path()?, path()?);
            seal(&model, &package, threads(words.next())?)
        }
        "open" => {
            let package = path()?;
            open(&package, threads(words.next())?)
        }
        _ => Err(USAGE.into()),
    }
}

fn threads(word: Option<String>) -> Outcome<NonZero<usize>> {
    let number = word.map_or(Ok(THREADS), |word| word.parse())?;
    Ok(NonZero::new(number).ok_or("no threads")?)
}

fn signer() -> Outcome<Ed25519KeyPair> {
    Ok(Ed25519KeyPair::from_seed_unchecked(&[1; 32]).map_err(|_| "no signing key")?)
}

fn key() -> ModelKey {
    ModelKey::from_bytes([5; 32])
}

fn seal(model: &Path, package: &Path, threads: NonZero<usize>) -> Outcome {
    let spec = SealSpec {
        model_id: "whole".into(),
        sequence: 1,
        mode: Mode::Simulation,
        inputs: vec![SealInput { name: "model.onnx".into(), role: Role::Graph, path: model.to_owned() }],
        usage_policy: b"{}".to_vec(),
        provenance: Vec::new(),
        pad_to: 1,
    };
    let mut deaf = |_, _| {};
    let options = SealOptions { threads, ..SealOptions::new(&mut deaf) };
    seal_with(&spec, &key(), [2; 32], &[&signer()?], package, options)?;
    Ok(())
}

/// From nothing: signatures, length, memory that nobody has touched, and then every byte read, compared and decrypted.
fn open(package: &Path, threads: NonZero<usize>) -> Outcome {
    let package = Package::open(package, &[dsse::public(&signer()?)])?;
    let graph = package.manifest().graph()?.index;
    let len = usize::try_from(package.true_len(&key(), graph)?)?;
    let mut out = vec![0_u8; len];
    let opened = package.unseal_into(&key(), graph, threads, &mut out)?;
    black_box(&out);
    if opened == len as u64 { Ok(()) } else { Err("not all of it".into()) }
}
