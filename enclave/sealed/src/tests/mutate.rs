//! Turns random changes of a package into refusals: none may be accepted, nothing wrong released.
//! Its changes are drawn from a fixed seed; the exhaustive lists are in `corrupt.rs`, `parallel.rs` and `unseal.rs`.

use std::{fs, thread};

use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{RngAlgorithm, TestRng, TestRunner},
};
use tempfile::TempDir;

use super::{
    shelf::Stand,
    support::{Files, Fixture, pattern, store},
    ways::{in_sequence, ordered},
};
use crate::{CHUNK_LEN, HEADER_LEN, Package, SealedError};

#[derive(Clone, Debug)]
enum Change {
    Flip(usize),
    Set(usize, u8),
    Truncate(usize),
    Append(Vec<u8>),
    Remove(usize, usize),
    Duplicate(usize, usize),
    Swap(usize, usize, usize),
    Copy(usize),
    Delete,
    Add(String),
}

fn change() -> impl Strategy<Value = Change> {
    let n = any::<usize>;
    prop_oneof![
        8 => n().prop_map(Change::Flip),
        4 => (n(), any::<u8>()).prop_map(|(a, b)| Change::Set(a, b)),
        2 => n().prop_map(Change::Truncate),
        1 => prop::collection::vec(any::<u8>(), 1..64).prop_map(Change::Append),
        2 => (n(), 1_usize..64).prop_map(|(a, b)| Change::Remove(a, b)),
        2 => (n(), 1_usize..64).prop_map(|(a, b)| Change::Duplicate(a, b)),
        2 => (n(), n(), 1_usize..64).prop_map(|(a, b, c)| Change::Swap(a, b, c)),
        1 => n().prop_map(Change::Copy),
        1 => Just(Change::Delete),
        1 => "[a-z0-9][a-z0-9.]{0,7}".prop_map(Change::Add),
    ]
}

fn apply(files: &mut Files, at: usize, change: &Change) {
    let name = files.keys().nth(at % files.len()).unwrap().clone();
    let others: Vec<_> = files.values().cloned().collect();
    let bytes = files.get_mut(&name).unwrap();
    if bytes.is_empty() {
        bytes.push(0);
    }
    let len = bytes.len();
    match change {
        Change::Flip(bit) => bytes[bit / 8 % len] ^= 1 << (bit % 8),
        Change::Set(at, value) => bytes[at % len] = *value,
        Change::Truncate(to) => bytes.truncate(to % len),
        Change::Append(more) => bytes.extend(more),
        Change::Remove(at, n) => drop(bytes.drain(at % len..(at % len + n).min(len))),
        Change::Duplicate(at, n) => {
            let piece = bytes[at % len..(at % len + n).min(len)].to_vec();
            bytes.splice(at % len..at % len, piece);
        }
        Change::Swap(a, b, n) => {
            for i in 0..*n {
                bytes.swap(a.wrapping_add(i) % len, b.wrapping_add(i) % len);
            }
        }
        Change::Copy(from) => *bytes = others[from % others.len()].clone(),
        Change::Delete => drop(files.remove(&name)),
        Change::Add(name) => drop(files.insert(name.clone(), Vec::new())),
    }
}

/// So many in every run of the tests; `cargo xtask prove` asks for a million.
const MUTATIONS: usize = 25_000;
/// A number that takes the place of [`MUTATIONS`].
const COUNT: &str = "VOUCHSAFE_MUTATIONS";
/// One in so many is also judged on every number of threads, in memory and in a volume.
const THOROUGH: usize = 50;

fn count() -> usize {
    std::env::var(COUNT).map_or(MUTATIONS, |text| text.parse().expect("VOUCHSAFE_MUTATIONS is a number"))
}

/// The same numbers in every run, others for every `lane`.
fn seeded(lane: u8) -> TestRunner {
    TestRunner::new_with_rng(ProptestConfig::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &[lane; 32]))
}

/// A package on disk of which only what changes is written.
struct Bench {
    dir: TempDir,
    fixture: Fixture,
    base: Files,
    /// The true plaintext of every file, the list of digests included.
    plain: Vec<Vec<u8>>,
    released: u64,
}

impl Bench {
    fn new() -> Self {
        let (dir, fixture) = (TempDir::new().unwrap(), Fixture::small());
        let base = fixture.files();
        store(dir.path(), &base);
        let package = Package::open(dir.path(), &fixture.vendor_keys()).unwrap();
        let plain = (0..3).map(|index| package.unseal_to_vec(&fixture.model_key(), index).unwrap().to_vec()).collect();
        Self { dir, fixture, base, plain, released: 0 }
    }

    /// Puts `to` where `from` stands.
    fn replace(&self, from: &Files, to: &Files) {
        for name in from.keys().filter(|name| !to.contains_key(*name)) {
            fs::remove_file(self.dir.path().join(name)).unwrap();
        }
        for (name, bytes) in to.iter().filter(|(name, bytes)| from.get(*name) != Some(*bytes)) {
            fs::write(self.dir.path().join(name), bytes).unwrap();
        }
    }

    /// Whether all of it is accepted, by one thread or by two. Whatever was released begins the true plaintext.
    fn accepts(&mut self, two: bool) -> bool {
        let Ok(package) = Package::open(self.dir.path(), &self.fixture.vendor_keys()) else { return false };
        let key = self.fixture.model_key();
        let mut whole = package.manifest().files.len() == self.plain.len();
        for (index, plain) in (0_u32..).zip(&self.plain) {
            let (result, got) =
                if two { ordered(&package, &key, index, 2) } else { in_sequence(&package, &key, index) };
            assert!(plain.starts_with(&got), "wrong plaintext was released of file {index}");
            assert!(result.is_err() || got == *plain, "an end before the end of file {index}");
            self.released += got.len() as u64;
            whole &= result.is_ok();
        }
        whole && package.digests(&key).is_ok()
    }
}

/// What one lane of mutations saw.
struct Seen {
    refused: usize,
    unchanged: usize,
    released: u64,
}

fn lane(lane: u8, wanted: usize) -> Seen {
    let (mut bench, mut runner) = (Bench::new(), seeded(lane));
    let changes = prop::collection::vec((any::<usize>(), change()), 1..3);
    let (mut refused, mut unchanged) = (0_usize, 0_usize);
    assert!(bench.accepts(false) && bench.accepts(true), "control: before");
    bench.released = 0;
    while refused < wanted {
        let mut files = bench.base.clone();
        for (at, change) in changes.new_tree(&mut runner).unwrap().current() {
            apply(&mut files, at, &change);
        }
        if files == bench.base {
            unchanged += 1;
            continue;
        }
        bench.replace(&bench.base, &files);
        assert!(!bench.accepts(refused % 2 == 1), "mutation {refused} of lane {lane} was accepted");
        bench.replace(&files, &bench.base);
        if refused.is_multiple_of(THOROUGH) {
            assert!(bench.fixture.judge(&files).is_err(), "mutation {refused} of lane {lane} was accepted");
        }
        refused += 1;
    }
    let released = bench.released;
    assert!(bench.accepts(false) && bench.accepts(true), "control: after");
    Seen { refused, unchanged, released }
}

#[test]
fn no_changed_package_is_accepted_and_no_wrong_plaintext_released() {
    let seen = thread::scope(|scope| {
        let lanes = [0x76, 0x77].map(|n| scope.spawn(move || lane(n, count().div_ceil(2))));
        lanes.map(|lane| lane.join().unwrap())
    });
    let sum = |number: fn(&Seen) -> u64| seen.iter().map(number).sum::<u64>();
    let released = sum(|seen| seen.released);
    println!(
        "{} random mutations of a package: 0 accepted; {released} bytes released before the error, 0 of them wrong; \
         {} more changed nothing",
        sum(|seen| seen.refused as u64),
        sum(|seen| seen.unchanged as u64),
    );
    assert!(released > 0, "some damage is met late");
}

/// Damage of a package that is open already, in files of several chunks: what had been released are whole chunks.
#[test]
fn damage_while_a_large_file_is_open_releases_whole_chunks_of_the_truth() {
    const CHUNKS: usize = 3;
    let fixture = Fixture::of_graph(pattern((CHUNKS - 1) * CHUNK_LEN + 1000), 1);
    let (files, key, plain) = (fixture.files(), fixture.model_key(), &fixture.inputs[0].2);
    let blob = &files["0000.blob"];
    let mut runner = seeded(0x78);
    let chunks = (0..CHUNKS).prop_flat_map(|n| {
        let start = HEADER_LEN + n * CHUNK_LEN;
        start..(start + CHUNK_LEN).min(blob.len())
    });
    let place = (chunks, 1..=u8::MAX, 0_usize..3);
    let wanted = count() / 200;
    for stand in Stand::both(&files) {
        let package = stand.open(&fixture).unwrap();
        let mut met = [0_usize; CHUNKS];
        for n in 0..wanted {
            let (at, mask, way) = place.new_tree(&mut runner).unwrap().current();
            stand.patch("0000.blob", at, &[blob[at] ^ mask]);
            let (result, got) = match way {
                0 => in_sequence(&package, &key, 0),
                threads => ordered(&package, &key, 0, threads + 1),
            };
            let chunk = (at - HEADER_LEN) / CHUNK_LEN;
            assert_eq!(result, Err(SealedError::BlobChunk(0, chunk as u64)), "mutation {n}");
            assert!(got == plain[..chunk * CHUNK_LEN], "mutation {n}");
            stand.patch("0000.blob", at, &blob[at..=at]);
            met[chunk] += 1;
        }
        assert!(in_sequence(&package, &key, 0) == (Ok(plain.len() as u64), plain.clone()), "control: after");
        println!("{wanted} damaged bytes of an open file of {CHUNKS} chunks, {met:?} by chunk: 0 accepted");
    }
}
