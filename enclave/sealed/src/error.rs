//! Turns every way in which sealing or opening can fail into fact, stable code, advice and exit status.
//! A message never repeats text from a package: numbers, fixed words and the format's own file names only.

use core::fmt;
use std::io::ErrorKind;

/// Why a package was not sealed or not opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SealedError {
    /// There is no package of this model.
    PackageMissing,
    /// The package directory or a file in it could not be read.
    PackageUnreadable(ErrorKind),
    /// A file that the format or the manifest names is absent (its name in the format).
    PackageMissingFile(String),
    /// The directory holds an entry that the signed manifest does not name.
    PackageExtraFile,
    /// An entry is a symbolic link, a directory, a pipe or a device (its name in the format).
    PackageNotRegular(String),
    /// The usage policy is malformed, too large, or not the one that the manifest names.
    PackageUsagePolicy,
    /// Too few of the pinned vendor keys signed the usage policy (needed).
    PackageUsageSignature(usize),

    /// The manifest is larger than 1 MiB.
    ManifestTooLarge,
    /// The manifest is no signed envelope of a manifest.
    ManifestEnvelope,
    /// None of the pinned vendor keys signed the manifest.
    ManifestSignature,
    /// The manifest demands more signatures of pinned keys than it has (needed, found).
    ManifestThreshold(u32, usize),
    /// The signed payload has an unknown, repeated, missing or mistyped field.
    ManifestFields,
    /// The manifest has a version this release does not know.
    ManifestVersion,
    /// The model id is not 1 to 64 characters of `a-z 0-9 - _ .`.
    ManifestModelId,
    /// More than 16 statements, or one of them twice (number of statements).
    ManifestProvenance(usize),
    /// No file, too many files, or indices out of order (number of files).
    ManifestFiles(usize),
    /// A file name that could leave its directory or differ between file systems (file index).
    ManifestName(u32),
    /// Two file names differ in letter case at most (index of the second).
    ManifestNameClash(u32),
    /// Not exactly one graph, or not exactly one list of digests at the end.
    ManifestRoles,
    /// Lengths overflow or contradict each other (file index).
    ManifestLength(u32),

    /// A blob or digest list could not be read (file index).
    BlobUnreadable(u32, ErrorKind),
    /// A blob is shorter or longer than the manifest says (file index).
    BlobLength(u32),
    /// A blob does not begin with the header of its version, suite and index (file index).
    BlobHeader(u32),
    /// A digest list is not the one that the manifest names (file index).
    BlobList(u32),
    /// A chunk differs from the signed digest list (file index, chunk).
    BlobChunk(u32, u64),
    /// A chunk of a signed list does not decrypt (file index, chunk).
    BlobTag(u32, u64),
    /// The sealed true length does not decrypt or is longer than the padded length (file index).
    BlobTrueLength(u32),
    /// The padding holds something else than zeros (file index).
    BlobPadding(u32),
    /// The sealed list of plaintext digests is malformed or names other files.
    BlobDigests,
    /// The caller asked for a file that the manifest does not have (file index).
    BlobIndex(u32),

    /// The volume's device could not be read, or is neither a block device nor a regular file.
    VolumeDevice(ErrorKind),
    /// The device does not begin with the magic of a volume.
    VolumeMagic,
    /// The index is longer than 1 MiB or than the device.
    VolumeIndexLength,
    /// The index is not compact JSON with exactly its fields.
    VolumeIndex,
    /// The index names too many files (number of files).
    VolumeFiles(usize),
    /// Bytes between the index and the next page are not zero.
    VolumePadding,
    /// A path is not a model id, a slash and a file name (position in the index).
    VolumePath(u32),
    /// A path stands twice in the index (position of the second).
    VolumePathTwice(u32),
    /// A file begins off a page, within the index, or leaves the device (position in the index).
    VolumeRange(u32),
    /// A file overlaps another (position in the index).
    VolumeOverlap(u32),

    /// The key is not the one to which the manifest commits.
    KeyCommitment,
    /// The receiver of the plaintext failed.
    UnsealSink(ErrorKind),
    /// The plaintext does not fit into memory (bytes).
    UnsealMemory(u64),

    /// The inputs have no or several graphs, digests of their own, or are too many.
    SealInputs,
    /// An input's name cannot stand in a manifest (position).
    SealName(usize),
    /// The model id is not 1 to 64 characters of `a-z 0-9 - _ .`.
    SealModelId,
    /// Padding to a multiple of zero, or a length that overflows.
    SealPadding,
    /// More than 16 statements, or one of them twice.
    SealProvenance,
    /// No signing key, the same one twice, or more than 16.
    SealSigners,
    /// The usage policy is empty or larger than the cap.
    SealUsagePolicy,
    /// An input could not be read (position).
    SealInputUnreadable(usize, ErrorKind),
    /// An input is no regular file (position).
    SealInputNotRegular(usize),
    /// An input changed while it was read (position).
    SealInputChanged(usize),
    /// The target has no name, as in `/` or `..`.
    SealTarget,
    /// The target exists already.
    SealTargetExists,
    /// The package could not be written.
    SealWrite(ErrorKind),
    /// The operating system gave no random bytes.
    SealRandom,
}

impl SealedError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.row().0
    }

    /// The exit status of a command that ends with this error.
    #[must_use]
    pub const fn exit(&self) -> u8 {
        self.row().1
    }

    /// What to do about it.
    #[must_use]
    pub const fn advice(&self) -> &'static str {
        self.row().2
    }

    const fn row(&self) -> (&'static str, u8, &'static str) {
        const FETCH: &str = "Fetch the package from the vendor again; it was changed or cut on its way.";
        const MAKER: &str = "Ask the vendor for a package that the current `vouchsafe seal` wrote.";
        const KEYS: &str = "Compare the pinned vendor keys with those the vendor publishes.";
        const VOLUME: &str =
            "Launch again, so that a new volume is written; if that does not help, the host changes it.";
        const DISK: &str = "See to the disk, the path and its permissions, then try again.";
        match self {
            Self::PackageMissing => (
                "PACKAGE_MISSING",
                9,
                "Put the package into the models directory, in a folder named after its model id, and try again.",
            ),
            Self::PackageUnreadable(_) => ("PACKAGE_UNREADABLE", 9, DISK),
            Self::PackageMissingFile(_) => ("PACKAGE_MISSING_FILE", 6, FETCH),
            Self::PackageExtraFile => {
                ("PACKAGE_EXTRA_FILE", 6, "Remove what does not belong to the package, or fetch it again.")
            }
            Self::PackageNotRegular(_) => ("PACKAGE_NOT_REGULAR", 6, "Copy the package as plain files."),
            Self::PackageUsagePolicy => ("PACKAGE_USAGE_POLICY", 6, FETCH),
            Self::PackageUsageSignature(_) => ("PACKAGE_USAGE_SIGNATURE", 2, KEYS),
            Self::ManifestTooLarge => ("MANIFEST_TOO_LARGE", 6, FETCH),
            Self::ManifestEnvelope => ("MANIFEST_ENVELOPE", 6, FETCH),
            Self::ManifestSignature => ("MANIFEST_SIGNATURE", 2, KEYS),
            Self::ManifestThreshold(..) => ("MANIFEST_THRESHOLD", 2, KEYS),
            Self::ManifestFields => ("MANIFEST_FIELDS", 6, MAKER),
            Self::ManifestVersion => ("MANIFEST_VERSION", 6, MAKER),
            Self::ManifestModelId => ("MANIFEST_MODEL_ID", 6, MAKER),
            Self::ManifestProvenance(_) => ("MANIFEST_PROVENANCE", 6, MAKER),
            Self::ManifestFiles(_) => ("MANIFEST_FILES", 6, MAKER),
            Self::ManifestName(_) => ("MANIFEST_NAME", 6, MAKER),
            Self::ManifestNameClash(_) => ("MANIFEST_NAME_CLASH", 6, MAKER),
            Self::ManifestRoles => ("MANIFEST_ROLES", 6, MAKER),
            Self::ManifestLength(_) => ("MANIFEST_LENGTH", 6, MAKER),
            Self::BlobUnreadable(..) => ("BLOB_UNREADABLE", 9, DISK),
            Self::BlobLength(_) => ("BLOB_LENGTH", 6, FETCH),
            Self::BlobHeader(_) => ("BLOB_HEADER", 6, FETCH),
            Self::BlobList(_) => ("BLOB_LIST", 6, FETCH),
            Self::BlobChunk(..) => ("BLOB_CHUNK", 6, FETCH),
            Self::BlobTag(..) => ("BLOB_TAG", 6, MAKER),
            Self::BlobTrueLength(_) => ("BLOB_TRUE_LENGTH", 6, MAKER),
            Self::BlobPadding(_) => ("BLOB_PADDING", 6, MAKER),
            Self::BlobDigests => ("BLOB_DIGESTS", 6, MAKER),
            Self::BlobIndex(_) => ("BLOB_INDEX", 1, "Name a file index that `vouchsafe package show` lists."),
            Self::VolumeDevice(_) => {
                ("VOLUME_DEVICE", 9, "Attach a volume that `vouchsafe launch` wrote, as a read-only disk.")
            }
            Self::VolumeMagic => ("VOLUME_MAGIC", 6, VOLUME),
            Self::VolumeIndexLength => ("VOLUME_INDEX_LENGTH", 6, VOLUME),
            Self::VolumeIndex => ("VOLUME_INDEX", 6, VOLUME),
            Self::VolumeFiles(_) => ("VOLUME_FILES", 6, VOLUME),
            Self::VolumePadding => ("VOLUME_PADDING", 6, VOLUME),
            Self::VolumePath(_) => ("VOLUME_PATH", 6, VOLUME),
            Self::VolumePathTwice(_) => ("VOLUME_PATH_TWICE", 6, VOLUME),
            Self::VolumeRange(_) => ("VOLUME_RANGE", 6, VOLUME),
            Self::VolumeOverlap(_) => ("VOLUME_OVERLAP", 6, VOLUME),
            Self::KeyCommitment => {
                ("KEY_COMMITMENT", 5, "This key belongs to another model or version; ask for the key of this package.")
            }
            Self::UnsealSink(_) => ("UNSEAL_SINK", 9, "See why the program that reads the plaintext stopped."),
            Self::UnsealMemory(_) => ("UNSEAL_MEMORY", 9, "Give the machine more memory."),
            Self::SealInputs => {
                ("SEAL_INPUTS", 1, "Give exactly one graph, and at most as many files as the format allows.")
            }
            Self::SealName(_) => {
                ("SEAL_NAME", 1, "Use 1 to 128 of A-Z a-z 0-9 . _ - + = @, no leading dot, no `..`, no two alike.")
            }
            Self::SealModelId => ("SEAL_MODEL_ID", 1, "Use 1 to 64 of a-z 0-9 - _ . and begin with a letter or digit."),
            Self::SealPadding => ("SEAL_PADDING", 1, "Pad to a multiple of 1 byte (none) up to 1 TiB."),
            Self::SealProvenance => ("SEAL_PROVENANCE", 1, "Name at most 16 statements, each of them once."),
            Self::SealSigners => ("SEAL_SIGNERS", 1, "Sign with 1 to 16 different manifest keys."),
            Self::SealUsagePolicy => ("SEAL_USAGE_POLICY", 1, "Give a usage policy of at most 256 KiB."),
            Self::SealInputUnreadable(..) => ("SEAL_INPUT_UNREADABLE", 9, DISK),
            Self::SealInputNotRegular(_) => ("SEAL_INPUT_NOT_REGULAR", 9, "Save the input as a plain file first."),
            Self::SealInputChanged(_) => {
                ("SEAL_INPUT_CHANGED", 9, "Wait until nothing writes to the input, then try again.")
            }
            Self::SealTarget => ("SEAL_TARGET", 1, "Name a directory to be made."),
            Self::SealTargetExists => {
                ("SEAL_TARGET_EXISTS", 9, "Choose another target; a package is never overwritten.")
            }
            Self::SealWrite(_) => ("SEAL_WRITE", 9, DISK),
            Self::SealRandom => ("SEAL_RANDOM", 9, "The operating system's random source failed; restart the machine."),
        }
    }
}

impl fmt::Display for SealedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PackageMissing => f.write_str("there is no package of a configured model"),
            Self::PackageUnreadable(io) => write!(f, "the package cannot be read: {io}"),
            Self::PackageMissingFile(name) => write!(f, "the package lacks {name}"),
            Self::PackageExtraFile => f.write_str("the package holds a file that its manifest does not name"),
            Self::PackageNotRegular(name) => write!(f, "{name} is not a regular file"),
            Self::PackageUsagePolicy => f.write_str("the usage policy is not the one that the manifest names"),
            Self::PackageUsageSignature(n) => write!(f, "fewer than {n} pinned vendor key(s) signed the usage policy"),
            Self::ManifestTooLarge => f.write_str("the manifest is larger than 1 MiB"),
            Self::ManifestEnvelope => f.write_str("the manifest is not a signed envelope of a manifest"),
            Self::ManifestSignature => f.write_str("no pinned vendor key signed the manifest"),
            Self::ManifestThreshold(need, have) => {
                write!(f, "the manifest demands {need} signatures of pinned vendor keys and has {have}")
            }
            Self::ManifestFields => f.write_str("the manifest has an unknown, repeated, missing or mistyped field"),
            Self::ManifestVersion => f.write_str("the manifest has a version that this release does not know"),
            Self::ManifestModelId => f.write_str("the model id is not 1 to 64 characters of a-z 0-9 - _ ."),
            Self::ManifestProvenance(n) => write!(f, "the manifest's {n} statements are too many or not all different"),
            Self::ManifestFiles(n) => write!(f, "{n} files, or their indices, are not what the format allows"),
            Self::ManifestName(i) => write!(f, "the name of file {i} is not allowed"),
            Self::ManifestNameClash(i) => write!(f, "the name of file {i} is taken by an earlier one"),
            Self::ManifestRoles => f.write_str("the files do not have exactly one graph and a last list of digests"),
            Self::ManifestLength(i) => write!(f, "the lengths of file {i} overflow or contradict each other"),
            Self::BlobUnreadable(i, io) => write!(f, "file {i} cannot be read: {io}"),
            Self::BlobLength(i) => write!(f, "file {i} is shorter or longer than the manifest says"),
            Self::BlobHeader(i) => write!(f, "file {i} does not begin with its header"),
            Self::BlobList(i) => write!(f, "the digest list of file {i} is not the one that the manifest names"),
            Self::BlobChunk(i, c) => write!(f, "chunk {c} of file {i} differs from the signed digest list"),
            Self::BlobTag(i, c) => write!(f, "chunk {c} of file {i} does not decrypt"),
            Self::BlobTrueLength(i) => write!(f, "the sealed length of file {i} is not readable"),
            Self::BlobPadding(i) => write!(f, "the padding of file {i} is not zero"),
            Self::BlobDigests => f.write_str("the sealed list of plaintext digests does not fit the manifest"),
            Self::BlobIndex(i) => write!(f, "the package has no file {i}"),
            Self::VolumeDevice(io) => write!(f, "the volume's device cannot be read: {io}"),
            Self::VolumeMagic => f.write_str("the device does not begin as a volume does"),
            Self::VolumeIndexLength => f.write_str("the volume's index is longer than 1 MiB or than the device"),
            Self::VolumeIndex => f.write_str("the volume's index is not the compact JSON that the format names"),
            Self::VolumeFiles(n) => write!(f, "the volume's index names {n} files, more than 4096"),
            Self::VolumePadding => f.write_str("the bytes between the volume's index and the next page are not zero"),
            Self::VolumePath(n) => write!(f, "the path of entry {n} of the volume's index is not allowed"),
            Self::VolumePathTwice(n) => {
                write!(f, "the path of entry {n} of the volume's index is taken by an earlier one")
            }
            Self::VolumeRange(n) => {
                write!(f, "entry {n} of the volume's index begins off a page, in the index or beyond the device")
            }
            Self::VolumeOverlap(n) => write!(f, "entry {n} of the volume's index overlaps another"),
            Self::KeyCommitment => f.write_str("the key is not the one to which the manifest commits"),
            Self::UnsealSink(io) => write!(f, "the receiver of the plaintext failed: {io}"),
            Self::UnsealMemory(n) => write!(f, "{n} bytes of plaintext do not fit into memory"),
            Self::SealInputs => f.write_str("the inputs are not one graph and a possible number of other files"),
            Self::SealName(i) => write!(f, "the name of input {i} is not allowed or taken"),
            Self::SealModelId => f.write_str("the model id is not 1 to 64 characters of a-z 0-9 - _ ."),
            Self::SealPadding => f.write_str("the padding is zero or the padded length overflows"),
            Self::SealProvenance => f.write_str("the statements are more than 16 or not all different"),
            Self::SealSigners => f.write_str("the number of different signing keys is not 1 to 16"),
            Self::SealUsagePolicy => f.write_str("the usage policy is empty or larger than 256 KiB"),
            Self::SealInputUnreadable(i, io) => write!(f, "input {i} cannot be read: {io}"),
            Self::SealInputNotRegular(i) => write!(f, "input {i} is not a regular file"),
            Self::SealInputChanged(i) => write!(f, "input {i} changed while it was read"),
            Self::SealTarget => f.write_str("the target is not the name of a directory to be made"),
            Self::SealTargetExists => f.write_str("the target exists already"),
            Self::SealWrite(io) => write!(f, "the package cannot be written: {io}"),
            Self::SealRandom => f.write_str("the operating system gave no random bytes"),
        }
    }
}

impl core::error::Error for SealedError {}
