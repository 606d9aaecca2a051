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

/// The one descendant with a name.
///
/// # Panics
/// When there are none or many.
#[must_use]
pub fn descendant(root: u32, wanted: &str) -> u32 {
    let all: Vec<u32> = descendants(root).into_iter().filter(|pid| name(*pid) == wanted).collect();
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
