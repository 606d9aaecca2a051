//! Turns the life of a runner, from its first message to its end, into facts that the gate can see: who it is, and how it ended.
//! It does not measure time: what must happen is waited for, and never happening is the failure.

use std::fs::{self, File};
use std::io::{IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::fs::{Mode, fchmod};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
use vouchsafe_runner::walls::{self, Root};
use vouchsafe_runner::{Ending, Hatched, Inherited, Nursery, RunnerError, WallLimits};
use vouchsafe_system::Forked;

use crate::case::{LIMITS, say, wait};
use crate::raw::{abort, poke};

/// All facts.
pub fn run(ordinary: bool) {
    a_gate_that_dies_takes_all_with_it();
    let nursery = Nursery::start_with(None, obey).unwrap();
    facts(&nursery, ordinary);
    ends(&nursery);
    if !ordinary {
        a_gate_without_rights_ends_a_runner(&nursery);
    }
    works(&nursery);
    ignores(&nursery);
    many(&nursery);
    errors(&nursery);
    a_nursery_that_dies_takes_runners_with_it(&nursery);
}

/// The program of these runners: one letter is one order.
fn obey(mut own: Inherited) -> u8 {
    let mut order = [0];
    loop {
        if own.jobs.read_exact(&mut order).is_err() {
            return 5;
        }
        let answer = match order[0] {
            b'e' => return 3,
            b'a' => abort(),
            b's' => poke(8),
            b'p' => std::panic::resume_unwind(Box::new(())),
            b'l' => loop {
                std::hint::spin_loop();
            },
            b'm' => u8::from(memory(&own)),
            b'w' => u8::from(compute(&mut own)),
            b'o' => u8::from(pipe(&own).is_some()),
            b'c' => u8::from(walls::close_files().is_ok()),
            echoed => echoed,
        };
        if own.jobs.write_all(&[answer]).is_err() {
            return 5;
        }
    }
}

/// It is the gate's memory: both see what the other wrote.
fn memory(own: &Inherited) -> bool {
    own.memory.borrow(5..11).is_some_and(|bytes| bytes == b"tensor") && own.memory.write(100, b"answer")
}

/// What a model needs: memory, threads, time, randomness.
fn compute(own: &mut Inherited) -> bool {
    let threads: Vec<_> = (0..2)
        .map(|_| {
            std::thread::spawn(|| {
                std::thread::sleep(Duration::from_millis(1));
                vec![1_u64; 1 << 20].iter().sum::<u64>()
            })
        })
        .collect();
    let sums: Vec<_> = threads.into_iter().map(|thread| thread.join().ok()).collect();
    let map: std::collections::HashMap<u8, u8> = (0..100).map(|n| (n, n)).collect();
    let mut byte = [0];
    sums == [Some(1 << 20); 2] && map.len() == 100 && own.stops.read_exact(&mut byte).is_ok() && byte == *b"7"
}

/// Takes the end of a pipe, opens it once more by its name, and reads it.
fn pipe(own: &Inherited) -> Option<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(&own.jobs, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC).ok()?;
    let fd = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut some) => some.next(),
        _ => None,
    })?;
    let name = own.raised.path_of(&fd);
    let opened = File::open(name);
    if opened.is_err() && !own.raised.opens_own() {
        return Some(());
    }
    drop(fd);
    let mut text = String::new();
    opened.ok()?.read_to_string(&mut text).ok()?;
    (text == "model").then_some(())
}

fn tell(hatched: &Hatched, order: u8) -> Option<u8> {
    let mut jobs = &hatched.jobs;
    jobs.write_all(&[order]).unwrap();
    let mut byte = [0];
    jobs.read_exact(&mut byte).ok().map(|()| byte[0])
}

fn ending(hatched: &Hatched) -> Ending {
    wait(&hatched.pidfd);
    hatched.life.ending().unwrap()
}

fn ends(nursery: &Nursery) {
    let mut numbers = Vec::new();
    for (order, expected) in [
        (b'e', Ending::Exited(3)),
        (b'a', Ending::Signalled(6)),
        (b's', Ending::Signalled(11)),
        (b'p', Ending::Exited(71)),
    ] {
        let hatched = nursery.hatch(LIMITS).unwrap();
        let answer = tell(&hatched, order);
        let ending = ending(&hatched);
        say(
            &format!("an end by {}", char::from(order)),
            &format!("{ending:?}"),
            answer.is_none() && ending == expected,
        );
        numbers.push(hatched.number);
    }
    say("numbers", &format!("{numbers:?}"), numbers.is_sorted_by(|a, b| a < b));
    let hatched = nursery.hatch(LIMITS).unwrap();
    (&hatched.jobs).write_all(b"l").unwrap();
    let before = hatched.life.ending().unwrap();
    hatched.life.kill().unwrap();
    let after = ending(&hatched);
    say(
        "an endless loop",
        &format!("{before:?} {after:?}"),
        before == Ending::Running && after == Ending::Signalled(9),
    );
    say("a dead one is killed", "again", hatched.life.kill().is_ok());
    let Hatched { jobs, pidfd, life, .. } = nursery.hatch(LIMITS).unwrap();
    drop(jobs);
    wait(&pidfd);
    say("a gate that lets go", "", life.ending() == Ok(Ending::Exited(5)));
}

/// A machine's first process gives up the right to signal other users' processes.
fn a_gate_without_rights_ends_a_runner(nursery: &Nursery) {
    let hatched = nursery.hatch(LIMITS).unwrap();
    let sets = capabilities(None).unwrap();
    set_capabilities(None, CapabilitySets { effective: CapabilitySet::empty(), ..sets }).unwrap();
    let refused = pidfd_send_signal(&hatched.pidfd, Signal::KILL) == Err(Errno::PERM);
    let killed = hatched.life.kill();
    let ending = ending(&hatched);
    set_capabilities(None, sets).unwrap();
    say(
        "a gate without rights",
        &format!("{refused} {ending:?}"),
        refused && killed.is_ok() && ending == Ending::Signalled(9),
    );
}

fn works(nursery: &Nursery) {
    let hatched = nursery.hatch(LIMITS).unwrap();
    assert!(hatched.memory.write(5, b"tensor"));
    let told = tell(&hatched, b'm');
    say("shared memory", "", told == Some(1) && hatched.memory.read(100, 6).unwrap() == b"answer");
    (&hatched.stops).write_all(b"7").unwrap();
    say("threads, time and randomness", "", tell(&hatched, b'w') == Some(1));
    let (from, mut to) = std::io::pipe().unwrap();
    fchmod(&from, Mode::RUSR | Mode::ROTH).unwrap();
    to.write_all(b"model").unwrap();
    drop(to);
    (&hatched.jobs).write_all(b"o").unwrap();
    send(&hatched.jobs, &from.into());
    let mut byte = [0];
    (&hatched.jobs).read_exact(&mut byte).unwrap();
    say("its own pipe by name", "", byte == [1]);
    say("the second filter", "", tell(&hatched, b'c') == Some(1) && tell(&hatched, b'm') == Some(1));
    say("it goes on", "", tell(&hatched, b'x') == Some(b'x'));
}

fn send(jobs: &UnixStream, fd: &OwnedFd) {
    let fds = [fd.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    sendmsg(jobs, &[IoSlice::new(b"!")], &mut control, SendFlags::empty()).unwrap();
}

/// The process behind a descriptor.
fn pid(pidfd: impl AsFd) -> i32 {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_fd().as_raw_fd())).unwrap();
    text.lines().find_map(|line| line.strip_prefix("Pid:")).unwrap().trim().parse().unwrap()
}

fn field(pid: i32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What the kernel says of a runner, from outside.
fn facts(nursery: &Nursery, ordinary: bool) {
    let hatched = nursery.hatch(LIMITS).unwrap();
    let runner = pid(&hatched.pidfd);
    for (name, expected) in [
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
        ("CapEff", "0000000000000000"),
        ("CapPrm", "0000000000000000"),
        ("Threads", "1"),
    ] {
        let found = field(runner, name);
        say(name, &found, found == expected);
    }
    let limits = fs::read_to_string(format!("/proc/{runner}/limits")).unwrap();
    for name in ["Max file size", "Max core file size", "Max locked memory"] {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        let words: Vec<_> = line.split_whitespace().filter(|word| *word == "0").collect();
        say(name, line, words.len() == 2);
    }
    if ordinary {
        return;
    }
    let other = nursery.hatch(LIMITS).unwrap();
    let ids: Vec<String> = field(runner, "Uid").split(' ').map(str::to_owned).collect();
    let other = field(pid(&other.pidfd), "Uid");
    let one = ids.iter().all(|id| *id == ids[0] && (20_000..60_000).contains(&id.parse().unwrap()));
    say("Uid", &ids.join(" "), ids.len() == 4 && one && !other.contains(&ids[0]));
    say("Gid", &field(runner, "Gid"), field(runner, "Gid") == ids.join(" "));
    say("Groups", &field(runner, "Groups"), field(runner, "Groups").is_empty());
    let root = fs::read_link(format!("/proc/{runner}/root")).unwrap();
    say("root", &root.to_string_lossy(), hatched.raised.root == Root::Empty && root.ends_with("fd"));
    let mut open: Vec<_> = fs::read_dir(format!("/proc/{runner}/fd"))
        .unwrap()
        .map(|entry| fs::read_link(entry.unwrap().path()).unwrap().to_string_lossy().into_owned())
        .collect();
    open.sort();
    let shown = open.join(" ");
    let right = open.len() == 5
        && open[..3].iter().all(|name| name == "/dev/null")
        && open[3..].iter().all(|name| name.starts_with("socket:"));
    say("open descriptors", &shown, right);
    let network = |who: &str| fs::read_link(format!("/proc/{who}/ns/net")).unwrap();
    let differs = network(&runner.to_string()) != network("self");
    say("network", "", differs == hatched.raised.network_namespace);
    let nursery = field(runner, "PPid").parse::<i32>().unwrap();
    let open = fs::read_dir(format!("/proc/{nursery}/fd")).unwrap().count();
    say("the nursery's descriptors", &open.to_string(), open == 6);
}

/// A polite request to end goes to all processes of a service: those that the gate still needs take no notice.
fn ignores(nursery: &Nursery) {
    let hatched = nursery.hatch(LIMITS).unwrap();
    let runner = pid(&hatched.pidfd);
    let nursery = Pid::from_raw(field(runner, "PPid").parse().unwrap()).unwrap();
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        kill_process(nursery, signal).unwrap();
        // An ordinary user's runner is that user's; root may signal all.
        kill_process(Pid::from_raw(runner).unwrap(), signal).unwrap();
    }
    say("requests to end", "", tell(&hatched, b'x') == Some(b'x'));
}

/// Several threads of the gate at once.
fn many(nursery: &Nursery) {
    let one = || {
        (0..5)
            .map(|_| {
                let hatched = nursery.hatch(LIMITS).unwrap();
                let order = b'A' + u8::try_from(hatched.number % 20).unwrap();
                assert_eq!(tell(&hatched, order), Some(order));
                hatched.number
            })
            .collect::<Vec<_>>()
    };
    let mut numbers: Vec<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(one)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    numbers.sort_unstable();
    numbers.dedup();
    say("runners at once", &numbers.len().to_string(), numbers.len() == 20);
}

fn errors(nursery: &Nursery) {
    let none = nursery.hatch(WallLimits { shared_bytes: 0, ..LIMITS }).err().map(|error| error.code());
    say("no shared memory", "", none == Some("SYSTEM"));
    let waits = std::thread::spawn(|| std::thread::sleep(Duration::from_millis(200)));
    let second = Nursery::start_with(None, obey).err().map(|error| error.code());
    say("a nursery of a gate with threads", "", second == Some("SYSTEM"));
    waits.join().unwrap();
}

fn a_nursery_that_dies_takes_runners_with_it(nursery: &Nursery) {
    let hatched = nursery.hatch(LIMITS).unwrap();
    let parent = field(pid(&hatched.pidfd), "PPid").parse().unwrap();
    kill_process(Pid::from_raw(parent).unwrap(), Signal::KILL).unwrap();
    wait(&hatched.pidfd);
    let gone = Some(RunnerError::Nursery);
    say("a nursery that is gone", "", nursery.hatch(LIMITS).err() == gone && hatched.life.ending().err() == gone);
}

fn a_gate_that_dies_takes_all_with_it() {
    let (mut from, mut to) = std::io::pipe().unwrap();
    let Forked::Parent(gate) = vouchsafe_system::fork().unwrap() else {
        let nursery = Nursery::start_with(None, obey).unwrap();
        let hatched = nursery.hatch(LIMITS).unwrap();
        (&hatched.jobs).write_all(b"l").unwrap();
        let runner = pid(&hatched.pidfd);
        let parent: i32 = field(runner, "PPid").parse().unwrap();
        to.write_all(&[runner.to_le_bytes(), parent.to_le_bytes()].concat()).unwrap();
        loop {
            std::thread::park();
        }
    };
    drop(to);
    let mut bytes = [0; 8];
    from.read_exact(&mut bytes).unwrap();
    let (runner, nursery) = bytes.split_at(4);
    let open = |bytes: &[u8]| {
        let pid = i32::from_le_bytes(bytes.try_into().unwrap());
        pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap()
    };
    let (runner, nursery) = (open(runner), open(nursery));
    kill_process(Pid::from_raw(gate).unwrap(), Signal::KILL).unwrap();
    wait(&nursery);
    wait(&runner);
    say("a gate that dies", "all ended", true);
}
