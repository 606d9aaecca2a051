//! Turns small models directories, good and bad, into volumes or refusals; the reader here is of its own.
//! The enclave reads volumes by another one: see `tests/tests/seal.rs`.

use std::{fs, os::unix::fs::symlink};

use rustix::fs::{CWD, FileType, Mode};
use serde_json::Value;
use tempfile::{TempDir, tempdir};

use super::*;

fn models(files: &[(&str, &[u8])]) -> TempDir {
    let dir = tempdir().unwrap();
    for (path, bytes) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    dir
}

fn volume(models: &TempDir) -> Result<Vec<u8>, VolumeError> {
    let out = tempdir().unwrap();
    let path = out.path().join("volume");
    let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    match Volume::create(models.path(), file, 0) {
        Ok(volume) => {
            let bytes = fs::read(path).unwrap();
            assert_eq!(bytes.len() as u64, FILES_AT + 2 * volume.half);
            Ok(bytes)
        }
        Err(LaunchError::Volume(error)) => Err(error),
        Err(other) => panic!("{other}"),
    }
}

/// A reader of its own few lines, from the words of docs/sealed-model.md.
fn read(volume: &[u8]) -> Vec<(String, Vec<u8>)> {
    assert_eq!(&volume[..32], b"vouchsafe/1 volume\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    let length = u64::from_be_bytes(volume[32..40].try_into().unwrap()) as usize;
    let index: Value = serde_json::from_slice(&volume[40..40 + length]).unwrap();
    let mut free = 40 + length;
    let mut files = Vec::new();
    for entry in index["files"].as_array().unwrap() {
        let (offset, length) = (entry["offset"].as_u64().unwrap() as usize, entry["length"].as_u64().unwrap() as usize);
        assert!(offset.is_multiple_of(4096) && offset >= free && entry.as_object().unwrap().len() == 3);
        assert!(volume[free..offset].iter().all(|b| *b == 0));
        free = offset + length;
        files.push((entry["path"].as_str().unwrap().to_owned(), volume[offset..free].to_vec()));
    }
    assert!(volume.len().is_multiple_of(4096) && volume[free..].iter().all(|b| *b == 0));
    files
}

#[test]
fn every_file_of_every_package_is_found_again() {
    let long = vec![7; 3 * 4096 + 1];
    let files: [(&str, &[u8]); 5] = [
        ("b/0000.blob", &long),
        ("b/0000.list", b""),
        ("b/manifest.dsse.json", b"{}"),
        ("a-1/x", b"1"),
        ("a-1/y", b"2"),
    ];
    let models = models(&files);
    // What is no package stays out.
    fs::write(models.path().join("README"), "text").unwrap();
    fs::write(models.path().join("note"), "text").unwrap();
    fs::create_dir(models.path().join("lost+found")).unwrap();
    fs::create_dir(models.path().join(".b.new")).unwrap();
    symlink("b", models.path().join("..data")).unwrap();
    let first = volume(&models).unwrap();
    let mut expected: Vec<(String, Vec<u8>)> = files.iter().map(|(p, b)| ((*p).to_owned(), b.to_vec())).collect();
    expected.sort();
    assert_eq!(read(&first), expected);
    assert_eq!(volume(&models).unwrap(), first, "the same packages make the same volume");
}

#[test]
fn no_package_makes_an_empty_volume() {
    let bytes = volume(&models(&[])).unwrap();
    assert_eq!((read(&bytes).len(), bytes.len() as u64), (0, FILES_AT));
}

#[test]
fn an_index_of_every_length_fits_before_its_files() {
    for count in [1, 40, 41, 42, 43, 44, 45, 46, 47, 300] {
        let names: Vec<String> = (0..count).map(|i| format!("m/{i:04}.blob")).collect();
        let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), name.as_bytes())).collect();
        assert_eq!(read(&volume(&models(&files)).unwrap()).len(), count);
    }
}

#[test]
fn links_pipes_folders_and_strange_names_are_refused() {
    let link = models(&[("m/file", b"1")]);
    symlink("file", link.path().join("m/link")).unwrap();
    assert_eq!(volume(&link).err(), Some(VolumeError::NotRegular));
    let linked = models(&[("m/file", b"1")]);
    symlink("m", linked.path().join("n")).unwrap();
    assert_eq!(volume(&linked).err(), Some(VolumeError::NotRegular));
    let pipe = models(&[("m/file", b"1")]);
    let path = pipe.path().join("m/pipe");
    rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR, 0).unwrap();
    assert_eq!(volume(&pipe).err(), Some(VolumeError::NotRegular));
    assert_eq!(volume(&models(&[("m/folder/file", b"1")])).err(), Some(VolumeError::NotRegular));
    for name in ["m/.hidden", "m/a b", "m/a..b", "m/\u{e4}"] {
        assert_eq!(volume(&models(&[(name, b"1")])).err(), Some(VolumeError::Name), "{name}");
    }
}

#[test]
fn too_many_files_and_too_long_an_index_are_refused() {
    let many = models(&[("m/0", b"")]);
    for i in 1..=MAX_FILES {
        fs::write(many.path().join(format!("m/{i}")), "").unwrap();
    }
    assert_eq!(volume(&many).err(), Some(VolumeError::TooManyFiles));
    fs::remove_file(many.path().join("m/0")).unwrap();
    assert!(volume(&many).is_ok(), "as many as allowed");
    let long = models(&[]);
    let id = "m".repeat(64);
    fs::create_dir(long.path().join(&id)).unwrap();
    for i in 0..4090 {
        File::create(long.path().join(format!("{id}/{i:0128}"))).unwrap().set_len(1 << 40).unwrap();
    }
    assert_eq!(Layout::of(long.path()).err(), Some(VolumeError::IndexTooLarge));
}

#[test]
fn a_file_that_shrinks_is_told() {
    let models = models(&[("m/file", &[1; 5000])]);
    let layout = Layout::of(models.path()).unwrap();
    fs::write(models.path().join("m/file"), b"short").unwrap();
    let out = tempfile::tempfile().unwrap();
    assert_eq!(layout.write(&out, FILES_AT), Err(VolumeError::Changed));
    let file = File::open(models.path().join("m/file")).unwrap();
    assert_eq!(copy(&file, &out, 4096, 5000), Err(VolumeError::Changed));
}

#[test]
fn a_folder_that_is_renamed_over_is_copied_as_it_was_opened() {
    let models = models(&[("m/file", b"old")]);
    let layout = Layout::of(models.path()).unwrap();
    fs::rename(models.path().join("m"), models.path().join("m.old")).unwrap();
    fs::create_dir(models.path().join("m")).unwrap();
    fs::write(models.path().join("m/file"), b"new").unwrap();
    let path = models.path().join("volume");
    let file = File::create(&path).unwrap();
    file.set_len(FILES_AT + ALIGN).unwrap();
    layout.write(&file, FILES_AT).unwrap();
    assert_eq!(read(&fs::read(path).unwrap()), [("m/file".to_owned(), b"old".to_vec())]);
}

#[test]
fn a_missing_directory_and_a_full_disk_are_told_apart() {
    let gone = Volume::create(Path::new("/nonexistent/models"), tempfile::tempfile().unwrap(), 0).unwrap_err();
    assert_eq!((gone.code(), gone.exit()), ("VOLUME_UNREADABLE", 9));
    let full = File::options().write(true).open("/dev/full").unwrap();
    let full = Volume::create(models(&[]).path(), full, 0);
    assert!(matches!(full, Err(LaunchError::Volume(VolumeError::Unwritable(_)))));
}

#[test]
fn newer_packages_go_into_the_other_half_and_only_then_into_the_index() {
    let models = models(&[("m/file", &[1; 9000]), ("m/gone", b"x")]);
    let path = models.path().join("volume");
    let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    let volume = Volume::create(models.path(), file, 0).unwrap();
    // Only the first half's end is known to `read`, and what a half held before stays in it.
    let content = || {
        let bytes = fs::read(&path).unwrap();
        let length = u64::from_be_bytes(bytes[32..40].try_into().unwrap()) as usize;
        assert!(bytes[40 + length..FILES_AT as usize].iter().all(|b| *b == 0));
        let index: Value = serde_json::from_slice(&bytes[40..40 + length]).unwrap();
        let range = |e: &Value| e["offset"].as_u64().unwrap() as usize..;
        let entries = index["files"].as_array().unwrap().iter();
        let files =
            entries.map(|e| (e["path"].clone(), bytes[range(e)][..e["length"].as_u64().unwrap() as usize].to_vec()));
        (files.collect::<Vec<_>>(), index["files"][0]["offset"].as_u64().unwrap(), bytes)
    };
    let (first, at, before) = content();
    assert_eq!((first.len(), at), (2, FILES_AT));
    volume.renew(models.path()).unwrap();
    assert_eq!(content(), (first, at, before.clone()), "the same files are not copied again");

    // A package is put in place by renaming; a single file that is written anew is seen as well.
    fs::remove_file(models.path().join("m/gone")).unwrap();
    fs::write(models.path().join("m/file"), [2; 9000]).unwrap();
    volume.renew(models.path()).unwrap();
    let (second, at, after) = content();
    assert_eq!((second, at), (vec![("m/file".into(), vec![2; 9000])], FILES_AT + volume.half));
    let half = FILES_AT as usize..at as usize;
    assert!(before[half.clone()] == after[half], "what a guest reads stays where it is");

    fs::write(models.path().join("m/file"), [3; 20_000]).unwrap();
    volume.renew(models.path()).unwrap();
    let (third, at, _) = content();
    assert_eq!((third, at), (vec![("m/file".into(), vec![3; 20_000])], FILES_AT));

    // Too much, or nothing to read: everything stays as it is, and the next renewal works.
    let kept = fs::read(&path).unwrap();
    fs::write(models.path().join("m/file"), vec![4; volume.half as usize + 1]).unwrap();
    assert_eq!(volume.renew(models.path()), Err(VolumeError::NoRoom));
    symlink("file", models.path().join("m/link")).unwrap();
    assert_eq!(volume.renew(models.path()), Err(VolumeError::NotRegular));
    assert!(fs::read(&path).unwrap() == kept);
    fs::remove_file(models.path().join("m/link")).unwrap();
    fs::write(models.path().join("m/file"), vec![5; volume.half as usize]).unwrap();
    volume.renew(models.path()).unwrap();
    assert_eq!(content().1, FILES_AT + volume.half);
    assert_eq!(content().2.len() as u64, FILES_AT + 2 * volume.half, "a device does not grow");
}

#[test]
fn room_is_kept_for_larger_packages_and_takes_no_disk() {
    let models = models(&[("m/file", b"1")]);
    let file = tempfile::tempfile().unwrap();
    let volume = Volume::create(models.path(), file, ROOM).unwrap();
    let metadata = volume.device().metadata().unwrap();
    assert_eq!((volume.half, metadata.len()), (4096 + ROOM, FILES_AT + 2 * (4096 + ROOM)));
    assert!(std::os::unix::fs::MetadataExt::blocks(&metadata) * 512 < 4 << 20);
    assert!(volume.device().write_all_at(b"x", 0).is_err(), "a guest cannot write");
}
