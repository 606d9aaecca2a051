//! Genuine reports under the default hardware policy: the expected verdicts of the vectors' own index, in our codes.
//! It does not establish anything about simulated evidence: the scenarios do.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::collections::BTreeSet;

use common::{at, judged, snp, vectors};
use vouchsafe_policies::{Policy, appraise};

/// All leaves but the expired VLEK and all three revocation lists are in force.
const NOW: &str = "2026-03-01T00:00:00Z";
/// The genuine VLEK was in force, and the Milan list too.
const VLEK_NOW: &str = "2025-09-01T00:00:00Z";
/// Every revocation list of the vectors has run out.
const LATER: &str = "2026-11-21T00:00:00Z";
const MILAN: &str = "products = [\"Milan\", \"Genoa\", \"Turin\"]";

#[test]
fn genuine_reports_get_the_verdicts_of_their_index() {
    let Some(dir) = vectors("genuine_reports_get_the_verdicts_of_their_index") else { return };
    let rows = snp(&dir);
    let (mut accepted, mut refused, mut expired) = (0, 0, 0);
    for row in &rows {
        let policy = row.policy(MILAN);
        assert_eq!(policy.rules().snp().unwrap().crl.max_age_days, 400);
        match row.verify(&policy, at(NOW)) {
            Err(error) => {
                let known = common::WORDS.iter().filter(|w| row.words.iter().any(|word| word == w.0));
                assert!(known.map(|w| w.2).any(|code| code == error.code()), "{}: {}", row.name, error.code());
                expired += 1;
            }
            Ok(authentic) => {
                let got = judged(authentic, &policy, &row.expected());
                assert_eq!(got, row.wanted(), "{}", row.name);
                println!("{NOW} {:24} {got:?}", row.name);
                if got.is_empty() { accepted += 1 } else { refused += 1 }
            }
        }
    }
    assert_eq!((rows.len(), accepted, refused, expired), (10, 6, 3, 1));
}

#[test]
fn the_expired_vlek_has_the_other_reasons_of_its_row_while_it_was_in_force() {
    let Some(dir) = vectors("the_expired_vlek_has_the_other_reasons_of_its_row_while_it_was_in_force") else { return };
    let row = snp(&dir).into_iter().find(|row| row.name.contains("vlek")).unwrap();
    let policy = row.policy(MILAN);
    let got = judged(row.verify(&policy, at(VLEK_NOW)).unwrap(), &policy, &row.expected());
    assert_eq!(got, row.wanted());
    let named = row.policy(&format!("{MILAN}\ncsp = [\"cc-us-east-2.amazonaws.com\"]\nvmpl = [1]"));
    let got = judged(row.verify(&named, at(VLEK_NOW)).unwrap(), &named, &row.expected());
    assert_eq!(got, BTreeSet::from(["TCB_BELOW_FLOOR", "FIRMWARE_PROVISIONAL"]), "its provider is accepted by name");
}

#[test]
fn expired_lists_ask_for_collateral() {
    let Some(dir) = vectors("expired_lists_ask_for_collateral") else { return };
    for row in snp(&dir) {
        let error = row.verify(&row.policy(MILAN), at(LATER)).unwrap_err();
        let wanted = if row.name.contains("vlek") { "LEAF_EXPIRED" } else { "CRL_EXPIRED" };
        assert_eq!((error.code(), error.exit()), (wanted, 3), "{}", row.name);
    }
}

#[test]
fn without_the_opt_in_every_milan_fails_on_the_product() {
    let Some(dir) = vectors("without_the_opt_in_every_milan_fails_on_the_product") else { return };
    let mut milans = 0;
    for row in snp(&dir) {
        let policy = row.policy("");
        let Ok(authentic) = row.verify(&policy, at(NOW)) else { continue };
        let got = judged(authentic, &policy, &row.expected());
        assert_eq!(got.contains("PRODUCT_NOT_ALLOWED"), row.product == "Milan", "{}: {got:?}", row.name);
        milans += usize::from(row.product == "Milan");
    }
    assert_eq!(milans, 6);
}

#[test]
fn a_genuine_verdict_prints_what_was_and_was_not_proven() {
    let Some(dir) = vectors("a_genuine_verdict_prints_what_was_and_was_not_proven") else { return };
    let row = snp(&dir).into_iter().find(|row| row.product == "Turin").unwrap();
    let announced = "[[sev-snp.tcb.announced]]\nproduct = \"Turin\"\nfrom = \"2026-03-31T00:00:00Z\"\nsource = \"bulletin 1\"\nsnp = 5";
    let policy = row.policy(announced);
    let appraised = appraise(row.verify(&policy, at(NOW)).unwrap(), &policy, &row.expected()).unwrap();
    let text = appraised.to_string();
    for part in [
        "availability",
        "interposer",
        "which machine it is",
        "`sev-snp.platforms` = any",
        "`models` = any",
        "single_socket",
        "WARNING, accepted until a day",
        "30 days left",
        "before this release's rules were written",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let json = appraised.to_json();
    assert_eq!((json["accepted"].as_bool(), json["mode"].as_str()), (Some(true), Some("hardware")));
    assert_eq!(json["rows"].as_array().unwrap().len(), appraised.rows().len());
    assert_eq!((json["warnings"].as_array().unwrap().len(), appraised.warnings().len()), (3, 3));
    assert_eq!(&appraised.notes()[..3], appraised.warnings());
    assert_eq!((appraised.policy_digest(), appraised.at()), (policy.digest(), at(NOW)));
    assert!(appraised.claims().is_none());
}

#[test]
fn an_old_list_alone_asks_for_collateral_and_binding_outranks_all() {
    let Some(dir) = vectors("an_old_list_alone_asks_for_collateral_and_binding_outranks_all") else { return };
    let row = snp(&dir).into_iter().find(|row| row.name == "genoa-v5-vcek-6d1ceffa").unwrap();
    let judge = |more: &str, flip: u8| {
        let policy = row.policy(more);
        let mut report_data: [u8; 64] = row.report[0x50..0x90].try_into().unwrap();
        report_data[0] ^= flip;
        let expected = vouchsafe_policies::Expected::Release { report_data };
        appraise(row.verify(&policy, at(NOW)).unwrap(), &policy, &expected).unwrap_err()
    };
    let old = judge("[crl]\nmax_age_days = 10", 0);
    assert_eq!((old.code(), old.exit(), old.reasons.len()), ("CRL_TOO_OLD", 3, 1));
    let both = judge("vmpl = [1]\n[crl]\nmax_age_days = 10", 0);
    assert_eq!((both.code(), both.exit(), both.reasons.len()), ("VMPL_NOT_ALLOWED", 4, 2));
    let all = judge("vmpl = [1]\n[crl]\nmax_age_days = 10", 1);
    assert_eq!((all.code(), all.exit(), all.reasons.len()), ("REPORT_DATA_MISMATCH", 2, 3));
    let json = all.to_json();
    assert_eq!(
        (json["accepted"].as_bool(), json["reasons"][1]["code"].as_str()),
        (Some(false), Some("VMPL_NOT_ALLOWED"))
    );
    assert!(all.to_string().lines().count() >= 7 && all.table().contains("REFUSED"), "{all}");
}

#[test]
fn evidence_verified_under_other_anchors_is_not_appraised() {
    let Some(dir) = vectors("evidence_verified_under_other_anchors_is_not_appraised") else { return };
    let row = snp(&dir).into_iter().find(|row| row.name == "genoa-v5-vcek-6d1ceffa").unwrap();
    let hardware = row.policy("");
    let root = include_bytes!("fixtures/simulated-root.pem");
    let text = format!(
        "version = 1\nmode = \"simulation\"\ntee = [\"sev-snp\"]\nextends = \"simulation\"\nmodels = \"any\"\n[root]\npath = \"r\"\n\
         sha256 = \"{}\"\n[sev-snp]\nmeasurements = \"any\"\nconfig_digests = \"any\"\nplatforms = \"any\"\n",
        hex::encode(vouchsafe_attestation::lp::sha256(root))
    );
    let simulation = Policy::parse(&text, &|_| Ok(root.to_vec())).unwrap();
    let refusal = appraise(row.verify(&hardware, at(NOW)).unwrap(), &simulation, &row.expected()).unwrap_err();
    assert_eq!((refusal.code(), refusal.exit()), ("ROOT_MISMATCH", 2));
    let codes: Vec<_> = refusal.reasons.iter().map(|reason| reason.code).collect();
    assert!(codes.contains(&"MODE_NOT_ALLOWED"), "{codes:?}");
}
