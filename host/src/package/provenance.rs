//! Turns `TYPE=FILE` into what a manifest says of a statement: its kind and the SHA-256 of its bytes.
//! It does not read the statement: its own tools do, once its digest is the signed one.

use std::path::Path;

use vouchsafe_attestation::lp::sha256;
use vouchsafe_sealed::{Provenance, Statement};

use crate::{failure::Failure, files};

/// No statement of these kinds comes near it.
const MAX_STATEMENT: u64 = 64 << 20;

/// The statements that the words name, in their order.
pub fn read(words: &[String]) -> Result<Vec<Provenance>, Failure> {
    words.iter().map(|word| one(word)).collect()
}

fn one(word: &str) -> Result<Provenance, Failure> {
    let kind = |name: &str| Statement::ALL.into_iter().find(|kind| kind.as_str() == name);
    let parsed = word.split_once('=').and_then(|(name, path)| Some((kind(name)?, Path::new(path))));
    let (kind, path) = parsed.ok_or_else(|| {
        let words = Statement::ALL.map(Statement::as_str).join(", ");
        Failure::usage("--provenance is not TYPE=FILE", format!("TYPE is one of {words}"))
    })?;
    Ok(Provenance { kind, sha256: sha256(&files::read(path, MAX_STATEMENT)?) })
}

/// Refuses a package whose manifest does not name each of `statements`.
pub fn compare(statements: &[Provenance], signed: &[Provenance]) -> Result<(), Failure> {
    let Some(other) = statements.iter().find(|statement| !signed.contains(statement)) else { return Ok(()) };
    let fact = format!(
        "the signed manifest does not name this {}: its SHA-256 is {}",
        other.kind.as_str(),
        hex::encode(other.sha256)
    );
    let advice =
        "compare it with what `vouchsafe package show` lists; ask the vendor for the statement of this version";
    Err(Failure::new("PROVENANCE_MISMATCH", 10, fact, advice))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_a_kind_and_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a=b.json");
        std::fs::write(&path, "{}").unwrap();
        let word = |kind: &str| vec![format!("{kind}={}", path.display())];
        for kind in Statement::ALL {
            assert_eq!(read(&word(kind.as_str())).unwrap(), [Provenance { kind, sha256: sha256(b"{}") }]);
        }
        for wrong in [word("model-card"), word(""), vec!["slsa-provenance".to_owned()], vec![String::new()]] {
            assert_eq!(read(&wrong).unwrap_err().code, "USAGE");
        }
        assert_eq!(read(&["slsa-provenance=/".to_owned()]).unwrap_err().code, "FILE");
    }

    #[test]
    fn a_statement_must_be_named_with_its_kind() {
        let [signed, other, same_bytes] = [
            (Statement::SlsaProvenance, [1; 32]),
            (Statement::SlsaProvenance, [2; 32]),
            (Statement::DatasetStatement, [1; 32]),
        ]
        .map(|(kind, sha256)| Provenance { kind, sha256 });
        assert!(compare(&[], &[]).is_ok());
        assert!(compare(&[signed], &[other, signed]).is_ok());
        for (wrong, list) in [(other, &[signed][..]), (same_bytes, &[signed]), (signed, &[])] {
            let failure = compare(&[wrong], list).unwrap_err();
            assert_eq!((failure.code, failure.exit), ("PROVENANCE_MISMATCH", 10));
        }
    }
}
