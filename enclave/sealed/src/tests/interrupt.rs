//! Turns full disks, limits and killed processes into what is left: no package under its final name, ever.
//! A power cut is not played here; every file is synced before the name is given.

use std::{
    env,
    fs::{self, File, Permissions},
    io::{BufRead as _, BufReader, Cursor},
    os::unix::{
        fs::{FileExt as _, PermissionsExt as _},
        process::ExitStatusExt as _,
    },
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
};

use tempfile::TempDir;

use super::support::{Fixture, pattern};
use crate::SealedError;

const MIB: usize = 1 << 20;
const CHILD: &str = "VOUCHSAFE_SEALED_TEST_INTERRUPT";
/// What a child says when it waits to be killed.
const HERE: &str = "HALF-WAY";

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// `child` in `program`, which executes its last arguments; the child seals into `dir`.
fn command(program: &str, words: &[&str], what: &str, dir: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(words).arg(env::current_exe().unwrap());
    command.args(["--exact", "--ignored", "--nocapture", "tests::interrupt::child"]);
    command.env(CHILD, format!("{what}:{}", dir.display()));
    command
}

fn run(program: &str, words: &[&str], what: &str, dir: &Path) -> Output {
    command(program, words, what, dir).output().unwrap()
}

#[test]
#[ignore = "the second process of the other tests here"]
fn child() {
    let Some(job) = env::var(CHILD).ok() else { return };
    let (what, dir) = job.split_once(':').unwrap();
    let (dir, stream) = (PathBuf::from(dir), pattern(3 * MIB));
    let is_file = what.ends_with("file");
    // A file where that is meant; otherwise a stream instead of an empty file.
    let fixture = Fixture::of_graph(if is_file { stream.clone() } else { Vec::new() }, 1);
    let result = fixture.seal_as(&dir.join("p"), 0, |options| {
        if !is_file {
            options.streams.insert(0, Box::new(Cursor::new(stream)));
        }
        if what.starts_with("killed") {
            let spooling = what == "killed-spooling";
            // The closure lives as long as this process, which is killed when it has said where it is.
            options.progress = Box::leak(Box::new(move |done, total| {
                if done == 2 * MIB as u64 && (total == 0) == spooling {
                    println!("{HERE}");
                    loop {
                        thread::park();
                    }
                }
            }));
        }
        if what == "unreadable-file" {
            options.before_name = Box::new(|_| panic!("it is told before the work"));
        }
    });
    assert!(matches!(result, Err(SealedError::SealWrite(_))), "{result:?}");
    if what != "unreadable-file" {
        assert!(names(&dir).is_empty(), "{:?} is left", names(&dir));
    }
    println!("CHILD {result:?}");
}

fn assert_told(output: &Output, what: &str) {
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("CHILD Err(SealWrite("), "{what}: {text}");
}

#[test]
fn a_full_disk_leaves_no_half_package() {
    let probe = Command::new("unshare").args(["-rm", "true"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        println!("NOT RUN: a_full_disk_leaves_no_half_package: this user may not make namespaces");
        return;
    }
    // 64 KiB end within the first chunk, 1,500 KiB within the second, and 3,090 KiB behind the blob.
    for size in ["64k", "1500k", "3090k"] {
        for what in ["file", "stream"] {
            let dir = TempDir::new().unwrap();
            let script = format!("mount -t tmpfs -o size={size} none '{}' && exec \"$0\" \"$@\"", dir.path().display());
            let output = run("unshare", &["-rm", "sh", "-c", &script], what, dir.path());
            assert_told(&output, &format!("{what} {size}"));
            assert!(names(dir.path()).is_empty());
        }
    }
}

#[test]
fn a_limit_on_file_sizes_leaves_no_half_package() {
    // Of 512 bytes: within the first chunk of the scratch file, within the third, and within the blob's last page.
    for blocks in ["1", "5000", "6148"] {
        let dir = TempDir::new().unwrap();
        // Without the signal, writing says that the file is too large.
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
        let output = run("sh", &["-c", &script], "stream", dir.path());
        assert_told(&output, blocks);
        assert!(names(dir.path()).is_empty());
    }
}

/// Its directory may be written to and not read: nobody could make the new name durable there.
#[test]
fn a_parent_that_cannot_be_opened_is_told_before_the_work() {
    let dir = TempDir::new().unwrap();
    let parent = dir.path().join("parent");
    fs::create_dir(&parent).unwrap();
    fs::set_permissions(&parent, Permissions::from_mode(0o300)).unwrap();
    // Root may read anything; without that power it is told as anybody else would be.
    let powers = ["--bounding-set=-dac_override,-dac_read_search"];
    let output = match rustix::process::geteuid().is_root() {
        true => run("setpriv", &powers, "unreadable-file", &parent),
        false => run("env", &[], "unreadable-file", &parent),
    };
    fs::set_permissions(&parent, Permissions::from_mode(0o700)).unwrap();
    assert_told(&output, "mode 0300");
    assert!(names(&parent).is_empty(), "{:?} is left", names(&parent));
}

#[test]
fn a_killed_seal_leaves_ciphertext_and_no_package() {
    let plain = &pattern(6000)[5000..5032];
    let holds = |bytes: &[u8]| bytes.windows(32).any(|window| window == plain);
    assert!(holds(&pattern(2 * MIB)), "control");
    for what in ["killed", "killed-file", "killed-spooling"] {
        let dir = TempDir::new().unwrap();
        let [out, tmp] = ["out", "tmp"].map(|name| dir.path().join(name));
        for folder in [&out, &tmp] {
            fs::create_dir(folder).unwrap();
        }
        // What a killed process leaves of its inputs is this test's to remove.
        let mut command = command("env", &[], what, &out);
        let mut child = command.env("TMPDIR", &tmp).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        let here = said.any(|line| line.unwrap().contains(HERE));
        // A scratch file has no name: it is found among the files of the process, and outlives it in our hands.
        let open = fs::read_dir(format!("/proc/{}/fd", child.id())).unwrap().flatten().map(|fd| fd.path());
        let scratch: Vec<File> = open
            .filter(|fd| fs::read_link(fd).is_ok_and(|target| target.to_string_lossy().ends_with("scratch (deleted)")))
            .map(|fd| File::open(fd).unwrap())
            .collect();
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert!(here && status.signal() == Some(9), "{what}: {status}");
        assert!(!said.any(|line| line.unwrap().contains("CHILD")), "{what}");

        let left = names(&out);
        assert!(left.len() == 1 && left[0].starts_with(".vouchsafe-seal-"), "{left:?}");
        let mut found: Vec<(String, Vec<u8>)> = names(&out.join(&left[0]))
            .into_iter()
            .map(|name| (name.clone(), fs::read(out.join(&left[0]).join(name)).unwrap()))
            .collect();
        assert!(found.iter().all(|(name, _)| name != "scratch"), "a spooled stream has no name");
        assert_eq!(found.is_empty(), what == "killed-spooling", "{what}: blobs come after the stream");
        assert_eq!(scratch.len(), usize::from(what != "killed-file"), "{what}");
        for file in scratch {
            let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
            file.read_exact_at(&mut bytes, 0).unwrap();
            found.push(("the scratch file".to_owned(), bytes));
        }
        let ciphertext: usize = found.iter().map(|(_, bytes)| bytes.len()).sum();
        assert!(ciphertext > 2 * MIB, "{what}: {ciphertext} bytes to look at");
        for (name, bytes) in found {
            assert!(!holds(&bytes), "plaintext in {name}");
        }
    }
}
