//! Policy files as people write them: complete, incomplete, contradictory, broken.
//! It does not appraise evidence.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::path::Path;

use common::files::{ROOT, complete, complete_tdx, options, read, refused, simulated, snp, tdx};
use vouchsafe_attestation::{Mode, Tee, lp::sha256, snp::Product};
use vouchsafe_policies::{
    InitAnchors, InitOptions, InitSnp, InitTdx, Listed, MAX_POLICY, Policy, PolicyError, init_text, presets,
};

#[test]
fn what_init_writes_is_a_complete_policy() {
    let policy = Policy::parse(&complete(), &read).unwrap();
    assert_eq!(
        (policy.mode(), policy.anchors().mode(), policy.tee_accepted()),
        (Mode::Simulation, Mode::Simulation, &[Tee::SevSnp][..])
    );
    assert_eq!((policy.name(), policy.digest()), ("St \"Mary's\"", sha256(complete().as_bytes())));
    let rules = policy.rules();
    let own = rules.snp().unwrap();
    assert!(rules.tdx().is_none());
    assert_eq!(own.measurements, Listed::Only(vec![[1; 48], [2; 48]]));
    assert!(own.platforms.is_any());
    let model = &rules.models().entries()[0];
    assert_eq!((model.id.as_str(), model.min_sequence, model.vendor_keys.entries().len()), ("breast-cancer", 7, 2));

    let mut hardware = options(InitAnchors::Hardware);
    hardware.models = Listed::Any;
    let products = vec![Product::Genoa, Product::Milan];
    hardware.snp = Some(InitSnp { products, platforms: Listed::Only(vec![[6; 64]]), ..snp() });
    let policy = Policy::parse(&init_text(&hardware), &read).unwrap();
    assert_eq!((policy.mode(), policy.anchors().mode()), (Mode::Hardware, Mode::Hardware));
    assert_eq!(policy.rules().snp().unwrap().products, [Product::Genoa, Product::Milan]);
    assert!(policy.rules().models().is_any());
}

#[test]
fn init_writes_either_technology_and_both() {
    for anchors in [simulated(), InitAnchors::Hardware] {
        let text = complete_tdx(anchors.clone());
        let policy = Policy::parse(&text, &read).unwrap();
        assert_eq!((policy.mode(), policy.tee_accepted()), (anchors.mode(), &[Tee::Tdx][..]));
        let rules = policy.rules().tdx().unwrap();
        assert!(policy.rules().snp().is_none());
        assert_eq!((&rules.mr_td, &rules.rtmr[3]), (&Listed::Only(vec![[1; 48]]), &Listed::Only(vec![[0; 48]])));
        assert_eq!(
            (&rules.config_digests, &rules.platforms),
            (&Listed::Only(vec![[3; 32]]), &Listed::Only(vec![[6; 16]]))
        );

        let both = init_text(&InitOptions { tdx: Some(tdx()), ..options(anchors.clone()) });
        let policy = Policy::parse(&both, &read).unwrap();
        assert_eq!((policy.mode(), policy.tee_accepted()), (anchors.mode(), &[Tee::SevSnp, Tee::Tdx][..]));
        let own = Policy::parse(&text, &read).unwrap();
        let demands = |policy: &Policy| -> Vec<_> {
            policy.explain().into_iter().filter(|(name, _)| name.starts_with("tdx ")).collect()
        };
        assert_eq!(demands(&policy), demands(&own), "the rules of TDX are the same beside those of SEV-SNP");
    }
    let nothing = init_text(&InitOptions { snp: None, ..options(simulated()) });
    assert_eq!(refused(&nothing).code(), "POLICY_INVALID", "no technology at all");
}

#[test]
fn what_init_does_not_know_is_named_as_missing() {
    let mut bare = options(simulated());
    bare.snp = Some(InitSnp { measurements: Listed::Only(Vec::new()), ..snp() });
    bare.models = Listed::Only(Vec::new());
    let error = refused(&init_text(&bare));
    let said = error.to_string();
    assert_eq!(error.code(), "POLICY_INCOMPLETE");
    assert!(said.contains("sev-snp.measurements, models"), "{said}");
    let mut rtmr = tdx().rtmr;
    rtmr[0] = Listed::Only(Vec::new());
    bare.snp = None;
    bare.tdx = Some(InitTdx { rtmr, ..tdx() });
    let said = refused(&init_text(&bare)).to_string();
    assert!(said.contains("tdx.rtmr0, models") && !said.contains("sev-snp"), "{said}");
}

#[test]
fn no_base_is_a_policy() {
    for preset in presets::ALL {
        let simulation = preset == presets::SIMULATION;
        let alone = format!(
            "extends = \"{0}\"\nmode = \"{1}\"\nversion = 1\n",
            preset.name,
            if simulation { "simulation" } else { "hardware" }
        );
        let snp = ["sev-snp.measurements", "sev-snp.config_digests", "sev-snp.platforms"];
        let tdx =
            ["tdx.mr_td", "tdx.rtmr0", "tdx.rtmr1", "tdx.rtmr2", "tdx.rtmr3", "tdx.config_digests", "tdx.platforms"];
        for text in [preset.text, &alone] {
            let error = refused(text);
            let said = error.to_string();
            assert_eq!((error.code(), error.exit()), ("POLICY_INCOMPLETE", 1), "{said}");
            for field in ["models", "vouchsafe policy init --mode"] {
                assert!(said.contains(field), "{said}");
            }
            for (of, fields) in [(presets::HARDWARE_SNP_STRICT, &snp[..]), (presets::HARDWARE_TDX_STRICT, &tdx)] {
                for field in fields {
                    assert_eq!(said.contains(field), simulation || preset == of, "{field}: {said}");
                }
            }
            assert_eq!(said.contains("root.sha256"), simulation, "{said}");
            assert_eq!(said.contains(" tee,"), simulation, "{said}");
        }
    }
    assert!(
        matches!(refused(""), PolicyError::Incomplete { missing, .. } if missing.len() > 50 && missing.contains(&"mode".to_owned()))
    );
}

/// Text of a base that is whole with these lines, less one line at a time.
fn every_line_is_mandatory(preset: presets::Preset, table: &str, own: &str) -> usize {
    let text = format!("models = \"any\"\n{}", preset.text.replacen(table, &format!("{table}{own}"), 1));
    Policy::parse(&text, &read).expect("a policy need not extend a base");
    let mut dropped = 0;
    let lines: Vec<_> = text.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        let field = line.starts_with(|c: char| c.is_ascii_lowercase()) && line.contains(" = ");
        if !field || line.starts_with("microcode") {
            continue;
        }
        let mut without = lines.clone();
        without.remove(at);
        let error = refused(&without.join("\n"));
        assert_eq!(error.code(), "POLICY_INCOMPLETE", "without `{line}`: {error}");
        dropped += 1;
    }
    dropped
}

#[test]
fn every_field_of_a_policy_is_mandatory() {
    let digest = "0a".repeat(48);
    let snp = format!("measurements = [\"{digest}\"]\nconfig_digests = \"any\"\nplatforms = \"any\"\n");
    assert!(every_line_is_mandatory(presets::HARDWARE_SNP_STRICT, "[sev-snp]\n", &snp) > 30);
    let tdx = format!(
        "mr_td = [\"{digest}\"]\nrtmr0 = [\"{digest}\"]\nrtmr1 = [\"{digest}\"]\nrtmr2 = [\"{digest}\"]\nrtmr3 = \"any\"\n\
         config_digests = \"any\"\nplatforms = \"any\"\n"
    );
    assert_eq!(every_line_is_mandatory(presets::HARDWARE_TDX_STRICT, "[tdx]\n", &tdx), 39);
}

#[test]
fn a_file_is_read_with_its_root_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("policy.toml");
    std::fs::write(&path, complete()).unwrap();
    assert_eq!(Policy::load(&path).unwrap_err().code(), "POLICY_ROOT_UNREADABLE");
    std::fs::write(dir.path().join("root.pem"), ROOT).unwrap();
    assert_eq!(Policy::load(&path).unwrap().mode(), Mode::Simulation);
    for (bytes, code) in [(vec![b' '; MAX_POLICY + 1], "POLICY_INVALID"), (vec![0xff, 0xfe], "POLICY_INVALID")] {
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(Policy::load(&path).unwrap_err().code(), code);
    }
    let missing = Policy::load(Path::new("/does/not/exist.toml")).unwrap_err();
    assert_eq!((missing.code(), missing.exit()), ("POLICY_UNREADABLE", 9));
}

/// Nobody writes into the pipe: reading it would wait for ever.
#[test]
fn a_pipe_or_a_device_is_no_policy_and_no_root() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = |name: &str| {
        let path = dir.path().join(name);
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        path
    };
    let told = |path: &Path, code: &str, fact: &str| {
        let error = Policy::load(path).unwrap_err();
        assert_eq!((error.code(), error.exit()), (code, 9), "{}", path.display());
        assert!(error.to_string().contains(fact), "{error}");
    };
    told(&pipe("policy.pipe"), "POLICY_UNREADABLE", "not a regular file");
    told(Path::new("/dev/zero"), "POLICY_UNREADABLE", "not a regular file");
    told(dir.path(), "POLICY_UNREADABLE", "directory");
    pipe("root.pem");
    let path = dir.path().join("policy.toml");
    std::fs::write(&path, complete()).unwrap();
    told(&path, "POLICY_ROOT_UNREADABLE", "not a regular file");
    // A link to a file is a file.
    std::fs::remove_file(dir.path().join("root.pem")).unwrap();
    std::fs::write(dir.path().join("real.pem"), ROOT).unwrap();
    std::os::unix::fs::symlink("real.pem", dir.path().join("root.pem")).unwrap();
    assert_eq!(Policy::load(&path).unwrap().mode(), Mode::Simulation);
}

#[test]
fn a_policy_explains_all_that_it_demands() {
    let rows = Policy::parse(&complete(), &read).unwrap().explain();
    let text: String = rows.iter().map(|(name, demand)| format!("{name}: {demand}\n")).collect();
    for part in [
        "mode: simulation",
        &"01".repeat(48),
        "platforms: any",
        "guest debug: forbidden",
        "floor Genoa: written 2026-11-21: AMD-SB-3019 (CVE-2024-56161",
        "microcode 0x54 on 0x19/0x11/*;",
        "at most 400 days",
        "breast-cancer from version 7",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[test]
fn the_explanation_is_the_same_for_people_and_programs() {
    let grace = "[tdx.tcb.grace]\nstatuses = [\"OutOfDate\"]\nadvisories = [\"INTEL-SA-01036\"]\nuntil = \"2027-03-01T00:00:00Z\"\nsource = \"ticket 42\"\n";
    let later = "[[tdx.tcb.announced]]\nfrom = \"2027-02-01T00:00:00Z\"\nsource = \"recovery\"\nmin_tcb_evaluation_number = 20\n";
    let both = init_text(&InitOptions { tdx: Some(tdx()), ..options(simulated()) });
    let policy = Policy::parse(&format!("{both}{grace}{later}"), &read).unwrap();
    let (table, json) = (policy.explain_table(), policy.explain_json());
    for part in [
        &"0a".repeat(48),
        "tdx rtmr3",
        "tdx sept_ve_disable",
        "tdx migratable",
        "INTEL-SA-01036",
        "tdx perfmon",
        "no bit outside 0x61ae7",
        "OutOfDate until 2027-03-01T00:00:00Z (ticket 42)",
        "20 or higher from 2027-02-01T00:00:00Z on (recovery)",
        "19 or higher\n",
        "written 2026-11-21: Intel's collateral issued 2026-06-29",
        "written 2026-11-21: AMD-SB-3019",
        "microcode 0x54 on 0x19/0x11/*",
    ] {
        assert!(table.contains(part), "{part} is not in\n{table}");
    }
    assert_eq!(json["tee"], serde_json::json!(["sev-snp", "tdx"]));
    assert_eq!(json["policy_digest"].as_str().unwrap(), hex::encode(policy.digest()));
    let rules = json["rules"].as_array().unwrap();
    assert_eq!(rules.len(), policy.explain().len());
    for rule in rules {
        for part in rule["demand"].as_str().unwrap().split("; ") {
            assert!(table.contains(part), "{part}");
        }
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in ".{0,400}", at in 0_usize..4000, cut in 0_usize..40) {
        let _ = Policy::parse(&text, &read);
        let mut edited = complete();
        let start = edited.char_indices().map(|(i, _)| i).nth(at).unwrap_or(0);
        let end = edited[start..].char_indices().map(|(i, _)| start + i).nth(cut).unwrap_or(edited.len());
        edited.replace_range(start..end, &text);
        let _ = Policy::parse(&edited, &read);
        let _ = vouchsafe_policies::usage::UsagePolicy::parse(text.as_bytes());
    }
}
