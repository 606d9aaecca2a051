//! Turns a queue of numbered jobs into results on several threads, handed on in order where order counts.
//! It knows nothing of chunks and keys, and starts fewer threads where the system gives fewer.

use std::{
    num::NonZero,
    panic::resume_unwind,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// Runs `work` on every job. Jobs are taken in order, and each that was taken is finished.
///
/// After a failure or a panic no further job is taken. Of several failures the one of the earliest job is returned: every job
/// before it had been taken by then, so it is the failure that one thread alone would have met first.
pub(crate) fn in_any_order<S, J, E: Send>(
    threads: NonZero<usize>,
    state: impl Fn() -> S + Sync,
    jobs: impl Iterator<Item = J> + Send,
    work: impl Fn(&mut S, J) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let queue = Mutex::new(jobs.enumerate());
    let failed = Mutex::new(None::<(usize, E)>);
    let panicked = AtomicBool::new(false);
    run(threads, &|| {
        let _alarm = OnPanic(|| panicked.store(true, Ordering::SeqCst));
        let mut state = state();
        loop {
            if panicked.load(Ordering::SeqCst) || lock(&failed).is_some() {
                return;
            }
            // Poisoned by a panic of the queue itself: it has nothing more to give.
            let Some((n, job)) = queue.lock().ok().and_then(|mut queue| queue.next()) else { return };
            if let Err(error) = work(&mut state, job) {
                let mut failed = lock(&failed);
                if failed.as_ref().is_none_or(|(first, _)| n < *first) {
                    *failed = Some((n, error));
                }
                return;
            }
        }
    });
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}

/// Runs `take` by one thread at a time, `work` by several, and `hand_on` by one at a time in the order of `take`.
///
/// `take` ends the queue with `None`. The first failure in that order is returned; everything before it has been
/// handed on by then and nothing behind it. Each thread works on one job, in its own `state`. A panic of any of them ends
/// all threads; nothing of its place or behind it is handed on.
pub(crate) fn in_order<S, J, R, E: Send>(
    threads: NonZero<usize>,
    state: impl Fn() -> S + Sync,
    take: impl FnMut(&mut S) -> Result<Option<J>, E> + Send,
    work: impl Fn(&mut S, J) -> Result<R, E> + Sync,
    hand_on: impl FnMut(&mut S, R) -> Result<(), E> + Send,
) -> Result<(), E> {
    let intake = Mutex::new((0, take));
    let outlet = Outlet::new(hand_on);
    run(threads, &|| {
        let _alarm = OnPanic(|| outlet.shut());
        let mut state = state();
        loop {
            let (n, job) = {
                // Poisoned by a panic of `take`: what it would give now is nothing to rely on.
                let Ok(mut intake) = intake.lock() else { return };
                let (next, take) = &mut *intake;
                if outlet.no_more.load(Ordering::SeqCst) {
                    return;
                }
                let Some(job) = take(&mut state).transpose() else {
                    outlet.no_more.store(true, Ordering::SeqCst);
                    return;
                };
                *next += 1;
                (*next - 1, job)
            };
            let result = job.and_then(|job| work(&mut state, job));
            if result.is_err() {
                outlet.no_more.store(true, Ordering::SeqCst);
            }
            if !outlet.pass(n, &mut state, result) {
                return;
            }
        }
    });
    outlet.into_result()
}

/// Where results leave, each in its turn.
struct Outlet<H, E> {
    door: Mutex<Door<H, E>>,
    moved: Condvar,
    /// No job is to be taken any more.
    no_more: AtomicBool,
}

struct Door<H, E> {
    hand_on: H,
    /// Whose turn it is.
    turn: usize,
    /// Nothing leaves any more.
    shut: bool,
    error: Option<E>,
}

impl<H, E> Outlet<H, E> {
    const fn new(hand_on: H) -> Self {
        let door = Door { hand_on, turn: 0, shut: false, error: None };
        Self { door: Mutex::new(door), moved: Condvar::new(), no_more: AtomicBool::new(false) }
    }

    /// Waits for the turn of job `n` and hands on its result; false when this thread has nothing more to do.
    fn pass<S, R>(&self, n: usize, state: &mut S, result: Result<R, E>) -> bool
    where
        H: FnMut(&mut S, R) -> Result<(), E>,
    {
        // Poisoned by a panic of `hand_on`: that is as good as shut.
        let Ok(mut door) = self.door.lock() else { return false };
        while door.turn != n && !door.shut {
            let Ok(again) = self.moved.wait(door) else { return false };
            door = again;
        }
        if door.shut {
            return false;
        }
        match result.and_then(|result| (door.hand_on)(state, result)) {
            // Only now: after a panic it is nobody's turn.
            Ok(()) => door.turn += 1,
            Err(error) => {
                door.shut = true;
                door.error = Some(error);
                self.no_more.store(true, Ordering::SeqCst);
            }
        }
        let open = !door.shut;
        drop(door);
        self.moved.notify_all();
        open
    }

    /// Frees the threads that wait for a turn that never comes.
    fn shut(&self) {
        self.no_more.store(true, Ordering::SeqCst);
        lock(&self.door).shut = true;
        self.moved.notify_all();
    }

    fn into_result(self) -> Result<(), E> {
        match self.door.into_inner().unwrap_or_else(PoisonError::into_inner).error {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

/// Tells the other threads of a panic of this one; the panic itself goes on at the end of the scope.
struct OnPanic<F: Fn()>(F);

impl<F: Fn()> Drop for OnPanic<F> {
    fn drop(&mut self) {
        if thread::panicking() {
            (self.0)();
        }
    }
}

/// No more threads than jobs.
pub(crate) fn at_most(threads: NonZero<usize>, jobs: u64) -> NonZero<usize> {
    let jobs = usize::try_from(jobs).ok().and_then(NonZero::new);
    jobs.map_or(threads, |jobs| threads.min(jobs))
}

/// Runs `lane` on this thread and on further ones.
fn run(threads: NonZero<usize>, lane: &(impl Fn() + Sync)) {
    thread::scope(|scope| {
        let spawn = |_| thread::Builder::new().name("chunks".into()).spawn_scoped(scope, lane);
        // Fewer threads do the same work.
        let others: Vec<_> = (1..threads.get()).map_while(|n| spawn(n).ok()).collect();
        lane();
        for other in others {
            if let Err(panic) = other.join() {
                resume_unwind(panic);
            }
        }
    });
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
        sync::atomic::AtomicUsize,
        thread::sleep,
        time::Duration,
    };

    use super::*;

    fn lanes(n: usize) -> NonZero<usize> {
        NonZero::new(n).unwrap()
    }

    /// Some jobs are slower than others, so that threads overtake each other.
    fn uneven(n: usize) {
        sleep(Duration::from_micros((n as u64 * 7919) % 300));
    }

    fn ordered(threads: usize, jobs: usize, bad: impl Fn(usize) -> bool + Sync) -> (Result<(), usize>, Vec<usize>) {
        let (mut next, mut handed) = (0..jobs, Vec::new());
        let result = in_order(
            lanes(threads),
            || (),
            |()| Ok(next.next()),
            |(), n| {
                uneven(n);
                if bad(n) { Err(n) } else { Ok(n) }
            },
            |(), n| {
                handed.push(n);
                Ok(())
            },
        );
        (result, handed)
    }

    #[test]
    fn everything_is_handed_on_in_order_up_to_the_first_failure() {
        for threads in [1, 2, 3, 8] {
            assert_eq!(ordered(threads, 100, |_| false), (Ok(()), (0..100).collect()));
            assert_eq!(ordered(threads, 0, |_| false), (Ok(()), vec![]));
            for first in [0, 1, 50, 99] {
                let (result, handed) = ordered(threads, 100, |n| n >= first);
                assert_eq!(result, Err(first), "{threads} threads");
                assert_eq!(handed, (0..first).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn failures_of_the_queue_and_of_the_receiver_keep_their_place() {
        for threads in [1, 2, 3, 8] {
            let (mut taken, mut handed) = (0, 0);
            let take = |(): &mut ()| {
                taken += 1;
                if taken == 20 { Err("queue") } else { Ok(Some(taken)) }
            };
            let hand_on = |(): &mut (), _| {
                handed += 1;
                Ok(())
            };
            assert_eq!(in_order(lanes(threads), || (), take, |(), n| Ok(n), hand_on), Err("queue"));
            assert_eq!(handed, 19);

            let mut next = 0..1000;
            let hand_on = |(): &mut (), n| if n == 7 { Err("receiver") } else { Ok(()) };
            assert_eq!(in_order(lanes(threads), || (), |()| Ok(next.next()), |(), n| Ok(n), hand_on), Err("receiver"));
            assert!(next.start <= 8 + threads, "no more than one job per thread was taken beyond it");
        }
    }

    #[test]
    fn the_earliest_failure_is_the_one_that_is_told() {
        for threads in [1, 2, 3, 8] {
            for first in [0, 1, 30, 99] {
                let work = |(): &mut (), n| {
                    uneven(100 - n);
                    if n >= first { Err(n) } else { Ok(()) }
                };
                assert_eq!(in_any_order(lanes(threads), || (), 0..100_usize, work), Err(first), "{threads} threads");
            }
            let done = AtomicUsize::new(0);
            let work = |(): &mut (), n| {
                done.fetch_add(n, Ordering::SeqCst);
                Ok::<_, ()>(())
            };
            assert_eq!(in_any_order(lanes(threads), || (), 0..100, work), Ok(()));
            assert_eq!(done.load(Ordering::SeqCst), 4950);
        }
    }

    /// A panic without words on the way.
    fn panics() -> ! {
        resume_unwind(Box::new(()))
    }

    /// Its thread is slow to tell of a panic: whoever does not see the panic otherwise goes on meanwhile.
    struct Slow;

    impl Drop for Slow {
        fn drop(&mut self) {
            if thread::panicking() {
                sleep(Duration::from_millis(20));
            }
        }
    }

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Place {
        Take,
        Work,
        HandOn,
    }

    /// Which jobs were taken and which were handed on, when job `bad` panics at `place`.
    fn panicking(threads: usize, place: Place, bad: usize) -> (Vec<usize>, Vec<usize>) {
        let (taken, handed) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
        let bad_at = |here, n| {
            if here == place && n == bad {
                panics()
            }
        };
        let mut next = 0..200_usize;
        let run = || {
            in_order(
                lanes(threads),
                || Slow,
                |_| {
                    let n = next.next();
                    lock(&taken).extend(n);
                    bad_at(Place::Take, n.unwrap_or(usize::MAX));
                    Ok::<_, ()>(n)
                },
                |_, n| {
                    uneven(n);
                    bad_at(Place::Work, n);
                    Ok(n)
                },
                |_, n| {
                    bad_at(Place::HandOn, n);
                    lock(&handed).push(n);
                    Ok(())
                },
            )
        };
        assert!(catch_unwind(AssertUnwindSafe(run)).is_err(), "the panic goes on");
        (taken.into_inner().unwrap(), handed.into_inner().unwrap())
    }

    #[test]
    fn after_a_panic_anywhere_nothing_of_its_place_or_behind_it_is_handed_on() {
        for place in [Place::Take, Place::Work, Place::HandOn] {
            for threads in [1, 2, 3, 8] {
                for bad in [0, 3, 50] {
                    let (taken, handed) = panicking(threads, place, bad);
                    let about = format!("{place:?} {bad} on {threads} threads: {taken:?} {handed:?}");
                    assert!(handed.len() <= bad && handed == (0..handed.len()).collect::<Vec<_>>(), "{about}");
                    // Nobody asks again a queue that has panicked.
                    assert!(place != Place::Take || taken.last() == Some(&bad), "{about}");
                    assert!(place == Place::Work || threads > 1 || handed.len() == bad, "{about}");
                }
            }
        }
    }

    #[test]
    fn whoever_comes_to_a_door_where_somebody_panicked_finds_it_shut() {
        let mut handed = Vec::new();
        let outlet = Outlet::new(|(): &mut (), n: usize| {
            if n == 1 {
                panics()
            }
            handed.push(n);
            Ok::<_, ()>(())
        });
        assert!(outlet.pass(0, &mut (), Ok(0)));
        assert!(catch_unwind(AssertUnwindSafe(|| outlet.pass(1, &mut (), Ok(1)))).is_err());
        // Before its thread has told anybody.
        for n in [2, 3, 1] {
            assert!(!outlet.pass(n, &mut (), Ok(n)));
        }
        assert_eq!(outlet.into_result(), Ok(()), "a panic is no error of its own");
        assert_eq!(handed, [0]);
    }

    #[test]
    fn after_a_panic_no_further_job_is_begun_in_any_order_either() {
        for threads in [1, 2, 3, 8] {
            for queue in [false, true] {
                let begun = AtomicUsize::new(0);
                let jobs = (0..100_000).inspect(|n| {
                    if queue && *n == 20 {
                        panics()
                    }
                });
                let work = |(): &mut (), n| {
                    begun.fetch_add(1, Ordering::SeqCst);
                    sleep(Duration::from_micros(50));
                    if n == 20 { panics() } else { Ok::<_, ()>(()) }
                };
                let run = || in_any_order(lanes(threads), || (), jobs, work);
                assert!(catch_unwind(AssertUnwindSafe(run)).is_err(), "the panic goes on");
                let begun = begun.load(Ordering::SeqCst);
                assert!(begun < 10_000 && (begun == 20 || !queue), "{begun} on {threads} threads");
            }
        }
    }
}
