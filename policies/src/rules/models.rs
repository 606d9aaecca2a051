//! Which models the enclave says it serves, in claims that the evidence binds.
//! It does not open a package: the measured code verified its signature before it said so.

use vouchsafe_attestation::{
    Claims,
    claims::{Clock, ModelClaim, Release},
};

use crate::{
    Check, Listed, ModelRule,
    table::{Prover, Table},
};

/// Every claimed model against the policy's list.
pub(crate) fn served(table: &mut Table, claims: &Claims, models: &Listed<ModelRule>) {
    if claims.models.is_empty() {
        table.notes.push("the enclave serves no model yet".to_owned());
    }
    let total = claims.models.len();
    for (at, claim) in claims.models.iter().enumerate() {
        match models {
            Listed::Any => {
                table.any(Check::Model, Prover::Enclave, format!("{} sequence {}", claim.id, claim.sequence));
            }
            Listed::Only(list) => match list.iter().find(|rule| rule.id == claim.id) {
                Some(rule) => one(table, claim, rule),
                None => {
                    // The name is the peer's: the message gives its place and its random identifier.
                    let found = format!("model {} of {total}, uid {}", at + 1, hex::encode(claim.uid));
                    table.refuse(Check::Model, Prover::Enclave, "a model named in the policy", found);
                }
            },
        }
        if claim.release == Release::Static {
            table.not_proven.push(format!(
                "that the right to use model {} of {total} can end: its key was released without lease or revocation",
                at + 1
            ));
        }
    }
    if claims.clock == Clock::HostInfluenced {
        table.notes.push(
            "clock = host-influenced: the host can slow the enclave's clock; only counts are hard bounds".to_owned(),
        );
        table.not_proven.push(
            "time: the host influences the enclave's clock, so leases and expiry are bounded by counts only".to_owned(),
        );
    }
}

fn one(table: &mut Table, claim: &ModelClaim, rule: &ModelRule) {
    table.accept(
        Check::Model,
        Prover::Enclave,
        format!("{}, manifest {}", rule.id, hex::encode(claim.manifest_digest)),
    );
    if claim.sequence >= rule.min_sequence {
        table.accept(Check::ModelSequence, Prover::Enclave, format!("{}: sequence {}", rule.id, claim.sequence));
    } else {
        let wanted = format!("{}: sequence {} or higher", rule.id, rule.min_sequence);
        table.refuse(
            Check::ModelSequence,
            Prover::Enclave,
            wanted,
            format!("{}: sequence {}", rule.id, claim.sequence),
        );
    }
    match &rule.vendor_keys {
        Listed::Any => table.any(Check::VendorKey, Prover::Enclave, format!("{}: any key", rule.id)),
        // The claims hold the keys that signed; each must be one that the policy pins.
        Listed::Only(keys) => {
            let strangers: Vec<_> =
                claim.vendor_keys.iter().filter(|key| !keys.contains(key)).map(|k| k.key_id()).collect();
            if strangers.is_empty() && !claim.vendor_keys.is_empty() {
                table.accept(Check::VendorKey, Prover::Enclave, format!("{}: signed by the pinned vendor", rule.id));
            } else {
                let wanted: Vec<_> = keys.iter().map(|k| k.key_id()).collect();
                let wanted = format!("{}: key {}", rule.id, wanted.join(" or "));
                table.refuse(
                    Check::VendorKey,
                    Prover::Enclave,
                    wanted,
                    format!("{}: key {}", rule.id, strangers.join(", ")),
                );
            }
        }
    }
}
