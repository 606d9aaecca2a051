//! Which TDX module, which machine, and how fresh Intel's collateral is.
//! A machine's identity does not prove that nobody has opened its case.

use vouchsafe_attestation::{
    UnixTime,
    tdx::{PckFlag, TdxFacts},
};

use super::TdxRules;
use crate::{
    Check, Forbid,
    rules::{listed, listed_as},
    table::{Prover, Table},
};

const DAY: u64 = 86_400;

/// MRSEAM, MRSIGNERSEAM, SEAMATTRIBUTES and the quote's version.
pub(super) fn module(table: &mut Table, facts: &TdxFacts, rules: &TdxRules) {
    let body = &facts.body;
    listed(table, Check::MrSeam, &rules.mr_seam, &body.mr_seam);
    listed(table, Check::MrSignerSeam, &rules.mr_signer_seam, &body.mr_signer_seam);
    // Intel defines no attribute of a module for production.
    if body.seam_attributes == [0; 8] {
        table.accept(Check::SeamAttributes, Prover::Processor, "none");
    } else {
        table.refuse(Check::SeamAttributes, Prover::Processor, "none", hex::encode(body.seam_attributes));
    }
    let version = facts.quote_version;
    if version >= rules.min_quote_version {
        table.accept(Check::QuoteVersion, Prover::Processor, version.to_string());
    } else {
        let wanted = format!("{} or newer", rules.min_quote_version);
        table.refuse(Check::QuoteVersion, Prover::Processor, wanted, version.to_string());
    }
}

/// PPID, FMSPC, PCEID and the flags of the PCK certificate.
pub(super) fn machine(table: &mut Table, facts: &TdxFacts, rules: &TdxRules) {
    listed_as(table, Check::Platform, Prover::Root, "", &rules.platforms, &facts.ppid);
    if rules.platforms.is_any() {
        table.not_proven.push(
            "which machine it is, and so whether its owner can tap its memory bus: the policy accepts any platform"
                .to_owned(),
        );
    }
    listed_as(table, Check::Fmspc, Prover::Root, "", &rules.tcb.fmspc, &facts.fmspc);
    listed_as(table, Check::PceId, Prover::Root, "", &rules.tcb.pce_id, &facts.pce_id);
    // Certificates of Intel's Processor CA carry none of the flags: they are for platforms of one package, which can
    // neither grow nor have their keys kept. Of sibling threads they say nothing, and nothing is no proof.
    for (check, field, rule, found, silent) in [
        (Check::PckSmt, "smt", rules.pck.smt, facts.smt, false),
        (Check::PckDynamicPlatform, "dynamic_platform", rules.pck.dynamic_platform, facts.dynamic_platform, true),
        (Check::PckCachedKeys, "cached_keys", rules.pck.cached_keys, facts.cached_keys, true),
    ] {
        match (found, rule) {
            (PckFlag::No, _) => table.accept(check, Prover::Root, "no"),
            (PckFlag::Undefined, _) if silent => {
                table.accept(check, Prover::Root, "not in this certificate: a platform of one package");
            }
            (PckFlag::Undefined, Forbid::Forbidden) => {
                table.refuse(check, Prover::Root, "no", "the certificate does not say");
            }
            (PckFlag::Undefined, Forbid::Allowed) => table.any(check, Prover::Root, "the certificate does not say"),
            (PckFlag::Yes, Forbid::Forbidden) => table.refuse(check, Prover::Root, "no", "yes"),
            (PckFlag::Yes, Forbid::Allowed) => {
                let note = format!("the platform has {field} and the policy accepts it (`tdx.pck.{field}`)");
                table.allow(check, Prover::Root, "yes", note);
            }
        }
    }
}

/// Age of the collateral, and numbers of both revocation lists.
pub(super) fn collateral(table: &mut Table, facts: &TdxFacts, rules: &TdxRules, at: UnixTime) {
    let age = at.since(facts.oldest_issue);
    let (most, days) = (u64::from(rules.collateral.max_age_days), age / DAY);
    let found = format!("{days} days; oldest item of {}, first ends {}", facts.oldest_issue, facts.first_expiry);
    if age <= most * DAY {
        table.accept(Check::CollateralAge, Prover::Collateral, found);
    } else {
        table.refuse(Check::CollateralAge, Prover::Collateral, format!("at most {most} days"), found);
    }
    for (check, least, number) in [
        (Check::RootCrlNumber, rules.collateral.min_root_crl_number, facts.root_crl_number),
        (Check::PckCrlNumber, rules.collateral.min_pck_crl_number, facts.pck_crl_number),
    ] {
        if number >= least {
            table.accept(check, Prover::RevocationList, number.to_string());
        } else {
            table.refuse(check, Prover::RevocationList, format!("{least} or higher"), number.to_string());
        }
    }
}
