//! Turns an address and a policy into a local port for unmodified clients.
//! Nothing is forwarded before the enclave has proved itself; any failure is a 502 with its reason.

use std::{net::SocketAddr, path::PathBuf};

use vouchsafe_customer::{Listen, ListenAddress, ProxyOptions};

use crate::{
    caller::CallerArgs,
    failure::{Failure, Outcome},
    runtime, verify,
};

/// Offer a verified enclave to unmodified local clients.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  vouchsafe proxy --upstream 127.0.0.1:8443 --policy policy.toml --listen 127.0.0.1:8700\n  curl http://127.0.0.1:8700/v2/models/breast-cancer\n\nWith --caller-key or --api-key-file every inference is asked in that name, whichever local program sends it, and a client's own Authorization header is dropped. Without them it passes. A client's Vouchsafe-Caller header never passes."
)]
pub struct Args {
    /// HOST:PORT of the enclave.
    #[arg(long)]
    upstream: String,
    /// Your attestation policy.
    #[arg(long)]
    policy: PathBuf,
    /// Loopback address to listen on, or unix:PATH.
    #[arg(long, default_value = "127.0.0.1:8700")]
    listen: String,
    /// Keep a hash-chained log of verdicts and receipt digests here; no payload.
    #[arg(long)]
    log: Option<PathBuf>,
    /// Ask for a receipt with every inference and keep them in this folder. Keep the bodies yourself; of one that the client
    /// compressed (gzip, deflate), the receipt names the bytes before compression.
    #[arg(long)]
    receipts: Option<PathBuf>,
    #[command(flatten)]
    caller: CallerArgs,
    /// End when standard input ends.
    #[arg(long, hide = true)]
    exit_with_stdin: bool,
}

pub fn run(args: Args, json: bool) -> Outcome {
    let listen =
        match args.listen.strip_prefix("unix:") {
            Some(path) => Listen::Unix(path.into()),
            None => Listen::Tcp(args.listen.parse::<SocketAddr>().map_err(|_| {
                Failure::usage("--listen is neither IP:PORT nor unix:PATH", "for example 127.0.0.1:8700")
            })?),
        };
    let mut options = ProxyOptions::new(listen, args.upstream, verify::policy(&args.policy)?);
    options.log = args.log;
    options.receipts = args.receipts;
    options.caller = args.caller.read()?;
    runtime::block_on(async {
        let ready = |address: &ListenAddress| runtime::listening("the proxy", &address.to_string(), json);
        Ok(vouchsafe_customer::proxy(options, ready, runtime::shutdown(args.exit_with_stdin)).await?)
    })
}
