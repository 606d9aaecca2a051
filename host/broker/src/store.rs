//! Turns a state directory into everything the broker holds: keys, ledger, index, and the lock that keeps it alone.
//! It answers no peer; `exchange` does, and every decision goes through [`Store::record`] first.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use ring::signature::Ed25519KeyPair;
use vouchsafe_attestation::{UnixTime, dsse, lp::sha256};
use vouchsafe_release::{ModelKeyRecord, WrapSecret};

use crate::{
    BrokerError,
    config::Config,
    event::Event,
    files::{self, DirLock, LEDGER, MODELS, RELEASE_KEY, WRAP_KEY},
    head::HeadKey,
    index::Index,
    keystore::{Kek, Stored, file_name},
    ledger::{Entry, Head, Ledger},
};

/// An open state directory.
pub(crate) struct Store {
    pub(crate) dir: PathBuf,
    pub(crate) config: Config,
    pub(crate) index: Index,
    pub(crate) release_key: Ed25519KeyPair,
    pub(crate) wrap: WrapSecret,
    ledger: Ledger,
    models: BTreeMap<(String, u64), Stored>,
    kek: Kek,
    _lock: DirLock,
}

impl Store {
    /// Takes the lock, reads every key, replays the ledger, and opens every stored model key once.
    pub(crate) fn open(dir: &Path, now: UnixTime) -> Result<Self, BrokerError> {
        let lock = DirLock::take(dir)?;
        let config = Config::load(dir)?;
        let kek = Kek::load(dir)?;
        let (release_key, wrap) = (release_key(dir)?, wrap_secret(dir)?);
        if config.manifest_keys.contains(&dsse::public(&release_key)) {
            return Err(BrokerError::Config(
                "the release key stands in manifest_keys: the two roles never share a key",
            ));
        }
        let mut index = Index::default();
        let ledger = Ledger::open(&dir.join(LEDGER), &HeadKey::load(dir)?, now, &mut |entry| index.apply(entry))?;
        let mut models = BTreeMap::new();
        for (version, import) in index.imports() {
            let stored = read_model(dir, &import.uid, &import.file_sha256)?;
            stored.open(&kek)?;
            models.insert(version.clone(), stored);
        }
        Ok(Self { dir: dir.to_owned(), config, index, release_key, wrap, ledger, models, kek, _lock: lock })
    }

    /// Writes a ledger line; everything it says is in force once this returns, and not before.
    pub(crate) fn record(&mut self, event: Event, now: UnixTime) -> Result<Entry, BrokerError> {
        let entry = self.ledger.append(event, now)?;
        self.index.apply(&entry);
        Ok(entry)
    }

    /// The ledger's head.
    pub(crate) const fn head(&self) -> Head {
        self.ledger.head()
    }

    /// The key of one version, opened for one grant.
    pub(crate) fn model_key(&self, model: &str, sequence: u64) -> Result<ModelKeyRecord, BrokerError> {
        let stored = self.models.get(&(model.to_owned(), sequence)).ok_or(BrokerError::ModelUnknown)?;
        stored.open(&self.kek)
    }

    /// Stores a record: first the file, then the ledger line that makes it count.
    pub(crate) fn import(&mut self, record: &ModelKeyRecord, now: UnixTime) -> Result<Entry, BrokerError> {
        let stored = Stored::seal(&self.kek, record)?;
        let bytes = stored.to_bytes();
        files::write(&self.dir.join(MODELS), &file_name(&record.uid), &bytes, MODELS)?;
        let event = Event::Imported {
            model: record.model_id.clone(),
            uid: record.uid,
            sequence: record.sequence,
            mode: record.mode,
            manifest_digest: record.manifest_digest,
            file_sha256: sha256(&bytes),
        };
        let entry = self.record(event, now)?;
        self.models.insert((record.model_id.clone(), record.sequence), stored);
        Ok(entry)
    }
}

pub(crate) fn release_key(dir: &Path) -> Result<Ed25519KeyPair, BrokerError> {
    let bytes = files::read_secret(dir, RELEASE_KEY)?;
    Ed25519KeyPair::from_pkcs8(&bytes).map_err(|_| BrokerError::KeyFile(RELEASE_KEY))
}

pub(crate) fn wrap_secret(dir: &Path) -> Result<WrapSecret, BrokerError> {
    let bytes = files::read_secret(dir, WRAP_KEY)?;
    let mut scalar = zeroize::Zeroizing::new([0; 32]);
    if bytes.len() != scalar.len() {
        return Err(BrokerError::KeyFile(WRAP_KEY));
    }
    scalar.copy_from_slice(&bytes);
    WrapSecret::from_bytes(&scalar).map_err(|_| BrokerError::KeyFile(WRAP_KEY))
}

fn read_model(dir: &Path, uid: &[u8; 32], expected: &[u8; 32]) -> Result<Stored, BrokerError> {
    let bytes = std::fs::read(dir.join(MODELS).join(file_name(uid))).map_err(files::failed(MODELS))?;
    if sha256(&bytes) != *expected {
        return Err(BrokerError::ModelKey);
    }
    Stored::parse(&bytes)
}
