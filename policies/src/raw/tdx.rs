//! The `[tdx]` table as people write it: every field optional, unknown ones refused.
//! It does not decide what is mandatory: `rules/tdx` does.

use serde::Deserialize;

use crate::{Forbid, Listed, Need};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawTdx {
    pub mr_td: Option<Listed<String>>,
    pub rtmr0: Option<Listed<String>>,
    pub rtmr1: Option<Listed<String>>,
    pub rtmr2: Option<Listed<String>>,
    pub rtmr3: Option<Listed<String>>,
    pub config_digests: Option<Listed<String>>,
    pub platforms: Option<Listed<String>>,
    pub mr_owner: Option<Listed<String>>,
    pub mr_owner_config: Option<Listed<String>>,
    pub service_td: Option<Listed<String>>,
    pub mr_seam: Option<Listed<String>>,
    pub mr_signer_seam: Option<Listed<String>>,
    pub min_quote_version: Option<u16>,
    pub xfam: Option<u64>,
    pub attributes: Option<RawAttributes>,
    pub pck: Option<RawPck>,
    pub tcb: Option<RawTdxTcb>,
    pub collateral: Option<RawCollateral>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawAttributes {
    pub debug: Option<Forbid>,
    pub profiling: Option<Forbid>,
    pub sept_ve_disable: Option<Need>,
    pub migratable: Option<Forbid>,
    pub pks: Option<Forbid>,
    pub key_locker: Option<Forbid>,
    pub perfmon: Option<Forbid>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawPck {
    pub smt: Option<Forbid>,
    pub dynamic_platform: Option<Forbid>,
    pub cached_keys: Option<Forbid>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawTdxTcb {
    pub statuses: Option<Vec<String>>,
    pub min_tcb_evaluation_number: Option<u32>,
    pub written: Option<String>,
    pub source: Option<String>,
    pub advisories_accepted: Option<Listed<String>>,
    pub fmspc: Option<Listed<String>>,
    pub pce_id: Option<Listed<String>>,
    pub grace: Option<RawGrace>,
    pub announced: Option<Vec<RawAnnouncedEvaluation>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawGrace {
    pub statuses: Option<Vec<String>>,
    pub advisories: Option<Listed<String>>,
    pub until: Option<String>,
    pub source: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawAnnouncedEvaluation {
    pub from: Option<String>,
    pub source: Option<String>,
    pub min_tcb_evaluation_number: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawCollateral {
    pub max_age_days: Option<u32>,
    pub min_root_crl_number: Option<u32>,
    pub min_pck_crl_number: Option<u32>,
}
