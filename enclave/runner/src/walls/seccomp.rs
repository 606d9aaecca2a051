//! Turns lists of system calls into the kernel's filters: one for the nursery, and two for a runner, before and after its model is loaded.
//! It does not judge what a call is used for beyond its numbers: names of files are for Landlock and the empty root.

mod calls;

use std::collections::BTreeMap;

use rustix::process::getpid;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter, apply_filter_all_threads,
};

use crate::error::Wall;

use calls::{Call, Test};

/// What a runner needs until its model is loaded. `opens`: it may open for reading what the other walls leave, which is its own pipes.
pub fn raise(opens: bool) -> Result<(), Wall> {
    let mut calls = calls::steady(own_number());
    calls.extend(calls::loading(opens));
    // The C library starts a thread by `clone3`, the arguments of which no filter sees, or by `clone` where the kernel does not know that.
    let unknown = filter(&calls::hidden(), SeccompAction::Allow, refuse(libc::ENOSYS))?;
    let allowed = filter(&calls, refuse(libc::EPERM), SeccompAction::Allow)?;
    apply_filter(&unknown).map_err(|_| Wall::SystemCalls)?;
    apply_filter(&allowed).map_err(|_| Wall::SystemCalls)
}

/// Leaves all threads of a runner only what it needs from now on, its model being loaded: nothing is opened, no descriptor is received or
/// copied, and no thread is started any more. It reads messages with `read` or `recv`.
///
/// # Errors
/// The kernel refuses the filter, or a thread has another one.
pub fn close_files() -> Result<(), Wall> {
    let allowed = filter(&calls::steady(own_number()), refuse(libc::EPERM), SeccompAction::Allow)?;
    apply_filter_all_threads(&allowed).map_err(|_| Wall::SystemCalls)
}

/// Takes away from the nursery, and so from every runner, what nobody there ever needs: programs, sockets, other processes' memory.
pub fn narrow_nursery() -> Result<(), Wall> {
    let refused = filter(&calls::foreign(), SeccompAction::Allow, refuse(libc::EPERM))?;
    apply_filter(&refused).map_err(|_| Wall::SystemCalls)
}

fn own_number() -> u64 {
    u64::from(getpid().as_raw_pid().unsigned_abs())
}

fn refuse(number: i32) -> SeccompAction {
    SeccompAction::Errno(number.unsigned_abs())
}

/// A program for this architecture's own calls; the filter ends a process that makes another architecture's.
fn filter(calls: &[Call], others: SeccompAction, listed: SeccompAction) -> Result<BpfProgram, Wall> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    let mut always = Vec::new();
    for call in calls {
        let chain = rules.entry(call.number).or_default();
        match rule(&call.tests)? {
            Some(rule) => chain.push(rule),
            None => always.push(call.number),
        }
    }
    // A call without rules is listed whatever its arguments.
    for number in always {
        rules.insert(number, Vec::new());
    }
    SeccompFilter::new(rules, others, listed, TargetArch::x86_64)
        .and_then(BpfProgram::try_from)
        .map_err(|_| Wall::SystemCalls)
}

/// All of a call's tests together; none if it has none.
fn rule(tests: &[Test]) -> Result<Option<SeccompRule>, Wall> {
    if tests.is_empty() {
        return Ok(None);
    }
    let condition = |test: &Test| {
        let (argument, length, operator, value) = match *test {
            Test::Is(argument, value) => (argument, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, value),
            Test::IsInt(argument, value) => (argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value),
            Test::Lacks(argument, bits) => (argument, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(bits), 0),
        };
        SeccompCondition::new(argument, length, operator, value)
    };
    let conditions: Result<Vec<_>, _> = tests.iter().map(condition).collect();
    conditions.and_then(SeccompRule::new).map(Some).map_err(|_| Wall::SystemCalls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_are_programs_that_the_kernel_takes() {
        let mut all = calls::steady(7);
        let steady = filter(&all, refuse(libc::EPERM), SeccompAction::Allow).unwrap();
        all.extend(calls::loading(true));
        let loading = filter(&all, refuse(libc::EPERM), SeccompAction::Allow).unwrap();
        // BPF_MAXINSNS.
        assert!(steady.len() < loading.len() && loading.len() < 4096, "{} {}", steady.len(), loading.len());
    }

    #[test]
    fn a_filter_holds_for_the_thread_that_asks_for_it() {
        let before = std::fs::File::open("/proc/self/status").is_ok();
        let behind = std::thread::spawn(|| {
            raise(false).unwrap();
            let file = std::fs::File::open("/proc/self/status").err().and_then(|error| error.raw_os_error());
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").err().and_then(|error| error.raw_os_error());
            (file, socket, std::thread::spawn(|| 7).join().ok())
        });
        assert!(before, "control");
        assert_eq!(behind.join().unwrap(), (Some(libc::EPERM), Some(libc::EPERM), Some(7)));
        let narrowed = std::thread::spawn(|| {
            narrow_nursery().unwrap();
            (std::net::UdpSocket::bind("127.0.0.1:0").is_err(), std::fs::File::open("/proc/self/status").is_ok())
        });
        assert_eq!(narrowed.join().unwrap(), (true, true));
    }
}
