//! Reads the memory of a serving enclave, as the root of its host could under simulation, and again after its lease lapsed:
//! no row of the weights and no model key may be left then. It does not look into registers or swap.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

#[allow(dead_code, reason = "shared with canary.rs")]
#[path = "canary/needles.rs"]
mod needles;
#[path = "canary/secrets.rs"]
mod secrets;

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::FileExt as _,
    path::Path,
    time::{Duration, Instant},
};

use needles::{Canary, Scanner};
use vouchsafe_tests::{Scene, Wire, processes::descendant};

/// What the enclave's writable memory holds: the canaries found, and how many bytes were looked at.
fn held(enclave: u32, scanner: &Scanner) -> (BTreeSet<(String, String)>, usize) {
    let memory = fs::File::open(format!("/proc/{enclave}/mem")).unwrap();
    let (mut found, mut seen) = (BTreeSet::new(), 0);
    for line in fs::read_to_string(format!("/proc/{enclave}/maps")).unwrap().lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if !words[1].starts_with("rw") {
            continue;
        }
        let (from, to) = words[0].split_once('-').unwrap();
        let [from, to] = [from, to].map(|word| u64::from_str_radix(word, 16).unwrap());
        let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
        // A mapping may be gone by now.
        let Ok(count) = memory.read_at(&mut bytes, from) else { continue };
        seen += count;
        let place = words.get(5).copied().unwrap_or("anonymous").to_owned();
        scanner.scan(&place, &bytes[..count], &mut found);
    }
    (found.into_iter().map(|f| (format!("{} {}", f.canary, f.form), f.place)).collect(), seen)
}

#[test]
fn after_a_lapse_nothing_of_the_model_and_no_key_is_left_in_memory() {
    if !fs::read_to_string("/proc/self/status").unwrap().lines().any(|l| l.starts_with("Uid:\t0\t0")) {
        println!("NOT RUN: memory after a lapse: /proc of a process without dumps is closed to its user");
        return;
    }
    let scene = Scene::new();
    scene.edit("broker/state/broker.toml", "ttl_s = 600", "ttl_s = 6");
    // The rows of the weights and the model keys: nothing else of the story is the enclave's.
    let mine = |c: &Canary| c.name.starts_with("weights") || c.name.starts_with("model key");
    let canaries: Vec<Canary> = secrets::of(Path::new(&scene.at("."))).into_iter().filter(mine).collect();
    let scanner = Scanner::new(&canaries);
    let (mut broker, _) = scene.broker();
    let (launcher, address) = scene.serve();
    let enclave = descendant(launcher.pid(), "vouchsafe-enclave");
    assert_eq!(scene.infer(&address), (0, "accepted".to_owned()), "control");

    let (serving, seen) = held(enclave, &scanner);
    let rows = serving.iter().filter(|(canary, _)| canary.starts_with("weights")).count();
    println!("while serving: {rows} findings of rows in {seen} bytes; {} canaries looked for", canaries.len());
    assert!(rows >= 30, "control: the rows are found while the model serves");
    let keys: Vec<_> = serving.iter().filter(|(canary, _)| canary.starts_with("model key")).collect();
    assert!(keys.is_empty(), "the key is not needed once the model is unsealed: {keys:?}");

    broker.kill();
    let begun = Instant::now();
    while Wire::open(&address).send("GET", "/v2/health/ready", &[], &[]).status != 503 {
        assert!(begun.elapsed() < Duration::from_secs(30), "the lease lapses");
        std::thread::sleep(Duration::from_millis(100));
    }
    // The session ends on its own thread.
    std::thread::sleep(Duration::from_secs(1));
    let (lapsed, seen) = held(enclave, &scanner);
    println!("after the lapse: {} findings in {seen} bytes", lapsed.len());
    assert!(lapsed.is_empty(), "left in memory after the lapse: {lapsed:#?}");
    assert_eq!(Wire::open(&address).send("GET", "/v2/health/live", &[], &[]).status, 200, "control: it is alive");
}
