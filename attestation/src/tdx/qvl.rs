//! Turns the answer of the crate `dcap-qvl` into claims, or into one of our codes.
//! It never shows that crate's texts: they repeat what a peer wrote.
//!
//! The crate answers in texts. This table is that of the one version that `Cargo.toml` allows; a test compares.

use dcap_qvl::{
    QuoteClaims, QuoteCollateralV3, QuotePolicy, TcbStatus as Theirs,
    policy::PckCertFlag,
    quote::{Report, TDReport10},
    verify::QuoteVerifier,
};

use super::{
    Item, PckFlag, TcbStatus, Td15, TdAttributes, TdReport, TdxError, chain, collateral::Items, frame::Header,
    pck::Platform,
};
use crate::{UnixTime, evidence::TdxCollateral};

/// The version that [`TABLE`] was read from.
#[cfg(test)]
const VERSION: &str = "0.7.1";

/// What a text stands for.
#[derive(Debug, Clone, Copy)]
enum Meaning {
    /// This.
    Code(TdxError),
    /// Something about certificates and lists: [`chain::explain`] finds out.
    Chain,
}

use Meaning::{Chain, Code};

/// How an error begins, or one of its causes, the outermost first; and what it means. In the order of that crate's work.
///
/// What steps 1 to 7 decide first is not here. `attestation/tests/tdx_texts.rs` brings every row about.
const TABLE: &[(&str, Meaning)] = &[
    ("Failed to parse root CA CRL", Chain),
    ("Failed to parse PCK CRL", Chain),
    ("CertRevoked", Chain),
    ("Failed to parse TCB Info leaf certificate", Chain),
    ("Failed to parse QE Identity leaf certificate", Chain),
    ("Failed to parse PCK certificate", Chain),
    ("Failed to verify certificate chain", Chain),
    ("TCB Info signer must be issued directly by the root CA", Chain),
    ("QE Identity signer must be issued directly by the root CA", Chain),
    ("Signature is invalid for tcb_info", Code(TdxError::TcbInfoSignature)),
    ("Signature is invalid for qe_identity", Code(TdxError::QeIdentitySignature)),
    ("Signature is invalid for qe_report", Code(TdxError::QeReportSignature)),
    ("QE report hash mismatch", Code(TdxError::QeReportData)),
    ("QE MRSIGNER mismatch", Code(TdxError::QeIdentityMismatch)),
    ("QE report validation failed", Code(TdxError::QeIdentityMismatch)),
    ("QE ISVPRODID mismatch", Code(TdxError::QeIdentityMismatch)),
    ("QE MISCSELECT mismatch", Code(TdxError::QeIdentityMismatch)),
    ("QE ATTRIBUTES mismatch", Code(TdxError::QeIdentityMismatch)),
    ("QE ISVSVN", Code(TdxError::QeLevelNone)),
    ("No TCB levels found in QE Identity", Code(TdxError::QeLevelNone)),
    ("ISV enclave report signature is invalid", Code(TdxError::QuoteSignature)),
    ("No matching TCB level found", Code(TdxError::TcbLevelNone)),
    ("No TDX module identity with id", Code(TdxError::TdxModuleUnknown)),
    ("TDX module ISVSVN", Code(TdxError::TdxModuleLevelNone)),
    ("TDX module MRSIGNER mismatch", Code(TdxError::TdxModuleSigner)),
    ("TDX module SEAMATTRIBUTES", Code(TdxError::TdxModuleAttributes)),
    ("TCB status is invalid: Revoked", Code(TdxError::TcbRevoked)),
    ("Reserved bits in TD attributes are set", Code(TdxError::TdAttributesReserved)),
    ("TD migration is enabled", Code(TdxError::TdMigratable)),
    ("SERVTD_EXT is enabled", Code(TdxError::TdServtdExt)),
    ("SEPT_VE_DISABLE is not enabled", Code(TdxError::SeptVeDisable)),
];

/// Steps 8 to 13 by `dcap-qvl`: chains, statements, quoting enclave, signature, level, attributes.
///
/// Debug, service TDs and every level but a revoked one pass: they are the appraisal's words.
pub(crate) fn verify(
    quote: &[u8],
    collateral: &TdxCollateral,
    items: &Items<'_>,
    root: &[u8],
    now: UnixTime,
) -> Result<QuoteClaims, TdxError> {
    QuoteVerifier::new(root.to_vec())
        .allow_debug(true)
        .allow_service_td(true)
        .verify_with_policy(quote, theirs(collateral), now.0, &QuotePolicy::claims_only(now.0))
        .map_err(|error| match error.chain().find_map(|cause| meaning(&cause.to_string())) {
            Some(Code(error)) => error,
            Some(Chain) => chain::explain(items),
            None => TdxError::QuoteRefused,
        })
}

fn meaning(text: &str) -> Option<Meaning> {
    TABLE.iter().find(|(start, _)| text.starts_with(start)).map(|(_, meaning)| *meaning)
}

/// The PCK chain comes from the quote alone; the issuer chain of the PCK list is not read there.
fn theirs(collateral: &TdxCollateral) -> QuoteCollateralV3 {
    QuoteCollateralV3 {
        pck_crl_issuer_chain: String::new(),
        root_ca_crl: collateral.root_ca_crl.clone(),
        pck_crl: collateral.pck_crl.clone(),
        tcb_info_issuer_chain: collateral.tcb_info_issuer_chain.clone(),
        tcb_info: collateral.tcb_info.clone(),
        tcb_info_signature: collateral.tcb_info_signature.clone(),
        qe_identity_issuer_chain: collateral.qe_identity_issuer_chain.clone(),
        qe_identity: collateral.qe_identity.clone(),
        qe_identity_signature: collateral.qe_identity_signature.clone(),
        pck_certificate_chain: None,
    }
}

/// The signatures were verified over what that crate read, and the facts are what is read here: both must have read the same.
pub(crate) fn same(
    claims: &QuoteClaims,
    header: Header,
    platform: &Platform,
    crl_numbers: (u32, u32),
    report: &TdReport,
) -> Result<(), TdxError> {
    let theirs = &claims.platform;
    if claims.header.version == header.version
        && (theirs.root_ca_crl_num, theirs.pck_crl_num) == crl_numbers
        && their_platform(claims).as_ref() == Some(platform)
        && their_report(&claims.report).as_ref() == Some(report)
    {
        return Ok(());
    }
    Err(TdxError::QuoteAmbiguous)
}

fn their_platform(claims: &QuoteClaims) -> Option<Platform> {
    let pck = &claims.platform.pck;
    let flag = |theirs| match theirs {
        PckCertFlag::False => PckFlag::No,
        PckCertFlag::True => PckFlag::Yes,
        PckCertFlag::Undefined => PckFlag::Undefined,
    };
    Some(Platform {
        ppid: pck.ppid.as_slice().try_into().ok()?,
        cpu_svn: pck.cpu_svn,
        pce_svn: pck.pce_svn,
        pce_id: pck.pce_id.as_slice().try_into().ok()?,
        fmspc: pck.fmspc,
        instance: pck.platform_instance_id,
        dynamic: flag(pck.dynamic_platform),
        cached: flag(pck.cached_keys),
        smt: flag(pck.smt_enabled),
    })
}

fn their_report(theirs: &Report) -> Option<TdReport> {
    let read = |r: &TDReport10, v15| TdReport {
        tee_tcb_svn: r.tee_tcb_svn,
        mr_seam: r.mr_seam,
        mr_signer_seam: r.mr_signer_seam,
        seam_attributes: r.seam_attributes,
        attributes: TdAttributes(u64::from_le_bytes(r.td_attributes)),
        xfam: u64::from_le_bytes(r.xfam),
        mr_td: r.mr_td,
        mr_config_id: r.mr_config_id,
        mr_owner: r.mr_owner,
        mr_owner_config: r.mr_owner_config,
        rtmr: [r.rt_mr0, r.rt_mr1, r.rt_mr2, r.rt_mr3],
        report_data: r.report_data,
        v15,
    };
    match theirs {
        Report::TD10(r) => Some(read(r, None)),
        Report::TD15(r) => {
            let v15 = Td15 { tee_tcb_svn2: r.tee_tcb_svn2, mr_service_td: r.mr_service_td };
            Some(read(&r.base, Some(v15)))
        }
        Report::SgxEnclave(_) | Report::TD15Ex(_) => None,
    }
}

/// The three statuses of a verified quote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Statuses {
    pub(crate) all: TcbStatus,
    pub(crate) platform: TcbStatus,
    pub(crate) qe: TcbStatus,
}

impl Statuses {
    pub(crate) fn of(claims: &QuoteClaims) -> Self {
        let qe = status(claims.qe.tcb_level.tcb_status);
        let mut all = status(claims.tcb.status);
        // That crate compares with what runs now only to advise a relaunch: one that got older would not show.
        if let Some(current) = &claims.platform.current_tcb_level {
            all = all.and_current(status(current.tcb_status));
        }
        Self { all: all.and_qe(qe), platform: status(claims.platform.tcb_level.tcb_status), qe }
    }
}

fn status(theirs: Theirs) -> TcbStatus {
    match theirs {
        Theirs::UpToDate => TcbStatus::UpToDate,
        Theirs::SWHardeningNeeded => TcbStatus::SwHardeningNeeded,
        Theirs::ConfigurationNeeded => TcbStatus::ConfigurationNeeded,
        Theirs::ConfigurationAndSWHardeningNeeded => TcbStatus::ConfigurationAndSwHardeningNeeded,
        Theirs::OutOfDate => TcbStatus::OutOfDate,
        Theirs::OutOfDateConfigurationNeeded => TcbStatus::OutOfDateConfigurationNeeded,
        Theirs::TDRelaunchAdvised => TcbStatus::TdRelaunchAdvised,
        Theirs::TDRelaunchAdvisedConfigurationNeeded => TcbStatus::TdRelaunchAdvisedConfigurationNeeded,
        Theirs::Revoked => TcbStatus::Revoked,
    }
}

/// Intel's names: capital letters, digits and hyphens.
const MAX_ADVISORY: usize = 32;
const MAX_ADVISORIES: usize = 64;

/// When the level was set that launch met, or the one that is met now, where that is older.
pub(crate) fn tcb_date(claims: &QuoteClaims) -> Result<UnixTime, TdxError> {
    let launch = UnixTime(claims.platform.tcb_date_tag);
    let Some(current) = &claims.platform.current_tcb_level else { return Ok(launch) };
    let malformed = |_| TdxError::Malformed { item: Item::TcbInfo };
    Ok(launch.min(UnixTime::parse_rfc3339(&current.tcb_date).map_err(malformed)?))
}

/// The advisories of a verified quote, of launch and of what runs now; a name that nobody could write into a policy is refused, not left out.
pub(crate) fn advisories(claims: &QuoteClaims) -> Result<Vec<String>, TdxError> {
    let readable = |name: &String| {
        let letter = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-';
        (1..=MAX_ADVISORY).contains(&name.len()) && name.bytes().all(letter)
    };
    let mut names = claims.tcb.advisory_ids.clone();
    for name in claims.platform.current_tcb_level.iter().flat_map(|level| &level.advisory_ids) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    if names.len() > MAX_ADVISORIES || !names.iter().all(readable) {
        return Err(TdxError::Advisories);
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn the_table_is_of_the_version_in_use() {
        let lock = include_str!("../../../Cargo.lock");
        let found = lock.split("[[package]]").find(|package| package.contains("name = \"dcap-qvl\"\n")).unwrap();
        assert!(
            found.contains(&format!("version = \"{VERSION}\"\n")),
            "dcap-qvl changed: read its verify.rs again, compare every text of TABLE, then change VERSION"
        );
    }

    #[test]
    fn an_unknown_text_has_no_meaning() {
        assert!(meaning("unknown variant `QE report hash mismatch`").is_none());
        assert!(matches!(meaning("QE report hash mismatch"), Some(Code(TdxError::QeReportData))));
    }

    #[test]
    fn no_text_hides_another() {
        for (i, (text, _)) in TABLE.iter().enumerate() {
            assert!(TABLE.iter().take(i).all(|(earlier, _)| !text.starts_with(earlier)), "{text} is never reached");
        }
    }

    /// What dcap-qvl says of its own sample, which is present wherever this crate was built.
    fn sample() -> QuoteClaims {
        let metadata = cargo_metadata::MetadataCommand::new()
            .manifest_path(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
            .other_options(["--offline", "--filter-platform", "x86_64-unknown-linux-gnu"].map(str::to_owned))
            .exec()
            .unwrap();
        let dcap = metadata.packages.iter().find(|package| package.name.as_str() == "dcap-qvl").unwrap();
        let file = |name| fs::read(dcap.manifest_path.parent().unwrap().join("sample").join(name)).unwrap();
        let collateral: QuoteCollateralV3 = serde_json::from_slice(&file("tdx_quote_collateral.json")).unwrap();
        let info: serde_json::Value = serde_json::from_str(&collateral.tcb_info).unwrap();
        let now = UnixTime::parse_rfc3339(info["issueDate"].as_str().unwrap()).unwrap().plus(2 * 3600).0;
        QuoteVerifier::new_prod()
            .verify_with_policy(&file("tdx_quote"), collateral, now, &QuotePolicy::claims_only(now))
            .unwrap()
    }

    /// Every field that is compared, changed alone in what dcap-qvl says, is an ambiguity.
    #[test]
    fn two_readings_are_refused() {
        let good = sample();
        let (platform, report) = (their_platform(&good).unwrap(), their_report(&good.report).unwrap());
        let numbers = (good.platform.root_ca_crl_num, good.platform.pck_crl_num);
        let header = Header { version: good.header.version };
        assert_eq!(same(&good, header, &platform, numbers, &report), Ok(()));
        let of_td: [fn(&mut TDReport10); 17] = [
            |r| r.tee_tcb_svn[15] ^= 1,
            |r| r.mr_seam[47] ^= 1,
            |r| r.mr_signer_seam[0] ^= 1,
            |r| r.seam_attributes[7] ^= 1,
            |r| r.td_attributes[0] ^= 1,
            |r| r.td_attributes[7] ^= 0x80,
            |r| r.xfam[0] ^= 1,
            |r| r.xfam[7] ^= 1,
            |r| r.mr_td[0] ^= 1,
            |r| r.mr_config_id[0] ^= 1,
            |r| r.mr_owner[0] ^= 1,
            |r| r.mr_owner_config[0] ^= 1,
            |r| r.rt_mr0[0] ^= 1,
            |r| r.rt_mr1[0] ^= 1,
            |r| r.rt_mr2[0] ^= 1,
            |r| r.rt_mr3[0] ^= 1,
            |r| r.report_data[63] ^= 1,
        ];
        let of_claims: [fn(&mut QuoteClaims); 15] = [
            |c| c.header.version ^= 1,
            |c| c.platform.root_ca_crl_num += 1,
            |c| c.platform.pck_crl_num += 1,
            |c| c.platform.pck.ppid[0] ^= 1,
            |c| c.platform.pck.ppid.push(0),
            |c| c.platform.pck.cpu_svn[0] ^= 1,
            |c| c.platform.pck.pce_svn ^= 1,
            |c| c.platform.pck.pce_id[1] ^= 1,
            |c| c.platform.pck.pce_id.clear(),
            |c| c.platform.pck.fmspc[5] ^= 1,
            |c| c.platform.pck.platform_instance_id = Some([0x77; 16]),
            |c| c.platform.pck.dynamic_platform = other(c.platform.pck.dynamic_platform),
            |c| c.platform.pck.cached_keys = other(c.platform.pck.cached_keys),
            |c| c.platform.pck.smt_enabled = other(c.platform.pck.smt_enabled),
            |c| c.report = with(&c.report, |_| {}, Some([0; 48])),
        ];
        let mut changed: Vec<QuoteClaims> = Vec::new();
        for change in of_claims {
            let mut claims = good.clone();
            change(&mut claims);
            changed.push(claims);
        }
        for change in of_td {
            changed.push(QuoteClaims { report: with(&good.report, change, None), ..good.clone() });
        }
        for (i, claims) in changed.iter().enumerate() {
            assert_eq!(same(claims, header, &platform, numbers, &report), Err(TdxError::QuoteAmbiguous), "{i}");
        }
        // TDX 1.5: what it adds is compared too.
        let newer = QuoteClaims { report: with(&good.report, |_| {}, Some([7; 48])), ..good.clone() };
        let report = their_report(&newer.report).unwrap();
        assert_eq!(same(&newer, header, &platform, numbers, &report), Ok(()));
        assert_eq!(same(&good, header, &platform, numbers, &report), Err(TdxError::QuoteAmbiguous));
        let other = QuoteClaims { report: with(&good.report, |_| {}, Some([8; 48])), ..good };
        assert_eq!(same(&other, header, &platform, numbers, &report), Err(TdxError::QuoteAmbiguous));
    }

    fn other(flag: PckCertFlag) -> PckCertFlag {
        if flag == PckCertFlag::Undefined { PckCertFlag::False } else { PckCertFlag::Undefined }
    }

    fn with(report: &Report, change: fn(&mut TDReport10), service_td: Option<[u8; 48]>) -> Report {
        let mut base = *report.as_td10().unwrap();
        change(&mut base);
        match service_td {
            None => Report::TD10(base),
            Some(mr_service_td) => {
                Report::TD15(dcap_qvl::quote::TDReport15 { base, tee_tcb_svn2: base.tee_tcb_svn, mr_service_td })
            }
        }
    }
}
