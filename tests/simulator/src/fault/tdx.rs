//! Turns names into wrong TDX quotes and local reports: the module and the quoting enclave sign what they should never say.
//! The collateral beside them is right; `tdx_collateral.rs` has the other faults.

use std::sync::Arc;

use super::{Change, Named, Result, tdx, tdx_bytes};
use crate::{
    keys::EcKey,
    tdx::{TdFields, TdReport, TdxMaking},
};

/// MRTD in a quote of version 4.
const MR_TD: usize = 48 + 136;

/// Faults of quotes and of local reports.
pub(super) const FAULTS: &[Named] = &[
    // ---- framing ----
    tdx_bytes("tdx-quote-empty", "no quote at all", |e| e.quote.clear()),
    tdx_bytes("tdx-quote-truncated", "a quote without its last byte", |e| {
        e.quote.pop();
    }),
    tdx_bytes("tdx-quote-trailing", "a quote with a byte more than it declares", |e| e.quote.push(0)),
    tdx("tdx-quote-version", "a quote of version 3", |m| said(|| m.quote.header.version = 3)),
    tdx("tdx-quote-key-type", "another kind of attestation key is named", |m| said(|| m.quote.header.key_type = 3)),
    tdx("tdx-quote-tee-type", "a quote that says it is from SGX", |m| said(|| m.quote.header.tee_type = 0)),
    tdx("tdx-quote-reserved", "a reserved byte of the header is set, and signed", |m| {
        said(|| m.quote.header.reserved = [0, 0, 0, 1])
    }),
    tdx("tdx-quote-vendor", "the quoting enclave of another vendor", |m| said(|| m.quote.header.vendor[0] ^= 1)),
    tdx("tdx-quote-body-type", "a body of a type that nobody knows", |m| {
        said(|| (m.quote.header.version, m.quote.body_type) = (5, 4))
    }),
    tdx("tdx-cert-data-type", "certification data of another type", |m| said(|| m.quote.cert_type = 1)),
    tdx("tdx-qe-auth-data", "31 bytes of authentication data", |m| {
        said(|| {
            m.quote.qe_auth.pop();
        })
    }),
    // ---- signature ----
    tdx_bytes("tdx-quote-flipped", "one bit of MRTD flipped after signing", |e| flip(&mut e.quote, MR_TD)),
    tdx("tdx-quote-other-key", "signed by a key that the quoting enclave does not vouch for", |m| {
        // The second half stays zero: what is there instead is a fault of its own.
        let mut other = [0; 64];
        other[..32].fill(7);
        said(|| m.quote.qe.report_data = Some(other))
    }),
    tdx("tdx-qe-report-signature", "the quoting enclave's report is signed by another platform's key", |m| {
        m.pck = Arc::new(EcKey::generate()?);
        Ok(())
    }),
    // ---- quoting enclave ----
    tdx("tdx-qe-swapped", "a quoting enclave of another signer", |m| said(|| m.quote.qe.mr_signer[0] ^= 1)),
    tdx("tdx-qe-product", "another enclave of the same signer", |m| said(|| m.quote.qe.isv_prod_id = 1)),
    tdx("tdx-qe-debug", "a quoting enclave in debug mode", |m| said(|| m.quote.qe.attributes[0] |= 2)),
    tdx("tdx-qe-out-of-date", "a quoting enclave with a newer version due", |m| said(|| m.quote.qe.isv_svn = 3)),
    tdx("tdx-qe-ancient", "a quoting enclave older than every known level", |m| said(|| m.quote.qe.isv_svn = 1)),
    // ---- module ----
    tdx("tdx-module-out-of-date", "an older TDX module on a platform that is up to date", |m| {
        body(m, |b| b.tee_tcb_svn[0] = 5)
    }),
    tdx("tdx-module-ancient", "a TDX module older than every known level", |m| body(m, |b| b.tee_tcb_svn[0] = 1)),
    tdx("tdx-module-unknown", "a TDX module of a major version that the TCB info does not know", |m| {
        body(m, |b| b.tee_tcb_svn[1] = 7)
    }),
    tdx("tdx-module-signer", "a TDX module of another signer", |m| body(m, |b| b.mr_signer_seam = [7; 48])),
    tdx("tdx-module-attributes", "a TDX module with attributes", |m| body(m, |b| b.seam_attributes[7] = 0x80)),
    // ---- attributes of the TD ----
    tdx("tdx-debug", "the host may debug the TD", |m| body(m, |b| b.attributes |= 1)),
    tdx("tdx-profiling", "another way for the host to look into the TD", |m| body(m, |b| b.attributes |= 1 << 4)),
    tdx("tdx-sept-ve-disable", "the TD hears of pages that the host takes away", |m| body(m, |b| b.attributes = 0)),
    tdx("tdx-migratable", "a migration TD may take the TD elsewhere", |m| body(m, |b| b.attributes |= 1 << 29)),
    tdx("tdx-pks", "supervisor protection keys", |m| body(m, |b| b.attributes |= 1 << 30)),
    tdx("tdx-key-locker", "Key Locker", |m| body(m, |b| b.attributes |= 1 << 31)),
    tdx("tdx-perfmon", "performance counters of the TD, which the host can read much from", |m| {
        body(m, |b| b.attributes |= 1 << 63)
    }),
    tdx("tdx-attributes-reserved", "a reserved attribute", |m| body(m, |b| b.attributes |= 1 << 40)),
    tdx("tdx-xfam", "an extended feature that the policy does not allow", |m| body(m, |b| b.xfam |= 1 << 8)),
    tdx("tdx-service-td", "a service TD is bound", |m| {
        (m.quote.header.version, m.quote.body_type) = (5, 3);
        body(m, |b| b.mr_service_td = [7; 48])
    }),
    // ---- claims ----
    tdx("tdx-mrtd", "other code was launched", |m| body(m, |b| b.mr_td[47] ^= 1)),
    tdx("tdx-rtmr0", "another firmware configuration", |m| body(m, |b| b.rtmr[0][0] ^= 1)),
    tdx("tdx-rtmr1", "another kernel", |m| body(m, |b| b.rtmr[1][0] ^= 1)),
    tdx("tdx-rtmr2", "another command line or initial disk", |m| body(m, |b| b.rtmr[2][0] ^= 1)),
    tdx("tdx-rtmr3", "something was measured at run time", |m| body(m, |b| b.rtmr[3][0] ^= 1)),
    tdx("tdx-owner", "the host names an owner", |m| body(m, |b| b.mr_owner[0] = 1)),
    tdx("tdx-owner-config", "the host names an owner's configuration", |m| body(m, |b| b.mr_owner_config[0] = 1)),
    tdx("tdx-mrconfigid", "another configuration is bound", |m| body(m, |b| b.mr_config_id[31] ^= 1)),
    tdx("tdx-mrconfigid-tail", "something stands behind the configuration's digest", |m| {
        body(m, |b| b.mr_config_id[47] = 1)
    }),
    tdx("tdx-report-data-last-byte", "REPORTDATA differs in its last byte", |m| body(m, |b| b.report_data[63] ^= 1)),
    tdx("tdx-report-data-first-32-only", "REPORTDATA is right in its first 32 bytes only", |m| {
        body(m, |b| b.report_data[32..48].iter_mut().for_each(|byte| *byte ^= 0xa5))
    }),
    // ---- configuration: what the TD asks its own module ----
    local("tdx-local-config", "the TD's own report names another configuration", |r| r.fields.mr_config_id[31] ^= 1),
    local("tdx-local-measurement", "the TD's own report names other code", |r| r.fields.mr_td[47] ^= 1),
    local("tdx-local-hash", "the hash in the TD's own report is not that of its fields", |r| {
        r.td_info_hash = Some([7; 48]);
    }),
    local("tdx-local-other-question", "the TD's own report answers another question", |r| {
        r.fields.report_data[0] ^= 1;
    }),
];

const fn local(name: &'static str, what: &'static str, change: fn(&mut TdReport)) -> Named {
    Named { name, what, change: Change::TdReport(change) }
}

/// Somebody says something else; nothing else has to change.
fn said(change: impl FnOnce()) -> Result<()> {
    change();
    Ok(())
}

/// The module says something else of the TD.
fn body(making: &mut TdxMaking<'_>, change: impl FnOnce(&mut TdFields)) -> Result<()> {
    change(&mut making.quote.body);
    Ok(())
}

fn flip(bytes: &mut [u8], at: usize) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1;
    }
}
