//! Turns the simulated Intel of this crate into the committed TDX cases under `tests/vectors/evidence/tdx`.
//! It does not judge them: the walkers of `vouchsafe-attestation` and `vouchsafe-tests` do, from the committed bytes alone.
//!
//! `cargo xtask vectors`, after the SEV-SNP cases, whose ARK and ASK the root file shares. The keys live as long as this process.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed step ends the run")]

#[path = "../../../../attestation/tests/make_vectors/cases.rs"]
mod cases;
mod chains;
mod collateral;
mod levels;
mod machine;
mod policy;
mod quote;
#[path = "../../../../attestation/tests/make_vectors/session.rs"]
mod session;

use std::path::Path;

use cases::{Cases, Files, appraised, authentic, refused};
use machine::Machine;
use vouchsafe_attestation::{EvidenceEnvelope, Tee};

fn main() {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vectors/evidence");
    let machine = Machine::new(&all);
    let mut cases = Cases::begin(&all, "tdx");
    let mut base = machine::json(&machine.base_collateral);
    base.insert("quote.bin", machine.base_quote.clone());
    let envelope = EvidenceEnvelope::tdx(machine.base_quote.clone(), machine.base_collateral.clone());
    base.insert("envelope.json", serde_json::to_vec(&envelope).unwrap());
    base.insert("root.pem", machine.root_pem.clone());
    base.insert("policy.toml", machine.policy().into_bytes());
    cases.base(base);
    accepted(&mut cases, &machine);
    quote::cases(&mut cases, &machine);
    collateral::cases(&mut cases, &machine);
    chains::cases(&mut cases, &machine);
    levels::cases(&mut cases, &machine);
    policy::cases(&mut cases, &machine);
    session::cases(&mut cases, Tee::Tdx, &|data| machine.with_quote(|q| q.body.report_data = data));
    cases.end();
}

fn accepted(cases: &mut Cases, machine: &Machine) {
    let v5 = machine.with_quote(|q| q.set_v5());
    cases.case("accepted-version-5", "Nothing: a version 5 quote with the fields of TDX 1.5.", authentic(), v5);
    let v5 = machine.with_quote(|q| q.header.version = 5);
    cases.case("accepted-version-5-body-2", "Nothing: a version 5 quote with the fields of TDX 1.0.", authentic(), v5);
    let debug = machine.with_quote(|q| q.body.attributes |= 1);
    cases.case("accepted-debug", "Nothing for verification: the host may debug the TD.", authentic(), debug);
    let perfmon = machine.with_quote(|q| q.body.attributes |= 1 << 63);
    cases.case(
        "accepted-perfmon",
        "Nothing for verification: the TD may use performance counters.",
        authentic(),
        perfmon,
    );
    let old = machine.with_quote(|q| q.body.tee_tcb_svn[2] = 3);
    cases.case(
        "accepted-out-of-date",
        "Nothing for verification: Intel calls the platform out of date.",
        authentic(),
        old,
    );
    let last = authentic().at(machine::LAST_SECOND);
    cases.case("accepted-last-second", "Nothing: the last second of the collateral.", last, Files::new());
    let first = authentic().at(machine::FIRST_SECOND);
    cases.case("accepted-first-second", "Nothing: the first second of the collateral.", first, Files::new());
    cases.case("accepted-by-policy", "Nothing: the base under its policy.", appraised(), Files::new());
    let anchors = refused(7, "LEAF_SIMULATED").with("anchors = \"hardware\"");
    cases.case(
        "quote-under-hardware",
        "The simulated quote is offered under the hardware anchors.",
        anchors,
        Files::new(),
    );
}
