//! Which code runs, under which configuration, and what its guest policy allows the host.
//! It does not say what that code does: whoever listed the measurement read the code.

use vouchsafe_attestation::snp::{GuestPolicy, SnpFacts};

use super::{GuestPolicyRules, SnpRules};
use crate::{
    Check, Forbid, Need,
    rules::listed,
    table::{Prover, Table},
};

/// MEASUREMENT (offset 0x090), HOST_DATA (0x0C0) and VMPL (0x030).
pub(crate) fn code(table: &mut Table, facts: &SnpFacts, rules: &SnpRules) {
    let report = &facts.report;
    listed(table, Check::Measurement, &rules.measurements, &report.measurement);
    listed(table, Check::ConfigDigest, &rules.config_digests, &report.host_data);
    // 0xFFFFFFFF, a report that the host asked for, is in no list: a policy holds 0 to 3 only.
    let level = report.vmpl.to_string();
    if rules.vmpl.contains(&report.vmpl) {
        table.accept(Check::Vmpl, Prover::Processor, level);
    } else {
        let wanted: Vec<_> = rules.vmpl.iter().map(u32::to_string).collect();
        table.refuse(Check::Vmpl, Prover::Processor, wanted.join(" or "), level);
    }
}

pub(crate) struct Bit<R> {
    check: Check,
    pub field: &'static str,
    pub rule: fn(&GuestPolicyRules) -> R,
    found: fn(GuestPolicy) -> bool,
}

const FORBIDDEN: [Bit<Forbid>; 4] = [
    Bit { check: Check::Debug, field: "debug", rule: |r| r.debug, found: GuestPolicy::debug },
    Bit { check: Check::Migration, field: "migrate_ma", rule: |r| r.migrate_ma, found: GuestPolicy::migrate_ma },
    Bit { check: Check::Smt, field: "smt", rule: |r| r.smt, found: GuestPolicy::smt },
    Bit { check: Check::Cxl, field: "cxl", rule: |r| r.cxl, found: GuestPolicy::cxl_allow },
];

pub(crate) const REQUIRED: [Bit<Need>; 5] = [
    Bit {
        check: Check::SingleSocket,
        field: "single_socket",
        rule: |r| r.single_socket,
        found: GuestPolicy::single_socket,
    },
    Bit {
        check: Check::MemXts,
        field: "mem_aes_256_xts",
        rule: |r| r.mem_aes_256_xts,
        found: GuestPolicy::mem_aes_256_xts,
    },
    Bit { check: Check::Rapl, field: "rapl_disabled", rule: |r| r.rapl_disabled, found: GuestPolicy::rapl_dis },
    Bit {
        check: Check::CiphertextHiding,
        field: "ciphertext_hiding",
        rule: |r| r.ciphertext_hiding,
        found: GuestPolicy::ciphertext_hiding,
    },
    Bit {
        check: Check::PageSwap,
        field: "page_swap_disabled",
        rule: |r| r.page_swap_disabled,
        found: GuestPolicy::page_swap_disable,
    },
];

/// POLICY (offset 0x008) bit by bit, and REPORT_ID_MA (0x160).
pub(crate) fn policy(table: &mut Table, facts: &SnpFacts, rules: &SnpRules) {
    let (policy, rules) = (facts.report.policy, &rules.guest_policy);
    for bit in &FORBIDDEN {
        match ((bit.found)(policy), (bit.rule)(rules)) {
            (false, _) => table.accept(bit.check, Prover::Processor, "forbidden"),
            (true, Forbid::Forbidden) => table.refuse(bit.check, Prover::Processor, "forbidden", "allowed"),
            (true, Forbid::Allowed) => {
                let note =
                    format!("the guest policy allows {0} and the policy accepts it (`guest_policy.{0}`)", bit.field);
                table.allow(bit.check, Prover::Processor, "allowed", note);
            }
        }
    }
    if policy.debug() {
        table
            .not_proven
            .push("that the host cannot read the guest's memory: its guest policy allows debugging".to_owned());
    }
    for bit in &REQUIRED {
        match ((bit.found)(policy), (bit.rule)(rules)) {
            (true, _) => table.accept(bit.check, Prover::Processor, "required by the guest"),
            (false, Need::Required) => {
                table.refuse(bit.check, Prover::Processor, "required by the guest", "not required")
            }
            (false, Need::Any) => table.any(bit.check, Prover::Processor, "not required"),
        }
    }
    let alone = facts.report.report_id_ma == [0xff; 32];
    match (alone, rules.migrate_ma) {
        (true, _) => table.accept(Check::MigrationAgent, Prover::Processor, "none"),
        (false, Forbid::Forbidden) => {
            table.refuse(Check::MigrationAgent, Prover::Processor, "none", "one is associated")
        }
        (false, Forbid::Allowed) => {
            let note = "a migration agent is associated and the policy allows migration (`guest_policy.migrate_ma`)";
            table.allow(Check::MigrationAgent, Prover::Processor, "one is associated", note);
        }
    }
}
