//! The administrator's commands, with the broker running and without; import with a real package.
//! What they revoke is seen by the gates: those tests stand beside the gates.

#![allow(clippy::unwrap_used, reason = "test helpers")]

mod support;

use std::{
    io::{Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use ring::signature::Ed25519KeyPair;
use support::{make, start};
use vouchsafe_attestation::{Mode, dsse};
use vouchsafe_broker::{admin, event::Event, import};
use vouchsafe_release::{ModelKeyRecord, WrapPublic, wrapped::wrap};
use vouchsafe_sealed::{ModelKey, Package, Role, SealInput, SealSpec, seal};

struct Sealed {
    package: PathBuf,
    wrapped: Vec<u8>,
}

fn vendor() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[42; 32]).unwrap()
}

fn seal_model(dir: &Path, to: &str, sequence: u64, uid: u8) -> Sealed {
    std::fs::write(dir.join("model.onnx"), b"not really a graph").unwrap();
    let inputs = vec![SealInput { name: "model.onnx".to_owned(), role: Role::Graph, path: dir.join("model.onnx") }];
    let usage_policy = vouchsafe_policies::usage::UsagePolicy::template("m", &[]).into_bytes();
    let spec = SealSpec {
        model_id: "m".to_owned(),
        sequence,
        mode: Mode::Simulation,
        inputs,
        usage_policy,
        provenance: Vec::new(),
        pad_to: 1,
    };
    let (key, uid) = (ModelKey::generate().unwrap(), [uid; 32]);
    let package = dir.join(format!("package-{sequence}-{}", uid[0]));
    let summary = seal(&spec, &key, uid, &[&vendor()], &package, &mut |_, _| {}).unwrap();
    let manifest_digest = summary.manifest_digest;
    let opened = Package::open(&package, &[dsse::public(&vendor())]).unwrap();
    let record = ModelKeyRecord {
        model_id: "m".to_owned(),
        uid,
        sequence,
        mode: Mode::Simulation,
        manifest_digest,
        usage_policy_digest: opened.manifest().usage_policy_digest,
        commitment: summary.commitment,
        key,
    };
    Sealed { package, wrapped: wrap(&to.parse::<WrapPublic>().unwrap(), &record).unwrap() }
}

fn with_manifest_key(state: &Path) {
    let path = state.join("broker.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let key = format!("manifest_keys = [\"{}\"]", dsse::public(&vendor()));
    std::fs::write(&path, text.replace("manifest_keys = []", &key)).unwrap();
}

fn code<T>(result: Result<T, vouchsafe_broker::BrokerError>) -> (&'static str, u8) {
    result.map(|_| ("OK", 0)).unwrap_or_else(|e| (e.code(), e.exit()))
}

#[test]
fn import_stores_what_the_vendor_signed_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (state, summary) = make(dir.path(), "");
    let one = seal_model(dir.path(), &summary.wrap_public, 1, 1);
    assert_eq!(code(import(&state, &one.package, &one.wrapped)), ("MANIFEST_KEYS_MISSING", 1));
    with_manifest_key(&state);
    let imported = import(&state, &one.package, &one.wrapped).unwrap();
    assert_eq!((imported.model.as_str(), imported.sequence, imported.mode), ("m", 1, Mode::Simulation));
    let lines = admin::ledger_verify(&state).unwrap().head.n;
    assert_eq!(code(import(&state, &one.package, &one.wrapped)), ("OK", 0));
    assert_eq!(admin::ledger_verify(&state).unwrap().head.n, lines, "the same key again changes nothing");

    let rival = seal_model(dir.path(), &summary.wrap_public, 1, 9);
    assert_eq!(code(import(&state, &rival.package, &rival.wrapped)), ("IMPORT_CONFLICT", 6));
    assert_eq!(code(import(&state, &rival.package, &one.wrapped)), ("IMPORT_MISMATCH", 6));
    assert_eq!(code(import(&state, &one.package, b"{}")), ("WRAPPED_KEY_FORM", 6));
    admin::raise_floor(&state, "m", 5).unwrap();
    let below = seal_model(dir.path(), &summary.wrap_public, 4, 4);
    assert_eq!(code(import(&state, &below.package, &below.wrapped)), ("SEQUENCE_BELOW_FLOOR", 5));

    let text = std::fs::read_to_string(state.join("models").join(format!("{}.json", hex::encode([1; 32])))).unwrap();
    assert!(text.contains("\"mode\":\"simulation\""));
}

#[test]
fn a_changed_key_file_stops_the_broker_from_starting() {
    let dir = tempfile::tempdir().unwrap();
    let (state, summary) = make(dir.path(), "");
    with_manifest_key(&state);
    let one = seal_model(dir.path(), &summary.wrap_public, 1, 1);
    import(&state, &one.package, &one.wrapped).unwrap();
    let serve = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        code(runtime.block_on(vouchsafe_broker::serve(&state, |_| {}, std::future::ready(()))))
    };
    assert_eq!(serve(), ("OK", 0), "control");
    let path = state.join("models").join(format!("{}.json", hex::encode([1; 32])));
    let good = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, good.replacen("\"m\"", "\"n\"", 1)).unwrap();
    assert_eq!(serve(), ("MODEL_KEY_CORRUPT", 9));
    std::fs::write(&path, &good).unwrap();
    for name in ["kek", "release.key", "wrap.key", "tls.key"] {
        let set = |mode| std::fs::set_permissions(state.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
        set(0o644);
        assert_eq!(serve(), ("KEY_FILE_MODE", 9), "{name}");
        set(0o600);
    }
    let ledger = std::fs::read(state.join("ledger.jsonl")).unwrap();
    let mut broken = ledger.clone();
    broken[20] ^= 1;
    std::fs::write(state.join("ledger.jsonl"), broken).unwrap();
    assert_eq!(serve(), ("LEDGER_BROKEN", 9));
    std::fs::write(state.join("ledger.jsonl"), ledger).unwrap();
    assert_eq!(serve(), ("OK", 0));
}

#[test]
fn commands_work_the_same_with_and_without_a_running_broker() {
    let dir = tempfile::tempdir().unwrap();
    let (state, summary) = make(dir.path(), "");
    with_manifest_key(&state);
    let one = seal_model(dir.path(), &summary.wrap_public, 1, 1);
    let two = seal_model(dir.path(), &summary.wrap_public, 2, 2);
    let all = |expected_sequence| {
        assert_eq!(code(admin::revoke_model(&state, "other", None)), ("MODEL_UNKNOWN", 1));
        assert_eq!(code(admin::revoke_model(&state, "m", Some(77))), ("MODEL_UNKNOWN", 1));
        assert_eq!(code(admin::revoke_lease(&state, &"00".repeat(16))), ("LEASE_UNKNOWN", 1));
        assert_eq!(code(admin::revoke_lease(&state, "xyz")), ("ARGUMENT", 1));
        assert_eq!(code(admin::revoke_platform(&state, "00")), ("ARGUMENT", 1));
        assert_eq!(code(admin::revoke_platform(&state, &"0a".repeat(64))), ("OK", 0));
        assert_eq!(code(admin::raise_floor(&state, "m", 2)), ("OK", 0));
        assert_eq!(code(admin::raise_floor(&state, "m", 1)), ("FLOOR_LOWERED", 1));
        let recorded = admin::revoke_model(&state, "m", Some(expected_sequence)).unwrap();
        assert_eq!(admin::ledger_verify(&state).unwrap().head.hash, recorded.head);
    };
    assert_eq!(code(import(&state, &one.package, &one.wrapped)), ("OK", 0));
    all(1);
    let broker = start(&state);
    assert_eq!(code(import(&state, &two.package, &two.wrapped)), ("OK", 0), "through the socket");
    all(2);
    let mode = std::fs::metadata(state.join("admin.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let foreign = {
        let mut stream = std::os::unix::net::UnixStream::connect(state.join("admin.sock")).unwrap();
        stream.write_all(b"{\"op\":\"leases\"}\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert_eq!(foreign, "{\"error\":{\"code\":\"ADMIN_REQUEST\"}}\n");
    broker.stop();

    let revoked: Vec<_> = admin::ledger_show(&state, None)
        .unwrap()
        .into_iter()
        .filter_map(|e| match e.line.event {
            Event::ModelRevoked { sequence, .. } => sequence,
            _ => None,
        })
        .collect();
    assert_eq!(revoked, [1, 2]);
    assert!(admin::leases(&state).unwrap().is_empty());
}

#[test]
fn tickets_are_shown_and_a_missing_broker_is_said_so() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = make(dir.path(), "");
    let broker = start(&state);
    let answer = broker.client().send("POST", "/kbs/v0/auth", None, b"x");
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    let ticket = detail.strip_prefix("ticket ").unwrap();
    let shown = admin::ledger_show(&state, Some(ticket)).unwrap();
    assert_eq!(shown.len(), 1);
    assert!(String::from_utf8(shown[0].line.to_bytes()).unwrap().contains("\"code\":\"RCAR_MESSAGE\""));
    assert_eq!(code(admin::ledger_show(&state, Some("nonsense"))), ("ARGUMENT", 1));
    assert!(admin::ledger_show(&state, Some(&"00".repeat(16))).unwrap().is_empty());
    let nowhere = dir.path().join("nowhere");
    assert_eq!(code(admin::leases(&nowhere)), ("STATE_MISSING", 9));
    assert_eq!(code(admin::revoke_model(&nowhere, "m", None)), ("STATE_MISSING", 9));
    let again = vouchsafe_broker::InitOptions {
        listen: "127.0.0.1:0".parse().unwrap(),
        policy: "p".into(),
        lease: vouchsafe_release::Lease::DEFAULT,
        manifest_keys: vec![],
    };
    assert_eq!(code(vouchsafe_broker::init(&state, &again)), ("STATE_EXISTS", 9));
}

#[test]
fn a_deep_directory_is_no_obstacle_to_the_socket() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("d".repeat(120));
    std::fs::create_dir(&deep).unwrap();
    let (state, summary) = make(&deep, "");
    with_manifest_key(&state);
    let one = seal_model(dir.path(), &summary.wrap_public, 1, 1);
    let broker = start(&state);
    assert_eq!(code(import(&state, &one.package, &one.wrapped)), ("OK", 0));
    broker.stop();
}
