//! Turns a directory into the simulated root: makes it on first use, loads it afterwards, renews its revocation list.
//! Whoever can read the directory's keys can forge simulated evidence: the files protect a rehearsal, not a secret.

mod files;
mod tdx;

use std::{
    fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock, PoisonError},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use der_07::Decode;
use p384::ecdsa::SigningKey;
use rsa::{
    pkcs8::DecodePrivateKey,
    rand_core::{OsRng, RngCore},
};
use vouchsafe_attestation::evidence::TdxCollateral;
use x509_cert_02::{crl::CertificateList, ext::pkix::CrlNumber};

use self::files::{file, key_file, lock, read, read_hex, write};
use crate::{
    SimulatorError, der,
    keys::Key,
    snp::{
        Tcb,
        certificates::{self, Endorsement},
    },
    tdx::{CollateralSpec, Pki},
};

const ROOT_PEM: &str = "root.pem";
const LEAF: &str = "vcek.der";
const CRL: &str = "crl.der";
const CHIP_ID: &str = "chip-id";
const ARK_KEY: &str = "ark.key";
const ASK_KEY: &str = "ask.key";
const ASVK_KEY: &str = "asvk.key";
const ASVK: &str = "asvk.der";
const VCEK_KEY: &str = "vcek.key";
/// A revocation list older than this is replaced.
const CRL_AGE: u64 = 86_400;
/// Collateral older than this is made again.
const COLLATERAL_AGE: u64 = 300;
/// ARK, ASK and the root of TDX.
const ROOT_CERTIFICATES: usize = 3;

/// A loaded root: what one chip holds, and what proves it.
pub struct Root {
    dir: PathBuf,
    root_pem: Vec<u8>,
    leaf: Vec<u8>,
    chip_id: [u8; 64],
    vcek: SigningKey,
    crl: Mutex<Crl>,
    ark: OnceLock<Key>,
    ask: OnceLock<Key>,
    asvk: OnceLock<Asvk>,
    tdx: Pki,
    collateral: Mutex<Option<(u64, TdxCollateral)>>,
}

/// The authority of loaded keys.
pub struct Asvk {
    /// Its key.
    pub key: Key,
    /// Its certificate, DER.
    pub der: Vec<u8>,
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
    /// `SIMULATOR_ROOT_*`; `SIMULATOR_ROOT_OUTDATED` for a root of a version that simulated SEV-SNP only.
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

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where `root.pem` is.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dir.join(ROOT_PEM)
    }

    /// The three certificates that a policy names: ARK, ASK, the root of TDX.
    #[must_use]
    pub fn root_pem(&self) -> &[u8] {
        &self.root_pem
    }

    /// The same three, DER.
    ///
    /// # Errors
    /// `SIMULATOR_ROOT_MALFORMED`.
    pub fn certificates(&self) -> Result<[Vec<u8>; ROOT_CERTIFICATES], SimulatorError> {
        let malformed = || SimulatorError::RootMalformed(ROOT_PEM);
        let text = core::str::from_utf8(&self.root_pem).map_err(|_| malformed())?;
        let der = |pem: &str| der_07::pem::decode_vec(pem.trim().as_bytes()).map(|(_, der)| der);
        let certificates: Result<Vec<Vec<u8>>, _> =
            text.split_inclusive("-----END CERTIFICATE-----\n").take(ROOT_CERTIFICATES).map(der).collect();
        certificates.map_err(|_| malformed())?.try_into().map_err(|_| malformed())
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

    /// The simulated Intel, and the platform for TDX.
    #[must_use]
    pub const fn tdx(&self) -> &Pki {
        &self.tdx
    }

    /// The key of the ARK.
    ///
    /// # Errors
    /// `SIMULATOR_ROOT_*`.
    pub fn ark(&self) -> Result<&Key, SimulatorError> {
        self.authority(&self.ark, ARK_KEY)
    }

    /// The key of the ASK.
    ///
    /// # Errors
    /// `SIMULATOR_ROOT_*`.
    pub fn ask(&self) -> Result<&Key, SimulatorError> {
        self.authority(&self.ask, ASK_KEY)
    }

    /// The authority of loaded keys: made when it is first asked for, which takes seconds.
    ///
    /// # Errors
    /// `SIMULATOR_ROOT_*`.
    pub fn asvk(&self) -> Result<&Asvk, SimulatorError> {
        if let Some(asvk) = self.asvk.get() {
            return Ok(asvk);
        }
        let _lock = lock(&self.dir, &mut |_| ())?;
        if !self.dir.join(ASVK).try_exists().map_err(file(ASVK))? {
            let key = Key::rsa(4096)?;
            let der = certificates::asvk(self.ark()?, &key, now())?.sign(self.ark()?)?;
            write(&self.dir, ASVK_KEY, 0o600, key.to_pem()?.as_bytes())?;
            write(&self.dir, ASVK, 0o644, &der)?;
        }
        let asvk = Asvk { key: ca_key(&self.dir, ASVK_KEY)?, der: read(&self.dir, ASVK)? };
        Ok(self.asvk.get_or_init(|| asvk))
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
                let ark = self.ark()?;
                let der = certificates::crl(ark, crl.number.saturating_add(1), now)?.sign(ark)?;
                write(&self.dir, CRL, 0o644, &der)?;
                *crl = read_crl(&self.dir)?;
            }
        }
        Ok(crl.der.clone())
    }

    /// The number of the revocation list in use.
    #[must_use]
    pub fn crl_number(&self) -> u64 {
        self.crl.lock().unwrap_or_else(PoisonError::into_inner).number
    }

    /// The collateral of TDX, made again when it is older than some minutes.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn tdx_collateral(&self, now: u64) -> Result<TdxCollateral, SimulatorError> {
        let mut cached = self.collateral.lock().unwrap_or_else(PoisonError::into_inner);
        match &*cached {
            Some((made, collateral)) if (*made..=made + COLLATERAL_AGE).contains(&now) => Ok(collateral.clone()),
            _ => {
                let collateral = CollateralSpec::honest(&self.tdx, now)?.sign(&self.tdx)?;
                *cached = Some((now, collateral.clone()));
                Ok(collateral)
            }
        }
    }

    fn authority<'a>(&'a self, cell: &'a OnceLock<Key>, name: &'static str) -> Result<&'a Key, SimulatorError> {
        if let Some(key) = cell.get() {
            return Ok(key);
        }
        let key = ca_key(&self.dir, name)?;
        Ok(cell.get_or_init(|| key))
    }

    fn load(dir: &Path) -> Result<Self, SimulatorError> {
        let root_pem = read(dir, ROOT_PEM)?;
        let text = core::str::from_utf8(&root_pem).map_err(|_| SimulatorError::RootMalformed(ROOT_PEM))?;
        if text.matches("-----BEGIN CERTIFICATE-----").count() != ROOT_CERTIFICATES {
            return Err(SimulatorError::RootOutdated);
        }
        let pem = key_file(dir, VCEK_KEY)?;
        let vcek = SigningKey::from_pkcs8_pem(&pem).map_err(|_| SimulatorError::RootMalformed(VCEK_KEY))?;
        for key in [ARK_KEY, ASK_KEY] {
            drop(key_file(dir, key)?);
        }
        Ok(Self {
            dir: dir.to_path_buf(),
            root_pem,
            leaf: read(dir, LEAF)?,
            chip_id: read_hex(dir, CHIP_ID)?,
            vcek,
            crl: Mutex::new(read_crl(dir)?),
            ark: OnceLock::new(),
            ask: OnceLock::new(),
            asvk: OnceLock::new(),
            tdx: tdx::load(dir)?,
            collateral: Mutex::new(None),
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
        let other = scope.spawn(|| Key::rsa(4096));
        let mine = Key::rsa(4096)?;
        let theirs = other.join().map_err(|_| SimulatorError::RootMaking("an RSA key"))??;
        Ok((mine, theirs))
    })?;
    let vcek = Key::p384();
    let mut chip_id = [0; 64];
    OsRng.try_fill_bytes(&mut chip_id).map_err(|_| SimulatorError::RootMaking("random bytes"))?;
    let now = now();
    let ark_der = certificates::ark(&ark, now)?.sign(&ark)?;
    let ask_der = certificates::ask(&ark, &ask, now)?.sign(&ark)?;
    let endorsement =
        Endorsement { product: "Genoa".into(), tcb: Tcb::SIMULATED, hwid: Some(chip_id.to_vec()), csp: None };
    let leaf = certificates::vcek(vcek.spki()?, &endorsement, now).sign(&ask)?;
    let crl = certificates::crl(&ark, 1, now)?.sign(&ark)?;
    write(dir, ARK_KEY, 0o600, ark.to_pem()?.as_bytes())?;
    write(dir, ASK_KEY, 0o600, ask.to_pem()?.as_bytes())?;
    write(dir, VCEK_KEY, 0o600, vcek.to_pem()?.as_bytes())?;
    write(dir, LEAF, 0o644, &leaf)?;
    write(dir, CRL, 0o644, &crl)?;
    write(dir, CHIP_ID, 0o644, format!("{}\n", hex::encode(chip_id)).as_bytes())?;
    let tdx_root = tdx::make(dir, now)?;
    let mut bundle = String::new();
    for certificate in [&ark_der, &ask_der, &tdx_root] {
        bundle.push_str(&der::certificate_pem(certificate)?);
    }
    write(dir, ROOT_PEM, 0o644, bundle.as_bytes())?;
    progress(&format!("made the SIMULATED root in {:.1} s", start.elapsed().as_secs_f64()));
    Ok(())
}

fn ca_key(dir: &Path, name: &'static str) -> Result<Key, SimulatorError> {
    Key::rsa_from_pem(&key_file(dir, name)?).ok_or(SimulatorError::RootMalformed(name))
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
        assert_eq!(other.crl_number(), 3);
    }

    #[test]
    fn a_root_without_tdx_is_not_used_half() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path(), &mut |_| ()).unwrap();
        let text = String::from_utf8(root.root_pem().to_vec()).unwrap();
        let two: String = text.split_inclusive("-----END CERTIFICATE-----\n").take(2).collect();
        fs::write(root.path(), two).unwrap();
        assert_eq!(Root::open(dir.path(), &mut |_| ()).err(), Some(SimulatorError::RootOutdated));
        fs::write(root.path(), text).unwrap();
        assert!(Root::open(dir.path(), &mut |_| ()).is_ok(), "control");
    }

    #[test]
    fn collateral_is_kept_for_minutes() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path(), &mut |_| ()).unwrap();
        let first = root.tdx_collateral(now()).unwrap();
        assert_eq!(root.tdx_collateral(now()).unwrap(), first);
        assert_ne!(root.tdx_collateral(now() + 2 * COLLATERAL_AGE).unwrap().tcb_info, first.tcb_info);
    }
}
