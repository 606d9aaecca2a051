//! Which root the evidence was verified under, and which technology it is of.
//! It does not say that the root deserves belief: the relying party chose it.

use vouchsafe_attestation::{Mode, Tee};

use crate::{
    Check, Rules,
    facts::{Facts, Root},
    table::{Prover, Table},
};

/// The policy's mode against the mode under which the evidence was verified.
pub(crate) fn root(table: &mut Table, facts: &Facts, rules: &Rules) {
    let says = |mode| match (mode, facts.tee()) {
        (Mode::Hardware, Tee::SevSnp) => "hardware: AMD's root",
        (Mode::Hardware, Tee::Tdx) => "hardware: Intel's root",
        (Mode::Simulation, _) => "SIMULATED: a root made by a tester; it proves nothing about hardware",
    };
    if facts.mode == rules.mode {
        table.accept(Check::Mode, Prover::Root, says(facts.mode));
    } else {
        table.refuse(Check::Mode, Prover::Root, says(rules.mode), says(facts.mode));
    }
    if facts.root == Root::Other {
        table.refuse(Check::Root, Prover::Verifier, "the root that this policy names", "another root");
    }
    let tee = facts.tee().as_str();
    if rules.tee.contains(&facts.tee()) {
        table.accept(Check::Tee, Prover::Processor, tee);
    } else {
        let wanted: Vec<_> = rules.tee.iter().map(|tee| tee.as_str()).collect();
        table.refuse(Check::Tee, Prover::Processor, wanted.join(" or "), tee);
    }
}
