//! Turns fixed keys and salts into packages held in memory, so that tests can change any byte of any file.
//! Nothing here is secret: the seeds stand in the committed vectors.

use std::{collections::BTreeMap, fs, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::signature::Ed25519KeyPair;
use serde_json::Value;
use tempfile::TempDir;
use vouchsafe_attestation::{Ed25519Public, Mode, dsse, lp::sha256};

use super::{shelf, ways};
use crate::{
    ModelKey, Package, Provenance, Role, SealInput, SealOptions, SealSpec, SealedError,
    directory::{MANIFEST, blob_name, list_name},
    manifest::allowed_name,
    seal::seal_salted,
};

/// File name to contents.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

pub(super) struct Fixture {
    pub(super) key: [u8; 32],
    pub(super) uid: [u8; 32],
    pub(super) model_id: &'static str,
    pub(super) sequence: u64,
    pub(super) pad_to: u64,
    pub(super) seeds: Vec<u8>,
    pub(super) inputs: Vec<(&'static str, Role, Vec<u8>)>,
    pub(super) provenance: Vec<Provenance>,
}

pub(super) const USAGE: &[u8] = br#"{"version":1,"model":"vector","expires":"never"}"#;

impl Fixture {
    pub(super) fn small() -> Self {
        Self {
            key: [0x11; 32],
            uid: [0x22; 32],
            model_id: "vector",
            sequence: 7,
            pad_to: 64,
            seeds: vec![0x33],
            inputs: vec![
                ("model.onnx", Role::Graph, b"not a real graph, only bytes to seal".to_vec()),
                ("labels.txt", Role::Labels, b"benign\nmalignant\n".to_vec()),
            ],
            provenance: Vec::new(),
        }
    }

    pub(super) fn of_graph(graph: Vec<u8>, pad_to: u64) -> Self {
        Self { inputs: vec![("model.onnx", Role::Graph, graph)], pad_to, ..Self::small() }
    }

    pub(super) fn model_key(&self) -> ModelKey {
        ModelKey::from_bytes(self.key)
    }

    pub(super) fn vendor_keys(&self) -> Vec<Ed25519Public> {
        self.seeds.iter().map(|s| dsse::public(&signer(*s))).collect()
    }

    pub(super) fn plaintexts(&self) -> Vec<Vec<u8>> {
        self.inputs.iter().map(|(_, _, bytes)| bytes.clone()).collect()
    }

    pub(super) fn spec(&self, inputs_dir: &Path) -> SealSpec {
        let input = |(name, role, bytes): &(&str, Role, Vec<u8>)| {
            let path = inputs_dir.join(name);
            fs::write(&path, bytes).unwrap();
            SealInput { name: (*name).to_owned(), role: *role, path }
        };
        SealSpec {
            model_id: self.model_id.to_owned(),
            sequence: self.sequence,
            mode: Mode::Simulation,
            inputs: self.inputs.iter().map(input).collect(),
            usage_policy: USAGE.to_vec(),
            provenance: self.provenance.clone(),
            pad_to: self.pad_to,
        }
    }

    /// Seals into `target` with salts that depend on `series` only.
    pub(super) fn seal_into(&self, target: &Path, series: u8) -> crate::SealedSummary {
        self.seal_as(target, series, |_| {}).unwrap()
    }

    /// The same, in another way; the inputs' files stand in a directory of their own.
    pub(super) fn seal_as(
        &self,
        target: &Path,
        series: u8,
        change: impl FnOnce(&mut SealOptions<'_>),
    ) -> Result<crate::SealedSummary, SealedError> {
        let inputs = TempDir::new().unwrap();
        let signers: Vec<_> = self.seeds.iter().map(|s| signer(*s)).collect();
        let signers: Vec<_> = signers.iter().collect();
        let mut n = 0_u8;
        let mut salts = || {
            n += 1;
            Ok(sha256(&[series, n]))
        };
        let (spec, key) = (self.spec(inputs.path()), self.model_key());
        let mut deaf = |_, _| {};
        let mut options = SealOptions::new(&mut deaf);
        change(&mut options);
        seal_salted(&spec, &key, self.uid, &signers, target, options, &mut salts)
    }

    pub(super) fn files(&self) -> Files {
        self.files_of_series(0)
    }

    pub(super) fn files_of_series(&self, series: u8) -> Files {
        let dir = TempDir::new().unwrap();
        self.seal_into(&dir.path().join("p"), series);
        load(&dir.path().join("p"))
    }

    /// Opens, compares and unseals `files` under this fixture's keys.
    pub(super) fn judge(&self, files: &Files) -> Result<Vec<Vec<u8>>, SealedError> {
        judge(files, &self.model_key(), &self.vendor_keys())
    }

    pub(super) fn code(&self, files: &Files) -> &'static str {
        self.judge(files).map_or_else(|e| e.code(), |_| "accepted")
    }
}

pub(super) fn signer(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

pub(super) fn load(dir: &Path) -> Files {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    entries.map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap())).collect()
}

pub(super) fn store(dir: &Path, files: &Files) {
    fs::create_dir_all(dir).unwrap();
    for (name, bytes) in files {
        fs::write(dir.join(name), bytes).unwrap();
    }
}

pub(super) fn judge(files: &Files, key: &ModelKey, vendor_keys: &[Ed25519Public]) -> Result<Vec<Vec<u8>>, SealedError> {
    let dir = TempDir::new().unwrap();
    store(dir.path(), files);
    judge_both(dir.path(), files, key, vendor_keys)
}

pub(super) fn judge_dir(
    dir: &Path,
    key: &ModelKey,
    vendor_keys: &[Ed25519Public],
) -> Result<Vec<Vec<u8>>, SealedError> {
    judge_both(dir, &load(dir), key, vendor_keys)
}

/// The same files give the same in a directory and in a volume.
fn judge_both(
    dir: &Path,
    files: &Files,
    key: &ModelKey,
    vendor_keys: &[Ed25519Public],
) -> Result<Vec<Vec<u8>>, SealedError> {
    let result = Package::open(dir, vendor_keys).and_then(|package| judge_package(&package, key));
    let volume = shelf::volume(&shelf::paths("m", files));
    let volume = shelf::on_volume(&volume).and_then(|shelf| shelf.package("m", vendor_keys));
    let of_volume = volume.and_then(|package| judge_package(&package, key));
    if files.keys().all(|name| allowed_name(name)) {
        assert!(of_volume == result, "{:?} in a volume, {:?} in a directory", of_volume.err(), result.err());
    } else {
        assert!(matches!(of_volume, Err(SealedError::VolumePath(_))), "a name that no volume holds");
    }
    result
}

/// What a package gives under a key.
pub(super) fn judge_package(package: &Package, key: &ModelKey) -> Result<Vec<Vec<u8>>, SealedError> {
    // With and without a pass over the blobs first, the answer is the same.
    let blobs = ways::verify(package);
    assert!(package.verify_blobs(&mut |_, _| {}) == blobs, "on this thread");
    assert!(package.verify_blobs_on(ways::threads(3), &mut |_, _| {}) == blobs, "on three threads");
    let unsealed = unseal_all(package, key);
    match (&blobs, &unsealed) {
        (Ok(_), _) => {}
        (Err(a), Err(b)) if a == b || b.exit() == 5 => {}
        (Err(a), b) => panic!("verify_blobs said {a}, unseal {:?}", b.as_ref().err()),
    }
    unsealed
}

fn unseal_all(package: &Package, key: &ModelKey) -> Result<Vec<Vec<u8>>, SealedError> {
    let mut out = Vec::new();
    for file in &package.manifest().files {
        out.push(ways::agree(package, key, file.index)?);
    }
    let digests = package.digests(key)?;
    out.pop();
    for (entry, bytes) in digests.files.iter().zip(&out) {
        assert_eq!(entry.sha256, sha256(bytes));
    }
    Ok(out)
}

/// The payload that the manifest's envelope holds, read without this crate's parser.
pub(super) fn payload(files: &Files) -> String {
    let envelope: Value = serde_json::from_slice(&files[MANIFEST]).unwrap();
    String::from_utf8(STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap()).unwrap()
}

/// Signs `payload` as the vendor would, whatever it says.
pub(super) fn sign(files: &mut Files, seeds: &[u8], payload: &str) {
    let signers: Vec<_> = seeds.iter().map(|s| signer(*s)).collect();
    let envelope = dsse::sign(dsse::MANIFEST, payload.as_bytes(), &signers.iter().collect::<Vec<_>>());
    files.insert(MANIFEST.to_owned(), envelope);
}

/// Changes the manifest by text and signs it again.
pub(super) fn resign(files: &mut Files, seeds: &[u8], from: &str, to: &str) {
    let old = payload(files);
    let new = old.replacen(from, to, 1);
    assert_ne!(old, new, "the manifest lacks {from}");
    sign(files, seeds, &new);
}

/// Makes manifest and list agree with the list's bytes, as an insider with the manifest key could.
pub(super) fn resign_list(files: &mut Files, seeds: &[u8], index: u32) {
    let digest = hex::encode(blake3::hash(&files[&list_name(index)]).as_bytes());
    let mut manifest: crate::Manifest = serde_json::from_str(&payload(files)).unwrap();
    manifest.files[index as usize].list_digest = hex::decode(digest).unwrap().try_into().unwrap();
    let text = String::from_utf8(manifest.to_bytes()).unwrap();
    sign(files, seeds, &text);
}

/// The bytes of a blob, to be changed.
pub(super) fn blob(files: &mut Files, index: u32) -> &mut Vec<u8> {
    files.get_mut(&blob_name(index)).unwrap()
}

/// The bytes of a list, to be changed.
pub(super) fn list(files: &mut Files, index: u32) -> &mut Vec<u8> {
    files.get_mut(&list_name(index)).unwrap()
}

/// Bytes that no shift, chunk or block repeats soon: byte i = (i*i + i/256) mod 251.
pub(super) fn pattern(len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| ((i * i + i / 256) % 251) as u8).collect()
}
