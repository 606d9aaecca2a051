//! The rules, one named check each: facts and rules in, rows and reasons out.
//! None of them stops at the first failure, and none of them looks at bytes that are not authentic.

pub(crate) mod guest;
pub(crate) mod models;
pub(crate) mod platform;
pub(crate) mod snp;
pub(crate) mod tcb;
#[cfg(test)]
mod tests;

use vouchsafe_attestation::{Claims, UnixTime};

use crate::{
    Check, Expected, Listed, Rules, binding,
    facts::Facts,
    table::{Prover, Table},
};

/// Applies every rule, in the order in which a reader asks: which root, is it this session, which code, which machine, which models.
pub(crate) fn judge(facts: &Facts, rules: &Rules, expected: &Expected<'_>, now: UnixTime) -> (Table, Option<Claims>) {
    let mut table = Table::new(rules.mode);
    platform::root(&mut table, facts, rules);
    let claims = binding::bind(&mut table, facts, rules.mode, expected);
    guest::code(&mut table, facts, &rules.snp);
    guest::policy(&mut table, facts, &rules.snp);
    platform::machine(&mut table, facts, &rules.snp);
    tcb::floors(&mut table, facts, &rules.snp);
    tcb::firmware(&mut table, facts, &rules.snp);
    platform::revocation(&mut table, facts, rules, now);
    if let Some(claims) = &claims {
        models::served(&mut table, claims, &rules.models);
    }
    (table, claims)
}

/// One digest or identifier against an allow-list; a written `any` is noted.
fn listed<const N: usize>(table: &mut Table, check: Check, list: &Listed<[u8; N]>, actual: &[u8; N]) {
    let found = hex::encode(actual);
    match list {
        Listed::Any => table.any(check, Prover::Processor, found),
        Listed::Only(list) if list.contains(actual) => table.accept(check, Prover::Processor, found),
        Listed::Only(list) => {
            let wanted: Vec<_> = list.iter().take(4).map(hex::encode).collect();
            let more = list.len().saturating_sub(4);
            let wanted = wanted.join(" or ");
            let wanted = if more == 0 { wanted } else { format!("{wanted} or one of {more} more") };
            table.refuse(check, Prover::Processor, if list.is_empty() { "none".to_owned() } else { wanted }, found);
        }
    }
}
