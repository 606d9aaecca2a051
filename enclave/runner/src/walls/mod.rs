//! Turns a process that was just forked into one that can do nothing but compute and talk to the gate, and says what stands.
//! It does not stop a runner from lying to the gate, or from using up the time and memory that it is left.
//!
//! Some walls are demanded of every kernel and every user: nothing but three descriptors is open, the process ends with its parent, it has
//! limits, no capability, no new privileges, and a filter of system calls. Others need a privilege or a newer kernel: a user, a root and a
//! network namespace of its own, and Landlock. Those are raised where that is possible, and [`Raised`] tells.

mod landlock;
mod limits;
mod root;
mod seccomp;
mod user;

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::path::PathBuf;

use rustix::process::{DumpableBehavior, Signal, getppid, set_dumpable_behavior, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};

use crate::error::Wall;
use crate::nursery::WallLimits;

pub use landlock::Fence;
pub use root::Root;
pub use seccomp::close_files;
pub(crate) use seccomp::narrow_nursery;
pub(crate) use user::{keep_for_walls, user};

/// What stands around a runner besides what always does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Raised {
    /// It has a user and a group of its own, and no other.
    pub own_uid: bool,
    /// What it finds at the root of the file system.
    pub root: Root,
    /// It has network interfaces of its own, none of them up. It can make no socket in any case.
    pub network_namespace: bool,
    /// How much of Landlock the kernel enforces.
    pub landlock: Fence,
}

impl Raised {
    /// The name by which a runner behind these walls opens a descriptor of its own once more. Only a pipe can be opened so, before
    /// [`close_files`], and where Landlock or an empty root keeps files away; the pipe's owner must let others read it.
    #[must_use]
    pub fn path_of(&self, descriptor: impl AsFd) -> PathBuf {
        let number = descriptor.as_fd().as_raw_fd();
        match self.root {
            Root::Empty => PathBuf::from(format!("/{number}")),
            Root::Denied => PathBuf::from(format!("/proc/self/fd/{number}")),
        }
    }

    /// Whether opening is allowed at all until the model is loaded: only where it reaches nothing but the runner's own descriptors.
    #[must_use]
    pub fn opens_own(&self) -> bool {
        self.root == Root::Empty || self.landlock != Fence::None
    }
}

/// What distinguishes one runner from others.
pub(crate) struct Place<'a> {
    /// The user and group that it becomes.
    pub user: u32,
    /// The process that must be this one's parent.
    pub parent: rustix::process::Pid,
    /// The descriptors that stay open besides the standard ones, which lead nowhere.
    pub keep: &'a [BorrowedFd<'a>],
}

/// Raises all walls around this process, which has one thread. What it maps later counts against its limits.
pub(crate) fn raise(place: &Place<'_>, limits: &WallLimits) -> Result<Raised, Wall> {
    vouchsafe_system::close_others(place.keep).map_err(|_| Wall::Descriptors)?;
    // What needs `/proc` comes before there is none.
    let used = limits::used().ok_or(Wall::Limits)?;
    limits::comes_last();
    let network_namespace = root::own_namespaces();
    let root = root::leave();
    let own_uid = user::become_nobody(place.user)?;
    limits::set(limits, &used, own_uid).map_err(|_| Wall::Limits)?;
    rustix::thread::set_no_new_privs(true).map_err(|_| Wall::Privileges)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|_| Wall::Privileges)?;
    // After the change of the user, which takes the signal away.
    ends_with(place.parent)?;
    let landlock = landlock::raise()?;
    let raised = Raised { own_uid, root, network_namespace, landlock };
    seccomp::raise(raised.opens_own())?;
    Ok(raised)
}

/// Ends this process when its parent's thread that forked it ends.
pub(crate) fn ends_with(parent: rustix::process::Pid) -> Result<(), Wall> {
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|_| Wall::Parent)?;
    // It may have ended before.
    if getppid() == Some(parent) { Ok(()) } else { Err(Wall::Parent) }
}
