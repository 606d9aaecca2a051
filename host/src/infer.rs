//! Turns one request into one answer from a verified enclave, with a receipt when asked.
//! It does not judge the answer.

use std::path::{Path, PathBuf};

use serde_json::Value;
use vouchsafe_customer::{InferInput, Receipted, binary_header, connect, json_answer, outputs_text};

use crate::{
    caller::CallerArgs,
    failure::{Failure, Outcome},
    files,
    runtime::block_on_interruptible,
    verify,
};

/// Verify an enclave, then send one inference request.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  vouchsafe infer 127.0.0.1:8443 --policy policy.toml --model breast-cancer --input rows.json \\\n    --receipt receipt.json"
)]
pub struct Args {
    /// HOST:PORT of the enclave.
    address: String,
    /// Your attestation policy.
    #[arg(long)]
    policy: PathBuf,
    /// The model to ask.
    #[arg(long)]
    model: String,
    /// The request: `{"inputs":[…]}` (Open Inference Protocol v2) or `{"rows":[[…],…]}`.
    #[arg(long)]
    input: PathBuf,
    /// Ask for a receipt and write it here; FILE.salt, FILE.request and FILE.response are written beside it.
    #[arg(long)]
    receipt: Option<PathBuf>,
    #[command(flatten)]
    caller: CallerArgs,
}

pub fn run(args: &Args, json: bool) -> Outcome {
    vouchsafe_attestation::claims::model_id(&args.model)
        .map_err(|e| Failure::usage(format!("--model: {e}"), "use the id in the vendor's package"))?;
    let input = InferInput::parse(&files::read(&args.input, 64 << 20)?)?;
    let policy = verify::policy(&args.policy)?;
    let caller = args.caller.read()?;
    // Told before data is sent: an answer that cannot be kept is lost.
    for suffix in args.receipt.iter().flat_map(|_| ["", ".salt", ".request", ".response"]) {
        args.receipt.as_deref().map_or(Ok(()), |path| files::absent(&named(path, suffix)))?;
    }
    let mode = policy.mode();
    block_on_interruptible(async {
        let pinned = connect(&args.address, policy).await.map_err(|e| Failure::under(&e, mode))?;
        let mut pinned = pinned.with_caller(caller);
        let request = pinned.infer_request(&args.model, &input).await?;
        let response = match &args.receipt {
            None => pinned.send(request).await?,
            Some(path) => {
                let body = request.body().clone();
                match pinned.infer_with_receipt(request).await? {
                    Receipted::Answered(answer) => {
                        files::write_new(path, answer.receipt_json().as_bytes(), 0o644)?;
                        beside(path, ".salt", answer.salt.to_text().as_bytes())?;
                        beside(path, ".request", &body)?;
                        beside(path, ".response", answer.response.body())?;
                        answer.response
                    }
                    Receipted::Unanswered(response) => response,
                }
            }
        };
        let answer: Value = json_answer(&response)?;
        if json {
            println!("{answer}");
        } else {
            println!("{}", vouchsafe_customer::headline(pinned.appraised()));
            print!("\n{}", outputs_text(&answer));
            if let Some(path) = &args.receipt {
                println!("\nreceipt in {}: `vouchsafe receipt verify` reads it", path.display());
                match binary_header(&response)? {
                    0 => {}
                    length => println!("the response is binary: compare it with --response-header-len {length}"),
                }
            }
        }
        Ok(())
    })
}

fn beside(path: &Path, suffix: &str, bytes: &[u8]) -> Outcome {
    files::write_new(&named(path, suffix), bytes, 0o600)
}

fn named(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
