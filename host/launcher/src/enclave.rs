//! Turns sealed descriptors into a running enclave process: empty environment, one channel, nothing else.
//! The host channel carries states and requests to stop; no secret ever travels on it.

use std::{
    fs::{File, OpenOptions},
    io,
    net::TcpListener,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::{
            fs::OpenOptionsExt,
            net::UnixStream,
            process::{CommandExt, ExitStatusExt},
        },
    },
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use rustix::{
    fs::OFlags,
    process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use vouchsafe_attestation::{Mode, Tee};

use crate::{
    BoundConfig, LaunchError, Launched,
    event::{Code, LastWord, State},
    frame, lines,
    lines::Lines,
};

/// A frame that an enclave does not take within this time is given up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// What an enclave tells its host.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Message {
    /// How far it is.
    State(State),
    /// Why it gives up.
    Fatal(LastWord),
}

/// A running enclave. It is killed when this is dropped.
pub struct Enclave {
    child: Child,
    lines: Vec<Lines>,
    channel: UnixStream,
    messages: mpsc::Receiver<Message>,
    exited: ProcessEnd,
}

impl Enclave {
    /// Starts the sealed program and hands it device, configuration, models, library, the listener on which it is to accept and, where
    /// there is one, the collateral file, in this order.
    ///
    /// # Errors
    /// `LAUNCH_FILE` for the models directory and the collateral file, `ENCLAVE_SPAWN`, `HOST_CHANNEL`.
    pub fn start(
        launched: &Launched,
        config: &BoundConfig,
        models: &Path,
        collateral: Option<&Path>,
        listener: &TcpListener,
        (tee, mode): (Tee, Mode),
    ) -> Result<Self, LaunchError> {
        let models = open_directory(models).map_err(|e| LaunchError::File("the models directory", e.kind()))?;
        let collateral = collateral.map(open_collateral).transpose()?;
        let spawn_failed = |e: io::Error| LaunchError::EnclaveSpawn(e.kind());
        let (channel, theirs) = UnixStream::pair().map_err(spawn_failed)?;
        channel.set_write_timeout(Some(WRITE_TIMEOUT)).map_err(spawn_failed)?;
        // The path is resolved in the child, before its copy of the descriptor is closed by exec.
        let mut child = Command::new(format!("/proc/self/fd/{}", launched.enclave.as_raw_fd()))
            .arg0("vouchsafe-enclave")
            .arg(format!("vouchsafe.tee={tee}"))
            .arg(format!("vouchsafe.mode={mode}"))
            .env_clear()
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(spawn_failed)?;
        let out = child.stdout.take().map(|out| lines::forward("enclave", out));
        let err = child.stderr.take().map(|err| lines::forward("enclave", err));
        let lines = out.into_iter().chain(err).collect();
        let started = (|| {
            let exited = ProcessEnd::of(child.id())?;
            let messages = listen(channel.try_clone()?)?;
            Ok((exited, messages))
        })();
        let (exited, messages) = match started {
            Ok(parts) => parts,
            Err(e) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(spawn_failed(e));
            }
        };
        let enclave = Self { child, lines, channel, messages, exited };
        let mut descriptors = vec![
            launched.device.as_fd(),
            config.as_fd(),
            models.as_fd(),
            launched.onnxruntime.as_fd(),
            listener.as_fd(),
        ];
        let mut hello = json!({ "v": 1 });
        if let Some(file) = &collateral {
            descriptors.push(file.as_fd());
            hello["collateral"] = json!(true);
        }
        frame::write(&enclave.channel, &hello, &descriptors).map_err(|e| LaunchError::HostChannel(e.kind()))?;
        Ok(enclave)
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its next message; `None` when it has closed the channel.
    pub async fn message(&mut self) -> Option<Message> {
        self.messages.recv().await
    }

    /// Asks it to read its models directory again, and to serve this collateral file from now on.
    ///
    /// # Errors
    /// Those of the channel.
    pub fn reload(&self, collateral: Option<&File>) -> io::Result<()> {
        match collateral {
            None => self.tell(&json!({ "reload": {} })),
            Some(file) => frame::write(&self.channel, &json!({ "reload": { "collateral": true } }), &[file.as_fd()]),
        }
    }

    /// Asks it to stop.
    ///
    /// # Errors
    /// Those of the channel.
    pub fn stop(&self) -> io::Result<()> {
        self.tell(&json!({ "stop": {} }))
    }

    /// Waits at most `grace` for the process to end by itself, then kills it.
    pub async fn finish(mut self, grace: Duration) -> Code {
        let _ = tokio::time::timeout(grace, self.exited.wait()).await;
        self.kill().map_or_else(|| Code::new("ENCLAVE_LOST"), describe)
    }

    fn tell(&self, value: &Value) -> io::Result<()> {
        frame::write(&self.channel, value, &[])
    }

    /// The exit status; kills the process first when it still runs.
    fn kill(&mut self) -> Option<ExitStatus> {
        let ended = self.child.try_wait().ok().flatten();
        let status = ended.or_else(|| {
            let _ = self.child.kill();
            self.child.wait().ok()
        });
        self.lines.iter_mut().for_each(Lines::finish);
        status
    }
}

/// The end of a child process, as something to wait for.
pub(crate) struct ProcessEnd(watch::Receiver<()>);

impl ProcessEnd {
    /// Watches a child that was not yet reaped, from a thread that leaves the reaping to others.
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        let (alive, end) = watch::channel(());
        let wait = move || {
            let look = || waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
            // Any error means that there is no such child any more.
            let _ = rustix::io::retry_on_intr(look);
            drop(alive);
        };
        thread::Builder::new().name("child".into()).spawn(wait)?;
        Ok(Self(end))
    }

    /// Returns when the process has ended; may be dropped and called again.
    pub(crate) async fn wait(&self) {
        let mut end = self.0.clone();
        // Nothing is ever sent: the channel closes with the thread.
        while end.changed().await.is_ok() {}
    }
}

impl Drop for Enclave {
    fn drop(&mut self) {
        self.kill();
    }
}

fn describe(status: ExitStatus) -> Code {
    Code::new(&match (status.code(), status.signal()) {
        (Some(code), _) => format!("ENCLAVE_EXIT_{code}"),
        (None, Some(signal)) => format!("ENCLAVE_SIGNAL_{signal}"),
        (None, None) => "ENCLAVE_LOST".to_owned(),
    })
}

/// A thread that turns frames into messages. Frames of another form are passed over: they are a newer enclave's words.
fn listen(channel: UnixStream) -> io::Result<mpsc::Receiver<Message>> {
    let (sender, receiver) = mpsc::channel(64);
    let read = move || {
        while let Ok(Some((value, _))) = frame::read::<Value>(&channel) {
            if let Ok(message) = serde_json::from_value(value)
                && sender.blocking_send(message).is_err()
            {
                return;
            }
        }
    };
    thread::Builder::new().name("host channel".into()).spawn(read)?;
    Ok(receiver)
}

/// Opens the collateral file; what it holds is the enclave's business, and then the verifiers'.
pub(crate) fn open_collateral(path: &Path) -> Result<File, LaunchError> {
    let unreadable = |kind| LaunchError::File("the collateral file", kind);
    // A pipe without a writer must not hold up the launcher.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|e| unreadable(e.kind()))?;
    match file.metadata() {
        Ok(about) if about.is_file() => Ok(file),
        Ok(_) => Err(LaunchError::NotAFile("the collateral file")),
        Err(e) => Err(unreadable(e.kind())),
    }
}

fn open_directory(path: &Path) -> io::Result<File> {
    let flags = i32::try_from(OFlags::DIRECTORY.bits()).unwrap_or_default();
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<Message> {
        serde_json::from_str(text).ok()
    }

    #[test]
    fn the_words_of_an_enclave() {
        assert_eq!(parse(r#"{"state":"serving"}"#), Some(Message::State(State::Serving)));
        assert_eq!(
            parse(r#"{"fatal":{"code":"CONFIG_INVALID"}}"#),
            Some(Message::Fatal(LastWord { code: Code::new("CONFIG_INVALID"), ticket: None }))
        );
        assert_eq!(parse(r#"{"state":"dreaming"}"#), None);
        assert_eq!(parse(r#"{"later":1}"#), None);
    }
}
