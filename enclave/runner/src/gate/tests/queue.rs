//! Turns many runs at once, late ones and given-up ones into an order, refusals and dead runners.

use std::sync::mpsc;

use super::*;

/// Answers one run for every word that it gets; what it got meanwhile waits.
fn on_word(words: mpsc::Receiver<()>) -> impl FnOnce(Side) -> Vec<u64> + Send {
    move |mut side| {
        let mut order = Vec::new();
        while words.recv().is_ok() {
            let Some(run) = side.next() else { break };
            order.push(u64::from(side.input(&run)[3]));
            side.echo(&run);
        }
        order
    }
}

/// One number, of which the last byte is `tag`.
fn tagged(tag: u8) -> [Tensor; 1] {
    [x(&[f32::from_le_bytes([0, 0, 0, tag])])]
}

#[tokio::test]
async fn runs_are_answered_in_the_order_of_their_arrival_and_no_more_wait_than_may() {
    let (words, heard) = mpsc::channel();
    let (runner, _hold, playing) = played(&spec(), on_word(heard));
    let runner = Arc::new(runner);
    // Two slots and a queue of four.
    let runs: Vec<_> = (1..=6)
        .map(|tag| {
            let runner = runner.clone();
            tokio::spawn(async move { runner.run(&tagged(tag), &y(), soon()).await })
        })
        .collect();
    while runner.dispatcher.waiting.load(Ordering::Acquire) < 4 {
        tokio::task::yield_now().await;
    }
    assert_eq!(runner.run(&tagged(7), &y(), soon()).await, Err(RunnerError::Busy));
    words.send(()).unwrap();
    while runner.dispatcher.waiting.load(Ordering::Acquire) == 4 {
        tokio::task::yield_now().await;
    }
    let late = {
        let runner = runner.clone();
        tokio::spawn(async move { runner.run(&tagged(8), &y(), soon()).await })
    };
    (0..6).for_each(|_| words.send(()).unwrap());
    for (tag, run) in (1..=6).zip(runs) {
        assert_eq!(run.await.unwrap().unwrap()[0].data[3], tag);
    }
    assert!(late.await.unwrap().is_ok());
    drop((words, runner));
    assert_eq!(playing.join().unwrap(), [1, 2, 3, 4, 5, 6, 8]);
}

#[tokio::test]
async fn whoever_waits_too_long_for_a_slot_is_told_and_leaves_the_queue() {
    let (words, heard) = mpsc::channel();
    let (runner, hold, _playing) = played(&Spec { slots: 1, queue: 1, ..spec() }, on_word(heard));
    let (inputs, outputs) = (tagged(1), y());
    let first = runner.run(&inputs, &outputs, soon());
    tokio::pin!(first);
    assert!(futures_pending(first.as_mut()).await);
    let late = runner.run(&inputs, &outputs, Instant::now() + Duration::from_millis(20)).await;
    assert_eq!(late, Err(RunnerError::RunTimeout));
    assert_eq!(runner.dispatcher.waiting.load(Ordering::Acquire), 0);
    words.send(()).unwrap();
    assert!(first.await.is_ok());
    assert!(!hold.was_killed(), "it did nothing wrong");
}

/// Lets a future begin. `true` when it goes on.
async fn futures_pending<F: Future>(mut future: std::pin::Pin<&mut F>) -> bool {
    std::future::poll_fn(|context| std::task::Poll::Ready(future.as_mut().poll(context).is_pending())).await
}

#[tokio::test]
async fn a_run_past_its_deadline_is_stopped_and_the_runner_lives_if_it_listens() {
    let (runner, hold, playing) = played(&spec(), |mut side| {
        let run = side.next().unwrap();
        let stopped = side.stop();
        side.say(&Report::Failed(run.job, Failure::Stopped));
        let next = side.next().unwrap();
        side.echo(&next);
        (run.job, stopped, side)
    });
    let late = runner.run(&tagged(1), &y(), Instant::now() + Duration::from_millis(20)).await;
    assert_eq!(late, Err(RunnerError::RunTimeout));
    assert!(runner.run(&tagged(2), &y(), soon()).await.is_ok());
    let (job, stopped, _side) = playing.join().unwrap();
    assert_eq!(stopped, Some(job));
    // Longer than the grace: nobody watches any more.
    tokio::time::sleep(3 * spec().grace).await;
    assert!(!hold.was_killed());
}

#[tokio::test]
async fn a_runner_that_does_not_stop_is_killed_and_the_others_are_told() {
    let (runner, hold, _playing) = played(&spec(), |mut side| {
        // Takes everything and answers nothing.
        while side.next().is_some() {}
    });
    let runner = Arc::new(runner);
    let others: Vec<_> = (2..=4)
        .map(|tag| {
            let runner = runner.clone();
            tokio::spawn(async move {
                // Behind the one that hangs.
                tokio::time::sleep(Duration::from_millis(5)).await;
                runner.run(&tagged(tag), &y(), soon()).await
            })
        })
        .collect();
    let late = runner.run(&tagged(1), &y(), Instant::now() + Duration::from_millis(50)).await;
    assert_eq!(late, Err(RunnerError::RunTimeout));
    assert!(!hold.was_killed(), "the grace");
    for other in others {
        assert_eq!(other.await.unwrap(), Err(RunnerError::RunnerDied));
    }
    assert_eq!(runner.fault(), Some(RunnerError::RunTimeout));
    assert_eq!(runner.ended().await, Some(Ending::Signalled(9)));
    assert!(hold.was_killed());
}

#[tokio::test]
async fn a_run_that_is_given_up_keeps_its_slot_until_the_runner_stopped() {
    let (words, heard) = mpsc::channel::<()>();
    let (runner, hold, _playing) = played(&Spec { slots: 1, grace: LONG, ..spec() }, move |mut side| {
        let run = side.next().unwrap();
        assert_eq!(side.stop(), Some(run.job));
        heard.recv().unwrap();
        side.say(&Report::Failed(run.job, Failure::Stopped));
        let run = side.next().unwrap();
        side.echo(&run);
        let _ = side.next();
    });
    let (inputs, outputs) = (tagged(1), y());
    {
        let given_up = runner.run(&inputs, &outputs, soon());
        tokio::pin!(given_up);
        assert!(futures_pending(given_up.as_mut()).await);
    }
    let next = runner.run(&inputs, &outputs, soon());
    tokio::pin!(next);
    for _ in 0..100 {
        assert!(futures_pending(next.as_mut()).await);
        tokio::task::yield_now().await;
    }
    assert_eq!(runner.dispatcher.permits.available_permits(), 0, "taken");
    words.send(()).unwrap();
    assert!(next.await.is_ok());
    assert!(!hold.was_killed());
}

#[tokio::test]
async fn who_hangs_up_ends_no_runner_that_has_time_left() {
    let (words, heard) = mpsc::channel::<()>();
    let (runner, hold, _playing) = played(&spec(), move |mut side| {
        // In the midst of one long operator it hears of no stop.
        let run = side.next().unwrap();
        heard.recv().unwrap();
        side.say(&Report::Failed(run.job, Failure::Stopped));
        let run = side.next().unwrap();
        side.echo(&run);
        let _ = side.next();
    });
    let (inputs, outputs) = (tagged(1), y());
    {
        let given_up = runner.run(&inputs, &outputs, soon());
        tokio::pin!(given_up);
        assert!(futures_pending(given_up.as_mut()).await);
    }
    tokio::time::sleep(5 * spec().grace).await;
    assert!(!hold.was_killed(), "its own deadline is not over");
    words.send(()).unwrap();
    assert!(runner.run(&inputs, &outputs, soon()).await.is_ok());
}

#[tokio::test]
async fn a_run_that_waits_in_the_runner_does_not_kill_it() {
    let (words, heard) = mpsc::channel::<()>();
    let (runner, hold, _playing) = played(&spec(), move |mut side| {
        let (first, second) = (side.next().unwrap(), side.next().unwrap());
        heard.recv().unwrap();
        side.echo(&first);
        assert_eq!(side.stop(), Some(second.job));
        side.say(&Report::Failed(second.job, Failure::Stopped));
        let _ = side.next();
    });
    let (inputs, outputs) = (tagged(1), y());
    let first = runner.run(&inputs, &outputs, soon());
    tokio::pin!(first);
    assert!(futures_pending(first.as_mut()).await);
    let second = runner.run(&inputs, &outputs, Instant::now() + Duration::from_millis(10)).await;
    assert_eq!(second, Err(RunnerError::RunTimeout));
    tokio::time::sleep(3 * spec().grace).await;
    assert!(!hold.was_killed(), "the run before it may take its time");
    words.send(()).unwrap();
    assert!(first.await.is_ok());
    tokio::time::sleep(3 * spec().grace).await;
    assert!(!hold.was_killed());
}

#[tokio::test]
async fn a_run_that_was_stopped_before_its_turn_has_the_grace_from_then_on() {
    let (runner, hold, _playing) = played(&spec(), |mut side| {
        let first = side.next().unwrap();
        let _second = side.next().unwrap();
        side.stop();
        side.echo(&first);
        // Never answers the second.
        let _ = side.next();
    });
    let (inputs, outputs) = (tagged(1), y());
    let first = runner.run(&inputs, &outputs, soon());
    tokio::pin!(first);
    assert!(futures_pending(first.as_mut()).await);
    let second = runner.run(&inputs, &outputs, Instant::now() + Duration::from_millis(10)).await;
    assert_eq!(second, Err(RunnerError::RunTimeout));
    assert!(first.await.is_ok());
    assert_eq!(runner.ended().await, Some(Ending::Signalled(9)));
    assert!(hold.was_killed());
}

#[tokio::test]
async fn messages_that_the_socket_does_not_take_follow_later() {
    // Many slots, and a runner that reads nothing for a while.
    let (words, heard) = mpsc::channel::<()>();
    let many = Spec { slots: 2000, queue: 0, ..spec() };
    let (runner, _hold, playing) = played(&many, move |mut side| {
        heard.recv().unwrap();
        let mut jobs = Vec::new();
        while let Some(run) = side.next() {
            jobs.push(run.job);
            side.echo(&run);
        }
        jobs
    });
    let runner = Arc::new(runner);
    let runs: Vec<_> = (0..2000_u16)
        .map(|run| {
            let runner = runner.clone();
            tokio::spawn(async move { runner.run(&tagged(run as u8), &y(), soon()).await })
        })
        .collect();
    while runner.dispatcher.permits.available_permits() > 0 {
        tokio::task::yield_now().await;
    }
    words.send(()).unwrap();
    for (run, answer) in (0..2000_u16).zip(runs) {
        assert_eq!(answer.await.unwrap().unwrap()[0].data[3], run as u8);
    }
    drop(runner);
    assert!(playing.join().unwrap().into_iter().eq(1..=2000));
}

#[test]
fn nobody_waits_for_a_runner_whose_runtime_is_gone() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (runner, _hold, _playing) = played(&spec(), honest);
    let first = runtime();
    assert!(first.block_on(runner.run(&tagged(1), &y(), soon())).is_ok());
    drop(first);
    let second = runtime();
    assert_eq!(second.block_on(runner.run(&tagged(1), &y(), soon())), Err(RunnerError::RunnerDied));
    assert_eq!(second.block_on(runner.ended()), None);
}
