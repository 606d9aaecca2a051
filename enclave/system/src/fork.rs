//! Turns a process with one thread into two, and a fresh one into one that holds no more than it is left.
//! It does not choose what a process may keep: that is the caller's business.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use libc::{c_int, c_uint};

/// Which of the two processes this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forked {
    /// The old one; the number of the new one.
    Parent(i32),
    /// The new one. It must never return to code that thinks it is the old one: it leaves by [`end`].
    Child,
}

/// What a process can have for itself instead of sharing it with the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// Network interfaces: a new one has none that is up.
    Network,
    /// System V objects and POSIX message queues.
    Ipc,
    /// The host's name.
    HostName,
    /// The table of mounts.
    Mounts,
}

/// Makes a copy of this process.
///
/// # Errors
/// `Unsupported` unless this process has exactly one thread: other threads' locks would stay locked for ever in the copy. What `fork(2)`
/// says.
#[allow(unsafe_code)]
pub fn fork() -> io::Result<Forked> {
    if !has_one_thread()? {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "a process with several threads does not fork"));
    }
    // SAFETY: there is one thread, this one, so the copy finds every lock, the allocator's included, as this thread left it.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Forked::Child),
        child => Ok(Forked::Parent(child)),
    }
}

/// Whether this process has exactly one thread.
///
/// # Errors
/// There is no `/proc`.
pub fn has_one_thread() -> io::Result<bool> {
    Ok(std::fs::read_dir("/proc/self/task")?.count() == 1)
}

/// Ends this process at once: no destructor, no handler of a library, nothing buffered is written.
#[allow(unsafe_code)]
pub fn end(status: u8) -> ! {
    // SAFETY: it takes a number and does not return.
    unsafe { libc::_exit(c_int::from(status)) }
}

/// Closes every descriptor but these and the three standard ones.
///
/// For a process that was just forked: whatever it inherited that still names another descriptor must never be used or dropped.
///
/// # Errors
/// What `close_range(2)` says (Linux 5.9 or newer).
pub fn close_others(keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut keep: Vec<c_uint> = keep.iter().filter_map(|fd| c_uint::try_from(fd.as_raw_fd()).ok()).collect();
    keep.sort_unstable();
    let mut first = 3;
    for kept in keep {
        if kept > first {
            close_range(first, kept - 1)?;
        }
        first = first.max(kept.saturating_add(1));
    }
    close_range(first, c_uint::MAX)
}

#[allow(unsafe_code)]
fn close_range(first: c_uint, last: c_uint) -> io::Result<()> {
    // SAFETY: it takes three numbers. That nothing is used which still names a closed descriptor is what the caller was told.
    match unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// From now on this process and those it forks take no notice of polite requests to end: SIGHUP, SIGINT, SIGQUIT and SIGTERM. Such a
/// request may go to all processes of a service at once, while the first of them still needs the others.
///
/// # Errors
/// What `sigaction(2)` says.
#[allow(unsafe_code)]
pub fn ignore_requests_to_end() -> io::Result<()> {
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
        // SAFETY: to ignore a signal is no handler that could run.
        if unsafe { libc::signal(signal, libc::SIG_IGN) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Gives this process a namespace of its own.
///
/// # Errors
/// What `unshare(2)` says; `EPERM` without `CAP_SYS_ADMIN`.
#[allow(unsafe_code)]
pub fn own_namespace(namespace: Namespace) -> io::Result<()> {
    let flag = match namespace {
        Namespace::Network => libc::CLONE_NEWNET,
        Namespace::Ipc => libc::CLONE_NEWIPC,
        Namespace::HostName => libc::CLONE_NEWUTS,
        Namespace::Mounts => libc::CLONE_NEWNS,
    };
    // SAFETY: none of these flags takes memory or descriptors away from another thread.
    match unsafe { libc::unshare(flag) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

    use super::*;

    #[test]
    fn a_process_with_several_threads_does_not_fork() {
        let (send, receive) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || receive.recv());
        assert!(!has_one_thread().unwrap());
        assert_eq!(fork().unwrap_err().kind(), io::ErrorKind::Unsupported);
        drop(send);
        assert!(other.join().unwrap().is_err());
    }
}
