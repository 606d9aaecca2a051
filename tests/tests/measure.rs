//! Turns an image folder into the values of `vouchsafe measure` and compares them with other programs' values for the same files.
//! `sev-snp-measure` and the `sev` crate share an ancestor, so 28 equal digests say that ours are plumbed right, not that AMD's
//! firmware computes the same; the TDX values are compared with a second implementation of the same documents.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Output,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use vouchsafe_image::{Manifest, Part, Parts};
use vouchsafe_measurement::{
    KernelHashes, command_line,
    id_block::{IdAuth, IdBlock},
};
use vouchsafe_tests::{programs::image, python, vouchsafe, vouchsafe_json, workspace};

const CPUS: [&str; 7] = ["EPYC", "EPYC-v4", "EPYC-Rome", "EPYC-Milan", "EPYC-Milan-v2", "EPYC-Genoa", "EPYC-Turin"];

/// A folder with an image in it: an AmdSev firmware of 4 MiB, a kernel that firmware would measure, any bytes as the initrd.
struct Scene {
    dir: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let scene = Self { dir: tempfile::tempdir().unwrap() };
        let (firmware, kernel, initrd) = (firmware(), kernel(), pattern(70_000));
        let digest = Part::of(b"").sha256;
        let manifest = Manifest {
            version: 1,
            mtime: 0,
            kernel: Part::of(&kernel),
            initrd: Part::of(&initrd),
            firmware: Part::of(&firmware),
            firmware_from: digest.clone(),
            kernel_release: "6.12.0".to_owned(),
            compressor: "none".to_owned(),
            archive: Part::of(&initrd),
            enclave_sha256: digest.clone(),
            onnxruntime_sha256: digest,
            contents: Vec::new(),
            packages: Vec::new(),
        };
        let parts = Parts { kernel: &kernel, initrd: &initrd, firmware: &firmware };
        vouchsafe_image::write(&scene.dir.path().join("image"), parts, &manifest).unwrap();
        scene
    }

    fn at(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn image(&self, name: &str) -> String {
        self.at(&format!("image/{name}"))
    }

    fn measure(&self, more: &[&str]) -> (i32, Value) {
        let (image, sha256) = (self.at("image"), firmware_sha256());
        vouchsafe_json(&[&["measure", "--image", &image, "--firmware-sha256", &sha256], more].concat())
    }

    /// The other program's launch digest.
    fn sev_snp_measure(&self, cpu: &str, vcpus: &str, command_line: &str) -> String {
        let (firmware, kernel, initrd) = (self.image("firmware.fd"), self.image("kernel"), self.image("initrd"));
        let output = python(
            "import sys; from sevsnpmeasure.cli import main; sys.exit(main())",
            &[
                "--mode",
                "snp",
                "--vcpus",
                vcpus,
                "--vcpu-type",
                cpu,
                "--ovmf",
                &firmware,
                "--kernel",
                &kernel,
                "--initrd",
                &initrd,
                "--append",
                command_line,
                "--guest-features",
                "0x1",
            ],
        );
        text(&output).trim().to_owned()
    }
}

/// A folder of the `sev` crate's own tests.
fn sev_samples() -> PathBuf {
    let options =
        ["--locked", "--offline", "--filter-platform", "x86_64-unknown-linux-gnu"].map(str::to_owned).to_vec();
    let metadata = cargo_metadata::MetadataCommand::new()
        .manifest_path(workspace().join("Cargo.toml"))
        .other_options(options)
        .exec()
        .unwrap();
    let sev = metadata.packages.iter().find(|package| package.name.as_str() == "sev").unwrap();
    sev.manifest_path.parent().unwrap().join("tests/measurement").into_std_path_buf()
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n * n % 251) as u8).collect()
}

/// The crate has the last page of a 4 MiB image; its tables speak of all of it.
fn firmware() -> Vec<u8> {
    let end = fs::read(sev_samples().join("ovmf_AmdSev_suffix.bin")).unwrap();
    let mut image = pattern((4 << 20) - end.len());
    image.extend(end);
    image
}

/// Nobody knows this firmware, so whoever measures it answers for it.
fn firmware_sha256() -> String {
    Part::of(&firmware()).sha256
}

/// A PE32+ image with two sections in the wrong order and bytes behind them that no section holds.
fn kernel() -> Vec<u8> {
    let mut image = pattern(0x1900);
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"MZ");
    put(0x3c, &0x40_u32.to_le_bytes());
    put(0x40, b"PE\0\0");
    put(0x46, &2_u16.to_le_bytes());
    put(0x54, &160_u16.to_le_bytes());
    put(0x58, &0x20b_u16.to_le_bytes());
    put(0x58 + 60, &0x400_u32.to_le_bytes());
    put(0x58 + 108, &6_u32.to_le_bytes());
    put(0x58 + 144, &[0; 8]);
    for (at, length, start) in [(0xf8, 0x1000_u32, 0x800_u32), (0x120, 0x400, 0x400)] {
        put(at + 16, &length.to_le_bytes());
        put(at + 20, &start.to_le_bytes());
    }
    image
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn word<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}"))
}

#[test]
fn sev_snp_measure_computes_the_same_launch_digests() {
    let scene = Scene::new();
    let (mut equal, mut cases, mut different) = (0, 0, Vec::new());
    let line = command_line("sev-snp".parse().unwrap(), "hardware".parse().unwrap());
    for cpu in CPUS {
        for vcpus in ["1", "2", "3", "4"] {
            let (status, ours) = scene.measure(&["--backend", "snp", "--cpu", cpu, "--vcpus", vcpus]);
            assert_eq!((status, word(&ours, "command_line")), (0, line.as_str()), "{ours}");
            cases += 1;
            let theirs = scene.sev_snp_measure(cpu, vcpus, &line);
            if word(&ours, "measurement") == theirs {
                equal += 1;
            } else {
                different.push(format!("{cpu} x {vcpus}: {theirs}"));
            }
        }
    }
    println!("sev-snp-measure and vouchsafe measure agree: {equal} of {cases}");
    assert_eq!((equal, cases), (28, 28), "{different:?}");
    // Control: what is measured matters to both, so equal digests are no accident.
    let (_, ours) = scene.measure(&["--backend", "snp"]);
    let (_, rehearsed) = scene.measure(&["--backend", "sim-vm"]);
    assert_ne!(word(&ours, "measurement"), scene.sev_snp_measure("EPYC-v4", "1", &format!("{line} debug")));
    assert_ne!(word(&ours, "measurement"), word(&rehearsed, "measurement"));
    let simulated = command_line("sev-snp".parse().unwrap(), "simulation".parse().unwrap());
    assert_eq!(word(&rehearsed, "measurement"), scene.sev_snp_measure("EPYC-v4", "1", &simulated));
}

#[test]
fn the_kernel_hash_table_is_the_one_that_the_other_tool_measures() {
    let scene = Scene::new();
    let script = "
import sys
from sevsnpmeasure.sev_hashes import SevHashes
sys.stdout.write(bytes(SevHashes(*sys.argv[1:]).construct_table()).hex())";
    let theirs = python(script, &[&scene.image("kernel"), &scene.image("initrd"), "quiet panic=-1"]);
    let ours = KernelHashes::compute(&kernel(), &pattern(70_000), "quiet panic=-1").unwrap();
    assert_eq!(hex::encode(ours.table()), text(&theirs));
}

#[test]
fn a_second_implementation_computes_the_same_tdx_values() {
    let scene = Scene::new();
    let (firmware, kernel, initrd) = (scene.image("firmware.fd"), scene.image("kernel"), scene.image("initrd"));
    let (status, ours) = scene.measure(&["--backend", "tdx", "--firmware", &firmware]);
    assert_eq!(status, 0, "{ours}");
    let theirs = reference(&firmware, &kernel, &initrd, word(&ours, "command_line"));
    assert_eq!(ours["mr_td"], theirs["mr_td"]);
    assert_eq!((&ours["rtmr"][1], &ours["rtmr"][2]), (&theirs["rtmr1"], &theirs["rtmr2"]));
    // RTMR0 is nobody's to compute: it is told as missing, and the policy's line stays open.
    assert!(ours["rtmr"][0].is_null() && word(&ours, "policy").contains("# rtmr0 = "), "{ours}");
    let other = reference(&firmware, &kernel, &initrd, "quiet");
    assert_ne!(other["rtmr2"], theirs["rtmr2"], "control: the command line matters");
    assert_eq!(other["rtmr1"], theirs["rtmr1"]);
}

/// The image that `cargo xtask image` built, where there is one: a real firmware and a kernel that its distributor signed.
#[test]
fn the_built_image_measures_alike_and_its_kernels_signature_holds_our_authenticode_digest() {
    let Some(image) = image("the built image measures alike") else { return };
    let at = |name: &str| image.join(name).to_str().unwrap().to_owned();
    let (firmware, kernel, initrd) = (at("firmware.fd"), at("kernel"), at("initrd"));
    let folder = image.to_str().unwrap();
    let (status, ours) = vouchsafe_json(&["measure", "--backend", "tdx", "--image", folder, "--firmware", &firmware]);
    assert_eq!(status, 0, "{ours}");
    let theirs = reference(&firmware, &kernel, &initrd, word(&ours, "command_line"));
    assert_eq!(ours["mr_td"], theirs["mr_td"]);
    assert_eq!((&ours["rtmr"][1], &ours["rtmr"][2]), (&theirs["rtmr1"], &theirs["rtmr2"]));
    assert_eq!(theirs["signed"], true, "the kernel's own signature is over the digest that this procedure gives");
}

fn reference(firmware: &str, kernel: &str, initrd: &str, command_line: &str) -> Value {
    let script = fs::read_to_string(workspace().join("tests/reference/tdx.py")).unwrap();
    serde_json::from_str(&text(&python(&script, &[firmware, kernel, initrd, command_line]))).unwrap()
}

/// One of the P-384 keys that the `sev` crate's tests use, readable by its owner alone.
fn key(scene: &Scene, name: &str) -> String {
    let path = scene.at(name);
    fs::copy(sev_samples().join(name), &path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

#[test]
fn an_id_block_is_the_one_that_the_other_tool_makes() {
    let scene = Scene::new();
    let (id, author, out) = (key(&scene, "test_id_key.pem"), key(&scene, "test_auth_key.pem"), scene.at("identity"));
    let (image, sha256) = (scene.at("image"), firmware_sha256());
    let (status, ours) = vouchsafe_json(&[
        "measure",
        "id-block",
        "--image",
        &image,
        "--firmware-sha256",
        &sha256,
        "--key",
        &id,
        "--author-key",
        &author,
        "--out-dir",
        &out,
    ]);
    assert_eq!(status, 0, "{ours}");
    let (block, auth) = read_identity(Path::new(&out));
    assert_eq!(auth.verify(&block), Ok(()));
    let (_, measured) = scene.measure(&["--backend", "snp"]);
    assert_eq!(hex::encode(block.launch_digest), word(&measured, "measurement"));

    let digest = STANDARD.encode(block.launch_digest);
    let theirs = text(&python(
        "import sys; from sevsnpmeasure.id_block import main; sys.exit(main())",
        &["--measurement", &digest, "--idkey", &id, "--authorkey", &author],
    ));
    let field = |name: &str| {
        let rest = theirs.split(name).nth(1).unwrap_or_else(|| panic!("no {name} in {theirs}"));
        rest.split([',', '\n']).next().unwrap().trim().to_owned()
    };
    assert_eq!(IdBlock::from_base64(&field("id-block=")), Ok(block));
    // Their signatures are other ones, as ECDSA makes them, and verify here; all else is the same.
    let other = IdAuth::from_base64(&field("id-auth=")).unwrap();
    assert_eq!(other.verify(&block), Ok(()));
    assert_eq!((other.id.key, other.author.unwrap().key), (auth.id.key, auth.author.unwrap().key));
    assert_eq!(STANDARD.encode(hex::decode(word(&ours, "id_key_digest")).unwrap()), field("id_key_hash:"));
    assert_eq!(STANDARD.encode(hex::decode(word(&ours, "author_key_digest")).unwrap()), field("author_key:"));
}

fn read_identity(dir: &Path) -> (IdBlock, IdAuth) {
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
    (IdBlock::from_base64(&read("id-block")).unwrap(), IdAuth::from_base64(&read("id-auth")).unwrap())
}

#[test]
fn an_id_block_without_an_author_names_what_it_was_told_and_nothing_is_overwritten() {
    let scene = Scene::new();
    let (id, out, image) = (key(&scene, "test_id_key.pem"), scene.at("identity"), scene.at("image"));
    let own =
        ["--svn", "7", "--family-id", &"ab".repeat(16), "--image-id", &"cd".repeat(16), "--guest-policy", "20000"];
    let sha256 = firmware_sha256();
    let base = ["measure", "id-block", "--image", &image, "--firmware-sha256", &sha256, "--key", &id];
    let args = [&base[..], &["--out-dir", &out], &own].concat();
    assert_eq!(vouchsafe_json(&args).0, 0);
    let (block, auth) = read_identity(Path::new(&out));
    assert_eq!((block.guest_svn, block.family_id, block.image_id, block.policy), (7, [0xab; 16], [0xcd; 16], 0x20000));
    assert!(auth.author.is_none() && auth.verify(&block).is_ok());
    let refused = |args: &[&str]| {
        let (status, answer) = vouchsafe_json(args);
        (status, word(&answer, "code").to_owned())
    };
    assert_eq!(refused(&args), (9, "FILE".to_owned()), "it exists already");
    fs::set_permissions(&id, fs::Permissions::from_mode(0o644)).unwrap();
    let again = ["measure", "id-block", "--image", &image, "--key", &id, "--out-dir", &scene.at("other")];
    assert_eq!(refused(&again), (9, "KEY_FILE_MODE".to_owned()));
    fs::write(&id, "-----BEGIN EC PRIVATE KEY-----\n").unwrap();
    assert_eq!(refused(&again), (9, "KEY_FILE".to_owned()));
    assert!(!Path::new(&scene.at("other")).exists());
}

#[test]
fn a_policy_from_a_build_names_what_the_build_measures() {
    let scene = Scene::new();
    let (config, out, image) = (scene.at("config.toml"), scene.at("policy.toml"), scene.at("image"));
    fs::write(&config, "a configuration").unwrap();
    let platform = "0d".repeat(64);
    let base = ["policy", "from-build", "--image", &image, "--config", &config, "--mode", "hardware", "--any-model"];
    let unknown = vouchsafe_json(&[&base[..], &["--platform", &platform, "--out", &out]].concat());
    assert_eq!((unknown.0, word(&unknown.1, "code")), (9, "FIRMWARE_UNKNOWN"), "{}", unknown.1);
    let sha256 = firmware_sha256();
    let base = [&base[..], &["--firmware-sha256", &sha256]].concat();
    let snp =
        ["--platform", &platform, "--cpu", "EPYC-Milan", "--cpu", "EPYC-Milan-v2", "--vcpus", "1", "--vcpus", "2"];
    let (status, answer) = vouchsafe_json(&[&base[..], &snp, &["--out", &out]].concat());
    assert_eq!(status, 0, "{answer}");
    let policy: toml::Value = toml::from_str(&fs::read_to_string(&out).unwrap()).unwrap();
    let named: Vec<_> = policy["sev-snp"]["measurements"].as_array().unwrap().iter().collect();
    // Both models have one signature, so two numbers of processors are two measurements.
    assert_eq!(named.len(), 2, "{named:?}");
    for vcpus in ["1", "2"] {
        let (_, measured) = scene.measure(&["--backend", "snp", "--cpu", "EPYC-Milan", "--vcpus", vcpus]);
        assert!(named.iter().any(|value| value.as_str() == measured["measurement"].as_str()), "{vcpus}");
    }
    let digest = hex::encode(vouchsafe_attestation::lp::sha256(b"a configuration"));
    assert_eq!(policy["sev-snp"]["config_digests"][0].as_str(), Some(digest.as_str()));
    assert!(vouchsafe(&["policy", "show", &out]).status.success());

    let tdx = ["--tee", "tdx", "--platform", "any", "--firmware", &scene.image("firmware.fd")];
    let out = scene.at("tdx.toml");
    let (status, answer) = vouchsafe_json(&[&base[..], &tdx, &["--out", &out]].concat());
    assert_eq!((status, word(&answer, "code")), (1, "USAGE"), "RTMR0 is never left out: {answer}");
    let recorded = "5a".repeat(48);
    let (status, answer) = vouchsafe_json(&[&base[..], &tdx, &["--rtmr0", &recorded, "--out", &out]].concat());
    assert_eq!(status, 0, "{answer}");
    let policy: toml::Value = toml::from_str(&fs::read_to_string(&out).unwrap()).unwrap();
    let (_, measured) =
        scene.measure(&["--backend", "tdx", "--firmware", &scene.image("firmware.fd"), "--rtmr0", &recorded]);
    for (number, field) in ["rtmr0", "rtmr1", "rtmr2", "rtmr3"].iter().enumerate() {
        assert_eq!(policy["tdx"][field][0].as_str(), measured["rtmr"][number].as_str(), "{field}");
    }
}

#[test]
fn what_cannot_be_measured_has_a_code() {
    let scene = Scene::new();
    let image = scene.at("image");
    let generic = {
        let end = fs::read(sev_samples().join("ovmf_OvmfX64_suffix.bin")).unwrap();
        let mut whole = pattern((4 << 20) - end.len());
        whole.extend(end);
        let path = scene.at("generic.fd");
        fs::write(&path, whole).unwrap();
        path
    };
    let (config, rtmr0) = (scene.at("config.toml"), "1".repeat(95));
    fs::write(&config, "").unwrap();
    let (sha256, other, short) = (firmware_sha256(), "0".repeat(64), "0".repeat(63));
    let named =
        |sha256: &str| vouchsafe_json(&["measure", "--backend", "snp", "--image", &image, "--firmware-sha256", sha256]);
    assert_eq!(named(&sha256).0, 0, "control");
    for (sha256, status, code) in [(&other, 9, "FIRMWARE_UNKNOWN"), (&short, 1, "USAGE")] {
        let answer = named(sha256);
        assert_eq!((answer.0, word(&answer.1, "code")), (status, code), "{}", answer.1);
    }
    let cases: [(&[&str], i32, &str); 15] = [
        // What is inside this one is not known to refuse anything.
        (&["--backend", "snp", "--image", &image], 9, "FIRMWARE_UNKNOWN"),
        (&["--backend", "sim-process", "--firmware-sha256", &sha256], 1, "USAGE"),
        (&["--backend", "snp"], 1, "USAGE"),
        (&["--backend", "snp", "--image", "no-such-folder"], 9, "IMAGE_FILE"),
        (&["--backend", "snp", "--image", &image, "--firmware", "/nonexistent"], 9, "MEASUREMENT_INPUTS"),
        (&["--backend", "snp", "--image", &image, "--firmware", &config], 9, "FIRMWARE_FORMAT"),
        // It advertises no place for hashes, so a host could give it any kernel.
        (&["--backend", "snp", "--image", &image, "--firmware", &generic], 9, "FIRMWARE_LACKS"),
        (&["--backend", "snp", "--image", &image, "--vcpus", "0"], 1, "MEASUREMENT_NO_PROCESSOR"),
        (&["--backend", "snp", "--image", &image, "--vcpus", "289"], 1, "MEASUREMENT_PROCESSORS"),
        (&["--backend", "snp", "--image", &image, "--rtmr0", &rtmr0], 1, "USAGE"),
        (&["--backend", "snp", "--image", &image, "--tee", "tdx"], 1, "BACKEND_TEE"),
        (&["--backend", "sim-vm", "--image", &image, "--tee", "tdx"], 1, "BACKEND_TEE"),
        (&["--backend", "tdx", "--image", &image], 1, "USAGE"),
        (&["--backend", "tdx", "--image", &image, "--firmware", &generic, "--rtmr0", &rtmr0], 1, "USAGE"),
        (&["--backend", "sim-process", "--image", &image], 1, "USAGE"),
    ];
    for (args, status, code) in cases {
        let answer = vouchsafe_json(&[&["measure"], args].concat());
        assert_eq!((answer.0, word(&answer.1, "code")), (status, code), "{args:?}: {}", answer.1);
    }
    assert_eq!(vouchsafe(&["measure", "--backend", "snp", "--image", &image, "--cpu", "epyc"]).status.code(), Some(1));
    // One byte of the initrd is another image than the manifest's.
    let mut bytes = pattern(70_000);
    bytes[0] ^= 1;
    fs::write(scene.image("initrd"), bytes).unwrap();
    let (status, answer) = scene.measure(&["--backend", "snp"]);
    assert_eq!((status, word(&answer, "code")), (6, "IMAGE_MISMATCH"));
}
