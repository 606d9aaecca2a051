//! Turns what a runner and the nursery need, and what nobody here ever needs, into lists of system calls and tests of their arguments.
//! It does not reach what stands behind a pointer: a filter sees numbers only.

use libc::{
    CLONE_CHILD_CLEARTID, CLONE_FILES, CLONE_FS, CLONE_PARENT_SETTID, CLONE_SETTLS, CLONE_SIGHAND, CLONE_SYSVSEM,
    CLONE_THREAD, CLONE_VM, F_DUPFD_CLOEXEC, F_GETFD, F_GETFL, F_SETFD, F_SETFL, FIONBIO, MAP_SHARED, O_ACCMODE,
    O_APPEND, O_CREAT, O_DIRECTORY, O_PATH, O_TRUNC, PR_SET_NAME, PR_SET_NO_NEW_PRIVS, PROT_EXEC, SYS_accept,
    SYS_accept4, SYS_add_key, SYS_arch_prctl, SYS_bind, SYS_bpf, SYS_brk, SYS_clock_getres, SYS_clock_gettime,
    SYS_clock_nanosleep, SYS_clone, SYS_clone3, SYS_close, SYS_connect, SYS_delete_module, SYS_execve, SYS_execveat,
    SYS_exit, SYS_exit_group, SYS_fcntl, SYS_finit_module, SYS_fsmount, SYS_fsopen, SYS_fstat, SYS_futex, SYS_getcpu,
    SYS_getegid, SYS_geteuid, SYS_getgid, SYS_getpid, SYS_getrandom, SYS_getrlimit, SYS_gettid, SYS_gettimeofday,
    SYS_getuid, SYS_init_module, SYS_io_uring_enter, SYS_io_uring_register, SYS_io_uring_setup, SYS_ioctl, SYS_ioperm,
    SYS_iopl, SYS_kcmp, SYS_kexec_file_load, SYS_kexec_load, SYS_keyctl, SYS_listen, SYS_lseek, SYS_madvise, SYS_mmap,
    SYS_modify_ldt, SYS_mount, SYS_move_mount, SYS_mprotect, SYS_mremap, SYS_munmap, SYS_nanosleep, SYS_newfstatat,
    SYS_open_by_handle_at, SYS_open_tree, SYS_openat, SYS_perf_event_open, SYS_personality, SYS_pidfd_getfd,
    SYS_pivot_root, SYS_poll, SYS_ppoll, SYS_prctl, SYS_pread64, SYS_prlimit64, SYS_process_madvise,
    SYS_process_vm_readv, SYS_process_vm_writev, SYS_ptrace, SYS_read, SYS_readv, SYS_reboot, SYS_recvfrom,
    SYS_recvmsg, SYS_request_key, SYS_restart_syscall, SYS_rseq, SYS_rt_sigaction, SYS_rt_sigprocmask,
    SYS_rt_sigreturn, SYS_sched_getaffinity, SYS_sched_setaffinity, SYS_sched_yield, SYS_seccomp, SYS_sendmsg,
    SYS_sendto, SYS_set_robust_list, SYS_setns, SYS_shutdown, SYS_sigaltstack, SYS_socket, SYS_statx, SYS_sysinfo,
    SYS_tgkill, SYS_time, SYS_umount2, SYS_uname, SYS_userfaultfd, SYS_write, SYS_writev, c_long,
};

/// A system call, if all its tests hold.
pub struct Call {
    pub number: i64,
    pub tests: Vec<Test>,
}

/// A test of an argument, which is counted from 0.
#[derive(Clone, Copy)]
pub enum Test {
    /// It is this number, all 64 bits of it.
    Is(u8, u64),
    /// It is this number, which the kernel takes for a 32-bit one.
    IsInt(u8, u64),
    /// It has none of these bits.
    Lacks(u8, u64),
}

use Test::{Is, IsInt, Lacks};

/// The flags of a new thread that the C library starts: all is shared, so that it is no process.
const THREAD: i32 = CLONE_VM
    | CLONE_FS
    | CLONE_FILES
    | CLONE_SYSVSEM
    | CLONE_SIGHAND
    | CLONE_THREAD
    | CLONE_SETTLS
    | CLONE_PARENT_SETTID
    | CLONE_CHILD_CLEARTID;
/// Naming a mapping; harmless, and newer C libraries do it.
const SET_VMA: u64 = 0x5356_4d41;
/// Asking which states of the processor may be used, and for the tiles of AMX (arch/x86/include/uapi/asm/prctl.h).
const PROCESSOR_STATES: [u64; 3] = [0x1021, 0x1022, 0x1023];
/// `SECCOMP_SET_MODE_FILTER` and `SECCOMP_FILTER_FLAG_TSYNC`.
const SET_FILTER: [u64; 2] = [1, 1];

fn plain<const N: usize>(numbers: [c_long; N]) -> Vec<Call> {
    numbers.into_iter().map(|number| Call { number, tests: Vec::new() }).collect()
}

fn tested(number: c_long, tests: &[Test]) -> Call {
    Call { number, tests: tests.to_vec() }
}

const fn bits(flags: i32) -> u64 {
    flags.unsigned_abs() as u64
}

/// What a runner with this process number always needs: to compute, to wait, to talk through what is open, and to end.
pub fn steady(own: u64) -> Vec<Call> {
    let mut calls = plain([
        // Talking.
        SYS_read,
        SYS_write,
        SYS_readv,
        SYS_writev,
        SYS_recvfrom,
        SYS_sendto,
        SYS_shutdown,
        SYS_poll,
        SYS_ppoll,
        SYS_close,
        SYS_fstat,
        SYS_lseek,
        // Memory, none of which is ever executed: see below for the two calls that could ask for it.
        SYS_munmap,
        SYS_mremap,
        SYS_madvise,
        SYS_brk,
        // Threads.
        SYS_futex,
        SYS_sched_yield,
        SYS_sched_getaffinity,
        SYS_getcpu,
        SYS_getpid,
        SYS_gettid,
        SYS_set_robust_list,
        SYS_rseq,
        SYS_sigaltstack,
        SYS_rt_sigaction,
        SYS_rt_sigprocmask,
        SYS_rt_sigreturn,
        SYS_restart_syscall,
        SYS_exit,
        SYS_exit_group,
        // Time, numbers and randomness.
        SYS_clock_gettime,
        SYS_clock_getres,
        SYS_clock_nanosleep,
        SYS_nanosleep,
        SYS_gettimeofday,
        SYS_time,
        SYS_sysinfo,
        SYS_getrlimit,
        SYS_getrandom,
    ]);
    calls.extend([
        // Memory of its own, so that its limit counts it.
        tested(SYS_mmap, &[Lacks(2, bits(PROT_EXEC)), Lacks(3, bits(MAP_SHARED))]),
        tested(SYS_mprotect, &[Lacks(2, bits(PROT_EXEC))]),
        // `abort` and `raise`.
        tested(SYS_tgkill, &[IsInt(0, own)]),
        tested(SYS_prctl, &[IsInt(0, bits(PR_SET_NAME))]),
        tested(SYS_prctl, &[IsInt(0, SET_VMA)]),
        // Its own limits, to be read.
        tested(SYS_prlimit64, &[IsInt(0, 0), Is(2, 0)]),
        tested(SYS_fcntl, &[IsInt(1, bits(F_GETFD))]),
        tested(SYS_fcntl, &[IsInt(1, bits(F_SETFD))]),
        tested(SYS_fcntl, &[IsInt(1, bits(F_GETFL))]),
        tested(SYS_fcntl, &[IsInt(1, bits(F_SETFL))]),
        tested(SYS_ioctl, &[IsInt(1, FIONBIO)]),
    ]);
    calls
}

/// What it needs besides until its model is loaded. `opens`: opening for reading, where that reaches its own pipes only.
pub fn loading(opens: bool) -> Vec<Call> {
    let mut calls = plain([
        // The gate sends the ends of pipes.
        SYS_recvmsg,
        SYS_sendmsg,
        SYS_pread64,
        // Looking at a name, which Landlock knows no rule for: of an ordinary user's runner, which has no root of its own, it tells
        // whether there is a file of a name, and no more.
        SYS_newfstatat,
        SYS_statx,
        SYS_uname,
        SYS_getuid,
        SYS_geteuid,
        SYS_getgid,
        SYS_getegid,
        // Refused by the other filter, in a way that makes the C library use `clone`.
        SYS_clone3,
    ]);
    calls.extend([
        tested(SYS_clone, &[Is(0, bits(THREAD))]),
        tested(SYS_sched_setaffinity, &[IsInt(0, 0)]),
        tested(SYS_fcntl, &[IsInt(1, bits(F_DUPFD_CLOEXEC))]),
        // The filter that comes next.
        tested(SYS_prctl, &[IsInt(0, bits(PR_SET_NO_NEW_PRIVS))]),
        tested(SYS_seccomp, &[IsInt(0, SET_FILTER[0]), IsInt(1, SET_FILTER[1])]),
    ]);
    calls.extend(PROCESSOR_STATES.map(|state| tested(SYS_arch_prctl, &[IsInt(0, state)])));
    if opens {
        let more = O_ACCMODE | O_CREAT | O_TRUNC | O_APPEND | O_DIRECTORY | O_PATH;
        calls.push(tested(SYS_openat, &[Lacks(2, bits(more))]));
    }
    calls
}

/// What the C library must believe the kernel not to know.
pub fn hidden() -> Vec<Call> {
    plain([SYS_clone3])
}

/// What neither the nursery nor a runner ever needs. The nursery's own list is not written down call by call: it runs the dynamic linker.
pub fn foreign() -> Vec<Call> {
    plain([
        // Programs.
        SYS_execve,
        SYS_execveat,
        // Sockets: there are those that were handed over.
        SYS_socket,
        SYS_connect,
        SYS_bind,
        SYS_listen,
        SYS_accept,
        SYS_accept4,
        // Other processes.
        SYS_ptrace,
        SYS_process_vm_readv,
        SYS_process_vm_writev,
        SYS_process_madvise,
        SYS_pidfd_getfd,
        SYS_kcmp,
        // The kernel's insides.
        SYS_bpf,
        SYS_perf_event_open,
        SYS_userfaultfd,
        SYS_io_uring_setup,
        SYS_io_uring_enter,
        SYS_io_uring_register,
        SYS_add_key,
        SYS_request_key,
        SYS_keyctl,
        SYS_init_module,
        SYS_finit_module,
        SYS_delete_module,
        SYS_kexec_load,
        SYS_kexec_file_load,
        SYS_reboot,
        SYS_ioperm,
        SYS_iopl,
        SYS_modify_ldt,
        SYS_personality,
        // The table of mounts.
        SYS_mount,
        SYS_umount2,
        SYS_pivot_root,
        SYS_open_tree,
        SYS_move_mount,
        SYS_fsopen,
        SYS_fsmount,
        SYS_setns,
        SYS_open_by_handle_at,
    ])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use libc::{SYS_dup, SYS_memfd_create, SYS_open, SYS_pipe2};

    use super::*;

    fn numbers(calls: &[Call]) -> BTreeSet<i64> {
        calls.iter().map(|call| call.number).collect()
    }

    #[test]
    fn what_nobody_needs_is_on_no_list() {
        let allowed: BTreeSet<i64> = numbers(&steady(7)).union(&numbers(&loading(true))).copied().collect();
        assert_eq!(numbers(&foreign()).intersection(&allowed).count(), 0);
    }

    #[test]
    fn behind_the_second_filter_nothing_new_is_opened_or_started() {
        let steady = numbers(&steady(7));
        for number in [
            SYS_openat,
            SYS_open,
            SYS_recvmsg,
            SYS_clone,
            SYS_clone3,
            SYS_seccomp,
            SYS_dup,
            SYS_pipe2,
            SYS_memfd_create,
        ] {
            assert!(!steady.contains(&number), "{number}");
        }
        assert!(numbers(&loading(true)).contains(&SYS_openat), "control");
        assert!(!numbers(&loading(false)).contains(&SYS_openat));
    }

    #[test]
    fn calls_that_need_a_test_have_one() {
        let needy = [SYS_mmap, SYS_mprotect, SYS_tgkill, SYS_prctl, SYS_prlimit64, SYS_fcntl, SYS_ioctl];
        let more = [SYS_clone, SYS_sched_setaffinity, SYS_seccomp, SYS_arch_prctl, SYS_openat];
        let all: Vec<Call> = steady(7).into_iter().chain(loading(true)).collect();
        for number in needy.into_iter().chain(more) {
            let mut tests = all.iter().filter(|call| call.number == number).map(|call| call.tests.len());
            assert!(tests.next().is_some_and(|first| first > 0) && tests.all(|count| count > 0), "{number}");
        }
    }
}
