//! Turns what a runner writes into answers for those who wait, until it ends or breaks the rules, and sees that it ends then.
//! It does not compare numbers: [`super::dispatch`] does.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::runtime::Handle;

use super::dispatch::Dispatcher;
use crate::error::RunnerError;
use crate::message::{Inbox, Malformed, Report};

/// So much is read of the socket at a time: several answers.
const READING: usize = 8 * 1024;
/// A process that was killed is gone within this time.
const PATIENCE: Duration = Duration::from_secs(10);

/// The runtime that hears the runner.
pub struct Io {
    /// Where tasks go.
    pub handle: Handle,
}

/// Puts the socket of the answers on a runtime, and starts the task that hears the runner.
///
/// # Errors
/// What the runtime says.
pub fn start(dispatcher: &Arc<Dispatcher>, socket: UnixStream, handle: &Handle) -> io::Result<Io> {
    let _inside = handle.enter();
    let answers = tokio::net::UnixStream::from_std(socket)?;
    handle.spawn(hear(Hearing(dispatcher.clone()), answers, handle.clone()));
    Ok(Io { handle: handle.clone() })
}

/// However the task ends, with its runtime for one: nobody waits for what nobody hears.
struct Hearing(Arc<Dispatcher>);

impl Drop for Hearing {
    fn drop(&mut self) {
        self.0.lose();
        self.0.ended.send_if_modified(|ended| ended.is_none() && ended.replace(None).is_none());
    }
}

/// Hears the runner until it ends or breaks the rules, and sees that it ends.
async fn hear(dispatcher: Hearing, socket: tokio::net::UnixStream, handle: Handle) {
    let fault = answers(&dispatcher.0, socket, &handle).await;
    let hold = dispatcher.0.hold.clone();
    match fault {
        Some(fault) => dispatcher.0.kill(fault),
        // The last handle is gone: the process has its grace, and nobody asks how it went.
        None if dispatcher.0.ending.load(Ordering::Acquire) => return,
        // A runner that has ended is no news; one that lives on without its socket does not answer.
        None => {
            hold.kill();
            dispatcher.0.lose();
        }
    }
    let wait = move || hold.is_over_within(PATIENCE).then(|| hold.ending()).flatten();
    let ending = tokio::task::spawn_blocking(wait).await.ok().flatten();
    dispatcher.0.ended.send_replace(Some(ending));
}

/// Gives every answer to whoever waits for it, until the socket ends or a rule is broken, which is told.
async fn answers(
    dispatcher: &Arc<Dispatcher>,
    mut socket: tokio::net::UnixStream,
    handle: &Handle,
) -> Option<RunnerError> {
    let (mut inbox, mut bytes) = (Inbox::default(), vec![0; READING]);
    loop {
        let read = socket.read(&mut bytes).await.ok().filter(|read| *read > 0)?;
        inbox.push(bytes.get(..read).unwrap_or_default());
        loop {
            let heard = match inbox.next::<Report>() {
                Ok(None) => break,
                Ok(Some(Report::Done(job, places))) => dispatcher.settle(job, Ok(places), handle),
                Ok(Some(Report::Failed(job, failure))) => dispatcher.settle(job, Err(failure), handle),
                Ok(Some(Report::Loaded(_) | Report::Refused(_))) => Err("a message before its time"),
                Err(Malformed) => Err("the form of a message"),
            };
            if let Err(at) = heard {
                return Some(RunnerError::Protocol(at));
            }
        }
    }
}
