//! Turns /proc into facts about running processes: who descends from whom, what they were started with, who is gone.
//! It believes the kernel of this machine; a test that runs as root sees more than one that does not.

use std::{
    collections::HashMap,
    fs,
    time::{Duration, Instant},
};

/// Every living descendant of a process, not itself.
///
/// # Panics
/// Without a /proc.
#[must_use]
pub fn descendants(root: u32) -> Vec<u32> {
    let mut children = HashMap::<u32, Vec<u32>>::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else { continue };
        if let Some((_, parent)) = stat(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let (mut found, mut next) = (Vec::new(), vec![root]);
    while let Some(pid) = next.pop() {
        let own = children.remove(&pid).unwrap_or_default();
        next.extend(&own);
        found.extend(own);
    }
    found
}

/// The processes of one enclave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Family {
    /// The one with keys and TLS: the launcher's child.
    pub gate: u32,
    /// The one that forks runners: the gate's only child.
    pub nursery: u32,
    /// One for each model, in the order of their ids.
    pub runners: Vec<u32>,
}

impl Family {
    /// Finds them below a launcher.
    ///
    /// # Panics
    /// When there is no gate with one child.
    #[must_use]
    pub fn of(launcher: u32) -> Self {
        let gates: Vec<u32> = children(launcher).into_iter().filter(|pid| name(*pid) == "vouchsafe-enclave").collect();
        assert!(gates.len() == 1, "one gate below {launcher}: {gates:?}");
        let nurseries = children(gates[0]);
        assert!(nurseries.len() == 1, "one nursery below the gate: {nurseries:?}");
        Self { gate: gates[0], nursery: nurseries[0], runners: children(nurseries[0]) }
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<u32> {
        [self.gate, self.nursery].into_iter().chain(self.runners.iter().copied()).collect()
    }
}

/// The children of a process that run, in the order of their ids.
#[must_use]
pub fn children(parent: u32) -> Vec<u32> {
    let mut found: Vec<u32> = descendants(parent)
        .into_iter()
        .filter(|pid| stat(*pid).is_some_and(|(state, of)| of == parent && !"ZX".contains(state)))
        .collect();
    found.sort_unstable();
    found
}

/// A field of /proc/PID/status; empty when the process or the field is not there.
#[must_use]
pub fn status(pid: u32, field: &str) -> String {
    field_of(&fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default(), field)
}

/// The same of each of its threads that has not ended meanwhile.
#[must_use]
pub fn thread_status(pid: u32, field: &str) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let texts = threads.filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok());
    texts.map(|text| field_of(&text, field)).collect()
}

fn field_of(status: &str, field: &str) -> String {
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What a process has open, as /proc names it, by number. Needs root for a process without dumps.
#[must_use]
pub fn open_files(pid: u32) -> Vec<(u32, String)> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let mut found: Vec<(u32, String)> = entries
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.parse().ok()?;
            Some((number, fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned()))
        })
        .collect();
    found.sort();
    found
}

/// Ends a process at once, as the root of the host could.
///
/// # Panics
/// When `kill` cannot be run.
pub fn kill(pid: u32) {
    let _ = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().expect("kill runs");
}

/// Whether this process may look into those of other users.
#[must_use]
pub fn is_root() -> bool {
    status(std::process::id(), "Uid").starts_with("0 0 ")
}

/// State and parent of a process. The name in parentheses may hold anything; they are the two words after it.
fn stat(pid: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut words = rest.split_whitespace();
    Some((words.next()?.chars().next()?, words.next()?.parse().ok()?))
}

/// The words that a process was started with; none when it is gone.
#[must_use]
pub fn words(pid: u32) -> Vec<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = line.split_inclusive(|b| *b == 0);
    words.map(|w| String::from_utf8_lossy(w.strip_suffix(b"\0").unwrap_or(w)).into_owned()).collect()
}

/// The base name of its first word.
#[must_use]
pub fn name(pid: u32) -> String {
    let first = words(pid).into_iter().next().unwrap_or_default();
    first.rsplit('/').next().unwrap_or_default().to_owned()
}

/// The one descendant with a name; what it forked and left its name to does not count.
///
/// # Panics
/// When there are none or many.
#[must_use]
pub fn descendant(root: u32, wanted: &str) -> u32 {
    let named: Vec<u32> = descendants(root).into_iter().filter(|pid| name(*pid) == wanted).collect();
    let forked = |pid: &u32| stat(*pid).is_some_and(|(_, parent)| named.contains(&parent));
    let all: Vec<u32> = named.iter().copied().filter(|pid| !forked(pid)).collect();
    assert!(all.len() == 1, "{wanted} below {root}: {all:?}");
    all[0]
}

/// Waits until none of these runs: ended, or ended and not yet collected by its new parent.
///
/// # Panics
/// When one still runs after 10 s.
pub fn wait_gone(pids: &[u32]) {
    let until = Instant::now() + Duration::from_secs(10);
    let running = || pids.iter().filter(|p| stat(**p).is_some_and(|(state, _)| !"ZX".contains(state)));
    while running().next().is_some() {
        let who: Vec<_> = running().map(|p| (*p, name(*p))).collect();
        assert!(Instant::now() < until, "still running: {who:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
