//! Turns collateral into the cases of steps 1, 5, 6, 7 and 9: what is there, what it says it is, when it holds, who signed it.
//! It does not judge them.

use vouchsafe_attestation::evidence::{MAX_TDX_ITEM, TdxCollateral};
use vouchsafe_simulator::tdx::{CollateralSpec, collateral::date};

use crate::{
    cases::{Cases, Files, refused},
    machine::{DAY, Machine},
};

pub fn cases(cases: &mut Cases, machine: &Machine) {
    missing(cases, machine);
    malformed(cases, machine);
    windows(cases, machine);
    statements(cases, machine);
}

fn missing(cases: &mut Cases, machine: &Machine) {
    type Emptied = (&'static str, &'static str, &'static str, fn(&mut TdxCollateral));
    let all: [Emptied; 9] = [
        ("tcb-info", "TCB info", "TCB_INFO_MISSING", |c| c.tcb_info.clear()),
        ("tcb-info-signature", "TCB info's signature", "TCB_INFO_SIGNATURE_MISSING", |c| c.tcb_info_signature.clear()),
        ("tcb-signer", "TCB info's issuer chain", "TCB_SIGNER_MISSING", |c| c.tcb_info_issuer_chain.clear()),
        ("qe-identity", "QE identity", "QE_IDENTITY_MISSING", |c| c.qe_identity.clear()),
        ("qe-identity-signature", "QE identity's signature", "QE_IDENTITY_SIGNATURE_MISSING", |c| {
            c.qe_identity_signature.clear()
        }),
        ("qe-signer", "QE identity's issuer chain", "QE_SIGNER_MISSING", |c| c.qe_identity_issuer_chain.clear()),
        ("root-crl", "root's revocation list", "ROOT_CRL_MISSING", |c| c.root_ca_crl.clear()),
        ("pck-crl", "PCK revocation list", "PCK_CRL_MISSING", |c| c.pck_crl.clear()),
        ("pck-crl-chain", "PCK revocation list's issuer chain", "PCK_CRL_CHAIN_MISSING", |c| {
            c.pck_crl_issuer_chain.clear()
        }),
    ];
    for (name, what, code, change) in all {
        let what = format!("The {what} is missing.");
        cases.case(&format!("missing-{name}"), &what, refused(1, code).exit(3), machine.with_collateral(change));
    }
    let mut length = |name: &str, what: &str, code, change: fn(&mut TdxCollateral)| {
        cases.case(&format!("length-{name}"), what, refused(1, code), machine.with_collateral(change));
    };
    length("tcb-info", "The TCB info is above the cap.", "TCB_INFO_LENGTH", |c| {
        c.tcb_info.push_str(&" ".repeat(MAX_TDX_ITEM))
    });
    length("tcb-info-signature", "The TCB info's signature lacks a byte.", "TCB_INFO_SIGNATURE_LENGTH", |c| {
        c.tcb_info_signature.pop();
    });
    length(
        "qe-identity-signature",
        "The QE identity's signature has a byte more.",
        "QE_IDENTITY_SIGNATURE_LENGTH",
        |c| c.qe_identity_signature.push(0),
    );
}

fn malformed(cases: &mut Cases, machine: &Machine) {
    let mut one = |name: &str, what: &str, code, change: fn(&mut TdxCollateral)| {
        cases.case(&format!("malformed-{name}"), what, refused(5, code), machine.with_collateral(change));
    };
    one("tcb-info", "The TCB info is no JSON.", "TCB_INFO_MALFORMED", |c| {
        c.tcb_info.pop();
    });
    one("tcb-info-trailing", "A second object follows the TCB info.", "TCB_INFO_MALFORMED", |c| {
        c.tcb_info.push_str("{}")
    });
    one("tcb-info-twice", "The TCB info states its FMSPC twice.", "TCB_INFO_MALFORMED", |c| {
        c.tcb_info = c.tcb_info.replacen("\"fmspc\"", "\"fmspc\":\"000000000000\",\"fmspc\"", 1);
    });
    one("qe-identity", "The QE identity is an empty object.", "QE_IDENTITY_MALFORMED", |c| {
        c.qe_identity = "{}".to_owned()
    });
    one("root-crl", "The root's revocation list lacks its last byte.", "ROOT_CRL_MALFORMED", |c| {
        c.root_ca_crl.pop();
    });
    one("pck-crl", "A byte follows the PCK revocation list.", "PCK_CRL_MALFORMED", |c| c.pck_crl.push(0));
    one("pck-crl-is-pem", "The PCK revocation list is a chain in PEM.", "PCK_CRL_MALFORMED", |c| {
        c.pck_crl = c.pck_crl_issuer_chain.clone().into_bytes()
    });
    one("tcb-signer", "The TCB info's issuer chain lacks its last line.", "TCB_SIGNER_MALFORMED", |c| {
        let end = c.tcb_info_issuer_chain.trim_end().rfind('\n').unwrap();
        c.tcb_info_issuer_chain.truncate(end);
    });
    one(
        "qe-signer",
        "Words stand between the certificates of the QE identity's issuer chain.",
        "QE_SIGNER_MALFORMED",
        |c| {
            c.qe_identity_issuer_chain = c.qe_identity_issuer_chain.replacen("-----BEGIN", "issuer\n-----BEGIN", 1);
        },
    );
    one(
        "pck-crl-chain",
        "The PCK revocation list's issuer chain has four certificates.",
        "PCK_CRL_CHAIN_MALFORMED",
        |c| {
            c.pck_crl_issuer_chain = c.pck_crl_issuer_chain.repeat(2);
        },
    );
    let lone = machine.with_quote(|q| {
        let end = q.cert_data.windows(10).skip(1).position(|w| w == b"-----BEGIN").unwrap() + 1;
        q.cert_data.truncate(end);
    });
    cases.case(
        "malformed-pck-chain",
        "The quote carries the PCK certificate without its authority.",
        refused(5, "PCK_MALFORMED"),
        lone,
    );

    let mut kind = |name: &str, what: &str, code, change: fn(&mut CollateralSpec)| {
        cases.case(&format!("kind-{name}"), what, refused(5, code), machine.with_spec(change));
    };
    kind("tcb-info-of-sgx", "The TCB info is SGX's, well signed.", "TCB_INFO_KIND", |s| {
        s.tcb_info.id = "SGX".to_owned()
    });
    kind("tcb-info-version", "The TCB info has version 2.", "TCB_INFO_KIND", |s| s.tcb_info.version = 2);
    kind("tcb-info-type", "The TCB info has another kind of comparison.", "TCB_INFO_KIND", |s| s.tcb_info.tcb_type = 1);
    kind("qe-identity-of-sgx", "The QE identity is of SGX's quoting enclave, well signed.", "QE_IDENTITY_KIND", |s| {
        s.qe_identity.id = "QE".to_owned()
    });
    kind("qe-identity-version", "The QE identity has version 1.", "QE_IDENTITY_KIND", |s| s.qe_identity.version = 1);
}

fn windows(cases: &mut Cases, machine: &Machine) {
    let (past, future) = (machine.now - DAY, machine.now + DAY);
    let mut one = |name: &str, what: &str, code, files: Files| {
        cases.case(&format!("window-{name}"), what, refused(6, code).exit(3), files);
    };
    let spec = |change: &dyn Fn(&mut CollateralSpec)| machine.with_spec(|s| change(s));
    one(
        "tcb-info-expired",
        "The TCB info should have been replaced yesterday.",
        "TCB_INFO_EXPIRED",
        spec(&|s| s.tcb_info.next_update = date(past)),
    );
    one(
        "qe-identity-expired",
        "The QE identity should have been replaced yesterday.",
        "QE_IDENTITY_EXPIRED",
        spec(&|s| s.qe_identity.next_update = date(past)),
    );
    one(
        "root-crl-expired",
        "The root's revocation list should have been replaced yesterday.",
        "ROOT_CRL_EXPIRED",
        spec(&|s| s.root_crl.next_update = Some(past)),
    );
    one(
        "pck-crl-expired",
        "The PCK revocation list should have been replaced yesterday.",
        "PCK_CRL_EXPIRED",
        spec(&|s| s.pck_crl.next_update = Some(past)),
    );
    one(
        "tcb-info-future",
        "The TCB info is from tomorrow.",
        "TCB_INFO_NOT_YET_VALID",
        spec(&|s| s.tcb_info.issue_date = date(future)),
    );
    one(
        "qe-identity-future",
        "The QE identity is from tomorrow.",
        "QE_IDENTITY_NOT_YET_VALID",
        spec(&|s| s.qe_identity.issue_date = date(future)),
    );
    one(
        "root-crl-future",
        "The root's revocation list is from tomorrow.",
        "ROOT_CRL_NOT_YET_VALID",
        spec(&|s| s.root_crl.this_update = future),
    );
    one(
        "pck-crl-future",
        "The PCK revocation list is from tomorrow.",
        "PCK_CRL_NOT_YET_VALID",
        spec(&|s| s.pck_crl.this_update = future),
    );

    one("pck-expired", "The PCK certificate ended yesterday.", "PCK_EXPIRED", machine.with_pck(|c| c.not_after = past));
    one(
        "pck-future",
        "The PCK certificate begins tomorrow.",
        "PCK_NOT_YET_VALID",
        machine.with_pck(|c| c.not_before = future),
    );
    let pki = &machine.pki;
    let mut signer = pki.tcb_signing_spec(machine.now).unwrap();
    signer.not_after = past;
    let expired = pki.chain(&[&signer.sign(&pki.root).unwrap()]).unwrap();
    one(
        "tcb-signer-expired",
        "The certificate that signs the TCB info ended yesterday.",
        "TCB_SIGNER_EXPIRED",
        machine.with_collateral(|c| c.tcb_info_issuer_chain.clone_from(&expired)),
    );
    one(
        "qe-signer-expired",
        "The certificate that signs the QE identity ended yesterday.",
        "QE_SIGNER_EXPIRED",
        machine.with_collateral(|c| c.qe_identity_issuer_chain = expired),
    );
    let mut ca = pki.pck_ca_spec(machine.now).unwrap();
    ca.not_after = past;
    let ca = ca.sign(&pki.root).unwrap();
    let pck = pki
        .pck_spec(&vouchsafe_simulator::tdx::pki::SgxExtension::honest(&pki.platform), machine.now)
        .unwrap()
        .sign(&pki.pck_ca)
        .unwrap();
    let chain = pki.chain(&[&pck, &ca]).unwrap();
    one(
        "pck-ca-expired",
        "The PCK authority's certificate in the quote ended yesterday.",
        "PCK_CA_EXPIRED",
        machine.with_quote(|q| q.cert_data = vouchsafe_simulator::tdx::QuoteSpec::cert_data(&chain)),
    );
    let late = refused(6, "TCB_INFO_EXPIRED").exit(3).at("2026-07-01T00:00:01Z");
    cases.case("window-all-expired", "The clock is one second after the collateral's last.", late, Files::new());
}

fn statements(cases: &mut Cases, machine: &Machine) {
    let mut one = |name: &str, what: &str, code, files: Files| {
        cases.case(&format!("statement-{name}"), what, refused(9, code), files);
    };
    one(
        "tcb-info-space",
        "A space was added to the TCB info after signing.",
        "TCB_INFO_SIGNATURE",
        machine.with_collateral(|c| c.tcb_info.push(' ')),
    );
    one(
        "tcb-info-status",
        "OutOfDate became UpToDate in the TCB info after signing.",
        "TCB_INFO_SIGNATURE",
        machine.with_collateral(|c| c.tcb_info = c.tcb_info.replace("OutOfDate", "UpToDate")),
    );
    one(
        "tcb-info-number",
        "The evaluation number was raised after signing.",
        "TCB_INFO_SIGNATURE",
        machine.with_collateral(|c| {
            c.tcb_info = c.tcb_info.replace("\"tcbEvaluationDataNumber\":19", "\"tcbEvaluationDataNumber\":20")
        }),
    );
    one(
        "tcb-info-by-pck",
        "The platform's key signed the TCB info.",
        "TCB_INFO_SIGNATURE",
        machine.with_collateral(|c| {
            c.tcb_info_signature = machine.pki.pck.sign(c.tcb_info.as_bytes()).unwrap().to_vec();
        }),
    );
    one(
        "qe-identity-bit",
        "A bit of the QE identity's signature is flipped.",
        "QE_IDENTITY_SIGNATURE",
        machine.with_collateral(|c| c.qe_identity_signature[0] ^= 1),
    );
    one(
        "signatures-swapped",
        "TCB info and QE identity carry each other's signatures.",
        "TCB_INFO_SIGNATURE",
        machine.with_collateral(|c| std::mem::swap(&mut c.tcb_info_signature, &mut c.qe_identity_signature)),
    );
    one(
        "qe-identity-by-pck",
        "The platform's key signed the QE identity.",
        "QE_IDENTITY_SIGNATURE",
        machine.with_collateral(|c| {
            c.qe_identity_signature = machine.pki.pck.sign(c.qe_identity.as_bytes()).unwrap().to_vec();
        }),
    );
}
