//! Turns certificates and revocation lists into the cases of steps 7 and 8: whose platform, under whose root, revoked or not.
//! It does not judge them.

use vouchsafe_attestation::anchors::SIMULATED_MARKER_OID as MARKER;
use vouchsafe_simulator::{
    der,
    tdx::{
        QuoteSpec,
        pki::{self, Pki, SGX_EXTENSION, SgxExtension},
    },
    x509::{BASIC_CONSTRAINTS, CertificateSpec, Extension, Name},
};

use crate::{
    cases::{Cases, Files, authentic, refused},
    machine::{Machine, both, json},
};

pub fn cases(cases: &mut Cases, machine: &Machine) {
    markers(cases, machine);
    platform(cases, machine);
    signers(cases, machine);
    revoked(cases, machine);
    rules(cases, machine);
}

/// A quote with another authority of the PCK certificate; the authority's own chain of the list stays.
fn with_ca(machine: &Machine, change: impl FnOnce(&mut CertificateSpec)) -> Files {
    let pki = &machine.pki;
    let mut ca = pki.pck_ca_spec(machine.now).unwrap();
    change(&mut ca);
    let ca = ca.sign(&pki.root).unwrap();
    let pck = honest_pck(pki, machine.now);
    let chain = pki.chain(&[&pck, &ca]).unwrap();
    machine.with_quote(|q| q.cert_data = QuoteSpec::cert_data(&chain))
}

fn honest_pck(pki: &Pki, now: u64) -> Vec<u8> {
    pki.pck_spec(&SgxExtension::honest(&pki.platform), now).unwrap().sign(&pki.pck_ca).unwrap()
}

/// The chain of another signer of TCB info.
fn signer(machine: &Machine, change: impl FnOnce(&mut CertificateSpec)) -> String {
    let mut spec = machine.pki.tcb_signing_spec(machine.now).unwrap();
    change(&mut spec);
    machine.pki.chain(&[&spec.sign(&machine.pki.root).unwrap()]).unwrap()
}

fn markers(cases: &mut Cases, machine: &Machine) {
    let mut one = |name: &str, what: &str, files: Files| {
        cases.case(&format!("marker-{name}"), what, refused(7, "LEAF_NOT_SIMULATED"), files);
    };
    one("pck", "The PCK certificate lacks the simulation marker.", machine.with_pck(|c| c.remove(MARKER)));
    one("pck-ca", "The PCK authority lacks the simulation marker.", with_ca(machine, |c| c.remove(MARKER)));
    let bare = signer(machine, |c| c.remove(MARKER));
    one(
        "tcb-signer",
        "The certificate that signs the TCB info lacks the simulation marker.",
        machine.with_collateral(|c| c.tcb_info_issuer_chain.clone_from(&bare)),
    );
    one(
        "qe-signer",
        "The certificate that signs the QE identity lacks the simulation marker.",
        machine.with_collateral(|c| c.qe_identity_issuer_chain = bare),
    );
}

/// The SGX extension of the PCK certificate.
fn platform(cases: &mut Cases, machine: &Machine) {
    let pki = &machine.pki;
    let sgx = |change: &dyn Fn(&mut SgxExtension)| {
        let mut sgx = SgxExtension::honest(&pki.platform);
        change(&mut sgx);
        machine.under(&pki.pck_spec(&sgx, machine.now).unwrap().sign(&pki.pck_ca).unwrap())
    };
    let mut one = |name: &str, what: &str, code, files: Files| {
        cases.case(&format!("platform-{name}"), what, refused(7, code), files);
    };
    one(
        "without-sgx",
        "The PCK certificate has no SGX extension.",
        "PCK_EXTENSION_MISSING",
        machine.with_pck(|c| c.remove(SGX_EXTENSION)),
    );
    one(
        "sgx-twice",
        "The PCK certificate has two SGX extensions.",
        "PCK_EXTENSION_DUPLICATE",
        machine.with_pck(|c| c.duplicate(SGX_EXTENSION)),
    );
    let second = SgxExtension::entry("4", &der::tlv(der::OCTET_STRING, &[0; 6])).unwrap();
    one(
        "fmspc-twice",
        "The PCK certificate states its FMSPC twice.",
        "PCK_EXTENSION_DUPLICATE",
        sgx(&|s| s.more = vec![second.clone()]),
    );
    one("ppid-short", "The platform identifier has 15 bytes.", "PCK_EXTENSION_VALUE", sgx(&|s| s.ppid.truncate(15)));
    one("fmspc-long", "The FMSPC has 7 bytes.", "PCK_EXTENSION_VALUE", sgx(&|s| s.fmspc.push(0)));
    one("pce-id-long", "The PCE identifier has 3 bytes.", "PCK_EXTENSION_VALUE", sgx(&|s| s.pce_id.push(0)));
    one("sgx-type", "The platform is of a type that does not exist.", "PCK_EXTENSION_VALUE", sgx(&|s| s.sgx_type = 3));
    one(
        "cpu-svn",
        "CPUSVN is higher than the components that it is made of.",
        "PCK_CPU_SVN",
        sgx(&|s| s.cpu_svn[0] += 1),
    );
    one(
        "fmspc",
        "The PCK certificate is of another family of processors than the TCB info.",
        "FMSPC_MISMATCH",
        sgx(&|s| s.fmspc[0] ^= 1),
    );
    one(
        "fmspc-of-tcb-info",
        "The TCB info is of another family of processors, well signed.",
        "FMSPC_MISMATCH",
        machine.with_spec(|s| s.tcb_info.fmspc = "00906ed50000".to_owned()),
    );
    one(
        "pce-id",
        "The PCK certificate is of another provisioning enclave than the TCB info.",
        "PCEID_MISMATCH",
        sgx(&|s| s.pce_id[1] ^= 1),
    );
    one(
        "pce-id-of-tcb-info",
        "The TCB info is of another provisioning enclave, well signed.",
        "PCEID_MISMATCH",
        machine.with_spec(|s| s.tcb_info.pce_id = "0001".to_owned()),
    );

    let other = &machine.other;
    let self_made = both(
        Files::from([(
            "quote.bin",
            QuoteSpec::honest(other, machine.td()).sign(&other.attestation, &other.pck).unwrap(),
        )]),
        json(&vouchsafe_simulator::tdx::CollateralSpec::honest(other, machine.now).unwrap().sign(other).unwrap()),
    );
    one(
        "self-made-chain",
        "Quote and collateral are another root's, which has the same name.",
        "CHAIN_ROOT",
        self_made,
    );
    one(
        "other-root-behind-list",
        "The issuer chain of the PCK revocation list ends with another root.",
        "CHAIN_ROOT",
        machine.with_collateral(|c| {
            let ca =
                der::certificate_pem(&machine.pki.pck_ca_spec(machine.now).unwrap().sign(&machine.pki.root).unwrap())
                    .unwrap();
            c.pck_crl_issuer_chain = ca + &der::certificate_pem(&other.root_der).unwrap();
        }),
    );
}

/// Who signed certificates and lists.
fn signers(cases: &mut Cases, machine: &Machine) {
    let (pki, other) = (&machine.pki, &machine.other);
    let mut one = |name: &str, what: &str, code, files: Files| {
        cases.case(&format!("chain-{name}"), what, refused(8, code), files);
    };
    let spec = machine.spec();
    one(
        "root-crl-by-another",
        "Another root of the same name signed the root's revocation list.",
        "ROOT_CRL_SIGNATURE",
        machine.with_collateral(|c| c.root_ca_crl = spec.root_crl.sign(&other.root).unwrap()),
    );
    one(
        "root-crl-issuer",
        "The root's revocation list names the PCK authority.",
        "ROOT_CRL_SIGNATURE",
        machine.with_spec(|s| s.root_crl.issuer = Name::simulated(pki::PCK_CA_NAME)),
    );
    one(
        "pck-crl-issuer",
        "The PCK revocation list names the root.",
        "PCK_CRL_ISSUER",
        machine
            .with_spec(|s| s.pck_crl.issuer = Name::simulated(vouchsafe_attestation::anchors::SIMULATED_TDX_ROOT_NAME)),
    );
    one(
        "pck-crl-of-another-ca",
        "The PCK revocation list comes with the chain of another authority of the same name.",
        "PCK_CRL_ISSUER",
        machine.with_collateral(|c| {
            let mut ca = pki.pck_ca_spec(machine.now).unwrap();
            ca.spki = other.pck_ca.spki().unwrap();
            c.pck_crl_issuer_chain = pki.chain(&[&ca.sign(&pki.root).unwrap()]).unwrap();
        }),
    );
    let ca_by = |root: &vouchsafe_simulator::keys::Key, serial: u8| {
        let mut ca = pki.pck_ca_spec(machine.now).unwrap();
        ca.serial = vec![serial];
        pki.chain(&[&ca.sign(root).unwrap()]).unwrap()
    };
    one(
        "pck-crl-issuer-by-another",
        "The PCK revocation list comes with a certificate of its authority that another root signed.",
        "PCK_CRL_ISSUER",
        machine.with_collateral(|c| c.pck_crl_issuer_chain = ca_by(&other.root, 8)),
    );
    let renewed = machine.with_collateral(|c| c.pck_crl_issuer_chain = ca_by(&pki.root, 8));
    one(
        "pck-crl-by-root",
        "The root signed the PCK revocation list in the authority's name.",
        "PCK_CRL_SIGNATURE",
        machine.with_collateral(|c| c.pck_crl = spec.pck_crl.sign(&pki.root).unwrap()),
    );
    let forged = |root: &vouchsafe_simulator::keys::Key| {
        pki.chain(&[&pki.tcb_signing_spec(machine.now).unwrap().sign(root).unwrap()]).unwrap()
    };
    one(
        "tcb-signer-by-another",
        "Another root of the same name signed the certificate of the TCB info's signer.",
        "TCB_SIGNER_CHAIN",
        machine.with_collateral(|c| c.tcb_info_issuer_chain = forged(&other.root)),
    );
    one(
        "tcb-signer-by-pck-ca",
        "The PCK authority issued the certificate that signs the TCB info.",
        "TCB_SIGNER_CHAIN",
        machine.with_collateral(|c| {
            let mut spec = pki.tcb_signing_spec(machine.now).unwrap();
            spec.issuer = Name::simulated(pki::PCK_CA_NAME);
            c.tcb_info_issuer_chain = pki.chain(&[&spec.sign(&pki.pck_ca).unwrap()]).unwrap();
        }),
    );
    one(
        "qe-signer-by-another",
        "Another root of the same name signed the certificate of the QE identity's signer.",
        "QE_SIGNER_CHAIN",
        machine.with_collateral(|c| c.qe_identity_issuer_chain = forged(&other.root)),
    );
    one(
        "pck-by-another-ca",
        "Another authority of the same name issued the PCK certificate.",
        "PCK_CHAIN",
        machine.under(
            &pki.pck_spec(&SgxExtension::honest(&pki.platform), machine.now).unwrap().sign(&other.pck_ca).unwrap(),
        ),
    );
    one(
        "pck-issuer",
        "The PCK certificate names the root as its issuer.",
        "PCK_CHAIN",
        machine.with_pck(|c| c.issuer = Name::simulated(vouchsafe_attestation::anchors::SIMULATED_TDX_ROOT_NAME)),
    );
    let ca = pki.pck_ca_spec(machine.now).unwrap().sign(&other.root).unwrap();
    let chain = pki.chain(&[&honest_pck(pki, machine.now), &ca]).unwrap();
    one(
        "pck-ca-by-another",
        "Another root of the same name certified the PCK authority.",
        "PCK_CHAIN",
        machine.with_quote(|q| q.cert_data = QuoteSpec::cert_data(&chain)),
    );
    cases.case(
        "accepted-renewed-list-issuer",
        "Nothing: the PCK revocation list comes with another certificate of the same authority, which the root signed.",
        authentic(),
        renewed,
    );
}

fn revoked(cases: &mut Cases, machine: &Machine) {
    let mut one = |name: &str, what: &str, code, files: Files| {
        cases.case(&format!("revoked-{name}"), what, refused(8, code), files);
    };
    one(
        "pck",
        "The PCK revocation list has the platform's certificate.",
        "PCK_REVOKED",
        machine.with_spec(|s| s.pck_crl.revoked.push(pki::PCK_SERIAL.to_vec())),
    );
    one(
        "pck-ca",
        "The root's revocation list has the PCK authority.",
        "PCK_CA_REVOKED",
        machine.with_spec(|s| s.root_crl.revoked.push(pki::PCK_CA_SERIAL.to_vec())),
    );
    one(
        "tcb-signer",
        "The root's revocation list has the signer of TCB info and QE identity.",
        "TCB_SIGNER_REVOKED",
        machine.with_spec(|s| s.root_crl.revoked.push(pki::TCB_SIGNING_SERIAL.to_vec())),
    );
    let fresh = signer(machine, |c| c.serial = vec![9]);
    one("qe-signer", "The root's revocation list has the signer of the QE identity only.", "QE_SIGNER_REVOKED", {
        let mut spec = machine.spec();
        spec.root_crl.revoked.push(vec![9]);
        let mut collateral = spec.sign(&machine.pki).unwrap();
        collateral.qe_identity_issuer_chain = fresh;
        json(&collateral)
    });
}

/// RFC 5280.
fn rules(cases: &mut Cases, machine: &Machine) {
    let mut one = |name: &str, what: &str, files: Files| {
        cases.case(&format!("rule-{name}"), what, refused(8, "CHAIN_REFUSED"), files);
    };
    one(
        "pck-ca-is-none",
        "The PCK authority's certificate says that it is no authority.",
        with_ca(machine, |c| c.set(Extension::basic_constraints(false, None))),
    );
    one(
        "pck-ca-without-constraints",
        "The PCK authority's certificate does not say that it is an authority.",
        with_ca(machine, |c| c.remove(BASIC_CONSTRAINTS)),
    );
    one(
        "pck-critical",
        "The PCK certificate has an unknown critical extension.",
        machine.with_pck(|c| c.set(Extension::critical("1.2.3.4", vec![5, 0]))),
    );
    one(
        "tcb-signer-critical",
        "The signer of the TCB info has an unknown critical extension.",
        machine.with_collateral(|c| {
            c.tcb_info_issuer_chain = signer(machine, |c| c.set(Extension::critical("1.2.3.4", vec![5, 0])));
        }),
    );
}
