//! Turns the forge of these tests into the committed cases under `tests/vectors/evidence`: one fault each, its code beside it.
//! It does not judge them: the walkers of this crate and of `vouchsafe-tests` do, from the committed bytes alone.
//!
//! `cargo xtask vectors`. The keys live as long as this process: a second run makes other bytes of the same meaning.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed step ends the run")]

mod cases;
#[path = "../common/mod.rs"]
mod common;
mod policy;
mod session;
mod snp;
mod snp_leaf;

use std::{path::Path, sync::OnceLock};

use cases::Cases;
use common::forge::sim;

fn main() {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/evidence");
    let mut cases = Cases::begin(&all, "sev-snp");
    snp::cases(&mut cases);
    cases.end();
}

/// The simulated root file of every case: signatures are random, so it is made once.
pub fn root() -> &'static [u8] {
    static ROOT: OnceLock<Vec<u8>> = OnceLock::new();
    ROOT.get_or_init(|| sim().bundle(&sim().ark_cert(), &sim().ask_cert()))
}
