//! Turns the trace of an enclave that behaves into many of one that does not: each must be objected to, and the first must not.
//! What a program can do on purpose is tried with one in `canary.rs`; here are the deeds that take a whole enclave.

use std::collections::BTreeSet;

use vouchsafe_tests::trace::Trace;

use super::{enclave::conduct, observe::Observed};

/// The launcher's child is 1, the nursery 2, the runner 3; 4 is a thread of the gate, 5 one of the runner.
const GOOD: &[&str] = &[
    r#"1 execve("/proc/self/fd/9", ["vouchsafe-enclave"], []) = 0"#,
    r#"1 prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) = 0"#,
    r#"1 prlimit64(0, RLIMIT_CORE, {rlim_cur=0, rlim_max=0}, NULL) = 0"#,
    r#"1 prctl(PR_SET_DUMPABLE, SUID_DUMP_DISABLE) = 0"#,
    r#"1 clone(child_stack=NULL, flags=CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD, child_tidptr=0x7f) = 2"#,
    r#"2 openat(AT_FDCWD</>, "/proc/self/fd/7", O_RDONLY|O_CLOEXEC) = 3</memfd:libonnxruntime>(deleted)"#,
    r#"2 seccomp(SECCOMP_SET_MODE_FILTER, 0, {len=1, filter=[]}) = 0"#,
    r#"2 sendmsg(9<UNIX:[2->1]>, {msg_iov=[{iov_base="A", iov_len=1}]}, MSG_NOSIGNAL) = 1"#,
    r#"1 landlock_restrict_self(9<anon_inode:[landlock-ruleset]>, 0) = 0"#,
    r#"1 clone3({flags=CLONE_VM|CLONE_THREAD, exit_signal=0}, 88) = 4"#,
    r#"4 memfd_create("tensors", MFD_CLOEXEC|MFD_ALLOW_SEALING) = 13</memfd:tensors>(deleted)"#,
    r#"4 ftruncate(13</memfd:tensors>(deleted), 8192) = 0"#,
    r#"4 fcntl(13</memfd:tensors>(deleted), F_ADD_SEALS, F_SEAL_SEAL|F_SEAL_SHRINK|F_SEAL_GROW) = 0"#,
    r#"4 mmap(NULL, 8192, PROT_READ|PROT_WRITE, MAP_SHARED, 13</memfd:tensors>(deleted), 0) = 0x7f00"#,
    r#"2 recvmsg(9<UNIX:[2->1]>, {msg_control=[{cmsg_data=[5</memfd:tensors>(deleted)]}]}, MSG_CMSG_CLOEXEC) = 1"#,
    r#"2 openat(AT_FDCWD</>, "/proc/self/task", O_RDONLY|O_DIRECTORY) = 6</proc/2/task>"#,
    r#"2 clone(child_stack=NULL, flags=CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD, child_tidptr=0x7f) = 3"#,
    r#"3 openat(AT_FDCWD</>, "/dev/null", O_RDWR|O_CLOEXEC) = 6</dev/null>"#,
    r#"3 mmap(NULL, 8192, PROT_READ|PROT_WRITE, MAP_SHARED, 5</memfd:tensors>(deleted), 0) = 0x7f00"#,
    r#"3 openat(AT_FDCWD</>, "/proc/self/statm", O_RDONLY|O_CLOEXEC) = 5</proc/3/statm>"#,
    r#"3 openat(AT_FDCWD</>, "/proc/self/oom_score_adj", O_RDWR|O_CLOEXEC) = 5</proc/3/oom_score_adj>"#,
    r#"3 write(5</proc/3/oom_score_adj>, "500", 3) = 3"#,
    r#"3 landlock_restrict_self(5<anon_inode:[landlock-ruleset]>, 0) = 0"#,
    r#"3 seccomp(SECCOMP_SET_MODE_FILTER, 0, {len=10, filter=[]}) = 0"#,
    r#"3 seccomp(SECCOMP_SET_MODE_FILTER, 0, {len=410, filter=[]}) = 0"#,
    r#"3 sendto(3<UNIX-STREAM:[3->4]>, "A", 1, MSG_NOSIGNAL, NULL, 0) = 1"#,
    r#"4 pipe2([19<pipe:[7]>, 20<pipe:[7]>], O_CLOEXEC) = 0"#,
    r#"4 fchmod(19<pipe:[7]>, 0604) = 0"#,
    r#"4 sendmsg(11<UNIX-STREAM:[4->3]>, {msg_control=[{cmsg_data=[19<pipe:[7]>]}]}, MSG_NOSIGNAL) = 1"#,
    r#"4 openat(6</models>, "m.blob", O_RDONLY|O_CLOEXEC) = 21</models/m.blob>"#,
    r#"4 write(20<pipe:[7]>, "AA", 2) = 2"#,
    r#"3 recvmsg(3<UNIX-STREAM:[3->4]>, {msg_control=[{cmsg_data=[5<pipe:[7]>]}]}, MSG_CMSG_CLOEXEC) = 1"#,
    r#"3 openat(AT_FDCWD</proc/3/fd>, "/5", O_RDONLY) = 6<pipe:[7]>"#,
    r#"3 read(6<pipe:[7]>, "AA", 8192) = 2"#,
    r#"3 clone(child_stack=0x7f, flags=CLONE_VM|CLONE_THREAD, parent_tid=[5]) = 5"#,
    r#"5 recvfrom(4<UNIX-STREAM:[5->6]>,  <unfinished ...>"#,
    r#"3 seccomp(SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, {len=292, filter=[]}) = 0"#,
    r#"3 recvfrom(3<UNIX-STREAM:[3->4]>, "A", 16384, 0, NULL, NULL) = 1"#,
    r#"5 <... recvfrom resumed>"A", 8, 0, NULL, NULL) = 1"#,
];

/// The beginnings of lines: where something happens.
const FORKED: &str = "1 clone(";
const FENCED: &str = "1 landlock";
const NARROWED: &str = "2 seccomp";
const HATCHED: &str = "2 clone(";
const DELIVERED: &str = "4 write(";
const LOADED: &str = "3 read(";
const CLOSED: &str = "3 seccomp(SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC";
const LAST: &str = "5 <...";

/// A deed after a line, and what is said of it.
const DEEDS: &[(&str, &str, &str)] = &[
    // Processes.
    (FORKED, "1 clone(child_stack=NULL, flags=SIGCHLD) = 9", "Gate: a child process"),
    (FENCED, "4 clone(child_stack=NULL, flags=SIGCHLD) = 9", "Gate: a child process"),
    (FENCED, "4 clone3({flags=CLONE_VM|CLONE_VFORK, exit_signal=SIGCHLD}, 88) = 9", "Gate: a child process"),
    (LOADED, "3 clone(child_stack=NULL, flags=SIGCHLD) = 9", "Runner: a child process"),
    (HATCHED, "2 vfork() = 9", "Nursery: a child process"),
    (NARROWED, "2 clone(child_stack=0x7f, flags=CLONE_VM|CLONE_THREAD) = 9", "Nursery: a thread"),
    // Programs.
    (FENCED, r#"1 execve("/proc/self/exe", ["vouchsafe-enclave"], []) = 0"#, "a second execve"),
    (
        HATCHED,
        r#"2 execve("/bin/sh", ["vouchsafe-enclave"], []) = -1 EPERM (Operation not permitted)"#,
        "a second execve",
    ),
    (LAST, r#"3 execve("/bin/sh", ["vouchsafe-enclave"], ["A=B"]) = 0"#, "an environment"),
    (LAST, r#"3 execveat(5</bin/sh>, "", ["sh"], [], AT_EMPTY_PATH) = 0"#, "Runner: execveat /bin/sh"),
    // Files without a name.
    (FENCED, r#"1 memfd_create("plain", MFD_CLOEXEC) = 9</memfd:plain>(deleted)"#, "Gate: memfd_create"),
    (DELIVERED, r#"4 memfd_create("tensors", MFD_CLOEXEC) = 9</memfd:tensors>(deleted)"#, "Gate: memfd_create"),
    (HATCHED, r#"2 memfd_create("tensors", MFD_CLOEXEC) = 9</memfd:tensors>(deleted)"#, "Nursery: memfd_create"),
    (LOADED, r#"3 memfd_create("tensors", MFD_CLOEXEC) = 9</memfd:tensors>(deleted)"#, "Runner: memfd_create"),
    (LAST, r#"4 write(13</memfd:tensors>(deleted), "A", 1) = 1"#, "Gate: write to /memfd:tensors"),
    (LAST, "4 ftruncate(9</models/m.blob>, 0) = 0", "Gate: ftruncate"),
    (
        HATCHED,
        "2 mmap(NULL, 8192, PROT_READ|PROT_WRITE, MAP_SHARED, 5</memfd:tensors>(deleted), 0) = 0x7f00",
        "Nursery: mmap",
    ),
    (LAST, "4 mmap(NULL, 8192, PROT_READ|PROT_WRITE, MAP_SHARED, 9</tmp/file>, 0) = 0x7f00", "Gate: mmap"),
    (LAST, "3 mmap(NULL, 8192, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_ANONYMOUS, -1, 0) = 0x7f00", "Runner: mmap"),
    // What is opened.
    (FENCED, r#"1 openat(AT_FDCWD</>, "/etc/passwd", O_RDONLY) = 9</etc/passwd>"#, "Gate: opened behind the fence"),
    (
        DELIVERED,
        r#"4 openat(AT_FDCWD</>, "/proc/self/fd/19", O_RDONLY) = 9<pipe:[7]>"#,
        "Gate: opened behind the fence",
    ),
    (
        NARROWED,
        r#"2 openat(AT_FDCWD</>, "/etc/passwd", O_RDONLY) = 9</etc/passwd>"#,
        "Nursery: opened behind its filter",
    ),
    (
        NARROWED,
        r#"2 openat(AT_FDCWD</>, "/proc/1/task", O_RDONLY) = 9</proc/1/task>"#,
        "Nursery: opened behind its filter",
    ),
    (FORKED, r#"2 openat(AT_FDCWD</>, "/tmp/x", O_WRONLY|O_CREAT) = 9</tmp/x>"#, "Nursery: opened for writing"),
    (HATCHED, r#"3 openat(AT_FDCWD</>, "/etc/passwd", O_RDONLY) = 9</etc/passwd>"#, "Runner: opened /etc/passwd"),
    (HATCHED, r#"3 openat(AT_FDCWD</>, "/tmp/x", O_RDWR) = 9</tmp/x>"#, "Runner: opened for writing"),
    (
        HATCHED,
        r#"3 openat(AT_FDCWD</>, "/proc/1/oom_score_adj", O_WRONLY) = 9</proc/1/oom_score_adj>"#,
        "Runner: opened for",
    ),
    (
        LOADED,
        r#"3 openat(AT_FDCWD</>, "/proc/self/oom_score_adj", O_WRONLY) = 9</proc/3/oom_score_adj>"#,
        "Runner: opened for",
    ),
    (
        LOADED,
        r#"3 openat(AT_FDCWD</>, "/proc/self/statm", O_RDONLY) = 9</proc/3/statm>"#,
        "Runner: opened /proc/3/statm",
    ),
    (LOADED, r#"3 openat(AT_FDCWD</proc/3/fd>, "/5", O_RDONLY) = 9<pipe:[7]>"#, "Runner: opened pipe:[7]"),
    (LAST, r#"5 openat(AT_FDCWD</proc/3/fd>, "/4", O_RDONLY) = 9</x>"#, "Runner: openat behind its last filter"),
    (
        LAST,
        "3 fcntl(3<UNIX-STREAM:[3->4]>, F_DUPFD_CLOEXEC, 3) = 9<UNIX-STREAM:[3->4]>",
        "Runner: fcntl behind its last filter",
    ),
    (LAST, "3 recvmsg(3<UNIX-STREAM:[3->4]>, {msg_control=[]}, 0) = 1", "Runner: recvmsg behind its last filter"),
    // Who talks with whom.
    (HATCHED, "3 recvmsg(3<UNIX-STREAM:[3->4]>, {msg_control=[]}, 0) = 1", "Runner: listened before its walls"),
    (
        LOADED,
        r#"3 recvfrom(3<UNIX-STREAM:[3->4]>, "A", 16384, 0, NULL, NULL) = 1"#,
        "Runner: took a job before its last filter",
    ),
    (LOADED, "3 recvmsg(3<UNIX-STREAM:[3->4]>, {msg_control=[]}, 0) = 1", "Runner: took a job before its last filter"),
    (FORKED, "2 recvmsg(9<UNIX:[2->1]>, {msg_control=[]}, 0) = 1", "Nursery: listened before its filter"),
    (LAST, r#"3 sendto(3<TCP:[127.0.0.1:1->127.0.0.1:2]>, "A", 1, 0, NULL, 0) = 1"#, "Runner: sendto to TCP"),
    (LAST, r#"3 write(2</dev/null>, "A", 1) = 1"#, "Runner: write to /dev/null"),
    (LAST, r#"2 write(1<pipe:[1]>, "A", 1) = 1"#, "Nursery: write to pipe"),
    (DELIVERED, r#"4 read(19<pipe:[7]>, "A", 1) = 1"#, "Gate: the wrong end of a pipe"),
    (DELIVERED, "2 close(19<pipe:[7]>) = 0", "Nursery: named a pipe"),
    (LOADED, r#"3 write(20<pipe:[7]>, "A", 1) = 1"#, "Runner: the wrong end of a pipe"),
    (DELIVERED, "4 fchmod(19<pipe:[7]>, 0606) = 0", "Gate: fchmod pipe:[7]"),
    (DELIVERED, "4 fchmod(21</models/m.blob>, 0604) = 0", "Gate: fchmod /models/m.blob"),
    (LAST, "3 bind(9<TCP:[1]>, {sa_family=AF_INET}, 16) = 0", "Runner: bind"),
    // Strangers.
    (FORKED, r#"8 execve("/bin/x", ["other"], []) = 0"#, ""),
    (
        LAST,
        r#"8 execve("/bin/x", ["other"], []) = 0;8 close(5</memfd:tensors>(deleted)) = 0"#,
        "by other of the shared memory",
    ),
    (LAST, r#"4 vfork() = 8;8 execve("/bin/x", ["other"], []) = 0"#, "a second execve"),
    // Control: what a second model takes.
    (CLOSED, "4 openat(6</models>, \"n.blob\", O_RDONLY|O_CLOEXEC) = 22</models/n.blob>", ""),
];

/// A line that is missing, and what is said then.
const OMISSIONS: &[(&str, &str)] = &[
    ("1 prctl(PR_SET_NO_NEW_PRIVS", "Runner: may gain privileges"),
    ("1 prlimit64(0, RLIMIT_CORE", "Nursery: may dump core"),
    ("1 prctl(PR_SET_DUMPABLE", "Gate: is dumpable"),
    (FENCED, "Gate: no fence"),
    (NARROWED, "Nursery: no filter"),
    ("3 landlock", "Runner: listened before its walls"),
    ("3 landlock", "Runner: no fence"),
    ("3 seccomp(SECCOMP_SET_MODE_FILTER, 0, {len=10", "Runner: listened before its walls"),
    (CLOSED, "Runner: took a job before its last filter"),
    ("4 ftruncate", "Gate: memfd_create"),
    ("4 fcntl(13", "Gate: memfd_create"),
];

/// Quoted words and paths as strace writes them with `-xx`.
fn encoded(line: &str) -> String {
    let hex = |text: &str| text.bytes().map(|b| format!("\\x{b:02x}")).collect::<String>();
    let quoted = line.split('"').enumerate().map(|(n, part)| if n % 2 == 1 { hex(part) } else { part.to_owned() });
    let line = quoted.collect::<Vec<_>>().join("\"");
    let mut parts = line.split("</");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (path, rest) = part.split_once('>').unwrap();
        out += &format!("<{}>{rest}", hex(&format!("/{path}")));
    }
    out
}

/// What is objected to in a trace of these lines.
fn objections<'a>(lines: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    let text: Vec<String> = lines.map(encoded).collect();
    let trace = Trace::parse(&text.join("\n"));
    let run = Observed { dir: "/nowhere".into(), trace, sampled: BTreeSet::new(), exit: 0, seen: Vec::new() };
    conduct(&run, "/models/").objections
}

#[test]
fn control_an_enclave_that_behaves_is_not_objected_to() {
    assert_eq!(objections(GOOD.iter().copied()), BTreeSet::new());
}

#[test]
fn control_whatever_a_process_of_the_enclave_does_beyond_its_part_is_objected_to() {
    let mut missed = Vec::new();
    for (after, deed, wanted) in DEEDS {
        let at = GOOD.iter().position(|line| line.starts_with(after)).unwrap();
        let lines = GOOD[..=at].iter().copied().chain(deed.split(';')).chain(GOOD[at + 1..].iter().copied());
        let found = objections(lines);
        // A child of a child may be objected to for more than its being there.
        let said = if wanted.is_empty() { found.is_empty() } else { found.iter().any(|fact| fact.contains(wanted)) };
        if !said {
            missed.push((deed, wanted, found));
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}

#[test]
fn control_whatever_a_process_of_the_enclave_leaves_out_is_objected_to() {
    let mut missed = Vec::new();
    for (omitted, wanted) in OMISSIONS {
        assert_eq!(GOOD.iter().filter(|line| line.starts_with(omitted)).count(), 1, "{omitted}");
        let found = objections(GOOD.iter().copied().filter(|line| !line.starts_with(omitted)));
        if !found.iter().any(|fact| fact.contains(wanted)) {
            missed.push((omitted, wanted, found));
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}
