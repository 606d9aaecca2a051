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

use rustix::fs::{SealFlags, fcntl_get_seals};
use vouchsafe_attestation::lp::sha256;
use vouchsafe_tests::{
    Service, World, bin_dir,
    processes::{
        Family, descendant, descendants, is_root, kill, name, open_files, status, thread_status, wait_gone, words,
    },
    vouchsafe_json,
};

const ENCLAVE: &str = "vouchsafe-enclave";

/// An enclave of the test's own over the shared world's broker: launcher, address, the enclave's processes.
fn launched(world: &World) -> (Service, String, Family) {
    launched_by(&[], |name| world.at(name))
}

/// The same; other words start the launcher, and its folders may lie elsewhere.
fn launched_by(starter: &[&str], at: impl Fn(&str) -> String) -> (Service, String, Family) {
    let program = bin_dir().join("vouchsafe-launch");
    let (config, models, simulated) = (at("operator/config.toml"), at("operator/models"), at("tester/root"));
    let mut line = starter.to_vec();
    line.push(program.to_str().unwrap());
    line.extend(["--backend", "sim-process", "--tee", "sev-snp", "--listen", "127.0.0.1:0", "--exit-with-stdin"]);
    line.extend(["--config", &config, "--models", &models, "--simulator-root", &simulated, "--json"]);
    let mut launcher = Service::start(line[0], &line[1..]);
    let address = launcher.wait_listening();
    launcher.wait_until("serving", |e| e["state"] == "serving");
    let family = Family::of(launcher.pid());
    assert_eq!(family.runners.len(), 1, "the one model's: {family:?}");
    assert_eq!(descendant(launcher.pid(), ENCLAVE), family.gate, "the topmost of that name");
    (launcher, address, family)
}

/// What a process of an enclave is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Gate,
    Nursery,
    Runner,
}

impl Part {
    /// The parts of an enclave with one model.
    fn all(family: &Family) -> [(Self, u32); 3] {
        [(Self::Gate, family.gate), (Self::Nursery, family.nursery), (Self::Runner, family.runners[0])]
    }
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
    let (launcher, _, family) = launched_by(&starter, |name| world.at(name));
    assert!(Path::new(&left_open).exists(), "control: the shell did open it");
    for (part, pid) in Part::all(&family) {
        assert_eq!(words(pid), [ENCLAVE, "vouchsafe.tee=sev-snp", "vouchsafe.mode=simulation"], "{part:?}");
        let privileges = thread_status(pid, "NoNewPrivs");
        assert!(!privileges.is_empty() && privileges.iter().all(|new| new == "1"), "{part:?}: {privileges:?}");
        assert_eq!(limit(pid, "Max core file size"), ["0", "0"], "{part:?}");
    }
    // Who forks has one thread; what it gave up a runner does not have either.
    assert_eq!(thread_status(family.nursery, "Seccomp"), ["2"], "one thread, with a filter");
    let filters =
        |pid: u32| thread_status(pid, "Seccomp_filters").iter().map(|n| n.parse().unwrap()).collect::<Vec<u32>>();
    let (nursery, runner) = (filters(family.nursery)[0], filters(family.runners[0]));
    assert!(nursery >= 1 && runner.len() >= 2, "{nursery} {runner:?}");
    assert!(thread_status(family.runners[0], "Seccomp").iter().all(|mode| mode == "2"));
    assert!(runner.iter().all(|count| *count >= nursery + 3), "two until the model is loaded, one after: {runner:?}");
    let right = |pid: u32, set: &str| u64::from_str_radix(&status(pid, set), 16).unwrap();
    for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
        assert_eq!(right(family.runners[0], set), 0, "{set} of the runner");
        // KILL, SETGID, SETUID, SYS_CHROOT, SYS_ADMIN: what it raises walls with and ends runners by.
        assert_eq!(
            right(family.nursery, set) & !(1 << 5 | 1 << 6 | 1 << 7 | 1 << 18 | 1 << 21),
            0,
            "{set} of the nursery"
        );
    }
    let nothing =
        ["Max file size", "Max locked memory", "Max msgqueue size", "Max nice priority", "Max realtime priority"];
    for name in nothing {
        assert_eq!(limit(family.runners[0], name), ["0", "0"], "{name}");
    }
    assert_eq!(limit(family.runners[0], "Max open files"), ["512", "512"]);
    for name in ["Max address space", "Max data size"] {
        assert!(limit(family.runners[0], name).iter().all(|value| value.parse::<u64>().is_ok()), "{name}");
    }
    if !is_root() {
        println!(
            "NOT RUN: environment, directory and descriptors: /proc of a process without dumps is closed to its user"
        );
        return;
    }
    for (part, pid) in Part::all(&family) {
        let of = |file: &str| format!("/proc/{pid}/{file}");
        assert_eq!(fs::read(of("environ")).unwrap(), b"", "{part:?}");
        let (directory, root) = (fs::read_link(of("cwd")).unwrap(), fs::read_link(of("root")).unwrap());
        if part == Part::Runner {
            assert_eq!(directory, root, "the root of a runner");
            assert!(root != Path::new("/"), "a runner sees the root of the system");
            let network = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
            assert!(network(pid) != network(family.nursery), "a runner has the network of the system");
        } else {
            assert_eq!((directory.as_path(), root.as_path()), (Path::new("/"), Path::new("/")), "{part:?}");
        }
        let program = fs::read_link(of("exe")).unwrap();
        assert_eq!(program, Path::new("/memfd:vouchsafe-enclave (deleted)"));
        assert_eq!(sha256(&fs::read(of("exe")).unwrap()), sha256(&fs::read(bin_dir().join(ENCLAVE)).unwrap()));
        descriptors(world, part, pid);
    }
    let user = status(family.runners[0], "Uid");
    assert!(!user.split(' ').any(|id| id == "0"), "a user of its own: {user}");
    drop(launcher);
}

/// A limit of a process: the soft one and the hard one.
fn limit(pid: u32, name: &str) -> [String; 2] {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}"));
    let mut words = line.split_whitespace().map(str::to_owned);
    [words.next().unwrap(), words.next().unwrap()]
}

/// What a process of the enclave may have open.
fn descriptors(world: &World, part: Part, pid: u32) {
    let opened = open_files(pid);
    let count = |kind: &str| opened.iter().filter(|(_, target)| target.starts_with(kind)).count();
    println!("{part:?}: {} descriptors: {opened:?}", opened.len());
    for (number, target) in &opened {
        let about = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).unwrap();
        let flags = about.lines().find_map(|l| l.strip_prefix("flags:")).unwrap().trim();
        let reads_only = u32::from_str_radix(flags, 8).unwrap() & 3 == 0;
        let path = target.starts_with('/') && target != "/dev/null";
        let library = target.starts_with("/memfd:libonnxruntime");
        // The launcher's own descriptor, by which nobody can write any more.
        let seals = || fcntl_get_seals(fs::File::open(format!("/proc/{pid}/fd/{number}")).unwrap()).unwrap();
        let cannot_write = reads_only || library && seals().contains(SealFlags::WRITE | SealFlags::SEAL);
        assert!(!path || cannot_write, "{part:?}: descriptor {number} may write {target}");
        let known = !path
            || match part {
                Part::Gate => *target == world.at("operator/models") || library,
                Part::Nursery => library,
                Part::Runner => false,
            };
        assert!(known, "{part:?}: descriptor {number} is {target}");
    }
    // The standard ones lead nowhere; the line to the gate, the library, and a hold of each runner; the sockets of jobs and of stops.
    let expected = match part {
        Part::Gate => return assert!(count("socket:") >= 1, "control: the gate's are seen"),
        Part::Nursery => [3, 1, 1, 1],
        Part::Runner => [3, 2, 0, 0],
    };
    let holds = opened.len() - count("/dev/null") - count("socket:") - count("/memfd:");
    assert_eq!([count("/dev/null"), count("socket:"), count("/memfd:"), holds], expected, "{part:?}: {opened:?}");
    assert_eq!(count("pidfd:") + count("anon_inode:[pidfd]"), holds, "{part:?}: {opened:?}");
}

/// A process that may be dumped shows its environment and memory to every process of the same user.
#[test]
fn the_user_who_runs_the_enclave_cannot_look_into_it() {
    let world = World::shared();
    // As root everything can be looked at, so the launcher and whoever looks are an ordinary user.
    let ordinary = |command: &[&str]| -> Vec<String> {
        let drop = ["/usr/bin/setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
        drop.iter().filter(|_| is_root()).chain(command).map(|w| (*w).to_owned()).collect()
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
    if is_root() {
        assert!(Command::new("chown").args(["-R", "65534"]).arg(dir.path()).status().unwrap().success());
        if !look(bin_dir().join("vouchsafe-launch").to_str().unwrap()).status.success() {
            println!("NOT RUN: looking into the enclave as an ordinary user: the programs are closed to such a user");
            return;
        }
    }
    let starter = ordinary(&[]);
    let (launcher, _, family) = launched_by(&starter.iter().map(String::as_str).collect::<Vec<_>>(), at);
    for (part, pid) in Part::all(&family) {
        for file in ["environ", "mem", "maps", "auxv", "cwd/etc/passwd"] {
            let denied = look(&format!("/proc/{pid}/{file}"));
            let text = String::from_utf8_lossy(&denied.stderr).into_owned();
            assert!(text.contains("Permission denied"), "{part:?} {file}: {:?} {text}", denied.status);
        }
    }
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
    // A socket stays in the network where it was made, whatever network its holder is in by now.
    let networks = [pid.to_string(), "self".to_owned()];
    let tables = [("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")];
    for ((table, state), network) in
        tables.iter().flat_map(|table| networks.iter().map(move |network| (table, network)))
    {
        let text = fs::read_to_string(format!("/proc/{network}/net/{table}")).unwrap_or_default();
        for row in text.lines().skip(1).map(|l| l.split_whitespace().collect::<Vec<_>>()) {
            if row[3] == *state && sockets.iter().any(|s| s == row[9]) {
                found.push(format!("{table} {}", row[1]));
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

#[test]
fn nothing_listens_beyond_the_loopback_interface() {
    if !is_root() {
        println!("NOT RUN: listening sockets: /proc of the enclave is closed to its user");
        return;
    }
    let world = World::shared();
    let (launcher, _, family) = launched(world);
    let simulator = descendant(launcher.pid(), "vouchsafe-simulator");
    let broker = descendants(std::process::id()).into_iter().find(|p| words(*p).contains(&"broker".to_owned()));
    let inside = [(family.gate, 1), (family.nursery, 0), (family.runners[0], 0)];
    for (pid, count) in [(launcher.pid(), 1), (simulator, 0), (broker.unwrap(), 1)].into_iter().chain(inside) {
        let sockets = listening(pid);
        println!("{}: {sockets:?}", name(pid));
        assert_eq!(sockets.len(), count, "{}", name(pid));
        assert!(sockets.iter().all(|s| s.starts_with("tcp 0100007F:")), "{sockets:?}");
    }
}

#[test]
fn a_killed_enclave_is_restarted_with_growing_pauses_and_serves_again_at_the_same_address() {
    let world = World::shared();
    let (mut launcher, address, mut family) = launched(world);
    for pause in [500, 1000] {
        assert_eq!(infer(world, &address), 0, "before the crash");
        // A connection that is open when the enclave dies ends at once; it does not hang.
        let mut open = TcpStream::connect(&address).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        open.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        kill(family.gate);
        let restarting = launcher.wait_until("restarting", |e| e["event"] == "restarting");
        assert_eq!((&restarting["code"], &restarting["restart_in_ms"]), (&"ENCLAVE_SIGNAL_9".into(), &pause.into()));
        match open.read(&mut [0; 1]) {
            Ok(n) => assert_eq!(n, 0),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
        let begun = Instant::now();
        launcher.wait_until("serving again", |e| e["state"] == "serving");
        assert!(begun.elapsed() >= Duration::from_millis(pause - 50), "it came back too early");
        wait_gone(&family.all());
        let next = Family::of(launcher.pid());
        assert!(next.all().iter().all(|pid| !family.all().contains(pid)), "{family:?} {next:?}");
        family = next;
    }
    assert_eq!(infer(world, &address), 0, "after two crashes");
}

#[test]
fn nobody_outlives_a_killed_launcher() {
    let (mut launcher, _, family) = launched(World::shared());
    let mut all = descendants(launcher.pid());
    all.sort_unstable();
    let mut known = [family.all(), vec![descendant(launcher.pid(), "vouchsafe-simulator")]].concat();
    known.sort_unstable();
    assert_eq!(all, known, "gate, nursery, runner and simulator");
    launcher.kill();
    wait_gone(&all);
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
    let until = Instant::now() + Duration::from_secs(180);
    let family = loop {
        let family = descendants(demo.id());
        let names: Vec<String> = family.iter().map(|p| name(*p)).collect();
        let all = [ENCLAVE, "vouchsafe-launch", "vouchsafe-simulator", "vouchsafe"];
        // Gate, nursery and a runner.
        let enclaves = names.iter().filter(|n| *n == ENCLAVE).count();
        if all.iter().all(|wanted| names.iter().any(|n| n == wanted)) && enclaves >= 3 {
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
