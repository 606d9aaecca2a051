//! Turns an observed run into what its enclave did that no enclave may do.
//! It judges system calls; what the fence forbids beyond them is `authority.rs`'s.

use std::collections::BTreeSet;

use super::observe::{Observed, opened_for_writing};

/// Calls that change the file system, make memory files or let others in; none is ever needed.
const NEVER: [&str; 27] = [
    "memfd_create",
    "memfd_secret",
    "mkdir",
    "mkdirat",
    "mknod",
    "mknodat",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "unlink",
    "unlinkat",
    "rmdir",
    "truncate",
    "ftruncate",
    "fallocate",
    "chmod",
    "fchmod",
    "fchmodat",
    "bind",
    "listen",
    "fork",
    "vfork",
    "ptrace",
];

/// What the enclave did, and how much of it was looked at.
pub struct Conduct {
    pub calls: usize,
    /// Files that it opened behind the fence, relative to the models directory.
    pub opened: BTreeSet<String>,
    pub objections: BTreeSet<String>,
}

/// Judges every call of every process that calls itself `vouchsafe-enclave`.
pub fn conduct(run: &Observed, models: &str) -> Conduct {
    let mut conduct = Conduct { calls: 0, opened: BTreeSet::new(), objections: BTreeSet::new() };
    let own = run.own_pipes();
    let (mut started, mut fenced) = (0, 0);
    let mut object = |fact: String| conduct.objections.insert(fact);
    for call in run.trace.calls.iter().filter(|c| run.trace.program(c.thread) == "vouchsafe-enclave") {
        if call.name == "execve" {
            started += 1;
            if started > 1 {
                object("a second execve".to_owned());
            }
            if !call.vectors().1.is_empty() {
                object("an environment".to_owned());
            }
            continue;
        }
        // Before its execve the process is the launcher's, between fork and exec.
        if started == 0 {
            continue;
        }
        conduct.calls += 1;
        let target = call.target().unwrap_or_default();
        if let Some(path) = opened_for_writing(call).filter(|path| path != "/dev/null") {
            object(format!("opened for writing: {path}"));
        }
        if NEVER.contains(&call.name.as_str()) && call.returned().is_some() {
            object(format!("{} {target}", call.name));
        }
        if ["clone", "clone3"].contains(&call.name.as_str()) && !call.args.contains("CLONE_THREAD") {
            object("a child process".to_owned());
        }
        let writes = call.name.contains("write") || call.name.starts_with("send");
        let known = ["TCP:[", "UNIX-STREAM:[", "UNIX:[", "pipe:[", "anon_inode:", "/dev/null"];
        if writes && !known.iter().any(|kind| target.starts_with(kind)) {
            object(format!("{} to {target}", call.name));
        }
        if call.name == "landlock_restrict_self" && call.returned() == Some(0) {
            fenced += 1;
        }
        if fenced > 0 && call.name.starts_with("open") && call.returned().is_some() {
            let path = call.made().unwrap_or_default();
            // The reading end of a pipe that the enclave itself writes.
            if own.contains(&path) {
                continue;
            }
            match path.strip_prefix(models) {
                Some(inside) => drop(conduct.opened.insert(inside.to_owned())),
                None => drop(object(format!("opened behind the fence: {path}"))),
            }
        }
    }
    for (words, fact) in [
        ("PR_SET_NO_NEW_PRIVS, 1", "may gain privileges"),
        ("RLIMIT_CORE, {rlim_cur=0, rlim_max=0}", "may dump core"),
        ("PR_SET_DUMPABLE, SUID_DUMP_DISABLE", "is dumpable"),
    ] {
        let mine = run.trace.calls.iter().filter(|c| run.trace.program(c.thread) == "vouchsafe-enclave");
        if !mine.into_iter().any(|c| c.args.contains(words) && c.returned() == Some(0)) {
            object(fact.to_owned());
        }
    }
    if fenced == 0 {
        object("no fence".to_owned());
    }
    conduct
}
