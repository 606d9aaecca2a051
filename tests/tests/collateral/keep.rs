//! Turns a collateral file into what an operator reads: ages, the lines for a policy, and a warning in time.
//! It does not fetch anything.

use super::*;

#[test]
fn show_tells_dates_and_the_lines_for_a_policy() {
    let Some(vectors) = vectors("collateral show") else { return };
    let file = vectors.join(DCAP);
    let at = "2026-06-29T05:00:00Z";
    let (exit, object) = vouchsafe_json(&["collateral", "show", text(&file), "--at", at]);
    assert_eq!((exit, &object["tee"], &object["at"]), (0, &json!("tdx"), &json!(at)));
    let items = object["items"].as_array().unwrap();
    assert_eq!(items.len(), 7, "two statements, two lists, three certificates, each once");
    let find = |name: &str| items.iter().find(|item| item["name"] == name).unwrap();
    assert_eq!(find("tcb_info")["evaluation_number"], 19);
    assert_eq!(find("tcb_info")["fmspc"], "b0c06f000000");
    assert_eq!((&find("pck_crl")["number"], &find("pck_crl")["revoked"]), (&json!(1), &json!(57)));
    assert_eq!((&find("tcb_info")["days_left"], &find("root_ca_crl")["age_days"]), (&json!(29), &json!(122)));
    assert!(items.iter().all(|item| item["state"] == "in-force"));
    assert!(object["not_proven"].as_str().unwrap().contains("no signature was verified"));

    // The lines are those that policies read.
    let dir = tempfile::tempdir().unwrap();
    let policy = dir.path().join("policy.toml");
    let quote = fs::read(vectors.join(QUOTE)).unwrap();
    fs::write(&policy, format!("{}\n{}\n", policy_for_quote(&quote), object["policy_lines"].as_str().unwrap()))
        .unwrap();
    assert_eq!(vouchsafe_json(&["policy", "show", text(&policy)]).0, 0);

    let leaf = vectors.join(format!("snp/{GENOA}.vek.der"));
    let crl = vectors.join("amd-ca/genoa_vcek.crl");
    let out = dir.path().join("snp.json");
    let pack =
        ["collateral", "pack", "--tee", "sev-snp", "--leaf", text(&leaf), "--crl", text(&crl), "--out", text(&out)];
    assert_eq!(told(&pack), (0, "none".to_owned()));
    assert_eq!(told(&pack), (9, "FILE".to_owned()), "nothing is overwritten");
    assert_eq!(told(&[&pack[..], &["--replace"]].concat()).0, 0);
    let shown = vouchsafe(&["collateral", "show", text(&out), "--at", "2026-03-01T00:00:00Z"]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(
        shown.contains("of Genoa, chip d2421d976f95ce0b…, bootloader 0x0a tee 0x00 snp 0x19 microcode 0x54"),
        "{shown}"
    );
    assert!(shown.contains("min_number = { Genoa = 5 }") && shown.contains("244 days left"), "{shown}");
    assert!(shown.contains("no signature was verified"), "{shown}");
    let report = fs::read(vectors.join(format!("snp/{GENOA}.report.bin"))).unwrap();
    fs::write(
        &policy,
        format!("{}[crl]\nmin_number = {{ Milan = 6, Genoa = 5, Turin = 2 }}\n", policy_for_report(&report)),
    )
    .unwrap();
    assert_eq!(vouchsafe_json(&["policy", "show", text(&policy)]).0, 0);

    // What is not collateral.
    for bad in [&leaf, &crl, &policy] {
        assert_eq!(told(&["collateral", "show", text(bad)]), (3, "COLLATERAL_MALFORMED".to_owned()));
    }
    let swapped = [
        "collateral",
        "pack",
        "--tee",
        "sev-snp",
        "--leaf",
        text(&crl),
        "--crl",
        text(&leaf),
        "--out",
        text(&out),
        "--replace",
    ];
    assert_eq!(told(&swapped), (3, "COLLATERAL_MALFORMED".to_owned()));
    assert_eq!(vouchsafe_json(&["collateral", "show", text(&out)]).0, 0, "the old file is still there");
    assert_eq!(told(&["collateral", "show", text(dir.path())]), (9, "FILE_NOT_REGULAR".to_owned()));
}

#[test]
fn check_tells_in_time() {
    let Some(vectors) = vectors("collateral check") else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = vectors.join(DCAP);
    let check = |at: &str, more: &[&str]| {
        let (exit, object) = vouchsafe_json(&[&["collateral", "check", text(&file), "--at", at], more].concat());
        let reasons = object["reasons"].as_array().cloned().unwrap_or_default();
        let codes: Vec<String> = reasons
            .iter()
            .map(|r| format!("{} {}", r["code"].as_str().unwrap(), r["check"].as_str().unwrap()))
            .collect();
        (exit, codes)
    };
    let at = "2026-06-29T05:00:00Z";
    assert_eq!(check(at, &[]), (0, vec![]));
    assert_eq!(check(at, &["--within", "29"]), (0, vec![]));
    let soon = ["tcb_info", "qe_identity", "pck_crl"].map(|item| format!("COLLATERAL_EXPIRES_SOON {item}"));
    assert_eq!(check(at, &["--within", "30"]), (3, soon.to_vec()));
    let expired = ["tcb_info", "qe_identity", "pck_crl"].map(|item| format!("COLLATERAL_EXPIRED {item}"));
    assert_eq!(check("2026-11-21T00:00:00Z", &[]), (3, expired.to_vec()));
    let (exit, codes) = check("2026-06-29T01:00:00Z", &[]);
    assert_eq!((exit, codes.len()), (3, 2), "issued within this hour: {codes:?}");
    assert!(codes.iter().all(|code| code.starts_with("COLLATERAL_NOT_YET_VALID")), "{codes:?}");

    let policy = dir.path().join("policy.toml");
    let text_of = policy_for_quote(&fs::read(vectors.join(QUOTE)).unwrap());
    let with = |more: &str| {
        fs::write(&policy, format!("{text_of}{more}")).unwrap();
        check(at, &["--policy", text(&policy)])
    };
    assert_eq!(with(""), (0, vec![]));
    let low = ["tcb_info", "qe_identity"].map(|item| format!("COLLATERAL_BELOW_FLOOR {item}"));
    assert_eq!(
        with("[tdx.tcb]\nmin_tcb_evaluation_number = 20\nwritten = \"2026-06-29\"\nsource = \"test\"\n"),
        (3, low.to_vec())
    );
    assert_eq!(with("[tdx.collateral]\nmax_age_days = 121\n"), (3, vec!["COLLATERAL_TOO_OLD root_ca_crl".to_owned()]));
    assert_eq!(
        with("[tdx.collateral]\nmin_pck_crl_number = 2\n"),
        (3, vec!["COLLATERAL_BELOW_FLOOR pck_crl".to_owned()])
    );
    let report = fs::read(vectors.join(format!("snp/{GENOA}.report.bin"))).unwrap();
    fs::write(&policy, policy_for_report(&report)).unwrap();
    assert_eq!(check(at, &["--policy", text(&policy)]), (3, vec!["COLLATERAL_KIND tee".to_owned()]));
}

/// Nobody on the way of a request asks a vendor: the crate that does is used by the command alone.
#[test]
fn only_the_command_can_fetch() {
    let metadata = cargo_metadata::MetadataCommand::new().no_deps().current_dir(workspace()).exec().unwrap();
    let users: Vec<&str> = metadata
        .packages
        .iter()
        .filter(|package| package.dependencies.iter().any(|d| d.name == "ureq"))
        .map(|package| package.name.as_str())
        .collect();
    assert_eq!(users, ["vouchsafe"]);
}
