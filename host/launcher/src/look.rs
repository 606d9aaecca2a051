//! Turns a launch spec into the name of the first file that is missing, before anything starts.
//! It holds nothing open: every file is opened again, once, by whoever uses it.

use std::{fs::File, path::Path};

use crate::{BoundConfig, LaunchError, LaunchSpec, enclave::open_collateral, image::Paths};

/// Says early and by name what is missing.
///
/// # Errors
/// `LAUNCH_FILE`, `CONFIG_TOO_LARGE`.
pub fn look_for_files(spec: &LaunchSpec) -> Result<(), LaunchError> {
    let paths = Paths::of(&spec.machine);
    let mut files: Vec<(&Path, &'static str)> = vec![(&spec.config, "the configuration")];
    if spec.backend.is_machine() {
        files.extend([
            (paths.kernel.as_path(), "the image's kernel"),
            (&paths.initrd, "the image's initrd"),
            (&paths.firmware, "the firmware"),
        ]);
    } else {
        files.extend([(spec.enclave.as_path(), "the enclave program"), (&spec.onnxruntime, "ONNX Runtime's library")]);
    }
    if spec.backend.is_simulated() {
        files.push((&spec.simulator, "the simulator program"));
    }
    for (path, what) in files {
        let about = std::fs::metadata(path).map_err(|e| LaunchError::File(what, e.kind()))?;
        if !about.is_file() {
            return Err(LaunchError::NotAFile(what));
        }
        File::open(path).map_err(|e| LaunchError::File(what, e.kind()))?;
    }
    std::fs::read_dir(&spec.models).map_err(|e| LaunchError::File("the models directory", e.kind()))?;
    if let Some(path) = &spec.collateral {
        open_collateral(path)?;
    }
    BoundConfig::open(&spec.config)?;
    Ok(())
}
