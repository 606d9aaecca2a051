//! Turns the `[sev-snp]` table of a policy into total rules.
//! It does not apply them: its sisters in this folder do.

use serde::Deserialize;
use vouchsafe_attestation::{Mode, snp::Product};

use crate::{
    Listed, PolicyError,
    raw::{RawFloor, RawGuestPolicy, RawPlatform, RawSnp, RawTcb},
    total::hex_field,
};

/// Whether something may be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Forbid {
    /// It may not.
    Forbidden,
    /// It may; the verdict says so.
    Allowed,
}

/// Whether something must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Need {
    /// It must.
    Required,
    /// It need not; the verdict says so.
    Any,
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
    /// Whether CURRENT may be newer than COMMITTED.
    pub provisional_firmware: Forbid,
    /// Bits that both mitigation vectors must have.
    pub mitigations: u64,
    /// What the guest policy of the VM may and must say.
    pub guest_policy: GuestPolicyRules,
    /// What the platform must report of itself.
    pub platform: PlatformRules,
    /// Floors of Milan, Genoa, Turin, present for every accepted product.
    pub(crate) tcb: [Option<TcbFloor>; 3],
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

/// Lowest accepted security versions of one product.
#[derive(Clone, Debug)]
pub struct TcbFloor {
    /// Turin only.
    pub fmc: Option<u8>,
    /// Boot loader.
    pub bootloader: u8,
    /// Secure-processor operating system.
    pub tee: u8,
    /// SNP firmware.
    pub snp: u8,
    /// By CPU, since the numbers of different CPUs cannot be compared.
    pub microcode: Vec<CpuFloor>,
}

/// Lowest accepted microcode of one CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuFloor {
    /// Combined CPUID family.
    pub family: u8,
    /// Combined CPUID model.
    pub model: u8,
    /// One stepping; without it, every stepping that has no entry of its own.
    pub stepping: Option<u8>,
    /// The floor.
    pub min: u8,
}

/// Names of the fields that a policy leaves out.
#[derive(Debug, Default)]
pub(crate) struct Missing(pub Vec<String>);

impl Missing {
    pub(crate) fn take<T>(&mut self, value: Option<T>, name: &str) -> Option<T> {
        if value.is_none() {
            self.name(name);
        }
        value
    }

    pub(crate) fn name(&mut self, name: &str) {
        self.0.push(name.to_owned());
    }

    fn forbid(&mut self, value: Option<Forbid>, name: &str) -> Forbid {
        self.take(value, name).unwrap_or(Forbid::Forbidden)
    }

    fn need(&mut self, value: Option<Need>, name: &str) -> Need {
        self.take(value, name).unwrap_or(Need::Required)
    }
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
    pub fn tcb(&self, product: Product) -> Option<&TcbFloor> {
        self.tcb[slot(product)].as_ref()
    }

    pub(crate) fn total(raw: RawSnp, mode: Mode, missing: &mut Missing) -> Result<Self, PolicyError> {
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
        let tcb = floors(raw.tcb.unwrap_or_default(), &products, missing)?;
        Ok(Self {
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
        })
    }
}

fn hex_list<const N: usize>(
    raw: Option<Listed<String>>,
    field: &str,
    digits: usize,
) -> Result<Listed<[u8; N]>, PolicyError> {
    match raw {
        Some(Listed::Only(list)) if list.is_empty() => {
            Err(PolicyError::invalid(format!("`{field}` is an empty list: nothing could ever pass")))
        }
        Some(listed) => listed.try_map(|text| hex_field(&text, field, digits)),
        None => Ok(Listed::Only(Vec::new())),
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

fn floors(raw: RawTcb, products: &[Product], missing: &mut Missing) -> Result<[Option<TcbFloor>; 3], PolicyError> {
    let mut floors = [None, None, None];
    for ((product, name), raw) in products_named().into_iter().zip([raw.milan, raw.genoa, raw.turin]) {
        // A floor written for a product that is not accepted is read all the same, so that it cannot rot.
        if raw.is_some() || products.contains(&product) {
            floors[slot(product)] = Some(floor(raw.unwrap_or_default(), product, name, missing)?);
        }
    }
    Ok(floors)
}

fn floor(raw: RawFloor, product: Product, name: &str, missing: &mut Missing) -> Result<TcbFloor, PolicyError> {
    let at = |field: &str| format!("sev-snp.tcb.{name}.{field}");
    let fmc = match (product, raw.fmc) {
        (Product::Turin, None) => {
            missing.name(&at("fmc"));
            None
        }
        (Product::Milan | Product::Genoa, Some(_)) => {
            return Err(PolicyError::invalid(format!("`{}`: only Turin has an FMC", at("fmc"))));
        }
        (_, fmc) => fmc,
    };
    let mut microcode: Vec<CpuFloor> = Vec::new();
    for raw in missing.take(raw.microcode, &at("microcode")).into_iter().flatten() {
        let entry = CpuFloor { family: raw.family, model: raw.model, stepping: raw.stepping, min: raw.min };
        let same = |e: &CpuFloor| (e.family, e.model, e.stepping) == (entry.family, entry.model, entry.stepping);
        if microcode.iter().any(same) {
            return Err(PolicyError::invalid(format!("`{}` names one CPU twice", at("microcode"))));
        }
        microcode.push(entry);
    }
    Ok(TcbFloor {
        fmc,
        bootloader: missing.take(raw.bootloader, &at("bootloader")).unwrap_or(u8::MAX),
        tee: missing.take(raw.tee, &at("tee")).unwrap_or(u8::MAX),
        snp: missing.take(raw.snp, &at("snp")).unwrap_or(u8::MAX),
        microcode,
    })
}
