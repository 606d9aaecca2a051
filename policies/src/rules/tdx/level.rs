//! What Intel says of the platform's level: status, open advisories, and how new that assessment is.
//! A level says that known holes are closed, not that there are none.

use vouchsafe_attestation::{
    UnixTime,
    tdx::{TcbStatus, TdxFacts},
};

use super::{StatusGrace, TdxRules};
use crate::{
    Check, Listed,
    rules::dates::{MAX_GRACE_DAYS, Phase, days},
    table::{Prover, Table},
};

/// Days left in which the status is tolerated.
fn grace(rules: &TdxRules, status: TcbStatus, at: UnixTime) -> Option<(&StatusGrace, Phase)> {
    let grace = rules.tcb.grace.as_ref().filter(|grace| grace.statuses.contains(&status))?;
    match grace.until.phase(at) {
        Phase::Before(left) if left > MAX_GRACE_DAYS => None,
        phase => Some((grace, phase)),
    }
}

/// The converged status against the list, and against a grace window that is still open.
pub(super) fn status(table: &mut Table, facts: &TdxFacts, rules: &TdxRules, at: UnixTime) {
    let status = facts.status;
    let found = format!(
        "{} (platform {}, quoting enclave {}), level of {}",
        status.as_str(),
        facts.platform_status.as_str(),
        facts.qe_status.as_str(),
        facts.tcb_date
    );
    let wanted: Vec<_> = rules.tcb.statuses.iter().map(|status| status.as_str()).collect();
    let wanted = wanted.join(" or ");
    if rules.tcb.statuses.contains(&status) {
        return table.accept(Check::TcbStatus, Prover::Collateral, found);
    }
    match grace(rules, status, at) {
        None => table.refuse(Check::TcbStatus, Prover::Collateral, wanted, found),
        Some((grace, Phase::Before(left))) => {
            let (left, until) = (days(left), &grace.until);
            let note = format!(
                "{left} left: this machine is {}, which the policy tolerates until {} ({}); then it is refused",
                status.as_str(),
                until.at,
                until.source
            );
            table.warn(Check::TcbStatus, Prover::Collateral, format!("{found}; {left} left"), note);
        }
        Some((grace, Phase::Reached)) => {
            let wanted = format!("{wanted}; the grace for {} ended {}", status.as_str(), grace.until.at);
            table.refuse(Check::TcbGrace, Prover::Collateral, wanted, found);
        }
    }
}

/// Advisories that are open at this level. While a grace window tolerates the status, it tolerates those that it names.
pub(super) fn advisories(table: &mut Table, facts: &TdxFacts, rules: &TdxRules, at: UnixTime) {
    let all: Vec<_> = facts.advisories.iter().collect();
    let open = beyond(&all, &rules.tcb.advisories_accepted);
    if open.is_empty() {
        let found = if all.is_empty() { "none".to_owned() } else { said(&all) };
        if rules.tcb.advisories_accepted.is_any() && !all.is_empty() {
            table.any(Check::TcbAdvisory, Prover::Collateral, found);
        } else {
            table.accept(Check::TcbAdvisory, Prover::Collateral, found);
        }
        return;
    }
    let grace = grace(rules, facts.status, at).and_then(|(grace, phase)| match phase {
        Phase::Before(left) => Some((grace, days(left))),
        Phase::Reached => None,
    });
    let refused = match &grace {
        Some((grace, _)) => beyond(&open, &grace.advisories),
        None => open.clone(),
    };
    if let (Some((grace, left)), true) = (&grace, refused.is_empty()) {
        let (until, found) = (&grace.until.at, said(&open));
        let any = if grace.advisories.is_any() { "; `tdx.tcb.grace.advisories` = any: any other too" } else { "" };
        let note = format!("{left} left: open until the update, tolerated until {until}: {found}{any}");
        return table.warn(Check::TcbAdvisory, Prover::Collateral, found, note);
    }
    let wanted = match grace {
        Some(_) => "none that neither `tdx.tcb.advisories_accepted` nor `tdx.tcb.grace.advisories` names",
        None => "none that `tdx.tcb.advisories_accepted` does not name",
    };
    table.refuse(Check::TcbAdvisory, Prover::Collateral, wanted, said(&refused));
}

/// Those that a list does not name.
fn beyond<'a>(names: &[&'a String], list: &Listed<String>) -> Vec<&'a String> {
    match list {
        Listed::Any => Vec::new(),
        Listed::Only(list) => names.iter().copied().filter(|name| !list.contains(name)).collect(),
    }
}

/// The first of them, for people.
fn said(names: &[&String]) -> String {
    let shown: Vec<_> = names.iter().take(8).map(|name| name.as_str()).collect();
    let more = names.len().saturating_sub(8);
    if more == 0 { shown.join(", ") } else { format!("{} and {more} more", shown.join(", ")) }
}

/// The evaluation number against the floor, and against numbers to come.
pub(super) fn evaluation(table: &mut Table, facts: &TdxFacts, rules: &TdxRules, at: UnixTime) {
    let (number, least) = (facts.evaluation_number, rules.tcb.min_evaluation_number);
    if number >= least {
        table.accept(Check::TcbEvaluation, Prover::Collateral, number.to_string());
    } else {
        let wanted = format!("{least} or higher ({})", rules.tcb.written);
        table.refuse(Check::TcbEvaluation, Prover::Collateral, wanted, number.to_string());
    }
    for rule in &rules.tcb.announced {
        let (least, from) = (rule.min_evaluation_number, &rule.from);
        if number >= least {
            table.accept(Check::TcbEvaluationAnnounced, Prover::Collateral, format!("{number}, of {least}"));
            continue;
        }
        match from.phase(at) {
            Phase::Before(left) => {
                let left = days(left);
                let note = format!(
                    "{left} left: from {} on collateral needs evaluation number {least} or higher and this has {number} ({})",
                    from.at, from.source
                );
                table.warn(Check::TcbEvaluationAnnounced, Prover::Collateral, format!("{number}; {left} left"), note);
            }
            Phase::Reached => {
                let wanted = format!("{least} or higher from {} on ({})", from.at, from.source);
                table.refuse(Check::TcbEvaluationAnnounced, Prover::Collateral, wanted, number.to_string());
            }
        }
    }
}
