//! Turns ONNX files and a model key into a sealed package: encrypted blobs, digest lists, signed manifest and usage policy.
//! It does not read the model or the usage policy: whether they can be served is the enclave's word.

use std::{
    fs::File,
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
};

use ring::{
    digest::{Context, SHA256},
    rand::{SecureRandom as _, SystemRandom},
    signature::Ed25519KeyPair,
};
use rustix::fs::{CWD, FileType, Mode as FileMode, OFlags, fstat, openat};
use vouchsafe_attestation::{Mode, claims::model_id, dsse, lp::sha256};

use crate::{
    CHUNK_LEN, DigestEntry, Digests, FileEntry, HEADER_LEN, MAX_FILES, MAX_MANIFEST, MAX_PADDED_LEN, MAX_USAGE_POLICY,
    Manifest, ModelKey, Plaintext, Role, SealedError,
    chunk::{ChunkKey, SEALED_LEN},
    commitment, digest_list, digests, directory,
    directory::{blob_name, list_name},
    header::header,
    key::FileContext,
    manifest::allowed_name,
    plaintext::Buffer,
    staging::{Staging, sync},
};

/// The envelope reader looks at so many signatures at most.
const MAX_SIGNERS: usize = 16;

/// One file to be sealed.
#[derive(Clone, Debug)]
pub struct SealInput {
    /// Its name for the model; external data is found by it.
    pub name: String,
    /// What it is for; everything but [`Role::Digests`], which `seal` writes itself.
    pub role: Role,
    /// Where to read it: a regular file.
    pub path: PathBuf,
}

/// What to seal, and as what.
#[derive(Clone, Debug)]
pub struct SealSpec {
    /// The vendor's name for the model.
    pub model_id: String,
    /// Rises with every version.
    pub sequence: u64,
    /// `simulation` only for rehearsals, always with another key.
    pub mode: Mode,
    /// The files; exactly one graph.
    pub inputs: Vec<SealInput>,
    /// The usage policy as JSON; signed as these bytes.
    pub usage_policy: Vec<u8>,
    /// Lengths are hidden by padding to a multiple of this; 1 pads nothing.
    pub pad_to: u64,
}

/// What was sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedSummary {
    /// SHA-256 of the signed manifest.
    pub manifest_digest: [u8; 32],
    /// The key commitment in it.
    pub commitment: [u8; 32],
    /// Bytes of the package on disk.
    pub bytes: u64,
}

/// Seals `spec` under `key` into the new directory `out_dir`, whole or not at all. Key and `uid` must be fresh for every
/// version. Every signer must be pinned by whoever opens the package: the manifest's threshold is their number.
/// `progress` hears plaintext bytes done and in total.
///
/// # Errors
/// `SEAL_*`.
pub fn seal(
    spec: &SealSpec,
    key: &ModelKey,
    uid: [u8; 32],
    signers: &[&Ed25519KeyPair],
    out_dir: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<SealedSummary, SealedError> {
    let random = SystemRandom::new();
    let mut salts = || {
        let mut salt = [0; 32];
        random.fill(&mut salt).map_err(|_| SealedError::SealRandom)?;
        Ok(salt)
    };
    seal_with(spec, key, uid, signers, out_dir, progress, &mut salts)
}

/// [`seal`] with the source of the files' salts as an argument; a salt must never come twice under one key.
pub(crate) fn seal_with(
    spec: &SealSpec,
    key: &ModelKey,
    uid: [u8; 32],
    signers: &[&Ed25519KeyPair],
    out_dir: &Path,
    progress: &mut dyn FnMut(u64, u64),
    salts: &mut dyn FnMut() -> Result<[u8; 32], SealedError>,
) -> Result<SealedSummary, SealedError> {
    let threshold = compare_spec(spec, signers)?;
    // Opened once for the total and again when its turn comes: a package may have more files than a process descriptors.
    let mut total = 0;
    for (at, input) in spec.inputs.iter().enumerate() {
        let true_len = open_input(at, input)?.true_len;
        padded(true_len, spec.pad_to)?;
        total += true_len;
    }
    let mut job = Job { spec, key, uid, staging: Staging::create(out_dir)?, salts, progress, done: 0, total };
    (job.progress)(0, total);

    let (mut files, mut plain) = (Vec::new(), Vec::new());
    for (index, input) in (0_u32..).zip(&spec.inputs) {
        let source = open_input(index as usize, input)?;
        let (entry, sha256) = job.file(index, &input.name, input.role, spec.pad_to, source)?;
        files.push(entry);
        plain.push(DigestEntry { index, name: input.name.clone(), sha256 });
    }
    let list = Plaintext(Digests { version: 1, files: plain }.to_bytes());
    let source = Source { true_len: list.len() as u64, reader: Box::new(std::io::Cursor::new(list)) };
    // `compare_spec` bounded the number of inputs; progress counts the inputs only.
    let mut silent = |_, _| {};
    job.progress = &mut silent;
    let index = files.len() as u32;
    files.push(job.file(index, digests::NAME, Role::Digests, 1, source)?.0);

    let manifest = Manifest {
        version: 1,
        mode: spec.mode,
        model_id: spec.model_id.clone(),
        model_uid: uid,
        sequence: spec.sequence,
        model_commitment: commitment(key, &uid),
        usage_policy_digest: sha256(&spec.usage_policy),
        threshold,
        files,
    };
    let payload = manifest.to_bytes();
    let envelope = dsse::sign(dsse::MANIFEST, &payload, signers);
    if envelope.len() > MAX_MANIFEST {
        return Err(SealedError::SealInputs);
    }
    let mut staging = job.staging;
    staging.write(directory::MANIFEST, &envelope)?;
    staging.write(directory::USAGE_POLICY, &dsse::sign(dsse::USAGE_POLICY, &spec.usage_policy, signers))?;
    let bytes = staging.commit()?;
    Ok(SealedSummary { manifest_digest: sha256(&payload), commitment: manifest.model_commitment, bytes })
}

/// Refuses what could not be opened again; returns the threshold.
fn compare_spec(spec: &SealSpec, signers: &[&Ed25519KeyPair]) -> Result<u32, SealedError> {
    model_id(&spec.model_id).map_err(|_| SealedError::SealModelId)?;
    let graphs = spec.inputs.iter().filter(|i| i.role == Role::Graph).count();
    let digests = spec.inputs.iter().any(|i| i.role == Role::Digests);
    if graphs != 1 || digests || spec.inputs.len() >= MAX_FILES {
        return Err(SealedError::SealInputs);
    }
    let mut names = std::collections::HashSet::from([digests::NAME.to_owned()]);
    for (at, input) in spec.inputs.iter().enumerate() {
        if !allowed_name(&input.name) || !names.insert(input.name.to_ascii_lowercase()) {
            return Err(SealedError::SealName(at));
        }
    }
    if spec.pad_to == 0 || spec.pad_to > MAX_PADDED_LEN {
        return Err(SealedError::SealPadding);
    }
    if spec.usage_policy.is_empty() || spec.usage_policy.len() > MAX_USAGE_POLICY {
        return Err(SealedError::SealUsagePolicy);
    }
    let publics: std::collections::HashSet<_> = signers.iter().map(|k| dsse::public(k)).collect();
    match u32::try_from(signers.len()) {
        Ok(count) if (1..=MAX_SIGNERS).contains(&signers.len()) && publics.len() == signers.len() => Ok(count),
        _ => Err(SealedError::SealSigners),
    }
}

/// Plaintext to be read, of a length that is known before.
struct Source {
    true_len: u64,
    reader: Box<dyn Read>,
}

fn open_input(at: usize, input: &SealInput) -> Result<Source, SealedError> {
    let unreadable = |e: rustix::io::Errno| SealedError::SealInputUnreadable(at, std::io::Error::from(e).kind());
    // NONBLOCK: opening a pipe must not wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = openat(CWD, &input.path, flags, FileMode::empty()).map_err(unreadable)?;
    let stat = fstat(&fd).map_err(unreadable)?;
    match (FileType::from_raw_mode(stat.st_mode), u64::try_from(stat.st_size)) {
        (FileType::RegularFile, Ok(true_len)) => Ok(Source { true_len, reader: Box::new(File::from(fd)) }),
        _ => Err(SealedError::SealInputNotRegular(at)),
    }
}

/// The next multiple of `pad_to`.
fn padded(true_len: u64, pad_to: u64) -> Result<u64, SealedError> {
    let len = true_len.div_ceil(pad_to).checked_mul(pad_to).filter(|len| *len <= MAX_PADDED_LEN);
    len.ok_or(SealedError::SealPadding)
}

/// The state of one sealing.
struct Job<'a> {
    spec: &'a SealSpec,
    key: &'a ModelKey,
    uid: [u8; 32],
    staging: Staging,
    salts: &'a mut dyn FnMut() -> Result<[u8; 32], SealedError>,
    progress: &'a mut dyn FnMut(u64, u64),
    done: u64,
    total: u64,
}

impl Job<'_> {
    /// Writes blob and list of one file; returns its entry and the SHA-256 of its plaintext.
    fn file(
        &mut self,
        index: u32,
        name: &str,
        role: Role,
        pad_to: u64,
        mut source: Source,
    ) -> Result<(FileEntry, [u8; 32]), SealedError> {
        let (padded_len, salt) = (padded(source.true_len, pad_to)?, (self.salts)()?);
        let context = FileContext { uid: &self.uid, sequence: self.spec.sequence, index, padded_len, salt: &salt };
        let key = ChunkKey::derive(self.key, &context);
        let mut entry = FileEntry {
            index,
            name: name.to_owned(),
            role,
            padded_len,
            blob_len: padded_len + HEADER_LEN as u64,
            salt,
            sealed_len: [0; SEALED_LEN],
            list_digest: [0; 32],
        };
        entry.sealed_len = key.seal_length(source.true_len);

        let mut blob = self.staging.file(&blob_name(index))?;
        self.staging.append(&mut blob, &header(index))?;
        let (mut list, mut plain) = (Vec::new(), Context::new(&SHA256));
        let mut buffer = Buffer::new(usize::try_from(padded_len).unwrap_or(CHUNK_LEN).min(CHUNK_LEN));
        let mut left = source.true_len;
        for i in 0..entry.chunks() {
            let data = &mut buffer.0[..entry.chunk_len(i)];
            let here = usize::try_from(left).unwrap_or(usize::MAX).min(data.len());
            let (body, padding) = data.split_at_mut(here);
            source.reader.read_exact(body).map_err(|e| input_error(index, e.kind()))?;
            padding.fill(0);
            plain.update(body);
            left -= here as u64;
            let tag = key.seal(i, data);
            list.extend_from_slice(&digest_list::entry(data, &tag));
            self.staging.append(&mut blob, data)?;
            self.done += here as u64;
            (self.progress)(self.done, self.total);
        }
        if source.reader.read(&mut [0]).map_err(|e| input_error(index, e.kind()))? != 0 {
            return Err(SealedError::SealInputChanged(index as usize));
        }
        sync(&blob)?;
        self.staging.write(&list_name(index), &list)?;
        entry.list_digest = *blake3::hash(&list).as_bytes();
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(plain.finish().as_ref());
        Ok((entry, sha256))
    }
}

fn input_error(index: u32, kind: ErrorKind) -> SealedError {
    match kind {
        ErrorKind::UnexpectedEof => SealedError::SealInputChanged(index as usize),
        other => SealedError::SealInputUnreadable(index as usize, other),
    }
}
