//! Turns "these files, at these places" into a total, sorted plan with every parent directory in it.
//! It does not read the files, and does not find out which libraries a program needs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::error::ImageError;

/// The longest path inside an image.
const MAX_PATH: usize = 255;

/// One thing in the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// An empty directory; parents of other items need not be listed.
    Directory,
    /// A regular file copied from here; executable or only readable, in either case writable by nobody.
    File {
        /// Where its bytes are now.
        source: PathBuf,
        /// Whether it is a program or a library that the loader maps.
        executable: bool,
    },
    /// A regular file with these bytes.
    Bytes {
        /// Its content.
        content: Vec<u8>,
        /// Whether it is a program or a library that the loader maps.
        executable: bool,
    },
    /// A symbolic link with this text.
    Link {
        /// What the link says.
        to: String,
    },
}

/// What the image contains: path inside the image -> item.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageSpec {
    items: BTreeMap<String, Item>,
}

impl ImageSpec {
    /// An image with nothing in it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one item.
    ///
    /// # Errors
    /// [`ImageError::PathInvalid`] for a path (or link text) that is not allowed, [`ImageError::PathTaken`] for
    /// one that is there already.
    pub fn add(&mut self, path: &str, item: Item) -> Result<(), ImageError> {
        allowed(path)?;
        if let Item::Link { to } = &item
            && (to.is_empty() || to.len() > MAX_PATH || !plain(to))
        {
            return Err(ImageError::PathInvalid);
        }
        if self.items.contains_key(path) {
            return Err(ImageError::PathTaken);
        }
        self.items.insert(path.to_owned(), item);
        Ok(())
    }

    /// Every item and every parent directory, sorted so that a parent comes before its children.
    pub(crate) fn plan(&self) -> Result<BTreeMap<&str, &Item>, ImageError> {
        const DIRECTORY: &Item = &Item::Directory;
        let mut plan: BTreeMap<&str, &Item> = self.items.iter().map(|(path, item)| (path.as_str(), item)).collect();
        for path in self.items.keys() {
            for (at, _) in path.match_indices('/') {
                match plan.entry(&path[..at]).or_insert(DIRECTORY) {
                    Item::Directory => {}
                    Item::File { .. } | Item::Bytes { .. } | Item::Link { .. } => return Err(ImageError::PathTaken),
                }
            }
        }
        Ok(plan)
    }
}

pub(crate) fn allowed(path: &str) -> Result<(), ImageError> {
    let parts_are_names = path.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    // The archive's own end mark would cut the image short.
    if path.len() <= MAX_PATH && plain(path) && parts_are_names && path != "TRAILER!!!" {
        Ok(())
    } else {
        Err(ImageError::PathInvalid)
    }
}

fn plain(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_are_added_before_their_children() {
        let mut spec = ImageSpec::new();
        spec.add("usr/lib/a.so", Item::Link { to: "b.so".into() }).unwrap();
        spec.add("usr-local", Item::Directory).unwrap();
        let plan = spec.plan().unwrap();
        let paths: Vec<_> = plan.keys().copied().collect();
        assert_eq!(paths, ["usr", "usr-local", "usr/lib", "usr/lib/a.so"]);
    }

    #[test]
    fn paths_that_walk_or_hide_are_refused() {
        let mut spec = ImageSpec::new();
        let long = "a".repeat(256);
        for path in ["", "/etc", "a//b", "a/", "../a", "a/../b", "./a", "a b", "a\0", "TRAILER!!!", &long] {
            let error = spec.add(path, Item::Directory).unwrap_err();
            assert_eq!(error.code(), "IMAGE_PATH_INVALID", "{path:?}");
        }
        let link = Item::Link { to: String::new() };
        assert_eq!(spec.add("link", link).unwrap_err().code(), "IMAGE_PATH_INVALID");
    }

    #[test]
    fn a_path_is_used_once_and_a_file_has_no_children() {
        let mut spec = ImageSpec::new();
        let link = Item::Link { to: "x".into() };
        spec.add("a", link.clone()).unwrap();
        assert_eq!(spec.add("a", Item::Directory).unwrap_err().code(), "IMAGE_PATH_TAKEN");
        spec.add("a/b", link).unwrap();
        assert_eq!(spec.plan().unwrap_err().code(), "IMAGE_PATH_TAKEN");
    }
}
