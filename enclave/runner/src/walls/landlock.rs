//! Turns the kernel's Landlock into a wall with no gap: no file, no TCP port, no signal or abstract socket of a stranger.
//! An older kernel enforces the part that it knows, or nothing; whether that is enough is the gate's to say.

use ::landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _, RulesetStatus,
    Scope,
};
use serde::{Deserialize, Serialize};

use crate::error::Wall;

/// The newest interface whose rights are taken away.
const NEWEST: ABI = ABI::V6;

/// How much of Landlock the kernel enforces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fence {
    /// All that is asked for.
    Full,
    /// What an older kernel knows.
    Partial,
    /// Nothing.
    None,
}

impl Fence {
    /// Its word in public events.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Partial => "partial",
            Self::None => "none",
        }
    }
}

/// Takes away every right, from this thread and those that it starts.
pub fn raise() -> Result<Fence, Wall> {
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))
        .and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(NEWEST)))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(NEWEST)))
        .and_then(Ruleset::create)
        .and_then(::landlock::RulesetCreated::restrict_self)
        .map_err(|_| Wall::Landlock)?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Fence::Full,
        RulesetStatus::PartiallyEnforced => Fence::Partial,
        RulesetStatus::NotEnforced => Fence::None,
    })
}
