//! Turns the commands of docs/operations.md and of the Kubernetes manifests into questions to the programs: is there such a
//! command, has it these flags? It runs none of them: most need hardware, or another machine.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

use std::{
    collections::BTreeMap,
    fs,
    process::{Command, Stdio},
};

use serde_json::Value;
use vouchsafe_tests::programs::{program, workspace};

/// The blocks of a Markdown text that are marked with this word.
fn blocks(text: &str, mark: &str) -> Vec<String> {
    let fence = format!("```{mark}\n");
    let inside = text.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap());
    inside.map(|block| block.lines().map(|line| line.trim_start().to_owned() + "\n").collect()).collect()
}

/// The commands of all shell blocks, each on one line and without its comment.
fn commands(text: &str) -> Vec<String> {
    let joined = blocks(text, "sh").concat().replace("\\\n", " ");
    joined.lines().map(|line| line.split("  #").next().unwrap().trim().to_owned()).collect()
}

/// Asks a program for its help, cached.
struct Helps(BTreeMap<Vec<String>, String>);

impl Helps {
    /// What is wrong with a command line of `vouchsafe`, if anything.
    fn problem(&mut self, words: &[&str]) -> Option<String> {
        let plain = |word: &&&str| word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-') && !word.starts_with('-');
        let command: Vec<String> = words.iter().take_while(plain).map(|word| (*word).to_owned()).collect();
        let help = self.0.entry(command.clone()).or_insert_with(|| {
            let mut asked = Command::new(program("vouchsafe"));
            let output = asked.args(&command).arg("--help").stdin(Stdio::null()).output().unwrap();
            if output.status.success() { String::from_utf8(output.stdout).unwrap() } else { String::new() }
        });
        if help.is_empty() || command.is_empty() {
            return Some(format!("{command:?} has no help"));
        }
        let known =
            |flag: &str| help.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).any(|word| word == flag);
        let flags = words.iter().filter(|word| word.starts_with("--")).map(|word| word.split('=').next().unwrap());
        flags.into_iter().find(|flag| !known(flag)).map(|flag| format!("{command:?} has no {flag}"))
    }
}

#[test]
fn every_command_and_flag_of_the_guide_exists() {
    let text = fs::read_to_string(workspace().join("docs/operations.md")).unwrap();
    let chores = fs::read_to_string(workspace().join("xtask/src/main.rs")).unwrap();
    let (mut helps, mut asked) = (Helps(BTreeMap::new()), 0);
    for command in commands(&text) {
        let words: Vec<&str> = command.split_whitespace().collect();
        match words.as_slice() {
            ["vouchsafe", rest @ ..] => {
                asked += 1;
                assert_eq!(helps.problem(rest), None, "{command}");
            }
            ["cargo", "xtask", chore, ..] => {
                assert!(chores.contains(&format!("\n  {chore} ")), "no chore {chore}");
            }
            _ => {}
        }
    }
    assert!(asked >= 18, "only {asked} commands were found");
    assert!(helps.problem(&["measure", "--no-such-flag"]).is_some(), "control: a flag that is not there");
    assert!(helps.problem(&["no-such-command"]).is_some(), "control: a command that is not there");
}

#[test]
fn the_guides_launch_file_is_understood() {
    let text = fs::read_to_string(workspace().join("docs/operations.md")).unwrap();
    let [file] = <[String; 1]>::try_from(blocks(&text, "toml")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("launch.toml");
    let code = |text: &str| {
        fs::write(&path, text).unwrap();
        let mut launch = Command::new(program("vouchsafe-launch"));
        let output = launch.arg(&path).arg("--json").stdin(Stdio::null()).output().unwrap();
        assert_ne!(output.status.code(), Some(0));
        let lines = String::from_utf8(output.stdout).unwrap();
        let error: Value = lines.lines().filter_map(|line| serde_json::from_str(line).ok()).next_back().unwrap();
        error["code"].as_str().or(error["error"]["code"].as_str()).unwrap_or_else(|| panic!("{lines}")).to_owned()
    };
    // The machine of the example is not this one: what stops the launch comes after the file was understood.
    let stopped = code(&file);
    assert!(!["LAUNCH_TOML", "USAGE"].contains(&stopped.as_str()), "{stopped}");
    assert_eq!(code(&format!("{file}\nvcpu = 1\n")), "LAUNCH_TOML", "control: an unknown setting");
}

#[test]
fn the_manifests_call_commands_that_exist() {
    let (mut helps, mut asked) = (Helps(BTreeMap::new()), 0);
    for document in manifests() {
        let containers = document.pointer("/spec/template/spec/containers").and_then(Value::as_array);
        for container in containers.into_iter().flatten().filter(|c| c["command"][0] == "/usr/bin/vouchsafe") {
            let words: Vec<&str> = container["args"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
            asked += 1;
            assert_eq!(helps.problem(&words), None, "{words:?}");
        }
    }
    assert_eq!(asked, 2);
}

fn manifests() -> Vec<Value> {
    let folder = workspace().join("deploy/kubernetes");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let yaml = files.filter(|path| path.extension().is_some_and(|e| e == "yaml"));
    yaml.flat_map(|path| serde_saphyr::from_multiple::<Value>(&fs::read_to_string(path).unwrap()).unwrap()).collect()
}
