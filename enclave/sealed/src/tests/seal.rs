//! Turns good and bad sealing jobs into packages and codes.
//! Whether a disk really keeps what was synced is beyond a test of this kind.

use std::{
    fs,
    io::{self, ErrorKind, Read},
    path::Path,
    process::Command,
};

use rustix::fs::{CWD, FileType, Mode as FileMode, mknodat};
use tempfile::TempDir;

use super::support::{Fixture, load, signer};
use crate::{
    MAX_FILES, MAX_MANIFEST, Package, Provenance, Role, SealInput, SealOptions, SealSpec, SealedError, Statement,
    commitment, seal, seal_with,
};

const CHILD_TARGET: &str = "VOUCHSAFE_SEALED_TEST_TARGET";

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_sealed_model_opens_with_random_salts_too() {
    let (dir, fixture) = (TempDir::new().unwrap(), Fixture::small());
    let (spec, target) = (fixture.spec(dir.path()), dir.path().join("package"));
    let mut heard = Vec::new();
    let progress = &mut |done, total| heard.push((done, total));
    let summary = seal(&spec, &fixture.model_key(), fixture.uid, &[&signer(0x33)], &target, progress).unwrap();
    assert_eq!(heard, [(0, 53), (36, 53), (53, 53)]);
    let package = Package::open(&target, &fixture.vendor_keys()).unwrap();
    assert_eq!(package.manifest_digest(), summary.manifest_digest);
    assert_eq!(package.manifest().model_commitment, summary.commitment);
    assert_eq!(commitment(&fixture.model_key(), &fixture.uid), summary.commitment);
    assert_eq!(package.usage_policy_bytes(), super::support::USAGE);
    assert_eq!(package.signers(), fixture.vendor_keys());
    assert_eq!(load(&target).values().map(|b| b.len() as u64).sum::<u64>(), summary.bytes);
    assert_eq!(fixture.judge(&load(&target)).unwrap(), fixture.plaintexts());
    let expected =
        "0000.blob 0000.list 0001.blob 0001.list 0002.blob 0002.list manifest.dsse.json usage-policy.dsse.json";
    assert_eq!(names(&target).join(" "), expected);

    let again = seal(&spec, &fixture.model_key(), fixture.uid, &[&signer(0x33)], &dir.path().join("b"), &mut |_, _| {});
    assert_ne!(again.unwrap().manifest_digest, summary.manifest_digest, "salts are fresh");
}

#[test]
fn two_processes_write_the_same_bytes() {
    let dir = TempDir::new().unwrap();
    let here = dir.path().join("here");
    Fixture::small().seal_into(&here, 0);
    let there = dir.path().join("there");
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "--ignored", "tests::seal::child"]).env(CHILD_TARGET, &there);
    assert!(child.output().unwrap().status.success());
    assert_eq!(load(&here), load(&there));
}

#[test]
#[ignore = "the second process of two_processes_write_the_same_bytes"]
fn child() {
    if let Some(target) = std::env::var_os(CHILD_TARGET) {
        Fixture::small().seal_into(Path::new(&target), 0);
    }
}

/// Seals a changed spec; whatever happens, nothing may be left beside the inputs.
fn refused(change: impl FnOnce(&mut SealSpec, &Path)) -> SealedError {
    let (dir, fixture) = (TempDir::new().unwrap(), Fixture::small());
    let inputs = dir.path().join("inputs");
    fs::create_dir(&inputs).unwrap();
    let mut spec = fixture.spec(&inputs);
    change(&mut spec, &inputs);
    let target = dir.path().join("package");
    let result = seal(&spec, &fixture.model_key(), fixture.uid, &[&signer(0x33)], &target, &mut |_, _| {});
    assert_eq!(names(dir.path()), ["inputs"]);
    result.unwrap_err()
}

#[test]
fn bad_jobs_are_refused_and_leave_nothing() {
    let code = |change: &dyn Fn(&mut SealSpec, &Path)| {
        let error = refused(change);
        (error.code(), error.exit())
    };
    assert_eq!(code(&|s, _| s.model_id = "A".into()), ("SEAL_MODEL_ID", 1));
    assert_eq!(code(&|s, _| s.inputs.clear()), ("SEAL_INPUTS", 1));
    assert_eq!(code(&|s, _| s.inputs[1].role = Role::Graph), ("SEAL_INPUTS", 1));
    assert_eq!(code(&|s, _| s.inputs[1].role = Role::Digests), ("SEAL_INPUTS", 1));
    assert_eq!(code(&|s, _| s.inputs[1].name = "MODEL.onnx".into()), ("SEAL_NAME", 1));
    assert_eq!(code(&|s, _| s.inputs[1].name = "digests.json".into()), ("SEAL_NAME", 1));
    assert_eq!(code(&|s, _| s.inputs[1].name = "../x".into()), ("SEAL_NAME", 1));
    assert_eq!(code(&|s, _| s.pad_to = 0), ("SEAL_PADDING", 1));
    assert_eq!(code(&|s, _| s.pad_to = u64::MAX), ("SEAL_PADDING", 1));
    let statement = |n| Provenance { kind: Statement::DatasetStatement, sha256: [n; 32] };
    assert_eq!(code(&|s, _| s.provenance = (0..17).map(statement).collect()), ("SEAL_PROVENANCE", 1));
    assert_eq!(code(&|s, _| s.provenance = vec![statement(1); 2]), ("SEAL_PROVENANCE", 1));
    assert_eq!(code(&|s, _| s.usage_policy.clear()), ("SEAL_USAGE_POLICY", 1));
    assert_eq!(code(&|s, _| s.usage_policy = vec![b' '; 262_145]), ("SEAL_USAGE_POLICY", 1));
    assert_eq!(code(&|s, d| s.inputs[1].path = d.join("absent")), ("SEAL_INPUT_UNREADABLE", 9));
    assert_eq!(code(&|s, d| s.inputs[1].path = d.to_owned()), ("SEAL_INPUT_NOT_REGULAR", 9));
    let fifo = |s: &mut SealSpec, d: &Path| {
        s.inputs[1].path = d.join("fifo");
        mknodat(CWD, &s.inputs[1].path, FileType::Fifo, FileMode::RWXU, 0).unwrap();
    };
    assert_eq!(code(&fifo), ("SEAL_INPUT_NOT_REGULAR", 9));
    let huge = |s: &mut SealSpec, _: &Path| {
        fs::OpenOptions::new().write(true).open(&s.inputs[1].path).unwrap().set_len((1 << 40) + 1).unwrap();
    };
    assert_eq!(code(&huge), ("SEAL_PADDING", 1));
}

#[test]
fn an_input_that_changes_while_it_is_read_is_refused() {
    for new_len in [5_u64, 5000] {
        let (dir, mut fixture) = (TempDir::new().unwrap(), Fixture::small());
        fixture.inputs[0].2 = vec![1; 3 << 20];
        let inputs = dir.path().join("inputs");
        fs::create_dir(&inputs).unwrap();
        let spec = fixture.spec(&inputs);
        let path = spec.inputs[0].path.clone();
        let mut change = |done, _| {
            if done == 1 << 20 {
                let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
                file.set_len((3 << 20) + new_len - 10).unwrap();
            }
        };
        let target = dir.path().join("package");
        let result = seal(&spec, &fixture.model_key(), fixture.uid, &[&signer(0x33)], &target, &mut change);
        assert_eq!(result, Err(SealedError::SealInputChanged(0)), "{new_len}");
        assert_eq!(names(dir.path()), ["inputs"]);
    }
}

#[test]
fn an_input_that_is_written_anew_in_its_length_is_refused() {
    let (dir, mut fixture) = (TempDir::new().unwrap(), Fixture::small());
    fixture.inputs[0].2 = vec![1; 3 << 20];
    let inputs = dir.path().join("inputs");
    fs::create_dir(&inputs).unwrap();
    let spec = fixture.spec(&inputs);
    let path = spec.inputs[0].path.clone();
    // Its times are long ago, so that any clock tells the difference.
    let old = std::time::SystemTime::UNIX_EPOCH;
    fs::File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
    let mut change = |done, _| {
        if done == 1 << 20 {
            fs::write(&path, vec![2; 3 << 20]).unwrap();
        }
    };
    let target = dir.path().join("package");
    let result = seal(&spec, &fixture.model_key(), fixture.uid, &[&signer(0x33)], &target, &mut change);
    assert_eq!(result, Err(SealedError::SealInputChanged(0)));
    assert_eq!(names(dir.path()), ["inputs"]);
}

#[test]
fn targets_and_signers_are_compared() {
    let (dir, fixture) = (TempDir::new().unwrap(), Fixture::small());
    let spec = fixture.spec(dir.path());
    let run = |target: &Path, seeds: &[u8]| {
        let keys: Vec<_> = seeds.iter().map(|s| signer(*s)).collect();
        let keys: Vec<_> = keys.iter().collect();
        let result = seal(&spec, &fixture.model_key(), fixture.uid, &keys, target, &mut |_, _| {});
        result.map_or_else(|e| (e.code(), e.exit()), |_| ("sealed", 0))
    };
    assert_eq!(run(&dir.path().join("p"), &[]), ("SEAL_SIGNERS", 1));
    assert_eq!(run(&dir.path().join("p"), &[1, 1]), ("SEAL_SIGNERS", 1));
    assert_eq!(run(&dir.path().join("p"), &(0..17).collect::<Vec<_>>()), ("SEAL_SIGNERS", 1));
    assert_eq!(run(&dir.path().join(".."), &[1]), ("SEAL_TARGET", 1));
    assert_eq!(run(&dir.path().join("none/p"), &[1]), ("SEAL_WRITE", 9));
    fs::create_dir(dir.path().join("empty")).unwrap();
    assert_eq!(run(&dir.path().join("empty"), &[1]), ("SEAL_TARGET_EXISTS", 9));
    std::os::unix::fs::symlink("nowhere", dir.path().join("link")).unwrap();
    assert_eq!(run(&dir.path().join("link"), &[1]), ("SEAL_TARGET_EXISTS", 9));
    assert_eq!(run(&dir.path().join("p"), &[1]), ("sealed", 0));
    let before = load(&dir.path().join("p"));
    assert_eq!(run(&dir.path().join("p"), &[1]), ("SEAL_TARGET_EXISTS", 9));
    assert_eq!(load(&dir.path().join("p")), before);
    assert_eq!(names(dir.path()), ["empty", "labels.txt", "link", "model.onnx", "p"]);
}

#[test]
fn a_target_that_appears_meanwhile_survives() {
    let (dir, fixture) = (TempDir::new().unwrap(), Fixture::small());
    let (spec, target) = (fixture.spec(dir.path()), dir.path().join("p"));
    let mut race = |done, total| {
        if done == total {
            fs::create_dir_all(&target).unwrap();
        }
    };
    let result = seal(&spec, &fixture.model_key(), fixture.uid, &[&signer(1)], &target, &mut race);
    assert_eq!(result, Err(SealedError::SealTargetExists));
    assert_eq!(names(dir.path()), ["labels.txt", "model.onnx", "p"]);
    assert!(names(&target).is_empty());
}

#[test]
fn before_the_name_everything_is_written_and_a_failure_there_leaves_nothing() {
    let (dir, fixture) = (TempDir::new().unwrap(), Fixture::small());
    let inputs = dir.path().join("inputs");
    fs::create_dir(&inputs).unwrap();
    let (spec, target) = (fixture.spec(&inputs), dir.path().join("p"));
    let run = |answer: io::Result<()>| {
        let mut heard = Vec::new();
        let mut deaf = |_, _| {};
        let mut options = SealOptions::new(&mut deaf);
        options.before_name = Box::new(|summary| {
            let folders = names(dir.path());
            assert!(folders.len() == 2 && folders[0].starts_with(".vouchsafe-seal-"), "{folders:?}");
            heard.push((summary.clone(), load(&dir.path().join(&folders[0]))));
            answer
        });
        let result = seal_with(&spec, &fixture.model_key(), fixture.uid, &[&signer(0x33)], &target, options);
        assert_eq!(heard.len(), 1, "once");
        (result, heard.remove(0))
    };
    let (result, _) = run(Err(ErrorKind::StorageFull.into()));
    assert_eq!(result, Err(SealedError::SealWrite(ErrorKind::StorageFull)));
    assert_eq!(names(dir.path()), ["inputs"]);

    let (result, (summary, files)) = run(Ok(()));
    assert_eq!(result, Ok(summary.clone()));
    assert_eq!(load(&target), files);
    assert_eq!(Package::open(&target, &fixture.vendor_keys()).unwrap().manifest_digest(), summary.manifest_digest);
}

/// Where a thousand small files are not written to a disk one by one, if there is such a place.
fn memory() -> TempDir {
    TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap()
}

/// `count` inputs, one graph and labels with names of `width` bytes, all from one file.
fn many(dir: &Path, count: usize, width: usize) -> SealSpec {
    let mut spec = Fixture::of_graph(vec![7; 10], 1).spec(dir);
    let path = spec.inputs[0].path.clone();
    let label = |n| SealInput { name: format!("{n:0width$}"), role: Role::Labels, path: path.clone() };
    spec.inputs.extend((1..count).map(label));
    spec
}

/// What sealing gives, and whether any of it had begun.
fn try_many(dir: &Path, spec: &SealSpec, stream: Option<Box<dyn Read>>) -> (Result<(), SealedError>, bool) {
    let (fixture, mut begun) = (Fixture::small(), false);
    let mut progress = |_, _| begun = true;
    let mut options = SealOptions::new(&mut progress);
    options.streams.extend(stream.map(|stream| (0, stream)));
    let result =
        seal_with(spec, &fixture.model_key(), fixture.uid, &[&signer(0x33)], &dir.join("p"), options).map(|_| ());
    (result, begun)
}

/// Nobody may read from it.
struct Untouched;

impl Read for Untouched {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        panic!("the stream was read")
    }
}

#[test]
fn as_many_files_as_a_manifest_holds_are_sealed_and_one_more_is_told_before_the_first_byte() {
    let dir = memory();
    // The most that fit: told by trying, without a byte sealed for those that do not.
    let fits = |count| {
        let nowhere = dir.path().join("nowhere");
        let (result, begun) = try_many(&nowhere, &many(dir.path(), count, 4), None);
        assert!(!begun);
        // What fits fails only because it has no place.
        match result.unwrap_err() {
            SealedError::SealInputs => false,
            SealedError::SealWrite(ErrorKind::NotFound) => true,
            other => panic!("{other}"),
        }
    };
    let (mut most, mut over) = (1, MAX_FILES);
    while most + 1 < over {
        let half = usize::midpoint(most, over);
        if fits(half) { most = half } else { over = half }
    }
    assert!((2000..4000).contains(&most), "{most} files");
    assert_eq!(try_many(dir.path(), &many(dir.path(), most, 4), None).0, Ok(()));
    let package = Package::open(&dir.path().join("p"), &Fixture::small().vendor_keys()).unwrap();
    assert_eq!(package.manifest().files.len(), most + 1);
    let envelope = fs::metadata(dir.path().join("p/manifest.dsse.json")).unwrap().len() as usize;
    // An entry is at least 350 bytes, and a third more in base64.
    assert!((MAX_MANIFEST - 600..=MAX_MANIFEST).contains(&envelope), "{envelope} bytes for {most} files");
    println!("{most} files in a manifest of {envelope} bytes; one more is refused before the first byte");
}

#[test]
fn more_files_than_the_format_has_and_names_too_long_for_a_manifest_are_told_before_the_first_byte() {
    let dir = TempDir::new().unwrap();
    for (count, width) in [(2400, 128), (MAX_FILES - 1, 4), (MAX_FILES, 4), (MAX_FILES + 1, 4)] {
        let spec = many(dir.path(), count, width);
        let refused = (Err(SealedError::SealInputs), false);
        assert_eq!(try_many(dir.path(), &spec, None), refused, "{count} names of {width} bytes");
        assert_eq!(try_many(dir.path(), &spec, Some(Box::new(Untouched))), refused, "{count}, one from a stream");
        assert_eq!(names(dir.path()), ["model.onnx"]);
    }
    // Control: half of these names fit, and the stream is asked for.
    let few = many(dir.path(), 20, 128);
    assert_eq!(try_many(dir.path(), &few, Some(Box::new(io::empty()))), (Ok(()), true));
}
