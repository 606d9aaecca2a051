//! Turns the `[tdx]` table of a policy into total rules.
//! It does not apply them: its sisters in this folder do.

mod level;
mod platform;
mod tcb;
mod td;

pub use tcb::{AnnouncedEvaluation, StatusGrace, TdxTcbRules};

use vouchsafe_attestation::{Mode, UnixTime, tdx::TdxFacts};

use super::words::{Forbid, Missing, Need, hex_list};
use crate::{
    Listed, PolicyError,
    raw::tdx::{RawAttributes, RawCollateral, RawPck, RawTdx},
    table::Table,
};

/// Applies every rule of the table.
pub(crate) fn judge(table: &mut Table, facts: &TdxFacts, rules: &TdxRules, at: UnixTime) {
    td::code(table, facts, rules);
    td::attributes(table, facts, rules);
    platform::module(table, facts, rules);
    platform::machine(table, facts, rules);
    level::status(table, facts, rules, at);
    level::advisories(table, facts, rules, at);
    level::evaluation(table, facts, rules, at);
    platform::collateral(table, facts, rules, at);
}

/// Everything that a policy says of TDX.
#[derive(Clone, Debug)]
pub struct TdxRules {
    /// Accepted measurements of the TD's first contents.
    pub mr_td: Listed<[u8; 48]>,
    /// Accepted values of RTMR0 to RTMR3; `any` for RTMR3 only.
    pub rtmr: [Listed<[u8; 48]>; 4],
    /// Accepted SHA-256 digests of the bound configuration.
    pub config_digests: Listed<[u8; 32]>,
    /// Accepted machines, by their platform provisioning identifier (PPID).
    pub platforms: Listed<[u8; 16]>,
    /// Accepted owner identities.
    pub mr_owner: Listed<[u8; 48]>,
    /// Accepted owner configurations.
    pub mr_owner_config: Listed<[u8; 48]>,
    /// Accepted service TDs besides none.
    pub service_td: Listed<[u8; 48]>,
    /// Accepted TDX modules.
    pub mr_seam: Listed<[u8; 48]>,
    /// Accepted signers of the TDX module; zero is Intel.
    pub mr_signer_seam: Listed<[u8; 48]>,
    /// Oldest accepted quote version.
    pub min_quote_version: u16,
    /// Extended features that the TD may have.
    pub xfam: u64,
    /// Rules over ATTRIBUTES.
    pub attributes: TdAttributeRules,
    /// Rules over the flags of the PCK certificate.
    pub pck: PckRules,
    /// What Intel must say of the platform's level.
    pub tcb: TdxTcbRules,
    /// How fresh Intel's collateral must be.
    pub collateral: CollateralRules,
}

/// Rules over the attributes of a TD. SEPT_VE_DISABLE and MIGRATABLE are no choice: verification demands the one and refuses
/// the other.
#[derive(Clone, Copy, Debug)]
pub struct TdAttributeRules {
    /// Bit 0: the host may debug the TD.
    pub debug: Forbid,
    /// Bits 1 to 7: other ways to look into it.
    pub profiling: Forbid,
    /// Bit 30: supervisor protection keys.
    pub pks: Forbid,
    /// Bit 31: Key Locker.
    pub key_locker: Forbid,
    /// Bit 63: performance counters.
    pub perfmon: Forbid,
}

/// Rules over the flags of the PCK certificate.
#[derive(Clone, Copy, Debug)]
pub struct PckRules {
    /// Sibling threads.
    pub smt: Forbid,
    /// Packages can be added to the platform.
    pub dynamic_platform: Forbid,
    /// Intel keeps the platform's root keys.
    pub cached_keys: Forbid,
}

/// How fresh Intel's collateral must be.
#[derive(Clone, Copy, Debug)]
pub struct CollateralRules {
    /// Oldest accepted age of its oldest item.
    pub max_age_days: u32,
    /// Lowest accepted number of the root authority's revocation list.
    pub min_root_crl_number: u32,
    /// Lowest accepted number of the PCK authority's revocation list.
    pub min_pck_crl_number: u32,
}

impl TdxRules {
    /// Every `any` that was written, in words.
    pub(crate) fn anys(&self, words: &mut Vec<String>) {
        for (any, field, what) in [
            (self.mr_td.is_any(), "mr_td", "code"),
            (self.rtmr[3].is_any(), "rtmr3", "content that the guest measured later"),
            (self.config_digests.is_any(), "config_digests", "configuration"),
            (self.platforms.is_any(), "platforms", "machine"),
            (self.mr_owner.is_any(), "mr_owner", "owner that the host names"),
            (self.mr_owner_config.is_any(), "mr_owner_config", "owner's configuration that the host names"),
            (self.service_td.is_any(), "service_td", "service TD"),
            (self.mr_seam.is_any(), "mr_seam", "TDX module of an accepted signer"),
            (self.mr_signer_seam.is_any(), "mr_signer_seam", "signer of the TDX module"),
            (self.tcb.advisories_accepted.is_any(), "tcb.advisories_accepted", "open advisory"),
            (self.tcb.fmspc.is_any(), "tcb.fmspc", "processor family"),
            (self.tcb.pce_id.is_any(), "tcb.pce_id", "provisioning enclave"),
        ] {
            if any {
                words.push(format!("`tdx.{field}` = any: any {what} is accepted"));
            }
        }
    }

    pub(crate) fn total(raw: RawTdx, mode: Mode, missing: &mut Missing) -> Result<Self, PolicyError> {
        let mut digests = |raw, field: &str| hex_list(missing.take(raw, field), field, 96);
        let mr_td = digests(raw.mr_td, "tdx.mr_td")?;
        let rtmr = [
            digests(raw.rtmr0, "tdx.rtmr0")?,
            digests(raw.rtmr1, "tdx.rtmr1")?,
            digests(raw.rtmr2, "tdx.rtmr2")?,
            digests(raw.rtmr3, "tdx.rtmr3")?,
        ];
        let mr_owner = digests(raw.mr_owner, "tdx.mr_owner")?;
        let mr_owner_config = digests(raw.mr_owner_config, "tdx.mr_owner_config")?;
        let mr_seam = digests(raw.mr_seam, "tdx.mr_seam")?;
        let mr_signer_seam = digests(raw.mr_signer_seam, "tdx.mr_signer_seam")?;
        let hardware = mode == Mode::Hardware;
        for (refused, field, why) in [
            (hardware && mr_td.is_any(), "mr_td", "under mode hardware: any code at all would pass"),
            (rtmr[0].is_any(), "rtmr0", "record the firmware's configuration and list it"),
            (rtmr[1].is_any(), "rtmr1", "record the kernel and list it"),
            (rtmr[2].is_any(), "rtmr2", "record the command line and the initial disk and list them"),
            (hardware && mr_signer_seam.is_any(), "mr_signer_seam", "under mode hardware: any TDX module would pass"),
        ] {
            if refused {
                return Err(PolicyError::invalid(format!("`tdx.{field} = \"any\"`: {why}")));
            }
        }
        let config_digests =
            hex_list(missing.take(raw.config_digests, "tdx.config_digests"), "tdx.config_digests", 64)?;
        let platforms = hex_list(missing.take(raw.platforms, "tdx.platforms"), "tdx.platforms", 32)?;
        if platforms.entries().contains(&[0; 16]) {
            return Err(PolicyError::invalid("`tdx.platforms` names the platform zero, which is nobody"));
        }
        // An empty list is what most should write here: no service TD at all.
        let service_td = match missing.take(raw.service_td, "tdx.service_td") {
            Some(Listed::Only(list)) if list.is_empty() => Listed::Only(Vec::new()),
            raw => hex_list(raw, "tdx.service_td", 96)?,
        };
        let min_quote_version = missing.take(raw.min_quote_version, "tdx.min_quote_version").unwrap_or(u16::MAX);
        if !matches!(min_quote_version, 4 | 5 | u16::MAX) {
            return Err(PolicyError::invalid("`tdx.min_quote_version` is neither 4 nor 5"));
        }
        let xfam = missing.take(raw.xfam, "tdx.xfam").unwrap_or(3);
        if xfam & 3 != 3 {
            return Err(PolicyError::invalid("`tdx.xfam` lacks bits 0 and 1, which every TD has"));
        }
        Ok(Self {
            mr_td,
            rtmr,
            config_digests,
            platforms,
            mr_owner,
            mr_owner_config,
            service_td,
            mr_seam,
            mr_signer_seam,
            min_quote_version,
            xfam,
            attributes: attributes(&raw.attributes.unwrap_or_default(), missing)?,
            pck: pck(&raw.pck.unwrap_or_default(), missing),
            tcb: TdxTcbRules::total(raw.tcb.unwrap_or_default(), missing)?,
            collateral: collateral(&raw.collateral.unwrap_or_default(), missing)?,
        })
    }
}

fn attributes(raw: &RawAttributes, missing: &mut Missing) -> Result<TdAttributeRules, PolicyError> {
    let debug = missing.forbid(raw.debug, "tdx.attributes.debug");
    let profiling = missing.forbid(raw.profiling, "tdx.attributes.profiling");
    // These two stand in a policy so that its reader sees the demand. Looser words would change nothing.
    if missing.need(raw.sept_ve_disable, "tdx.attributes.sept_ve_disable") != Need::Required {
        return Err(PolicyError::Unsupported(
            "`tdx.attributes.sept_ve_disable = \"any\"`: verification refuses every quote of a TD without SEPT_VE_DISABLE; \
             write \"required\"",
        ));
    }
    if missing.forbid(raw.migratable, "tdx.attributes.migratable") != Forbid::Forbidden {
        return Err(PolicyError::Unsupported(
            "`tdx.attributes.migratable = \"allowed\"`: verification refuses every quote of a TD that can be migrated; \
             write \"forbidden\"",
        ));
    }
    Ok(TdAttributeRules {
        debug,
        profiling,
        pks: missing.forbid(raw.pks, "tdx.attributes.pks"),
        key_locker: missing.forbid(raw.key_locker, "tdx.attributes.key_locker"),
        perfmon: missing.forbid(raw.perfmon, "tdx.attributes.perfmon"),
    })
}

fn pck(raw: &RawPck, missing: &mut Missing) -> PckRules {
    PckRules {
        smt: missing.forbid(raw.smt, "tdx.pck.smt"),
        dynamic_platform: missing.forbid(raw.dynamic_platform, "tdx.pck.dynamic_platform"),
        cached_keys: missing.forbid(raw.cached_keys, "tdx.pck.cached_keys"),
    }
}

fn collateral(raw: &RawCollateral, missing: &mut Missing) -> Result<CollateralRules, PolicyError> {
    let max_age_days = missing.take(raw.max_age_days, "tdx.collateral.max_age_days").unwrap_or(1);
    if max_age_days == 0 || max_age_days > 3660 {
        return Err(PolicyError::invalid("`tdx.collateral.max_age_days` is not 1 to 3660"));
    }
    Ok(CollateralRules {
        max_age_days,
        min_root_crl_number: missing.take(raw.min_root_crl_number, "tdx.collateral.min_root_crl_number").unwrap_or(0),
        min_pck_crl_number: missing.take(raw.min_pck_crl_number, "tdx.collateral.min_pck_crl_number").unwrap_or(0),
    })
}
