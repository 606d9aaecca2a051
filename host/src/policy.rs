//! Turns what a relying party knows into a policy file, and a policy file into everything that it demands.
//! It does not judge evidence.

mod from_build;

use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use serde_json::json;
use vouchsafe_attestation::{Tee, claims, encoding::from_hex, lp, snp::Product};
use vouchsafe_policies::{InitAnchors, InitModel, InitOptions, InitSnp, InitTdx, Listed, Policy, init_text};

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
        after_help = "Example:\n  vouchsafe policy init --mode simulation --tee sev-snp --root root.pem --measurement <96 hex> \\\n    --config-digest <64 hex> --platform <128 hex> --model breast-cancer=1=acme-manifest.key.pub \\\n    --out policy.toml"
    )]
    Init(Box<Init>),
    /// Write a complete policy for a built image and a configuration: measurement and config digest are computed.
    #[command(
        after_help = "Example:\n  vouchsafe policy from-build --image image --config config.toml --mode hardware --tee sev-snp \\\n    --platform <128 hex> --model breast-cancer=1=acme-manifest.key.pub --out policy.toml\n\nAfterwards read it: vouchsafe policy show policy.toml"
    )]
    FromBuild(Box<from_build::FromBuild>),
    /// Print everything that a policy demands, its base included.
    #[command(visible_alias = "explain", after_help = "Example:\n  vouchsafe policy show policy.toml")]
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
    /// Which trust root: the vendors' own, or one made on a tester's machine.
    #[arg(long, value_enum)]
    mode: ModeWord,
    /// Accepted technology [default: sev-snp]; may be repeated.
    #[arg(long, value_parser = ["sev-snp", "tdx"])]
    tee: Vec<String>,
    /// The simulated root, a file that `vouchsafe-simulator root` made; only with --mode simulation.
    #[arg(long)]
    root: Option<PathBuf>,
    /// A name that verdicts print [default: the file's].
    #[arg(long)]
    name: Option<String>,
    /// Accepted launch measurement, 96 hex digits from `vouchsafe measure`; may be repeated. The MRTD where tdx alone is accepted.
    #[arg(long)]
    measurement: Vec<String>,
    /// TDX beside sev-snp: accepted MRTD, 96 hex digits; may be repeated.
    #[arg(long)]
    mr_td: Vec<String>,
    /// TDX: accepted RTMR0, 96 hex digits; may be repeated.
    #[arg(long)]
    rtmr0: Vec<String>,
    /// TDX: accepted RTMR1, 96 hex digits; may be repeated.
    #[arg(long)]
    rtmr1: Vec<String>,
    /// TDX: accepted RTMR2, 96 hex digits; may be repeated.
    #[arg(long)]
    rtmr2: Vec<String>,
    /// TDX: accepted RTMR3, 96 hex digits, or `any`; may be repeated.
    #[arg(long)]
    rtmr3: Vec<String>,
    /// Accepted configuration digest, 64 hex digits, or `any`; may be repeated.
    #[arg(long, required = true)]
    config_digest: Vec<String>,
    /// Accepted machine: a chip id of 128 hex digits (SEV-SNP), a PPID of 32 (TDX), or `any`; may be repeated.
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
        Command::Init(init) => write_policy(init, "", json),
        Command::FromBuild(args) => from_build::run(args, json),
        Command::Show { policy } => show(policy, json),
    }
}

/// Writes the policy, with comment lines before it.
fn write_policy(args: &Init, preface: &str, json: bool) -> Outcome {
    let options = InitOptions {
        name: args.name.clone().unwrap_or_else(|| file_name(&args.out)),
        anchors: anchors(args)?,
        config_digests: listed(&args.config_digest, "--config-digest")?,
        models: if args.any_model { Listed::Any } else { Listed::Only(models(&args.model)?) },
        snp: snp(args)?,
        tdx: tdx(args)?,
    };
    let text = preface.to_owned() + &init_text(&options);
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
    if json {
        println!("{}", policy.explain_json());
    } else {
        print!("{}", policy.explain_table());
    }
    Ok(())
}

fn accepts(args: &Init, tee: Tee) -> bool {
    // Without the option: the technology that this command has always meant.
    if args.tee.is_empty() { tee == Tee::SevSnp } else { args.tee.iter().any(|word| word == tee.as_str()) }
}

fn snp(args: &Init) -> Result<Option<InitSnp>, Failure> {
    if !accepts(args, Tee::SevSnp) {
        return unused(&[&args.product], "--product speaks of sev-snp");
    }
    Ok(Some(InitSnp {
        measurements: needed(&args.measurement, "--measurement")?,
        platforms: machines(args, 128, "--platform of 128 hex digits")?,
        products: args.product.iter().filter_map(|p| product(p)).collect(),
    }))
}

fn tdx(args: &Init) -> Result<Option<InitTdx>, Failure> {
    let rtmr = [&args.rtmr0, &args.rtmr1, &args.rtmr2, &args.rtmr3];
    if !accepts(args, Tee::Tdx) {
        let [r0, r1, r2, r3] = rtmr;
        return unused(&[&args.mr_td, r0, r1, r2, r3], "--mr-td and --rtmr0 to --rtmr3 speak of tdx");
    }
    // Beside sev-snp the two measurements need two names.
    let alone = !accepts(args, Tee::SevSnp);
    let measured = if alone { [&args.measurement[..], &args.mr_td[..]].concat() } else { args.mr_td.clone() };
    Ok(Some(InitTdx {
        mr_td: needed(&measured, if alone { "--measurement" } else { "--mr-td" })?,
        rtmr: [
            needed(&args.rtmr0, "--rtmr0")?,
            needed(&args.rtmr1, "--rtmr1")?,
            needed(&args.rtmr2, "--rtmr2")?,
            needed(&args.rtmr3, "--rtmr3")?,
        ],
        platforms: machines(args, 32, "--platform of 32 hex digits")?,
    }))
}

fn unused<T>(given: &[&Vec<String>], says: &'static str) -> Result<Option<T>, Failure> {
    if given.iter().any(|list| !list.is_empty()) {
        return Err(Failure::usage(format!("{says}, which this policy does not accept"), "add it with --tee"));
    }
    Ok(None)
}

fn needed<const N: usize>(texts: &[String], option: &'static str) -> Result<Listed<[u8; N]>, Failure> {
    if texts.is_empty() {
        return Err(Failure::usage(format!("{option} is missing"), "`vouchsafe measure` prints it"));
    }
    listed(texts, option)
}

/// The machines of one technology: their names differ in length, `any` means every one.
fn machines<const N: usize>(args: &Init, digits: usize, option: &'static str) -> Result<Listed<[u8; N]>, Failure> {
    if args.platform.iter().any(|t| t != "any" && ![32, 128].contains(&t.len())) {
        return Err(Failure::usage("--platform is not 32 or 128 hex digits", "copy it whole"));
    }
    let own: Vec<_> = args.platform.iter().filter(|t| *t == "any" || t.len() == digits).cloned().collect();
    if own.is_empty() {
        return Err(Failure::usage(format!("{option} is missing"), "name the machine, or write `any`"));
    }
    listed(&own, option)
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
