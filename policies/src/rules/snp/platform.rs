//! Which machine, and how fresh the list of revoked certificates is.
//! A machine's identity does not prove that nobody has opened its case.

use vouchsafe_attestation::{
    UnixTime,
    snp::{LeafKind, Product, SnpFacts},
};

use super::{SnpRules, products_named, slot};
use crate::{
    Check, Listed, Need,
    rules::listed,
    table::{Prover, Table},
};

const DAY: u64 = 86_400;

/// Product, report version, chip or provider, and what the platform says of itself.
pub(crate) fn machine(table: &mut Table, facts: &SnpFacts, rules: &SnpRules) {
    if rules.products.contains(&facts.product) {
        table.accept(Check::Product, Prover::Root, facts.product.as_str());
        if facts.product == Product::Milan {
            table.notes.push(
                "the policy accepts Milan, whose chip key can be extracted by software (`sev-snp.products`)".to_owned(),
            );
            table.not_proven.push(
                "that the report was made by a Milan processor and not by somebody who extracted its key".to_owned(),
            );
        }
    } else {
        let named = products_named().into_iter().filter(|(product, _)| rules.products.contains(product));
        let wanted: Vec<_> = named.map(|(_, name)| name).collect();
        table.refuse(Check::Product, Prover::Root, wanted.join(" or "), facts.product.as_str());
    }
    let version = facts.report.version;
    if version >= rules.min_version {
        table.accept(Check::Version, Prover::Processor, version.to_string());
    } else {
        table.refuse(Check::Version, Prover::Processor, format!("{} or newer", rules.min_version), version.to_string());
    }
    whose(table, facts, rules);
    let info = facts.report.platform_info;
    let needs = [
        (Check::AliasCheck, rules.platform.alias_check, info.alias_check_complete()),
        (Check::PlatformCiphertextHiding, rules.platform.ciphertext_hiding, info.ciphertext_hiding_dram_en()),
    ];
    for (check, need, found) in needs {
        match (found, need) {
            (true, _) => table.accept(check, Prover::Processor, "on"),
            (false, Need::Required) => table.refuse(check, Prover::Processor, "on", "off"),
            (false, Need::Any) => table.any(check, Prover::Processor, "off"),
        }
    }
}

/// The chip's own key under `platforms`; a provider's key or a masked chip only under `csp`.
fn whose(table: &mut Table, facts: &SnpFacts, rules: &SnpRules) {
    let chip = &facts.report.chip_id;
    let masked = *chip == [0; 64];
    if facts.leaf_kind == LeafKind::Vcek && !masked {
        table.accept(Check::Vlek, Prover::Root, "the chip's own key (VCEK)");
        listed(table, Check::Platform, &rules.platforms, chip);
        if rules.platforms.is_any() {
            table.not_proven.push(
                "which machine it is, and so whether its owner can tap its memory bus: the policy accepts any platform"
                    .to_owned(),
            );
        }
        return;
    }
    let vlek = facts.leaf_kind == LeafKind::Vlek;
    let check = if vlek { Check::Vlek } else { Check::Platform };
    let found = if vlek { "a cloud provider's key (VLEK)" } else { "a masked chip id" };
    match &rules.csp {
        Listed::Any => table.any(check, Prover::Root, found),
        Listed::Only(list) if facts.csp.as_ref().is_some_and(|csp| list.contains(csp)) => {
            table.accept(check, Prover::Root, format!("{found}, of a provider named in `csp`"));
        }
        Listed::Only(list) => {
            let wanted = if list.is_empty() { "a chip's own key and id" } else { "a provider named in `csp`" };
            table.refuse(check, Prover::Root, wanted, found);
        }
    }
    table.not_proven.push("which machine of the cloud provider it is".to_owned());
}

/// Age and number of the revocation list.
pub(crate) fn revocation(table: &mut Table, facts: &SnpFacts, rules: &SnpRules, now: UnixTime) {
    let crl = facts.crl;
    let age = now.since(crl.this_update);
    let (most, days) = (u64::from(rules.crl.max_age_days), age / DAY);
    if age <= most * DAY {
        table.accept(Check::CrlAge, Prover::RevocationList, format!("{days} days; issued {}", crl.this_update));
    } else {
        let found = format!("{days} days; issued {}", crl.this_update);
        table.refuse(Check::CrlAge, Prover::RevocationList, format!("at most {most} days"), found);
    }
    let least = rules.crl.min_number[slot(facts.product)];
    if crl.number >= least {
        table.accept(Check::CrlNumber, Prover::RevocationList, crl.number.to_string());
    } else {
        table.refuse(Check::CrlNumber, Prover::RevocationList, format!("{least} or higher"), crl.number.to_string());
    }
}
