//! Turns a sealed package that was cut, changed or exchanged on its way into refusals: by `package verify` and by an enclave.
//! The undamaged package is accepted by both, before and after. No key is needed here.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    process::{Command, Stdio},
    sync::OnceLock,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::signature::Ed25519KeyPair;
use serde_json::Value;
use vouchsafe_attestation::dsse;
use vouchsafe_tests::{
    Scene,
    programs::program,
    scene::{code, copy_dir, told},
};

const MIB: usize = 1 << 20;

/// A story whose vendor sealed version 3: the graph and two more files of three chunks and a last, empty one.
fn vendor() -> &'static Scene {
    static VENDOR: OnceLock<Scene> = OnceLock::new();
    VENDOR.get_or_init(|| {
        let scene = Scene::new();
        for (name, byte) in [("a.bin", 7_u8), ("b.bin", 9)] {
            fs::write(scene.at(name), vec![byte; 3 * MIB]).unwrap();
        }
        let [model, key, to, out] =
            ["breast-cancer.onnx", "vendor/manifest.key", "vendor/broker.pub", "vendor/v3"].map(|n| scene.at(n));
        let more = ["a.bin", "b.bin"].map(|n| format!("labels={}", scene.at(n)));
        let words = ["seal", &model, "--id", "breast-cancer", "--sequence", "3", "--sign-with", &key, "--to", &to];
        let rest = ["--out", &out, "--rehearsal", "--file", &more[0], "--file", &more[1]];
        assert_eq!(told(&[&words[..], &rest].concat()), (0, "accepted".to_owned()));
        scene
    })
}

fn key() -> Ed25519KeyPair {
    Ed25519KeyPair::from_pkcs8(&fs::read(vendor().at("vendor/manifest.key")).unwrap()).unwrap()
}

fn stranger() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap()
}

fn payload(envelope: &Value) -> Vec<u8> {
    STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap()
}

fn verify(package: &Path) -> (i32, String) {
    told(&["package", "verify", package.to_str().unwrap(), "--vendor-key", &vendor().at("vendor/manifest.key.pub")])
}

/// A fresh copy of version 3, changed by `edit`.
fn damaged(edit: impl FnOnce(&Path)) -> (tempfile::TempDir, (i32, String)) {
    let dir = tempfile::tempdir().unwrap();
    let package = dir.path().join("breast-cancer");
    copy_dir(Path::new(&vendor().at("vendor/v3")), &package);
    assert_eq!(verify(&package), (0, "accepted".to_owned()), "control: before the change");
    edit(&package);
    let verdict = verify(&package);
    (dir, verdict)
}

fn change(path: &Path, edit: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    edit(&mut bytes);
    fs::write(path, bytes).unwrap();
}

/// Signs another manifest with the vendor's own key: only what it says is wrong, not who says it.
fn resign(package: &Path, edit: impl FnOnce(String) -> String) {
    let path = package.join("manifest.dsse.json");
    let envelope: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let payload = String::from_utf8(payload(&envelope)).unwrap();
    let edited = edit(payload.clone());
    assert_ne!(edited, payload);
    fs::write(path, dsse::sign(dsse::MANIFEST, edited.as_bytes(), &[&key()])).unwrap();
}

fn swap(package: &Path, one: &str, other: &str) {
    let (first, second) = (fs::read(package.join(one)).unwrap(), fs::read(package.join(other)).unwrap());
    fs::write(package.join(one), second).unwrap();
    fs::write(package.join(other), first).unwrap();
}

fn exchange_chunks(bytes: &mut [u8], at: usize, len: usize) {
    let (first, second) = bytes[at..at + 2 * len].split_at_mut(len);
    first.swap_with_slice(second);
}

type Case = (&'static str, i32, &'static str, fn(&Path));

/// What happened on the way, the exit status, the code, how.
const DAMAGE: &[Case] = &[
    ("blob truncated by one byte", 6, "BLOB_LENGTH", |p| change(&p.join("0001.blob"), |b| b.truncate(b.len() - 1))),
    ("one byte behind the blob", 6, "BLOB_LENGTH", |p| change(&p.join("0000.blob"), |b| b.push(0))),
    ("bit flipped in the header", 6, "BLOB_HEADER", |p| change(&p.join("0000.blob"), |b| b[0] ^= 1)),
    ("bit flipped in the header's padding", 6, "BLOB_HEADER", |p| change(&p.join("0000.blob"), |b| b[4095] ^= 1)),
    ("bit flipped in the first chunk", 6, "BLOB_CHUNK", |p| change(&p.join("0000.blob"), |b| b[4096] ^= 1)),
    ("bit flipped in the last byte", 6, "BLOB_CHUNK", |p| {
        change(&p.join("0002.blob"), |b| *b.last_mut().unwrap() ^= 0x80)
    }),
    ("bit flipped in a digest list", 6, "BLOB_LIST", |p| change(&p.join("0000.list"), |b| b[20] ^= 4)),
    ("digest list truncated", 6, "BLOB_LIST", |p| change(&p.join("0001.list"), |b| b.truncate(b.len() - 48))),
    ("two blobs swapped", 6, "BLOB_HEADER", |p| swap(p, "0001.blob", "0002.blob")),
    ("two blobs swapped, each under the other's header", 6, "BLOB_CHUNK", |p| {
        swap(p, "0001.blob", "0002.blob");
        let heads = ["0001.blob", "0002.blob"].map(|n| fs::read(p.join(n)).unwrap()[..4096].to_vec());
        change(&p.join("0001.blob"), |b| b[..4096].copy_from_slice(&heads[1]));
        change(&p.join("0002.blob"), |b| b[..4096].copy_from_slice(&heads[0]));
    }),
    ("two blobs and their lists swapped", 6, "BLOB_LIST", |p| {
        swap(p, "0001.blob", "0002.blob");
        swap(p, "0001.list", "0002.list");
    }),
    ("blob of another version", 6, "BLOB_CHUNK", |p| {
        fs::copy(vendor().at("vendor/v2/0000.blob"), p.join("0000.blob")).unwrap();
    }),
    ("blob and list of another version", 6, "BLOB_LIST", |p| {
        for name in ["0000.blob", "0000.list"] {
            fs::copy(Path::new(&vendor().at("vendor/v2")).join(name), p.join(name)).unwrap();
        }
    }),
    ("two chunks reordered", 6, "BLOB_CHUNK", |p| change(&p.join("0001.blob"), |b| exchange_chunks(b, 4096, MIB))),
    ("two chunks and their digests reordered", 6, "BLOB_LIST", |p| {
        change(&p.join("0001.blob"), |b| exchange_chunks(b, 4096, MIB));
        change(&p.join("0001.list"), |b| exchange_chunks(b, 0, 48));
    }),
    ("blob missing", 6, "PACKAGE_MISSING_FILE", |p| fs::remove_file(p.join("0001.blob")).unwrap()),
    ("digest list missing", 6, "PACKAGE_MISSING_FILE", |p| fs::remove_file(p.join("0001.list")).unwrap()),
    ("manifest missing", 6, "PACKAGE_MISSING_FILE", |p| fs::remove_file(p.join("manifest.dsse.json")).unwrap()),
    ("usage policy missing", 6, "PACKAGE_MISSING_FILE", |p| fs::remove_file(p.join("usage-policy.dsse.json")).unwrap()),
    ("a file too many", 6, "PACKAGE_EXTRA_FILE", |p| fs::write(p.join("note.txt"), "x").unwrap()),
    ("a directory instead of a blob", 6, "PACKAGE_NOT_REGULAR", |p| {
        fs::remove_file(p.join("0001.blob")).unwrap();
        fs::create_dir(p.join("0001.blob")).unwrap();
    }),
    ("a link instead of a blob", 6, "PACKAGE_NOT_REGULAR", |p| {
        fs::rename(p.join("0001.blob"), p.with_extension("aside")).unwrap();
        symlink(p.with_extension("aside"), p.join("0001.blob")).unwrap();
    }),
    ("a directory instead of the manifest", 6, "PACKAGE_NOT_REGULAR", |p| {
        fs::remove_file(p.join("manifest.dsse.json")).unwrap();
        fs::create_dir(p.join("manifest.dsse.json")).unwrap();
    }),
    ("a file instead of the package", 9, "PACKAGE_UNREADABLE", |p| {
        fs::remove_dir_all(p).unwrap();
        fs::write(p, "x").unwrap();
    }),
    ("no package", 9, "PACKAGE_UNREADABLE", |p| fs::remove_dir_all(p).unwrap()),
    ("manifest with an unknown field", 6, "MANIFEST_FIELDS", |p| resign(p, |m| m.replacen('{', "{\"note\":1,", 1))),
    ("file entry with an unknown field", 6, "MANIFEST_FIELDS", |p| {
        resign(p, |m| m.replacen("{\"index\"", "{\"note\":1,\"index\"", 1));
    }),
    ("manifest with a duplicate key", 6, "MANIFEST_FIELDS", |p| {
        resign(p, |m| m.replacen("\"sequence\":3", "\"sequence\":3,\"sequence\":9", 1));
    }),
    ("file entry with a duplicate key", 6, "MANIFEST_FIELDS", |p| {
        resign(p, |m| m.replacen("\"index\":0", "\"index\":0,\"index\":0", 1));
    }),
    ("manifest with words behind it", 6, "MANIFEST_FIELDS", |p| resign(p, |m| m + "{}")),
    ("manifest of a later version", 6, "MANIFEST_VERSION", |p| {
        resign(p, |m| m.replacen("\"version\":1", "\"version\":2", 1))
    }),
    ("file name that leaves the directory", 6, "MANIFEST_NAME", |p| resign(p, |m| m.replace("a.bin", "../a.bin"))),
    ("more signatures demanded than given", 2, "MANIFEST_THRESHOLD", |p| {
        resign(p, |m| m.replacen("\"threshold\":1", "\"threshold\":2", 1));
    }),
    ("manifest signed by somebody else", 2, "MANIFEST_SIGNATURE", |p| {
        let path = p.join("manifest.dsse.json");
        let envelope: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        fs::write(path, dsse::sign(dsse::MANIFEST, &payload(&envelope), &[&stranger()])).unwrap();
    }),
    ("manifest changed after it was signed", 2, "MANIFEST_SIGNATURE", |p| {
        change(&p.join("manifest.dsse.json"), |b| {
            let mut envelope: Value = serde_json::from_slice(b).unwrap();
            let edited = String::from_utf8(payload(&envelope)).unwrap().replace("\"sequence\":3", "\"sequence\":4");
            envelope["payload"] = STANDARD.encode(edited).into();
            *b = serde_json::to_vec(&envelope).unwrap();
        });
    }),
    ("manifest truncated", 6, "MANIFEST_ENVELOPE", |p| {
        change(&p.join("manifest.dsse.json"), |b| b.truncate(b.len() / 2))
    }),
    ("envelope with a duplicate key", 6, "MANIFEST_ENVELOPE", |p| {
        change(&p.join("manifest.dsse.json"), |b| *b = [&b"{\"payload\":\"\","[..], &b[1..]].concat());
    }),
    ("usage policy in the manifest's place", 6, "MANIFEST_ENVELOPE", |p| {
        fs::copy(p.join("usage-policy.dsse.json"), p.join("manifest.dsse.json")).unwrap();
    }),
    ("manifest larger than 1 MiB", 6, "MANIFEST_TOO_LARGE", |p| {
        change(&p.join("manifest.dsse.json"), |b| b.resize(MIB + 1, b' '))
    }),
    ("usage policy of another version", 6, "PACKAGE_USAGE_POLICY", |p| {
        fs::write(p.join("usage-policy.dsse.json"), dsse::sign(dsse::USAGE_POLICY, b"{}", &[&key()])).unwrap();
    }),
    ("usage policy signed by somebody else", 2, "PACKAGE_USAGE_SIGNATURE", |p| {
        fs::write(p.join("usage-policy.dsse.json"), dsse::sign(dsse::USAGE_POLICY, b"{}", &[&stranger()])).unwrap();
    }),
];

#[test]
fn every_damage_has_its_code_and_exit_status() {
    let mut wrong = Vec::new();
    for (what, exit, code, edit) in DAMAGE {
        let (_dir, verdict) = damaged(edit);
        println!("{what}: exit {} {}", verdict.0, verdict.1);
        if verdict != (*exit, (*code).to_owned()) {
            wrong.push((what, verdict));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn a_key_that_is_not_the_vendors_opens_nothing() {
    let scene = vendor();
    let (package, dir) = (scene.at("vendor/v3"), scene.at("vendor"));
    let stranger = scene.at("stranger.key");
    assert_eq!(told(&["keys", &stranger]).0, 0);
    let stranger = format!("{stranger}.pub");
    scene.write("empty.pub", "");
    for (what, key, exit, code) in [
        ("the vendor's key file", scene.at("vendor/manifest.key.pub"), 0, "accepted"),
        ("the vendor's key as text", scene.text("vendor/manifest.key.pub").trim().to_owned(), 0, "accepted"),
        ("another key", stranger, 2, "MANIFEST_SIGNATURE"),
        ("the broker's key", scene.at("vendor/broker.pub"), 9, "KEY_FILE"),
        ("an empty file", scene.at("empty.pub"), 9, "KEY_FILE"),
        ("no file", scene.at("nothing.pub"), 9, "FILE"),
        ("a directory", dir, 9, "FILE"),
    ] {
        assert_eq!(told(&["package", "verify", &package, "--vendor-key", &key]), (exit, code.to_owned()), "{what}");
    }
}

/// Two versions differ; a copy does not, even one whose blobs were damaged on the way: only `verify` reads them.
#[test]
fn two_versions_differ_and_a_copy_does_not() {
    let scene = vendor();
    let [older, newer, key] = ["vendor/v2", "vendor/v3", "vendor/manifest.key.pub"].map(|name| scene.at(name));
    let diff = |first: &str, second: &str| told(&["package", "diff", first, second, "--vendor-key", &key]);
    assert_eq!(diff(&older, &newer), (10, "PACKAGE_DIFFERS".to_owned()));
    assert_eq!(diff(&newer, &older), (10, "PACKAGE_DIFFERS".to_owned()));
    let (dir, verdict) = damaged(|p| change(&p.join("0000.blob"), |b| b[4096] ^= 1));
    assert_eq!(verdict, (6, "BLOB_CHUNK".to_owned()));
    let copy = dir.path().join("breast-cancer");
    assert_eq!(diff(&newer, copy.to_str().unwrap()), (0, "accepted".to_owned()));
    resign(&copy, |m| m.replacen("\"sequence\":3", "\"sequence\":4", 1));
    assert_eq!(diff(&newer, copy.to_str().unwrap()), (10, "PACKAGE_DIFFERS".to_owned()));
}

#[test]
fn a_statement_beside_the_package_is_the_one_that_was_sealed_with_it_or_refused() {
    let scene = vendor();
    for (name, text) in [("slsa.json", "{\"built\":1}"), ("data.txt", "rows of patients who agreed"), ("other", "x")] {
        scene.write(name, text);
    }
    let [model, key, to, out] =
        ["breast-cancer.onnx", "vendor/manifest.key", "vendor/broker.pub", "vendor/v4"].map(|name| scene.at(name));
    let statement = |kind: &str, name: &str| format!("{kind}={}", scene.at(name));
    let (slsa, data) = (statement("slsa-provenance", "slsa.json"), statement("dataset-statement", "data.txt"));
    let words = ["seal", &model, "--id", "breast-cancer", "--sequence", "4", "--sign-with", &key, "--to", &to];
    let seal = |out: &str, list: &[&str]| {
        let statements = list.iter().flat_map(|statement| ["--provenance", *statement]);
        let words: Vec<&str> = words.into_iter().chain(["--out", out, "--rehearsal"]).chain(statements).collect();
        told(&words)
    };
    assert_eq!(seal(&scene.at("vendor/twice"), &[&slsa, &slsa]), (1, "SEAL_PROVENANCE".to_owned()));
    assert_eq!(seal(&scene.at("vendor/card"), &["model-card=x"]), (1, "USAGE".to_owned()));
    assert_eq!(seal(&out, &[&slsa, &data]), (0, "accepted".to_owned()));
    let public = format!("{key}.pub");
    let verify = |list: &str| told(&["package", "verify", &out, "--vendor-key", &public, "--provenance", list]);
    assert_eq!(verify(&slsa), (0, "accepted".to_owned()));
    assert_eq!(verify(&data), (0, "accepted".to_owned()));
    let mismatch = (10, "PROVENANCE_MISMATCH".to_owned());
    assert_eq!(verify(&statement("slsa-provenance", "other")), mismatch);
    assert_eq!(verify(&statement("dataset-statement", "slsa.json")), mismatch, "the kind is signed, too");
    assert_eq!(verify(&statement("openssf-model-signing", "other")), mismatch);
    assert_eq!(verify(&statement("slsa-provenance", "nothing")), (9, "FILE".to_owned()));
}

/// Root may read anything; without that power it is told as anybody else would be.
#[test]
fn a_file_that_may_not_be_read_is_a_local_fault() {
    let (dir, control) = damaged(|_| {});
    assert_eq!(control, (0, "accepted".to_owned()));
    let package = dir.path().join("breast-cancer");
    for name in ["0001.blob", "manifest.dsse.json", "."] {
        let path = package.join(name);
        let mode = fs::metadata(&path).unwrap().permissions();
        fs::set_permissions(&path, Permissions::from_mode(0o000)).unwrap();
        let mut command = Command::new(program("vouchsafe"));
        if rustix::process::geteuid().is_root() {
            command = Command::new("setpriv");
            command.arg("--bounding-set=-dac_override,-dac_read_search").arg(program("vouchsafe"));
        }
        command.args(["package", "verify", package.to_str().unwrap(), "--json", "--vendor-key"]);
        let output = command.arg(vendor().at("vendor/manifest.key.pub")).stdin(Stdio::null()).output().unwrap();
        let json: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        fs::set_permissions(&path, mode).unwrap();
        assert_eq!((output.status.code(), code(&json)), (Some(9), "PACKAGE_UNREADABLE".to_owned()), "{name}");
    }
    assert_eq!(verify(&package), control, "control: readable again");
}

/// The same damage, met by the enclave itself: the code that it ends with, and the launcher's exit status.
#[test]
fn a_launched_enclave_refuses_the_same_damage() {
    let scene = vendor();
    let [state, package, wrapped] = ["broker/state", "vendor/v3", "vendor/v3.key.json"].map(|n| scene.at(n));
    assert_eq!(told(&["broker", "import", &state, "--package", &package, "--key", &wrapped]).0, 0);
    let (_broker, _) = scene.broker();
    let launch = |models: &Path| {
        let models = models.to_str().unwrap();
        let mut launch = scene.launch(models, &["--ready-timeout", "3"]);
        let end = launch.wait_until("serving or refusing", |e| e["state"] == "serving" || e["fatal"].is_object());
        if end["state"] == "serving" {
            return (0, "accepted".to_owned());
        }
        (launch.wait().unwrap(), code(&end["fatal"]))
    };
    let (good, _) = damaged(|_| {});
    assert_eq!(launch(good.path()), (0, "accepted".to_owned()), "control: before");
    for (what, expected) in [
        ("blob truncated by one byte", "BLOB_LENGTH"),
        ("bit flipped in the first chunk", "BLOB_CHUNK"),
        ("blob of another version", "BLOB_CHUNK"),
        ("bit flipped in a digest list", "BLOB_LIST"),
        ("manifest with an unknown field", "MANIFEST_FIELDS"),
        ("manifest with a duplicate key", "MANIFEST_FIELDS"),
        ("manifest signed by somebody else", "MANIFEST_SIGNATURE"),
        ("no package", "PACKAGE_MISSING"),
    ] {
        let (_, _, _, edit) = DAMAGE.iter().find(|case| case.0 == what).unwrap();
        let (dir, _) = damaged(edit);
        assert_eq!(launch(dir.path()), (8, expected.to_owned()), "{what}");
    }
    assert_eq!(launch(good.path()), (0, "accepted".to_owned()), "control: after");
}
