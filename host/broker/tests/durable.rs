//! The ledger against kill -9, a full disk and a reordered write: no reply leaves without its durable line.
//! `kill -9` alone proves little (the page cache survives it), so the order of system calls is read from a trace too.

#![allow(clippy::unwrap_used, reason = "test helpers")]

mod support;

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
};

use support::{Client, make, start};
use vouchsafe_attestation::UnixTime;
use vouchsafe_broker::{
    HeadKey, admin,
    event::Event,
    ledger::{self, Ledger},
};

/// Names the work of a child process; unset in the test itself.
const CHILD: &str = "VOUCHSAFE_TEST_CHILD";

/// One test at a time: a child that another test forks has this one's ledger, and its lock, until it executes its program.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn child(test: &str, dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(CHILD, dir).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

#[test]
fn every_line_that_was_acknowledged_survives_kill_9() {
    let (at, key) = (UnixTime(1_795_254_000), HeadKey::derive(&[7; 32]).unwrap());
    if let Some(dir) = std::env::var_os(CHILD) {
        let mut ledger = Ledger::open(&Path::new(&dir).join("ledger.jsonl"), &key, at, &mut |_| {}).unwrap();
        let mut out = std::io::stdout();
        loop {
            let entry = ledger.append(Event::FloorRaised { model: "m".repeat(60), sequence: 1 }, at).unwrap();
            writeln!(out, "appended {}", entry.line.n).unwrap();
        }
    }
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.jsonl");
    drop(Ledger::create(&path, &key).unwrap());
    let mut acknowledged = 0;
    for round in 0..6 {
        let mut process = child("every_line_that_was_acknowledged_survives_kill_9", dir.path()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut read = 0;
        while read < 20 * (round + 1) {
            if let Some(n) = lines.next().unwrap().unwrap().strip_prefix("appended ") {
                acknowledged = n.parse().unwrap();
                read += 1;
            }
        }
        process.kill().unwrap();
        process.wait().unwrap();
        let mut replayed = 0;
        drop(Ledger::open(&path, &key, at, &mut |_| replayed += 1).unwrap());
        assert!(replayed >= acknowledged, "round {round}: {replayed} lines, {acknowledged} acknowledged");
        assert_eq!(ledger::verify(&path, &key).unwrap().torn_bytes, 0);
    }
    assert!(acknowledged >= 120);
}

#[test]
fn on_a_full_disk_there_is_no_reply_without_a_line() {
    if let Some(mount) = std::env::var_os(CHILD) {
        full_disk(Path::new(&mount));
        println!("FULL DISK DONE");
        return;
    }
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let script = r#"mount -t tmpfs -o size=64k,mode=700 tmpfs "$0" && exec "$@""#;
    let exe = std::env::current_exe().unwrap();
    let output = Command::new("unshare")
        .args(["-rm", "sh", "-c", script])
        .arg(dir.path())
        .arg(exe)
        .args(["--exact", "on_a_full_disk_there_is_no_reply_without_a_line", "--nocapture"])
        .env(CHILD, dir.path())
        .output();
    let output = match output {
        Ok(output) => output,
        Err(_) => return println!("NOT RUN: full disk: no unshare here"),
    };
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if err.contains("unshare:") || err.contains("mount:") {
        return println!("NOT RUN: full disk: user namespaces are not allowed here");
    }
    assert!(output.status.success() && out.contains("FULL DISK DONE"), "{out}\n{err}");
    assert!(err.contains(r#"{"event":"unavailable","code":"LEDGER_UNWRITABLE"}"#), "{err}");
}

/// Runs on a disk of 64 KiB.
fn full_disk(mount: &Path) {
    let (state, _) = make(mount, "");
    let broker = start(&state);
    let refused = || broker.client().send("POST", "/kbs/v0/auth", None, b"x");
    assert_eq!(broker.code(&refused()), "RCAR_MESSAGE", "control: there is room");
    let filler = mount.join("filler");
    let fill = || {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&filler).unwrap();
        while file.write_all(&[0; 256]).is_ok() {}
    };
    fill();
    // What is left of the ledger's last page takes a few lines; then there is none left.
    let answers: Vec<_> = (0..40).map(|_| refused()).collect();
    let full = answers.iter().position(|a| a.status == 503).expect("the disk is full at some point");
    assert!(answers[full..].iter().all(|a| a.status == 503 && !a.body.windows(6).any(|w| w == b"ticket")));
    for answer in &answers[..full] {
        assert_eq!(broker.code(answer), "RCAR_MESSAGE");
    }
    assert_eq!(admin::revoke_platform(&state, &"0a".repeat(64)).unwrap_err().code(), "LEDGER_UNWRITABLE");
    assert_eq!(admin::ledger_verify(&state).unwrap().torn_bytes, 0);
    std::fs::remove_file(&filler).unwrap();
    assert_eq!(broker.code(&refused()), "RCAR_MESSAGE", "control: there is room again");
    let lines = admin::ledger_verify(&state).unwrap().head.n;
    broker.stop();
    fill();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut outcome = "OK";
    for _ in 0..40 {
        // Each start writes a line; on a full disk there is no start.
        if let Err(error) = runtime.block_on(vouchsafe_broker::serve(&state, |_| {}, std::future::ready(()))) {
            outcome = error.code();
            break;
        }
    }
    assert_eq!(outcome, "LEDGER_UNWRITABLE");
    assert!(admin::ledger_verify(&state).unwrap().head.n >= lines);
}

#[test]
fn the_line_is_synced_before_the_reply_is_written() {
    if let Some(dir) = std::env::var_os(CHILD) {
        let (state, _) = make(Path::new(&dir), "");
        let broker = start(&state);
        println!("listening {}", broker.address);
        // Until the parent closes the pipe.
        let _ = std::io::stdin().read_line(&mut String::new());
        return;
    }
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace");
    let traced = Command::new("strace")
        .args(["-f", "-s", "600", "-e", "trace=pwrite64,fdatasync,fsync,rename,sendto,sendmsg,write,writev", "-o"])
        .arg(&trace)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "the_line_is_synced_before_the_reply_is_written", "--nocapture"])
        .env(CHILD, dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut process) = traced else { return println!("NOT RUN: order of calls: no strace here") };
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let address = lines.find_map(|l| l.ok()?.strip_prefix("listening ").map(str::to_owned));
    let Some(address) = address else { return println!("NOT RUN: order of calls: tracing is not allowed here") };
    let answer = Client::open(address.parse().unwrap()).send("POST", "/kbs/v0/auth", None, b"x");
    assert_eq!(support::code(&dir.path().join("state"), &answer), "RCAR_MESSAGE");
    drop(process.stdin.take());
    process.wait().unwrap();

    let text = std::fs::read_to_string(&trace).unwrap();
    let calls: Vec<&str> = text.lines().collect();
    let written = calls.iter().position(|c| c.contains("pwrite64(") && c.contains(r#"\"event\":\"refused\""#)).unwrap();
    let synced =
        calls[written..].iter().position(|c| c.contains("fdatasync") && c.trim_end().ends_with("= 0")).unwrap();
    let synced = written + synced;
    let head = calls[synced..].iter().position(|c| c.contains("rename(") && c.contains("/head\"")).unwrap();
    let head = synced + head;
    let head = head + calls[head..].iter().position(|c| c.contains("fsync") && c.trim_end().ends_with("= 0")).unwrap();
    // The reply's bytes on the TLS socket: everything but the log on descriptors 1 and 2.
    let reply = |c: &&str| {
        ["sendto(", "sendmsg(", "writev(", "write("].iter().any(|s| c.contains(s))
            && !c.contains("write(1,")
            && !c.contains("write(2,")
            && !c.contains("\\1\\0\\0\\0\\0\\0\\0\\0\", 8)")
    };
    assert!(!calls[written..head].iter().any(reply), "a reply before line and head are durable");
    assert!(calls[head..].iter().any(reply), "and the reply after them");
}
