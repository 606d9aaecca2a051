//! Turns boots that no launcher would make into the enclave's last word and its own exit status: descriptors, words and files are
//! handed over by this test, as a hostile host would. The simulator and the enclave are the shipped programs.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

use std::{
    fs::{self, File},
    io::Write as _,
    net::TcpListener,
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::{net::UnixStream, process::CommandExt as _},
    },
    path::PathBuf,
    process::{Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use serde_json::{Value, json};
use vouchsafe_attestation::{Mode, Tee, lp::sha256};
use vouchsafe_launcher::{LaunchRequest, Simulator, frame};
use vouchsafe_tests::{Scene, bin_dir, scene::code};

/// What a host hands over; [`Boot::good`] is what an honest one would.
struct Boot {
    tee: Tee,
    /// Bound in HOST_DATA.
    bound: Vec<u8>,
    /// Passed as the configuration.
    given: Vec<u8>,
    words: Vec<&'static str>,
    environment: Vec<(&'static str, &'static str)>,
    library: PathBuf,
    /// Handed over in place of the measured copy of the library.
    other_library: Option<OwnedFd>,
    /// How many of the five descriptors.
    descriptors: usize,
    hello: Value,
}

fn story() -> &'static Scene {
    static STORY: OnceLock<Scene> = OnceLock::new();
    STORY.get_or_init(Scene::new)
}

impl Boot {
    fn good() -> Self {
        Self::good_on(Tee::SevSnp)
    }

    fn good_on(tee: Tee) -> Self {
        let config = story().text("operator/config.toml").into_bytes();
        Self {
            tee,
            bound: config.clone(),
            given: config,
            words: vec![tee_word(tee), "vouchsafe.mode=simulation"],
            environment: Vec::new(),
            library: bin_dir().join("libonnxruntime.so"),
            other_library: None,
            descriptors: 5,
            hello: json!({ "v": 1 }),
        }
    }

    fn with_config(text: &str) -> Self {
        Self { bound: text.into(), given: text.into(), ..Self::good() }
    }

    /// Boots: exit status and last code, or no status and `attested` once it is so far.
    fn run(self) -> (Option<i32>, String) {
        let scene = story();
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("config"), &self.given).unwrap();
        let mut simulator =
            Simulator::start(&bin_dir().join("vouchsafe-simulator"), scene.at("tester/root").as_ref()).unwrap();
        let launched = simulator
            .launch(&LaunchRequest {
                tee: self.tee,
                mode: Mode::Simulation,
                enclave: bin_dir().join("vouchsafe-enclave"),
                onnxruntime: self.library,
                host_data: sha256(&self.bound),
            })
            .unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut enclave = Command::new(format!("/proc/self/fd/{}", launched.enclave.as_raw_fd()))
            .arg0("vouchsafe-enclave")
            .args(&self.words)
            .env_clear()
            .envs(self.environment)
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let config = File::open(dir.path().join("config")).unwrap();
        let models = File::open(scene.at("operator/models")).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let library = self.other_library.unwrap_or(launched.onnxruntime);
        let all = [launched.device.as_fd(), config.as_fd(), models.as_fd(), library.as_fd(), listener.as_fd()];
        let _ = frame::write(&ours, &self.hello, &all[..self.descriptors]);
        let mut last = String::new();
        while let Ok(Some((message, _))) = frame::read::<Value>(&ours) {
            if message["state"] == "attested" {
                enclave.kill().unwrap();
                enclave.wait().unwrap();
                return (None, "attested".to_owned());
            }
            if message["fatal"].is_object() {
                last = code(&message["fatal"]);
            }
        }
        (enclave.wait().unwrap().code(), last)
    }
}

fn tee_word(tee: Tee) -> &'static str {
    match tee {
        Tee::SevSnp => "vouchsafe.tee=sev-snp",
        Tee::Tdx => "vouchsafe.tee=tdx",
    }
}

fn attested() -> (Option<i32>, String) {
    (None, "attested".to_owned())
}

#[test]
fn another_configuration_than_the_bound_one_is_not_even_parsed() {
    for tee in [Tee::SevSnp, Tee::Tdx] {
        let good = || Boot::good_on(tee);
        assert_eq!(good().run(), attested(), "{tee}: control: before");
        let mismatch = (Some(2), "CONFIG_DIGEST_MISMATCH".to_owned());
        let mut given = good().given;
        given.push(b'\n');
        assert_eq!(Boot { given, ..good() }.run(), mismatch, "{tee}: a line more");
        let other = story().text("host/config-any-version.toml").into_bytes();
        assert_eq!(Boot { given: other.clone(), ..good() }.run(), mismatch, "{tee}: a genuine, laxer one");
        assert_eq!(Boot { bound: other, ..good() }.run(), mismatch, "{tee}: the other way round");
        assert_eq!(Boot { given: b"no configuration".to_vec(), ..good() }.run(), mismatch, "{tee}: no configuration");
        assert_eq!(Boot { given: Vec::new(), ..good() }.run(), mismatch, "{tee}: nothing");
        assert_eq!(good().run(), attested(), "{tee}: control: after");
    }
}

#[test]
fn a_bound_configuration_must_also_be_right() {
    let good = story().text("operator/config.toml");
    let list = |name: &str| good.split(&format!("{name} = [")).nth(1).unwrap().split(']').next().unwrap().to_owned();
    let (manifest, release) = (list("manifest_keys"), list("release_keys"));
    for (what, from, to, expected) in [
        ("an unknown setting", "version = 1", "version = 1\ndebug = true", "CONFIG_INVALID"),
        ("a fence that is none", "version = 1", "version = 1\nlandlock = \"none\"", "CONFIG_INVALID"),
        ("a setting twice", "version = 1", "version = 1\nversion = 1", "CONFIG_INVALID"),
        ("a later version", "version = 1", "version = 2", "CONFIG_INVALID"),
        ("another digest algorithm", "algorithm = \"sha256\"", "algorithm = \"sha512\"", "CONFIG_INVALID"),
        ("a data item that is no text", "[data]", "[data]\n\"other\" = 1", "CONFIG_INVALID"),
        ("one key in two roles", &release, &manifest, "CONFIG_INVALID"),
        ("a broker by name", "address = \"127.0.0.1", "address = \"localhost", "CONFIG_INVALID"),
        ("a model id that leaves its folder", "id = \"breast-cancer\"", "id = \"../breast-cancer\"", "CONFIG_INVALID"),
        ("no limit", "max_body_bytes = 8388608", "max_body_bytes = 0", "CONFIG_INVALID"),
        ("a release without a broker", "release = \"online\"", "release = \"static\"", "CONFIG_UNSUPPORTED"),
    ] {
        assert!(good.contains(from), "{from}");
        let verdict = Boot::with_config(&good.replacen(from, to, 1)).run();
        assert_eq!(verdict, (Some(1), expected.to_owned()), "{what}");
    }
    let large = good.clone() + &"#".repeat(256 * 1024);
    let verdict = Boot::with_config(&large).run();
    assert!(verdict.0 == Some(1) || verdict.0 == Some(2), "larger than 256 KiB: {verdict:?}");
    let kata = good.replacen("[data]", "[data]\n\"policy.rego\" = \"package agent_policy\"", 1);
    assert_eq!(Boot::with_config(&kata).run(), attested(), "another program's item");
    assert_eq!(Boot::with_config(&(good + "# a remark\n")).run(), attested(), "control");
}

#[test]
fn words_environment_descriptors_and_library() {
    let words = |words: &[&'static str]| Boot { words: words.to_vec(), ..Boot::good() }.run();
    let (tee, mode) = ("vouchsafe.tee=sev-snp", "vouchsafe.mode=simulation");
    assert_eq!(words(&[tee, mode]), attested(), "control");
    let on_tdx = Boot { words: vec![tee, mode], ..Boot::good_on(Tee::Tdx) };
    assert_eq!(on_tdx.run(), (Some(7), "EVIDENCE_DEVICE".to_owned()), "the words of the other technology");
    for (what, wrong, exit, expected) in [
        ("hardware mode without hardware", &[tee, "vouchsafe.mode=hardware"][..], 7, "NO_TEE"),
        ("hardware mode of the other technology", &["vouchsafe.tee=tdx", "vouchsafe.mode=hardware"], 7, "NO_TEE"),
        ("a technology of another machine", &["vouchsafe.tee=tdx", mode], 7, "EVIDENCE_DEVICE"),
        ("no mode", &[tee], 1, "USAGE"),
        ("a word twice", &[tee, mode, mode], 1, "USAGE"),
        ("an unknown word", &[tee, mode, "vouchsafe.debug=1"], 1, "USAGE"),
    ] {
        assert_eq!(words(wrong), (Some(exit), expected.to_owned()), "{what}");
    }
    let environment = vec![("RUST_LOG", "trace")];
    assert_eq!(Boot { environment, ..Boot::good() }.run(), (Some(1), "ENVIRONMENT_NOT_EMPTY".to_owned()));
    assert_eq!(Boot { descriptors: 4, ..Boot::good() }.run(), (Some(8), "HOST_CHANNEL".to_owned()));
    assert_eq!(Boot { hello: json!({ "v": 2 }), ..Boot::good() }.run(), (Some(8), "HOST_CHANNEL".to_owned()));
    assert_eq!(
        Boot { hello: json!({ "v": 1, "env": {} }), ..Boot::good() }.run(),
        (Some(8), "HOST_CHANNEL".to_owned())
    );
}

#[test]
fn another_onnx_runtime_is_not_loaded() {
    const VERSION: &[u8] = b"1.24.4";
    let dir = tempfile::tempdir().unwrap();
    let library = dir.path().join("library.so");
    let mut bytes = fs::read(bin_dir().join("libonnxruntime.so")).unwrap();
    fs::write(&library, &bytes).unwrap();
    assert_eq!(Boot { library: library.clone(), ..Boot::good() }.run(), attested(), "control: a copy");
    let places: Vec<usize> = (0..bytes.len() - VERSION.len()).filter(|i| bytes[*i..].starts_with(VERSION)).collect();
    assert!(!places.is_empty(), "the version stands in the library");
    for at in places {
        bytes[at + VERSION.len() - 1] = b'3';
    }
    fs::write(&library, &bytes).unwrap();
    let refused = (Some(9), "ORT_VERSION".to_owned());
    assert_eq!(Boot { library: library.clone(), ..Boot::good() }.run(), refused, "another version");
    fs::write(&library, b"no library").unwrap();
    assert_eq!(Boot { library, ..Boot::good() }.run(), refused, "no library");
}

#[test]
fn a_library_that_is_not_the_measured_one_or_can_still_change_is_not_loaded() {
    let good = fs::read(bin_dir().join("libonnxruntime.so")).unwrap();
    let memory = |bytes: &[u8], seals| {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut file = File::from(memfd_create("libonnxruntime", flags).unwrap());
        file.write_all(bytes).unwrap();
        fcntl_add_seals(&file, seals).unwrap();
        Some(OwnedFd::from(file))
    };
    let given = |other_library| Boot { other_library, ..Boot::good() }.run();
    let mismatch = (Some(2), "MEASUREMENT_MISMATCH".to_owned());
    let all = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    assert_eq!(given(memory(&good, all)), attested(), "control: the same bytes, sealed");
    assert_eq!(given(memory(&good, SealFlags::empty())), mismatch, "the same bytes, not sealed");
    let on_disk = File::open(bin_dir().join("libonnxruntime.so")).unwrap();
    assert_eq!(given(Some(on_disk.into())), mismatch, "the same bytes, on disk");
    let mut other = good;
    other.push(0);
    assert_eq!(given(memory(&other, all)), mismatch, "a byte more, sealed, of the right version");
}

#[test]
fn the_fence_is_required_unless_the_bound_configuration_says_otherwise() {
    const LAX: &str = "landlock = \"best-effort\"\n";
    let text = story().text("operator/config.toml");
    assert!(text.contains(LAX), "the story is played on any kernel");
    assert_eq!(Boot::with_config(&text).run(), attested(), "control");
    let strict = Boot::with_config(&text.replace(LAX, "")).run();
    let refused = (Some(9), "AUTHORITY".to_owned());
    assert!(strict == attested() || strict == refused, "{strict:?}");
    if strict == refused {
        println!("NOT RUN: start under a fence that is required: this kernel enforces it only in part or not at all");
    }
}
