//! Turns exhaustive lists of damage into refusals: every bit, every exchange between packages, every set of signers.
//! Pairs of chunks and truncation at their borders are in `parallel.rs`, random damage in `mutate.rs`.

use std::fs;

use super::{
    shelf::Stand,
    support::{Files, Fixture, payload, resign, resign_list, sign, store},
    ways::unseal,
};
use crate::{
    FileEntry, HEADER_LEN, MAX_FILES, MAX_MANIFEST, Manifest, Package, Role, SealedError,
    directory::{MANIFEST, USAGE_POLICY, blob_name, list_name},
};

#[test]
fn every_bit_of_every_header_counts_and_nothing_is_released() {
    let fixture = Fixture::small();
    let (files, key) = (fixture.files(), fixture.model_key());
    let mut refused = 0;
    // The volume reads by the same code, from another place: one blob of it is enough.
    for (stand, blobs) in Stand::both(&files).into_iter().zip([3, 1]) {
        let package = stand.open(&fixture).unwrap();
        for index in 0..blobs {
            let name = blob_name(index);
            for bit in 0..HEADER_LEN * 8 {
                let good = files[&name][bit / 8];
                stand.patch(&name, bit / 8, &[good ^ (1 << (bit % 8))]);
                let result = unseal(&package, &key, index, &mut |_| panic!("released"));
                assert_eq!(result, Err(SealedError::BlobHeader(index)), "{name} bit {bit}");
                stand.patch(&name, bit / 8, &[good]);
                refused += 1;
            }
            assert!(package.unseal_to_vec(&key, index).is_ok(), "control");
        }
    }
    println!("{refused} flipped bits of headers: 0 accepted");
    assert_eq!(refused, 4 * HEADER_LEN * 8);
}

#[test]
fn every_bit_of_every_signed_envelope_counts() {
    let fixture = Fixture { seeds: vec![0x33, 0x44], ..Fixture::small() };
    let files = fixture.files();
    let (mut refused, mut bits) = (0, 0);
    for (stand, names) in Stand::both(&files).into_iter().zip([&[MANIFEST, USAGE_POLICY][..], &[USAGE_POLICY]]) {
        for name in names.iter().copied() {
            for bit in 0..files[name].len() * 8 {
                let good = files[name][bit / 8];
                stand.patch(name, bit / 8, &[good ^ (1 << (bit % 8))]);
                bits += 1;
                refused += usize::from(stand.open(&fixture).is_err());
                stand.patch(name, bit / 8, &[good]);
            }
        }
        assert!(stand.open(&fixture).is_ok(), "control");
    }
    println!("{refused} of {bits} flipped bits of envelopes refused");
    assert_eq!(refused, bits);
}

/// Packages whose files a host could put in the place of this one's: what it is, its files, the code of the whole of it under
/// this one's keys, and the code of its manifest beside this one's files.
fn donors(base: &Files) -> Vec<(&'static str, Files, &'static str, &'static str)> {
    let older = Fixture { sequence: 6, uid: [0x21; 32], key: [0x10; 32], ..Fixture::small() };
    let newer = Fixture { sequence: 8, ..Fixture::small() };
    let model = Fixture { model_id: "other", uid: [9; 32], ..Fixture::small() };
    let key = Fixture { key: [0x12; 32], ..Fixture::small() };
    let vendor = Fixture { seeds: vec![0x55], ..Fixture::small() };
    vec![
        ("this package", base.clone(), "accepted", "accepted"),
        // Genuine, both of them: only a floor tells an older package under the same key from the newest.
        ("the same, sealed again", Fixture::small().files_of_series(1), "accepted", "BLOB_LIST"),
        ("a newer version under the same key", newer.files(), "accepted", "BLOB_LIST"),
        ("an older version", older.files(), "KEY_COMMITMENT", "KEY_COMMITMENT"),
        // A vendor who gives two models one key lets that key open both: which one it is, the manifest digest says.
        ("another model under the same key", model.files(), "accepted", "BLOB_LIST"),
        ("another key", key.files(), "KEY_COMMITMENT", "KEY_COMMITMENT"),
        ("another vendor", vendor.files_of_series(2), "MANIFEST_SIGNATURE", "MANIFEST_SIGNATURE"),
    ]
}

#[test]
fn no_blob_and_no_list_of_another_place_passes() {
    let fixture = Fixture::small();
    let base = fixture.files();
    let (mut refused, mut same) = (0, 0);
    for (what, donor, ..) in donors(&base) {
        for (to, from) in (0..3).flat_map(|to| (0..3).map(move |from| (to, from))) {
            for (blob, list, insider) in
                [(true, false, false), (false, true, false), (true, true, false), (true, true, true)]
            {
                let mut files = base.clone();
                if blob {
                    files.insert(blob_name(to), donor[&blob_name(from)].clone());
                }
                if list {
                    files.insert(list_name(to), donor[&list_name(from)].clone());
                }
                if files == base {
                    same += 1;
                    continue;
                }
                if insider {
                    resign_list(&mut files, &fixture.seeds, to);
                }
                assert!(fixture.judge(&files).is_err(), "file {from} of {what} as file {to}, insider: {insider}");
                refused += 1;
            }
        }
    }
    println!("{refused} blobs and lists of another file, version, model, key or vendor: 0 accepted");
    // A file in its own place is no damage.
    assert_eq!((same, refused), (3 * 4, 7 * 9 * 4 - 3 * 4));
}

#[test]
fn whole_envelopes_of_another_package_do_not_fit() {
    let fixture = Fixture::small();
    let base = fixture.files();
    for (what, donor, whole, manifest) in donors(&base) {
        assert_eq!(fixture.code(&donor), whole, "{what}");
        let mut files = base.clone();
        files.insert(MANIFEST.into(), donor[MANIFEST].clone());
        assert_eq!(fixture.code(&files), manifest, "the manifest of {what}");
    }
}

#[test]
fn the_key_of_the_previous_version_opens_nothing() {
    let older = Fixture { sequence: 6, uid: [0x21; 32], key: [0x10; 32], ..Fixture::small() };
    let newer = Fixture::small();
    for (package, key) in [(&newer, &older), (&older, &newer)] {
        for stand in Stand::both(&package.files()) {
            let opened = stand.open(package).unwrap();
            let wrong = key.model_key();
            for index in 0..3 {
                let result = unseal(&opened, &wrong, index, &mut |_| panic!("released"));
                assert_eq!(result, Err(SealedError::KeyCommitment));
                assert_eq!(opened.true_len(&wrong, index), Err(SealedError::KeyCommitment));
            }
            assert_eq!(opened.digests(&wrong).err(), Some(SealedError::KeyCommitment));
            assert!(opened.digests(&package.model_key()).is_ok(), "control");
        }
    }
    // The same key and uid under another sequence, which a careless vendor might use: the chunks still know their version.
    let mut files = newer.files();
    resign(&mut files, &newer.seeds, "\"sequence\":7", "\"sequence\":8");
    assert_eq!(newer.code(&files), "BLOB_TRUE_LENGTH");
}

#[test]
fn signatures_count_by_pinned_key_and_threshold_in_every_combination() {
    const SEEDS: [u8; 3] = [0x33, 0x44, 0x55];
    let of =
        |set: u8| SEEDS.iter().zip(0_u32..).filter(|(_, n)| (set >> *n) & 1 == 1).map(|(s, _)| *s).collect::<Vec<u8>>();
    let all = Fixture { seeds: SEEDS.to_vec(), ..Fixture::small() };
    let base = all.files();
    let (mut accepted, mut refused) = (0, 0);
    for threshold in 0..=4_u32 {
        for signed in 0..8_u8 {
            let mut files = base.clone();
            let demand = format!("\"threshold\":{threshold}");
            sign(&mut files, &of(signed), &payload(&base).replacen("\"threshold\":3", &demand, 1));
            let dir = tempfile::tempdir().unwrap();
            store(dir.path(), &files);
            for pinned in 0..8_u8 {
                let keys = Fixture { seeds: of(pinned), ..Fixture::small() }.vendor_keys();
                let code = Package::open(dir.path(), &keys).map_or_else(|e| e.code(), |_| "accepted");
                let good = (signed & pinned).count_ones();
                let expected = match (good, threshold) {
                    (0, _) => "MANIFEST_SIGNATURE",
                    (_, 0) => "MANIFEST_FIELDS",
                    _ if good < threshold => "MANIFEST_THRESHOLD",
                    _ => "accepted",
                };
                assert_eq!(code, expected, "signed by {signed:03b}, pinned {pinned:03b}, threshold {threshold}");
                if code == "accepted" { accepted += 1 } else { refused += 1 }
            }
        }
    }
    println!("{accepted} combinations of signers, pinned keys and threshold accepted, {refused} refused");
    assert_eq!(accepted + refused, 5 * 8 * 8);
    assert!(accepted > 0);
}

#[test]
fn manifests_beyond_their_caps_are_refused_though_the_vendor_signed_them() {
    let fixture = Fixture::small();
    let base = fixture.files();
    let good = Manifest::parse(payload(&base).as_bytes()).unwrap();
    let grown = |count: u32, name: usize| {
        let mut manifest = good.clone();
        let last = manifest.files.pop().unwrap();
        for index in manifest.files.len() as u32..count - 1 {
            let mut file = manifest.files[1].clone();
            (file.index, file.name, file.role) = (index, format!("f{index:0name$}"), Role::Labels);
            manifest.files.push(file);
        }
        let index = count - 1;
        manifest.files.push(FileEntry { index, ..last });
        manifest
    };
    let code = |manifest: &Manifest| {
        let mut files = base.clone();
        sign(&mut files, &fixture.seeds, std::str::from_utf8(&manifest.to_bytes()).unwrap());
        (files[MANIFEST].len() > MAX_MANIFEST, fixture.code(&files))
    };
    // What the cap of 1 MiB holds is read; file 2 is another one on the disk, and the rest is missing.
    assert_eq!(code(&grown(1000, 4)), (false, "BLOB_LENGTH"));
    assert_eq!(code(&grown(MAX_FILES as u32, 4)), (true, "MANIFEST_TOO_LARGE"));
    assert_eq!(code(&grown(MAX_FILES as u32 + 1, 4)), (true, "MANIFEST_TOO_LARGE"));
    assert_eq!(code(&grown(2600, 120)), (true, "MANIFEST_TOO_LARGE"));
    // The parser has the cap of files by itself, for whoever reads a manifest from elsewhere.
    assert!(Manifest::parse(&grown(MAX_FILES as u32, 4).to_bytes()).is_ok());
    assert_eq!(
        Manifest::parse(&grown(MAX_FILES as u32 + 1, 4).to_bytes()),
        Err(SealedError::ManifestFiles(MAX_FILES + 1))
    );
}

#[test]
fn lengths_that_overflow_or_lie_are_refused_though_the_vendor_signed_them() {
    let fixture = Fixture::small();
    let base = fixture.files();
    let header = HEADER_LEN as u64;
    let (fields, length) = ("MANIFEST_FIELDS", "MANIFEST_LENGTH");
    let wraps = (u64::MAX - header + 1).to_string();
    for (padded, blob, code) in [
        ("64", "4159", length),
        ("64", "64", length),
        ("64", "0", length),
        ("63", "4160", length),
        ("18446744073709551615", "4160", length),
        ("18446744073709551615", "4095", length),
        (wraps.as_str(), "0", length),
        ("1099511627777", "1099511631873", length),
        ("18446744073709551616", "4160", fields),
        ("-64", "4160", fields),
        ("64.0", "4160", fields),
        ("6.4e1", "4160", fields),
        ("\"64\"", "4160", fields),
        // Consistent, and not what is there.
        ("65", "4161", "BLOB_LENGTH"),
        ("0", "4096", "BLOB_LENGTH"),
        ("1099511627776", "1099511631872", "BLOB_LENGTH"),
    ] {
        let mut files = base.clone();
        let to = format!("\"padded_len\":{padded},\"blob_len\":{blob}");
        resign(&mut files, &fixture.seeds, "\"padded_len\":64,\"blob_len\":4160", &to);
        assert_eq!(fixture.code(&files), code, "{to}");
    }
}

#[test]
fn names_that_lead_elsewhere_or_clash_are_refused_though_the_vendor_signed_them() {
    let fixture = Fixture::small();
    let base = fixture.files();
    for (name, code) in [
        ("../labels.txt", "MANIFEST_NAME"),
        ("/etc/passwd", "MANIFEST_NAME"),
        ("a/../b", "MANIFEST_NAME"),
        ("..", "MANIFEST_NAME"),
        ("a\\\\b", "MANIFEST_NAME"),
        ("C:labels", "MANIFEST_NAME"),
        ("\\u002e\\u002e", "MANIFEST_NAME"),
        ("labels\\u0000.txt", "MANIFEST_NAME"),
        ("lab\\u0435ls.txt", "MANIFEST_NAME"),
        ("model.onnx", "MANIFEST_NAME_CLASH"),
        ("MODEL.onnx", "MANIFEST_NAME_CLASH"),
        ("Digests.JSON", "MANIFEST_NAME_CLASH"),
    ] {
        let mut files = base.clone();
        resign(&mut files, &fixture.seeds, "\"name\":\"labels.txt\"", &format!("\"name\":\"{name}\""));
        assert_eq!(fixture.code(&files), code, "{name}");
    }
}

#[test]
fn a_link_to_the_right_bytes_is_refused_and_so_is_a_second_name() {
    let fixture = Fixture::small();
    let files = fixture.files();
    for name in files.keys() {
        let dir = tempfile::tempdir().unwrap();
        let (package, aside) = (dir.path().join("p"), dir.path().join("aside"));
        store(&package, &files);
        fs::rename(package.join(name), &aside).unwrap();
        std::os::unix::fs::symlink(&aside, package.join(name)).unwrap();
        let code = || {
            let opened = Package::open(&package, &fixture.vendor_keys());
            opened.map_or_else(|e| e.code(), |_| "accepted")
        };
        assert_eq!(code(), "PACKAGE_NOT_REGULAR", "{name}");
        fs::remove_file(package.join(name)).unwrap();
        fs::copy(&aside, package.join(name)).unwrap();
        assert_eq!(code(), "accepted", "control");
        for other in [name.to_uppercase(), format!("{name} "), format!("{name}.bak"), format!(".{name}")] {
            fs::copy(&aside, package.join(&other)).unwrap();
            assert_eq!(code(), "PACKAGE_EXTRA_FILE", "{other}");
            fs::remove_file(package.join(&other)).unwrap();
        }
    }
}
