//! Turns a collateral file into a table of its items: number, date of issue, age, expiry, days left.
//! Everything in it is the file's own word: no signature is verified.

use std::{fmt::Write as _, path::PathBuf};

use serde_json::{Value, json};
use vouchsafe_attestation::{
    Collateral, UnixTime,
    collateral::{About, Holder, Item, tee},
};

use super::{NOT_VERIFIED, listed, notes};
use crate::{clock, evidence, failure::Outcome};

#[derive(clap::Args)]
pub struct Args {
    /// The collateral file.
    file: PathBuf,
    /// As of when, for example 2026-11-21T12:00:00Z [default: now].
    #[arg(long, value_name = "RFC3339")]
    at: Option<String>,
}

pub fn run(args: &Args, json: bool) -> Outcome {
    let at = clock::as_of(args.at.as_deref())?;
    let collateral = evidence::bundle(&args.file)?;
    let items = listed(&collateral, &args.file)?;
    if json {
        println!("{}", object(&collateral, &items, at));
    } else {
        print!("{}", table(&items, at));
        println!("\nLines for a policy, so that nothing older is accepted later:\n");
        println!("{}", policy_lines(&items, at));
        for note in notes(&collateral) {
            println!("\nNote: {note}.");
        }
        println!("\nNote: {NOT_VERIFIED}.");
    }
    Ok(())
}

pub fn object(collateral: &Collateral, items: &[Item], at: UnixTime) -> Value {
    json!({
        "tee": tee(collateral),
        "at": at.to_string(),
        "items": items.iter().map(|item| one(item, at)).collect::<Vec<_>>(),
        "policy_lines": policy_lines(items, at),
        "notes": notes(collateral),
        "not_proven": NOT_VERIFIED,
    })
}

fn one(item: &Item, at: UnixTime) -> Value {
    let mut object = match &item.about {
        About::Certificate { subject, issuer } => {
            json!({ "kind": "certificate", "subject": subject, "issuer": issuer })
        }
        About::Leaf { subject, issuer, product, holder, tcb } => {
            let (chip, csp) = match holder {
                Holder::Chip(id) => (Some(id), None),
                Holder::Provider(name) => (None, Some(name)),
            };
            json!({
                "kind": "certificate", "subject": subject, "issuer": issuer, "product": product.as_str(), "chip_id": chip,
                "csp": csp, "tcb": tcb.to_string()
            })
        }
        About::RevocationList { issuer, number, revoked } => {
            json!({ "kind": "revocation-list", "issuer": issuer, "number": number, "revoked": revoked })
        }
        About::TcbInfo { fmspc, pce_id, evaluation_number } => json!({
            "kind": "tcb-info", "fmspc": fmspc, "pce_id": pce_id, "evaluation_number": evaluation_number
        }),
        About::QeIdentity { id, evaluation_number } => {
            json!({ "kind": "qe-identity", "id": id, "evaluation_number": evaluation_number })
        }
    };
    for (name, value) in [
        ("name", json!(item.name)),
        ("issued", json!(item.issued.to_string())),
        ("expires", json!(item.expires.to_string())),
        ("age_days", json!(days(item.issued, at))),
        ("days_left", json!(days(at, item.expires))),
        ("state", json!(state(item, at).as_str())),
        ("bytes", json!(item.bytes)),
    ] {
        object[name] = value;
    }
    object
}

/// Where an item stands between its two dates.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Issued later than now.
    NotYet,
    /// In force.
    InForce,
    /// Past its end, or past the date of the next one.
    Expired,
}

impl State {
    const fn as_str(self) -> &'static str {
        match self {
            Self::NotYet => "not-yet",
            Self::InForce => "in-force",
            Self::Expired => "expired",
        }
    }
}

pub fn state(item: &Item, at: UnixTime) -> State {
    if at < item.issued {
        State::NotYet
    } else if at > item.expires {
        State::Expired
    } else {
        State::InForce
    }
}

/// Whole days from one time to another, negative when it lies before; a started day does not count.
pub fn days(from: UnixTime, to: UnixTime) -> i64 {
    let whole = |seconds: u64| i64::try_from(seconds / 86_400).unwrap_or(i64::MAX);
    if to >= from { whole(to.since(from)) } else { -whole(from.since(to)) }
}

/// What an item is, in a few words.
pub fn what(item: &Item) -> String {
    match &item.about {
        About::Certificate { subject, .. } => format!("certificate {subject}"),
        About::Leaf { subject, product, holder, tcb, .. } => {
            let holder = match holder {
                // Enough to tell machines apart; --json has all of it.
                Holder::Chip(id) => format!("chip {}…", id.get(..16).unwrap_or(id)),
                Holder::Provider(name) => format!("provider {name}"),
            };
            format!("certificate {subject} of {product}, {holder}, {tcb}")
        }
        About::RevocationList { issuer, number, revoked } => {
            format!("revocation list of {issuer}, number {number}, revokes {revoked}")
        }
        About::TcbInfo { fmspc, evaluation_number, .. } => {
            format!("TCB info of FMSPC {fmspc}, evaluation number {evaluation_number}")
        }
        About::QeIdentity { id, evaluation_number } => {
            format!("identity of {id}, evaluation number {evaluation_number}")
        }
    }
}

pub fn table(items: &[Item], at: UnixTime) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "as of {at}\n");
    for item in items {
        let left = match state(item, at) {
            State::InForce => format!("{} days left", days(at, item.expires)),
            State::Expired => format!("EXPIRED {} days ago", days(item.expires, at)),
            State::NotYet => "NOT YET IN FORCE".to_owned(),
        };
        let _ = writeln!(text, "{}: {}", item.name, what(item));
        let _ = writeln!(
            text,
            "    issued {} ({} days old), until {} ({left})",
            item.issued,
            days(item.issued, at),
            item.expires
        );
    }
    text
}

/// What a policy says so that lower numbers are refused: a verifier has no memory of its own. They are of the day of `at`.
pub fn policy_lines(items: &[Item], at: UnixTime) -> String {
    let (mut crl, mut collateral, mut tcb) = (Vec::new(), Vec::new(), Vec::new());
    let evaluation = items.iter().filter_map(|item| match item.about {
        About::TcbInfo { evaluation_number, .. } | About::QeIdentity { evaluation_number, .. } => {
            Some((evaluation_number, item.issued))
        }
        _ => None,
    });
    if let Some((lowest, issued)) = evaluation.min() {
        tcb.push(format!("min_tcb_evaluation_number = {lowest}"));
        tcb.push(format!("written = \"{}\"", at.to_string().split('T').next().unwrap_or_default()));
        tcb.push(format!("source = \"collateral issued {issued}, as `vouchsafe collateral show` read it\""));
    }
    for item in items {
        let About::RevocationList { issuer, number, .. } = &item.about else { continue };
        match item.name {
            "root_ca_crl" => collateral.push(format!("min_root_crl_number = {number}")),
            "pck_crl" => collateral.push(format!("min_pck_crl_number = {number}")),
            _ => crl.push(match issuer.strip_prefix("ARK-") {
                Some(product @ ("Milan" | "Genoa" | "Turin")) => format!("min_number = {{ {product} = {number} }}"),
                // A simulated root plays Genoa.
                _ => format!("min_number = {{ Genoa = {number} }}"),
            }),
        }
    }
    let tables = [("[crl]", crl), ("[tdx.collateral]", collateral), ("[tdx.tcb]", tcb)];
    let tables = tables.into_iter().filter(|(_, lines)| !lines.is_empty());
    tables.map(|(name, lines)| format!("{name}\n{}", lines.join("\n"))).collect::<Vec<_>>().join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(about: About, name: &'static str) -> Item {
        Item { name, about, issued: UnixTime(86_400), expires: UnixTime(3 * 86_400), bytes: 1 }
    }

    #[test]
    fn days_and_states() {
        let item = item(About::QeIdentity { id: "TD_QE".to_owned(), evaluation_number: 1 }, "qe_identity");
        let day = |n: u64| UnixTime(n * 86_400);
        assert!(state(&item, UnixTime(86_399)) == State::NotYet);
        assert!(state(&item, day(1)) == State::InForce);
        assert!(state(&item, day(3)) == State::InForce);
        assert!(state(&item, UnixTime(3 * 86_400 + 1)) == State::Expired);
        assert_eq!((days(day(1), day(3)), days(day(3), day(1))), (2, -2));
    }

    #[test]
    fn the_lines_name_the_lowest_numbers() {
        let list = |name, issuer: &str, number| {
            item(About::RevocationList { issuer: issuer.to_owned(), number, revoked: 0 }, name)
        };
        let tcb = |evaluation_number| {
            item(About::TcbInfo { fmspc: String::new(), pce_id: String::new(), evaluation_number }, "tcb_info")
        };
        let qe = item(About::QeIdentity { id: String::new(), evaluation_number: 18 }, "qe_identity");
        assert_eq!(policy_lines(&[list("crl", "ARK-Turin", 2)], UnixTime(0)), "[crl]\nmin_number = { Turin = 2 }");
        assert_eq!(
            policy_lines(&[tcb(19), qe, list("pck_crl", "x", 1), list("root_ca_crl", "y", 3)], UnixTime(2 * 86_400)),
            "[tdx.collateral]\nmin_pck_crl_number = 1\nmin_root_crl_number = 3\n\n[tdx.tcb]\nmin_tcb_evaluation_number = 18\n\
             written = \"1970-01-03\"\nsource = \"collateral issued 1970-01-02T00:00:00Z, as `vouchsafe collateral show` read it\""
        );
    }
}
