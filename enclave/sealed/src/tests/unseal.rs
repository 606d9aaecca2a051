//! Turns damage of single chunks into codes, and shows what a sink has received by then: authentic bytes only.
//! It does not show that memory is wiped; `plaintext.rs` and the canary scan of the demo do.

use std::io;

use super::{
    shelf::Stand,
    support::{Files, Fixture, blob, list, pattern, resign_list},
    ways::{in_sequence, ordered, threads, unseal},
};
use crate::{HEADER_LEN, ModelKey, SealedError};

const MIB: usize = 1 << 20;

fn four_chunks() -> Fixture {
    Fixture::of_graph(pattern(3 * MIB + 100), 1)
}

fn chunk(i: usize) -> std::ops::Range<usize> {
    HEADER_LEN + i * MIB..HEADER_LEN + (i + 1) * MIB
}

fn swap(bytes: &mut [u8], a: std::ops::Range<usize>, b: std::ops::Range<usize>) {
    let first = bytes[a.clone()].to_vec();
    bytes.copy_within(b.clone(), a.start);
    bytes[b].copy_from_slice(&first);
}

fn error(fixture: &Fixture, base: &Files, change: impl FnOnce(&mut Files)) -> SealedError {
    let mut files = base.clone();
    change(&mut files);
    fixture.judge(&files).unwrap_err()
}

#[test]
fn chunks_hold_their_place() {
    let fixture = four_chunks();
    let base = fixture.files();
    let error = |change: &dyn Fn(&mut Files)| error(&fixture, &base, change);
    assert_eq!(error(&|f| swap(blob(f, 0), chunk(0), chunk(1))), SealedError::BlobChunk(0, 0));
    assert_eq!(error(&|f| blob(f, 0).copy_within(chunk(0), chunk(1).start)), SealedError::BlobChunk(0, 1));
    assert_eq!(error(&|f| blob(f, 0)[chunk(1)].rotate_left(1)), SealedError::BlobChunk(0, 1));
    let rotate = |f: &mut Files| blob(f, 0)[HEADER_LEN..HEADER_LEN + 3 * MIB].rotate_left(MIB);
    assert_eq!(error(&rotate), SealedError::BlobChunk(0, 0));
    assert_eq!(error(&|f| drop(blob(f, 0).drain(chunk(1)))), SealedError::BlobLength(0));
    assert_eq!(error(&|f| blob(f, 0).extend_from_within(chunk(1))), SealedError::BlobLength(0));
    assert_eq!(error(&|f| blob(f, 0).truncate(HEADER_LEN + 3 * MIB)), SealedError::BlobLength(0));
    assert_eq!(
        error(&|f| {
            blob(f, 0).pop();
        }),
        SealedError::BlobLength(0)
    );
    assert_eq!(error(&|f| blob(f, 0).push(0)), SealedError::BlobLength(0));
    assert_eq!(error(&|f| blob(f, 0).clear()), SealedError::BlobLength(0));
    assert_eq!(error(&|f| *blob(f, 0).last_mut().unwrap() ^= 1), SealedError::BlobChunk(0, 3));
    let both = |f: &mut Files| {
        swap(blob(f, 0), chunk(0), chunk(1));
        swap(list(f, 0), 0..48, 48..96);
    };
    assert_eq!(error(&both), SealedError::BlobList(0));
    let insider = |f: &mut Files| {
        both(f);
        resign_list(f, &fixture.seeds, 0);
    };
    assert_eq!(error(&insider), SealedError::BlobTag(0, 0));
}

#[test]
fn blobs_hold_their_file_version_and_model() {
    let fixture = Fixture::small();
    let base = fixture.files();
    let others = [
        ("other salts", Fixture::small().files_of_series(1)),
        ("other version", Fixture { sequence: 8, ..Fixture::small() }.files()),
        ("other model", Fixture { uid: [9; 32], model_id: "other", ..Fixture::small() }.files()),
    ];
    for (what, other) in &others {
        let blob_only = |f: &mut Files| *blob(f, 0) = other["0000.blob"].clone();
        assert_eq!(error(&fixture, &base, blob_only), SealedError::BlobChunk(0, 0), "{what}");
        let with_list = |f: &mut Files| {
            blob_only(f);
            *list(f, 0) = other["0000.list"].clone();
        };
        assert_eq!(error(&fixture, &base, with_list), SealedError::BlobList(0), "{what}");
        let insider = |f: &mut Files| {
            with_list(f);
            resign_list(f, &fixture.seeds, 0);
        };
        assert_eq!(error(&fixture, &base, insider), SealedError::BlobTag(0, 0), "{what}");
    }
    let crossed = |f: &mut Files| {
        let (zero, one) = (f["0000.blob"].clone(), f["0001.blob"].clone());
        *blob(f, 0) = one;
        *blob(f, 1) = zero;
    };
    assert_eq!(error(&fixture, &base, crossed), SealedError::BlobHeader(0));
    let crossed_bodies = |f: &mut Files| {
        let (zero, one) = (f["0000.blob"][HEADER_LEN..].to_vec(), f["0001.blob"][HEADER_LEN..].to_vec());
        blob(f, 0)[HEADER_LEN..].copy_from_slice(&one);
        blob(f, 1)[HEADER_LEN..].copy_from_slice(&zero);
    };
    assert_eq!(error(&fixture, &base, crossed_bodies), SealedError::BlobChunk(0, 0));
}

#[test]
fn every_header_byte_counts() {
    let fixture = Fixture::small();
    let files = fixture.files();
    for stand in Stand::both(&files) {
        let package = stand.open(&fixture).unwrap();
        for at in 0..HEADER_LEN {
            let mut bad = files["0000.blob"].clone();
            bad[at] ^= 1 << (at % 8);
            stand.overwrite("0000.blob", &bad);
            assert_eq!(package.verify_blobs(&mut |_, _| {}), Err(SealedError::BlobHeader(0)), "byte {at}");
        }
        stand.overwrite("0000.blob", &files["0000.blob"]);
        assert_eq!(package.verify_blobs(&mut |_, _| {}), Ok(64 + 64 + files["0002.blob"].len() as u64 - 4096));
    }
}

#[test]
fn every_bit_of_a_list_and_of_a_body_counts() {
    let fixture = Fixture::small();
    let files = fixture.files();
    for stand in Stand::both(&files) {
        let package = stand.open(&fixture).unwrap();
        let flip = |name: &str, from: usize, expected: SealedError| {
            for bit in from * 8..files[name].len() * 8 {
                let mut bad = files[name].clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                stand.overwrite(name, &bad);
                assert_eq!(package.verify_blobs(&mut |_, _| {}).as_ref(), Err(&expected), "{name} bit {bit}");
            }
            stand.overwrite(name, &files[name]);
        };
        flip("0000.list", 0, SealedError::BlobList(0));
        flip("0000.blob", HEADER_LEN, SealedError::BlobChunk(0, 0));
    }
}

#[test]
fn a_sink_receives_authentic_chunks_only() {
    let fixture = four_chunks();
    let files = fixture.files();
    for stand in Stand::both(&files) {
        authentic_chunks_only(&fixture, &files, &stand);
    }
}

fn authentic_chunks_only(fixture: &Fixture, files: &Files, stand: &Stand) {
    let (package, key) = (stand.open(fixture).unwrap(), fixture.model_key());
    let run = || {
        let given = ordered(&package, &key, 0, 1);
        assert!(in_sequence(&package, &key, 0) == given);
        given
    };
    let plain = &fixture.inputs[0].2;
    assert!(run() == (Ok(plain.len() as u64), plain.clone()));
    // The host changes the blob after it was opened.
    for bad in 0..4 {
        let mut changed = files["0000.blob"].clone();
        changed[HEADER_LEN + bad * MIB + 50] ^= 4;
        stand.overwrite("0000.blob", &changed);
        let (result, got) = run();
        assert_eq!(result, Err(SealedError::BlobChunk(0, bad as u64)));
        assert!(got == plain[..bad * MIB], "chunk {bad}");
    }
    stand.overwrite("0000.blob", &files["0000.blob"]);
    assert!(run() == (Ok(plain.len() as u64), plain.clone()));
    stand.cut("0000.blob", HEADER_LEN + 2 * MIB);
    let (result, got) = run();
    assert_eq!(result, Err(SealedError::BlobLength(0)));
    // A volume tells only while it is read that it is shorter; a directory tells before.
    assert!(got.is_empty() || got == plain[..2 * MIB]);
    if stand.remove("0000.blob") {
        assert_eq!(run().0, Err(SealedError::PackageMissingFile("0000.blob".to_owned())));
    }
}

#[test]
fn a_failing_sink_ends_the_pass() {
    let fixture = four_chunks();
    for stand in Stand::both(&fixture.files()) {
        let package = stand.open(&fixture).unwrap();
        let mut calls = 0;
        let result = package.unseal_ordered(&fixture.model_key(), 0, threads(1), &mut |_| {
            calls += 1;
            if calls == 2 { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
        });
        assert_eq!(result, Err(SealedError::UnsealSink(io::ErrorKind::BrokenPipe)));
        assert_eq!(calls, 2);
    }
}

#[test]
fn another_key_decrypts_nothing() {
    let fixture = Fixture::small();
    for stand in Stand::both(&fixture.files()) {
        let package = stand.open(&fixture).unwrap();
        for bit in 0..256 {
            let mut key = fixture.key;
            key[bit / 8] ^= 1 << (bit % 8);
            let result = unseal(&package, &ModelKey::from_bytes(key), 0, &mut |_| panic!("released"));
            assert_eq!(result, Err(SealedError::KeyCommitment));
        }
        let error = unseal(&package, &fixture.model_key(), 3, &mut |_| Ok(())).unwrap_err();
        assert_eq!((error.code(), error.exit()), ("BLOB_INDEX", 1));
    }
}
