//! Turns verdicts and receipts into durable lines and files: what was proved is on disk before the answer goes to the client.
//! No payload, no salt and no text of the peer's stands in the log; salts stand in a directory of their own.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::{Value, json};
use vouchsafe_attestation::lp::sha256;

use crate::{
    Answer, CustomerError, Pinned, ProxyLog,
    attest::{now, random},
    verdict::{models_json, registers_json},
};

pub(super) struct Journal {
    log: Option<Arc<Mutex<ProxyLog>>>,
    receipts: Option<PathBuf>,
}

impl Journal {
    pub fn open(log: Option<&Path>, receipts: Option<&Path>) -> Result<Self, CustomerError> {
        if let Some(dir) = receipts {
            for dir in [dir.to_owned(), dir.join("salts")] {
                let made = DirBuilder::new().recursive(true).mode(0o700).create(&dir);
                made.map_err(|e| unstored(&e))?;
            }
        }
        let log = log.map(|path| ProxyLog::open(path, now())).transpose()?;
        Ok(Self { log: log.map(|l| Arc::new(Mutex::new(l))), receipts: receipts.map(Path::to_owned) })
    }

    /// Whether every inference is to have a receipt.
    pub const fn keeps_receipts(&self) -> bool {
        self.receipts.is_some()
    }

    pub async fn verdict(&self, pinned: &Pinned) -> Result<(), CustomerError> {
        let (appraised, record) = (pinned.appraised(), pinned.record());
        self.line(json!({
            "event": "verdict",
            "mode": appraised.mode(),
            "tee": appraised.tee(),
            "measurement": hex::encode(appraised.authentic().measurement()),
            "rtmr": registers_json(appraised),
            "config_digest": hex::encode(appraised.authentic().config_digest()),
            "policy_digest": hex::encode(appraised.policy_digest()),
            "nonce": hex::encode(record.nonce),
            "tls_key": hex::encode(record.spki_sha256),
            "claims_digest": hex::encode(sha256(&record.claims)),
            "models": models_json(appraised),
        }))
        .await
    }

    pub async fn refused(&self, error: &CustomerError, mode: &str) -> Result<(), CustomerError> {
        self.line(json!({"event": "refused", "mode": mode, "code": error.code(), "codes": error.codes()})).await
    }

    /// Keeps a receipt and its salt apart; returns the name of both.
    pub async fn receipt(&self, answer: &Answer) -> Result<String, CustomerError> {
        let Some(dir) = self.receipts.clone() else {
            return Err(unstored(&io::ErrorKind::NotFound.into()));
        };
        let name = format!("{}-{}", now().0, hex::encode(&random()?[..8]));
        let (text, salt) = (answer.receipt_json(), answer.salt.to_text() + "\n");
        let digest = sha256(text.as_bytes());
        let file = name.clone();
        blocking(move || {
            store(&dir.join("salts").join(format!("{file}.salt")), salt.as_bytes())
                .and_then(|()| store(&dir.join(format!("{file}.receipt.json")), text.as_bytes()))
                .map_err(|e| unstored(&e))
        })
        .await?;
        let statement = &answer.statement;
        self.line(json!({
            "event": "receipt",
            "mode": statement.mode,
            "name": name,
            "receipt_digest": hex::encode(digest),
            "model": statement.model_id,
            "sequence": statement.sequence,
            "manifest_digest": hex::encode(statement.manifest_digest),
        }))
        .await?;
        Ok(name)
    }

    async fn line(&self, event: Value) -> Result<(), CustomerError> {
        let Some(log) = self.log.clone() else { return Ok(()) };
        blocking(move || log.lock().unwrap_or_else(PoisonError::into_inner).append(now(), event).map(drop)).await
    }
}

/// Disk waits happen off the event loop.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CustomerError> + Send + 'static,
) -> Result<T, CustomerError> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.unwrap_or_else(|_| Err(unstored(&io::ErrorKind::Interrupted.into())))
}

fn store(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_data());
    if written.is_err() {
        let _gone = fs::remove_file(path);
    }
    written
}

fn unstored(error: &io::Error) -> CustomerError {
    CustomerError::local("RECEIPTS_UNWRITABLE", "the receipt cannot be kept", error)
}
