//! Turns `cargo test` into a run against freshly built programs, with totals and what was not run.
//! It does not decide what a test needs: a test that cannot run prints a line `NOT RUN: name: reason`.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Instant;

use crate::build::{self, Profile};
use crate::error::ChoreError;
use crate::image;
use crate::python;
use crate::test_lanes::{self, Program};
use crate::workspace::{Workspace, ended_well};

/// Of what one passing test printed, this many lines are shown; the log has all of them.
const SHOWN_LINES: usize = 30;
/// Of what all failed tests printed, this many lines are repeated at the end, where a reader looks first.
const REPEATED_LINES: usize = 100;

struct Arguments {
    profile: Profile,
    packages: Vec<String>,
    filters: Vec<String>,
}

/// `cargo xtask test [-p CRATE] [--release] [FILTER…]`
pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<u8, ChoreError> {
    let arguments = Arguments::parse(args)?;
    let summary_path = workspace.target().join("test-summary.txt");
    // What an earlier run counted must not be read as this run's.
    let _ = fs::remove_file(&summary_path);
    let packages = python::packages(workspace)?;
    let programs = build::test_binaries(workspace, arguments.profile)?;

    let mut chosen: Vec<&str> = arguments.profile.flag().into_iter().collect();
    if arguments.packages.is_empty() {
        chosen.push("--workspace");
    }
    chosen.extend(arguments.packages.iter().flat_map(|package| ["--package", package]));
    eprintln!("test: building the tests");
    let tests = test_lanes::build(workspace, &chosen)?;
    let mut common = vec![("VOUCHSAFE_BIN_DIR", programs), ("VOUCHSAFE_PY", packages)];
    // Tests that need the guest image say by name that they did not run when there is none.
    if std::env::var_os("VOUCHSAFE_IMAGE").is_none()
        && let Some(image) = image::built(workspace)
    {
        common.push(("VOUCHSAFE_IMAGE", image));
    }

    let (waiting, working): (Vec<_>, Vec<_>) = tests.into_iter().partition(|test| test.waits);
    let (mut report, mut beside) = (Report::default(), Report::default());
    let log_path = workspace.target().join("test.log");
    let mut log = fs::File::create(&log_path).map_err(ChoreError::file(&log_path))?;
    let (mut shown, mut kept) = (Vec::new(), Vec::new());
    let run = |tests: &[Program], report: &mut Report, show: &mut dyn Write, log: &mut dyn Write| {
        lane(tests, &arguments.filters, &common, report, show, log)
    };
    let both = std::thread::scope(|scope| {
        let other = (!waiting.is_empty()).then(|| scope.spawn(|| run(&working, &mut beside, &mut shown, &mut kept)));
        let first = if waiting.is_empty() { &working } else { &waiting };
        let first = run(first, &mut report, &mut std::io::stdout(), &mut log)?;
        let other = other.map_or(Ok(Ok(true)), std::thread::ScopedJoinHandle::join);
        Ok::<_, ChoreError>(first & other.unwrap_or(Err(ChoreError::TestsFailed))?)
    })?;
    // The lane beside is shown as a whole: two programs' lines in one another help nobody.
    let _ = std::io::stdout().write_all(&shown);
    log.write_all(&kept).map_err(ChoreError::file(&log_path))?;
    report.add(beside);
    let passed = both & documentation(workspace, &arguments, &chosen, &mut report, &mut log)?;
    let summary = report.summary();
    print!("{summary}");
    fs::write(&summary_path, summary).map_err(ChoreError::file(&summary_path))?;
    if passed { Ok(0) } else { Err(ChoreError::TestsFailed) }
}

/// Runs the programs of one lane in turn, those after a failed one too. Whether all passed.
fn lane(
    tests: &[Program],
    filters: &[String],
    common: &[(&str, PathBuf)],
    report: &mut Report,
    mut show: &mut dyn Write,
    mut log: &mut dyn Write,
) -> Result<bool, ChoreError> {
    let mut passed = true;
    for test in tests {
        let head = format!("\n     Running {}\n", test.name);
        let _ = show.write_all(head.as_bytes());
        let _ = log.write_all(head.as_bytes());
        let started = Instant::now();
        let mut child =
            test.start(filters, common).spawn().map_err(|source| ChoreError::Start { program: "a test", source })?;
        if let Some(stdout) = child.stdout.take() {
            report.follow(stdout, &mut show, &mut log).map_err(ChoreError::file("the output of a test"))?;
        }
        let status = child.wait().map_err(|source| ChoreError::Start { program: "a test", source })?;
        if !ended_well(status)? {
            passed = false;
            report.failures.push(format!("{} ended with {status}", test.name));
        }
        let _ = writeln!(log, "{} took {} s", test.name, started.elapsed().as_secs());
    }
    Ok(passed)
}

/// The examples in the documentation, which only cargo runs; with a choice of packages or names nobody asked for them.
fn documentation(
    workspace: &Workspace,
    arguments: &Arguments,
    chosen: &[&str],
    report: &mut Report,
    log: &mut fs::File,
) -> Result<bool, ChoreError> {
    if !arguments.packages.is_empty() || !arguments.filters.is_empty() {
        return Ok(true);
    }
    let mut command = workspace.cargo();
    command.args(["test", "--locked", "--doc", "--quiet"]).args(chosen).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|source| ChoreError::Start { program: "cargo", source })?;
    if let Some(stdout) = child.stdout.take() {
        report.follow(stdout, &mut std::io::sink(), log).map_err(ChoreError::file("the output of cargo"))?;
    }
    ended_well(child.wait().map_err(|source| ChoreError::Start { program: "cargo", source })?)
}

impl Arguments {
    fn parse(args: &[String]) -> Result<Self, ChoreError> {
        let mut parsed = Self { profile: Profile::Dev, packages: Vec::new(), filters: Vec::new() };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--release" => parsed.profile = Profile::Release,
                "-p" | "--package" => match args.next() {
                    Some(name) => parsed.packages.push(name.clone()),
                    None => return Err(ChoreError::Usage("-p needs the name of a crate".to_owned())),
                },
                flag if flag.starts_with('-') => {
                    return Err(ChoreError::Usage(format!("`test` has no option `{flag}`")));
                }
                filter => parsed.filters.push(filter.to_owned()),
            }
        }
        Ok(parsed)
    }
}

/// What the run printed, added up.
#[derive(Default)]
struct Report {
    passed: u64,
    failed: u64,
    ignored: u64,
    not_run: Vec<String>,
    /// What failed tests printed.
    failures: Vec<String>,
    /// Lines already shown of the passing test whose output is being read.
    shown: usize,
}

impl Report {
    /// Reads the harness's output to its end, shows it line by line and keeps all of it in the log.
    fn follow(&mut self, from: impl Read, show: &mut impl Write, log: &mut impl Write) -> std::io::Result<()> {
        let mut reader = BufReader::new(from);
        let mut bytes = Vec::new();
        let (mut in_successes, mut in_failures) = (false, false);
        loop {
            bytes.clear();
            if reader.read_until(b'\n', &mut bytes)? == 0 {
                return Ok(());
            }
            log.write_all(&bytes)?;
            let line = String::from_utf8_lossy(&bytes);
            let text = line.trim_end();
            // The harness prints "successes:" twice: before the outputs and before a list of names.
            if text == "successes:" {
                (in_successes, in_failures) = (true, false);
            } else if text == "failures:" {
                (in_successes, in_failures) = (false, true);
            } else if text.starts_with("test result:") {
                (in_successes, in_failures) = (false, false);
            } else if in_failures && self.failures.len() < REPEATED_LINES && !text.is_empty() && !is_frame(text) {
                self.failures.push(text.to_owned());
            }
            if text.starts_with("---- ") {
                self.shown = 0;
            }
            self.count(text);
            if in_successes && !self.worth_showing(text) {
                continue;
            }
            // A closed pipe on our side is no reason to stop counting.
            let _ = show.write_all(&bytes);
        }
    }

    fn count(&mut self, text: &str) {
        if let Some(reason) = text.trim_start().strip_prefix("NOT RUN: ") {
            if !self.not_run.iter().any(|seen| seen == reason) {
                self.not_run.push(reason.to_owned());
            }
        } else if let Some(counts) = text.strip_prefix("test result: ") {
            for part in counts.split([';', '.']) {
                let mut words = part.split_whitespace();
                let Some(Ok(number)) = words.next().map(str::parse::<u64>) else {
                    continue;
                };
                match words.next() {
                    Some("passed") => self.passed += number,
                    Some("failed") => self.failed += number,
                    Some("ignored") => self.ignored += number,
                    _ => {}
                }
            }
        }
    }

    /// Inside the outputs of passing tests: everything but names of tests and what is too long.
    fn worth_showing(&mut self, text: &str) -> bool {
        if text.is_empty() || text == "successes:" || text.starts_with("    ") {
            return false;
        }
        self.shown += 1;
        self.shown <= SHOWN_LINES
    }

    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.not_run.extend(other.not_run);
        self.failures.extend(other.failures);
    }

    fn summary(&self) -> String {
        let mut text = String::new();
        if !self.failures.is_empty() {
            text.push_str(&format!("\nFailed, again:\n{}\n", self.failures.join("\n")));
        }
        if !self.not_run.is_empty() {
            text.push_str("\nNot run, with the reason:\n");
            for reason in &self.not_run {
                text.push_str(&format!("NOT RUN: {reason}\n"));
            }
        }
        text.push_str(&format!("\n{} passed, {} failed, {} skipped\n", self.passed, self.failed, self.ignored));
        text
    }
}

/// A line of a backtrace: `  12: function` or `             at file:line`.
fn is_frame(text: &str) -> bool {
    let text = text.trim_start();
    let after = text.trim_start_matches(|c: char| c.is_ascii_digit());
    text.starts_with("at ") || (after.len() < text.len() && after.starts_with(": "))
}

#[cfg(test)]
mod unit {
    use super::*;

    const OUTPUT: &str = "\
running 2 tests
test a::one ... ok
test two ... ok

successes:

---- two stdout ----
NOT RUN: two: vectors missing
histogram 1
    indented


successes:
    a::one
    two

test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.00s
test result: FAILED. 5 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.50s
";

    #[test]
    fn counts_are_added_and_tests_that_did_not_run_are_named_once() {
        let (mut report, mut shown, mut log) = (Report::default(), Vec::new(), Vec::new());
        report.follow(OUTPUT.as_bytes(), &mut shown, &mut log).unwrap();
        assert_eq!(log, OUTPUT.as_bytes());
        assert_eq!((report.passed, report.failed, report.ignored), (7, 1, 1));
        assert_eq!(report.not_run, ["two: vectors missing"]);
        assert!(report.summary().ends_with("\n7 passed, 1 failed, 1 skipped\n"));
        let shown = String::from_utf8(shown).unwrap();
        assert!(shown.contains("histogram 1"));
        assert!(!shown.contains("\n    two\n"), "the list of names is not shown");
    }

    #[test]
    fn failures_are_repeated_at_the_end() {
        let text = "test b ... FAILED\n\nfailures:\n\n---- b stdout ----\nb.rs:1 it broke\nstack backtrace:\n  10: std::x\n             at ./b.rs:1\n\nfailures:\n    b\n\ntest result: FAILED. 0 passed; 1 failed;\nlater\n";
        let (mut report, mut shown, mut log) = (Report::default(), Vec::new(), Vec::new());
        report.follow(text.as_bytes(), &mut shown, &mut log).unwrap();
        let expected = "\nFailed, again:\n---- b stdout ----\nb.rs:1 it broke\nstack backtrace:\n    b\n\n0 passed, 1 failed, 0 skipped\n";
        assert_eq!(report.summary(), expected);
    }

    #[test]
    fn a_long_output_is_cut_on_the_terminal_only() {
        let text = format!("successes:\n\n---- x stdout ----\n{}", "line\n".repeat(100));
        let (mut report, mut shown, mut log) = (Report::default(), Vec::new(), Vec::new());
        report.follow(text.as_bytes(), &mut shown, &mut log).unwrap();
        assert_eq!(shown.split(|byte| *byte == b'\n').count(), SHOWN_LINES + 1);
        assert_eq!(log.len(), text.len());
    }

    #[test]
    fn arguments_are_packages_filters_and_one_flag() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let parsed = Arguments::parse(&words("-p a truncated --release")).unwrap();
        assert_eq!((parsed.packages, parsed.filters), (words("a"), words("truncated")));
        assert!(parsed.profile == Profile::Release);
        assert_eq!(Arguments::parse(&words("-p")).err().unwrap().exit(), 1);
        assert_eq!(Arguments::parse(&words("--nocapture")).err().unwrap().exit(), 1);
    }
}
