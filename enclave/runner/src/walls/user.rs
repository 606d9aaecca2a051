//! Turns root's process into one of a user that owns nothing, and anybody's into one without capabilities.
//! An ordinary user's process stays that user's: only the other walls keep its files and processes from the runner.

use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

use crate::error::Wall;

/// Runners' users begin here, ...
const BASE: u32 = 20_000;
/// ... and there are so many, all of them below the 65536 that a container is usually given.
const COUNT: u64 = 40_000;

/// The user of a runner. Each nursery begins somewhere else: the kernel counts a user's threads on the whole machine, and there may be
/// other nurseries.
pub fn user(begin: u32, number: u64) -> u32 {
    BASE + u32::try_from(u64::from(begin).wrapping_add(number) % COUNT).unwrap_or_default()
}

/// Takes a user and a group of its own and leaves all others; gives up every capability. Whether it has a user of its own now.
pub fn become_nobody(user: u32) -> Result<bool, Wall> {
    // The nursery must be able to end it: another user's process takes a capability.
    let can_be_ended = capabilities(None).is_ok_and(|has| has.permitted.contains(CapabilitySet::KILL));
    let own_uid = can_be_ended && own_user(user).is_ok();
    drop_capabilities().map_err(|_| Wall::User)?;
    Ok(own_uid)
}

fn own_user(user: u32) -> rustix::io::Result<()> {
    let (gid, uid) = (Gid::from_raw(user), Uid::from_raw(user));
    set_thread_groups(&[])?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)
}

/// Nothing is ever executed here, so what is dropped does not come back.
fn drop_capabilities() -> rustix::io::Result<()> {
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
}

/// Gives up what is not needed to raise walls around runners and to end them.
pub fn keep_for_walls() -> Result<(), Wall> {
    let needed = CapabilitySet::SETUID
        | CapabilitySet::SETGID
        | CapabilitySet::SYS_CHROOT
        | CapabilitySet::SYS_ADMIN
        | CapabilitySet::KILL;
    let has = capabilities(None).map_err(|_| Wall::User)?;
    let kept = has.permitted & needed;
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).map_err(|_| Wall::User)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_of_runners_are_in_their_range() {
        assert!(u64::from(BASE) + COUNT <= 65_536, "what a container is given");
        let all = [user(0, 0), user(7, 1), user(u32::MAX, u64::MAX), user(1, 39_999), user(1, 39_998)];
        assert_eq!(all[..2], [20_000, 20_008]);
        assert!(all.iter().all(|user| (20_000..60_000).contains(user)), "{all:?}");
    }
}
