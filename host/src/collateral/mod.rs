//! `vouchsafe collateral`: looks after the files that evidence is verified with, far from any request.
//! It proves nothing: signatures are verified by `vouchsafe evidence verify`, and by everybody who gets the evidence.

mod check;
mod fetch;
mod pack;
mod show;

use std::path::Path;

use clap::Subcommand;
use vouchsafe_attestation::{
    Collateral,
    collateral::{About, Item, Unreadable, items},
};

use crate::failure::{Failure, Outcome};

/// Look after the collateral that evidence is verified with.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  vouchsafe collateral show collateral.json")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print every item with its age and expiry, and the policy lines that keep older ones out.
    #[command(after_help = "Example:\n  vouchsafe collateral show collateral.json")]
    Show(show::Args),
    /// Put certificates and lists from files into one collateral file.
    #[command(
        after_help = "Example:\n  vouchsafe collateral pack --tee sev-snp --leaf vcek.der --crl crl.der --out collateral.json\n  vouchsafe collateral pack --tee tdx --from dcap-qvl.json --out collateral.json"
    )]
    Pack(pack::Args),
    /// Tell in time that something runs out or is too old; made for cron.
    ///
    /// Exit status: 0 everything is in force, 3 something is not, or will not be within the days that you name.
    #[command(after_help = "Example:\n  vouchsafe collateral check collateral.json --within 14 --policy policy.toml")]
    Check(check::Args),
    /// Fetch collateral from a service that you name, never on the way of a request.
    ///
    /// The answers are not verified here: whoever verifies evidence with them does that. Exit status 8: network or service.
    #[command(
        after_help = "Example:\n  vouchsafe collateral fetch --tee sev-snp --evidence report.bin \\\n    --url https://kds.example --out collateral.json\n  vouchsafe collateral fetch --tee tdx --fmspc 90c06f000000 --ca platform \\\n    --url https://pcs.example --root-crl-url https://certificates.example/root.der --out collateral.json"
    )]
    Fetch(Box<fetch::Args>),
}

pub fn run(args: &Args, json: bool) -> Outcome {
    match &args.command {
        Command::Show(args) => show::run(args, json),
        Command::Pack(args) => pack::run(args, json),
        Command::Check(args) => check::run(args, json),
        Command::Fetch(args) => fetch::run(args, json),
    }
}

/// Turns a file that holds newer items than `fetched` into a refusal: a service, or a cache before it, gives old ones back.
fn not_older(fetched: &[Item], kept: &[Item]) -> Outcome {
    for item in fetched {
        let older = kept.iter().find(|old| same_series(old, item) && number(old) > number(item));
        if let Some(old) = older {
            let fact = format!("{} has a lower number than in the file that is there: {}", item.name, show::what(old));
            let advice = "the service gives old items back: ask another, or remove the file if its numbers are wrong";
            return Err(Failure::new("COLLATERAL_ROLLBACK", 3, fact, advice));
        }
    }
    Ok(())
}

/// Whether two items are numbered by the same authority: lists of different products are not comparable.
fn same_series(old: &Item, new: &Item) -> bool {
    match (&old.about, &new.about) {
        (About::RevocationList { issuer: old, .. }, About::RevocationList { issuer: new, .. }) => old == new,
        (About::TcbInfo { .. }, About::TcbInfo { .. }) | (About::QeIdentity { .. }, About::QeIdentity { .. }) => true,
        _ => false,
    }
}

/// The number of an item, where it has one: it never shrinks.
fn number(item: &Item) -> Option<u64> {
    match item.about {
        About::Certificate { .. } | About::Leaf { .. } => None,
        About::RevocationList { number, .. } => Some(number),
        About::TcbInfo { evaluation_number, .. } | About::QeIdentity { evaluation_number, .. } => {
            Some(u64::from(evaluation_number))
        }
    }
}

/// What every command here says of itself.
const NOT_VERIFIED: &str =
    "no signature was verified: `vouchsafe evidence verify` does that, and so does everybody who verifies evidence";

/// The items of a file, or which one cannot be read.
fn listed(collateral: &Collateral, path: &Path) -> Result<Vec<Item>, Failure> {
    items(collateral).map_err(|Unreadable(name)| {
        let fact = format!("{}: the item {name} cannot be read", path.display());
        Failure::new("COLLATERAL_MALFORMED", 3, fact, "make the file anew with `vouchsafe collateral pack` or `fetch`")
    })
}
