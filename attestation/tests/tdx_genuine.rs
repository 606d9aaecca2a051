//! Genuine quotes with Intel's collateral, against the verdicts of the vectors' index and against bare dcap-qvl.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
mod tdx_common;

use std::fs;

use common::{at, hardware, vectors};
use dcap_qvl::verify::{QuoteVerifier, VerifiedReport};
use tdx_common::{
    Case, WITH_COLLATERAL, bundle, dcap_dir, forge,
    forge::{Key, Parts, sim_anchors},
    genuine, quote, sample, theirs, two_hours_after,
};
use vouchsafe_attestation::{Anchors, UnixTime, tdx::TcbStatus};

/// What bare dcap-qvl says, with debug TDs and service TDs let through as ours are.
fn bare(case: &Case, root: Option<&[u8]>, now: UnixTime) -> Result<VerifiedReport, String> {
    let verifier = root.map_or_else(QuoteVerifier::new_prod, |root| QuoteVerifier::new(root.to_vec()));
    let verifier = verifier.allow_debug(true).allow_service_td(true);
    verifier.verify(&case.quote, &theirs(&case.collateral), now.0).map_err(|error| format!("{error:#}"))
}

/// Both accept, and say the same of everything that both read.
fn agree(case: &Case, anchors: &Anchors, root: Option<&[u8]>, now: UnixTime) {
    let ours = case.facts(anchors, now);
    let theirs = bare(case, root, now).unwrap_or_else(|error| panic!("{}: {error}", case.name));
    assert_eq!(ours.status.as_str(), theirs.status, "{}", case.name);
    assert_eq!(ours.platform_status.as_str(), theirs.platform_status.status.to_string());
    assert_eq!(ours.qe_status.as_str(), theirs.qe_status.status.to_string());
    assert_eq!(ours.advisories, theirs.advisory_ids);
    assert_eq!(ours.ppid[..], theirs.ppid);
    let report = theirs.report.as_td10().unwrap();
    assert_eq!(ours.body.tee_tcb_svn, report.tee_tcb_svn);
    assert_eq!(ours.body.mr_seam, report.mr_seam);
    assert_eq!(ours.body.mr_signer_seam, report.mr_signer_seam);
    assert_eq!(ours.body.seam_attributes, report.seam_attributes);
    assert_eq!(ours.body.attributes.0.to_le_bytes(), report.td_attributes);
    assert_eq!(ours.body.xfam.to_le_bytes(), report.xfam);
    assert_eq!(ours.body.mr_td, report.mr_td);
    assert_eq!(ours.body.mr_config_id, report.mr_config_id);
    assert_eq!(ours.body.mr_owner, report.mr_owner);
    assert_eq!(ours.body.mr_owner_config, report.mr_owner_config);
    assert_eq!(ours.body.rtmr, [report.rt_mr0, report.rt_mr1, report.rt_mr2, report.rt_mr3]);
    assert_eq!(ours.body.report_data, report.report_data);
    let v15 = theirs.report.as_td15().map(|report| (report.tee_tcb_svn2, report.mr_service_td));
    assert_eq!(ours.body.v15.map(|report| (report.tee_tcb_svn2, report.mr_service_td)), v15);
}

#[test]
fn every_quote_of_the_index_has_its_verdict() {
    let Some(dir) = vectors("every_quote_of_the_index_has_its_verdict") else { return };
    for (case, (_, _, expected)) in genuine(&dir).iter().zip(WITH_COLLATERAL) {
        let now = two_hours_after(&case.collateral);
        let facts = case.facts(&hardware(), now);
        assert_eq!((facts.status, facts.evaluation_number), (expected, 19), "{}", case.name);
        let advisories: &[&str] = match case.name.as_str() {
            "afb2d8f7" => &["INTEL-SA-01036", "INTEL-SA-01079", "INTEL-SA-01099", "INTEL-SA-01103", "INTEL-SA-01111"],
            _ => &[],
        };
        assert_eq!(facts.advisories, advisories, "{}", case.name);
        assert!(facts.body.attributes.sept_ve_disable() && !facts.body.attributes.debug());
        assert!(facts.ppid.iter().any(|b| *b != 0), "a platform has an identifier");
        agree(case, &hardware(), None, now);
        println!("{}: {} evaluation {}", case.name, facts.status.as_str(), facts.evaluation_number);

        // The index's own day: everything has expired.
        let error = case.verify(&hardware(), at(common::STALE)).unwrap_err();
        assert_eq!((error.code(), error.exit()), ("TCB_INFO_EXPIRED", 3), "{}", case.name);
        let error = case.verify(&hardware(), at("2026-06-01T00:00:00Z")).unwrap_err();
        assert_eq!((error.code(), error.exit()), ("TCB_INFO_NOT_YET_VALID", 3), "{}", case.name);
        assert_eq!(case.code(&sim_anchors(), now), "LEAF_NOT_SIMULATED", "{}", case.name);
    }
}

#[test]
fn older_collateral_says_so() {
    let Some(dir) = vectors("older_collateral_says_so") else { return };
    let older = bundle(&dir.join("tdx/90c06f000000_2026-04-24_eval18.json"));
    for id in ["509f50f8", "afb2d8f7", "cf77a6e9"] {
        let case = Case { name: id.into(), quote: quote(&dir, id), collateral: older.clone() };
        let now = two_hours_after(&older);
        assert_eq!(case.facts(&hardware(), now).evaluation_number, 18, "a policy's floor of 19 refuses this");
        agree(&case, &hardware(), None, now);
    }
}

#[test]
fn collateral_of_another_family_is_a_mismatch() {
    let Some(dir) = vectors("collateral_of_another_family_is_a_mismatch") else { return };
    let bundles = ["90c06f000000", "b0c06f000000"];
    let quotes = [
        ("a187b0da", "00806f050000"),
        ("12b401a8", "50806f000000"),
        ("509f50f8", bundles[0]),
        ("afb2d8f7", bundles[0]),
        ("cf77a6e9", bundles[0]),
        ("0c699dd4", bundles[1]),
        ("f1c85033", bundles[1]),
    ];
    for (id, family) in quotes {
        for other in bundles.into_iter().filter(|other| *other != family) {
            let collateral = bundle(&dir.join(format!("tdx/{other}_2026-06-29_eval19.json")));
            let case = Case { name: id.into(), quote: quote(&dir, id), collateral };
            let error = case.verify(&hardware(), two_hours_after(&case.collateral)).unwrap_err();
            assert_eq!((error.code(), error.exit(), error.step()), ("FMSPC_MISMATCH", 2, 7), "{id} {other}");
        }
        // Without collateral nothing can be said.
        let mut without = Parts::v4().case();
        without.quote = quote(&dir, id);
        without.collateral.tcb_info.clear();
        let error = without.verify(&hardware(), at("2026-06-29T04:00:00Z")).unwrap_err();
        assert_eq!((error.code(), error.exit()), ("TCB_INFO_MISSING", 3), "{id}");
    }
}

/// These are present wherever this crate was built.
#[test]
fn the_samples_of_dcap_qvl_verify() {
    let case = sample("tdx_quote");
    let now = two_hours_after(&case.collateral);
    assert_eq!(case.facts(&hardware(), now).status, TcbStatus::UpToDate);
    agree(&case, &hardware(), None, now);
    // Its platform is older than every level of its collateral.
    let case = sample("tdx_quote_outdated");
    let now = two_hours_after(&case.collateral);
    assert_eq!(case.code(&hardware(), now), "TCB_LEVEL_NONE");
    assert!(bare(&case, None, now).is_err());
    // TDX 1.5 with extensions, which this build does not read.
    let newer = sample("tdx_quote_td15ex");
    assert_eq!(newer.code(&hardware(), two_hours_after(&newer.collateral)), "QUOTE_BODY_TYPE");
}

/// The only difference between simulation and hardware is the root: dcap-qvl takes ours under it, and says the same.
#[test]
fn dcap_qvl_accepts_the_simulated_machine_under_its_root() {
    for parts in [Parts::v4(), Parts::v5(), Parts::v15()] {
        let case = parts.case();
        agree(&case, &sim_anchors(), Some(forge::root()), at(forge::NOW));
        assert!(bare(&case, None, at(forge::NOW)).is_err(), "not under Intel's");
    }
}

/// Whatever dcap-qvl refuses, ours refuses; whatever only ours refuses stands here by name.
#[test]
fn every_intended_difference_from_dcap_qvl_has_a_name() {
    type Change = fn(&mut Parts, &mut Case);
    let differences: &[(&str, &str, Change)] = &[
        ("bytes behind the declared end", "QUOTE_TRAILING", |_, case| case.quote.extend([0; 70])),
        ("reserved bytes of the header", "QUOTE_RESERVED", |parts, _| parts.header[8] = 1),
        ("type of the outer certification data", "CERT_DATA_TYPE", |_, case| case.quote[48 + 584 + 132] = 9),
        ("bytes behind the PCK chain's certification data", "CERT_DATA_LENGTH", |_, case| {
            case.quote.push(0);
            for offset in [48 + 584, 48 + 584 + 134] {
                let field: [u8; 4] = case.quote[offset..offset + 4].try_into().unwrap();
                case.quote[offset..offset + 4].copy_from_slice(&(u32::from_le_bytes(field) + 1).to_le_bytes());
            }
        }),
        ("text around certificates", "TCB_SIGNER_MALFORMED", |_, case| {
            case.collateral.tcb_info_issuer_chain.insert_str(0, "anything\n");
        }),
        ("more certificates than a chain has", "QE_SIGNER_MALFORMED", |_, case| {
            let chain = &mut case.collateral.qe_identity_issuer_chain;
            *chain = chain.repeat(2);
        }),
        ("the issuer chain of the PCK list", "PCK_CRL_CHAIN_MALFORMED", |_, case| {
            case.collateral.pck_crl_issuer_chain = "anything".into();
        }),
        ("another root at the end of a chain", "CHAIN_ROOT", |parts, _| {
            parts.root = common::forge::sim().tdx_root_cert().sign_p256(&common::forge::sim().tdx_root);
        }),
        ("times with an offset", "TCB_INFO_MALFORMED", |parts, _| {
            parts.tcb_info["issueDate"] = "2026-05-20T02:00:00+02:00".into();
        }),
        ("type of the TCB info", "TCB_INFO_KIND", |parts, _| parts.tcb_info["tcbType"] = 1.into()),
        ("version of the TCB info", "TCB_INFO_KIND", |parts, _| parts.tcb_info["version"] = 4.into()),
        ("a revocation list from the future", "PCK_CRL_NOT_YET_VALID", |parts, _| {
            parts.pck_crl.this_update = "260610000000Z";
        }),
        ("a revocation list without a number", "ROOT_CRL_MALFORMED", |parts, _| {
            parts.root_crl.extensions[0].oid = "1.3.6.1.4.1.99999".into()
        }),
        ("the simulation marker", "LEAF_NOT_SIMULATED", |parts, _| parts.pck.0.extensions.truncate(2)),
        ("a value stated twice in the PCK certificate", "PCK_EXTENSION_DUPLICATE", |parts, _| {
            parts.sgx.push(parts.sgx[2].clone());
        }),
        ("PPID of another length", "PCK_EXTENSION_VALUE", |parts, _| parts.sgx[0].1 = vec![4, 1, 7]),
        ("CPUSVN other than the components", "PCK_CPU_SVN", |parts, _| parts.sgx_tcb[0].1 = vec![2, 1, 1]),
        ("PCEID", "PCEID_MISMATCH", |parts, _| parts.tcb_info["pceId"] = "0001".into()),
        ("reserved bytes of the quoting enclave's report", "QE_RESERVED", |parts, _| parts.qe_report[352] = 1),
        ("a level of the TCB info that the platform does not come to", "TCB_INFO_MALFORMED", |parts, _| {
            parts.tcb_info["tcbLevels"][2]["tcbDate"] = "yesterday".into();
        }),
        ("a level of the QE identity that the enclave does not come to", "QE_IDENTITY_MALFORMED", |parts, _| {
            parts.qe_identity["tcbLevels"][2]["tcbStatus"] = "SWHardeningNeeded".into();
        }),
        ("header lines in PEM", "TCB_SIGNER_MALFORMED", |_, case| {
            let chain = &mut case.collateral.tcb_info_issuer_chain;
            *chain = chain.replacen("\nM", "\nA: b\n\nM", 1);
        }),
        ("names of advisories", "ADVISORIES_UNREADABLE", |parts, _| {
            parts.tcb_info["tcbLevels"][0]["advisoryIDs"] = serde_json::json!(["\u{202e}"]);
        }),
    ];
    let now = at(forge::NOW);
    for (name, code, change) in differences {
        let (mut parts, mut unused) = (Parts::v4(), Parts::v4().case());
        change(&mut parts, &mut unused);
        let mut case = parts.case();
        change(&mut Parts::v4(), &mut case);
        assert_eq!(case.code(&sim_anchors(), now), *code, "{name}");
        let theirs = bare(&case, Some(forge::root()), now);
        assert!(theirs.is_ok(), "{name} is no difference: {}", theirs.unwrap_err());
    }
    // Ours says more of a quote that both accept.
    let mut parts = Parts::v4();
    parts.qe_identity["tcbLevels"][0]["tcbStatus"] = "ConfigurationNeeded".into();
    let case = parts.case();
    assert_eq!(case.facts(&sim_anchors(), now).status, TcbStatus::ConfigurationNeeded);
    assert_eq!(bare(&case, Some(forge::root()), now).unwrap().status, "UpToDate");
    let mut parts = Parts::v15();
    parts.body[584] = 4;
    let case = parts.case();
    let (facts, theirs) = (case.facts(&sim_anchors(), now), bare(&case, Some(forge::root()), now).unwrap());
    assert_eq!((facts.status, facts.advisories.len()), (TcbStatus::OutOfDate, 1), "an older module runs now");
    assert_eq!((theirs.status.as_str(), theirs.advisory_ids.len()), ("UpToDate", 0));
    println!("{} differences, each stricter; 2 statuses that count more", differences.len());
}

/// The other way round: what dcap-qvl refuses is refused here too, over a thousand seeded mutants of everything.
#[test]
fn nothing_that_dcap_qvl_refuses_is_accepted() {
    let mut seeded = common::Seeded(0x5eed_0010);
    let now = at(forge::NOW);
    let (mut accepted, mut stricter) = (0, 0);
    let good = Parts::v15().case();
    for round in 0..1500 {
        let mut case = good.clone();
        let c = &mut case.collateral;
        match round % 6 {
            0 => seeded.mutate(&mut case.quote),
            1 => seeded.mutate(&mut c.root_ca_crl),
            2 => seeded.mutate(&mut c.pck_crl),
            3 => mutate_text(&mut seeded, &mut c.tcb_info),
            4 => mutate_text(&mut seeded, &mut c.qe_identity),
            _ => mutate_text(&mut seeded, &mut c.tcb_info_issuer_chain),
        }
        let (ours, theirs) = (case.verify(&sim_anchors(), now), bare(&case, Some(forge::root()), now));
        match (ours.is_ok(), theirs.is_ok()) {
            (true, false) => panic!("round {round}: accepted, but dcap-qvl says {}", theirs.unwrap_err()),
            (true, true) => accepted += 1,
            (false, true) => stricter += 1,
            (false, false) => {}
        }
    }
    println!("{accepted} of 1500 mutants accepted by both, {stricter} by dcap-qvl only");
}

fn mutate_text(seeded: &mut common::Seeded, text: &mut String) {
    let mut bytes = std::mem::take(text).into_bytes();
    seeded.mutate(&mut bytes);
    *text = String::from_utf8_lossy(&bytes).into_owned();
}

/// A hostile host brings collateral and chains that are well-formed, large and wrong; nothing takes long.
#[test]
fn large_and_deep_inputs_are_refused_quickly() {
    let started = std::time::Instant::now();
    let (now, sim) = (at(forge::NOW), sim_anchors());
    let padded = |text: &str, what: &str, n: usize| text.replacen('{', &format!("{{{}", what.repeat(n)), 1);
    let good = Parts::v4().case();
    type Change<'a> = Box<dyn Fn(&mut Case) + 'a>;
    let tries: Vec<Change<'_>> = vec![
        Box::new(|c| c.collateral.tcb_info = padded(&c.collateral.tcb_info, "\"x\":[[[]]],", 5000)),
        Box::new(|c| c.collateral.tcb_info = padded(&c.collateral.tcb_info, "\"tcbLevels\":[],", 4000)),
        Box::new(|c| c.collateral.qe_identity = format!("{{\"x\":{}", "{\"x\":".repeat(12_000))),
        Box::new(|c| c.collateral.qe_identity = format!("\"{}\"", "\\u0000".repeat(10_000))),
        Box::new(|c| {
            let pem = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
            c.collateral.tcb_info_issuer_chain = pem.repeat(1000);
        }),
        Box::new(|c| c.collateral.tcb_info_issuer_chain = "-----BEGIN CERTIFICATE-----\n".repeat(2300)),
        Box::new(|c| c.collateral.root_ca_crl = [&[0x30, 0x83, 0xff, 0xff, 0xff][..], &[0x30; 60_000]].concat()),
        Box::new(|c| c.collateral.pck_crl = [0x30, 0x80].repeat(30_000)),
    ];
    for (i, change) in tries.iter().enumerate() {
        let mut case = good.clone();
        change(&mut case);
        assert!(case.verify(&sim, now).is_err(), "{i}");
    }
    // A list as long as the cap allows, signed by the real authority: accepted, and read in time.
    let mut parts = Parts::v4();
    parts.pck_crl.revoked = (0..2900_u16).map(|n| vec![2, 3, 1, (n >> 8) as u8, n as u8]).collect();
    let long = parts.case();
    assert!(long.collateral.pck_crl.len() > 60_000, "{}", long.collateral.pck_crl.len());
    assert_eq!(long.code(&sim, now), "AUTHENTIC");
    // A chain of the host's own making with the right names.
    let mut own = Parts::v4();
    own.tcb_signer.1 = Key::Other;
    own.qe_signer.1 = Key::Other;
    own.ca.1 = Key::Other;
    own.root_crl.key = Key::Other;
    assert_eq!(own.case().code(&sim, now), "ROOT_CRL_SIGNATURE");
    println!("{:?}", started.elapsed());
    assert!(started.elapsed().as_secs() < 20);
}

#[test]
fn the_sample_with_its_trailing_bytes_is_refused_here_only() {
    let mut case = sample("tdx_quote");
    case.quote = fs::read(dcap_dir().join("tdx_quote")).unwrap();
    let now = two_hours_after(&case.collateral);
    assert!(bare(&case, None, now).is_ok());
    assert_eq!(case.code(&hardware(), now), "QUOTE_TRAILING");
}
