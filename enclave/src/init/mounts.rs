//! Turns the empty folders of the initrd into the kernel's own file systems.
//! Nothing of the host's is mounted: sealed packages are read from the disk's bytes, without a file system.

use rustix::mount::{MountFlags, mount};

use super::InitError;

/// Processes and the command line; devices and modules; device nodes.
///
/// # Errors
/// `INIT_MOUNT`.
pub fn early() -> Result<(), InitError> {
    let plain = MountFlags::NOSUID | MountFlags::NOEXEC;
    place("proc", "/proc", plain | MountFlags::NODEV)?;
    place("sysfs", "/sys", plain | MountFlags::NODEV)?;
    place("devtmpfs", "/dev", plain)
}

/// Where the kernel's attestation reports are asked for; its module has been loaded by now.
///
/// # Errors
/// `INIT_MOUNT`.
pub fn late() -> Result<(), InitError> {
    place("configfs", "/sys/kernel/config", MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV)
}

fn place(kind: &'static str, at: &'static str, flags: MountFlags) -> Result<(), InitError> {
    mount(kind, at, kind, flags, None).map_err(|errno| InitError::Mount(at, errno.raw_os_error()))
}
