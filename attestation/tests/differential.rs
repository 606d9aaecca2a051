//! Beside `sev` 8.0.0: both accept what is canonical, and every intended difference stands here by name.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeMap;

use common::{
    Genuine, IN_FORCE, STALE, VLEK_IN_FORCE, at,
    forge::{AMD, ext, integer, name, sim, tlv},
    genuine, hardware, vectors,
};
use sev::{
    certs::snp::{Certificate, Chain, Verifiable, ca},
    firmware::guest::AttestationReport,
    parser::ByteParser,
};
use vouchsafe_attestation::{LeafCache, anchors::SIMULATED_MARKER_OID, snp::REPORT_LAYOUT, verify_cached};

const NOW: &str = "2026-06-01T00:00:00Z";

/// Whether `sev` accepts a report's own signature under a leaf.
fn sev_accepts(leaf: &Certificate, report: &[u8]) -> bool {
    let Ok(bytes) = <[u8; 1184]>::try_from(report) else { return false };
    AttestationReport::from_bytes(&bytes).is_ok_and(|report| (leaf, &report).verify().is_ok())
}

/// Whether `sev` accepts the chain and the report under it: everything that it verifies.
fn sev_accepts_all(case: &Genuine, ark: &[u8], ask: &[u8]) -> bool {
    let read = |der: &[u8]| Certificate::from_der(der);
    let (Ok(ark), Ok(ask), Ok(vek)) = (read(ark), read(ask), read(&case.leaf)) else { return false };
    let Ok(bytes) = <[u8; 1184]>::try_from(case.report.as_slice()) else { return false };
    let chain = Chain { ca: ca::Chain { ark, ask }, vek };
    AttestationReport::from_bytes(&bytes).is_ok_and(|report| (&chain, &report).verify().is_ok())
}

/// One bit of every byte of a genuine report: what `sev` still accepts, by our name of the field, and our code for it.
#[test]
fn sev_verifies_a_re_encoding_and_we_the_received_bytes() {
    let Some(dir) = vectors("sev_verifies_a_re_encoding_and_we_the_received_bytes") else { return };
    let all = genuine(&dir);
    let names =
        ["milan-v2-vcek-377e6241", "milan-v3-vcek-14fd2b6e", "genoa-v5-vcek-6d1ceffa", "turin-v5-vcek-85da705e"];
    std::thread::scope(|scope| {
        for name in names {
            let case = all.iter().find(|case| case.name == name).unwrap();
            scope.spawn(move || {
                let leaf = Certificate::from_der(&case.leaf).unwrap();
                assert!(sev_accepts(&leaf, &case.report));
                let found = accepted_by_sev(case, &leaf);
                println!("{name}: {found:?}");
                assert_eq!(found, expected(case), "{name}");
            });
        }
    });
}

fn accepted_by_sev(case: &Genuine, leaf: &Certificate) -> BTreeMap<(&'static str, &'static str), usize> {
    let (cache, anchors, (_, collateral)) = (LeafCache::new(), hardware(), case.parts());
    let mut found = BTreeMap::new();
    for offset in 0..1184 {
        let mut flipped = case.clone();
        flipped.report[offset] ^= 1 << (offset % 8);
        let ours = verify_cached(&flipped.parts().0, &collateral, &anchors, at(IN_FORCE), &cache).unwrap_err();
        if sev_accepts(leaf, &flipped.report) {
            let field = REPORT_LAYOUT.iter().find(|f| (f.offset..f.offset + f.size).contains(&offset)).unwrap();
            *found.entry((field.name, ours.code())).or_insert(0) += 1;
        }
    }
    found
}

/// Unsigned padding that it drops, and reserved bytes of TCB versions that it drops although they are signed.
fn expected(case: &Genuine) -> BTreeMap<(&'static str, &'static str), usize> {
    let reserved = if case.product() == "turin" { 3 } else { 4 };
    let mut expected = BTreeMap::from([
        (("SIGNATURE.R bytes 48 to 71", "SIGNATURE_PADDING"), 24),
        (("SIGNATURE.S bytes 48 to 71", "SIGNATURE_PADDING"), 24),
        (("SIGNATURE reserved", "SIGNATURE_PADDING"), 368),
    ]);
    for field in ["CURRENT_TCB", "REPORTED_TCB", "COMMITTED_TCB", "LAUNCH_TCB"] {
        expected.insert((field, "SIGNATURE_INVALID"), reserved);
    }
    expected
}

/// What the crate verifies of a chain has no time in it.
#[test]
fn sev_compares_no_dates() {
    let Some(dir) = vectors("sev_compares_no_dates") else { return };
    for case in genuine(&dir) {
        let product = case.product();
        let ca = |name: &str| std::fs::read(dir.join(format!("amd-ca/{product}_{name}.der"))).unwrap();
        let issuer = if case.asvk.is_empty() { ca("ask") } else { ca("asvk") };
        assert!(sev_accepts_all(&case, &ca("ark"), &issuer), "{}", case.name);
        let now = if case.asvk.is_empty() { IN_FORCE } else { VLEK_IN_FORCE };
        assert_eq!(case.code(&hardware(), at(now)), "AUTHENTIC");
        assert_eq!(case.verify(&hardware(), at(STALE)).unwrap_err().exit(), 3);
    }
}

/// Correctly signed evidence with one fault each, under a simulated root: who refuses it.
#[test]
fn every_other_difference_has_a_name() {
    let sim = sim();
    let report = |change: fn(&mut [u8; 1184])| sim.with_report(change);
    let spl = |value: Vec<u8>| sim.with_leaf(move |l| l.extension(&format!("{AMD}.3.3")).value = value);
    let twice = sim.with_leaf(|l| l.extensions.push(ext(&format!("{AMD}.3.3"), integer(0x7f))));
    let critical = sim.with_leaf(|l| {
        l.extensions.push(ext("2.5.29.30", vec![]));
        l.extensions.last_mut().unwrap().critical = true;
    });
    // (name, the evidence, our code, whether sev accepts it)
    let table = [
        ("canonical", sim.good(), "AUTHENTIC", true),
        ("report-version-4", report(|r| r[0] = 4), "REPORT_VERSION", true),
        ("signature-algorithm-2", report(|r| r[0x34] = 2), "SIGNATURE_ALGORITHM", true),
        ("policy-bit-17-zero", report(|r| r[0x0a] = 1), "REPORT_RESERVED", true),
        ("key-info-reserved", report(|r| r[0x48] = 0x20), "REPORT_RESERVED", true),
        ("reserved-not-zero", report(|r| r[0x29f] = 1), "REPORT_RESERVED", false),
        ("product-of-another-line", report(|r| r[0x188..0x18a].copy_from_slice(&[0x19, 1])), "LEAF_PRODUCT", true),
        ("signing-key-vlek", report(|r| r[0x48] = 4), "SIGNER_KEY", true),
        ("chip-key-masked", report(|r| r[0x48] = 2), "SIGNER_MASKED", true),
        ("author-key-without-digest", report(|r| r[0x48] = 1), "SIGNER_AUTHOR_KEY", true),
        ("reported-tcb-not-the-leafs", report(|r| r[0x186] = 0x1a), "TCB_MISMATCH", true),
        ("tcb-reserved", report(|r| r[0x1e3] = 1), "TCB_RESERVED", false),
        ("another-chip", report(|r| r[0x1a0] ^= 1), "HWID_MISMATCH", true),
        ("host-requested", report(|r| r[0x30..0x34].fill(0xff)), "HOST_REQUESTED", true),
        ("vmpl-4", report(|r| r[0x30] = 4), "VMPL_RANGE", true),
        ("migration-agent-forbidden", report(|r| r[0x160] = 0), "REPORT_ID_MA", true),
        ("leaf-name", sim.with_leaf(|l| l.subject = name("SEV-VCEK")), "LEAF_NAME", true),
        ("leaf-issuer", sim.with_leaf(|l| l.issuer = name("ARK-SIM")), "LEAF_ISSUER", true),
        ("leaf-without-marker", sim.with_leaf(|l| l.drop_extension(SIMULATED_MARKER_OID)), "LEAF_NOT_SIMULATED", true),
        ("leaf-expired", sim.with_leaf(|l| l.not_after = tlv(0x17, b"260301000000Z")), "LEAF_EXPIRED", true),
        (
            "leaf-spl-missing",
            sim.with_leaf(|l| l.drop_extension(&format!("{AMD}.3.8"))),
            "LEAF_EXTENSION_MISSING",
            true,
        ),
        ("leaf-spl-twice", twice, "LEAF_EXTENSION_DUPLICATE", true),
        ("leaf-spl-not-canonical", spl(tlv(2, &[0, 0x19])), "LEAF_EXTENSION_VALUE", true),
        ("leaf-critical-extension", critical, "LEAF_EXTENSION_CRITICAL", true),
        ("leaf-signed-by-the-ark", Genuine { leaf: sim.leaf().sign(&sim.ark), ..sim.good() }, "LEAF_SIGNATURE", false),
        ("list-revokes-the-ask", sim.with_crl(|c| c.revoked = vec![integer(2)]), "ASK_REVOKED", true),
        ("list-missing", Genuine { crl: vec![], ..sim.good() }, "CRL_MISSING", true),
        ("list-expired", sim.with_crl(|c| c.next_update = tlv(0x17, b"260301000000Z")), "CRL_EXPIRED", true),
        ("asvk-with-a-chips-key", Genuine { asvk: sim.good_vlek().asvk, ..sim.good() }, "ASVK_UNEXPECTED", true),
    ];
    let (ark, ask) = (sim.ark_cert().sign(&sim.ark), sim.ask_cert().sign(&sim.ark));
    let mut wrong = Vec::new();
    for (difference, case, code, theirs) in &table {
        let found = (case.code(&sim.anchors(), at(NOW)), sev_accepts_all(case, &ark, &ask));
        println!("{difference:28} ours {:24} sev {}", found.0, if found.1 { "accepts" } else { "refuses" });
        if found != (*code, *theirs) {
            wrong.push((*difference, found));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}
