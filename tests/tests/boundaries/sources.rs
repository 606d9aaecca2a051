//! Turns the written sources into rules of style that carry a promise.
//! It does not replace clippy; clippy.toml forbids single functions.

use crate::tree::{Source, none, sources};

const MAX_LINES: usize = 600;

#[test]
fn no_file_is_longer_than_600_lines() {
    let broken: Vec<_> = sources(&["rs", "py", "sh"])
        .iter()
        .map(|source| (source.text.lines().count(), &source.path))
        .filter(|(lines, _)| *lines > MAX_LINES)
        .map(|(lines, path)| format!("{path}: {lines} lines"))
        .collect();
    none("files are short", &broken);
}

#[test]
fn every_module_says_what_it_turns_into_what_and_what_it_does_not_establish() {
    let broken: Vec<_> = sources(&["rs"])
        .iter()
        .filter(|source| !source.shipped().is_empty())
        .filter(|source| !source.text.lines().take(2).all(|line| line.starts_with("//! ")))
        .map(|source| source.path.clone())
        .collect();
    none("two `//!` lines stand first", &broken);
}

#[test]
fn the_verifier_touches_no_file_no_clock_no_network_and_no_environment() {
    const IMPURE: [&str; 10] = [
        "std::fs",
        "std::net",
        "std::env",
        "std::process",
        "std::thread",
        "std::io::std",
        "SystemTime",
        "Instant::now",
        "println!",
        "async fn",
    ];
    let mut broken = Vec::new();
    let all = sources(&["rs"]);
    for source in all.iter().filter(|source| source.path.starts_with("attestation/src/")) {
        refuse(source, &IMPURE, &mut broken);
    }
    none("attestation is pure", &broken);
    let host: String = all.iter().filter(|source| source.path.starts_with("host/")).map(Source::shipped).collect();
    assert!(host.contains("std::fs"), "control: the host's crates do use files");
}

#[test]
fn no_program_takes_a_decision_from_the_environment() {
    let mut broken = Vec::new();
    for source in sources(&["rs"]).iter().filter(|source| !source.path.starts_with("xtask/")) {
        refuse(source, &["env::var(", "env::var_os(", "option_env!"], &mut broken);
    }
    none("settings come from arguments and files", &broken);
}

#[test]
fn nothing_is_switched_by_a_feature_and_nothing_is_called_mock() {
    let mut broken = Vec::new();
    for source in &sources(&["rs"]) {
        refuse(source, &["cfg(feature", "cfg!(feature", "cfg!(test)", "mock", "Mock", "fn validate"], &mut broken);
    }
    none("one verifier, one set of words", &broken);
}

#[test]
fn a_verdict_is_made_in_one_place_and_copied_nowhere() {
    let all = sources(&["rs"]);
    let mut broken = Vec::new();
    for verdict in ["Authentic", "Appraised", "KeyGrant", "Pinned"] {
        let (path, attributes) = declaration(&all, verdict);
        if !attributes.contains("must_use") {
            broken.push(format!("{verdict} in {path} is not #[must_use]"));
        }
        for derived in ["Clone", "Copy", "Serialize", "Deserialize", "Default", "PartialEq"] {
            if attributes.contains(derived) {
                broken.push(format!("{verdict} in {path} derives {derived}"));
            }
        }
    }
    for secret in ["ModelKey", "Plaintext", "TeeKey", "WrapSecret"] {
        let (path, attributes) = declaration(&all, secret);
        for derived in ["Clone", "Copy", "Debug", "Serialize", "Deserialize", "PartialEq"] {
            if attributes.contains(derived) {
                broken.push(format!("{secret} in {path} derives {derived}"));
            }
        }
    }
    none("verdicts and secrets", &broken);
}

#[test]
fn no_verdict_is_a_bool() {
    let mut broken = Vec::new();
    for source in &sources(&["rs"]) {
        for (at, line) in source.code() {
            for name in ["valid", "is_valid", "ok", "is_ok", "matched", "verified", "authentic", "trusted"] {
                let field = format!("{name}: bool");
                let bare = line.find(&field).is_some_and(|start| {
                    start == 0
                        || !line.as_bytes()[start - 1].is_ascii_alphanumeric() && line.as_bytes()[start - 1] != b'_'
                });
                if bare || line.contains(&format!("fn {name}(")) && line.contains("-> bool") {
                    broken.push(format!("{}:{at}: {line}", source.path));
                }
            }
        }
    }
    none("a verdict is a type", &broken);
}

fn refuse(source: &Source, words: &[&str], broken: &mut Vec<String>) {
    for (at, line) in source.code() {
        if words.iter().any(|word| line.contains(word)) {
            broken.push(format!("{}:{at}: {line}", source.path));
        }
    }
}

/// The file of `pub struct NAME` and the attribute lines right above it.
fn declaration(all: &[Source], name: &str) -> (String, String) {
    for source in all {
        let lines: Vec<&str> = source.shipped().lines().collect();
        let found = lines.iter().position(|line| {
            line.strip_prefix("pub struct ")
                .and_then(|rest| rest.strip_prefix(name))
                .is_some_and(|rest| rest.starts_with([' ', '(', ';', '{', '<']))
        });
        if let Some(at) = found {
            let attributes = lines[..at].iter().rev().take_while(|line| line.starts_with("#["));
            return (source.path.clone(), attributes.copied().collect());
        }
    }
    panic!("there is no `pub struct {name}`");
}
