//! Turns each rule of the verifier into a question: does a test fail when it is taken out?
//! It does not establish that a rule is right, only that at least one vector depends on it.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::error::ChoreError;
use crate::mutants::{self, Mutant, Rules};
use crate::workspace::{Workspace, ended_well, make_dir};

const PACKAGE: &str = "vouchsafe-attestation";

/// Which rules are asked about; all of them by default.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Chosen {
    /// They are printed, and nothing is taken out.
    pub(crate) list: bool,
    /// Those of the numbered steps alone.
    pub(crate) steps: bool,
    /// At most so many.
    pub(crate) cap: Option<usize>,
}

/// What the tests said of one mutant.
enum Answer {
    /// A committed vector came to another code, as it should.
    NoticedByVector,
    /// Another test failed.
    Noticed,
    /// It does not compile: what follows needs the rule's result, so it cannot be taken out.
    Needed,
    /// Everything that was asked passed.
    Unguarded,
}

/// Takes out one rule after the other; `STEP_UNGUARDED` names those that no test noticed.
pub(crate) fn run(workspace: &Workspace, arguments: &Chosen) -> Result<u8, ChoreError> {
    let Rules { mutants: mut all, kept } = mutants::of_the_verifier(workspace.root())?;
    if arguments.steps {
        all.retain(|mutant| mutant.step.is_some());
    }
    let chosen = spread(&all, arguments.cap);
    if arguments.list {
        for mutant in &chosen {
            println!("{}", mutant.describe());
        }
        say_kept(&kept);
        return Ok(0);
    }

    let copy = Copy::make(workspace)?;
    eprintln!(
        "prove: {} of {} rules, in a copy of the sources; first the committed vectors as they are",
        chosen.len(),
        all.len()
    );
    if !copy.cargo(&["test", "--test", "vectors"])? {
        return Err(ChoreError::ProveBaseline);
    }
    // All other tests take minutes: they are asked only about a rule that no vector notices, and as they are only then.
    let mut all_pass = false;
    let (mut by_vector, mut noticed, mut needed, mut unguarded) = (0, 0, 0, Vec::new());
    for (at, mutant) in chosen.iter().enumerate() {
        let started = Instant::now();
        let mut answer = copy.without(mutant, Copy::by_vectors)?;
        if matches!(answer, Answer::Unguarded) {
            if !all_pass && !copy.cargo(&["test", "--tests"])? {
                return Err(ChoreError::ProveBaseline);
            }
            all_pass = true;
            answer = copy.without(mutant, Copy::by_tests)?;
        }
        let word = match answer {
            Answer::NoticedByVector => "noticed by a committed vector",
            Answer::Noticed => "noticed by another test",
            Answer::Needed => "needed by what follows (does not compile)",
            Answer::Unguarded => "NOT NOTICED",
        };
        println!("{}/{} {}: {word} ({} s)", at + 1, chosen.len(), mutant.describe(), started.elapsed().as_secs());
        match answer {
            Answer::NoticedByVector => by_vector += 1,
            Answer::Noticed => noticed += 1,
            Answer::Needed => needed += 1,
            Answer::Unguarded => unguarded.push(mutant.describe()),
        }
    }
    say_kept(&kept);
    println!(
        "{} rules taken out and noticed ({by_vector} by a committed vector), {needed} that cannot be taken out, {} not noticed; {} of {} tried",
        by_vector + noticed,
        unguarded.len(),
        chosen.len(),
        all.len()
    );
    if unguarded.is_empty() { Ok(0) } else { Err(ChoreError::StepUnguarded { steps: unguarded }) }
}

fn say_kept(kept: &[String]) {
    for step in kept {
        println!("has no line that can be taken out (what follows needs its result, or dcap-qvl decides it): {step}");
    }
}

/// At most `cap` of them, evenly spread, the same every time.
fn spread(all: &[Mutant], cap: Option<usize>) -> Vec<Mutant> {
    let wanted = cap.unwrap_or(all.len()).min(all.len());
    (0..wanted).map(|at| all[at * all.len() / wanted].clone()).collect()
}

/// A copy of the sources under target, so that nobody's working tree is ever without a rule.
struct Copy<'w> {
    workspace: &'w Workspace,
    root: PathBuf,
    vectors: OsString,
}

impl<'w> Copy<'w> {
    fn make(workspace: &'w Workspace) -> Result<Self, ChoreError> {
        let root = workspace.target().join("prove/source");
        if root.exists() {
            fs::remove_dir_all(&root).map_err(ChoreError::file(&root))?;
        }
        copy_tree(workspace.root(), &root, workspace.target())?;
        let vectors = std::env::var_os("VOUCHSAFE_VECTORS")
            .unwrap_or_else(|| workspace.root().join("../shared/vectors").into_os_string());
        Ok(Self { workspace, root, vectors })
    }

    fn without(&self, mutant: &Mutant, ask: fn(&Self) -> Result<Answer, ChoreError>) -> Result<Answer, ChoreError> {
        let path = self.root.join(&mutant.file);
        let text = fs::read_to_string(&path).map_err(ChoreError::file(&path))?;
        fs::write(&path, mutant.apply(&text)).map_err(ChoreError::file(&path))?;
        let answer = ask(self);
        fs::write(&path, text).map_err(ChoreError::file(&path))?;
        answer
    }

    /// The committed vectors alone, which take seconds.
    fn by_vectors(&self) -> Result<Answer, ChoreError> {
        if !self.cargo(&["build", "--test", "vectors"])? {
            return Ok(Answer::Needed);
        }
        Ok(if self.cargo(&["test", "--test", "vectors"])? { Answer::Unguarded } else { Answer::NoticedByVector })
    }

    /// Every test, one program after the other until the first that fails. The library compiled before.
    fn by_tests(&self) -> Result<Answer, ChoreError> {
        Ok(if self.cargo(&["test", "--tests"])? { Answer::Unguarded } else { Answer::Noticed })
    }

    fn cargo(&self, arguments: &[&str]) -> Result<bool, ChoreError> {
        let mut command: Command = self.workspace.cargo();
        let status = command
            .current_dir(&self.root)
            .args(arguments)
            .args(["--locked", "--quiet", "--package", PACKAGE])
            // Never the workspace's own: cargo names artefacts by the path inside a workspace, so a mutated crate of the
            // copy would be taken for the real one by the next build.
            .env("CARGO_TARGET_DIR", self.workspace.target().join("prove/build"))
            .env("VOUCHSAFE_VECTORS", &self.vectors)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .map_err(|source| ChoreError::Start { program: "cargo", source })?;
        ended_well(status)
    }
}

fn copy_tree(from: &Path, to: &Path, target: &Path) -> Result<(), ChoreError> {
    make_dir(to)?;
    for entry in fs::read_dir(from).map_err(ChoreError::file(from))? {
        let entry = entry.map_err(ChoreError::file(from))?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(ChoreError::file(from))?);
        if path == target || entry.file_name() == ".git" || entry.file_name() == "target" {
            continue;
        }
        let place = to.join(entry.file_name());
        if kind.is_dir() {
            copy_tree(&path, &place, target)?;
        } else if kind.is_file() {
            fs::copy(&path, &place).map_err(ChoreError::file(&path))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cap_spreads_over_all_rules() {
        let all = mutants::of_the_verifier(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()).unwrap().mutants;
        assert!(all.len() >= 20, "{}", all.len());
        let few = spread(&all, Some(5));
        assert_eq!((few.len(), &few[0]), (5, &all[0]));
        assert_eq!(spread(&all, None), all);
        assert_eq!(spread(&all, Some(10_000)).len(), all.len());
    }
}
