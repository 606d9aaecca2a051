//! Turns the workspace into lists: its crates, and its source files with what is shipped of each.
//! It does not parse Rust: a file's tests are what follows its first `#[cfg(test)]`, since tests stand last.

use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{Metadata, MetadataCommand, Package};
use vouchsafe_tests::programs::workspace;

/// What cargo knows of the one platform that is built for, without the network.
pub fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(workspace().join("Cargo.toml"))
        .other_options(["--locked", "--offline", "--filter-platform", "x86_64-unknown-linux-gnu"].map(str::to_owned))
        .exec()
        .unwrap()
}

/// This workspace's crate of that name.
pub fn member<'a>(metadata: &'a Metadata, name: &str) -> &'a Package {
    metadata.workspace_packages().into_iter().find(|package| package.name.as_str() == name).unwrap()
}

/// A source file.
pub struct Source {
    /// Relative to the workspace, with `/`.
    pub path: String,
    /// All of it.
    pub text: String,
}

impl Source {
    /// What is compiled into a program: nothing of a test file, and no file's own tests.
    pub fn shipped(&self) -> &str {
        let is_test =
            self.path.split('/').any(|part| part.ends_with("tests.rs") || matches!(part, "benches" | "examples"))
                || self.path.contains("/src/tests/")
                || self.path.contains("/tests/") && !self.path.starts_with("tests/simulator/src/")
                || self.path.starts_with("tests/") && !self.path.starts_with("tests/simulator/src/");
        if is_test {
            return "";
        }
        let end = self.text.find("#[cfg(test)]").unwrap_or(self.text.len());
        &self.text[..end]
    }

    /// The shipped lines that are not comments, with their numbers.
    pub fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.shipped()
            .lines()
            .enumerate()
            .map(|(at, line)| (at + 1, line.trim()))
            .filter(|(_, line)| !line.starts_with("//"))
    }
}

/// Every file with one of these extensions, without cargo's target directory and hidden directories.
pub fn sources(extensions: &[&str]) -> Vec<Source> {
    let root = workspace();
    let mut found = Vec::new();
    walk(&root, &mut |path| {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if extensions.contains(&extension) {
            let text = fs::read_to_string(path).unwrap();
            let path = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
            found.push(Source { path, text });
        }
    });
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!found.is_empty());
    found
}

fn walk(dir: &Path, visit: &mut dyn FnMut(&Path)) {
    let mut entries: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.starts_with('.') || path.is_symlink() {
            continue;
        }
        if !path.is_dir() {
            visit(&path);
        } else if !path.join("CACHEDIR.TAG").exists() {
            walk(&path, visit);
        }
    }
}

/// Fails with every line of `broken`, so that all are seen at once.
pub fn none(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}
