//! Turns a report or quote, its collateral and a policy, all in files, into one verdict: the conformance interface of `docs/evidence.md`.
//! It binds the evidence to nothing but the REPORT_DATA that the caller names: no session, no key.

mod claims;

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Subcommand;
use serde_json::{Value, json};
use vouchsafe_attestation::{
    Authentic, Collateral, Evidence, Mode, Tee, UnixTime,
    collateral::{self, Form, MAX_BUNDLE},
    verify,
};
use vouchsafe_policies::{Appraised, Expected, Policy, appraise};

use crate::{
    clock,
    failure::{Failure, Outcome},
    files, verify as online,
};

/// Larger files are not read: no report, quote, certificate or list comes near.
const MAX_INPUT: u64 = 1 << 20;

/// Verify a report or quote that lies in a file, as any other implementation would.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  vouchsafe evidence verify --tee sev-snp --evidence report.bin --leaf vcek.der --crl crl.der \\\n    --policy policy.toml --json"
)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Verify and appraise one report or quote; print one verdict.
    ///
    /// The conformance interface: inputs, output and codes are those of docs/evidence.md and stay as they are.
    /// Exit status: 0 accepted, 2 not authentic, 3 collateral missing or stale, 4 refused by the policy, 1 usage or a wrong
    /// policy, 9 a file that cannot be read.
    #[command(
        after_help = "Example:\n  vouchsafe evidence verify --tee sev-snp --evidence report.bin --leaf vcek.der --crl crl.der \\\n    --policy policy.toml --at 2026-03-01T00:00:00Z --json\n  vouchsafe evidence verify --tee tdx --evidence quote.bin --collateral bundle.json \\\n    --report-data <128 hex> --policy policy.toml"
    )]
    Verify(Verify),
}

#[derive(clap::Args)]
struct Verify {
    /// Technology of the evidence: sev-snp or tdx.
    #[arg(long)]
    tee: Tee,
    /// The raw report (1184 bytes) or the raw quote.
    #[arg(long, value_name = "FILE")]
    evidence: PathBuf,
    /// SEV-SNP: the VCEK or VLEK certificate, DER; PEM is read with a note.
    #[arg(long, value_name = "FILE", conflicts_with = "collateral")]
    leaf: Option<PathBuf>,
    /// SEV-SNP: the product's revocation list, DER; PEM is read with a note.
    #[arg(long, value_name = "FILE", conflicts_with = "collateral")]
    crl: Option<PathBuf>,
    /// SEV-SNP: the authority that issued a VLEK, DER; PEM is read with a note. Not needed with a VCEK.
    #[arg(long, value_name = "FILE", conflicts_with = "collateral")]
    asvk: Option<PathBuf>,
    /// All collateral in one file: from `vouchsafe collateral pack`, or in the JSON form of dcap-qvl.
    #[arg(long, value_name = "FILE")]
    collateral: Option<PathBuf>,
    /// REPORT_DATA that the evidence must carry, 128 hex digits; without it nothing is compared, and the verdict says so.
    #[arg(long, value_name = "HEX")]
    report_data: Option<String>,
    /// Your attestation policy.
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// As of when, for example 2026-11-21T12:00:00Z [default: now].
    #[arg(long, value_name = "RFC3339")]
    at: Option<String>,
}

/// What is known so far; a refusal prints it too.
#[derive(Default)]
struct Known {
    mode: Option<Mode>,
    policy: Value,
    at: Option<UnixTime>,
    step: Option<u8>,
    steps: Vec<Value>,
    claims: Value,
    notes: Vec<String>,
    rows: Value,
}

pub fn run(args: &Args, json: bool) -> Outcome {
    let Command::Verify(args) = &args.command;
    let mut known = Known { claims: json!({}), rows: json!([]), ..Known::default() };
    match judge(args, &mut known) {
        Ok(appraised) if json => {
            println!("{}", accepted(args, &known, &appraised));
            Ok(())
        }
        Ok(appraised) => {
            print!("{}", steps(&known));
            print!("{appraised}");
            print!("{}", own_notes(&known));
            Ok(())
        }
        Err(mut failure) => {
            if !json && known.mode.is_some() {
                print!("{}", steps(&known));
                print!("{}", own_notes(&known));
            }
            failure.more = Box::new(refused(args, &known, &failure));
            Err(failure)
        }
    }
}

/// Every input, in the order in which they are needed; then the two halves of the verdict.
fn judge(args: &Verify, known: &mut Known) -> Result<Appraised, Failure> {
    let wanted = args.report_data.as_deref().map(report_data).transpose()?;
    let other = match args.tee {
        Tee::SevSnp => None,
        Tee::Tdx => [(&args.leaf, "--leaf"), (&args.crl, "--crl"), (&args.asvk, "--asvk")]
            .into_iter()
            .find_map(|(given, option)| given.is_some().then_some(option)),
    };
    if let Some(option) = other {
        let fact = format!("{option} is for sev-snp: a TDX quote is verified with --collateral");
        return Err(Failure::usage(fact, "`vouchsafe collateral pack --tee tdx` makes the file"));
    }
    let policy: Arc<Policy> = online::policy(&args.policy)?;
    known.mode = Some(policy.mode());
    known.policy = json!({ "name": policy.name(), "sha256": hex::encode(policy.digest()) });
    let at = clock::as_of(args.at.as_deref())?;
    known.at = Some(at);
    let bytes = files::read_input(&args.evidence, MAX_INPUT)?;
    let evidence = match args.tee {
        Tee::SevSnp => Evidence::SevSnp { report: bytes },
        Tee::Tdx => Evidence::Tdx { quote: bytes },
    };
    let collateral = collateral(args, known)?;
    let authentic = verify(&evidence, &collateral, policy.anchors(), at).map_err(|e| {
        known.step = Some(e.step());
        under(Failure::from(e), policy.mode())
    })?;
    known.authentic(&authentic);
    let expected = match wanted {
        Some(report_data) => Expected::Exact { report_data },
        None => Expected::Unbound,
    };
    appraise(authentic, &policy, &expected).map_err(|refusal| {
        known.rows = json!(refusal.rows());
        let headline = refusal.to_string().lines().next().unwrap_or_default().to_owned();
        let reasons = refusal.reasons.iter().map(|reason| json!(reason)).collect();
        Failure { reasons, ..Failure::new(refusal.code(), refusal.exit(), headline, refusal.advice()) }
    })
}

impl Known {
    fn authentic(&mut self, authentic: &Authentic) {
        self.claims = claims::of(authentic);
        self.steps = authentic
            .steps()
            .iter()
            .map(|step| json!({ "number": step.number, "name": step.name, "detail": step.detail }))
            .collect();
    }
}

fn report_data(text: &str) -> Result<[u8; 64], Failure> {
    let mut out = [0; 64];
    match hex::decode_to_slice(text, &mut out) {
        Ok(()) => Ok(out),
        Err(_) => Err(Failure::usage("--report-data is not 128 hex digits", "give all 64 bytes, zeros included")),
    }
}

/// A verdict of a simulation says so first.
fn under(mut failure: Failure, mode: Mode) -> Failure {
    if mode == Mode::Simulation {
        failure.fact.insert_str(0, "SIMULATED: ");
    }
    failure
}

/// What is missing is left empty: the rule that needs it says so (`LEAF_MISSING`, `CRL_MISSING`).
fn collateral(args: &Verify, known: &mut Known) -> Result<Collateral, Failure> {
    if let Some(path) = &args.collateral {
        return bundle(path);
    }
    if args.tee == Tee::Tdx {
        let advice = "fetch it with `vouchsafe collateral fetch --tee tdx`, and name the file with --collateral";
        return Err(Failure::new("COLLATERAL_MISSING", 3, "there is no collateral with the quote", advice));
    }
    let mut read = |path: &Option<PathBuf>, option: &str| match path {
        None => Ok::<_, Failure>(Vec::new()),
        Some(path) => {
            let (bytes, form) = collateral::der_of(files::read_input(path, MAX_INPUT)?);
            if form == Form::Pem {
                known.notes.push(format!("{option} is PEM; the DER inside was used"));
            }
            Ok(bytes)
        }
    };
    let asvk = read(&args.asvk, "--asvk")?;
    if let (Some(path), true) = (&args.asvk, asvk.is_empty()) {
        // An empty authority means none, which is not what a named file says.
        let fact = format!("{} is empty", path.display());
        return Err(Failure::new("FILE_EMPTY", 9, fact, "name the authority's certificate, or leave --asvk out"));
    }
    Ok(Collateral::SevSnp { leaf: read(&args.leaf, "--leaf")?, crl: read(&args.crl, "--crl")?, asvk })
}

/// Reads a collateral file of this project's or dcap-qvl's form.
pub fn bundle(path: &Path) -> Result<Collateral, Failure> {
    let bytes = files::read_input(path, MAX_BUNDLE as u64)?;
    collateral::parse(&bytes).map_err(|e| {
        let fact = format!("{}: {e}", path.display());
        let advice =
            "make the file anew with `vouchsafe collateral pack` or `fetch`; docs/collateral.md shows its form";
        Failure::new("COLLATERAL_MALFORMED", 3, fact, advice)
    })
}

/// What both verdicts say.
fn common(args: &Verify, known: &Known) -> Value {
    json!({
        "mode": known.mode,
        "simulated": known.mode.map(|mode| mode == Mode::Simulation),
        "tee": args.tee,
        "at": known.at.map(|at| at.to_string()),
        "policy": known.policy,
        "claims": known.claims,
        "steps": known.steps,
        "rows": known.rows,
        "notes": known.notes,
        "not_proven": [],
        "reasons": [],
        "report_data": if args.report_data.is_some() { "compared" } else { "not-compared" },
        "step": known.step,
        "code": null,
        "fact": null,
        "advice": null,
    })
}

fn accepted(args: &Verify, known: &Known, appraised: &Appraised) -> Value {
    let mut all = common(args, known);
    let notes: Vec<&String> = known.notes.iter().chain(appraised.notes()).collect();
    for (name, value) in [
        ("accepted", json!(true)),
        ("codes", json!([])),
        ("exit", json!(0)),
        ("rows", json!(appraised.rows())),
        ("notes", json!(notes)),
        ("not_proven", json!(appraised.not_proven())),
    ] {
        all[name] = value;
    }
    all
}

/// The rest of a refusal's object: fact, code, advice, exit and reasons are added where failures are printed.
fn refused(args: &Verify, known: &Known, failure: &Failure) -> Value {
    let mut all = common(args, known);
    // Each code once, the one that decides the exit status first.
    let mut codes: Vec<&str> = Vec::new();
    for code in failure.reasons.iter().filter_map(|reason| reason["code"].as_str()) {
        if !codes.contains(&code) {
            codes.push(code);
        }
    }
    if codes.is_empty() {
        codes.push(failure.code);
    }
    all["codes"] = json!(codes);
    all
}

/// The steps that passed, for people.
fn steps(known: &Known) -> String {
    let mut text = String::new();
    let width = known.steps.iter().filter_map(|s| s["name"].as_str()).map(str::len).max().unwrap_or(0);
    for step in &known.steps {
        let word = |name| step[name].as_str().unwrap_or_default();
        let number = step["number"].as_u64().unwrap_or(0);
        let _ = writeln!(text, "  step {number:>2}  {:width$}  {}", word("name"), word("detail"));
    }
    match (known.step, known.at) {
        // Not "not authentic": with collateral that is in force it may well be.
        (Some(step), Some(at)) => {
            let _ = writeln!(text, "not verified as of {at}: refused at step {step}");
        }
        (None, Some(at)) if !known.steps.is_empty() => {
            let _ = writeln!(text, "authentic as of {at}");
        }
        _ => {}
    }
    text
}

fn own_notes(known: &Known) -> String {
    known.notes.iter().map(|note| format!("  note: {note}\n")).collect()
}
