//! Turns thousands of random changes of a package into refusals: none may be accepted.
//! It draws its changes at random; the exhaustive lists stand beside it.

use std::cell::Cell;

use proptest::{prelude::*, test_runner::TestRunner};

use super::support::{Files, Fixture};

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

#[test]
fn no_changed_package_is_accepted() {
    let fixture = Fixture::small();
    let base = fixture.files();
    let refused = Cell::new(0);
    let mut runner = TestRunner::new(ProptestConfig { cases: 5000, failure_persistence: None, ..Default::default() });
    runner
        .run(&prop::collection::vec((any::<usize>(), change()), 1..3), |changes| {
            let mut files = base.clone();
            for (at, change) in &changes {
                apply(&mut files, *at, change);
            }
            prop_assume!(files != base);
            prop_assert!(fixture.judge(&files).is_err(), "accepted");
            refused.set(refused.get() + 1);
            Ok(())
        })
        .unwrap();
    println!("{} random mutations of a package: 0 accepted", refused.get());
    assert!(refused.get() > 4000);
    assert_eq!(fixture.code(&base), "accepted");
}

#[test]
fn a_flipped_bit_in_any_byte_of_the_signed_files_is_refused() {
    let fixture = Fixture::small();
    let base = fixture.files();
    for name in ["manifest.dsse.json", "usage-policy.dsse.json"] {
        for at in 0..base[name].len() {
            let mut files = base.clone();
            files.get_mut(name).unwrap()[at] ^= 1 << (at % 8);
            assert!(fixture.judge(&files).is_err(), "{name} byte {at}");
        }
    }
}
