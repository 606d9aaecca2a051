//! Turns this process into the simulated secure processor, after giving up authority that it does not need.
//! It protects nothing: see the library's first lines.

use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, setrlimit};

fn main() -> ExitCode {
    // Keys must not land in a core file, and no child may gain privileges. Neither can fail in a way that matters here.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _ = rustix::thread::set_no_new_privs(true);
    ExitCode::from(vouchsafe_simulator::cli::run())
}
