//! Turns levels, dates and revoked serials into the collateral of a TDX quote: TCB info v3, QE identity v2, both lists.
//! Its levels are invented: they say nothing about any processor of Intel's.

use serde::Serialize;
use vouchsafe_attestation::{UnixTime, evidence::TdxCollateral, tdx::TcbStatus};

use super::{
    pki::{COLLATERAL_DAYS, CPU_SVN, FMSPC, PCE_ID, PCE_SVN, Pki},
    quote::{QE_ISV_PROD_ID, qe_mr_signer},
};
use crate::{
    SimulatorError,
    keys::{EcKey, Key},
    x509::CrlSpec,
};

type Result<T> = core::result::Result<T, SimulatorError>;

/// The number of Intel's assessment that the simulated collateral stands for.
pub const TCB_EVALUATION_NUMBER: u32 = 19;
/// Security version of the newest simulated TDX module; its major version is 1.
pub const MODULE_SVN: u8 = 11;
/// When the best level was set.
const BEST_DATE: &str = "2025-08-13T00:00:00Z";
const OLD_DATE: &str = "2024-03-13T00:00:00Z";
const HOUR: u64 = 3_600;
const DAY: u64 = 86_400;

/// TCB info, version 3.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TcbInfo {
    /// `TDX`.
    pub id: String,
    /// 3.
    pub version: u8,
    /// When it was made.
    pub issue_date: String,
    /// When the next one is due.
    pub next_update: String,
    /// Hex.
    pub fmspc: String,
    /// Hex.
    pub pce_id: String,
    /// 0.
    pub tcb_type: u32,
    /// Grows with every assessment.
    pub tcb_evaluation_data_number: u32,
    /// Modules of major version 0.
    pub tdx_module: Module,
    /// Modules by major version.
    pub tdx_module_identities: Vec<ModuleIdentity>,
    /// Best first.
    pub tcb_levels: Vec<TcbLevel>,
}

/// Signer and attributes of a module; hex.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Module {
    /// 48 bytes; zero for Intel's.
    pub mrsigner: String,
    /// 8 bytes.
    pub attributes: String,
    /// 8 bytes.
    pub attributes_mask: String,
}

/// The modules of one major version.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ModuleIdentity {
    /// `TDX_01` and so on.
    pub id: String,
    /// Signer and attributes.
    #[serde(flatten)]
    pub module: Module,
    /// Best first.
    pub tcb_levels: Vec<IsvLevel>,
}

/// A level of a module or of the quoting enclave.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IsvLevel {
    /// The version.
    pub tcb: IsvTcb,
    /// When it was set.
    pub tcb_date: String,
    /// Intel's word.
    pub tcb_status: String,
    /// Why.
    #[serde(rename = "advisoryIDs", skip_serializing_if = "Vec::is_empty")]
    pub advisory_ids: Vec<String>,
}

/// The one version of such a level.
#[derive(Clone, Debug, Serialize)]
pub struct IsvTcb {
    /// At least this.
    pub isvsvn: u16,
}

/// A level of the platform.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TcbLevel {
    /// The versions.
    pub tcb: LevelTcb,
    /// When it was set.
    pub tcb_date: String,
    /// Intel's word.
    pub tcb_status: String,
    /// Why.
    #[serde(rename = "advisoryIDs", skip_serializing_if = "Vec::is_empty")]
    pub advisory_ids: Vec<String>,
}

/// The versions of a level of the platform.
#[derive(Clone, Debug, Serialize)]
pub struct LevelTcb {
    /// 16 of them.
    pub sgxtcbcomponents: Vec<Component>,
    /// The provisioning certification enclave's.
    pub pcesvn: u16,
    /// 16 of them.
    pub tdxtcbcomponents: Vec<Component>,
}

/// One component.
#[derive(Clone, Debug, Serialize)]
pub struct Component {
    /// At least this.
    pub svn: u8,
    /// Who updates it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<&'static str>,
    /// What it is.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
}

/// QE identity, version 2.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QeIdentity {
    /// `TD_QE`.
    pub id: String,
    /// 2.
    pub version: u8,
    /// When it was made.
    pub issue_date: String,
    /// When the next one is due.
    pub next_update: String,
    /// Grows with every assessment.
    pub tcb_evaluation_data_number: u32,
    /// Hex, 4 bytes.
    pub miscselect: String,
    /// Hex, 4 bytes.
    pub miscselect_mask: String,
    /// Hex, 16 bytes.
    pub attributes: String,
    /// Hex, 16 bytes.
    pub attributes_mask: String,
    /// Hex, 32 bytes.
    pub mrsigner: String,
    /// Product.
    pub isvprodid: u16,
    /// Best first.
    pub tcb_levels: Vec<IsvLevel>,
}

/// Everything that collateral says, before it is signed.
#[derive(Clone, Debug)]
pub struct CollateralSpec {
    /// TCB info.
    pub tcb_info: TcbInfo,
    /// QE identity.
    pub qe_identity: QeIdentity,
    /// The root's list.
    pub root_crl: CrlSpec,
    /// The PCK authority's list.
    pub pck_crl: CrlSpec,
}

impl CollateralSpec {
    /// What an honest provisioning service answers: issued an hour ago, good for 30 days.
    ///
    /// # Errors
    /// Never.
    pub fn honest(pki: &Pki, now: u64) -> Result<Self> {
        Ok(Self {
            tcb_info: TcbInfo::honest(now),
            qe_identity: QeIdentity::honest(now),
            root_crl: pki.root_crl_spec(now)?,
            pck_crl: pki.pck_crl_spec(now)?,
        })
    }

    /// Another issue date and end for all four items.
    pub fn set_window(&mut self, from: u64, to: u64) {
        let (issued, due) = (date(from), date(to));
        self.tcb_info.issue_date.clone_from(&issued);
        self.tcb_info.next_update.clone_from(&due);
        self.qe_identity.issue_date = issued;
        self.qe_identity.next_update = due;
        for list in [&mut self.root_crl, &mut self.pck_crl] {
            list.this_update = from;
            list.next_update = Some(to);
        }
    }

    /// The collateral, signed by the keys of `pki`.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn sign(&self, pki: &Pki) -> Result<TdxCollateral> {
        self.sign_as(pki, &pki.root, &pki.pck_ca, &pki.tcb_signing)
    }

    /// The collateral with the chains of `pki`, signed by other keys.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn sign_as(&self, pki: &Pki, root: &Key, pck_ca: &Key, tcb_signing: &EcKey) -> Result<TdxCollateral> {
        let (tcb_info, qe_identity) = (self.tcb_info.to_json()?, self.qe_identity.to_json()?);
        Ok(TdxCollateral {
            pck_crl_issuer_chain: pki.pck_ca_chain.clone(),
            root_ca_crl: self.root_crl.sign(root)?,
            pck_crl: self.pck_crl.sign(pck_ca)?,
            tcb_info_issuer_chain: pki.tcb_signing_chain.clone(),
            tcb_info_signature: tcb_signing.sign(tcb_info.as_bytes())?.to_vec(),
            tcb_info,
            qe_identity_issuer_chain: pki.tcb_signing_chain.clone(),
            qe_identity_signature: tcb_signing.sign(qe_identity.as_bytes())?.to_vec(),
            qe_identity,
        })
    }
}

impl TcbInfo {
    fn honest(now: u64) -> Self {
        let (issue_date, next_update) = window(now);
        Self {
            id: "TDX".into(),
            version: 3,
            issue_date,
            next_update,
            fmspc: hex::encode(FMSPC),
            pce_id: hex::encode(PCE_ID),
            tcb_type: 0,
            tcb_evaluation_data_number: TCB_EVALUATION_NUMBER,
            tdx_module: Module::intel(),
            tdx_module_identities: vec![
                ModuleIdentity { id: "TDX_03".into(), module: Module::intel(), tcb_levels: vec![IsvLevel::best(3)] },
                ModuleIdentity {
                    id: "TDX_01".into(),
                    module: Module::intel(),
                    tcb_levels: vec![IsvLevel::best(MODULE_SVN.into()), IsvLevel::old(4)],
                },
            ],
            tcb_levels: vec![
                TcbLevel::new(CPU_SVN, PCE_SVN, [5, 0, 4], BEST_DATE, TcbStatus::UpToDate),
                TcbLevel::new(
                    [3, 3, 2, 2, 4, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0],
                    PCE_SVN,
                    [5, 0, 3],
                    OLD_DATE,
                    TcbStatus::OutOfDate,
                ),
                TcbLevel::new(
                    [2, 2, 2, 2, 3, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0],
                    5,
                    [3, 0, 2],
                    OLD_DATE,
                    TcbStatus::OutOfDate,
                ),
            ],
        }
    }

    /// The exact text that is signed.
    ///
    /// # Errors
    /// Never.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|_| SimulatorError::RootMaking("TCB info"))
    }
}

impl QeIdentity {
    fn honest(now: u64) -> Self {
        let (issue_date, next_update) = window(now);
        Self {
            id: "TD_QE".into(),
            version: 2,
            issue_date,
            next_update,
            tcb_evaluation_data_number: TCB_EVALUATION_NUMBER,
            miscselect: "00000000".into(),
            miscselect_mask: "FFFFFFFF".into(),
            attributes: "11000000000000000000000000000000".into(),
            attributes_mask: "FBFFFFFFFFFFFFFF0000000000000000".into(),
            mrsigner: hex::encode_upper(qe_mr_signer()),
            isvprodid: QE_ISV_PROD_ID,
            tcb_levels: vec![IsvLevel::best(4), IsvLevel::old(2)],
        }
    }

    /// The exact text that is signed.
    ///
    /// # Errors
    /// Never.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|_| SimulatorError::RootMaking("QE identity"))
    }
}

impl Module {
    fn intel() -> Self {
        Self { mrsigner: "0".repeat(96), attributes: "0".repeat(16), attributes_mask: "F".repeat(16) }
    }
}

impl IsvLevel {
    fn best(isvsvn: u16) -> Self {
        let tcb_status = TcbStatus::UpToDate.as_str().into();
        Self { tcb: IsvTcb { isvsvn }, tcb_date: BEST_DATE.into(), tcb_status, advisory_ids: Vec::new() }
    }

    fn old(isvsvn: u16) -> Self {
        let tcb_status = TcbStatus::OutOfDate.as_str().into();
        Self { tcb: IsvTcb { isvsvn }, tcb_date: OLD_DATE.into(), tcb_status, advisory_ids: advisories() }
    }
}

impl TcbLevel {
    /// A level with these versions; everything but the best stands for advisories.
    #[must_use]
    pub fn new(sgx: [u8; 16], pcesvn: u16, tdx: [u8; 3], date: &str, status: TcbStatus) -> Self {
        const OS: Option<&str> = Some("OS/VMM");
        const BIOS: Option<&str> = Some("BIOS");
        let sgx_names = [
            (BIOS, Some("Early Microcode Update")),
            (OS, Some("SGX Late Microcode Update")),
            (OS, Some("TXT SINIT")),
            (BIOS, None),
            (BIOS, None),
            (BIOS, None),
            (None, None),
            (OS, Some("SEAMLDR ACM")),
        ];
        let tdx_names = [(OS, Some("TDX Module")), (OS, Some("TDX Module")), (OS, Some("TDX Late Microcode Update"))];
        Self {
            tcb: LevelTcb {
                sgxtcbcomponents: components(&sgx, &sgx_names),
                pcesvn,
                tdxtcbcomponents: components(&tdx, &tdx_names),
            },
            tcb_date: date.into(),
            tcb_status: status.as_str().into(),
            advisory_ids: if status == TcbStatus::UpToDate { Vec::new() } else { advisories() },
        }
    }
}

fn components(svns: &[u8], names: &[(Option<&'static str>, Option<&'static str>)]) -> Vec<Component> {
    (0..16)
        .map(|i| {
            let (category, kind) = names.get(i).copied().unwrap_or_default();
            Component { svn: svns.get(i).copied().unwrap_or_default(), category, kind }
        })
        .collect()
}

fn advisories() -> Vec<String> {
    vec!["INTEL-SA-01036".into(), "INTEL-SA-01099".into()]
}

fn window(now: u64) -> (String, String) {
    (date(now.saturating_sub(HOUR)), date(now + COLLATERAL_DAYS * DAY))
}

/// A moment as collateral writes it.
#[must_use]
pub fn date(seconds: u64) -> String {
    UnixTime(seconds).to_string()
}
