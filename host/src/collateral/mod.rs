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
    collateral::{About, Item, Unreadable, items, to_bytes},
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
/// Numbers alone do not tell: all revocation lists of Intel's have number 1. At equal numbers the dates of issue count.
fn not_older(fetched: &[Item], kept: &[Item]) -> Outcome {
    for item in fetched {
        for old in kept.iter().filter(|old| same_series(old, item)) {
            let how = if number(item) < number(old) {
                "has a lower number than"
            } else if number(item) == number(old) && same_subject(old, item) && item.issued < old.issued {
                "has the same number but was issued before the one"
            } else {
                continue;
            };
            let fact =
                format!("{} {how} in the file that is there: {}, issued {}", item.name, show::what(old), old.issued);
            let advice =
                "the service gives old items back: ask another, or remove the file if its numbers or dates are wrong";
            return Err(Failure::new("COLLATERAL_ROLLBACK", 3, fact, advice));
        }
    }
    Ok(())
}

/// Whether the dates of two items of one series tell which is newer: each family of processors is assessed at a time of its own.
fn same_subject(old: &Item, new: &Item) -> bool {
    match (&old.about, &new.about) {
        (About::TcbInfo { fmspc: old, .. }, About::TcbInfo { fmspc: new, .. }) => old == new,
        (About::QeIdentity { id: old, .. }, About::QeIdentity { id: new, .. }) => old == new,
        _ => true,
    }
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

/// What evidence may take on its way, less room for a report or quote, claims and names: transports end at 256 KiB.
const MAX_SERVED: usize = 192 << 10;

/// Whether an enclave can serve the file with its evidence, as notes for people.
fn notes(collateral: &Collateral) -> Vec<String> {
    let length = to_bytes(collateral).len();
    let note = format!(
        "{length} bytes are too large to be served: evidence with its collateral travels in at most 256 KiB, so collateral should stay below {MAX_SERVED} bytes"
    );
    (length > MAX_SERVED).then_some(note).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use vouchsafe_attestation::UnixTime;

    use super::*;

    fn item(name: &'static str, about: About, issued: u64) -> Item {
        Item { name, about, issued: UnixTime(issued), expires: UnixTime(issued + 100), bytes: 1 }
    }

    #[test]
    fn older_is_a_lower_number_or_an_earlier_date() {
        let list = |number, issued| {
            item("pck_crl", About::RevocationList { issuer: "CA".to_owned(), number, revoked: 0 }, issued)
        };
        let tcb = |evaluation_number, issued, fmspc: &str| {
            let about = About::TcbInfo { fmspc: fmspc.to_owned(), pce_id: String::new(), evaluation_number };
            item("tcb_info", about, issued)
        };
        let qe = |evaluation_number, issued| {
            item("qe_identity", About::QeIdentity { id: "TD_QE".to_owned(), evaluation_number }, issued)
        };
        let told = |new: Item, old: Item| not_older(&[new], &[old]).map_err(|failure| (failure.code, failure.exit));
        for (new, old) in [
            (list(1, 99), list(1, 100)),
            (list(1, 200), list(2, 100)),
            (tcb(19, 99, "a"), tcb(19, 100, "a")),
            (tcb(18, 200, "b"), tcb(19, 100, "a")),
            (qe(19, 99), qe(19, 100)),
            (qe(18, 200), qe(19, 100)),
        ] {
            assert_eq!(told(new.clone(), old), Err(("COLLATERAL_ROLLBACK", 3)), "{new:?}");
        }
        for (new, old) in [
            (list(1, 100), list(1, 100)),
            (list(1, 101), list(1, 100)),
            (list(2, 99), list(1, 100)),
            (tcb(19, 99, "b"), tcb(19, 100, "a")),
            (tcb(20, 99, "a"), tcb(19, 100, "a")),
            (qe(19, 100), qe(19, 100)),
            (qe(18, 99), list(19, 100)),
        ] {
            assert_eq!(told(new.clone(), old), Ok(()), "{new:?}");
        }
    }

    #[test]
    fn what_is_too_large_to_be_served_is_told() {
        let of = |length| Collateral::SevSnp { leaf: vec![0; length], crl: vec![], asvk: vec![] };
        // Base64 makes four bytes of three.
        assert!(notes(&of(140 << 10)).is_empty());
        let told = notes(&of(150 << 10));
        assert!(told.len() == 1 && told[0].contains("too large to be served"), "{told:?}");
    }
}
