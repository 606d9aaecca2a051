//! Turns the forge into committed vectors, and the committed vectors into COVERAGE.md.
//! It establishes nothing: `cargo xtask test` walks the vectors and compares the page.

use std::fs;

use crate::error::ChoreError;
use crate::workspace::{Workspace, ended_well};

/// Who writes what. The TDX cases take their ARK and ASK from the SEV-SNP ones, hence the order.
const MAKERS: [(&str, &str); 2] = [("sev-snp", "vouchsafe-attestation"), ("tdx", "vouchsafe-simulator")];

/// `cargo xtask vectors [sev-snp|tdx]`: writes `tests/vectors/evidence` anew. Signatures are random, so every byte changes.
pub(crate) fn make(workspace: &Workspace, args: &[String]) -> Result<u8, ChoreError> {
    let only = match args {
        [] => None,
        [tee] if MAKERS.iter().any(|(known, _)| known == tee) => Some(tee),
        _ => return Err(ChoreError::Usage("`vectors` takes at most `sev-snp` or `tdx`".to_owned())),
    };
    for (tee, package) in MAKERS.iter().filter(|(tee, _)| only.is_none_or(|only| only == tee)) {
        eprintln!("vectors: {tee}");
        let mut command = workspace.cargo();
        command.args(["test", "--locked", "--package", package, "--test", "make_vectors"]);
        let status = command.status().map_err(|source| ChoreError::Start { program: "cargo", source })?;
        if !ended_well(status)? {
            return Err(ChoreError::TestsFailed);
        }
    }
    Ok(0)
}

/// `cargo xtask coverage`: writes COVERAGE.md. The test that compares it prints what it ought to be.
pub(crate) fn coverage(workspace: &Workspace) -> Result<u8, ChoreError> {
    let page = workspace.target().join("COVERAGE.md");
    let _ = fs::remove_file(&page);
    let mut command = workspace.cargo();
    let status = command
        .args(["test", "--locked", "--package", "vouchsafe-tests", "--test", "vectors", "coverage"])
        .env("VOUCHSAFE_COVERAGE_PAGE", &page)
        .status()
        .map_err(|source| ChoreError::Start { program: "cargo", source })?;
    ended_well(status)?;
    let place = workspace.root().join("COVERAGE.md");
    if !page.is_file() {
        return Err(ChoreError::TestsFailed);
    }
    fs::copy(&page, &place).map_err(ChoreError::file(&place))?;
    println!("wrote {}", place.display());
    Ok(0)
}
