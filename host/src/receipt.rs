//! Turns a kept receipt into a verdict, offline, as of a time that the reader names.
//! A receipt proves which weights answered, not when.

use std::path::PathBuf;

use clap::Subcommand;
use vouchsafe_attestation::receipt::{MAX_RECEIPT, RAW_FORM};
use vouchsafe_customer::{Bodies, Body, Salt, receipt_json, receipt_table, verify_receipt};

use crate::{
    clock,
    failure::{Failure, Outcome},
    files, verify,
};

/// Verify a receipt offline.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  vouchsafe receipt verify receipt.json --policy policy.toml")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Verify a receipt under a policy, as of a time.
    #[command(
        after_help = "Example:\n  vouchsafe receipt verify receipt.json --policy policy.toml --at 2026-11-21T12:00:00Z \\\n    --request receipt.json.request --response receipt.json.response --salt receipt.json.salt"
    )]
    Verify(Verify),
}

#[derive(clap::Args)]
struct Verify {
    /// The receipt file.
    receipt: PathBuf,
    /// Your attestation policy.
    #[arg(long)]
    policy: PathBuf,
    /// As of when, for example 2026-11-21T12:00:00Z [default: now].
    #[arg(long)]
    at: Option<String>,
    /// The exact request body, to compare; of a compressed one the bytes before compression.
    #[arg(long, requires_all = ["response", "salt"])]
    request: Option<PathBuf>,
    /// The exact response body, to compare.
    #[arg(long, requires = "request")]
    response: Option<PathBuf>,
    /// The salt that was written beside the receipt.
    #[arg(long, requires = "request")]
    salt: Option<PathBuf>,
    /// Length of the JSON part when the request was binary: its Inference-Header-Content-Length. `raw` when that was 0.
    #[arg(long, default_value = "0", value_parser = framed)]
    request_header_len: u64,
    /// Length of the JSON part when the response was binary: its Inference-Header-Content-Length.
    #[arg(long, default_value_t = 0)]
    response_header_len: u64,
}

fn framed(word: &str) -> Result<u64, std::num::ParseIntError> {
    if word == "raw" { Ok(RAW_FORM) } else { word.parse() }
}

pub fn run(args: &Args, json: bool) -> Outcome {
    let Command::Verify(args) = &args.command;
    let policy = verify::policy(&args.policy)?;
    let at = clock::as_of(args.at.as_deref())?;
    let file = files::read(&args.receipt, MAX_RECEIPT as u64)?;
    let verdict = match (&args.request, &args.response, &args.salt) {
        (Some(request), Some(response), Some(salt)) => {
            let (request, response) = (files::read(request, 64 << 20)?, files::read(response, 64 << 20)?);
            let salt = Salt::from_text(files::read_text(salt)?.trim())?;
            let bodies = Bodies {
                request: Body { bytes: &request, header_len: args.request_header_len },
                response: Body { bytes: &response, header_len: args.response_header_len },
                salt: &salt,
            };
            verify_receipt(&file, &policy, at, Some(bodies))
        }
        _ => verify_receipt(&file, &policy, at, None),
    }
    .map_err(|e| Failure::under(&e, policy.mode()))?;
    if json {
        println!("{}", receipt_json(&verdict));
    } else {
        print!("{}", receipt_table(&verdict));
    }
    Ok(())
}
