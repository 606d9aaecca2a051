//! Turns this process into the launcher, after giving up what it does not need.
//! It links no key code: see `tests/tests/boundaries.rs`.

use std::{os::fd::RawFd, process::ExitCode};

use vouchsafe_launcher::backend::helper;

fn main() -> ExitCode {
    close_inherited();
    // No child may gain privileges through a set-uid file; refusing this costs nothing, so its failure is no reason to stop.
    let _ = rustix::thread::set_no_new_privs(true);
    if helper::asked() {
        return ExitCode::from(helper::run());
    }
    ExitCode::from(vouchsafe_launcher::cli::run())
}

/// Closes what whoever started this left open beyond the three standard descriptors: the enclave would inherit it.
/// Nothing of this program is open yet; the listing's own descriptor is closed by the time it is closed again.
fn close_inherited() {
    let names = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten().map(|entry| entry.file_name());
    let open: Vec<RawFd> = names.filter_map(|name| name.to_str()?.parse().ok()).filter(|fd| *fd > 2).collect();
    for fd in open {
        let _ = nix::unistd::close(fd);
    }
}
