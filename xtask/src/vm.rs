//! Turns this machine into one that can boot the guest image, and plays the whole story in virtual machines.
//! It installs a package only where apt and root are at hand, and says before it does; what it boots is SIMULATED.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::build;
use crate::error::ChoreError;
use crate::image;
use crate::workspace::{Workspace, ended_well};

const QEMU: &str = "qemu-system-x86_64";
/// The oldest version that the launcher takes.
const OLDEST: u32 = 10;
/// Debian's package of it.
const PACKAGE: &str = "qemu-system-x86";
/// A sources file of our own, which is gone again when this program ends.
const SOURCES: &str = "/etc/apt/sources.list.d/vouchsafe-vm.sources";

/// Debian's own keys, of the package debian-archive-keyring.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Builds programs and image, then becomes the demo: the same process, so signals reach it without a go-between.
/// The image holds the enclave of the release build. With `--measured` first it is the one of `cargo xtask image`, whose measurement
/// is everybody's, and which takes minutes more to build.
pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<u8, ChoreError> {
    use std::os::unix::process::CommandExt;
    install_qemu()?;
    let programs = build::release_binaries(workspace)?;
    let (image, args) = match args.split_first() {
        Some((first, rest)) if first == "--measured" => (image::measured(workspace)?, rest),
        _ => (image::of_programs(workspace, &programs)?, args),
    };
    let program = programs.join("vouchsafe");
    let mut demo = Command::new(&program);
    demo.args(["demo", "--backend", "sim-vm", "--image"]).arg(image).args(args);
    Err(ChoreError::Start { program: "vouchsafe", source: demo.exec() })
}

/// Finds QEMU, or installs it from Debian's backports.
pub(crate) fn install_qemu() -> Result<(), ChoreError> {
    if version().is_some_and(|major| major >= OLDEST) {
        return Ok(());
    }
    let is_root = fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0);
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let (Some(codename), true) = (debian(&release), is_root && present("apt-get")) else {
        return Err(ChoreError::QemuMissing);
    };
    eprintln!("set-up: installing {PACKAGE} from {codename}-backports with apt");
    let sources = Sources::add(&codename)?;
    let outcome = apt(&["update", "-qq"]).and_then(|()| {
        let suite = format!("{codename}-backports");
        apt(&["install", "-y", "-qq", "--no-install-recommends", "-t", &suite, PACKAGE])
    });
    drop(sources);
    outcome?;
    if version().is_some_and(|major| major >= OLDEST) { Ok(()) } else { Err(ChoreError::QemuMissing) }
}

/// QEMU's major version, if it starts.
fn version() -> Option<u32> {
    let output = Command::new(QEMU).arg("--version").stdin(Stdio::null()).output().ok()?;
    major(&String::from_utf8_lossy(&output.stdout))
}

fn major(text: &str) -> Option<u32> {
    text.strip_prefix("QEMU emulator version ")?.split('.').next()?.parse().ok()
}

/// Whether a program of this name is in PATH.
pub(crate) fn present(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// The codename, on Debian itself only: its backports are not made for other distributions.
fn debian(release: &str) -> Option<String> {
    let field = |name: &str| {
        let line = release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
        Some(line.trim_matches('"').to_owned())
    };
    let codename = field("VERSION_CODENAME")?;
    let plain = !codename.is_empty() && codename.bytes().all(|b| b.is_ascii_lowercase());
    (field("ID")? == "debian" && plain).then_some(codename)
}

/// `apt-get ARGS…`, quietly.
pub(crate) fn apt(args: &[&str]) -> Result<(), ChoreError> {
    let status = Command::new("apt-get")
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .map_err(|source| ChoreError::Start { program: "apt-get", source })?;
    if ended_well(status)? { Ok(()) } else { Err(ChoreError::Apt) }
}

/// The sources file while it is there. Backports have a low pin by themselves: nothing else is upgraded from them.
struct Sources(PathBuf);

impl Sources {
    /// From the mirror that this machine already uses.
    fn add(codename: &str) -> Result<Self, ChoreError> {
        let (uri, key) = mirror(Path::new("/etc/apt")).ok_or(ChoreError::QemuMissing)?;
        let text =
            format!("Types: deb\nURIs: {uri}\nSuites: {codename}-backports\nComponents: main\nSigned-By: {key}\n");
        let path = PathBuf::from(SOURCES);
        fs::write(&path, text).map_err(ChoreError::file(&path))?;
        Ok(Self(path))
    }
}

impl Drop for Sources {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Address and key of the first Debian archive among apt's sources; the security archive has no backports.
fn mirror(etc: &Path) -> Option<(String, String)> {
    let parts = fs::read_dir(etc.join("sources.list.d")).ok().into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = parts.map(|entry| entry.path()).collect();
    files.push(etc.join("sources.list"));
    files.sort();
    let texts = |kind: &str| -> Vec<String> {
        let files = files.iter().filter(|path| path.extension().is_some_and(|e| e == kind));
        files.filter_map(|path| fs::read_to_string(path).ok()).collect()
    };
    let stanzas = texts("sources").iter().find_map(|text| {
        text.split("\n\n").find_map(|stanza| {
            let field = |name: &str| {
                let line = stanza.lines().find_map(|line| line.strip_prefix(name))?;
                line.split_whitespace().next().map(str::to_owned)
            };
            let (uri, key) = (field("URIs:")?, field("Signed-By:")?);
            let archive = key.contains("debian-archive-keyring") && !field("Suites:")?.ends_with("-security");
            archive.then_some((uri, key))
        })
    });
    stanzas.or_else(|| texts("list").iter().find_map(|text| text.lines().find_map(one_line)))
}

/// `deb URI SUITE main …` of an older set-up, whose keys are Debian's own.
fn one_line(line: &str) -> Option<(String, String)> {
    let words = line.trim().strip_prefix("deb ")?.trim_start();
    // Options stand in brackets.
    let words = words.strip_prefix('[').map_or(Some(words), |options| Some(options.split_once(']')?.1))?;
    let mut words = words.split_whitespace();
    let (uri, suite) = (words.next()?, words.next()?);
    let archive = uri.trim_end_matches('/').ends_with("/debian") && !suite.contains("security");
    (archive && words.any(|word| word == "main")).then(|| (uri.to_owned(), KEYRING.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read() {
        assert_eq!(major("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)\nCopyright"), Some(10));
        assert_eq!(major("QEMU emulator version 7.2.9"), Some(7));
        assert_eq!(major(""), None);
    }

    #[test]
    fn backports_are_for_debian_only() {
        let debian_12 = "PRETTY_NAME=\"Debian GNU/Linux 12\"\nID=debian\nVERSION_CODENAME=bookworm\n";
        assert_eq!(debian(debian_12).as_deref(), Some("bookworm"));
        assert_eq!(debian("ID=ubuntu\nVERSION_CODENAME=noble\n"), None);
        assert_eq!(debian("ID=debian\nVERSION_CODENAME=\"../x\"\n"), None);
        assert_eq!(debian(""), None);
    }

    #[test]
    fn the_mirror_is_the_one_that_apt_uses() {
        let dir = std::env::temp_dir().join(format!("xtask-apt-{}", std::process::id()));
        fs::create_dir_all(dir.join("sources.list.d")).unwrap();
        let text = "Types: deb\nURIs: mirror:/security\nSuites: x-security\nSigned-By: /k/debian-archive-keyring.gpg\n\n\
                    Types: deb\nURIs: mirror:/debian\nSuites: x x-updates\nSigned-By: /k/debian-archive-keyring.gpg\n";
        fs::write(dir.join("sources.list.d/debian.sources"), text).unwrap();
        fs::write(dir.join("sources.list.d/another.list"), "deb elsewhere x main\n").unwrap();
        let key = "/k/debian-archive-keyring.gpg".to_owned();
        assert_eq!(mirror(&dir), Some(("mirror:/debian".to_owned(), key)));
        fs::remove_file(dir.join("sources.list.d/debian.sources")).unwrap();
        let old = "# apt\ndeb-src mirror:/debian x main\ndeb mirror:/debian x-security main\ndeb mirror:/debian x main contrib\n";
        fs::write(dir.join("sources.list"), old).unwrap();
        assert_eq!(mirror(&dir), Some(("mirror:/debian".to_owned(), KEYRING.to_owned())));
        fs::write(dir.join("sources.list"), "deb [ arch=amd64 signed-by=/k ] mirror:/debian x main\n").unwrap();
        assert_eq!(mirror(&dir), Some(("mirror:/debian".to_owned(), KEYRING.to_owned())));
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(mirror(&dir), None);
    }
}
