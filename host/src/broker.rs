//! Turns broker commands into calls of the broker's library: init, import, serve, administration, ledger.
//! No gate lives here: what is granted is decided in `host/broker`.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use clap::Subcommand;
use serde::Serialize;
use serde_json::json;
use vouchsafe_broker::{BrokerError, InitOptions, admin};
use vouchsafe_release::Lease;

use crate::{
    broker_text,
    failure::{Failure, Outcome},
    files, runtime,
};

/// Run and administer the key broker.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  vouchsafe broker serve broker")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a broker's state folder: its keys, its settings, an empty ledger.
    #[command(
        after_help = "Example:\n  vouchsafe broker init broker --listen 0.0.0.0:8601 --policy policy.toml \\\n    --vendor-key acme-manifest.key.pub"
    )]
    Init(Init),
    /// Store the key of a sealed package.
    #[command(
        after_help = "Example:\n  vouchsafe broker import broker --package breast-cancer-v1 --key breast-cancer-v1.key.json"
    )]
    Import {
        /// The broker's state folder.
        state: PathBuf,
        /// The sealed package.
        #[arg(long)]
        package: PathBuf,
        /// The wrapped key that `seal` wrote.
        #[arg(long)]
        key: PathBuf,
    },
    /// Serve until Ctrl-C.
    #[command(after_help = "Example:\n  vouchsafe broker serve broker")]
    Serve {
        /// The broker's state folder.
        state: PathBuf,
        /// End when standard input ends.
        #[arg(long, hide = true)]
        exit_with_stdin: bool,
    },
    /// End rights: of a model, of a machine, of one lease.
    #[command(subcommand, after_help = "Example:\n  vouchsafe broker revoke model broker breast-cancer")]
    Revoke(Revoke),
    /// Raise the lowest sequence of a model that is granted.
    #[command(after_help = "Example:\n  vouchsafe broker floor broker breast-cancer 3")]
    Floor {
        /// The broker's state folder.
        state: PathBuf,
        /// The model.
        model: String,
        /// The lowest sequence from now on.
        sequence: u64,
    },
    /// List leases and where they stand.
    #[command(after_help = "Example:\n  vouchsafe broker leases broker")]
    Leases {
        /// The broker's state folder.
        state: PathBuf,
    },
    /// Read or verify the release ledger.
    #[command(subcommand, after_help = "Example:\n  vouchsafe broker ledger show broker")]
    Ledger(LedgerCommand),
}

#[derive(clap::Args)]
struct Init {
    /// The state folder to make.
    state: PathBuf,
    /// Where to listen, IP address and port; enclaves are configured with this address.
    #[arg(long)]
    listen: SocketAddr,
    /// The policy that says which enclaves get keys; may be written later, before `serve`.
    #[arg(long)]
    policy: PathBuf,
    /// A manifest key whose packages may be imported, text or file; may be repeated.
    #[arg(long, required = true)]
    vendor_key: Vec<String>,
    /// Seconds until a granted lease lapses.
    #[arg(long, default_value_t = 3600)]
    lease_ttl: u64,
    /// Requests until a granted lease lapses, per enclave, between two handshakes. A hostile host can stretch time, not this.
    #[arg(long, default_value_t = 100_000)]
    lease_requests: u64,
}

#[derive(Subcommand)]
enum Revoke {
    /// No more grants of a model, or of one version.
    #[command(after_help = "Example:\n  vouchsafe broker revoke model broker breast-cancer --sequence 1")]
    Model {
        /// The broker's state folder.
        state: PathBuf,
        /// The model.
        model: String,
        /// Only this version.
        #[arg(long)]
        sequence: Option<u64>,
    },
    /// No more grants to a machine.
    #[command(after_help = "Example:\n  vouchsafe broker revoke platform broker <chip id or PPID>")]
    Platform {
        /// The broker's state folder.
        state: PathBuf,
        /// Its chip id (SEV-SNP, 128 hex digits) or its PPID (TDX, 32).
        platform: String,
    },
    /// No renewal of a lease.
    #[command(after_help = "Example:\n  vouchsafe broker revoke lease broker <lease id>")]
    Lease {
        /// The broker's state folder.
        state: PathBuf,
        /// Its id, 32 hex digits from `broker leases`.
        lease: String,
    },
}

#[derive(Subcommand)]
enum LedgerCommand {
    /// Print the ledger, or the lines about one ticket or lease.
    #[command(after_help = "Example:\n  vouchsafe broker ledger show broker <ticket>")]
    Show {
        /// The broker's state folder.
        state: PathBuf,
        /// A ticket that a refused peer was given, or a lease id.
        ticket: Option<String>,
    },
    /// Recompute the ledger's hash chain.
    #[command(after_help = "Example:\n  vouchsafe broker ledger verify broker")]
    Verify {
        /// The broker's state folder.
        state: PathBuf,
    },
}

pub fn run(args: Args, json: bool) -> Outcome {
    match args.command {
        Command::Init(args) => init(args, json),
        Command::Import { state, package, key } => {
            print(&vouchsafe_broker::import(&state, &package, &files::read(&key, 64 << 10)?)?, json)
        }
        Command::Serve { state, exit_with_stdin } => runtime::block_on(async {
            let ready = |address: SocketAddr| runtime::listening("the broker", &address.to_string(), json);
            let served = vouchsafe_broker::serve(&state, ready, runtime::shutdown(exit_with_stdin)).await;
            served.map_err(|e| match e {
                BrokerError::Policy(_) => Failure::from(e).about("the policy that broker.toml names".as_ref()),
                other => other.into(),
            })
        }),
        Command::Revoke(Revoke::Model { state, model, sequence }) => {
            recorded(&admin::revoke_model(&state, &model, sequence)?, LAPSES, json)
        }
        Command::Revoke(Revoke::Platform { state, platform }) => {
            recorded(&admin::revoke_platform(&state, &platform)?, LAPSES, json)
        }
        Command::Revoke(Revoke::Lease { state, lease }) => {
            recorded(&admin::revoke_lease(&state, &lease)?, LAPSES, json)
        }
        Command::Floor { state, model, sequence } => {
            recorded(&admin::raise_floor(&state, &model, sequence)?, RISES, json)
        }
        Command::Leases { state } => {
            let leases = admin::leases(&state)?;
            if json {
                println!("{}", json!({ "leases": leases }));
            } else {
                print!("{}", broker_text::leases(&leases));
            }
            Ok(())
        }
        Command::Ledger(LedgerCommand::Show { state, ticket }) => ledger_show(&state, ticket.as_deref(), json),
        Command::Ledger(LedgerCommand::Verify { state }) => {
            let summary = admin::ledger_verify(&state)?;
            let (lines, head) = (summary.head.n, hex::encode(summary.head.hash));
            if json {
                println!("{}", json!({ "lines": lines, "head": head, "torn_bytes": summary.torn_bytes }));
                return Ok(());
            }
            println!("the chain holds over {lines} lines");
            println!("head  {head}");
            if summary.torn_bytes > 0 {
                println!("{} bytes after it: a line being written, or one that a crash has torn", summary.torn_bytes);
            }
            Ok(())
        }
    }
}

/// What a floor does to keys that are out already.
const RISES: &str = "no older version is granted from now on; keys that enclaves hold already lapse with their leases";
/// What a revocation does to them.
const LAPSES: &str = "nothing of it is granted from now on; keys that enclaves hold already lapse with their leases";

fn init(args: Init, json: bool) -> Outcome {
    let options = InitOptions {
        listen: args.listen,
        policy: std::path::absolute(&args.policy).map_err(|e| Failure::file(&args.policy, "found", &e))?,
        lease: Lease { ttl_s: args.lease_ttl, max_requests: args.lease_requests },
        manifest_keys: files::public_keys(&args.vendor_key)?,
    };
    let made = vouchsafe_broker::init(&args.state, &options)?;
    if json {
        return print(&made, json);
    }
    println!("A broker in {}. Its keys are in there; back it up whole. What others need of it:", args.state.display());
    println!("  wrapping key  {}  (vouchsafe seal --to)", made.wrap_public);
    println!("  release key   {}  (vouchsafe config --release-key)", made.release_key);
    println!("  TLS key       {}  (vouchsafe config --broker {}=…)", hex::encode(made.tls_spki_sha256), options.listen);
    Ok(())
}

fn ledger_show(state: &Path, ticket: Option<&str>, json: bool) -> Outcome {
    let entries = admin::ledger_show(state, ticket)?;
    if ticket.is_some() && entries.is_empty() {
        let fact = "no line of the ledger is about this ticket or lease";
        return Err(Failure::new(
            "TICKET_UNKNOWN",
            1,
            fact,
            "is it another broker's? `broker ledger show` lists all lines",
        ));
    }
    if json {
        let lines = entries.iter().map(|entry| {
            let mut line = serde_json::to_value(&entry.line).unwrap_or_default();
            line["h"] = json!(hex::encode(entry.hash));
            line
        });
        println!("{}", json!({ "entries": lines.collect::<Vec<_>>() }));
    } else if ticket.is_some() {
        print!("{}", broker_text::records(&entries));
    } else {
        print!("{}", broker_text::ledger(&entries));
    }
    Ok(())
}

/// A command that stands in the ledger now.
fn recorded(recorded: &admin::Recorded, effect: &str, json: bool) -> Outcome {
    if json {
        return print(recorded, json);
    }
    println!("recorded as line {} of the ledger: {effect}", recorded.n);
    println!("head  {}", hex::encode(recorded.head));
    Ok(())
}

/// One object: JSON, or a line a field.
fn print(value: &impl Serialize, json: bool) -> Outcome {
    let value = serde_json::to_value(value).unwrap_or_default();
    if json {
        println!("{value}");
    } else {
        for (name, field) in value.as_object().into_iter().flatten() {
            println!("{:<18} {}", name.replace('_', " "), broker_text::text_of(field));
        }
    }
    Ok(())
}
