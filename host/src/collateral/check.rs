//! Turns a collateral file and a number of days into yes, or into every item that runs out, is too old or too low, and what to do.
//! Yes does not mean genuine: no signature is verified, dates and numbers are the file's own.

use std::path::PathBuf;

use serde_json::{Value, json};
use vouchsafe_attestation::{
    Collateral, Tee, UnixTime,
    collateral::{About, Item, tee},
    snp::Product,
};
use vouchsafe_policies::Policy;

use super::{
    NOT_VERIFIED, listed, notes,
    show::{self, State, days, state, what},
};
use crate::{
    clock, evidence,
    failure::{Failure, Outcome},
    verify,
};

#[derive(clap::Args)]
pub struct Args {
    /// The collateral file.
    file: PathBuf,
    /// Also tell what runs out within so many days.
    #[arg(long, value_name = "DAYS", default_value_t = 0)]
    within: u32,
    /// Compare ages and numbers with this policy as well.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// As of when, for example 2026-11-21T12:00:00Z [default: now].
    #[arg(long, value_name = "RFC3339")]
    at: Option<String>,
}

/// One thing that is wrong, or soon will be.
struct Finding {
    code: &'static str,
    item: &'static str,
    expected: String,
    actual: String,
    remedy: &'static str,
}

const FETCH: &str = "fetch it anew: `vouchsafe collateral fetch`, then give the file to the enclave's launcher";
const CLOCK: &str = "compare this machine's clock with a reliable one";
const LEAF: &str = "the leaf itself runs out: fetch the chip's certificate anew, or have the provider load a new key";

pub fn run(args: &Args, json: bool) -> Outcome {
    let at = clock::as_of(args.at.as_deref())?;
    let policy = args.policy.as_deref().map(verify::policy).transpose()?;
    let collateral = evidence::bundle(&args.file)?;
    let items = listed(&collateral, &args.file)?;
    let mut findings = dates(&items, at, args.within);
    if let Some(policy) = &policy {
        findings.extend(demands(policy, &collateral, &items, at));
    }
    if !json {
        for note in notes(&collateral) {
            eprintln!("attention: {note}");
        }
    }
    let Some(first) = findings.first() else {
        if json {
            let mut object = show::object(&collateral, &items, at);
            object["fresh"] = json!(true);
            println!("{object}");
        } else {
            print!("{}", show::table(&items, at));
            println!("\neverything is in force, for {} days more; {NOT_VERIFIED}", shortest(&items, at));
        }
        return Ok(());
    };
    let fact = format!("{} of {} items need attention", affected(&findings), items.len());
    let mut failure = Failure::new(first.code, 3, fact, first.remedy);
    failure.more = Box::new(show::object(&collateral, &items, at));
    failure.reasons = findings.iter().map(reason).collect();
    Err(failure)
}

fn reason(finding: &Finding) -> Value {
    json!({
        "code": finding.code,
        "check": finding.item,
        "expected": finding.expected,
        "actual": finding.actual,
        "remedy": finding.remedy,
    })
}

/// How many items have at least one finding.
fn affected(findings: &[Finding]) -> usize {
    findings.iter().enumerate().filter(|(i, f)| findings.iter().take(*i).all(|other| other.item != f.item)).count()
}

fn shortest(items: &[Item], at: UnixTime) -> i64 {
    items.iter().map(|item| days(at, item.expires)).min().unwrap_or(0)
}

/// What runs out, by the items' own dates.
fn dates(items: &[Item], at: UnixTime, within: u32) -> Vec<Finding> {
    let mut findings = Vec::new();
    let deadline = at.plus(u64::from(within) * 86_400);
    for item in items {
        let remedy = if item.name == "leaf" { LEAF } else { FETCH };
        let until = format!("{}, until {}", what(item), item.expires);
        match state(item, at) {
            State::Expired => findings.push(Finding {
                code: "COLLATERAL_EXPIRED",
                item: item.name,
                expected: format!("in force on {at}"),
                actual: until,
                remedy,
            }),
            State::NotYet => findings.push(Finding {
                code: "COLLATERAL_NOT_YET_VALID",
                item: item.name,
                expected: format!("issued before {at}"),
                actual: format!("{}, issued {}", what(item), item.issued),
                remedy: CLOCK,
            }),
            State::InForce if deadline > item.expires => findings.push(Finding {
                code: "COLLATERAL_EXPIRES_SOON",
                item: item.name,
                expected: format!("in force for {within} days more"),
                actual: until,
                remedy,
            }),
            State::InForce => {}
        }
    }
    findings
}

/// What a policy would refuse: ages and numbers.
fn demands(policy: &Policy, collateral: &Collateral, items: &[Item], at: UnixTime) -> Vec<Finding> {
    let mut findings = Vec::new();
    match tee(collateral) {
        Tee::SevSnp => {
            let Some(rules) = policy.rules().snp() else { return vec![other_tee(policy, Tee::SevSnp)] };
            for item in items {
                let About::RevocationList { number, issuer, .. } = &item.about else { continue };
                aged(&mut findings, item, at, rules.crl.max_age_days);
                let floor = product(issuer).map(|product| floor_of(product, rules.crl.min_number));
                below(&mut findings, item, *number, floor.unwrap_or(0));
            }
        }
        Tee::Tdx => {
            let Some(rules) = policy.rules().tdx() else { return vec![other_tee(policy, Tee::Tdx)] };
            for item in items {
                let (number, floor) = match (&item.about, item.name) {
                    (About::Certificate { .. } | About::Leaf { .. }, _) => continue,
                    (About::RevocationList { number, .. }, "root_ca_crl") => {
                        (*number, u64::from(rules.collateral.min_root_crl_number))
                    }
                    (About::RevocationList { number, .. }, _) => {
                        (*number, u64::from(rules.collateral.min_pck_crl_number))
                    }
                    (About::TcbInfo { evaluation_number, .. } | About::QeIdentity { evaluation_number, .. }, _) => {
                        (u64::from(*evaluation_number), u64::from(rules.tcb.min_evaluation_number))
                    }
                };
                aged(&mut findings, item, at, rules.collateral.max_age_days);
                below(&mut findings, item, number, floor);
            }
        }
    }
    findings
}

/// The product that a list is for, from its issuer's name; a simulated root plays Genoa.
fn product(issuer: &str) -> Option<Product> {
    match issuer.strip_prefix("ARK-")? {
        "SIM" => Some(Product::Genoa),
        name => Product::from_leaf_name(name),
    }
}

/// Policies keep the floors in the order of the generations.
fn floor_of(product: Product, [milan, genoa, turin]: [u64; 3]) -> u64 {
    match product {
        Product::Milan => milan,
        Product::Genoa => genoa,
        Product::Turin => turin,
    }
}

fn aged(findings: &mut Vec<Finding>, item: &Item, at: UnixTime, max_age_days: u32) {
    if at.since(item.issued) > u64::from(max_age_days) * 86_400 {
        findings.push(Finding {
            code: "COLLATERAL_TOO_OLD",
            item: item.name,
            expected: format!("at most {max_age_days} days old, says the policy"),
            actual: format!("{} days old, issued {}", days(item.issued, at), item.issued),
            remedy: FETCH,
        });
    }
}

fn below(findings: &mut Vec<Finding>, item: &Item, number: u64, floor: u64) {
    if number < floor {
        findings.push(Finding {
            code: "COLLATERAL_BELOW_FLOOR",
            item: item.name,
            expected: format!("number {floor} or higher, says the policy"),
            actual: format!("number {number}"),
            remedy: FETCH,
        });
    }
}

fn other_tee(policy: &Policy, tee: Tee) -> Finding {
    let accepted: Vec<&str> = policy.tee_accepted().iter().map(|tee| tee.as_str()).collect();
    Finding {
        code: "COLLATERAL_KIND",
        item: "tee",
        expected: accepted.join(" or "),
        actual: tee.as_str().to_owned(),
        remedy: "name the policy that is meant for this collateral",
    }
}
