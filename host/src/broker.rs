//! Turns broker commands into calls of the broker's library: init, import, serve, administration, ledger.
//! No gate lives here: what is granted is decided in `host/broker`.

use std::{net::SocketAddr, path::PathBuf};

use clap::Subcommand;
use serde::Serialize;
use serde_json::{Value, json};
use vouchsafe_broker::{InitOptions, admin};
use vouchsafe_release::Lease;

use crate::{
    failure::{Failure, Outcome},
    files, runtime,
};

/// Run and administer the key broker.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a broker's state folder: its keys, its settings, an empty ledger.
    #[command(
        after_help = "Example:\n  vouchsafe broker init broker --listen 0.0.0.0:8601 --policy policy.toml --vendor-key acme-manifest.key.pub"
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
    #[command(subcommand)]
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
    #[command(subcommand)]
    Ledger(LedgerCommand),
}

#[derive(clap::Args)]
struct Init {
    /// The state folder to make.
    state: PathBuf,
    /// Where to listen.
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
    /// Requests until a granted lease lapses: the only bound that a hostile host cannot stretch.
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
    #[command(after_help = "Example:\n  vouchsafe broker revoke platform broker <chip id>")]
    Platform {
        /// The broker's state folder.
        state: PathBuf,
        /// Its chip id, 128 hex digits.
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
            Ok(vouchsafe_broker::serve(&state, ready, runtime::shutdown(exit_with_stdin)).await?)
        }),
        Command::Revoke(Revoke::Model { state, model, sequence }) => {
            print(&admin::revoke_model(&state, &model, sequence)?, json)
        }
        Command::Revoke(Revoke::Platform { state, platform }) => {
            print(&admin::revoke_platform(&state, &platform)?, json)
        }
        Command::Revoke(Revoke::Lease { state, lease }) => print(&admin::revoke_lease(&state, &lease)?, json),
        Command::Floor { state, model, sequence } => print(&admin::raise_floor(&state, &model, sequence)?, json),
        Command::Leases { state } => print_list("leases", &admin::leases(&state)?, json),
        Command::Ledger(LedgerCommand::Show { state, ticket }) => {
            let entries = admin::ledger_show(&state, ticket.as_deref())?;
            let entries: Vec<Value> = entries
                .iter()
                .map(|entry| {
                    let mut line = serde_json::to_value(&entry.line).unwrap_or_default();
                    line["h"] = json!(hex::encode(entry.hash));
                    line
                })
                .collect();
            print_list("entries", &entries, json)
        }
        Command::Ledger(LedgerCommand::Verify { state }) => {
            let summary = admin::ledger_verify(&state)?;
            let value = json!({ "lines": summary.head.n, "head": hex::encode(summary.head.hash), "torn_bytes": summary.torn_bytes });
            print(&value, json)
        }
    }
}

fn init(args: Init, json: bool) -> Outcome {
    let options = InitOptions {
        listen: args.listen,
        policy: std::path::absolute(&args.policy).map_err(|e| Failure::file(&args.policy, "found", &e))?,
        lease: Lease { ttl_s: args.lease_ttl, max_requests: args.lease_requests },
        manifest_keys: files::public_keys(&args.vendor_key)?,
    };
    print(&vouchsafe_broker::init(&args.state, &options)?, json)
}

/// One object: JSON, or a line a field.
fn print(value: &impl Serialize, json: bool) -> Outcome {
    let value = serde_json::to_value(value).unwrap_or_default();
    if json {
        println!("{value}");
    } else {
        for (name, field) in value.as_object().into_iter().flatten() {
            println!("{name:<18} {}", field.as_str().map_or_else(|| field.to_string(), str::to_owned));
        }
    }
    Ok(())
}

/// A list: one JSON object with all, or a JSON line each, which people read well enough and scripts too.
fn print_list(name: &str, items: &[impl Serialize], json: bool) -> Outcome {
    let items: Vec<Value> = items.iter().filter_map(|i| serde_json::to_value(i).ok()).collect();
    if json {
        println!("{}", json!({ name: items }));
    } else {
        items.iter().for_each(|i| println!("{i}"));
    }
    Ok(())
}
