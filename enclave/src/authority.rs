//! Turns an ordinary process into one with as little authority as an ordinary user can leave it.
//! It does not wall off the kernel: system-call filters and a process per model come later (SECURITY.md).

use std::os::fd::AsFd;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, NetPort, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope,
};
use rustix::process::{DumpableBehavior, Resource, Rlimit};

use crate::config::Landlock;
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
/// `AUTHORITY` when the rules cannot be built, or the kernel enforces less than the configuration demands.
pub fn fence(
    models: impl AsFd,
    ports: impl IntoIterator<Item = u16>,
    demanded: Landlock,
) -> Result<&'static str, EnclaveError> {
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
    enough(status.ruleset, demanded)
}

/// The word for how much is enforced, if that is as much as is demanded.
fn enough(enforced: RulesetStatus, demanded: Landlock) -> Result<&'static str, EnclaveError> {
    match (enforced, demanded) {
        (RulesetStatus::FullyEnforced, _) => Ok("full"),
        (RulesetStatus::PartiallyEnforced, Landlock::BestEffort) => Ok("partial"),
        (RulesetStatus::NotEnforced, Landlock::BestEffort) => Ok("none"),
        (RulesetStatus::PartiallyEnforced, Landlock::Required) => {
            Err(EnclaveError::Authority("this kernel enforces landlock only in part"))
        }
        (RulesetStatus::NotEnforced, Landlock::Required) => {
            Err(EnclaveError::Authority("this kernel does not enforce landlock"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn less_than_all_of_the_fence_must_be_asked_for() {
        use RulesetStatus::{FullyEnforced, NotEnforced, PartiallyEnforced};
        assert_eq!(enough(FullyEnforced, Landlock::Required), Ok("full"));
        for (status, word) in [(PartiallyEnforced, "partial"), (NotEnforced, "none")] {
            assert_eq!(enough(status, Landlock::BestEffort), Ok(word));
        }
        for status in [PartiallyEnforced, NotEnforced] {
            let error = enough(status, Landlock::Required).unwrap_err();
            assert_eq!((error.code(), error.exit()), ("AUTHORITY", 9));
        }
    }

    #[test]
    fn behind_the_fence_only_models_and_brokers_are_left() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("blob"), b"sealed").unwrap();
        let models = File::open(directory.path()).unwrap();
        let (broker, other) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let (broker, other) = (broker.local_addr().unwrap(), other.local_addr().unwrap());
        // Landlock holds for the thread that asks and for those it starts.
        let seen = std::thread::spawn(move || {
            let status = fence(&models, [broker.port()], Landlock::BestEffort).unwrap();
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
