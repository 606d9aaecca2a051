//! What people read: transcripts of commands in `tests/cmd/*.trycmd`, and the help of every command there is.
//! `TRYCMD=overwrite cargo xtask test -p vouchsafe-tests transcripts` writes them anew; read the difference before it is kept
//! (a line that goes on in the next ends in `[..]` there: trycmd reads a backslash as part of a path).

use vouchsafe_tests::{programs::program, vouchsafe};

#[test]
fn transcripts_are_as_they_were_read() {
    // Help is wrapped at the terminal's width; without one, at this.
    trycmd::TestCases::new()
        .register_bin("vouchsafe", program("vouchsafe"))
        .env("COLUMNS", "100")
        .env("NO_COLOR", "1")
        .case("cmd/*.trycmd");
}

#[test]
fn every_help_shows_an_example_that_begins_with_its_own_command() {
    let mut leaves = 0;
    let mut todo = vec![Vec::<String>::new()];
    while let Some(command) = todo.pop() {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        let output = vouchsafe(&[&words[..], &["--help"]].concat());
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{words:?}: {help}");
        let example = help.split("Example:\n").nth(1).unwrap_or_else(|| panic!("{words:?} --help has no example"));
        // `launch` hands over to its own program.
        let own = [&["vouchsafe"], &words[..]].concat().join(" ").replace("vouchsafe launch", "vouchsafe-launch");
        assert!(example.trim_start().starts_with(&own), "the example of {own} shows {example}");
        let inner = help.split("Commands:\n").nth(1).unwrap_or_default();
        let names = inner.lines().take_while(|line| line.starts_with("  "));
        let names = names.filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next());
        let before = todo.len();
        todo.extend(names.map(|name| [&command[..], &[name.to_owned()]].concat()));
        leaves += u32::from(todo.len() == before);
    }
    assert_eq!(leaves, 40, "commands that do something; the transcripts show the help of each");
}

/// Bad arguments are told on standard error, never by a panic, and with a status of the table in `--help`.
#[test]
fn no_command_panics_over_words_that_it_does_not_expect() {
    let words =
        ["", "-", "--", "\u{1b}[31m", "ed25519:", "=", "a=b=c", "99999999999999999999", "/dev/null", "/", "\u{202e}"];
    let commands: [&[&str]; 29] = [
        &["verify", "127.0.0.1:1", "--policy"],
        &["verify", "--policy", "cmd/fixtures/policy.toml"],
        &["infer", "127.0.0.1:1", "--policy", "cmd/fixtures/policy.toml", "--input", "cmd/fixtures/enclave", "--model"],
        &["proxy", "--upstream", "127.0.0.1:1", "--policy", "cmd/fixtures/policy.toml", "--listen"],
        &["receipt", "verify", "--policy", "cmd/fixtures/policy.toml"],
        &["receipt", "verify", "cmd/fixtures/enclave", "--policy", "cmd/fixtures/policy.toml", "--at"],
        &["policy", "show"],
        &["package", "show", "--vendor-key", "cmd/fixtures/vendor.pub"],
        &["package", "verify", "vectors/sealed/accept-small/package", "--vendor-key"],
        &[
            "package",
            "verify",
            "vectors/sealed/accept-small/package",
            "--vendor-key",
            "cmd/fixtures/vendor.pub",
            "--provenance",
        ],
        &["package", "diff", "vectors/sealed/accept-small/package", "--vendor-key", "cmd/fixtures/vendor.pub"],
        &["model", "scan"],
        &["broker", "leases"],
        &["broker", "serve"],
        &["broker", "ledger", "show", "no-such-folder"],
        &["broker", "revoke", "model", "no-such-folder"],
        &["measure", "--enclave"],
        &["image", "show"],
        &["image", "diff", "cmd/fixtures/image"],
        &["image", "build", "--out", "no-such-folder", "--lock"],
        &["doctor", "--backend"],
        &["doctor", "--backend", "sim-vm", "--image"],
        &["evidence", "verify", "--tee", "sev-snp", "--policy", "cmd/fixtures/policy.toml", "--evidence"],
        &["evidence", "verify", "--tee", "tdx", "--policy", "cmd/fixtures/policy.toml", "--evidence"],
        &["evidence", "verify", "--evidence", "cmd/fixtures/enclave", "--policy", "cmd/fixtures/policy.toml", "--tee"],
        &["collateral", "show"],
        &["collateral", "check", "--at", "2026-03-01T00:00:00Z"],
        &["collateral", "pack", "--tee", "tdx", "--out", "no-such-folder/out", "--from"],
        &["collateral", "fetch", "--tee", "sev-snp", "--out", "no-such-folder/out", "--url"],
    ];
    for command in commands {
        for word in words {
            let output = vouchsafe(&[command, &[word]].concat());
            let told = String::from_utf8_lossy(&output.stderr);
            let status = output.status.code().unwrap_or_else(|| panic!("{command:?} {word:?} was killed: {told}"));
            assert!((1..=10).contains(&status), "{command:?} {word:?} ended with {status}: {told}");
            assert!(!told.contains("panicked") && !told.trim().is_empty(), "{command:?} {word:?}: {told}");
        }
    }
}
