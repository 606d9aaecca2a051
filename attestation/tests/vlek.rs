//! A loaded key (VLEK) speaks for a provider under the ASVK, never for a chip, and never in the place of a chip's key.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{
    Genuine, IN_FORCE, STALE, VLEK_IN_FORCE, at,
    forge::{AMD, Cert, Sim, anchors, ext, integer, name, other_algorithms, sim, tlv},
    genuine, hardware, snp, vectors,
};
use der::{Decode, Encode};
use vouchsafe_attestation::{
    Mode,
    anchors::SIMULATED_MARKER_OID,
    snp::{LeafKind, SigningKey},
};

const NOW: &str = "2026-06-01T00:00:00Z";

#[track_caller]
fn refused(case: &Genuine, step: u8, code: &str, exit: u8) {
    let error = case.verify(&sim().anchors(), at(NOW)).unwrap_err();
    assert_eq!((error.step(), error.code(), error.exit()), (step, code, exit));
    assert!(!error.to_string().is_empty() && !error.advice().is_empty());
    // The control: the same machine without the fault.
    assert_eq!(sim().good_vlek().code(&sim().anchors(), at(NOW)), "AUTHENTIC");
}

#[track_caller]
fn accepted(case: &Genuine) {
    assert_eq!(case.code(&sim().anchors(), at(NOW)), "AUTHENTIC");
}

#[test]
fn a_loaded_key_names_its_provider_and_no_chip() {
    let authentic = sim().good_vlek().verify(&sim().anchors(), at(NOW)).unwrap();
    let facts = snp(&authentic);
    assert_eq!((authentic.mode(), facts.leaf_kind), (Mode::Simulation, LeafKind::Vlek));
    assert_eq!(facts.csp.as_deref(), Some("cc.example.com"));
    assert_eq!(facts.report.key_info.signing_key(), SigningKey::Vlek);
    assert_eq!(authentic.platform(), facts.report.chip_id);
    let detail = |name: &str| authentic.steps().iter().find(|s| s.name == name).unwrap().detail.clone();
    assert!(detail("chain").contains("ASVK") && detail("crl").contains("ASVK not revoked"));
    assert!(detail("leaf").contains("cc.example.com") && detail("identity").contains("names no chip"));

    // The chip's key may be masked, and any chip of the provider may speak.
    let changes: [fn(&mut [u8; 1184]); 3] = [|r| r[0x48] |= 2, |r| r[0x1a0] ^= 1, |r| r[0x1a0..0x1e0].fill(0)];
    for change in changes {
        let mut report = sim().report();
        report[0x48] = 1 << 2;
        change(&mut report);
        accepted(&Genuine { report: sim().sign_report(report), ..sim().good_vlek() });
    }
}

#[test]
fn step_1_size_of_the_asvk() {
    refused(&Genuine { asvk: vec![0; 8 * 1024 + 1], ..sim().good_vlek() }, 1, "ASVK_LENGTH", 2);
    refused(&Genuine { asvk: vec![0; 8 * 1024], ..sim().good_vlek() }, 8, "ASVK_MALFORMED", 2);
}

#[test]
fn step_7_a_leaf_names_a_chip_or_a_provider() {
    let hwid = ext(&format!("{AMD}.4"), vec![0xc1; 64]);
    let csp = ext(&format!("{AMD}.5"), tlv(0x16, b"CN=cc.example.com"));
    refused(&sim().with_vlek(|l| l.extensions.push(hwid)), 7, "LEAF_EXTENSION_UNEXPECTED", 2);
    refused(&sim().with_leaf(|l| l.extensions.push(csp.clone())), 7, "LEAF_EXTENSION_UNEXPECTED", 2);
    refused(&sim().with_vlek(|l| l.drop_extension(&format!("{AMD}.5"))), 7, "LEAF_EXTENSION_MISSING", 2);
    refused(&sim().with_vlek(|l| l.extensions.push(csp)), 7, "LEAF_EXTENSION_DUPLICATE", 2);
}

#[test]
fn step_7_the_providers_name() {
    let with = |value: Vec<u8>| sim().with_vlek(|l| l.extension(&format!("{AMD}.5")).value = value);
    let text = |text: &[u8]| with(tlv(0x16, text));
    for unprintable in ["", "CN=", "CN=a b", "CN=a\n", "CN=\u{e9}", "CN=\u{202e}x", "CN=a\0"] {
        refused(&text(unprintable.as_bytes()), 7, "LEAF_CSP", 2);
    }
    refused(&text(b"CN=\xff"), 7, "LEAF_EXTENSION_VALUE", 2);
    refused(&text(&[b'a'; 128]), 7, "LEAF_EXTENSION_VALUE", 2);
    refused(&with(tlv(0x0c, b"CN=x")), 7, "LEAF_EXTENSION_VALUE", 2);
    refused(&with([tlv(0x16, b"CN=x"), vec![0]].concat()), 7, "LEAF_EXTENSION_VALUE", 2);
    refused(&with(vec![0x16, 5, b'x']), 7, "LEAF_EXTENSION_VALUE", 2);
    refused(&with(vec![]), 7, "LEAF_EXTENSION_VALUE", 2);
    for (written, name) in [(&b"CN=x"[..], "x"), (b"x", "x"), (b"CN=CN=x", "CN=x"), (&[b'a'; 127], &"a".repeat(127))] {
        let authentic = text(written).verify(&sim().anchors(), at(NOW)).unwrap();
        assert_eq!(snp(&authentic).csp.as_deref(), Some(name));
    }
}

#[test]
fn step_7_names_of_leaves() {
    for cn in ["SEV-VLEK", "ASVK-SIM", "ASK-SIM", "VLEK-SIM ", "vlek-sim"] {
        refused(&sim().with_vlek(|l| l.subject = name(cn)), 7, "LEAF_NAME", 2);
    }
    refused(&sim().with_vlek(|l| l.drop_extension(SIMULATED_MARKER_OID)), 7, "LEAF_NOT_SIMULATED", 2);
    // An authority is no leaf.
    let sim = sim();
    for authority in [sim.ask_cert(), sim.asvk_cert()] {
        refused(&Genuine { leaf: authority.sign(&sim.ark), ..sim.good_vlek() }, 7, "LEAF_NAME", 2);
    }
}

#[test]
fn step_8_a_loaded_key_and_its_authority_come_together() {
    refused(&Genuine { asvk: vec![], ..sim().good_vlek() }, 8, "ASVK_MISSING", 3);
    refused(&Genuine { asvk: sim().good_vlek().asvk, ..sim().good() }, 8, "ASVK_UNEXPECTED", 2);
    refused(&Genuine { asvk: vec![0], ..sim().good() }, 8, "ASVK_UNEXPECTED", 2);
}

#[test]
fn step_8_form_of_the_asvk() {
    let good = sim().good_vlek();
    let with = |asvk: Vec<u8>| Genuine { asvk, ..good.clone() };
    refused(&with(good.asvk[..good.asvk.len() - 1].to_vec()), 8, "ASVK_MALFORMED", 2);
    refused(&with([good.asvk.as_slice(), &[0]].concat()), 8, "ASVK_MALFORMED", 2);
    refused(&with(good.crl.clone()), 8, "ASVK_MALFORMED", 2);
    refused(&sim().with_asvk(|a| a.tail = integer(0)), 8, "ASVK_MALFORMED", 2);
    refused(&sim().with_asvk(|a| a.extensions.push(a.extensions[0].clone())), 8, "ASVK_MALFORMED", 2);
    refused(&sim().with_asvk(|a| a.spki = sim().vlek().spki), 8, "ASVK_MALFORMED", 2);
}

#[test]
fn step_8_the_asvk_is_of_this_root() {
    let no_marker = |a: &mut Cert| a.extensions = vec![ext("2.5.29.14", vec![])];
    refused(&sim().with_asvk(no_marker), 8, "ASVK_MARKER", 2);
    refused(&sim().with_asvk(|a| a.extension(SIMULATED_MARKER_OID).critical = true), 8, "ASVK_MARKER", 2);
    for cn in ["ASK-SIM", "ARK-SIM", "SEV-VLEK-Genoa", "VLEK-SIM", ""] {
        refused(&sim().with_asvk(|a| a.subject = name(cn)), 8, "ASVK_NAME", 2);
    }
    // The product's other authorities, and a leaf, are no authority of loaded keys.
    for other in [sim().ask_cert(), sim().ark_cert()] {
        refused(&Genuine { asvk: other.sign(&sim().ark), ..sim().good_vlek() }, 8, "ASVK_NAME", 2);
    }
    for algorithm in other_algorithms() {
        let other = |a: &mut Cert| {
            a.algorithm.clone_from(&algorithm);
            a.outer_algorithm.clone_from(&algorithm);
        };
        refused(&sim().with_asvk(other), 8, "ASVK_ALGORITHM", 2);
    }
    refused(&sim().with_asvk(|a| a.issuer = name("ASVK-SIM")), 8, "ASVK_ISSUER", 2);
    for key in [&sim().asvk, &sim().ask] {
        refused(&Genuine { asvk: sim().asvk_cert().sign(key), ..sim().good_vlek() }, 8, "ASVK_SIGNATURE", 2);
    }
}

#[test]
fn step_8_dates_of_the_asvk() {
    refused(&sim().with_asvk(|a| a.not_after = tlv(0x17, b"260301000000Z")), 8, "ANCHOR_EXPIRED", 3);
    refused(&sim().with_asvk(|a| a.not_before = tlv(0x17, b"260701000000Z")), 8, "ANCHOR_NOT_YET_VALID", 3);
    refused(&sim().with_vlek(|l| l.not_after = tlv(0x17, b"260301000000Z")), 8, "LEAF_EXPIRED", 3);
    // The ASK's dates are no part of this chain.
    let mut ask = sim().ask_cert();
    ask.not_after = tlv(0x17, b"260301000000Z");
    let anchors = anchors(&sim().bundle(&sim().ark_cert(), &ask)).unwrap();
    assert_eq!(sim().good_vlek().code(&anchors, at(NOW)), "AUTHENTIC");
    assert_eq!(sim().good().code(&anchors, at(NOW)), "ANCHOR_EXPIRED");
}

#[test]
fn step_8_neither_key_passes_for_the_other() {
    let sim = sim();
    let asvk = sim.good_vlek().asvk;
    // A provider's key, said to be a chip's: the ASVK's word is none about chips.
    let mut as_chip = sim.leaf();
    let under_asvk = |leaf: &Cert| Genuine { leaf: leaf.sign(&sim.asvk), ..sim.good() };
    refused(&under_asvk(&as_chip), 8, "LEAF_SIGNATURE", 2);
    as_chip.issuer = name("ASVK-SIM");
    refused(&under_asvk(&as_chip), 8, "LEAF_ISSUER", 2);
    refused(&Genuine { asvk: asvk.clone(), ..under_asvk(&as_chip) }, 8, "ASVK_UNEXPECTED", 2);
    // A chip's key, said to be a provider's.
    let mut as_loaded = sim.vlek();
    let under_ask = |leaf: &Cert| Genuine { leaf: leaf.sign(&sim.ask), ..sim.good_vlek() };
    refused(&under_ask(&as_loaded), 8, "LEAF_SIGNATURE", 2);
    as_loaded.issuer = name("ASK-SIM");
    refused(&under_ask(&as_loaded), 8, "LEAF_ISSUER", 2);
}

#[test]
fn step_9_the_asvk_is_looked_up() {
    let with = |revoked: Vec<Vec<u8>>, case: fn(&Sim) -> Genuine| Genuine {
        crl: sim().with_crl(|c| c.revoked = revoked).crl,
        ..case(sim())
    };
    refused(&with(vec![integer(9), integer(3)], Sim::good_vlek), 9, "ASVK_REVOKED", 2);
    refused(&with(vec![integer(2)], Sim::good), 9, "ASK_REVOKED", 2);
    // Only the authority that issued the leaf matters.
    accepted(&with(vec![integer(2)], Sim::good_vlek));
    accepted(&with(vec![integer(3)], Sim::good));
}

#[test]
fn step_11_the_report_says_which_key_signed() {
    let says_chip = Genuine { report: sim().good().report, ..sim().good_vlek() };
    refused(&says_chip, 11, "SIGNER_KEY", 2);
    let says_loaded = Genuine { report: sim().good_vlek().report, ..sim().good() };
    refused(&says_loaded, 11, "SIGNER_KEY", 2);
}

#[test]
fn a_simulated_loaded_key_is_no_hardware() {
    assert_eq!(sim().good_vlek().code(&hardware(), at(NOW)), "LEAF_SIMULATED");
    // Without the marker in the leaf, the pin refuses the authority.
    let unmarked = sim().with_vlek(|l| {
        l.drop_extension(SIMULATED_MARKER_OID);
        l.subject = name("SEV-VLEK");
    });
    assert_eq!(unmarked.code(&hardware(), at(NOW)), "ASVK_PIN");
}

#[test]
fn the_genuine_loaded_key_verifies_in_its_year_and_expires_after_it() {
    let Some(dir) = vectors("the_genuine_loaded_key_verifies_in_its_year_and_expires_after_it") else { return };
    let all = genuine(&dir);
    let find = |name: &str| all.iter().find(|c| c.name.starts_with(name)).unwrap().clone();
    let vlek = find("milan-v3-vlek");
    let authentic = vlek.verify(&hardware(), at(VLEK_IN_FORCE)).unwrap();
    let facts = snp(&authentic);
    assert_eq!((facts.leaf_kind, facts.csp.as_deref()), (LeafKind::Vlek, Some("cc-us-east-2.amazonaws.com")));
    assert_eq!((facts.report.vmpl, facts.crl.number), (1, 6));
    for (now, expected) in [
        ("2024-12-10T22:14:21Z", "CRL_NOT_YET_VALID"),
        ("2024-12-10T22:14:20Z", "LEAF_NOT_YET_VALID"),
        ("2025-12-10T22:14:21Z", "AUTHENTIC"),
        ("2025-12-10T22:14:22Z", "LEAF_EXPIRED"),
        (IN_FORCE, "LEAF_EXPIRED"),
        (STALE, "LEAF_EXPIRED"),
    ] {
        let code = vlek.verify(&hardware(), at(now)).map_or_else(
            |error| {
                assert_eq!(error.exit(), 3, "{now}");
                error.code()
            },
            |_| "AUTHENTIC",
        );
        assert_eq!(code, expected, "{now}");
    }
    let code = |case: Genuine| case.code(&hardware(), at(VLEK_IN_FORCE));
    assert_eq!(code(Genuine { asvk: vec![], ..vlek.clone() }), "ASVK_MISSING");
    // AMD's own signing authority of the same product, and other products' authorities of loaded keys.
    for other in ["milan_ask", "milan_ark", "genoa_asvk", "turin_asvk"] {
        let asvk = std::fs::read(dir.join(format!("amd-ca/{other}.der"))).unwrap();
        assert_eq!(code(Genuine { asvk, ..vlek.clone() }), "ASVK_PIN", "{other}");
    }
    let chip = find("milan-v3-vcek-14fd");
    assert_eq!(code(Genuine { asvk: vlek.asvk.clone(), ..chip.clone() }), "ASVK_UNEXPECTED");
    assert_eq!(code(Genuine { report: chip.report, ..vlek.clone() }), "SIGNATURE_INVALID");
}

/// The pins are AMD's: behind each genuine ASVK, and only behind it, a forged leaf is refused for its own signature.
#[test]
fn every_genuine_asvk_is_pinned() {
    let Some(dir) = vectors("every_genuine_asvk_is_pinned") else { return };
    let read = |product: &str| std::fs::read(dir.join(format!("amd-ca/{product}_asvk.der"))).unwrap();
    for (product, name_in_leaf, cpuid) in
        [("milan", "Milan", [0x19, 1]), ("genoa", "Genoa", [0x19, 0x11]), ("turin", "Turin", [0x1a, 2])]
    {
        let subject = x509_cert::Certificate::from_der(&read(product)).unwrap().tbs_certificate().subject().clone();
        let forged = sim().with_vlek(|leaf| {
            leaf.drop_extension(SIMULATED_MARKER_OID);
            leaf.subject = name("SEV-VLEK");
            leaf.issuer = subject.to_der().unwrap();
            leaf.extension(&format!("{AMD}.2")).value = tlv(0x16, name_in_leaf.as_bytes());
            leaf.extensions.push(ext(&format!("{AMD}.3.9"), integer(1)));
        });
        let report = sim().with_report(|r| r[0x188..0x18a].copy_from_slice(&cpuid)).report;
        let case = Genuine { report, asvk: read(product), ..forged };
        assert_eq!(case.code(&hardware(), at(VLEK_IN_FORCE)), "LEAF_SIGNATURE", "{product}");
        for other in ["milan", "genoa", "turin"].into_iter().filter(|other| *other != product) {
            let case = Genuine { asvk: read(other), ..case.clone() };
            assert_eq!(case.code(&hardware(), at(VLEK_IN_FORCE)), "ASVK_PIN", "{other} for {product}");
        }
    }
}
