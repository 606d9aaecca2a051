//! Turns a new runner and a writer of plaintext into a runner that has loaded its model.
//! It does not read the plaintext: what its writer refuses makes no model, whatever the runner says.

use std::io::{IoSlice, PipeReader, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use vouchsafe_oip::Ports;
use vouchsafe_system::SharedMemory;

use super::dispatch::Dispatcher;
use super::hold::{Hold, Process};
use super::{LoadError, Parts, Runner, Spec};
use crate::error::RunnerError;
use crate::feed::{self, Feed};
use crate::message::layout::Layout;
use crate::message::ports::are_ports;
use crate::message::{Inbox, Load, Order, Refusal, Report, write_frame};
use crate::nursery::Hatched;
use crate::walls::Raised;

/// A runner without what ends it.
pub struct Rest {
    /// The socket of the orders.
    pub jobs: UnixStream,
    /// The socket of the stops, and back of the answers.
    pub stops: UnixStream,
    /// The shared memory.
    pub memory: SharedMemory,
    /// Its number.
    pub number: u64,
    /// Its walls.
    pub raised: Raised,
}

/// Loads a model into a new runner, see [`Runner::load`].
pub fn load<E: Send>(
    hatched: Hatched,
    spec: &Spec,
    layout: Layout,
    parts: &Parts,
    feed: impl FnOnce(&mut Feed) -> Result<(), E> + Send,
) -> Result<Runner, LoadError<E>> {
    let (hold, rest) = Process::of(hatched);
    into_runner(&hold, rest, spec, layout, parts, feed)
}

/// The same, of any process.
pub fn into_runner<E: Send>(
    hold: &Arc<dyn Hold>,
    rest: Rest,
    spec: &Spec,
    layout: Layout,
    parts: &Parts,
    feed: impl FnOnce(&mut Feed) -> Result<(), E> + Send,
) -> Result<Runner, LoadError<E>> {
    let unfinished = KillOnDrop(hold);
    let limit = Limit(Instant::now() + spec.load_limit);
    let Driven { fed, loaded } = drive(hold, (&rest.jobs, &rest.stops), limit, spec, layout, parts, feed)?;
    let all_read = fed.map_err(LoadError::Feed)?;
    let ports = loaded?;
    if !all_read {
        return Err(RunnerError::ModelUnsupported("ONNX Runtime did not read the graph to its end").into());
    }
    let Rest { jobs, stops, memory, number, raised } = rest;
    let system = |_| RunnerError::System("use the runner's sockets");
    let dispatcher = Dispatcher::new(spec, (ports, layout), hold.clone(), (jobs, stops), memory).map_err(system)?;
    let waiting = Mutex::new(Some(dispatcher.socket().map_err(system)?));
    std::mem::forget(unfinished);
    Ok(Runner { dispatcher: Arc::new(dispatcher), waiting, io: OnceLock::new(), raised, number })
}

/// What a new runner makes of a stream that its writer may refuse afterwards: the ports, or nothing.
pub fn ask(
    hatched: Hatched,
    spec: &Spec,
    layout: Layout,
    parts: &Parts,
    feed: impl FnOnce(&mut Feed) -> Result<(), ()> + Send,
) -> Option<Ports> {
    let (hold, rest) = Process::of(hatched);
    let _unfinished = KillOnDrop(&hold);
    let limit = Limit(Instant::now() + spec.load_limit);
    let Driven { fed, loaded } = drive(&hold, (&rest.jobs, &rest.stops), limit, spec, layout, parts, feed).ok()?;
    loaded.ok().filter(|_| fed != Ok(false))
}

/// A runner that does not come to serve ends now.
struct KillOnDrop<'a>(&'a Arc<dyn Hold>);

impl Drop for KillOnDrop<'_> {
    fn drop(&mut self) {
        self.0.kill();
    }
}

/// What became of both sides.
struct Driven<E> {
    /// The writer's verdict, and whether everything it wrote was read.
    fed: Result<bool, E>,
    /// The runner's.
    loaded: Result<Ports, RunnerError>,
}

/// Feeds a runner and hears what it makes of it. Past the limit it is killed, so that neither side waits for ever on the other.
fn drive<E: Send>(
    hold: &Arc<dyn Hold>,
    sockets: (&UnixStream, &UnixStream),
    limit: Limit,
    spec: &Spec,
    layout: Layout,
    parts: &Parts,
    feed: impl FnOnce(&mut Feed) -> Result<(), E> + Send,
) -> Result<Driven<E>, RunnerError> {
    let announced = parts.external.iter().fold(parts.graph_len, |sum, (_, len)| sum.saturating_add(*len));
    let (reader, writer) = feed::pipe(announced)?;
    let order = Order::Load(Load {
        threads: spec.threads.max(1),
        delivery: parts.delivery,
        external: parts.external.clone(),
        graph_len: parts.graph_len,
        layout,
    });
    thread::scope(|scope| {
        let (told, end) = mpsc::channel();
        let feeding = thread::Builder::new().name("feed".into()).spawn_scoped(scope, move || {
            let fed = writer.run(feed);
            // Whoever waits for it does so at most until the limit.
            let _ = told.send(());
            fed
        });
        let Ok(feeding) = feeding else { return Err(RunnerError::System("start a thread")) };
        let loaded = order_and_hear(sockets, limit, &order, reader);
        // What it should have read it may not have, whatever it says.
        if loaded.is_err() || end.recv_timeout(limit.rest()) == Err(RecvTimeoutError::Timeout) {
            hold.kill();
        }
        let fed = feeding.join().map_err(|_| RunnerError::System("unseal"))?;
        Ok(Driven { fed, loaded })
    })
}

#[derive(Clone, Copy)]
struct Limit(Instant);

impl Limit {
    fn rest(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

fn order_and_hear(
    (jobs, answers): (&UnixStream, &UnixStream),
    limit: Limit,
    order: &Order,
    reader: PipeReader,
) -> Result<Ports, RunnerError> {
    send(jobs, limit, order, &reader)?;
    // From here on the runner alone holds the reading end: with it the pipe breaks.
    drop(reader);
    match hear(answers, limit)? {
        Report::Loaded(ports) if are_ports(&ports) => Ok(ports),
        Report::Loaded(_) => Err(RunnerError::Protocol("the ports")),
        Report::Refused(refusal) => Err(why(refusal)),
        Report::Done(..) | Report::Failed(..) => Err(RunnerError::Protocol("loading")),
    }
}

fn send(jobs: &UnixStream, limit: Limit, order: &Order, reader: &PipeReader) -> Result<(), RunnerError> {
    let died = |_| RunnerError::RunnerDied;
    let mut frame = Vec::new();
    let many = |_| RunnerError::ModelUnsupported("it has too many files of external data");
    write_frame(order, &mut frame).map_err(many)?;
    jobs.set_write_timeout(Some(limit.rest().max(Duration::from_millis(1)))).map_err(died)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [reader.as_fd()];
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(RunnerError::System("send a descriptor"));
    }
    let first = sendmsg(jobs, &[IoSlice::new(&frame)], &mut control, SendFlags::NOSIGNAL);
    let first = first.map_err(|_| RunnerError::RunnerDied)?;
    let mut jobs = jobs;
    jobs.write_all(frame.get(first..).unwrap_or_default()).map_err(died)
}

fn hear(answers: &UnixStream, limit: Limit) -> Result<Report, RunnerError> {
    let (mut answers, mut inbox, mut bytes) = (answers, Inbox::default(), [0; 4096]);
    loop {
        let rest = limit.rest();
        if rest.is_zero() {
            return Err(RunnerError::RunTimeout);
        }
        answers.set_read_timeout(Some(rest)).map_err(|_| RunnerError::RunnerDied)?;
        match answers.read(&mut bytes) {
            Ok(0) => return Err(RunnerError::RunnerDied),
            Ok(read) => inbox.push(bytes.get(..read).unwrap_or_default()),
            Err(error) => match error.kind() {
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut | std::io::ErrorKind::Interrupted => {
                    continue;
                }
                _ => return Err(RunnerError::RunnerDied),
            },
        }
        match inbox.next() {
            Ok(Some(report)) if inbox.is_empty() => return Ok(report),
            Ok(None) => {}
            _ => return Err(RunnerError::Protocol("loading")),
        }
    }
}

const fn why(refusal: Refusal) -> RunnerError {
    RunnerError::ModelUnsupported(match refusal {
        Refusal::Stream => "ONNX Runtime did not get the model whole",
        Refusal::Graph => "ONNX Runtime refuses the graph",
        Refusal::External => "ONNX Runtime refuses the external data",
        Refusal::NoTensor => "an input or output is no tensor (export without ZipMap)",
        Refusal::Datatype => "an input or output has an unsupported datatype",
        Refusal::Ports => "inputs or outputs have no name, one name, too many dimensions, or there are too many",
        Refusal::Memory => "there is not enough memory for it",
        Refusal::System => return RunnerError::System("prepare ONNX Runtime"),
    })
}
