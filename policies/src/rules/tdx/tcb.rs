//! Turns the `[tdx.tcb]` table of a policy into rules over Intel's word on a platform.
//! It does not apply them: `level.rs` and `platform.rs` do.

use vouchsafe_attestation::tdx::TcbStatus;

use crate::{
    Listed, PolicyError,
    raw::tdx::{RawAnnouncedEvaluation, RawGrace, RawTdxTcb},
    rules::{
        dates::{Dated, Written, capped, dated, written},
        words::{Missing, hex_list},
    },
};

/// What Intel must say of the platform's level.
#[derive(Clone, Debug)]
pub struct TdxTcbRules {
    /// Accepted statuses.
    pub statuses: Vec<TcbStatus>,
    /// Lowest accepted evaluation number of TCB info and QE identity.
    pub min_evaluation_number: u32,
    /// When that floor was written, and on whose word.
    pub written: Written,
    /// Advisories that may be open.
    pub advisories_accepted: Listed<String>,
    /// Accepted processor families.
    pub fmspc: Listed<[u8; 6]>,
    /// Accepted provisioning certification enclaves.
    pub pce_id: Listed<[u8; 2]>,
    /// Statuses accepted until a day; none without the table.
    pub grace: Option<StatusGrace>,
    /// Evaluation numbers to come.
    pub announced: Vec<AnnouncedEvaluation>,
}

/// Statuses that are accepted with a warning until a day.
#[derive(Clone, Debug)]
pub struct StatusGrace {
    /// Which ones.
    pub statuses: Vec<TcbStatus>,
    /// Advisories that may be open until then, besides those that always may.
    pub advisories: Listed<String>,
    /// Until when, and who says so.
    pub until: Dated,
}

/// An evaluation number that holds from a day on; before it, a lower one is accepted with a warning.
#[derive(Clone, Debug)]
pub struct AnnouncedEvaluation {
    /// From when, and who says so.
    pub from: Dated,
    /// The number.
    pub min_evaluation_number: u32,
}

const STATUSES: &str = "tdx.tcb.statuses";
const ADVISORIES: &str = "tdx.tcb.advisories_accepted";
const GRACE: &str = "tdx.tcb.grace";
const ANNOUNCED: &str = "tdx.tcb.announced";
/// Advisories listed as accepted.
const MAX_ADVISORIES: usize = 64;

impl TdxTcbRules {
    pub(super) fn total(raw: RawTdxTcb, missing: &mut Missing) -> Result<Self, PolicyError> {
        let statuses = match missing.take(raw.statuses, STATUSES) {
            None => Vec::new(),
            Some(words) => statuses(&words, STATUSES)?,
        };
        let advisories_accepted = match missing.take(raw.advisories_accepted, ADVISORIES) {
            None => Listed::Only(Vec::new()),
            Some(list) => advisories(list, ADVISORIES)?,
        };
        let fmspc = hex_list(missing.take(raw.fmspc, "tdx.tcb.fmspc"), "tdx.tcb.fmspc", 12)?;
        let pce_id = hex_list(missing.take(raw.pce_id, "tdx.tcb.pce_id"), "tdx.tcb.pce_id", 4)?;
        let grace = raw.grace.map(|raw| grace(raw, &statuses)).transpose()?;
        let announced = capped(raw.announced, ANNOUNCED)?.into_iter().map(announced).collect::<Result<_, _>>()?;
        Ok(Self {
            statuses,
            min_evaluation_number: missing
                .take(raw.min_tcb_evaluation_number, "tdx.tcb.min_tcb_evaluation_number")
                .unwrap_or(u32::MAX),
            written: written(raw.written, raw.source, "tdx.tcb", missing)?,
            advisories_accepted,
            fmspc,
            pce_id,
            grace,
            announced,
        })
    }
}

/// Intel's words, each once; a revoked platform is never accepted.
fn statuses(words: &[String], field: &str) -> Result<Vec<TcbStatus>, PolicyError> {
    let mut list = Vec::new();
    for word in words {
        let status = TcbStatus::from_word(word)
            .ok_or_else(|| PolicyError::invalid(format!("`{field}` holds a word that is none of Intel's statuses")))?;
        if status == TcbStatus::Revoked {
            return Err(PolicyError::invalid(format!("`{field}` names Revoked: Intel believes no key of that level")));
        }
        if list.contains(&status) {
            return Err(PolicyError::invalid(format!("`{field}` names a status twice")));
        }
        list.push(status);
    }
    if list.is_empty() {
        return Err(PolicyError::invalid(format!("`{field}` is an empty list: nothing could ever pass")));
    }
    Ok(list)
}

fn grace(raw: RawGrace, accepted: &[TcbStatus]) -> Result<StatusGrace, PolicyError> {
    let words = raw.statuses.ok_or_else(|| PolicyError::invalid(format!("`{GRACE}.statuses` is missing")))?;
    let statuses = statuses(&words, &format!("{GRACE}.statuses"))?;
    if statuses.iter().any(|status| accepted.contains(status)) {
        return Err(PolicyError::invalid(format!(
            "`{GRACE}.statuses` names a status that `{STATUSES}` accepts for ever"
        )));
    }
    let field = format!("{GRACE}.advisories");
    let open = raw.advisories.ok_or_else(|| PolicyError::invalid(format!("`{field}` is missing")))?;
    let advisories = advisories(open, &field)?;
    Ok(StatusGrace { statuses, advisories, until: dated(raw.until, raw.source, GRACE, "until")? })
}

fn announced(raw: RawAnnouncedEvaluation) -> Result<AnnouncedEvaluation, PolicyError> {
    let from = dated(raw.from, raw.source, ANNOUNCED, "from")?;
    let min_evaluation_number = raw
        .min_tcb_evaluation_number
        .ok_or_else(|| PolicyError::invalid(format!("`{ANNOUNCED}.min_tcb_evaluation_number` is missing")))?;
    Ok(AnnouncedEvaluation { from, min_evaluation_number })
}

fn advisories(list: Listed<String>, field: &str) -> Result<Listed<String>, PolicyError> {
    let named = list.entries();
    if named.len() > MAX_ADVISORIES || !named.iter().all(|name| advisory(name)) {
        return Err(PolicyError::invalid(format!(
            "`{field}` is not a list of at most {MAX_ADVISORIES} names such as INTEL-SA-01036"
        )));
    }
    Ok(list)
}

fn advisory(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}
