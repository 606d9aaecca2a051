//! A root file is believed as a whole or not at all: digest, form, names, markers and signatures of its three certificates.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{
    at,
    forge::{Cert, anchors, anchors_named, bundle, ec_spki, ecdsa, ext, name, pem, pss, sim, tlv},
    hardware,
};
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, KeyPair};
use vouchsafe_attestation::{anchors::SIMULATED_MARKER_OID, lp::sha256};

fn code(bundle: &[u8]) -> &'static str {
    anchors(bundle).map_or_else(
        |error| {
            assert_eq!((error.step(), error.exit()), (0, 2));
            error.code()
        },
        |_| "ACCEPTED",
    )
}

fn good() -> Vec<u8> {
    sim().bundle(&sim().ark_cert(), &sim().ask_cert())
}

/// ARK, ASK and root of TDX, signed as they should be.
fn ders() -> [Vec<u8>; 3] {
    let sim = sim();
    [sim.ark_cert().sign(&sim.ark), sim.ask_cert().sign(&sim.ark), sim.tdx_root_cert().sign_p256(&sim.tdx_root)]
}

/// The root file with one certificate changed before it was signed.
fn with(which: usize, change: impl FnOnce(&mut Cert)) -> Vec<u8> {
    let sim = sim();
    let mut certs = [sim.ark_cert(), sim.ask_cert(), sim.tdx_root_cert()];
    change(&mut certs[which]);
    let [ark, ask, tdx] = certs;
    bundle(&ark.sign(&sim.ark), &ask.sign(&sim.ark), &tdx.sign_p256(&sim.tdx_root))
}

#[test]
fn the_file_is_the_one_that_was_named() {
    let file = good();
    assert_eq!(code(&file), "ACCEPTED");
    assert_eq!(anchors_named(&file, &sha256(b"other")).unwrap_err().code(), "ANCHOR_DIGEST");
    assert_eq!(anchors(&file).unwrap().id(), sha256(&file));
    assert_ne!(hardware().id(), anchors(&file).unwrap().id());
    assert_eq!(hardware().id(), hardware().id());
}

#[test]
fn the_file_holds_three_certificates_and_nothing_else() {
    let [ark, ask, tdx] = ders();
    assert_eq!(code(&bundle(&ark, &ask, &tdx)), "ACCEPTED");
    // As it was before there was a root of TDX: two certificates.
    assert_eq!(code(&[pem(&ark), pem(&ask)].concat().into_bytes()), "ANCHOR_MALFORMED");
    assert_eq!(code(&[good(), pem(&tdx).into_bytes()].concat()), "ANCHOR_MALFORMED");
    assert_eq!(code(&[good(), good()].concat()), "ANCHOR_MALFORMED");
    assert_eq!(code(&[&good()[..], b"x"].concat()), "ANCHOR_MALFORMED");
    assert_eq!(code(&good()[..good().len() / 2]), "ANCHOR_MALFORMED");
    assert_eq!(code(b""), "ANCHOR_MALFORMED");
    assert_eq!(code(&[&b"\xff"[..], &good()].concat()), "ANCHOR_MALFORMED");
    assert_eq!(
        code(&good().iter().map(|b| if *b == b'C' { b'K' } else { *b }).collect::<Vec<_>>()),
        "ANCHOR_MALFORMED"
    );
}

/// White space at the end is no fault by itself; above the cap nothing is read.
#[test]
fn the_file_has_a_cap() {
    let padded = |len: usize| {
        let mut bundle = good();
        bundle.resize(len, b'\n');
        bundle
    };
    assert_eq!(code(&padded(32 * 1024)), "ACCEPTED");
    assert_eq!(code(&padded(32 * 1024 + 1)), "ANCHOR_MALFORMED");
}

#[test]
fn every_certificate_has_its_name_and_its_place() {
    let [ark, ask, tdx] = ders();
    for swapped in [bundle(&ask, &ark, &tdx), bundle(&ark, &tdx, &ask), bundle(&tdx, &ask, &ark)] {
        assert_eq!(code(&swapped), "ANCHOR_NAME");
    }
    for which in 0..3 {
        for cn in ["ARK-Genoa", "SEV-Genoa", "Intel SGX Root CA", "ARK-SIM ", ""] {
            let renamed = with(which, |cert| cert.subject = name(cn));
            assert_eq!(code(&renamed), "ANCHOR_NAME", "{which} {cn}");
        }
    }
}

#[test]
fn every_certificate_carries_the_marker_once_and_not_critical() {
    for which in 0..3 {
        let other = ext("2.5.29.14", vec![]);
        let bare = |cert: &mut Cert| cert.extensions = vec![other];
        assert_eq!(code(&with(which, bare)), "ANCHOR_MARKER", "{which}");
        let critical = |cert: &mut Cert| cert.extension(SIMULATED_MARKER_OID).critical = true;
        assert_eq!(code(&with(which, critical)), "ANCHOR_MARKER", "{which}");
    }
}

#[test]
fn no_certificate_states_an_extension_twice() {
    for which in 0..3 {
        let twice =
            |cert: &mut Cert| cert.extensions.extend([ext("2.5.29.14", tlv(4, &[1])), ext("2.5.29.14", vec![])]);
        assert_eq!(code(&with(which, twice)), "ANCHOR_MALFORMED", "{which}");
        let once = |cert: &mut Cert| cert.extensions.push(ext("2.5.29.14", tlv(4, &[1])));
        assert_eq!(code(&with(which, once)), "ACCEPTED", "{which}");
    }
}

#[test]
fn the_amd_side_is_signed_by_its_root() {
    let sim = sim();
    let [ark, ask, tdx] = ders();
    assert_eq!(code(&bundle(&ark, &sim.ask_cert().sign(&sim.ask), &tdx)), "ANCHOR_SIGNATURE");
    assert_eq!(code(&bundle(&sim.ark_cert().sign(&sim.ask), &ask, &tdx)), "ANCHOR_SIGNATURE");
    assert_eq!(code(&with(1, |ask| ask.issuer = name("ASK-SIM"))), "ANCHOR_SIGNATURE");
    let plain = |cert: &mut Cert| {
        cert.algorithm = common::forge::ecdsa_sha256();
        cert.outer_algorithm = common::forge::ecdsa_sha256();
    };
    assert_eq!(code(&with(0, plain)), "ANCHOR_SIGNATURE");
}

#[test]
fn the_root_of_tdx_is_signed_by_itself_with_p256() {
    let sim = sim();
    let [ark, ask, tdx] = ders();
    let other = ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING);
    let foreign = sim.tdx_root_cert().sign_p256(&other);
    assert_eq!(code(&bundle(&ark, &ask, &foreign)), "ANCHOR_SIGNATURE");
    let mut flipped = tdx.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    assert!(matches!(code(&bundle(&ark, &ask, &flipped)), "ANCHOR_SIGNATURE" | "ANCHOR_MALFORMED"));
    assert_eq!(code(&with(2, |root| root.issuer = name("ARK-SIM"))), "ANCHOR_SIGNATURE");
    // RSA, or a point of the wrong length, is no root of TDX.
    let rsa = sim.ark_cert();
    let spki = rsa.spki.clone();
    assert_eq!(code(&with(2, |root| root.spki = spki)), "ANCHOR_MALFORMED");
    assert_eq!(code(&with(2, |root| root.spki = ec_spki("1.2.840.10045.3.1.7", &[4; 64]))), "ANCHOR_MALFORMED");
    let p384 = ec_spki("1.3.132.0.34", other.public_key().as_ref());
    assert_eq!(code(&with(2, |root| root.spki = p384)), "ANCHOR_MALFORMED");
    let says_pss = |root: &mut Cert| {
        root.algorithm = pss(true);
        root.outer_algorithm = pss(true);
    };
    assert_eq!(code(&with(2, says_pss)), "ANCHOR_SIGNATURE");
}

#[test]
fn vendors_own_roots_are_no_simulated_root() {
    let read = |name: &str| std::fs::read(format!("{}/anchors/{name}.pem", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let vendors = [read("ark_genoa"), read("ask_genoa"), read("intel_sgx_root")].concat();
    assert_eq!(code(&vendors), "ANCHOR_NAME");
    let [ark, ask, _] = ders();
    let mixed = [pem(&ark).into_bytes(), pem(&ask).into_bytes(), read("intel_sgx_root")].concat();
    assert_eq!(code(&mixed), "ANCHOR_NAME");
}

/// The same names and the same form, but other keys: a root of somebody else.
#[test]
fn evidence_under_somebody_elses_root_is_refused() {
    let sim = sim();
    let (ark, mut ask) = (sim.ark_cert(), sim.ask_cert());
    ask.spki.clone_from(&sim.asvk_cert().spki);
    let anchors = anchors(&sim.bundle(&ark, &ask)).unwrap();
    assert_ne!(anchors.id(), sim.anchors().id());
    let now = at("2026-06-01T00:00:00Z");
    assert_eq!(sim.good().code(&anchors, now), "LEAF_SIGNATURE");
    assert_eq!(sim.good().code(&sim.anchors(), now), "AUTHENTIC");
}
