//! Turns the signed payload of `manifest.dsse.json` into a [`Manifest`] whose names, roles and lengths fit together.
//! It does not verify the signature: [`Package::open`](crate::Package::open) does, before it parses.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use vouchsafe_attestation::{Mode, claims::model_id, encoding::serde_hex};

use crate::{HEADER_LEN, Provenance, SealedError, chunk::SEALED_LEN, digest_list::ENTRY_LEN, provenance};

/// Plaintext bytes per chunk: 2^20.
pub const CHUNK_LEN: usize = 1 << 20;
/// A package has at most so many files.
pub const MAX_FILES: usize = 4096;
/// A manifest envelope has at most so many bytes.
pub const MAX_MANIFEST: usize = 1 << 20;
/// A file has at most so many bytes after padding: 2^40.
pub const MAX_PADDED_LEN: u64 = 1 << 40;
const MAX_NAME: usize = 128;

/// What the vendor signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Format version: 1.
    pub version: u32,
    /// Which trust root may release the key: a rehearsal package says `simulation`.
    pub mode: Mode,
    /// The vendor's name for the model.
    pub model_id: String,
    /// 32 random bytes, fresh for every version.
    #[serde(with = "serde_hex")]
    pub model_uid: [u8; 32],
    /// Rises with every version.
    pub sequence: u64,
    /// Names the model key without telling it.
    #[serde(with = "serde_hex")]
    pub model_commitment: [u8; 32],
    /// SHA-256 of the payload of `usage-policy.dsse.json`.
    #[serde(with = "serde_hex")]
    pub usage_policy_digest: [u8; 32],
    /// So many different pinned keys must have signed manifest and usage policy.
    pub threshold: u32,
    /// Statements about the model that travel beside the package: at most 16, none twice, in the vendor's order. Often empty,
    /// never absent.
    pub provenance: Vec<Provenance>,
    /// The files, in order of their index; the last one is the sealed list of plaintext digests.
    pub files: Vec<FileEntry>,
}

/// One sealed file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Its place in `files`, and the number in its file names.
    pub index: u32,
    /// Its name for the model: external data is found by it. Visible to the host.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// Length of the plaintext stream after zero padding.
    pub padded_len: u64,
    /// Length of `NNNN.blob`: `4096 + padded_len`.
    pub blob_len: u64,
    /// Salt of the file's key.
    #[serde(with = "serde_hex")]
    pub salt: [u8; 32],
    /// The true length, sealed: `AES-256-GCM(u64be)` and its tag.
    #[serde(with = "serde_hex")]
    pub sealed_len: [u8; SEALED_LEN],
    /// BLAKE3 of `NNNN.list`.
    #[serde(with = "serde_hex")]
    pub list_digest: [u8; 32],
}

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The ONNX graph: exactly one.
    Graph,
    /// ONNX external data, found by its name.
    ExternalData,
    /// A tokenizer.
    Tokenizer,
    /// Names of the classes.
    Labels,
    /// How to prepare inputs.
    Preprocess,
    /// SHA-256 of each other file's plaintext: exactly one, the last; written by `seal`.
    Digests,
}

impl Role {
    /// The word in the manifest.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Graph => "graph",
            Self::ExternalData => "external-data",
            Self::Tokenizer => "tokenizer",
            Self::Labels => "labels",
            Self::Preprocess => "preprocess",
            Self::Digests => "digests",
        }
    }
}

impl FileEntry {
    /// Number of chunks: every full one and one last, shorter and perhaps empty.
    #[must_use]
    pub const fn chunks(&self) -> u64 {
        self.padded_len / CHUNK_LEN as u64 + 1
    }

    /// Plaintext length of chunk `i`.
    pub(crate) const fn chunk_len(&self, i: u64) -> usize {
        let full = self.padded_len / CHUNK_LEN as u64;
        if i < full { CHUNK_LEN } else { (self.padded_len % CHUNK_LEN as u64) as usize }
    }

    /// Length of `NNNN.list`.
    #[must_use]
    pub const fn list_len(&self) -> u64 {
        self.chunks() * ENTRY_LEN as u64
    }
}

impl Manifest {
    /// Reads the payload of a verified envelope.
    ///
    /// # Errors
    /// `MANIFEST_FIELDS` and the other `MANIFEST_` codes but those of size and signature.
    pub fn parse(payload: &[u8]) -> Result<Self, SealedError> {
        let manifest: Self = serde_json::from_slice(payload).map_err(|_| SealedError::ManifestFields)?;
        if manifest.version != 1 {
            return Err(SealedError::ManifestVersion);
        }
        model_id(&manifest.model_id).map_err(|_| SealedError::ManifestModelId)?;
        if manifest.threshold == 0 {
            return Err(SealedError::ManifestFields);
        }
        if !provenance::allowed(&manifest.provenance) {
            return Err(SealedError::ManifestProvenance(manifest.provenance.len()));
        }
        manifest.compare_files()?;
        Ok(manifest)
    }

    /// The bytes to sign.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        // Strings, numbers and lists of them always serialize.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The file at `index`.
    ///
    /// # Errors
    /// `BLOB_INDEX`.
    pub fn file(&self, index: u32) -> Result<&FileEntry, SealedError> {
        self.files.get(index as usize).ok_or(SealedError::BlobIndex(index))
    }

    /// The ONNX graph.
    ///
    /// # Errors
    /// `MANIFEST_ROLES`; never for a manifest that [`Manifest::parse`] accepted.
    pub fn graph(&self) -> Result<&FileEntry, SealedError> {
        self.files.iter().find(|f| f.role == Role::Graph).ok_or(SealedError::ManifestRoles)
    }

    fn compare_files(&self) -> Result<(), SealedError> {
        let count = self.files.len();
        let ordered = self.files.iter().zip(0_u32..).all(|(f, i)| f.index == i);
        if count == 0 || count > MAX_FILES || !ordered {
            return Err(SealedError::ManifestFiles(count));
        }
        let mut names = HashSet::new();
        for file in &self.files {
            if !allowed_name(&file.name) {
                return Err(SealedError::ManifestName(file.index));
            }
            if !names.insert(file.name.to_ascii_lowercase()) {
                return Err(SealedError::ManifestNameClash(file.index));
            }
            let blob_len = file.padded_len.checked_add(HEADER_LEN as u64);
            if file.padded_len > MAX_PADDED_LEN || blob_len != Some(file.blob_len) {
                return Err(SealedError::ManifestLength(file.index));
            }
        }
        let of = |role| self.files.iter().filter(|f| f.role == role).count();
        let last = self.files.last().is_some_and(|f| f.role == Role::Digests);
        if of(Role::Graph) == 1 && of(Role::Digests) == 1 && last { Ok(()) } else { Err(SealedError::ManifestRoles) }
    }
}

/// A name that means the same file on every file system and never another directory.
pub(crate) fn allowed_name(name: &str) -> bool {
    let letter = |b: u8| b.is_ascii_alphanumeric() || b"._-+=@".contains(&b);
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(letter) && !name.starts_with('.') && !name.contains("..")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Statement;

    fn file(index: u32, name: &str, role: Role) -> FileEntry {
        FileEntry {
            index,
            name: name.to_owned(),
            role,
            padded_len: 5,
            blob_len: 4101,
            salt: [1; 32],
            sealed_len: [2; 24],
            list_digest: [3; 32],
        }
    }

    fn good() -> Manifest {
        Manifest {
            version: 1,
            mode: Mode::Simulation,
            model_id: "m".to_owned(),
            model_uid: [1; 32],
            sequence: 1,
            model_commitment: [2; 32],
            usage_policy_digest: [3; 32],
            threshold: 1,
            provenance: Vec::new(),
            files: vec![file(0, "model.onnx", Role::Graph), file(1, "digests.json", Role::Digests)],
        }
    }

    fn code_of(change: impl FnOnce(&mut Manifest)) -> &'static str {
        let mut manifest = good();
        change(&mut manifest);
        Manifest::parse(&manifest.to_bytes()).map_or_else(|e| e.code(), |_| "accepted")
    }

    #[test]
    fn each_rule_has_its_code() {
        assert_eq!(Manifest::parse(&good().to_bytes()), Ok(good()));
        assert_eq!(code_of(|m| m.version = 2), "MANIFEST_VERSION");
        assert_eq!(code_of(|m| m.model_id = "../m".into()), "MANIFEST_MODEL_ID");
        assert_eq!(code_of(|m| m.threshold = 0), "MANIFEST_FIELDS");
        let statement = |n| Provenance { kind: Statement::SlsaProvenance, sha256: [n; 32] };
        assert_eq!(code_of(|m| m.provenance = (0..16).map(statement).collect()), "accepted");
        assert_eq!(code_of(|m| m.provenance = (0..17).map(statement).collect()), "MANIFEST_PROVENANCE");
        assert_eq!(code_of(|m| m.provenance = vec![statement(1); 2]), "MANIFEST_PROVENANCE");
        assert_eq!(code_of(|m| m.files.clear()), "MANIFEST_FILES");
        assert_eq!(code_of(|m| m.files[1].index = 2), "MANIFEST_FILES");
        assert_eq!(code_of(|m| m.files[1].name = "Model.ONNX".into()), "MANIFEST_NAME_CLASH");
        assert_eq!(code_of(|m| m.files[1].role = Role::Graph), "MANIFEST_ROLES");
        assert_eq!(code_of(|m| m.files[0].role = Role::Labels), "MANIFEST_ROLES");
        assert_eq!(code_of(|m| m.files[0].role = Role::Digests), "MANIFEST_ROLES");
        assert_eq!(code_of(|m| m.files[0].blob_len = 4100), "MANIFEST_LENGTH");
        assert_eq!(code_of(|m| m.files[0].padded_len = u64::MAX), "MANIFEST_LENGTH");
        assert_eq!(
            code_of(|m| (m.files[0].padded_len, m.files[0].blob_len) = ((1 << 40) + 1, (1 << 40) + 4097)),
            "MANIFEST_LENGTH"
        );
        let many = |m: &mut Manifest| m.files = (0..4097).map(|i| file(i, &format!("f{i}"), Role::Labels)).collect();
        assert_eq!(code_of(many), "MANIFEST_FILES");
    }

    #[test]
    fn names_that_could_go_astray_are_refused() {
        let long = "a".repeat(129);
        for name in ["", ".", "..", ".hidden", "a/b", "/a", "a\\b", "a..b", "ä", "a b", "a\0", "a:b", &long] {
            assert_eq!(code_of(|m| m.files[0].name = name.to_owned()), "MANIFEST_NAME", "{name:?}");
        }
        for name in ["model.onnx", "model.onnx_data", "onnx__MatMul_12", "a-b+c=d@e", &long[..128]] {
            assert_eq!(code_of(|m| m.files[0].name = name.to_owned()), "accepted", "{name:?}");
        }
    }

    #[test]
    fn unknown_repeated_missing_and_mistyped_fields_are_refused() {
        let text = String::from_utf8(good().to_bytes()).unwrap();
        let changes = [
            ("{\"version\"", "{\"x\":1,\"version\""),
            ("{\"version\":1", "{\"version\":1,\"version\":1"),
            ("{\"index\":0", "{\"y\":0,\"index\":0"),
            ("{\"index\":0", "{\"index\":0,\"index\":0"),
            ("{\"version\":1,", "{"),
            ("\"sequence\":1", "\"sequence\":-1"),
            ("\"sequence\":1", "\"sequence\":18446744073709551616"),
            ("\"sequence\":1", "\"sequence\":1.0"),
            ("0101", "010"),
            ("\"role\":\"graph\"", "\"role\":\"Graph\""),
            ("\"simulation\"", "\"rehearsal\""),
            ("\"provenance\":[],", ""),
            ("\"provenance\":[]", "\"provenance\":null"),
            ("\"provenance\":[]", "\"provenance\":[{}]"),
            ("\"provenance\":[]", "\"provenance\":[],\"provenance\":[]"),
        ];
        for (from, to) in changes {
            let bad = text.replacen(from, to, 1);
            assert_ne!(bad, text, "{from}");
            assert_eq!(Manifest::parse(bad.as_bytes()), Err(SealedError::ManifestFields), "{from} -> {to}");
        }
    }
}
