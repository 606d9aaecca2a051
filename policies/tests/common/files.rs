//! Policy files as `policy init` writes them.

use std::io;

use vouchsafe_attestation::{Ed25519Public, lp::sha256};
use vouchsafe_policies::{
    InitAnchors, InitModel, InitOptions, InitSnp, InitTdx, Listed, Policy, PolicyError, init_text,
};

/// Certificates of a simulated root whose private keys were destroyed.
pub const ROOT: &[u8] = include_bytes!("../fixtures/simulated-root.pem");

pub fn read(name: &str) -> io::Result<Vec<u8>> {
    if name == "root.pem" { Ok(ROOT.to_vec()) } else { Err(io::ErrorKind::NotFound.into()) }
}

pub fn options(anchors: InitAnchors) -> InitOptions {
    InitOptions {
        name: "St \"Mary's\"".to_owned(),
        anchors,
        config_digests: Listed::Only(vec![[3; 32]]),
        models: Listed::Only(vec![InitModel {
            id: "breast-cancer".to_owned(),
            vendor_keys: Listed::Only(vec![Ed25519Public([4; 32]), Ed25519Public([5; 32])]),
            min_sequence: 7,
        }]),
        snp: Some(snp()),
        tdx: None,
    }
}

pub fn snp() -> InitSnp {
    InitSnp { measurements: Listed::Only(vec![[1; 48], [2; 48]]), platforms: Listed::Any, products: Vec::new() }
}

pub fn tdx() -> InitTdx {
    InitTdx {
        mr_td: Listed::Only(vec![[1; 48]]),
        rtmr: [[10; 48], [11; 48], [12; 48], [0; 48]].map(|register| Listed::Only(vec![register])),
        platforms: Listed::Only(vec![[6; 16]]),
    }
}

pub fn simulated() -> InitAnchors {
    InitAnchors::Simulation { path: "root.pem".to_owned(), sha256: sha256(ROOT) }
}

pub fn complete() -> String {
    init_text(&options(simulated()))
}

/// A policy for TDX alone.
pub fn complete_tdx(anchors: InitAnchors) -> String {
    init_text(&InitOptions { snp: None, tdx: Some(tdx()), ..options(anchors) })
}

pub fn refused(text: &str) -> PolicyError {
    Policy::parse(text, &read).unwrap_err()
}
