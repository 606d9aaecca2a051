//! Turns randomness into a vendor's signing key: `keys FILE` writes FILE (0600) and FILE.pub.
//! It does not make a broker's keys; `broker init` does.

use std::path::PathBuf;

use ring::{rand::SystemRandom, signature::Ed25519KeyPair};
use serde_json::json;
use vouchsafe_attestation::dsse;
use zeroize::Zeroizing;

use crate::{
    failure::{Failure, Outcome},
    files,
};

/// Make an Ed25519 signing key: FILE (0600, PKCS#8) and FILE.pub (text).
#[derive(clap::Args)]
#[command(after_help = "Example:\n  vouchsafe keys acme-manifest.key")]
pub struct Args {
    /// Where to write the secret key; never overwritten.
    file: PathBuf,
}

pub fn run(args: &Args, json: bool) -> Outcome {
    let no_random = || Failure::new("RANDOM", 9, "the system gave no randomness", "see the kernel log");
    let secret = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| no_random())?;
    let secret = Zeroizing::new(secret.as_ref().to_vec());
    let pair = Ed25519KeyPair::from_pkcs8(&secret).map_err(|_| no_random())?;
    let public = dsse::public(&pair);
    let mut pub_path = args.file.clone().into_os_string();
    pub_path.push(".pub");
    files::write_new(&args.file, &secret, 0o600)?;
    files::write_new(pub_path.as_ref(), format!("{public}\n").as_bytes(), 0o644)?;
    if json {
        println!("{}", json!({ "public": public.to_string(), "key_id": public.key_id() }));
    } else {
        println!("{public}");
    }
    Ok(())
}
