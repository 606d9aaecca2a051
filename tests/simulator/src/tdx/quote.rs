//! Turns the fields of a TD into a quote of version 4 or 5, signed as Intel's quoting enclave signs.
//! The fields are whatever the caller asks for: the fault lab asks for wrong ones by changing them before signing.
//!
//! Layouts: Intel TDX DCAP Quote Generation Library and Quote Verification Library, rev 0.9, appendix A.3 and A.4.

use ring::digest::{SHA256, digest};
use vouchsafe_attestation::lp;

use super::{collateral::MODULE_SVN, pki::Pki};
use crate::{SimulatorError, keys::EcKey};

type Result<T> = core::result::Result<T, SimulatorError>;

/// Bit 28 of ATTRIBUTES: SEPT_VE_DISABLE.
pub const SEPT_VE_DISABLE: u64 = 1 << 28;
/// Product number of Intel's TD quoting enclave.
pub const QE_ISV_PROD_ID: u16 = 2;
const QE_ISV_SVN: u16 = 7;
/// The vendor of quoting enclaves: Intel's identifier, which readers of quotes insist on.
pub const QE_VENDOR: [u8; 16] =
    [0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07];
/// TEE type of TDX.
pub const TEE_TDX: u32 = 0x81;
/// Certification data: a PCK chain in PEM.
pub const CERT_PCK_CHAIN: u16 = 5;
/// Certification data: the quoting enclave's report with what certifies it.
pub const CERT_QE_REPORT: u16 = 6;

/// The signer of the simulated quoting enclave.
#[must_use]
pub fn qe_mr_signer() -> [u8; 32] {
    lp::sha256(b"vouchsafe/1 simulated quoting enclave, signer")
}

/// The simulated TDX module.
#[must_use]
pub fn mr_seam() -> [u8; 48] {
    lp::sha384(b"vouchsafe/1 simulated TDX module")
}

/// What the TDX module reports of a TD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TdFields {
    /// Security versions of the module: its own, its major version, the microcode's, …
    pub tee_tcb_svn: [u8; 16],
    /// Measurement of the module.
    pub mr_seam: [u8; 48],
    /// Signer of the module.
    pub mr_signer_seam: [u8; 48],
    /// Attributes of the module.
    pub seam_attributes: [u8; 8],
    /// Attributes of the TD.
    pub attributes: u64,
    /// Extended features of the TD.
    pub xfam: u64,
    /// Measurement of the TD's first contents.
    pub mr_td: [u8; 48],
    /// Bound by the host at launch.
    pub mr_config_id: [u8; 48],
    /// Chosen by the host.
    pub mr_owner: [u8; 48],
    /// Chosen by the host.
    pub mr_owner_config: [u8; 48],
    /// Extended by the guest.
    pub rtmr: [[u8; 48]; 4],
    /// Chosen by the guest.
    pub report_data: [u8; 64],
    /// TDX 1.5: security versions of the module that runs now.
    pub tee_tcb_svn2: [u8; 16],
    /// TDX 1.5: bound service TDs.
    pub mr_service_td: [u8; 48],
}

impl TdFields {
    /// What an honest simulated TD is: MRCONFIGID is the host's 32 bytes and 16 zeros.
    #[must_use]
    pub fn honest(mr_td: [u8; 48], host_data: [u8; 32]) -> Self {
        let mut mr_config_id = [0; 48];
        for (to, from) in mr_config_id.iter_mut().zip(host_data) {
            *to = from;
        }
        let mut tee_tcb_svn = [0; 16];
        for (to, from) in tee_tcb_svn.iter_mut().zip([MODULE_SVN, 1, 4]) {
            *to = from;
        }
        Self {
            tee_tcb_svn,
            mr_seam: mr_seam(),
            mr_signer_seam: [0; 48],
            seam_attributes: [0; 8],
            attributes: SEPT_VE_DISABLE,
            xfam: 0x0006_02e7,
            mr_td,
            mr_config_id,
            mr_owner: [0; 48],
            mr_owner_config: [0; 48],
            rtmr: [[0; 48]; 4],
            report_data: [0; 64],
            tee_tcb_svn2: tee_tcb_svn,
            mr_service_td: [0; 48],
        }
    }

    /// The body of a quote: 584 bytes, or 648 with the fields of TDX 1.5.
    #[must_use]
    pub fn body(&self, td15: bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(648);
        out.extend_from_slice(&self.tee_tcb_svn);
        out.extend_from_slice(&self.mr_seam);
        out.extend_from_slice(&self.mr_signer_seam);
        out.extend_from_slice(&self.seam_attributes);
        out.extend_from_slice(&self.attributes.to_le_bytes());
        out.extend_from_slice(&self.xfam.to_le_bytes());
        out.extend_from_slice(&self.mr_td);
        out.extend_from_slice(&self.mr_config_id);
        out.extend_from_slice(&self.mr_owner);
        out.extend_from_slice(&self.mr_owner_config);
        out.extend_from_slice(&self.rtmr.concat());
        out.extend_from_slice(&self.report_data);
        if td15 {
            out.extend_from_slice(&self.tee_tcb_svn2);
            out.extend_from_slice(&self.mr_service_td);
        }
        out
    }
}

/// The first 48 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// 4 or 5.
    pub version: u16,
    /// 2 is ECDSA on P-256.
    pub key_type: u16,
    /// 0x81 is TDX.
    pub tee_type: u32,
    /// Zero since version 4.
    pub reserved: [u8; 4],
    /// Who made the quoting enclave.
    pub vendor: [u8; 16],
    /// The quoting enclave's identifier and four zeros.
    pub user_data: [u8; 20],
}

/// The quoting enclave's own report: Intel SDM volume 3D, table "REPORT".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QeReport {
    /// Offset 0.
    pub cpu_svn: [u8; 16],
    /// Offset 16.
    pub misc_select: [u8; 4],
    /// Offset 48.
    pub attributes: [u8; 16],
    /// Offset 64.
    pub mr_enclave: [u8; 32],
    /// Offset 128.
    pub mr_signer: [u8; 32],
    /// Offset 256.
    pub isv_prod_id: u16,
    /// Offset 258.
    pub isv_svn: u16,
    /// Offset 320: SHA-256 of attestation key and authentication data, then zeros. `None` computes it.
    pub report_data: Option<[u8; 64]>,
}

impl QeReport {
    fn to_bytes(&self, report_data: &[u8; 64]) -> [u8; 384] {
        let mut out = [0; 384];
        let mut put = |offset: usize, field: &[u8]| {
            if let Some(place) = out.get_mut(offset..offset + field.len()) {
                place.copy_from_slice(field);
            }
        };
        put(0, &self.cpu_svn);
        put(16, &self.misc_select);
        put(48, &self.attributes);
        put(64, &self.mr_enclave);
        put(128, &self.mr_signer);
        put(256, &self.isv_prod_id.to_le_bytes());
        put(258, &self.isv_svn.to_le_bytes());
        put(320, report_data);
        out
    }
}

/// A quote before it is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuoteSpec {
    /// Header.
    pub header: Header,
    /// What the module reports.
    pub body: TdFields,
    /// Version 5: 2 is TDX 1.0, 3 is TDX 1.5.
    pub body_type: u16,
    /// The quoting enclave.
    pub qe: QeReport,
    /// Authentication data of the quoting enclave: 32 bytes.
    pub qe_auth: Vec<u8>,
    /// Type of the outer certification data.
    pub outer_type: u16,
    /// Type of the inner certification data.
    pub cert_type: u16,
    /// The inner certification data: the PCK chain, PEM, with the NUL that Intel's library leaves.
    pub cert_data: Vec<u8>,
}

impl QuoteSpec {
    /// An honest quote of version 4.
    #[must_use]
    pub fn honest(pki: &Pki, body: TdFields) -> Self {
        let mut user_data = [0; 20];
        for (to, from) in user_data.iter_mut().zip(pki.platform.instance) {
            *to = from;
        }
        Self {
            header: Header {
                version: 4,
                key_type: 2,
                tee_type: TEE_TDX,
                reserved: [0; 4],
                vendor: QE_VENDOR,
                user_data,
            },
            body,
            body_type: 2,
            qe: QeReport {
                cpu_svn: super::pki::CPU_SVN,
                misc_select: [0; 4],
                attributes: [0x15, 0, 0, 0, 0, 0, 0, 0, 0xe7, 0, 0, 0, 0, 0, 0, 0],
                mr_enclave: lp::sha256(b"vouchsafe/1 simulated quoting enclave"),
                mr_signer: qe_mr_signer(),
                isv_prod_id: QE_ISV_PROD_ID,
                isv_svn: QE_ISV_SVN,
                report_data: None,
            },
            qe_auth: (0..32).collect(),
            outer_type: CERT_QE_REPORT,
            cert_type: CERT_PCK_CHAIN,
            cert_data: Self::cert_data(&pki.pck_chain),
        }
    }

    /// A chain as certification data.
    #[must_use]
    pub fn cert_data(chain: &str) -> Vec<u8> {
        [chain.as_bytes(), &[0]].concat()
    }

    /// Makes it a quote of version 5 with the fields of TDX 1.5.
    pub const fn set_v5(&mut self) {
        self.header.version = 5;
        self.body_type = 3;
    }

    /// Header and body: what the attestation key signs.
    #[must_use]
    pub fn signed_bytes(&self) -> Vec<u8> {
        let Header { version, key_type, tee_type, reserved, vendor, user_data } = &self.header;
        let mut out = Vec::with_capacity(702);
        out.extend_from_slice(&version.to_le_bytes());
        out.extend_from_slice(&key_type.to_le_bytes());
        out.extend_from_slice(&tee_type.to_le_bytes());
        out.extend_from_slice(reserved);
        out.extend_from_slice(vendor);
        out.extend_from_slice(user_data);
        let body = self.body.body(*version >= 5 && self.body_type == 3);
        if *version >= 5 {
            out.extend_from_slice(&self.body_type.to_le_bytes());
            out.extend_from_slice(&length(&body));
        }
        out.extend_from_slice(&body);
        out
    }

    /// The quote: body signed by `attestation`, the quoting enclave's report by `pck`.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn sign(&self, attestation: &EcKey, pck: &EcKey) -> Result<Vec<u8>> {
        let mut quote = self.signed_bytes();
        let signature = attestation.sign(&quote)?;
        let point = attestation.point();
        let qe_report = self.qe.to_bytes(&self.qe.report_data.unwrap_or_else(|| self.qe_report_data(&point)));

        let mut inner = qe_report.to_vec();
        inner.extend_from_slice(&pck.sign(&qe_report)?);
        inner.extend_from_slice(&u16::try_from(self.qe_auth.len()).unwrap_or(u16::MAX).to_le_bytes());
        inner.extend_from_slice(&self.qe_auth);
        inner.extend_from_slice(&self.cert_type.to_le_bytes());
        inner.extend_from_slice(&length(&self.cert_data));
        inner.extend_from_slice(&self.cert_data);

        let mut auth = signature.to_vec();
        auth.extend_from_slice(&point);
        auth.extend_from_slice(&self.outer_type.to_le_bytes());
        auth.extend_from_slice(&length(&inner));
        auth.extend_from_slice(&inner);

        quote.extend_from_slice(&length(&auth));
        quote.extend_from_slice(&auth);
        Ok(quote)
    }

    fn qe_report_data(&self, point: &[u8; 64]) -> [u8; 64] {
        let mut out = [0; 64];
        let hash = digest(&SHA256, &[point.as_slice(), &self.qe_auth].concat());
        for (to, from) in out.iter_mut().zip(hash.as_ref()) {
            *to = *from;
        }
        out
    }
}

fn length(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes()
}
