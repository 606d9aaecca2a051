//! Turns a quote and its collateral into [`Authentic`], by thirteen numbered steps in a fixed order.
//! It does not say whether the evidence is wanted: a debug TD on an outdated platform passes, and its facts say so.
//!
//! Everything before step 8 works on bytes nobody vouches for. Steps 8 to 13 are the crate `dcap-qvl`'s, in one call,
//! with what it leaves out beside it: its refusals come first, then ours (two readings, the list's issuer, the advisories).
//! Facts exist only after them.

use super::{
    TdReport, TdxError, TdxFacts, chain,
    collateral::{Chains, Items, Window, sizes},
    frame::{Body, Frame, Header},
    pck,
    pck::Platform,
    qvl,
    qvl::Statuses,
};
use crate::{
    Mode, UnixTime, VerifyError,
    anchors::Anchors,
    evidence::TdxCollateral,
    verify::{Authentic, Facts, Steps},
};

/// The orchestrator for TDX.
pub(crate) fn verify_tdx(
    quote: &[u8],
    collateral: &TdxCollateral,
    anchors: &Anchors,
    now: UnixTime,
) -> Result<Authentic, VerifyError> {
    let mut steps = Steps::new();
    let root = anchors.tdx_root()?;

    // 1. Sizes: caps before any parsing.
    sizes(quote, collateral)?;
    steps.passed("sizes", format!("quote {} bytes, nine items of collateral", quote.len()));

    // 2. Header: appendix A.3.1, offsets 0 to 47.
    let header = Header::read(quote)?;
    steps.passed("header", format!("version {}, ECDSA P-256, TDX, Intel's quoting enclave", header.version));

    // 3. Body: appendices A.3.2 and A.4, the TD report's type and size.
    let body = Body::read(quote, header)?;
    steps.passed("body", format!("type {}", body.kind));

    // 4. Frame: appendices A.3.8 to A.3.11, every length fits and nothing follows; reserved bytes of the
    // quoting enclave's report are zero.
    let frame = Frame::new(quote, body)?;
    steps.passed("frame", "every declared length fits exactly".into());

    // 5. Collateral: every item well-formed, TCB info and QE identity of TDX.
    let chains = Chains::split(frame.pck_chain, collateral)?;
    let items = Items::read(&chains, collateral, root)?;
    items.kinds()?;
    steps.passed("collateral", "TCB info, QE identity, two revocation lists, three chains".into());

    // 6. Windows: every item, and every certificate, at the relying party's time.
    let windows = items.windows()?;
    in_force(&windows, now)?;
    let (oldest_issue, first_expiry) = span(&windows);
    steps.passed("windows", format!("collateral of {oldest_issue} and later, in force until {first_expiry}"));

    // 7. Platform: the simulation marker, the root, the PCK certificate's SGX extension against the TCB info.
    chain::marker(&items, anchors.mode())?;
    chain::roots(&chains, root)?;
    let platform = pck::read(&items.pck)?;
    is_meant(&items, &platform)?;
    steps.passed("platform", format!("FMSPC {}, PCEID {}", hex::encode(platform.fmspc), hex::encode(platform.pce_id)));

    // 8. Chains: PCK certificate and signers under the root, neither they nor their authority revoked.
    chain::names(&items)?;
    let claims = qvl::verify(quote, collateral, &items, root, now)?;
    let report = TdReport::read(&frame, body);
    let crl_numbers = (items.root_crl.number, items.pck_crl.number);
    // No vector: nobody knows bytes that dcap-qvl and this crate read differently; `qvl`'s own tests show the comparison.
    qvl::same(&claims, header, &platform, crl_numbers, &report)?;
    chain::list_issuer(&items, &chains)?;
    steps.passed("chains", chain_detail(anchors.mode()));

    // 9. Statements: TCB info and QE identity, over the text as received.
    let evaluation_number = claims.tcb.eval_data_number;
    steps.passed("statements", format!("TCB info and QE identity signed, evaluation {evaluation_number} or later"));

    // 10. Quoting enclave: its report signed by the platform's key, its identity Intel's.
    let Statuses { all: status, platform: platform_status, qe: qe_status } = Statuses::of(&claims);
    steps.passed("quoting enclave", format!("signed by the platform's key, {}", qe_status.as_str()));

    // 11. Signature: over header and body as received, by the key that the quoting enclave vouches for.
    steps.passed("signature", "verified over header and body as received".into());

    // 12. TCB: the level that processor, provisioning enclave and TDX module meet, at launch and now.
    let advisories = qvl::advisories(&claims)?;
    let tcb_date = qvl::tcb_date(&claims)?;
    steps.passed("tcb", format!("{}, level of {tcb_date}, {} advisories", status.as_str(), advisories.len()));

    // 13. Attributes: table 3.23; reserved bits zero, not migratable, SEPT_VE_DISABLE.
    steps.passed("attributes", format!("{:#018x}", report.attributes.0));

    let facts = TdxFacts {
        quote_version: header.version,
        body: report,
        status,
        platform_status,
        qe_status,
        advisories,
        tcb_date,
        evaluation_number,
        fmspc: platform.fmspc,
        pce_id: platform.pce_id,
        pce_svn: platform.pce_svn,
        cpu_svn: platform.cpu_svn,
        ppid: platform.ppid,
        platform_instance: platform.instance,
        dynamic_platform: platform.dynamic,
        cached_keys: platform.cached,
        smt: platform.smt,
        root_crl_number: crl_numbers.0,
        pck_crl_number: crl_numbers.1,
        oldest_issue,
        first_expiry,
    };
    Ok(Authentic::new(anchors, now, Facts::Tdx(Box::new(facts)), steps))
}

fn in_force(windows: &[Window], now: UnixTime) -> Result<(), TdxError> {
    for Window { item, from, until } in windows.iter().copied() {
        if now.0 < from {
            return Err(TdxError::NotYetValid { item });
        }
        if now.0 > until {
            return Err(TdxError::Expired { item });
        }
    }
    Ok(())
}

/// Issue of the oldest item that is no certificate, and the last second of the first item that runs out.
fn span(windows: &[Window; 9]) -> (UnixTime, UnixTime) {
    let issues = windows.iter().take(4).map(|window| window.from);
    let ends = windows.iter().map(|window| window.until);
    (UnixTime(issues.min().unwrap_or(0)), UnixTime(ends.min().unwrap_or(0)))
}

/// The TCB info speaks of this kind of platform.
fn is_meant(items: &Items<'_>, platform: &Platform) -> Result<(), TdxError> {
    let (fmspc, pce_id) = items.tcb_info.platforms()?;
    if fmspc != platform.fmspc {
        return Err(TdxError::Fmspc);
    }
    if pce_id != platform.pce_id {
        return Err(TdxError::PceId);
    }
    Ok(())
}

fn chain_detail(mode: Mode) -> String {
    let root = match mode {
        Mode::Hardware => "Intel's",
        Mode::Simulation => "the SIMULATED",
    };
    format!("PCK certificate and signers under {root} root, none revoked")
}
