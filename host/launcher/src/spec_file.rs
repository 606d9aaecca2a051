//! Turns a launch file (TOML) into the operator's choices; a flag of the command line overrides each.
//! It opens nothing that the file names, and it binds nothing: only the configuration is bound in evidence.
//!
//! Every setting, with its default where it has one:
//!
//! ```toml
//! version = 1
//! backend = "snp"                # sim-process, sim-vm, snp, tdx
//! tee = "sev-snp"                # the backend's own
//! config = "vouchsafe.toml"
//! models = "models"              # one folder per package
//! collateral = "collateral.json" # none: the device's own
//! listen = "127.0.0.1:8443"
//! ready_file = "/run/vouchsafe/ready"
//! ready_timeout = 120            # seconds; 60 for sim-process; 0 waits for ever
//! max_connections = 512          # to a machine; a process has the limits of its configuration
//! idle_timeout = 300             # seconds; likewise
//! # The sim-* backends:
//! simulator_root = "sim-root"
//! simulator = "vouchsafe-simulator"
//! # sim-process:
//! enclave = "vouchsafe-enclave"
//! onnxruntime = "libonnxruntime.so"
//! # All others:
//! image = "image"
//! firmware = "OVMF.fd"           # the image's own; tdx needs one
//! firmware_sha256 = "…"          # a firmware that you vouch for, beside the known ones
//! brokers = ["192.0.2.7:7443"]   # all that the guest can reach
//! vcpus = 1
//! memory_mib = 512
//! cpu = "EPYC-v4"                # measured
//! qemu = "qemu-system-x86_64"
//! scratch = "/var/tmp"           # where the volume of packages lies, without a name
//! silence_timeout = 60           # seconds without a byte before the first word; none on hardware
//! # sim-vm:
//! accel = "auto"                 # kvm, tcg
//! # snp:
//! guest_policy = 0x30000
//! id_block = "id-block.b64"      # both or none
//! id_auth = "id-auth.b64"
//! # tdx:
//! quote_service = "vsock:2:4050" # or unix:/PATH
//! ```

use std::{
    fs::File,
    io::{ErrorKind, Read},
    net::SocketAddr,
    num::{NonZeroU16, NonZeroU32, NonZeroU64},
    path::{Path, PathBuf},
};

use serde::Deserialize;
use vouchsafe_attestation::{Tee, encoding::serde_hex};

use crate::{
    LaunchError,
    spec::{AccelChoice, Backend},
};

/// The largest launch file.
const MAX_FILE: u64 = 64 * 1024;

/// What a launch file says. Relative paths are relative to its folder.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the module lists every setting")]
pub struct SpecFile {
    version: u32,
    pub backend: Option<Backend>,
    pub tee: Option<Tee>,
    pub config: Option<PathBuf>,
    pub models: Option<PathBuf>,
    pub collateral: Option<PathBuf>,
    pub listen: Option<SocketAddr>,
    pub simulator_root: Option<PathBuf>,
    pub enclave: Option<PathBuf>,
    pub simulator: Option<PathBuf>,
    pub onnxruntime: Option<PathBuf>,
    pub ready_file: Option<PathBuf>,
    pub ready_timeout: Option<u64>,
    pub max_connections: Option<NonZeroU16>,
    pub idle_timeout: Option<NonZeroU64>,
    pub image: Option<PathBuf>,
    pub firmware: Option<PathBuf>,
    pub firmware_sha256: Option<Sha256>,
    #[serde(default)]
    pub brokers: Vec<SocketAddr>,
    pub vcpus: Option<NonZeroU32>,
    pub memory_mib: Option<u32>,
    pub cpu: Option<String>,
    pub accel: Option<AccelChoice>,
    pub guest_policy: Option<u64>,
    pub id_block: Option<PathBuf>,
    pub id_auth: Option<PathBuf>,
    pub quote_service: Option<String>,
    pub qemu: Option<PathBuf>,
    pub scratch: Option<PathBuf>,
    pub silence_timeout: Option<NonZeroU64>,
}

/// A SHA-256 digest in lower-case hex.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Sha256(#[serde(with = "serde_hex")] pub [u8; 32]);

impl SpecFile {
    /// Reads and parses `path`.
    ///
    /// # Errors
    /// `LAUNCH_FILE`, `LAUNCH_TOML`.
    pub fn read(path: &Path) -> Result<Self, LaunchError> {
        let unreadable = |kind| LaunchError::File("the launch file", kind);
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
            .map_err(|e| unreadable(e.kind()))?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(unreadable(ErrorKind::FileTooLarge));
        }
        let line = |end| bytes.iter().take(end).filter(|byte| **byte == b'\n').count() + 1;
        let text = core::str::from_utf8(&bytes).map_err(|e| LaunchError::SpecFile(line(e.valid_up_to())))?;
        Self::parse(text, path.parent().unwrap_or(Path::new("")))
    }

    /// Parses `text`; relative paths are relative to `folder`.
    ///
    /// # Errors
    /// `LAUNCH_TOML`.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, LaunchError> {
        let mut file: Self = toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            LaunchError::SpecFile(before.matches('\n').count() + 1)
        })?;
        if file.version != 1 {
            return Err(LaunchError::SpecVersion);
        }
        let paths = [
            &mut file.config,
            &mut file.models,
            &mut file.collateral,
            &mut file.simulator_root,
            &mut file.enclave,
            &mut file.simulator,
            &mut file.onnxruntime,
            &mut file.ready_file,
            &mut file.image,
            &mut file.firmware,
            &mut file.id_block,
            &mut file.id_auth,
            &mut file.scratch,
        ];
        for path in paths.into_iter().flatten() {
            // An absolute path replaces the folder.
            *path = folder.join(&*path);
        }
        // A program's bare name is looked for where programs are.
        if let Some(qemu) = file.qemu.as_mut().filter(|path| path.components().count() > 1) {
            *qemu = folder.join(&*qemu);
        }
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
version = 1
backend = "sim-vm"
tee = "sev-snp"
config = "vouchsafe.toml"
models = "/srv/models"
simulator_root = "sim-root"
image = "image"
brokers = ["127.0.0.1:7443", "[::1]:7443"]
vcpus = 1
memory_mib = 512
cpu = "EPYC-v4"
accel = "tcg"
firmware_sha256 = "00000000000000000000000000000000000000000000000000000000000000ff"
guest_policy = 0x30000
qemu = "qemu-system-x86_64"
"#;

    #[test]
    fn paths_are_relative_to_the_file() {
        let file = SpecFile::parse(GOOD, Path::new("/etc/vouchsafe")).unwrap();
        assert_eq!(file.config.as_deref(), Some(Path::new("/etc/vouchsafe/vouchsafe.toml")));
        assert_eq!(file.models.as_deref(), Some(Path::new("/srv/models")));
        assert_eq!(file.qemu.as_deref(), Some(Path::new("qemu-system-x86_64")));
        assert_eq!((file.backend, file.accel), (Some(Backend::SimVm), Some(AccelChoice::Tcg)));
        assert_eq!((file.brokers.len(), file.guest_policy), (2, Some(0x30000)));
        assert_eq!(file.firmware_sha256.map(|digest| digest.0[31]), Some(0xff));
    }

    #[test]
    fn what_is_wrong_is_named_by_its_line() {
        let parse = |text: &str| SpecFile::parse(text, Path::new("")).err();
        assert_eq!(parse(&format!("{GOOD}imgae = 1\n")), Some(LaunchError::SpecFile(GOOD.lines().count() + 1)));
        assert_eq!(parse("version = 1\nvcpus = \"one\"\n"), Some(LaunchError::SpecFile(2)));
        assert_eq!(parse("version = 1\nvcpus = 1\nvcpus = 1\n").map(|e| e.code()), Some("LAUNCH_TOML"));
        for zero in ["vcpus", "max_connections", "idle_timeout", "silence_timeout"] {
            assert_eq!(parse(&format!("version = 1\n{zero} = 0\n")), Some(LaunchError::SpecFile(2)), "{zero}");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("launch.toml");
        std::fs::write(&path, b"version = 1\n\xff = 1\n").unwrap();
        assert_eq!(SpecFile::read(&path).err(), Some(LaunchError::SpecFile(2)), "no text");
        assert_eq!(parse("version = 2\n"), Some(LaunchError::SpecVersion));
        assert_eq!(parse("vcpus = 1\n").map(|e| e.code()), Some("LAUNCH_TOML"));
        assert_eq!(parse("version = 1\nbrokers = [\"a.example:1\"]\n"), Some(LaunchError::SpecFile(2)));
    }
}
