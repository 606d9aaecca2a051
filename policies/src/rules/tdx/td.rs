//! Which code runs in the TD, under which configuration, and what its attributes let the host do.
//! It does not say what that code does: whoever listed the measurements read the code.

use vouchsafe_attestation::tdx::{TdAttributes, TdxFacts};

use super::{TdAttributeRules, TdxRules};
use crate::{
    Check, Forbid,
    rules::{listed, listed_as},
    table::{Prover, Table},
};

const RTMR: [&str; 4] = ["RTMR0: ", "RTMR1: ", "RTMR2: ", "RTMR3: "];

/// MRTD, RTMR0 to RTMR3, MRCONFIGID, MROWNER, MROWNERCONFIG and MRSERVICETD.
pub(super) fn code(table: &mut Table, facts: &TdxFacts, rules: &TdxRules) {
    let body = &facts.body;
    listed(table, Check::MrTd, &rules.mr_td, &body.mr_td);
    for ((name, list), actual) in RTMR.iter().zip(&rules.rtmr).zip(&body.rtmr) {
        listed_as(table, Check::Rtmr, Prover::Processor, name, list, actual);
    }
    if body.rtmr[0] == [0; 48] {
        table.not_proven.push(
            "how the firmware was configured: nothing was recorded in RTMR0, so only MRTD speaks for the firmware"
                .to_owned(),
        );
    }
    let (digest, rest) = body.mr_config_id.split_at(32);
    let mut bound = [0; 32];
    bound.copy_from_slice(digest);
    listed(table, Check::ConfigDigest, &rules.config_digests, &bound);
    if rest.iter().all(|byte| *byte == 0) {
        table.accept(Check::MrConfigIdShape, Prover::Processor, "a digest and 16 zero bytes");
    } else {
        let found = format!("a digest and {}", hex::encode(rest));
        table.refuse(Check::MrConfigIdShape, Prover::Processor, "a digest and 16 zero bytes", found);
    }
    listed(table, Check::MrOwner, &rules.mr_owner, &body.mr_owner);
    listed(table, Check::MrOwnerConfig, &rules.mr_owner_config, &body.mr_owner_config);
    match &body.v15 {
        None => {
            table.any(Check::ServiceTd, Prover::Processor, "not known: a report of TDX 1.0 has no such field");
            table.not_proven.push(
                "that no service TD is bound: a report of TDX 1.0 cannot say (`tdx.min_quote_version = 5` demands one that can)"
                    .to_owned(),
            );
        }
        Some(v15) if v15.mr_service_td == [0; 48] => table.accept(Check::ServiceTd, Prover::Processor, "none"),
        Some(v15) => listed(table, Check::ServiceTd, &rules.service_td, &v15.mr_service_td),
    }
    let foreign = body.xfam & !rules.xfam;
    if foreign == 0 {
        table.accept(Check::Xfam, Prover::Processor, format!("{:#x}", body.xfam));
    } else {
        let wanted = format!("no bit outside {:#x}", rules.xfam);
        table.refuse(Check::Xfam, Prover::Processor, wanted, format!("{:#x}, with {foreign:#x}", body.xfam));
    }
}

struct Bit {
    check: Check,
    field: &'static str,
    rule: fn(&TdAttributeRules) -> Forbid,
    found: fn(TdAttributes) -> bool,
}

/// ATTRIBUTES: Intel TDX Module ABI Specification 348551-008US, table 3.23.
const FORBIDDEN: [Bit; 5] = [
    Bit { check: Check::TdDebug, field: "debug", rule: |r| r.debug, found: TdAttributes::debug },
    Bit { check: Check::TdProfiling, field: "profiling", rule: |r| r.profiling, found: TdAttributes::profiling },
    Bit { check: Check::TdPks, field: "pks", rule: |r| r.pks, found: TdAttributes::pks },
    Bit { check: Check::TdKeyLocker, field: "key_locker", rule: |r| r.key_locker, found: TdAttributes::key_locker },
    Bit { check: Check::TdPerfmon, field: "perfmon", rule: |r| r.perfmon, found: TdAttributes::perfmon },
];

/// Every bit that has a rule (0 to 7, 30, 31, 63), LASS (27), which only hardens the guest, and SEPT_VE_DISABLE (28),
/// without which verification refuses the quote. It refuses MIGRATABLE (29) too.
const KNOWN: u64 = 0xff | 0b1_1011 << 27 | 1 << 63;

/// ATTRIBUTES bit by bit; one without a rule is refused.
pub(super) fn attributes(table: &mut Table, facts: &TdxFacts, rules: &TdxRules) {
    let (actual, rules) = (facts.body.attributes, &rules.attributes);
    for bit in &FORBIDDEN {
        match ((bit.found)(actual), (bit.rule)(rules)) {
            (false, _) => table.accept(bit.check, Prover::Processor, "off"),
            (true, Forbid::Forbidden) => table.refuse(bit.check, Prover::Processor, "off", "on"),
            (true, Forbid::Allowed) => {
                let note = format!("the TD has {0} and the policy accepts it (`tdx.attributes.{0}`)", bit.field);
                table.allow(bit.check, Prover::Processor, "on", note);
            }
        }
    }
    if actual.debug() || actual.profiling() {
        table
            .not_proven
            .push("that the host cannot look into the TD: its attributes allow debugging or profiling".to_owned());
    }
    let unknown = actual.0 & !KNOWN;
    if unknown == 0 {
        table.accept(Check::TdUnknown, Prover::Processor, "none");
    } else {
        table.refuse(Check::TdUnknown, Prover::Processor, "none", format!("{unknown:#x}"));
    }
}
