//! Turns directories that are almost packages into the codes that must fire before any key is asked for.
//! Single-failure directories for other implementations are the committed vectors; here is what they cannot hold.

use std::{fs, os::unix::fs::symlink, path::Path};

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, openat};
use tempfile::TempDir;
use vouchsafe_attestation::dsse;

use super::support::{Fixture, resign, signer, store};
use crate::{Package, Shelf, directory::MANIFEST};

fn code(change: impl FnOnce(&Path)) -> (&'static str, u8) {
    let (dir, fixture) = (TempDir::new().unwrap(), Fixture::small());
    store(dir.path(), &fixture.files());
    assert!(Package::open(dir.path(), &fixture.vendor_keys()).is_ok());
    change(dir.path());
    Package::open(dir.path(), &fixture.vendor_keys()).map_or_else(|e| (e.code(), e.exit()), |_| ("accepted", 0))
}

#[test]
fn only_regular_files_are_opened() {
    for name in [MANIFEST, "usage-policy.dsse.json", "0000.blob", "0002.list"] {
        let link = |d: &Path| {
            fs::rename(d.join(name), d.parent().unwrap().join("elsewhere")).unwrap();
            symlink(d.parent().unwrap().join("elsewhere"), d.join(name)).unwrap();
        };
        assert_eq!(code(link), ("PACKAGE_NOT_REGULAR", 6), "{name}");
        let fifo = |d: &Path| {
            fs::remove_file(d.join(name)).unwrap();
            mknodat(CWD, d.join(name), FileType::Fifo, Mode::RWXU, 0).unwrap();
        };
        assert_eq!(code(fifo), ("PACKAGE_NOT_REGULAR", 6), "{name}");
        let directory = |d: &Path| {
            fs::remove_file(d.join(name)).unwrap();
            fs::create_dir(d.join(name)).unwrap();
        };
        assert_eq!(code(directory), ("PACKAGE_NOT_REGULAR", 6), "{name}");
        let socket = |d: &Path| {
            fs::remove_file(d.join(name)).unwrap();
            std::os::unix::net::UnixListener::bind(d.join(name)).unwrap();
        };
        assert_eq!(code(socket), ("PACKAGE_NOT_REGULAR", 6), "{name}");
        assert_eq!(code(|d| fs::remove_file(d.join(name)).unwrap()), ("PACKAGE_MISSING_FILE", 6), "{name}");
    }
}

#[test]
fn entries_without_a_place_are_refused() {
    for name in ["x", ".hidden", "0003.blob", "0000.BLOB", "000.blob", "manifest.json", "n\u{e4}"] {
        assert_eq!(code(|d| fs::write(d.join(name), b"").unwrap()), ("PACKAGE_EXTRA_FILE", 6), "{name}");
    }
    assert_eq!(code(|d| fs::create_dir(d.join("sub")).unwrap()), ("PACKAGE_EXTRA_FILE", 6));
    let raw = |d: &Path| {
        use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};
        fs::write(d.join(OsStr::from_bytes(b"\xff")), b"").unwrap();
    };
    assert_eq!(code(raw), ("PACKAGE_EXTRA_FILE", 6));
}

#[test]
fn a_missing_directory_is_a_local_fault() {
    let dir = TempDir::new().unwrap();
    let code = |path: &Path| Package::open(path, &[]).map_or_else(|e| (e.code(), e.exit()), |_| ("accepted", 0));
    assert_eq!(code(&dir.path().join("none")), ("PACKAGE_UNREADABLE", 9));
    fs::write(dir.path().join("file"), b"").unwrap();
    assert_eq!(code(&dir.path().join("file")), ("PACKAGE_UNREADABLE", 9));
    assert_eq!(code(dir.path()), ("PACKAGE_MISSING_FILE", 6));
}

#[test]
fn a_manifest_beyond_its_cap_is_not_parsed() {
    let grow = |d: &Path| {
        let mut bytes = fs::read(d.join(MANIFEST)).unwrap();
        bytes.resize((1 << 20) + 1, b' ');
        fs::write(d.join(MANIFEST), bytes).unwrap();
    };
    assert_eq!(code(grow), ("MANIFEST_TOO_LARGE", 6));
    let sparse = |d: &Path| fs::File::create(d.join(MANIFEST)).unwrap().set_len(1 << 40).unwrap();
    assert_eq!(code(sparse), ("MANIFEST_TOO_LARGE", 6));
}

#[test]
fn every_demanded_signature_must_be_pinned() {
    let fixture = Fixture { seeds: vec![0x33, 0x44], ..Fixture::small() };
    let files = fixture.files();
    let (a, b, c) = (dsse::public(&signer(0x33)), dsse::public(&signer(0x44)), dsse::public(&signer(0x55)));
    let code =
        |keys: &[_]| super::support::judge(&files, &fixture.model_key(), keys).map_or_else(|e| e.code(), |_| "ok");
    assert_eq!(code(&[a, b]), "ok");
    assert_eq!(code(&[c, b, a]), "ok");
    assert_eq!(code(&[a]), "MANIFEST_THRESHOLD");
    assert_eq!(code(&[a, a]), "MANIFEST_THRESHOLD");
    assert_eq!(code(&[c]), "MANIFEST_SIGNATURE");
    assert_eq!(code(&[]), "MANIFEST_SIGNATURE");
    let mut lowered = files;
    resign(&mut lowered, &[0x33], "\"threshold\":2", "\"threshold\":4294967295");
    assert_eq!(super::support::judge(&lowered, &fixture.model_key(), &[a]).unwrap_err().code(), "MANIFEST_THRESHOLD");
}

#[test]
fn a_package_renamed_away_stays_the_one_that_was_opened() {
    let (dir, fixture) = (TempDir::new().unwrap(), Fixture::small());
    let (path, newer) = (dir.path().join("m"), Fixture { sequence: 8, ..Fixture::small() });
    store(&path, &fixture.files());
    let fd = openat(CWD, dir.path(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    let package = Shelf::Directory(fd).package("m", &fixture.vendor_keys()).unwrap();
    fs::rename(&path, dir.path().join("old")).unwrap();
    store(&path, &newer.files_of_series(1));
    assert_eq!(*package.unseal_to_vec(&fixture.model_key(), 0).unwrap(), *fixture.plaintexts()[0]);
    assert_eq!(package.manifest().sequence, 7);
}
