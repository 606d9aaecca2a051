//! Turns an [`Authentic`] verdict into the `claims` of the conformance interface: every field that the hardware signed.
//! It says nothing of what is wanted; names and forms are those of `docs/evidence.md`.

use serde_json::{Value, json};
use vouchsafe_attestation::{
    Authentic,
    snp::{LeafKind, SnpFacts, Tcb},
    tdx::{PckFlag, TdxFacts},
    verify::Facts,
};

/// All of them, as one flat object; bytes are lower-case hex.
pub fn of(authentic: &Authentic) -> Value {
    match authentic.facts() {
        Facts::SevSnp(facts) => snp(facts),
        Facts::Tdx(facts) => tdx(facts),
    }
}

fn snp(facts: &SnpFacts) -> Value {
    let report = &facts.report;
    json!({
        "product": facts.product.as_str(),
        "leaf": match facts.leaf_kind { LeafKind::Vcek => "vcek", LeafKind::Vlek => "vlek" },
        "csp": facts.csp,
        "version": report.version,
        "guest_svn": report.guest_svn,
        "policy": format!("{:#x}", report.policy.0),
        "family_id": hex::encode(report.family_id),
        "image_id": hex::encode(report.image_id),
        "vmpl": report.vmpl,
        "platform_info": format!("{:#x}", report.platform_info.0),
        "key_info": format!("{:#x}", report.key_info.0),
        "report_data": hex::encode(report.report_data),
        "measurement": hex::encode(report.measurement),
        "host_data": hex::encode(report.host_data),
        "id_key_digest": hex::encode(report.id_key_digest),
        "author_key_digest": hex::encode(report.author_key_digest),
        "report_id": hex::encode(report.report_id),
        "report_id_ma": hex::encode(report.report_id_ma),
        "chip_id": hex::encode(facts.chip_id),
        "chip_id_masked": report.chip_id_masked(),
        "cpuid": report.cpuid.map(|c| json!({ "family": c.family, "model": c.model, "stepping": c.stepping })),
        "current_tcb": tcb(&report.current_tcb),
        "committed_tcb": tcb(&report.committed_tcb),
        "launch_tcb": tcb(&report.launch_tcb),
        "reported_tcb": tcb(&report.reported_tcb),
        "current_firmware": report.current.to_string(),
        "committed_firmware": report.committed.to_string(),
        "launch_mit_vector": report.launch_mit_vector.map(|v| format!("{v:#x}")),
        "current_mit_vector": report.current_mit_vector.map(|v| format!("{v:#x}")),
        "crl_number": facts.crl.number,
        "crl_this_update": facts.crl.this_update.to_string(),
        "crl_next_update": facts.crl.next_update.to_string(),
    })
}

fn tcb(tcb: &Tcb) -> Value {
    json!({ "fmc": tcb.fmc, "bootloader": tcb.bootloader, "tee": tcb.tee, "snp": tcb.snp, "microcode": tcb.microcode })
}

fn tdx(facts: &TdxFacts) -> Value {
    let body = &facts.body;
    let [rtmr0, rtmr1, rtmr2, rtmr3] = body.rtmr.each_ref().map(hex::encode);
    json!({
        "quote_version": facts.quote_version,
        "tee_tcb_svn": hex::encode(body.tee_tcb_svn),
        "tee_tcb_svn2": body.v15.as_ref().map(|v15| hex::encode(v15.tee_tcb_svn2)),
        "mr_seam": hex::encode(body.mr_seam),
        "mr_signer_seam": hex::encode(body.mr_signer_seam),
        "seam_attributes": hex::encode(body.seam_attributes),
        "attributes": format!("{:#x}", body.attributes.0),
        "xfam": format!("{:#x}", body.xfam),
        "mr_td": hex::encode(body.mr_td),
        "mr_config_id": hex::encode(body.mr_config_id),
        "mr_owner": hex::encode(body.mr_owner),
        "mr_owner_config": hex::encode(body.mr_owner_config),
        "mr_service_td": body.v15.as_ref().map(|v15| hex::encode(v15.mr_service_td)),
        "rtmr0": rtmr0,
        "rtmr1": rtmr1,
        "rtmr2": rtmr2,
        "rtmr3": rtmr3,
        "report_data": hex::encode(body.report_data),
        "tcb_status": facts.status.as_str(),
        "platform_tcb_status": facts.platform_status.as_str(),
        "qe_tcb_status": facts.qe_status.as_str(),
        "advisories": facts.advisories,
        "tcb_date": facts.tcb_date.to_string(),
        "tcb_evaluation_number": facts.evaluation_number,
        "fmspc": hex::encode(facts.fmspc),
        "pce_id": hex::encode(facts.pce_id),
        "pce_svn": facts.pce_svn,
        "cpu_svn": hex::encode(facts.cpu_svn),
        "ppid": hex::encode(facts.ppid),
        "platform_instance": facts.platform_instance.map(hex::encode),
        "dynamic_platform": flag(facts.dynamic_platform),
        "cached_keys": flag(facts.cached_keys),
        "smt": flag(facts.smt),
        "root_crl_number": facts.root_crl_number,
        "pck_crl_number": facts.pck_crl_number,
        "oldest_issue": facts.oldest_issue.to_string(),
        "first_expiry": facts.first_expiry.to_string(),
    })
}

fn flag(flag: PckFlag) -> Value {
    match flag {
        PckFlag::Undefined => Value::Null,
        PckFlag::No => json!(false),
        PckFlag::Yes => json!(true),
    }
}
