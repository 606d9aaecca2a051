//! Turns an observed run into what its enclave did that no enclave may do, process by process.
//! It judges system calls; what fence and walls forbid beyond them is for `authority.rs`, `serve_walls.rs` and `walls.rs` to say.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use vouchsafe_tests::trace::Call;

use super::observe::{ENCLAVE, Observed, SHARED, death_wish, opened_for_writing};

/// Calls that change the file system, make files without a name, or let others in; none is ever needed.
const NEVER: [&str; 26] = [
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
    "fallocate",
    "chmod",
    "fchmodat",
    "fchmodat2",
    "bind",
    "listen",
    "fork",
    "vfork",
    "execveat",
    "ptrace",
];
/// What shared memory is sealed with, at once.
const SEALS: [&str; 4] = ["F_ADD_SEALS", "F_SEAL_SEAL", "F_SEAL_SHRINK", "F_SEAL_GROW"];

/// What the enclave did, and how much of it was looked at.
pub struct Conduct {
    pub calls: usize,
    /// Files that the gate opened behind the fence, relative to the models directory.
    pub opened: BTreeSet<String>,
    /// Runners that were made, and those of them that came to serve.
    pub runners: usize,
    pub serving: usize,
    pub objections: BTreeSet<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// The program that was executed.
    Gate,
    /// What the gate forked.
    Nursery,
    /// What the nursery forked.
    Runner,
}

/// What became of a process so far; a fork inherits what stands around its parent.
#[derive(Clone)]
struct Process {
    part: Part,
    /// May not gain privileges, may not dump core, is not dumpable.
    has: [bool; 3],
    threads: usize,
    forks: usize,
    fences: usize,
    filters: usize,
    opened: BTreeSet<String>,
}

const FACTS: [(&str, &str); 3] = [
    ("PR_SET_NO_NEW_PRIVS, 1", "may gain privileges"),
    ("RLIMIT_CORE, {rlim_cur=0, rlim_max=0}", "may dump core"),
    ("PR_SET_DUMPABLE, SUID_DUMP_DISABLE", "is dumpable"),
];

impl Process {
    fn new(part: Part, has: [bool; 3]) -> Self {
        Self { part, has, threads: 1, forks: 0, fences: 0, filters: 0, opened: BTreeSet::new() }
    }
}

/// A run under judgement.
struct Judge<'a> {
    run: &'a Observed,
    models: &'a str,
    own: BTreeSet<String>,
    processes: HashMap<u32, Process>,
    /// Where in the trace a process's last filter stood, in all its threads.
    closed: HashMap<u32, usize>,
    /// Who wrote and who read each of the enclave's own pipes.
    flows: BTreeMap<String, [BTreeSet<u32>; 2]>,
    conduct: Conduct,
}

/// Judges every call of every process that calls itself `vouchsafe-enclave`, and what others do with what is the enclave's.
pub fn conduct(run: &Observed, models: &str) -> Conduct {
    let conduct = Conduct { calls: 0, opened: BTreeSet::new(), runners: 0, serving: 0, objections: BTreeSet::new() };
    let last = run.trace.calls.iter().filter(|c| is_filter(c) && c.args.contains("SECCOMP_FILTER_FLAG_TSYNC"));
    let closed = last.map(|call| (run.trace.process(call.thread), call.ended)).collect();
    let (processes, flows) = (HashMap::new(), BTreeMap::new());
    let mut judge = Judge { run, models, own: run.own_pipes(), processes, closed, flows, conduct };
    for call in &run.trace.calls {
        if run.trace.program(call.thread) == ENCLAVE {
            judge.judge(call);
        } else if call.descriptors().iter().any(|what| what == SHARED) {
            judge.object(format!("{} by {} of the shared memory", call.name, run.trace.program(call.thread)));
        } else if call.name == "execve" && judge.is_forked_by_the_enclave(run.trace.process(call.thread)) {
            judge.object("a second execve".to_owned());
        }
    }
    judge.end()
}

fn is_filter(call: &Call) -> bool {
    call.name == "seccomp" && call.returned() == Some(0)
}

impl Judge<'_> {
    fn object(&mut self, fact: String) {
        self.conduct.objections.insert(fact);
    }

    fn is_forked_by_the_enclave(&self, process: u32) -> bool {
        self.run.trace.parent(process).is_some_and(|parent| self.processes.contains_key(&parent))
    }

    fn judge(&mut self, call: &Call) {
        let pid = self.run.trace.process(call.thread);
        if call.name == "execve" {
            if !self.processes.is_empty() {
                self.object("a second execve".to_owned());
            }
            if !call.vectors().1.is_empty() {
                self.object("an environment".to_owned());
            }
            self.processes.entry(pid).or_insert_with(|| Process::new(Part::Gate, [false; 3]));
            return;
        }
        // Before its execve the process is the launcher's, between fork and exec. What a process does that should not be there is
        // objected to by its being there.
        let Some(process) = self.processes.get(&pid) else { return };
        self.conduct.calls += 1;
        let part = process.part;
        self.everywhere(call, pid, part);
        let object = match part {
            Part::Gate => self.gate(call, pid),
            Part::Nursery => self.nursery(call, pid),
            Part::Runner => self.runner(call, pid),
        };
        if let Some(fact) = object {
            self.object(format!("{part:?}: {fact}"));
        }
        self.note(call, pid);
    }

    /// What holds for each part.
    fn everywhere(&mut self, call: &Call, pid: u32, part: Part) {
        let target = call.target().unwrap_or_default();
        if let Some(path) = opened_for_writing(call).filter(|path| path != "/dev/null")
            && (part != Part::Runner || !death_wish(pid, &path) || self.processes[&pid].filters > 0)
        {
            self.object(format!("{part:?}: opened for writing: {path}"));
        }
        if NEVER.contains(&call.name.as_str()) && call.returned().is_some() {
            self.object(format!("{part:?}: {} {target}", call.name));
        }
        let known: &[&str] = match part {
            Part::Gate => &["TCP:[", "UNIX-STREAM:[", "UNIX:[", "pipe:[", "anon_inode:", "/dev/null"],
            Part::Nursery => &["UNIX:["],
            Part::Runner => &["UNIX-STREAM:["],
        };
        let writes = call.name.contains("write") || call.name.starts_with("send");
        let wish = part == Part::Runner && death_wish(pid, &target);
        if writes && !wish && !known.iter().any(|kind| target.starts_with(kind)) {
            self.object(format!("{part:?}: {} to {target}", call.name));
        }
        if call.name == "mmap" && call.args.contains("MAP_SHARED") && call.args.contains("PROT_WRITE") {
            let shared = call.descriptors().first().is_some_and(|what| what == SHARED);
            if !shared || part == Part::Nursery {
                self.object(format!("{part:?}: mmap shared of {:?}", call.descriptors()));
            }
        }
        let moves = call.returned() > Some(0);
        if moves && self.own.contains(&target) && (writes || call.name.contains("read")) {
            self.flows.entry(target).or_default()[usize::from(!writes)].insert(pid);
        }
    }

    fn gate(&mut self, call: &Call, pid: u32) -> Option<String> {
        let process = &self.processes[&pid];
        let target = call.target().unwrap_or_default();
        // A copy of the process, not one that shares its memory: the one that becomes the nursery, while there is nothing to copy.
        if call.forks() {
            let copy = call.name == "clone" && !call.args.contains("CLONE_VM");
            let first = process.forks == 0 && process.threads == 1 && process.fences == 0;
            return (!copy || !first).then(|| "a child process".to_owned());
        }
        match call.name.as_str() {
            "memfd_create" if call.returned().is_some() && !self.is_sealed_at_once(call) => {
                return Some(format!("memfd_create {} is not sealed", call.made().unwrap_or_default()));
            }
            // Behind its seals it would fail.
            "ftruncate" if target != SHARED => return Some(format!("ftruncate {target}")),
            // Its reader is another user's process.
            "fchmod" if !self.own.contains(&target) || !call.args.ends_with(", 0604") => {
                return Some(format!("fchmod {target}"));
            }
            _ => {}
        }
        if process.fences > 0 && call.name.starts_with("open") && call.returned().is_some() {
            let path = call.made().unwrap_or_default();
            match path.strip_prefix(self.models) {
                Some(inside) => drop(self.conduct.opened.insert(inside.to_owned())),
                None => return Some(format!("opened behind the fence: {path}")),
            }
        }
        None
    }

    fn nursery(&self, call: &Call, pid: u32) -> Option<String> {
        let process = &self.processes[&pid];
        if call.forks() {
            let copy = call.name == "clone" && !call.args.contains("CLONE_VM");
            return (!copy || process.filters == 0).then(|| "a child process".to_owned());
        }
        let done = call.returned().is_some();
        match call.name.as_str() {
            "clone" | "clone3" if done => Some("a thread".to_owned()),
            "memfd_create" | "ftruncate" | "fchmod" if done => Some(format!("{} {:?}", call.name, call.made())),
            "recvmsg" if process.filters == 0 => Some("listened before its filter".to_owned()),
            // It counts its threads before it forks.
            name if name.starts_with("open") && done && process.filters > 0 => {
                let path = call.made().unwrap_or_default();
                (path != format!("/proc/{pid}/task")).then(|| format!("opened behind its filter: {path}"))
            }
            _ if call.descriptors().iter().any(|what| self.own.contains(what)) => Some("named a pipe".to_owned()),
            _ => None,
        }
    }

    fn runner(&self, call: &Call, pid: u32) -> Option<String> {
        let process = &self.processes[&pid];
        let done = call.returned().is_some();
        if call.forks() {
            return done.then(|| "a child process".to_owned());
        }
        let walled = process.fences > 0 && process.filters >= 2;
        let closed = self.closed.get(&pid);
        let name = call.name.as_str();
        let hears = ["read", "readv", "recvfrom", "recvmsg"].contains(&name)
            && call.target().is_some_and(|target| target.starts_with("UNIX"))
            && call.returned() > Some(0);
        if hears && !walled {
            return Some("listened before its walls".to_owned());
        }
        // The first message, and the pipe that comes with it, are all that it gets until then.
        let early = closed.is_none_or(|at| call.ended < *at);
        if hears && early && (name != "recvmsg" || process.opened.iter().any(|path| path.starts_with("pipe:["))) {
            return Some("took a job before its last filter".to_owned());
        }
        if closed.is_some_and(|at| call.began > *at) && done && (name == "recvmsg" || call.made().is_some()) {
            return Some(format!("{name} behind its last filter: {:?}", call.made()));
        }
        match name {
            "memfd_create" | "ftruncate" | "fchmod" if done => Some(format!("{name} {:?}", call.made())),
            name if name.starts_with("open") && done => {
                let path = call.made().unwrap_or_default();
                let before = path == "/dev/null" || path == format!("/proc/{pid}/statm") || death_wish(pid, &path);
                let fits = if walled { self.own.contains(&path) } else { before };
                (!fits || process.opened.contains(&path)).then(|| format!("opened {path}"))
            }
            _ => None,
        }
    }

    /// The next two calls of the thread that made it give it its size and all its seals.
    fn is_sealed_at_once(&self, made: &Call) -> bool {
        let number = made.result.split('<').next().unwrap_or_default();
        let mut next = self.run.trace.calls.iter().filter(|c| c.thread == made.thread && c.began > made.ended);
        let mut is = |name: &str, words: &[&str]| {
            next.next().is_some_and(|call| {
                let same = call.args.split('<').next() == Some(number);
                let all = words.iter().all(|word| call.args.contains(word));
                call.name == name && same && all && call.returned() == Some(0)
            })
        };
        made.made().is_some_and(|what| what == SHARED) && is("ftruncate", &[]) && is("fcntl", &SEALS)
    }

    /// Keeps what later calls are judged by.
    fn note(&mut self, call: &Call, pid: u32) {
        let Some(process) = self.processes.get_mut(&pid) else { return };
        for (has, (words, _)) in process.has.iter_mut().zip(FACTS) {
            *has |= call.args.contains(words) && call.returned() == Some(0);
        }
        match call.name.as_str() {
            "landlock_restrict_self" if call.returned() == Some(0) => process.fences += 1,
            _ if is_filter(call) => process.filters += 1,
            "clone" | "clone3" if call.returned().is_some() => {
                if !call.forks() {
                    process.threads += 1;
                    return;
                }
                process.forks += 1;
                let (child, has) = (call.returned().and_then(|n| u32::try_from(n).ok()), process.has);
                let part = if process.part == Part::Gate { Part::Nursery } else { Part::Runner };
                self.processes.extend(child.map(|child| (child, Process::new(part, has))));
            }
            name if name.starts_with("open") && call.returned().is_some() => process.opened.extend(call.made()),
            _ => {}
        }
    }

    fn end(self) -> Conduct {
        let mut conduct = self.conduct;
        let mut object = |part: Part, fact: &str| conduct.objections.insert(format!("{part:?}: {fact}"));
        for (pid, process) in &self.processes {
            let part = process.part;
            for ((_, fact), _) in FACTS.iter().zip(process.has).filter(|(_, has)| !has) {
                object(part, fact);
            }
            if part != Part::Nursery && process.fences == 0 {
                object(part, "no fence");
            }
            if part != Part::Gate && process.filters == 0 {
                object(part, "no filter");
            }
            conduct.runners += usize::from(part == Part::Runner);
            conduct.serving += usize::from(part == Part::Runner && self.closed.contains_key(pid));
        }
        // Plaintext goes one way, from the gate to one runner.
        for [writers, readers] in self.flows.values() {
            for (ends, part) in [(writers, Part::Gate), (readers, Part::Runner)] {
                for end in ends.iter().filter(|end| self.processes[end].part != part) {
                    object(self.processes[end].part, "the wrong end of a pipe");
                }
                if ends.len() > 1 {
                    object(part, "a pipe shared with another");
                }
            }
        }
        conduct
    }
}
