//! Turns a case into runners that each try one thing, and prints what became of every attempt and whether that is right.
//! It is a gate's part: it never runs an attempt in its own process.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Gid, Pid, Uid, WaitOptions, waitpid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use serde_json::json;
use vouchsafe_runner::walls::{self, Fence, Root};
use vouchsafe_runner::{Ending, Inherited, Nursery, Raised, WallLimits};
use vouchsafe_system::{Forked, SharedMemory};

use crate::attempts::{Attempt, Control, Stop, When, all};
use crate::{Scene, life, onnx};

/// Somebody who owns nothing here.
const NOBODY: u32 = 65_534;
/// The exit status of a runner that was told nonsense.
const CONFUSED: u8 = 9;
pub const LIMITS: WallLimits = WallLimits { memory_bytes: 64 << 20, threads: 2, shared_bytes: 64 << 10 };

/// What the attempts aim at, known to every fork of this process.
static SCENE: OnceLock<Scene> = OnceLock::new();
/// What no other process may read.
static SECRET: u8 = 0x5E;

/// Runs a case in this process, which has one thread. The last line says that it came to its end.
pub fn run(case: &str, ordinary: bool) {
    let library = onnx::library();
    if ordinary {
        become_nobody();
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let secret = std::ptr::from_ref(&SECRET).expose_provenance();
    let gate = rustix::process::getpid().as_raw_pid();
    assert!(SCENE.set(Scene { gate, secret, listener: listener.local_addr().unwrap() }).is_ok());
    match case {
        "loading" => behind_walls(false, ordinary),
        "serving" => behind_walls(true, ordinary),
        "control" => without_walls(),
        "life" => life::run(ordinary),
        "onnx" => onnx::run(library),
        _ => panic!("no such case"),
    }
    say("the end", "reached", true);
}

/// One line about one thing.
pub fn say(name: &str, found: &str, right: bool) {
    println!("{}", json!({ "name": name, "found": found, "right": right }));
}

fn become_nobody() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (gid, uid) = (Gid::from_raw(NOBODY), Uid::from_raw(NOBODY));
    set_thread_groups(&[]).unwrap();
    set_thread_res_gid(gid, gid, gid).unwrap();
    set_thread_res_uid(uid, uid, uid).unwrap();
}

fn behind_walls(serving: bool, ordinary: bool) {
    let nursery = Nursery::start_with(None, misbehave).unwrap();
    stands(&nursery.hatch(LIMITS).unwrap().raised, ordinary);
    for (index, attempt) in all().iter().enumerate() {
        let hatched = nursery.hatch(LIMITS).unwrap();
        let mut jobs = hatched.jobs;
        jobs.write_all(&[u8::try_from(index).unwrap(), u8::from(serving)]).unwrap();
        let found = match answer(&mut jobs) {
            Some(result) => Found::Result(result),
            None => {
                wait(&hatched.pidfd);
                Found::Ended(hatched.life.ending().unwrap())
            }
        };
        let right = if attempt.when == When::Loaded && !serving {
            found == Found::Result(Ok(()))
        } else {
            match attempt.stop {
                Stop::Error(errors) => matches!(&found, Found::Result(Err(error)) if errors.contains(error)),
                Stop::Signal(signal) => found == Found::Ended(Ending::Signalled(u8::try_from(signal).unwrap())),
            }
        };
        say(attempt.name, &found.to_string(), right);
    }
    assert_eq!(SECRET, 0x5E);
}

/// What the kernel of a test must be able to raise; what else there is, is said.
fn stands(raised: &Raised, ordinary: bool) {
    let Raised { own_uid, root, network_namespace, landlock } = *raised;
    let root_is_right = if ordinary { root == Root::Denied && !own_uid } else { root == Root::Empty && own_uid };
    say("own user and root", &format!("{own_uid} {}", root.as_str()), root_is_right);
    say("network namespace", &network_namespace.to_string(), !(ordinary && network_namespace));
    if !ordinary && !network_namespace {
        println!("NOT RUN: a network namespace of its own: this container's root may not make one");
    }
    say("landlock", landlock.as_str(), true);
    if landlock != Fence::Full {
        println!("NOT RUN: landlock around runners: this kernel enforces it only in part or not at all");
    }
}

#[derive(PartialEq, Eq)]
enum Found {
    Result(Result<(), i32>),
    Ended(Ending),
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Result(Ok(())) => f.write_str("it worked"),
            Self::Result(Err(error)) => write!(f, "{}", std::io::Error::from_raw_os_error(*error)),
            Self::Ended(ending) => write!(f, "{ending:?}"),
        }
    }
}

/// The program of a runner that was taken over: it tries what it is told.
fn misbehave(mut own: Inherited) -> u8 {
    let mut order = [0; 2];
    if own.jobs.read_exact(&mut order).is_err() {
        return 0;
    }
    if order[1] == 1 && walls::close_files().is_err() {
        return CONFUSED;
    }
    let list = all();
    match (list.get(usize::from(order[0])), SCENE.get()) {
        (Some(attempt), Some(scene)) => report(attempt, scene, &mut own),
        _ => CONFUSED,
    }
}

fn report(attempt: &Attempt, scene: &Scene, own: &mut Inherited) -> u8 {
    let result = (attempt.run)(scene, own).err().unwrap_or(0);
    match own.jobs.write_all(&result.to_le_bytes()) {
        Ok(()) => 0,
        Err(_) => CONFUSED,
    }
}

/// What an attempt came to; nothing if the process ended instead.
fn answer(jobs: &mut UnixStream) -> Option<Result<(), i32>> {
    let mut bytes = [0; 4];
    match jobs.read_exact(&mut bytes) {
        Ok(()) => match i32::from_le_bytes(bytes) {
            0 => Some(Ok(())),
            error => Some(Err(error)),
        },
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{error}");
            None
        }
    }
}

/// Waits until a process has ended.
pub fn wait(pidfd: impl AsFd) {
    let patience = Timespec { tv_sec: 30, tv_nsec: 0 };
    assert_eq!(poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&patience)), Ok(1), "it has not ended");
}

fn without_walls() {
    for attempt in all().iter().filter(|attempt| attempt.control != Control::Skip) {
        let (mut ours, jobs) = UnixStream::pair().unwrap();
        let (_, stops) = UnixStream::pair().unwrap();
        let Forked::Parent(child) = vouchsafe_system::fork().unwrap() else {
            drop(ours);
            let memory = SharedMemory::new(LIMITS.shared_bytes).unwrap().0;
            let raised = Raised { own_uid: false, root: Root::Denied, network_namespace: false, landlock: Fence::None };
            let mut own = Inherited { jobs, stops, memory, raised };
            vouchsafe_system::end(report(attempt, SCENE.get().unwrap(), &mut own))
        };
        drop((jobs, stops));
        let answered = answer(&mut ours);
        let status = waitpid(Pid::from_raw(child), WaitOptions::empty()).unwrap().unwrap().1;
        // A program in this one's place says nothing and ends well.
        let worked = answered == Some(Ok(())) || answered.is_none() && status.exit_status() == Some(0);
        let found = answered.map_or_else(|| format!("{status:?}"), |result| Found::Result(result).to_string());
        say(attempt.name, &found, worked || attempt.control == Control::Any);
    }
    tidy();
}

/// What the attempts left behind when nothing stopped them.
fn tidy() {
    for folder in ["/tmp", "."] {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            if entry.file_name().to_string_lossy().starts_with("walls-") {
                let _ = std::fs::remove_file(entry.path()).or_else(|_| std::fs::remove_dir(entry.path()));
            }
        }
    }
}
