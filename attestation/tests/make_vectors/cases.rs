//! Turns what must become of evidence, and the files that differ from a base, into a directory with its `case.toml`.
//! It judges nothing. Shared by the makers of SEV-SNP and TDX cases.
#![allow(dead_code, reason = "each maker uses a part")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed step ends the run")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

/// The time at which every case is judged, unless it says otherwise.
pub const NOW: &str = "2026-06-01T00:00:00Z";

/// Files by name.
pub type Files = BTreeMap<&'static str, Vec<u8>>;

/// What a case is to come to.
pub struct Expect {
    kind: &'static str,
    step: u8,
    code: &'static str,
    exit: u8,
    at: String,
    more: String,
}

/// Verification accepts it.
pub fn authentic() -> Expect {
    Expect { kind: "verify", step: 0, code: "ACCEPTED", exit: 0, at: NOW.to_owned(), more: String::new() }
}

/// Verification refuses it at a step with a code.
pub fn refused(step: u8, code: &'static str) -> Expect {
    Expect { step, code, exit: 2, ..authentic() }
}

/// Appraisal accepts it.
pub fn appraised() -> Expect {
    Expect { kind: "appraise", ..authentic() }
}

/// Appraisal refuses it for one reason.
pub fn unwanted(code: &'static str) -> Expect {
    Expect { code, exit: 4, ..appraised() }
}

/// The policy itself is refused.
pub fn no_policy(code: &'static str) -> Expect {
    Expect { kind: "policy", code, exit: 1, ..authentic() }
}

impl Expect {
    pub fn at(self, at: &str) -> Self {
        Self { at: at.to_owned(), ..self }
    }

    pub fn exit(self, exit: u8) -> Self {
        Self { exit, ..self }
    }

    /// One more line of `case.toml`.
    pub fn with(mut self, line: &str) -> Self {
        self.more.push_str(line);
        self.more.push('\n');
        self
    }
}

/// The cases of one technology: the base first, then what differs from it.
pub struct Cases {
    tee: &'static str,
    dir: PathBuf,
    base: Files,
    made: BTreeSet<String>,
}

impl Cases {
    /// Takes the place of what was there.
    pub fn begin(all: &Path, tee: &'static str) -> Self {
        let dir = all.join(tee);
        if dir.exists() {
            fs::remove_dir_all(&dir).unwrap();
        }
        Self { tee, dir, base: Files::new(), made: BTreeSet::new() }
    }

    /// Says how many were written.
    pub fn end(self) {
        println!("{}: {} cases", self.tee, self.made.len());
    }

    /// Everything as it should be; also the first accepted case.
    pub fn base(&mut self, files: Files) {
        self.base = files;
        for (name, bytes) in &self.base {
            write(&self.dir.join("base").join(name), bytes);
        }
        self.case(
            "accepted",
            "Nothing: the base itself, which every other case differs from in one thing.",
            authentic(),
            Files::new(),
        );
    }

    /// One case: a sentence on what is wrong, what it must come to, and the files that may differ from the base.
    pub fn case(&mut self, name: &str, what: &str, expect: Expect, files: Files) {
        assert!(self.made.insert(name.to_owned()), "{name} is there twice");
        assert!(what.ends_with('.') && !what.contains(['"', '\\']), "{name}: {what}");
        let Expect { kind, step, code, exit, at, more } = expect;
        let mut text = format!("what = \"{what}\"\nkind = \"{kind}\"\n");
        if exit != 0 && kind == "verify" {
            writeln!(text, "step = {step}").unwrap();
        }
        write!(text, "code = \"{code}\"\nexit = {exit}\nat = \"{at}\"\n{more}").unwrap();
        let dir = self.dir.join(name);
        write(&dir.join("case.toml"), text.as_bytes());
        for (file, bytes) in &files {
            if self.base.get(file) != Some(bytes) {
                write(&dir.join(file), bytes);
            }
        }
    }
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// One file.
pub fn file(name: &'static str, bytes: impl Into<Vec<u8>>) -> Files {
    Files::from([(name, bytes.into())])
}
