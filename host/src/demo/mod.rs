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
use vouchsafe_image::Manifest;
use vouchsafe_launcher::{Backend, LaunchError, backend::host};

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
    after_help = "Example:\n  vouchsafe demo --keep /tmp/vouchsafe-demo\n  vouchsafe demo --model FILE.onnx --input FILE.json\n  vouchsafe demo --tee tdx\n  vouchsafe demo --backend sim-vm --image target/image"
)]
pub struct Args {
    /// Your own ONNX model; needs --input.
    #[arg(long, requires = "input")]
    model: Option<PathBuf>,
    /// A request for it: Open Inference Protocol v2 JSON, `{"inputs":[…]}`.
    #[arg(long, requires = "model")]
    input: Option<PathBuf>,
    /// Another file of it, ROLE=PATH as in `vouchsafe seal`; may be repeated.
    #[arg(long, requires = "model")]
    file: Vec<String>,
    /// Keep every artefact in this folder, which must not exist or be empty.
    #[arg(long)]
    keep: Option<PathBuf>,
    /// Technology to simulate: sev-snp or tdx.
    #[arg(long, default_value = "sev-snp")]
    tee: Tee,
    /// What runs the enclave: a process, or a virtual machine that boots the guest image (needs QEMU; `vouchsafe doctor`).
    #[arg(long, default_value = "sim-process", value_parser = ["sim-process", "sim-vm"])]
    backend: String,
    /// The guest image, a folder that `vouchsafe image build` made; for sim-vm.
    #[arg(long, value_name = "DIR", required_if_eq("backend", "sim-vm"))]
    image: Option<PathBuf>,
    /// Only the story, no attacks.
    #[arg(long)]
    no_attacks: bool,
    /// At most so many attacks, spread over all of them; each one in a virtual machine takes half a minute.
    #[arg(long, value_name = "N", conflicts_with = "no_attacks")]
    attacks: Option<usize>,
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
        Some((file, input)) => {
            let files = args.file.iter().map(|word| other_file(word)).collect::<Result<_, _>>()?;
            Model { id: "your-model".to_owned(), file: absolute(file)?, files, input: absolute(input)? }
        }
        None => bundled(dir)?,
    };
    let image = match (&*args.backend, &args.image) {
        ("sim-vm", Some(image)) => Some(absolute(image)?),
        (_, None) => None,
        _ => return Err(Failure::usage("--image is for --backend sim-vm", "leave it out, or name that backend")),
    };
    if let Some(image) = &image {
        look_first(tee, image)?;
    }
    let mut world = World::new(dir, model, tee, image)?;
    let mut progress = print::Progress::new(json);
    if !json {
        print::headline(tee);
    }
    let started = std::time::Instant::now();
    let mut stage = story::play(&mut world, &mut progress)?;
    progress.finish();
    if !json {
        print::verdict(&stage.verdict);
        print::measurement(&world.measurement, carried(&stage.verdict));
        let (labels, classes) = if own.is_none() { labels()? } else { Default::default() };
        print::predictions(&stage.outputs, own.is_none().then_some(&labels), &classes);
        println!();
    }
    let (outputs, verdict) = (stage.outputs.clone(), stage.verdict.clone());
    let mut played = Vec::new();
    let most = if args.no_attacks { 0 } else { args.attacks.unwrap_or(usize::MAX) };
    let ended = attacks::play(&mut world, &mut stage, &mut progress, most, &mut played);
    progress.finish();
    drop(stage);
    let failed = played.iter().filter(|p| !p.as_expected()).count();
    if json {
        let attacks: Vec<Value> = played.iter().map(attacks::Played::to_json).collect();
        println!(
            "{}",
            json!({ "accepted": failed == 0 && ended.is_ok(), "mode": "simulation", "backend": args.backend, "tee": tee,
                    "measurement": { "demanded": world.measurement, "carried": carried(&verdict) }, "outputs": outputs["outputs"], "attacks": attacks,
                    "seconds": started.elapsed().as_secs_f64(), "kept": args.keep })
        );
    } else {
        if !played.is_empty() {
            print::attacks(&played);
        }
        if failed == 0 && ended.is_ok() {
            closing(&world, args.keep.is_some(), started.elapsed().as_secs_f64(), played.len());
        }
    }
    ended?;
    if failed > 0 {
        let fact = format!("{failed} attack(s) did not end as expected");
        return Err(Failure::new("DEMO_ATTACK", 10, fact, "run with --keep DIR and read DIR/logs"));
    }
    Ok(())
}

/// What would end a demo in virtual machines after a minute ends it now, in the words of the command that says it.
fn look_first(tee: Tee, image: &Path) -> Result<(), Failure> {
    if !Backend::SimVm.shows(tee) {
        let advice = "drop --tee; rehearse TDX with --backend sim-process --tee tdx";
        return Err(Failure::new("BACKEND_TEE", 1, "--backend sim-vm runs sev-snp guests only", advice));
    }
    qemu()?;
    Manifest::read(image).map_err(|e| Failure::from(e).about(image)).map(drop)
}

/// The QEMU that a launch would find.
fn qemu() -> Result<PathBuf, Failure> {
    let failed = |e: LaunchError| Failure::new(e.code(), e.exit(), e.to_string(), e.advice());
    let found = host::find_qemu(host::QEMU.as_ref(), &host::SEARCH.map(Path::new)).map_err(failed)?;
    host::require_version(&found, Backend::SimVm).map_err(failed)?;
    Ok(found)
}

/// The measurement that the customer's verifier read in the evidence.
fn carried(verdict: &Value) -> Option<&str> {
    verdict.get("measurement").and_then(Value::as_str)
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

/// ROLE=PATH with a path that holds wherever a command runs.
fn other_file(word: &str) -> Result<String, Failure> {
    let parts = word.split_once('=');
    let (role, path) = parts.ok_or_else(|| Failure::usage("--file is not ROLE=PATH", "see vouchsafe seal --help"))?;
    Ok(format!("{role}={}", absolute(Path::new(path))?.display()))
}

/// The model that comes with the program, and rows for it.
pub fn bundled(dir: &Path) -> Result<Model, Failure> {
    let (file, input) = (dir.join("breast-cancer.onnx"), dir.join("heldout.json"));
    files::write_new(&file, MODEL, 0o644)?;
    files::write_new(&input, INPUT, 0o644)?;
    Ok(Model { id: "breast-cancer".to_owned(), file, files: Vec::new(), input })
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
