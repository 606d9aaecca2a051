//! Turns two packages of one vendor into the list of what their signed manifests, usage policies and signers do not share.
//! It reads no blob and needs no key: equal weights under two keys look as different as other weights do.

use std::collections::BTreeSet;

use serde_json::Value;
use vouchsafe_sealed::{FileEntry, Package};

use crate::differences::Difference;

/// Everything that differs, in the order of the manifest: `manifest`, `field`, `provenance`, `file`, `usage-policy`, `signer`. An empty
/// list means: the same manifest, byte for byte, the same usage policy and the same signers.
pub fn differences(first: &Package, second: &Package) -> Vec<Difference> {
    let mut found = Found(Vec::new());
    found.compare("manifest", "digest", hex::encode(first.manifest_digest()), hex::encode(second.manifest_digest()));
    for ((name, one), (_, other)) in fields(first).into_iter().zip(fields(second)) {
        found.compare("field", name, one, other);
    }
    found.sets("provenance", &provenance(first), &provenance(second));
    files(&mut found, first, second);
    usage_policies(&mut found, first, second);
    let signers = |package: &Package| package.signers().iter().map(ToString::to_string).collect::<Vec<_>>();
    found.sets("signer", &signers(first), &signers(second));
    found.0
}

struct Found(Vec<Difference>);

impl Found {
    fn compare(&mut self, kind: &'static str, name: &str, first: String, second: String) {
        if first != second {
            self.put(kind, name, Some(first), Some(second));
        }
    }

    fn put(&mut self, kind: &'static str, name: &str, first: Option<String>, second: Option<String>) {
        self.0.push(Difference { kind, name: name.to_owned(), first, second });
    }

    /// What only one of them has; the name says what it is, both values that it is there.
    fn sets(&mut self, kind: &'static str, first: &[String], second: &[String]) {
        let there = || Some("there".to_owned());
        for only in first.iter().filter(|one| !second.contains(one)) {
            self.put(kind, only, there(), None);
        }
        for only in second.iter().filter(|one| !first.contains(one)) {
            self.put(kind, only, None, there());
        }
    }
}

/// The manifest's own fields, but the lists.
fn fields(package: &Package) -> [(&'static str, String); 8] {
    let manifest = package.manifest();
    [
        ("version", manifest.version.to_string()),
        ("mode", manifest.mode.to_string()),
        ("model_id", manifest.model_id.clone()),
        ("model_uid", hex::encode(manifest.model_uid)),
        ("sequence", manifest.sequence.to_string()),
        ("model_commitment", hex::encode(manifest.model_commitment)),
        ("usage_policy_digest", hex::encode(manifest.usage_policy_digest)),
        ("threshold", manifest.threshold.to_string()),
    ]
}

fn provenance(package: &Package) -> Vec<String> {
    let list = package.manifest().provenance.iter();
    list.map(|statement| format!("{} {}", statement.kind.as_str(), hex::encode(statement.sha256))).collect()
}

/// Files are the same file when they have the same name.
fn files(found: &mut Found, first: &Package, second: &Package) {
    let (ours, theirs) = (&first.manifest().files, &second.manifest().files);
    for file in ours {
        let Some(other) = theirs.iter().find(|other| other.name == file.name) else {
            found.put("file", &file.name, Some(summary(file)), None);
            continue;
        };
        for ((what, one), (_, other)) in entry(file).into_iter().zip(entry(other)) {
            found.compare("file", &format!("{} {what}", file.name), one, other);
        }
    }
    for file in theirs.iter().filter(|file| ours.iter().all(|other| other.name != file.name)) {
        found.put("file", &file.name, None, Some(summary(file)));
    }
}

/// `blob_len` follows from `padded_len`.
fn entry(file: &FileEntry) -> [(&'static str, String); 6] {
    [
        ("index", file.index.to_string()),
        ("role", file.role.as_str().to_owned()),
        ("padded_len", file.padded_len.to_string()),
        ("salt", hex::encode(file.salt)),
        ("sealed_len", hex::encode(file.sealed_len)),
        ("list_digest", hex::encode(file.list_digest)),
    ]
}

fn summary(file: &FileEntry) -> String {
    format!("{}, {} bytes, list {}", file.role.as_str(), file.padded_len, hex::encode(file.list_digest))
}

/// Rule by rule. What is not JSON, or differs in its spelling only, has another digest, which is told above.
fn usage_policies(found: &mut Found, first: &Package, second: &Package) {
    let parse = |package: &Package| serde_json::from_slice::<Value>(package.usage_policy_bytes()).unwrap_or_default();
    let (first, second) = (parse(first), parse(second));
    let names = |policy: &Value| {
        let rules = policy.as_object().map(|rules| rules.keys().cloned().collect::<BTreeSet<_>>());
        rules.unwrap_or_default()
    };
    let (ours, theirs) = (names(&first), names(&second));
    for name in ours.union(&theirs) {
        let [one, other] = [&first, &second].map(|policy| policy.get(name).map(ToString::to_string));
        if one != other {
            found.put("usage-policy", name, one, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use ring::signature::Ed25519KeyPair;
    use vouchsafe_attestation::{Mode, dsse};
    use vouchsafe_sealed::{ModelKey, Provenance, Role, SealInput, SealSpec, Statement, seal};

    use super::*;

    fn sealed(dir: &Path, name: &str, signers: &[u8], change: impl FnOnce(&mut SealSpec)) -> Package {
        let path = dir.join("graph");
        fs::write(&path, b"a graph").unwrap();
        let input = |name: &str, role| SealInput { name: name.to_owned(), role, path: path.clone() };
        let mut spec = SealSpec {
            model_id: "m".to_owned(),
            sequence: 1,
            mode: Mode::Simulation,
            inputs: vec![input("model.onnx", Role::Graph), input("labels.txt", Role::Labels)],
            usage_policy: br#"{"version":1,"expires":"never"}"#.to_vec(),
            provenance: Vec::new(),
            pad_to: 1,
        };
        change(&mut spec);
        let keys: Vec<_> = signers.iter().map(|n| Ed25519KeyPair::from_seed_unchecked(&[*n; 32]).unwrap()).collect();
        let (out, key) = (dir.join(name), ModelKey::from_bytes([7; 32]));
        seal(&spec, &key, [1; 32], &keys.iter().collect::<Vec<_>>(), &out, &mut |_, _| {}).unwrap();
        Package::open(&out, &keys.iter().map(dsse::public).collect::<Vec<_>>()).unwrap()
    }

    fn names(found: &[Difference], kind: &str) -> Vec<String> {
        found.iter().filter(|difference| difference.kind == kind).map(|difference| difference.name.clone()).collect()
    }

    #[test]
    fn a_package_does_not_differ_from_itself() {
        let dir = tempfile::tempdir().unwrap();
        let package = sealed(dir.path(), "p", &[1], |_| {});
        let found = differences(&package, &package);
        assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn sealed_twice_salts_differ_and_with_them_what_is_made_of_them() {
        let dir = tempfile::tempdir().unwrap();
        let [one, other] = ["p", "q"].map(|name| sealed(dir.path(), name, &[1], |_| {}));
        let found = differences(&one, &other);
        assert_eq!(names(&found, "manifest"), ["digest"]);
        let each = |file: &str| ["salt", "sealed_len", "list_digest"].map(|what| format!("{file} {what}"));
        assert_eq!(names(&found, "file"), ["model.onnx", "labels.txt", "digests.json"].map(each).concat());
        assert_eq!(found.len(), 10);
    }

    #[test]
    fn every_kind_of_difference_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let one = sealed(dir.path(), "p", &[1], |_| {});
        let other = sealed(dir.path(), "q", &[1, 2], |spec| {
            spec.sequence = 2;
            spec.pad_to = 64;
            spec.inputs[1].name = "tokens.json".to_owned();
            spec.usage_policy = br#"{"version":1,"callers":"any"}"#.to_vec();
            spec.provenance = vec![Provenance { kind: Statement::SlsaProvenance, sha256: [3; 32] }];
        });
        let found = differences(&one, &other);
        assert_eq!(names(&found, "field"), ["sequence", "usage_policy_digest", "threshold"]);
        assert_eq!(names(&found, "provenance"), [format!("slsa-provenance {}", "03".repeat(32))]);
        assert_eq!(names(&found, "usage-policy"), ["callers", "expires"]);
        assert_eq!(names(&found, "signer").len(), 1);
        let files = names(&found, "file");
        assert!(files.contains(&"model.onnx padded_len".to_owned()));
        assert!(files.contains(&"labels.txt".to_owned()) && files.contains(&"tokens.json".to_owned()), "{files:?}");
        let only = |name: &str| found.iter().find(|difference| difference.name == name).unwrap();
        assert!(only("labels.txt").second.is_none() && only("tokens.json").first.is_none());
        // The other way round the same is told, with the sides exchanged.
        assert_eq!(differences(&other, &one).len(), found.len());
    }
}
