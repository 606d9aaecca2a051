//! Turns hundreds of slow and silent clients into nothing that good clients feel, and into connections that are cut in time.
//! `cargo xtask prove` has a thousand of them and holds the good clients' times to twice those of before; here seconds are allowed.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

use std::{
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use vouchsafe_tests::{
    Scene, Served, Wire,
    load::{Times, answered, infer_path, numbers, timed},
    onnx,
};

const GOOD: usize = 4;

/// How many slow clients, and what is added to twice the time of before.
fn scale() -> (usize, Duration) {
    match std::env::var("VOUCHSAFE_SLOW").ok().and_then(|text| text.parse().ok()) {
        Some(count) => (count, Duration::from_millis(5)),
        None => (240, Duration::from_secs(1)),
    }
}

/// Good clients ask for a while: their times.
fn good(address: &str, time: Duration) -> Times {
    let threads: Vec<_> = (0..GOOD)
        .map(|client| {
            let address = address.to_owned();
            std::thread::spawn(move || {
                let (mut wire, mut times, begun) = (Wire::attested(&address), Times::default(), Instant::now());
                let path = infer_path("marked");
                while begun.elapsed() < time {
                    let mark = i64::try_from(client * 1_000_000 + times.len()).unwrap();
                    let (answer, took) = timed(&mut wire, &path, &numbers("x", &[mark]));
                    assert_eq!(answered(&answer), Some(vec![mark + 1000]), "{}", answer.json());
                    times.push(took);
                    std::thread::sleep(Duration::from_millis(2));
                }
                times
            })
        })
        .collect();
    let mut all = Times::default();
    for thread in threads {
        all.append(thread.join().unwrap());
    }
    all
}

/// The ways to be slow.
enum Slow {
    /// Connects and says nothing. Held open, and nothing else.
    Silent { _tcp: TcpStream },
    /// Says one byte after the other, of a head or of a body.
    Dribbling(Wire),
}

impl Slow {
    fn new(address: &str, at: usize) -> Self {
        let head = format!("POST {} HTTP/1.1\r\nHost: e\r\nContent-Length: 1000\r\n", infer_path("marked"));
        match at % 4 {
            0 => Self::Silent { _tcp: TcpStream::connect(address).unwrap() },
            1 => {
                // A handshake, and the beginning of a head.
                let mut wire = Wire::open(address);
                wire.raw(b"POST /v1/attest HTTP/1.1\r\n");
                Self::Dribbling(wire)
            }
            2 => {
                let mut wire = Wire::attested(address);
                wire.raw(head.as_bytes());
                Self::Dribbling(wire)
            }
            _ => {
                let mut wire = Wire::attested(address);
                wire.raw(format!("{head}\r\n").as_bytes());
                Self::Dribbling(wire)
            }
        }
    }

    fn dribble(&mut self) {
        if let Self::Dribbling(wire) = self {
            wire.raw(b"x");
        }
    }

    /// Whether the peer has ended it, within this time, with a refusal or without.
    fn ends(self, within: Duration) -> bool {
        match self {
            // Nobody has promised to end it as soon.
            Self::Silent { .. } => true,
            Self::Dribbling(mut wire) => {
                let begun = Instant::now();
                wire.patience(within);
                wire.answer().is_none_or(|answer| answer.status == 408) && begun.elapsed() < within
            }
        }
    }
}

#[test]
fn hundreds_of_slow_clients_hold_up_nobody_and_are_cut() {
    let (count, slack) = scale();
    // A request may take so long; slow ones are cut then. Until the last has come, the first must not have gone.
    let limit = Duration::from_secs(6.max(count as u64 / 40));
    let places = (count + 64).to_string();
    let change = |scene: &Scene| {
        scene.edit("operator/config.toml", "max_connections = 256", &format!("max_connections = {places}"));
        let timeout = format!("request_timeout_s = {}", limit.as_secs());
        scene.edit("operator/config.toml", "request_timeout_s = 30", &timeout);
    };
    let scene = Served::sealed(&[("marked", onnx::marked(1000))]);
    let served = Served::start_with(scene, change, &[]);
    let measured = Duration::from_secs(2);
    good(&served.address, Duration::from_millis(300));
    let before = good(&served.address, measured);

    let lanes = 8;
    let (stop, there) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let begun = Instant::now();
    let slow: Vec<_> = (0..lanes)
        .map(|lane| {
            let (address, stop, there) = (served.address.clone(), stop.clone(), there.clone());
            std::thread::spawn(move || {
                let mut mine: Vec<Slow> = Vec::new();
                for at in (lane..count).step_by(lanes) {
                    mine.push(Slow::new(&address, at));
                    there.fetch_add(1, Ordering::Relaxed);
                }
                while !stop.load(Ordering::Relaxed) {
                    // Each every 200 ms, but not all at once: that would be a burst of this machine's own.
                    for client in &mut mine {
                        client.dribble();
                        std::thread::sleep(Duration::from_millis(200) / u32::try_from(count.div_ceil(lanes)).unwrap());
                    }
                }
                mine
            })
        })
        .collect();
    while there.load(Ordering::Relaxed) < count {
        assert!(begun.elapsed() < limit, "{there:?} of {count} slow clients have come");
        std::thread::sleep(Duration::from_millis(10));
    }
    println!("{count} slow clients are there after {:?}", begun.elapsed());
    let during = good(&served.address, measured);
    stop.store(true, Ordering::Relaxed);
    let slow: Vec<Slow> = slow.into_iter().flat_map(|lane| lane.join().unwrap()).collect();
    assert_eq!(slow.len(), count);

    let line = |what: &str, times: &Times| {
        let [p50, p99, most] = [50, 99, 100].map(|percent| times.percentile(percent));
        println!("{what}: {} answers, p50 {p50:?}, p99 {p99:?}, slowest {most:?}", times.len());
    };
    line("good clients alone", &before);
    line("good clients beside the slow", &during);
    assert!(during.len() > before.len() / 4, "good clients were held up");
    let (alone, beside) = (before.percentile(99), during.percentile(99));
    assert!(beside <= alone * 2 + slack, "p99 {beside:?} beside {count} slow clients, {alone:?} alone");

    let dribbling = slow.iter().filter(|client| matches!(client, Slow::Dribbling(_))).count();
    let until = Instant::now() + limit + Duration::from_secs(8);
    let cut = slow
        .into_iter()
        .map(|client| client.ends(until.saturating_duration_since(Instant::now()).max(Duration::from_millis(100))));
    let held = cut.filter(|cut| !cut).count();
    println!("{dribbling} slow requests, {held} of them not cut {limit:?} later");
    assert_eq!(held, 0);
    let after = good(&served.address, Duration::from_millis(300));
    assert!(!after.is_empty(), "control: good clients are served afterwards");
}
