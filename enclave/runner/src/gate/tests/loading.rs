//! Turns writers that refuse and runners that do not read into errors, and never into waiting for ever.

use std::fs::File;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::super::load::{Rest, into_runner};
use super::*;
use crate::message::{Load, Refusal};

/// More than a pipe holds.
const MUCH: usize = 5 << 20;

/// The first message, and the pipe.
fn receive(side: &mut Side) -> (Load, File) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let (mut control, mut bytes) = (RecvAncillaryBuffer::new(&mut space), [0; 4096]);
    let received =
        recvmsg(&side.jobs, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    side.inbox.push(&bytes[..received.bytes]);
    let Some(RecvAncillaryMessage::ScmRights(mut descriptors)) = control.drain().next() else { panic!("no pipe") };
    let pipe = File::from(descriptors.next().unwrap());
    let Ok(Some(Order::Load(load))) = side.inbox.next() else { panic!("no order") };
    (load, pipe)
}

fn parts() -> Parts {
    Parts { delivery: Delivery::Buffer, external: vec![("w".into(), 3)], graph_len: 5 }
}

/// What becomes of a model when this feeds it and that plays the runner; and whether it was killed.
fn loaded(
    spec: &Spec,
    feed: impl FnOnce(&mut Feed) -> Result<(), &'static str> + Send,
    play: impl FnOnce(&mut Side, Load, File) + Send + 'static,
) -> (Result<Runner, LoadError<&'static str>>, Arc<Played>) {
    let hold = Played::new();
    let layout = layout(spec).unwrap();
    let ((jobs, their_jobs), (stops, their_stops)) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
    let (memory, descriptor) = SharedMemory::new(layout.total()).unwrap();
    let theirs = SharedMemory::map(&descriptor, layout.total()).unwrap();
    let mut side = Side { jobs: their_jobs, stops: their_stops, memory: theirs, layout, inbox: Inbox::default() };
    let dies = hold.clone();
    let playing = thread::spawn(move || {
        let (load, pipe) = receive(&mut side);
        play(&mut side, load, pipe);
    });
    let rest = Rest { jobs, stops, memory, number: 1, raised: raised() };
    let hold: Arc<dyn Hold> = hold;
    let result = into_runner(&hold, rest, spec, layout, &parts(), feed);
    // A played runner that waits for its killing sees it as a closed socket.
    playing.join().unwrap();
    (result, dies)
}

fn all(feed: &mut Feed) -> Result<(), &'static str> {
    feed.write(b"abc");
    feed.write(b"graph");
    Ok(())
}

fn much(feed: &mut Feed) -> Result<(), &'static str> {
    feed.write(&vec![1; MUCH]);
    Ok(())
}

fn read(pipe: &mut File, len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    pipe.take(len as u64).read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_model_goes_through_the_pipe_in_its_order() {
    let (runner, hold) = loaded(&spec(), all, |side, load, mut pipe| {
        assert_eq!((load.delivery, load.external, load.graph_len), (Delivery::Buffer, vec![("w".into(), 3)], 5));
        assert_eq!((load.layout, load.threads), (side.layout, 1));
        assert_eq!(read(&mut pipe, MUCH), b"abcgraph");
        side.say(&Report::Loaded(ports()));
    });
    let runner = runner.unwrap();
    assert_eq!(*runner.ports(), ports());
    assert!(!hold.was_killed());
}

#[test]
fn the_writers_refusal_is_told_first_and_ends_the_runner() {
    let refuse = |feed: &mut Feed| {
        feed.write(b"abcgra");
        Err("refused")
    };
    for content in [true, false] {
        let (result, hold) = loaded(&spec(), refuse, move |side, _, mut pipe| {
            // What was written, and then more than was announced of what makes no model; and an end, so that nobody reads for ever.
            let seen = read(&mut pipe, MUCH);
            assert!(seen.starts_with(b"abcgra") && seen[6..].iter().all(|byte| *byte == 0xFF));
            assert!((1 << 20..MUCH).contains(&seen.len()), "{} bytes", seen.len());
            drop(pipe);
            side.say(&if content { Report::Loaded(ports()) } else { Report::Refused(Refusal::Stream) });
        });
        assert_eq!(result.err(), Some(LoadError::Feed("refused")), "{content}");
        assert!(hold.was_killed(), "whatever it says");
    }
}

#[test]
fn a_writer_that_panics_loads_nothing() {
    // Without a line on standard error, which a panic on purpose would look like.
    let panic = |_: &mut Feed| -> Result<(), &'static str> { std::panic::resume_unwind(Box::new(())) };
    let (result, hold) = loaded(&spec(), panic, |side, _, mut pipe| {
        read(&mut pipe, 100);
        drop(pipe);
        side.say(&Report::Loaded(ports()));
    });
    assert_eq!(result.err(), Some(LoadError::Runner(RunnerError::System("unseal"))));
    assert!(hold.was_killed());
}

#[test]
fn what_the_runner_refuses_is_told_and_its_writer_goes_on() {
    let mut written = false;
    let feed = |feed: &mut Feed| {
        feed.write(&vec![1; MUCH]);
        written = true;
        Ok(())
    };
    let (result, hold) = loaded(&spec(), feed, |side, _, pipe| {
        drop(pipe);
        side.say(&Report::Refused(Refusal::Datatype));
    });
    assert_eq!(result.err().map(code), Some("MODEL_UNSUPPORTED"));
    assert!(hold.was_killed() && written);
}

fn code(error: LoadError<&'static str>) -> &'static str {
    match error {
        LoadError::Runner(error) => error.code(),
        LoadError::Feed(word) => word,
    }
}

#[test]
fn a_runner_that_is_content_with_less_than_all_has_no_model() {
    let (result, hold) = loaded(&spec(), much, |side, _, mut pipe| {
        read(&mut pipe, 10);
        drop(pipe);
        side.say(&Report::Loaded(ports()));
    });
    assert_eq!(result.err().map(code), Some("MODEL_UNSUPPORTED"));
    assert!(hold.was_killed());
}

#[test]
fn a_runner_that_dies_while_it_is_fed_is_an_error() {
    let (result, _) = loaded(&spec(), much, |side, _, mut pipe| {
        read(&mut pipe, 10);
        drop(pipe);
        let _ = side.stops.shutdown(std::net::Shutdown::Both);
    });
    assert_eq!(result.err(), Some(LoadError::Runner(RunnerError::RunnerDied)));
}

#[test]
fn lies_about_the_model_end_the_runner() {
    let mut nameless = ports();
    nameless.inputs[0].name.clear();
    let mut twice = ports();
    twice.outputs[1].name = twice.outputs[0].name.clone();
    let lies =
        [Report::Loaded(nameless), Report::Loaded(twice), Report::Done(1, vec![]), Report::Failed(1, Failure::Engine)];
    for lie in lies {
        let what = format!("{lie:?}");
        let (result, hold) = loaded(&spec(), all, move |side, _, pipe| {
            drop(pipe);
            side.say(&lie);
        });
        assert_eq!(result.err().map(code), Some("RUNNER_PROTOCOL"), "{what}");
        assert!(hold.was_killed());
    }
    let (result, _) = loaded(&spec(), all, |side, _, _| side.stops.write_all(&[0xFF; 8]).unwrap());
    assert_eq!(result.err().map(code), Some("RUNNER_PROTOCOL"));
}

#[test]
fn neither_a_silent_runner_nor_one_that_does_not_read_is_waited_for_beyond_the_limit() {
    let begun = Instant::now();
    let hasty = Spec { load_limit: Duration::from_millis(200), ..spec() };
    // A real one's pipe is closed by its death; the played one closes it when its process is gone.
    let until_dead = |side: &mut Side| {
        let _ = side.jobs.set_read_timeout(Some(Duration::from_secs(2)));
        let _ = side.jobs.read(&mut [0]);
    };
    let (result, hold) = loaded(&hasty, much, move |side, _, pipe| {
        until_dead(side);
        drop(pipe);
    });
    assert_eq!(result.err(), Some(LoadError::Runner(RunnerError::RunTimeout)), "silent");
    assert!(hold.was_killed());
    let (result, hold) = loaded(&hasty, much, move |side, _, pipe| {
        side.say(&Report::Loaded(ports()));
        until_dead(side);
        drop(pipe);
    });
    assert_eq!(result.err().map(code), Some("MODEL_UNSUPPORTED"), "does not read");
    assert!(hold.was_killed());
    assert!(begun.elapsed() < LONG);
}
