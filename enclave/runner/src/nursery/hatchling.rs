//! Turns the fork of the nursery into a runner: raises its walls, tells the gate of them, and only then runs its program.
//! That the walls hold is the kernel's part; what the program does behind them is its own.

use std::io::{Read, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::process::Pid;
use vouchsafe_system::SharedMemory;

use crate::error::{RunnerError, Wall};
use crate::nursery::brood;
use crate::nursery::wire::WallLimits;
use crate::walls::{self, Place, Raised};

/// The exit status of a runner whose walls cannot be raised: its program was not run.
pub const NO_WALLS: u8 = 70;
/// The exit status of a runner whose program panicked.
pub const PANICKED: u8 = 71;
/// What a runner tells of its walls is shorter than this.
const LONGEST: usize = 64;

/// What a runner has, behind its walls.
pub struct Inherited {
    /// Messages from the gate and to it.
    pub jobs: UnixStream,
    /// Numbers of the jobs to stop.
    pub stops: UnixStream,
    /// Tensors.
    pub memory: SharedMemory,
    /// Its walls.
    pub raised: Raised,
}

/// A runner's whole life; its exit status. It becomes `user`, where that is possible, and ends with `parent`.
pub fn main(
    user: u32,
    limits: &WallLimits,
    [jobs, stops, memory]: [OwnedFd; 3],
    parent: Pid,
    entry: fn(Inherited) -> u8,
) -> u8 {
    let mut jobs = UnixStream::from(jobs);
    let stops = UnixStream::from(stops);
    // What it shares with its brothers, the offset and the flags of one open file, would be a way to talk to them.
    if brood::nothing_standard().is_err() {
        let _ = tell(&mut jobs, &Err(Wall::Descriptors));
        return NO_WALLS;
    }
    let mapped = SharedMemory::map(&memory, limits.shared_bytes);
    drop(memory);
    let place = Place { user, parent, keep: &[jobs.as_fd(), stops.as_fd()] };
    let (raised, memory) = match (walls::raise(&place, limits), mapped) {
        (Ok(raised), Ok(memory)) => (raised, memory),
        (raised, _) => {
            let wall = raised.err().unwrap_or(Wall::Limits);
            let _ = tell(&mut jobs, &Err(wall));
            return NO_WALLS;
        }
    };
    if tell(&mut jobs, &Ok(raised)).is_none() {
        return NO_WALLS;
    }
    let inherited = Inherited { jobs, stops, memory, raised };
    entry(inherited)
}

fn tell(jobs: &mut UnixStream, raised: &Result<Raised, Wall>) -> Option<()> {
    let bytes = postcard::to_allocvec(raised).ok()?;
    let length = u32::try_from(bytes.len()).ok()?;
    jobs.write_all(&[&length.to_le_bytes()[..], &bytes].concat()).ok()
}

/// The gate's side: waits for the word that the walls stand. Nothing of a model was read before, so that it is believed.
pub fn listen(mut jobs: &UnixStream, patience: Duration) -> Result<Raised, RunnerError> {
    let system = |_| RunnerError::System("a socket to a runner");
    jobs.set_read_timeout(Some(patience)).map_err(system)?;
    let mut length = [0; 4];
    jobs.read_exact(&mut length).map_err(|_| RunnerError::RunnerDied)?;
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if length > LONGEST {
        return Err(RunnerError::Protocol("its first word"));
    }
    let mut bytes = vec![0; length];
    jobs.read_exact(&mut bytes).map_err(|_| RunnerError::RunnerDied)?;
    jobs.set_read_timeout(None).map_err(system)?;
    let raised: Result<Raised, Wall> =
        postcard::from_bytes(&bytes).map_err(|_| RunnerError::Protocol("its first word"))?;
    raised.map_err(RunnerError::Walls)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::walls::{Fence, Root};

    #[test]
    fn the_word_of_the_walls_is_heard_or_refused() {
        let raised = Raised { own_uid: true, root: Root::Empty, network_namespace: false, landlock: Fence::Partial };
        let hear = |write: &dyn Fn(&mut UnixStream)| {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            write(&mut theirs);
            drop(theirs);
            listen(&ours, Duration::from_secs(20))
        };
        assert_eq!(hear(&|jobs| tell(jobs, &Ok(raised)).unwrap()), Ok(raised));
        assert_eq!(hear(&|jobs| tell(jobs, &Err(Wall::User)).unwrap()), Err(RunnerError::Walls(Wall::User)));
        assert_eq!(hear(&|_| ()), Err(RunnerError::RunnerDied));
        assert_eq!(hear(&|jobs| jobs.write_all(&[1, 0, 0, 0]).unwrap()), Err(RunnerError::RunnerDied));
        let wrong = Err(RunnerError::Protocol("its first word"));
        assert_eq!(hear(&|jobs| jobs.write_all(&[0xFF; 40]).unwrap()), wrong);
        assert_eq!(hear(&|jobs| jobs.write_all(&[1, 0, 0, 0, 9]).unwrap()), wrong);
    }
}
