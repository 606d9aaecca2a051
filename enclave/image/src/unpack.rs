//! Turns the bytes of a Debian package into the few files that an image takes out of it, in memory.
//! It does not run maintainer scripts, write to disk or decide what is needed.
//!
//! Format: deb(5), an `ar` archive with one member `data.tar`, `data.tar.xz` or `data.tar.zst`. Nothing of dpkg is needed.

use std::collections::BTreeMap;
use std::io::Read;

use lzma_rust2::XzReader;

use crate::error::ImageError;

/// The most that a package unpacks to; a kernel with its modules has about 120 MB.
const MAX_UNPACKED: u64 = 1 << 30;
/// The largest single file that is taken.
const MAX_FILE: u64 = 256 << 20;
/// How many links are followed from a name to its file.
const MAX_LINKS: usize = 8;

/// Files by path without a leading `./`.
#[derive(Default)]
pub(crate) struct Tree {
    nodes: BTreeMap<String, Node>,
}

enum Node {
    File(Vec<u8>),
    Link(String),
}

/// Adds to the tree the files and links of a package whose path is wanted. `package` is for messages.
pub(crate) fn unpack(
    tree: &mut Tree,
    package: &str,
    deb: &[u8],
    wanted: &dyn Fn(&str) -> bool,
) -> Result<(), ImageError> {
    let wrong = |fact| ImageError::Package { package: package.to_owned(), fact };
    let (name, data) = data_member(deb).ok_or(wrong("it is no Debian package"))?;
    let reader: Box<dyn Read + '_> = match name {
        "data.tar" => Box::new(data),
        "data.tar.xz" => Box::new(XzReader::new(data, true)),
        "data.tar.zst" => {
            Box::new(zstd::Decoder::with_buffer(data).map_err(|_| wrong("its data cannot be decompressed"))?)
        }
        _ => return Err(wrong("its data has a compression that this program does not read")),
    };
    let mut archive = tar::Archive::new(reader.take(MAX_UNPACKED));
    let broken = || wrong("its data is damaged");
    for entry in archive.entries().map_err(|_| broken())? {
        let mut entry = entry.map_err(|_| broken())?;
        let path = String::from_utf8(entry.path_bytes().into_owned()).map_err(|_| broken())?;
        let path = path.trim_start_matches("./").trim_start_matches('/').to_owned();
        if !wanted(&path) {
            continue;
        }
        let kind = entry.header().entry_type();
        if kind.is_file() {
            if entry.size() > MAX_FILE {
                return Err(wrong("a file in it has more than 256 MiB"));
            }
            let mut bytes = Vec::with_capacity(usize::try_from(entry.size()).unwrap_or(0));
            entry.read_to_end(&mut bytes).map_err(|_| broken())?;
            tree.nodes.insert(path, Node::File(bytes));
        } else if kind.is_symlink()
            && let Some(to) = entry.link_name_bytes()
        {
            let to = String::from_utf8(to.into_owned()).map_err(|_| broken())?;
            tree.nodes.insert(path, Node::Link(to));
        }
    }
    Ok(())
}

impl Tree {
    /// The file at this path; links inside the tree are followed.
    pub(crate) fn file(&self, path: &str) -> Option<&[u8]> {
        let mut path = path.to_owned();
        for _ in 0..MAX_LINKS {
            match self.nodes.get(&path)? {
                Node::File(bytes) => return Some(bytes),
                Node::Link(to) => path = join(&path, to),
            }
        }
        None
    }

    /// Paths in order.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.nodes.keys().map(String::as_str)
    }
}

/// Decompresses a kernel module as its name says.
pub(crate) fn decompress(path: &str, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let read = match path.rsplit_once('.')?.1 {
        "ko" => return Some(bytes.to_vec()),
        "xz" => XzReader::new(bytes, true).take(MAX_FILE).read_to_end(&mut out),
        "zst" => zstd::Decoder::with_buffer(bytes).ok()?.take(MAX_FILE).read_to_end(&mut out),
        _ => return None,
    };
    read.ok().map(|_| out)
}

/// The member of the `ar` archive that holds the files.
fn data_member(deb: &[u8]) -> Option<(&str, &[u8])> {
    let mut rest = deb.strip_prefix(b"!<arch>\n")?;
    while !rest.is_empty() {
        let (header, after) = rest.split_at_checked(60)?;
        // name 16, time 12, owner 6, group 6, mode 8, size 10, end mark 2
        let (name, size) = (header.get(..16)?, header.get(48..58)?);
        if header.get(58..)? != b"`\n" {
            return None;
        }
        let name = std::str::from_utf8(name).ok()?.trim_end().trim_end_matches('/');
        let size: usize = std::str::from_utf8(size).ok()?.trim_end().parse().ok()?;
        let (content, after) = after.split_at_checked(size)?;
        if name.starts_with("data.tar") {
            return Some((name, content));
        }
        rest = after.get(size % 2..).unwrap_or_default();
    }
    None
}

/// Where a link at `path` points; upwards beyond the root stays at the root.
fn join(path: &str, to: &str) -> String {
    let mut parts: Vec<&str> = if to.starts_with('/') { Vec::new() } else { path.split('/').collect() };
    parts.pop();
    for part in to.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_inside_the_tree_only_and_not_for_ever() {
        let mut tree = Tree::default();
        tree.nodes.insert("lib/x/libc.so".into(), Node::File(b"c".to_vec()));
        for (at, to) in [
            ("lib64/ld.so", "/lib/x/libc.so"),
            ("lib/x/a", "libc.so"),
            ("lib/y/b", "../x/./a"),
            ("up", "../../../lib/x/libc.so"),
            ("loop", "loop"),
            ("gone", "lib/none"),
        ] {
            tree.nodes.insert(at.into(), Node::Link(to.into()));
        }
        for path in ["lib/x/libc.so", "lib64/ld.so", "lib/x/a", "lib/y/b", "up"] {
            assert_eq!(tree.file(path), Some(&b"c"[..]), "{path}");
        }
        assert!(tree.file("loop").is_none() && tree.file("gone").is_none());
    }

    #[test]
    fn a_damaged_package_is_told_and_never_a_panic() {
        let whole = {
            let mut bytes = b"!<arch>\n".to_vec();
            for (name, content) in [("debian-binary", "2.0\n"), ("data.tar.xz", "not xz")] {
                bytes.extend(
                    format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, content.len()).bytes(),
                );
                bytes.extend(content.bytes());
            }
            bytes
        };
        for cut in 0..=whole.len() {
            let error = unpack(&mut Tree::default(), "p", &whole[..cut], &|_| true).unwrap_err();
            assert_eq!((error.code(), error.exit()), ("IMAGE_PACKAGE", 6), "{cut}");
        }
    }
}
