//! Turns policies that cannot be used, and verdicts about one kept receipt, into codes and exit statuses, without any network.
//! Each case has its control: the same words with the fault undone.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

use std::{fs, time::SystemTime};

use vouchsafe_attestation::UnixTime;
use vouchsafe_tests::Scene;

#[test]
fn policies_that_cannot_be_used() {
    let scene = Scene::new();
    let good = scene.text("customer/policy.toml");
    for (name, from, to) in [
        ("both", "mode = \"simulation\"\ntee = [\"sev-snp\"]", "mode = \"hardware\"\ntee = [\"sev-snp\"]"),
        ("both-strict", "mode = \"simulation\"", "mode = \"hardware\""),
        ("malformed", "version = 1", "version = = 1"),
        ("unknown", "version = 1", "version = 1\nallow_everything = true"),
        ("twice", "version = 1", "version = 1\nversion = 1"),
        ("later", "version = 1", "version = 2"),
        ("other-root", "/root.pem\"", "/nothing.pem\""),
        ("other-digest", "sha256 = \"", "sha256 = \"00"),
    ] {
        assert!(good.contains(from), "{from}");
        scene.write(&format!("{name}.toml"), &good.replacen(from, to, 1));
    }
    scene.edit("both-strict.toml", "extends = \"simulation\"", "extends = \"hardware-snp-strict\"");
    let digest = good.split("sha256 = \"").nth(1).unwrap().split('"').next().unwrap();
    scene.write("other-digest.toml", &good.replace(digest, &"0".repeat(64)));
    scene.write("base-alone.toml", "version = 1\nmode = \"simulation\"\nextends = \"simulation\"\n");
    scene.write("large.toml", &"#".repeat(64 * 1024 + 1));
    fs::write(scene.at("binary.toml"), [0xff; 100]).unwrap();
    let (vendor, zeros) = (scene.at("vendor/manifest.key.pub"), "00".repeat(48));
    let model = format!("m=1={vendor}");
    let init: &[&str] = &[
        "policy",
        "init",
        "--mode",
        "hardware",
        "--measurement",
        &zeros,
        "--config-digest",
        "any",
        "--platform",
        "any",
        "--model",
        &model,
    ];
    let both = [init, &["--root", "%tester/root/root.pem", "--out", "%both-init.toml"]].concat();
    let hardware = [init, &["--out", "%hardware.toml"]].concat();
    scene.play(&[
        ("control: a good one", &["policy", "show", "%customer/policy.toml"], 0, "accepted"),
        ("hardware anchors and a simulated root", &["policy", "show", "%both.toml"], 1, "POLICY_INVALID"),
        ("the same over the hardware base", &["policy", "show", "%both-strict.toml"], 1, "POLICY_INVALID"),
        ("both, for policy init", &both, 1, "POLICY_INVALID"),
        ("control: without the root", &hardware, 0, "accepted"),
        ("an existing file", &hardware, 9, "FILE"),
        ("malformed TOML", &["policy", "show", "%malformed.toml"], 1, "POLICY_INVALID"),
        ("an unknown field", &["policy", "show", "%unknown.toml"], 1, "POLICY_INVALID"),
        ("a field twice", &["policy", "show", "%twice.toml"], 1, "POLICY_INVALID"),
        ("a later version", &["policy", "show", "%later.toml"], 1, "POLICY_UNSUPPORTED"),
        ("no text", &["policy", "show", "%binary.toml"], 1, "POLICY_INVALID"),
        ("more than 64 KiB", &["policy", "show", "%large.toml"], 1, "POLICY_INVALID"),
        ("a base alone", &["policy", "show", "%base-alone.toml"], 1, "POLICY_INCOMPLETE"),
        ("no file", &["policy", "show", "%nothing.toml"], 9, "POLICY_UNREADABLE"),
        ("a directory", &["policy", "show", "%customer"], 9, "POLICY_UNREADABLE"),
        ("no root", &["policy", "show", "%other-root.toml"], 9, "POLICY_ROOT_UNREADABLE"),
        ("another root", &["policy", "show", "%other-digest.toml"], 2, "ANCHOR_DIGEST"),
        ("verify under a bad policy", &["verify", "127.0.0.1:1", "--policy", "%both.toml"], 1, "POLICY_INVALID"),
        (
            "verify without a policy file",
            &["verify", "127.0.0.1:1", "--policy", "%nothing.toml"],
            9,
            "POLICY_UNREADABLE",
        ),
        ("no broker in the folder", &["broker", "serve", "%customer"], 9, "STATE_MISSING"),
    ]);
}

/// The story's own receipt, judged by others, at other times, or changed: statuses 2, 3 and 4 without any network.
#[test]
fn verdicts_about_one_receipt() {
    let scene = Scene::new();
    let good = scene.text("customer/policy.toml");
    let line = |text: &str, after: &str| text.split(after).nth(1).unwrap().split('"').nth(1).unwrap().to_owned();
    let measurement = line(&good, "measurements = [");
    scene.write("other-code.toml", &good.replace(&measurement, &"1".repeat(96)));
    scene.write(
        "other-config.toml",
        &good.replace("config_digests = \"any\"", &format!("config_digests = [\"{}\"]", "1".repeat(64))),
    );
    scene.write(
        "other-vendor.toml",
        &good.replace(&line(&good, "vendor_keys = ["), &format!("ed25519:{}", "1".repeat(64))),
    );
    scene.write("other-floor.toml", &good.replace("min_sequence = 2", "min_sequence = 3"));
    let receipt = scene.text("customer/receipt.json");
    let at = receipt.find("\"signature\": \"").unwrap() + 20;
    let flipped = if &receipt[at..=at] == "A" { "B" } else { "A" };
    scene.write("forged.json", &format!("{}{flipped}{}", &receipt[..at], &receipt[at + 1..]));
    scene.write("cut.json", &receipt[..receipt.len() / 2]);
    let (vendor, model_policy) = (scene.at("vendor/manifest.key.pub"), "%hardware.toml");
    let model = format!("breast-cancer=2={vendor}");
    let init = [
        "policy",
        "init",
        "--mode",
        "hardware",
        "--measurement",
        &measurement,
        "--config-digest",
        "any",
        "--platform",
        "any",
        "--model",
        &model,
        "--out",
        model_policy,
    ];
    let verify = ["receipt", "verify", "%customer/receipt.json", "--policy"];
    let with = |policy: &'static str| [&verify[..], &[policy]].concat();
    let later = [&with("%customer/policy.toml")[..], &["--at", "2099-01-01T00:00:00Z"]].concat();
    let earlier = [&with("%customer/policy.toml")[..], &["--at", "2001-01-01T00:00:00Z"]].concat();
    let never = [&with("%customer/policy.toml")[..], &["--at", "yesterday"]].concat();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let in_ten_days = UnixTime(now + 10 * 86_400).to_string();
    let stale = [&with("%customer/policy.toml")[..], &["--at", &in_ten_days]].concat();
    let bodies = |request: &'static str| {
        [
            &with("%customer/policy.toml")[..],
            &[
                "--request",
                request,
                "--response",
                "%customer/receipt.json.response",
                "--salt",
                "%customer/receipt.json.salt",
            ],
        ]
        .concat()
    };
    scene.play(&[
        ("control: the customer's own policy", &with("%customer/policy.toml"), 0, "accepted"),
        ("control: with the bodies", &bodies("%customer/receipt.json.request"), 0, "accepted"),
        ("another request", &bodies("%heldout.json"), 2, "RECEIPT_BODY_MISMATCH"),
        ("a hardware policy is made", &init, 0, "accepted"),
        ("simulated evidence under it", &with(model_policy), 2, "LEAF_SIMULATED"),
        (
            "a forged signature",
            &["receipt", "verify", "%forged.json", "--policy", "%customer/policy.toml"],
            2,
            "RECEIPT_SIGNATURE",
        ),
        (
            "half a receipt",
            &["receipt", "verify", "%cut.json", "--policy", "%customer/policy.toml"],
            2,
            "ENCODING_JSON",
        ),
        ("no receipt", &["receipt", "verify", "%none.json", "--policy", "%customer/policy.toml"], 9, "FILE"),
        ("after the list of revocations ended", &stale, 3, "CRL_EXPIRED"),
        ("long after its root ended", &later, 3, "ANCHOR_EXPIRED"),
        ("before its root began", &earlier, 3, "ANCHOR_NOT_YET_VALID"),
        ("at no time", &never, 1, "USAGE"),
        ("another program", &with("%other-code.toml"), 4, "MEASUREMENT_NOT_ALLOWED"),
        ("another configuration", &with("%other-config.toml"), 4, "CONFIG_DIGEST_NOT_ALLOWED"),
        ("another vendor", &with("%other-vendor.toml"), 4, "VENDOR_KEY_NOT_ALLOWED"),
        ("a newer version demanded", &with("%other-floor.toml"), 4, "MODEL_SEQUENCE_BELOW_FLOOR"),
    ]);
}
