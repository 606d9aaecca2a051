//! Reads lock files and manifests that are not what they should be: each is refused with its code.
//! It does not cover their digests; see `whole.rs`.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use vouchsafe_image::{Lock, Manifest};

#[test]
fn a_lock_is_exactly_of_the_described_form() {
    let good = Lock::committed().unwrap().to_text();
    assert_eq!(Lock::parse(&good).unwrap(), Lock::committed().unwrap());
    let change = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        good.replacen(from, to, 1)
    };
    let without_last = good[..good.rfind("\n[[package]]").unwrap()].to_owned();
    let last = &good[good.rfind("\n[[package]]").unwrap()..];
    let wrong = [
        String::new(),
        "not toml [".to_owned(),
        change("version = 1", "version = 2"),
        change("version = 1\n", ""),
        change("mtime = ", "mtime = -"),
        change("mtime = ", "extra = 1\nmtime = "),
        change("suite = ", "other = \"x\"\nsuite = "),
        change("name = \"libc6\"", "name = \"-o\""),
        change("name = \"libc6\"", "name = \"libc6=1 evil\""),
        change("name = \"libc6\"", "name = \"../libc6\""),
        change("name = \"libc6\"", "name = \"Libc6\""),
        change("name = \"libc6\"", "name = \"dash\""),
        change("suite = \"sid\"", "suite = \"sid\\nURIs: x\""),
        change("version = \"", "version = \"-1"),
        change("version = \"", "version = \" "),
        change("architecture = \"all\"", "architecture = \"arm64\""),
        change("bytes = ", "bytes = 0 #"),
        change("bytes = ", "bytes = 99999999999 #"),
        change("bytes = ", "bytes = -1 #"),
        change("sha256 = \"", "sha256 = \"A"),
        change("-cloud-amd64\"", "-amd64\""),
        without_last.clone(),
        format!("{good}{last}"),
        format!("{good}#{}", "x".repeat(70_000)),
    ];
    for text in wrong {
        let error = Lock::parse(&text).unwrap_err();
        assert_eq!((error.code(), error.exit()), ("LOCK_INVALID", 9), "{text}");
        assert!(error.advice().contains("vouchsafe image lock"));
    }
    assert!(Lock::parse(&format!("{without_last}{last}")).is_ok(), "control");
}

const DIGEST: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn manifest() -> String {
    let part = format!(r#"{{"bytes":0,"sha256":"{DIGEST}"}}"#);
    format!(
        r#"{{"version":1,"mtime":0,"kernel":{part},"initrd":{part},"firmware":{part},"firmware_from":"{DIGEST}","kernel_release":"6",
        "compressor":"zstd","archive":{part},"enclave_sha256":"{DIGEST}","onnxruntime_sha256":"{DIGEST}",
        "contents":[{{"path":"a","bytes":0,"sha256":"{DIGEST}"}},{{"path":"b","bytes":0,"sha256":"{DIGEST}"}}],
        "packages":[{{"name":"libc6","version":"1","suite":"sid","architecture":"all","bytes":1,"sha256":"{DIGEST}"}}]}}"#
    )
}

#[test]
fn a_manifest_is_exactly_of_the_described_form() {
    let good = manifest();
    Manifest::parse(good.as_bytes()).unwrap();
    let change = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        good.replacen(from, to, 1)
    };
    let wrong = [
        String::new(),
        "[]".to_owned(),
        "null".to_owned(),
        change("\"version\":1", "\"version\":2"),
        change("\"version\":1,", ""),
        change("\"version\":1", "\"version\":1,\"version\":1"),
        change("\"mtime\":0", "\"mtime\":0,\"extra\":0"),
        change("firmware_from", "firmware_of"),
        change("\"bytes\":0", "\"bytes\":-1"),
        change("\"bytes\":0", "\"bytes\":0,\"path\":\"x\""),
        change(DIGEST, &DIGEST.to_uppercase()),
        change(DIGEST, &DIGEST[1..]),
        change("\"path\":\"b\"", "\"path\":\"a\""),
        change("\"path\":\"a\"", "\"path\":\"c\""),
        change("\"kernel_release\":\"6\"", "\"kernel_release\":6"),
        format!("{good} {good}"),
        format!("{good}{}", " ".repeat(1 << 20)),
    ];
    for text in wrong {
        let error = Manifest::parse(text.as_bytes()).unwrap_err();
        assert_eq!((error.code(), error.exit()), ("IMAGE_MANIFEST", 6), "{text}");
    }
    for cut in 0..good.len() {
        assert!(Manifest::parse(&good.as_bytes()[..cut]).is_err(), "{cut}");
    }
}

#[test]
fn a_folder_without_a_manifest_or_with_a_pipe_for_one_is_told_and_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(Manifest::read(dir.path()).unwrap_err().code(), "IMAGE_FILE");
    let pipe = dir.path().join("image.json");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    assert_eq!(Manifest::read(dir.path()).unwrap_err().code(), "IMAGE_FILE");
}
