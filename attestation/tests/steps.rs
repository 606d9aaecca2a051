//! Each numbered step refuses what it is there for, with everything else as it should be, correctly signed.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{
    Genuine, at,
    forge::{AMD, anchors, ec_spki, ext, extensions, integer, name, oid, other_algorithms, pss, seq, sim, tlv},
    hardware, snp,
};
use ring::signature::KeyPair;
use vouchsafe_attestation::{
    EvidenceEnvelope, Mode, Tee,
    snp::{LeafKind, Product},
};

const NOW: &str = "2026-06-01T00:00:00Z";

#[track_caller]
fn refused(case: &Genuine, step: u8, code: &str) {
    refused_at(case, NOW, step, code);
}

#[track_caller]
fn refused_at(case: &Genuine, now: &str, step: u8, code: &str) {
    let error = case.verify(&sim().anchors(), at(now)).unwrap_err();
    assert_eq!((error.step(), error.code()), (step, code));
    assert!(!error.to_string().is_empty() && !error.advice().is_empty());
    assert!(matches!(error.exit(), 2 | 3));
    // The control: the same machine without the fault.
    assert_eq!(sim().good().code(&sim().anchors(), at(NOW)), "AUTHENTIC");
}

#[test]
fn a_simulated_machine_is_authentic_and_says_so() {
    let authentic = sim().good().verify(&sim().anchors(), at(NOW)).unwrap();
    assert_eq!((authentic.mode(), authentic.tee()), (Mode::Simulation, Tee::SevSnp));
    assert_eq!((snp(&authentic).product, snp(&authentic).leaf_kind), (Product::Genoa, LeafKind::Vcek));
    assert_eq!(snp(&authentic).crl.number, 7);
    assert!(authentic.steps().iter().any(|s| s.name == "chain" && s.detail.contains("SIMULATED")));
}

#[test]
fn the_envelope_reaches_the_verifier() {
    let Genuine { report, leaf, crl, .. } = sim().good();
    let (evidence, collateral) = EvidenceEnvelope::sev_snp(report, leaf, crl).into_parts().unwrap();
    let verdict = vouchsafe_attestation::verify(&evidence, &collateral, &sim().anchors(), at(NOW));
    assert_eq!(verdict.unwrap().report_data(), &[0xda; 64]);
}

#[test]
fn step_1_sizes() {
    let good = sim().good();
    refused(&Genuine { leaf: vec![], ..good.clone() }, 1, "LEAF_MISSING");
    refused(&Genuine { crl: vec![], ..good.clone() }, 1, "CRL_MISSING");
    refused(&Genuine { leaf: vec![0; 8 * 1024 + 1], ..good.clone() }, 1, "LEAF_LENGTH");
    refused(&Genuine { crl: vec![0; 64 * 1024 + 1], ..good }, 1, "CRL_LENGTH");
}

#[test]
fn step_2_frame() {
    let good = sim().good();
    for length in [0, 1, 1183, 1185, 4000] {
        let mut report = good.report.clone();
        report.resize(length, 0);
        refused(&Genuine { report, ..good.clone() }, 2, "REPORT_LENGTH");
    }
}

#[test]
fn step_3_version() {
    for version in [0, 1, 4, 6, 7, 0xff] {
        refused(&sim().with_report(|r| r[0] = version), 3, "REPORT_VERSION");
    }
    refused(&sim().with_report(|r| r[3] = 1), 3, "REPORT_VERSION");
}

#[test]
fn versions_2_and_3_are_read() {
    let v3 = sim().with_report(|r| r[0] = 3);
    let authentic = v3.verify(&sim().anchors(), at(NOW)).unwrap();
    assert_eq!((snp(&authentic).report.version, snp(&authentic).report.current_mit_vector), (3, None));
    let v2 = sim().with_report(|r| {
        r[0] = 2;
        r[0x188..0x18b].fill(0);
    });
    let authentic = v2.verify(&sim().anchors(), at(NOW)).unwrap();
    assert_eq!(
        (snp(&authentic).report.version, snp(&authentic).report.cpuid, snp(&authentic).product),
        (2, None, Product::Genoa)
    );
}

#[test]
fn step_4_algorithm() {
    refused(&sim().with_report(|r| r[0x34] = 0), 4, "SIGNATURE_ALGORITHM");
    refused(&sim().with_report(|r| r[0x37] = 1), 4, "SIGNATURE_ALGORITHM");
}

#[test]
fn step_5_reserved() {
    for offset in [0x04c, 0x04f, 0x18b, 0x19f, 0x1eb, 0x1ef, 0x208, 0x29f] {
        refused(&sim().with_report(|r| r[offset] = 1), 5, "REPORT_RESERVED");
    }
    refused(&sim().with_report(|r| r[0x0a] &= !2), 5, "REPORT_RESERVED"); // POLICY bit 17
    refused(&sim().with_report(|r| r[0x0b] = 4), 5, "REPORT_RESERVED"); // POLICY bit 26
    refused(&sim().with_report(|r| r[0x48] = 0x20), 5, "REPORT_RESERVED");
    // Fields that a version does not have yet are reserved in it.
    refused(&sim().with_report(|r| r[0] = 2), 5, "REPORT_RESERVED"); // CPUID
    refused(
        &sim().with_report(|r| {
            r[0] = 3;
            r[0x1f8] = 1;
        }),
        5,
        "REPORT_RESERVED",
    );
    for offset in [0x2d0, 0x2e7, 0x318, 0x32f, 0x330, 0x49f] {
        let mut case = sim().good();
        case.report[offset] = 1;
        refused(&case, 5, "SIGNATURE_PADDING");
    }
}

#[test]
fn step_6_product() {
    refused(&sim().with_report(|r| r[0x188] = 0x17), 6, "PRODUCT_UNKNOWN");
    refused(&sim().with_report(|r| r[0x189] = 0x20), 6, "PRODUCT_UNKNOWN");
}

#[test]
fn step_7_leaf_shape() {
    let good = sim().good();
    let with = |leaf: Vec<u8>| Genuine { leaf, ..good.clone() };
    refused(&with(good.leaf[..good.leaf.len() - 1].to_vec()), 7, "LEAF_MALFORMED");
    refused(&with([good.leaf.as_slice(), &[0]].concat()), 7, "LEAF_MALFORMED");
    // The outermost tag is under no signature: anything but SEQUENCE is refused all the same.
    refused(&with([&[0x31], &good.leaf[1..]].concat()), 7, "LEAF_MALFORMED");
    refused(&sim().with_leaf(|l| l.version = integer(1)), 7, "LEAF_MALFORMED");
    refused(&sim().with_leaf(|l| l.serial = tlv(2, &[0x80])), 7, "LEAF_MALFORMED");
    refused(&sim().with_leaf(|l| l.serial = tlv(2, &[0, 0])), 7, "LEAF_MALFORMED");
    refused(&sim().with_leaf(|l| l.not_after = tlv(0x17, b"2701010000Z")), 7, "LEAF_MALFORMED");
    // Nothing may stand after the last field, in the signed content or around it.
    refused(&sim().with_leaf(|l| l.tail = integer(0)), 7, "LEAF_MALFORMED");
    let around = [&good.leaf[4..], &integer(0)].concat();
    refused(&with(tlv(0x30, &around)), 7, "LEAF_MALFORMED");
    refused(&sim().with_leaf(|l| l.not_after = [l.not_after.clone(), integer(0)].concat()), 7, "LEAF_MALFORMED");
    refused(&sim().with_leaf(|l| l.extensions_tag = 0xa2), 7, "LEAF_MALFORMED");
    refused(&sim().with_leaf(|l| l.subject = tlv(0x31, &l.subject[2..])), 7, "LEAF_MALFORMED");
    // The algorithm outside the signature must be the one inside.
    refused(&sim().with_leaf(|l| l.outer_algorithm = pss(true)), 7, "LEAF_MALFORMED");
    for algorithm in other_algorithms() {
        let other = |l: &mut common::forge::Cert| {
            l.algorithm.clone_from(&algorithm);
            l.outer_algorithm.clone_from(&algorithm);
        };
        refused(&sim().with_leaf(other), 7, "LEAF_ALGORITHM");
    }
}

#[test]
fn step_7_extensions_have_one_spelling() {
    let with = |change: fn(&mut common::forge::Ext)| sim().with_leaf(|l| change(&mut l.extensions[0]));
    // DEFAULT FALSE is not written out, TRUE is 0xff, the value is an OCTET STRING, and nothing follows it.
    refused(&with(|e| e.between = tlv(1, &[0x00])), 7, "LEAF_MALFORMED");
    refused(&with(|e| e.between = tlv(1, &[0x01])), 7, "LEAF_MALFORMED");
    refused(&with(|e| e.between = tlv(1, &[])), 7, "LEAF_MALFORMED");
    refused(&with(|e| e.between = integer(0)), 7, "LEAF_MALFORMED");
    refused(&with(|e| e.tag = 0x0c), 7, "LEAF_MALFORMED");
    refused(&with(|e| e.tail = integer(0)), 7, "LEAF_MALFORMED");
    refused(&with(|e| e.between = tlv(1, &[0xff])), 7, "LEAF_EXTENSION_CRITICAL");
    // 32 are read, one more is not.
    let many = |n: usize| {
        sim().with_leaf(|l| l.extensions.extend((l.extensions.len()..n).map(|i| ext(&format!("1.2.{i}"), vec![]))))
    };
    assert_eq!(many(32).code(&sim().anchors(), at(NOW)), "AUTHENTIC");
    refused(&many(33), 7, "LEAF_MALFORMED");
}

#[test]
fn step_7_both_encodings_of_the_algorithm() {
    for trailer in [true, false] {
        let case = sim().with_leaf(|l| {
            l.algorithm = pss(trailer);
            l.outer_algorithm = pss(trailer);
        });
        assert_eq!(case.code(&sim().anchors(), at(NOW)), "AUTHENTIC");
    }
}

#[test]
fn step_7_leaf_key() {
    let p384 =
        |point: &[u8]| seq(&[seq(&[oid("1.2.840.10045.2.1"), oid("1.3.132.0.34")]), tlv(3, &[&[0], point].concat())]);
    refused(&sim().with_leaf(|l| l.spki = p384(&[4; 96])), 7, "LEAF_KEY");
    refused(&sim().with_leaf(|l| l.spki = p384(&[2; 49])), 7, "LEAF_KEY");
    let p256 =
        seq(&[seq(&[oid("1.2.840.10045.2.1"), oid("1.2.840.10045.3.1.7")]), tlv(3, &[&[0], &[4; 65][..]].concat())]);
    refused(&sim().with_leaf(|l| l.spki = p256), 7, "LEAF_KEY");
    // The right point under another curve's name is no key either.
    let renamed = |l: &mut common::forge::Cert| {
        l.spki = ec_spki("1.3.132.0.10", sim().vcek.public_key().as_ref());
    };
    refused(&sim().with_leaf(renamed), 7, "LEAF_KEY");
    let behind = |l: &mut common::forge::Cert| l.spki = tlv(0x30, &[&l.spki[2..], &integer(0)].concat());
    refused(&sim().with_leaf(behind), 7, "LEAF_KEY");
    let odd_bits = |l: &mut common::forge::Cert| {
        let unused = l.spki.len() - 98;
        l.spki[unused] = 1;
    };
    refused(&sim().with_leaf(odd_bits), 7, "LEAF_KEY");
    // A point that is not on the curve is no key either, which the signature step finds.
    refused(&sim().with_leaf(|l| l.spki = p384(&[4; 97])), 10, "SIGNATURE_INVALID");
}

#[test]
fn step_7_leaf_name_and_marker() {
    for cn in ["SEV-VCEK", "SEV-VLEK", "SEV-SIM ", "sev-sim", ""] {
        refused(&sim().with_leaf(|l| l.subject = name(cn)), 7, "LEAF_NAME");
    }
    let two_names = [name("SEV-SIM"), name("SEV-SIM")].map(|n| n[2..].to_vec()).concat();
    refused(&sim().with_leaf(|l| l.subject = tlv(0x30, &two_names)), 7, "LEAF_NAME");
    // A name part has one attribute, an attribute has a type and a text, the text is UTF-8 or printable.
    let part = |attribute: &[u8]| tlv(0x30, &tlv(0x31, attribute));
    let common_name = |text: Vec<u8>| seq(&[oid("2.5.4.3"), text]);
    let sim_name = |tag: u8| common_name(tlv(tag, b"SEV-SIM"));
    for accepted in [0x0c, 0x13] {
        let case = sim().with_leaf(|l| l.subject = part(&sim_name(accepted)));
        assert_eq!(case.code(&sim().anchors(), at(NOW)), "AUTHENTIC");
    }
    for refused_name in [
        part(&sim_name(0x16)),
        part(&[sim_name(0x0c), sim_name(0x0c)].concat()),
        part(&common_name([tlv(0x0c, b"SEV-SIM"), tlv(0x0c, b"x")].concat())),
        part(&common_name(tlv(0x0c, b"SEV-SIM\xff"))),
        part(&common_name(vec![])),
        tlv(0x30, &tlv(0x30, &sim_name(0x0c))),
        tlv(0x30, &[]),
    ] {
        refused(&sim().with_leaf(|l| l.subject = refused_name), 7, "LEAF_NAME");
    }
    let marker = vouchsafe_attestation::anchors::SIMULATED_MARKER_OID;
    refused(&sim().with_leaf(|l| l.drop_extension(marker)), 7, "LEAF_NOT_SIMULATED");
    refused(&sim().with_leaf(|l| l.extension(marker).critical = true), 7, "LEAF_EXTENSION_CRITICAL");
}

#[test]
fn step_7_leaf_extensions() {
    for n in ["1", "2", "3.1", "3.2", "3.3", "3.4", "3.5", "3.6", "3.7", "3.8", "4"] {
        let id = format!("{AMD}.{n}");
        refused(&sim().with_leaf(|l| l.drop_extension(&id)), 7, "LEAF_EXTENSION_MISSING");
        let twice = |l: &mut common::forge::Cert| {
            let again = l.extension(&id).clone();
            l.extensions.push(again);
        };
        refused(&sim().with_leaf(twice), 7, "LEAF_EXTENSION_DUPLICATE");
    }
    // INTEGERs that are not canonical, not an INTEGER, or out of range.
    for value in [tlv(2, &[0, 0x19]), tlv(2, &[0x99]), tlv(2, &[1, 0]), tlv(4, &[0x19]), vec![], vec![2, 1, 0x19, 0]] {
        let spoil = |l: &mut common::forge::Cert| l.extension(&format!("{AMD}.3.3")).value = value.clone();
        refused(&sim().with_leaf(spoil), 7, "LEAF_EXTENSION_VALUE");
    }
    let product = |value: Vec<u8>| sim().with_leaf(move |l| l.extension(&format!("{AMD}.2")).value = value);
    refused(&product(tlv(0x0c, b"Genoa")), 7, "LEAF_EXTENSION_VALUE");
    refused(&product(tlv(0x16, b"Milan")), 7, "LEAF_PRODUCT");
    refused(&product(tlv(0x16, b"Venice")), 7, "LEAF_PRODUCT");
    for length in [0, 8, 63, 65] {
        let spoil = |l: &mut common::forge::Cert| l.extension(&format!("{AMD}.4")).value = vec![0xc1; length];
        refused(&sim().with_leaf(spoil), 7, "LEAF_HWID");
    }
    let unknown = |l: &mut common::forge::Cert| {
        let mut unknown = ext("2.5.29.15", tlv(3, &[7, 0x80]));
        unknown.critical = true;
        l.extensions.push(unknown);
    };
    refused(&sim().with_leaf(unknown), 7, "LEAF_EXTENSION_CRITICAL");
}

#[test]
fn step_7_modes_do_not_mix() {
    let error = sim().good().verify(&hardware(), at(NOW)).unwrap_err();
    assert_eq!((error.step(), error.code(), error.exit()), (7, "LEAF_SIMULATED", 2));
    let Some(dir) = common::vectors("step_7_modes_do_not_mix (genuine under simulation)") else { return };
    let genuine = common::genoa(&dir);
    assert_eq!(genuine.code(&sim().anchors(), at(common::IN_FORCE)), "LEAF_NOT_SIMULATED");
}

#[test]
fn step_8_chain() {
    refused(&sim().with_leaf(|l| l.issuer = name("ARK-SIM")), 8, "LEAF_ISSUER");
    let leaf = sim().leaf().sign(&sim().ark);
    refused(&Genuine { leaf, ..sim().good() }, 8, "LEAF_SIGNATURE");
    let mut flipped = sim().good();
    *flipped.leaf.last_mut().unwrap() ^= 1;
    refused(&flipped, 8, "LEAF_SIGNATURE");
    // A simulated root speaks for Genoa only.
    let turin = sim().with_report(|r| {
        r[0x188..0x18a].copy_from_slice(&[0x1a, 0x02]);
    });
    let mut leaf = sim().leaf();
    leaf.extension(&format!("{AMD}.2")).value = tlv(0x16, b"Turin");
    leaf.extension(&format!("{AMD}.4")).value = vec![0xc1; 8];
    leaf.extensions.push(ext(&format!("{AMD}.3.9"), integer(1)));
    refused(&Genuine { leaf: leaf.sign(&sim().ask), ..turin }, 8, "ANCHOR_MISSING");
}

#[test]
fn step_8_dates() {
    let good = sim().good();
    refused_at(&good, "2027-01-01T00:00:01Z", 8, "LEAF_EXPIRED");
    assert_eq!(good.code(&sim().anchors(), at("2027-01-01T00:00:00Z")), "AUTHENTIC");
    refused_at(&good, "2025-12-31T23:59:59Z", 8, "ANCHOR_NOT_YET_VALID");
    assert_eq!(good.code(&sim().anchors(), at("2026-01-01T00:00:00Z")), "AUTHENTIC");
    refused_at(&good, "2051-01-01T00:00:01Z", 8, "ANCHOR_EXPIRED");
    let later = sim().with_leaf(|l| l.not_before = tlv(0x17, b"260701000000Z"));
    refused(&later, 8, "LEAF_NOT_YET_VALID");
}

/// One authority at a time is out of its window while everything else is in force.
#[test]
fn step_8_dates_of_each_authority() {
    let ends = |cert: &mut common::forge::Cert| cert.not_after = tlv(0x17, b"260301000000Z");
    let begins = |cert: &mut common::forge::Cert| cert.not_before = tlv(0x17, b"260701000000Z");
    let code = |ark: &common::forge::Cert, ask: &common::forge::Cert| {
        let anchors = anchors(&sim().bundle(ark, ask)).unwrap();
        let error = sim().good().verify(&anchors, at(NOW)).unwrap_err();
        assert_eq!((error.step(), error.exit()), (8, 3));
        error.code()
    };
    let (ark, ask) = (sim().ark_cert(), sim().ask_cert());
    let changed = |cert: &common::forge::Cert, change: &dyn Fn(&mut common::forge::Cert)| {
        let mut cert = cert.clone();
        change(&mut cert);
        cert
    };
    assert_eq!(code(&changed(&ark, &ends), &ask), "ANCHOR_EXPIRED");
    assert_eq!(code(&ark, &changed(&ask, &ends)), "ANCHOR_EXPIRED");
    assert_eq!(code(&changed(&ark, &begins), &ask), "ANCHOR_NOT_YET_VALID");
    assert_eq!(code(&ark, &changed(&ask, &begins)), "ANCHOR_NOT_YET_VALID");
    assert_eq!(sim().good().code(&sim().anchors(), at(NOW)), "AUTHENTIC");
}

#[test]
fn step_9_crl() {
    let good = sim().good();
    let with = |crl: Vec<u8>| Genuine { crl, ..good.clone() };
    refused(&with(good.crl[..good.crl.len() - 1].to_vec()), 9, "CRL_MALFORMED");
    refused(&with(good.leaf.clone()), 9, "CRL_MALFORMED");
    refused(&with([&[0x31], &good.crl[1..]].concat()), 9, "CRL_MALFORMED");
    refused(&sim().with_crl(|c| c.extensions.clear()), 9, "CRL_MALFORMED");
    refused(&sim().with_crl(|c| c.extensions.push(c.extensions[0].clone())), 9, "CRL_MALFORMED");
    refused(&sim().with_crl(|c| c.next_update = vec![]), 9, "CRL_MALFORMED");
    // Nothing may stand after the last field: of the list, of an entry, around both, or after everything.
    refused(&sim().with_crl(|c| c.tail = integer(0)), 9, "CRL_MALFORMED");
    let two_tails = [extensions(&[ext("2.5.29.21", tlv(10, &[1]))]), integer(0)].concat();
    refused(&sim().with_crl(|c| c.entry_tail = two_tails), 9, "CRL_MALFORMED");
    refused(&with(tlv(0x30, &[&good.crl[4..], &integer(0)].concat())), 9, "CRL_MALFORMED");
    refused(&with([good.crl.as_slice(), &[0]].concat()), 9, "CRL_MALFORMED");
    let mut reason = ext("2.5.29.21", tlv(10, &[1]));
    reason.critical = true;
    refused(&sim().with_crl(|c| c.entry_tail = extensions(&[reason])), 9, "CRL_EXTENSION_CRITICAL");
    for number in [vec![], tlv(2, &[0, 7]), tlv(2, &[0x80]), tlv(2, &[1; 9]), tlv(4, &[7])] {
        refused(&sim().with_crl(|c| c.extensions[0].value = number), 9, "CRL_MALFORMED");
    }
    for algorithm in other_algorithms() {
        let other = |c: &mut common::forge::Crl| {
            c.algorithm.clone_from(&algorithm);
            c.outer_algorithm.clone_from(&algorithm);
        };
        refused(&sim().with_crl(other), 9, "CRL_ALGORITHM");
    }
    // The algorithm inside the signature must be the one outside, and the version 2.
    refused(&sim().with_crl(|c| c.outer_algorithm = pss(false)), 9, "CRL_MALFORMED");
    refused(&sim().with_crl(|c| c.version = integer(0)), 9, "CRL_MALFORMED");
    refused(&sim().with_crl(|c| c.version = vec![]), 9, "CRL_MALFORMED");
    let delta = |c: &mut common::forge::Crl| {
        let mut delta = ext("2.5.29.27", integer(1));
        delta.critical = true;
        c.extensions.push(delta);
    };
    refused(&sim().with_crl(delta), 9, "CRL_EXTENSION_CRITICAL");
    refused(&sim().with_crl(|c| c.issuer = name("ASK-SIM")), 9, "CRL_ISSUER");
    refused(&with(sim().crl().sign(&sim().ask)), 9, "CRL_SIGNATURE");
    refused(&sim().with_crl(|c| c.this_update = tlv(0x17, b"260701000000Z")), 9, "CRL_NOT_YET_VALID");
    refused(&sim().with_crl(|c| c.next_update = tlv(0x17, b"260501000000Z")), 9, "CRL_EXPIRED");
    refused(&sim().with_crl(|c| c.revoked.push(integer(2))), 9, "ASK_REVOKED");
    let error = sim().with_crl(|c| c.next_update = tlv(0x17, b"260501000000Z"));
    assert_eq!(error.verify(&sim().anchors(), at(NOW)).unwrap_err().exit(), 3);
}

#[test]
fn step_9_window_of_the_list() {
    let case = sim().with_crl(|c| {
        c.this_update = tlv(0x17, b"260501000000Z");
        c.next_update = tlv(0x18, b"20260701000000Z");
    });
    refused_at(&case, "2026-04-30T23:59:59Z", 9, "CRL_NOT_YET_VALID");
    refused_at(&case, "2026-07-01T00:00:01Z", 9, "CRL_EXPIRED");
    for now in ["2026-05-01T00:00:00Z", "2026-07-01T00:00:00Z"] {
        let authentic = case.verify(&sim().anchors(), at(now)).unwrap();
        assert_eq!(snp(&authentic).crl.this_update, at("2026-05-01T00:00:00Z"));
        assert_eq!(snp(&authentic).crl.next_update, at("2026-07-01T00:00:00Z"));
    }
}

#[test]
fn step_9_an_empty_list_and_entries_without_the_ask_pass() {
    for revoked in [vec![], vec![integer(1), integer(3)]] {
        let case = sim().with_crl(|c| c.revoked = revoked);
        assert_eq!(case.code(&sim().anchors(), at(NOW)), "AUTHENTIC");
    }
    let reasons = extensions(&[ext("2.5.29.21", tlv(10, &[1]))]);
    assert_eq!(sim().with_crl(|c| c.entry_tail = reasons).code(&sim().anchors(), at(NOW)), "AUTHENTIC");
}

#[test]
fn step_10_signature() {
    for offset in [0x004, 0x050, 0x090, 0x0c0, 0x180, 0x1a0, 0x2a0, 0x2cf, 0x2e8, 0x317] {
        let mut case = sim().good();
        case.report[offset] ^= 1;
        refused(&case, 10, "SIGNATURE_INVALID");
    }
    let mut zero = sim().good();
    zero.report[0x2a0..].fill(0);
    refused(&zero, 10, "SIGNATURE_INVALID");
}

#[test]
fn structure_is_judged_before_the_signature_and_meaning_after_it() {
    // Unsigned and with a fault of meaning: the signature speaks first.
    for (offset, byte) in [(0x030, 0xff), (0x048, 4), (0x182, 1), (0x160, 0)] {
        let mut case = sim().good();
        case.report[offset] = byte;
        refused(&case, 10, "SIGNATURE_INVALID");
    }
    // Unsigned and with a fault of structure: the structure speaks first.
    let mut case = sim().good();
    case.report[0x29f] = 1;
    refused(&case, 5, "REPORT_RESERVED");
}

#[test]
fn step_11_signer() {
    for (kind, bits) in [(1, 1 << 2), (7, 7 << 2), (3, 3 << 2)] {
        let case = sim().with_report(|r| r[0x48] = bits);
        refused(&case, 11, "SIGNER_KEY");
        assert!(case.verify(&sim().anchors(), at(NOW)).unwrap_err().to_string().contains(&kind.to_string()));
    }
    refused(&sim().with_report(|r| r[0x48] = 2), 11, "SIGNER_MASKED");
    refused(&sim().with_report(|r| r[0x48] = 1), 11, "SIGNER_AUTHOR_KEY");
    refused(&sim().with_report(|r| r[0x110] = 1), 11, "SIGNER_AUTHOR_KEY");
    let author = sim().with_report(|r| {
        r[0x48] = 1;
        r[0x110] = 1;
    });
    assert_eq!(author.code(&sim().anchors(), at(NOW)), "AUTHENTIC");
}

#[test]
fn step_12_tcb() {
    for (byte, word) in [(0, "boot loader"), (1, "TEE"), (2, "reserved"), (6, "SNP firmware"), (7, "microcode")] {
        let case = sim().with_report(|r| r[0x180 + byte] ^= 1);
        refused(&case, 12, "TCB_MISMATCH");
        assert!(case.verify(&sim().anchors(), at(NOW)).unwrap_err().to_string().contains(word));
    }
    for field in [0x038, 0x1e0, 0x1f0] {
        refused(&sim().with_report(|r| r[field + 3] = 1), 12, "TCB_RESERVED");
    }
}

#[test]
fn step_13_identity() {
    refused(&sim().with_report(|r| r[0x1a0] ^= 1), 13, "HWID_MISMATCH");
    refused(&sim().with_report(|r| r[0x030..0x034].fill(0xff)), 13, "HOST_REQUESTED");
    refused(&sim().with_report(|r| r[0x030] = 4), 13, "VMPL_RANGE");
    refused(&sim().with_report(|r| r[0x160] = 0), 13, "REPORT_ID_MA");
    // Allowed: a migration agent where the policy allows one, a masked chip, VMPL 3, unknown platform bits.
    let allowed = sim().with_report(|r| {
        r[0x0a] |= 4;
        r[0x160] = 0;
        r[0x1a0..0x1e0].fill(0);
        r[0x030] = 3;
        r[0x040..0x048].fill(0xff);
    });
    let authentic = allowed.verify(&sim().anchors(), at(NOW)).unwrap();
    assert!(snp(&authentic).report.chip_id_masked() && snp(&authentic).report.policy.migrate_ma());
    let bare = sim().good().verify(&sim().anchors(), at(NOW)).unwrap();
    assert_ne!(snp(&bare).report.chip_id, [0; 64]);
    assert_eq!(
        (bare.platform(), authentic.platform()),
        (snp(&bare).report.chip_id, snp(&bare).report.chip_id),
        "the leaf's"
    );
}
