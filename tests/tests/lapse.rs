//! Reads the memory of a serving enclave, as the root of its host could under simulation, and again after its lease lapsed: the weights
//! are in the model's runner alone, the model key is nowhere, and with the lease the runner is gone. It does not look into registers or
//! swap.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

#[allow(dead_code, reason = "shared with canary.rs")]
#[path = "canary/needles.rs"]
mod needles;
#[path = "canary/secrets.rs"]
mod secrets;

use std::{
    collections::BTreeSet,
    path::Path,
    time::{Duration, Instant},
};

use needles::{Canary, Scanner};
use vouchsafe_tests::{
    Scene, Wire,
    memory::{Looked, look},
    processes::{Family, children, is_root, wait_gone},
};

/// What a process's writable memory holds: the canaries found, and how many bytes were looked at.
fn held(process: u32, scanner: &Scanner) -> (BTreeSet<(String, String)>, Looked) {
    let mut found = BTreeSet::new();
    let looked = look(process, |place, bytes| scanner.scan(place, bytes, &mut found));
    (found.into_iter().map(|f| (format!("{} {}", f.canary, f.form), f.place)).collect(), looked)
}

/// The gate and the nursery, which hold nothing of a model at any time.
fn hold_nothing(family: &Family, when: &str, scanner: &Scanner) {
    for (who, process) in [("gate", family.gate), ("nursery", family.nursery)] {
        let (found, looked) = held(process, scanner);
        println!("{when}, {who}: {} findings in {looked:?}", found.len());
        assert!(found.is_empty(), "{when} the {who} holds {found:#?}");
        assert!(looked.own > 1 << 20, "control: the {who}'s memory was read: {looked:?}");
    }
}

#[test]
fn after_a_lapse_nothing_of_the_model_and_no_key_is_left_in_memory() {
    if !is_root() {
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
    let family = Family::of(launcher.pid());
    assert_eq!(family.runners.len(), 1, "{family:?}");
    assert_eq!(scene.infer(&address), (0, "accepted".to_owned()), "control");

    let (serving, looked) = held(family.runners[0], &scanner);
    let rows = serving.iter().filter(|(canary, _)| canary.starts_with("weights")).count();
    println!("while serving, runner: {rows} findings of rows in {looked:?}; {} canaries looked for", canaries.len());
    assert!(rows >= 30, "control: the rows are found while the model serves");
    assert!(looked.shared > 0, "control: and the memory that it shares with the gate was read");
    let keys: Vec<_> = serving.iter().filter(|(canary, _)| canary.starts_with("model key")).collect();
    assert!(keys.is_empty(), "a runner never has the key: {keys:?}");
    // The key is not needed once the model is unsealed.
    hold_nothing(&family, "while serving", &scanner);

    broker.kill();
    let begun = Instant::now();
    while Wire::open(&address).send("GET", "/v2/health/ready", &[], &[]).status != 503 {
        assert!(begun.elapsed() < Duration::from_secs(30), "the lease lapses");
        std::thread::sleep(Duration::from_millis(100));
    }
    wait_gone(&family.runners);
    hold_nothing(&family, "after the lapse", &scanner);
    let again = Family::of(launcher.pid());
    assert_eq!((again.gate, again.nursery), (family.gate, family.nursery), "control: the same enclave");
    assert!(children(family.nursery).is_empty(), "and no other runner");
    assert_eq!(Wire::open(&address).send("GET", "/v2/health/live", &[], &[]).status, 200, "control: it is alive");
}
