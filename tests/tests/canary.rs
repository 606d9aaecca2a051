//! Looks for the secrets of a whole story in everything that its host can see, and proves first that it would find them.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

#[path = "canary/enclave.rs"]
mod enclave;
#[path = "canary/misconduct.rs"]
mod misconduct;
#[path = "canary/needles.rs"]
mod needles;
#[path = "canary/observe.rs"]
mod observe;
#[path = "canary/secrets.rs"]
mod secrets;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::OnceLock,
};

use needles::{Canary, FORMS, Finding, Scanner, in_form};
use observe::{Observed, observe};
use tempfile::TempDir;
use vouchsafe_tests::{bin_dir, trace::Trace};

/// Leaks on purpose.
const LEAK: &str = env!("CARGO_BIN_EXE_leak-on-purpose");

/// Where a canary may be seen, which one (by the beginning of its name), and why. `*` stands for anything.
const ALLOWED: &[(&str, &str, &str)] = &[
    ("getrandom *", "", "a key is born there: from the kernel into the memory of the process that makes it"),
    ("* DIR/world/broker/state/kek", "key-encryption key", "the broker's own file, 0600"),
    ("write DIR/world/broker/.state.init-*/.kek.new", "key-encryption key", "the same file while it is made"),
    ("* DIR/world/broker/state/wrap.key", "wrapping key", "the broker's own file, 0600"),
    ("write DIR/world/broker/.state.init-*/.wrap.key.new", "wrapping key", "the same file while it is made"),
    ("* DIR/world/breast-cancer.onnx", "weights", "the vendor's own model, before it is sealed"),
    ("* DIR/world/heldout.json", "input row", "the customer's own data"),
    (
        "write vouchsafe-enclave to itself",
        "weights",
        "on their way from the gate to a runner, in a pipe of the enclave alone",
    ),
    ("read vouchsafe-enclave to itself", "weights", "the same, taken out of the pipe by the runner"),
    ("* DIR/world/customer/receipt.json.request", "input row", "the customer's own copy of what it sent, 0600"),
];

/// The story, played once under observation.
fn story() -> Option<&'static (Observed, Vec<Canary>)> {
    static STORY: OnceLock<Option<(Observed, Vec<Canary>)>> = OnceLock::new();
    let play = || {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().canonicalize().unwrap();
        let (program, world) = (bin_dir().join("vouchsafe"), dir.join("world"));
        let words = [program.to_str().unwrap(), "demo", "--no-attacks", "--json", "--keep", world.to_str().unwrap()];
        let run = observe("canary scan", &dir, &words, b"")?;
        assert_eq!(run.exit, 0, "{}", fs::read_to_string(dir.join("stderr.log")).unwrap());
        let canaries = secrets::of(&world);
        Some((run, canaries))
    };
    STORY.get_or_init(play).as_ref()
}

fn scan(run: &Observed, scanner: &Scanner) -> (BTreeSet<Finding>, usize, usize) {
    let mut found = BTreeSet::new();
    for (place, bytes) in &run.seen {
        scanner.scan(place, bytes, &mut found);
    }
    (found, run.seen.len(), run.seen.iter().map(|(_, bytes)| bytes.len()).sum())
}

/// Whether a place is the allowed one.
fn matches(pattern: &str, place: &str) -> bool {
    match pattern.split_once('*') {
        Some((first, last)) => place.starts_with(first) && place.ends_with(last),
        None => pattern == place,
    }
}

#[test]
fn no_key_weight_or_row_is_seen_by_the_host_anywhere_but_where_its_owner_keeps_it() {
    let Some((run, canaries)) = story() else { return };
    let scanner = Scanner::new(canaries);
    let (found, places, bytes) = scan(run, &scanner);
    let mut used = BTreeSet::new();
    let mut leaks = Vec::new();
    for finding in &found {
        let allowed = |(_, (place, canary, _)): &(usize, &(&str, &str, &str))| {
            matches(place, &finding.place) && finding.canary.starts_with(canary)
        };
        match ALLOWED.iter().enumerate().find(allowed) {
            Some((n, _)) => drop(used.insert(n)),
            None => leaks.push(format!("{} [{}] in {}", finding.canary, finding.form, finding.place)),
        }
    }
    println!(
        "{} canaries, {} byte strings, {} calls, {places} places with {bytes} bytes, {} findings, all in {} allowed places",
        canaries.len(),
        scanner.needles(),
        run.trace.calls.len(),
        found.len(),
        used.len()
    );
    assert!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n"));
    let idle: Vec<_> = ALLOWED.iter().enumerate().filter(|(n, _)| !used.contains(n)).map(|(_, a)| a).collect();
    assert!(idle.is_empty(), "allowed and never needed: {idle:?}");
    assert_eq!(run.blind_spots(&bin_dir()), BTreeSet::new(), "what the scan cannot see into");
    for program in ["vouchsafe", "vouchsafe-launch", "vouchsafe-simulator", "vouchsafe-enclave"] {
        let place = format!("cmdline of {program}");
        assert!(run.sampled.iter().any(|(p, _)| *p == place), "/proc never showed {program}");
    }
}

/// A canary's name, a form, and the canary's bytes in that form.
type Item = (String, &'static str, Vec<u8>);
/// A place where a leak must be found, and whether its kernel object can carry such bytes at all.
type Way = (&'static str, fn(&[u8]) -> bool);

/// Every canary in every form, as the leaking program is told them: a length, then the bytes inverted.
fn plan(items: &[Item]) -> Vec<u8> {
    let mut plan = Vec::new();
    for (_, _, bytes) in items {
        plan.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
        plan.extend(bytes.iter().map(|b| !b));
    }
    plan
}

fn items(canaries: &[Canary], change: impl Fn(&[u8]) -> Vec<u8>) -> Vec<Item> {
    let mut items = Vec::new();
    for (n, canary) in canaries.iter().enumerate() {
        for form in FORMS {
            // Nobody encodes a secret alone: what stands before it shifts Base64.
            let before = if form.starts_with("base64") { n % 3 } else { 0 };
            let bytes = [&[0x11; 3][..before], &change(&canary.whole)].concat();
            items.push((canary.name.clone(), form, in_form(form, &bytes)));
        }
    }
    items
}

fn leak(canaries: &[Canary], change: impl Fn(&[u8]) -> Vec<u8>) -> Option<(Observed, Vec<Item>)> {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().canonicalize().unwrap();
    fs::create_dir_all(dir.join("leak/names")).unwrap();
    let items = items(canaries, change);
    let run = observe("the scan's control", &dir, &[LEAK, "leak", dir.join("leak").to_str().unwrap()], &plan(&items))?;
    assert_eq!(run.exit, 0, "{:?}", run.seen.iter().find(|(p, _)| p == "left DIR/stderr.log"));
    Some((run, items))
}

#[test]
fn control_every_canary_leaked_on_purpose_is_found_wherever_and_however() {
    let Some((_, canaries)) = story() else { return };
    let Some((run, items)) = leak(canaries, <[u8]>::to_vec) else { return };
    let (found, ..) = scan(&run, &Scanner::new(canaries));
    let anything = |_: &[u8]| true;
    let words = |bytes: &[u8]| !bytes.contains(&0);
    let names = |bytes: &[u8]| bytes.len() <= 255 && !bytes.contains(&0) && !bytes.contains(&b'/');
    // Each way of leaking, the place where it must be found, and what the kernel lets through there.
    let ways: [Way; 15] = [
        ("write DIR/leak/file", anything),
        ("left DIR/leak/file", anything),
        ("write DIR/leak/removed", anything),
        ("write DIR/leak/halves", anything),
        ("write DIR/leak/program.log", anything),
        ("left DIR/leak/program.log", anything),
        ("write /memfd:leak", anything),
        ("write UNIX-STREAM", anything),
        ("write TCP", anything),
        ("write pipe", anything),
        ("argv of leak-on-purpose", words),
        ("environment of leak-on-purpose", words),
        ("/proc: cmdline of leak-on-purpose", words),
        ("/proc: environ of leak-on-purpose", words),
        ("name DIR/leak/names", names),
    ];
    let (mut missed, mut counts) = (Vec::new(), BTreeMap::<_, (u32, u32)>::new());
    for (canary, form, bytes) in &items {
        for (place, possible) in ways {
            let count = counts.entry(place).or_default();
            if !possible(bytes) {
                count.1 += 1;
                continue;
            }
            let wanted = Finding { place: place.to_owned(), canary: canary.clone(), form };
            if found.contains(&wanted) {
                count.0 += 1;
            } else {
                missed.push(wanted);
            }
        }
    }
    let all: u32 = counts.values().map(|c| c.0).sum();
    println!("{all} leaks made and found: {} canaries in {} forms by {} ways", canaries.len(), FORMS.len(), ways.len());
    for (place, (count, impossible)) in counts {
        println!("  {count:>4}  {place}  ({impossible} cannot be written there)");
    }
    assert!(missed.is_empty(), "{} leaks were missed: {missed:#?}", missed.len());
}

#[test]
fn control_other_secrets_leaked_the_same_ways_are_not_taken_for_the_canaries() {
    let Some((_, canaries)) = story() else { return };
    let flipped = |bytes: &[u8]| bytes.iter().enumerate().map(|(n, b)| if n % 6 == 0 { b ^ 1 } else { *b }).collect();
    let Some((run, _)) = leak(canaries, flipped) else { return };
    assert_eq!(scan(&run, &Scanner::new(canaries)).0, BTreeSet::new());
}

#[test]
fn the_enclave_writes_no_file_executes_nothing_and_opens_nothing_but_sealed_packages_and_its_own_pipes_behind_its_walls()
 {
    let Some((run, _)) = story() else { return };
    let models = run.dir.join("world/operator/models/");
    let conduct = enclave::conduct(run, models.to_str().unwrap());
    println!(
        "{} calls of the enclave; {} runners, of which {} served; behind the fence the gate opened {:?}",
        conduct.calls, conduct.runners, conduct.serving, conduct.opened
    );
    assert_eq!(conduct.objections, BTreeSet::new());
    assert!(conduct.calls > 100 && conduct.opened.iter().any(|path| path.ends_with(".blob")));
    assert!(conduct.runners >= 1 && conduct.serving >= 1);
}

#[test]
fn control_a_program_that_does_what_no_enclave_may_is_objected_to() {
    let folder: TempDir = tempfile::tempdir().unwrap();
    let dir = folder.path().canonicalize().unwrap();
    let program = dir.join("vouchsafe-enclave");
    std::os::unix::fs::symlink(LEAK, &program).unwrap();
    let words = [program.to_str().unwrap(), "enclave", dir.to_str().unwrap()];
    let Some(run) = observe("the enclave's control", &dir, &words, b"") else { return };
    assert_eq!(run.exit, 0);
    let found = enclave::conduct(&run, "/nowhere").objections;
    let all = found.iter().cloned().collect::<Vec<_>>().join("\n");
    println!("{all}");
    for wanted in [
        "opened for writing",
        "plaintext",
        "memfd_create",
        "mkdir",
        "rename",
        "unlink",
        "bind",
        "listen",
        "an environment",
        "a child process",
        "a second execve",
        "may gain privileges",
        "may dump core",
        "is dumpable",
        "no fence",
        "write to",
    ] {
        assert!(all.contains(wanted), "no objection to: {wanted}");
    }
}

#[test]
fn control_ways_around_the_scan_are_seen_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().canonicalize().unwrap().join("run");
    fs::create_dir(&dir).unwrap();
    let words = [LEAK, "reach", dir.to_str().unwrap()];
    let Some(mut run) = observe("the blind spots' control", &dir, &words, b"") else { return };
    assert_eq!(run.exit, 0);
    let mut spots = run.blind_spots(&bin_dir());
    // What cannot be done from safe Rust, in strace's words.
    run.trace = Trace::parse(
        "1 mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_SHARED, 3<\\x2f\\x66>, 0) = 0x7f0000000000\n\
         1 io_uring_setup(8, {flags=0}) = 4\n\
         2 execve(\"\\x2f\\x65\", [\"\\x76\\x6f\\x75\\x63\\x68\\x73\\x61\\x66\\x65\\x2d\\x65\\x6e\\x63\\x6c\\x61\\x76\\x65\"], []) = 0\n\
         2 mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_SHARED, 3<\\x2f\\x66>, 0) = 0x7f0000000000\n\
         3 mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, 3<\\x2f\\x6d\\x65\\x6d\\x66\\x64\\x3a\\x74\\x65\\x6e\\x73\\x6f\\x72\\x73>, 0) = 0x7f00\n\
         1 sendto(5<TCP:[127.0.0.1:1->192.0.2.1:2]>, \"\\x00\", 1, 0, NULL, 0) = 1\n",
    );
    spots.extend(run.blind_spots(&bin_dir()));
    let all = spots.into_iter().collect::<Vec<_>>().join("\n");
    println!("{all}");
    for wanted in ["copy_file_range", "cut: write", "elsewhere", "mmap", "io_uring_setup", "another machine"] {
        assert!(all.contains(wanted), "not seen: {wanted}");
    }
}

#[test]
fn control_a_pipe_that_another_program_ever_names_is_not_the_enclaves_own() {
    let trace = Trace::parse(concat!(
        "1 execve(\"\\x2f\\x65\", [\"\\x76\\x6f\\x75\\x63\\x68\\x73\\x61\\x66\\x65\\x2d\\x65\\x6e\\x63\\x6c\\x61\\x76\\x65\"], []) = 0\n",
        "2 execve(\"\\x2f\\x6f\", [\"\\x6f\\x74\\x68\\x65\\x72\"], []) = 0\n",
        "1 pipe2([3<pipe:[1]>, 4<pipe:[1]>], O_CLOEXEC) = 0\n",
        "1 pipe2( <unfinished ...>\n",
        "2 pipe2([3<pipe:[3]>, 4<pipe:[3]>], O_CLOEXEC) = 0\n",
        "1 <... pipe2 resumed>[5<pipe:[2]>, 6<pipe:[2]>], O_CLOEXEC) = 0\n",
        "1 write(4<pipe:[1]>, \"\\x41\", 1) = 1\n",
        "1 write(6<pipe:[2]>, \"\\x41\", 1) = 1\n",
        "1 read(7<pipe:[3]>, \"\\x41\", 1) = 1\n",
        "2 read(9<pipe:[2]>, \"\\x41\", 1) = 1\n",
    ));
    let run = Observed { dir: "/nowhere".into(), trace, sampled: BTreeSet::new(), exit: 0, seen: Vec::new() };
    assert_eq!(run.own_pipes(), BTreeSet::from(["pipe:[1]".to_owned()]));
}
