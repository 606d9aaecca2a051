//! Turns the machine's programs into contenders: how each encrypts and decrypts one file as a process of its own.
//! It does not establish that a peer's format promises what ours does: `openssl enc` authenticates nothing, and no peer writes a digest.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::ChoreError;
use crate::python::{self, Python};
use crate::vm;
use crate::workspace::{Workspace, ended_well, make_dir};

/// The version of rage that is installed under target.
const RAGE_VERSION: &str = "0.11.1";

/// One program, and what it is told to do with the model.
pub(crate) struct Contender {
    /// How the table calls it.
    pub(crate) name: &'static str,
    /// What it says of itself.
    pub(crate) version: String,
    /// From the model to `sealed`.
    pub(crate) seal: Vec<OsString>,
    /// From `sealed` to memory or to nowhere: no peer has to write the plaintext anywhere.
    pub(crate) open: Vec<OsString>,
    /// A file or a folder.
    pub(crate) sealed: PathBuf,
    /// Our gain over it at opening, at least.
    pub(crate) open_target: Option<f64>,
    /// The same at sealing.
    pub(crate) seal_target: Option<f64>,
}

impl Contender {
    /// Forgets what it sealed.
    pub(crate) fn forget(&self) -> Result<(), ChoreError> {
        let gone = match fs::symlink_metadata(&self.sealed) {
            Ok(meta) if meta.is_dir() => fs::remove_dir_all(&self.sealed),
            Ok(_) => fs::remove_file(&self.sealed),
            Err(_) => Ok(()),
        };
        gone.map_err(ChoreError::file(&self.sealed))
    }
}

/// All that could be found or installed, and the names of those that could not.
pub(crate) struct Peers {
    pub(crate) contenders: Vec<Contender>,
    pub(crate) missing: Vec<&'static str>,
}

/// Ends gpg's agent, which outlives it, when the benchmark ends.
pub(crate) struct Agent(PathBuf);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf")
            .arg("--homedir")
            .arg(&self.0)
            .args(["--kill", "gpg-agent"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

/// Looks for every peer of `model`; keys and results go to `dir`.
pub(crate) fn find(workspace: &Workspace, model: &Path, dir: &Path) -> Result<(Peers, Agent), ChoreError> {
    let mut peers = Peers { contenders: Vec::new(), missing: Vec::new() };
    let home = dir.join("gpg");
    fs::DirBuilder::new().mode(0o700).create(&home).map_err(ChoreError::file(&home))?;
    install(&[("age", "age"), ("gpg", "gpg"), ("openssl", "openssl")])?;
    let key = dir.join("age.key");
    let recipient = age_key(&key);
    peers.take("age -d", recipient.as_ref().and_then(|to| age("age", "age".into(), to, &key, model, dir)));
    let rage_program = rage(workspace)?;
    let rage = rage_program.zip(recipient.as_ref());
    peers.take("rage -d", rage.and_then(|(program, to)| age("rage", program, to, &key, model, dir)));
    peers.take("gpg, AES-256", gpg(&home, model, dir)?);
    peers.take("openssl enc, AES-256-CTR", openssl(model, dir));
    for (name, threads) in [("Python cryptography, 1 thread", "1"), ("Python cryptography, 2 threads", "2")] {
        let found = python(workspace, name, threads, model, dir)?;
        peers.take(name, found);
    }
    Ok((peers, Agent(home)))
}

impl Peers {
    fn take(&mut self, name: &'static str, found: Option<Contender>) {
        match found {
            Some(contender) => self.contenders.push(contender),
            None => self.missing.push(name),
        }
    }
}

/// Debian's packages, where apt and root are at hand; what is still missing after that is missing.
fn install(wanted: &[(&str, &str)]) -> Result<(), ChoreError> {
    let absent: Vec<&str> = wanted.iter().filter(|(program, _)| !vm::present(program)).map(|(_, p)| *p).collect();
    let is_root = fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0);
    if absent.is_empty() || !is_root || !vm::present("apt-get") {
        return Ok(());
    }
    eprintln!("set-up: installing {} with apt", absent.join(", "));
    let arguments = [&["install", "-y", "-qq", "--no-install-recommends"][..], &absent[..]].concat();
    // Without lists of packages there is nothing to install from.
    let installed = vm::apt(&arguments).or_else(|_| vm::apt(&["update", "-qq"]).and_then(|()| vm::apt(&arguments)));
    match installed {
        Err(ChoreError::Interrupted) => Err(ChoreError::Interrupted),
        _ => Ok(()),
    }
}

/// What a program prints of itself, first line; nothing when it does not start.
fn says(program: impl AsRef<OsStr>, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then(|| text.lines().next().unwrap_or_default().to_owned())
}

/// One identity for age and rage; its recipient.
fn age_key(key: &Path) -> Option<String> {
    let made = Command::new("age-keygen").arg("-o").arg(key).stdin(Stdio::null()).stderr(Stdio::null()).status();
    made.ok().filter(std::process::ExitStatus::success)?;
    let output = Command::new("age-keygen").arg("-y").arg(key).stdin(Stdio::null()).output().ok()?;
    let recipient = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    recipient.starts_with("age1").then_some(recipient)
}

/// age and rage have one command line.
fn age(name: &'static str, program: OsString, to: &str, key: &Path, model: &Path, dir: &Path) -> Option<Contender> {
    let said = says(&program, "--version")?;
    let version = if said.starts_with(name) { said } else { format!("{name} {said}") };
    let sealed = dir.join(format!("model.{name}"));
    let seal = words(&program, &[&"-e", &"-r", &to, &"-o", &sealed, &model]);
    let open = words(&program, &[&"-d", &"-i", &key, &sealed]);
    let (name, open_target, seal_target) =
        if name == "age" { ("age -d", Some(2.3), Some(2.0)) } else { ("rage -d", Some(4.0), None) };
    Some(Contender { name, version, seal, open, sealed, open_target, seal_target })
}

/// A word of a command line.
type Word<'a> = &'a dyn AsRef<OsStr>;

fn words(program: impl AsRef<OsStr>, arguments: &[Word<'_>]) -> Vec<OsString> {
    let arguments = arguments.iter().map(|word| OsStr::to_owned(word.as_ref()));
    std::iter::once(program.as_ref().to_owned()).chain(arguments).collect()
}

/// rage from its crate, of this version, installed under target when it is not there.
fn rage(workspace: &Workspace) -> Result<Option<OsString>, ChoreError> {
    let root = workspace.target().join("tools");
    let tool = root.join("bin/rage");
    if says(&tool, "--version").is_some_and(|said| said.ends_with(RAGE_VERSION)) {
        return Ok(Some(tool.into_os_string()));
    }
    eprintln!("set-up: installing rage {RAGE_VERSION} under target/tools");
    make_dir(&root)?;
    let status = workspace
        .cargo()
        .args(["install", "rage", "--locked", "--version", RAGE_VERSION, "--root"])
        .arg(&root)
        .status()
        .map_err(|source| ChoreError::Start { program: "cargo", source })?;
    Ok(ended_well(status)?.then(|| tool.into_os_string()))
}

/// Symmetric, without compression, and with the cheapest way from passphrase to key, which is no part of the comparison.
fn gpg(home: &Path, model: &Path, dir: &Path) -> Result<Option<Contender>, ChoreError> {
    let Some(version) = says("gpg", "--version") else { return Ok(None) };
    let (passphrase, sealed) = (dir.join("gpg.passphrase"), dir.join("model.gpg"));
    fs::write(&passphrase, "a benchmark's passphrase\n").map_err(ChoreError::file(&passphrase))?;
    let common: [Word<'_>; 9] = [
        &"--homedir",
        &home,
        &"--batch",
        &"--quiet",
        &"--no-tty",
        &"--pinentry-mode",
        &"loopback",
        &"--passphrase-file",
        &passphrase,
    ];
    let cipher: [Word<'_>; 6] = [&"--cipher-algo", &"AES256", &"--compress-algo", &"none", &"--s2k-count", &"1024"];
    let rest: [Word<'_>; 4] = [&"--output", &sealed, &"--symmetric", &model];
    let seal = words("gpg", &[&common[..], &cipher[..], &rest[..]].concat());
    let rest: [Word<'_>; 2] = [&"--decrypt", &sealed];
    let open = words("gpg", &[&common[..], &rest[..]].concat());
    let (open_target, seal_target) = (Some(3.4), None);
    Ok(Some(Contender { name: "gpg, AES-256", version, seal, open, sealed, open_target, seal_target }))
}

/// Nothing is authenticated here: a floor that no sealed format can be asked to reach, and ours still is.
fn openssl(model: &Path, dir: &Path) -> Option<Contender> {
    let version = says("openssl", "version")?;
    let sealed = dir.join("model.ctr");
    let (key, iv) = ("5a".repeat(32), "00".repeat(16));
    let common: [Word<'_>; 6] = [&"enc", &"-aes-256-ctr", &"-K", &key, &"-iv", &iv];
    let rest: [Word<'_>; 5] = [&"-e", &"-in", &model, &"-out", &sealed];
    let seal = words("openssl", &[&common[..], &rest[..]].concat());
    let rest: [Word<'_>; 3] = [&"-d", &"-in", &sealed];
    let open = words("openssl", &[&common[..], &rest[..]].concat());
    let (open_target, seal_target) = (Some(1.5), None);
    Some(Contender { name: "openssl enc, AES-256-CTR", version, seal, open, sealed, open_target, seal_target })
}

/// AES-256-GCM by chunks of 1 MiB, the tag behind each, decrypted into memory.
fn python(
    workspace: &Workspace,
    name: &'static str,
    threads: &str,
    model: &Path,
    dir: &Path,
) -> Result<Option<Contender>, ChoreError> {
    let packages = match python::packages(workspace) {
        Ok(packages) => packages,
        Err(ChoreError::Interrupted) => return Err(ChoreError::Interrupted),
        Err(error) => {
            eprintln!("note: no Python peer: {error}");
            return Ok(None);
        }
    };
    // The interpreter itself: what stands in PATH may be a script that looks for it first.
    let asked = Python::find()?.command().args(["-c", "import sys; print(sys.executable)"]).output();
    let asked = asked.map_err(|source| ChoreError::Start { program: "python", source })?;
    let program = OsString::from(String::from_utf8_lossy(&asked.stdout).trim());
    let (script, sealed) = (dir.join("peer.py"), dir.join(format!("model.python{threads}")));
    fs::write(&script, SCRIPT).map_err(ChoreError::file(&script))?;
    let mut said = Command::new(&program);
    let said = said.arg("-I").arg(&script).arg(&packages).arg("version").stdin(Stdio::null()).output();
    let Some(said) = said.ok().filter(|said| said.status.success()) else { return Ok(None) };
    let version = String::from_utf8_lossy(&said.stdout).trim().to_owned();
    let seal = words(&program, &[&"-I", &script, &packages, &"seal", &threads, &model, &sealed]);
    let open = words(&program, &[&"-I", &script, &packages, &"open", &threads, &sealed]);
    let (open_target, seal_target) = (Some(2.3), None);
    Ok(Some(Contender { name, version, seal, open, sealed, open_target, seal_target }))
}

/// The newest way into a buffer where there is one (`decrypt_into`), else one copy per chunk.
const SCRIPT: &str = "\
import sys
sys.path.insert(0, sys.argv[1])
import os
from concurrent.futures import ThreadPoolExecutor
import cryptography
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

CHUNK, TAG = 1 << 20, 16
if sys.argv[2] == 'version':
    print('cryptography', cryptography.__version__, 'on Python', sys.version.split()[0])
    sys.exit()
what, threads, source = sys.argv[2], int(sys.argv[3]), sys.argv[4]
aead = AESGCM(bytes([5]) * 32)
piece = CHUNK if what == 'seal' else CHUNK + TAG
other = CHUNK + TAG if what == 'seal' else CHUNK
file = os.open(source, os.O_RDONLY)
size = os.fstat(file).st_size
count = -(-size // piece)
last = size - (count - 1) * piece + other - piece
into = getattr(aead, 'decrypt_into', None)

def nonce(i):
    return i.to_bytes(12, 'big')

def open_chunk(i):
    data = os.pread(file, piece, i * piece)
    place = memory[i * other:i * other + len(data) - TAG]
    if into is None:
        place[:] = aead.decrypt(nonce(i), data, None)
    else:
        into(nonce(i), data, None, place)

def seal_chunk(i):
    data = os.pread(file, piece, i * piece)
    os.pwrite(out, aead.encrypt(nonce(i), data, None), i * other)

if what == 'open':
    memory = memoryview(bytearray((count - 1) * other + last))
    work = open_chunk
else:
    out = os.open(sys.argv[5], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    work = seal_chunk
if threads == 1:
    for i in range(count):
        work(i)
else:
    def lane(n):
        for i in range(n, count, threads):
            work(i)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lane, range(threads)))
";
