//! Turns wrong command lines, files, ports and policies into codes and exit statuses: every status of DESIGN section 10 that this
//! version can give. Each case has its control: the same words with the fault undone.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    process::{Command, Stdio},
    time::Duration,
};

use vouchsafe_tests::{Scene, Service, programs::program, scene::told, vouchsafe};

#[test]
fn usage_errors_exit_1_whatever_the_parser_thinks() {
    for words in [
        &[][..],
        &["frobnicate"],
        &["verify"],
        &["verify", "127.0.0.1:1", "--policy", "p", "--insecure"],
        &["keys", "--simulate", "k"],
        &["demo", "--model", "only.onnx"],
        &["measure", "--backend", "snp"],
        &["broker", "serve"],
    ] {
        let output = vouchsafe(words);
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{words:?}");
    }
    for words in [&["--help"][..], &["--version"], &["verify", "--help"]] {
        assert_eq!(vouchsafe(words).status.code(), Some(0), "control: {words:?}");
    }
}

/// Neither a panic's text nor the demo's world is left behind.
#[test]
fn a_reader_that_went_away_is_no_panic() {
    for words in [&["faults", "--list"][..], &["demo", "--no-attacks"]] {
        let temporary = tempfile::tempdir().unwrap();
        let mut child = Command::new(program("vouchsafe"))
            .args(words)
            .env("TMPDIR", temporary.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(9), "{words:?}: {said}");
        assert!(!said.contains("panicked"), "{words:?}: {said}");
        assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0, "{words:?}");
    }
}

#[test]
fn keys_packages_and_brokers() {
    let scene = Scene::new();
    scene.write("not.onnx", "not a model");
    let init = |out: &'static str, more: &[&'static str]| {
        let words = [
            "broker",
            "init",
            out,
            "--listen",
            "127.0.0.1:0",
            "--policy",
            "%broker/policy.toml",
            "--vendor-key",
            "%vendor/manifest.key.pub",
        ];
        [&words[..], more].concat()
    };
    let import = |package, key| ["broker", "import", "%broker/state", "--package", package, "--key", key];
    let seal = |model, key, out| {
        [
            "seal",
            model,
            "--id",
            "m",
            "--sequence",
            "1",
            "--sign-with",
            key,
            "--to",
            "%vendor/broker.pub",
            "--out",
            out,
            "--rehearsal",
        ]
    };
    let key = scene.text("vendor/manifest.key.pub");
    let config = [
        "config",
        "--manifest-key",
        key.trim(),
        "--release-key",
        key.trim(),
        "--broker",
        "127.0.0.1:1=00",
        "--model",
        "m=1",
        "--out",
        "%c.toml",
    ];
    std::fs::copy(scene.at("vendor/manifest.key"), scene.at("open.key")).unwrap();
    std::fs::set_permissions(scene.at("open.key"), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    scene.play(&[
        ("control: seal", &seal("%breast-cancer.onnx", "%vendor/manifest.key", "%sealed"), 0, "accepted"),
        ("seal over a package", &seal("%breast-cancer.onnx", "%vendor/manifest.key", "%sealed"), 9, "FILE"),
        ("seal what is no model", &seal("%not.onnx", "%vendor/manifest.key", "%sealed2"), 1, "SEAL_MODEL"),
        ("seal a missing file", &seal("%nothing.onnx", "%vendor/manifest.key", "%sealed2"), 9, "FILE"),
        ("sign with a public key", &seal("%breast-cancer.onnx", "%vendor/manifest.key.pub", "%sealed2"), 9, "KEY_FILE"),
        ("a signing key that others can read", &seal("%breast-cancer.onnx", "%open.key", "%s3"), 9, "KEY_FILE_MODE"),
        ("a key over a key", &["keys", "%vendor/manifest.key"], 9, "FILE"),
        ("one key in two roles", &config, 1, "CONFIG_INVALID"),
        ("control: a broker", &init("%new", &[]), 0, "accepted"),
        ("a broker over a broker", &init("%new", &[]), 9, "STATE_EXISTS"),
        ("an empty lease", &init("%new2", &["--lease-ttl", "0"]), 1, "LEASE_EMPTY"),
        ("control: import again", &import("%vendor/v2", "%vendor/v2.key.json"), 0, "accepted"),
        ("a key for another package", &import("%vendor/v2", "%vendor/v1.key.json"), 6, "IMPORT_MISMATCH"),
        ("raise the floor", &["broker", "floor", "%broker/state", "breast-cancer", "3"], 0, "accepted"),
        ("lower the floor", &["broker", "floor", "%broker/state", "breast-cancer", "2"], 1, "FLOOR_LOWERED"),
        ("a key below the floor", &import("%vendor/v2", "%vendor/v2.key.json"), 5, "SEQUENCE_BELOW_FLOOR"),
        ("revoke what is not there", &["broker", "revoke", "model", "%broker/state", "nobody"], 1, "MODEL_UNKNOWN"),
        ("revoke no lease", &["broker", "revoke", "lease", "%broker/state", "xyz"], 1, "ARGUMENT"),
        ("a ledger that is whole", &["broker", "ledger", "verify", "%broker/state"], 0, "accepted"),
        (
            "what the demo cannot serve",
            &["demo", "--no-attacks", "--model", "%not.onnx", "--input", "%heldout.json"],
            10,
            "DEMO_STEP",
        ),
    ]);
    scene.edit("broker/state/ledger.jsonl", "\"sequence\":2", "\"sequence\":1");
    fs::set_permissions(scene.at("new/kek"), fs::Permissions::from_mode(0o644)).unwrap();
    scene.play(&[
        ("a ledger that somebody changed", &["broker", "ledger", "verify", "%broker/state"], 9, "LEDGER_BROKEN"),
        ("and its broker does not start", &["broker", "serve", "%broker/state"], 9, "LEDGER_BROKEN"),
        ("a key file that others can read", &["broker", "serve", "%new"], 9, "KEY_FILE_MODE"),
    ]);
}

#[test]
fn ports_and_peers() {
    let scene = &Scene::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = taken.local_addr().unwrap().to_string();
    let (broker, address) = scene.broker();
    let policy = "%customer/policy.toml";
    let infer =
        |address| ["infer", address, "--policy", policy, "--model", "breast-cancer", "--input", "%heldout.json"];
    let second = Scene::new();
    let listen = second.text("broker/state/broker.toml").lines().find(|l| l.starts_with("listen")).unwrap().to_owned();
    second.edit("broker/state/broker.toml", &listen, &format!("listen = \"{silent}\""));
    let proxy = |listen| ["proxy", "--upstream", "127.0.0.1:1", "--policy", policy, "--listen", listen];
    let other = second.at("broker/state");
    scene.play(&[
        ("nobody there", &["verify", "127.0.0.1:1", "--policy", policy], 8, "PEER_UNREACHABLE"),
        ("nobody there to answer", &infer("127.0.0.1:1"), 8, "PEER_UNREACHABLE"),
        ("a broker instead of an enclave", &["verify", &address, "--policy", policy], 8, "PEER_STATUS"),
        ("no address", &["verify", "enclave", "--policy", policy], 1, "ADDRESS_INVALID"),
        (
            "a model id that leaves its folder",
            &["infer", "127.0.0.1:1", "--policy", policy, "--model", "../m", "--input", "%heldout.json"],
            1,
            "USAGE",
        ),
        ("proxy on a port in use", &proxy(&silent), 9, "PORT_IN_USE"),
        ("proxy for everybody", &proxy("0.0.0.0:0"), 1, "PROXY_NOT_LOOPBACK"),
        ("broker on a port in use", &["broker", "serve", &other], 9, "PORT_IN_USE"),
        ("a second broker on one state", &["broker", "serve", "%broker/state"], 9, "STATE_LOCKED"),
    ]);
    let launch = |words: &[&'static str], listen: &str| {
        let paths = ["operator/config.toml", "operator/models", "tester/root"].map(|n| scene.at(n));
        let [config, models, root] = paths.each_ref().map(String::as_str);
        let mut args =
            vec!["launch", "--config", config, "--models", models, "--simulator-root", root, "--listen", listen];
        args.extend(words);
        told(&args)
    };
    let simulated = ["--backend", "sim-process", "--ready-timeout", "1"];
    assert_eq!(launch(&simulated, &silent), (9, "PORT_IN_USE".to_owned()));
    let tdx = ["--backend", "tdx", "--image", "image", "--firmware", "tdvf.fd"];
    for (words, code) in [(&["--backend", "snp", "--image", "image"][..], 7), (&tdx, 7), (&["--backend", "snp"], 1)] {
        let named = if code == 7 { "HOST_UNSUPPORTED" } else { "USAGE" };
        assert_eq!(launch(words, "127.0.0.1:0"), (code, named.to_owned()), "{words:?}");
    }
    drop(broker);
    drop(taken);

    // Interrupted while a peer keeps it waiting.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut verify = Command::new(program("vouchsafe"))
        .args([
            "verify",
            &silent.local_addr().unwrap().to_string(),
            "--policy",
            &scene.at("customer/policy.toml"),
            "--json",
        ])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let _peer = silent.accept().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    assert!(Command::new("kill").args(["-INT", &verify.id().to_string()]).status().unwrap().success());
    assert_eq!(verify.wait().unwrap().code(), Some(130));
}

/// The launcher binds what it is given: a policy that names another configuration is what refuses it.
#[test]
fn a_configuration_that_no_policy_names_gets_no_key() {
    let scene = Scene::new();
    let other = format!("config_digests = [\"{}\"]", "1".repeat(64));
    let policy = scene.text("broker/policy.toml");
    scene.edit("broker/policy.toml", "config_digests = \"any\"", &other);
    let (broker, _) = scene.broker();
    let mut launch: Service = scene.launch("operator/models", &["--ready-timeout", "5"]);
    let end = launch.wait_until("serving or refusing", |e| e["state"] == "serving" || e["fatal"].is_object());
    assert_eq!((end["fatal"]["code"].as_str(), launch.wait()), (Some("KEY_REFUSED"), Some(8)));
    assert_eq!(scene.ledger_code(end["fatal"]["ticket"].as_str().unwrap()), "CONFIG_DIGEST_NOT_ALLOWED");
    drop(broker);
    scene.write("broker/policy.toml", &policy);
    let (_broker, _) = scene.broker();
    let (_enclave, address) = scene.serve();
    assert_eq!(scene.infer(&address), (0, "accepted".to_owned()), "control");
    let customer = scene.text("customer/policy.toml").replace("config_digests = \"any\"", &other);
    scene.write("customer/policy.toml", &customer);
    assert_eq!(scene.infer(&address), (4, "CONFIG_DIGEST_NOT_ALLOWED".to_owned()));
}
