//! Every rule with edited facts: a control that passes, then one change and the one code that it must give.

mod dated;
mod session;
mod snp;
mod tdx;

use std::collections::BTreeSet;

use vouchsafe_attestation::{
    Ed25519Public, Facts as Evidence, Mode, UnixTime,
    snp::{
        Cpuid, CrlFacts, FirmwareVersion, GuestPolicy, KeyInfo, LeafKind, PlatformInfo, Product, Report, SnpFacts, Tcb,
    },
    tdx::{PckFlag, TcbStatus, Td15, TdAttributes, TdReport, TdxFacts},
};

use crate::{
    Check, Expected, Refusal, Rules,
    facts::{Facts, Root},
    rules::judge,
    table::Table,
};

const NOW: UnixTime = UnixTime(1_772_323_200); // 2026-03-01
const DAY: u64 = 86_400;
const CONFIG: [u8; 32] = [4; 32];
const RELEASE: [u8; 64] = {
    let mut bytes = [0; 64];
    bytes[0] = 7;
    bytes
};

fn genoa() -> Tcb {
    Tcb { fmc: None, bootloader: 0x0a, tee: 0, snp: 0x19, microcode: 0x54 }
}

fn report() -> Report {
    let firmware = FirmwareVersion { major: 1, minor: 55, build: 43 };
    Report {
        version: 5,
        guest_svn: 0,
        policy: GuestPolicy(0x30000),
        family_id: [0; 16],
        image_id: [0; 16],
        vmpl: 0,
        signature_algo: 1,
        current_tcb: genoa(),
        platform_info: PlatformInfo(0x25),
        key_info: KeyInfo(0),
        report_data: RELEASE,
        measurement: [5; 48],
        host_data: CONFIG,
        id_key_digest: [0; 48],
        author_key_digest: [0; 48],
        report_id: [0; 32],
        report_id_ma: [0xff; 32],
        reported_tcb: genoa(),
        cpuid: Some(Cpuid { family: 0x19, model: 0x11, stepping: 1 }),
        chip_id: [6; 64],
        committed_tcb: genoa(),
        current: firmware,
        committed: firmware,
        launch_tcb: genoa(),
        launch_mit_vector: Some(1),
        current_mit_vector: Some(1),
    }
}

fn snp_facts() -> SnpFacts {
    SnpFacts {
        product: Product::Genoa,
        leaf_kind: LeafKind::Vcek,
        csp: None,
        crl: CrlFacts { number: 5, this_update: UnixTime(NOW.0 - DAY), next_update: UnixTime(NOW.0 + DAY) },
        report: report(),
        chip_id: [6; 64],
    }
}

fn tdx_facts() -> TdxFacts {
    let mut mr_config_id = [0; 48];
    mr_config_id[..32].copy_from_slice(&CONFIG);
    TdxFacts {
        quote_version: 5,
        body: TdReport {
            tee_tcb_svn: [1; 16],
            mr_seam: [9; 48],
            mr_signer_seam: [0; 48],
            seam_attributes: [0; 8],
            attributes: TdAttributes(1 << 28),
            xfam: 0x602e7,
            mr_td: [5; 48],
            mr_config_id,
            mr_owner: [0; 48],
            mr_owner_config: [0; 48],
            rtmr: [[10; 48], [11; 48], [12; 48], [13; 48]],
            report_data: RELEASE,
            v15: Some(Td15 { tee_tcb_svn2: [1; 16], mr_service_td: [0; 48] }),
        },
        status: TcbStatus::UpToDate,
        platform_status: TcbStatus::UpToDate,
        qe_status: TcbStatus::UpToDate,
        advisories: Vec::new(),
        tcb_date: UnixTime(NOW.0 - 100 * DAY),
        evaluation_number: 19,
        fmspc: [0x90, 0xc0, 0x6f, 0, 0, 0],
        pce_id: [0; 2],
        pce_svn: 13,
        cpu_svn: [1; 16],
        ppid: [6; 16],
        platform_instance: None,
        dynamic_platform: PckFlag::Yes,
        cached_keys: PckFlag::Yes,
        smt: PckFlag::Yes,
        root_crl_number: 1,
        pck_crl_number: 1,
        oldest_issue: UnixTime(NOW.0 - DAY),
        first_expiry: UnixTime(NOW.0 + DAY),
    }
}

fn snp_text() -> String {
    format!(
        "version = 1\nmode = \"hardware\"\nextends = \"hardware-snp-strict\"\n[sev-snp]\nmeasurements = [\"{}\"]\n\
         config_digests = [\"{}\"]\nplatforms = [\"{}\"]\n{}",
        hex::encode([5; 48]),
        hex::encode(CONFIG),
        hex::encode([6; 64]),
        models(),
    )
}

fn tdx_text() -> String {
    let registers: String = (0..4).map(|n| format!("rtmr{n} = [\"{}\"]\n", hex::encode([10 + n as u8; 48]))).collect();
    format!(
        "version = 1\nmode = \"hardware\"\nextends = \"hardware-tdx-strict\"\n[tdx]\nmr_td = [\"{}\"]\n{registers}\
         config_digests = [\"{}\"]\nplatforms = [\"{}\"]\n{}",
        hex::encode([5; 48]),
        hex::encode(CONFIG),
        hex::encode([6; 16]),
        models(),
    )
}

fn models() -> String {
    format!("[[models]]\nid = \"m\"\nvendor_keys = [\"{}\"]\nmin_sequence = 3\n", Ed25519Public([8; 32]))
}

/// Facts of one technology, as verification would hand them over.
trait Found {
    fn evidence(&self) -> Evidence;

    fn at(&self, at: UnixTime) -> Facts {
        Facts { mode: Mode::Hardware, root: Root::Named, at, evidence: self.evidence() }
    }
}

impl Found for SnpFacts {
    fn evidence(&self) -> Evidence {
        Evidence::SevSnp(Box::new(self.clone()))
    }
}

impl Found for TdxFacts {
    fn evidence(&self) -> Evidence {
        Evidence::Tdx(Box::new(self.clone()))
    }
}

fn parse(text: &str) -> Rules {
    Rules::parse(text).unwrap().0
}

fn reasons(facts: &Facts, rules: &Rules) -> Vec<&'static str> {
    let (table, _) = judge(facts, rules, &Expected::Release { report_data: RELEASE });
    table.reasons.iter().map(|reason| reason.code).collect()
}

fn judged(facts: &impl Found, rules: &Rules) -> Table {
    judge(&facts.at(NOW), rules, &Expected::Release { report_data: RELEASE }).0
}

fn codes(facts: &impl Found, rules: &Rules) -> Vec<&'static str> {
    judged(facts, rules).reasons.iter().map(|reason| reason.code).collect()
}

#[test]
fn root_mode_and_technology_are_looked_at_first() {
    type Edit = fn(&mut Facts);
    let both = parse(&snp_text().replace("mode = ", "tee = [\"sev-snp\"]\nmode = "));
    let cases: [(&[&str], Edit); 3] = [
        (&[], |_| {}),
        (&["ROOT_MISMATCH"], |f| f.root = Root::Other),
        (&["MODE_NOT_ALLOWED"], |f| f.mode = Mode::Simulation),
    ];
    for (wanted, edit) in cases {
        let mut facts = snp_facts().at(NOW);
        edit(&mut facts);
        assert_eq!(reasons(&facts, &both), wanted);
        let mut facts = tdx_facts().at(NOW);
        edit(&mut facts);
        assert_eq!(reasons(&facts, &parse(&tdx_text())), wanted);
    }
    assert_eq!(codes(&tdx_facts(), &both), ["TEE_NOT_ALLOWED"]);
    assert_eq!(codes(&snp_facts(), &parse(&tdx_text())), ["TEE_NOT_ALLOWED"]);
}

#[test]
fn another_root_outranks_every_other_reason() {
    let rules = parse(&snp_text());
    let mut facts = snp_facts();
    facts.report.vmpl = 1;
    let mut facts = facts.at(NOW);
    facts.root = Root::Other;
    let (table, _) = judge(&facts, &rules, &Expected::Release { report_data: RELEASE });
    let refusal = Refusal::new(table.reasons, rules.mode, rules.name, table.rows);
    assert_eq!((refusal.code(), refusal.exit()), ("ROOT_MISMATCH", 2));
}

#[test]
fn one_policy_may_accept_both_technologies_each_under_its_own_rules() {
    let mut rules = parse(&snp_text());
    let tdx = parse(&tdx_text());
    rules.tee.extend(tdx.tee.clone());
    rules.tdx = tdx.tdx;
    assert_eq!((codes(&snp_facts(), &rules), codes(&tdx_facts(), &rules)), (Vec::new(), Vec::new()));
    let mut facts = tdx_facts();
    facts.body.mr_td = [1; 48];
    assert_eq!(codes(&facts, &rules), ["MR_TD_NOT_ALLOWED"]);
    let mut facts = snp_facts();
    facts.report.measurement = [1; 48];
    assert_eq!(codes(&facts, &rules), ["MEASUREMENT_NOT_ALLOWED"]);
}

#[test]
fn a_simulated_verdict_says_so_in_its_first_line() {
    let simulated = |text: String, base: &str, tee: &str| {
        let own = format!("tee = [\"{tee}\"]\nmode = \"simulation\"");
        let text = text.replace("mode = \"hardware\"", &own).replace(base, "simulation");
        parse(&format!("{text}[root]\npath = \"r\"\nsha256 = \"{}\"\n", "00".repeat(32)))
    };
    let rules = simulated(tdx_text(), "hardware-tdx-strict", "tdx");
    let mut facts = tdx_facts().at(NOW);
    facts.mode = Mode::Simulation;
    assert_eq!(reasons(&facts, &rules), [""; 0]);
    let rules = simulated(snp_text(), "hardware-snp-strict", "sev-snp");
    let mut facts = snp_facts();
    facts.report.vmpl = 1;
    let mut facts = facts.at(NOW);
    facts.mode = Mode::Simulation;
    let (table, _) = judge(&facts, &rules, &Expected::Release { report_data: RELEASE });
    assert!(table.rows[0].fact.starts_with("SIMULATED") && table.rows[0].proven_by.contains("SIMULATED"));
    let refusal = Refusal::new(table.reasons, rules.mode, rules.name, table.rows);
    for text in [refusal.to_string(), refusal.table()] {
        assert!(text.starts_with("SIMULATED: "), "{text}");
    }
    assert_eq!((refusal.code(), refusal.to_json()["simulated"].as_bool()), ("VMPL_NOT_ALLOWED", Some(true)));
}

#[test]
fn codes_are_unique_and_every_one_is_tested() {
    let unique: BTreeSet<_> = Check::ALL.iter().map(|check| check.code()).collect();
    assert_eq!(unique.len(), Check::ALL.len());
    let tested = [
        include_str!("mod.rs"),
        include_str!("snp.rs"),
        include_str!("tdx.rs"),
        include_str!("dated.rs"),
        include_str!("session.rs"),
    ]
    .concat();
    for check in Check::ALL {
        assert!(tested.contains(&format!("\"{}\"", check.code())), "no test names {}", check.code());
        assert!(!check.remedy().is_empty() && !check.subject().is_empty());
    }
}
