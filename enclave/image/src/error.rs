//! Turns what can be wrong with an image's list of files into a fact, a stable code, advice and an exit status.
//! It does not cover a wrong program in the right place: only the measurement tells that.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why no image was built.
#[derive(Debug)]
pub enum ImageError {
    /// A path inside the image is empty, absolute, longer than 255 bytes, not plain ASCII, or walks upwards.
    PathInvalid,
    /// Two items want the same path, or a file stands where another item needs a directory.
    PathTaken,
    /// A file has more than 1 GiB, or the whole image would have.
    TooLarge,
    /// A source file cannot be read.
    File {
        /// The caller's own path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl ImageError {
    /// The stable name of this failure.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::PathInvalid => "IMAGE_PATH_INVALID",
            Self::PathTaken => "IMAGE_PATH_TAKEN",
            Self::TooLarge => "IMAGE_TOO_LARGE",
            Self::File { .. } => "IMAGE_FILE",
        }
    }

    /// The exit status of a command that ends with this failure.
    #[must_use]
    pub fn exit(&self) -> u8 {
        match self {
            Self::PathInvalid | Self::PathTaken | Self::TooLarge => 1,
            Self::File { .. } => 9,
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Self::PathInvalid => "write paths inside the image as `usr/bin/name`",
            Self::PathTaken => "list each path once",
            Self::TooLarge => "an initrd holds the program and its libraries; models come on a disk of their own",
            Self::File { .. } => "look at the path, its permissions and whether it is a regular file",
        }
    }
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PathInvalid => f.write_str("a path inside the image is not of the allowed form"),
            Self::PathTaken => f.write_str("two items of the image claim the same path"),
            Self::TooLarge => f.write_str("the image would have more than 1 GiB"),
            Self::File { path, source } => write!(f, "{}: {source}", path.display()),
        }
    }
}

impl std::error::Error for ImageError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File { source, .. } => Some(source),
            _ => None,
        }
    }
}
