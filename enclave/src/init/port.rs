//! Turns the name of a virtio-serial port into a stream with a patience.
//! It does not say who is at the other end: the host is.

use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

use super::{InitError, LOOK};
use crate::device::Line;

/// A port that takes nothing for so long has failed.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);

/// The device node of the port of this name, where there is one. `ports` is the kernel's list, `devices` the folder of nodes.
///
/// # Errors
/// `INIT_PORT` when two ports have the name.
pub fn find(ports: &Path, devices: &Path, name: &'static str) -> std::result::Result<Option<PathBuf>, InitError> {
    let Ok(entries) = std::fs::read_dir(ports) else { return Ok(None) };
    let mut found = None;
    for entry in entries.flatten() {
        // The name's file is missing until the host has told the name.
        let Ok(text) = std::fs::read_to_string(entry.path().join("name")) else { continue };
        if text.strip_suffix('\n').unwrap_or(&text) == name && found.replace(devices.join(entry.file_name())).is_some()
        {
            return Err(InitError::Port(name, "is there twice"));
        }
    }
    Ok(found)
}

/// An open port. A port that nobody is connected to reads as ended.
pub struct Port {
    descriptor: OwnedFd,
    /// Reads wait so long; without one, for ever.
    patience: Option<Duration>,
}

impl Port {
    /// Opens a port's node. The kernel lets one process have it.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn open(path: &Path) -> Result<Self> {
        Self::new(File::options().read(true).write(true).open(path)?.into())
    }

    /// A port on any stream descriptor.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn new(descriptor: OwnedFd) -> Result<Self> {
        fcntl_setfl(&descriptor, fcntl_getfl(&descriptor)? | OFlags::NONBLOCK)?;
        Ok(Self { descriptor, patience: None })
    }

    /// The port whose reads end in an error after so long a silence.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience: Some(patience), ..self }
    }

    /// A second handle.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn try_clone(&self) -> Result<Self> {
        Ok(Self { descriptor: self.descriptor.try_clone()?, patience: self.patience })
    }

    /// Waits until the host has connected its end.
    ///
    /// # Errors
    /// `TimedOut`, and those of the kernel.
    pub fn wait_connected(&self, patience: Duration) -> Result<()> {
        let end = Instant::now() + patience;
        loop {
            match self.poll(PollFlags::OUT, Duration::ZERO) {
                Ok(events) if events.contains(PollFlags::HUP) => {}
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::TimedOut => {}
                Err(error) => return Err(error),
            }
            if Instant::now() >= end {
                return Err(ErrorKind::TimedOut.into());
            }
            std::thread::sleep(LOOK);
        }
    }

    fn poll(&self, events: PollFlags, patience: Duration) -> Result<PollFlags> {
        self.poll_for(events, Some(patience))
    }

    fn poll_for(&self, events: PollFlags, patience: Option<Duration>) -> Result<PollFlags> {
        let patience =
            patience.map(Timespec::try_from).transpose().map_err(|_| Error::from(ErrorKind::InvalidInput))?;
        let mut asked = [PollFd::new(&self.descriptor, events)];
        match rustix::io::retry_on_intr(|| poll(&mut asked, patience.as_ref()))? {
            0 => Err(ErrorKind::TimedOut.into()),
            _ => Ok(asked[0].revents()),
        }
    }
}

impl Read for &Port {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            match rustix::io::read(&self.descriptor, &mut *buffer) {
                Err(Errno::AGAIN) => {
                    self.poll_for(PollFlags::IN, self.patience)?;
                }
                Err(Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
    }
}

impl Write for &Port {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        loop {
            match rustix::io::write(&self.descriptor, bytes) {
                // Writable to nobody would be waited for in vain.
                Err(Errno::AGAIN) if self.poll(PollFlags::OUT, WRITE_PATIENCE)?.contains(PollFlags::HUP) => {
                    return Err(ErrorKind::BrokenPipe.into());
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

impl Read for Port {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        (&*self).read(buffer)
    }
}

impl Write for Port {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        (&*self).write(bytes)
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

impl Line for Port {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_port_is_found_by_its_name_alone() {
        let ports = tempfile::tempdir().unwrap();
        let look = |name| find(ports.path(), Path::new("/dev"), name);
        let add = |entry: &str, name: Option<&str>| {
            std::fs::create_dir(ports.path().join(entry)).unwrap();
            if let Some(name) = name {
                std::fs::write(ports.path().join(entry).join("name"), name).unwrap();
            }
        };
        assert_eq!(find(&ports.path().join("none"), Path::new("/dev"), "vouchsafe.host"), Ok(None));
        add("vport0p0", None);
        add("vport0p1", Some("vouchsafe.tee\n"));
        add("vport1p1", Some("org.example.agent\n"));
        assert_eq!(look("vouchsafe.host"), Ok(None), "not there yet");
        add("vport0p2", Some("vouchsafe.host\n"));
        assert_eq!(look("vouchsafe.host"), Ok(Some("/dev/vport0p2".into())));
        assert_eq!(look("vouchsafe.tee"), Ok(Some("/dev/vport0p1".into())));
        assert_eq!(look("vouchsafe"), Ok(None), "the whole name");
        add("vport3p1", Some("vouchsafe.host\n"));
        assert_eq!(look("vouchsafe.host").err().map(|e| e.code()), Some("INIT_PORT"));
    }

    fn pair() -> (UnixStream, Port) {
        let (host, guest) = UnixStream::pair().unwrap();
        (host, Port::new(guest.into()).unwrap())
    }

    #[test]
    fn bytes_pass_both_ways_and_more_than_fits_is_waited_for() {
        let (mut host, mut port) = pair();
        assert!(port.wait_connected(Duration::ZERO).is_ok());
        let large: Vec<u8> = (0..4_000_000_u32).map(|n| n as u8).collect();
        let sent = large.clone();
        let other = std::thread::spawn(move || {
            let mut got = vec![0; sent.len()];
            host.read_exact(&mut got).unwrap();
            assert!(got == sent);
            host.write_all(&got).unwrap();
        });
        port.write_all(&large).unwrap();
        let mut back = vec![0; large.len()];
        port.read_exact(&mut back).unwrap();
        assert!(back == large);
        other.join().unwrap();
        assert_eq!(port.read(&mut [0; 1]).unwrap(), 0, "the other end is gone");
    }

    #[test]
    fn silence_ends_when_patience_does() {
        let (mut host, port) = pair();
        let mut port = port.with_patience(Duration::from_millis(20));
        let read = port.read(&mut [0; 1]);
        assert_eq!(read.err().map(|e| e.kind()), Some(ErrorKind::TimedOut));
        host.write_all(b"x").unwrap();
        assert_eq!(port.read(&mut [0; 1]).unwrap(), 1, "control");
    }

    #[test]
    fn nobody_at_the_other_end_is_waited_for_and_written_to_in_vain() {
        let (host, mut port) = pair();
        drop(host);
        let waited = port.wait_connected(Duration::from_millis(30));
        assert_eq!(waited.err().map(|e| e.kind()), Some(ErrorKind::TimedOut));
        assert!(port.write_all(b"x").is_err());
    }
}
