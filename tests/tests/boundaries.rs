//! Turns the rules about who may use whom, and how sources are written, into tests.
//! It does not judge whether a permitted use is right.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

#[path = "boundaries/arrows.rs"]
mod arrows;
#[path = "boundaries/binaries.rs"]
mod binaries;
#[path = "boundaries/sources.rs"]
mod sources;
#[path = "boundaries/tree.rs"]
mod tree;
