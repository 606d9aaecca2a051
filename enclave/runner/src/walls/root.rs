//! Turns the machine's file systems, network and names into none, where a privilege for that is left.
//! Without it they stay where they are, and Landlock and the filter of system calls keep the runner from them.

use rustix::process::chroot;
use serde::{Deserialize, Serialize};
use vouchsafe_system::{Namespace, own_namespace};

/// What a runner finds at the root of the file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Root {
    /// Its own descriptors, and nothing else.
    Empty,
    /// The machine's files, which it is not let at.
    Denied,
}

impl Root {
    /// Its word in public events.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Denied => "denied",
        }
    }
}

/// Gives the process names and interfaces of its own. Whether it has a network of its own now.
pub fn own_namespaces() -> bool {
    for namespace in [Namespace::Ipc, Namespace::HostName, Namespace::Mounts] {
        // Whatever is granted is one thing less to share.
        let _ = own_namespace(namespace);
    }
    own_namespace(Namespace::Network).is_ok()
}

/// Leaves for a folder that holds nothing but what the process has open anyway.
pub fn leave() -> Root {
    match chroot("/proc/self/fd").and_then(|()| rustix::process::chdir("/")) {
        Ok(()) => Root::Empty,
        Err(_) => Root::Denied,
    }
}
