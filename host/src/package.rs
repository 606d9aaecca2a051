//! Turns a sealed package into what can be said of it without its key.
//! It does not open the model: only a granted enclave does.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::{Value, json};
use vouchsafe_policies::usage::UsagePolicy;
use vouchsafe_sealed::Package;

use crate::{
    failure::{Failure, Outcome},
    files,
    seal::bar,
};

/// Look into a sealed package, without its key.
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
    Verify(Which),
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
    let (which, all) = match &args.command {
        Command::Show(which) => (which, false),
        Command::Verify(which) => (which, true),
    };
    let keys = files::public_keys(&which.vendor_key)?;
    let package = Package::open(&which.package, &keys).map_err(|e| Failure::from(e).about(&which.package))?;
    if all {
        let bar = bar(json);
        package.verify_blobs(&mut |done, total| {
            bar.set_length(total);
            bar.set_position(done);
        })?;
        bar.finish_and_clear();
    }
    let manifest = package.manifest();
    let value = json!({
        "accepted": true,
        "blobs_verified": all,
        "model": manifest.model_id,
        "sequence": manifest.sequence,
        "mode": manifest.mode,
        "uid": hex::encode(manifest.model_uid),
        "manifest_digest": hex::encode(package.manifest_digest()),
        "usage_policy_digest": hex::encode(manifest.usage_policy_digest),
        "signers": package.signers(),
        "files": manifest.files.iter().map(|f| json!({
            "index": f.index, "name": f.name, "role": f.role.as_str(), "padded_len": f.padded_len,
        })).collect::<Vec<_>>(),
        "usage_policy": serde_json::from_slice::<Value>(package.usage_policy_bytes()).unwrap_or_default(),
    });
    if json {
        println!("{value}");
        return Ok(());
    }
    println!("model            {} version {} ({})", manifest.model_id, manifest.sequence, manifest.mode);
    println!("manifest digest  {}", hex::encode(package.manifest_digest()));
    for signer in package.signers() {
        println!("signed by        {signer}");
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
    Ok(())
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
            println!("input            {} {} {}{finite}", word(&input["name"]), word(&input["dtype"]), input["shape"]);
        }),
    }
    for rule in ["outputs", "callers", "quotas"] {
        println!("{rule:<16} {}", word(&policy[rule]));
    }
}
