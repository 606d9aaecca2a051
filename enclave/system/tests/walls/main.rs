//! Turns the walls around a runner into attempts to get through them, each by a runner of its own, made to misbehave.
//! It does not test what ONNX Runtime needs behind them; the runner's own tests do.
//!
//! The standard harness has several threads, and a process with several threads cannot fork. So this program is its own harness: every
//! case is this program once more, with one thread.

#![allow(clippy::unwrap_used, clippy::cast_sign_loss, reason = "a failed step is a failed test")]

mod attempts;
mod case;
mod life;
mod onnx;
mod raw;

use std::net::SocketAddr;
use std::process::{Command, ExitCode, Stdio};

use serde_json::Value;

/// What an attempt may aim at.
pub struct Scene {
    /// The gate's process number.
    pub gate: i32,
    /// Where something of the gate's stands.
    pub secret: usize,
    /// Somebody listens there.
    pub listener: SocketAddr,
}

/// Every case: its name, and whether it is run as an ordinary user.
const CASES: [(&str, &str, bool); 9] = [
    ("walls_of_root_hold_while_a_model_loads", "loading", false),
    ("walls_of_root_hold_while_a_model_serves", "serving", false),
    ("walls_of_an_ordinary_user_hold_while_a_model_loads", "loading", true),
    ("walls_of_an_ordinary_user_hold_while_a_model_serves", "serving", true),
    ("without_walls_the_same_attempts_work", "control", false),
    ("onnx_runtime_works_behind_the_walls", "onnx", false),
    ("onnx_runtime_works_behind_the_walls_of_an_ordinary_user", "onnx", true),
    ("runners_live_and_end_as_they_should", "life", false),
    ("runners_of_an_ordinary_user_live_and_end_as_they_should", "life", true),
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [first, case, user] = &words[..]
        && first == "case"
    {
        case::run(case, user == "ordinary");
        return ExitCode::SUCCESS;
    }
    if words.iter().any(|word| word == "--list") {
        return ExitCode::SUCCESS;
    }
    let filters: Vec<&String> = words.iter().filter(|word| !word.starts_with('-')).collect();
    let wanted = |name: &str| filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()));
    let (chosen, left): (Vec<_>, Vec<_>) = CASES.into_iter().partition(|(name, ..)| wanted(name));
    let root = rustix::process::geteuid().is_root();
    let mut failures = Vec::new();
    for &(name, case, ordinary) in &chosen {
        if !ordinary && !root {
            println!("NOT RUN: {name}: this is not run as root");
        } else if let Err(why) = judge(case, ordinary) {
            println!("test {name} ... FAILED");
            failures.push((name, why));
            continue;
        }
        println!("test {name} ... ok");
    }
    let (word, passed) = (if failures.is_empty() { "ok" } else { "FAILED" }, chosen.len() - failures.len());
    if !failures.is_empty() {
        println!("\nfailures:");
    }
    for (name, why) in &failures {
        println!("\n---- {name} stdout ----\n{why}");
    }
    println!(
        "\ntest result: {word}. {passed} passed; {} failed; 0 ignored; 0 measured; {} filtered out; finished",
        failures.len(),
        left.len()
    );
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs a case in a process of its own and looks at every line it prints: each says what was found, and whether that is right.
fn judge(case: &str, ordinary: bool) -> Result<(), String> {
    let user = if ordinary { "ordinary" } else { "own" };
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let output =
        Command::new(program).args(["case", case, user]).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut wrong = Vec::new();
    for line in text.lines() {
        if let Some(reason) = line.strip_prefix("NOT RUN: ") {
            println!("NOT RUN: {reason}");
            continue;
        }
        match serde_json::from_str::<Value>(line) {
            Ok(found) if found["right"] == true => {}
            _ => wrong.push(line.to_owned()),
        }
    }
    let ended = text.lines().last().is_some_and(|line| line.contains("\"the end\""));
    if !output.status.success() || !ended {
        wrong.push(format!("it ended with {} after {} lines", output.status, text.lines().count()));
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}
