//! Turns a program's run under `strace` into calls with the bytes that they carried, decoded.
//! It sees system calls only: what a process keeps in its own memory, or in memory it shares, is invisible here.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    process::{Command, Stdio},
};

/// Strings longer than this are cut by strace, and say so ([`Text::cut`]).
const LONGEST: &str = "16384";

/// One system call.
pub struct Call {
    /// The thread that made it.
    pub thread: u32,
    /// Its name.
    pub name: String,
    /// Everything between its parentheses, bytes as `\xHH`.
    pub args: String,
    /// Everything after the equals sign.
    pub result: String,
    /// Line of the trace at which it was seen to begin.
    pub began: usize,
    /// Line at which it was seen to return; the same, when nothing happened between.
    pub ended: usize,
}

/// A run of bytes in a call: data, or a path.
pub struct Text {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// strace kept only the beginning.
    pub cut: Option<Cut>,
}

/// Says that a string was longer than what strace kept.
pub struct Cut;

/// The calls of a run, in the order of their beginning, and which process each thread belongs to.
pub struct Trace {
    /// The calls.
    pub calls: Vec<Call>,
    parents: HashMap<u32, u32>,
    /// Those that belong to the process of their parent.
    threads: HashSet<u32>,
    programs: HashMap<u32, String>,
}

/// `strace` around a program, every call of it and of its children written to `file`; nothing when this machine has none.
///
/// # Panics
/// Without a working strace when `VOUCHSAFE_REQUIRE_VECTORS=1`: where everything must run, this must too.
#[must_use]
pub fn strace(test: &str, file: &Path) -> Option<Command> {
    let mut probe = Command::new("strace");
    probe.args(["-f", "-qq", "-o", "/dev/null", "true"]).stdin(Stdio::null()).stderr(Stdio::null());
    if !probe.status().is_ok_and(|status| status.success()) {
        assert!(std::env::var_os("VOUCHSAFE_REQUIRE_VECTORS").is_none_or(|v| v != "1"), "{test} needs strace");
        println!("NOT RUN: {test}: strace is missing or may not trace");
        return None;
    }
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-xx", "-v", "-yy", "-s", LONGEST, "-o"]).arg(file);
    Some(command)
}

impl Trace {
    /// Reads the file that [`strace`] wrote.
    ///
    /// # Panics
    /// When a line is not strace's: a scan must not pass over what it cannot read.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let (mut calls, mut open) = (Vec::new(), HashMap::<u32, Call>::new());
        for (at, line) in text.lines().enumerate() {
            let (thread, rest) = line.split_once(' ').expect("a thread and a call");
            let (thread, rest) = (thread.parse().expect("a thread"), rest.trim_start());
            if rest.starts_with("---") || rest.starts_with("+++") {
                continue;
            }
            if let Some(rest) = rest.strip_prefix("<... ") {
                let (name, rest) = rest.split_once(" resumed>").expect("a resumed call");
                let mut call = open.remove(&thread).expect("a call that began");
                assert_eq!(call.name, name, "line {at}");
                finish(&mut call, rest);
                call.ended = at;
                calls.push(call);
                continue;
            }
            let (name, rest) = rest.split_once('(').expect("a call");
            let mut call = Call {
                thread,
                name: name.to_owned(),
                args: String::new(),
                result: String::new(),
                began: at,
                ended: at,
            };
            if let Some(begin) = rest.strip_suffix("<unfinished ...>") {
                begin.clone_into(&mut call.args);
                if let Some(call) = open.insert(thread, call) {
                    calls.push(call);
                }
            } else {
                finish(&mut call, rest);
                calls.push(call);
            }
        }
        // What never returned was asked for all the same.
        calls.extend(open.into_values());
        calls.sort_by_key(|call| call.began);
        let (mut parents, mut threads, mut programs) = (HashMap::new(), HashSet::new(), HashMap::new());
        for call in &calls {
            match call.name.as_str() {
                "clone" | "clone3" | "fork" | "vfork" => {
                    if let Some(child) = call.returned().and_then(|n| u32::try_from(n).ok()) {
                        parents.insert(child, call.thread);
                        if !call.forks() {
                            threads.insert(child);
                        }
                    }
                }
                "execve" if call.returned() == Some(0) => {
                    let words = call.argv();
                    let word = words.first().map(|w| String::from_utf8_lossy(w).into_owned()).unwrap_or_default();
                    programs.insert(call.thread, word.rsplit('/').next().unwrap_or_default().to_owned());
                }
                _ => {}
            }
        }
        Self { calls, parents, threads, programs }
    }

    /// The process of a thread, by its first one.
    #[must_use]
    pub fn process(&self, mut thread: u32) -> u32 {
        while self.threads.contains(&thread) {
            thread = self.parents[&thread];
        }
        thread
    }

    /// The process that forked a process; none for the first one.
    #[must_use]
    pub fn parent(&self, process: u32) -> Option<u32> {
        self.parents.get(&process).map(|thread| self.process(*thread))
    }

    /// The name of the program behind a thread, by its first argument.
    #[must_use]
    pub fn program(&self, mut thread: u32) -> &str {
        loop {
            match (self.programs.get(&thread), self.parents.get(&thread)) {
                (Some(name), _) => return name,
                (None, Some(parent)) => thread = *parent,
                (None, None) => return "",
            }
        }
    }
}

fn finish(call: &mut Call, rest: &str) {
    let (args, result) = rest.rsplit_once(" = ").expect("a result");
    call.args.push_str(args.trim_end().strip_suffix(')').expect("the end of the arguments"));
    result.clone_into(&mut call.result);
}

impl Call {
    /// Whether it makes a process, not a thread of the caller's.
    #[must_use]
    pub fn forks(&self) -> bool {
        match self.name.as_str() {
            "clone" | "clone3" => !self.args.contains("CLONE_THREAD"),
            name => ["fork", "vfork"].contains(&name),
        }
    }

    /// The number that it returned; nothing for an error or while it runs.
    #[must_use]
    pub fn returned(&self) -> Option<u64> {
        let digits: String = self.result.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    }

    /// What its first descriptor refers to: a path, `TCP:[…]`, `UNIX-STREAM:[…]`, `pipe:[…]`.
    #[must_use]
    pub fn target(&self) -> Option<String> {
        target_of(&self.args)
    }

    /// What the descriptor that it returned refers to.
    #[must_use]
    pub fn made(&self) -> Option<String> {
        target_of(&self.result)
    }

    /// What every descriptor in its arguments and its result refers to.
    #[must_use]
    pub fn descriptors(&self) -> Vec<String> {
        let starts = |text: &str| {
            let digit = |at: usize| at > 0 && text.as_bytes()[at - 1].is_ascii_digit();
            let numbered = text.match_indices('<').filter(|(at, _)| digit(*at));
            numbered.filter_map(|(at, _)| target_of(&format!("0{}", &text[at..]))).collect::<Vec<_>>()
        };
        [starts(&self.args), starts(&self.result)].concat()
    }

    /// The kind of a target, without what differs from run to run: `TCP`, `UNIX-STREAM`, `pipe`, or the path.
    #[must_use]
    pub fn place(target: &str) -> String {
        target.split_once(":[").map_or(target, |(kind, _)| kind).to_owned()
    }

    /// Every run of bytes in its arguments, in order.
    #[must_use]
    pub fn texts(&self) -> Vec<Text> {
        texts(&self.args)
    }

    /// The data that it carries: [`Call::texts`] without the path of its descriptor.
    #[must_use]
    pub fn data(&self) -> Vec<Text> {
        texts(self.args.split_once(", ").map_or("", |(_, rest)| rest))
    }

    /// The arguments of an execve.
    #[must_use]
    pub fn argv(&self) -> Vec<Vec<u8>> {
        self.vectors().0.into_iter().map(|t| t.bytes).collect()
    }

    /// The arguments and the environment of an execve.
    #[must_use]
    pub fn vectors(&self) -> (Vec<Text>, Vec<Text>) {
        let (_, rest) = self.args.split_once(", [").unwrap_or_default();
        let (words, environment) = rest.split_once("], [").unwrap_or((rest, ""));
        (texts(words), texts(environment))
    }
}

/// Decodes what stands in angle brackets after a descriptor's number.
fn target_of(text: &str) -> Option<String> {
    let at = text.find('<')?;
    let known = text[..at].bytes().all(|b| b.is_ascii_digit() || b"AT_FDCW".contains(&b));
    let inside = text.get(at + 1..).filter(|_| known && at > 0)?;
    if inside.starts_with('\\') {
        let path = inside.split(['>', '<']).next()?;
        return Some(String::from_utf8_lossy(&texts(path).first()?.bytes).into_owned());
    }
    // "TCP:[127.0.0.1:1->127.0.0.1:2]>": the bracket ends it, not the arrow.
    Some(inside.split_inclusive(']').next()?.to_owned())
}

/// Every maximal run of `\xHH`.
fn texts(text: &str) -> Vec<Text> {
    let mut found = Vec::new();
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(start) = text.get(at..).and_then(|rest| rest.find("\\x")).map(|n| n + at) {
        let (mut run, mut end) = (Vec::new(), start);
        while bytes.get(end..end + 2) == Some(b"\\x") {
            let digits = text.get(end + 2..end + 4).expect("two digits");
            run.push(u8::from_str_radix(digits, 16).expect("two hex digits"));
            end += 4;
        }
        let cut = text.get(end..).is_some_and(|rest| rest.starts_with("\"...")).then_some(Cut);
        found.push(Text { bytes: run, cut });
        at = end;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_come_back_whole() {
        let trace = Trace::parse(concat!(
            "1 execve(\"\\x2f\\x61\", [\"\\x2f\\x61\", \"\\x62\"], [\"\\x45\\x3d\\x31\"]) = 0\n",
            "1 clone(child_stack=0x7f, flags=CLONE_VM|CLONE_THREAD <unfinished ...>\n",
            "2 write(3<TCP:[127.0.0.1:1->127.0.0.1:2]>, \"\\x00\\xff\"..., 900) = 900\n",
            "1 <... clone resumed>, child_tidptr=0x1) = 2\n",
            "2 read(4<\\x2f\\x66>,  <unfinished ...>\n",
            "1 --- SIGCHLD {si_signo=SIGCHLD} ---\n",
            "2 <... read resumed>\"\\x41\\x42\", 2) = 2\n",
            "1 openat(AT_FDCWD<\\x2f>, \"\\x67\", O_RDONLY) = 5<\\x2f\\x67>(deleted)\n",
            "2 recvfrom(4<UNIX-STREAM:[7->8]>,  <unfinished ...>\n",
            "1 pipe2([3<\\x70\\x3a\\x5b\\x31\\x5d>, 4<pipe:[2]>], O_CLOEXEC) = 0\n",
        ));
        let call = |n: usize| &trace.calls[n];
        assert_eq!(call(0).argv(), [b"/a".to_vec(), b"b".to_vec()]);
        assert_eq!(call(0).vectors().1[0].bytes, b"E=1");
        assert_eq!((call(1).name.as_str(), call(1).returned(), call(1).began, call(1).ended), ("clone", Some(2), 1, 3));
        assert_eq!(call(2).target().unwrap(), "TCP:[127.0.0.1:1->127.0.0.1:2]");
        assert_eq!(Call::place(&call(2).target().unwrap()), "TCP");
        assert!(call(2).data()[0].cut.is_some() && call(2).data()[0].bytes == [0, 255]);
        assert_eq!((call(3).target().unwrap().as_str(), call(3).data()[0].bytes.as_slice()), ("/f", &b"AB"[..]));
        assert_eq!((call(4).target().unwrap().as_str(), call(4).made().unwrap().as_str()), ("/", "/g"));
        assert_eq!(call(5).returned(), None);
        assert_eq!(call(6).descriptors(), ["p:[1]", "pipe:[2]"]);
        assert_eq!(call(4).descriptors(), ["/g"]);
        assert_eq!((trace.program(1), trace.program(2)), ("a", "a"));
    }

    #[test]
    fn threads_belong_to_processes_and_processes_to_those_that_forked_them() {
        let trace = Trace::parse(concat!(
            "1 execve(\"\\x2f\\x61\", [\"\\x2f\\x61\"], []) = 0\n",
            "1 clone3({flags=CLONE_VM|CLONE_THREAD, exit_signal=0}, 88) = 2\n",
            "2 clone(child_stack=0x7f, flags=CLONE_VM|CLONE_THREAD <unfinished ...>\n",
            "3 getpid() = 1\n",
            "2 <... clone resumed>, parent_tid=[3]) = 3\n",
            "3 clone(child_stack=NULL, flags=CLONE_CHILD_SETTID|SIGCHLD, child_tidptr=0x7f) = 4\n",
            "4 clone3({flags=CLONE_VM|CLONE_VFORK, exit_signal=SIGCHLD}, 88) = 5\n",
            "5 execve(\"\\x2f\\x62\", [\"\\x2f\\x62\"], []) = 0\n",
            "4 vfork() = 6\n",
        ));
        assert_eq!([1, 2, 3, 4, 5, 6].map(|thread| trace.process(thread)), [1, 1, 1, 4, 5, 6]);
        assert_eq!([1, 4, 5, 6].map(|process| trace.parent(process)), [None, Some(1), Some(4), Some(4)]);
        assert_eq!([3, 4, 5, 6].map(|thread| trace.program(thread)), ["a", "a", "b", "a"]);
        assert_eq!(trace.calls.iter().filter(|call| call.forks()).count(), 3);
    }
}
