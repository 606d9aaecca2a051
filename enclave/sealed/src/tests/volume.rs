//! Turns volumes, whole, cut, changed and made up, into packages or into the codes that must fire.
//! What stands in the packages is tested for directories and volumes alike, in the modules beside this one.

use std::{
    fs::File,
    os::{fd::OwnedFd, unix::fs::FileExt as _},
    sync::Arc,
};

use proptest::{prelude::*, test_runner::TestRunner};
use tempfile::TempDir;

use super::{
    shelf::{MODEL, PAGE, Stand, device, frame, index, on_volume, paths, volume},
    support::{Files, Fixture, blob, judge_package, list, store},
};
use crate::{SealedError, Shelf, Volume, directory::MANIFEST};

/// Opens, compares and unseals the package [`MODEL`] on a volume of these bytes.
fn judge(fixture: &Fixture, bytes: &[u8]) -> Result<Vec<Vec<u8>>, SealedError> {
    let package = on_volume(bytes)?.package(MODEL, &fixture.vendor_keys())?;
    judge_package(&package, &fixture.model_key())
}

#[test]
fn two_packages_come_back_from_one_volume() {
    let (small, other) = (Fixture::small(), Fixture { uid: [9; 32], seeds: vec![0x44], ..Fixture::small() });
    let both = [paths("vector", &small.files()), paths("other-1.x", &other.files_of_series(1))].concat();
    let shelf = on_volume(&volume(&both)).unwrap();
    for (id, fixture) in [("vector", &small), ("other-1.x", &other)] {
        let package = shelf.package(id, &fixture.vendor_keys()).unwrap();
        assert_eq!(judge_package(&package, &fixture.model_key()).unwrap(), fixture.plaintexts());
    }
    let crossed = shelf.package("vector", &other.vendor_keys()).err().unwrap();
    assert_eq!(crossed.code(), "MANIFEST_SIGNATURE");
}

#[test]
fn a_model_that_is_not_there_has_one_code_everywhere() {
    let fixture = Fixture::small();
    for stand in Stand::both(&fixture.files()) {
        for id in ["other", "", ".", "..", "/", "vector/", "vector/.", "../vector", "Vector", "vector\0", "vect\u{f6}r"]
        {
            let error = stand.shelf().package(id, &fixture.vendor_keys()).err().unwrap();
            assert_eq!((error.code(), error.exit()), ("PACKAGE_MISSING", 9), "{id:?}");
        }
        assert!(stand.open(&fixture).is_ok());
    }
    let dir = TempDir::new().unwrap();
    store(&dir.path().join("there"), &fixture.files());
    std::os::unix::fs::symlink("there", dir.path().join("link")).unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    let shelf = Shelf::Directory(File::open(dir.path()).unwrap().into());
    let code = |id: &str| shelf.package(id, &fixture.vendor_keys()).map_or_else(|e| e.code(), |_| "accepted");
    assert_eq!([code("there"), code("link"), code("file")], ["accepted", "PACKAGE_MISSING", "PACKAGE_MISSING"]);
}

#[test]
fn files_beyond_the_package_and_missing_ones_have_the_codes_of_a_directory() {
    let (fixture, base) = (Fixture::small(), Fixture::small().files());
    let code = |change: &dyn Fn(&mut Files)| {
        let mut files = base.clone();
        change(&mut files);
        // Compares a directory with a volume, too.
        fixture.code(&files)
    };
    for extra in ["x", "0003.blob", "0000.BLOB", "MANIFEST.dsse.json", "0000.blob.1", "manifest.json"] {
        assert_eq!(code(&|f| drop(f.insert(extra.into(), vec![]))), "PACKAGE_EXTRA_FILE", "{extra}");
        assert_eq!(code(&|f| drop(f.insert(extra.into(), base[MANIFEST].clone()))), "PACKAGE_EXTRA_FILE", "{extra}");
    }
    for name in base.keys() {
        assert_eq!(code(&|f| drop(f.remove(name))), "PACKAGE_MISSING_FILE", "{name}");
    }
    assert_eq!(code(&|f| blob(f, 0).truncate(4095)), "BLOB_LENGTH");
    assert_eq!(code(&|f| blob(f, 0).push(0)), "BLOB_LENGTH");
    assert_eq!(code(&|f| list(f, 0).clear()), "BLOB_LIST");
    assert_eq!(code(&|f| f.get_mut(MANIFEST).unwrap().clear()), "MANIFEST_ENVELOPE");
    assert_eq!(code(&|_| {}), "accepted");
    // A neighbour's files are not this package's.
    let neighbour = [paths(MODEL, &base), vec![("vector2/0003.blob".to_owned(), vec![1])]].concat();
    assert_eq!(judge(&fixture, &volume(&neighbour)).unwrap(), fixture.plaintexts());
}

#[test]
fn every_truncation_is_refused_or_loses_nothing() {
    let fixture = Fixture::small();
    let files = paths(MODEL, &fixture.files());
    let whole = volume(&files);
    let last = whole.len() - PAGE + files.last().unwrap().1.len() % PAGE;
    let file = device(&whole);
    for length in (0..=whole.len()).rev() {
        file.set_len(length as u64).unwrap();
        let result = Volume::open(file.try_clone().unwrap());
        let expected = match length {
            0..40 => "VOLUME_MAGIC",
            40..PAGE => "VOLUME_INDEX_LENGTH",
            l if l < last => "VOLUME_RANGE",
            _ => "accepted",
        };
        assert_eq!(result.map_or_else(|e| e.code(), |_| "accepted"), expected, "{length} of {}", whole.len());
    }
    assert_eq!(judge(&fixture, &whole[..last]).unwrap(), fixture.plaintexts());
    let longer = [whole.clone(), vec![7; 3 * PAGE + 5]].concat();
    assert_eq!(judge(&fixture, &longer).unwrap(), fixture.plaintexts(), "a device may be larger than its volume");
}

#[test]
fn no_flipped_bit_before_the_files_gives_other_models() {
    let fixture = Fixture::small();
    let whole = volume(&paths(MODEL, &fixture.files()));
    assert_eq!(judge(&fixture, &whole).unwrap(), fixture.plaintexts());
    let end = 40 + whole[40..].iter().position(|b| *b == 0).unwrap();
    let mut opened = 0;
    for bit in 0..end * 8 {
        let mut bad = whole.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        opened += usize::from(on_volume(&bad).is_ok());
        assert!(judge(&fixture, &bad).is_err(), "bit {bit}");
    }
    println!("{} flipped bits: 0 accepted, {opened} refused by the package that was opened", end * 8);
    for at in end..PAGE {
        let mut bad = whole.clone();
        bad[at] = 1;
        assert_eq!(judge(&fixture, &bad), Err(SealedError::VolumePadding), "byte {at}");
    }
    let mut between = whole.clone();
    *between.last_mut().unwrap() ^= 1;
    assert_eq!(judge(&fixture, &between).unwrap(), fixture.plaintexts(), "bytes of no file are not read");
}

#[test]
fn only_disks_and_files_that_can_be_read_are_devices() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("volume");
    std::fs::write(&path, frame(b"{\"files\":[]}")).unwrap();
    let code = |file: File| Volume::open(file).map_or_else(|e| (e.code(), e.exit()), |_| ("accepted", 0));
    assert_eq!(code(File::open(&path).unwrap()), ("accepted", 0));
    let bad = ("VOLUME_DEVICE", 9);
    assert_eq!(code(File::options().write(true).open(&path).unwrap()), bad, "write only");
    assert_eq!(code(File::open(dir.path()).unwrap()), bad, "directory");
    assert_eq!(code(File::open("/dev/zero").unwrap()), bad, "character device");
    let (pipe, _end) = std::io::pipe().unwrap();
    assert_eq!(code(File::from(OwnedFd::from(pipe))), bad, "pipe");
    assert_eq!(code(File::open("/dev/null").unwrap()), bad);
}

#[test]
fn a_device_that_shrinks_or_changes_gives_codes_and_never_other_bytes() {
    let fixture = Fixture::small();
    let mut files = paths(MODEL, &fixture.files());
    // What is read first stands first, and a list before its blob: each can be cut while the ones before it are whole.
    files.reverse();
    files.swap(0, 1);
    let whole = volume(&files);
    let file = device(&whole);
    let shelf = Shelf::Volume(Arc::new(Volume::open(file.try_clone().unwrap()).unwrap()));
    let open = || shelf.package(MODEL, &fixture.vendor_keys());
    let package = open().unwrap();
    let mut codes = std::collections::BTreeSet::new();
    for length in (0..whole.len()).rev().step_by(97) {
        file.set_len(length as u64).unwrap();
        for result in [
            open().and_then(|p| judge_package(&p, &fixture.model_key())),
            judge_package(&package, &fixture.model_key()),
        ] {
            match result {
                Ok(plain) => assert_eq!(plain, fixture.plaintexts()),
                Err(error) => drop(codes.insert(error.code())),
            }
        }
    }
    assert_eq!(
        codes.into_iter().collect::<Vec<_>>(),
        ["BLOB_LENGTH", "BLOB_LIST", "MANIFEST_ENVELOPE", "PACKAGE_USAGE_POLICY"]
    );
    // The index is read when somebody asks: until then another one, written over it, changes nothing.
    file.write_all_at(&whole, 0).unwrap();
    file.write_all_at(&frame(index([("vector/x", 4096, 0)]).as_bytes()), 0).unwrap();
    assert_eq!(judge_package(&open().unwrap(), &fixture.model_key()).unwrap(), fixture.plaintexts());
    assert_eq!(judge_package(&package, &fixture.model_key()).unwrap(), fixture.plaintexts());
}

#[test]
fn newer_packages_are_found_after_a_refresh_and_open_ones_keep_their_ranges() {
    let (old, new) = (Fixture::small(), Fixture { uid: [9; 32], seeds: vec![0x44], ..Fixture::small() });
    let first = volume(&paths(MODEL, &old.files()));
    let file = device(&first);
    let shelf = Shelf::Volume(Arc::new(Volume::open(file.try_clone().unwrap()).unwrap()));
    let open = |fixture: &Fixture| shelf.package(MODEL, &fixture.vendor_keys());
    let kept = open(&old).unwrap();
    // The newer package stands behind the older one, and the index names it alone.
    let (mut at, mut entries) = (first.len() as u64, Vec::new());
    for (path, bytes) in paths(MODEL, &new.files_of_series(1)) {
        file.write_all_at(&bytes, at).unwrap();
        entries.push((path, at, bytes.len() as u64));
        at = (at + bytes.len() as u64).next_multiple_of(PAGE as u64);
    }
    file.set_len(at).unwrap();
    let newer = frame(index(entries.iter().map(|(path, at, length)| (path.as_str(), *at, *length))).as_bytes());
    file.write_all_at(&newer, 0).unwrap();
    assert_eq!(judge_package(&open(&old).unwrap(), &old.model_key()).unwrap(), old.plaintexts(), "nobody has asked");

    shelf.refresh().unwrap();
    assert_eq!(open(&old).err().unwrap().code(), "MANIFEST_SIGNATURE");
    assert_eq!(judge_package(&open(&new).unwrap(), &new.model_key()).unwrap(), new.plaintexts());
    assert_eq!(judge_package(&kept, &old.model_key()).unwrap(), old.plaintexts());

    // Whatever is wrong with an index, the one of before stays.
    for (bytes, code) in [
        (frame(b"{\"files\":[}"), "VOLUME_INDEX"),
        (frame(index([("vector/x", 4097, 0)]).as_bytes()), "VOLUME_RANGE"),
        (vec![0; PAGE], "VOLUME_MAGIC"),
        ([&newer[..100], &[0; PAGE - 100]].concat(), "VOLUME_INDEX"),
    ] {
        file.write_all_at(&bytes, 0).unwrap();
        assert_eq!(shelf.refresh().map_err(|e| e.code()), Err(code));
        assert_eq!(judge_package(&open(&new).unwrap(), &new.model_key()).unwrap(), new.plaintexts(), "{code}");
    }
    file.write_all_at(&frame(b"{\"files\":[]}"), 0).unwrap();
    shelf.refresh().unwrap();
    assert_eq!(open(&new).err().unwrap().code(), "PACKAGE_MISSING", "an index may also take away");
    assert_eq!(Shelf::Directory(File::open("/").unwrap().into()).refresh(), Ok(()));
}

#[test]
fn any_files_come_back() {
    let files = prop::collection::btree_map(
        "[a-z0-9]{1,8}/[A-Za-z0-9_+=@][A-Za-z0-9_+=@-]{0,20}",
        prop::collection::vec(any::<u8>(), 0..9000),
        0..40,
    );
    let mut runner = TestRunner::new(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() });
    runner
        .run(&files, |files| {
            let files: Vec<_> = files.into_iter().collect();
            let opened = Volume::open(device(&volume(&files))).unwrap();
            for (path, bytes) in &files {
                let (model, name) = path.split_once('/').unwrap();
                let extents = opened.extents(model).unwrap();
                prop_assert_eq!(&opened.piece(extents[name]).read_all(10_000).unwrap(), bytes);
            }
            Ok(())
        })
        .unwrap();
}
