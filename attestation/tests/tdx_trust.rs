//! Steps 8 to 13 of the TDX verifier, from the chains to the attributes: each has a quote that passes it and one that it
//! refuses, with the exact code.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
mod tdx_common;

use common::{
    at,
    forge::{ext, integer, name, seq, tlv},
};
use serde_json::{Value, json};
use tdx_common::{
    Case,
    forge::{Key, NOW, Parts, level, sim_anchors},
    tries::{AUTH, OUTER, QE_AUTH, case, code, is, member, parts, parts15, refusal, text},
};
use vouchsafe_attestation::{EvidenceEnvelope, anchors::SIMULATED_MARKER_OID, tdx::TcbStatus};

const UP: TcbStatus = TcbStatus::UpToDate;

#[test]
fn step_8_chains() {
    // Names.
    is("ROOT_CRL_SIGNATURE", parts(|p| p.root_crl.issuer = name("SGX-PCK-CA-SIM")));
    is("TCB_SIGNER_CHAIN", parts(|p| p.tcb_signer.0.issuer = name("SGX-PCK-CA-SIM")));
    is("QE_SIGNER_CHAIN", parts(|p| p.qe_signer.0.issuer = name("SGX-PCK-CA-SIM")));
    is("PCK_CHAIN", parts(|p| p.ca.0.issuer = name("SGX-PCK-CA-SIM")));
    is("PCK_CHAIN", parts(|p| p.pck.0.issuer = name("SGX-ROOT-SIM")));
    is("PCK_CRL_ISSUER", parts(|p| p.pck_crl.issuer = name("SGX-PCK-PROCESSOR-CA-SIM")));
    let swapped = |c: &mut Case| c.collateral.pck_crl_issuer_chain.clone_from(&c.collateral.tcb_info_issuer_chain);
    is("PCK_CRL_ISSUER", case(swapped));
    // The same authority in another certificate: signed by the root, and by nobody.
    let ca = |key: Key| {
        let mut other = Parts::v4();
        other.ca.1 = key;
        other.collateral().pck_crl_issuer_chain
    };
    is("AUTHENTIC", case(|c| c.collateral.pck_crl_issuer_chain = ca(Key::Root)));
    is("PCK_CRL_ISSUER", case(|c| c.collateral.pck_crl_issuer_chain = ca(Key::Other)));

    // Signatures.
    is("ROOT_CRL_SIGNATURE", parts(|p| p.root_crl.key = Key::Other));
    is("TCB_SIGNER_CHAIN", parts(|p| p.tcb_signer.1 = Key::Other));
    is("QE_SIGNER_CHAIN", parts(|p| p.qe_signer.1 = Key::Other));
    is("PCK_CHAIN", parts(|p| p.ca.1 = Key::Other));
    is("PCK_CHAIN", parts(|p| p.pck.1 = Key::Other));
    is("PCK_CRL_SIGNATURE", parts(|p| p.pck_crl.key = Key::Other));
    is("PCK_CRL_SIGNATURE", parts(|p| p.pck_crl.key = Key::Root));

    // Revocations, each by the list of its issuer; a list of many.
    is("ANCHOR_REVOKED", parts(|p| p.root_crl.revoked.push(integer(4))));
    is("TCB_SIGNER_REVOKED", parts(|p| p.root_crl.revoked.push(integer(11))));
    is("QE_SIGNER_REVOKED", parts(|p| p.root_crl.revoked.push(integer(12))));
    is("PCK_CA_REVOKED", parts(|p| p.root_crl.revoked.push(integer(13))));
    is("PCK_REVOKED", parts(|p| p.pck_crl.revoked.push(integer(14))));
    is("AUTHENTIC", parts(|p| p.root_crl.revoked.push(integer(14))));
    let many = |n: u16| tlv(2, &[1, (n >> 8) as u8, n as u8]);
    is("AUTHENTIC", parts(|p| p.pck_crl.revoked.extend((0..2500).map(many))));
    is(
        "PCK_REVOKED",
        parts(|p| {
            p.pck_crl.revoked.extend((0..2500).map(many));
            p.pck_crl.revoked.push(integer(14));
        }),
    );

    // Other rules of RFC 5280.
    let mut critical = ext("1.3.6.1.4.1.99999", tlv(5, &[]));
    critical.critical = true;
    is("CHAIN_REFUSED", parts(|p| p.pck.0.extensions.push(critical.clone())));
    is("CHAIN_REFUSED", parts(|p| p.tcb_signer.0.extensions.push(critical.clone())));
    is("CHAIN_REFUSED", parts(|p| p.pck_crl.extensions.push(critical.clone())));
    is("CHAIN_REFUSED", parts(|p| p.root_crl.extensions.push(critical.clone())));
    is("CHAIN_REFUSED", parts(|p| p.ca.0.extension("2.5.29.19").value = seq(&[])));
    is("CHAIN_REFUSED", parts(|p| p.pck.0.extension("2.5.29.19").value = seq(&[tlv(1, &[0xff])])));
    is("CHAIN_REFUSED", parts(|p| p.ca.0.extension("2.5.29.15").value = tlv(3, &[6, 0xc0])));
    is("CHAIN_REFUSED", parts(|p| p.pck.0.extension(SIMULATED_MARKER_OID).critical = true));
    is("PCK_EXTENSION_MISSING", {
        // The signer's certificate in the place of the platform's.
        let mut p = Parts::v4();
        (p.sgx, p.sgx_tcb, p.sgx_flags) = (vec![], vec![], vec![]);
        p.pck = p.tcb_signer.clone();
        code(&p.case())
    });
}

#[test]
fn step_9_statements() {
    is("TCB_INFO_SIGNATURE", case(|c| c.collateral.tcb_info_signature[40] ^= 1));
    is("TCB_INFO_SIGNATURE", case(|c| c.collateral.tcb_info_signature.fill(0)));
    is("TCB_INFO_SIGNATURE", case(|c| c.collateral.tcb_info.push(' ')));
    is("QE_IDENTITY_SIGNATURE", case(|c| c.collateral.qe_identity_signature[40] ^= 1));
    is("QE_IDENTITY_SIGNATURE", case(|c| c.collateral.qe_identity_signature.fill(0xff)));
    is("QE_IDENTITY_SIGNATURE", case(|c| c.collateral.qe_identity.insert(0, ' ')));
    let swapped =
        |c: &mut Case| std::mem::swap(&mut c.collateral.tcb_info_signature, &mut c.collateral.qe_identity_signature);
    is("TCB_INFO_SIGNATURE", case(swapped));
}

#[test]
fn step_10_quoting_enclave() {
    is("QE_REPORT_SIGNATURE", case(|c| c.quote[OUTER + 6] ^= 1));
    is("QE_REPORT_SIGNATURE", case(|c| c.quote[OUTER + 6 + 384] ^= 1));
    is("QE_REPORT_DATA", parts(|p| p.bind = false));
    is("QE_REPORT_DATA", case(|c| c.quote[QE_AUTH + 2] ^= 1));
    for offset in [16, 48, 49, 128, 256] {
        is("QE_IDENTITY_MISMATCH", parts(|p| p.qe_report[offset] ^= 1));
    }
    is("QE_IDENTITY_MISMATCH", parts(|p| p.qe_report[48] |= 2));
    is("QE_LEVEL_NONE", parts(|p| p.qe_report[258] = 1));
    is("QE_LEVEL_NONE", text(|_, qe| qe["tcbLevels"] = json!([])));
    is("QE_IDENTITY_MALFORMED", text(|_, qe| qe["tcbLevels"][0]["tcbStatus"] = "SWHardeningNeeded".into()));
    is("QE_IDENTITY_MALFORMED", text(|_, qe| qe["tcbLevels"][0]["tcbStatus"] = "Whatever".into()));
    is("QE_IDENTITY_MALFORMED", text(|_, qe| qe["mrsigner"] = "dc".into()));
    is("QE_IDENTITY_MALFORMED", text(|_, qe| qe["tcbLevels"][2]["tcbStatus"] = "TDRelaunchAdvised".into()));
    is("QE_IDENTITY_MALFORMED", text(|_, qe| qe["tcbLevels"][2]["tcbDate"] = "2023".into()));
}

#[test]
fn step_11_signature() {
    is("QUOTE_SIGNATURE", case(|c| c.quote[28] ^= 1));
    is("QUOTE_SIGNATURE", case(|c| c.quote[AUTH - 1] ^= 1));
    is("QUOTE_SIGNATURE", case(|c| c.quote[AUTH + 4] ^= 1));
    is("QUOTE_SIGNATURE", case(|c| c.quote[AUTH + 4..AUTH + 68].fill(0)));
    // A quote's head on another quote's signature data.
    let other = Parts { body: vec![1; 584], ..Parts::v4() }.case();
    is("QUOTE_SIGNATURE", case(|c| c.quote[48..AUTH].copy_from_slice(&other.quote[48..AUTH])));
}

#[test]
fn step_12_tcb() {
    let cpu = |svn: u8| {
        move |p: &mut Parts| {
            *member(&mut p.sgx_tcb, "2.1") = integer(svn);
            let mut all = tdx_common::forge::CPU_SVN;
            all[0] = svn;
            *member(&mut p.sgx_tcb, "2.18") = tlv(4, &all);
        }
    };
    is("TCB_LEVEL_NONE", parts(cpu(3)));
    is("TCB_LEVEL_NONE", parts(|p| *member(&mut p.sgx_tcb, "2.17") = integer(12)));
    is("TCB_LEVEL_NONE", text(|tcb, _| tcb["tcbLevels"] = json!([])));
    is("TCB_REVOKED", parts(cpu(4)));
    is("TCB_REVOKED", parts(|p| p.body[0] = 2));
    is("TCB_REVOKED", parts(|p| p.qe_report[258] = 2));
    is("TDX_MODULE_LEVEL_NONE", parts(|p| p.body[0] = 1));
    is("TDX_MODULE_UNKNOWN", parts(|p| p.body[1] = 2));
    is("TDX_MODULE_SIGNER", parts(|p| p.body[64] = 1));
    is("TDX_MODULE_ATTRIBUTES", parts(|p| p.body[112] = 1));
    let mask =
        |tcb: &mut Value, _: &mut Value| tcb["tdxModuleIdentities"][0]["attributesMask"] = "00FFFFFFFFFFFFFF".into();
    is(
        "TDX_MODULE_ATTRIBUTES",
        parts(|p| {
            mask(&mut p.tcb_info, &mut Value::Null);
            p.body[112] = 1;
        }),
    );
    // What runs now must be listed and not revoked either: TDX 1.5. How it counts otherwise is told further down.
    is("TDX_MODULE_LEVEL_NONE", parts15(|p| p.body[584] = 1));
    is("TDX_MODULE_UNKNOWN", parts15(|p| p.body[585] = 2));
    is("TCB_REVOKED", parts15(|p| p.body[584] = 2));

    // A level that nobody could read, met or not: the collateral's fault, told in its step.
    let malformed: [&dyn Fn(&mut Value); 13] = [
        &|tcb| tcb["tcbLevels"][2]["tcbDate"] = "yesterday".into(),
        &|tcb| tcb["tcbLevels"][2]["tcbStatus"] = "TDRelaunchAdvisedConfigurationNeeded".into(),
        &|tcb| tcb["tdxModuleIdentities"][0]["tcbLevels"][2]["tcbDate"] = "".into(),
        &|tcb| tcb["tdxModuleIdentities"][0]["tcbLevels"][2]["tcbStatus"] = "ConfigurationNeeded".into(),
        &|tcb| tcb["tdxModuleIdentities"][0]["attributesMask"] = "FFFFFFFFFFFFFF".into(),
        &|tcb| drop(tcb.as_object_mut().unwrap().remove("tdxModule")),
        &|tcb| tcb["tdxModule"]["mrsigner"] = "zz".into(),
        &|tcb| tcb["tdxModuleIdentities"][0]["mrsigner"] = "00".into(),
        &|tcb| tcb["tdxModuleIdentities"][0]["tcbLevels"][0]["tcbDate"] = "yesterday".into(),
        &|tcb| tcb["tcbLevels"][0]["tcbDate"] = "yesterday".into(),
        &|tcb| drop(tcb["tcbLevels"][0]["tcb"]["sgxtcbcomponents"].as_array_mut().unwrap().pop()),
        &|tcb| drop(tcb["tcbLevels"][0]["tcb"]["tdxtcbcomponents"].as_array_mut().unwrap().pop()),
        &|tcb| tcb["tcbLevels"][0]["tcbStatus"] = "TDRelaunchAdvised".into(),
    ];
    for (i, change) in malformed.into_iter().enumerate() {
        let mut parts = Parts::v4();
        change(&mut parts.tcb_info);
        assert_eq!(refusal(&parts.case()), (5, "TCB_INFO_MALFORMED"), "{i}");
    }
    let named = |names: Value| text(|tcb, _| tcb["tcbLevels"][0]["advisoryIDs"] = names);
    is("AUTHENTIC", named(json!(["INTEL-SA-01036"])));
    is("ADVISORIES_UNREADABLE", named(json!(["INTEL-SA-\u{1b}[2J"])));
    is("ADVISORIES_UNREADABLE", named(json!([""])));
    is("ADVISORIES_UNREADABLE", named(json!(["X".repeat(33)])));
    is("ADVISORIES_UNREADABLE", named((0..65).map(|n| format!("INTEL-SA-{n}")).collect()));
    is("AUTHENTIC", named((0..64).map(|n| format!("INTEL-SA-{n}")).collect()));
}

#[test]
fn step_12_every_status_reaches_the_facts() {
    let status = |change: &dyn Fn(&mut Parts)| {
        let mut parts = Parts::v4();
        change(&mut parts);
        let facts = parts.case().facts(&sim_anchors(), at(NOW));
        (facts.status, facts.platform_status, facts.qe_status, facts.advisories.join(" "))
    };
    use TcbStatus as S;
    let word = |word: &'static str| move |p: &mut Parts| p.tcb_info["tcbLevels"][0] = level(6, 13, 5, word, &[]);
    for s in [
        S::UpToDate,
        S::SwHardeningNeeded,
        S::ConfigurationNeeded,
        S::ConfigurationAndSwHardeningNeeded,
        S::OutOfDate,
        S::OutOfDateConfigurationNeeded,
    ] {
        assert_eq!(status(&word(s.as_str())), (s, s, UP, String::new()));
    }
    // The module is outdated while the platform is not; the quoting enclave likewise.
    assert_eq!(status(&|p| p.body[0] = 4), (S::OutOfDate, S::OutOfDate, UP, "INTEL-SA-01036".into()));
    assert_eq!(status(&|p| p.qe_report[258] = 3), (S::OutOfDate, UP, S::OutOfDate, "INTEL-SA-00615".into()));
    // Intel's convergence forgets this one; ours does not.
    let configure = |p: &mut Parts| p.qe_identity["tcbLevels"][0]["tcbStatus"] = "ConfigurationNeeded".into();
    assert_eq!(status(&configure), (S::ConfigurationNeeded, UP, S::ConfigurationNeeded, String::new()));
    // TDX 1.5: launched under an outdated module, which has been updated since.
    let mut relaunch = Parts::v15();
    relaunch.body[0] = 4;
    assert_eq!(relaunch.case().facts(&sim_anchors(), at(NOW)).status, S::TdRelaunchAdvised);
    configure(&mut relaunch);
    let facts = relaunch.case().facts(&sim_anchors(), at(NOW));
    assert_eq!(facts.status, S::TdRelaunchAdvisedConfigurationNeeded);
}

/// TDX 1.5: the module that runs now (TEE_TCB_SVN2) is older than the one that launched the TD. Intel's rule for relaunching
/// says nothing of it; the status, the advisories and the date here do.
#[test]
fn step_12_a_module_that_got_older_counts() {
    use TcbStatus as S;
    let facts = |change: &dyn Fn(&mut Parts)| {
        let mut parts = Parts::v15();
        change(&mut parts);
        parts.case().facts(&sim_anchors(), at(NOW))
    };
    let launch = facts(&|_| {});
    assert_eq!((launch.status, launch.advisories.len()), (UP, 0));
    assert_eq!(launch.tcb_date, at("2025-05-14T00:00:00Z"));

    let older = facts(&|p| p.body[584] = 4);
    assert_eq!((older.status, older.platform_status, older.qe_status), (S::OutOfDate, UP, UP));
    assert_eq!(older.advisories, ["INTEL-SA-01036"]);
    assert_eq!(older.tcb_date, at("2024-03-13T00:00:00Z"));
    // Both outdated: nothing to relaunch under, and the advisory stands there once.
    let both = facts(&|p| (p.body[0], p.body[584]) = (4, 4));
    assert_eq!((both.status, both.advisories.join(" ")), (S::OutOfDate, "INTEL-SA-01036".into()));
    // An updated one: relaunch.
    let newer = facts(&|p| p.body[0] = 4);
    assert_eq!((newer.status, newer.advisories.join(" ")), (S::TdRelaunchAdvised, "INTEL-SA-01036".into()));
    assert_eq!(newer.tcb_date, at("2024-03-13T00:00:00Z"));
    // With the platform's and the quoting enclave's own reservations.
    let platform =
        |word: &'static str| move |p: &mut Parts| p.tcb_info["tcbLevels"][0] = level(6, 13, 5, word, &["INTEL-SA-1"]);
    let mixed = facts(&|p| {
        platform("ConfigurationNeeded")(p);
        p.body[584] = 4;
    });
    assert_eq!(mixed.status, S::OutOfDateConfigurationNeeded);
    assert_eq!(mixed.advisories, ["INTEL-SA-1", "INTEL-SA-01036"]);
    let hardened = facts(&|p| {
        platform("SWHardeningNeeded")(p);
        p.body[584] = 4;
    });
    assert_eq!(hardened.status, S::OutOfDate);
    let enclave = facts(&|p| {
        p.qe_identity["tcbLevels"][0]["tcbStatus"] = "ConfigurationNeeded".into();
        p.body[584] = 4;
    });
    assert_eq!(enclave.status, S::OutOfDateConfigurationNeeded);
    // Its advisories are read like all others.
    let unreadable = |p: &mut Parts| {
        p.tcb_info["tdxModuleIdentities"][0]["tcbLevels"][1]["advisoryIDs"] = json!(["\u{202e}"]);
        p.body[584] = 4;
    };
    is("ADVISORIES_UNREADABLE", parts15(unreadable));
}

#[test]
fn step_13_attributes() {
    for bit in (1..=3).chain(7..=15).chain(23..=26).chain(32..=61) {
        let set = |p: &mut Parts| p.body[120 + bit / 8] |= 1 << (bit % 8);
        assert_eq!(parts(set), "TD_ATTRIBUTES_RESERVED", "{bit}");
    }
    is("SEPT_VE_DISABLE", parts(|p| p.body[123] = 0));
    is("QUOTE_MIGRATABLE", parts(|p| p.body[123] |= 0x20));
    is("TD_SERVTD_EXT", parts(|p| p.body[122] |= 2));
    // For the appraisal: service TDs in a body that names them, debug, profiling, counters, Key Locker.
    is("AUTHENTIC", parts15(|p| p.body[122] |= 2));
    is("AUTHENTIC", parts15(|p| p.body[600] = 1));
    for bit in [0, 4, 5, 6, 16, 27, 30, 31, 62, 63] {
        let set = |p: &mut Parts| p.body[120 + bit / 8] |= 1 << (bit % 8);
        assert_eq!(parts(set), "AUTHENTIC", "{bit}");
    }
    let mut debug = Parts::v4();
    debug.body[120] = 0x11;
    let attributes = debug.case().facts(&sim_anchors(), at(NOW)).body.attributes;
    assert!(attributes.debug() && attributes.profiling());
}

#[test]
fn the_envelope_carries_it_all() {
    let good = Parts::v15().case();
    let json = serde_json::to_string(&EvidenceEnvelope::tdx(good.quote.clone(), good.collateral.clone())).unwrap();
    let (evidence, collateral) = serde_json::from_str::<EvidenceEnvelope>(&json).unwrap().into_parts().unwrap();
    let authentic = vouchsafe_attestation::verify(&evidence, &collateral, &sim_anchors(), at(NOW)).unwrap();
    assert_eq!(authentic.platform()[..16], [0xa5; 16]);
    assert_eq!(authentic.config_digest(), [0xa1; 32]);
    assert_eq!(authentic.measurement(), &[0xa0; 48]);
    assert_eq!(authentic.registers().len(), 4);
}
