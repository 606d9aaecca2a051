//! The broker's promise about its ledger, seen from outside: no key and no refusal leaves before its line is on the disk.
//! It shows the order of system calls; that a disk keeps what it said it kept is the disk's promise.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use vouchsafe_tests::{
    Service, World, bin_dir,
    trace::{Call, Trace, strace},
    vouchsafe,
};

/// A broker under strace. strace passes SIGTERM on to nobody, so the broker ends with its standard input.
struct Traced {
    child: Child,
    trace: PathBuf,
}

impl Traced {
    fn serve(state: &Path, trace: PathBuf) -> Option<Self> {
        let mut command = strace("durable ledger", &trace)?;
        command.arg(bin_dir().join("vouchsafe")).args(["broker", "serve"]).arg(state);
        command.args(["--exit-with-stdin", "--json"]).stdin(Stdio::piped()).stdout(Stdio::null());
        let child = command.stderr(Stdio::null()).spawn().unwrap();
        let until = Instant::now() + Duration::from_secs(30);
        while !state.join("admin.sock").exists() {
            assert!(Instant::now() < until, "the broker does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(Self { child, trace })
    }

    fn end(mut self) -> String {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
        fs::read_to_string(self.trace).unwrap()
    }
}

/// One decision of the broker that left it.
#[derive(Debug, PartialEq, Eq)]
struct Decision {
    event: &'static str,
    /// Bytes of the reply on the wire.
    reply: usize,
    /// The durable ledger line of a grant names the lease, that of a refusal the ticket.
    line: u64,
}

/// Follows every decision from the peer's request to the broker's reply; objects to any other order.
fn decisions(trace: &Trace) -> Result<Vec<Decision>, String> {
    let data = |call: &Call| -> Vec<u8> { call.data().into_iter().flat_map(|t| t.bytes).collect() };
    let is = |call: &Call, names: &[&str], place: &str| {
        names.contains(&call.name.as_str()) && call.target().is_some_and(|t| t.contains(place))
    };
    let replies = ["write", "writev", "sendto", "sendmsg"];
    let mut found = Vec::new();
    for (at, line) in trace.calls.iter().enumerate().filter(|(_, c)| is(c, &["pwrite64"], "/ledger.jsonl")) {
        let text = String::from_utf8_lossy(&data(line)).into_owned();
        let Some(event) = ["granted", "refused"].into_iter().find(|e| text.contains(&format!("\"event\":\"{e}\"")))
        else {
            continue;
        };
        // The connection of this decision is the one that was read last before its line.
        let read = |c: &&Call| {
            is(c, &["read", "readv", "recvfrom"], "TCP:[") && c.ended < line.began && c.returned() > Some(0)
        };
        let request = trace.calls.iter().filter(read).max_by_key(|c| c.ended).ok_or("a decision without a request")?;
        let peer = request.target().ok_or("a connection without a name")?;
        let synced = trace.calls[at..]
            .iter()
            .find(|c| is(c, &["fdatasync", "fsync"], "/ledger.jsonl") && c.returned() == Some(0))
            .ok_or(format!("{event}: its line never became durable"))?;
        if synced.began < line.ended {
            return Err(format!("{event}: made durable before it was written"));
        }
        let next = trace.calls[at..].iter().find(|c| is(c, &["pwrite64"], "/ledger.jsonl") && c.began > line.ended);
        if next.is_some_and(|next| next.began < synced.ended) {
            return Err(format!("{event}: another line before this one was durable"));
        }
        let sends = || trace.calls.iter().filter(|c| is(c, &replies, &peer) && c.began > request.ended);
        if sends().any(|c| c.began < synced.ended) {
            return Err(format!("{event}: the peer was answered before the line was durable"));
        }
        let reply = sends().find(|c| c.began > synced.ended).ok_or(format!("{event}: no reply"))?;
        let line = text.split_once("\"n\":").and_then(|(_, n)| n.split(',').next()?.parse().ok());
        found.push(Decision {
            event,
            reply: reply.returned().and_then(|n| usize::try_from(n).ok()).unwrap_or(0),
            line: line.ok_or("a line without a number")?,
        });
    }
    Ok(found)
}

/// The trace of a broker that granted twice and refused once; played once.
fn played() -> Option<String> {
    let dir = World::prepare();
    let at = |name: &str| dir.join(name).display().to_string();
    let broker = Traced::serve(&dir.join("broker/state"), dir.join("trace"))?;
    let launch = |until: &str| {
        let (config, models, root) = (at("operator/config.toml"), at("operator/models"), at("tester/root"));
        let mut enclave = Service::start(
            "vouchsafe-launch",
            &[
                "--backend",
                "sim-process",
                "--tee",
                "sev-snp",
                "--config",
                &config,
                "--models",
                &models,
                "--listen",
                "127.0.0.1:0",
                "--simulator-root",
                &root,
                "--exit-with-stdin",
                "--json",
            ],
        );
        enclave.wait_until(until, |e| e["state"] == until || e["fatal"]["code"] == until);
    };
    launch("serving");
    launch("serving");
    let revoked = vouchsafe(&["broker", "revoke", "model", &at("broker/state"), "breast-cancer", "--json"]);
    assert!(revoked.status.success(), "{}", String::from_utf8_lossy(&revoked.stdout));
    launch("KEY_REFUSED");
    let trace = broker.end();
    fs::remove_dir_all(dir.parent().unwrap()).unwrap();
    Some(trace)
}

/// The same trace with one call at another time: right after the line `after`.
fn moved(text: &str, call: &Call, after: usize) -> Trace {
    let mut trace = Trace::parse(text);
    for other in &mut trace.calls {
        let own = other.began == call.began;
        other.began = if own { after * 4 + 1 } else { other.began * 4 };
        other.ended = if own { after * 4 + 2 } else { other.ended * 4 };
    }
    trace.calls.sort_by_key(|c| c.began);
    trace
}

#[test]
fn a_line_is_on_the_disk_before_the_reply_that_it_records_leaves() {
    let Some(text) = played() else { return };
    let trace = Trace::parse(&text);
    let seen = decisions(&trace).unwrap();
    println!("{seen:#?}");
    let count = |event: &str| seen.iter().filter(|d| d.event == event).count();
    assert!(count("granted") == 2 && count("refused") >= 1, "{seen:?}");
    // A grant is a signed bundle inside a JWE: no acknowledgement or alert is that long.
    assert!(seen.iter().filter(|d| d.event == "granted").all(|d| d.reply > 1000), "{seen:?}");

    // Controls: the same trace with one call at another time.
    let grants = |c: &Call| c.texts().iter().any(|t| String::from_utf8_lossy(&t.bytes).contains("\"granted\""));
    let granted = trace.calls.iter().position(|c| c.name == "pwrite64" && grants(c)).unwrap();
    let line = &trace.calls[granted];
    let sync = trace.calls[granted..].iter().find(|c| c.name == "fdatasync").unwrap();
    let replies = |c: &&Call| c.name == "writev" || c.name == "write" || c.name == "sendto";
    let mut later = trace.calls.iter().filter(|c| c.began > sync.ended).filter(replies);
    let reply = later.find(|c| c.target().is_some_and(|t| t.starts_with("TCP:["))).unwrap();
    let objection = |trace: &Trace| decisions(trace).expect_err("an objection");
    let (answered, never) = ("the peer was answered before", "never became durable");
    assert!(objection(&moved(&text, sync, reply.ended)).contains(answered), "fdatasync after the reply");
    assert!(objection(&moved(&text, reply, line.ended)).contains(answered), "the reply between line and fdatasync");
    assert!(objection(&moved(&text, reply, line.began - 1)).contains(answered), "the reply before its line");
    println!("fdatasync before its line: {}", objection(&moved(&text, sync, line.began - 1)));
    let without: Vec<_> = text.lines().filter(|l| !l.contains("fdatasync")).collect();
    assert!(objection(&Trace::parse(&without.join("\n"))).contains(never), "no fdatasync at all");
    let mut failing = Trace::parse(&text);
    for call in failing.calls.iter_mut().filter(|c| c.name == "fdatasync") {
        "-1 EIO (Input/output error)".clone_into(&mut call.result);
    }
    assert!(objection(&failing).contains(never), "an fdatasync that fails");
    assert_eq!(decisions(&moved(&text, sync, sync.began)).unwrap(), seen, "moved to where it was");
}
