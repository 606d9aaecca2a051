//! Turns system calls, as a program that was taken over would make them, into what the kernel says.
//! Nothing here is careful: the processes that call it are made to misbehave.

#![allow(unsafe_code)]

use std::arch::asm;

/// A system call with up to six arguments.
pub fn call<const N: usize>(number: i64, arguments: [usize; N]) -> Result<usize, i32> {
    let at = |index: usize| arguments.get(index).copied().unwrap_or(0);
    // SAFETY: the arguments are numbers, null, or addresses of values that outlive the call.
    let result = unsafe { libc::syscall(number, at(0), at(1), at(2), at(3), at(4), at(5)) };
    usize::try_from(result).map_err(|_| std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
}

/// The call of 32-bit programs by which they ask for their process number.
pub fn other_architecture() {
    let mut number: u64 = 20;
    // SAFETY: it takes no argument and changes nothing but the register.
    unsafe { asm!("int 0x80", inout("rax") number) };
    assert_ne!(number, 0);
}

/// Writes a byte wherever that is.
pub fn poke(address: usize) -> u8 {
    // SAFETY: none: the kernel is to end the process.
    unsafe { std::ptr::with_exposed_provenance_mut::<u8>(address).write_volatile(1) };
    0
}

/// Ends as a crash does.
pub fn abort() -> ! {
    std::process::abort()
}
