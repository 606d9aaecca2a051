//! Turns runners that lie into dead ones.

use super::*;

/// What becomes of a run, and of the runner, when that is the answer to it.
async fn answered(say: impl FnOnce(&mut Side, Run) + Send + 'static) -> (Result<Vec<Tensor>, RunnerError>, bool) {
    let wanted = ["y", "t", "s"].map(str::to_owned);
    let (runner, hold, _playing) = played(&spec(), move |mut side| {
        let run = side.next().unwrap();
        say(&mut side, run);
        // Stays until the gate goes.
        let _ = side.next();
    });
    let answer = runner.run(&[x(&[1.0, 2.0])], &wanted, soon()).await;
    if answer.is_err() {
        assert_eq!(runner.ended().await, Some(Ending::Signalled(9)));
        assert!(!runner.is_running());
        assert!(matches!(runner.fault(), Some(RunnerError::Protocol(_))));
        assert_eq!(runner.run(&[x(&[1.0])], &wanted, soon()).await, Err(RunnerError::RunnerDied));
    }
    (answer, hold.was_killed())
}

/// `y` of two numbers, `t` of two truth values, `s` of one string.
fn places() -> Vec<Place> {
    let place = |count: usize, at, len| Place { shape: vec![count], at, len };
    vec![place(2, 0, 8), place(2, 64, 2), place(1, 128, 6)]
}

fn write_all(side: &Side, run: &Run) {
    side.write(run, 0, &[0, 0, 128, 63, 0, 0, 0, 64]);
    side.write(run, 64, &[0, 1]);
    side.write(run, 128, &[2, 0, 0, 0, b'h', b'i']);
}

#[tokio::test]
async fn an_honest_answer_passes() {
    let (answer, killed) = answered(|side, run| {
        write_all(side, &run);
        side.say(&Report::Done(run.job, places()));
    })
    .await;
    let answer = answer.unwrap();
    assert_eq!(answer[0], tensor("y", &[1.0, 2.0]));
    assert_eq!((answer[1].dtype, &answer[1].data[..]), (Dtype::Bool, &[0, 1][..]));
    assert_eq!((answer[2].dtype, &answer[2].data[..]), (Dtype::Bytes, &b"\x02\0\0\0hi"[..]));
    assert!(!killed);
}

#[tokio::test]
async fn places_that_cannot_be_end_the_runner() {
    type Lie = fn(&mut Vec<Place>);
    let lies: [(&str, Lie); 9] = [
        ("no places", Vec::clear),
        ("one too few", |places| drop(places.pop())),
        ("one too many", |places| places.push(Place { shape: vec![0], at: 256, len: 0 })),
        ("outside", |places| places[2].at = 8192),
        ("far outside", |places| places[2].at = usize::MAX - 1),
        ("over each other", |places| places[1].at = 7),
        ("longer than the shape says", |places| places[0].len = 12),
        ("another product than the length", |places| places[0].shape = vec![3, 1]),
        ("2^63 elements", |places| places[0].shape = vec![1 << 63]),
    ];
    for (what, lie) in lies {
        let (answer, killed) = answered(move |side, run| {
            write_all(side, &run);
            let mut places = places();
            lie(&mut places);
            side.say(&Report::Done(run.job, places));
        })
        .await;
        assert_eq!((answer, killed), (Err(RunnerError::RunnerDied), true), "{what}");
    }
}

#[tokio::test]
async fn elements_that_cannot_be_end_the_runner() {
    let lies: [(usize, &[u8]); 4] = [
        (64, &[2]),
        // A string that goes on behind its tensor, one that ends before, one that is longer than memory.
        (128, &[3, 0, 0, 0]),
        (128, &[1, 0, 0, 0]),
        (128, &[0xFF; 4]),
    ];
    for (at, bytes) in lies {
        let (answer, killed) = answered(move |side, run| {
            write_all(side, &run);
            side.write(&run, at, bytes);
            side.say(&Report::Done(run.job, places()));
        })
        .await;
        assert_eq!((answer, killed), (Err(RunnerError::RunnerDied), true), "{bytes:?} at {at}");
    }
}

#[tokio::test]
async fn messages_that_nobody_asked_for_end_the_runner() {
    type Lie = fn(&mut Side, Run);
    let lies: [(&str, Lie); 7] = [
        ("another job", |side, run| side.say(&Report::Failed(run.job + 1, Failure::Engine))),
        ("an answer of another job", |side, run| side.say(&Report::Done(run.job + 1, places()))),
        ("loading once more", |side, _| side.say(&Report::Loaded(ports()))),
        ("garbage", |side, _| side.stops.write_all(&[0xFF; 100]).unwrap()),
        ("an empty message", |side, _| side.stops.write_all(&[0; 4]).unwrap()),
        ("a message that goes on", |side, _| side.stops.write_all(&[3, 0, 0, 0, 9, 9, 9]).unwrap()),
        ("a message of 1 MiB", |side, _| drop(side.stops.write_all(&[&[0, 0, 16, 0][..], &[0xFF; 1 << 20]].concat()))),
    ];
    for (what, lie) in lies {
        let (answer, killed) = answered(lie).await;
        assert_eq!((answer, killed), (Err(RunnerError::RunnerDied), true), "{what}");
    }
}

#[tokio::test]
async fn an_answer_before_the_question_ends_the_runner() {
    let (runner, hold, _playing) = played(&spec(), |mut side| {
        side.say(&Report::Failed(1, Failure::Engine));
        let _ = side.next();
    });
    assert_eq!(runner.ended().await, Some(Ending::Signalled(9)));
    assert!(hold.was_killed());
    assert_eq!(runner.run(&[x(&[1.0])], &y(), soon()).await, Err(RunnerError::RunnerDied));
}

#[tokio::test]
async fn a_second_answer_ends_the_runner() {
    let (runner, _hold, _playing) = played(&spec(), |mut side| {
        let run = side.next().unwrap();
        side.echo(&run);
        side.echo(&run);
        let _ = side.next();
    });
    assert!(runner.run(&[x(&[1.0])], &y(), soon()).await.is_ok());
    assert_eq!(runner.ended().await, Some(Ending::Signalled(9)));
    assert_eq!(runner.fault(), Some(RunnerError::Protocol("the order of answers")));
}

#[tokio::test]
async fn a_runner_that_ends_ends_every_run() {
    let (runner, hold, _playing) = played(&Spec { slots: 2, ..spec() }, |mut side| {
        assert!(side.next().is_some() && side.next().is_some());
    });
    let (inputs, outputs) = ([x(&[1.0])], y());
    let run = || runner.run(&inputs, &outputs, soon());
    let (one, two, three) = tokio::join!(run(), run(), run());
    assert_eq!([one, two, three], [const { Err(RunnerError::RunnerDied) }; 3], "the one in the queue as well");
    assert!(runner.ended().await.is_some() && !runner.is_running());
    assert!(hold.was_killed(), "it closed its socket and lived on");
    assert_eq!(runner.fault(), None);
}

#[tokio::test]
async fn a_process_that_dies_unasked_is_noticed() {
    let (runner, hold, playing) = played(&spec(), honest);
    assert!(runner.is_running());
    hold.kill();
    // Its sockets die with a real one.
    let _ = hold.ending();
    assert!(!runner.is_running(), "before anybody used it");
    drop(runner);
    playing.join().unwrap();
}
