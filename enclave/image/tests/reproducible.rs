//! Builds images from real files, twice and from different places, and reads them back with other eyes.
//! It does not boot them.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use vouchsafe_image::{Image, ImageSpec, Item, build};

/// 2026-01-01T00:00:00Z
const MTIME: u32 = 1_767_225_600;

struct Entry {
    name: String,
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: u32,
    content: Vec<u8>,
}

/// A reader written from the format's description, not from our writer.
fn read_newc(mut bytes: &[u8]) -> Vec<Entry> {
    let total = bytes.len();
    let mut entries = Vec::new();
    loop {
        assert_eq!(&bytes[..6], b"070701");
        let field = |n: usize| {
            let text = std::str::from_utf8(&bytes[6 + 8 * n..14 + 8 * n]).unwrap();
            u32::from_str_radix(text, 16).unwrap()
        };
        let (size, name_size) = (field(6) as usize, field(11) as usize);
        let name = std::str::from_utf8(&bytes[110..110 + name_size - 1]).unwrap().to_owned();
        assert_eq!(bytes[110 + name_size - 1], 0);
        let start = (110 + name_size).next_multiple_of(4);
        let end = (start + size).next_multiple_of(4);
        if name == "TRAILER!!!" {
            assert!(bytes[end..].iter().all(|byte| *byte == 0));
            assert_eq!(total % 512, 0);
            return entries;
        }
        entries.push(Entry {
            name,
            mode: field(1),
            uid: field(2),
            gid: field(3),
            mtime: field(5),
            content: bytes[start..start + size].to_vec(),
        });
        bytes = &bytes[end..];
    }
}

/// The parts of an enclave image, as files of a directory; the library is a real one.
fn sources(dir: &Path) -> ImageSpec {
    let write = |name: &str, content: &[u8]| -> PathBuf {
        let path = dir.join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let program = write("vouchsafe-enclave", &fs::read("/proc/self/exe").unwrap());
    let onnxruntime = write("libonnxruntime.so", &vec![7; 3_000_001]);
    let loader = write("ld.so", b"loader");
    let libraries = [write("libm.so.6", b"m"), write("libc.so.6", b"")];
    let mut spec = ImageSpec::enclave(&program, &onnxruntime, &loader, &libraries).unwrap();
    spec.add("lib64/also", Item::Link { to: "../lib/x86_64-linux-gnu/libc.so.6".to_owned() }).unwrap();
    spec
}

fn image() -> (tempfile::TempDir, Image) {
    let dir = tempfile::tempdir().unwrap();
    let image = build(&sources(dir.path()), MTIME).unwrap();
    (dir, image)
}

#[test]
fn two_builds_from_two_places_are_the_same_bytes() {
    let (_here, first) = image();
    let (there, second) = image();
    assert!(first.initrd == second.initrd);
    assert_eq!(first.manifest, second.manifest);

    fs::write(there.path().join("ld.so"), b"Loader").unwrap();
    let other = build(&sources_unchanged(there.path()), MTIME).unwrap();
    assert!(other.initrd != first.initrd);
    assert_ne!(other.manifest.initrd_sha256, first.manifest.initrd_sha256);
}

/// The spec again, without writing the files again.
fn sources_unchanged(dir: &Path) -> ImageSpec {
    let at = |name: &str| dir.join(name);
    let libraries = [at("libm.so.6"), at("libc.so.6")];
    ImageSpec::enclave(&at("vouchsafe-enclave"), &at("libonnxruntime.so"), &at("ld.so"), &libraries).unwrap()
}

#[test]
fn every_entry_reads_back_with_fixed_owner_time_and_no_write_permission() {
    let (dir, image) = image();
    let entries = read_newc(&image.initrd);
    let names: Vec<_> = entries.iter().map(|entry| entry.name.as_str()).collect();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    assert_eq!(names, sorted);
    for entry in &entries {
        assert_eq!((entry.uid, entry.gid, entry.mtime), (0, 0, MTIME), "{}", entry.name);
        let link = entry.mode & 0o170_000 == 0o120_000;
        assert!(link || entry.mode & 0o222 == 0, "{} is writable", entry.name);
    }
    let find = |name: &str| entries.iter().find(|entry| entry.name == name).unwrap();
    assert_eq!(find("usr/lib/libonnxruntime.so").content, vec![7; 3_000_001]);
    assert_eq!(find("lib/x86_64-linux-gnu/libc.so.6").content, b"");
    assert_eq!(find("proc").mode, 0o040_555);
    let program = fs::read(dir.path().join("vouchsafe-enclave")).unwrap();
    assert!(find("usr/bin/vouchsafe-enclave").content == program);
}

#[test]
fn the_manifest_names_every_file_with_the_digest_that_sha256sum_prints() {
    let (dir, image) = image();
    let paths: Vec<_> = image.manifest.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "lib/x86_64-linux-gnu/libc.so.6",
            "lib/x86_64-linux-gnu/libm.so.6",
            "lib64/ld-linux-x86-64.so.2",
            "usr/bin/vouchsafe-enclave",
            "usr/lib/libonnxruntime.so",
        ]
    );
    let printed = Command::new("sha256sum").arg(dir.path().join("vouchsafe-enclave")).output().unwrap();
    let expected = String::from_utf8(printed.stdout).unwrap();
    let program = &image.manifest.files[3];
    assert_eq!(expected.split(' ').next().unwrap(), program.sha256);
    let json = serde_json::to_string(&image.manifest).unwrap();
    assert!(json.contains(&program.sha256));
}

#[test]
fn the_cpio_program_reads_it_too() {
    let (dir, image) = image();
    let file = dir.path().join("initrd");
    fs::write(&file, &image.initrd).unwrap();
    let listed = Command::new("cpio")
        .args(["--list", "--quiet"])
        .stdin(fs::File::open(&file).unwrap())
        .stdout(Stdio::piped())
        .output();
    let Ok(listed) = listed else {
        println!("NOT RUN: the_cpio_program_reads_it_too: cpio is not installed");
        return;
    };
    assert!(listed.status.success());
    let names: Vec<_> = read_newc(&image.initrd).into_iter().map(|entry| entry.name).collect();
    let printed = String::from_utf8(listed.stdout).unwrap();
    assert_eq!(printed.lines().collect::<Vec<_>>(), names);
}

#[test]
fn a_source_that_is_missing_or_a_directory_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    for source in [dir.path().join("absent"), dir.path().to_owned()] {
        let mut spec = ImageSpec::new();
        spec.add("a", Item::File { source, executable: false }).unwrap();
        let error = build(&spec, MTIME).unwrap_err();
        assert_eq!((error.code(), error.exit()), ("IMAGE_FILE", 9));
    }
}
