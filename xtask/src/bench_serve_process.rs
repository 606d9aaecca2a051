//! Turns a running server into what the kernel says of all its processes: their tree, processor time and memory; pins, stops and resumes them.
//! It counts what is there when it looks: a process that came and went between two looks is not seen.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};

/// The kernel counts processor time for programs in hundredths of a second, on every Linux on x86_64.
const TICKS_PER_S: f64 = 100.0;

/// A process and all that it started, directly or not.
pub(crate) fn tree(root: u32) -> Vec<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        if let Some(parent) = Stat::parse(&stat).map(|stat| stat.parent) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut all = vec![root];
    let mut at = 0;
    while let Some(pid) = all.get(at) {
        all.extend(children.remove(pid).unwrap_or_default());
        at += 1;
    }
    all
}

/// Seconds of processor time that these have taken since their start, their ended threads included.
pub(crate) fn cpu_seconds(pids: &[u32]) -> f64 {
    let stats = pids.iter().filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/stat")).ok());
    stats.filter_map(|text| Stat::parse(&text)).map(|stat| stat.ticks as f64 / TICKS_PER_S).sum()
}

/// KiB of memory that these have resident; what two of them share is counted twice.
pub(crate) fn resident_kib(pids: &[u32]) -> u64 {
    let texts = pids.iter().filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/status")).ok());
    texts.filter_map(|text| resident_of(&text)).sum()
}

/// Lets these run on the given processors only: `0`, `0-1`.
pub(crate) fn pin(pids: &[u32], processors: &str) {
    for pid in pids {
        let _ = quiet("taskset").args(["--all-tasks", "--cpu-list", "--pid", processors, &pid.to_string()]).status();
    }
}

/// Sends a signal by its name, as `kill` knows it.
pub(crate) fn signal(pids: &[u32], name: &str) {
    let pids = pids.iter().map(u32::to_string);
    let _ = quiet("kill").arg(format!("-{name}")).args(pids).status();
}

fn quiet(program: &str) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

struct Stat {
    parent: u32,
    /// In user mode and in the kernel.
    ticks: u64,
}

impl Stat {
    /// `proc_pid_stat(5)`: the second field is a name in parentheses, which may hold anything.
    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(')')?;
        let mut fields = rest.split_whitespace();
        let parent = fields.nth(1)?.parse().ok()?;
        let user: u64 = fields.nth(9)?.parse().ok()?;
        let system: u64 = fields.next()?.parse().ok()?;
        Some(Self { parent, ticks: user + system })
    }
}

fn resident_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_behind_the_name() {
        let text = "42 (a) b (c) S 7 42 42 0 -1 4194304 100 0 0 0 250 50 1 2 20 0 1 0 100 1000 10 18446744073709551615";
        let stat = Stat::parse(text).unwrap();
        assert_eq!((stat.parent, stat.ticks), (7, 300));
        assert!(Stat::parse("42 (a) S 7").is_none());
        assert_eq!(resident_of("Name:\ta\nVmRSS:\t    1234 kB\n"), Some(1234));
        assert_eq!(resident_of("Name:\ta\n"), None);
    }

    #[test]
    fn a_tree_holds_this_process_and_its_child_and_time_passes() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let me = std::process::id();
        let all = tree(me);
        assert!(all.contains(&me) && all.contains(&child.id()), "{all:?}");
        assert!(!tree(child.id()).contains(&me));
        child.kill().unwrap();
        child.wait().unwrap();
        let before = cpu_seconds(&[me]);
        let begun = std::time::Instant::now();
        while cpu_seconds(&[me]) <= before && begun.elapsed().as_secs() < 60 {
            std::hint::black_box((0..100_000_u64).sum::<u64>());
        }
        assert!(cpu_seconds(&[me]) > before);
        assert!(resident_kib(&[me]) > 100);
    }
}
