//! Turns the gate's questions into forks: the life of the nursery, a process with one thread that holds no secret and never gets one.
//! It does not know what its runners do; it only knows when and how they ended.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::retry_on_intr;
use rustix::process::{
    DumpableBehavior, Pid, PidfdFlags, Signal, WaitOptions, getpid, kill_process, pidfd_open, set_dumpable_behavior,
    waitpid,
};
use rustix::rand::{GetRandomFlags, getrandom};
use vouchsafe_system::{Forked, close_others, end, fork, has_one_thread, ignore_requests_to_end};

use crate::error::{RunnerError, Wall};
use crate::nursery::hatchling::{self, Inherited, PANICKED};
use crate::nursery::wire::{self, Answer, Ask, Ending, WallLimits};
use crate::walls;

/// So many runners' endings are remembered.
const MEMORY: usize = 1024;

/// The nursery's whole life; its exit status. `gate` is the process that must be its parent.
pub fn main(line: OwnedFd, library: Option<&File>, entry: fn(Inherited) -> u8, gate: Pid) -> u8 {
    let first = match prepare(line.as_fd(), library, gate) {
        Ok(()) => Answer::Ready,
        Err(answer) => answer,
    };
    let ready = first == Answer::Ready;
    if wire::send(line.as_fd(), &first, &[]).is_err() || !ready {
        return 1;
    }
    let mut brood = Brood { line, entry, first_user: anywhere(), alive: BTreeMap::new(), ended: BTreeMap::new() };
    // When the gate's end is closed, or makes no sense, there is nothing left to do.
    while brood.attend().is_some() {}
    0
}

/// Leaves what the gate has behind, and loads the library.
fn prepare(line: BorrowedFd<'_>, library: Option<&File>, gate: Pid) -> Result<(), Answer> {
    fn no<E>(wall: Wall) -> impl FnOnce(E) -> Answer {
        move |_| Answer::Walls(wall)
    }
    nothing_standard().map_err(no(Wall::Descriptors))?;
    let keep: Vec<_> = std::iter::once(line).chain(library.map(File::as_fd)).collect();
    close_others(&keep).map_err(no(Wall::Descriptors))?;
    ignore_requests_to_end().map_err(no(Wall::Parent))?;
    walls::keep_for_walls().map_err(Answer::Walls)?;
    rustix::thread::set_no_new_privs(true).map_err(no(Wall::Privileges))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(no(Wall::Privileges))?;
    walls::ends_with(gate).map_err(Answer::Walls)?;
    if let Some(library) = library {
        let path = PathBuf::from(format!("/proc/self/fd/{}", library.as_raw_fd()));
        crate::session::open_library(&path).map_err(|_: RunnerError| Answer::OrtLoad)?;
    }
    if !has_one_thread().is_ok_and(|one| one) {
        return Err(Answer::Threads);
    }
    walls::narrow_nursery().map_err(Answer::Walls)
}

/// The gate's channel to its host is no longer this process's input, nor its log the output.
pub(super) fn nothing_standard() -> std::io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(())
}

/// Where this nursery's users begin. Without randomness: where every one's do.
fn anywhere() -> u32 {
    let mut bytes = [0; 4];
    let _ = getrandom(&mut bytes, GetRandomFlags::empty());
    u32::from_le_bytes(bytes)
}

struct Brood {
    line: OwnedFd,
    entry: fn(Inherited) -> u8,
    first_user: u32,
    alive: BTreeMap<u64, Runner>,
    ended: BTreeMap<u64, Ending>,
}

struct Runner {
    pid: Pid,
    pidfd: OwnedFd,
}

impl Brood {
    /// Waits for a question or an ending. Nothing when there will be no more questions.
    fn attend(&mut self) -> Option<()> {
        let asked = {
            let mut watched: Vec<_> = std::iter::once(self.line.as_fd())
                .chain(self.alive.values().map(|runner| runner.pidfd.as_fd()))
                .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
                .collect();
            retry_on_intr(|| poll(&mut watched, None)).ok()?;
            watched.first().is_some_and(|line| !line.revents().is_empty())
        };
        self.reap();
        if asked {
            let (ask, descriptors) = wire::receive::<Ask>(self.line.as_fd()).ok()??;
            let (answer, pidfd) = self.answer(ask, descriptors);
            let pidfd: Vec<_> = pidfd.iter().map(OwnedFd::as_fd).collect();
            wire::send(self.line.as_fd(), &answer, &pidfd).ok()?;
        }
        Some(())
    }

    fn answer(&mut self, ask: Ask, descriptors: Vec<OwnedFd>) -> (Answer, Option<OwnedFd>) {
        match ask {
            Ask::Hatch { number, limits } => match self.hatch(number, &limits, descriptors) {
                Some(pidfd) => (Answer::Done, Some(pidfd)),
                None => (Answer::NoProcess, None),
            },
            Ask::Kill(number) => {
                // It is its parent that asks, and has not reaped it: the number is no other process's.
                let killed = self.alive.get(&number).map_or(Ok(()), |runner| kill_process(runner.pid, Signal::KILL));
                // Who cannot end its children ends itself, and they with it.
                if killed.is_err_and(|error| error != rustix::io::Errno::SRCH) {
                    end(1);
                }
                (Answer::Done, None)
            }
            Ask::Ending(number) => {
                let ended = self.ended.get(&number).copied();
                let alive = self.alive.contains_key(&number);
                let unknown = if alive { Ending::Running } else { Ending::Forgotten };
                (Answer::Ending(ended.unwrap_or(unknown)), None)
            }
        }
    }

    fn hatch(&mut self, number: u64, limits: &WallLimits, descriptors: Vec<OwnedFd>) -> Option<OwnedFd> {
        let descriptors = <[OwnedFd; 3]>::try_from(descriptors).ok()?;
        let (parent, user) = (getpid(), walls::user(self.first_user, number));
        let child = match fork().ok()? {
            Forked::Child => {
                let entry = self.entry;
                let life = || hatchling::main(user, limits, descriptors, parent, entry);
                // Nothing may unwind into the nursery's own frames.
                end(catch_unwind(AssertUnwindSafe(life)).unwrap_or(PANICKED))
            }
            Forked::Parent(child) => Pid::from_raw(child)?,
        };
        let opened = pidfd_open(child, PidfdFlags::empty());
        let Ok((pidfd, again)) =
            opened.and_then(|pidfd| Ok((pidfd.try_clone().map_err(|_| rustix::io::Errno::MFILE)?, pidfd)))
        else {
            // Without a descriptor the gate could not end it.
            let _ = kill_process(child, Signal::KILL);
            let _ = waitpid(Some(child), WaitOptions::empty());
            return None;
        };
        self.alive.insert(number, Runner { pid: child, pidfd: again });
        Some(pidfd)
    }

    /// Takes note of those that ended.
    fn reap(&mut self) {
        let mut ended = Vec::new();
        for (number, runner) in &self.alive {
            match waitpid(Some(runner.pid), WaitOptions::NOHANG) {
                Ok(None) => {}
                Ok(Some((_, status))) => {
                    let number_of = |value: Option<i32>| value.and_then(|value| u8::try_from(value).ok());
                    let signal = number_of(status.terminating_signal()).map(Ending::Signalled);
                    let exit = number_of(status.exit_status()).map(Ending::Exited);
                    ended.push((*number, signal.or(exit).unwrap_or(Ending::Forgotten)));
                }
                Err(_) => ended.push((*number, Ending::Forgotten)),
            }
        }
        for (number, ending) in ended {
            self.alive.remove(&number);
            self.ended.insert(number, ending);
            if self.ended.len() > MEMORY {
                self.ended.pop_first();
            }
        }
    }
}
