//! Dated rules, one second before, at and after their boundary.

use super::*;

/// 2026-06-01T00:00:00Z, and the seconds around it: before, at, after.
const BOUNDARY: u64 = 1_780_272_000;

fn at(facts: &impl Found, rules: &Rules, now: u64) -> Table {
    judge(&facts.at(UnixTime(now)), rules, &Expected::Release { report_data: RELEASE }).0
}

fn said(table: &Table) -> Vec<&'static str> {
    table.reasons.iter().map(|reason| reason.code).collect()
}

fn snp() -> (Rules, SnpFacts) {
    let text = format!(
        "{}[[sev-snp.tcb.announced]]\nproduct = \"Genoa\"\nfrom = \"2026-06-01T00:00:00Z\"\nsource = \"AMD-SB-0000\"\n\
         snp = 0x1a\nmicrocode = [{{ family = 0x19, model = 0x11, min = 0x55 }}]\n",
        snp_text()
    );
    let mut facts = snp_facts();
    facts.crl.this_update = UnixTime(BOUNDARY - DAY);
    (parse(&text), facts)
}

#[test]
fn an_announced_floor_warns_counts_down_and_refuses() {
    let (rules, facts) = snp();
    for (now, left) in
        [(BOUNDARY - 1, "1 day left"), (BOUNDARY - DAY, "1 day left"), (BOUNDARY - 90 * DAY, "90 days left")]
    {
        let table = at(&facts, &rules, now);
        assert_eq!(said(&table), [""; 0]);
        let notes: Vec<_> = table.warnings.iter().filter(|note| note.contains(left)).collect();
        assert_eq!(notes.len(), 3, "committed, launch and reported: {:?}", table.warnings);
        assert!(notes[0].contains("2026-06-01T00:00:00Z") && notes[0].contains("AMD-SB-0000"), "{notes:?}");
        assert!(notes[0].contains("snp 0x1a or higher, microcode 0x55 or higher"), "{notes:?}");
    }
    for now in [BOUNDARY, BOUNDARY + 1] {
        let table = at(&facts, &rules, now);
        assert_eq!(said(&table), ["TCB_BELOW_ANNOUNCED_FLOOR"; 3]);
        let refusal = Refusal::new(table.reasons, rules.mode, rules.name.clone(), table.rows);
        assert_eq!(refusal.exit(), 4);
        assert!(refusal.to_string().contains("AMD-SB-0000"), "{refusal}");
    }
}

#[test]
fn an_announced_floor_that_is_met_says_nothing() {
    let (rules, mut facts) = snp();
    let tcb = Tcb { snp: 0x1a, microcode: 0x55, ..genoa() };
    let report = &mut facts.report;
    for field in [&mut report.current_tcb, &mut report.reported_tcb, &mut report.committed_tcb, &mut report.launch_tcb]
    {
        *field = tcb;
    }
    for now in [BOUNDARY - 1, BOUNDARY, BOUNDARY + 1] {
        let table = at(&facts, &rules, now);
        let warned = table.warnings.iter().any(|note| note.contains("left"));
        assert!(table.reasons.is_empty() && !warned, "{:?}", table.warnings);
    }
    // One of the three below is enough.
    facts.report.launch_tcb.microcode = 0x54;
    assert_eq!(said(&at(&facts, &rules, BOUNDARY)), ["TCB_BELOW_ANNOUNCED_FLOOR"]);
    let table = at(&facts, &rules, BOUNDARY - 1);
    assert_eq!(table.warnings.iter().filter(|note| note.contains("its launch TCB")).count(), 1, "{:?}", table.warnings);
    // It speaks of its own CPU model and product only.
    facts.report.cpuid = Some(Cpuid { family: 0x19, model: 0xa0, stepping: 1 });
    assert_eq!(said(&at(&facts, &rules, BOUNDARY)), [""; 0]);
}

#[test]
fn a_floor_that_holds_already_refuses_before_the_announced_day_too() {
    let (rules, mut facts) = snp();
    facts.report.launch_tcb.snp = 0x16;
    assert_eq!(said(&at(&facts, &rules, BOUNDARY - 1)), ["TCB_BELOW_FLOOR"]);
    assert_eq!(said(&at(&facts, &rules, BOUNDARY)).len(), 4);
}

fn tdx(lines: &str) -> (Rules, TdxFacts) {
    let mut facts = tdx_facts();
    facts.oldest_issue = UnixTime(BOUNDARY - DAY);
    (parse(&format!("{}{lines}", tdx_text())), facts)
}

#[test]
fn an_announced_evaluation_number_warns_counts_down_and_refuses() {
    let (rules, mut facts) = tdx(
        "[[tdx.tcb.announced]]\nfrom = \"2026-06-01T00:00:00Z\"\nsource = \"TCB recovery\"\nmin_tcb_evaluation_number = 20\n",
    );
    let table = at(&facts, &rules, BOUNDARY - 1);
    assert_eq!((said(&table), table.warnings.iter().filter(|n| n.contains("1 day left")).count()), (Vec::new(), 1));
    for now in [BOUNDARY, BOUNDARY + 1] {
        let table = at(&facts, &rules, now);
        assert_eq!(said(&table), ["TCB_EVALUATION_BELOW_ANNOUNCED"]);
        let refusal = Refusal::new(table.reasons, rules.mode, rules.name.clone(), table.rows);
        assert_eq!(refusal.exit(), 3, "newer collateral is all that is wanting");
    }
    facts.evaluation_number = 20;
    assert_eq!(said(&at(&facts, &rules, BOUNDARY + 1)), [""; 0]);
}

#[test]
fn grace_for_an_out_of_date_platform_ends_on_its_day() {
    let (rules, mut facts) =
        tdx("[tdx.tcb.grace]\nstatuses = [\"OutOfDate\"]\nadvisories = [\"INTEL-SA-01079\", \"INTEL-SA-01036\"]\n\
         until = \"2026-06-01T00:00:00Z\"\nsource = \"change ticket 42\"\n");
    facts.status = TcbStatus::OutOfDate;
    facts.advisories = vec!["INTEL-SA-01036".to_owned(), "INTEL-SA-01079".to_owned()];
    for (now, left) in [(BOUNDARY - 1, "1 day left"), (BOUNDARY - 30 * DAY, "30 days left")] {
        let table = at(&facts, &rules, now);
        assert_eq!(said(&table), [""; 0]);
        let notes: Vec<_> = table.warnings.iter().filter(|note| note.contains(left)).collect();
        assert_eq!(notes.len(), 2, "status and advisories: {:?}", table.warnings);
        assert!(notes[0].contains("OutOfDate") && notes[0].contains("change ticket 42"), "{notes:?}");
        assert!(notes[1].contains("INTEL-SA-01079"), "{notes:?}");
    }
    for now in [BOUNDARY, BOUNDARY + 1] {
        assert_eq!(said(&at(&facts, &rules, now)), ["TCB_GRACE_ENDED", "TCB_ADVISORY_NOT_ALLOWED"]);
    }
    // Grace is for what it names, and no longer than a year.
    facts.status = TcbStatus::OutOfDateConfigurationNeeded;
    assert_eq!(said(&at(&facts, &rules, BOUNDARY - 1)), ["TCB_STATUS_NOT_ALLOWED", "TCB_ADVISORY_NOT_ALLOWED"]);
    facts.status = TcbStatus::OutOfDate;
    facts.advisories.clear();
    assert_eq!(said(&at(&facts, &rules, BOUNDARY - 366 * DAY)), [""; 0]);
    assert_eq!(said(&at(&facts, &rules, BOUNDARY - 366 * DAY - 1)), ["TCB_STATUS_NOT_ALLOWED"]);
    facts.status = TcbStatus::UpToDate;
    assert_eq!(said(&at(&facts, &rules, BOUNDARY + 1)), [""; 0]);
}

#[test]
fn grace_tolerates_the_advisories_that_it_names_and_no_other() {
    let grace = |advisories: &str| {
        let line = format!("[tdx.tcb.grace]\nstatuses = [\"OutOfDate\"]\nadvisories = {advisories}\n");
        tdx(&format!("{line}until = \"2026-06-01T00:00:00Z\"\nsource = \"ticket\"\n"))
    };
    let open = |facts: &mut TdxFacts| {
        facts.status = TcbStatus::OutOfDate;
        facts.advisories = vec!["INTEL-SA-01036".to_owned(), "INTEL-SA-01079".to_owned()];
    };
    for (advisories, refused) in [
        ("[]", Some("INTEL-SA-01036, INTEL-SA-01079")),
        ("[\"INTEL-SA-01036\"]", Some("INTEL-SA-01079")),
        ("[\"INTEL-SA-01036\", \"INTEL-SA-01079\"]", None),
        ("\"any\"", None),
    ] {
        let (rules, mut facts) = grace(advisories);
        open(&mut facts);
        let table = at(&facts, &rules, BOUNDARY - 1);
        let found: Vec<_> = table.reasons.iter().map(|reason| (reason.code, reason.actual.as_str())).collect();
        let wanted: Vec<_> = refused.iter().map(|names| ("TCB_ADVISORY_NOT_ALLOWED", *names)).collect();
        assert_eq!(found, wanted, "{advisories}");
        let any = table.warnings.iter().any(|line| line.contains("`tdx.tcb.grace.advisories` = any"));
        assert_eq!(any, advisories == "\"any\"", "{:?}", table.warnings);
        // Nothing of it is for a machine that needs no grace, and nothing outlives it.
        facts.status = TcbStatus::UpToDate;
        assert_eq!(said(&at(&facts, &rules, BOUNDARY - 1)), ["TCB_ADVISORY_NOT_ALLOWED"]);
        facts.status = TcbStatus::OutOfDate;
        assert_eq!(said(&at(&facts, &rules, BOUNDARY)), ["TCB_GRACE_ENDED", "TCB_ADVISORY_NOT_ALLOWED"]);
    }
}

#[test]
fn the_oldest_accepted_age_is_whole_days_to_the_second() {
    let age = |tdx: bool, seconds: u64| {
        if tdx {
            let facts = TdxFacts { oldest_issue: UnixTime(NOW.0 - seconds), ..tdx_facts() };
            codes(&facts, &parse(&tdx_text()))
        } else {
            let mut facts = snp_facts();
            facts.crl.this_update = UnixTime(NOW.0 - seconds);
            codes(&facts, &parse(&snp_text()))
        }
    };
    for (tdx, code) in [(false, "CRL_TOO_OLD"), (true, "COLLATERAL_TOO_OLD")] {
        assert_eq!(age(tdx, 400 * DAY - 1), [""; 0]);
        assert_eq!(age(tdx, 400 * DAY), [""; 0]);
        assert_eq!(age(tdx, 400 * DAY + 1), [code]);
    }
}
