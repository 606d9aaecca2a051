//! Turns a model's limits into the kernel's: memory, threads, descriptors, and no files, core dumps or locked pages at all.
//! Time is no limit of these: the gate ends a run, or the runner, that takes too long.

use std::fs::File;
use std::io::{Read as _, Write as _};

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

use crate::nursery::WallLimits;

/// The size of a page on x86-64.
const PAGE: u64 = 4096;
/// A thread's stack is a mapping of at most so many bytes.
const STACK: u64 = 16 << 20;
/// The allocator keeps addresses, not memory, for a thread's heap: at most so many bytes.
const HEAP: u64 = 128 << 20;
/// Descriptors: the three, one for each file of a model while it is read, and some to spare.
const DESCRIPTORS: u64 = 512;
/// So much less urgent than the gate, which answers every model's callers.
const NICE: i32 = 5;
/// Threads that nobody counted.
const SPARE_THREADS: u64 = 4;

/// What the process has mapped already: the program, its libraries, and the tensors.
pub struct Used {
    addresses: u64,
    data: u64,
}

/// Reads it from `/proc`.
pub fn used() -> Option<Used> {
    parse(&std::fs::read_to_string("/proc/self/statm").ok()?)
}

/// proc_pid_statm(5): size, resident, shared, text, lib, data; in pages.
fn parse(statm: &str) -> Option<Used> {
    let mut pages = statm.split_ascii_whitespace().map(|word| word.parse::<u64>().ok());
    let addresses = pages.next()??.checked_mul(PAGE)?;
    let data = pages.nth(4)??.checked_mul(PAGE)?;
    Some(Used { addresses, data })
}

/// When the machine has no memory left, its kernel ends this process rather than the gate; and when there is too little time, it waits.
///
/// The file is the user's own only while the process may be looked into, which it may for these few lines: it has read nothing yet.
pub fn comes_last() {
    let _ = set_dumpable_behavior(DumpableBehavior::Dumpable);
    if let Ok(mut file) = File::options().read(true).write(true).open("/proc/self/oom_score_adj") {
        let mut own = String::new();
        let _ = file.read_to_string(&mut own);
        let more = own.trim().parse::<i32>().unwrap_or(0).saturating_add(500).min(1000);
        let _ = file.write_all(more.to_string().as_bytes());
    }
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let _ = rustix::process::nice(NICE);
}

/// Sets them all. They can only be lowered afterwards.
pub fn set(limits: &WallLimits, used: &Used, own_uid: bool) -> rustix::io::Result<()> {
    let threads = u64::try_from(limits.threads).unwrap_or(u64::MAX).saturating_add(SPARE_THREADS);
    let more = limits.memory_bytes.saturating_add(threads.saturating_mul(STACK));
    let addresses = more.saturating_add(threads.saturating_mul(HEAP));
    // Of the two, the first counts what can be written, and the second all addresses.
    lower(Resource::Data, used.data.saturating_add(more))?;
    lower(Resource::As, used.addresses.saturating_add(addresses))?;
    lower(Resource::Nofile, DESCRIPTORS)?;
    for nothing in
        [Resource::Fsize, Resource::Core, Resource::Memlock, Resource::Msgqueue, Resource::Nice, Resource::Rtprio]
    {
        lower(nothing, 0)?;
    }
    if own_uid {
        // The kernel counts a user's threads; another user's are not to be counted here.
        lower(Resource::Nproc, threads.saturating_add(1))?;
    }
    Ok(())
}

fn lower(resource: Resource, to: u64) -> rustix::io::Result<()> {
    let old = rustix::process::getrlimit(resource);
    let to = old.maximum.map_or(to, |maximum| maximum.min(to));
    setrlimit(resource, Rlimit { current: Some(to), maximum: Some(to) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_is_read_from_the_first_and_the_sixth_number() {
        let used = parse("1000 200 100 50 0 300 0\n").unwrap();
        assert_eq!((used.addresses, used.data), (1000 * PAGE, 300 * PAGE));
        for wrong in ["", "1", "1 2 3 4 5", "x 2 3 4 5 6 7", "1 2 3 4 5 y 7", "99999999999999999 2 3 4 5 6 7"] {
            assert!(parse(wrong).is_none(), "{wrong}");
        }
        let here = super::used().unwrap();
        assert!(here.addresses > here.data && here.data > 0);
    }
}
