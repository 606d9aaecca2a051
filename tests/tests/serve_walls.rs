//! Turns a serving enclave into a list of its processes and what the kernel says of each, and hostile use of models into refusals:
//! the walls stand, nobody outlives the launcher, and what one runner suffers no other model feels.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

use std::{
    fs,
    sync::{Mutex, MutexGuard, OnceLock},
    time::{Duration, Instant},
};

use serde_json::json;
use vouchsafe_tests::{
    Served, Wire,
    load::{answered, infer_path, numbers},
    onnx::{self, Attribute, FLOAT, Graph, INT64},
    processes::{Family, is_root, open_files, status, wait_gone},
};

/// Longest time for one request, in seconds: cut short, so that an endless one is seen to end.
const DEADLINE_S: u64 = 3;

fn red_team() -> Vec<(&'static str, Vec<u8>)> {
    let fill = Graph::new().input("shape", INT64, &[-1]).output("y", FLOAT, &[-1, -1]);
    let fill = fill.node("ConstantOfShape", &["shape"], &["y"], &[]).model();
    // Huge inside, one number outside: no limit of answers helps.
    let inside = Graph::new().input("shape", INT64, &[2]).output("y", FLOAT, &[]);
    let inside = inside.node("ConstantOfShape", &["shape"], &["all"], &[]);
    let inside = inside.node("ReduceMax", &["all"], &["y"], &[Attribute::Int("keepdims", 0)]).model();
    let tile = Graph::new().input("repeats", INT64, &[1]).output("y", FLOAT, &[-1]).floats("x", &[2], &[1.0, 2.0]);
    let tile = tile.node("Tile", &["x", "repeats"], &["y"], &[]).model();
    let expand = Graph::new().input("shape", INT64, &[2]).output("y", FLOAT, &[-1, -1]).floats("x", &[1], &[1.0]);
    let expand = expand.node("Expand", &["x", "shape"], &["y"], &[]).model();
    vec![
        ("counting", onnx::counting(7)),
        ("expand", expand),
        ("fill", fill),
        ("inside", inside),
        ("marked", onnx::marked(1000)),
        ("tile", tile),
    ]
}

/// One enclave for this file; tests that end runners take turns.
fn served() -> MutexGuard<'static, Served> {
    static SERVED: OnceLock<Mutex<Served>> = OnceLock::new();
    let start = || {
        Mutex::new(Served::new(&red_team(), |scene| {
            let limits = format!("request_timeout_s = {DEADLINE_S}\nrunner_memory_mib = 512");
            scene.edit("operator/config.toml", "request_timeout_s = 30", &limits);
        }))
    };
    SERVED.get_or_init(start).lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn control(wire: &mut Wire) {
    let answer = wire.send("POST", &infer_path("marked"), &[], &numbers("x", &[1, 2, 3]));
    assert_eq!(answered(&answer), Some(vec![1001, 1002, 1003]), "control: another model: {}", answer.json());
}

#[test]
fn a_gate_a_nursery_and_a_runner_for_each_model_with_its_walls() {
    let served = served();
    let mut wire = Wire::attested(&served.address);
    control(&mut wire);
    let family = Family::of(served.enclave.pid());
    println!("{family:?}");
    assert_eq!(family.runners.len(), red_team().len(), "one for each model");
    for pid in family.all() {
        assert_eq!(status(pid, "NoNewPrivs"), "1", "{pid}");
    }
    assert_eq!(status(family.nursery, "Threads"), "1", "who forks has one thread");
    for pid in &family.runners {
        let [seccomp, filters, uid] = ["Seccomp", "Seccomp_filters", "Uid"].map(|field| status(*pid, field));
        println!("runner {pid}: seccomp {seccomp}, {filters} filters, uid {uid}, {} threads", status(*pid, "Threads"));
        assert_eq!(seccomp, "2", "a filter");
        for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
            assert_eq!(status(*pid, set), "0000000000000000", "{set} of runner {pid}");
        }
        assert!(filters.parse::<u32>().unwrap() >= 2, "one before the model is read, one after: {filters}");
    }
    assert_eq!(status(std::process::id(), "Seccomp"), "0", "control: this process has none");
    if !is_root() {
        println!("NOT RUN: serve_walls: descriptors and roots of other users' processes: needs root");
        return;
    }
    let mut users: Vec<String> = family.runners.iter().map(|pid| status(*pid, "Uid")).collect();
    users.dedup();
    assert_eq!(users.len(), family.runners.len(), "a user of its own for each: {users:?}");
    assert!(users.iter().all(|uid| !uid.split(' ').any(|id| id == "0")), "none is root: {users:?}");
    for pid in &family.runners {
        let open = open_files(*pid);
        println!("runner {pid} has {open:?}");
        let foreign: Vec<_> = open
            .iter()
            .filter(|(_, what)| {
                !what.starts_with("socket:") && !what.starts_with("/memfd:") && !what.starts_with("pipe:")
            })
            .filter(|(_, what)| !what.starts_with("anon_inode:"))
            .filter(|(number, what)| !(*number < 3 && what == "/dev/null"))
            .collect();
        assert!(foreign.is_empty(), "runner {pid} has {foreign:?}");
        let network = ["tcp", "tcp6", "udp"].map(|kind| fs::read_to_string(format!("/proc/{pid}/net/{kind}")));
        let sockets: Vec<String> = open
            .iter()
            .filter_map(|(_, what)| Some(what.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
            .collect();
        for table in network.into_iter().flatten() {
            let found = sockets.iter().find(|inode| table.split_whitespace().any(|word| word == *inode));
            assert!(found.is_none(), "runner {pid} holds a socket of the network");
        }
        let root = fs::read_link(format!("/proc/{pid}/root")).unwrap();
        assert_ne!(root.to_str().unwrap(), "/", "runner {pid} sees the root of the system");
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        let both: Vec<_> =
            maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|p| p.starts_with("rwx"))).collect();
        assert!(both.is_empty(), "writable and executable: {both:?}");
    }
    let gate = open_files(family.gate);
    assert!(
        gate.iter().any(|(_, what)| what.starts_with("socket:")),
        "control: the gate's descriptors are seen: {gate:?}"
    );
}

/// Allowed operators, hostile sizes: what they ask for is in no proportion to what they were sent.
#[test]
fn a_model_that_is_asked_for_terabytes_is_refused_and_nobody_else_feels_it() {
    let served = served();
    let before = Family::of(served.enclave.pid());
    let mut wire = Wire::attested(&served.address);
    wire.patience(Duration::from_secs(30));
    let terabyte = 1_i64 << 38;
    // What may be said of it: the model failed, its answer is too large, it died, or it took too long.
    let allowed = ["ENGINE_FAILED", "ANSWER_TOO_LARGE", "RUNNER_DIED", "RUN_TIMEOUT"];
    for (model, input, data) in [
        ("fill", "shape", vec![terabyte, 1]),
        ("fill", "shape", vec![1 << 20, 1 << 12]),
        ("fill", "shape", vec![i64::MAX, i64::MAX]),
        ("fill", "shape", vec![-1, 4]),
        ("inside", "shape", vec![1 << 20, 1 << 12]),
        ("inside", "shape", vec![terabyte, 4]),
        ("tile", "repeats", vec![terabyte]),
        ("tile", "repeats", vec![1 << 30]),
        ("tile", "repeats", vec![i64::MAX]),
        ("expand", "shape", vec![1 << 20, 1 << 20]),
        ("expand", "shape", vec![1 << 20, 1 << 12]),
    ] {
        let asked = Instant::now();
        let answer = wire.send("POST", &infer_path(model), &[], &numbers(input, &data));
        let (status, code) = answer.verdict();
        println!("{model} {data:?}: {status} {code} after {:?}", asked.elapsed());
        assert!(allowed.contains(&code.as_str()), "{model} {data:?}: {status} {}", answer.json());
        assert!(answer.json()["error"].is_string() && status >= 500, "{}", answer.json());
        control(&mut wire);
        wait_ready(&mut wire, model);
    }
    for (model, input, data, length) in
        [("fill", "shape", [2, 3], 6), ("inside", "shape", [2, 3], 1), ("expand", "shape", [2, 3], 6)]
    {
        let answer = wire.send("POST", &infer_path(model), &[], &numbers(input, &data));
        let found = answer.json()["outputs"][0]["data"].as_array().map(Vec::len);
        assert_eq!(found, Some(length), "control: {model} answers again: {}", answer.json());
    }
    let after = Family::of(served.enclave.pid());
    assert_eq!((after.gate, after.nursery), (before.gate, before.nursery), "the same gate and nursery");
    assert_eq!(after.runners.len(), before.runners.len());
    println!(
        "{} of {} runners are the same",
        before.runners.iter().filter(|p| after.runners.contains(p)).count(),
        before.runners.len()
    );
}

/// A model that failed may be loading again.
fn wait_ready(wire: &mut Wire, model: &str) {
    let until = Instant::now() + Duration::from_secs(20);
    while wire.send("GET", &format!("/v2/models/{model}/ready"), &[], &[]).status != 200 {
        assert!(Instant::now() < until, "{model} does not come back");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_loop_without_end_is_cut_by_the_deadline() {
    let served = served();
    let mut wire = Wire::attested(&served.address);
    wire.patience(Duration::from_secs(30));
    let path = infer_path("counting");
    let answer = wire.send("POST", &path, &[], &numbers("n", &[1000]));
    assert_eq!(answered(&answer), Some(vec![1007]), "control: {}", answer.json());

    let address = served.address.clone();
    let beside = std::thread::spawn(move || {
        let (mut wire, begun, mut asked) = (Wire::attested(&address), Instant::now(), 0);
        while begun.elapsed() < Duration::from_secs(DEADLINE_S) {
            control(&mut wire);
            asked += 1;
        }
        asked
    });
    let asked = Instant::now();
    let answer = wire.send("POST", &path, &[], &numbers("n", &[i64::MAX]));
    let took = asked.elapsed();
    let others = beside.join().unwrap();
    println!("an endless loop: {:?} after {took:?}; {others} answers of another model meanwhile", answer.verdict());
    assert_eq!(answer.verdict(), (504, "RUN_TIMEOUT".to_owned()));
    assert!(took >= Duration::from_secs(DEADLINE_S) && took < Duration::from_secs(DEADLINE_S + 10), "{took:?}");
    assert!(others >= 10, "{others}");
    wait_ready(&mut wire, "counting");
    let answer = wire.send("POST", &path, &[], &numbers("n", &[1000]));
    assert_eq!(answered(&answer), Some(vec![1007]), "control: it answers again: {}", answer.json());
}

/// Whoever asks for an endless loop and leaves holds nothing up.
#[test]
fn a_caller_who_goes_away_takes_its_run_along() {
    let served = served();
    let path = infer_path("counting");
    let body = numbers("n", &[i64::MAX]);
    for _ in 0..4 {
        let mut wire = Wire::attested(&served.address);
        wire.raw(format!("POST {path} HTTP/1.1\r\nHost: e\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes());
        wire.raw(&body);
    }
    let mut wire = Wire::attested(&served.address);
    let asked = Instant::now();
    let answer = wire.send("POST", &path, &[], &numbers("n", &[10]));
    println!("the next one is answered after {:?}", asked.elapsed());
    assert_eq!(answered(&answer), Some(vec![17]), "{}", answer.json());
    assert!(asked.elapsed() < Duration::from_secs(DEADLINE_S), "four abandoned runs were waited for");
}

#[test]
fn nobody_outlives_the_launcher_or_the_gate() {
    let models = [("marked", onnx::marked(1000))];
    for victim in ["launcher", "gate"] {
        let mut served = Served::new(&models, |_| {});
        let family = Family::of(served.enclave.pid());
        assert_eq!(family.runners.len(), 1);
        if victim == "launcher" {
            served.enclave.kill();
            wait_gone(&family.all());
            continue;
        }
        vouchsafe_tests::processes::kill(family.gate);
        wait_gone(&family.all());
        // The launcher starts another one, with a nursery and runners of its own.
        served.enclave.wait_until("serving again", |e| e["state"] == "serving");
        let next = Family::of(served.enclave.pid());
        assert!(next.runners.len() == 1 && next.all().iter().all(|pid| !family.all().contains(pid)), "{next:?}");
        control(&mut Wire::attested(&served.address));
    }
}

/// The red team's models are models: used as meant, they answer.
#[test]
fn control_requests_that_ask_for_little_are_answered_by_every_model() {
    let served = served();
    let mut wire = Wire::attested(&served.address);
    control(&mut wire);
    let answer = wire.send("POST", &infer_path("tile"), &[], &numbers("repeats", &[2]));
    assert_eq!(answer.json()["outputs"][0]["data"], json!([1.0, 2.0, 1.0, 2.0]), "{}", answer.json());
}
