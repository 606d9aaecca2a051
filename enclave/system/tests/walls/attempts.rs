//! Turns what a taken-over runner would try into a list: what it tries, how the walls refuse it, and whether it works without them.
//! It does not try what would harm this machine if it worked.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use libc::{EACCES, EAGAIN, ENOENT, ENOMEM, ENOSYS, EPERM, SIGBUS, SIGSYS};
use vouchsafe_runner::Inherited;

use crate::Scene;
use crate::raw::{call, other_architecture, poke};

/// How an attempt is stopped.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// By one of these errors.
    Error(&'static [i32]),
    /// By the end of the process.
    Signal(i32),
}

/// What an attempt does in a process without walls.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// It works, whoever asks.
    Works,
    /// It works for root.
    Root,
    /// Who knows: it is not the walls alone that refuse it.
    Any,
    /// It is not tried.
    Skip,
}

/// When a wall stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// From the first message on.
    Always,
    /// Once the model is loaded. Before, it works.
    Loaded,
}

/// One thing that a runner tries.
pub struct Attempt {
    pub name: &'static str,
    pub stop: Stop,
    pub control: Control,
    pub when: When,
    pub run: fn(&Scene, &Inherited) -> Result<(), i32>,
}

/// A file: refused by the filter, by Landlock, or because it is not there.
const FILE: Stop = Stop::Error(&[EPERM, EACCES, ENOENT]);
const CALL: Stop = Stop::Error(&[EPERM]);

const fn attempt(
    name: &'static str,
    stop: Stop,
    control: Control,
    run: fn(&Scene, &Inherited) -> Result<(), i32>,
) -> Attempt {
    Attempt { name, stop, control, when: When::Always, run }
}

fn io<T>(result: io::Result<T>) -> Result<(), i32> {
    result.map(drop).map_err(|error| error.raw_os_error().unwrap_or(-1))
}

fn raw<const N: usize>(number: i64, arguments: [usize; N]) -> Result<(), i32> {
    call(number, arguments).map(drop)
}

fn text(text: &str) -> CString {
    CString::new(text).unwrap()
}

fn address<T>(value: &T) -> usize {
    std::ptr::from_ref(value).expose_provenance()
}

fn socket(family: i32, kind: i32) -> Result<(), i32> {
    raw(libc::SYS_socket, [family as usize, kind as usize, 0])
}

fn mapped(rights: i32, kind: i32, len: usize) -> Result<(), i32> {
    raw(libc::SYS_mmap, [0, len, rights as usize, kind as usize, usize::MAX, 0])
}

const PRIVATE: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
const WRITE: i32 = libc::PROT_READ | libc::PROT_WRITE;

/// All of them.
pub fn all() -> Vec<Attempt> {
    [files(), sockets(), programs(), processes(), memory(), kernel(), privileges(), loaded()]
        .into_iter()
        .flatten()
        .collect()
}

fn files() -> Vec<Attempt> {
    use Control::{Any, Root, Works};
    vec![
        attempt("read a file", FILE, Works, |_, _| io(fs::read("/etc/passwd"))),
        attempt("read a stranger's environment", FILE, Any, |_, _| io(fs::read("/proc/1/environ"))),
        attempt("read the gate's memory", FILE, Any, |scene, _| {
            io(fs::File::open(format!("/proc/{}/mem", scene.gate)))
        }),
        attempt("open its own memory", FILE, Any, |_, _| io(fs::OpenOptions::new().write(true).open("/proc/self/mem"))),
        attempt("open a device", FILE, Works, |_, _| io(fs::File::open("/dev/zero"))),
        attempt("open a device to write", FILE, Works, |_, _| io(fs::OpenOptions::new().write(true).open("/dev/null"))),
        attempt("open the current directory", FILE, Works, |_, _| io(fs::File::open("."))),
        attempt("open the root", FILE, Works, |_, _| io(fs::File::open("/"))),
        attempt("climb", FILE, Works, |_, _| io(fs::File::open("../../../../../../etc/passwd"))),
        attempt("list a directory", FILE, Works, |_, _| io(fs::read_dir("/"))),
        attempt("create a file", FILE, Works, |_, _| {
            io(fs::File::create(format!("/tmp/walls-{}", std::process::id())))
        }),
        attempt("create a file here", FILE, Root, |_, _| io(fs::File::create(format!("walls-{}", std::process::id())))),
        attempt("make a directory", CALL, Works, |_, _| {
            io(fs::create_dir(format!("/tmp/walls-d-{}", std::process::id())))
        }),
        attempt("link", CALL, Works, |_, _| {
            io(std::os::unix::fs::symlink("x", format!("/tmp/walls-l-{}", std::process::id())))
        }),
        attempt("read a link", CALL, Works, |_, _| io(fs::read_link("/proc/self/exe"))),
        attempt("open by handle", CALL, Any, |_, _| raw(libc::SYS_open_by_handle_at, [usize::MAX, 0, 0])),
        attempt("open the old way", CALL, Works, |_, _| {
            raw(libc::SYS_open, [text("/etc/passwd").as_ptr().expose_provenance(), 0, 0])
        }),
        attempt("open the new way", CALL, Any, |_, _| {
            raw(libc::SYS_openat2, [usize::MAX, text("/etc/passwd").as_ptr().expose_provenance(), 0, 24])
        }),
        attempt("use a descriptor of the gate's or the nursery's", Stop::Error(&[libc::EBADF]), Works, |_, own| {
            // Those that are closed say so; one that is open and not its own is a success.
            let known = [0, 1, 2, own.jobs.as_raw_fd(), own.stops.as_raw_fd()];
            let open = |number: &i32| call(libc::SYS_fcntl, [*number as usize, libc::F_GETFD as usize]).is_ok();
            (0..2000).find(|number| !known.contains(number) && open(number)).map(drop).ok_or(libc::EBADF)
        }),
        attempt("reach behind its standard descriptors", FILE, Any, |_, own| {
            let name = |number: i32| match own.raised.root {
                vouchsafe_runner::walls::Root::Empty => format!("/{number}"),
                vouchsafe_runner::walls::Root::Denied => format!("/proc/self/fd/{number}"),
            };
            // A null device leads nowhere; Landlock refuses even that.
            if own.raised.landlock == vouchsafe_runner::walls::Fence::None {
                return Err(EACCES);
            }
            (0..3).map(|number| io(fs::File::open(name(number)))).find(Result::is_ok).unwrap_or(Err(EACCES))
        }),
        attempt("watch files", CALL, Works, |_, _| raw(libc::SYS_inotify_init1, [0])),
    ]
}

fn sockets() -> Vec<Attempt> {
    use Control::{Any, Root, Works};
    vec![
        attempt("make a local socket", CALL, Works, |_, _| socket(libc::AF_UNIX, libc::SOCK_STREAM)),
        attempt("make a TCP socket", CALL, Works, |_, _| socket(libc::AF_INET, libc::SOCK_STREAM)),
        attempt("make a UDP socket", CALL, Works, |_, _| socket(libc::AF_INET, libc::SOCK_DGRAM)),
        attempt("make an IPv6 socket", CALL, Any, |_, _| socket(libc::AF_INET6, libc::SOCK_STREAM)),
        attempt("make a raw socket", CALL, Root, |_, _| {
            raw(libc::SYS_socket, [libc::AF_INET as usize, libc::SOCK_RAW as usize, 1])
        }),
        attempt("make a netlink socket", CALL, Works, |_, _| socket(libc::AF_NETLINK, libc::SOCK_RAW)),
        attempt("make a packet socket", CALL, Any, |_, _| socket(libc::AF_PACKET, libc::SOCK_RAW)),
        attempt("make a socket to the host", CALL, Any, |_, _| socket(libc::AF_VSOCK, libc::SOCK_STREAM)),
        attempt("make a socket to the kernel's ciphers", CALL, Any, |_, _| socket(libc::AF_ALG, libc::SOCK_SEQPACKET)),
        attempt("make a socket for kernel buffers", CALL, Any, |_, _| socket(44, libc::SOCK_RAW)),
        attempt("make two sockets", CALL, Works, |_, _| io(std::os::unix::net::UnixStream::pair())),
        attempt("connect", CALL, Works, |scene, _| io(std::net::TcpStream::connect(scene.listener))),
        attempt("bind", CALL, Works, |_, _| io(std::net::TcpListener::bind("127.0.0.1:0"))),
        attempt("connect its own socket", CALL, Any, |_, own| {
            raw(libc::SYS_connect, [own.jobs.as_raw_fd() as usize, address(&[1_u16, 0]), 4])
        }),
        attempt("bind its own socket", CALL, Any, |_, own| {
            raw(libc::SYS_bind, [own.jobs.as_raw_fd() as usize, address(&[1_u16, 0]), 4])
        }),
        attempt("listen on its own socket", CALL, Any, |_, own| {
            raw(libc::SYS_listen, [own.jobs.as_raw_fd() as usize, 1])
        }),
        attempt("accept on its own socket", CALL, Any, |_, own| {
            raw(libc::SYS_accept4, [own.jobs.as_raw_fd() as usize, 0, 0, 0])
        }),
        attempt("change its own socket", CALL, Works, |_, own| {
            let on = 1_i32;
            raw(libc::SYS_setsockopt, [own.jobs.as_raw_fd() as usize, 1, 9, address(&on), 4])
        }),
        attempt("have its own socket signal the gate", CALL, Any, |scene, own| {
            raw(libc::SYS_fcntl, [own.jobs.as_raw_fd() as usize, libc::F_SETOWN as usize, scene.gate as usize])
        }),
    ]
}

fn programs() -> Vec<Attempt> {
    use Control::{Any, Skip, Works};
    vec![
        attempt("run a program", CALL, Works, |_, _| {
            let (path, end) = (text("/bin/true"), 0_usize);
            raw(libc::SYS_execve, [path.as_ptr().expose_provenance(), address(&end), address(&end)])
        }),
        attempt("run a program by directory", CALL, Works, |_, _| {
            let (path, end) = (text("/bin/true"), 0_usize);
            raw(
                libc::SYS_execveat,
                [libc::AT_FDCWD as usize, path.as_ptr().expose_provenance(), address(&end), address(&end), 0],
            )
        }),
        attempt("start a program", CALL, Works, |_, _| io(std::process::Command::new("/bin/true").status())),
        attempt("fork", CALL, Works, |_, _| forked(call(libc::SYS_fork, []))),
        attempt("fork by clone", CALL, Works, |_, _| {
            forked(call(libc::SYS_clone, [libc::SIGCHLD as usize, 0, 0, 0, 0]))
        }),
        attempt("fork on the same memory", CALL, Skip, |_, _| raw(libc::SYS_vfork, [])),
        attempt("fork by clone3", Stop::Error(&[ENOSYS, EPERM]), Works, |_, _| {
            let mut arguments = [0_u64; 8];
            arguments[4] = libc::SIGCHLD as u64;
            forked(call(libc::SYS_clone3, [address(&arguments), 64]))
        }),
        attempt("clone into a user namespace", CALL, Any, |_, _| {
            forked(call(libc::SYS_clone, [(libc::CLONE_NEWUSER | libc::SIGCHLD) as usize, 0, 0, 0, 0]))
        }),
        attempt("clone with other namespaces as a thread", CALL, Skip, |_, _| {
            raw(libc::SYS_clone, [(0x3d_0f00 | libc::CLONE_NEWNET) as usize, 0, 0, 0, 0])
        }),
    ]
}

/// A child has nothing to do but to end.
fn forked(result: Result<usize, i32>) -> Result<(), i32> {
    match result {
        Ok(0) => vouchsafe_system::end(0),
        Ok(_) => Ok(()),
        Err(error) => Err(error),
    }
}

fn processes() -> Vec<Attempt> {
    use Control::{Any, Root, Skip, Works};
    vec![
        attempt("signal the gate", CALL, Works, |scene, _| raw(libc::SYS_kill, [scene.gate as usize, 0])),
        attempt("signal everybody", CALL, Any, |_, _| raw(libc::SYS_kill, [usize::MAX, 0])),
        attempt("signal the gate's thread", CALL, Works, |scene, _| {
            raw(libc::SYS_tgkill, [scene.gate as usize, scene.gate as usize, 0])
        }),
        attempt("signal a thread", CALL, Works, |scene, _| raw(libc::SYS_tkill, [scene.gate as usize, 0])),
        attempt("queue a signal", CALL, Any, |scene, _| raw(libc::SYS_rt_sigqueueinfo, [scene.gate as usize, 0, 0])),
        attempt("open the gate's process", CALL, Works, |scene, _| raw(libc::SYS_pidfd_open, [scene.gate as usize, 0])),
        attempt("steal the gate's descriptor", CALL, Any, |_, own| {
            raw(libc::SYS_pidfd_getfd, [own.jobs.as_raw_fd() as usize, 0, 0])
        }),
        attempt("trace the gate", CALL, Root, |scene, _| raw(libc::SYS_ptrace, [0x4206, scene.gate as usize, 0, 0])),
        attempt("be traced", CALL, Works, |_, _| raw(libc::SYS_ptrace, [0, 0, 0, 0])),
        attempt("copy from the gate's memory", CALL, Root, |scene, _| {
            let (mut byte, remote) = (0_u8, [scene.secret, 1]);
            let local = [std::ptr::from_mut(&mut byte).expose_provenance(), 1];
            let result =
                call(libc::SYS_process_vm_readv, [scene.gate as usize, address(&local), 1, address(&remote), 1, 0]);
            result.map(drop)
        }),
        attempt("copy to the gate's memory", CALL, Any, |scene, _| {
            raw(libc::SYS_process_vm_writev, [scene.gate as usize, 0, 0, 0, 0, 0])
        }),
        attempt("compare with the gate", CALL, Any, |scene, _| {
            raw(libc::SYS_kcmp, [scene.gate as usize, scene.gate as usize, 1, 0, 0])
        }),
        attempt("read the gate's limits", CALL, Root, |scene, _| {
            let old = [0_u64; 2];
            raw(libc::SYS_prlimit64, [scene.gate as usize, libc::RLIMIT_AS as usize, 0, address(&old)])
        }),
        attempt("pin the gate to a processor", CALL, Any, |scene, _| {
            raw(libc::SYS_sched_setaffinity, [scene.gate as usize, 0, 0])
        }),
        attempt("slow the gate down", CALL, Skip, |scene, _| raw(libc::SYS_setpriority, [0, scene.gate as usize, 19])),
        attempt("put itself before others", CALL, Any, |_, _| raw(libc::SYS_setpriority, [0, 0, (-20_isize) as usize])),
        attempt("wait for children", CALL, Any, |_, _| raw(libc::SYS_wait4, [usize::MAX, 0, 1, 0])),
    ]
}

fn memory() -> Vec<Attempt> {
    use Control::{Any, Skip, Works};
    vec![
        attempt("map what can be executed", CALL, Works, |_, _| mapped(WRITE | libc::PROT_EXEC, PRIVATE, 4096)),
        attempt("make memory executable", CALL, Works, |_, _| {
            let at = call(libc::SYS_mmap, [0, 4096, WRITE as usize, PRIVATE as usize, usize::MAX, 0])?;
            raw(libc::SYS_mprotect, [at, 4096, (libc::PROT_READ | libc::PROT_EXEC) as usize])
        }),
        attempt("make memory executable by key", CALL, Works, |_, _| {
            let at = call(libc::SYS_mmap, [0, 4096, WRITE as usize, PRIVATE as usize, usize::MAX, 0])?;
            raw(libc::SYS_pkey_mprotect, [at, 4096, (WRITE | libc::PROT_EXEC) as usize, usize::MAX])
        }),
        attempt("make all that is readable executable", CALL, Works, |_, _| raw(libc::SYS_personality, [0x040_0000])),
        attempt("make a file of memory", CALL, Works, |_, _| {
            raw(libc::SYS_memfd_create, [text("x").as_ptr().expose_provenance(), 0])
        }),
        attempt("make a segment of memory", CALL, Works, |_, _| raw(libc::SYS_shmget, [0, 4096, 0o1600])),
        attempt("map shared memory, which no limit counts", CALL, Works, |_, _| {
            mapped(WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS, 1 << 20)
        }),
        attempt("fill memory without end", Stop::Error(&[ENOMEM]), Skip, |_, _| fill(1 << 20, 400)),
        attempt("fill small memory without end", Stop::Error(&[ENOMEM]), Skip, |_, _| fill(60_000, 7000)),
        attempt("take all addresses", Stop::Error(&[ENOMEM]), Works, |_, _| {
            mapped(libc::PROT_NONE, PRIVATE | libc::MAP_NORESERVE, 1 << 36)
        }),
        attempt("lock memory", Stop::Error(&[EPERM]), Any, |_, _| raw(libc::SYS_mlockall, [3])),
        attempt("cut the shared memory", Stop::Error(&[EPERM]), Any, |_, own| {
            let cut = |number: i32| raw(libc::SYS_ftruncate, [number as usize, 0]);
            let _ = own;
            (3..64).map(cut).find(|result| *result != Err(libc::EBADF)).unwrap_or(Err(EPERM))
        }),
        attempt("write behind the shared memory", Stop::Signal(SIGBUS), Any, |_, own| {
            let (len, more) = (own.memory.len(), own.memory.len() * 2);
            let start = own.memory.borrow(0..len).map(|bytes| bytes.as_ptr().expose_provenance()).unwrap();
            let grown = call(libc::SYS_mremap, [start, len, more, libc::MREMAP_MAYMOVE as usize, 0])?;
            poke(grown + len);
            Ok(())
        }),
        attempt("raise its limit of memory", CALL, Control::Root, |_, _| {
            let more = [u64::MAX; 2];
            raw(libc::SYS_prlimit64, [0, libc::RLIMIT_AS as usize, address(&more), 0])
        }),
        attempt("raise its limit of files", CALL, Any, |_, _| {
            let more = [u64::MAX; 2];
            raw(libc::SYS_setrlimit, [libc::RLIMIT_FSIZE as usize, address(&more)])
        }),
    ]
}

/// Takes and fills pieces until there is no more, or too much: several times what the limits and the stacks of threads come to.
fn fill(len: usize, count: usize) -> Result<(), i32> {
    let mut pieces: Vec<Vec<u8>> = Vec::with_capacity(count);
    for _ in 0..count {
        let mut piece = Vec::new();
        piece.try_reserve_exact(len).map_err(|_| ENOMEM)?;
        piece.resize(len, 1);
        pieces.push(piece);
    }
    Ok(())
}

fn kernel() -> Vec<Attempt> {
    use Control::{Any, Skip, Works};
    vec![
        attempt("make an I/O ring", CALL, Any, |_, _| {
            let parameters = [0_u32; 32];
            raw(libc::SYS_io_uring_setup, [1, address(&parameters)])
        }),
        attempt("load a program into the kernel", CALL, Any, |_, _| raw(libc::SYS_bpf, [0, 0, 0])),
        attempt("count events", CALL, Any, |_, _| raw(libc::SYS_perf_event_open, [0, 0, usize::MAX, usize::MAX, 0])),
        attempt("handle page faults", CALL, Any, |_, _| raw(libc::SYS_userfaultfd, [1])),
        attempt("add a key", CALL, Any, |_, _| raw(libc::SYS_add_key, [0, 0, 0, 0, 0])),
        attempt("look at keys", CALL, Any, |_, _| raw(libc::SYS_keyctl, [0, (-3_isize) as usize, 0])),
        attempt("load a module", CALL, Any, |_, _| raw(libc::SYS_finit_module, [usize::MAX, 0, 0])),
        attempt("restart the machine", CALL, Skip, |_, _| raw(libc::SYS_reboot, [0, 0, 0, 0])),
        attempt("read the kernel's log", CALL, Any, |_, _| raw(libc::SYS_syslog, [10, 0, 0])),
        attempt("set the clock", CALL, Any, |_, _| raw(libc::SYS_clock_settime, [0, 0])),
        attempt("use ports", CALL, Any, |_, _| raw(libc::SYS_iopl, [0])),
        attempt("change descriptors of segments", CALL, Any, |_, _| raw(libc::SYS_modify_ldt, [0, 0, 0])),
        attempt("make a pipe", CALL, Works, |_, _| io(io::pipe())),
        attempt("make an event", CALL, Works, |_, _| raw(libc::SYS_eventfd2, [0, 0])),
        attempt("make a timer", CALL, Works, |_, _| raw(libc::SYS_timerfd_create, [1, 0])),
        attempt("control a device", CALL, Any, |_, own| {
            raw(libc::SYS_ioctl, [own.jobs.as_raw_fd() as usize, libc::SIOCGIFCONF as usize, 0])
        }),
        attempt("call as 32-bit programs do", Stop::Signal(SIGSYS), Any, |_, _| {
            other_architecture();
            Ok(())
        }),
        attempt("call as x32 programs do", CALL, Any, |_, _| raw(0x4000_0000 + libc::SYS_getpid, [])),
        attempt("call what no kernel knows", CALL, Any, |_, _| raw(9999, [])),
    ]
}

fn privileges() -> Vec<Attempt> {
    use Control::{Any, Root};
    vec![
        attempt("become root", CALL, Root, |_, _| raw(libc::SYS_setuid, [0])),
        attempt("become root's group", CALL, Root, |_, _| raw(libc::SYS_setresgid, [0, 0, 0])),
        attempt("join groups", CALL, Root, |_, _| raw(libc::SYS_setgroups, [0, 0])),
        attempt("take capabilities", CALL, Any, |_, _| raw(libc::SYS_capset, [0, 0])),
        attempt("leave for a user namespace", CALL, Any, |_, _| raw(libc::SYS_unshare, [libc::CLONE_NEWUSER as usize])),
        attempt("leave for a mount namespace", CALL, Root, |_, _| raw(libc::SYS_unshare, [libc::CLONE_NEWNS as usize])),
        attempt("enter a namespace", CALL, Any, |_, own| raw(libc::SYS_setns, [own.jobs.as_raw_fd() as usize, 0])),
        attempt("mount", CALL, Any, |_, _| raw(libc::SYS_mount, [0, 0, 0, 0, 0])),
        attempt("change the root", CALL, Root, |_, _| raw(libc::SYS_chroot, [text("/").as_ptr().expose_provenance()])),
        attempt("change the directory", CALL, Control::Works, |_, _| io(std::env::set_current_dir("/"))),
        attempt("name the machine", CALL, Any, |_, _| raw(libc::SYS_sethostname, [0, 1000])),
        attempt("let others look into it", CALL, Control::Works, |_, _| raw(libc::SYS_prctl, [4, 1, 0, 0, 0])),
        attempt("outlive its parent", CALL, Control::Works, |_, _| raw(libc::SYS_prctl, [1, 0, 0, 0, 0])),
        attempt("let others trace it", CALL, Any, |_, _| raw(libc::SYS_prctl, [0x5961_6d61, usize::MAX, 0, 0, 0])),
        attempt("decide over its own calls", CALL, Any, |_, _| raw(libc::SYS_seccomp, [1, 1 << 3, 0])),
    ]
}

/// What works until the model is loaded.
fn loaded() -> Vec<Attempt> {
    let later = |name, control, run| Attempt { name, stop: CALL, control, when: When::Loaded, run };
    vec![
        later("start a thread", Control::Works, |_, _| {
            io(std::thread::Builder::new().spawn(|| ()).map(std::thread::JoinHandle::join))
        }),
        later("copy a descriptor", Control::Works, |_, own| io(own.jobs.try_clone())),
        later("filter its calls more", Control::Works, |_, _| raw(libc::SYS_prctl, [38, 1, 0, 0, 0])),
        later("look at its descriptor by name", Control::Works, |_, own| {
            let number = own.jobs.as_raw_fd();
            let path = format!("/proc/self/fd/{number}");
            let there = io(fs::metadata(Path::new(&path)));
            if there == Err(ENOENT) { io(fs::metadata(format!("/{number}"))) } else { there }
        }),
        Attempt {
            name: "start threads without end",
            stop: Stop::Error(&[EPERM, EAGAIN, ENOMEM]),
            control: Control::Skip,
            when: When::Always,
            run: |_, _| {
                let wait = || std::thread::sleep(std::time::Duration::from_secs(60));
                (0..2000).try_for_each(|_| io(std::thread::Builder::new().spawn(wait)))
            },
        },
    ]
}
