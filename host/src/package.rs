//! Turns a sealed package, or two of them, into what can be said without their keys.
//! It does not open the model: only a granted enclave does.

mod diff;
pub mod provenance;

use std::{
    num::NonZero,
    path::{Path, PathBuf},
    thread,
};

use clap::Subcommand;
use serde_json::{Value, json};
use vouchsafe_policies::usage::UsagePolicy;
use vouchsafe_sealed::Package;

use crate::{
    differences,
    failure::{Failure, Outcome},
    files,
    seal::bar,
};

/// Look into a sealed package, without its key, or compare two.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  vouchsafe package show breast-cancer-v1 --vendor-key acme-manifest.key.pub")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Verify the vendor's signatures and print the manifest.
    #[command(after_help = "Example:\n  vouchsafe package show breast-cancer-v1 --vendor-key acme-manifest.key.pub")]
    Show(Which),
    /// Verify the vendor's signatures and every byte of every blob.
    #[command(after_help = "Example:\n  vouchsafe package verify breast-cancer-v1 --vendor-key acme-manifest.key.pub")]
    Verify(Verify),
    /// Print what differs between two packages, field by field; exit 10 when anything does.
    ///
    /// The vendor's signatures on both are verified; blobs are not read, since the list digest of a file names every byte of it.
    /// Salts and keys are new in every version: a file that the vendor did not change still differs in salt, sealed length and list
    /// digest. Without the key only its name, role and padded length can be compared.
    #[command(
        after_help = "Example:\n  vouchsafe package diff breast-cancer-v1 breast-cancer-v2 --vendor-key acme-manifest.key.pub"
    )]
    Diff {
        /// One package folder.
        first: PathBuf,
        /// The other.
        second: PathBuf,
        /// A vendor's manifest key, text or file; may be repeated.
        #[arg(long, required = true)]
        vendor_key: Vec<String>,
    },
}

#[derive(clap::Args)]
struct Verify {
    #[command(flatten)]
    which: Which,
    /// A statement about the model that came with the package: TYPE=FILE, as for `seal`; the manifest must name it [exit 10];
    /// may be repeated.
    #[arg(long, value_name = "TYPE=FILE")]
    provenance: Vec<String>,
}

#[derive(clap::Args)]
struct Which {
    /// The package folder.
    package: PathBuf,
    /// A vendor's manifest key, text or file; may be repeated.
    #[arg(long, required = true)]
    vendor_key: Vec<String>,
}

pub fn run(args: &Args, json: bool) -> Outcome {
    match &args.command {
        Command::Show(which) => {
            print(&open(&which.package, &which.vendor_key)?, false, json);
            Ok(())
        }
        Command::Verify(args) => verify(args, json),
        Command::Diff { first, second, vendor_key } => {
            compare(&open(first, vendor_key)?, &open(second, vendor_key)?, json)
        }
    }
}

fn open(path: &Path, vendor_keys: &[String]) -> Result<Package, Failure> {
    let keys = files::public_keys(vendor_keys)?;
    Package::open(path, &keys).map_err(|e| Failure::from(e).about(path))
}

fn verify(args: &Verify, json: bool) -> Outcome {
    let statements = provenance::read(&args.provenance)?;
    let which = &args.which;
    let package = open(&which.package, &which.vendor_key)?;
    provenance::compare(&statements, &package.manifest().provenance).map_err(|e| e.about(&which.package))?;
    let bar = bar(json);
    let threads = thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
    let compared = package.verify_blobs_on(threads, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    compared.map_err(|e| Failure::from(e).about(&which.package))?;
    print(&package, true, json);
    Ok(())
}

/// What can be said of it; `all` when every blob has been read.
fn print(package: &Package, all: bool, json: bool) {
    let manifest = package.manifest();
    let value = json!({
        "accepted": true,
        "blobs_verified": all,
        "model": manifest.model_id,
        "sequence": manifest.sequence,
        "mode": manifest.mode,
        "uid": hex::encode(manifest.model_uid),
        "manifest_digest": hex::encode(package.manifest_digest()),
        "model_commitment": hex::encode(manifest.model_commitment),
        "usage_policy_digest": hex::encode(manifest.usage_policy_digest),
        "threshold": manifest.threshold,
        "signers": package.signers(),
        "provenance": manifest.provenance,
        "files": manifest.files.iter().map(|f| json!({
            "index": f.index, "name": f.name, "role": f.role.as_str(), "padded_len": f.padded_len,
            "list_digest": hex::encode(f.list_digest),
        })).collect::<Vec<_>>(),
        "usage_policy": serde_json::from_slice::<Value>(package.usage_policy_bytes()).unwrap_or_default(),
    });
    if json {
        println!("{value}");
        return;
    }
    println!("model            {} version {} ({})", manifest.model_id, manifest.sequence, manifest.mode);
    println!("manifest digest  {}", hex::encode(package.manifest_digest()));
    for signer in package.signers() {
        println!("signed by        {signer}");
    }
    println!("signatures       {} of pinned keys, {} demanded", package.signers().len(), manifest.threshold);
    for statement in &manifest.provenance {
        println!("provenance       {:<22} {}", statement.kind.as_str(), hex::encode(statement.sha256));
    }
    for file in &manifest.files {
        println!(
            "file {:<4}        {:<14} {:>12} bytes  {}",
            file.index,
            file.role.as_str(),
            file.padded_len,
            file.name
        );
    }
    match UsagePolicy::parse(package.usage_policy_bytes()) {
        Ok(_) => print_usage(&value["usage_policy"]),
        Err(e) => println!("usage policy     no enclave of this release takes it: {e} [{}]", e.code()),
    }
    println!(
        "blobs            {}",
        if all { "every byte is the signed one" } else { "not read (package verify reads them)" }
    );
}

fn compare(first: &Package, second: &Package, json: bool) -> Outcome {
    let found = diff::differences(first, second);
    let equal = "the two packages have the same manifest, byte for byte, the same usage policy and the same signers";
    let differs = || {
        let fact = format!("the two packages differ in {} things", found.len());
        Failure::new("PACKAGE_DIFFERS", 10, fact, "two versions always do; one that was only copied does not")
    };
    differences::tell(&found, equal, differs, json)
}

/// The vendor's rules of use, a line each; `--json` prints them whole.
fn print_usage(policy: &Value) {
    let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    println!(
        "may be used      until {}",
        match policy["expires"].as_str() {
            None | Some("never") => "the vendor ends it".to_owned(),
            Some(time) => time.to_owned(),
        }
    );
    let limits = &policy["limits"];
    println!("one request      at most {} rows and {} bytes", limits["max_batch"], limits["max_body_bytes"]);
    match policy["inputs"].as_array() {
        None => println!("inputs           {}", word(&policy["inputs"])),
        Some(inputs) => inputs.iter().for_each(|input| {
            let finite = if input["finite"] == true { ", no NaN and no infinity" } else { "" };
            let range = match &input["range"] {
                Value::Null => String::new(),
                range => format!(", {} to {}", range["min"], range["max"]),
            };
            println!(
                "input            {} {} {}{finite}{range}",
                word(&input["name"]),
                word(&input["dtype"]),
                input["shape"]
            );
        }),
    }
    for rule in ["outputs", "callers", "quotas"] {
        match policy[rule].as_array() {
            None => println!("{rule:<16} {}", word(&policy[rule])),
            Some(list) => list.iter().for_each(|one| println!("{:<16} {one}", rule.trim_end_matches('s'))),
        }
    }
}
