//! Turns the built programs into the rule that none but the simulator holds the simulator's code.
//! It does not disassemble: it looks for the text that the simulator's own sources carry.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use vouchsafe_tests::programs::{PROGRAMS, directory};

use crate::tree::sources;

/// Shorter texts may stand in a library by chance.
const LONG_ENOUGH: usize = 20;

#[test]
fn no_program_but_the_simulator_holds_the_simulators_code() {
    let texts = only_in("tests/simulator/src/");
    assert!(texts.len() >= 10, "the simulator's sources have texts of their own: {}", texts.len());
    let dir = directory();
    for program in PROGRAMS {
        let held = text_of(&dir.join(program));
        let found: Vec<_> = texts.iter().filter(|text| held.contains(text.as_str())).collect();
        if program == "vouchsafe-simulator" {
            assert!(found.len() * 2 >= texts.len(), "control: the simulator holds its own texts, found {found:?}");
            println!("{} of {} texts of the simulator are in {program}", found.len(), texts.len());
        } else {
            assert!(found.is_empty(), "{program} holds {found:?}");
        }
    }
}

#[test]
fn the_launcher_program_holds_no_text_of_sealing_or_release() {
    let dir = directory();
    let launcher = text_of(&dir.join("vouchsafe-launch"));
    let command = text_of(&dir.join("vouchsafe"));
    for crate_dir in ["enclave/sealed/src/", "attestation/release/src/"] {
        let texts = only_in(crate_dir);
        let found: Vec<_> = texts.iter().filter(|text| launcher.contains(text.as_str())).collect();
        assert!(found.is_empty(), "vouchsafe-launch holds {found:?}");
        let control = texts.iter().filter(|text| command.contains(text.as_str())).count();
        assert!(control >= 5, "control: `vouchsafe` holds texts of {crate_dir}, found {control} of {}", texts.len());
    }
}

/// The string literals of the shipped sources under `dir` that no other crate's shipped sources have.
fn only_in(dir: &str) -> BTreeSet<String> {
    let (mut inside, mut outside) = (BTreeSet::new(), String::new());
    for source in sources(&["rs"]) {
        if !source.path.starts_with(dir) {
            outside.push_str(&source.text);
            continue;
        }
        for (_, line) in source.code().filter(|(_, line)| !line.starts_with("#[")) {
            inside.extend(literals(line));
        }
    }
    inside.retain(|text| !outside.contains(text));
    inside
}

/// The pieces of a line's string literals that reach a program as they stand: cut at `{…}` and at escapes.
fn literals(line: &str) -> Vec<String> {
    let mut pieces = Vec::new();
    for literal in line.split('"').skip(1).step_by(2) {
        let mut depth = 0_u32;
        let mut piece = String::new();
        for letter in literal.chars().chain(['\\']) {
            match letter {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                _ if depth > 0 => {}
                _ if letter != '\\' && letter.is_ascii() => {
                    piece.push(letter);
                    continue;
                }
                _ => {}
            }
            if piece.len() >= LONG_ENOUGH {
                pieces.push(std::mem::take(&mut piece));
            }
            piece.clear();
        }
    }
    pieces
}

/// A program's bytes as text to search in; what is not plain ASCII cannot be part of a literal.
fn text_of(program: &Path) -> String {
    let mut bytes = fs::read(program).unwrap();
    bytes.iter_mut().filter(|byte| !byte.is_ascii()).for_each(|byte| *byte = 0);
    String::from_utf8(bytes).unwrap()
}

#[test]
fn literals_are_cut_where_the_program_cuts_them() {
    assert_eq!(
        literals(r#"format!("a text that is long enough {x} and another long enough\n", "short")"#),
        ["a text that is long enough ", " and another long enough"]
    );
}
