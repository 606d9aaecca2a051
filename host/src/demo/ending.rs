//! Turns Ctrl-C or SIGTERM into the end of a demo, or of the lab: its children, then its folder, then status 130.
//! It does not ask the threads that play: from the signal on they can neither start a child nor report a failure.

use std::{
    collections::BTreeSet,
    io,
    path::PathBuf,
    process::{Child, Command},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::runtime;

/// Longest wait for the children, and again for the folder.
const PATIENCE: Duration = Duration::from_secs(5);

/// Children that may be running. Whoever ends this process keeps the lock, so everybody else waits for the end.
static CHILDREN: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

fn children() -> MutexGuard<'static, BTreeSet<u32>> {
    CHILDREN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a child that ends when this process is told to.
pub fn spawn(command: &mut Command) -> io::Result<Child> {
    let mut children = children();
    let child = command.spawn()?;
    children.insert(child.id());
    Ok(child)
}

/// To be called once a child has been waited for: its number may soon be somebody else's.
pub fn ended(child: &Child) {
    children().remove(&child.id());
}

/// Returns unless this process is being ended; then it never does, because what failed meanwhile failed for that reason.
pub fn hold() {
    drop(children());
}

/// From now on Ctrl-C and SIGTERM end everything, and remove the folder if it is a temporary one.
pub fn on_signal(temporary: Option<PathBuf>) {
    std::thread::spawn(move || {
        let _ = runtime::block_on(async {
            runtime::shutdown(false).await;
            Ok(())
        });
        let children = children();
        let pids: Vec<Pid> = children.iter().filter_map(|pid| Pid::from_raw(pid.cast_signed())).collect();
        for signal in [Signal::TERM, Signal::KILL] {
            for pid in pids.iter().filter(|pid| running(**pid)) {
                let _ = kill_process(*pid, signal);
            }
            within(PATIENCE, || !pids.iter().any(|pid| running(*pid)));
        }
        if let Some(dir) = temporary {
            // A thread of this process may still be writing a file there.
            let gone = || std::fs::remove_dir_all(&dir).is_ok() || !dir.exists();
            if !within(PATIENCE, gone) {
                eprintln!("attention: {} could not be removed", dir.display());
            }
        }
        std::process::exit(130);
    });
}

/// Whether a child has not ended yet. It is not collected here: whoever started it does that.
fn running(pid: Pid) -> bool {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    matches!(waitid(WaitId::Pid(pid), look), Ok(None))
}

fn within(patience: Duration, mut done: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + patience;
    while !done() {
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}
