//! Turns the fixed fixture into the committed vectors of `tests/vectors/sealed`, and walks and counts them.
//! `cargo test -p vouchsafe-sealed -- --ignored write_vectors` writes them anew; a changed byte is a changed format.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use serde_json::json;
use vouchsafe_attestation::{Ed25519Public, dsse, lp::sha256};

use super::{
    second,
    support::{
        Files, Fixture, blob, judge_dir, list, load, pattern, payload, resign, resign_list, sign, signer, store,
    },
};
use crate::{
    HEADER_LEN, Manifest, ModelKey, Provenance, Role, Statement,
    chunk::ChunkKey,
    digest_list,
    directory::{MANIFEST, USAGE_POLICY},
    key::FileContext,
};

const ACCEPTED: usize = 5;
const REFUSED: usize = 58;
const MIB: usize = 1 << 20;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/sealed")
}

struct Vector {
    files: Files,
    key: [u8; 32],
    vendor_keys: Vec<Ed25519Public>,
    expected: Expected,
}

enum Expected {
    Plaintexts(Vec<Vec<u8>>),
    Code(&'static str),
}

fn accepted(fixture: &Fixture) -> Vector {
    let expected = Expected::Plaintexts(fixture.plaintexts());
    Vector { files: fixture.files(), key: fixture.key, vendor_keys: fixture.vendor_keys(), expected }
}

fn all() -> BTreeMap<&'static str, Vector> {
    let mut out = BTreeMap::new();
    out.insert("accept-small", accepted(&Fixture::small()));
    out.insert("accept-empty-graph", accepted(&Fixture::of_graph(Vec::new(), 1)));
    out.insert("accept-two-signers", accepted(&Fixture { seeds: vec![0x33, 0x44], ..Fixture::small() }));
    let mut roles = Fixture { pad_to: 1, ..Fixture::small() };
    for (name, role) in [
        ("model.onnx_data", Role::ExternalData),
        ("tokenizer.json", Role::Tokenizer),
        ("preprocess.json", Role::Preprocess),
    ] {
        roles.inputs.push((name, role, pattern(name.len() * 10)));
    }
    out.insert("accept-every-role", accepted(&roles));
    let beside = |kind: Statement| sha256(format!("an example of {}\n", kind.as_str()).as_bytes());
    let provenance = Statement::ALL.map(|kind| Provenance { kind, sha256: beside(kind) }).to_vec();
    out.insert("accept-provenance", accepted(&Fixture { provenance, ..Fixture::small() }));

    let mut refuse = |name, code, change: &dyn Fn(&mut Vector)| {
        let mut vector = Vector { expected: Expected::Code(code), ..accepted(&Fixture::small()) };
        change(&mut vector);
        assert!(out.insert(name, vector).is_none(), "{name} twice");
    };
    envelopes(&mut refuse);
    manifests(&mut refuse);
    directories(&mut refuse);
    blobs(&mut refuse);
    insiders(&mut refuse);
    out
}

type Refuse<'a> = dyn FnMut(&'static str, &'static str, &dyn Fn(&mut Vector)) + 'a;

/// Changes of the signed envelopes, by someone without the vendor's key.
fn envelopes(refuse: &mut Refuse<'_>) {
    let edit = |v: &mut Vector, from: &str, to: &str| {
        let text = String::from_utf8(v.files[MANIFEST].clone()).unwrap();
        assert!(text.contains(from), "{from}");
        v.files.insert(MANIFEST.into(), text.replacen(from, to, 1).into_bytes());
    };
    refuse("envelope-unknown-field", "MANIFEST_ENVELOPE", &|v| edit(v, "{", "{\"x\":1,"));
    refuse("envelope-duplicate-field", "MANIFEST_ENVELOPE", &|v| edit(v, "{", "{\"payload\":\"\","));
    refuse("envelope-payload-type", "MANIFEST_ENVELOPE", &|v| edit(v, "manifest.v1+json", "key-bundle.v1+json"));
    refuse("envelope-trailing-bytes", "MANIFEST_ENVELOPE", &|v| v.files.get_mut(MANIFEST).unwrap().push(b'x'));
    refuse("envelope-no-signatures", "MANIFEST_SIGNATURE", &|v| {
        let unsigned = dsse::sign(dsse::MANIFEST, payload(&v.files).as_bytes(), &[]);
        v.files.insert(MANIFEST.into(), unsigned);
    });
    refuse("manifest-changed-after-signing", "MANIFEST_SIGNATURE", &|v| {
        let other = Fixture { sequence: 8, ..Fixture::small() }.files();
        let envelope = |f: &Files| serde_json::from_slice::<serde_json::Value>(&f[MANIFEST]).unwrap();
        let mut mixed = envelope(&v.files);
        mixed["payload"] = envelope(&other)["payload"].clone();
        v.files.insert(MANIFEST.into(), mixed.to_string().into_bytes());
    });
    refuse("wrong-vendor-key", "MANIFEST_SIGNATURE", &|v| v.vendor_keys = vec![dsse::public(&signer(0x55))]);
    refuse("threshold-not-met", "MANIFEST_THRESHOLD", &|v| {
        resign(&mut v.files, &[0x33], "\"threshold\":1", "\"threshold\":2");
    });
    refuse("usage-policy-of-another-package", "PACKAGE_USAGE_POLICY", &|v| {
        let other = dsse::sign(dsse::USAGE_POLICY, b"{\"version\":1}", &[&signer(0x33)]);
        v.files.insert(USAGE_POLICY.into(), other);
    });
    refuse("usage-policy-payload-type", "PACKAGE_USAGE_POLICY", &|v| {
        v.files.insert(USAGE_POLICY.into(), v.files[MANIFEST].clone());
    });
    refuse("usage-policy-not-signed-by-vendor", "PACKAGE_USAGE_SIGNATURE", &|v| {
        let foreign = dsse::sign(dsse::USAGE_POLICY, super::support::USAGE, &[&signer(0x55)]);
        v.files.insert(USAGE_POLICY.into(), foreign);
    });
}

/// Manifests that the vendor signed and that must be refused all the same.
fn manifests(refuse: &mut Refuse<'_>) {
    let mut edit = |name, code, from: &str, to: &str| {
        refuse(name, code, &|v| resign(&mut v.files, &[0x33], from, to));
    };
    let fields = "MANIFEST_FIELDS";
    edit("manifest-unknown-field", fields, "{\"version\":1", "{\"version\":1,\"compression\":\"none\"");
    edit("manifest-duplicate-field", fields, "{\"version\":1", "{\"version\":1,\"version\":1");
    edit("manifest-missing-field", fields, "\"sequence\":7,", "");
    edit("manifest-sequence-overflows", fields, "\"sequence\":7", "\"sequence\":18446744073709551616");
    edit("manifest-upper-case-hex", fields, "\"model_uid\":\"2222", "\"model_uid\":\"AAAA");
    edit("manifest-unknown-role", fields, "\"role\":\"labels\"", "\"role\":\"custom-op\"");
    edit("manifest-threshold-zero", fields, "\"threshold\":1", "\"threshold\":0");
    edit("file-unknown-field", fields, "{\"index\":0", "{\"index\":0,\"key\":\"\"");
    edit("file-duplicate-field", fields, "{\"index\":0", "{\"index\":0,\"index\":0");
    let none = "\"provenance\":[]";
    let list = |entries: &[&str]| format!("\"provenance\":[{}]", entries.join(","));
    let statement = |kind: &str, n: u8| format!("{{\"type\":\"{kind}\",\"sha256\":\"{}\"}}", hex::encode(sha256(&[n])));
    let slsa: Vec<String> = (0..17).map(|n| statement("slsa-provenance", n)).collect();
    let slsa: Vec<&str> = slsa.iter().map(String::as_str).collect();
    edit("provenance-missing", fields, "\"provenance\":[],", "");
    edit("provenance-unknown-type", fields, none, &list(&[&statement("model-card", 1)]));
    edit("provenance-unknown-field", fields, none, &list(&[&slsa[1].replacen('}', ",\"path\":\"\"}", 1)]));
    edit("provenance-twice", "MANIFEST_PROVENANCE", none, &list(&[slsa[1], slsa[2], slsa[1]]));
    edit("provenance-too-many", "MANIFEST_PROVENANCE", none, &list(&slsa));
    edit("manifest-version", "MANIFEST_VERSION", "{\"version\":1", "{\"version\":2");
    edit("manifest-model-id", "MANIFEST_MODEL_ID", "\"model_id\":\"vector\"", "\"model_id\":\"../vector\"");
    edit("file-indices-out-of-order", "MANIFEST_FILES", "\"index\":1", "\"index\":2");
    let name = "\"name\":\"labels.txt\"";
    edit("name-slash", "MANIFEST_NAME", name, "\"name\":\"a/b\"");
    edit("name-dot-dot", "MANIFEST_NAME", name, "\"name\":\"a..b\"");
    edit("name-leading-dot", "MANIFEST_NAME", name, "\"name\":\".labels\"");
    edit("name-not-ascii", "MANIFEST_NAME", name, "\"name\":\"l\u{e4}bels\"");
    edit("name-empty", "MANIFEST_NAME", name, "\"name\":\"\"");
    edit("name-case-clash", "MANIFEST_NAME_CLASH", name, "\"name\":\"Model.ONNX\"");
    edit("roles-two-graphs", "MANIFEST_ROLES", "\"role\":\"labels\"", "\"role\":\"graph\"");
    edit("roles-no-digests", "MANIFEST_ROLES", "\"role\":\"digests\"", "\"role\":\"tokenizer\"");
    edit("length-overflow", "MANIFEST_LENGTH", "\"padded_len\":64", "\"padded_len\":18446744073709551615");
    edit("length-contradiction", "MANIFEST_LENGTH", "\"blob_len\":4160", "\"blob_len\":4161");
    refuse("manifest-no-files", "MANIFEST_FILES", &|v| {
        let mut manifest: Manifest = serde_json::from_str(&payload(&v.files)).unwrap();
        manifest.files.clear();
        sign(&mut v.files, &[0x33], std::str::from_utf8(&manifest.to_bytes()).unwrap());
    });
}

fn directories(refuse: &mut Refuse<'_>) {
    refuse("extra-file", "PACKAGE_EXTRA_FILE", &|v| drop(v.files.insert("0003.blob".into(), vec![0])));
    refuse("missing-blob", "PACKAGE_MISSING_FILE", &|v| drop(v.files.remove("0001.blob")));
    refuse("missing-usage-policy", "PACKAGE_MISSING_FILE", &|v| drop(v.files.remove(USAGE_POLICY)));
}

fn blobs(refuse: &mut Refuse<'_>) {
    refuse("blob-truncated", "BLOB_LENGTH", &|v| {
        blob(&mut v.files, 0).pop();
    });
    refuse("blob-header-only", "BLOB_LENGTH", &|v| blob(&mut v.files, 0).truncate(HEADER_LEN));
    refuse("blob-trailing-byte", "BLOB_LENGTH", &|v| blob(&mut v.files, 0).push(0));
    refuse("header-magic", "BLOB_HEADER", &|v| blob(&mut v.files, 0)[0] ^= 1);
    refuse("header-padding", "BLOB_HEADER", &|v| blob(&mut v.files, 0)[HEADER_LEN - 1] = 1);
    refuse("blobs-swapped", "BLOB_HEADER", &|v| {
        let (zero, one) = (v.files["0000.blob"].clone(), v.files["0001.blob"].clone());
        (*blob(&mut v.files, 0), *blob(&mut v.files, 1)) = (one, zero);
    });
    refuse("ciphertext-bit-flip", "BLOB_CHUNK", &|v| blob(&mut v.files, 0)[HEADER_LEN + 3] ^= 0x10);
    refuse("blob-of-another-version", "BLOB_CHUNK", &|v| {
        *blob(&mut v.files, 0) = Fixture { sequence: 6, ..Fixture::small() }.files()["0000.blob"].clone();
    });
    refuse("list-bit-flip", "BLOB_LIST", &|v| list(&mut v.files, 0)[20] ^= 1);
    refuse("list-truncated", "BLOB_LIST", &|v| {
        list(&mut v.files, 0).pop();
    });
    refuse("wrong-model-key", "KEY_COMMITMENT", &|v| v.key = [0x12; 32]);
}

/// Packages that only someone with manifest key *and* model key can make.
fn insiders(refuse: &mut Refuse<'_>) {
    refuse("insider-wrong-tag", "BLOB_TAG", &|v| {
        let body = v.files["0000.blob"][HEADER_LEN..].to_vec();
        *list(&mut v.files, 0) = digest_list::entry(&body, &[0; 16]).to_vec();
        resign_list(&mut v.files, &[0x33], 0);
    });
    refuse("insider-sealed-length-garbled", "BLOB_TRUE_LENGTH", &|v| {
        edit_file(v, 0, |manifest, _| manifest.files[0].sealed_len[23] ^= 1);
    });
    refuse("insider-true-length-too-long", "BLOB_TRUE_LENGTH", &|v| {
        edit_file(v, 0, |manifest, key| manifest.files[0].sealed_len = key.seal_length(65));
    });
    refuse("insider-padding-not-zero", "BLOB_PADDING", &|v| {
        edit_file(v, 0, |manifest, key| manifest.files[0].sealed_len = key.seal_length(35));
    });
    refuse("insider-digests-of-other-names", "BLOB_DIGESTS", &|v| {
        resign(&mut v.files, &[0x33], "labels.txt", "lapels.txt");
    });
}

fn edit_file(v: &mut Vector, index: usize, change: impl Fn(&mut Manifest, &ChunkKey)) {
    let mut manifest: Manifest = serde_json::from_str(&payload(&v.files)).unwrap();
    let file = manifest.files[index].clone();
    let context = FileContext {
        uid: &manifest.model_uid.clone(),
        sequence: manifest.sequence,
        index: file.index,
        padded_len: file.padded_len,
        salt: &file.salt,
    };
    let key = ChunkKey::derive(&ModelKey::from_bytes(v.key), &context);
    change(&mut manifest, &key);
    sign(&mut v.files, &[0x33], std::str::from_utf8(&manifest.to_bytes()).unwrap());
}

/// A vector as files below its own directory.
fn on_disk(vector: &Vector) -> Files {
    let mut out = Files::new();
    out.extend(vector.files.iter().map(|(name, bytes)| (format!("package/{name}"), bytes.clone())));
    out.insert("model.key.hex".into(), (hex::encode(vector.key) + "\n").into_bytes());
    let keys: String = vector.vendor_keys.iter().map(|k| format!("{k}\n")).collect();
    out.insert("vendor.pub".into(), keys.into_bytes());
    match &vector.expected {
        Expected::Code(code) => drop(out.insert("code".into(), format!("{code}\n").into_bytes())),
        Expected::Plaintexts(list) => {
            for (i, plain) in list.iter().enumerate() {
                out.insert(format!("plaintext/{i:04}"), plain.clone());
            }
        }
    }
    out
}

/// Digests of packages that are too large to commit: the same fixture with a graph of `pattern(len)`.
fn large() -> String {
    let mut rows = Vec::new();
    for len in [0, 1, MIB - 1, MIB, MIB + 1, 3 * MIB] {
        for pad_to in [1, 4096] {
            let files = Fixture::of_graph(pattern(len), pad_to).files();
            rows.push(json!({
                "len": len,
                "pad_to": pad_to,
                "manifest_sha256": hex::encode(sha256(payload(&files).as_bytes())),
                "blob_blake3": blake3::hash(&files["0000.blob"]).to_string(),
                "list_blake3": blake3::hash(&files["0000.list"]).to_string(),
            }));
        }
    }
    let file = json!({ "graph": "byte i = (i*i + i/256) mod 251", "salt of file i": "SHA-256(0x00 || u8(i + 1))", "packages": rows });
    serde_json::to_string_pretty(&file).unwrap() + "\n"
}

fn read(dir: &Path, prefix: &str) -> Files {
    let mut out = Files::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let name = format!("{prefix}{}", entry.file_name().into_string().unwrap());
        if entry.file_type().unwrap().is_dir() {
            out.extend(read(&entry.path(), &format!("{name}/")));
        } else {
            out.insert(name, fs::read(entry.path()).unwrap());
        }
    }
    out
}

#[test]
#[ignore = "writes the committed vectors anew"]
fn write_vectors() {
    let _ = fs::remove_dir_all(root());
    for (name, vector) in all() {
        for sub in ["package", "plaintext"] {
            let prefix = format!("{sub}/");
            let files = on_disk(&vector).into_iter();
            let below: Files = files.filter_map(|(n, b)| Some((n.strip_prefix(&prefix)?.to_owned(), b))).collect();
            if !below.is_empty() {
                store(&root().join(name).join(sub), &below);
            }
        }
        let top: Files = on_disk(&vector).into_iter().filter(|(n, _)| !n.contains('/')).collect();
        store(&root().join(name), &top);
    }
    fs::write(root().join("large.json"), large()).unwrap();
}

#[test]
fn this_code_still_writes_the_committed_bytes() {
    let all = all();
    for (name, vector) in &all {
        assert!(read(&root().join(name), "") == on_disk(vector), "{name} differs from the committed vector");
    }
    // As values: the order of a JSON object's fields depends on which other crates are built along.
    let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(value(&fs::read_to_string(root().join("large.json")).unwrap()), value(&large()));
}

#[test]
fn every_committed_vector_gives_its_plaintext_or_its_code() {
    let (mut accepted, mut refused, mut codes) = (0, 0, BTreeSet::new());
    let generated = all();
    for entry in fs::read_dir(root()).unwrap().map(Result::unwrap).filter(|e| e.file_type().unwrap().is_dir()) {
        let (name, dir) = (entry.file_name().into_string().unwrap(), entry.path());
        assert!(generated.contains_key(name.as_str()), "{name} is no vector of this list");
        let text = |file: &str| fs::read_to_string(dir.join(file)).unwrap();
        let mut key = [0; 32];
        hex::decode_to_slice(text("model.key.hex").trim(), &mut key).unwrap();
        let vendor_keys: Vec<Ed25519Public> = text("vendor.pub").lines().map(|l| l.parse().unwrap()).collect();
        let result = judge_dir(&dir.join("package"), &ModelKey::from_bytes(key), &vendor_keys);
        if dir.join("code").exists() {
            let error = result.expect_err(&name);
            assert_eq!(error.code(), text("code").trim(), "{name}");
            codes.insert(error.code());
            refused += 1;
        } else {
            let plain: Vec<_> = load(&dir.join("plaintext")).into_values().collect();
            assert_eq!(second::unseal(&load(&dir.join("package")), &key), plain, "{name}, second implementation");
            assert_eq!(result.unwrap(), plain, "{name}");
            accepted += 1;
        }
    }
    assert_eq!((accepted, refused), (ACCEPTED, REFUSED));
    println!("{accepted} accepted, {refused} refused by {} codes: {codes:?}", codes.len());
}
