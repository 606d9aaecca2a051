//! Every rule of `[tdx]`.

use super::*;

fn rules(edit: impl Fn(String) -> String) -> Rules {
    parse(&edit(tdx_text()))
}

fn with(line: &str) -> Rules {
    rules(|text| text.replace("[tdx]\n", &format!("[tdx]\n{line}\n")))
}

fn attribute(facts: &mut TdxFacts, bit: u32) {
    facts.body.attributes.0 |= 1 << bit;
}

#[test]
fn one_edit_gives_its_one_code() {
    type Edit = fn(&mut TdxFacts);
    let cases: &[(&str, Edit)] = &[
        ("MR_TD_NOT_ALLOWED", |f| f.body.mr_td[47] ^= 1),
        ("RTMR_NOT_ALLOWED", |f| f.body.rtmr[0][0] ^= 1),
        ("RTMR_NOT_ALLOWED", |f| f.body.rtmr[1][47] ^= 1),
        ("RTMR_NOT_ALLOWED", |f| f.body.rtmr[2] = [0; 48]),
        ("RTMR_NOT_ALLOWED", |f| f.body.rtmr[3] = [0; 48]),
        ("CONFIG_DIGEST_NOT_ALLOWED", |f| f.body.mr_config_id[31] ^= 1),
        ("MR_CONFIG_ID_SHAPE", |f| f.body.mr_config_id[32] = 1),
        ("MR_CONFIG_ID_SHAPE", |f| f.body.mr_config_id[47] = 1),
        ("MR_OWNER_NOT_ALLOWED", |f| f.body.mr_owner[0] = 1),
        ("MR_OWNER_CONFIG_NOT_ALLOWED", |f| f.body.mr_owner_config[0] = 1),
        ("SERVICE_TD_NOT_ALLOWED", |f| f.body.v15.as_mut().unwrap().mr_service_td[47] = 1),
        ("XFAM_NOT_ALLOWED", |f| f.body.xfam |= 1 << 8),
        ("XFAM_NOT_ALLOWED", |f| f.body.xfam |= 1 << 63),
        ("TD_DEBUG", |f| attribute(f, 0)),
        ("TD_PROFILING", |f| attribute(f, 1)),
        ("TD_PROFILING", |f| attribute(f, 7)),
        ("TD_PKS", |f| attribute(f, 30)),
        ("TD_KEY_LOCKER", |f| attribute(f, 31)),
        ("TD_PERFMON", |f| attribute(f, 63)),
        ("TD_ATTRIBUTES_UNKNOWN", |f| attribute(f, 8)),
        ("TD_ATTRIBUTES_UNKNOWN", |f| attribute(f, 26)),
        ("TD_ATTRIBUTES_UNKNOWN", |f| attribute(f, 29)),
        ("TD_ATTRIBUTES_UNKNOWN", |f| attribute(f, 32)),
        ("TD_ATTRIBUTES_UNKNOWN", |f| attribute(f, 62)),
        ("MR_SIGNER_SEAM_NOT_ALLOWED", |f| f.body.mr_signer_seam[0] = 1),
        ("SEAM_ATTRIBUTES_NOT_ZERO", |f| f.body.seam_attributes[7] = 1),
        ("QUOTE_VERSION_NOT_ALLOWED", |f| f.quote_version = 3),
        ("PLATFORM_NOT_ALLOWED", |f| f.ppid[15] ^= 1),
        ("PLATFORM_NOT_ALLOWED", |f| f.ppid = [0; 16]),
        ("PCE_ID_NOT_ALLOWED", |f| f.pce_id[1] = 1),
        ("TCB_STATUS_NOT_ALLOWED", |f| f.status = TcbStatus::OutOfDate),
        ("TCB_STATUS_NOT_ALLOWED", |f| f.status = TcbStatus::TdRelaunchAdvised),
        ("TCB_STATUS_NOT_ALLOWED", |f| f.status = TcbStatus::Revoked),
        ("TCB_ADVISORY_NOT_ALLOWED", |f| f.advisories = vec!["INTEL-SA-01036".to_owned()]),
        ("TCB_EVALUATION_BELOW_FLOOR", |f| f.evaluation_number = 18),
        ("COLLATERAL_TOO_OLD", |f| f.oldest_issue = UnixTime(NOW.0 - 400 * DAY - 1)),
        ("ROOT_CRL_NUMBER_BELOW_FLOOR", |f| f.root_crl_number = 0),
        ("PCK_CRL_NUMBER_BELOW_FLOOR", |f| f.pck_crl_number = 0),
        ("REPORT_DATA_MISMATCH", |f| f.body.report_data[1] ^= 1),
    ];
    let rules = rules(|text| text);
    assert_eq!(codes(&tdx_facts(), &rules), [""; 0], "the control");
    for (code, edit) in cases {
        let mut facts = tdx_facts();
        edit(&mut facts);
        assert_eq!(codes(&facts, &rules), [*code]);
    }
}

#[test]
fn the_evaluation_floor_says_when_it_was_written_and_on_whose_word() {
    let facts = TdxFacts { evaluation_number: 18, ..tdx_facts() };
    let reasons = judged(&facts, &rules(|text| text)).reasons;
    assert!(
        reasons[0].expected.starts_with("19 or higher (written 2026-11-21: Intel's collateral issued "),
        "{reasons:?}"
    );
}

#[test]
fn what_a_policy_demands_more_is_refused() {
    for (line, code) in [
        (format!("mr_seam = [\"{}\"]", "00".repeat(48)), "MR_SEAM_NOT_ALLOWED"),
        ("tcb.fmspc = [\"00806f050000\"]".to_owned(), "FMSPC_NOT_ALLOWED"),
        ("pck.smt = \"forbidden\"".to_owned(), "PCK_SMT"),
        ("pck.dynamic_platform = \"forbidden\"".to_owned(), "PCK_DYNAMIC_PLATFORM"),
        ("pck.cached_keys = \"forbidden\"".to_owned(), "PCK_CACHED_KEYS"),
    ] {
        let rules = with(&line);
        assert_eq!(codes(&tdx_facts(), &rules), [code]);
        let mut better = tdx_facts();
        better.body.mr_seam = [0; 48];
        better.fmspc = [0, 0x80, 0x6f, 5, 0, 0];
        (better.smt, better.dynamic_platform, better.cached_keys) = (PckFlag::No, PckFlag::No, PckFlag::No);
        assert_eq!(codes(&better, &rules), [""; 0], "{line}");
    }
    let rules = with("min_quote_version = 5");
    let mut older = tdx_facts();
    older.quote_version = 4;
    older.body.v15 = None;
    assert_eq!(codes(&older, &rules), ["QUOTE_VERSION_NOT_ALLOWED"]);
    assert_eq!(codes(&older, &self::rules(|text| text)), [""; 0], "a report of TDX 1.0 is whole");
}

#[test]
fn a_report_that_cannot_name_a_service_td_proves_nothing_of_one() {
    use crate::Outcome;
    let row = |table: &Table| {
        table.rows.iter().find(|row| row.subject == Check::ServiceTd.subject()).map(|row| row.outcome).unwrap()
    };
    let said = |table: &Table| table.not_proven.iter().any(|line| line.contains("no service TD"));
    let mut older = tdx_facts();
    (older.quote_version, older.body.v15) = (4, None);
    for rules in [rules(|text| text), with("service_td = \"any\"")] {
        let table = judged(&older, &rules);
        assert!(table.reasons.is_empty() && said(&table), "{:?}", table.not_proven);
        assert_eq!(row(&table), Outcome::Any);
    }
    let table = judged(&tdx_facts(), &rules(|text| text));
    assert_eq!((row(&table), said(&table)), (Outcome::Accepted, false), "a report of TDX 1.5 says so");
}

#[test]
fn a_certificate_that_says_nothing_proves_nothing_of_smt() {
    let rules = with("pck = { smt = \"forbidden\", dynamic_platform = \"forbidden\", cached_keys = \"forbidden\" }");
    let mut silent = tdx_facts();
    (silent.smt, silent.dynamic_platform, silent.cached_keys) =
        (PckFlag::Undefined, PckFlag::Undefined, PckFlag::Undefined);
    assert_eq!(codes(&silent, &rules), ["PCK_SMT"]);
    silent.smt = PckFlag::No;
    assert_eq!(codes(&silent, &rules), [""; 0]);
}

#[test]
fn what_a_policy_allows_is_noted() {
    type Edit = fn(&mut TdxFacts);
    let cases: [(&str, Edit); 5] = [
        ("debug", |f| attribute(f, 0)),
        ("profiling", |f| attribute(f, 3)),
        ("pks", |f| attribute(f, 30)),
        ("key_locker", |f| attribute(f, 31)),
        ("perfmon", |f| attribute(f, 63)),
    ];
    for (field, edit) in cases {
        let rules = with(&format!("attributes.{field} = \"allowed\""));
        let mut facts = tdx_facts();
        edit(&mut facts);
        let table = judged(&facts, &rules);
        assert!(table.reasons.is_empty());
        assert!(table.notes.iter().any(|note| note.contains(&format!("tdx.attributes.{field}"))), "{:?}", table.notes);
        let looks = matches!(field, "debug" | "profiling");
        assert_eq!(table.not_proven.iter().any(|line| line.contains("look into the TD")), looks);
    }
    let mut lass = tdx_facts();
    attribute(&mut lass, 27);
    assert_eq!(codes(&lass, &rules(|text| text)), [""; 0], "LASS only hardens the guest");
}

#[test]
fn every_any_is_in_the_verdict() {
    let text = tdx_text()
        .replace(&format!("rtmr3 = [\"{}\"]", hex::encode([13; 48])), "rtmr3 = \"any\"")
        .replace(&format!("config_digests = [\"{}\"]", hex::encode(CONFIG)), "config_digests = \"any\"")
        .replace(&format!("platforms = [\"{}\"]", hex::encode([6; 16])), "platforms = \"any\"")
        .replace(
            "[tdx]\n",
            "[tdx]\nmr_owner = \"any\"\nmr_owner_config = \"any\"\nservice_td = \"any\"\n\
             tcb.advisories_accepted = \"any\"\ntcb.pce_id = \"any\"\n",
        );
    let rules = parse(&text);
    let said = rules.anys(vouchsafe_attestation::Tee::Tdx).join("\n");
    for field in [
        "rtmr3",
        "config_digests",
        "platforms",
        "mr_owner",
        "mr_owner_config",
        "service_td",
        "mr_seam",
        "tcb.advisories_accepted",
        "tcb.fmspc",
        "tcb.pce_id",
    ] {
        assert!(said.contains(&format!("`tdx.{field}` = any")), "{field} is not in\n{said}");
    }
    assert!(rules.anys(vouchsafe_attestation::Tee::SevSnp).is_empty(), "of the other technology nothing is said");
    let mut facts = tdx_facts();
    facts.body.rtmr = [[10; 48], [11; 48], [12; 48], [0xee; 48]];
    facts.body.mr_owner = [1; 48];
    facts.body.mr_owner_config = [1; 48];
    facts.body.v15.as_mut().unwrap().mr_service_td = [1; 48];
    facts.body.mr_config_id[0] ^= 1;
    facts.advisories = vec!["INTEL-SA-01036".to_owned()];
    (facts.pce_id, facts.ppid) = ([1; 2], [7; 16]);
    let table = judged(&facts, &rules);
    assert!(table.reasons.is_empty(), "{:?}", table.reasons);
    assert!(table.not_proven.iter().any(|line| line.contains("which machine it is")));
}

#[test]
fn a_status_and_an_advisory_may_be_listed() {
    let rules =
        with("tcb = { statuses = [\"UpToDate\", \"SWHardeningNeeded\"], advisories_accepted = [\"INTEL-SA-00615\"] }");
    let mut facts = tdx_facts();
    facts.status = TcbStatus::SwHardeningNeeded;
    facts.advisories = vec!["INTEL-SA-00615".to_owned()];
    assert_eq!(codes(&facts, &rules), [""; 0]);
    facts.advisories.push("INTEL-SA-01036".to_owned());
    let table = judged(&facts, &rules);
    assert_eq!((table.reasons.len(), table.reasons[0].actual.as_str()), (1, "INTEL-SA-01036"));
}

#[test]
fn a_named_service_td_and_an_unrecorded_register_are_said() {
    let rules = with(&format!("service_td = [\"{}\"]", hex::encode([1; 48])));
    let mut facts = tdx_facts();
    facts.body.v15.as_mut().unwrap().mr_service_td = [1; 48];
    assert_eq!(codes(&facts, &rules), [""; 0]);
    facts.body.v15.as_mut().unwrap().mr_service_td = [2; 48];
    assert_eq!(codes(&facts, &rules), ["SERVICE_TD_NOT_ALLOWED"]);
    let zero = self::rules(|text| text.replace(&hex::encode([10; 48]), &"00".repeat(48)));
    let mut facts = tdx_facts();
    facts.body.rtmr[0] = [0; 48];
    let table = judged(&facts, &zero);
    assert!(table.reasons.is_empty() && table.not_proven.iter().any(|line| line.contains("RTMR0")));
}

#[test]
fn every_reason_is_collected_and_collateral_alone_is_exit_three() {
    let rules = rules(|text| text);
    let refusal = |facts: &TdxFacts| {
        let table = judged(facts, &rules);
        Refusal::new(table.reasons, rules.mode, rules.name.clone(), table.rows)
    };
    let mut facts = tdx_facts();
    facts.evaluation_number = 1;
    facts.pck_crl_number = 0;
    facts.root_crl_number = 0;
    facts.oldest_issue = UnixTime(0);
    let stale = refusal(&facts);
    assert_eq!((stale.reasons.len(), stale.exit()), (4, 3));
    facts.body.mr_td = [0; 48];
    attribute(&mut facts, 0);
    let policy = refusal(&facts);
    assert_eq!((policy.reasons.len(), policy.exit(), policy.code()), (6, 4, "MR_TD_NOT_ALLOWED"));
    facts.body.report_data = [0; 64];
    assert_eq!((refusal(&facts).exit(), refusal(&facts).reasons.len()), (2, 7));
    let rows = policy.rows().iter().map(|row| row.proven_by).collect::<BTreeSet<_>>();
    assert!(rows.contains("Intel, in its signed collateral") && !rows.iter().any(|by| by.contains("AMD")), "{rows:?}");
}
