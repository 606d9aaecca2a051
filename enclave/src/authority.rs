//! Turns an ordinary process into one with as little authority as an ordinary user can leave it.
//! It does not wall off the kernel: system-call filters and a process per model come later (SECURITY.md).

use std::os::fd::AsFd;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, NetPort, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope,
};
use rustix::process::{DumpableBehavior, Resource, Rlimit};

use crate::error::EnclaveError;

/// The newest interface whose rights are asked for; an older kernel enforces the part that it knows.
const NEWEST: ABI = ABI::V6;

/// The first thing the program does: no new privileges, no core dump, no ptrace, no working directory, no environment,
/// and nothing of a library's on standard error.
///
/// # Errors
/// `ENVIRONMENT_NOT_EMPTY`, `AUTHORITY`.
pub fn drop_authority() -> Result<(), EnclaveError> {
    rustix::thread::set_no_new_privs(true).map_err(|_| EnclaveError::Authority("no_new_privs"))?;
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(Resource::Core, none).map_err(|_| EnclaveError::Authority("core dumps"))?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|_| EnclaveError::Authority("dumpable"))?;
    std::env::set_current_dir("/").map_err(|_| EnclaveError::Authority("working directory"))?;
    if std::env::vars_os().next().is_some() {
        return Err(EnclaveError::EnvironmentNotEmpty);
    }
    let null = std::fs::File::options()
        .write(true)
        .open("/dev/null")
        .map_err(|_| EnclaveError::Authority("standard error"))?;
    rustix::stdio::dup2_stderr(&null).map_err(|_| EnclaveError::Authority("standard error"))
}

/// Leaves the file system (reading beneath `models` excepted), binding, and connecting (the `ports` excepted).
/// Threads started later inherit it; so it runs while there is one thread. Says how much of it the kernel enforces.
///
/// # Errors
/// `AUTHORITY` when the rules cannot be built; a kernel without landlock is no error, but is said in the log.
pub fn fence(models: impl AsFd, ports: impl IntoIterator<Item = u16>) -> Result<&'static str, EnclaveError> {
    let refused = |_| EnclaveError::Authority("landlock");
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))
        .and_then(|r| r.handle_access(AccessNet::from_all(NEWEST)))
        .and_then(|r| r.scope(Scope::from_all(NEWEST)))
        .and_then(Ruleset::create)
        .and_then(|r| r.add_rule(PathBeneath::new(models, AccessFs::ReadFile | AccessFs::ReadDir)))
        .map_err(refused)?;
    for port in ports {
        ruleset = ruleset.add_rule(NetPort::new(port, AccessNet::ConnectTcp)).map_err(refused)?;
    }
    let status = ruleset.restrict_self().map_err(refused)?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => "full",
        RulesetStatus::PartiallyEnforced => "partial",
        RulesetStatus::NotEnforced => "none",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn behind_the_fence_only_models_and_brokers_are_left() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("blob"), b"sealed").unwrap();
        let models = File::open(directory.path()).unwrap();
        let (broker, other) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let (broker, other) = (broker.local_addr().unwrap(), other.local_addr().unwrap());
        // Landlock holds for the thread that asks and for those it starts.
        let seen = std::thread::spawn(move || {
            let status = fence(&models, [broker.port()]).unwrap();
            let path = directory.path().join("blob");
            (
                status,
                std::fs::read(&path).is_ok(),
                std::fs::write(&path, b"x").is_err(),
                File::open("/etc/passwd").is_err(),
                std::process::Command::new("/bin/true").status().is_err(),
                TcpStream::connect(broker).map_err(|e| e.kind()).err() != Some(std::io::ErrorKind::PermissionDenied),
                TcpStream::connect(other).map_err(|e| e.kind()).err() == Some(std::io::ErrorKind::PermissionDenied),
            )
        })
        .join()
        .unwrap();
        match seen {
            ("none" | "partial", ..) => {
                println!("NOT RUN: fence: this kernel enforces landlock only in part or not at all")
            }
            (_, read, write, outside, exec, connect, no_connect) => {
                assert!(read && write && outside && exec && connect && no_connect, "{seen:?}");
            }
        }
    }
}
