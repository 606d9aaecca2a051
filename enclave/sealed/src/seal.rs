//! Turns ONNX files and a model key into a sealed package: encrypted blobs, digest lists, signed manifest and usage policy.
//! It does not read the model or the usage policy: whether they can be served is the enclave's word.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    num::NonZero,
    path::{Path, PathBuf},
    thread,
};

use ring::{
    rand::{SecureRandom as _, SystemRandom},
    signature::Ed25519KeyPair,
};
use vouchsafe_attestation::{Mode, claims::model_id, dsse, lp::sha256};

use crate::{
    DigestEntry, Digests, FileEntry, HEADER_LEN, MAX_FILES, MAX_MANIFEST, MAX_PADDED_LEN, MAX_USAGE_POLICY, Manifest,
    ModelKey, Plaintext, Provenance, Role, SealedError,
    chunk::SEALED_LEN,
    commitment, digests, directory,
    job::{Job, padded},
    manifest::allowed_name,
    plaintext::Buffer,
    provenance,
    source::Source,
    spool::Spool,
    staging::{Staging, failed},
};

/// More threads do not help: the SHA-256 of the plaintext is one thread's work.
const MAX_THREADS: usize = 4;
/// The envelope reader looks at so many signatures at most.
const MAX_SIGNERS: usize = 16;

/// One file to be sealed.
#[derive(Clone, Debug)]
pub struct SealInput {
    /// Its name for the model; external data is found by it.
    pub name: String,
    /// What it is for; everything but [`Role::Digests`], which `seal` writes itself.
    pub role: Role,
    /// Where to read it: a regular file, if there is no stream for it.
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
    /// Statements about the model that travel beside the package: at most 16, none twice.
    pub provenance: Vec<Provenance>,
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

/// What is done with a finished package that has no name yet.
pub type BeforeName<'a> = Box<dyn FnOnce(&SealedSummary) -> io::Result<()> + 'a>;

/// How to seal.
pub struct SealOptions<'a> {
    /// On how many threads; each holds 1 MiB.
    pub threads: NonZero<usize>,
    /// Inputs, by their place in [`SealSpec::inputs`], that are read from a stream to its end instead of from their path.
    /// Their length must be known before their keys are, so they are kept meanwhile beside the package, encrypted
    /// under a key that only this process ever has.
    pub streams: BTreeMap<usize, Box<dyn Read + 'a>>,
    /// Hears plaintext bytes done and in total; the total is 0 while streams are read to their end.
    pub progress: &'a mut (dyn FnMut(u64, u64) + Send),
    /// Called once everything is written and synced, before the package gets its name: the place to keep the key, so that
    /// no package ever stands whose key nobody has. An error of it is `SEAL_WRITE`, and there is no package.
    pub before_name: BeforeName<'a>,
}

impl<'a> SealOptions<'a> {
    /// Regular files only, on the threads that this machine has, up to 4; nothing before the name.
    #[must_use]
    pub fn new(progress: &'a mut (dyn FnMut(u64, u64) + Send)) -> Self {
        let threads = thread::available_parallelism().map_or(1, |n| n.get().min(MAX_THREADS));
        Self {
            threads: NonZero::new(threads).unwrap_or(NonZero::<usize>::MIN),
            streams: BTreeMap::new(),
            progress,
            before_name: Box::new(|_| Ok(())),
        }
    }
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
    progress: &mut (dyn FnMut(u64, u64) + Send),
) -> Result<SealedSummary, SealedError> {
    seal_with(spec, key, uid, signers, out_dir, SealOptions::new(progress))
}

/// [`seal`] with a number of threads, with inputs from streams, and with something to do before the package has its name.
///
/// # Errors
/// `SEAL_*`.
pub fn seal_with(
    spec: &SealSpec,
    key: &ModelKey,
    uid: [u8; 32],
    signers: &[&Ed25519KeyPair],
    out_dir: &Path,
    options: SealOptions<'_>,
) -> Result<SealedSummary, SealedError> {
    let random = SystemRandom::new();
    let mut salts = || {
        let mut salt = [0; 32];
        random.fill(&mut salt).map_err(|_| SealedError::SealRandom)?;
        Ok(salt)
    };
    seal_salted(spec, key, uid, signers, out_dir, options, &mut salts)
}

/// [`seal_with`] with the source of the files' salts as an argument; a salt must never come twice under one key.
pub(crate) fn seal_salted(
    spec: &SealSpec,
    key: &ModelKey,
    uid: [u8; 32],
    signers: &[&Ed25519KeyPair],
    out_dir: &Path,
    options: SealOptions<'_>,
    salts: &mut dyn FnMut() -> Result<[u8; 32], SealedError>,
) -> Result<SealedSummary, SealedError> {
    let SealOptions { threads, mut streams, progress, before_name } = options;
    let threshold = compare_spec(spec, signers)?;
    if streams.keys().any(|at| *at >= spec.inputs.len()) {
        return Err(SealedError::SealInputs);
    }
    // Opened once for the total and again when its turn comes: a package may have more files than a process descriptors.
    let mut lens = vec![0; spec.inputs.len()];
    for (at, input) in spec.inputs.iter().enumerate().filter(|(at, _)| !streams.contains_key(at)) {
        lens[at] = add(Source::open(at, input)?.true_len(), spec.pad_to)?;
    }
    // A stream is taken for empty as yet: what is too large already is not read first.
    let mut manifest = outline(spec, key, uid, threshold, &lens)?;
    sign(&manifest, signers)?;
    let staging = Staging::create(out_dir)?;
    let (mut spools, mut spooled) = (BTreeMap::new(), 0);
    while let Some((at, mut stream)) = streams.pop_first() {
        let mut heard = |done| progress(spooled + done, 0);
        let spool = Spool::write(at, &mut *stream, staging.scratch()?, &mut heard)?;
        lens[at] = add(spool.true_len(), spec.pad_to)?;
        spooled += lens[at];
        spools.insert(at, spool);
    }
    if !spools.is_empty() {
        manifest = outline(spec, key, uid, threshold, &lens)?;
        sign(&manifest, signers)?;
    }
    let total = lens.iter().sum();
    let mut job = Job { spec, key, uid, threads, staging, salts, progress, done: 0, total };
    (job.progress)(0, total);

    let (mut files, mut plain) = (Vec::new(), Vec::new());
    for (index, (at, input)) in (0_u32..).zip(spec.inputs.iter().enumerate()) {
        let source = match spools.remove(&at) {
            Some(spool) => Source::Spool(Box::new(spool)),
            None => Source::open(at, input)?,
        };
        let (entry, sha256) = job.file(index, &input.name, input.role, spec.pad_to, source)?;
        files.push(entry);
        plain.push(DigestEntry { index, name: input.name.clone(), sha256 });
    }
    let list = Plaintext(Buffer::of(Digests { version: 1, files: plain }.to_bytes()));
    // Progress counts the inputs only.
    let mut silent = |_, _| {};
    job.progress = &mut silent;
    let index = files.len() as u32;
    files.push(job.file(index, digests::NAME, Role::Digests, 1, Source::of(list))?.0);

    manifest.files = files;
    let mut staging = job.staging;
    staging.write(directory::MANIFEST, &sign(&manifest, signers)?)?;
    staging.write(directory::USAGE_POLICY, &dsse::sign(dsse::USAGE_POLICY, &spec.usage_policy, signers))?;
    staging.finish()?;
    let summary = SealedSummary {
        manifest_digest: sha256(&manifest.to_bytes()),
        commitment: manifest.model_commitment,
        bytes: staging.written(),
    };
    before_name(&summary).map_err(failed)?;
    staging.commit()?;
    Ok(summary)
}

/// The manifest of inputs with these lengths; salts and digests, which have one width each, are zeros as yet.
fn outline(
    spec: &SealSpec,
    key: &ModelKey,
    uid: [u8; 32],
    threshold: u32,
    lens: &[u64],
) -> Result<Manifest, SealedError> {
    let entry = |(index, name, role, padded_len): (u32, &str, Role, u64)| FileEntry {
        index,
        name: name.to_owned(),
        role,
        padded_len,
        blob_len: padded_len + HEADER_LEN as u64,
        salt: [0; 32],
        sealed_len: [0; SEALED_LEN],
        list_digest: [0; 32],
    };
    let (mut files, mut plain) = (Vec::new(), Vec::new());
    for (index, (input, len)) in (0_u32..).zip(spec.inputs.iter().zip(lens)) {
        files.push(entry((index, &input.name, input.role, padded(*len, spec.pad_to)?)));
        plain.push(DigestEntry { index, name: input.name.clone(), sha256: [0; 32] });
    }
    // `compare_spec` bounded the number of inputs.
    let (index, list) = (files.len() as u32, Digests { version: 1, files: plain }.to_bytes());
    files.push(entry((index, digests::NAME, Role::Digests, list.len() as u64)));
    Ok(Manifest {
        version: 1,
        mode: spec.mode,
        model_id: spec.model_id.clone(),
        model_uid: uid,
        sequence: spec.sequence,
        model_commitment: commitment(key, &uid),
        usage_policy_digest: sha256(&spec.usage_policy),
        threshold,
        provenance: spec.provenance.clone(),
        files,
    })
}

/// The envelope of a manifest, if anybody would read one as long as that.
fn sign(manifest: &Manifest, signers: &[&Ed25519KeyPair]) -> Result<Vec<u8>, SealedError> {
    let envelope = dsse::sign(dsse::MANIFEST, &manifest.to_bytes(), signers);
    if envelope.len() > MAX_MANIFEST { Err(SealedError::SealInputs) } else { Ok(envelope) }
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
    if !provenance::allowed(&spec.provenance) {
        return Err(SealedError::SealProvenance);
    }
    let publics: std::collections::HashSet<_> = signers.iter().map(|k| dsse::public(k)).collect();
    match u32::try_from(signers.len()) {
        Ok(count) if (1..=MAX_SIGNERS).contains(&signers.len()) && publics.len() == signers.len() => Ok(count),
        _ => Err(SealedError::SealSigners),
    }
}

/// A length that can be padded.
fn add(true_len: u64, pad_to: u64) -> Result<u64, SealedError> {
    padded(true_len, pad_to).map(|_| true_len)
}
