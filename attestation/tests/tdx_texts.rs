//! Every text of dcap-qvl that the verifier has a meaning for, brought about in the pinned version itself.
//! It does not look at texts that have none: they come to QUOTE_REFUSED.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
mod tdx_common;

use common::{
    at,
    forge::{ext, integer, name, tlv},
};
use dcap_qvl::verify::QuoteVerifier;
use serde_json::json;
use tdx_common::{
    Case,
    forge::{Key, NOW, Parts, root},
    theirs,
    tries::{OUTER, code},
};

/// The texts of the table, as the source writes them, in order.
fn table() -> Vec<&'static str> {
    let source = include_str!("../src/tdx/qvl.rs");
    let (_, rest) = source.split_once("const TABLE").unwrap();
    let (rows, _) = rest.split_once("\n];").unwrap();
    rows.split("(\"").skip(1).map(|row| row.split_once('"').unwrap().0).collect()
}

/// The row that dcap-qvl's own error comes to: the outermost cause that is in the table.
fn row(case: &Case, table: &[&'static str]) -> Option<&'static str> {
    let verifier = QuoteVerifier::new(root().to_vec()).allow_debug(true).allow_service_td(true);
    let error = verifier.verify(&case.quote, &theirs(&case.collateral), at(NOW).0).err()?;
    error.chain().map(ToString::to_string).find_map(|cause| table.iter().find(|row| cause.starts_with(**row)).copied())
}

fn parts(change: fn(&mut Parts)) -> Case {
    let mut parts = Parts::v4();
    change(&mut parts);
    parts.case()
}

fn case(change: fn(&mut Case)) -> Case {
    let mut case = Parts::v4().case();
    change(&mut case);
    case
}

fn critical() -> common::forge::Ext {
    let mut critical = ext("1.3.6.1.4.1.99999", tlv(5, &[]));
    critical.critical = true;
    critical
}

/// A signer that the PCK authority issued, which the root did not mean.
fn below_the_authority(change: fn(&mut Parts), chain: fn(&mut Case, String)) -> Case {
    let mut parts = Parts::v4();
    change(&mut parts);
    let mut case = parts.case();
    let authority = case.collateral.pck_crl_issuer_chain.clone();
    chain(&mut case, authority);
    case
}

/// Puts other certificates behind the first of a chain.
fn put_behind(chain: &mut String, tail: &str) {
    let end = chain.find("-----END CERTIFICATE-----").unwrap() + 26;
    chain.truncate(end);
    chain.push_str(tail);
}

#[test]
fn every_row_of_the_table_has_a_quote_that_comes_to_it() {
    let cases: Vec<(&str, &str, Case)> = vec![
        ("Failed to parse root CA CRL", "ROOT_CRL_SIGNATURE", parts(|p| p.root_crl.key = Key::Other)),
        ("Failed to parse PCK CRL", "CHAIN_REFUSED", parts(|p| p.pck_crl.extensions.push(critical()))),
        ("CertRevoked", "ANCHOR_REVOKED", parts(|p| p.root_crl.revoked.push(integer(4)))),
        (
            "Failed to parse TCB Info leaf certificate",
            "CHAIN_REFUSED",
            parts(|p| p.tcb_signer.0.extensions.push(critical())),
        ),
        (
            "Failed to parse QE Identity leaf certificate",
            "CHAIN_REFUSED",
            parts(|p| p.qe_signer.0.extensions.push(critical())),
        ),
        ("Failed to parse PCK certificate", "CHAIN_REFUSED", parts(|p| p.pck.0.extensions.push(critical()))),
        ("Failed to verify certificate chain", "PCK_CHAIN", parts(|p| p.pck.1 = Key::Other)),
        (
            "TCB Info signer must be issued directly by the root CA",
            "CHAIN_ROOT",
            below_the_authority(
                |p| (p.tcb_signer.0.issuer, p.tcb_signer.1) = (name("SGX-PCK-CA-SIM"), Key::Ca),
                |case, tail| put_behind(&mut case.collateral.tcb_info_issuer_chain, &tail),
            ),
        ),
        (
            "QE Identity signer must be issued directly by the root CA",
            "CHAIN_ROOT",
            below_the_authority(
                |p| (p.qe_signer.0.issuer, p.qe_signer.1) = (name("SGX-PCK-CA-SIM"), Key::Ca),
                |case, tail| put_behind(&mut case.collateral.qe_identity_issuer_chain, &tail),
            ),
        ),
        ("Signature is invalid for tcb_info", "TCB_INFO_SIGNATURE", case(|c| c.collateral.tcb_info_signature[40] ^= 1)),
        (
            "Signature is invalid for qe_identity",
            "QE_IDENTITY_SIGNATURE",
            case(|c| c.collateral.qe_identity_signature[40] ^= 1),
        ),
        ("Signature is invalid for qe_report", "QE_REPORT_SIGNATURE", case(|c| c.quote[OUTER + 6] ^= 1)),
        ("QE report hash mismatch", "QE_REPORT_DATA", parts(|p| p.bind = false)),
        ("QE MRSIGNER mismatch", "QE_IDENTITY_MISMATCH", parts(|p| p.qe_report[128] ^= 1)),
        ("QE report validation failed", "QE_IDENTITY_MISMATCH", parts(|p| p.qe_report[48] |= 2)),
        ("QE ISVPRODID mismatch", "QE_IDENTITY_MISMATCH", parts(|p| p.qe_report[256] ^= 1)),
        ("QE MISCSELECT mismatch", "QE_IDENTITY_MISMATCH", parts(|p| p.qe_report[16] ^= 1)),
        ("QE ATTRIBUTES mismatch", "QE_IDENTITY_MISMATCH", parts(|p| p.qe_report[49] ^= 1)),
        ("QE ISVSVN", "QE_LEVEL_NONE", parts(|p| p.qe_report[258] = 1)),
        ("No TCB levels found in QE Identity", "QE_LEVEL_NONE", parts(|p| p.qe_identity["tcbLevels"] = json!([]))),
        ("ISV enclave report signature is invalid", "QUOTE_SIGNATURE", case(|c| c.quote[28] ^= 1)),
        ("No matching TCB level found", "TCB_LEVEL_NONE", parts(|p| p.tcb_info["tcbLevels"] = json!([]))),
        ("No TDX module identity with id", "TDX_MODULE_UNKNOWN", parts(|p| p.body[1] = 2)),
        ("TDX module ISVSVN", "TDX_MODULE_LEVEL_NONE", parts(|p| p.body[0] = 1)),
        ("TDX module MRSIGNER mismatch", "TDX_MODULE_SIGNER", parts(|p| p.body[64] = 1)),
        ("TDX module SEAMATTRIBUTES", "TDX_MODULE_ATTRIBUTES", parts(|p| p.body[112] = 1)),
        ("TCB status is invalid: Revoked", "TCB_REVOKED", parts(|p| p.body[0] = 2)),
        ("Reserved bits in TD attributes are set", "TD_ATTRIBUTES_RESERVED", parts(|p| p.body[121] = 1)),
        ("TD migration is enabled", "QUOTE_MIGRATABLE", parts(|p| p.body[123] |= 0x20)),
        ("SERVTD_EXT is enabled", "TD_SERVTD_EXT", parts(|p| p.body[122] |= 2)),
        ("SEPT_VE_DISABLE is not enabled", "SEPT_VE_DISABLE", parts(|p| p.body[123] = 0)),
    ];
    let table = table();
    assert_eq!(cases.iter().map(|(text, ..)| *text).collect::<Vec<_>>(), table, "one quote for each row, in order");
    for (text, expected, case) in &cases {
        assert_eq!(row(case, &table), Some(*text), "dcap-qvl says something else of its own");
        assert_eq!(code(case), *expected, "{text}");
    }
    println!("{} texts, each with a quote", cases.len());
}
