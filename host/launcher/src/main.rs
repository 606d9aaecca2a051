//! Turns this process into the launcher, after giving up what it does not need.
//! It links no key code: see `tests/tests/boundaries.rs`.

use std::process::ExitCode;

fn main() -> ExitCode {
    // No child may gain privileges through a set-uid file; refusing this costs nothing, so its failure is no reason to stop.
    let _ = rustix::thread::set_no_new_privs(true);
    ExitCode::from(vouchsafe_launcher::cli::run())
}
