//! Turns a newer version of a model, and the end of an enclave, into something that no caller in front of the proxy notices: no request
//! is dropped, none is answered by an older version than the one before it.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use vouchsafe_tests::{
    Served, Wire,
    load::{answered, infer_path, numbers},
    onnx,
};

const CLIENTS: usize = 6;
/// Sequences and what each adds.
const VERSIONS: [(u64, i64); 3] = [(1, 1000), (2, 2000), (3, 3000)];

#[test]
fn a_hot_swap_to_a_newer_sequence_drops_no_request() {
    let served = Served::new(&[("marked", onnx::marked(VERSIONS[0].1))], |_| {});
    let (_proxy, proxy) = served.proxy();
    let (stop, newest) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (proxy, stop, newest) = (proxy.clone(), stop.clone(), newest.clone());
            std::thread::spawn(move || {
                let (mut wire, path) = (Wire::plain(&proxy), infer_path("marked"));
                let mut counts = [0_u64; VERSIONS.len()];
                let (mut latest, mut asked) = (0, i64::try_from(client).unwrap() << 32);
                while !stop.load(Ordering::Relaxed) {
                    asked += 1;
                    let answer = wire.send("POST", &path, &[], &numbers("x", &[asked]));
                    let found = answered(&answer).unwrap_or_else(|| panic!("a request was dropped: {answer:?}"));
                    let version =
                        VERSIONS.iter().position(|(_, mark)| found == [asked + mark]).expect("an answer of one's own");
                    assert_eq!(answer.json()["model_version"], VERSIONS[version].0.to_string(), "who answered says so");
                    assert!(version >= latest, "version {version} after {latest}");
                    latest = version;
                    counts[version] += 1;
                    newest.fetch_max(version as u64, Ordering::Relaxed);
                }
                counts
            })
        })
        .collect();
    std::thread::sleep(Duration::from_millis(500));
    for (at, (sequence, mark)) in VERSIONS.iter().enumerate().skip(1) {
        let package = served.scene.seal("marked", *sequence, &onnx::marked(*mark), None);
        served.scene.install(&package, "operator/models", "marked");
        let begun = Instant::now();
        served.enclave.signal("HUP");
        while newest.load(Ordering::Relaxed) < at as u64 {
            assert!(begun.elapsed() < Duration::from_secs(20), "sequence {sequence} is not served");
            assert!(!clients.iter().any(std::thread::JoinHandle::is_finished), "a client ended");
            std::thread::sleep(Duration::from_millis(5));
        }
        println!("sequence {sequence} answers {:?} after the signal", begun.elapsed());
        std::thread::sleep(Duration::from_millis(300));
    }
    stop.store(true, Ordering::Relaxed);
    let counts: Vec<_> = clients.into_iter().map(|client| client.join().expect("no request was dropped")).collect();
    let sum = |at: usize| counts.iter().map(|count| count[at]).sum::<u64>();
    println!("answers by version: {:?}; none was dropped", [sum(0), sum(1), sum(2)]);
    assert!(
        (0..VERSIONS.len()).all(|at| counts.iter().all(|count| count[at] >= 1)),
        "every client saw every version: {counts:?}"
    );
}

#[test]
fn an_enclave_that_is_told_to_stop_finishes_what_it_has_begun() {
    let mut served = Served::new(&[("counting", onnx::counting(7))], |_| {});
    let path = infer_path("counting");
    let mut wire = Wire::attested(&served.address);
    // As many turns as take about a second here.
    let turns = 200_000;
    let asked = Instant::now();
    assert_eq!(answered(&wire.send("POST", &path, &[], &numbers("n", &[turns]))), Some(vec![turns + 7]), "control");
    let turns = (f64::from(u32::try_from(turns).unwrap()) / asked.elapsed().as_secs_f64()) as i64;

    let clients: Vec<_> = (0..3)
        .map(|client| {
            let (mut wire, path) = (Wire::attested(&served.address), path.clone());
            std::thread::spawn(move || {
                let asked = Instant::now();
                let answer = wire.try_send("POST", &path, &[], &numbers("n", &[turns + client]));
                (answer.map(|answer| (answered(&answer), answer.verdict())), turns + client + 7, asked.elapsed())
            })
        })
        .collect();
    std::thread::sleep(Duration::from_millis(300));
    let told = Instant::now();
    served.enclave.signal("TERM");
    for client in clients {
        let (answer, expected, took) = client.join().unwrap();
        println!("in flight when told to stop: {answer:?} after {took:?}");
        assert_eq!(answer.and_then(|(found, _)| found), Some(vec![expected]), "it was begun, so it is finished");
    }
    assert_eq!(served.enclave.wait(), Some(0));
    println!("the launcher ended {:?} after it was told to", told.elapsed());
    assert!(std::net::TcpStream::connect(&served.address).is_err(), "nobody listens any more");
}
