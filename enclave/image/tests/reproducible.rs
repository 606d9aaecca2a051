//! Packs real files into initrds, twice and from different places, and reads them back with other eyes.
//! It does not boot them; `whole.rs` builds whole images.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use vouchsafe_image::{ImageSpec, Item, Unpacked, pack};

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

/// The parts of an initrd, as files of a directory and as bytes.
fn spec(dir: &Path) -> ImageSpec {
    let file = |name: &str, executable| Item::File { source: dir.join(name), executable };
    let mut spec = ImageSpec::new();
    spec.add("init", file("enclave", true)).unwrap();
    spec.add("usr/lib/libonnxruntime.so", file("libonnxruntime.so", true)).unwrap();
    spec.add("lib/x86_64-linux-gnu/libc.so.6", Item::Bytes { content: Vec::new(), executable: true }).unwrap();
    spec.add("lib/modules/00-a.ko", Item::Bytes { content: b"a".to_vec(), executable: false }).unwrap();
    spec.add("lib64/also", Item::Link { to: "../lib/x86_64-linux-gnu/libc.so.6".to_owned() }).unwrap();
    spec.add("proc", Item::Directory).unwrap();
    spec
}

fn packed() -> (tempfile::TempDir, Unpacked) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("enclave"), fs::read("/proc/self/exe").unwrap()).unwrap();
    fs::write(dir.path().join("libonnxruntime.so"), vec![7; 3_000_001]).unwrap();
    let unpacked = pack(&spec(dir.path()), MTIME).unwrap();
    (dir, unpacked)
}

#[test]
fn two_builds_from_two_places_are_the_same_bytes() {
    let (_here, first) = packed();
    let (there, second) = packed();
    assert!(first.archive == second.archive);
    assert_eq!(first.files, second.files);

    fs::write(there.path().join("libonnxruntime.so"), vec![8; 3_000_001]).unwrap();
    let other = pack(&spec(there.path()), MTIME).unwrap();
    assert!(other.archive != first.archive);
    assert_ne!(other.files, first.files);
    assert!(pack(&spec(there.path()), MTIME + 1).unwrap().archive != other.archive, "the time is in it");
}

#[test]
fn every_entry_reads_back_with_fixed_owner_time_and_no_write_permission() {
    let (dir, image) = packed();
    let entries = read_newc(&image.archive);
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
    assert_eq!((find("init").mode, find("lib/modules/00-a.ko").mode), (0o100_555, 0o100_444));
    let program = fs::read(dir.path().join("enclave")).unwrap();
    assert!(find("init").content == program);
}

/// The guest takes the library's end for the end of the initrd (enclave/src/library.rs, `is_whole`): when memory ends while the kernel
/// unpacks, it starts what it has, so a host could cut a measured image by the size of the machine. An entry behind the library, or a
/// library whose section headers are not its last bytes, could be cut away unseen.
#[test]
fn the_library_is_the_last_entry_and_nothing_lies_behind_its_section_headers() {
    let (_dir, image) = packed();
    let last = read_newc(&image.archive).pop().unwrap();
    assert_eq!(last.name, vouchsafe_image::ONNXRUNTIME);
    // The kernel makes folders and links without telling that it could not: none may stand behind it either.
    assert_eq!(last.mode & 0o170_000, 0o100_000);

    // The locked library itself, where it has been fetched.
    let library = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/release/libonnxruntime.so");
    let Ok(bytes) = fs::read(&library).or_else(|_| fs::read(library.with_file_name("../debug/libonnxruntime.so")))
    else {
        println!("NOT RUN: the_library_is_the_last_entry: ONNX Runtime has not been fetched");
        return;
    };
    let number = |at: usize, size: usize| bytes[at..at + size].iter().rev().fold(0, |n, b| n << 8 | usize::from(*b));
    // ELF-64: e_shoff, e_shentsize, e_shnum.
    assert_eq!(number(0x28, 8) + number(0x3A, 2) * number(0x3C, 2), bytes.len());
}

#[test]
fn every_file_is_named_with_the_digest_that_sha256sum_prints() {
    let (dir, image) = packed();
    let paths: Vec<_> = image.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["init", "lib/modules/00-a.ko", "lib/x86_64-linux-gnu/libc.so.6", "usr/lib/libonnxruntime.so"]);
    let printed = Command::new("sha256sum").arg(dir.path().join("enclave")).output().unwrap();
    let expected = String::from_utf8(printed.stdout).unwrap();
    assert_eq!(expected.split(' ').next().unwrap(), image.files[0].sha256);
}

#[test]
fn the_cpio_program_reads_it_too() {
    let (dir, image) = packed();
    let file = dir.path().join("initrd");
    fs::write(&file, &image.archive).unwrap();
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
    let names: Vec<_> = read_newc(&image.archive).into_iter().map(|entry| entry.name).collect();
    let printed = String::from_utf8(listed.stdout).unwrap();
    assert_eq!(printed.lines().collect::<Vec<_>>(), names);
}

#[test]
fn a_source_that_is_missing_or_a_directory_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    for source in [dir.path().join("absent"), dir.path().to_owned()] {
        let mut spec = ImageSpec::new();
        spec.add("a", Item::File { source, executable: false }).unwrap();
        let error = pack(&spec, MTIME).unwrap_err();
        assert_eq!((error.code(), error.exit()), ("IMAGE_FILE", 9));
    }
}
