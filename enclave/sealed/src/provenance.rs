//! Turns statements about a model, which travel beside its package, into digests that the vendor signs with the manifest.
//! It reads no statement: whoever has one compares its digest, and then asks what understands that kind of statement.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use vouchsafe_attestation::encoding::serde_hex;

/// A manifest names at most so many statements.
pub const MAX_PROVENANCE: usize = 16;

/// One statement about the model, named by its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// What kind of statement it is.
    #[serde(rename = "type")]
    pub kind: Statement,
    /// SHA-256 of the statement's exact bytes.
    #[serde(with = "serde_hex")]
    pub sha256: [u8; 32],
}

/// What a statement is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Statement {
    /// An OpenSSF model signature: who vouches for these files.
    OpenssfModelSigning,
    /// SLSA provenance: what built the model, and from what.
    SlsaProvenance,
    /// What is said of the data that the model was trained on.
    DatasetStatement,
}

impl Statement {
    /// Every kind there is.
    pub const ALL: [Self; 3] = [Self::OpenssfModelSigning, Self::SlsaProvenance, Self::DatasetStatement];

    /// The word in the manifest.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenssfModelSigning => "openssf-model-signing",
            Self::SlsaProvenance => "slsa-provenance",
            Self::DatasetStatement => "dataset-statement",
        }
    }
}

/// Whether a manifest may hold this list: not too long, and no two alike.
pub(crate) fn allowed(list: &[Provenance]) -> bool {
    list.len() <= MAX_PROVENANCE && list.iter().collect::<HashSet<_>>().len() == list.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(byte: u8) -> Provenance {
        Provenance { kind: Statement::SlsaProvenance, sha256: [byte; 32] }
    }

    #[test]
    fn the_words_are_those_of_the_format() {
        for kind in Statement::ALL {
            let text = format!("{{\"type\":\"{}\",\"sha256\":\"{}\"}}", kind.as_str(), "07".repeat(32));
            let entry: Provenance = serde_json::from_str(&text).unwrap();
            assert_eq!(entry, Provenance { kind, sha256: [7; 32] });
            assert_eq!(serde_json::to_string(&entry).unwrap(), text);
        }
    }

    #[test]
    fn sixteen_different_statements_are_allowed() {
        let many: Vec<_> = (0..16).map(one).collect();
        assert!(allowed(&[]) && allowed(&many));
        assert!(!allowed(&(0..17).map(one).collect::<Vec<_>>()));
        assert!(!allowed(&[one(1), one(2), one(1)]));
        // Another kind of statement may have the same bytes.
        assert!(allowed(&[one(1), Provenance { kind: Statement::DatasetStatement, ..one(1) }]));
    }
}
