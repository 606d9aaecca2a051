//! Turns a command into everything that its host could see of it: system calls, /proc while it ran, files afterwards.
//! It does not read memory, what an enclave's processes share among themselves included: under simulation the host could, and SECURITY.md
//! says so.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Stdio,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use vouchsafe_tests::{
    processes::{descendants, name},
    trace::{Call, Trace, strace},
};

/// Bytes, by the place where they were seen.
pub type Seen = Vec<(String, Vec<u8>)>;

/// A run that has ended.
pub struct Observed {
    /// Everything below this folder belongs to the run.
    pub dir: PathBuf,
    pub trace: Trace,
    /// `cmdline of PROGRAM`, `environ of PROGRAM`, `comm of PROGRAM`, as /proc showed them.
    pub sampled: BTreeSet<(String, Vec<u8>)>,
    pub exit: i32,
    /// Everything that was seen, files included.
    pub seen: Seen,
}

/// What all processes of an enclave call themselves.
pub const ENCLAVE: &str = "vouchsafe-enclave";
/// The memory that its gate and a runner share: tensors.
pub const SHARED: &str = "/memfd:tensors";

/// Where a process says that it may be ended before others when memory is short.
pub fn death_wish(process: u32, path: &str) -> bool {
    path == format!("/proc/{process}/oom_score_adj")
}

/// The place of what goes through a pipe that both begins and ends in the enclave.
pub const OWN_PIPE: &str = "vouchsafe-enclave to itself";

/// Calls that put bytes somewhere.
const WRITES: [&str; 8] = ["write", "writev", "pwrite64", "pwritev", "pwritev2", "sendto", "sendmsg", "sendmmsg"];
/// Calls that take bytes from somewhere.
const READS: [&str; 6] = ["read", "pread64", "readv", "preadv", "recvfrom", "recvmsg"];
/// Calls that move bytes past a reader of calls.
const BLIND: [&str; 21] = [
    "sendfile",
    "splice",
    "tee",
    "vmsplice",
    "process_vm_writev",
    "process_vm_readv",
    "io_uring_setup",
    "io_uring_enter",
    "io_submit",
    "shmget",
    "shmat",
    "mq_open",
    "mq_timedsend",
    "msgsnd",
    "add_key",
    "keyctl",
    "ptrace",
    "pidfd_getfd",
    "perf_event_open",
    "bpf",
    "userfaultfd",
];

/// Runs `words` in `dir/work` under strace, looking into /proc all the while; nothing when this machine has no strace.
pub fn observe(test: &str, dir: &Path, words: &[&str], stdin: &[u8]) -> Option<Observed> {
    let place = tempfile::tempdir().unwrap();
    let mut command = strace(test, &place.path().join("trace"))?;
    for name in ["work", "home", "tmp"] {
        fs::create_dir_all(dir.join(name)).unwrap();
    }
    let output = |name| fs::File::create(dir.join(name)).unwrap();
    command.args(words).current_dir(dir.join("work")).env_clear();
    command.env("HOME", dir.join("home")).env("TMPDIR", dir.join("tmp")).env("PATH", "/usr/bin:/bin");
    command.env("RUST_BACKTRACE", "1").stdin(Stdio::piped()).stdout(output("stdout.log")).stderr(output("stderr.log"));
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdin).unwrap();
    let (over, root) = (AtomicBool::new(false), child.id());
    let (sampled, status) = std::thread::scope(|scope| {
        let sampler = scope.spawn(|| sample(root, &over));
        // Waiting takes the pid, so the sampler must not outlive it by much; it only ever looks at its descendants.
        let status = loop {
            match child.try_wait().unwrap() {
                Some(status) => break status,
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        over.store(true, Ordering::Relaxed);
        (sampler.join().unwrap(), status)
    });
    let trace = Trace::parse(&fs::read_to_string(place.path().join("trace")).unwrap());
    let (dir, exit) = (dir.to_owned(), status.code().unwrap_or(-1));
    let mut run = Observed { dir, trace, sampled, exit, seen: Vec::new() };
    run.seen = run.everything();
    Some(run)
}

/// Looks at every descendant of a process until told to stop.
fn sample(root: u32, over: &AtomicBool) -> BTreeSet<(String, Vec<u8>)> {
    let mut seen = BTreeSet::new();
    while !over.load(Ordering::Relaxed) {
        for pid in descendants(root) {
            let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
            let program = name(pid);
            for (name, bytes) in [("cmdline", read("cmdline")), ("environ", read("environ")), ("comm", read("comm"))] {
                seen.insert((format!("{name} of {program}"), bytes));
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    seen
}

impl Observed {
    fn everything(&self) -> Seen {
        let mut seen = self.calls();
        seen.extend(self.sampled.iter().map(|(place, bytes)| (format!("/proc: {place}"), bytes.clone())));
        self.files(&self.dir, &mut seen);
        seen
    }

    /// A path or target in the words of a place.
    fn place(&self, target: &str) -> String {
        Call::place(target).replacen(self.dir.to_str().unwrap(), "DIR", 1)
    }

    fn calls(&self) -> Seen {
        let mut seen = Vec::new();
        // What one call begins another may end, so what goes to one target is looked at as one.
        let mut streams = BTreeMap::<(&str, String), Vec<u8>>::new();
        let own = self.own_pipes();
        for call in &self.trace.calls {
            let target = call.target().unwrap_or_default();
            if call.name == "execve" {
                let (words, environment) = call.vectors();
                let program = String::from_utf8_lossy(words.first().map_or(&[], |w| &w.bytes)).into_owned();
                let program = program.rsplit('/').next().unwrap_or_default();
                seen.extend(words.into_iter().map(|t| (format!("argv of {program}"), t.bytes)));
                seen.extend(environment.into_iter().map(|t| (format!("environment of {program}"), t.bytes)));
            } else if let Some(way) = way_of(call) {
                let stream = streams.entry((way, target)).or_default();
                call.data().into_iter().for_each(|text| stream.extend(text.bytes));
            } else {
                let place = format!("{} {}", call.name, self.place(&target));
                seen.extend(call.texts().into_iter().map(|t| (place.clone(), t.bytes)));
            }
        }
        let place = |(way, target): (&str, String)| {
            if own.contains(&target) { format!("{way} {OWN_PIPE}") } else { format!("{way} {}", self.place(&target)) }
        };
        seen.extend(streams.into_iter().map(|(stream, bytes)| (place(stream), bytes)));
        seen
    }

    /// Pipes that the enclave made and that no other program's call ever named: a runner, which is a part of it, reads the model there.
    /// Which of its processes use which end is [`super::enclave::conduct`]'s to say.
    pub fn own_pipes(&self) -> BTreeSet<String> {
        let enclave = |call: &Call| self.trace.program(call.thread) == ENCLAVE;
        let named = |call: &Call| call.descriptors().into_iter().filter(|target| target.starts_with("pipe:["));
        let (mine, others): (Vec<_>, Vec<_>) = self.trace.calls.iter().partition(|call| enclave(call));
        let mine = mine.into_iter().filter(|call| call.name.starts_with("pipe") && call.returned() == Some(0));
        let mut made: BTreeSet<String> = mine.flat_map(named).collect();
        for call in others {
            let theirs: BTreeSet<String> = named(call).collect();
            made.retain(|pipe| !theirs.contains(pipe));
        }
        made
    }

    fn files(&self, dir: &Path, seen: &mut Seen) {
        for entry in fs::read_dir(dir).unwrap().flatten() {
            let path = entry.path();
            let place = format!("left {}", self.place(&path.display().to_string()));
            let name = std::os::unix::ffi::OsStrExt::as_bytes(entry.file_name().as_os_str()).to_vec();
            seen.push((format!("name {}", self.place(&dir.display().to_string())), name));
            if path.is_dir() {
                self.files(&path, seen);
            } else if path.is_file() {
                seen.push((place, fs::read(&path).unwrap()));
            }
        }
    }

    /// Everything that could have carried bytes past this scan; `programs` are files known to hold public bytes only.
    pub fn blind_spots(&self, programs: &Path) -> BTreeSet<String> {
        let mut spots = BTreeSet::new();
        for call in &self.trace.calls {
            let target = call.target().unwrap_or_default();
            let place = format!("{} by {}: {}", call.name, self.trace.program(call.thread), self.place(&target));
            if BLIND.contains(&call.name.as_str()) && !call.result.starts_with("-1 ENOSYS") {
                spots.insert(place.clone());
            }
            // Copied inside the kernel: allowed for sealed packages only, whose bytes are looked at where they lie.
            if call.name == "copy_file_range" && !self.place(&target).starts_with("DIR/world/vendor/v") {
                spots.insert(place.clone());
            }
            // Who maps what is shared within an enclave is judged elsewhere.
            let inside = self.trace.program(call.thread) == ENCLAVE;
            let tensors = inside && call.descriptors().first().is_some_and(|what| what == SHARED);
            if call.name == "mmap" && call.args.contains("MAP_SHARED") && call.args.contains("PROT_WRITE") && !tensors {
                spots.insert(place.clone());
            }
            // A thread's name: the kernel itself keeps no more than strace shows.
            let public = call.args.starts_with("PR_SET_NAME")
                || target.starts_with("/memfd:vouchsafe-enclave")
                || target.starts_with("/memfd:libonnxruntime")
                || target.starts_with(programs.to_str().unwrap());
            if !public && call.texts().iter().any(|t| t.cut.is_some()) {
                spots.insert(format!("cut: {place}"));
            }
            if let Some(path) = opened_for_writing(call)
                && !path.starts_with(self.dir.to_str().unwrap())
                && path != "/dev/null"
                && !(inside && death_wish(self.trace.process(call.thread), &path))
            {
                spots.insert(format!("elsewhere: {} by {}", path, self.trace.program(call.thread)));
            }
            if target.starts_with("TCP:[") && target.contains("->") && target.matches("127.0.0.1:").count() != 2 {
                spots.insert(format!("another machine: {place}"));
            }
        }
        spots
    }
}

/// Whether a call writes or reads data.
fn way_of(call: &Call) -> Option<&'static str> {
    let name = &call.name.as_str();
    WRITES.contains(name).then_some("write").or(READS.contains(name).then_some("read"))
}

/// The path that a call opened for writing, when it did.
pub fn opened_for_writing(call: &Call) -> Option<String> {
    let opens = ["open", "openat", "openat2", "creat"].contains(&call.name.as_str());
    let writes = ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_TMPFILE"].iter().any(|flag| call.args.contains(flag));
    (opens && (writes || call.name == "creat") && call.returned().is_some()).then(|| call.made()).flatten()
}
