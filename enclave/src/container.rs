//! Turns a container of a confidential pod into what the boot needs: fixed paths, no launcher, and an environment that is thrown away.
//! It does not establish that this container is the right one: the agent policy in the bound init-data does, for whoever read it.
//!
//! Kata keeps the raw init-data inside the guest (`/run/confidential-containers/initdata/initdata.toml`), where containers do not
//! see it. So a copy comes in as a volume, which the host may exchange: the boot compares its digest with the own report, as ever.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use vouchsafe_sealed::Shelf;

use crate::authority::{self, Environment};
use crate::channel::{Handed, HostRequest};
use crate::device::{EvidenceDevice, Words};
use crate::dial::Way;
use crate::error::EnclaveError;
use crate::ground::Supplies;
use crate::init;
use crate::library::Source;

/// The first argument in a container. Nothing else chooses this ground.
pub const WORD: &str = "container";

/// Volumes: the copy of the init-data and, beside it, the collateral file; the sealed packages.
const INIT_DATA: &str = "/run/vouchsafe/init-data";
const COLLATERAL: &str = "/run/vouchsafe/collateral.json";
const MODELS: &str = "/models";
/// Beside the program, in the image.
const LIBRARY: &str = "libonnxruntime.so";
/// The program's own name when it has thrown its environment away: there is no third time.
const AGAIN: &str = "vouchsafe-enclave: without environment";

/// Where things are.
struct Places {
    init_data: PathBuf,
    collateral: PathBuf,
    models: PathBuf,
    library: PathBuf,
    address: (Ipv4Addr, u16),
}

/// Throws the environment away, and what authority a container's first process has but does not need.
///
/// # Errors
/// `ENVIRONMENT_NOT_EMPTY`, `AUTHORITY`.
pub fn prepare() -> Result<(), EnclaveError> {
    without_environment()?;
    authority::drop_authority(Environment::Empty)?;
    authority::keep(authority::NURSERY)
}

/// A runtime always sets variables (PATH, HOSTNAME, KUBERNETES_…). The program starts itself anew without any, once; then libraries
/// find none either. What the loader did with them before the first line of this program cannot be undone: the agent policy
/// must not allow them (SECURITY.md).
fn without_environment() -> Result<(), EnclaveError> {
    if std::env::vars_os().next().is_none() {
        return Ok(());
    }
    let mut words = std::env::args_os();
    if words.next().is_some_and(|name| name != AGAIN) {
        // Comes back only when it fails.
        let _ = Command::new("/proc/self/exe").arg0(AGAIN).args(words).env_clear().exec();
    }
    Err(EnclaveError::EnvironmentNotEmpty)
}

/// Opens everything at its place. The only device is the guest's own.
///
/// # Errors
/// `NO_TEE`, `EVIDENCE_DEVICE`, `SUPPLY_MISSING`, `SYSTEM`.
pub fn supplies(words: Words) -> Result<Supplies, EnclaveError> {
    let device = words.open_device(|| Err(EnclaveError::NoTee("a container has no simulated processor")))?;
    let program = std::env::current_exe().map_err(|_| EnclaveError::System("find the own program"))?;
    Places {
        init_data: INIT_DATA.into(),
        collateral: COLLATERAL.into(),
        models: MODELS.into(),
        library: program.with_file_name(LIBRARY),
        address: (Ipv4Addr::UNSPECIFIED, init::SERVICE_PORT),
    }
    .open(device.into())
}

impl Places {
    fn open(self, device: Arc<dyn EvidenceDevice>) -> Result<Supplies, EnclaveError> {
        let config = file(&self.init_data)?.ok_or(EnclaveError::SupplyMissing("the init-data"))?;
        let collateral = file(&self.collateral)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let models = rustix::fs::open(&self.models, flags, Mode::empty())
            .map_err(|_| EnclaveError::SupplyMissing("the folder of sealed packages"))?;
        let listener = TcpListener::bind(self.address)
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .map_err(|_| EnclaveError::System("listen on port 8443"))?;
        Ok(Supplies {
            device,
            config: config.into(),
            models: Shelf::Directory(models),
            library: Source::Image(self.library),
            listener,
            way: Way::Direct,
            collateral: collateral.map(Handed::from),
            agent_policy: true,
        })
    }
}

/// A file that was mounted, or nothing. Never waits: what is no regular file is refused.
fn file(path: &Path) -> Result<Option<OwnedFd>, EnclaveError> {
    let odd = EnclaveError::SupplyMissing("a mounted file that can be read");
    match rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty()) {
        Ok(opened) => {
            let file = File::from(opened);
            let regular = file.metadata().is_ok_and(|metadata| metadata.is_file());
            if regular { Ok(Some(file.into())) } else { Err(odd) }
        }
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(_) => Err(odd),
    }
}

/// Nobody but the kernel speaks to a container: SIGTERM is its stop. Must be called within the runtime.
///
/// # Errors
/// `SYSTEM`.
pub fn attend(requests: mpsc::Sender<HostRequest>) -> Result<(), EnclaveError> {
    init::reap()?;
    let mut asked = signal(SignalKind::terminate()).map_err(|_| EnclaveError::System("wait for signals"))?;
    tokio::spawn(async move {
        while asked.recv().await.is_some() {
            if requests.send(HostRequest::Stop).await.is_err() {
                return;
            }
        }
    });
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::device::tests::UnsignedDevice;
    use std::fs;
    use std::sync::atomic::AtomicUsize;

    fn places(root: &Path) -> Places {
        Places {
            init_data: root.join("init-data"),
            collateral: root.join("collateral.json"),
            models: root.join("models"),
            library: root.join(LIBRARY),
            address: (Ipv4Addr::LOCALHOST, 0),
        }
    }

    /// What a container finds in `root`, with this device.
    pub(crate) fn found(root: &Path, device: Arc<dyn EvidenceDevice>) -> Result<Supplies, EnclaveError> {
        places(root).open(device)
    }

    fn refused(root: &Path) -> Option<(&'static str, u8)> {
        let device = Arc::new(UnsignedDevice { quotes: AtomicUsize::new(0) });
        found(root, device).err().map(|error| (error.code(), error.exit()))
    }

    #[test]
    fn everything_is_at_its_place_or_named() {
        const MISSING: Option<(&str, u8)> = Some(("SUPPLY_MISSING", 9));
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        assert_eq!(refused(root), MISSING, "no init-data");
        fs::write(root.join("init-data"), b"x").unwrap();
        assert_eq!(refused(root), MISSING, "no models");
        fs::write(root.join("models"), b"x").unwrap();
        assert_eq!(refused(root), MISSING, "models that are no folder");
        fs::remove_file(root.join("models")).unwrap();
        fs::create_dir(root.join("models")).unwrap();
        assert_eq!(refused(root), None, "control: collateral may be missing, the library is looked at later");
        fs::create_dir(root.join("collateral.json")).unwrap();
        assert_eq!(refused(root), MISSING, "collateral that is no file");
        fs::remove_dir(root.join("collateral.json")).unwrap();
        fs::remove_file(root.join("init-data")).unwrap();
        let mode = rustix::fs::Mode::RUSR;
        rustix::fs::mknodat(rustix::fs::CWD, root.join("init-data"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert_eq!(refused(root), MISSING, "a pipe is not waited for");
    }

    #[test]
    fn what_is_found_is_a_containers() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("init-data"), b"bound").unwrap();
        fs::write(directory.path().join("collateral.json"), b"{}").unwrap();
        fs::create_dir(directory.path().join("models")).unwrap();
        let device = Arc::new(UnsignedDevice { quotes: AtomicUsize::new(0) });
        let found = found(directory.path(), device).ok().unwrap();
        assert_eq!(found.config.read(64).unwrap(), b"bound");
        assert_eq!(found.collateral.unwrap().read(64).unwrap(), b"{}");
        assert!(found.agent_policy && matches!(found.way, Way::Direct) && matches!(found.models, Shelf::Directory(_)));
        assert_ne!(found.listener.local_addr().unwrap().port(), 0);
    }

    #[tokio::test]
    async fn a_signal_to_end_is_a_request_to_stop() {
        let (send, mut requests) = mpsc::channel(8);
        attend(send).unwrap();
        let own = rustix::process::getpid();
        rustix::process::kill_process(own, rustix::process::Signal::TERM).unwrap();
        assert!(matches!(requests.recv().await, Some(HostRequest::Stop)));
    }
}
