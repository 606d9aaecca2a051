//! Turns a launch spec into measured, opened and compared ingredients of a guest; only starting it is left.
//! The measurement is the simulator's or a prediction; on hardware the processor measures for itself.

use std::{
    fs::{File, Permissions},
    io::{self, Read, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::PermissionsExt,
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::{MemfdFlags, memfd_create};
use vouchsafe_attestation::Tee;
use vouchsafe_measurement::{
    Firmware, KernelHashes, SNP_ACTIVE, SnpVm, command_line,
    firmware::MAX_FIRMWARE,
    id_block::{IdAuth, IdBlock},
    snp_launch_digest, tdx,
};

use super::qemu::Identity;
use crate::{
    Backend, BoundConfig, LaunchError, LaunchRequest, LaunchSpec, Launched, MachineRequest, Simulator,
    image::{self, Digests, Parts, Paths},
    volume::{self, Volume, VolumeError},
};

/// What a guest is started with.
pub struct Prepared {
    /// The simulator that answers the guest's device; none on hardware.
    pub simulator: Option<Simulator>,
    /// MEASUREMENT or MRTD.
    pub measurement: [u8; 48],
    /// The configuration that is bound.
    pub config: BoundConfig,
    /// Why an earlier guest's packages were not renewed.
    pub packages_kept: Option<VolumeError>,
    /// The rest.
    pub ingredients: Ingredients,
}

/// What only one kind of guest has.
pub enum Ingredients {
    /// A process: sealed program, library and device.
    Process(Launched),
    /// A machine.
    Machine(Box<MachineParts>),
}

/// What a machine is started with.
pub struct MachineParts {
    /// Firmware, kernel and initrd.
    pub parts: Parts,
    /// The kernel's command line.
    pub command_line: String,
    /// The volume of packages.
    pub volume: Arc<Volume>,
    /// The table of kernel hashes and its address, and the simulated processor; none on hardware.
    pub simulated: Option<SimulatedParts>,
    /// ID block and authentication information of an SEV-SNP guest.
    pub identity: Option<Identity>,
}

/// What a simulated machine has beyond that.
pub struct SimulatedParts {
    /// The table of kernel hashes.
    pub table: File,
    /// Where the firmware looks for it.
    pub table_address: u32,
    /// The simulated processor.
    pub device: OwnedFd,
}

/// Measures, opens and compares. Blocks; `volume` is the one of an earlier guest of this launch, and is renewed.
///
/// # Errors
/// Everything that can be wrong with files, image, simulator and packages.
pub fn prepare(
    spec: &LaunchSpec,
    previous: Option<Simulator>,
    volume: Option<Arc<Volume>>,
) -> Result<Prepared, LaunchError> {
    let config = BoundConfig::open(&spec.config)?;
    let simulator = || previous.map_or_else(|| Simulator::start(&spec.simulator, &spec.simulator_root), Ok);
    if spec.backend == Backend::SimProcess {
        let mut simulator = simulator()?;
        let launched = simulator.launch(&LaunchRequest {
            tee: spec.tee,
            mode: spec.backend.mode(),
            enclave: spec.enclave.clone(),
            onnxruntime: spec.onnxruntime.clone(),
            host_data: *config.digest(),
        })?;
        let measurement = launched.measurement;
        return Ok(Prepared {
            simulator: Some(simulator),
            measurement,
            config,
            packages_kept: None,
            ingredients: Ingredients::Process(launched),
        });
    }
    let (machine, paths) = (&spec.machine, Paths::of(&spec.machine));
    let command_line = command_line(spec.tee, spec.backend.mode());
    let (simulator, measurement, parts, simulated) = if spec.backend == Backend::SimVm {
        // Once for the right words about what is wrong, and below once more for the copies that run.
        image::judge(&Parts::open(&paths)?, machine)?;
        let mut simulator = simulator()?;
        let launched = simulator.launch_machine(&MachineRequest {
            tee: spec.tee,
            mode: spec.backend.mode(),
            paths,
            command_line: command_line.clone(),
            vcpus: machine.vcpus,
            cpu: machine.cpu,
            host_data: *config.digest(),
        })?;
        let digests = image::judge(&launched.parts, machine)?;
        let simulated = simulate(&launched.parts.firmware, &digests, &command_line, launched.device)?;
        (Some(simulator), launched.measurement, launched.parts, Some(simulated))
    } else {
        let parts = Parts::open(&paths)?;
        image::judge(&parts, machine)?;
        (None, predict(spec, &parts, &command_line)?, parts, None)
    };
    let identity = identity(spec, &measurement)?;
    // A process finds the packages as they are now, so a machine does, too.
    let packages_kept = volume.as_ref().and_then(|volume| volume.renew(&spec.models).err());
    let volume = volume.map_or_else(|| write_volume(spec).map(Arc::new), Ok)?;
    let ingredients = Box::new(MachineParts { parts, command_line, volume, simulated, identity });
    Ok(Prepared { simulator, measurement, config, packages_kept, ingredients: Ingredients::Machine(ingredients) })
}

/// What QEMU itself would put in place under SEV-SNP: the table of kernel hashes, where the firmware looks for it.
fn simulate(
    firmware: &File,
    digests: &Digests,
    command_line: &str,
    device: OwnedFd,
) -> Result<SimulatedParts, LaunchError> {
    let area = Firmware::parse(&read_firmware(firmware)?)
        .and_then(|firmware| firmware.fit_for_snp().map(|()| firmware.hash_table()))
        .map_err(LaunchError::Measurement)?
        // Without a place for the table the firmware could not enforce anything.
        .ok_or(LaunchError::FirmwareUnknown("the firmware has no place for the table of kernel hashes"))?;
    let table = KernelHashes::of_digests(digests.kernel, digests.initrd, command_line)
        .map_err(LaunchError::Measurement)?
        .table();
    if table.len() > area.size as usize {
        return Err(LaunchError::FirmwareUnknown("the firmware's place for the table of kernel hashes is too small"));
    }
    let memory = |e: io::Error| LaunchError::File("memory for the table of kernel hashes", e.kind());
    let mut file = File::from(memfd_create("kernel-hashes", MemfdFlags::CLOEXEC).map_err(|e| memory(e.into()))?);
    file.write_all(&table).map_err(memory)?;
    Ok(SimulatedParts { table: file, table_address: area.address, device })
}

/// What the processor will measure, if the launch is as this launcher means it.
fn predict(spec: &LaunchSpec, parts: &Parts, command_line: &str) -> Result<[u8; 48], LaunchError> {
    let own = |file: &File| PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    match spec.tee {
        Tee::SevSnp => snp_launch_digest(&SnpVm {
            firmware: &own(&parts.firmware),
            kernel: &own(&parts.kernel),
            initrd: &own(&parts.initrd),
            command_line,
            vcpus: spec.machine.vcpus,
            cpu: spec.machine.cpu,
            guest_features: SNP_ACTIVE,
        }),
        Tee::Tdx => tdx::mrtd(&read_firmware(&parts.firmware)?),
    }
    .map_err(LaunchError::Measurement)
}

/// All bytes of the firmware, as far as one may be long. Opened anew, since the offset belongs to everybody who holds it.
fn read_firmware(file: &File) -> Result<Vec<u8>, LaunchError> {
    let mut bytes = Vec::new();
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))
        .and_then(|file| file.take(MAX_FIRMWARE as u64 + 1).read_to_end(&mut bytes))
        .map_err(|e| LaunchError::File("the firmware", e.kind()))?;
    Ok(bytes)
}

/// The packages as one file without a name: nothing of it outlives this process and QEMU.
fn write_volume(spec: &LaunchSpec) -> Result<Volume, LaunchError> {
    let unwritable = |e: io::Error| LaunchError::File("the scratch folder", e.kind());
    let file = tempfile::tempfile_in(&spec.machine.scratch).map_err(unwritable)?;
    file.set_permissions(Permissions::from_mode(0o600)).map_err(unwritable)?;
    Volume::create(&spec.models, file, volume::ROOM)
}

/// The operator's ID block and its authentication page, if the processor is going to accept them for this launch.
fn identity(spec: &LaunchSpec, measurement: &[u8; 48]) -> Result<Option<Identity>, LaunchError> {
    let (Backend::Snp, Some(block), Some(page)) = (spec.backend, &spec.machine.id_block, &spec.machine.id_auth) else {
        return Ok(None);
    };
    let block = IdBlock::from_base64(&short_text(block, "the ID block")?).map_err(LaunchError::Measurement)?;
    let page = short_text(page, "the ID authentication information")?;
    let authentication = IdAuth::from_base64(&page).map_err(LaunchError::Measurement)?;
    authentication.verify(&block).map_err(LaunchError::Measurement)?;
    if block.launch_digest != *measurement {
        return Err(LaunchError::IdBlockMismatch("launch digest"));
    }
    if block.policy != spec.machine.guest_policy {
        return Err(LaunchError::IdBlockMismatch("guest policy"));
    }
    Ok(Some(Identity {
        block: block.to_base64(),
        authentication: authentication.to_base64(),
        has_author: authentication.author.is_some(),
    }))
}

/// The text of a file that is no longer than an authentication page in base64, with room for line ends.
fn short_text(path: &Path, what: &'static str) -> Result<String, LaunchError> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(2 * IdAuth::SIZE as u64).read_to_string(&mut text))
        .map_err(|e| LaunchError::File(what, e.kind()))?;
    Ok(text)
}

#[cfg(test)]
mod tests;
