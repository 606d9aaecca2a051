//! Turns what takes too long for every change into one run of parts: all are played, and at the end each has its seconds and how it ended.
//! It does not know what a part establishes; see `prove_parts.rs` and, for the verifier's rules, `prove_rules.rs`.

use std::time::Instant;

use crate::error::ChoreError;
use crate::prove_parts::{self as parts, Part};
use crate::prove_rules::{self, Chosen};
use crate::workspace::Workspace;

/// `cargo xtask prove` plays all parts; with flags of parts (`--triton`, `--slow`, …) these alone; with `--list`, `--steps` or `--cap N` the
/// rules of the verifier that these choose. Status 10 when one of several parts failed; one part alone has its own.
pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<u8, ChoreError> {
    let flags = match Asked::parse(args)? {
        Asked::Rules(chosen) => return prove_rules::run(workspace, &chosen),
        Asked::Parts(flags) => flags,
    };
    let is_asked = |part: &&Part| flags.is_empty() || part.flag().is_some_and(|own| flags.contains(&own));
    let chosen: Vec<&Part> = parts::ALL.iter().filter(is_asked).collect();
    if let [one] = chosen.as_slice() {
        return (one.play)(workspace);
    }
    let ends = play(workspace, &chosen)?;
    print!("{}", table(&ends));
    let failed: Vec<&str> = ends.iter().filter(|end| end.failure.is_some()).map(|end| end.command).collect();
    if failed.is_empty() {
        return Ok(0);
    }
    eprintln!("prove: failed: {}; each can be played alone: cargo xtask {}", failed.join(", "), failed[0]);
    Ok(10)
}

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    /// Some of the verifier's rules, or their list.
    Rules(Chosen),
    /// The parts with these flags; without any, all parts there are.
    Parts(Vec<&'static str>),
}

impl Asked {
    fn parse(args: &[String]) -> Result<Self, ChoreError> {
        let (mut chosen, mut flags) = (Chosen::default(), Vec::new());
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--list" => chosen.list = true,
                "--steps" => chosen.steps = true,
                "--cap" => {
                    let number = args.next().and_then(|text| text.parse().ok()).filter(|number| *number > 0);
                    chosen.cap =
                        Some(number.ok_or_else(|| ChoreError::Usage("--cap needs a number above 0".to_owned()))?);
                }
                other => match parts::ALL.iter().filter_map(Part::flag).find(|flag| *flag == other) {
                    Some(flag) => flags.push(flag),
                    None => return Err(ChoreError::Usage(format!("`prove` has no argument `{other}`"))),
                },
            }
        }
        match (chosen == Chosen::default(), flags.is_empty()) {
            (true, _) => Ok(Self::Parts(flags)),
            (false, true) => Ok(Self::Rules(chosen)),
            (false, false) => Err(ChoreError::Usage(
                "--list, --steps and --cap choose rules, and no other part goes with them".into(),
            )),
        }
    }
}

/// How one part ended.
struct End {
    command: &'static str,
    seconds: u64,
    /// The code, or the status of a part that said why itself.
    failure: Option<String>,
}

/// Plays one after the other, those after a failed one too; only Ctrl-C ends it.
fn play(workspace: &Workspace, chosen: &[&Part]) -> Result<Vec<End>, ChoreError> {
    let mut ends = Vec::new();
    for (at, part) in chosen.iter().enumerate() {
        println!("\nprove: {} of {}, `{}`: {}", at + 1, chosen.len(), part.command, part.what);
        let begun = Instant::now();
        let failure = match (part.play)(workspace) {
            Ok(0) => None,
            Ok(status) => Some(format!("status {status}")),
            Err(ChoreError::Interrupted) => return Err(ChoreError::Interrupted),
            Err(error) => {
                eprintln!("error[{}]: {error}\n  help: {}", error.code(), error.advice());
                Some(error.code().to_owned())
            }
        };
        ends.push(End { command: part.command, seconds: begun.elapsed().as_secs(), failure });
    }
    Ok(ends)
}

/// One line for each part, and their sum.
fn table(ends: &[End]) -> String {
    let mut text = "\nprove: seconds of each part\n".to_owned();
    for end in ends {
        let how = end.failure.as_ref().map_or_else(|| "passed".to_owned(), |failure| format!("FAILED: {failure}"));
        text.push_str(&format!("{:>7} s  {:<30}  {how}\n", end.seconds, end.command));
    }
    let all: u64 = ends.iter().map(|end| end.seconds).sum();
    text.push_str(&format!("{all:>7} s  in all\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Asked, ChoreError> {
        Asked::parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_arguments_choose_rules_or_parts_and_nothing_chooses_all() {
        assert_eq!(parse("").unwrap(), Asked::Parts(Vec::new()));
        let rules = |list, steps, cap| Asked::Rules(Chosen { list, steps, cap });
        assert_eq!(parse("--list --steps --cap 3").unwrap(), rules(true, true, Some(3)));
        assert_eq!(parse("--steps").unwrap(), rules(false, true, None));
        for flag in ["--slow", "--triton", "--large", "--mutations", "--soak", "--vm", "--image", "--rules"] {
            assert_eq!(parse(flag).unwrap(), Asked::Parts(vec![flag]));
        }
        assert_eq!(parse("--vm --slow").unwrap(), Asked::Parts(vec!["--vm", "--slow"]));
        for wrong in ["--cap", "--cap 0", "--cap x", "other", "fuzz", "--slow 5", "--slow --cap 4", "--steps --image"] {
            assert_eq!(parse(wrong).unwrap_err().code(), "USAGE", "{wrong}");
        }
    }

    #[test]
    fn a_part_that_fails_is_named_and_those_after_it_are_played() {
        let workspace = Workspace::find().unwrap();
        let part = |command, play| Part { command, what: "x", play };
        let all = [
            part("one", |_| Ok(0)),
            part("prove --two", |_| Err(ChoreError::TestsFailed)),
            part("three", |_| Ok(7)),
            part("four", |_| Ok(0)),
        ];
        let ends = play(&workspace, &all.iter().collect::<Vec<_>>()).unwrap();
        let expected = "\nprove: seconds of each part\n      0 s  one                             passed\n      \
                        0 s  prove --two                     FAILED: TESTS_FAILED\n      \
                        0 s  three                           FAILED: status 7\n      \
                        0 s  four                            passed\n      0 s  in all\n";
        assert_eq!(table(&ends), expected);
        let stopped = part("five", |_| Err(ChoreError::Interrupted));
        assert_eq!(play(&workspace, &[&stopped, &all[0]]).err().unwrap().code(), "INTERRUPTED");
    }
}
