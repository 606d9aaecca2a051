//! Tries of the simulated machine with one thing wrong, each told by the code it gets.

use serde_json::Value;

use super::{
    Case,
    forge::{Member, NOW, Parts, sim_anchors},
};
use crate::common::at;

/// Offsets in a version 4 quote.
pub const AUTH: usize = 48 + 584;
pub const OUTER: usize = AUTH + 4 + 128;
pub const QE_AUTH: usize = OUTER + 6 + 448;
pub const INNER: usize = QE_AUTH + 2 + 32;

pub fn code(case: &Case) -> &'static str {
    case.code(&sim_anchors(), at(NOW))
}

/// The step that refuses a case, and the code.
pub fn refusal(case: &Case) -> (u8, &'static str) {
    case.verify(&sim_anchors(), at(NOW)).map_or_else(|error| (error.step(), error.code()), |_| (0, "AUTHENTIC"))
}

/// The code of a case made of parts with something changed first.
pub fn parts(change: impl FnOnce(&mut Parts)) -> &'static str {
    let mut parts = Parts::v4();
    change(&mut parts);
    code(&parts.case())
}

/// The same for TDX 1.5.
pub fn parts15(change: impl FnOnce(&mut Parts)) -> &'static str {
    let mut parts = Parts::v15();
    change(&mut parts);
    code(&parts.case())
}

/// The code of a finished case with something changed afterwards.
pub fn case(change: impl FnOnce(&mut Case)) -> &'static str {
    let mut case = Parts::v4().case();
    change(&mut case);
    code(&case)
}

pub fn text(change: impl FnOnce(&mut Value, &mut Value)) -> &'static str {
    parts(|p| change(&mut p.tcb_info, &mut p.qe_identity))
}

pub fn is(expected: &str, found: &str) {
    assert_eq!(found, expected);
}

pub fn member<'a>(list: &'a mut [Member], id: &str) -> &'a mut Vec<u8> {
    &mut list.iter_mut().find(|(member, _)| member == id).unwrap().1
}
