//! Turns the few system calls that need `unsafe` into safe functions: the allocator's settings, memory for secrets and for two processes,
//! forking, and the TDX guest device. It decides nothing: what is wiped, what a process keeps, and what is asked of the processor, is the
//! callers' business.

mod fork;
mod memory;
mod secret;
mod shared;
mod tdx;

pub use fork::{Forked, Namespace, close_others, end, fork, has_one_thread, ignore_requests_to_end, own_namespace};
pub use memory::{keep_freed_memory, return_freed_memory, wipe_freed_memory};
pub use secret::{SecretBuffer, has_room, leave_out_of_dumps, wipe};
pub use shared::SharedMemory;
pub use tdx::{TDREPORT_LEN, TdxGuest};
