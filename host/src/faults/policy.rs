//! Turns a technology into the floors that the lab adds to its policies: the simulated processor just reaches each.
//! They say nothing about real machines; `docs/policy.md` does.

use vouchsafe_attestation::Tee;

/// A policy that `vouchsafe policy init` made, with the floors of the lab.
pub fn with_floors(policy: &str, tee: Tee) -> String {
    match tee {
        Tee::SevSnp => policy.replacen("[sev-snp]\n", "[sev-snp]\nmitigations = 1\n", 1) + SNP,
        Tee::Tdx => policy.to_owned() + TDX,
    }
}

const SNP: &str = "
# The fault lab: one step below any of these must be refused.
[sev-snp.tcb.Genoa]
written = \"2026-11-21\"
source = \"the fault lab: the levels of the simulated processor\"
bootloader = 0x0a
tee = 1
snp = 0x19
microcode = [ { family = 0x19, model = 0x11, min = 0x54 } ]

[crl]
mode = \"required\"
max_age_days = 30
min_number = 1
";

const TDX: &str = "
# The fault lab: one step below any of these must be refused.
[tdx.collateral]
max_age_days = 20
min_root_crl_number = 1000
min_pck_crl_number = 1000
";
