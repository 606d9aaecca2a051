//! Turns the few system calls that need `unsafe` into safe functions: the allocator's settings, memory for secrets, and the TDX guest device.
//! It decides nothing: what is wiped, and what is asked of the processor, is the callers' business.

mod memory;
mod secret;
mod tdx;

pub use memory::{return_freed_memory, wipe_freed_memory};
pub use secret::{SecretBuffer, has_room, leave_out_of_dumps, wipe};
pub use tdx::{TDREPORT_LEN, TdxGuest};
