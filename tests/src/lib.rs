//! Turns what several scenario tests need into one place; the tests themselves are the files under `tests/`.
//! Nothing here is part of any program.

pub mod programs;
