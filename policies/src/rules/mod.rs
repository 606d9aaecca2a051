//! The rules, one named check each: facts and rules in, rows and reasons out.
//! None of them stops at the first failure, and none of them looks at bytes that are not authentic.

pub(crate) mod dates;
pub(crate) mod models;
mod root;
pub(crate) mod snp;
pub(crate) mod tdx;
#[cfg(test)]
mod tests;
pub(crate) mod words;

use vouchsafe_attestation::{Claims, Facts as Evidence};

use crate::{
    Check, Expected, Listed, Rules, binding,
    facts::Facts,
    table::{Prover, Table},
};

/// Applies every rule, in the order in which a reader asks: which root, is it this session, which code, which machine, which models.
pub(crate) fn judge(facts: &Facts, rules: &Rules, expected: &Expected<'_>) -> (Table, Option<Claims>) {
    let mut table = Table::new(rules.mode, facts.tee());
    root::root(&mut table, facts, rules);
    let claims = binding::bind(&mut table, facts, rules.mode, expected);
    // A technology that the policy does not accept has no rules: `root` has refused it.
    match &facts.evidence {
        Evidence::SevSnp(evidence) => {
            if let Some(rules) = &rules.snp {
                snp::judge(&mut table, evidence, rules, facts.at);
            }
        }
        Evidence::Tdx(evidence) => {
            if let Some(rules) = &rules.tdx {
                tdx::judge(&mut table, evidence, rules, facts.at);
            }
        }
    }
    if let Some(claims) = &claims {
        models::served(&mut table, claims, &rules.models);
    }
    (table, claims)
}

/// One digest or identifier of the signed evidence against an allow-list; a written `any` is noted.
fn listed<const N: usize>(table: &mut Table, check: Check, list: &Listed<[u8; N]>, actual: &[u8; N]) {
    listed_as(table, check, Prover::Processor, "", list, actual);
}

/// The same on another's word, under a name where several share one check.
fn listed_as<const N: usize>(
    table: &mut Table,
    check: Check,
    by: Prover,
    name: &str,
    list: &Listed<[u8; N]>,
    actual: &[u8; N],
) {
    let found = format!("{name}{}", hex::encode(actual));
    match list {
        Listed::Any => table.any(check, by, found),
        Listed::Only(list) if list.contains(actual) => table.accept(check, by, found),
        Listed::Only(list) => {
            let wanted: Vec<_> = list.iter().take(4).map(hex::encode).collect();
            let more = list.len().saturating_sub(4);
            let wanted = wanted.join(" or ");
            let wanted = match (list.is_empty(), more) {
                (true, _) => "none".to_owned(),
                (false, 0) => wanted,
                (false, more) => format!("{wanted} or one of {more} more"),
            };
            table.refuse(check, by, format!("{name}{wanted}"), found);
        }
    }
}
