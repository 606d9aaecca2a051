//! Turns SIGHUP into newer packages in a running machine's volume, one copy at a time, beside all that the launcher does.
//! It does not tell the machine: whoever waits for the end of the copy does.

use std::{
    future::pending,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::task::{JoinHandle, spawn_blocking};

use crate::volume::{Volume, VolumeError};

/// Packages on their way into a volume.
#[derive(Default)]
pub struct Renewal {
    running: Option<JoinHandle<Result<(), VolumeError>>>,
    /// What was asked for meanwhile.
    again: Option<(Arc<Volume>, PathBuf)>,
}

impl Renewal {
    /// Starts to copy, or copies once more after the copy under way: what that one found may be old by now.
    pub fn start(&mut self, volume: &Arc<Volume>, models: &Path) {
        let (volume, models) = (Arc::clone(volume), models.to_owned());
        if self.running.is_some() {
            self.again = Some((volume, models));
        } else {
            self.running = Some(spawn_blocking(move || volume.renew(&models)));
        }
    }

    /// Waits for the end of a copy, for ever when there is none. May be dropped and called again.
    pub async fn done(&mut self) -> Result<(), VolumeError> {
        let Some(running) = &mut self.running else { return pending().await };
        let renewed = running.await.unwrap_or(Err(VolumeError::Unwritable(ErrorKind::Other)));
        self.running = None;
        if let Some((volume, models)) = self.again.take() {
            self.start(&volume, &models);
        }
        renewed
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn what_is_asked_for_during_a_copy_is_done_after_it() {
        let models = tempfile::tempdir().unwrap();
        fs::create_dir(models.path().join("m")).unwrap();
        fs::write(models.path().join("m/file"), "1").unwrap();
        let volume = Arc::new(Volume::create(models.path(), tempfile::tempfile().unwrap(), 0).unwrap());
        let mut renewal = Renewal::default();
        for _ in 0..3 {
            renewal.start(&volume, models.path());
        }
        assert_eq!((renewal.done().await, renewal.done().await), (Ok(()), Ok(())));
        let third = tokio::time::timeout(std::time::Duration::from_millis(50), renewal.done()).await;
        assert!(third.is_err(), "two requests during one copy are one");
        fs::remove_dir_all(models.path()).unwrap();
        renewal.start(&volume, models.path());
        assert_eq!(renewal.done().await, Err(VolumeError::Unreadable(ErrorKind::NotFound)));
    }
}
