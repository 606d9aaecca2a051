//! Turns names into wrong PCK certificates, revocation lists, TCB infos and QE identities around an honest TDX quote.
//! The authorities of these faults are the simulated root's own, or keys that were made for one answer.

use vouchsafe_attestation::{anchors::SIMULATED_MARKER_OID, tdx::TcbStatus};

use super::{Named, Result, tdx, tdx_bytes};
use crate::{
    der,
    keys::{EcKey, Key},
    tdx::{
        CollateralSpec, Pki, QuoteSpec, TdxMaking,
        collateral::date,
        pki::{PCK_CA_SERIAL, PCK_SERIAL, Platform, SgxExtension, TCB_SIGNING_SERIAL, root_spec},
    },
    x509::{CertificateSpec, Name},
};

const DAY: u64 = 86_400;

/// Faults of what goes with a quote.
pub(super) const FAULTS: &[Named] = &[
    // ---- chain ----
    tdx("tdx-chain-self-made", "a chain of somebody's own with the simulated root's names", |m| {
        let pki = Pki::generate(m.pki().platform, m.now)?;
        m.use_pki(&pki)
    }),
    tdx("tdx-chain-self-made-intel", "a chain of somebody's own with Intel's names", intel),
    tdx("tdx-pck-self-made", "a platform certificate that the authority did not sign", |m| {
        let spec = m.pck_spec(&m.sgx_extension())?;
        let leaf = spec.sign(&Key::p256()?)?;
        let chain = der::certificate_pem(&leaf)? + &m.pki().pck_ca_chain;
        m.quote.cert_data = QuoteSpec::cert_data(&chain);
        Ok(())
    }),
    tdx("tdx-pck-expired", "the platform's certificate is past its end", |m| {
        let now = m.now;
        pck(m, |_| (), |s| s.not_after = now - DAY / 2)
    }),
    tdx("tdx-pck-revoked", "the platform's certificate is revoked", |m| {
        collateral(m, |c| c.pck_crl.revoked.push(PCK_SERIAL.to_vec()))
    }),
    tdx("tdx-pck-ca-revoked", "the authority of the platform's certificate is revoked", |m| {
        collateral(m, |c| c.root_crl.revoked.push(PCK_CA_SERIAL.to_vec()))
    }),
    tdx("tdx-signer-revoked", "the certificate that signs TCB info and QE identity is revoked", |m| {
        collateral(m, |c| c.root_crl.revoked.push(TCB_SIGNING_SERIAL.to_vec()))
    }),
    // ---- identity ----
    tdx("tdx-platform-not-listed", "a genuine platform that no policy names", |m| {
        let platform = Platform::new([7; 16]);
        pck(m, |s| s.ppid = platform.ppid.to_vec(), |_| ())
    }),
    tdx("tdx-fmspc-other", "the TCB info of another family of processors", |m| {
        collateral(m, |c| c.tcb_info.fmspc = "00906ED50000".into())
    }),
    tdx("tdx-pceid-other", "the TCB info of another provisioning enclave", |m| {
        collateral(m, |c| c.tcb_info.pce_id = "0001".into())
    }),
    tdx("tdx-pceid-not-listed", "a provisioning enclave that no policy lists", |m| {
        collateral(m, |c| c.tcb_info.pce_id = "0001".into())?;
        pck(m, |s| s.pce_id = vec![0, 1], |_| ())
    }),
    tdx("tdx-fmspc-twice", "the platform's certificate names two families", |m| {
        let second = SgxExtension::entry("4", &der::tlv(der::OCTET_STRING, &[7; 6]))?;
        pck(m, |s| s.more.push(second), |_| ())
    }),
    tdx("tdx-cpusvn-contradiction", "CPUSVN and its components differ in the platform's certificate", |m| {
        pck(m, |s| s.cpu_svn = vec![9; 16], |_| ())
    }),
    // ---- levels ----
    tdx("tdx-platform-out-of-date", "the module is up to date, the platform is not", |m| {
        pck(m, |s| s.set_cpu_svn([3, 3, 2, 2, 4, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0]), |_| ())
    }),
    tdx("tdx-platform-ancient", "a platform below every known level", |m| pck(m, |s| s.set_cpu_svn([0; 16]), |_| ())),
    tdx("tdx-status-configuration", "a platform that needs another configuration", |m| {
        status(m, TcbStatus::ConfigurationNeeded)
    }),
    tdx("tdx-status-hardening", "a platform that needs hardened software", |m| status(m, TcbStatus::SwHardeningNeeded)),
    tdx("tdx-status-revoked", "a level whose keys are not to be believed", |m| status(m, TcbStatus::Revoked)),
    tdx("tdx-advisory-open", "an advisory is open at an up-to-date level", |m| {
        collateral(m, |c| {
            if let Some(best) = c.tcb_info.tcb_levels.first_mut() {
                best.advisory_ids.push("INTEL-SA-99999".into());
            }
        })
    }),
    tdx("tdx-evaluation-number", "an assessment older than the floor", |m| {
        collateral(m, |c| {
            c.tcb_info.tcb_evaluation_data_number = 18;
            c.qe_identity.tcb_evaluation_data_number = 18;
        })
    }),
    // ---- collateral ----
    tdx_bytes("tdx-root-crl-missing", "no revocation list of the root", |e| e.collateral.root_ca_crl.clear()),
    tdx_bytes("tdx-tcb-info-missing", "no TCB info", |e| e.collateral.tcb_info.clear()),
    tdx_bytes("tdx-tcb-info-edited", "an outdated level is called up to date after signing", |e| {
        e.collateral.tcb_info = e.collateral.tcb_info.replace("OutOfDate", "UpToDate");
    }),
    tdx_bytes("tdx-qe-identity-edited", "another quoting enclave is written in after signing", |e| {
        e.collateral.qe_identity = e.collateral.qe_identity.replace("\"isvprodid\":2", "\"isvprodid\":3");
    }),
    tdx_bytes("tdx-signatures-swapped", "TCB info and QE identity with each other's signature", |e| {
        core::mem::swap(&mut e.collateral.tcb_info_signature, &mut e.collateral.qe_identity_signature);
    }),
    tdx("tdx-tcb-info-sgx", "the TCB info of SGX", |m| collateral(m, |c| c.tcb_info.id = "SGX".into())),
    tdx("tdx-tcb-info-other-key", "the TCB info is signed by somebody else", |m| {
        let spec = m.collateral_spec()?;
        m.collateral = spec.sign_as(m.pki(), &m.pki().root, &m.pki().pck_ca, &EcKey::generate()?)?;
        Ok(())
    }),
    tdx("tdx-root-crl-other-key", "the root's revocation list is signed by somebody else", |m| {
        let spec = m.collateral_spec()?;
        m.collateral = spec.sign_as(m.pki(), &Key::p256()?, &m.pki().pck_ca, &m.pki().tcb_signing)?;
        Ok(())
    }),
    tdx("tdx-pck-crl-other-key", "the revocation list of platforms is signed by somebody else", |m| {
        let spec = m.collateral_spec()?;
        m.collateral = spec.sign_as(m.pki(), &m.pki().root, &Key::p256()?, &m.pki().tcb_signing)?;
        Ok(())
    }),
    tdx("tdx-tcb-info-expired", "the TCB info is past its next update", |m| {
        let now = m.now;
        collateral(m, |c| c.tcb_info.next_update = date(now - 60))
    }),
    tdx("tdx-qe-identity-expired", "the QE identity is past its next update", |m| {
        let now = m.now;
        collateral(m, |c| c.qe_identity.next_update = date(now - 60))
    }),
    tdx("tdx-root-crl-expired", "the root's revocation list is past its next update", |m| {
        let now = m.now;
        collateral(m, |c| c.root_crl.next_update = Some(now - 60))
    }),
    tdx("tdx-pck-crl-expired", "the revocation list of platforms is past its next update", |m| {
        let now = m.now;
        collateral(m, |c| c.pck_crl.next_update = Some(now - 60))
    }),
    tdx("tdx-tcb-info-not-yet", "the TCB info is of tomorrow", |m| {
        let now = m.now;
        collateral(m, |c| c.tcb_info.issue_date = date(now + DAY))
    }),
    tdx("tdx-collateral-too-old", "collateral in force, older than the policy accepts", |m| {
        let now = m.now;
        collateral(m, |c| c.set_window(now - 25 * DAY, now + 5 * DAY))
    }),
    tdx("tdx-root-crl-number", "a root's revocation list with a number below the floor", |m| {
        collateral(m, |c| c.root_crl.set_number(1))
    }),
    tdx("tdx-pck-crl-number", "a revocation list of platforms with a number below the floor", |m| {
        collateral(m, |c| c.pck_crl.set_number(1))
    }),
    // ---- simulation ----
    tdx("tdx-hardware-as-simulated", "what looks like Intel's", intel),
    tdx("tdx-marker-missing", "the platform's certificate does not say that it is simulated", |m| {
        pck(m, |_| (), |s| s.remove(SIMULATED_MARKER_OID))
    }),
];

/// Intel's names and no marker, under keys that are not Intel's: as near to genuine as this machine can come.
fn intel(making: &mut TdxMaking<'_>) -> Result<()> {
    const ROOT: &str = "Intel SGX Root CA";
    const CA: &str = "Intel SGX PCK Platform CA";
    let renamed = |mut spec: CertificateSpec, issuer: &str, subject: &str| {
        (spec.issuer, spec.subject) = (Name::intel(issuer), Name::intel(subject));
        spec.remove(SIMULATED_MARKER_OID);
        spec
    };
    let now = making.now;
    let mut pki = Pki::generate(making.pki().platform, now)?;
    pki.root_der = renamed(root_spec(&pki.root, now)?, ROOT, ROOT).sign(&pki.root)?;
    let ca = renamed(pki.pck_ca_spec(now)?, ROOT, CA).sign(&pki.root)?;
    let signer = renamed(pki.tcb_signing_spec(now)?, ROOT, "Intel SGX TCB Signing").sign(&pki.root)?;
    let pck =
        renamed(pki.pck_spec(&making.sgx_extension(), now)?, CA, "Intel SGX PCK Certificate").sign(&pki.pck_ca)?;
    pki.pck_ca_chain = pki.chain(&[&ca])?;
    pki.tcb_signing_chain = pki.chain(&[&signer])?;
    pki.pck_chain = pki.chain(&[&pck, &ca])?;
    making.use_pki(&pki)?;
    let mut spec = CollateralSpec::honest(&pki, now)?;
    (spec.root_crl.issuer, spec.pck_crl.issuer) = (Name::intel(ROOT), Name::intel(CA));
    making.collateral = spec.sign(&pki)?;
    Ok(())
}

/// Other collateral, signed by the honest keys.
fn collateral(making: &mut TdxMaking<'_>, change: impl FnOnce(&mut CollateralSpec)) -> Result<()> {
    let mut spec = making.collateral_spec()?;
    change(&mut spec);
    making.set_collateral(&spec)
}

/// Another status of the best level.
fn status(making: &mut TdxMaking<'_>, status: TcbStatus) -> Result<()> {
    collateral(making, |c| {
        if let Some(best) = c.tcb_info.tcb_levels.first_mut() {
            best.tcb_status = status.as_str().into();
        }
    })
}

/// Another certificate of the platform, signed by the honest authority.
fn pck(
    making: &mut TdxMaking<'_>,
    says: impl FnOnce(&mut SgxExtension),
    change: impl FnOnce(&mut CertificateSpec),
) -> Result<()> {
    let mut sgx = making.sgx_extension();
    says(&mut sgx);
    let mut spec = making.pck_spec(&sgx)?;
    change(&mut spec);
    making.set_pck(&spec)
}
