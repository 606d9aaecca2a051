//! Turns a launch request into a guest: copies each file once, measures the copies, and gives the guest its fields.
//! What was measured is what the launcher receives; it does not prevent the launcher from running something else.

use std::os::fd::OwnedFd;

use ring::rand::{SecureRandom, SystemRandom};
use vouchsafe_attestation::{Mode, Tee};
use vouchsafe_measurement::{SNP_ACTIVE, SnpVm, process_measurement, snp_launch_digest};

use crate::{
    SimulatorError,
    copy::Copy,
    request::{GuestFiles, LaunchRequest, MachineFiles},
    root::Root,
    snp::ReportFields,
    tdx::TdFields,
};

/// One launched guest: the fields that all its reports share.
#[derive(Clone, Debug)]
pub enum Guest {
    /// An SEV-SNP guest.
    SevSnp(Box<ReportFields>),
    /// A TD.
    Tdx(Box<TdFields>),
}

/// A guest together with the sealed copies that were measured.
pub struct Launched {
    /// The guest, which answers its device.
    pub guest: Guest,
    /// MEASUREMENT or MRTD: of two files, or of a machine.
    pub measurement: [u8; 48],
    /// The sealed copies. A process: the enclave's program, ONNX Runtime's library. A machine: firmware, kernel, initrd.
    pub files: Vec<OwnedFd>,
}

impl Guest {
    /// Measures and seals the files of `request`.
    ///
    /// # Errors
    /// `SIMULATOR_MODE`, `SIMULATOR_TEE`, `SIMULATOR_GUEST_*`, and those of the measurement.
    pub fn launch(root: &Root, request: &LaunchRequest) -> Result<Launched, SimulatorError> {
        if request.mode != Mode::Simulation.as_str() {
            return Err(SimulatorError::ModeUnsupported);
        }
        let tee: Tee = request.tee.parse().map_err(|_| SimulatorError::TeeUnsupported)?;
        let (measurement, files) = match &request.guest {
            GuestFiles::Process { enclave, onnxruntime } => {
                let enclave = Copy::of(enclave, "the enclave program", "vouchsafe-enclave")?;
                let library = Copy::of(onnxruntime, "ONNX Runtime's library", "libonnxruntime")?;
                let measurement = process_measurement(tee, Mode::Simulation, &enclave.digest, &library.digest);
                (measurement, vec![enclave.memory, library.memory])
            }
            GuestFiles::Machine(_) if tee != Tee::SevSnp => return Err(SimulatorError::MachineTee),
            GuestFiles::Machine(machine) => launch_digest(machine)?,
        };
        let guest = match tee {
            Tee::SevSnp => {
                let mut report_id = [0; 32];
                let no_randomness = |_| SimulatorError::GuestMemory(std::io::ErrorKind::Other);
                SystemRandom::new().fill(&mut report_id).map_err(no_randomness)?;
                let fields = ReportFields::honest(*root.chip_id(), measurement, request.host_data, report_id);
                Self::SevSnp(Box::new(fields))
            }
            Tee::Tdx => Self::Tdx(Box::new(TdFields::honest(measurement, request.host_data))),
        };
        Ok(Launched { guest, measurement, files })
    }

    /// The registers of a TD, RTMR0 to RTMR3: nothing extends them here. Empty on SEV-SNP.
    #[must_use]
    pub fn registers(&self) -> &[[u8; 48]] {
        match self {
            Self::SevSnp(_) => &[],
            Self::Tdx(fields) => &fields.rtmr,
        }
    }
}

/// The launch digest of a machine, computed from the very copies that the launcher will boot.
fn launch_digest(machine: &MachineFiles) -> Result<([u8; 48], Vec<OwnedFd>), SimulatorError> {
    let cpu = machine.cpu.parse().map_err(SimulatorError::Measurement)?;
    let firmware = Copy::of(&machine.firmware, "the firmware", "firmware")?;
    let kernel = Copy::of(&machine.kernel, "the kernel", "kernel")?;
    let initrd = Copy::of(&machine.initrd, "the initrd", "initrd")?;
    let measurement = snp_launch_digest(&SnpVm {
        firmware: &firmware.path(),
        kernel: &kernel.path(),
        initrd: &initrd.path(),
        command_line: &machine.command_line,
        vcpus: machine.vcpus,
        cpu,
        guest_features: SNP_ACTIVE,
    })
    .map_err(SimulatorError::Measurement)?;
    Ok((measurement, vec![firmware.memory, kernel.memory, initrd.memory]))
}
