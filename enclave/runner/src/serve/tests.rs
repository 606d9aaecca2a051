//! Turns stops that come early, late and in time into runs that end or go on.

use super::*;
use crate::session::tests::library;

fn running() -> Running {
    Running::new(Arc::new(RunOptions::new().unwrap()))
}

#[test]
fn a_stop_reaches_its_own_run_alone() {
    let Some(()) = library("a_stop_reaches_its_own_run_alone") else { return };
    let running = running();
    assert!(running.begin(1));
    running.stop(1);
    assert!(running.end(), "in time");
    running.stop(1);
    assert!(running.begin(2));
    assert!(!running.end(), "late: it is no stop of the next one");
    running.stop(4);
    running.stop(2);
    assert!(running.begin(3));
    assert!(!running.end(), "early: it is no stop of the one before");
    assert!(!running.begin(4), "but of its own");
    assert!(running.begin(5) && !running.end());
    assert!(running.state().later.is_empty());
}

#[test]
fn stops_that_never_get_their_turn_are_forgotten() {
    let Some(()) = library("stops_that_never_get_their_turn_are_forgotten") else { return };
    let running = running();
    (1..=3 * MOST_STOPS as u64).for_each(|job| running.stop(job));
    assert_eq!(running.state().later.len(), MOST_STOPS);
    assert!(running.begin(u64::MAX - 1));
    assert!(running.state().later.is_empty());
}

#[test]
fn the_run_ends_with_the_gate() {
    let Some(()) = library("the_run_ends_with_the_gate") else { return };
    let (running, (ours, theirs)) = (Arc::new(running()), UnixStream::pair().unwrap());
    assert!(running.begin(1));
    let watching = {
        let running = running.clone();
        thread::spawn(move || running.watch(&theirs))
    };
    (&ours).write_all(&7_u64.to_le_bytes()).unwrap();
    drop(ours);
    watching.join().unwrap();
    assert!(running.end());
    assert!(running.begin(2) && !running.end());
    assert!(!running.begin(7), "what came before counts");
}
