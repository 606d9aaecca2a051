//! Turns indices, right and wrong, into a volume that opens or into the one code that must fire.
//! What the files of a volume hold plays no part here; `volume.rs` beside this one unseals them.

use std::cell::Cell;

use proptest::{prelude::*, test_runner::TestRunner};

use super::shelf::{PAGE, device, frame, index};
use crate::{MAX_VOLUME_FILES, MAX_VOLUME_INDEX, SealedError, Volume};

const END: u64 = 8 * PAGE as u64;

/// Opens a device of eight pages that begins with this index.
fn open(index: &[u8]) -> Result<Volume, SealedError> {
    let file = device(&frame(index));
    file.set_len(END).unwrap();
    Volume::open(file)
}

fn code(index: &str) -> &'static str {
    open(index.as_bytes()).map_or_else(|e| e.code(), |_| "accepted")
}

fn code_of(files: &[(&str, u64, u64)]) -> &'static str {
    code(&index(files.iter().copied()))
}

#[test]
fn magic_and_lengths_are_compared() {
    let good = frame(b"{\"files\":[]}");
    let code = |bytes: &[u8]| Volume::open(device(bytes)).map_or_else(|e| (e.code(), e.exit()), |_| ("accepted", 0));
    assert_eq!(code(&good), ("accepted", 0));
    for at in 0..32 {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert_eq!(code(&bad), ("VOLUME_MAGIC", 6), "byte {at}");
    }
    let length = |length: u64, size: usize| {
        let mut bad = good.clone();
        bad[32..40].copy_from_slice(&length.to_be_bytes());
        bad.resize(size, 0);
        code(&bad).0
    };
    let cap = MAX_VOLUME_INDEX as u64;
    for (claimed, size, expected) in [
        (0, PAGE, "VOLUME_PADDING"),
        (11, PAGE, "VOLUME_PADDING"),
        (13, PAGE, "VOLUME_INDEX"),
        (4056, PAGE, "VOLUME_INDEX"),
        (4057, PAGE, "VOLUME_INDEX_LENGTH"),
        (4057, 2 * PAGE, "VOLUME_INDEX"),
        (cap, 2 * MAX_VOLUME_INDEX, "VOLUME_INDEX"),
        (cap, MAX_VOLUME_INDEX, "VOLUME_INDEX_LENGTH"),
        (cap + 1, 2 * MAX_VOLUME_INDEX, "VOLUME_INDEX_LENGTH"),
        (1 << 32, PAGE, "VOLUME_INDEX_LENGTH"),
        (i64::MAX as u64, PAGE, "VOLUME_INDEX_LENGTH"),
        (u64::MAX - 39, PAGE, "VOLUME_INDEX_LENGTH"),
        (u64::MAX, PAGE, "VOLUME_INDEX_LENGTH"),
    ] {
        assert_eq!(length(claimed, size), expected, "{claimed} of {size}");
    }
}

#[test]
fn an_index_has_one_way_to_be_written() {
    let good = index([("m/x", 4096, 5), ("m/y", 8192, 0)]);
    assert_eq!(code(&good), "accepted");
    let one = "{\"path\":\"m/x\",\"offset\":4096,\"length\":5}";
    for (from, to) in [
        ("{\"files\":", "{\"version\":1,\"files\":"),
        ("]}", "],\"x\":0}"),
        ("]}", "],\"files\":[]}"),
        ("]}", "]}]}"),
        ("]}", "]} "),
        ("]}", "]}\0"),
        ("]}", "]"),
        ("]}", ",]}"),
        ("\"length\":5", "\"length\":5,\"mode\":420"),
        ("\"length\":5", "\"length\":5,\"length\":5"),
        (",\"length\":5", ""),
        ("\"path\":\"m/x\",", ""),
        ("\"offset\":4096,\"length\":5", "\"length\":5,\"offset\":4096"),
        ("\"offset\":4096", "\"offset\":\"4096\""),
        ("\"offset\":4096", "\"offset\":4096.0"),
        ("\"offset\":4096", "\"offset\":4.096e3"),
        ("\"offset\":4096", "\"offset\":04096"),
        ("\"offset\":4096", "\"offset\":+4096"),
        ("\"offset\":4096", "\"offset\": 4096"),
        ("\"offset\":4096", "\"offset\":-4096"),
        ("\"offset\":4096", "\"offset\":null"),
        ("\"offset\":4096", "\"offset\":18446744073709551616"),
        ("\"length\":5", "\"length\":18446744073709551616"),
        ("\"length\":0", "\"length\":-0"),
        ("m/x", "\\u006d/x"),
        ("m/x", "m\\/x"),
        ("\"m/x\"", "[\"m/x\"]"),
        ("\"m/x\"", "null"),
        (one, "[\"m/x\",4096,5]"),
        (one, "null"),
        (one, "{}"),
        ("{\"files\"", "\u{feff}{\"files\""),
        ("{\"files\"", "{\"Files\""),
        ("[", "{"),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good, "{from}");
        assert_eq!(code(&bad), "VOLUME_INDEX", "{from} -> {to}");
    }
    for whole in
        ["", " ", "{}", "[]", "[[]]", "null", "0", "\"files\"", "{\"files\":null}", "{\"files\":{}}", "{\"files\":[]"]
    {
        assert_eq!(code(whole), "VOLUME_INDEX", "{whole:?}");
    }
    let deep = "[".repeat(4000);
    assert_eq!(code(&deep), "VOLUME_INDEX");
    assert_eq!(
        open(b"{\"files\":[{\"path\":\"m/\xff\",\"offset\":4096,\"length\":0}]}").err(),
        Some(SealedError::VolumeIndex)
    );
}

#[test]
fn paths_name_one_file_of_one_model() {
    let long = format!("m/{}", "x".repeat(128));
    for path in ["m/x", "0/x", "a.b-c_d/X", "m/+", "m/manifest.dsse.json", &long] {
        assert_eq!(code_of(&[(path, 4096, 0)]), "accepted", "{path}");
    }
    let (too_long, no_model) = (long.clone() + "x", format!("{}/x", "m".repeat(65)));
    for path in [
        "",
        "/",
        "x",
        "m",
        "/x",
        "m/",
        "m//x",
        "/m/x",
        "m/x/",
        "m/x/y",
        "../x",
        "m/..",
        "m/../x",
        "./x",
        "m/.",
        "M/x",
        "m/.x",
        "m/x..y",
        "m/a b",
        " m/x",
        "m/x ",
        "m:x",
        "-m/x",
        "_m/x",
        ".m/x",
        "m..n/x",
        "m/\u{e4}",
        "\u{e4}/x",
        "m/x\u{7f}",
        "m~1/x",
        &too_long,
        &no_model,
    ] {
        assert_eq!(code_of(&[(path, 4096, 0)]), "VOLUME_PATH", "{path:?}");
        let error = open(index([("m/good", 4096, 0), (path, 4096, 0)]).as_bytes()).err();
        assert_eq!(error, Some(SealedError::VolumePath(1)), "{path:?}");
    }
    // The escapes that JSON itself demands.
    for path in ["m\\\\x", "m/a\\\\b", "m/\\\"", "m/\\n", "m/x\\u0000"] {
        assert_eq!(code_of(&[(path, 4096, 0)]), "VOLUME_PATH", "{path:?}");
    }
    assert_eq!(code_of(&[("m/x", 4096, 1), ("m/x", 8192, 1)]), "VOLUME_PATH_TWICE");
    assert_eq!(code_of(&[("m/x", 4096, 0), ("n/x", 4096, 0), ("m/x", 4096, 0)]), "VOLUME_PATH_TWICE");
    // Other letters are other files, as in a directory: the package then has one too many.
    assert_eq!(code_of(&[("m/x", 4096, 1), ("m/X", 8192, 1)]), "accepted");
}

#[test]
fn ranges_stay_on_pages_on_the_device_and_apart() {
    const P: u64 = PAGE as u64;
    let top = u64::MAX - 4095;
    for (files, expected) in [
        (&[("m/x", P, 0)][..], "accepted"),
        (&[("m/x", P, 7 * P)], "accepted"),
        (&[("m/x", END, 0)], "accepted"),
        (&[("m/x", END - P, P)], "accepted"),
        (&[("m/x", 0, 0)], "VOLUME_RANGE"),
        (&[("m/x", 0, 8 * P)], "VOLUME_RANGE"),
        (&[("m/x", P + 1, 1)], "VOLUME_RANGE"),
        (&[("m/x", P + 512, 1)], "VOLUME_RANGE"),
        (&[("m/x", P - 1, 1)], "VOLUME_RANGE"),
        (&[("m/x", P, 7 * P + 1)], "VOLUME_RANGE"),
        (&[("m/x", END, 1)], "VOLUME_RANGE"),
        (&[("m/x", END + P, 0)], "VOLUME_RANGE"),
        (&[("m/x", P, u64::MAX)], "VOLUME_RANGE"),
        (&[("m/x", P, u64::MAX - P)], "VOLUME_RANGE"),
        (&[("m/x", P, u64::MAX - P + 1)], "VOLUME_RANGE"),
        (&[("m/x", top, P)], "VOLUME_RANGE"),
        (&[("m/x", top, 4095)], "VOLUME_RANGE"),
        (&[("m/x", u64::MAX, 0)], "VOLUME_RANGE"),
        (&[("m/x", 1 << 63, 0)], "VOLUME_RANGE"),
        (&[("m/x", P, P), ("m/y", 2 * P, P)], "accepted"),
        (&[("m/y", 2 * P, P), ("m/x", P, P)], "accepted"),
        (&[("m/x", P, 0), ("m/y", P, 0)], "accepted"),
        (&[("m/x", P, P), ("m/y", P, 0), ("m/z", 2 * P, 0)], "accepted"),
        (&[("m/x", P, 1), ("m/y", P, 1)], "VOLUME_OVERLAP"),
        (&[("m/x", P, P + 1), ("m/y", 2 * P, P)], "VOLUME_OVERLAP"),
        (&[("m/y", 2 * P, P), ("m/x", P, P + 1)], "VOLUME_OVERLAP"),
        (&[("m/x", P, 6 * P), ("m/y", 3 * P, P)], "VOLUME_OVERLAP"),
        (&[("m/x", P, 6 * P), ("m/y", 2 * P, 1), ("m/z", 4 * P, 1)], "VOLUME_OVERLAP"),
        (&[("m/x", P, 2 * P), ("m/y", 2 * P, 0)], "VOLUME_OVERLAP"),
        (&[("m/x", P, 2 * P), ("n/x", 2 * P, 1)], "VOLUME_OVERLAP"),
    ] {
        assert_eq!(code_of(files), expected, "{files:?}");
    }
}

#[test]
fn the_caps_are_what_the_document_says() {
    let many = |count: usize| {
        let (model, name) = ("m".repeat(64), "x".repeat(124));
        let paths: Vec<String> = (0..count).map(|n| format!("{model}/{name}{n:04}")).collect();
        let text = index(paths.iter().map(|path| (path.as_str(), 1 << 20, 0)));
        assert!(text.len() < MAX_VOLUME_INDEX, "control: {}", text.len());
        let file = device(&frame(text.as_bytes()));
        file.set_len(1 << 20).unwrap();
        Volume::open(file).err()
    };
    assert_eq!(many(MAX_VOLUME_FILES), None);
    assert_eq!(many(MAX_VOLUME_FILES + 1), Some(SealedError::VolumeFiles(MAX_VOLUME_FILES + 1)));
    let short = format!("{{\"files\":[{}]}}", vec!["{\"path\":\"\",\"offset\":0,\"length\":0}"; 25_000].join(","));
    let file = device(&frame(short.as_bytes()));
    assert_eq!(Volume::open(file).err(), Some(SealedError::VolumeFiles(25_000)));
}

/// An entry as a host might write it: mostly on pages and near the ends.
fn extent() -> impl Strategy<Value = (u64, u64)> {
    let pages = |most: u64| (0..=most).prop_map(|n| n * PAGE as u64);
    let near = |most: u64| (pages(most), -1_i64..=1).prop_map(|(at, by)| at.saturating_add_signed(by));
    (
        prop_oneof![8 => pages(10), 1 => near(10), 1 => any::<u64>()],
        prop_oneof![4 => pages(3), 4 => near(3), 1 => any::<u64>()],
    )
}

#[test]
fn the_rules_of_ranges_agree_with_a_map_of_bytes() {
    let accepted = Cell::new(0);
    let mut runner = TestRunner::new(ProptestConfig { cases: 5000, failure_persistence: None, ..Default::default() });
    runner
        .run(&prop::collection::vec(extent(), 1..5), |extents| {
            let names: Vec<String> = (0..extents.len()).map(|n| format!("m/{n}")).collect();
            let files: Vec<_> =
                names.iter().zip(&extents).map(|(name, (at, len))| (name.as_str(), *at, *len)).collect();
            // Byte by byte, in 128 bits: which file it belongs to. An empty file needs its place to be no file's middle.
            let mut owner = vec![None; END as usize];
            let mut good = true;
            for (n, (at, len)) in extents.iter().enumerate() {
                let end = u128::from(*at) + u128::from(*len);
                good &= at % 4096 == 0 && *at >= 4096 && end <= u128::from(END);
                if good {
                    for byte in &mut owner[*at as usize..end as usize] {
                        good &= byte.replace(n).is_none();
                    }
                }
            }
            let inside = |at: u64| {
                good && at < END && owner[at as usize].is_some() && owner[at as usize] == owner[at as usize - 1]
            };
            good &= !extents.iter().any(|(at, len)| *len == 0 && inside(*at));
            let result = open(index(files.iter().copied()).as_bytes());
            prop_assert_eq!(result.is_ok(), good);
            if let Err(error) = result {
                prop_assert!(matches!(error.code(), "VOLUME_RANGE" | "VOLUME_OVERLAP"));
            }
            accepted.set(accepted.get() + u32::from(good));
            Ok(())
        })
        .unwrap();
    println!("5000 random layouts, {} of them accepted", accepted.get());
    assert!((200..4800).contains(&accepted.get()));
}
