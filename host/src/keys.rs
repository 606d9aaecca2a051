//! Turns randomness into keys: a vendor's signing key, a caller's signing key, or an API key. Secrets go to files (0600).
//! It does not make a broker's keys (`broker init` does), and a caller's key gives no right: the vendor's usage policy does.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use ring::{
    rand::{SecureRandom as _, SystemRandom},
    signature::Ed25519KeyPair,
};
use serde_json::json;
use vouchsafe_attestation::{dsse, encoding::b64url, lp::sha256};
use vouchsafe_policies::usage::Credential;
use zeroize::Zeroizing;

use crate::{
    failure::{Failure, Outcome},
    files,
};

/// Make an Ed25519 signing key: FILE (0600, PKCS#8) and FILE.pub (text).
#[derive(clap::Args)]
#[command(
    subcommand_negates_reqs = true,
    override_usage = "vouchsafe keys [OPTIONS] <FILE>\n       vouchsafe keys [OPTIONS] <COMMAND>",
    after_help = "Example:\n  vouchsafe keys acme-manifest.key\n  vouchsafe keys caller --out caller.key --role clinic"
)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Where to write the secret key of a vendor; never overwritten.
    #[arg(required = true)]
    file: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Make the key that a caller signs inferences with, and print its line for a usage policy.
    ///
    /// The file goes to `--caller-key` of `vouchsafe infer` and `vouchsafe proxy`. The line is no secret: send it to the vendor, who
    /// puts it into `callers` of the model's usage policy.
    #[command(after_help = "Example:\n  vouchsafe keys caller --out caller.key --role clinic")]
    Caller(Made),
    /// Make an API key, and print its line for a usage policy.
    ///
    /// The file holds 43 random characters and goes to `--api-key-file` of `vouchsafe infer` and `vouchsafe proxy`. The line holds only
    /// its SHA-256 and is no secret: send it to the vendor, who puts it into `callers` of the model's usage policy. Who has the file
    /// can ask in its name; a caller's signing key (`vouchsafe keys caller`) never leaves its machine.
    #[command(after_help = "Example:\n  vouchsafe keys api-key --out api.key --role clinic")]
    ApiKey(Made),
}

#[derive(clap::Args)]
struct Made {
    /// Where to write the secret (0600); never overwritten.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The role in the printed line, 1 to 32 of a-z, 0-9, hyphen and underscore; the vendor decides what it may do [default: caller].
    #[arg(long, default_value = "caller", hide_default_value = true)]
    role: String,
}

pub fn run(args: &Args, json: bool) -> Outcome {
    match (&args.command, &args.file) {
        (Some(Command::Caller(made)), None) => caller(made),
        (Some(Command::ApiKey(made)), None) => api_key(made),
        (None, Some(file)) => vendor(file, json),
        _ => Err(Failure::usage("one key is made at a time", "see --help")),
    }
}

fn vendor(file: &Path, json: bool) -> Outcome {
    let (secret, pair) = pair()?;
    let public = dsse::public(&pair);
    let mut pub_path = file.to_owned().into_os_string();
    pub_path.push(".pub");
    files::write_new(file, &secret, 0o600)?;
    files::write_new(pub_path.as_ref(), format!("{public}\n").as_bytes(), 0o644)?;
    if json {
        println!("{}", json!({ "public": public.to_string(), "key_id": public.key_id() }));
    } else {
        println!("{public}");
    }
    Ok(())
}

fn caller(made: &Made) -> Outcome {
    let (secret, pair) = pair()?;
    let line = line(made, Credential::Key(dsse::public(&pair)))?;
    files::write_new(&made.out, &secret, 0o600)?;
    println!("{line}");
    Ok(())
}

fn api_key(made: &Made) -> Outcome {
    let mut random = Zeroizing::new([0; 32]);
    SystemRandom::new().fill(&mut *random).map_err(|_| no_randomness())?;
    let key = Zeroizing::new(b64url(&*random));
    let line = line(made, Credential::ApiKey(sha256(key.as_bytes())))?;
    // No line end: `sha256sum` of the file is the digest in the line.
    files::write_new(&made.out, key.as_bytes(), 0o600)?;
    println!("{line}");
    Ok(())
}

/// An entry of `callers` in a usage policy: one JSON object, with and without `--json`.
fn line(made: &Made, credential: Credential) -> Result<String, Failure> {
    let role = &made.role;
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    if !(1..=32).contains(&role.len()) || !role.bytes().all(word) || role == "any" {
        return Err(Failure::usage(
            "--role is no name of a role",
            "1 to 32 of a-z, 0-9, hyphen and underscore, but not `any`",
        ));
    }
    // Written by hand: a map would sort its fields by name.
    Ok(format!("{{\"key\":{},\"role\":{}}}", json!(credential.to_string()), json!(role)))
}

/// A new key as PKCS#8 and ready for use.
fn pair() -> Result<(Zeroizing<Vec<u8>>, Ed25519KeyPair), Failure> {
    let secret = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| no_randomness())?;
    let secret = Zeroizing::new(secret.as_ref().to_vec());
    let pair = Ed25519KeyPair::from_pkcs8(&secret).map_err(|_| no_randomness())?;
    Ok((secret, pair))
}

fn no_randomness() -> Failure {
    Failure::new("RANDOM", 9, "the system gave no randomness", "see the kernel log")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use ring::signature::KeyPair as _;

    use super::*;

    fn made(out: PathBuf, role: &str) -> Made {
        Made { out, role: role.to_owned() }
    }

    #[test]
    fn secrets_are_the_owners_alone_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        for (name, make) in [("caller", caller as fn(&Made) -> Outcome), ("api", api_key)] {
            let path = dir.path().join(name);
            make(&made(path.clone(), "clinic")).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            let first = std::fs::read(&path).unwrap();
            assert_eq!(make(&made(path.clone(), "clinic")).unwrap_err().code, "FILE");
            assert_eq!(std::fs::read(&path).unwrap(), first);
        }
        assert!(files::signing_key(&dir.path().join("caller")).is_ok());
        let key = std::fs::read_to_string(dir.path().join("api")).unwrap();
        assert_eq!((key.len(), vouchsafe_attestation::encoding::from_b64url(&key, "key").unwrap().len()), (43, 32));
    }

    #[test]
    fn a_line_names_the_key_and_a_role_that_a_policy_takes() {
        let pair = pair().unwrap().1;
        let text = line(&made(PathBuf::new(), "a-z_09"), Credential::Key(dsse::public(&pair))).unwrap();
        let key = b64url(pair.public_key().as_ref());
        assert_eq!(text, format!(r#"{{"key":"ed25519:{key}","role":"a-z_09"}}"#));
        for role in ["", "any", "Clinic", "a b", "\"", "\u{e9}", &"a".repeat(33)] {
            let error = line(&made(PathBuf::new(), role), Credential::ApiKey([0; 32])).unwrap_err();
            assert_eq!((error.code, error.exit), ("USAGE", 1), "{role}");
        }
    }
}
