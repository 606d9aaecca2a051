//! Turns an ONNX model into a sealed package and its wrapped key.
//! The rules of the format live in `enclave/sealed`; this file finds inputs, proposes a usage policy and wraps the key.

use std::{
    io::IsTerminal as _,
    path::{Path, PathBuf},
};

use indicatif::{ProgressBar, ProgressStyle};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::json;
use vouchsafe_attestation::{Mode, claims, lp};
use vouchsafe_policies::usage::UsagePolicy;
use vouchsafe_release::{ModelKeyRecord, WrapPublic, wrapped};
use vouchsafe_sealed::{ModelKey, Role, SealInput, SealSpec, commitment};

use crate::{
    failure::{Failure, Outcome},
    files, onnx,
};

/// The head of a model is read for its inputs up to this size; larger ones need --usage-policy.
const MAX_SCAN: u64 = 2 << 30;

/// Seal an ONNX model into a package that only a granted enclave can open.
///
/// Every call makes a fresh model key. The package may travel anywhere; the wrapped key goes to the broker.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  vouchsafe seal model.onnx --id breast-cancer --sequence 1 --sign-with acme-manifest.key \\\n    --to broker.pub --out breast-cancer-v1"
)]
pub struct Args {
    /// The ONNX graph.
    model: PathBuf,
    /// Your name for the model: 1 to 64 of a-z, 0-9, hyphen, underscore and full stop.
    #[arg(long)]
    id: String,
    /// Version number; must rise with every version.
    #[arg(long)]
    sequence: u64,
    /// A signing key made by `vouchsafe keys`; may be repeated: each signs, and this package opens only where all are pinned.
    #[arg(long, required = true)]
    sign_with: Vec<PathBuf>,
    /// The broker's wrapping key: text or file, from `vouchsafe broker init`.
    #[arg(long, required_unless_present = "key_out")]
    to: Option<String>,
    /// The package folder to make.
    #[arg(long)]
    out: PathBuf,
    /// Where to write the wrapped key [default: OUT.key.json].
    #[arg(long)]
    wrapped: Option<PathBuf>,
    /// Write the plaintext model key here (0600). Whoever reads it can open the package.
    #[arg(long)]
    key_out: Option<PathBuf>,
    /// For simulation: the key is tagged so that no hardware grant ever carries it.
    #[arg(long)]
    rehearsal: bool,
    /// The usage policy, JSON [default: one that names the model's inputs].
    #[arg(long)]
    usage_policy: Option<PathBuf>,
    /// Another file of the model: ROLE=PATH, role one of external-data, tokenizer, labels, preprocess; may be repeated.
    #[arg(long)]
    file: Vec<String>,
    /// Hide lengths by padding every file to a multiple of this many bytes.
    #[arg(long, default_value_t = 1)]
    pad_to: u64,
}

pub fn run(args: &Args, json: bool) -> Outcome {
    claims::model_id(&args.id).map_err(|e| Failure::usage(format!("--id: {e}"), "use another id"))?;
    let signers = args.sign_with.iter().map(|p| files::signing_key(p)).collect::<Result<Vec<_>, _>>()?;
    let to = args.to.as_deref().map(wrap_public).transpose()?;
    let wrapped_path = args.wrapped.clone().unwrap_or_else(|| suffixed(&args.out, ".key.json"));
    // Told before the long work, not after it.
    for path in to.iter().map(|_| &wrapped_path).chain(&args.key_out) {
        files::absent(path)?;
    }
    let mode = if args.rehearsal { Mode::Simulation } else { Mode::Hardware };
    let spec = SealSpec {
        model_id: args.id.clone(),
        sequence: args.sequence,
        mode,
        inputs: inputs(args)?,
        usage_policy: usage_policy(args)?,
        pad_to: args.pad_to,
    };
    let key = ModelKey::generate()?;
    let mut uid = [0; 32];
    SystemRandom::new()
        .fill(&mut uid)
        .map_err(|_| Failure::new("RANDOM", 9, "the system gave no randomness", "see the kernel log"))?;
    let bar = bar(json);
    let signers: Vec<_> = signers.iter().collect();
    let sealed = vouchsafe_sealed::seal(&spec, &key, uid, &signers, &args.out, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    let record = ModelKeyRecord {
        model_id: args.id.clone(),
        uid,
        sequence: args.sequence,
        mode,
        manifest_digest: sealed.manifest_digest,
        usage_policy_digest: lp::sha256(&spec.usage_policy),
        commitment: commitment(&key, &uid),
        key,
    };
    if let Some(to) = &to {
        files::write_new(&wrapped_path, &wrapped::wrap(to, &record)?, 0o600)?;
    }
    if let Some(path) = &args.key_out {
        files::write_new(path, record.key.expose(), 0o600)?;
    }
    let digest = hex::encode(sealed.manifest_digest);
    if json {
        println!(
            "{}",
            json!({ "model": args.id, "sequence": args.sequence, "mode": mode, "manifest_digest": digest,
                    "uid": hex::encode(uid), "bytes": sealed.bytes, "package": args.out,
                    "wrapped_key": to.as_ref().map(|_| &wrapped_path) })
        );
    } else {
        println!(
            "sealed {} version {} for {mode}: {} bytes in {}",
            args.id,
            args.sequence,
            sealed.bytes,
            args.out.display()
        );
        println!("manifest digest  {digest}");
        if to.is_some() {
            println!("wrapped key in {}: give it to the broker with `vouchsafe broker import`", wrapped_path.display());
        }
    }
    Ok(())
}

fn inputs(args: &Args) -> Result<Vec<SealInput>, Failure> {
    let input = |role, path: PathBuf| {
        let name = path.file_name().and_then(|n| n.to_str()).map(str::to_owned);
        name.map(|name| SealInput { name, role, path })
            .ok_or_else(|| Failure::usage("a file of the model has no name in UTF-8", "rename it"))
    };
    let mut out = vec![input(Role::Graph, args.model.clone())?];
    for word in &args.file {
        let role = |r| {
            [Role::ExternalData, Role::Tokenizer, Role::Labels, Role::Preprocess].into_iter().find(|x| x.as_str() == r)
        };
        let parsed = word.split_once('=').and_then(|(r, path)| Some((role(r)?, PathBuf::from(path))));
        let (role, path) =
            parsed.ok_or_else(|| Failure::usage("--file is not ROLE=PATH", "see vouchsafe seal --help"))?;
        out.push(input(role, path)?);
    }
    Ok(out)
}

fn usage_policy(args: &Args) -> Result<Vec<u8>, Failure> {
    let bytes = match &args.usage_policy {
        Some(path) => files::read(path, 256 << 10)?,
        None => {
            let inputs = onnx::inputs(&files::read(&args.model, MAX_SCAN)?).ok_or_else(|| {
                let fact = format!("the inputs of {} cannot be read as ONNX", args.model.display());
                Failure::new(
                    "SEAL_MODEL",
                    1,
                    fact,
                    "is it an ONNX file? otherwise write a usage policy: --usage-policy FILE",
                )
            })?;
            UsagePolicy::template(&args.id, &inputs).into_bytes()
        }
    };
    // A policy that the enclave would refuse is refused here already.
    UsagePolicy::parse(&bytes).map_err(|e| Failure::new(e.code(), e.exit(), e.to_string(), e.advice()))?;
    Ok(bytes)
}

fn wrap_public(text_or_path: &str) -> Result<WrapPublic, Failure> {
    if let Ok(key) = text_or_path.trim().parse() {
        return Ok(key);
    }
    let text = match text_or_path.starts_with("vouchsafe-broker-") {
        true => text_or_path.to_owned(),
        false => files::read_text(Path::new(text_or_path))?,
    };
    Ok(text.trim().parse::<WrapPublic>()?)
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A progress bar for people; nothing for scripts.
pub fn bar(json: bool) -> ProgressBar {
    if json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
    let bar = ProgressBar::new(0);
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar
}
