//! Turns the administrator's commands into ledger lines: through the running broker, or directly when none runs.
//! Everything here blocks; an async caller wraps it. Reading the ledger needs neither lock nor broker.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use vouchsafe_attestation::UnixTime;

use crate::{
    BrokerError,
    admin_server::{Answer, Request, SocketPath, perform},
    clock,
    config::Config,
    event::{Id, Platform},
    files::LEDGER,
    head::HeadKey,
    index::Index,
    ledger::{self, Entry, Summary},
    store::Store,
};

pub use crate::{
    admin_server::Recorded,
    index::{LeaseState, LeaseView},
};

const PATIENCE: Duration = Duration::from_secs(15);
/// Two commands at once: the second waits this often, 50 ms each.
const ATTEMPTS: u32 = 40;

/// Ends all grants of a model, or of one version of it.
///
/// # Errors
/// `MODEL_UNKNOWN`, and those of every command: `STATE_MISSING`, `STATE_LOCKED`, `ADMIN_UNREACHABLE`, `LEDGER_*`, `KEY_FILE*`.
pub fn revoke_model(dir: &Path, model: &str, sequence: Option<u64>) -> Result<Recorded, BrokerError> {
    command(dir, Request::RevokeModel { model: model.to_owned(), sequence })
}

/// Ends all grants to a machine, named by the 128 hex characters of its chip id or the 32 of its PPID.
///
/// # Errors
/// `ARGUMENT`, and those of every command.
pub fn revoke_platform(dir: &Path, platform: &str) -> Result<Recorded, BrokerError> {
    let platform = Platform::parse(platform).map_err(|_| BrokerError::Argument("the chip id or PPID"))?;
    command(dir, Request::RevokePlatform { platform })
}

/// Ends the right of a lease's machine to that lease's version of the model. The key in use there lapses with the lease.
///
/// # Errors
/// `ARGUMENT`, `LEASE_UNKNOWN`, and those of every command.
pub fn revoke_lease(dir: &Path, lease: &str) -> Result<Recorded, BrokerError> {
    let lease = Id::parse(lease).map_err(|_| BrokerError::Argument("the lease"))?;
    command(dir, Request::RevokeLease { lease })
}

/// Raises the lowest sequence of a model that is granted.
///
/// # Errors
/// `MODEL_UNKNOWN`, `FLOOR_LOWERED`, and those of every command.
pub fn raise_floor(dir: &Path, model: &str, sequence: u64) -> Result<Recorded, BrokerError> {
    command(dir, Request::RaiseFloor { model: model.to_owned(), sequence })
}

/// Every remembered lease and where it stands now, from the ledger.
///
/// # Errors
/// `STATE_MISSING`, `LEDGER_BROKEN`, `FILE_IO`.
pub fn leases(dir: &Path) -> Result<Vec<LeaseView>, BrokerError> {
    Config::load(dir)?;
    let mut index = Index::default();
    ledger::read(&dir.join(LEDGER), &mut |entry| index.apply(entry))?;
    Ok(index.leases(clock::now()))
}

/// The ledger's lines: all, or those about a ticket or a lease (32 hex characters).
///
/// # Errors
/// `ARGUMENT`, `STATE_MISSING`, `LEDGER_BROKEN`, `FILE_IO`.
pub fn ledger_show(dir: &Path, ticket: Option<&str>) -> Result<Vec<Entry>, BrokerError> {
    Config::load(dir)?;
    let path = dir.join(LEDGER);
    if let Some(ticket) = ticket {
        return ledger::find(&path, Id::parse(ticket).map_err(|_| BrokerError::Argument("the ticket"))?);
    }
    let mut all = Vec::new();
    ledger::read(&path, &mut |entry| all.push(entry.clone()))?;
    Ok(all)
}

/// Recomputes the ledger's chain and compares it with the head file.
///
/// # Errors
/// `STATE_MISSING`, `LEDGER_BROKEN`, `KEY_FILE_MODE`, `KEY_FILE`, `FILE_IO`.
pub fn ledger_verify(dir: &Path) -> Result<Summary, BrokerError> {
    Config::load(dir)?;
    ledger::verify(&dir.join(LEDGER), &HeadKey::load(dir)?)
}

/// Who carries a command out.
pub(crate) enum Access {
    /// This process: no broker runs.
    Local(Box<Store>),
    /// The broker that runs.
    Running(UnixStream),
}

pub(crate) fn command(dir: &Path, request: Request) -> Result<Recorded, BrokerError> {
    match access(dir, clock::now())? {
        Access::Local(mut store) => perform(&mut store, request, clock::now()),
        Access::Running(stream) => ask(stream, &request),
    }
}

fn access(dir: &Path, now: UnixTime) -> Result<Access, BrokerError> {
    for _ in 0..ATTEMPTS {
        match Store::open(dir, now) {
            Ok(store) => return Ok(Access::Local(Box::new(store))),
            Err(BrokerError::Locked) => {}
            Err(error) => return Err(error),
        }
        if let Ok(stream) = UnixStream::connect(SocketPath::of(dir)?.path) {
            return Ok(Access::Running(stream));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(BrokerError::AdminUnreachable)
}

fn ask(mut stream: UnixStream, request: &Request) -> Result<Recorded, BrokerError> {
    let mut line = serde_json::to_vec(request).map_err(|_| BrokerError::Argument("the command"))?;
    line.push(b'\n');
    let mut answer = Vec::new();
    stream
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| stream.write_all(&line))
        .and_then(|()| BufReader::new(stream.take(64 * 1024)).read_until(b'\n', &mut answer))
        .map_err(|_| BrokerError::AdminUnreachable)?;
    match serde_json::from_slice(&answer) {
        Ok(Answer::Recorded(recorded)) => Ok(recorded),
        Ok(Answer::Error { code }) => Err(BrokerError::from_code(&code)),
        Err(_) => Err(BrokerError::AdminUnreachable),
    }
}
