//! Turns lines of JSON on the administrator's Unix socket into ledger lines.
//! It serves its own user only (`SO_PEERCRED`); who may be that user is the host's business.
//!
//! One request per connection: a JSON object and a line feed; the answer likewise.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    time::timeout,
};
use vouchsafe_attestation::{
    UnixTime,
    encoding::{serde_b64url, serde_hex},
};

use crate::{
    BrokerError, clock,
    event::{Event, Id, Platform},
    exchange::Exchange,
    files::{self, SOCKET},
    import, log,
    store::Store,
};

/// A wrapped key is below 2 KiB; a path below 4.
const MAX_REQUEST: u64 = 128 * 1024;
const PATIENCE: Duration = Duration::from_secs(10);

/// What the administrator asks.
#[derive(Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Request {
    RevokeModel {
        model: String,
        sequence: Option<u64>,
    },
    RevokePlatform {
        platform: Platform,
    },
    RevokeLease {
        lease: Id,
    },
    RaiseFloor {
        model: String,
        sequence: u64,
    },
    Import {
        package: PathBuf,
        #[serde(with = "serde_b64url")]
        wrapped: Vec<u8>,
    },
}

/// What the administrator hears.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Answer {
    Recorded(Recorded),
    Error { code: String },
}

/// The ledger after the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    /// Number of the last line.
    pub n: u64,
    /// The ledger's head.
    #[serde(with = "serde_hex")]
    pub head: [u8; 32],
}

/// Carries a command out, in the running broker or in the command's own process.
pub(crate) fn perform(store: &mut Store, request: Request, now: UnixTime) -> Result<Recorded, BrokerError> {
    match request {
        Request::RevokeModel { model, sequence } => {
            if !store.index.knows_model(&model, sequence) {
                return Err(BrokerError::ModelUnknown);
            }
            store.record(Event::ModelRevoked { model, sequence }, now)?;
        }
        Request::RevokePlatform { platform } => {
            store.record(Event::PlatformRevoked { platform }, now)?;
        }
        Request::RevokeLease { lease } => {
            let known = store.index.lease(lease).ok_or(BrokerError::LeaseUnknown)?;
            let (model, sequence, platform) = (known.model.clone(), known.sequence, known.platform);
            store.record(Event::LeaseRevoked { lease, model, sequence, platform }, now)?;
        }
        Request::RaiseFloor { model, sequence } => {
            if !store.index.knows_model(&model, None) {
                return Err(BrokerError::ModelUnknown);
            }
            if sequence < store.index.floor(&model) {
                return Err(BrokerError::FloorLowered);
            }
            store.record(Event::FloorRaised { model, sequence }, now)?;
        }
        Request::Import { package, wrapped } => import::into_store(store, &package, &wrapped, now)?,
    }
    let head = store.head();
    Ok(Recorded { n: head.n, head: head.hash })
}

/// The socket's path, short enough for any directory: through the directory's own descriptor.
pub(crate) struct SocketPath {
    _dir: std::fs::File,
    pub(crate) path: PathBuf,
}

impl SocketPath {
    pub(crate) fn of(dir: &Path) -> Result<Self, BrokerError> {
        use std::os::fd::AsRawFd as _;
        let dir = std::fs::File::open(dir).map_err(files::failed("the state directory"))?;
        let path = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd()));
        Ok(Self { _dir: dir, path })
    }
}

/// Binds the socket, 0600. The caller holds the directory's lock, so an old socket is nobody's.
pub(crate) fn bind(dir: &Path) -> Result<UnixListener, BrokerError> {
    let socket = SocketPath::of(dir)?;
    let _ = std::fs::remove_file(&socket.path);
    let listener = UnixListener::bind(&socket.path).map_err(files::failed(SOCKET))?;
    std::fs::set_permissions(&socket.path, std::fs::Permissions::from_mode(0o600)).map_err(files::failed(SOCKET))?;
    Ok(listener)
}

/// Serves until dropped.
pub(crate) async fn run(listener: UnixListener, exchange: Arc<Exchange>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let exchange = Arc::clone(&exchange);
                tokio::spawn(async move {
                    if timeout(PATIENCE, serve(stream, exchange)).await.is_err() {
                        log::event("admin", "ADMIN_TIMEOUT");
                    }
                });
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn serve(stream: UnixStream, exchange: Arc<Exchange>) {
    let ours = rustix::process::geteuid().as_raw();
    if stream.peer_cred().map(|c| c.uid()).ok() != Some(ours) {
        log::event("admin", "ADMIN_FOREIGN_USER");
        return;
    }
    let (reading, mut writing) = stream.into_split();
    let mut line = Vec::new();
    if BufReader::new(reading.take(MAX_REQUEST)).read_until(b'\n', &mut line).await.is_err() {
        return;
    }
    let done = tokio::task::spawn_blocking(move || {
        let request: Request = serde_json::from_slice(&line).map_err(|_| "ADMIN_REQUEST")?;
        perform(&mut exchange.store(), request, clock::now()).map_err(|e| e.code())
    });
    let answer = match done.await {
        Ok(Ok(recorded)) => Answer::Recorded(recorded),
        Ok(Err(code)) => Answer::Error { code: code.to_owned() },
        Err(_) => return,
    };
    let mut bytes = serde_json::to_vec(&answer).unwrap_or_default();
    bytes.push(b'\n');
    let _ = writing.write_all(&bytes).await;
}
