//! Turns pins and floors into the enclave's bound configuration: one file of CoCo init-data (version 0.1.0, sha256).
//! Its SHA-256 is what policies name; whoever edits the file gets another digest, and is refused.

use std::path::PathBuf;

use serde_json::json;
use vouchsafe_attestation::{claims, lp};

use crate::{
    failure::{Failure, Outcome},
    files,
};

/// Write the configuration that an operator gives to `vouchsafe launch` and that policies pin by digest.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  vouchsafe config --manifest-key acme.key.pub --release-key ed25519:… \\\n    --broker 127.0.0.1:8601=<spki sha256> --model breast-cancer=2 --out config.toml"
)]
pub struct Args {
    /// A vendor's manifest key, `ed25519:<hex>` or a .pub file; may be repeated.
    #[arg(long, required = true)]
    manifest_key: Vec<String>,
    /// A broker's release key; may be repeated. Must not be a manifest key.
    #[arg(long, required = true)]
    release_key: Vec<String>,
    /// A broker: ADDRESS=SHA-256 of its TLS public key, in hex; may be repeated.
    #[arg(long, required = true)]
    broker: Vec<String>,
    /// A model to serve and the lowest sequence to accept: ID=SEQUENCE; may be repeated.
    #[arg(long, required = true)]
    model: Vec<String>,
    /// Largest request body in bytes.
    #[arg(long, default_value_t = 8 << 20)]
    max_body_bytes: u64,
    /// Most connections at a time.
    #[arg(long, default_value_t = 256)]
    max_connections: u32,
    /// Longest time for one request, in seconds.
    #[arg(long, default_value_t = 30)]
    request_timeout_s: u32,
    /// Largest answer of a model in bytes, as tensors; 64 MiB where nothing is said.
    #[arg(long, value_name = "BYTES")]
    max_answer_bytes: Option<u64>,
    /// Memory of each process that runs a model, in MiB; follows from the model's size where nothing is said.
    #[arg(long, value_name = "MIB")]
    runner_memory_mib: Option<u64>,
    /// So many requests wait for one model before the next is refused; 64 where nothing is said.
    #[arg(long, value_name = "REQUESTS")]
    queue: Option<u32>,
    /// Fill answers up to a multiple of so many bytes, a power of two from 64 to 65,536: their lengths tell less.
    #[arg(long, value_name = "BYTES")]
    pad_answers_to: Option<u32>,
    /// Let the enclave start on a kernel that enforces its fence only in part or not at all (before Linux 6.12).
    #[arg(long)]
    landlock_best_effort: bool,
    /// Where to write it; never overwritten.
    #[arg(long)]
    out: PathBuf,
}

pub fn run(args: &Args, json: bool) -> Outcome {
    let text = text(args)?;
    files::write_new(&args.out, text.as_bytes(), 0o644)?;
    let digest = hex::encode(lp::sha256(text.as_bytes()));
    if json {
        println!("{}", json!({ "config_digest": digest }));
    } else {
        println!("config digest  {digest}");
        println!("written to {}: policies pin it with --config-digest", args.out.display());
    }
    Ok(())
}

fn text(args: &Args) -> Result<String, Failure> {
    let manifest = files::public_keys(&args.manifest_key)?;
    let release = files::public_keys(&args.release_key)?;
    if manifest.iter().any(|k| release.contains(k)) {
        let fact = "the same key is named as manifest key and as release key";
        return Err(Failure::new("CONFIG_INVALID", 1, fact, "a broker that is stolen must not be able to sign models"));
    }
    let list = |keys: &[vouchsafe_attestation::Ed25519Public]| {
        keys.iter().map(|k| format!("\"{k}\"")).collect::<Vec<_>>().join(", ")
    };
    let mut inner =
        format!("version = 1\nmanifest_keys = [{}]\nrelease_keys = [{}]\n", list(&manifest), list(&release));
    if args.landlock_best_effort {
        inner += "landlock = \"best-effort\"\n";
    }
    for broker in &args.broker {
        let (address, spki) = pair(broker, "--broker", "ADDRESS=HEX")?;
        let address: std::net::SocketAddr = address.parse().map_err(|_| {
            Failure::usage("--broker does not begin with an IP address and port", "for example 127.0.0.1:8601=<hex>")
        })?;
        if spki.len() != 64 || !spki.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(Failure::usage(
                "--broker does not end in 64 hex digits",
                "`vouchsafe broker init` prints them",
            ));
        }
        inner += &format!("\n[[brokers]]\naddress = \"{address}\"\nspki_sha256 = [\"{spki}\"]\n");
    }
    for model in &args.model {
        let (id, floor) = pair(model, "--model", "ID=SEQUENCE")?;
        claims::model_id(id).map_err(|e| Failure::usage(format!("--model: {e}"), "use another id"))?;
        let floor: u64 =
            floor.parse().map_err(|_| Failure::usage("--model does not end in a number", "for example resnet=3"))?;
        inner += &format!("\n[[models]]\nid = \"{id}\"\nmin_sequence = {floor}\nrelease = \"online\"\n");
    }
    inner += &format!(
        "\n[limits]\nmax_body_bytes = {}\nmax_connections = {}\nrequest_timeout_s = {}\n",
        args.max_body_bytes, args.max_connections, args.request_timeout_s
    );
    for (name, value) in [
        ("max_answer_bytes", args.max_answer_bytes),
        ("runner_memory_mib", args.runner_memory_mib),
        ("queue", args.queue.map(u64::from)),
    ] {
        inner += &value.map_or_else(String::new, |value| format!("{name} = {value}\n"));
    }
    inner += "\n[session]\nwindow_ms = 20\nwindow_leaves = 1024\n";
    if let Some(bytes) = args.pad_answers_to {
        inner += &format!("\n[privacy]\npad_answers_to = {bytes}\n");
    }
    Ok(format!("version = \"0.1.0\"\nalgorithm = \"sha256\"\n\n[data]\n\"vouchsafe.toml\" = '''\n{inner}'''\n"))
}

fn pair<'a>(text: &'a str, option: &str, form: &str) -> Result<(&'a str, &'a str), Failure> {
    text.split_once('=').ok_or_else(|| Failure::usage(format!("{option} is not {form}"), "see vouchsafe config --help"))
}
