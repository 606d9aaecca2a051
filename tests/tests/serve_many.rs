//! Turns many clients of several models into answers that are each client's own, while runners are killed at random: only requests of
//! the killed runner's model fail, with its code, and the model comes back. `cargo xtask bench serve` has a million requests.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use vouchsafe_tests::{
    Served, Wire,
    load::{answered, infer_path, numbers},
    onnx,
    processes::{Family, kill},
};

const CLIENTS: usize = 12;
const ROUNDS: usize = 6;
/// Models and what each adds. Those of the second kind take their time.
const MARKED: [(&str, i64); 3] = [("first", 1 << 40), ("second", 2 << 40), ("third", 3 << 40)];
const COUNTING: [(&str, i64); 2] = [("fourth", 4 << 40), ("fifth", 5 << 40)];

fn served() -> Served {
    let marked = MARKED.iter().map(|(id, mark)| (*id, onnx::marked(*mark)));
    let counting = COUNTING.iter().map(|(id, mark)| (*id, onnx::counting(*mark)));
    Served::new(&marked.chain(counting).collect::<Vec<_>>(), |_| {})
}

/// What clients saw.
#[derive(Default)]
struct Seen {
    answers: AtomicU64,
    /// Refusals, by model and code, since somebody last looked.
    refused: Mutex<BTreeMap<(&'static str, u16, String), usize>>,
    /// Answers that were not the client's own.
    crossed: Mutex<Vec<String>>,
}

impl Seen {
    fn take(&self) -> BTreeMap<(&'static str, u16, String), usize> {
        std::mem::take(&mut self.refused.lock().unwrap())
    }
}

/// One client asks all models in turn; every request is unlike every other.
fn client(number: usize, address: &str, stop: &AtomicBool, seen: &Seen) {
    let mut wire = Wire::attested(address);
    let mut asked = 0_i64;
    let own = i64::try_from(number).unwrap();
    while !stop.load(Ordering::Relaxed) {
        for (model, mark, input) in
            MARKED.iter().map(|(id, mark)| (*id, *mark, "x")).chain(COUNTING.iter().map(|(id, mark)| (*id, *mark, "n")))
        {
            asked += 1;
            // A loop is turned as often as its number says: small ones, that are still this client's alone for a while.
            let number = if input == "x" { own << 32 | asked } else { 200 + own + 16 * (asked % 64) };
            let answer = wire.send("POST", &infer_path(model), &[], &numbers(input, &[number]));
            match answered(&answer) {
                Some(found) if found == [number + mark] => drop(seen.answers.fetch_add(1, Ordering::Relaxed)),
                Some(found) => seen.crossed.lock().unwrap().push(format!("{model}: {found:?} for {number}")),
                None => {
                    let (status, code) = answer.verdict();
                    *seen.refused.lock().unwrap().entry((model, status, code)).or_default() += 1;
                }
            }
        }
    }
}

fn wait_all_ready(wire: &mut Wire) -> Duration {
    let begun = Instant::now();
    for (model, _) in MARKED.iter().chain(&COUNTING) {
        while wire.send("GET", &format!("/v2/models/{model}/ready"), &[], &[]).status != 200 {
            assert!(begun.elapsed() < Duration::from_secs(20), "{model} does not come back");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    begun.elapsed()
}

#[test]
fn a_killed_runner_fails_its_own_requests_alone_and_comes_back() {
    let served = served();
    let seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64;
    println!("seed {seed}");
    let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Seen::default()));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (address, stop, seen) = (served.address.clone(), stop.clone(), seen.clone());
            std::thread::spawn(move || client(number, &address, &stop, &seen))
        })
        .collect();
    let mut wire = Wire::attested(&served.address);
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(seen.take(), BTreeMap::new(), "control: while nobody is killed nobody is refused");
    let first = Family::of(served.enclave.pid());
    assert_eq!(first.runners.len(), MARKED.len() + COUNTING.len());

    let (mut state, mut refused, mut hit) = (seed | 1, 0, BTreeSet::new());
    for round in 0..ROUNDS {
        let family = Family::of(served.enclave.pid());
        assert_eq!((family.gate, family.nursery), (first.gate, first.nursery), "the same gate and nursery");
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let victim = family.runners[usize::try_from(state % family.runners.len() as u64).unwrap()];
        kill(victim);
        // Its model is not ready, then is.
        std::thread::sleep(Duration::from_millis(100));
        let back = wait_all_ready(&mut wire);
        // Requests that were refused on the way are counted once their clients have gone on.
        std::thread::sleep(Duration::from_millis(100));
        let found = seen.take();
        println!("round {round}: runner {victim} killed; back after {back:?}; refused: {found:?}");
        let models: BTreeSet<_> = found.keys().map(|(model, ..)| *model).collect();
        assert!(models.len() <= 1, "requests of several models failed: {found:?}");
        assert!(found.keys().all(|(_, status, code)| (*status, code.as_str()) == (503, "RUNNER_DIED")), "{found:?}");
        refused += found.values().sum::<usize>();
        hit.extend(models);
        let now = Family::of(served.enclave.pid()).runners;
        assert!(now.len() == first.runners.len() && !now.contains(&victim), "a new runner in its place: {now:?}");
    }
    stop.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|client| client.join().unwrap());
    let answers = seen.answers.load(Ordering::Relaxed);
    println!(
        "{answers} answers to {CLIENTS} clients, {refused} requests refused in {ROUNDS} kills, of the models {hit:?}"
    );
    assert!(refused >= 1, "no kill was noticed: the test saw nothing");
    assert!(answers > 500, "{answers}");
    let crossed = seen.crossed.lock().unwrap();
    assert!(crossed.is_empty(), "answers of others: {crossed:?}");
    assert_eq!(seen.take(), BTreeMap::new(), "after the last kill nobody is refused");
}
