//! Turns a process with a host channel, the first process of a virtual machine, or a container into an attested service.
//! It establishes nothing that evidence does not prove; everything it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before there is anything to keep secret.
    let wipes = vouchsafe_system::wipe_freed_memory();
    // A word that is no text becomes one that is refused.
    let words = std::env::args_os().skip(1).map(|word| word.into_string().unwrap_or_default());
    ExitCode::from(vouchsafe_enclave::boot::main(words, wipes))
}
