//! Turns readiness into a file that exists exactly while an enclave serves.
//! The file is the host's word to its own scripts; a customer never sees it.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::LaunchError;

/// The ready file of a launch, or none.
pub struct ReadyFile(Option<PathBuf>);

impl ReadyFile {
    /// Takes the path and removes what an earlier run left there.
    pub fn new(path: Option<&Path>) -> Self {
        let file = Self(path.map(Path::to_path_buf));
        file.remove();
        file
    }

    /// Writes the file in one step.
    ///
    /// # Errors
    /// `READY_FILE`.
    pub fn write(&self, content: &Value) -> Result<(), LaunchError> {
        let Some(path) = &self.0 else { return Ok(()) };
        let mut temporary = path.clone().into_os_string();
        temporary.push(".new");
        let store = || {
            let mut out = fs::File::create(&temporary)?;
            writeln!(out, "{content}")?;
            fs::rename(&temporary, path)
        };
        store().map_err(|e| LaunchError::ReadyFile(e.kind()))
    }

    /// Removes the file, when there is one.
    pub fn remove(&self) {
        if let Some(path) = &self.0 {
            let _ = fs::remove_file(path);
        }
    }
}

impl Drop for ReadyFile {
    fn drop(&mut self) {
        self.remove();
    }
}
