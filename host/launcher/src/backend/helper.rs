//! Turns this program, started in a mode of its own, into QEMU: with its descriptors, and bound to die with the launcher.
//! It is a stage between fork and exec without code of ours that runs in a forked copy; it protects nobody from the host.

use std::{
    ffi::OsString,
    io::{self, ErrorKind, Write},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    process::{Command, Stdio},
};

use rustix::{
    io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd},
    process::{Signal, getppid, set_parent_process_death_signal},
};

use super::qemu::{FIRST_DESCRIPTOR, Inherited};
use crate::frame;

/// The word that selects this mode. Not for people.
pub const MODE: &str = "__qemu";
/// What the helper exits with when it could not become QEMU; QEMU's own failures exit with 1.
pub const FAILED: u8 = 121;

/// Whether the arguments of this process ask for the mode: `__qemu LAUNCHER-PID PROGRAM ARGUMENT…`.
#[must_use]
pub fn asked() -> bool {
    std::env::args_os().nth(1).is_some_and(|word| word == MODE)
}

/// Becomes QEMU; the result is the exit status when that failed.
#[must_use]
pub fn run() -> u8 {
    let mut arguments = std::env::args_os().skip(2);
    let launcher = arguments.next().and_then(|text| text.to_str()?.parse().ok());
    let (Some(launcher), Some(program)) = (launcher, arguments.next()) else { return FAILED };
    let Err(error) = become_qemu(launcher, program, arguments);
    let _ = writeln!(io::stderr(), "QEMU cannot be started: {}", error.kind());
    FAILED
}

/// The answer to whether this worked is that it does not return.
fn become_qemu(
    launcher: i32,
    program: OsString,
    arguments: impl Iterator<Item = OsString>,
) -> Result<core::convert::Infallible, io::Error> {
    // The signal outlives exec. It comes when the thread that started this process ends: see `Machine::start`.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // Had the launcher died before that line, somebody else would be the parent now.
    if getppid().is_none_or(|parent| parent.as_raw_nonzero().get() != launcher) {
        return Err(ErrorKind::NotConnected.into());
    }
    let channel = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let (slots, descriptors) = frame::read::<Vec<bool>>(&channel)?.ok_or(ErrorKind::UnexpectedEof)?;
    drop(channel);
    let kept = place(&slots, descriptors)?;
    let error = Command::new(program).args(arguments).env_clear().stdin(Stdio::null()).exec();
    drop(kept);
    Err(error)
}

/// Gives each descriptor the number that QEMU's arguments name. `slots` says which of [`Inherited::ALL`] are there.
fn place(slots: &[bool], descriptors: Vec<OwnedFd>) -> io::Result<Vec<OwnedFd>> {
    let mut descriptors = descriptors.into_iter();
    let mut kept = Vec::with_capacity(Inherited::ALL.len());
    for (slot, number) in slots.iter().take(Inherited::ALL.len()).zip(FIRST_DESCRIPTOR..) {
        if !slot {
            continue;
        }
        let received = descriptors.next().ok_or(ErrorKind::InvalidData)?;
        let placed = fcntl_dupfd_cloexec(&received, number)?;
        if placed.as_raw_fd() != number {
            return Err(ErrorKind::AddrInUse.into());
        }
        fcntl_setfd(&placed, FdFlags::empty())?;
        kept.push(placed);
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use rustix::io::fcntl_getfd;

    use super::*;

    #[test]
    fn descriptors_get_the_numbers_of_the_arguments_and_survive_exec() {
        let slots = Inherited::ALL.map(|slot| slot != Inherited::Table);
        let files = (0..7).map(|_| OwnedFd::from(File::open("/dev/null").unwrap())).collect();
        let placed = place(&slots, files).unwrap();
        let expected = Inherited::ALL.into_iter().filter(|slot| *slot != Inherited::Table).map(Inherited::number);
        assert_eq!(placed.iter().map(AsRawFd::as_raw_fd).collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        assert!(placed.iter().all(|fd| fcntl_getfd(fd) == Ok(FdFlags::empty())));
        assert!(place(&[true, true], vec![File::open("/dev/null").unwrap().into()]).is_err());
    }
}
