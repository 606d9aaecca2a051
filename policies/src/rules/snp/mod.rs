//! Turns the `[sev-snp]` table of a policy into total rules.
//! It does not apply them: its sisters in this folder do.

pub(crate) mod crl;
mod floors;
mod guest;
mod platform;
mod tcb;

pub use crl::CrlRules;
pub use floors::{AnnouncedFloor, CpuFloor, CurrentFloor, TcbFloor};

use vouchsafe_attestation::{
    Mode, UnixTime,
    snp::{Product, SnpFacts},
};

use super::words::{Forbid, Missing, Need, hex_list};
use crate::{
    Listed, PolicyError,
    raw::{RawCrl, RawGuestPolicy, RawPlatform, RawSnp},
    table::Table,
    total::hex_field,
};

/// Applies every rule of the table.
pub(crate) fn judge(table: &mut Table, facts: &SnpFacts, rules: &SnpRules, at: UnixTime) {
    guest::code(table, facts, rules);
    guest::policy(table, facts, rules);
    platform::machine(table, facts, rules);
    tcb::floors(table, facts, rules);
    tcb::announced(table, facts, rules, at);
    tcb::firmware(table, facts, rules);
    tcb::consistent(table, &facts.report);
    platform::revocation(table, facts, rules, at);
}

/// Everything that a policy says of SEV-SNP.
#[derive(Clone, Debug)]
pub struct SnpRules {
    /// Accepted launch digests.
    pub measurements: Listed<[u8; 48]>,
    /// Accepted SHA-256 digests of the bound configuration.
    pub config_digests: Listed<[u8; 32]>,
    /// Accepted chips.
    pub platforms: Listed<[u8; 64]>,
    /// Accepted processor families.
    pub products: Vec<Product>,
    /// Oldest accepted report version.
    pub min_version: u32,
    /// Accepted privilege levels.
    pub vmpl: Vec<u32>,
    /// Cloud providers whose key (VLEK) may stand for the chip's own.
    pub csp: Listed<String>,
    /// Whether CURRENT may be newer than COMMITTED. The reverse never may.
    pub provisional_firmware: Forbid,
    /// Bits that both mitigation vectors must have.
    pub mitigations: u64,
    /// What the guest policy of the VM may and must say.
    pub guest_policy: GuestPolicyRules,
    /// What the platform must report of itself.
    pub platform: PlatformRules,
    /// How fresh revocation lists must be: the table `[crl]`.
    pub crl: CrlRules,
    /// Floors of Milan, Genoa, Turin, present for every accepted product.
    pub(crate) tcb: [Option<CurrentFloor>; 3],
    /// Floors to come.
    pub announced: Vec<AnnouncedFloor>,
}

/// Rules over the guest policy.
#[derive(Clone, Copy, Debug)]
pub struct GuestPolicyRules {
    /// Bit 19: the host may debug the guest.
    pub debug: Forbid,
    /// Bit 18: a migration agent may be associated.
    pub migrate_ma: Forbid,
    /// Bit 16: sibling threads may be on.
    pub smt: Forbid,
    /// Bit 21: CXL memory or devices may be there.
    pub cxl: Forbid,
    /// Bit 20: one socket only.
    pub single_socket: Need,
    /// Bit 22: AES-256-XTS memory encryption.
    pub mem_aes_256_xts: Need,
    /// Bit 23: no running-average power limit.
    pub rapl_disabled: Need,
    /// Bit 24: ciphertext hiding for DRAM.
    pub ciphertext_hiding: Need,
    /// Bit 25: guest pages are never swapped.
    pub page_swap_disabled: Need,
}

/// Rules over PLATFORM_INFO.
#[derive(Clone, Copy, Debug)]
pub struct PlatformRules {
    /// Bit 5: aliasing addresses were looked for since the last boot.
    pub alias_check: Need,
    /// Bit 4: ciphertext hiding is on.
    pub ciphertext_hiding: Need,
}

/// Every product with the name that policies use.
pub(crate) const fn products_named() -> [(Product, &'static str); 3] {
    [(Product::Milan, "Milan"), (Product::Genoa, "Genoa"), (Product::Turin, "Turin")]
}

pub(crate) const fn slot(product: Product) -> usize {
    match product {
        Product::Milan => 0,
        Product::Genoa => 1,
        Product::Turin => 2,
    }
}

impl SnpRules {
    /// The floors for `product`, if the policy has any.
    #[must_use]
    pub fn tcb(&self, product: Product) -> Option<&CurrentFloor> {
        self.tcb[slot(product)].as_ref()
    }

    /// Every `any` that was written, in words.
    pub(crate) fn anys(&self, words: &mut Vec<String>) {
        for (any, field, what) in [
            (self.measurements.is_any(), "measurements", "code"),
            (self.config_digests.is_any(), "config_digests", "configuration"),
            (self.platforms.is_any(), "platforms", "machine"),
            (self.csp.is_any(), "csp", "cloud provider's key"),
        ] {
            if any {
                words.push(format!("`sev-snp.{field}` = any: any {what} is accepted"));
            }
        }
        let mut open: Vec<_> = guest::REQUIRED
            .iter()
            .filter(|bit| (bit.rule)(&self.guest_policy) == Need::Any)
            .map(|bit| format!("guest_policy.{}", bit.field))
            .collect();
        for (need, field) in
            [(self.platform.alias_check, "alias_check"), (self.platform.ciphertext_hiding, "ciphertext_hiding")]
        {
            if need == Need::Any {
                open.push(format!("platform.{field}"));
            }
        }
        if !open.is_empty() {
            words.push(format!("any, on or off: {}", open.join(", ")));
        }
    }

    pub(crate) fn total(raw: RawSnp, raw_crl: RawCrl, mode: Mode, missing: &mut Missing) -> Result<Self, PolicyError> {
        let csp = missing.take(raw.csp, "sev-snp.csp").unwrap_or(Listed::Only(Vec::new()));
        if csp.entries().iter().any(|c| c.is_empty() || c.len() > 128 || !c.bytes().all(|b| b.is_ascii_graphic())) {
            return Err(PolicyError::invalid("`sev-snp.csp` holds an entry that is not 1 to 128 printable characters"));
        }
        let measurements = missing.take(raw.measurements, "sev-snp.measurements");
        if mode == Mode::Hardware && matches!(measurements, Some(Listed::Any)) {
            return Err(PolicyError::invalid(
                "`sev-snp.measurements = \"any\"` under mode hardware: any code at all would pass",
            ));
        }
        let measurements = hex_list(measurements, "sev-snp.measurements", 96)?;
        let config_digests = missing.take(raw.config_digests, "sev-snp.config_digests");
        let config_digests = hex_list(config_digests, "sev-snp.config_digests", 64)?;
        let platforms = platforms(missing.take(raw.platforms, "sev-snp.platforms"), &csp)?;
        let products = products(missing.take(raw.products, "sev-snp.products"))?;
        let vmpl = missing.take(raw.vmpl, "sev-snp.vmpl");
        if vmpl.as_ref().is_some_and(|list| list.is_empty() || list.iter().any(|level| *level > 3)) {
            return Err(PolicyError::invalid("`sev-snp.vmpl` is not a list of levels 0 to 3"));
        }
        let (tcb, announced) = floors::floors(raw.tcb.unwrap_or_default(), &products, missing)?;
        let crl = crl::crl(raw_crl, &products, missing)?;
        Ok(Self {
            crl,
            measurements,
            config_digests,
            platforms,
            products,
            min_version: missing.take(raw.min_version, "sev-snp.min_version").unwrap_or(u32::MAX),
            vmpl: vmpl.unwrap_or_default(),
            csp,
            provisional_firmware: missing.forbid(raw.provisional_firmware, "sev-snp.provisional_firmware"),
            mitigations: missing.take(raw.mitigations, "sev-snp.mitigations").unwrap_or(u64::MAX),
            guest_policy: guest_policy(&raw.guest_policy.unwrap_or_default(), missing),
            platform: platform(&raw.platform.unwrap_or_default(), missing),
            tcb,
            announced,
        })
    }
}

/// A chip is named by its 64 bytes, or on Turin by the 8 bytes that its certificate names (the rest of the field is zero).
fn platforms(raw: Option<Listed<String>>, csp: &Listed<String>) -> Result<Listed<[u8; 64]>, PolicyError> {
    const FIELD: &str = "sev-snp.platforms";
    match raw {
        None => Ok(Listed::Only(Vec::new())),
        // A policy for one cloud provider only names no chip.
        Some(Listed::Only(list)) if list.is_empty() && !csp.is_any() && csp.entries().is_empty() => {
            Err(PolicyError::invalid("`sev-snp.platforms` and `sev-snp.csp` are both empty: nothing could ever pass"))
        }
        Some(listed) => listed.try_map(|text| {
            let mut id = [0; 64];
            if text.len() == 16 {
                id[..8].copy_from_slice(&hex_field::<8>(&text, FIELD, 16)?);
            } else {
                id = hex_field(&text, FIELD, 128)?;
            }
            if id == [0; 64] {
                return Err(PolicyError::invalid("`sev-snp.platforms` names a masked chip id (all zero); see `csp`"));
            }
            Ok(id)
        }),
    }
}

fn products(raw: Option<Listed<String>>) -> Result<Vec<Product>, PolicyError> {
    let words = match raw {
        None => return Ok(Vec::new()),
        Some(Listed::Only(words)) if !words.is_empty() => words,
        Some(_) => {
            return Err(PolicyError::invalid(
                "`sev-snp.products` must name products: \"Genoa\", \"Turin\", or \"Milan\"",
            ));
        }
    };
    let mut products = Vec::new();
    for word in words {
        let (product, _) = products_named()
            .into_iter()
            .find(|(_, name)| *name == word)
            .ok_or_else(|| PolicyError::invalid("`sev-snp.products` holds another word than Milan, Genoa, Turin"))?;
        if products.contains(&product) {
            return Err(PolicyError::invalid("`sev-snp.products` names a product twice"));
        }
        products.push(product);
    }
    Ok(products)
}

fn guest_policy(raw: &RawGuestPolicy, missing: &mut Missing) -> GuestPolicyRules {
    GuestPolicyRules {
        debug: missing.forbid(raw.debug, "sev-snp.guest_policy.debug"),
        migrate_ma: missing.forbid(raw.migrate_ma, "sev-snp.guest_policy.migrate_ma"),
        smt: missing.forbid(raw.smt, "sev-snp.guest_policy.smt"),
        cxl: missing.forbid(raw.cxl, "sev-snp.guest_policy.cxl"),
        single_socket: missing.need(raw.single_socket, "sev-snp.guest_policy.single_socket"),
        mem_aes_256_xts: missing.need(raw.mem_aes_256_xts, "sev-snp.guest_policy.mem_aes_256_xts"),
        rapl_disabled: missing.need(raw.rapl_disabled, "sev-snp.guest_policy.rapl_disabled"),
        ciphertext_hiding: missing.need(raw.ciphertext_hiding, "sev-snp.guest_policy.ciphertext_hiding"),
        page_swap_disabled: missing.need(raw.page_swap_disabled, "sev-snp.guest_policy.page_swap_disabled"),
    }
}

fn platform(raw: &RawPlatform, missing: &mut Missing) -> PlatformRules {
    PlatformRules {
        alias_check: missing.need(raw.alias_check, "sev-snp.platform.alias_check"),
        ciphertext_hiding: missing.need(raw.ciphertext_hiding, "sev-snp.platform.ciphertext_hiding"),
    }
}
