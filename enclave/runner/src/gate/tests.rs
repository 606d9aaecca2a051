//! Turns runners that are played, honestly or not, by a thread at the other end of the sockets into answers and errors of the gate.
//! The process behind them is any program: it is there to be killed.

use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use vouchsafe_oip::{Dtype, Port};
use vouchsafe_system::SharedMemory;

use super::hold::Hold;
use super::*;
use crate::message::{Failure, Inbox, Order, Place, Report, Run, write_frame};
use crate::walls::{Fence, Root};

mod hostile;
mod loading;
mod queue;

/// Long enough that nothing waits for it by accident.
const LONG: Duration = Duration::from_secs(60);

/// A program that does nothing until it is killed, or the test ends.
struct Played {
    pidfd: OwnedFd,
    child: Mutex<Child>,
    _open: Option<ChildStdin>,
    killed: AtomicBool,
}

impl Played {
    fn new() -> Arc<Self> {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        // Whoever waits for a child closes this first.
        let _open = child.stdin.take();
        Arc::new(Self { pidfd, child: Mutex::new(child), _open, killed: AtomicBool::new(false) })
    }

    fn was_killed(&self) -> bool {
        self.killed.load(Ordering::Acquire)
    }
}

impl Hold for Played {
    fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    fn kill(&self) {
        self.killed.store(true, Ordering::Release);
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    fn ending(&self) -> Option<Ending> {
        use std::os::unix::process::ExitStatusExt as _;
        let status = self.child.lock().unwrap().wait().ok()?;
        status.signal().map(|signal| Ending::Signalled(u8::try_from(signal).unwrap()))
    }
}

impl Drop for Played {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap();
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn spec() -> Spec {
    Spec {
        memory_bytes: 0,
        threads: 1,
        slots: 2,
        request_bytes: 8192,
        answer_bytes: 8192,
        queue: 4,
        grace: Duration::from_millis(100),
        load_limit: LONG,
        whole_fence: false,
    }
}

fn raised() -> Raised {
    Raised { own_uid: false, root: Root::Denied, network_namespace: false, landlock: Fence::None }
}

fn port(name: &str, dtype: Dtype, shape: &[i64]) -> Port {
    Port { name: name.into(), dtype, shape: shape.to_vec() }
}

fn ports() -> Ports {
    let outputs = vec![port("y", Dtype::F32, &[-1]), port("t", Dtype::Bool, &[-1]), port("s", Dtype::Bytes, &[-1])];
    Ports { inputs: vec![port("x", Dtype::F32, &[-1])], outputs }
}

fn x(values: &[f32]) -> Tensor {
    tensor("x", values)
}

fn tensor(name: &str, values: &[f32]) -> Tensor {
    let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Tensor { name: name.into(), dtype: Dtype::F32, shape: vec![values.len()], data: Bytes::from(data) }
}

fn y() -> Vec<String> {
    vec!["y".to_owned()]
}

fn soon() -> Instant {
    Instant::now() + LONG
}

/// The runner's side of the sockets and the memory.
struct Side {
    jobs: UnixStream,
    stops: UnixStream,
    memory: SharedMemory,
    layout: Layout,
    inbox: Inbox,
}

impl Side {
    /// The next run; nothing when the gate is gone.
    fn next(&mut self) -> Option<Run> {
        loop {
            match self.inbox.next::<Order>().unwrap() {
                Some(Order::Run(run)) => return Some(run),
                Some(other) => panic!("{other:?}"),
                None => {
                    let mut bytes = [0; 4096];
                    let read = self.jobs.read(&mut bytes).ok().filter(|read| *read > 0)?;
                    self.inbox.push(&bytes[..read]);
                }
            }
        }
    }

    fn stop(&mut self) -> Option<u64> {
        let mut number = [0; 8];
        self.stops.read_exact(&mut number).ok().map(|()| u64::from_le_bytes(number))
    }

    fn say(&mut self, report: &Report) {
        let mut frame = Vec::new();
        write_frame(report, &mut frame).unwrap();
        // The gate may have had enough.
        let _ = self.stops.write_all(&frame);
    }

    fn input(&self, run: &Run) -> Vec<u8> {
        let place = &run.inputs[0].1;
        let part = self.layout.in_request(run.slot, place.at, place.len).unwrap();
        self.memory.read(part.start, place.len).unwrap()
    }

    fn write(&self, run: &Run, at: usize, bytes: &[u8]) {
        assert!(self.memory.write(self.layout.answer_at(run.slot) + at, bytes));
    }

    /// Answers with the input.
    fn echo(&mut self, run: &Run) {
        let bytes = self.input(run);
        self.write(run, 0, &bytes);
        let place = Place { shape: vec![bytes.len() / 4], at: 0, len: bytes.len() };
        self.say(&Report::Done(run.job, vec![place]));
    }
}

/// A runner that a function plays.
fn played<T: Send + 'static>(
    spec: &Spec,
    play: impl FnOnce(Side) -> T + Send + 'static,
) -> (Runner, Arc<Played>, JoinHandle<T>) {
    let hold = Played::new();
    let layout = layout(spec).unwrap();
    let ((jobs, their_jobs), (stops, their_stops)) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
    let (memory, descriptor) = SharedMemory::new(layout.total()).unwrap();
    let theirs = SharedMemory::map(&descriptor, layout.total()).unwrap();
    let side = Side { jobs: their_jobs, stops: their_stops, memory: theirs, layout, inbox: Inbox::default() };
    let playing = thread::spawn(move || play(side));
    let dispatcher = Dispatcher::new(spec, (ports(), layout), hold.clone(), (jobs, stops), memory).unwrap();
    let waiting = Mutex::new(Some(dispatcher.socket().unwrap()));
    let runner = Runner { dispatcher: Arc::new(dispatcher), waiting, io: OnceLock::new(), raised: raised(), number: 1 };
    (runner, hold, playing)
}

/// Answers everything.
fn honest(mut side: Side) -> Side {
    while let Some(run) = side.next() {
        side.echo(&run);
    }
    side
}

#[tokio::test]
async fn an_answer_is_what_the_runner_put_there() {
    let (runner, hold, playing) = played(&spec(), honest);
    for values in [&[1.0, -2.0, f32::MAX][..], &[], &[0.5; 2048]] {
        let answer = runner.run(&[x(values)], &y(), soon()).await.unwrap();
        assert_eq!(answer, [tensor("y", values)]);
    }
    assert!(runner.is_running() && runner.fault().is_none());
    assert_eq!(runner.run(&[x(&[0.0; 2049])], &y(), soon()).await, Err(RunnerError::InputTooLarge));
    assert_eq!(runner.run(&[x(&[1.0])], &y(), soon()).await.unwrap().len(), 1, "control");
    drop(runner);
    playing.join().unwrap();
    assert_eq!(
        hold.ending(),
        Some(Ending::Signalled(9)),
        "a process that does not end with its sockets is killed after the grace"
    );
}

#[tokio::test]
async fn nothing_is_left_of_a_request_or_an_answer() {
    let (runner, _hold, playing) = played(&spec(), |mut side| {
        let mut before = Vec::new();
        while let Some(run) = side.next() {
            // All but the request that is there now.
            let mut all = side.memory.read(0, side.layout.total()).unwrap();
            let own = side.layout.in_request(run.slot, run.inputs[0].1.at, run.inputs[0].1.len).unwrap();
            all[own].fill(0);
            before.push(all.iter().filter(|byte| **byte != 0).count());
            if run.job == 2 {
                side.say(&Report::Failed(run.job, Failure::Engine));
            } else {
                side.echo(&run);
            }
        }
        before
    });
    for run in 1..=4 {
        let answer = runner.run(&[x(&[7.7; 100])], &y(), soon()).await;
        assert_eq!(answer.is_ok(), run != 2);
    }
    drop(runner);
    assert_eq!(playing.join().unwrap(), [0; 4]);
}

#[tokio::test]
async fn what_fails_in_the_runner_is_told_and_harms_nobody_else() {
    let (runner, _hold, _playing) = played(&spec(), |mut side| {
        while let Some(run) = side.next() {
            match run.job {
                1 => side.say(&Report::Failed(1, Failure::Engine)),
                2 => side.say(&Report::Failed(2, Failure::TooLarge)),
                _ => side.echo(&run),
            }
        }
    });
    let run = async || runner.run(&[x(&[1.0])], &y(), soon()).await;
    assert_eq!(run().await, Err(RunnerError::EngineFailed));
    assert_eq!(run().await, Err(RunnerError::AnswerTooLarge));
    assert_eq!(run().await, Ok(vec![tensor("y", &[1.0])]));
}
