//! Turns an image folder into whether its files are those of its manifest, and whether its firmware is a known one.
//! Whoever wrote the folder wrote the manifest: what counts is the measurement.

use std::path::Path;

use vouchsafe_launcher::image::{Parts, Paths, compare};
use vouchsafe_measurement::firmware::known::known;

use super::host::Image;
use crate::failure::Failure;

/// Looks as a launch would.
pub fn look(folder: &Path) -> Image {
    let digests = Parts::open(&Paths::in_image(folder)).and_then(|parts| compare(&parts, folder, true));
    match digests {
        Ok(digests) => Image::Complete {
            firmware_sha256: hex::encode(digests.firmware),
            firmware_known: known(&digests.firmware).is_ok(),
        },
        Err(error) => {
            // In the words of every other command.
            let failure = Failure::new(error.code(), error.exit(), error.to_string(), error.advice());
            Image::Unusable { code: failure.code, fact: failure.fact }
        }
    }
}
