//! Turns evidence from the library into the verdicts of two verifiers of TDX, ours and `dcap-qvl`, and of ours for SNP.
//! It says nothing about hardware: everything here is SIMULATED.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
#![allow(clippy::disallowed_methods, reason = "this test is the relying party and names its simulated root")]

use std::{sync::OnceLock, time::Instant};

use dcap_qvl::{QuoteCollateralV3, verify::QuoteVerifier};
use tempfile::TempDir;
use vouchsafe_attestation::{
    Anchors, Authentic, EvidenceEnvelope, TdxCollateral, UnixTime, VerifyError, lp::sha256, verify,
};
use vouchsafe_simulator::{
    answer,
    guest::Guest,
    root::{Root, now},
    snp::{ReportFields, SnpMaking, Tcb},
    tdx::{Pki, TdFields, TdReport, TdxMaking, pki::Platform},
};

const MEASUREMENT: [u8; 48] = [0xab; 48];
const HOST_DATA: [u8; 32] = [0xcd; 32];
const REPORT_DATA: [u8; 64] = [0xef; 64];

fn root() -> &'static Root {
    static ROOT: OnceLock<(TempDir, Root)> = OnceLock::new();
    let (_, root) = ROOT.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path(), &mut |_| ()).unwrap();
        (dir, root)
    });
    root
}

fn td() -> TdFields {
    TdFields { report_data: REPORT_DATA, ..TdFields::honest(MEASUREMENT, HOST_DATA) }
}

fn snp_fields() -> ReportFields {
    let fields = ReportFields::honest(*root().chip_id(), MEASUREMENT, HOST_DATA, [7; 32]);
    ReportFields { report_data: REPORT_DATA, ..fields }
}

fn ours(envelope: EvidenceEnvelope) -> Result<Authentic, VerifyError> {
    let anchors = Anchors::simulated(root().root_pem(), &sha256(root().root_pem())).unwrap();
    let (evidence, collateral) = envelope.into_parts().unwrap();
    verify(&evidence, &collateral, &anchors, UnixTime(now()))
}

fn parts(envelope: EvidenceEnvelope) -> (Vec<u8>, TdxCollateral) {
    match envelope {
        EvidenceEnvelope::Tdx(tdx) => (tdx.quote, tdx.collateral),
        EvidenceEnvelope::SevSnp(_) => panic!("not TDX"),
    }
}

/// The status, or why not.
fn dcap(envelope: EvidenceEnvelope) -> Result<String, String> {
    let (quote, c) = parts(envelope);
    let collateral = QuoteCollateralV3 {
        pck_crl_issuer_chain: c.pck_crl_issuer_chain,
        root_ca_crl: c.root_ca_crl,
        pck_crl: c.pck_crl,
        tcb_info_issuer_chain: c.tcb_info_issuer_chain,
        tcb_info: c.tcb_info,
        tcb_info_signature: c.tcb_info_signature,
        qe_identity_issuer_chain: c.qe_identity_issuer_chain,
        qe_identity: c.qe_identity,
        qe_identity_signature: c.qe_identity_signature,
        pck_certificate_chain: None,
    };
    let verifier = QuoteVerifier::new(root().tdx().root_der.clone());
    let report = verifier.verify(&quote, &collateral, now()).map_err(|e| format!("{e:#}"))?;
    let body = report.report.as_td10().unwrap();
    assert_eq!((body.mr_td, &body.mr_config_id[..32]), (MEASUREMENT, &HOST_DATA[..]));
    assert_eq!(report.ppid, root().tdx().platform.ppid);
    Ok(report.status)
}

#[test]
fn dcap_qvl_accepts_both_versions_under_the_simulated_root() {
    let v4 = TdxMaking::honest(root(), td(), now()).unwrap();
    let (quote, _) = parts(v4.finish().unwrap());
    assert_eq!(quote[..2], [4, 0]);
    assert_eq!(dcap(TdxMaking::honest(root(), td(), now()).unwrap().finish().unwrap()).as_deref(), Ok("UpToDate"));

    let mut v5 = TdxMaking::honest(root(), td(), now()).unwrap();
    v5.quote.set_v5();
    assert_eq!(dcap(v5.finish().unwrap()).as_deref(), Ok("UpToDate"));
}

#[test]
fn dcap_qvl_refuses_or_degrades_what_is_changed() {
    let change = |change: &dyn Fn(&mut TdxMaking<'_>)| {
        let mut making = TdxMaking::honest(root(), td(), now()).unwrap();
        change(&mut making);
        dcap(making.finish().unwrap())
    };
    assert_eq!(change(&|_| ()).as_deref(), Ok("UpToDate"), "control");
    let old = change(&|m| {
        let mut sgx = m.sgx_extension();
        sgx.set_cpu_svn([3, 3, 2, 2, 4, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0]);
        let spec = m.pck_spec(&sgx).unwrap();
        m.set_pck(&spec).unwrap();
    });
    assert_eq!(old.as_deref(), Ok("OutOfDate"));
    assert_eq!(change(&|m| m.quote.body.tee_tcb_svn[0] = 4).as_deref(), Ok("OutOfDate"), "the module");
    assert_eq!(change(&|m| m.quote.qe.isv_svn = 2).as_deref(), Ok("OutOfDate"), "the quoting enclave");
    let selfmade = Pki::generate(Platform::new([9; 16]), now()).unwrap();
    assert!(change(&|m| m.use_pki(&selfmade).unwrap()).is_err());
    let revoked = change(&|m| {
        let mut spec = m.collateral_spec().unwrap();
        spec.pck_crl.revoked = vec![vouchsafe_simulator::tdx::pki::PCK_SERIAL.to_vec()];
        m.set_collateral(&spec).unwrap();
    });
    assert!(revoked.unwrap_err().contains("Revoked"));
    let expired = change(&|m| {
        let mut spec = m.collateral_spec().unwrap();
        spec.set_window(now() - 1000, now() - 10);
        m.set_collateral(&spec).unwrap();
    });
    assert!(expired.is_err());
    assert!(change(&|m| m.quote.qe_auth[0] ^= 1).is_ok(), "authentication data is free");
    assert!(change(&|m| m.quote.qe.report_data = Some([0; 64])).unwrap_err().contains("hash"));
    assert!(change(&|m| m.quote.qe.mr_signer[0] ^= 1).is_err());
}

#[test]
fn our_verifier_accepts_both_technologies() {
    let tdx = ours(TdxMaking::honest(root(), td(), now()).unwrap().finish().unwrap()).unwrap();
    assert_eq!((tdx.measurement(), tdx.config_digest(), tdx.report_data()), (&MEASUREMENT, HOST_DATA, &REPORT_DATA));
    assert_eq!(tdx.registers(), [[0; 48]; 4]);
    assert_eq!(tdx.platform()[..16], root().tdx().platform.ppid);
    let mut v5 = TdxMaking::honest(root(), td(), now()).unwrap();
    v5.quote.set_v5();
    assert_eq!(ours(v5.finish().unwrap()).unwrap().measurement(), &MEASUREMENT);

    for version in [2, 3, 5] {
        let mut making = SnpMaking::honest(root(), snp_fields(), now()).unwrap();
        making.report.set_version(version);
        let snp = ours(making.finish().unwrap()).unwrap();
        assert_eq!((snp.measurement(), snp.config_digest()), (&MEASUREMENT, HOST_DATA), "version {version}");
    }
}

#[test]
fn a_changed_report_can_be_certified_again() {
    let mut making = SnpMaking::honest(root(), snp_fields(), now()).unwrap();
    making.report.set_all_tcb(Tcb { microcode: 0x20, ..Tcb::SIMULATED });
    making.certify().unwrap();
    assert!(ours(making.finish().unwrap()).is_ok());
    let mut making = SnpMaking::honest(root(), snp_fields(), now()).unwrap();
    making.report.set_all_tcb(Tcb { microcode: 0x20, ..Tcb::SIMULATED });
    assert!(ours(making.finish().unwrap()).is_err(), "without a leaf that says the same");
}

#[test]
fn a_loaded_key_has_a_chain_of_its_own() {
    let mut making = SnpMaking::honest(root(), snp_fields(), now()).unwrap();
    making.load_key("CN=cc-simulated.example.invalid").unwrap();
    let EvidenceEnvelope::SevSnp(envelope) = making.finish().unwrap() else { panic!("not SNP") };
    assert_eq!(envelope.report[0x48], 4);
    assert!(!envelope.asvk.is_empty() && envelope.report[0x1a0..0x1e0] == [0; 64]);
    let verdict = ours(EvidenceEnvelope::SevSnp(envelope));
    assert!(verdict.is_ok(), "{verdict:?}");
}

#[test]
fn answers_are_cheap() {
    let snp = Guest::SevSnp(Box::new(snp_fields()));
    let tdx = Guest::Tdx(Box::new(td()));
    for (name, guest) in [("sev-snp", snp), ("tdx", tdx)] {
        drop(answer::evidence(root(), &guest, REPORT_DATA, now()).unwrap());
        let start = Instant::now();
        let rounds = 50;
        for _ in 0..rounds {
            drop(answer::evidence(root(), &guest, REPORT_DATA, now()).unwrap());
        }
        println!("{name}: {:.3} ms per answer", start.elapsed().as_secs_f64() * 1000.0 / f64::from(rounds));
    }
    assert!(TdReport::honest(td()).to_bytes().is_ok());
}
