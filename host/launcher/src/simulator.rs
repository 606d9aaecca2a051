//! Turns launch requests into measured, sealed descriptors by asking the simulator process.
//! The simulator is a program of this machine: its measurement is as honest as whoever installed it.

use std::{
    io::ErrorKind,
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::{Value, json};
use vouchsafe_attestation::{Mode, Tee, encoding::serde_hex};
use vouchsafe_measurement::CpuModel;

use crate::{
    LaunchError,
    event::Code,
    frame,
    image::{Parts, Paths},
    lines,
    lines::Lines,
};

/// The first answer may wait for RSA keys on a slow machine.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(180);
/// How long a simulator may take to end once its channel is closed.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// Which process is to be launched.
#[derive(Clone, Debug)]
pub struct LaunchRequest {
    /// The technology.
    pub tee: Tee,
    /// The mode: the simulator knows one.
    pub mode: Mode,
    /// The enclave's program.
    pub enclave: PathBuf,
    /// ONNX Runtime's library.
    pub onnxruntime: PathBuf,
    /// The config digest: HOST_DATA, or MRCONFIGID with its padding.
    pub host_data: [u8; 32],
}

/// Which virtual machine is to be launched.
#[derive(Clone, Debug)]
pub struct MachineRequest {
    /// The technology.
    pub tee: Tee,
    /// The mode: the simulator knows one.
    pub mode: Mode,
    /// Firmware, kernel and initrd.
    pub paths: Paths,
    /// The kernel's command line.
    pub command_line: String,
    /// How many virtual processors.
    pub vcpus: u32,
    /// Their model.
    pub cpu: CpuModel,
    /// The config digest: HOST_DATA.
    pub host_data: [u8; 32],
}

/// What the simulator hands out for one virtual machine.
#[derive(Debug)]
pub struct MachineLaunched {
    /// MEASUREMENT.
    pub measurement: [u8; 48],
    /// Firmware, kernel and initrd, sealed memory.
    pub parts: Parts,
    /// The guest's evidence device.
    pub device: OwnedFd,
}

/// What the simulator hands out for one process guest.
#[derive(Debug)]
pub struct Launched {
    /// MEASUREMENT or MRTD.
    pub measurement: [u8; 48],
    /// The enclave's program, sealed memory.
    pub enclave: OwnedFd,
    /// ONNX Runtime's library, sealed memory.
    pub onnxruntime: OwnedFd,
    /// The guest's evidence device.
    pub device: OwnedFd,
}

/// A running simulator. It ends when this is dropped.
pub struct Simulator {
    child: Child,
    lines: Vec<Lines>,
    control: Option<UnixStream>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum WireReply {
    Launched {
        #[serde(with = "serde_hex")]
        measurement: [u8; 48],
    },
    Error {
        code: Code,
        #[serde(rename = "fact")]
        _fact: String,
    },
}

impl Simulator {
    /// Starts `program` with an empty environment; its lines go to standard error.
    ///
    /// # Errors
    /// `LAUNCH_FILE` when the program is missing, `SIMULATOR_FAILED`.
    pub fn start(program: &Path, root: &Path) -> Result<Self, LaunchError> {
        let (ours, theirs) = UnixStream::pair().map_err(|_| LaunchError::SimulatorFailed)?;
        ours.set_read_timeout(Some(ANSWER_TIMEOUT)).map_err(|_| LaunchError::SimulatorFailed)?;
        let mut child = Command::new(program)
            .arg("serve")
            .arg("--root")
            .arg(root)
            .env_clear()
            // Ctrl-C is for the launcher, which then ends its children in order.
            .process_group(0)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| match e.kind() {
                ErrorKind::NotFound | ErrorKind::PermissionDenied => {
                    LaunchError::File("the simulator program", e.kind())
                }
                _ => LaunchError::SimulatorFailed,
            })?;
        let out = child.stdout.take().map(|out| lines::forward("simulator", out));
        let err = child.stderr.take().map(|err| lines::forward("simulator", err));
        Ok(Self { child, lines: out.into_iter().chain(err).collect(), control: Some(ours) })
    }

    /// Launches one process guest. Blocks until the files are measured.
    ///
    /// # Errors
    /// `SIMULATOR_FAILED`, `SIMULATOR_REFUSED`, `PATH_ENCODING`.
    pub fn launch(&mut self, request: &LaunchRequest) -> Result<Launched, LaunchError> {
        let launch = json!({
            "tee": request.tee,
            "mode": request.mode,
            "enclave": text(&request.enclave, "the enclave program")?,
            "onnxruntime": text(&request.onnxruntime, "ONNX Runtime's library")?,
            "host_data": hex::encode(request.host_data),
        });
        let (measurement, [enclave, onnxruntime, device]) = self.ask(&launch)?;
        Ok(Launched { measurement, enclave, onnxruntime, device })
    }

    /// Launches one virtual machine. Blocks until the files are measured.
    ///
    /// # Errors
    /// `SIMULATOR_FAILED`, `SIMULATOR_REFUSED`, `PATH_ENCODING`.
    pub fn launch_machine(&mut self, request: &MachineRequest) -> Result<MachineLaunched, LaunchError> {
        let launch = json!({
            "tee": request.tee,
            "mode": request.mode,
            "vm": {
                "firmware": text(&request.paths.firmware, "the firmware")?,
                "kernel": text(&request.paths.kernel, "the image's kernel")?,
                "initrd": text(&request.paths.initrd, "the image's initrd")?,
                "command_line": request.command_line,
                "vcpus": request.vcpus,
                "cpu": request.cpu.as_str(),
            },
            "host_data": hex::encode(request.host_data),
        });
        let (measurement, [firmware, kernel, initrd, device]) = self.ask(&launch)?;
        let parts = Parts { firmware: firmware.into(), kernel: kernel.into(), initrd: initrd.into() };
        Ok(MachineLaunched { measurement, parts, device })
    }

    fn ask<const N: usize>(&mut self, launch: &Value) -> Result<([u8; 48], [OwnedFd; N]), LaunchError> {
        let control = self.control.as_ref().ok_or(LaunchError::SimulatorFailed)?;
        frame::write(control, &json!({ "launch": launch }), &[]).map_err(|_| LaunchError::SimulatorFailed)?;
        match frame::read::<WireReply>(control) {
            Ok(Some((WireReply::Launched { measurement }, descriptors))) => {
                let descriptors = descriptors.try_into().map_err(|_| LaunchError::SimulatorFailed)?;
                Ok((measurement, descriptors))
            }
            Ok(Some((WireReply::Error { code, .. }, _))) => Err(LaunchError::SimulatorRefused(code)),
            Ok(None) | Err(_) => Err(LaunchError::SimulatorFailed),
        }
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The control channel itself, for tests that misuse it.
    #[must_use]
    pub const fn control(&self) -> Option<&UnixStream> {
        self.control.as_ref()
    }

    /// Closes the channel and waits for the exit status and the last line; kills a simulator that does not end.
    pub fn end(&mut self) -> Option<i32> {
        let status = self.reap();
        self.lines.iter_mut().for_each(Lines::finish);
        status
    }

    fn reap(&mut self) -> Option<i32> {
        self.control = None;
        let until = Instant::now() + END_TIMEOUT;
        while Instant::now() < until {
            if let Ok(Some(status)) = self.child.try_wait() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        self.child.wait().ok()?.code()
    }
}

fn text<'a>(path: &'a Path, what: &'static str) -> Result<&'a str, LaunchError> {
    path.to_str().ok_or(LaunchError::PathEncoding(what))
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.end();
    }
}
