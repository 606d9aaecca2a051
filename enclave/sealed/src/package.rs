//! Turns the files of a package into a [`Package`]: manifest and usage policy signed by the vendor, every file present in its length.
//! No key is needed and no blob is read yet: contents are compared by `verify_blobs_on` or while unsealing.

use std::{collections::HashSet, path::Path};

use vouchsafe_attestation::{
    Ed25519Public, EncodingError,
    dsse::{self, Opened},
    lp::sha256,
};

use crate::{
    MAX_MANIFEST, Manifest, Read, SealedError,
    directory::{self, Directory, blob_name, list_name},
    shelf::Files,
};

/// A usage policy has at most so many bytes.
pub const MAX_USAGE_POLICY: usize = 256 * 1024;
/// Its envelope: base64 and signatures around it.
const MAX_USAGE_ENVELOPE: usize = 512 * 1024;

/// A sealed package whose manifest and usage policy the vendor signed.
#[must_use]
pub struct Package {
    pub(crate) stored: Files,
    pub(crate) manifest: Manifest,
    pub(crate) read: Read,
    manifest_digest: [u8; 32],
    usage_policy: Vec<u8>,
    signers: Vec<Ed25519Public>,
}

impl Package {
    /// Opens the package at `dir` under the pinned vendor keys.
    ///
    /// # Errors
    /// `PACKAGE_*`, `MANIFEST_*`, `BLOB_LENGTH`, `BLOB_LIST`.
    pub fn open(dir: &Path, vendor_keys: &[Ed25519Public]) -> Result<Self, SealedError> {
        Self::open_files(Files::Directory(Directory::open(dir)?), vendor_keys)
    }

    /// The same, wherever the files stand.
    pub(crate) fn open_files(stored: Files, vendor_keys: &[Ed25519Public]) -> Result<Self, SealedError> {
        // 1. The manifest: size, signature, then fields.
        let envelope = stored.read(directory::MANIFEST, MAX_MANIFEST)?;
        let opened = dsse::open(&envelope, dsse::MANIFEST, vendor_keys, 1, MAX_MANIFEST).map_err(|e| match e {
            EncodingError::TooLarge(..) => SealedError::ManifestTooLarge,
            EncodingError::Signatures(_) => SealedError::ManifestSignature,
            _ => SealedError::ManifestEnvelope,
        })?;
        let Opened { payload, signers } = opened;
        let manifest = Manifest::parse(&payload)?;
        let threshold = usize::try_from(manifest.threshold).unwrap_or(usize::MAX);
        if signers.len() < threshold {
            return Err(SealedError::ManifestThreshold(manifest.threshold, signers.len()));
        }
        // 2. The usage policy: signature by the same rule, then its digest. Its contents are the policy engine's to read.
        let envelope = stored.read(directory::USAGE_POLICY, MAX_USAGE_ENVELOPE)?;
        let usage = dsse::open(&envelope, dsse::USAGE_POLICY, vendor_keys, threshold, MAX_USAGE_ENVELOPE);
        let usage = usage.map_err(|e| match e {
            EncodingError::Signatures(needed) => SealedError::PackageUsageSignature(needed),
            _ => SealedError::PackageUsagePolicy,
        })?;
        if usage.payload.len() > MAX_USAGE_POLICY || sha256(&usage.payload) != manifest.usage_policy_digest {
            return Err(SealedError::PackageUsagePolicy);
        }
        // 3. The files: exactly the named files, each regular and of its length.
        let mut expected = HashSet::from([directory::MANIFEST.to_owned(), directory::USAGE_POLICY.to_owned()]);
        for file in &manifest.files {
            expected.extend([blob_name(file.index), list_name(file.index)]);
        }
        stored.only(&expected)?;
        for file in &manifest.files {
            if stored.piece(&blob_name(file.index))?.length() != file.blob_len {
                return Err(SealedError::BlobLength(file.index));
            }
            if stored.piece(&list_name(file.index))?.length() != file.list_len() {
                return Err(SealedError::BlobList(file.index));
            }
        }
        let (manifest_digest, usage_policy) = (sha256(&payload), usage.payload.to_vec());
        Ok(Self { stored, manifest, read: Read::Cached, manifest_digest, usage_policy, signers })
    }

    /// From now on its blobs are read as `read` says; they are [`Read::Cached`] otherwise.
    pub const fn reading(mut self, read: Read) -> Self {
        self.read = read;
        self
    }

    /// What the vendor signed.
    #[must_use]
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// SHA-256 of the manifest's exact bytes: the name of these weights in grants, claims and receipts.
    #[must_use]
    pub const fn manifest_digest(&self) -> [u8; 32] {
        self.manifest_digest
    }

    /// The exact bytes of the vendor's usage policy.
    #[must_use]
    pub fn usage_policy_bytes(&self) -> &[u8] {
        &self.usage_policy
    }

    /// Which of the pinned keys signed the manifest.
    #[must_use]
    pub fn signers(&self) -> &[Ed25519Public] {
        &self.signers
    }
}
