//! Turns the verifier's sources into a list of rules that can be taken out, one edit for each.
//! It does not parse Rust: it relies on the one form that CONTRIBUTING.md asks for, and what it does not see is not proved.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::ChoreError;

/// One rule, taken out by changing one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mutant {
    /// Relative to the workspace.
    pub(crate) file: PathBuf,
    /// From 1.
    pub(crate) line: usize,
    /// The numbered step it stands under, where the file numbers its steps.
    pub(crate) step: Option<u32>,
    /// What the line says.
    pub(crate) rule: String,
    /// What it says without the rule.
    changed: String,
}

impl Mutant {
    /// Where and what, on one line.
    pub(crate) fn describe(&self) -> String {
        let step = self.step.map(|number| format!("step {number}, ")).unwrap_or_default();
        format!("{step}{}:{}: {}", self.file.display(), self.line, self.rule)
    }

    /// The file's text with this rule taken out.
    pub(crate) fn apply(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len() + 16);
        for (at, line) in text.split_inclusive('\n').enumerate() {
            if at + 1 == self.line {
                out.push_str(&self.changed);
                out.push('\n');
            } else {
                out.push_str(line);
            }
        }
        out
    }
}

/// Every rule of the verifier, in the order of files and lines.
pub(crate) fn of_the_verifier(root: &Path) -> Result<Vec<Mutant>, ChoreError> {
    let mut files = vec![PathBuf::from("attestation/src/anchors.rs")];
    let dir = PathBuf::from("attestation/src/snp");
    let listing = fs::read_dir(root.join(&dir)).map_err(ChoreError::file(root.join(&dir)))?;
    for entry in listing {
        let name = entry.map_err(ChoreError::file(&dir))?.file_name();
        if Path::new(&name).extension().is_some_and(|extension| extension == "rs") {
            files.push(dir.join(name));
        }
    }
    files.sort();
    let mut mutants = Vec::new();
    for file in files {
        let path = root.join(&file);
        let text = fs::read_to_string(&path).map_err(ChoreError::file(&path))?;
        mutants.extend(in_text(&file, &text));
    }
    if mutants.iter().any(|mutant| mutant.step.is_some()) { Ok(mutants) } else { Err(ChoreError::NoSteps) }
}

fn in_text(file: &Path, text: &str) -> Vec<Mutant> {
    let shipped = &text[..text.find("#[cfg(test)]").unwrap_or(text.len())];
    let lines: Vec<&str> = shipped.lines().collect();
    let mut step = None;
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let code = line.trim();
        if let Some(comment) = code.strip_prefix("// ") {
            step = step_number(comment).or(step);
            continue;
        }
        if *line == "}" {
            step = None;
        }
        let next = lines[at + 1..].iter().map(|line| line.trim()).find(|line| !line.starts_with("//"));
        if let Some(changed) = without(line, next.unwrap_or_default()) {
            let rule = code.trim_end_matches(" {").to_owned();
            found.push(Mutant { file: file.to_owned(), line: at + 1, step, rule, changed });
        }
    }
    found
}

/// `3. Version: offset 0x000.` -> 3
fn step_number(comment: &str) -> Option<u32> {
    let (number, rest) = comment.split_once(". ")?;
    rest.starts_with(|letter: char| letter.is_ascii_uppercase()).then(|| number.parse().ok())?
}

/// The line without its rule, if it holds one.
fn without(line: &str, next: &str) -> Option<String> {
    let code = line.trim_start();
    let indent = &line[..line.len() - code.len()];
    let refuses = |text: &str| text.starts_with("return Err(");
    // if CONDITION { return Err(…)
    if let Some(condition) = code.strip_prefix("if ").and_then(|rest| rest.strip_suffix(" {"))
        && refuses(next)
        && !condition.contains("let ")
    {
        return Some(format!("{indent}if false && ({condition}) {{"));
    }
    // PATTERN => Err(…),   PATTERN => return Err(…),
    if let Some((pattern, result)) = code.split_once(" => ") {
        if result.starts_with("Err(") && result.ends_with("),") {
            return Some(format!("{indent}{pattern} => Ok(()),"));
        }
        if refuses(result) && result.ends_with("),") {
            return Some(format!("{indent}{pattern} => {{}}"));
        }
    }
    // rule(…)?;   value.verify(…).map_err(…)?;
    let is_call =
        code.ends_with(")?;") && !code.contains("!(") && code.starts_with(|letter: char| letter.is_ascii_lowercase());
    if is_call && !code.starts_with("let ") && !code.starts_with("return ") && !code.contains(" = ") {
        return Some(format!("{indent}// taken out"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
fn verify() {
    // 3. Version: offset 0.
    if !matches!(version, 2 | 3) {
        // Why.
        return Err(VerifyError::ReportVersion);
    }
    let frame = Frame::new(report)?;
    // 10. Signature: over the bytes.
    signature(frame, key)?;
    match info {
        1 => Err(VerifyError::SignerKey { actual }),
        2 => return Err(VerifyError::SignerKey),
        _ => Ok(()),
    }
}
fn other() {
    if let Some(x) = y {
        return Err(VerifyError::X);
    }
    key.verify(m).map_err(|_| VerifyError::SignatureInvalid)?;
    write!(f, x)?;
}
#[cfg(test)]
mod tests { fn x() {
    signature(frame)?;
} }
";

    #[test]
    fn guards_calls_and_arms_are_found_under_their_step_and_bindings_are_not() {
        let found = in_text(Path::new("v.rs"), TEXT);
        let seen: Vec<_> = found.iter().map(|m| (m.line, m.step, m.changed.trim())).collect();
        assert_eq!(
            seen,
            [
                (3, Some(3), "if false && (!matches!(version, 2 | 3)) {"),
                (9, Some(10), "// taken out"),
                (11, Some(10), "1 => Ok(()),"),
                (12, Some(10), "2 => {}"),
                (20, None, "// taken out"),
            ]
        );
        assert_eq!(found[0].describe(), "step 3, v.rs:3: if !matches!(version, 2 | 3)");
    }

    #[test]
    fn one_line_is_changed_and_all_others_stay() {
        let found = in_text(Path::new("v.rs"), TEXT);
        let changed = found[1].apply(TEXT);
        let differing = TEXT.lines().zip(changed.lines()).filter(|(a, b)| a != b).count();
        assert_eq!((differing, changed.lines().count()), (1, TEXT.lines().count()));
    }
}
