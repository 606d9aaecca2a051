//! Turns the fixed fixtures into the committed volumes of `tests/vectors/volume`, and walks and counts them.
//! `cargo test -p vouchsafe-sealed -- --ignored write_volumes` writes them anew; a changed byte is a changed format.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use super::{
    shelf::{PAGE, frame, index, on_volume, paths, volume},
    support::{Files, Fixture, judge_package, load},
};

const ACCEPTED: usize = 2;
const REFUSED: usize = 16;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/volume")
}

/// `volume.bin`, and either `code` or `models`: lines of a model id and the sealed vector whose package it is.
fn all() -> BTreeMap<&'static str, Files> {
    let mut out = BTreeMap::new();
    let mut put = |name, file: &str, text: &str, volume: Vec<u8>| {
        let files = [("volume.bin".to_owned(), volume), (file.to_owned(), text.as_bytes().to_vec())];
        assert!(out.insert(name, Files::from(files)).is_none(), "{name} twice");
    };
    let two = [paths("empty", &Fixture::of_graph(Vec::new(), 1).files()), paths("vector", &Fixture::small().files())];
    let models = "empty accept-empty-graph\nvector accept-small\n";
    put("accept-two-models", "models", models, volume(&two.concat()));
    put("accept-nothing", "models", "", volume(&[]));

    let mut refuse = |name, code: &str, volume| put(name, "code", &format!("{code}\n"), volume);
    let good = frame(index([("m/x", 4096, 5)]).as_bytes());
    let file = |bytes: &[u8]| [bytes, b"bytes"].concat();
    let edit = |from: &str, to: &str| {
        let text = index([("m/x", 4096, 5)]).replacen(from, to, 1);
        [frame(text.as_bytes()), vec![0; PAGE]].concat()
    };
    let set = |at: usize, byte: u8| {
        let mut bytes = file(&good);
        bytes[at] = byte;
        bytes
    };
    refuse("magic-of-another-version", "VOLUME_MAGIC", set(10, b'2'));
    refuse("magic-padding", "VOLUME_MAGIC", set(31, 1));
    refuse("index-longer-than-the-cap", "VOLUME_INDEX_LENGTH", set(36, 0xff));
    refuse("index-longer-than-the-device", "VOLUME_INDEX_LENGTH", set(37, 1));
    refuse("index-unknown-field", "VOLUME_INDEX", edit("\"length\":5", "\"length\":5,\"mode\":0"));
    refuse("index-repeated-field", "VOLUME_INDEX", edit("\"length\":5", "\"length\":5,\"length\":5"));
    refuse("index-space", "VOLUME_INDEX", edit("\"length\":5", "\"length\": 5"));
    refuse("index-padding", "VOLUME_PADDING", set(PAGE - 1, 1));
    refuse("path-leads-up", "VOLUME_PATH", edit("m/x", "m/.."));
    refuse("path-absolute", "VOLUME_PATH", edit("m/x", "/m/x"));
    let twice = index([("m/x", 4096, 5), ("m/x", 8192, 5)]);
    refuse("path-twice", "VOLUME_PATH_TWICE", [frame(twice.as_bytes()), vec![0; 2 * PAGE]].concat());
    refuse("range-off-a-page", "VOLUME_RANGE", edit("4096", "4608"));
    refuse("range-in-the-index", "VOLUME_RANGE", edit("4096", "0"));
    refuse("range-beyond-the-device", "VOLUME_RANGE", file(&good)[..PAGE + 4].to_vec());
    refuse("range-overflows", "VOLUME_RANGE", edit("\"length\":5", "\"length\":18446744073709551615"));
    let overlap = index([("m/x", 4096, 4097), ("m/y", 8192, 5)]);
    refuse("ranges-overlap", "VOLUME_OVERLAP", [frame(overlap.as_bytes()), vec![0; 2 * PAGE]].concat());
    out
}

#[test]
#[ignore = "writes the committed volumes anew"]
fn write_volumes() {
    let _ = fs::remove_dir_all(root());
    for (name, files) in all() {
        super::support::store(&root().join(name), &files);
    }
}

#[test]
fn this_code_still_writes_the_committed_volumes() {
    for (name, files) in all() {
        assert!(load(&root().join(name)) == files, "{name} differs from the committed volume");
    }
}

#[test]
fn every_committed_volume_gives_its_packages_or_its_code() {
    let (mut accepted, mut refused, mut codes) = (0, 0, BTreeSet::new());
    let known = all();
    for entry in fs::read_dir(root()).unwrap().map(Result::unwrap) {
        let (name, files) = (entry.file_name().into_string().unwrap(), load(&entry.path()));
        assert!(known.contains_key(name.as_str()), "{name} is no volume of this list");
        let text = |file: &str| std::str::from_utf8(&files[file]).unwrap();
        let shelf = on_volume(&files["volume.bin"]);
        if files.contains_key("code") {
            let error = shelf.err().unwrap_or_else(|| panic!("{name}"));
            assert_eq!(error.code(), text("code").trim(), "{name}");
            codes.insert(error.code());
            refused += 1;
            continue;
        }
        let shelf = shelf.unwrap_or_else(|e| panic!("{name}: {e}"));
        for line in text("models").lines() {
            let (id, vector) = line.split_once(' ').unwrap();
            let plain: Vec<_> = load(&root().join("../sealed").join(vector).join("plaintext")).into_values().collect();
            let fixture = Fixture::small();
            let package = shelf.package(id, &fixture.vendor_keys()).unwrap();
            assert_eq!(judge_package(&package, &fixture.model_key()).unwrap(), plain, "{name}: {id}");
        }
        accepted += 1;
    }
    assert_eq!((accepted, refused), (ACCEPTED, REFUSED));
    println!("{accepted} accepted, {refused} refused by {} codes: {codes:?}", codes.len());
}
