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

/// Right above a rule that refuses what nobody knows how to make: it is listed, not taken out.
const NO_VECTOR: &str = "// No vector: ";

/// What the verifier's sources hold.
pub(crate) struct Rules {
    /// Every rule that can be taken out, in the order of files and lines.
    pub(crate) mutants: Vec<Mutant>,
    /// The numbered steps under which no line has the form of a rule: what follows needs their result, or a crate decides them.
    pub(crate) kept: Vec<String>,
}

/// Every rule of the verifier: of the anchors, of SEV-SNP and of TDX.
pub(crate) fn of_the_verifier(root: &Path) -> Result<Rules, ChoreError> {
    let mut files = vec![PathBuf::from("attestation/src/anchors.rs")];
    for dir in ["attestation/src/snp", "attestation/src/tdx"].map(PathBuf::from) {
        let listing = fs::read_dir(root.join(&dir)).map_err(ChoreError::file(root.join(&dir)))?;
        for entry in listing {
            let name = entry.map_err(ChoreError::file(&dir))?.file_name();
            if Path::new(&name).extension().is_some_and(|extension| extension == "rs") {
                files.push(dir.join(name));
            }
        }
    }
    files.sort();
    let mut rules = Rules { mutants: Vec::new(), kept: Vec::new() };
    for file in files {
        let path = root.join(&file);
        let text = fs::read_to_string(&path).map_err(ChoreError::file(&path))?;
        let found = in_text(&file, &text);
        let is_seen = |comment: &&str| {
            let number = step_number(comment);
            number.is_none() || found.iter().any(|mutant| mutant.step == number)
        };
        let comments = text.lines().filter_map(|line| line.trim().strip_prefix("// "));
        rules.kept.extend(comments.filter(|c| !is_seen(c)).map(|comment| format!("{}: {comment}", file.display())));
        let excused = text.lines().filter(|line| line.trim().starts_with(NO_VECTOR));
        rules.kept.extend(excused.map(|line| format!("{}: {}", file.display(), line.trim().trim_start_matches("// "))));
        // An orchestrator whose steps are not seen would be proved by nothing.
        if file.ends_with("verify.rs") && !found.iter().any(|mutant| mutant.step.is_some()) {
            return Err(ChoreError::NoSteps);
        }
        rules.mutants.extend(found);
    }
    Ok(rules)
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
        let excused = at > 0 && lines[at - 1].trim().starts_with(NO_VECTOR);
        if let Some(changed) = without(line, next.unwrap_or_default()).filter(|_| !excused) {
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
    // No vector: two readings of the same bytes.
    same(a, b)?;
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
