//! Turns what a relying party knows into a policy file, and a policy file into everything that it demands.
//! It does not judge evidence.

use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};
use vouchsafe_attestation::{claims, encoding::from_hex, lp, snp::Product};
use vouchsafe_policies::{InitAnchors, InitModel, InitOptions, Listed, Policy, init_text};

use crate::{
    failure::{Failure, Outcome},
    files, verify,
};

/// Write or read an attestation policy.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  vouchsafe policy show policy.toml")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write a complete policy; nothing in it has a silent default.
    #[command(
        after_help = "Example:\n  vouchsafe policy init --mode simulation --root root.pem --measurement <96 hex> \\\n    --config-digest <64 hex> --platform <128 hex> --model breast-cancer=1=acme-manifest.key.pub \\\n    --out policy.toml"
    )]
    Init(Init),
    /// Print everything that a policy demands, its base included.
    #[command(after_help = "Example:\n  vouchsafe policy show policy.toml")]
    Show {
        /// The policy file.
        policy: PathBuf,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum ModeWord {
    Hardware,
    Simulation,
}

#[derive(clap::Args)]
struct Init {
    /// Which trust root: AMD's, or one made on a tester's machine.
    #[arg(long, value_enum)]
    mode: ModeWord,
    /// The simulated root, a file that `vouchsafe-simulator root` made; only with --mode simulation.
    #[arg(long)]
    root: Option<PathBuf>,
    /// A name that verdicts print [default: the file's].
    #[arg(long)]
    name: Option<String>,
    /// Accepted measurement, 96 hex digits from `vouchsafe measure`; may be repeated.
    #[arg(long, required = true)]
    measurement: Vec<String>,
    /// Accepted configuration digest, 64 hex digits, or `any`; may be repeated.
    #[arg(long, required = true)]
    config_digest: Vec<String>,
    /// Accepted chip id, 128 hex digits, or `any`; may be repeated.
    #[arg(long, required = true)]
    platform: Vec<String>,
    /// Accepted processor family [default: the base's]; may be repeated.
    #[arg(long, value_parser = ["milan", "genoa", "turin"])]
    product: Vec<String>,
    /// Accepted model: ID=LOWEST SEQUENCE=VENDOR KEY; may be repeated.
    #[arg(long, required_unless_present = "any_model")]
    model: Vec<String>,
    /// Accept any model (for a broker, which decides by its own keys).
    #[arg(long, conflicts_with = "model")]
    any_model: bool,
    /// Where to write it; never overwritten.
    #[arg(long)]
    out: PathBuf,
}

pub fn run(args: &Args, json: bool) -> Outcome {
    match &args.command {
        Command::Init(init) => write(init, json),
        Command::Show { policy } => show(policy, json),
    }
}

fn write(args: &Init, json: bool) -> Outcome {
    let options = InitOptions {
        name: args.name.clone().unwrap_or_else(|| file_name(&args.out)),
        anchors: anchors(args)?,
        measurements: listed(&args.measurement, "--measurement")?,
        config_digests: listed(&args.config_digest, "--config-digest")?,
        platforms: listed(&args.platform, "--platform")?,
        products: args.product.iter().filter_map(|p| product(p)).collect(),
        models: if args.any_model { Listed::Any } else { Listed::Only(models(&args.model)?) },
    };
    let text = init_text(&options);
    files::write_new(&args.out, text.as_bytes(), 0o644)?;
    // What was written is read back: a policy that does not load is told now, not at the first verdict.
    let policy = Policy::load(&args.out).inspect_err(|_| {
        let _ = std::fs::remove_file(&args.out);
    })?;
    let digest = hex::encode(policy.digest());
    if json {
        println!("{}", json!({ "policy_digest": digest, "mode": policy.mode() }));
    } else {
        println!("policy digest  {digest}");
        println!("written to {}: read it back with `vouchsafe policy show`", args.out.display());
    }
    Ok(())
}

fn show(path: &Path, json: bool) -> Outcome {
    let policy = verify::policy(path)?;
    let rows = policy.explain();
    if json {
        // A list, since a rule with several demands has several rows.
        let rules: Vec<Value> =
            rows.into_iter().map(|(rule, demand)| json!({ "rule": rule, "demand": demand })).collect();
        println!(
            "{}",
            json!({ "name": policy.name(), "mode": policy.mode(), "policy_digest": hex::encode(policy.digest()), "rules": rules })
        );
        return Ok(());
    }
    println!("{:<28} {}", "policy", policy.name());
    println!("{:<28} {}", "digest", hex::encode(policy.digest()));
    let mut last = String::new();
    for (rule, demand) in rows {
        // A rule's further demands stand under the first.
        let name = if rule == last { "" } else { &rule };
        for (at, part) in demand.split("; ").enumerate() {
            println!("{:<28} {part}", if at == 0 { name } else { "" });
        }
        last = rule;
    }
    Ok(())
}

/// A name for verdicts, from the file's own; what cannot stand there is left out.
fn file_name(path: &Path) -> String {
    let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    let name: String = stem.chars().filter(|c| matches!(c, ' '..='~')).take(64).collect();
    if name.trim().is_empty() { "policy".to_owned() } else { name }
}

fn anchors(args: &Init) -> Result<InitAnchors, Failure> {
    match (args.mode, &args.root) {
        (ModeWord::Hardware, None) => Ok(InitAnchors::Hardware),
        (ModeWord::Simulation, Some(root)) => {
            let bytes = files::read(root, 64 << 10)?;
            let path = root.canonicalize().map_err(|e| Failure::file(root, "found", &e))?;
            let path = path.to_str().ok_or_else(|| Failure::usage("--root is not a UTF-8 path", "rename it"))?;
            Ok(InitAnchors::Simulation { path: path.to_owned(), sha256: lp::sha256(&bytes) })
        }
        (ModeWord::Hardware, Some(_)) => Err(Failure::new(
            "POLICY_INVALID",
            1,
            "a policy cannot name both AMD's root and a simulated one",
            "drop --root, or use --mode simulation",
        )),
        (ModeWord::Simulation, None) => Err(Failure::usage(
            "--mode simulation needs --root",
            "`vouchsafe-simulator root --root DIR` makes DIR/root.pem",
        )),
    }
}

fn listed<const N: usize>(texts: &[String], option: &'static str) -> Result<Listed<[u8; N]>, Failure> {
    if texts.iter().any(|t| t == "any") {
        return if texts.len() == 1 {
            Ok(Listed::Any)
        } else {
            Err(Failure::usage(format!("{option} is both `any` and a value"), "use one of the two"))
        };
    }
    let parse = |t: &String| {
        from_hex(t, option)
            .map_err(|_| Failure::usage(format!("{option} is not {} hex digits", 2 * N), "copy it whole"))
    };
    texts.iter().map(parse).collect::<Result<_, _>>().map(Listed::Only)
}

fn models(texts: &[String]) -> Result<Vec<InitModel>, Failure> {
    let form = || Failure::usage("--model is not ID=LOWEST SEQUENCE=VENDOR KEY", "for example resnet=3=acme.key.pub");
    texts
        .iter()
        .map(|text| {
            let mut parts = text.splitn(3, '=');
            let (Some(id), Some(floor), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
                return Err(form());
            };
            claims::model_id(id).map_err(|e| Failure::usage(format!("--model: {e}"), "use another id"))?;
            Ok(InitModel {
                id: id.to_owned(),
                min_sequence: floor.parse().map_err(|_| form())?,
                vendor_keys: Listed::Only(vec![files::public_key(key)?]),
            })
        })
        .collect()
}

fn product(word: &str) -> Option<Product> {
    match word {
        "milan" => Some(Product::Milan),
        "genoa" => Some(Product::Genoa),
        "turin" => Some(Product::Turin),
        _ => None,
    }
}
