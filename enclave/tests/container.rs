//! Turns starts of the shipped program as a container's into its last line and exit status, under environments that a host chose.
//! It shows the refusals: what comes after them needs a confidential machine.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::path::Path;
use std::process::{Command, Stdio};

const SNP: &str = "vouchsafe.tee=sev-snp";
const TDX: &str = "vouchsafe.tee=tdx";
const HARDWARE: &str = "vouchsafe.mode=hardware";

/// Exit status and the lines on standard output, of a program with these words and variables and nothing on standard input.
fn run(words: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_vouchsafe-enclave"))
        .args(words)
        .env_clear()
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

fn refused(words: &[&str], environment: &[(&str, &str)], exit: i32, code: &str) {
    let (status, lines) = run(words, environment);
    assert_eq!(status, Some(exit), "{words:?} {environment:?}: {lines}");
    assert_eq!(lines.lines().count(), 1, "{words:?}: {lines}");
    assert!(
        lines.contains("\"event\":\"fatal\"") && lines.contains(&format!("\"code\":\"{code}\"")),
        "{words:?}: {lines}"
    );
}

/// What a runtime sets, and what a host would like to.
const VARIABLES: [(&str, &str); 9] = [
    ("PATH", "/usr/bin"),
    ("HOSTNAME", "enclave-snp-0"),
    ("KUBERNETES_SERVICE_HOST", "10.0.0.1"),
    ("RUST_LOG", "trace"),
    ("RUST_BACKTRACE", "full"),
    ("LD_BIND_NOW", "1"),
    ("GLIBC_TUNABLES", "glibc.malloc.perturb=0"),
    ("ORT_DYLIB_PATH", "/tmp/other.so"),
    ("vouchsafe.mode", "simulation"),
];

fn has_a_device() -> bool {
    ["/dev/sev-guest", "/dev/tdx_guest", "/sys/kernel/config/tsm/report"].iter().any(|path| Path::new(path).exists())
}

#[test]
fn without_a_device_there_is_no_tee_whatever_the_environment_says() {
    if has_a_device() {
        println!("NOT RUN: without_a_device_there_is_no_tee: this machine has one");
        return;
    }
    for tee in [SNP, TDX] {
        refused(&["container", tee, HARDWARE], &[], 7, "NO_TEE");
        refused(&["container", tee, HARDWARE], &VARIABLES, 7, "NO_TEE");
    }
}

#[test]
fn the_environment_is_thrown_away_in_a_container_only() {
    refused(&[SNP, HARDWARE], &VARIABLES, 1, "ENVIRONMENT_NOT_EMPTY");
    refused(&[SNP, HARDWARE, "container"], &VARIABLES, 1, "ENVIRONMENT_NOT_EMPTY");
    // The words arrive at the second start as they were given to the first.
    refused(&["container", SNP, "vouchsafe.mode=other"], &VARIABLES, 1, "USAGE");
}

#[test]
fn it_starts_itself_anew_once() {
    use std::os::unix::process::CommandExt as _;
    // A host that gives the program the name of its second start, and variables all the same.
    let output = Command::new(env!("CARGO_BIN_EXE_vouchsafe-enclave"))
        .arg0("vouchsafe-enclave: without environment")
        .args(["container", SNP, HARDWARE])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stdout).unwrap().contains("ENVIRONMENT_NOT_EMPTY"));
}

#[test]
fn a_container_does_not_simulate_and_takes_exactly_its_words() {
    let simulation = "vouchsafe.mode=simulation";
    for words in [
        &["container"][..],
        &["container", SNP],
        &["container", HARDWARE],
        &["container", SNP, simulation],
        &["container", TDX, simulation],
        &["container", SNP, TDX, HARDWARE],
        &["container", SNP, HARDWARE, "container"],
        &["container", SNP, HARDWARE, "--init-data=/etc/passwd"],
        &["container", "", ""],
    ] {
        refused(words, &[], 1, "USAGE");
        refused(words, &VARIABLES, 1, "USAGE");
    }
}
