//! Steps 1 to 7 of the TDX verifier, on bytes that nobody vouches for: each has a quote that passes it and one that it refuses, with the exact code.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
mod tdx_common;

use std::collections::BTreeSet;

use common::{
    at,
    forge::{ext, integer, seq, sim, tlv},
    hardware,
};
use tdx_common::{
    Case,
    forge::{Crl, ISSUED, NEXT, NOW, Parts, SGX, anchors_with, sim_anchors},
    sample,
    tries::{AUTH, INNER, OUTER, QE_AUTH, case, code, is, member, parts, parts15, refusal, text},
    two_hours_after,
};
use vouchsafe_attestation::{
    Anchors, TdxCollateral, UnixTime, VerifyError,
    anchors::SIMULATED_MARKER_OID,
    tdx::{PckFlag, TcbStatus},
};

fn items(collateral: &mut TdxCollateral) -> [(&'static str, Item<'_>); 9] {
    let c = collateral;
    [
        ("TCB_INFO", Item::Text(&mut c.tcb_info)),
        ("TCB_INFO_SIGNATURE", Item::Bytes(&mut c.tcb_info_signature)),
        ("TCB_SIGNER", Item::Text(&mut c.tcb_info_issuer_chain)),
        ("QE_IDENTITY", Item::Text(&mut c.qe_identity)),
        ("QE_IDENTITY_SIGNATURE", Item::Bytes(&mut c.qe_identity_signature)),
        ("QE_SIGNER", Item::Text(&mut c.qe_identity_issuer_chain)),
        ("ROOT_CRL", Item::Bytes(&mut c.root_ca_crl)),
        ("PCK_CRL", Item::Bytes(&mut c.pck_crl)),
        ("PCK_CRL_CHAIN", Item::Text(&mut c.pck_crl_issuer_chain)),
    ]
}

enum Item<'a> {
    Text(&'a mut String),
    Bytes(&'a mut Vec<u8>),
}

impl Item<'_> {
    fn set(self, byte: u8, len: usize) {
        match self {
            Self::Text(text) => *text = char::from(byte).to_string().repeat(len),
            Self::Bytes(bytes) => *bytes = vec![byte; len],
        }
    }
}

#[test]
fn three_kinds_of_quotes_are_accepted() {
    for (parts, version, v15) in [(Parts::v4(), 4, false), (Parts::v5(), 5, false), (Parts::v15(), 5, true)] {
        let authentic = parts.case().verify(&sim_anchors(), at(NOW)).unwrap();
        assert_eq!(authentic.steps().len(), 13);
        assert_eq!((authentic.steps()[0].number, authentic.steps()[12].name), (1, "attributes"));
        let facts = tdx_common::tdx(&authentic);
        assert_eq!((facts.quote_version, facts.body.v15.is_some()), (version, v15));
        assert_eq!(facts.body.mr_td, [0xa0; 48]);
        assert_eq!(facts.body.mr_config_id, [0xa1; 48]);
        assert_eq!(facts.body.mr_owner, [0xa2; 48]);
        assert_eq!(facts.body.mr_owner_config, [0xa3; 48]);
        assert_eq!(facts.body.rtmr, [[0xa4; 48], [0xa5; 48], [0xa6; 48], [0xa7; 48]]);
        assert_eq!(facts.body.report_data, [0xda; 64]);
        assert_eq!((facts.body.mr_seam, facts.body.xfam), ([0x5e; 48], 0x61ae7));
        assert!(facts.body.attributes.sept_ve_disable() && !facts.body.attributes.debug());
        assert_eq!([facts.status, facts.platform_status, facts.qe_status], [TcbStatus::UpToDate; 3]);
        assert!(facts.advisories.is_empty());
        assert_eq!(facts.evaluation_number, 19, "the lower of 20 and 19");
        assert_eq!((facts.fmspc, facts.pce_id, facts.pce_svn), ([0, 0x80, 0x6f, 5, 0, 0], [0, 0], 13));
        assert_eq!((facts.ppid, facts.platform_instance), ([0xa5; 16], Some([0xb6; 16])));
        assert_eq!(facts.cpu_svn, tdx_common::forge::CPU_SVN);
        assert_eq!((facts.dynamic_platform, facts.cached_keys, facts.smt), (PckFlag::Yes, PckFlag::No, PckFlag::Yes));
        assert_eq!((facts.root_crl_number, facts.pck_crl_number), (7, 7));
        assert_eq!(facts.oldest_issue, at(ISSUED));
        assert_eq!(facts.first_expiry, UnixTime(at(NEXT).0 - 1), "a list ends a second before its next update");
        assert_eq!(facts.tcb_date, at("2025-05-14T00:00:00Z"));
    }
}

#[test]
fn step_1_sizes() {
    is("QUOTE_LENGTH", case(|c| c.quote.clear()));
    is("QUOTE_LENGTH", case(|c| c.quote.resize(16 * 1024 + 1, 0)));
    for i in 0..9 {
        let word = items(&mut Parts::v4().collateral())[i].0;
        let set = |byte, len| case(|c| items(&mut c.collateral).into_iter().nth(i).unwrap().1.set(byte, len));
        is(&format!("{word}_MISSING"), set(b'x', 0));
        is(&format!("{word}_LENGTH"), set(b'x', 64 * 1024 + 1));
        if word.ends_with("SIGNATURE") {
            is(&format!("{word}_LENGTH"), set(b'x', 63));
            is(&format!("{word}_LENGTH"), set(b'x', 65));
        } else {
            is(&format!("{word}_MALFORMED"), set(b'x', 64 * 1024));
        }
    }
    let empty = TdxCollateral {
        pck_crl_issuer_chain: String::new(),
        root_ca_crl: vec![],
        pck_crl: vec![],
        tcb_info_issuer_chain: String::new(),
        tcb_info: String::new(),
        tcb_info_signature: vec![],
        qe_identity_issuer_chain: String::new(),
        qe_identity: String::new(),
        qe_identity_signature: vec![],
    };
    let mut none = Parts::v4().case();
    none.collateral = empty;
    let error = none.verify(&sim_anchors(), at(NOW)).unwrap_err();
    assert_eq!((error.code(), error.exit(), error.step()), ("TCB_INFO_MISSING", 3, 1));
}

#[test]
fn step_2_header() {
    is("QUOTE_TRUNCATED", case(|c| c.quote.truncate(47)));
    is("QUOTE_VERSION", parts(|p| p.header[0] = 3));
    is("QUOTE_VERSION", parts(|p| p.header[1] = 1));
    is("QUOTE_KEY_TYPE", parts(|p| p.header[2] = 3));
    is("QUOTE_TEE_TYPE", parts(|p| p.header[4] = 0));
    is("QUOTE_TEE_TYPE", parts(|p| p.header[7] = 1));
    for i in 8..12 {
        is("QUOTE_RESERVED", parts(|p| p.header[i] = 1));
    }
    is("QUOTE_VENDOR", parts(|p| p.header[12] ^= 1));
    is("AUTHENTIC", parts(|p| p.header[28..].fill(0)));
}

#[test]
fn step_3_body() {
    is("QUOTE_BODY_TYPE", parts15(|p| p.descriptor = Some((1, 384))));
    is("QUOTE_BODY_TYPE", parts15(|p| p.descriptor = Some((4, 885))));
    is("QUOTE_BODY_SIZE", parts15(|p| p.descriptor = Some((3, 584))));
    is("QUOTE_BODY_SIZE", parts15(|p| p.descriptor = Some((2, 648))));
    is("QUOTE_BODY_SIZE", parts15(|p| p.descriptor = Some((3, u32::MAX))));
    for (parts, end) in [(Parts::v4(), 48 + 584), (Parts::v5(), 54 + 584), (Parts::v15(), 54 + 648)] {
        let mut cut = parts.case();
        cut.quote.truncate(end - 1);
        assert_eq!(refusal(&cut), (3, "QUOTE_TRUNCATED"));
        // One step after the other: with its last byte the body is whole, and the frame is not.
        let mut whole = parts.case();
        whole.quote.truncate(end);
        assert_eq!(refusal(&whole), (4, "QUOTE_TRUNCATED"));
    }
    let mut cut = Parts::v5().case();
    cut.quote.truncate(53);
    assert_eq!(refusal(&cut), (3, "QUOTE_TRUNCATED"));
    cut.quote.truncate(47);
    assert_eq!(refusal(&cut), (2, "QUOTE_TRUNCATED"));
}

fn set_u32(quote: &mut [u8], offset: usize, change: impl Fn(u32) -> u32) {
    let field = &mut quote[offset..offset + 4];
    let value = change(u32::from_le_bytes((&*field).try_into().unwrap()));
    field.copy_from_slice(&value.to_le_bytes());
}

#[test]
fn step_4_frame() {
    is("QUOTE_TRAILING", case(|c| c.quote.push(0)));
    is("QUOTE_TRAILING", case(|c| c.quote.extend([7; 70])));
    is("QUOTE_TRUNCATED", case(|c| c.quote.truncate(c.quote.len() - 1)));
    is("QUOTE_TRUNCATED", case(|c| set_u32(&mut c.quote, AUTH, |_| u32::MAX)));
    is("QUOTE_TRAILING", case(|c| set_u32(&mut c.quote, AUTH, |len| len - 1)));
    is("CERT_DATA_TYPE", parts(|p| p.cert_types.0 = 5));
    is("CERT_DATA_TYPE", parts(|p| p.cert_types.1 = 3));
    is("CERT_DATA_TYPE", parts(|p| p.cert_types.1 = 6));
    for offset in [OUTER + 2, INNER + 2] {
        is("CERT_DATA_LENGTH", case(|c| set_u32(&mut c.quote, offset, |len| len + 1)));
        is("CERT_DATA_LENGTH", case(|c| set_u32(&mut c.quote, offset, |len| len - 1)));
        is("CERT_DATA_LENGTH", case(|c| set_u32(&mut c.quote, offset, |_| u32::MAX)));
        is("CERT_DATA_LENGTH", case(|c| set_u32(&mut c.quote, offset, |_| 0)));
    }
    is("QE_AUTH_DATA", parts(|p| p.auth_data.push(1)));
    is("QE_AUTH_DATA", parts(|p| p.auth_data.clear()));
    is("QE_AUTH_DATA", case(|c| c.quote[QE_AUTH..QE_AUTH + 2].fill(0xff)));
    for offset in [20, 47, 96, 127, 160, 255, 260, 319, 352, 383] {
        let mut reserved = Parts::v4();
        reserved.qe_report[offset] = 1;
        assert_eq!(refusal(&reserved.case()), (4, "QE_RESERVED"));
    }
    // Bytes behind the PCK chain, declared in every length: still not a certificate.
    is(
        "PCK_MALFORMED",
        case(|c| {
            c.quote.push(b'x');
            for offset in [AUTH, OUTER + 2, INNER + 2] {
                set_u32(&mut c.quote, offset, |len| len + 1);
            }
        }),
    );
    // Bytes behind the certification data, declared outside only.
    is(
        "CERT_DATA_LENGTH",
        case(|c| {
            c.quote.push(b'x');
            set_u32(&mut c.quote, AUTH, |len| len + 1);
            set_u32(&mut c.quote, OUTER + 2, |len| len + 1);
        }),
    );
}

#[test]
fn every_prefix_of_a_quote_is_refused() {
    let good = Parts::v4().case();
    for n in 0..good.quote.len() {
        let mut cut = good.clone();
        cut.quote.truncate(n);
        let step = match n {
            0 => 1,
            1..48 => 2,
            48..AUTH => 3,
            _ => 4,
        };
        let code = if n == 0 { "QUOTE_LENGTH" } else { "QUOTE_TRUNCATED" };
        assert_eq!(refusal(&cut), (step, code), "{n}");
    }
}

#[test]
fn step_5_collateral() {
    let replace = |from: &str, to: &str| {
        let tcb = case(|c| c.collateral.tcb_info = c.collateral.tcb_info.replacen(from, to, 1));
        let qe = case(|c| c.collateral.qe_identity = c.collateral.qe_identity.replacen(from, to, 1));
        (tcb, qe)
    };
    let both = ("TCB_INFO_MALFORMED", "QE_IDENTITY_MALFORMED");
    assert_eq!(replace("\"version\":", "\"version\":3,\"version\":"), both, "a key twice");
    assert_eq!(replace("\"issueDate\":\"2026-05-20T00:00:00Z\",", ""), both, "a key missing");
    assert_eq!(replace("\"version\":", "\"version\":-"), both);
    assert_eq!(replace("2026-05-20T00:00:00Z", "2026-05-20 00:00:00Z"), both);
    assert_eq!(replace("2026-06-20T00:00:00Z", "2026-06-20T00:00:00+00:00"), both);
    assert_eq!(replace("{", "[{"), both);
    assert_eq!(replace("\"tcbEvaluationDataNumber\"", "\"tcbEvaluationDataNumber2\""), both, "read by dcap-qvl");
    let deep = format!("{{\"x\":{}", "[".repeat(50_000));
    assert_eq!(replace("{", &deep), both, "depth");
    is("TCB_INFO_MALFORMED", case(|c| c.collateral.tcb_info.push('x')));

    is("TCB_INFO_KIND", text(|tcb, _| tcb["id"] = "SGX".into()));
    is("TCB_INFO_KIND", text(|tcb, _| tcb["version"] = 2.into()));
    is("TCB_INFO_KIND", text(|tcb, _| tcb["tcbType"] = 1.into()));
    is("QE_IDENTITY_KIND", text(|_, qe| qe["id"] = "QE".into()));
    is("QE_IDENTITY_KIND", text(|_, qe| qe["version"] = 1.into()));
    is("AUTHENTIC", text(|_, qe| qe["version"] = 3.into()));

    // Lists: no number, two numbers, a number of five bytes.
    let number = |change: &dyn Fn(&mut Crl)| (parts(|p| change(&mut p.root_crl)), parts(|p| change(&mut p.pck_crl)));
    let both = ("ROOT_CRL_MALFORMED", "PCK_CRL_MALFORMED");
    assert_eq!(number(&|crl| crl.extensions[0].oid = "2.5.29.21".into()), both);
    assert_eq!(number(&|crl| crl.extensions.push(ext("2.5.29.20", integer(8)))), both);
    assert_eq!(number(&|crl| crl.extensions[0].value = tlv(2, &[1, 0, 0, 0, 0])), both);
    assert_eq!(number(&|crl| crl.extensions[0].value = tlv(2, &[0x7f, 0, 0, 0])), ("AUTHENTIC", "AUTHENTIC"));
    assert_eq!(number(&|crl| crl.version = integer(0)), both, "a list of version 1");
    assert_eq!(number(&|crl| crl.tail = tlv(5, &[])), both, "a field too many");
    is("ROOT_CRL_MALFORMED", case(|c| c.collateral.root_ca_crl.push(0)));
    is("PCK_CRL_MALFORMED", case(|c| c.collateral.pck_crl.truncate(90)));

    // Chains: something before, between, behind; too many; none; not a certificate inside.
    let chains = |change: &dyn Fn(&mut String)| {
        let c = |f: &dyn Fn(&mut TdxCollateral) -> &mut String| case(|case| change(f(&mut case.collateral)));
        [
            c(&|c| &mut c.tcb_info_issuer_chain),
            c(&|c| &mut c.qe_identity_issuer_chain),
            c(&|c| &mut c.pck_crl_issuer_chain),
        ]
    };
    let all = ["TCB_SIGNER_MALFORMED", "QE_SIGNER_MALFORMED", "PCK_CRL_CHAIN_MALFORMED"];
    assert_eq!(chains(&|chain| chain.insert(0, 'x')), all);
    assert_eq!(chains(&|chain| chain.push('x')), all);
    assert_eq!(chains(&|chain| *chain = chain.repeat(2)), all);
    assert_eq!(chains(&|chain| *chain = "\n".into()), all);
    assert_eq!(chains(&|chain| *chain = chain.replacen("MII", "MIJ", 1)), all);
    assert_eq!(chains(&|chain| *chain = chain.replace("CERTIFICATE", "PUBLIC KEY")), all);
    // What other readers of PEM may take for headers, or skip.
    assert_eq!(chains(&|chain| *chain = chain.replacen("CERTIFICATE-----\n", "CERTIFICATE-----\n\n", 1)), all);
    assert_eq!(chains(&|chain| *chain = chain.replacen("\nM", "\nA: b\n\nM", 1)), all);
    assert_eq!(chains(&|chain| *chain = chain.replacen("\n-----END", "\n\n-----END", 1)), all);
    assert_eq!(chains(&|chain| *chain = chain.replace('\n', "\r\n")), all);
    assert_eq!(chains(&|chain| *chain = chain.replacen("\nM", "\n M", 1)), all);
    assert_eq!(chains(&|chain| *chain = chain.replacen("-----BEGIN", "comment\n-----BEGIN", 2)), all);
    is("PCK_MALFORMED", parts(|p| p.pck.0.version = integer(1)));
    is("PCK_MALFORMED", parts(|p| p.chain_len = 1));
    is("AUTHENTIC", parts(|p| p.chain_len = 2));
    is("PCK_CA_MALFORMED", parts(|p| p.ca.0.version = integer(1)));
}

#[test]
fn step_6_windows() {
    let expires = |code: &str, exit: u8, case: &Case, anchors: &Anchors, now: UnixTime| {
        let error = case.verify(anchors, now).unwrap_err();
        assert_eq!((error.code(), error.exit(), error.step()), (code, exit, 6));
    };
    let (now, sim) = (at(NOW), sim_anchors());
    let made = |change: &dyn Fn(&mut Parts)| {
        let mut parts = Parts::v4();
        change(&mut parts);
        parts.case()
    };
    for (word, i) in [("TCB_INFO", 0), ("QE_IDENTITY", 1)] {
        let set = |key: &str, value: &str| {
            made(&|p| [&mut p.tcb_info, &mut p.qe_identity].into_iter().nth(i).unwrap()[key] = value.into())
        };
        expires(&format!("{word}_EXPIRED"), 3, &set("nextUpdate", "2026-05-31T23:59:59Z"), &sim, now);
        expires(&format!("{word}_NOT_YET_VALID"), 3, &set("issueDate", "2026-06-01T00:00:01Z"), &sim, now);
        is("AUTHENTIC", code(&set("nextUpdate", NOW)));
        is("AUTHENTIC", code(&set("issueDate", NOW)));
    }
    for (word, i) in [("ROOT_CRL", 0), ("PCK_CRL", 1)] {
        let set = |from, until| {
            made(&|p| {
                let crl = [&mut p.root_crl, &mut p.pck_crl].into_iter().nth(i).unwrap();
                (crl.this_update, crl.next_update) = (from, until);
            })
        };
        expires(&format!("{word}_EXPIRED"), 3, &set("260520000000Z", "260601000000Z"), &sim, now);
        expires(&format!("{word}_NOT_YET_VALID"), 3, &set("260601000001Z", "260620000000Z"), &sim, now);
        is("AUTHENTIC", code(&set("260601000000Z", "260601000001Z")));
    }
    for (i, word) in ["TCB_SIGNER", "QE_SIGNER", "PCK_CA", "PCK"].into_iter().enumerate() {
        let set = |from: &'static str, until: &'static str| {
            made(&|p| {
                let all = [&mut p.tcb_signer, &mut p.qe_signer, &mut p.ca, &mut p.pck];
                let certificate = &mut all.into_iter().nth(i).unwrap().0;
                certificate.not_before = tlv(0x17, from.as_bytes());
                certificate.not_after = tlv(0x17, until.as_bytes());
            })
        };
        expires(&format!("{word}_EXPIRED"), 3, &set("260101000000Z", "260531235959Z"), &sim, now);
        expires(&format!("{word}_NOT_YET_VALID"), 3, &set("260601000001Z", "270101000000Z"), &sim, now);
        is("AUTHENTIC", code(&set("260601000000Z", "260601000000Z")));
    }
    for (code, from, until) in [
        ("ANCHOR_EXPIRED", "260101000000Z", "260531235959Z"),
        ("ANCHOR_NOT_YET_VALID", "260601000001Z", "270101000000Z"),
    ] {
        let mut root = sim_root();
        root.not_before = tlv(0x17, from.as_bytes());
        root.not_after = tlv(0x17, until.as_bytes());
        let der = root.sign_p256(&common::forge::sim().tdx_root);
        expires(code, 3, &made(&|p| p.root.clone_from(&der)), &anchors_with(&der), now);
    }
    for time in [0, u64::MAX] {
        assert!(Parts::v4().case().verify(&sim, UnixTime(time)).is_err());
    }
}

fn sim_root() -> common::forge::Cert {
    sim().tdx_root_cert()
}

#[test]
fn step_7_platform() {
    // The marker: on every certificate below a simulated root, on none below another.
    is("LEAF_NOT_SIMULATED", parts(|p| p.pck.0.drop_extension(SIMULATED_MARKER_OID)));
    is("LEAF_NOT_SIMULATED", parts(|p| p.ca.0.drop_extension(SIMULATED_MARKER_OID)));
    is("LEAF_NOT_SIMULATED", parts(|p| p.tcb_signer.0.drop_extension(SIMULATED_MARKER_OID)));
    is("LEAF_NOT_SIMULATED", parts(|p| p.qe_signer.0.drop_extension(SIMULATED_MARKER_OID)));
    is("LEAF_SIMULATED", Parts::v4().case().code(&hardware(), at(NOW)));
    let genuine = sample("tdx_quote");
    is("LEAF_NOT_SIMULATED", genuine.code(&anchors_with(&old_root()), two_hours_after(&genuine.collateral)));

    // Another root in a chain: a second simulated root, or a self-made one with the same names.
    let other = sim_root().sign_p256(&sim().tdx_root);
    is("CHAIN_ROOT", parts(|p| p.root.clone_from(&other)));
    let behind = |c: &mut String| {
        let end = c.find("-----END CERTIFICATE-----").unwrap() + 26;
        c.truncate(end);
        c.push_str(&common::forge::pem(&other));
    };
    is("CHAIN_ROOT", case(|c| behind(&mut c.collateral.tcb_info_issuer_chain)));
    is("CHAIN_ROOT", case(|c| behind(&mut c.collateral.qe_identity_issuer_chain)));
    is("CHAIN_ROOT", case(|c| behind(&mut c.collateral.pck_crl_issuer_chain)));

    // The SGX extension.
    is("PCK_EXTENSION_MISSING", parts(|p| (p.sgx, p.sgx_tcb, p.sgx_flags) = (vec![], vec![], vec![])));
    is("PCK_EXTENSION_MISSING", parts(|p| p.sgx_tcb.clear()));
    for id in ["1", "3", "4", "5"] {
        is("PCK_EXTENSION_MISSING", parts(|p| p.sgx.retain(|(member, _)| member != id)));
    }
    for id in ["2.1", "2.16", "2.17", "2.18"] {
        is("PCK_EXTENSION_MISSING", parts(|p| p.sgx_tcb.retain(|(member, _)| member != id)));
    }
    is("PCK_EXTENSION_DUPLICATE", parts(|p| p.sgx.push(p.sgx[0].clone())));
    is("AUTHENTIC", parts(|p| p.sgx.push(("9".into(), tlv(5, &[])))));
    is("PCK_EXTENSION_DUPLICATE", parts(|p| p.sgx_tcb.push(p.sgx_tcb[3].clone())));
    is("PCK_EXTENSION_DUPLICATE", parts(|p| p.sgx_flags.push(p.sgx_flags[0].clone())));
    is("PCK_EXTENSION_DUPLICATE", parts(|p| p.pck.0.extensions.push(ext(SGX, seq(&[])))));
    is("PCK_EXTENSION_VALUE", parts(|p| *member(&mut p.sgx, "1") = tlv(4, &[0xa5; 15])));
    is("PCK_EXTENSION_VALUE", parts(|p| *member(&mut p.sgx, "1") = tlv(3, &[0xa5; 16])));
    is("PCK_EXTENSION_VALUE", parts(|p| *member(&mut p.sgx, "5") = tlv(0x0a, &[3])));
    is("PCK_EXTENSION_VALUE", parts(|p| *member(&mut p.sgx, "6") = tlv(4, &[1])));
    is("PCK_EXTENSION_VALUE", parts(|p| *member(&mut p.sgx_tcb, "2.17") = tlv(2, &[0, 13])));
    is("PCK_EXTENSION_VALUE", parts(|p| *member(&mut p.sgx_flags, "7.3") = tlv(1, &[1])));
    is("PCK_EXTENSION_VALUE", parts(|p| p.sgx.extend((20..60).map(|n| (n.to_string(), tlv(5, &[]))))));
    is("PCK_CPU_SVN", parts(|p| *member(&mut p.sgx_tcb, "2.1") = integer(7)));
    is("PCK_CPU_SVN", parts(|p| *member(&mut p.sgx_tcb, "2.18") = tlv(4, &[6; 16])));
    let mut processor = Parts::v4();
    processor.sgx_flags.clear();
    processor.sgx.retain(|(member, _)| member != "6");
    let facts = processor.case().facts(&sim_anchors(), at(NOW));
    assert_eq!((facts.smt, facts.platform_instance), (PckFlag::Undefined, None), "a processor authority's certificate");

    // The TCB info is for another platform; in capitals it is the same.
    is("FMSPC_MISMATCH", text(|tcb, _| tcb["fmspc"] = "00906ed50000".into()));
    is("PCEID_MISMATCH", text(|tcb, _| tcb["pceId"] = "0001".into()));
    is("PCEID_MISMATCH", parts(|p| *member(&mut p.sgx, "3") = tlv(4, &[1, 0])));
    is("TCB_INFO_MALFORMED", text(|tcb, _| tcb["fmspc"] = "00806f05".into()));
    is("TCB_INFO_MALFORMED", text(|tcb, _| tcb["pceId"] = "zz00".into()));
    is("AUTHENTIC", text(|tcb, _| tcb["fmspc"] = "00806F050000".into()));
}

/// A simulated root that was in force when the crate's samples were collected.
fn old_root() -> Vec<u8> {
    let mut root = sim_root();
    root.not_before = tlv(0x17, b"200101000000Z");
    root.sign_p256(&sim().tdx_root)
}

/// Every code that the source defines stands in one of the tests above.
#[test]
fn every_code_is_tested() {
    let quoted = |source: &str| -> BTreeSet<String> {
        let word =
            |w: &&str| w.len() > 3 && w.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
        source.split('"').filter(word).map(str::to_owned).collect()
    };
    let mut tested = quoted(include_str!("tdx_steps.rs"));
    tested.extend(quoted(include_str!("tdx_trust.rs")));
    for word in ["TCB_INFO", "QE_IDENTITY", "ROOT_CRL", "PCK_CRL", "TCB_SIGNER", "QE_SIGNER", "PCK_CA", "PCK"] {
        tested.extend([format!("{word}_EXPIRED"), format!("{word}_NOT_YET_VALID")]);
    }
    // A text of dcap-qvl that is not in the table: none is known to be reachable.
    tested.insert("QUOTE_REFUSED".to_owned());
    // Two readings of the same bytes: none is known; the unit tests of `tdx/qvl.rs` make some up.
    tested.insert("QUOTE_AMBIGUOUS".to_owned());
    let defined = quoted(include_str!("../src/tdx/error.rs"));
    let missing: Vec<_> = defined.difference(&tested).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(defined.len() > 45, "{}", defined.len());
}

#[test]
fn errors_say_what_to_do() {
    let mut case = Parts::v4().case();
    case.collateral.tcb_info.clear();
    let error: VerifyError = case.verify(&sim_anchors(), at(NOW)).unwrap_err();
    assert_eq!(error.to_string(), "the TCB info is not with the evidence");
    assert!(error.advice().contains("collateral"));
}
