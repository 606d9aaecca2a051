//! Turns an address and a policy into a verdict. No data is sent: only the attestation request leaves.
//! What it does not establish stands in the verdict itself.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use vouchsafe_attestation::UnixTime;
use vouchsafe_customer::{CustomerError, connect, refusal_table};
use vouchsafe_policies::Policy;

use crate::{
    failure::{Failure, Outcome},
    files,
    runtime::block_on_interruptible,
};

/// Verify an enclave, send nothing.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  vouchsafe verify 127.0.0.1:8443 --policy policy.toml --report report.md")]
pub struct Args {
    /// HOST:PORT of the enclave.
    address: String,
    /// Your attestation policy.
    #[arg(long)]
    policy: PathBuf,
    /// Write one page in plain words, for a privacy officer.
    #[arg(long)]
    report: Option<PathBuf>,
}

pub fn run(args: &Args, json: bool) -> Outcome {
    let policy = policy(&args.policy)?;
    args.report.as_deref().map_or(Ok(()), files::absent)?;
    block_on_interruptible(async {
        let pinned = connect(&args.address, Arc::clone(&policy)).await.map_err(|error| {
            let mut failure = Failure::under(&error, policy.mode());
            // A verdict is this command's answer, refusals too: the whole table, and on standard error one line.
            if !json && matches!(error, CustomerError::Verify(_) | CustomerError::Refused(_)) {
                print!("{}", refusal_table(&error, policy.mode()));
                (failure.reasons, failure.advice) = (Vec::new(), String::new());
            }
            failure
        })?;
        if let Some(path) = &args.report {
            let page = vouchsafe_customer::report(pinned.appraised(), &args.address, UnixTime(now()));
            files::write_new(path, page.as_bytes(), 0o644)?;
        }
        if json {
            println!("{}", vouchsafe_customer::verdict_json(&pinned));
        } else {
            print!("{}", vouchsafe_customer::table(&pinned));
            if let Some(path) = &args.report {
                println!("\nThe page for your privacy officer is in {}.", path.display());
            }
        }
        Ok(())
    })
}

/// Reads a policy file.
pub fn policy(path: &Path) -> Result<Arc<Policy>, Failure> {
    Policy::load(path).map(Arc::new).map_err(|e| Failure::from(e).about(path))
}

/// This machine's clock, in seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}
