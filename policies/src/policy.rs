//! Turns a policy file into a total [`Policy`]: anchors and rules, nothing left to a default.
//! It judges no evidence: [`crate::appraise`] does.

use core::fmt;
use std::{fs, io, path::Path};

use vouchsafe_attestation::{Mode, Tee, anchors::Anchors};

use crate::{PolicyError, Rules, error::NOT_REGULAR, raw::MAX_POLICY};

/// A relying party's whole expectation: which root, which code, which machine, which models.
pub struct Policy {
    rules: Rules,
    anchors: Anchors,
}

impl Policy {
    /// Reads the policy at `path`, a regular file; a simulated root's path is relative to it.
    ///
    /// # Errors
    /// `POLICY_*`, or the root's own code.
    pub fn load(path: &Path) -> Result<Self, PolicyError> {
        let bytes = read_capped(path, MAX_POLICY).map_err(|e| PolicyError::Unreadable(e.kind()))?;
        let text = String::from_utf8(bytes).map_err(|_| PolicyError::invalid("the file is not UTF-8 text"))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        Self::parse(&text, &|name| read_capped(&folder.join(name), MAX_ROOT))
    }

    /// Reads policy text; `read` loads the simulated root's file that it names.
    ///
    /// # Errors
    /// `POLICY_*`, or the root's own code.
    // The one place that makes anchors: the root follows from the relying party's policy and from nothing else.
    #[allow(clippy::disallowed_methods, reason = "policies choose the anchors; nobody else does")]
    pub fn parse(text: &str, read: &dyn Fn(&str) -> io::Result<Vec<u8>>) -> Result<Self, PolicyError> {
        let (rules, root) = Rules::parse(text)?;
        let anchors = match root {
            None => Anchors::hardware(),
            Some(root) => {
                let pem = read(&root.path).map_err(|e| PolicyError::RootUnreadable(e.kind()))?;
                Anchors::simulated(&pem, &root.sha256).map_err(PolicyError::Root)?
            }
        };
        Ok(Self { rules, anchors })
    }

    /// The anchors to verify evidence under, before it is appraised.
    #[must_use]
    pub fn anchors(&self) -> &Anchors {
        &self.anchors
    }

    /// Which trust root the policy demands.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.rules.mode
    }

    /// The technologies it accepts.
    #[must_use]
    pub fn tee_accepted(&self) -> &[Tee] {
        &self.rules.tee
    }

    /// SHA-256 of the policy file's bytes.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.rules.digest
    }

    /// How old the evidence of a live connection may grow before it is attested again.
    #[must_use]
    pub fn max_evidence_age_s(&self) -> u64 {
        self.rules.max_evidence_age_s
    }

    /// The name written in the policy, or what it extends.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.rules.name
    }

    /// All its rules.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy").field("name", &self.rules.name).field("mode", &self.rules.mode).finish_non_exhaustive()
    }
}

const MAX_ROOT: usize = 64 * 1024;

/// A regular file only: opening a pipe waits for a writer, and a device may never end.
///
/// Whoever can put a pipe there between the two calls can also write the policy, and gains a wait.
fn read_capped(path: &Path, cap: usize) -> io::Result<Vec<u8>> {
    use io::Read as _;
    let regular = |meta: &fs::Metadata| match meta {
        meta if meta.is_file() => Ok(()),
        meta if meta.is_dir() => Err(io::ErrorKind::IsADirectory),
        _ => Err(NOT_REGULAR),
    };
    regular(&fs::metadata(path)?)?;
    let file = fs::File::open(path)?;
    regular(&file.metadata()?)?;
    let mut bytes = Vec::new();
    // One byte more than the cap, so that the parser can say that it is too large.
    file.take(cap as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
