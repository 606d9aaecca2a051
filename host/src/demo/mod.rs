//! Turns one command into the whole story on one machine: seal, launch, attest, release, serve, verify, infer, attacks.
//! Everything is SIMULATED: it shows how the product behaves, not that any hardware is genuine.

mod attacks;
pub mod ending;
pub mod print;
pub mod process;
pub mod story;
pub mod world;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use vouchsafe_attestation::Tee;

use crate::{
    failure::{Failure, Outcome},
    files,
};
use world::{Model, World};

/// Play the whole story on this machine, attacks included, in simulation.
///
/// Every role is a process of its own and runs the shipped command. Nothing leaves this machine, nothing stays behind
/// unless --keep is given.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  vouchsafe demo --keep /tmp/vouchsafe-demo\n  vouchsafe demo --model FILE.onnx --input FILE.json\n  vouchsafe demo --tee tdx"
)]
pub struct Args {
    /// Your own ONNX model; needs --input.
    #[arg(long, requires = "input")]
    model: Option<PathBuf>,
    /// A request for it: Open Inference Protocol v2 JSON, `{"inputs":[…]}`.
    #[arg(long, requires = "model")]
    input: Option<PathBuf>,
    /// Keep every artefact in this folder, which must not exist or be empty.
    #[arg(long)]
    keep: Option<PathBuf>,
    /// Technology to simulate: sev-snp or tdx.
    #[arg(long, default_value = "sev-snp")]
    tee: Tee,
    /// Only the story, no attacks.
    #[arg(long)]
    no_attacks: bool,
}

const MODEL: &[u8] = include_bytes!("../../../examples/breast-cancer/model.onnx");
const INPUT: &[u8] = include_bytes!("../../../examples/breast-cancer/heldout.json");
const LABELS: &[u8] = include_bytes!("../../../examples/breast-cancer/labels.json");

pub fn run(args: Args, json: bool) -> Outcome {
    let (dir, temporary) = folder(args.keep.as_deref())?;
    ending::on_signal(temporary.as_ref().map(|t| t.path().to_owned()));
    let outcome = play(&dir, args, json);
    ending::hold();
    outcome
}

fn play(dir: &Path, args: Args, json: bool) -> Outcome {
    let (own, tee) = (args.model.zip(args.input), args.tee);
    let model = match &own {
        Some((file, input)) => Model { id: "your-model".to_owned(), file: absolute(file)?, input: absolute(input)? },
        None => bundled(dir)?,
    };
    let mut world = World::new(dir, model, tee)?;
    let mut progress = print::Progress::new(json);
    if !json {
        print::headline(tee);
    }
    let started = std::time::Instant::now();
    let mut stage = story::play(&mut world, &mut progress)?;
    progress.finish();
    if !json {
        print::verdict(&stage.verdict);
        let (labels, classes) = if own.is_none() { labels()? } else { Default::default() };
        print::predictions(&stage.outputs, own.is_none().then_some(&labels), &classes);
        println!();
    }
    let outputs = stage.outputs.clone();
    let played = if args.no_attacks { Vec::new() } else { attacks::play(&mut world, &mut stage, &mut progress)? };
    progress.finish();
    drop(stage);
    let failed = played.iter().filter(|p| !p.as_expected()).count();
    if json {
        let attacks: Vec<Value> = played.iter().map(attacks::Played::to_json).collect();
        println!(
            "{}",
            json!({ "accepted": failed == 0, "mode": "simulation", "tee": tee, "outputs": outputs["outputs"], "attacks": attacks,
                    "seconds": started.elapsed().as_secs_f64(), "kept": args.keep })
        );
    } else {
        if !played.is_empty() {
            print::attacks(&played);
        }
        closing(&world, args.keep.is_some(), started.elapsed().as_secs_f64(), played.len());
    }
    if failed > 0 {
        let fact = format!("{failed} attack(s) did not end as expected");
        return Err(Failure::new("DEMO_ATTACK", 10, fact, "run with --keep DIR and read DIR/logs"));
    }
    Ok(())
}

fn closing(world: &World, kept: bool, seconds: f64, attacks: usize) {
    let played = if attacks == 0 { String::new() } else { format!(", and {attacks} attacks, every one refused") };
    println!("\nDone in {seconds:.1} s: the story{played}. Try next:");
    if kept {
        let package = world.dir.join("operator/models").join(&world.model.id);
        println!("  less {}", world.at("customer/report.md"));
        println!("  vouchsafe package show {} --vendor-key {}", package.display(), world.at("vendor/manifest.key.pub"));
        println!("  vouchsafe broker ledger show {}", world.at("broker/state"));
    } else {
        println!("  vouchsafe demo --keep demo-world        # and read what each role holds");
        println!("  vouchsafe demo --model FILE.onnx --input FILE.json");
        println!("  vouchsafe verify --help                 # verify as a customer would");
    }
}

/// The folder of this demo: an own one to keep, or a temporary one that is removed.
pub fn folder(keep: Option<&Path>) -> Result<(PathBuf, Option<tempfile::TempDir>), Failure> {
    let Some(keep) = keep else {
        let temporary = tempfile::Builder::new()
            .prefix("vouchsafe-demo-")
            .tempdir()
            .map_err(|e| Failure::file(&std::env::temp_dir(), "written", &e))?;
        return Ok((temporary.path().to_owned(), Some(temporary)));
    };
    std::fs::create_dir_all(keep).map_err(|e| Failure::file(keep, "created", &e))?;
    let mut entries = std::fs::read_dir(keep).map_err(|e| Failure::file(keep, "read", &e))?;
    if entries.next().is_some() {
        let fact = format!("{} is not empty", keep.display());
        return Err(Failure::new("FOLDER_NOT_EMPTY", 9, fact, "name a new folder"));
    }
    Ok((absolute(keep)?, None))
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    path.canonicalize().map_err(|e| Failure::file(path, "found", &e))
}

/// The model that comes with the program, and rows for it.
pub fn bundled(dir: &Path) -> Result<Model, Failure> {
    let (file, input) = (dir.join("breast-cancer.onnx"), dir.join("heldout.json"));
    files::write_new(&file, MODEL, 0o644)?;
    files::write_new(&input, INPUT, 0o644)?;
    Ok(Model { id: "breast-cancer".to_owned(), file, input })
}

fn labels() -> Result<(Vec<String>, Vec<String>), Failure> {
    let broken = || Failure::new("DEMO_STEP", 10, "the bundled labels cannot be read", "build the project again");
    let value: Value = serde_json::from_slice(LABELS).map_err(|_| broken())?;
    let list = |name| -> Option<Vec<String>> {
        value.get(name)?.as_array()?.iter().map(|v| v.as_str().map(str::to_owned)).collect()
    };
    let classes = list("class_names").ok_or_else(broken)?;
    let labels = value.get("labels").and_then(Value::as_array).ok_or_else(broken)?;
    let labels = labels.iter().map(|l| classes.get(usize::try_from(l.as_u64()?).ok()?).cloned());
    Ok((labels.collect::<Option<_>>().ok_or_else(broken)?, classes))
}
