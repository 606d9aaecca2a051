//! The proxy's log: every change inside it shows, a torn end is cut and recorded, one writer at a time.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{fs, path::Path};

use serde_json::json;
use vouchsafe_attestation::UnixTime;
use vouchsafe_customer::{ProxyLog, verify_log};

const NOW: UnixTime = UnixTime(1_772_323_200);

fn written(path: &Path, lines: u32) -> [u8; 32] {
    let mut log = ProxyLog::open(path, NOW).unwrap();
    for n in 0..lines {
        log.append(NOW, json!({"event": "verdict", "n": n})).unwrap();
    }
    log.head()
}

#[test]
fn a_log_goes_on_where_it_ended() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("proxy.log");
    let head = written(&path, 3);
    assert_eq!(verify_log(&path).unwrap().head, head);
    let head = written(&path, 2);
    let summary = verify_log(&path).unwrap();
    assert_eq!((summary.lines, summary.head, summary.torn_bytes), (5, head, 0));
}

#[test]
fn the_head_of_an_empty_log_is_zero() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("proxy.log");
    assert_eq!(written(&path, 0), [0; 32]);
    assert_eq!(verify_log(&path).unwrap().head, [0; 32]);
}

#[test]
fn every_change_inside_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("proxy.log");
    written(&path, 4);
    let genuine = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = genuine.lines().collect();
    let swapped = [lines[0], lines[2], lines[1], lines[3]];
    let removed = [lines[0], lines[2], lines[3]];
    let repeated = [lines[0], lines[0], lines[1], lines[2]];
    let edited = lines[1].replace("\"n\":1", "\"n\":7");
    let edited = [lines[0], &edited, lines[2], lines[3]];
    let garbage = [lines[0], "garbage", lines[1], lines[2]];
    let headless = [lines[1], lines[2], lines[3]];
    for changed in [&swapped[..], &removed, &repeated, &edited, &garbage, &headless] {
        fs::write(&path, changed.join("\n") + "\n").unwrap();
        let error = verify_log(&path).unwrap_err();
        assert_eq!((error.code(), error.exit()), ("LOG_BROKEN", 9), "{changed:?}");
        assert_eq!(ProxyLog::open(&path, NOW).err().map(|e| e.code()), Some("LOG_BROKEN"));
    }
    fs::write(&path, &genuine).unwrap();
    assert_eq!(verify_log(&path).unwrap().lines, 4);
}

#[test]
fn a_torn_last_line_is_cut_and_the_cut_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("proxy.log");
    written(&path, 2);
    let mut bytes = fs::read(&path).unwrap();
    bytes.truncate(bytes.len() - 5);
    fs::write(&path, &bytes).unwrap();
    assert_ne!(verify_log(&path).unwrap().torn_bytes, 0);
    drop(ProxyLog::open(&path, NOW).unwrap());
    let summary = verify_log(&path).unwrap();
    assert_eq!((summary.lines, summary.torn_bytes), (2, 0));
    assert!(fs::read_to_string(&path).unwrap().lines().last().unwrap().contains("\"event\":\"cut\""));
}

#[test]
fn one_writer_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("proxy.log");
    let first = ProxyLog::open(&path, NOW).unwrap();
    assert_eq!(ProxyLog::open(&path, NOW).err().map(|e| e.code()), Some("LOG_LOCKED"));
    drop(first);
    assert!(ProxyLog::open(&path, NOW).is_ok());
}

#[test]
fn an_endless_file_is_refused_without_reading_on_for_ever() {
    let endless = Path::new("/dev/full");
    if !endless.exists() {
        println!("NOT RUN: an_endless_file_is_refused_without_reading_on_for_ever: no /dev/full");
        return;
    }
    assert_eq!(ProxyLog::open(endless, NOW).err().map(|e| e.code()), Some("LOG_BROKEN"));
}
