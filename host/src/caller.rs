//! Turns `--caller-key` or `--api-key-file` into the name in which an enclave is asked.
//! It does not say who may ask: the vendor's usage policy does.

use std::{path::PathBuf, sync::Arc};

use vouchsafe_customer::Caller;
use zeroize::Zeroizing;

use crate::{failure::Failure, files};

/// Who asks.
#[derive(clap::Args)]
pub struct CallerArgs {
    /// Sign every inference with this key: a file of `vouchsafe keys caller`.
    #[arg(long, value_name = "FILE", conflicts_with = "api_key_file")]
    caller_key: Option<PathBuf>,
    /// Send the API key in this file with every inference: one line of 32 or more characters, readable by its owner only.
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
}

impl CallerArgs {
    /// Reads the key, if one is named.
    pub fn read(&self) -> Result<Option<Arc<Caller>>, Failure> {
        let caller = match (&self.caller_key, &self.api_key_file) {
            (Some(path), _) => Caller::key(files::signing_key(path)?),
            (None, Some(path)) => {
                // Whoever gives the key itself in place of a file's name does not see it printed.
                let unnamed = |_| {
                    let fact = "the file named by --api-key-file cannot be read";
                    Failure::new("FILE", 9, fact, "name a file that holds the key; never give the key itself")
                };
                let key = Zeroizing::new(files::read(path, 4096).map_err(unnamed)?);
                if files::owner_only(path).is_err() {
                    eprintln!("vouchsafe: others than its owner can read the file of the API key; chmod 600 it");
                }
                Caller::api_key(&key)?
            }
            (None, None) => return Ok(None),
        };
        Ok(Some(Arc::new(caller)))
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

    use super::*;

    fn read(caller_key: Option<&Path>, api_key_file: Option<&Path>) -> Result<bool, &'static str> {
        let args =
            CallerArgs { caller_key: caller_key.map(Path::to_owned), api_key_file: api_key_file.map(Path::to_owned) };
        args.read().map(|caller| caller.is_some()).map_err(|failure| failure.code)
    }

    #[test]
    fn keys_come_from_files_of_their_owner() {
        let dir = tempfile::tempdir().unwrap();
        let (key, api) = (dir.path().join("caller.key"), dir.path().join("api.key"));
        let pair = ring::signature::Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).unwrap();
        files::write_new(&key, pair.as_ref(), 0o600).unwrap();
        files::write_new(&api, "k".repeat(43).as_bytes(), 0o600).unwrap();
        assert_eq!(read(None, None), Ok(false));
        assert_eq!((read(Some(&key), None), read(None, Some(&api))), (Ok(true), Ok(true)));
        assert_eq!(read(Some(&api), None), Err("KEY_FILE"));
        assert_eq!(read(None, Some(&key)), Err("API_KEY_INVALID"), "binary");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(read(Some(&key), None), Err("KEY_FILE_MODE"));
        fs::set_permissions(&api, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(read(None, Some(&api)), Ok(true), "told, not refused: some secret stores mount it so");
    }

    #[test]
    fn a_key_in_place_of_a_path_is_not_printed() {
        let args = CallerArgs { caller_key: None, api_key_file: Some("my-secret-key-itself".into()) };
        let failure = args.read().err().unwrap();
        assert_eq!((failure.code, failure.exit), ("FILE", 9));
        assert!(!failure.to_json().to_string().contains("my-secret"), "{}", failure.to_json());
    }
}
