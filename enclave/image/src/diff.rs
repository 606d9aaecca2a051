//! Turns two manifests into the list of what differs by digest: parts, files inside the initrd, packages.
//! It does not say which one is right; two equal manifests of verified folders are two equal images.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::folder::{Manifest, Part};
use crate::lock::Input;

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// `part`, `file`, `package` or `manifest`.
    pub kind: &'static str,
    /// Its name: `initrd`, a path inside the initrd, a package's name, or a member of the manifest.
    pub name: String,
    /// What the first image has; for a file its SHA-256.
    pub first: Option<String>,
    /// What the second image has.
    pub second: Option<String>,
}

/// Everything in which two images differ, in a fixed order; nothing when they are the same.
#[must_use]
pub fn diff(first: &Manifest, second: &Manifest) -> Vec<Difference> {
    let mut found = Vec::new();
    compare(&mut found, "part", parts(first), parts(second));
    compare(&mut found, "file", contents(first), contents(second));
    compare(&mut found, "package", packages(first), packages(second));
    compare(&mut found, "manifest", members(first), members(second));
    found
}

type Facts<'a> = BTreeMap<&'a str, String>;

fn compare(found: &mut Vec<Difference>, kind: &'static str, first: Facts<'_>, mut second: Facts<'_>) {
    for (name, value) in first {
        let other = second.remove(name);
        if other.as_ref() != Some(&value) {
            found.push(Difference { kind, name: name.to_owned(), first: Some(value), second: other });
        }
    }
    for (name, value) in second {
        found.push(Difference { kind, name: name.to_owned(), first: None, second: Some(value) });
    }
}

fn parts(manifest: &Manifest) -> Facts<'_> {
    let digest = |part: &Part| part.sha256.clone();
    manifest.parts().into_iter().map(|(name, part)| (name, digest(part))).collect()
}

fn contents(manifest: &Manifest) -> Facts<'_> {
    manifest.contents.iter().map(|file| (file.path.as_str(), file.sha256.clone())).collect()
}

fn packages(manifest: &Manifest) -> Facts<'_> {
    let describe = |input: &Input| format!("{} {} of {}", input.version, input.sha256, input.suite);
    manifest.packages.iter().map(|input| (input.name.as_str(), describe(input))).collect()
}

fn members(manifest: &Manifest) -> Facts<'_> {
    BTreeMap::from([
        ("mtime", manifest.mtime.to_string()),
        ("firmware_from", manifest.firmware_from.clone()),
        ("kernel_release", manifest.kernel_release.clone()),
        ("compressor", manifest.compressor.clone()),
        ("archive", manifest.archive.sha256.clone()),
    ])
}
