//! Policy files as people write them: complete, incomplete, contradictory, broken.
//! It does not appraise evidence.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{io, path::Path};

use vouchsafe_attestation::{Ed25519Public, Mode, Tee, lp::sha256, snp::Product};
use vouchsafe_policies::{
    InitAnchors, InitModel, InitOptions, Listed, MAX_POLICY, Policy, PolicyError, init_text, presets,
};

/// Certificates of a simulated root whose private keys were destroyed.
const ROOT: &[u8] = include_bytes!("fixtures/simulated-root.pem");

fn read(name: &str) -> io::Result<Vec<u8>> {
    if name == "root.pem" { Ok(ROOT.to_vec()) } else { Err(io::ErrorKind::NotFound.into()) }
}

fn options(anchors: InitAnchors) -> InitOptions {
    InitOptions {
        name: "St \"Mary's\"".to_owned(),
        anchors,
        measurements: Listed::Only(vec![[1; 48], [2; 48]]),
        config_digests: Listed::Only(vec![[3; 32]]),
        platforms: Listed::Any,
        products: Vec::new(),
        models: Listed::Only(vec![InitModel {
            id: "breast-cancer".to_owned(),
            vendor_keys: Listed::Only(vec![Ed25519Public([4; 32]), Ed25519Public([5; 32])]),
            min_sequence: 7,
        }]),
    }
}

fn simulated() -> InitAnchors {
    InitAnchors::Simulation { path: "root.pem".to_owned(), sha256: sha256(ROOT) }
}

fn complete() -> String {
    init_text(&options(simulated()))
}

fn refused(text: &str) -> PolicyError {
    Policy::parse(text, &read).unwrap_err()
}

#[test]
fn what_init_writes_is_a_complete_policy() {
    let policy = Policy::parse(&complete(), &read).unwrap();
    assert_eq!(
        (policy.mode(), policy.anchors().mode(), policy.tee_accepted()),
        (Mode::Simulation, Mode::Simulation, &[Tee::SevSnp][..])
    );
    assert_eq!((policy.name(), policy.digest()), ("St \"Mary's\"", sha256(complete().as_bytes())));
    let rules = policy.rules();
    assert_eq!(rules.snp().measurements, Listed::Only(vec![[1; 48], [2; 48]]));
    assert!(rules.snp().platforms.is_any());
    let model = &rules.models().entries()[0];
    assert_eq!((model.id.as_str(), model.min_sequence, model.vendor_keys.entries().len()), ("breast-cancer", 7, 2));

    let mut hardware = options(InitAnchors::Hardware);
    hardware.products = vec![Product::Genoa, Product::Milan];
    hardware.models = Listed::Any;
    hardware.platforms = Listed::Only(vec![[6; 64]]);
    let policy = Policy::parse(&init_text(&hardware), &read).unwrap();
    assert_eq!((policy.mode(), policy.anchors().mode()), (Mode::Hardware, Mode::Hardware));
    assert_eq!(policy.rules().snp().products, [Product::Genoa, Product::Milan]);
    assert!(policy.rules().models().is_any());
}

#[test]
fn what_init_does_not_know_is_named_as_missing() {
    let mut bare = options(simulated());
    bare.measurements = Listed::Only(Vec::new());
    bare.models = Listed::Only(Vec::new());
    let error = refused(&init_text(&bare));
    let said = error.to_string();
    assert_eq!(error.code(), "POLICY_INCOMPLETE");
    assert!(said.contains("sev-snp.measurements, models"), "{said}");
}

#[test]
fn no_base_is_a_policy() {
    for preset in presets::ALL {
        let alone = format!(
            "extends = \"{0}\"\nmode = \"{1}\"\nversion = 1\n",
            preset.name,
            if preset == presets::SIMULATION { "simulation" } else { "hardware" }
        );
        for text in [preset.text, &alone] {
            let error = refused(text);
            let said = error.to_string();
            assert_eq!((error.code(), error.exit()), ("POLICY_INCOMPLETE", 1), "{said}");
            for field in [
                "sev-snp.measurements",
                "sev-snp.config_digests",
                "sev-snp.platforms",
                "models",
                "vouchsafe policy init --mode",
            ] {
                assert!(said.contains(field), "{said}");
            }
            assert_eq!(said.contains("root.sha256"), preset == presets::SIMULATION, "{said}");
        }
    }
    assert!(
        matches!(refused(""), PolicyError::Incomplete { missing, .. } if missing.len() > 20 && missing.contains(&"mode".to_owned()))
    );
}

#[test]
fn every_field_of_a_policy_is_mandatory() {
    let full = |preset: presets::Preset| {
        format!(
            "models = \"any\"\n{}",
            preset.text.replace(
                "[sev-snp]\n",
                "[sev-snp]\nmeasurements = [\"MM\"]\nconfig_digests = \"any\"\nplatforms = \"any\"\n"
            )
        )
        .replace("MM", &"0a".repeat(48))
    };
    let text = full(presets::HARDWARE_SNP_STRICT);
    assert!(Policy::parse(&text, &read).is_ok(), "a policy need not extend a base");
    let mut dropped = 0;
    let lines: Vec<_> = text.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        if line.starts_with('#')
            || line.starts_with(' ')
            || line.starts_with(']')
            || line.starts_with('[')
            || line.is_empty()
            || line.starts_with("microcode")
        {
            continue;
        }
        let mut without = lines.clone();
        without.remove(at);
        let error = refused(&without.join("\n"));
        assert_eq!(error.code(), "POLICY_INCOMPLETE", "without `{line}`: {error}");
        dropped += 1;
    }
    assert!(dropped > 30, "{dropped}");
}

#[test]
fn contradictions_are_refused_by_name() {
    let simulation = complete();
    let hardware = init_text(&options(InitAnchors::Hardware));
    let root = format!("[root]\npath = \"root.pem\"\nsha256 = \"{}\"\n", hex::encode(sha256(ROOT)));
    assert!(simulation.contains(&root));
    let one = |text: &str, from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    };
    let ones = "01".repeat(48);
    let key = Ed25519Public([4; 32]).to_string();
    let cases = [
        ("POLICY_INVALID", format!("{hardware}{root}")),
        ("POLICY_INVALID", one(&simulation, &root, "")),
        ("POLICY_INVALID", one(&hardware, &format!("[\n  \"{ones}\",\n  \"{}\",\n]", "02".repeat(48)), "\"any\"")),
        ("POLICY_INVALID", one(&simulation, &format!("[\n  \"{ones}\",\n  \"{}\",\n]", "02".repeat(48)), "[]")),
        ("POLICY_INVALID", one(&simulation, &ones, &ones[2..])),
        ("POLICY_INVALID", one(&simulation, &ones, &ones.replace('0', "G"))),
        ("POLICY_INVALID", one(&simulation, "[sev-snp]", "[sev-snp]\nunknown = 1")),
        ("POLICY_INVALID", one(&simulation, "version = 1", "version = 1\nversion = 1")),
        ("POLICY_INVALID", one(&simulation, "mode = \"simulation\"", "mode = \"hardware\"")),
        ("POLICY_INVALID", one(&simulation, "mode = \"simulation\"", "mode = \"simulated\"")),
        ("POLICY_INVALID", one(&simulation, "platforms = \"any\"", "platforms = []")),
        ("POLICY_INVALID", one(&simulation, "platforms = \"any\"", &format!("platforms = [\"{}\"]", "00".repeat(64)))),
        ("POLICY_INVALID", one(&simulation, "platforms = \"any\"", "platforms = \"any\"\nproducts = \"any\"")),
        ("POLICY_INVALID", one(&simulation, "platforms = \"any\"", "platforms = \"any\"\nproducts = [\"Naples\"]")),
        ("POLICY_INVALID", one(&simulation, "platforms = \"any\"", "platforms = \"any\"\nvmpl = [4]")),
        ("POLICY_INVALID", one(&simulation, "platforms = \"any\"", "platforms = \"any\"\nvmpl = []")),
        ("POLICY_INVALID", one(&simulation, "[sev-snp]", "[sev-snp.tcb.Genoa]\nfmc = 1\n[sev-snp]")),
        ("POLICY_INVALID", one(&simulation, "[sev-snp]", "[session]\nmax_evidence_age_s = 0\n[sev-snp]")),
        ("POLICY_INVALID", one(&simulation, &key, &key[1..])),
        ("POLICY_INVALID", one(&simulation, "min_sequence = 7", "min_sequence = -1")),
        ("POLICY_INVALID", one(&simulation, "\"breast-cancer\"", "\"../breast-cancer\"")),
        (
            "POLICY_INVALID",
            format!("{simulation}[[models]]\nid = \"breast-cancer\"\nvendor_keys = \"any\"\nmin_sequence = 1\n"),
        ),
        ("POLICY_INCOMPLETE", one(&simulation, "min_sequence = 7", "")),
        ("POLICY_INCOMPLETE", one(&simulation, "mode = \"simulation\"", "")),
        ("POLICY_INCOMPLETE", one(&simulation, "[sev-snp]", "[sev-snp]\nproducts = [\"Turin\"]")),
        ("POLICY_UNSUPPORTED", one(&simulation, "tee = [\"sev-snp\"]", "tee = [\"sev-snp\", \"tdx\"]")),
        ("POLICY_UNSUPPORTED", one(&simulation, "[sev-snp]", "[tdx]\nmrtd = []\n[sev-snp]")),
        ("POLICY_UNSUPPORTED", one(&simulation, "version = 1", "version = 2")),
        ("POLICY_UNSUPPORTED", one(&simulation, "[sev-snp]", "[crl]\nmode = \"none\"\n[sev-snp]")),
        ("POLICY_ROOT_UNREADABLE", one(&simulation, "root.pem", "other.pem")),
        ("ANCHOR_DIGEST", one(&simulation, &hex::encode(sha256(ROOT)), &"00".repeat(32))),
    ];
    for (code, text) in cases {
        let error = refused(&text);
        assert_eq!(error.code(), code, "{error}\n{text}");
        let exit = match code {
            "POLICY_ROOT_UNREADABLE" => 9,
            "ANCHOR_DIGEST" => error.exit(),
            _ => 1,
        };
        assert_eq!(error.exit(), exit);
        assert!(!error.advice().is_empty());
    }
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

#[test]
fn a_policy_explains_all_that_it_demands() {
    let rows = Policy::parse(&complete(), &read).unwrap().explain();
    let text: String = rows.iter().map(|(name, demand)| format!("{name}: {demand}\n")).collect();
    for part in [
        "mode: simulation",
        &"01".repeat(48),
        "platforms: any",
        "guest debug: forbidden",
        "microcode 0x54 on 0x19/0x11/*",
        "at most 400 days",
        "breast-cancer from version 7",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
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
