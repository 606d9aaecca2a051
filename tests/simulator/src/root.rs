//! Turns a directory into the simulated root: makes it on first use, loads it afterwards, renews its revocation list.
//! Whoever can read the directory's keys can forge simulated evidence: the files protect a rehearsal, not a secret.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use der_07::{Decode, EncodePem, pem::LineEnding};
use p384::ecdsa::SigningKey;
use rsa::{
    RsaPrivateKey,
    pkcs8::{DecodePrivateKey, EncodePrivateKey},
    rand_core::{OsRng, RngCore},
};
use rustix::fs::{FlockOperation, flock};
use x509_cert_02::{Certificate, crl::CertificateList, ext::pkix::CrlNumber};
use zeroize::Zeroizing;

use crate::{
    SimulatorError,
    certificates::{self, CaKey, CertificateError},
    report::Tcb,
};

const ROOT_PEM: &str = "root.pem";
const LEAF: &str = "vcek.der";
const CRL: &str = "crl.der";
const CHIP_ID: &str = "chip-id";
const ARK_KEY: &str = "ark.key";
const ASK_KEY: &str = "ask.key";
const VCEK_KEY: &str = "vcek.key";
const LOCK: &str = "lock";
/// No file of the directory is larger.
const MAX_FILE: u64 = 64 * 1024;
/// A revocation list older than this is replaced.
const CRL_AGE: u64 = 86_400;

/// A loaded root: what one chip holds, and what proves it.
pub struct Root {
    dir: PathBuf,
    root_pem: Vec<u8>,
    leaf: Vec<u8>,
    chip_id: [u8; 64],
    vcek: SigningKey,
    crl: Mutex<Crl>,
}

struct Crl {
    der: Vec<u8>,
    number: u64,
    this_update: u64,
}

impl Root {
    /// Loads the root in `dir`; makes one when there is none. Safe when several processes do it at once.
    /// `progress` is told what takes time.
    ///
    /// # Errors
    /// `SIMULATOR_ROOT_*`.
    pub fn open(dir: &Path, progress: &mut dyn FnMut(&str)) -> Result<Self, SimulatorError> {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(dir).map_err(file("directory"))?;
        // `root.pem` is written last: where it is, the rest is complete and nothing has to wait.
        if !is_made(dir)? {
            let _lock = lock(dir, progress)?;
            if !is_made(dir)? {
                make(dir, progress)?;
            }
        }
        Self::load(dir)
    }

    /// Where `root.pem` is.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dir.join(ROOT_PEM)
    }

    /// The two certificates that a policy names: ARK, then ASK.
    #[must_use]
    pub fn root_pem(&self) -> &[u8] {
        &self.root_pem
    }

    /// The chip's certificate, DER.
    #[must_use]
    pub fn leaf(&self) -> &[u8] {
        &self.leaf
    }

    /// The chip's identity.
    #[must_use]
    pub const fn chip_id(&self) -> &[u8; 64] {
        &self.chip_id
    }

    /// The key that signs reports.
    #[must_use]
    pub const fn vcek(&self) -> &SigningKey {
        &self.vcek
    }

    /// The revocation list, renewed when it is older than a day.
    ///
    /// # Errors
    /// `SIMULATOR_ROOT_*` when a new one cannot be made or stored.
    pub fn crl(&self, now: u64) -> Result<Vec<u8>, SimulatorError> {
        let mut crl = self.crl.lock().unwrap_or_else(PoisonError::into_inner);
        if is_stale(&crl, now) {
            let _lock = lock(&self.dir, &mut |_| ())?;
            *crl = read_crl(&self.dir)?;
            if is_stale(&crl, now) {
                let ark = ca_key(&self.dir, ARK_KEY)?;
                let der = certificates::crl(&ark, crl.number.saturating_add(1), now).map_err(making("the list"))?;
                write(&self.dir, CRL, 0o644, &der)?;
                *crl = read_crl(&self.dir)?;
            }
        }
        Ok(crl.der.clone())
    }

    fn load(dir: &Path) -> Result<Self, SimulatorError> {
        let pem = key_file(dir, VCEK_KEY)?;
        let vcek = SigningKey::from_pkcs8_pem(&pem).map_err(|_| SimulatorError::RootMalformed(VCEK_KEY))?;
        for key in [ARK_KEY, ASK_KEY] {
            drop(key_file(dir, key)?);
        }
        let chip_id = read(dir, CHIP_ID)?;
        let mut chip = [0; 64];
        hex::decode_to_slice(chip_id.trim_ascii_end(), &mut chip)
            .map_err(|_| SimulatorError::RootMalformed(CHIP_ID))?;
        Ok(Self {
            dir: dir.to_path_buf(),
            root_pem: read(dir, ROOT_PEM)?,
            leaf: read(dir, LEAF)?,
            chip_id: chip,
            vcek,
            crl: Mutex::new(read_crl(dir)?),
        })
    }
}

/// Seconds since 1970 by this machine's clock.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

fn is_made(dir: &Path) -> Result<bool, SimulatorError> {
    dir.join(ROOT_PEM).try_exists().map_err(file(ROOT_PEM))
}

fn is_stale(crl: &Crl, now: u64) -> bool {
    now < crl.this_update || now - crl.this_update > CRL_AGE
}

/// Makes everything, `root.pem` last: its presence says that the rest is complete.
fn make(dir: &Path, progress: &mut dyn FnMut(&str)) -> Result<(), SimulatorError> {
    progress("making a SIMULATED root: two RSA-4096 keys, this can take some seconds");
    let start = Instant::now();
    let (ark, ask) = std::thread::scope(|scope| {
        let other = scope.spawn(rsa_key);
        let mine = rsa_key()?;
        let theirs = other.join().map_err(|_| SimulatorError::RootMaking("an RSA key"))??;
        Ok((mine, theirs))
    })?;
    let vcek = SigningKey::random(&mut OsRng);
    let mut chip_id = [0; 64];
    OsRng.try_fill_bytes(&mut chip_id).map_err(|_| SimulatorError::RootMaking("random bytes"))?;
    let now = now();
    let step = making("a certificate");
    let ark_der = certificates::ark(&ark, now).map_err(&step)?;
    let ask_der = certificates::ask(&ark, &ask, now).map_err(&step)?;
    let leaf = certificates::leaf(&ask, vcek.verifying_key(), &chip_id, Tcb::SIMULATED, now).map_err(&step)?;
    let crl = certificates::crl(&ark, 1, now).map_err(&step)?;
    write(dir, ARK_KEY, 0o600, pem_of(ark.as_ref())?.as_bytes())?;
    write(dir, ASK_KEY, 0o600, pem_of(ask.as_ref())?.as_bytes())?;
    let secret = p384::SecretKey::from(vcek.as_nonzero_scalar());
    write(dir, VCEK_KEY, 0o600, pem_of(&secret)?.as_bytes())?;
    write(dir, LEAF, 0o644, &leaf)?;
    write(dir, CRL, 0o644, &crl)?;
    write(dir, CHIP_ID, 0o644, format!("{}\n", hex::encode(chip_id)).as_bytes())?;
    let bundle = certificate_pem(&ark_der)? + &certificate_pem(&ask_der)?;
    write(dir, ROOT_PEM, 0o644, bundle.as_bytes())?;
    progress(&format!("made the SIMULATED root in {:.1} s", start.elapsed().as_secs_f64()));
    Ok(())
}

fn rsa_key() -> Result<CaKey, SimulatorError> {
    RsaPrivateKey::new(&mut OsRng, 4096).map(CaKey::new).map_err(|_| SimulatorError::RootMaking("an RSA key"))
}

fn pem_of(key: &impl EncodePrivateKey) -> Result<Zeroizing<String>, SimulatorError> {
    key.to_pkcs8_pem(LineEnding::LF).map_err(|_| SimulatorError::RootMaking("a key file"))
}

fn certificate_pem(der: &[u8]) -> Result<String, SimulatorError> {
    let certificate = Certificate::from_der(der).map_err(|_| SimulatorError::RootMaking("a certificate"))?;
    certificate.to_pem(LineEnding::LF).map_err(|_| SimulatorError::RootMaking("a certificate"))
}

fn ca_key(dir: &Path, name: &'static str) -> Result<CaKey, SimulatorError> {
    let pem = key_file(dir, name)?;
    RsaPrivateKey::from_pkcs8_pem(&pem).map(CaKey::new).map_err(|_| SimulatorError::RootMalformed(name))
}

/// Reads a key file that nobody else may read.
fn key_file(dir: &Path, name: &'static str) -> Result<Zeroizing<String>, SimulatorError> {
    let handle = open(dir, name)?;
    let mode = handle.metadata().map_err(file(name))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(SimulatorError::RootPermissions(name));
    }
    let mut text = Zeroizing::new(String::with_capacity(8 * 1024));
    handle.take(MAX_FILE).read_to_string(&mut text).map_err(file(name))?;
    Ok(text)
}

fn read_crl(dir: &Path) -> Result<Crl, SimulatorError> {
    let der = read(dir, CRL)?;
    let list = CertificateList::from_der(&der).map_err(|_| SimulatorError::RootMalformed(CRL))?.tbs_cert_list;
    let number = list
        .crl_extensions
        .iter()
        .flatten()
        .find(|e| e.extn_id == <CrlNumber as der_07::oid::AssociatedOid>::OID)
        .and_then(|e| CrlNumber::from_der(e.extn_value.as_bytes()).ok())
        .map_or(0, |n| n.0.as_bytes().iter().fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte)));
    Ok(Crl { number, this_update: list.this_update.to_unix_duration().as_secs(), der })
}

fn open(dir: &Path, name: &'static str) -> Result<File, SimulatorError> {
    File::open(dir.join(name)).map_err(|e| match e.kind() {
        ErrorKind::NotFound => SimulatorError::RootIncomplete(name),
        kind => SimulatorError::RootFile(name, kind),
    })
}

fn read(dir: &Path, name: &'static str) -> Result<Vec<u8>, SimulatorError> {
    let mut bytes = Vec::new();
    open(dir, name)?.take(MAX_FILE).read_to_end(&mut bytes).map_err(file(name))?;
    Ok(bytes)
}

/// Writes under another name and renames, so that no reader sees half a file.
fn write(dir: &Path, name: &'static str, mode: u32, bytes: &[u8]) -> Result<(), SimulatorError> {
    let temporary = dir.join(format!(".{name}.new"));
    let store = || {
        let _ = fs::remove_file(&temporary);
        let mut out = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        out.set_permissions(fs::Permissions::from_mode(mode))?;
        out.write_all(bytes)?;
        out.sync_all()?;
        fs::rename(&temporary, dir.join(name))
    };
    store().map_err(file(name))
}

/// Held until the returned file is dropped.
fn lock(dir: &Path, progress: &mut dyn FnMut(&str)) -> Result<File, SimulatorError> {
    let handle = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(dir.join(LOCK));
    let handle = handle.map_err(file(LOCK))?;
    if flock(&handle, FlockOperation::NonBlockingLockExclusive).is_err() {
        progress("waiting for another process that works on the SIMULATED root");
        rustix::io::retry_on_intr(|| flock(&handle, FlockOperation::LockExclusive))
            .map_err(|e| SimulatorError::RootFile(LOCK, e.kind()))?;
    }
    Ok(handle)
}

fn file(name: &'static str) -> impl Fn(std::io::Error) -> SimulatorError {
    move |e| SimulatorError::RootFile(name, e.kind())
}

fn making(what: &'static str) -> impl Fn(CertificateError) -> SimulatorError {
    move |CertificateError| SimulatorError::RootMaking(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    #[test]
    fn the_revocation_list_is_renewed_daily_with_the_next_number() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path(), &mut |_| ()).unwrap();
        let first = root.crl(now()).unwrap();
        assert_eq!(root.crl(now()).unwrap(), first);
        let later = now() + 2 * DAY;
        let second = root.crl(later).unwrap();
        let on_disk = read_crl(dir.path()).unwrap();
        assert_eq!((on_disk.number, on_disk.this_update, &on_disk.der), (2, later, &second));
        let list = CertificateList::from_der(&second).unwrap().tbs_cert_list;
        assert_eq!(list.next_update.unwrap().to_unix_duration().as_secs(), later + 7 * DAY);
        // Another process with the same root sees the renewed list; a clock that goes back makes a third.
        let other = Root::open(dir.path(), &mut |_| ()).unwrap();
        assert_eq!(other.crl(later).unwrap(), second);
        assert_ne!(other.crl(now()).unwrap(), second);
        assert_eq!(read_crl(dir.path()).unwrap().number, 3);
    }
}
