//! Every rule with edited facts: a control that passes, then one change and the one code that it must give.

use std::collections::BTreeSet;

use vouchsafe_attestation::{
    Claims, Ed25519Public, Mode, Tee, UnixTime,
    claims::{Clock, ModelClaim, Release},
    session::{MerklePath, Tree, leaf, report_data, session_digest},
    snp::{Cpuid, CrlFacts, FirmwareVersion, GuestPolicy, KeyInfo, LeafKind, PlatformInfo, Product, Report, Tcb},
};

use crate::{Check, Expected, Refusal, Rules, facts::Facts, rules::judge};

const NOW: UnixTime = UnixTime(1_772_323_200); // 2026-03-01
const NONCE: [u8; 32] = [1; 32];
const EKM: [u8; 32] = [2; 32];
const SPKI: [u8; 32] = [3; 32];
const HOST_DATA: [u8; 32] = [4; 32];
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
        host_data: HOST_DATA,
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

fn facts() -> Facts {
    Facts {
        mode: Mode::Hardware,
        tee: Tee::SevSnp,
        product: Product::Genoa,
        leaf_kind: LeafKind::Vcek,
        csp: None,
        crl: CrlFacts { number: 5, this_update: UnixTime(NOW.0 - 86_400), next_update: UnixTime(NOW.0 + 86_400) },
        report: report(),
    }
}

fn policy_text() -> String {
    format!(
        "version = 1\nmode = \"hardware\"\nextends = \"hardware-snp-strict\"\n[sev-snp]\nmeasurements = [\"{}\"]\n\
         config_digests = [\"{}\"]\nplatforms = [\"{}\"]\n[[models]]\nid = \"m\"\nvendor_keys = [\"{}\"]\nmin_sequence = 3\n",
        hex::encode([5; 48]),
        hex::encode(HOST_DATA),
        hex::encode([6; 64]),
        Ed25519Public([8; 32]),
    )
}

fn rules(edit: impl Fn(String) -> String) -> Rules {
    Rules::parse(&edit(policy_text())).unwrap().0
}

fn with(line: &str) -> Rules {
    rules(|text| text.replace("[sev-snp]\n", &format!("[sev-snp]\n{line}\n")))
}

fn codes(facts: &Facts, rules: &Rules) -> Vec<&'static str> {
    let (table, _) = judge(facts, rules, &Expected::Release { report_data: RELEASE }, NOW);
    table.reasons.iter().map(|reason| reason.code).collect()
}

#[test]
fn one_edit_gives_its_one_code() {
    type Edit = fn(&mut Facts);
    let cases: &[(&str, Edit)] = &[
        ("MODE_NOT_ALLOWED", |f| f.mode = Mode::Simulation),
        ("TEE_NOT_ALLOWED", |f| f.tee = Tee::Tdx),
        ("MEASUREMENT_NOT_ALLOWED", |f| f.report.measurement[47] ^= 1),
        ("CONFIG_DIGEST_NOT_ALLOWED", |f| f.report.host_data[31] ^= 1),
        ("PLATFORM_NOT_ALLOWED", |f| f.report.chip_id[63] ^= 1),
        ("PLATFORM_NOT_ALLOWED", |f| f.report.chip_id = [0; 64]),
        ("VLEK_NOT_ALLOWED", |f| f.leaf_kind = LeafKind::Vlek),
        ("VLEK_NOT_ALLOWED", |f| {
            f.leaf_kind = LeafKind::Vlek;
            f.csp = Some("cc.example.com".to_owned());
        }),
        ("VERSION_TOO_OLD", |f| f.report.version = 2),
        ("VMPL_NOT_ALLOWED", |f| f.report.vmpl = 1),
        ("VMPL_NOT_ALLOWED", |f| f.report.vmpl = u32::MAX),
        ("DEBUG_ALLOWED", |f| f.report.policy.0 |= 1 << 19),
        ("MIGRATION_ALLOWED", |f| f.report.policy.0 |= 1 << 18),
        ("CXL_ALLOWED", |f| f.report.policy.0 |= 1 << 21),
        ("MIGRATION_AGENT_PRESENT", |f| f.report.report_id_ma[0] = 0),
        ("ALIAS_CHECK_INCOMPLETE", |f| f.report.platform_info.0 = 0x5),
        ("TCB_BELOW_FLOOR", |f| f.report.reported_tcb.snp = 0x16),
        ("TCB_BELOW_FLOOR", |f| f.report.launch_tcb.snp = 0x16),
        ("TCB_BELOW_FLOOR", |f| f.report.launch_tcb.microcode = 0x53),
        ("FIRMWARE_PROVISIONAL", |f| f.report.current_tcb.microcode = 0x55),
        ("FIRMWARE_PROVISIONAL", |f| f.report.current.build += 1),
        ("CPU_MODEL_NOT_LISTED", |f| f.report.cpuid = Some(Cpuid { family: 0x19, model: 0x18, stepping: 1 })),
        ("CRL_TOO_OLD", |f| f.crl.this_update = UnixTime(NOW.0 - 400 * 86_400 - 1)),
        ("CRL_NUMBER_BELOW_FLOOR", |f| f.crl.number = 4),
        ("REPORT_DATA_MISMATCH", |f| f.report.report_data[1] ^= 1),
    ];
    let rules = rules(|text| text);
    assert_eq!(codes(&facts(), &rules), [""; 0], "the control");
    for (code, edit) in cases {
        let mut facts = facts();
        edit(&mut facts);
        assert_eq!(codes(&facts, &rules), [*code]);
    }
}

#[test]
fn a_floor_holds_for_each_of_three_tcbs_and_each_part() {
    let rules = rules(|text| format!("{text}[sev-snp.tcb.Genoa]\nbootloader = 0x0a\ntee = 1\n"));
    let mut facts = facts();
    for tcb in [
        &mut facts.report.current_tcb,
        &mut facts.report.reported_tcb,
        &mut facts.report.committed_tcb,
        &mut facts.report.launch_tcb,
    ] {
        tcb.tee = 1;
    }
    assert_eq!(codes(&facts, &rules), [""; 0]);
    facts.report.committed_tcb = Tcb { fmc: None, bootloader: 9, tee: 0, snp: 0x16, microcode: 0x53 };
    facts.report.current_tcb = facts.report.committed_tcb;
    let (table, _) = judge(&facts, &rules, &Expected::Release { report_data: RELEASE }, NOW);
    assert_eq!(table.reasons.len(), 1);
    let reason = &table.reasons[0];
    for part in ["bootloader 0x09", "tee 0x00", "snp 0x16", "microcode 0x53"] {
        assert!(reason.actual.contains(part), "{reason:?}");
    }
}

#[test]
fn microcode_is_compared_with_its_own_cpu() {
    let rules = rules(|text| text);
    let mut facts = facts();
    let mut at = |model, stepping, microcode| {
        facts.report.cpuid = Some(Cpuid { family: 0x19, model, stepping });
        let tcb = Tcb { microcode, ..genoa() };
        facts.report.current_tcb = tcb;
        facts.report.reported_tcb = tcb;
        facts.report.committed_tcb = tcb;
        facts.report.launch_tcb = tcb;
        codes(&facts, &rules)
    };
    assert_eq!(at(0xa0, 2, 0x19), [""; 0], "Siena counts on its own");
    assert_eq!(at(0xa0, 2, 0x18).len(), 3);
    assert_eq!(at(0x11, 2, 0x4f), [""; 0], "Genoa-X counts on its own");
    assert_eq!(at(0x11, 2, 0x4e).len(), 3);
    assert_eq!(at(0x11, 1, 0x53).len(), 3);
    facts.report.cpuid = None;
    facts.report.launch_tcb.microcode = 0x53;
    facts.report.reported_tcb.microcode = 0x54;
    facts.report.committed_tcb.microcode = 0x54;
    facts.report.current_tcb.microcode = 0x54;
    assert_eq!(codes(&facts, &rules), ["TCB_BELOW_FLOOR"], "without a CPU the highest floor counts");
}

#[test]
fn turin_compares_its_fmc() {
    let rules = with("products = [\"Turin\"]");
    let tcb = Tcb { fmc: Some(1), bootloader: 1, tee: 1, snp: 4, microcode: 0x51 };
    let mut facts = facts();
    facts.product = Product::Turin;
    facts.report.cpuid = Some(Cpuid { family: 0x1a, model: 0x02, stepping: 1 });
    facts.report.current_tcb = tcb;
    facts.report.reported_tcb = tcb;
    facts.report.committed_tcb = tcb;
    facts.report.launch_tcb = tcb;
    assert_eq!(codes(&facts, &rules), [""; 0]);
    facts.report.launch_tcb.fmc = Some(0);
    assert_eq!(codes(&facts, &rules), ["TCB_BELOW_FLOOR"]);
}

#[test]
fn milan_passes_only_when_it_is_listed() {
    let mut facts = facts();
    facts.product = Product::Milan;
    facts.crl.number = 6;
    facts.report.cpuid = Some(Cpuid { family: 0x19, model: 0x01, stepping: 1 });
    let tcb = Tcb { fmc: None, bootloader: 4, tee: 0, snp: 0x18, microcode: 0xdb };
    facts.report.current_tcb = tcb;
    facts.report.reported_tcb = tcb;
    facts.report.committed_tcb = tcb;
    facts.report.launch_tcb = tcb;
    assert_eq!(codes(&facts, &rules(|text| text)), ["PRODUCT_NOT_ALLOWED"]);
    let rules = with("products = [\"Genoa\", \"Milan\"]");
    assert_eq!(codes(&facts, &rules), [""; 0]);
    let (table, _) = judge(&facts, &rules, &Expected::Release { report_data: RELEASE }, NOW);
    assert!(table.notes.iter().any(|note| note.contains("Milan")), "{:?}", table.notes);
}

#[test]
fn what_a_policy_demands_more_is_refused_and_what_it_allows_is_noted() {
    for (line, code) in [
        ("[sev-snp.guest_policy]\nsmt = \"forbidden\"", "SMT_ALLOWED"),
        ("[sev-snp.guest_policy]\nsingle_socket = \"required\"", "SINGLE_SOCKET_NOT_REQUIRED"),
        ("[sev-snp.guest_policy]\nmem_aes_256_xts = \"required\"", "AES_256_XTS_NOT_REQUIRED"),
        ("[sev-snp.guest_policy]\nrapl_disabled = \"required\"", "RAPL_NOT_DISABLED"),
        ("[sev-snp.guest_policy]\nciphertext_hiding = \"required\"", "CIPHERTEXT_HIDING_NOT_REQUIRED"),
        ("[sev-snp.guest_policy]\npage_swap_disabled = \"required\"", "PAGE_SWAP_NOT_DISABLED"),
        ("[sev-snp.platform]\nciphertext_hiding = \"required\"", "CIPHERTEXT_HIDING_OFF"),
    ] {
        let rules = rules(|text| format!("{text}{line}\n"));
        assert_eq!(codes(&facts(), &rules), [code]);
        let mut better = facts();
        better.report.policy.0 = 0x3d2_0000;
        better.report.platform_info.0 |= 1 << 4;
        assert_eq!(codes(&better, &rules), [""; 0], "{line}");
    }
    let mitigations = with("mitigations = 0x3");
    assert_eq!(codes(&facts(), &mitigations), ["MITIGATION_MISSING"]);
    let mut both = facts();
    both.report.launch_mit_vector = Some(7);
    assert_eq!(codes(&both, &mitigations), ["MITIGATION_MISSING"]);
    both.report.current_mit_vector = Some(3);
    assert_eq!(codes(&both, &mitigations), [""; 0]);

    let allow = rules(|text| format!("{text}[sev-snp.guest_policy]\ndebug = \"allowed\"\n"));
    let mut debug = facts();
    debug.report.policy.0 |= 1 << 19;
    let (table, _) = judge(&debug, &allow, &Expected::Release { report_data: RELEASE }, NOW);
    assert!(table.reasons.is_empty());
    assert!(table.notes.iter().any(|n| n.contains("debug")) && table.not_proven.iter().any(|n| n.contains("memory")));
}

#[test]
fn a_provider_key_or_a_masked_chip_satisfies_only_csp() {
    let mut vlek = facts();
    vlek.leaf_kind = LeafKind::Vlek;
    vlek.csp = Some("cc.example.com".to_owned());
    assert_eq!(codes(&vlek, &with("csp = [\"cc.example.com\"]")), [""; 0]);
    assert_eq!(codes(&vlek, &with("csp = [\"other\"]")), ["VLEK_NOT_ALLOWED"]);
    assert_eq!(codes(&vlek, &with("csp = \"any\"")), [""; 0]);
    let any_platform = rules(|text| text.replace(&format!("[\"{}\"]", hex::encode([6; 64])), "\"any\""));
    assert_eq!(codes(&facts(), &any_platform), [""; 0]);
    assert_eq!(codes(&vlek, &any_platform), ["VLEK_NOT_ALLOWED"]);
    let mut masked = facts();
    masked.report.chip_id = [0; 64];
    assert_eq!(codes(&masked, &any_platform), ["PLATFORM_NOT_ALLOWED"]);
}

#[test]
fn every_reason_is_collected() {
    let mut facts = facts();
    facts.report.measurement = [0; 48];
    facts.report.vmpl = 3;
    facts.report.policy.0 |= 1 << 19;
    facts.crl.number = 0;
    let got: BTreeSet<_> = codes(&facts, &rules(|text| text)).into_iter().collect();
    let wanted = ["MEASUREMENT_NOT_ALLOWED", "VMPL_NOT_ALLOWED", "DEBUG_ALLOWED", "CRL_NUMBER_BELOW_FLOOR"];
    assert_eq!(got, wanted.into_iter().collect());
}

// ---- sessions ----

fn claims() -> Claims {
    Claims {
        v: 1,
        mode: Mode::Hardware,
        version: "0.1.0".to_owned(),
        boot_id: [9; 16],
        spki_sha256: SPKI,
        config_digest: HOST_DATA,
        brokers: Vec::new(),
        models: vec![ModelClaim {
            id: "m".to_owned(),
            uid: [1; 32],
            sequence: 3,
            manifest_digest: [2; 32],
            vendor_keys: vec![Ed25519Public([8; 32])],
            usage_policy_digest: [3; 32],
            release: Release::Online,
        }],
        receipt_key: Ed25519Public([7; 32]),
        clock: Clock::HostInfluenced,
    }
}

/// A session of a window of three, and genuine facts for it.
fn session(claims: &[u8]) -> (Facts, MerklePath) {
    let own = leaf(&session_digest(Mode::Hardware, Tee::SevSnp, &NONCE, &EKM, &SPKI, claims));
    let tree = Tree::new(vec![[1; 64], own, [2; 64]]).unwrap();
    let mut facts = facts();
    facts.report.report_data = report_data(Mode::Hardware, Tee::SevSnp, &tree.root(), 3);
    (facts, tree.path(1).unwrap())
}

fn session_codes(claims: &Claims, edit: impl Fn(&mut Facts, &mut MerklePath)) -> Vec<&'static str> {
    let claims = claims.to_bytes();
    let (mut facts, mut merkle) = session(&claims);
    edit(&mut facts, &mut merkle);
    let expected = Expected::Session { nonce: &NONCE, ekm: &EKM, spki_sha256: &SPKI, claims: &claims, merkle: &merkle };
    let (table, _) = judge(&facts, &rules(|text| text), &expected, NOW);
    table.reasons.iter().map(|reason| reason.code).collect()
}

#[test]
fn every_part_of_a_session_counts() {
    let bytes = claims().to_bytes();
    let (facts, merkle) = session(&bytes);
    let rules = rules(|text| text);
    let judged = |nonce: &[u8; 32], ekm: &[u8; 32], spki: &[u8; 32], claims: &[u8], merkle: &MerklePath| {
        let expected = Expected::Session { nonce, ekm, spki_sha256: spki, claims, merkle };
        judge(&facts, &rules, &expected, NOW).0.reasons.iter().map(|r| r.code).collect::<Vec<_>>()
    };
    assert_eq!(judged(&NONCE, &EKM, &SPKI, &bytes, &merkle), [""; 0], "the control");
    assert_eq!(judged(&[0; 32], &EKM, &SPKI, &bytes, &merkle), ["REPORT_DATA_MISMATCH"], "replayed nonce");
    assert_eq!(judged(&NONCE, &[0; 32], &SPKI, &bytes, &merkle), ["REPORT_DATA_MISMATCH"], "relayed session");
    let other_key = judged(&NONCE, &EKM, &[0; 32], &bytes, &merkle);
    assert_eq!(other_key, ["REPORT_DATA_MISMATCH", "CLAIMS_SPKI"]);
    let mut longer = bytes.clone();
    longer.push(b' ');
    assert_eq!(judged(&NONCE, &EKM, &SPKI, &longer, &merkle), ["REPORT_DATA_MISMATCH"], "other bytes, same claims");
    let size = MerklePath { size: 4, ..merkle.clone() };
    assert_eq!(judged(&NONCE, &EKM, &SPKI, &bytes, &size), ["REPORT_DATA_MISMATCH"]);
    let short = MerklePath { path: Vec::new(), ..merkle.clone() };
    assert_eq!(judged(&NONCE, &EKM, &SPKI, &bytes, &short), ["MERKLE_PATH_INVALID", "REPORT_DATA_MISMATCH"]);
}

#[test]
fn the_mode_in_the_hash_is_the_policys() {
    let bytes = claims().to_bytes();
    let own = leaf(&session_digest(Mode::Simulation, Tee::SevSnp, &NONCE, &EKM, &SPKI, &bytes));
    let tree = Tree::new(vec![own]).unwrap();
    let mut facts = facts();
    facts.report.report_data = report_data(Mode::Simulation, Tee::SevSnp, &tree.root(), 1);
    let merkle = tree.path(0).unwrap();
    let expected = Expected::Session { nonce: &NONCE, ekm: &EKM, spki_sha256: &SPKI, claims: &bytes, merkle: &merkle };
    let (table, _) = judge(&facts, &rules(|text| text), &expected, NOW);
    assert_eq!(table.reasons.iter().map(|r| r.code).collect::<Vec<_>>(), ["REPORT_DATA_MISMATCH"]);
}

#[test]
fn what_claims_say_is_compared() {
    type Edit = fn(&mut Claims);
    let cases: &[(&str, Edit)] = &[
        ("CLAIMS_INVALID", |c| c.v = 2),
        ("CLAIMS_MODE", |c| c.mode = Mode::Simulation),
        ("CLAIMS_SPKI", |c| c.spki_sha256[0] ^= 1),
        ("CLAIMS_CONFIG_DIGEST", |c| c.config_digest[0] ^= 1),
        ("MODEL_NOT_LISTED", |c| c.models[0].id = "other".to_owned()),
        ("MODEL_SEQUENCE_BELOW_FLOOR", |c| c.models[0].sequence = 2),
        ("VENDOR_KEY_NOT_ALLOWED", |c| c.models[0].vendor_keys = vec![Ed25519Public([1; 32])]),
        ("VENDOR_KEY_NOT_ALLOWED", |c| c.models[0].vendor_keys.push(Ed25519Public([1; 32]))),
    ];
    assert_eq!(session_codes(&claims(), |_, _| {}), [""; 0], "the control");
    for (code, edit) in cases {
        let mut claims = claims();
        edit(&mut claims);
        assert_eq!(session_codes(&claims, |_, _| {}), [*code]);
    }
}

#[test]
fn the_two_shapes_of_report_data_never_meet() {
    let shaped = session_codes(&claims(), |facts, _| facts.report.report_data[48..].fill(0));
    assert_eq!(shaped, ["REPORT_DATA_SHAPE", "REPORT_DATA_MISMATCH"]);
    let mut facts = facts();
    facts.report.report_data = [1; 64];
    let (table, _) = judge(&facts, &rules(|text| text), &Expected::Release { report_data: [1; 64] }, NOW);
    assert_eq!(table.reasons.iter().map(|r| r.code).collect::<Vec<_>>(), ["REPORT_DATA_SHAPE"]);
}

#[test]
fn a_host_influenced_clock_and_a_static_release_are_said() {
    let mut claims = claims();
    claims.models[0].release = Release::Static;
    let bytes = claims.to_bytes();
    let (facts, merkle) = session(&bytes);
    let expected = Expected::Session { nonce: &NONCE, ekm: &EKM, spki_sha256: &SPKI, claims: &bytes, merkle: &merkle };
    let (table, claims) = judge(&facts, &rules(|text| text), &expected, NOW);
    assert!(table.reasons.is_empty() && claims.is_some());
    assert!(table.notes.iter().any(|n| n.contains("host-influenced")));
    assert!(
        table.not_proven.iter().any(|n| n.contains("time"))
            && table.not_proven.iter().any(|n| n.contains("revocation"))
    );
}

#[test]
fn a_simulated_verdict_says_so_in_its_first_line() {
    let text = policy_text().replace("\"hardware\"", "\"simulation\"").replace("hardware-snp-strict", "simulation");
    let rules = Rules::parse(&format!("{text}[root]\npath = \"r\"\nsha256 = \"{}\"\n", "00".repeat(32))).unwrap().0;
    let mut facts = facts();
    facts.mode = Mode::Simulation;
    assert_eq!(codes(&facts, &rules), [""; 0]);
    facts.report.vmpl = 1;
    let (table, _) = judge(&facts, &rules, &Expected::Release { report_data: RELEASE }, NOW);
    assert!(table.rows[0].fact.starts_with("SIMULATED") && table.rows[0].proven_by.contains("SIMULATED"));
    let refusal = Refusal::new(table.reasons, rules.mode, rules.name, table.rows);
    for text in [refusal.to_string(), refusal.table()] {
        assert!(text.starts_with("SIMULATED: "), "{text}");
    }
    assert_eq!((refusal.code(), refusal.to_json()["simulated"].as_bool()), ("VMPL_NOT_ALLOWED", Some(true)));
}

#[test]
fn codes_are_unique_and_every_one_is_tested() {
    let codes: BTreeSet<_> = Check::ALL.iter().map(|check| check.code()).collect();
    assert_eq!(codes.len(), Check::ALL.len());
    let tested = include_str!("tests.rs");
    for check in Check::ALL {
        assert!(tested.contains(&format!("\"{}\"", check.code())), "no test names {}", check.code());
        assert!(!check.remedy().is_empty() && !check.subject().is_empty());
    }
}
