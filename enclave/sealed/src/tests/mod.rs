//! Turns packages, whole and broken, into the codes that must fire.
//! It exercises files on disk; the arithmetic of single modules is tested beside them.

mod collision;
mod corrupt;
mod interrupt;
mod mutate;
mod open;
mod parallel;
mod pipe;
mod provenance;
mod seal;
mod second;
mod shelf;
mod support;
mod unseal;
mod vectors;
mod volume;
mod volume_index;
mod volume_vectors;
mod ways;
