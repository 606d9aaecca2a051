//! Turns levels of platform, module and quoting enclave into the cases of step 12.
//! It does not judge them.

use vouchsafe_simulator::tdx::{CollateralSpec, QuoteSpec};

use crate::{
    cases::{Cases, Files, authentic, refused},
    machine::Machine,
};

pub fn cases(cases: &mut Cases, machine: &Machine) {
    let mut one = |name: &str, what: &str, code, files: Files| {
        cases.case(&format!("level-{name}"), what, refused(12, code), files);
    };
    let quote = |change: fn(&mut QuoteSpec)| machine.with_quote(change);
    let spec = |change: fn(&mut CollateralSpec)| machine.with_spec(change);
    one(
        "none",
        "The platform meets no level of the TCB info.",
        "TCB_LEVEL_NONE",
        spec(|s| s.tcb_info.tcb_levels.truncate(1)).into_iter().chain(quote(|q| q.body.tee_tcb_svn[2] = 1)).collect(),
    );
    one("no-levels", "The TCB info has no levels.", "TCB_LEVEL_NONE", spec(|s| s.tcb_info.tcb_levels.clear()));
    one(
        "module-unknown",
        "The TCB info does not know the major version of the TDX module.",
        "TDX_MODULE_UNKNOWN",
        quote(|q| q.body.tee_tcb_svn[1] = 2),
    );
    one(
        "module-old",
        "The TDX module is older than every level of the TCB info.",
        "TDX_MODULE_LEVEL_NONE",
        quote(|q| q.body.tee_tcb_svn[0] = 1),
    );
    one(
        "module-signer",
        "The TDX module has a signer that the TCB info does not name.",
        "TDX_MODULE_SIGNER",
        quote(|q| q.body.mr_signer_seam[0] = 1),
    );
    one(
        "module-attributes",
        "The TDX module has attributes that the TCB info does not name.",
        "TDX_MODULE_ATTRIBUTES",
        quote(|q| q.body.seam_attributes[0] = 1),
    );
    one(
        "revoked",
        "The platform's level is revoked.",
        "TCB_REVOKED",
        spec(|s| s.tcb_info.tcb_levels[0].tcb_status = "Revoked".to_owned()),
    );
    one(
        "advisory",
        "An advisory's name holds a line end.",
        "ADVISORIES_UNREADABLE",
        spec(|s| s.tcb_info.tcb_levels[0].advisory_ids = vec!["INTEL\n".to_owned()]),
    );
    for status in [
        "SWHardeningNeeded",
        "ConfigurationNeeded",
        "ConfigurationAndSWHardeningNeeded",
        "OutOfDate",
        "OutOfDateConfigurationNeeded",
    ] {
        let what = format!("Nothing for verification: Intel calls the platform {status}.");
        let files = machine.with_spec(|s| s.tcb_info.tcb_levels[0].tcb_status = status.to_owned());
        cases.case(&format!("accepted-status-{}", status.to_lowercase()), &what, authentic(), files);
    }
}
