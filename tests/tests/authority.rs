//! What a running enclave may do, by the words of the kernel it runs on; and that it dies and comes back as promised.
//! Under simulation the host's root can still read its memory: SECURITY.md says so, and the verdict says SIMULATED.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

use std::{
    fs,
    io::Read,
    net::TcpStream,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use vouchsafe_attestation::lp::sha256;
use vouchsafe_tests::{
    Service, World, bin_dir,
    processes::{descendant, descendants, name, wait_gone, words},
    vouchsafe_json,
};

const ENCLAVE: &str = "vouchsafe-enclave";

/// An enclave of the test's own over the shared world's broker: launcher, address, the enclave's process.
fn launched(world: &World) -> (Service, String, u32) {
    launched_by(&[], |name| world.at(name))
}

/// The same; other words start the launcher, and its folders may lie elsewhere.
fn launched_by(starter: &[&str], at: impl Fn(&str) -> String) -> (Service, String, u32) {
    let program = bin_dir().join("vouchsafe-launch");
    let (config, models, simulated) = (at("operator/config.toml"), at("operator/models"), at("tester/root"));
    let mut line = starter.to_vec();
    line.push(program.to_str().unwrap());
    line.extend(["--backend", "sim-process", "--tee", "sev-snp", "--listen", "127.0.0.1:0", "--exit-with-stdin"]);
    line.extend(["--config", &config, "--models", &models, "--simulator-root", &simulated, "--json"]);
    let mut launcher = Service::start(line[0], &line[1..]);
    let address = launcher.wait_listening();
    launcher.wait_until("serving", |e| e["state"] == "serving");
    let enclave = descendant(launcher.pid(), ENCLAVE);
    (launcher, address, enclave)
}

fn root() -> bool {
    fs::read_to_string("/proc/self/status").unwrap().lines().any(|l| l.starts_with("Uid:\t0\t0"))
}

fn infer(world: &World, address: &str) -> i32 {
    let (policy, input) = (world.at("customer/policy.toml"), world.at("heldout.json"));
    vouchsafe_json(&["infer", address, "--policy", &policy, "--model", "breast-cancer", "--input", &input]).0
}

#[test]
fn the_enclave_is_what_was_measured_and_has_nothing_it_does_not_need() {
    let world = World::shared();
    // What the operator's shell left open must not reach the enclave.
    let left_open = world.at("host/left-open");
    let starter = ["/bin/sh", "-c", "exec 9>>\"$0\"; exec \"$@\"", &left_open];
    let (launcher, _, enclave) = launched_by(&starter, |name| world.at(name));
    assert!(Path::new(&left_open).exists(), "control: the shell did open it");
    let of = |file: &str| format!("/proc/{enclave}/{file}");
    assert_eq!(words(enclave), [ENCLAVE, "vouchsafe.tee=sev-snp", "vouchsafe.mode=simulation"]);
    let mut threads = 0;
    for thread in fs::read_dir(of("task")).unwrap().flatten() {
        // The thread that unsealed may end meanwhile.
        let Ok(status) = fs::read_to_string(thread.path().join("status")) else { continue };
        assert!(status.contains("\nNoNewPrivs:\t1\n"), "{status}");
        threads += 1;
    }
    assert!(threads > 0, "control: some thread was looked at");
    let limits = fs::read_to_string(of("limits")).unwrap();
    let core = limits.lines().find(|l| l.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).collect::<Vec<_>>(), ["0", "0", "bytes"]);
    if !root() {
        println!(
            "NOT RUN: environment, directory and descriptors: /proc of a process without dumps is closed to its user"
        );
        return;
    }
    assert_eq!(fs::read(of("environ")).unwrap(), b"");
    assert_eq!(fs::read_link(of("cwd")).unwrap(), Path::new("/"));
    let program = fs::read_link(of("exe")).unwrap();
    assert_eq!(program, Path::new("/memfd:vouchsafe-enclave (deleted)"));
    assert_eq!(sha256(&fs::read(of("exe")).unwrap()), sha256(&fs::read(bin_dir().join(ENCLAVE)).unwrap()));

    let mut opened = Vec::new();
    for entry in fs::read_dir(of("fd")).unwrap().flatten() {
        let number = entry.file_name().into_string().unwrap();
        let target = fs::read_link(entry.path()).unwrap().display().to_string();
        let about = fs::read_to_string(of(&format!("fdinfo/{number}"))).unwrap();
        let flags = about.lines().find_map(|l| l.strip_prefix("flags:")).unwrap().trim();
        let reads_only = u32::from_str_radix(flags, 8).unwrap() & 3 == 0;
        let path = target.starts_with('/') && target != "/dev/null";
        assert!(!path || reads_only, "descriptor {number} may write {target}");
        let known = !path || target == world.at("operator/models") || target.starts_with("/memfd:libonnxruntime");
        assert!(known, "descriptor {number} is {target}");
        opened.push(format!("{number} {target}"));
    }
    println!("{} descriptors: {opened:?}", opened.len());
    drop(launcher);
}

/// A process that may be dumped shows its environment and memory to every process of the same user.
#[test]
fn the_user_who_runs_the_enclave_cannot_look_into_it() {
    let world = World::shared();
    // As root everything can be looked at, so the launcher and whoever looks are an ordinary user.
    let ordinary = |command: &[&str]| -> Vec<String> {
        let drop = ["/usr/bin/setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
        drop.iter().filter(|_| root()).chain(command).map(|w| (*w).to_owned()).collect()
    };
    let look = |path: &str| {
        let line = ordinary(&["/usr/bin/head", "-c", "1", path]);
        Command::new(&line[0]).args(&line[1..]).stdin(Stdio::null()).output().unwrap()
    };
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    for name in ["operator", "tester"] {
        assert!(Command::new("cp").args(["-r", &world.at(name), &at(name)]).status().unwrap().success());
    }
    if root() {
        assert!(Command::new("chown").args(["-R", "65534"]).arg(dir.path()).status().unwrap().success());
        if !look(bin_dir().join("vouchsafe-launch").to_str().unwrap()).status.success() {
            println!("NOT RUN: looking into the enclave as an ordinary user: the programs are closed to such a user");
            return;
        }
    }
    let starter = ordinary(&[]);
    let (launcher, _, enclave) = launched_by(&starter.iter().map(String::as_str).collect::<Vec<_>>(), at);
    for file in ["environ", "mem", "maps", "auxv"] {
        let denied = look(&format!("/proc/{enclave}/{file}"));
        let text = String::from_utf8_lossy(&denied.stderr).into_owned();
        assert!(text.contains("Permission denied"), "{file}: {:?} {text}", denied.status);
    }
    let denied = look(&format!("/proc/{enclave}/cwd/etc/passwd"));
    assert!(String::from_utf8_lossy(&denied.stderr).contains("Permission denied"));
    // Control: the same user looks into the launcher, which holds no secret.
    for file in ["environ", "maps"] {
        let shown = look(&format!("/proc/{}/{file}", launcher.pid()));
        assert!(shown.status.success() && !shown.stdout.is_empty(), "{}", String::from_utf8_lossy(&shown.stderr));
    }
}

#[test]
fn the_public_log_says_how_much_of_the_fence_this_kernel_enforces() {
    let world = World::shared();
    let logs = fs::read_dir(world.at("logs")).unwrap().flatten().map(|e| fs::read_to_string(e.path()).unwrap());
    let log: String = logs.collect();
    let line = log.lines().find(|l| l.contains("\"event\":\"attested\"")).expect("the enclave's public log");
    if line.contains("\"landlock\":\"full\"") {
        println!("fence: full; what it holds back is tried in `cargo test -p vouchsafe-enclave authority`");
    } else {
        println!("NOT RUN: fence: this kernel enforces it only in part or not at all: {line}");
    }
}

/// Local addresses and ports on which a process listens.
fn listening(pid: u32) -> Vec<String> {
    let mut sockets = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
        let target = fs::read_link(entry.path()).map(|t| t.display().to_string()).unwrap_or_default();
        sockets.extend(target.strip_prefix("socket:[").and_then(|t| t.strip_suffix(']')).map(str::to_owned));
    }
    let mut found = Vec::new();
    for (table, state) in [("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")] {
        let text = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        for row in text.lines().skip(1).map(|l| l.split_whitespace().collect::<Vec<_>>()) {
            if row[3] == state && sockets.iter().any(|s| s == row[9]) {
                found.push(format!("{table} {}", row[1]));
            }
        }
    }
    found
}

#[test]
fn nothing_listens_beyond_the_loopback_interface() {
    if !root() {
        println!("NOT RUN: listening sockets: /proc of the enclave is closed to its user");
        return;
    }
    let world = World::shared();
    let (launcher, _, enclave) = launched(world);
    let simulator = descendant(launcher.pid(), "vouchsafe-simulator");
    let broker = descendants(std::process::id()).into_iter().find(|p| words(*p).contains(&"broker".to_owned()));
    for (pid, count) in [(enclave, 1), (launcher.pid(), 1), (simulator, 0), (broker.unwrap(), 1)] {
        let sockets = listening(pid);
        println!("{}: {sockets:?}", name(pid));
        assert_eq!(sockets.len(), count, "{}", name(pid));
        assert!(sockets.iter().all(|s| s.starts_with("tcp 0100007F:")), "{sockets:?}");
    }
}

#[test]
fn a_killed_enclave_is_restarted_with_growing_pauses_and_serves_again_at_the_same_address() {
    let world = World::shared();
    let (mut launcher, address, mut enclave) = launched(world);
    for pause in [500, 1000] {
        assert_eq!(infer(world, &address), 0, "before the crash");
        // A connection that is open when the enclave dies ends at once; it does not hang.
        let mut open = TcpStream::connect(&address).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        open.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        assert!(Command::new("kill").args(["-KILL", &enclave.to_string()]).status().unwrap().success());
        let restarting = launcher.wait_until("restarting", |e| e["event"] == "restarting");
        assert_eq!((&restarting["code"], &restarting["restart_in_ms"]), (&"ENCLAVE_SIGNAL_9".into(), &pause.into()));
        match open.read(&mut [0; 1]) {
            Ok(n) => assert_eq!(n, 0),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
        let begun = Instant::now();
        launcher.wait_until("serving again", |e| e["state"] == "serving");
        assert!(begun.elapsed() >= Duration::from_millis(pause - 50), "it came back too early");
        let next = descendant(launcher.pid(), ENCLAVE);
        assert_ne!(next, enclave);
        enclave = next;
    }
    assert_eq!(infer(world, &address), 0, "after two crashes");
}

#[test]
fn nobody_outlives_a_killed_launcher() {
    let (mut launcher, _, enclave) = launched(World::shared());
    let family = descendants(launcher.pid());
    assert!(family.contains(&enclave) && family.len() == 2, "{family:?}");
    launcher.kill();
    wait_gone(&family);
}

#[test]
fn nobody_outlives_a_killed_demo() {
    let dir = tempfile::tempdir().unwrap();
    let mut demo = Command::new(bin_dir().join("vouchsafe"))
        .args(["demo", "--json"])
        .env("TMPDIR", dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    let family = loop {
        let family = descendants(demo.id());
        let names: Vec<String> = family.iter().map(|p| name(*p)).collect();
        let all = [ENCLAVE, "vouchsafe-launch", "vouchsafe-simulator", "vouchsafe"];
        if all.iter().all(|wanted| names.iter().any(|n| n == wanted)) {
            break family;
        }
        assert!(Instant::now() < until && demo.try_wait().unwrap().is_none(), "{names:?}");
        std::thread::sleep(Duration::from_millis(5));
    };
    demo.kill().unwrap();
    demo.wait().unwrap();
    wait_gone(&family);
}

#[test]
fn a_port_in_use_is_said_at_once_by_everyone_who_listens() {
    let world = World::shared();
    let (policy, config, models) =
        (world.at("customer/policy.toml"), world.at("operator/config.toml"), world.at("operator/models"));
    let simulated = world.at("tester/root");
    let taken = world.address();
    let launch = [
        "launch",
        "--backend",
        "sim-process",
        "--config",
        &config,
        "--models",
        &models,
        "--simulator-root",
        &simulated,
        "--listen",
        taken,
    ];
    let proxy = ["proxy", "--upstream", taken, "--policy", &policy, "--listen", taken];
    for words in [&launch[..], &proxy[..]] {
        let begun = Instant::now();
        let (exit, json) = vouchsafe_json(words);
        assert_eq!((exit, json["code"].as_str()), (9, Some("PORT_IN_USE")), "{words:?}: {json}");
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
}
