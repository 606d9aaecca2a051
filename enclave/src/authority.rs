//! Turns an ordinary process into one with as little authority as an ordinary user can leave it.
//! It does not wall off the kernel: the processes that run models are walled off from it, this one is not (SECURITY.md).

use std::ffi::OsString;
use std::os::fd::BorrowedFd;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, NetPort, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope,
};
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::config::Landlock;
use crate::error::EnclaveError;

/// The newest interface whose rights are asked for; an older kernel enforces the part that it knows.
const NEWEST: ABI = ABI::V6;

/// What the nursery needs to wall its runners off, with users, a root and namespaces of their own, and to end them. Given up here once
/// it runs.
pub const NURSERY: CapabilitySet = CapabilitySet::SETUID
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::SYS_ADMIN)
    .union(CapabilitySet::KILL);

/// The one environment that is accepted. Nothing in it is ever used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Environment {
    /// Of a process: none.
    Empty,
    /// Of a machine's first process: what the kernel gives it (init/main.c), and nothing of the command line's.
    Kernel,
}

impl Environment {
    fn is(self, mut variables: Vec<(OsString, OsString)>) -> Result<(), EnclaveError> {
        let expected: &[(&str, &str)] = match self {
            Self::Empty => &[],
            Self::Kernel => &[("HOME", "/"), ("TERM", "linux")],
        };
        variables.sort_unstable();
        let same = |(found, expected): (&(OsString, OsString), &(&str, &str))| {
            found.0.as_os_str() == expected.0 && found.1.as_os_str() == expected.1
        };
        if variables.len() == expected.len() && variables.iter().zip(expected).all(same) {
            Ok(())
        } else {
            Err(EnclaveError::EnvironmentNotEmpty)
        }
    }
}

/// What stays open behind the fence.
pub struct Gaps<'a> {
    /// Reading beneath this directory: the sealed packages of a process.
    pub packages: Option<BorrowedFd<'a>>,
    /// Making, writing and reading entries beneath this directory: the evidence device's.
    pub workplace: Option<BorrowedFd<'a>>,
    /// Connecting to these ports: the brokers of a process.
    pub ports: Vec<u16>,
}

/// The first thing the program does: no new privileges, no core dump, no ptrace, no working directory, no environment,
/// and nothing of a library's on standard error.
///
/// # Errors
/// `ENVIRONMENT_NOT_EMPTY`, `AUTHORITY`.
pub fn drop_authority(environment: Environment) -> Result<(), EnclaveError> {
    rustix::thread::set_no_new_privs(true).map_err(|_| EnclaveError::Authority("no_new_privs"))?;
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(Resource::Core, none).map_err(|_| EnclaveError::Authority("core dumps"))?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|_| EnclaveError::Authority("dumpable"))?;
    std::env::set_current_dir("/").map_err(|_| EnclaveError::Authority("working directory"))?;
    environment.is(std::env::vars_os().collect())?;
    let null = std::fs::File::options()
        .write(true)
        .open("/dev/null")
        .map_err(|_| EnclaveError::Authority("standard error"))?;
    rustix::stdio::dup2_stderr(&null).map_err(|_| EnclaveError::Authority("standard error"))
}

/// Gives up every capability but these, of which some may never have been there. No program is executed later, so what is given up
/// never comes back.
///
/// # Errors
/// `AUTHORITY`.
pub fn keep(kept: CapabilitySet) -> Result<(), EnclaveError> {
    let refused = |_| EnclaveError::Authority("capabilities");
    let kept = rustix::thread::capabilities(None).map_err(refused)?.permitted.intersection(kept);
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets).map_err(refused)
}

/// Leaves the file system, binding and connecting, the `gaps` excepted.
/// Threads started later inherit it; so it runs while there is one thread. Says how much of it the kernel enforces.
///
/// # Errors
/// `AUTHORITY` when the rules cannot be built, or the kernel enforces less than the configuration demands.
pub fn fence(gaps: Gaps<'_>, demanded: Landlock) -> Result<&'static str, EnclaveError> {
    let refused = |_| EnclaveError::Authority("landlock");
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let work = read | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::MakeDir | AccessFs::RemoveDir;
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))
        .and_then(|r| r.handle_access(AccessNet::from_all(NEWEST)))
        .and_then(|r| r.scope(Scope::from_all(NEWEST)))
        .and_then(Ruleset::create)
        .map_err(refused)?;
    for (directory, access) in [(gaps.packages, read), (gaps.workplace, work)] {
        if let Some(directory) = directory {
            ruleset = ruleset.add_rule(PathBeneath::new(directory, access)).map_err(refused)?;
        }
    }
    for port in gaps.ports {
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
    use std::os::fd::AsFd as _;

    fn fits(environment: Environment, variables: &[(&str, &str)]) -> bool {
        environment.is(variables.iter().map(|(name, value)| (name.into(), value.into())).collect()).is_ok()
    }

    #[test]
    fn an_environment_is_exactly_the_expected_one() {
        let kernel = [("TERM", "linux"), ("HOME", "/")];
        assert!(fits(Environment::Kernel, &kernel) && fits(Environment::Empty, &[]));
        assert!(!fits(Environment::Empty, &kernel) && !fits(Environment::Kernel, &[]));
        for wrong in [
            &[("HOME", "/")][..],
            &[("HOME", "/"), ("TERM", "vt102")],
            &[("HOME", "/root"), ("TERM", "linux")],
            &[("HOME", "/"), ("TERM", "linux"), ("LD_PRELOAD", "/x.so")],
            &[("HOME", "/"), ("HOME", "/"), ("TERM", "linux")],
            &[("BOOT_IMAGE", "vmlinuz"), ("HOME", "/"), ("TERM", "linux")],
        ] {
            assert!(!fits(Environment::Kernel, wrong), "{wrong:?}");
        }
    }

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
            let gaps = Gaps { packages: Some(models.as_fd()), workplace: None, ports: vec![broker.port()] };
            let status = fence(gaps, Landlock::BestEffort).unwrap();
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

    #[test]
    fn behind_a_machines_fence_nothing_is_left_but_a_devices_workplace() {
        let (work, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let opened = File::open(work.path()).unwrap();
        let before = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = before.local_addr().unwrap();
        let seen = std::thread::spawn(move || {
            let gaps = Gaps { packages: None, workplace: Some(opened.as_fd()), ports: Vec::new() };
            let status = fence(gaps, Landlock::BestEffort).unwrap();
            let entry = work.path().join("report");
            let refused = |result: std::io::Result<()>| {
                result.err().is_some_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
            };
            let file = entry.join("inblob");
            // A device's files are there with the directory; an ordinary file system does not play that part.
            let made = std::fs::create_dir(&entry).is_ok();
            (
                status,
                made && std::fs::read_dir(&entry).is_ok() && std::fs::remove_dir(&entry).is_ok(),
                refused(std::fs::write(&file, b"x")) || !file.exists(),
                refused(std::fs::create_dir(other.path().join("report"))),
                refused(std::fs::read("/etc/passwd").map(|_| ())),
                refused(TcpStream::connect(address).map(|_| ())),
                refused(TcpListener::bind("127.0.0.1:0").map(|_| ())),
            )
        })
        .join()
        .unwrap();
        drop(before);
        match seen {
            ("none" | "partial", ..) => {
                println!("NOT RUN: fence of a machine: this kernel enforces landlock only in part or not at all")
            }
            (_, entries, no_new_file, outside, read, connect, bind) => {
                assert!(entries && no_new_file && outside && read && connect && bind, "{seen:?}");
            }
        }
    }
}
