//! Turns a sealed package into what can be said of it without its key.
//! It does not open the model: only a granted enclave does.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::{Value, json};
use vouchsafe_sealed::Package;

use crate::{failure::Outcome, files, seal::bar};

/// Look into a sealed package, without its key.
#[derive(clap::Args)]
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
    let package = Package::open(&which.package, &files::public_keys(&which.vendor_key)?)?;
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
            "file {:>4}        {:<14} {:>12} bytes  {}",
            file.index,
            file.role.as_str(),
            file.padded_len,
            file.name
        );
    }
    println!("usage policy     {}", serde_json::to_string_pretty(&value["usage_policy"]).unwrap_or_default());
    println!(
        "blobs            {}",
        if all { "every byte is the signed one" } else { "not read (package verify reads them)" }
    );
    Ok(())
}
