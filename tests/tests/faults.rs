//! The fault lab as a tester runs it: `vouchsafe faults`, every name once, against the shipped programs.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    process::{Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde_json::Value;
use vouchsafe_tests::{
    bin_dir,
    processes::{descendants, wait_gone},
    vouchsafe, vouchsafe_json, workspace,
};

/// SHA-256 of a shipped program, as the lab reports the program behind each refusing process.
fn shipped(name: &str) -> String {
    hex::encode(vouchsafe_attestation::lp::sha256(&fs::read(bin_dir().join(name)).unwrap()))
}

/// One lab at a time: each fills two processors by itself.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}"))
}

#[test]
fn every_fault_is_refused_by_a_shipped_program_with_its_code_and_every_control_succeeds() {
    let _alone = alone();
    let (exit, json) = vouchsafe_json(&["faults"]);
    let rows = json["faults"].as_array().expect("a list of faults");
    let (mut names, mut wrong, mut closed) = (BTreeSet::new(), Vec::new(), 0);
    let programs: BTreeMap<&str, String> =
        [("enclave", "vouchsafe-enclave"), ("broker", "vouchsafe"), ("customer", "vouchsafe")]
            .map(|(role, program)| (role, shipped(program)))
            .into();
    let mut seen: BTreeMap<(String, String), usize> = BTreeMap::new();
    for row in rows {
        names.insert(text(row, "name"));
        *seen.entry((text(row, "tee").to_owned(), text(row, "refused_by").to_owned())).or_default() += 1;
        if row["code"] != row["expected"] || row["control"] != "accepted" {
            wrong.push(row);
            continue;
        }
        assert!(row["pid"].as_u64().unwrap() > 1, "{row}");
        // One byte more in the program is a fault of its own; the broker refuses it, which is the shipped one.
        match row["program_sha256"].as_str() {
            Some(digest) => assert_eq!(digest, programs[text(row, "refused_by")], "{row}"),
            None => closed += 1,
        }
    }
    assert!(wrong.is_empty(), "{} of {}: {wrong:#?}", wrong.len(), rows.len());
    assert_eq!(exit, 0);
    assert!(names.len() >= 60, "{} names", names.len());
    println!("{} faults by name, {} refusals: {seen:?}", names.len(), rows.len());
    for tee in ["sev-snp", "tdx"] {
        for role in ["enclave", "broker", "customer"] {
            let count = seen.get(&(tee.to_owned(), role.to_owned())).copied().unwrap_or(0);
            assert!(count >= 5, "{tee}: the {role} refused {count}");
        }
    }
    assert_eq!(json["totals"]["names"].as_u64().unwrap() as usize, names.len());
    if closed > 0 {
        println!("NOT RUN: program of {closed} processes: /proc is closed to this user");
    }
    let listed: BTreeSet<String> = listed().iter().map(|f| text(f, "name").to_owned()).collect();
    assert_eq!(names, listed.iter().map(String::as_str).collect(), "what is listed is what is played");
}

fn listed() -> Vec<Value> {
    let (exit, json) = vouchsafe_json(&["faults", "--list"]);
    assert_eq!(exit, 0);
    json["faults"].as_array().expect("a list of faults").clone()
}

/// No fault is unknown to the lab or to the processor, and none is made that nobody plays.
#[test]
fn lab_and_simulator_know_the_same_faults() {
    let output = Command::new(bin_dir().join("vouchsafe-simulator")).args(["faults", "--json"]).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let made: BTreeSet<(String, String)> = printed
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .flat_map(|value| {
            value.as_array().cloned().or_else(|| value["faults"].as_array().cloned()).unwrap_or(vec![value])
        })
        .filter(|fault| fault["name"].is_string())
        .map(|fault| (text(&fault, "name").to_owned(), text(&fault, "tee").to_owned()))
        .collect();
    let played: BTreeSet<(String, String)> = listed()
        .iter()
        .filter(|fault| fault["made_by"] == "simulator")
        .map(|fault| (text(fault, "name").to_owned(), fault["tee"][0].as_str().unwrap().to_owned()))
        .collect();
    assert!(made.len() >= 60, "{printed}");
    assert_eq!(made, played);
}

#[test]
fn one_fault_can_be_played_alone_and_a_wrong_name_finds_its_neighbours() {
    let _alone = alone();
    let (exit, json) =
        vouchsafe_json(&["faults", "--only", "guest-debug", "--only", "attest-first", "--tee", "sev-snp"]);
    let rows: Vec<_> = json["faults"].as_array().unwrap().iter().map(|r| (text(r, "name"), text(r, "code"))).collect();
    let debug = ("guest-debug", "DEBUG_ALLOWED");
    assert_eq!(rows, [debug, debug, debug, ("attest-first", "ATTEST_FIRST")]);
    assert_eq!(exit, 0);

    for (words, near) in [
        (&["faults", "--only", "guest-debgu"][..], Some("guest-debug")),
        (&["faults", "--only", ""], None),
        (&["faults", "--only", "tdx-debug", "--tee", "sev-snp"], None),
        (&["faults", "--tee", "sgx"], None),
    ] {
        let output = vouchsafe(words);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{words:?}: {said}");
        assert!(near.is_none_or(|name| said.contains(name)), "{said}");
    }
}

/// Between launcher and processor: every `serve` gets a copy of the root, in which nobody names a fault.
const DEAF: &str = r#"#!/bin/sh
case "$1" in
serve)
    /bin/cp -r "$3" "$3.deaf.$$" && /bin/rm -f "$3.deaf.$$/fault" && exec "$0.real" serve --root "$3.deaf.$$" ;;
*) exec "$0.real" "$@" ;;
esac
"#;

/// Control of the whole lab: with a processor that makes no faults, nothing is refused, and the lab says so.
#[test]
fn a_lab_whose_faults_do_not_happen_fails() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    // The lab looks for the others beside its own program.
    fs::copy(bin_dir().join("vouchsafe"), at("vouchsafe")).unwrap();
    for name in ["vouchsafe-launch", "vouchsafe-enclave", "libonnxruntime.so"] {
        symlink(bin_dir().join(name), at(name)).unwrap();
    }
    symlink(bin_dir().join("vouchsafe-simulator"), at("vouchsafe-simulator.real")).unwrap();
    fs::write(at("vouchsafe-simulator"), DEAF).unwrap();
    fs::set_permissions(at("vouchsafe-simulator"), fs::Permissions::from_mode(0o755)).unwrap();

    let words = ["faults", "--only", "guest-debug", "--only", "attest-first", "--tee", "sev-snp", "--json"];
    let output = Command::new(at("vouchsafe")).args(words).stdin(Stdio::null()).output().unwrap();
    let json: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    let codes: Vec<_> = json["faults"].as_array().unwrap().iter().map(|row| text(row, "code")).collect();
    assert_eq!(codes, ["accepted", "accepted", "NO_TICKET", "ATTEST_FIRST"]);
    assert_eq!((output.status.code(), &json["accepted"]), (Some(10), &Value::Bool(false)));
    assert_eq!(json["code"], "FAULT_NOT_REFUSED");
}

#[test]
fn an_interrupted_lab_leaves_nobody_behind() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let mut lab = Command::new(bin_dir().join("vouchsafe"))
        .args(["faults", "--json"])
        .env("TMPDIR", dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let verified = |tee: &str| {
        let world = fs::read_dir(dir.path()).ok()?.flatten().next()?.path();
        world.join(tee).join("logs/vouchsafe-verify.log").exists().then_some(())
    };
    wait_for(|| verified("sev-snp").and(verified("tdx")));
    // Two brokers, launchers, simulators, enclaves; the lab may be between two of its own guests just now.
    let mut children = Vec::new();
    wait_for(|| {
        children = descendants(lab.id());
        (children.len() >= 8).then_some(())
    });
    assert!(Command::new("kill").args(["-INT", &lab.id().to_string()]).status().unwrap().success());
    assert_eq!(lab.wait().unwrap().code(), Some(130));
    wait_gone(&children);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "the folder of the lab is still there");
}

fn wait_for(mut done: impl FnMut() -> Option<()>) {
    for _ in 0..18_000 {
        if done().is_some() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("waited three minutes in vain");
}

/// The table of docs/faults.md is the list of the command, row by row.
#[test]
fn the_page_has_every_fault() {
    let page = fs::read_to_string(workspace().join("docs/faults.md")).unwrap();
    let rows: BTreeSet<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
    let wanted: Vec<String> = listed().iter().map(row).collect();
    let missing: Vec<&String> = wanted.iter().filter(|line| !rows.contains(line.as_str())).collect();
    let lines: BTreeSet<&str> = wanted.iter().map(String::as_str).collect();
    let extra: Vec<_> = rows.difference(&lines).collect();
    assert!(missing.is_empty() && extra.is_empty(), "docs/faults.md lacks {missing:#?} and has too much {extra:#?}");
}

fn row(fault: &Value) -> String {
    let tees: Vec<_> = fault["tee"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
    let refusals: Vec<_> = fault["refusals"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| format!("{} `{}` ({})", text(r, "refused_by"), text(r, "expected"), text(r, "place")))
        .collect();
    let (name, group, what) = (text(fault, "name"), text(fault, "group"), text(fault, "what"));
    format!("| `{name}` | {} | {group} | {what} | {} |", tees.join(", "), refusals.join("; "))
}
