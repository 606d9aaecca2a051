//! Every rule of `[sev-snp]` and `[crl]`.

use super::*;

fn rules(edit: impl Fn(String) -> String) -> Rules {
    parse(&edit(snp_text()))
}

fn with(line: &str) -> Rules {
    rules(|text| text.replace("[sev-snp]\n", &format!("[sev-snp]\n{line}\n")))
}

#[test]
fn one_edit_gives_its_one_code() {
    type Edit = fn(&mut SnpFacts);
    let cases: &[(&str, Edit)] = &[
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
        ("TCB_INCONSISTENT", |f| f.report.committed_tcb.microcode += 1),
        ("TCB_INCONSISTENT", |f| f.report.committed_tcb.tee += 1),
        ("TCB_INCONSISTENT", |f| f.report.committed.build += 1),
        ("TCB_INCONSISTENT", |f| {
            (f.report.committed.minor, f.report.current.build) = (f.report.current.minor + 1, 255)
        }),
        ("CPU_MODEL_NOT_LISTED", |f| f.report.cpuid = Some(Cpuid { family: 0x19, model: 0x18, stepping: 1 })),
        ("CRL_TOO_OLD", |f| f.crl.this_update = UnixTime(NOW.0 - 400 * 86_400 - 1)),
        ("CRL_NUMBER_BELOW_FLOOR", |f| f.crl.number = 4),
        ("REPORT_DATA_MISMATCH", |f| f.report.report_data[1] ^= 1),
    ];
    let rules = rules(|text| text);
    assert_eq!(codes(&snp_facts(), &rules), [""; 0], "the control");
    for (code, edit) in cases {
        let mut facts = snp_facts();
        edit(&mut facts);
        assert_eq!(codes(&facts, &rules), [*code]);
    }
}

#[test]
fn more_committed_than_running_is_refused_whatever_the_policy_allows() {
    let rules = with("provisional_firmware = \"allowed\"");
    let of = |edit: fn(&mut Report)| {
        let mut facts = snp_facts();
        edit(&mut facts.report);
        codes(&facts, &rules)
    };
    assert_eq!(of(|_| {}), [""; 0], "control: the same");
    assert_eq!(of(|r| r.current.build += 1), [""; 0], "control: newer firmware runs");
    assert_eq!(of(|r| r.current_tcb.microcode += 1), [""; 0], "control: newer microcode runs");
    let parts: [fn(&mut Report); 8] = [
        |r| r.committed.major += 1,
        |r| r.committed.minor += 1,
        |r| r.committed.build += 1,
        |r| r.committed_tcb.fmc = Some(1),
        |r| r.committed_tcb.bootloader += 1,
        |r| r.committed_tcb.tee += 1,
        |r| r.committed_tcb.snp += 1,
        |r| r.committed_tcb.microcode += 1,
    ];
    for (at, part) in parts.into_iter().enumerate() {
        assert_eq!(of(part), ["TCB_INCONSISTENT"], "part {at}");
    }
    let mixed: fn(&mut Report) =
        |r| (r.current.build, r.committed_tcb.snp) = (r.current.build + 1, r.current_tcb.snp + 1);
    assert_eq!(of(mixed), ["TCB_INCONSISTENT"], "a newer part makes up for nothing");
    let mut facts = snp_facts();
    mixed(&mut facts.report);
    assert_eq!(codes(&facts, &super::parse(&snp_text())), ["FIRMWARE_PROVISIONAL", "TCB_INCONSISTENT"]);
}

#[test]
fn a_floor_holds_for_each_of_three_tcbs_and_each_part() {
    let rules = rules(|text| {
        format!("{text}[sev-snp.tcb.Genoa]\nbootloader = 0x0a\ntee = 1\nwritten = \"2026-03-01\"\nsource = \"own\"\n")
    });
    let mut facts = snp_facts();
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
    let table = judged(&facts, &rules);
    assert_eq!(table.reasons.len(), 1);
    let reason = &table.reasons[0];
    for part in ["bootloader 0x09", "tee 0x00", "snp 0x16", "microcode 0x53"] {
        assert!(reason.actual.contains(part), "{reason:?}");
    }
    assert!(reason.expected.ends_with("(written 2026-03-01: own)"), "{reason:?}");
}

#[test]
fn a_floor_says_when_it_was_written_and_on_whose_word() {
    let wanted = |rules: &Rules, tcb: Tcb| {
        let mut facts = snp_facts();
        (facts.product, facts.report.launch_tcb) = (Product::Turin, tcb);
        facts.report.cpuid = Some(Cpuid { family: 0x1a, model: 0x11, stepping: 1 });
        let turin = Tcb { fmc: Some(1), bootloader: 1, tee: 1, snp: 4, microcode: 0x47 };
        let report = &mut facts.report;
        (report.current_tcb, report.committed_tcb, report.reported_tcb) = (turin, turin, turin);
        let reasons = judged(&facts, rules).reasons;
        assert_eq!(reasons.len(), 1, "{reasons:?}");
        reasons[0].expected.clone()
    };
    let least = Tcb { fmc: Some(1), bootloader: 1, tee: 1, snp: 4, microcode: 0x47 };
    let base = with("products = [\"Turin\"]");
    let microcode = wanted(&base, Tcb { microcode: 0x46, ..least });
    assert!(microcode.contains("(written 2026-11-21: AMD-SB-7033 ") && microcode.contains("0x0B101047"), "{microcode}");
    let snp = wanted(&base, Tcb { snp: 3, ..least });
    assert!(snp.ends_with(
        "(written 2026-11-21: the levels of a genuine report of February 2026, for lack of a published floor)"
    ));
    let both = wanted(&base, Tcb { snp: 3, microcode: 0x46, ..least });
    assert!(both.contains("a genuine report") && both.contains("; microcode: AMD-SB-7033"), "{both}");
    let announced = "[[sev-snp.tcb.announced]]\nproduct = \"Turin\"\nfrom = \"2026-02-01T00:00:00Z\"\nsource = \"bulletin\"\nsnp = 5\n\
        microcode = [{ family = 0x1a, model = 0x11, min = 0x48, source = \"ticket\" }]\n";
    let later =
        rules(|text| format!("{}{announced}", text.replace("[sev-snp]\n", "[sev-snp]\nproducts = [\"Turin\"]\n")));
    let mut facts = snp_facts();
    facts.product = Product::Turin;
    facts.report.cpuid = Some(Cpuid { family: 0x1a, model: 0x11, stepping: 1 });
    let report = &mut facts.report;
    (report.current_tcb, report.committed_tcb, report.reported_tcb, report.launch_tcb) = (least, least, least, least);
    let reasons = judged(&facts, &later).reasons;
    assert!(reasons[0].expected.ends_with("on (bulletin; microcode: ticket)"), "{reasons:?}");
}

#[test]
fn microcode_is_compared_with_its_own_cpu() {
    let rules = rules(|text| text);
    let mut facts = snp_facts();
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
    let mut facts = snp_facts();
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
    let mut facts = snp_facts();
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
    let table = judged(&facts, &rules);
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
        assert_eq!(codes(&snp_facts(), &rules), [code]);
        let mut better = snp_facts();
        better.report.policy.0 = 0x3d2_0000;
        better.report.platform_info.0 |= 1 << 4;
        assert_eq!(codes(&better, &rules), [""; 0], "{line}");
    }
    let mitigations = with("mitigations = 0x3");
    assert_eq!(codes(&snp_facts(), &mitigations), ["MITIGATION_MISSING"]);
    let mut both = snp_facts();
    both.report.launch_mit_vector = Some(7);
    assert_eq!(codes(&both, &mitigations), ["MITIGATION_MISSING"]);
    both.report.current_mit_vector = Some(3);
    assert_eq!(codes(&both, &mitigations), [""; 0]);

    let allow = rules(|text| format!("{text}[sev-snp.guest_policy]\ndebug = \"allowed\"\n"));
    let mut debug = snp_facts();
    debug.report.policy.0 |= 1 << 19;
    let table = judged(&debug, &allow);
    assert!(table.reasons.is_empty());
    assert!(table.notes.iter().any(|n| n.contains("debug")) && table.not_proven.iter().any(|n| n.contains("memory")));
}

#[test]
fn a_provider_key_or_a_masked_chip_satisfies_only_csp() {
    let mut vlek = snp_facts();
    vlek.leaf_kind = LeafKind::Vlek;
    vlek.csp = Some("cc.example.com".to_owned());
    assert_eq!(codes(&vlek, &with("csp = [\"cc.example.com\"]")), [""; 0]);
    assert_eq!(codes(&vlek, &with("csp = [\"other\"]")), ["VLEK_NOT_ALLOWED"]);
    assert_eq!(codes(&vlek, &with("csp = \"any\"")), [""; 0]);
    let any_platform = rules(|text| text.replace(&format!("[\"{}\"]", hex::encode([6; 64])), "\"any\""));
    assert_eq!(codes(&snp_facts(), &any_platform), [""; 0]);
    assert_eq!(codes(&vlek, &any_platform), ["VLEK_NOT_ALLOWED"]);
    let mut masked = snp_facts();
    masked.report.chip_id = [0; 64];
    assert_eq!(codes(&masked, &any_platform), ["PLATFORM_NOT_ALLOWED"]);
}

#[test]
fn every_reason_is_collected() {
    let mut facts = snp_facts();
    facts.report.measurement = [0; 48];
    facts.report.vmpl = 3;
    facts.report.policy.0 |= 1 << 19;
    facts.crl.number = 0;
    let got: BTreeSet<_> = codes(&facts, &rules(|text| text)).into_iter().collect();
    let wanted = ["MEASUREMENT_NOT_ALLOWED", "VMPL_NOT_ALLOWED", "DEBUG_ALLOWED", "CRL_NUMBER_BELOW_FLOOR"];
    assert_eq!(got, wanted.into_iter().collect());
}

/// Every part of every TCB, one at a time below its floor.
#[test]
fn no_part_of_no_tcb_may_be_below_its_floor() {
    type Of = fn(&mut Report) -> &mut Tcb;
    type Part = (&'static str, fn(&mut Tcb));
    const THREE: [(&str, Of); 3] = [
        ("committed", |r| &mut r.committed_tcb),
        ("launch", |r| &mut r.launch_tcb),
        ("reported", |r| &mut r.reported_tcb),
    ];
    const PARTS: [Part; 5] = [
        ("fmc", |t| t.fmc = t.fmc.map(|f| f - 1)),
        ("bootloader", |t| t.bootloader -= 1),
        ("tee", |t| t.tee -= 1),
        ("snp", |t| t.snp -= 1),
        ("microcode", |t| t.microcode -= 1),
    ];
    let genoa = Tcb { fmc: None, bootloader: 0x0a, tee: 2, snp: 0x17, microcode: 0x54 };
    let turin = Tcb { fmc: Some(1), bootloader: 1, tee: 1, snp: 4, microcode: 0x47 };
    let rules = rules(|text| {
        let text = text.replace("[sev-snp]\n", "[sev-snp]\nprovisional_firmware = \"allowed\"\n");
        format!("{text}[sev-snp.tcb.Genoa]\nbootloader = 0x0a\ntee = 2\nwritten = \"2026-03-01\"\nsource = \"own\"\n")
    });
    let mut seen = 0;
    for (product, family, model, floor) in [(Product::Genoa, 0x19, 0x11, genoa), (Product::Turin, 0x1a, 0x02, turin)] {
        let mut just = snp_facts();
        just.product = product;
        just.report.cpuid = Some(Cpuid { family, model, stepping: 1 });
        just.report.current_tcb = floor;
        THREE.iter().for_each(|(_, of)| *of(&mut just.report) = floor);
        assert_eq!(codes(&just, &rules), [""; 0], "the floor itself is high enough");
        for (name, of) in THREE {
            for (part, lower) in PARTS.into_iter().skip(usize::from(floor.fmc.is_none())) {
                let mut below = just.clone();
                lower(of(&mut below.report));
                let table = judged(&below, &rules);
                assert_eq!(table.reasons.len(), 1, "{product} {name} {part}");
                let reason = &table.reasons[0];
                assert_eq!(reason.code, "TCB_BELOW_FLOOR");
                assert!(reason.actual.starts_with(&format!("{name}: {part} ")), "{reason:?}");
                seen += 1;
            }
        }
    }
    assert_eq!(seen, 3 * 4 + 3 * 5);
}

#[test]
fn a_listed_provider_stands_for_its_keys_only() {
    let csp_only = rules(|text| {
        text.replace(&format!("[\"{}\"]", hex::encode([6; 64])), "[]")
            .replace("[sev-snp]\n", "[sev-snp]\ncsp = [\"a\"]\n")
    });
    let mut vlek = snp_facts();
    vlek.leaf_kind = LeafKind::Vlek;
    vlek.csp = Some("a".to_owned());
    assert_eq!(codes(&vlek, &csp_only), [""; 0]);
    assert_eq!(codes(&snp_facts(), &csp_only), ["PLATFORM_NOT_ALLOWED"], "a chip that is not listed");
    vlek.report.chip_id = [0; 64];
    assert_eq!(codes(&vlek, &csp_only), [""; 0], "a VLEK needs no chip id");
    let mut masked = snp_facts();
    masked.report.chip_id = [0; 64];
    assert_eq!(codes(&masked, &csp_only), ["PLATFORM_NOT_ALLOWED"], "nobody names the provider of a masked chip");
}
