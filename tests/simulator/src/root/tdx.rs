//! Turns files of the root's directory into the simulated Intel with one platform, and a new one into files.
//! Whoever can read them can forge simulated quotes.

use std::{path::Path, sync::Arc};

use rsa::rand_core::{OsRng, RngCore};

use super::files::{key_file, read_hex, read_text, write};
use crate::{
    SimulatorError,
    keys::{EcKey, Key},
    tdx::{Pki, pki::Platform},
};

const ROOT_KEY: &str = "sgx-root.key";
const PCK_CA_KEY: &str = "sgx-pck-ca.key";
const TCB_SIGNING_KEY: &str = "sgx-tcb-signing.key";
const PCK_KEY: &str = "sgx-pck.key";
const ATTESTATION_KEY: &str = "sgx-attestation.key";
const PCK_CHAIN: &str = "sgx-pck.pem";
const TCB_SIGNING_CHAIN: &str = "sgx-tcb-signing.pem";
const PPID: &str = "ppid";
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";

/// Makes everything and returns the root certificate, DER.
pub(super) fn make(dir: &Path, now: u64) -> Result<Vec<u8>, SimulatorError> {
    let mut ppid = [0; 16];
    OsRng.try_fill_bytes(&mut ppid).map_err(|_| SimulatorError::RootMaking("random bytes"))?;
    let pki = Pki::generate(Platform::new(ppid), now)?;
    for (name, pem) in [
        (ROOT_KEY, pki.root.to_pem()?),
        (PCK_CA_KEY, pki.pck_ca.to_pem()?),
        (TCB_SIGNING_KEY, pki.tcb_signing.to_pem()?),
        (PCK_KEY, pki.pck.to_pem()?),
        (ATTESTATION_KEY, pki.attestation.to_pem()?),
    ] {
        write(dir, name, 0o600, pem.as_bytes())?;
    }
    write(dir, PCK_CHAIN, 0o644, pki.pck_chain.as_bytes())?;
    write(dir, TCB_SIGNING_CHAIN, 0o644, pki.tcb_signing_chain.as_bytes())?;
    write(dir, PPID, 0o644, format!("{}\n", hex::encode(ppid)).as_bytes())?;
    Ok(pki.root_der)
}

/// Loads what [`make`] wrote.
pub(super) fn load(dir: &Path) -> Result<Pki, SimulatorError> {
    let key = |name| EcKey::from_pem(&key_file(dir, name)?).ok_or(SimulatorError::RootMalformed(name));
    let malformed = || SimulatorError::RootMalformed(PCK_CHAIN);
    let pck_chain = read_text(dir, PCK_CHAIN)?;
    let starts: Vec<usize> = pck_chain.match_indices(BEGIN).map(|(at, _)| at).collect();
    let [0, pck_ca, root] = starts.as_slice() else {
        return Err(malformed());
    };
    let pck_ca_chain = pck_chain.get(*pck_ca..).ok_or_else(malformed)?.to_owned();
    let root = pck_chain.get(*root..).ok_or_else(malformed)?;
    let (_, root_der) = der_07::pem::decode_vec(root.as_bytes()).map_err(|_| malformed())?;
    Ok(Pki {
        root: Key::P256(Arc::new(key(ROOT_KEY)?)),
        pck_ca: Key::P256(Arc::new(key(PCK_CA_KEY)?)),
        tcb_signing: Arc::new(key(TCB_SIGNING_KEY)?),
        pck: Arc::new(key(PCK_KEY)?),
        attestation: Arc::new(key(ATTESTATION_KEY)?),
        root_der,
        pck_ca_chain,
        pck_chain,
        tcb_signing_chain: read_text(dir, TCB_SIGNING_CHAIN)?,
        platform: Platform::new(read_hex(dir, PPID)?),
    })
}
