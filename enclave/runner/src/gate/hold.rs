//! Turns the handle of a process into its end: whether it is over, how it went, and by force.
//! It does not decide when: deadlines, broken rules and the last handle do.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::nursery::{Ending, Hatched, Life};

/// The process at the other end of the sockets. A trait, since tests put other processes there.
pub trait Hold: Send + Sync {
    /// Readable when the process is over.
    fn pidfd(&self) -> BorrowedFd<'_>;

    /// Ends it, now, whatever it does. Harmless when it is over.
    fn kill(&self);

    /// How it went, when it is over. Nothing when nobody knows.
    fn ending(&self) -> Option<Ending>;
}

impl dyn Hold {
    /// Whether the process is over.
    pub fn is_over(&self) -> bool {
        self.is_over_within(Duration::ZERO)
    }

    /// The same, at the latest after this time.
    pub fn is_over_within(&self, time: Duration) -> bool {
        let (pidfd, end) = (self.pidfd(), Instant::now() + time);
        loop {
            let rest = Timespec::try_from(end.saturating_duration_since(Instant::now())).ok();
            match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], rest.as_ref()) {
                Ok(ready) => return ready > 0,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }
}

/// Ends a process that was told to end, unless it does so itself within the grace. Does not wait.
pub fn end_within(hold: &Arc<dyn Hold>, grace: Duration) {
    let late = hold.clone();
    let wait = move || {
        if !late.is_over_within(grace) {
            late.kill();
        }
    };
    if thread::Builder::new().name("end".into()).spawn(wait).is_err() {
        hold.kill();
    }
}

/// Ends a process at once, from a thread of its own: the nursery may have to be asked, and others must not wait for that.
pub fn end_now(hold: &Arc<dyn Hold>) {
    end_within(hold, Duration::ZERO);
}

/// A runner of the nursery.
pub struct Process {
    pidfd: std::os::fd::OwnedFd,
    life: Life,
}

impl Process {
    /// Takes what is needed to end it. The rest is handed back.
    pub fn of(hatched: Hatched) -> (Arc<dyn Hold>, super::load::Rest) {
        let Hatched { jobs, stops, memory, pidfd, number, raised, life } = hatched;
        (Arc::new(Self { pidfd, life }), super::load::Rest { jobs, stops, memory, number, raised })
    }
}

impl Hold for Process {
    fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    fn kill(&self) {
        // Should even the nursery not answer, the runner ends with it.
        let _ = self.life.kill();
    }

    fn ending(&self) -> Option<Ending> {
        self.life.ending().ok()
    }
}
