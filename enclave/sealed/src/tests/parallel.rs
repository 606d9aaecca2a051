//! Turns every damage of chunks into the code of the sequential way, on several threads, cached and direct.
//! Which way is fast is not measured here: `examples/speed.rs` does.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use tempfile::TempDir;

use super::{
    second,
    shelf::Stand,
    support::{Files, Fixture, blob, list, load, pattern, resign_list},
    ways::{THREADS, agree, all, both_reads, in_sequence, threads},
};
use crate::{HEADER_LEN, SealedError};

const MIB: usize = 1 << 20;
const ENTRY: usize = 48;

#[test]
fn every_size_and_padding_gives_the_same_on_any_number_of_threads() {
    for (len, pad_to) in [0, 1, MIB - 1, MIB, MIB + 1, 5 * MIB]
        .into_iter()
        .flat_map(|len| [(len, 1), (len, 4096), (len, 3 * MIB as u64 + 5)])
    {
        let fixture = Fixture::of_graph(pattern(len), pad_to);
        let mut first: Option<Files> = None;
        for n in THREADS {
            let dir = TempDir::new().unwrap();
            let target = dir.path().join("p");
            fixture.seal_as(&target, 0, |options| options.threads = threads(n)).unwrap();
            let files = load(&target);
            assert!(*first.get_or_insert_with(|| files.clone()) == files, "{n} threads seal {len} bytes alike");
        }
        let files = first.unwrap();
        assert!(second::unseal(&files, &fixture.key) == fixture.plaintexts(), "aes-gcm, {len}");
        for stand in Stand::both(&files) {
            both_reads(stand.open(&fixture).unwrap(), |package| {
                assert_eq!(package.true_len(&fixture.model_key(), 0), Ok(len as u64));
                assert!(agree(package, &fixture.model_key(), 0).unwrap() == fixture.inputs[0].2, "{len} {pad_to}");
            });
        }
    }
}

/// Five full chunks and a short one.
fn six_chunks() -> Fixture {
    Fixture::of_graph(pattern(5 * MIB + 100), 1)
}

/// The parts of a blob or list, by chunk.
fn parts(files: &Files, name: &str) -> Vec<Vec<u8>> {
    match name {
        "0000.blob" => files[name][HEADER_LEN..].chunks(MIB).map(<[u8]>::to_vec).collect(),
        _ => files[name].chunks(ENTRY).map(<[u8]>::to_vec).collect(),
    }
}

/// `files` with blob and list made of other parts.
fn rebuilt(files: &Files, chunks: &[Vec<u8>], entries: &[Vec<u8>]) -> Files {
    let mut out = files.clone();
    blob(&mut out, 0).truncate(HEADER_LEN);
    blob(&mut out, 0).extend_from_slice(&chunks.concat());
    *list(&mut out, 0) = entries.concat();
    out
}

#[test]
fn all_pairs_of_chunks_swapped_duplicated_and_dropped_have_one_code_on_every_way() {
    let fixture = six_chunks();
    let base = fixture.files();
    let (chunks, entries) = (parts(&base, "0000.blob"), parts(&base, "0000.list"));
    assert_eq!((chunks.len(), entries.len()), (6, 6));
    let mut refused = 0;
    // `judge` goes every way, in a directory and in a volume.
    let mut refuse = |files: &Files, expected: &SealedError| {
        assert_eq!(fixture.judge(files).as_ref().err(), Some(expected));
        refused += 1;
    };
    for a in 0..6 {
        for b in 0..6 {
            let wrong = |i: usize| SealedError::BlobChunk(0, i as u64);
            let (mut swapped, mut order) = (chunks.clone(), entries.clone());
            swapped.swap(a, b);
            order.swap(a, b);
            if a < b {
                refuse(&rebuilt(&base, &swapped, &entries), &wrong(a));
                refuse(&rebuilt(&base, &swapped, &order), &SealedError::BlobList(0));
                // An insider who signs the other list: GCM knows the place. The short chunk makes all lengths wrong.
                let mut insider = rebuilt(&base, &swapped, &order);
                resign_list(&mut insider, &fixture.seeds, 0);
                refuse(&insider, &if b == 5 { wrong(a) } else { SealedError::BlobTag(0, a as u64) });
            }
            let (mut twice, mut order) = (chunks.clone(), entries.clone());
            twice.insert(b, chunks[a].clone());
            order.insert(b, entries[a].clone());
            refuse(&rebuilt(&base, &twice, &entries), &SealedError::BlobLength(0));
            refuse(&rebuilt(&base, &twice, &order), &SealedError::BlobLength(0));
            if a != b {
                let mut over = chunks.clone();
                over[b] = chunks[a].clone();
                let same_length = a != 5 && b != 5;
                refuse(
                    &rebuilt(&base, &over, &entries),
                    &if same_length { wrong(b) } else { SealedError::BlobLength(0) },
                );
            }
        }
        let (mut less, mut order) = (chunks.clone(), entries.clone());
        less.remove(a);
        order.remove(a);
        refuse(&rebuilt(&base, &less, &entries), &SealedError::BlobLength(0));
        refuse(&rebuilt(&base, &less, &order), &SealedError::BlobLength(0));
        refuse(&rebuilt(&base, &chunks, &order), &SealedError::BlobList(0));
    }
    println!("{refused} packages with chunks swapped, duplicated or dropped: 0 accepted");
    assert_eq!(refused, 15 * 3 + 36 * 2 + 30 + 6 * 3);
}

#[test]
fn truncation_at_every_border_of_a_chunk_is_refused_before_and_after_opening() {
    let fixture = six_chunks();
    let base = fixture.files();
    let whole = base["0000.blob"].len();
    let mut borders = vec![0, 1, HEADER_LEN - 1, whole - 1];
    borders.extend((0..=5).flat_map(|i| [0, 1, 2].map(|by| HEADER_LEN + i * MIB + by - 1)));
    for len in borders {
        for longer in [0, 1, MIB] {
            let mut files = base.clone();
            blob(&mut files, 0).truncate(len);
            if longer > 0 {
                // The host may put the old length, or more, behind it.
                blob(&mut files, 0).resize(whole + longer - 1, 0);
            }
            let code = fixture.code(&files);
            let expected = if longer != 1 {
                "BLOB_LENGTH"
            } else if len < 28 {
                "BLOB_HEADER"
            } else {
                "BLOB_CHUNK"
            };
            assert_eq!(code, expected, "{len} of {whole} bytes, longer by {longer}");
        }
        for stand in Stand::both(&base) {
            let package = stand.open(&fixture).unwrap();
            stand.cut("0000.blob", len);
            both_reads(package, |package| {
                let error = agree(package, &fixture.model_key(), 0).unwrap_err();
                assert_eq!(error, SealedError::BlobLength(0), "cut to {len} after opening");
            });
        }
    }
}

#[test]
fn the_earliest_of_several_bad_chunks_is_told() {
    let fixture = six_chunks();
    let base = fixture.files();
    for stand in Stand::both(&base) {
        let package = stand.open(&fixture).unwrap();
        for first in 0..6 {
            let mut bad = base["0000.blob"].clone();
            for i in first..6 {
                bad[HEADER_LEN + i * MIB + 99] ^= 1;
            }
            stand.overwrite("0000.blob", &bad);
            let error = agree(&package, &fixture.model_key(), 0).unwrap_err();
            assert_eq!(error, SealedError::BlobChunk(0, first as u64));
        }
    }
}

#[test]
fn padding_that_is_not_zero_is_refused_on_every_way() {
    // Longer than its file by an insider with the model key: the vector `padding-not-zero` has one chunk, this has four.
    let sealed = Fixture::of_graph(pattern(3 * MIB + 100), 1);
    let short = Fixture::of_graph(pattern(MIB + 7), 3 * MIB as u64 + 100);
    let (mut files, other) = (sealed.files(), short.files());
    // Same salts, lengths and keys: the true length of the one stands beside the body of the other.
    let length = |files: &Files| {
        let manifest: serde_json::Value = serde_json::from_str(&super::support::payload(files)).unwrap();
        manifest["files"][0]["sealed_len"].as_str().unwrap().to_owned()
    };
    let (from, to) = (length(&files), length(&other));
    super::support::resign(&mut files, &sealed.seeds, &from, &to);
    assert_eq!(sealed.judge(&files), Err(SealedError::BlobPadding(0)));
}

#[test]
fn a_file_that_changes_while_it_is_read_has_the_code_of_what_was_read() {
    let fixture = six_chunks();
    let base = fixture.files();
    let key = fixture.model_key();
    for (what, expected) in [("flip", SealedError::BlobChunk(0, 5)), ("cut", SealedError::BlobLength(0))] {
        for n in [1, 2, 3] {
            for stand in Stand::both(&base) {
                let package = stand.open(&fixture).unwrap();
                let mut received = 0;
                // Nobody reads more than `n` chunks ahead of the first one.
                let result = package.unseal_ordered(&key, 0, threads(n), &mut |data| {
                    if received == 0 && what == "flip" {
                        let blob = &base["0000.blob"];
                        stand.patch("0000.blob", blob.len() - 1, &[blob[blob.len() - 1] ^ 1]);
                    } else if received == 0 {
                        stand.cut("0000.blob", HEADER_LEN + 5 * MIB + 50);
                    }
                    received += data.len();
                    Ok(())
                });
                assert_eq!((result, received), (Err(expected.clone()), 5 * MIB), "{what} {n}");
            }
        }
    }
    // A file of its own that grows is refused; a range of a volume cannot grow.
    let [directory, volume] = Stand::both(&base);
    for (stand, expected) in [(directory, Err(SealedError::BlobLength(0))), (volume, Ok(5 * MIB as u64 + 100))] {
        let package = stand.open(&fixture).unwrap();
        let result = package.unseal_ordered(&key, 0, threads(2), &mut |_| {
            stand.cut("0000.blob", base["0000.blob"].len() + 1);
            Ok(())
        });
        assert_eq!(result, expected);
    }
}

/// Ends a loop that asks, when it is dropped.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_host_that_keeps_writing_gives_a_code_or_the_right_bytes() {
    let fixture = six_chunks();
    let base = fixture.files();
    let (key, plain) = (fixture.model_key(), &fixture.inputs[0].2);
    let mut bad = base["0000.blob"].clone();
    bad[HEADER_LEN + 2 * MIB..HEADER_LEN + 4 * MIB].rotate_left(1);
    let (mut right, mut refused) = (0, 0);
    for stand in Stand::both(&base) {
        both_reads(stand.open(&fixture).unwrap(), |package| {
            let over = AtomicBool::new(false);
            thread::scope(|scope| {
                // Also when an assertion fires: the scope waits for the writer.
                let _over = Over(&over);
                scope.spawn(|| {
                    // In place, without cutting the file first.
                    while !over.load(Ordering::Relaxed) {
                        for bytes in [&bad, &base["0000.blob"]] {
                            stand.patch("0000.blob", HEADER_LEN + 2 * MIB, &bytes[HEADER_LEN + 2 * MIB..][..2 * MIB]);
                        }
                    }
                });
                for round in 0..40 {
                    let mut out = vec![0xa5; plain.len()];
                    match package.unseal_into(&key, 0, threads(1 + round % 3), &mut out) {
                        Ok(len) => {
                            right += 1;
                            assert!(len == plain.len() as u64 && out == *plain, "released other bytes");
                        }
                        Err(error) => {
                            refused += 1;
                            assert!(matches!(error, SealedError::BlobChunk(0, 2 | 3)), "{error}");
                            assert!(all(&out, 0));
                        }
                    }
                }
            });
        });
    }
    assert!(refused > 0, "nobody read what was being written");
    println!("a host that keeps writing: {right} times the right bytes, {refused} times refused");
}

#[test]
fn a_sink_that_fails_ends_all_threads_and_hears_nothing_more() {
    let fixture = six_chunks();
    for stand in Stand::both(&fixture.files()) {
        let package = stand.open(&fixture).unwrap();
        for n in THREADS {
            for fails in 1..=6 {
                let mut calls = 0;
                let result = package.unseal_ordered(&fixture.model_key(), 0, threads(n), &mut |_| {
                    calls += 1;
                    if calls == fails { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
                });
                assert_eq!(result, Err(SealedError::UnsealSink(io::ErrorKind::BrokenPipe)));
                assert_eq!(calls, fails);
            }
        }
    }
}

#[test]
fn memory_that_is_too_short_and_other_keys_leave_zeros() {
    let fixture = six_chunks();
    let [stand, _] = Stand::both(&fixture.files());
    let package = &stand.open(&fixture).unwrap();
    let len = 5 * MIB + 100;
    let other = crate::ModelKey::from_bytes([0x12; 32]);
    for (key, index, size, expected) in [
        (&fixture.model_key(), 0, len - 1, SealedError::UnsealMemory(len as u64)),
        (&fixture.model_key(), 0, 0, SealedError::UnsealMemory(len as u64)),
        (&fixture.model_key(), 2, len, SealedError::BlobIndex(2)),
        (&other, 0, len, SealedError::KeyCommitment),
    ] {
        let mut out = vec![0xa5; size];
        assert_eq!(package.unseal_into(key, index, threads(2), &mut out), Err(expected.clone()));
        assert!(all(&out, 0));
        if size == len {
            let never = &mut |_: &[u8]| panic!("released");
            assert_eq!(package.unseal_ordered(key, index, threads(2), never), Err(expected.clone()));
            assert_eq!(package.true_len(key, index), Err(expected));
        }
    }
    assert!(in_sequence(package, &fixture.model_key(), 0).1 == fixture.inputs[0].2);
}
