//! Turns policy text into a table of optional fields, with its base laid under it.
//! It does not decide what is mandatory: [`crate::Rules`] does, and is total.

pub(crate) mod tdx;

use serde::Deserialize;
use toml::{Table, Value};

use crate::{
    Forbid, Need, PolicyError,
    listed::Listed,
    presets::{self, Preset},
};

/// A policy file longer than this is refused before it is parsed.
pub const MAX_POLICY: usize = 64 * 1024;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawPolicy {
    pub version: Option<u32>,
    pub name: Option<String>,
    pub mode: Option<String>,
    pub tee: Option<Vec<String>>,
    pub extends: Option<String>,
    pub root: Option<RawRoot>,
    #[serde(rename = "sev-snp")]
    pub snp: Option<RawSnp>,
    pub tdx: Option<tdx::RawTdx>,
    pub crl: Option<RawCrl>,
    pub session: Option<RawSession>,
    pub models: Option<Listed<RawModel>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawRoot {
    pub path: Option<String>,
    pub sha256: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawSnp {
    pub measurements: Option<Listed<String>>,
    pub config_digests: Option<Listed<String>>,
    pub platforms: Option<Listed<String>>,
    pub products: Option<Listed<String>>,
    pub min_version: Option<u32>,
    pub vmpl: Option<Vec<u32>>,
    pub csp: Option<Listed<String>>,
    pub provisional_firmware: Option<Forbid>,
    pub mitigations: Option<u64>,
    pub guest_policy: Option<RawGuestPolicy>,
    pub platform: Option<RawPlatform>,
    pub tcb: Option<RawTcb>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawGuestPolicy {
    pub debug: Option<Forbid>,
    pub migrate_ma: Option<Forbid>,
    pub smt: Option<Forbid>,
    pub cxl: Option<Forbid>,
    pub single_socket: Option<Need>,
    pub mem_aes_256_xts: Option<Need>,
    pub rapl_disabled: Option<Need>,
    pub ciphertext_hiding: Option<Need>,
    pub page_swap_disabled: Option<Need>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawPlatform {
    pub alias_check: Option<Need>,
    pub ciphertext_hiding: Option<Need>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawTcb {
    #[serde(rename = "Milan")]
    pub milan: Option<RawFloor>,
    #[serde(rename = "Genoa")]
    pub genoa: Option<RawFloor>,
    #[serde(rename = "Turin")]
    pub turin: Option<RawFloor>,
    pub announced: Option<Vec<RawAnnouncedFloor>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawAnnouncedFloor {
    pub product: Option<String>,
    pub from: Option<String>,
    pub source: Option<String>,
    pub fmc: Option<u8>,
    pub bootloader: Option<u8>,
    pub tee: Option<u8>,
    pub snp: Option<u8>,
    pub microcode: Option<Vec<RawMicrocode>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawFloor {
    pub written: Option<String>,
    pub source: Option<String>,
    pub fmc: Option<u8>,
    pub bootloader: Option<u8>,
    pub tee: Option<u8>,
    pub snp: Option<u8>,
    pub microcode: Option<Vec<RawMicrocode>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawMicrocode {
    pub family: u8,
    pub model: u8,
    pub stepping: Option<u8>,
    pub min: u8,
    pub source: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawCrl {
    pub mode: Option<String>,
    pub max_age_days: Option<u32>,
    pub min_number: Option<RawMinNumber>,
}

/// One number for every product, or one per product.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum RawMinNumber {
    All(u64),
    Each(RawPerProduct),
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawPerProduct {
    #[serde(rename = "Milan")]
    pub milan: Option<u64>,
    #[serde(rename = "Genoa")]
    pub genoa: Option<u64>,
    #[serde(rename = "Turin")]
    pub turin: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawSession {
    pub max_evidence_age_s: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawModel {
    pub id: Option<String>,
    pub vendor_keys: Option<Listed<String>>,
    pub min_sequence: Option<u64>,
}

/// A policy text with its base laid under it.
#[derive(Debug)]
pub(crate) struct Layered {
    pub raw: RawPolicy,
    pub base: Option<Preset>,
    /// One sentence per field that the policy sets other than its base.
    pub reset: Vec<String>,
}

/// Reads `text`, and its base when it extends one.
pub(crate) fn layered(text: &str) -> Result<Layered, PolicyError> {
    if text.len() > MAX_POLICY {
        return Err(PolicyError::invalid(format!("the file is larger than {MAX_POLICY} bytes")));
    }
    let own: RawPolicy = toml::from_str(text).map_err(|e| invalid(text, &e))?;
    let Some(name) = own.extends.as_deref() else {
        return Ok(Layered { raw: own, base: None, reset: Vec::new() });
    };
    let known = || presets::ALL.map(|p| p.name).join(", ");
    let base = presets::find(name)
        .ok_or_else(|| PolicyError::invalid(format!("`extends` names no base; there are {}", known())))?;
    let mut merged: Table = toml::from_str(base.text).map_err(|e| invalid(base.text, &e))?;
    let mut over: Table = toml::from_str(text).map_err(|e| invalid(text, &e))?;
    over.remove("extends");
    if over.get("mode").is_some_and(|own| Some(own) != merged.get("mode")) {
        return Err(PolicyError::invalid("`mode` is not the mode of the base that the policy extends"));
    }
    // A policy states its mode itself: a base never chooses the trust root.
    merged.remove("mode");
    let mut reset = Vec::new();
    let unsaid = unsaid(&over);
    overlay(&mut merged, over, "", base.name, &mut reset);
    for (table, field) in unsaid {
        drop_field(&mut merged, &table, field);
    }
    let raw = Value::Table(merged).try_into().map_err(|e: toml::de::Error| invalid("", &e))?;
    Ok(Layered { raw, base: Some(base), reset })
}

/// Lays `over` on `under`, field by field; anything that is not a table replaces what was there.
fn overlay(under: &mut Table, over: Table, at: &str, base: &str, reset: &mut Vec<String>) {
    for (key, value) in over {
        let path = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
        match (under.get_mut(&key), value) {
            (Some(Value::Table(inner)), Value::Table(value)) => overlay(inner, value, &path, base, reset),
            (Some(old), value) => {
                if *old != value {
                    reset.push(format!("`{path}` is re-set to {value}; the base {base} says {old}"));
                }
                *old = value;
            }
            (None, value) => {
                under.insert(key, value);
            }
        }
    }
}

/// Day and source that the policy does not say of floors which it re-sets: those of the base stand for the base's floors only.
fn unsaid(over: &Table) -> Vec<(Vec<String>, &'static str)> {
    const SNP: [&str; 5] = ["fmc", "bootloader", "tee", "snp", "microcode"];
    let products =
        ["Milan", "Genoa", "Turin"].map(|product| (["sev-snp", "tcb", product].as_slice().to_vec(), &SNP[..]));
    let tdx = (vec!["tdx", "tcb"], &["min_tcb_evaluation_number"][..]);
    let mut unsaid = Vec::new();
    for (path, floors) in products.into_iter().chain([tdx]) {
        let own = path.iter().try_fold(over, |table, key| table.get(*key)?.as_table());
        let Some(own) = own.filter(|own| floors.iter().any(|floor| own.contains_key(*floor))) else { continue };
        for field in ["written", "source"].into_iter().filter(|field| !own.contains_key(*field)) {
            unsaid.push((path.iter().map(|key| (*key).to_owned()).collect(), field));
        }
    }
    unsaid
}

fn drop_field(table: &mut Table, path: &[String], field: &str) {
    match path {
        [] => drop(table.remove(field)),
        [key, rest @ ..] => {
            if let Some(Value::Table(inner)) = table.get_mut(key) {
                drop_field(inner, rest, field);
            }
        }
    }
}

/// Keeps of a parser's message only the place, the kind and our own field names.
fn invalid(text: &str, error: &toml::de::Error) -> PolicyError {
    let message = error.message();
    let ours = message.rsplit_once("expected ").map_or("", |(_, names)| names);
    let fact = if message.starts_with("unknown field") {
        format!("a field that this format does not have; here it has {ours}")
    } else if message.starts_with("duplicate key") {
        "a field or table is written twice".to_owned()
    } else if let Some(name) = message.strip_prefix("missing field ") {
        format!("the field {name} is missing here")
    } else if message.starts_with("invalid ") && !ours.is_empty() {
        format!("a value of the wrong kind; expected {ours}")
    } else if message.starts_with("unknown variant") {
        format!("another word than {ours}")
    } else {
        "not the TOML that this format asks for".to_owned()
    };
    PolicyError::Invalid { at: error.span().and_then(|span| position(text, span.start)), fact }
}

fn position(text: &str, offset: usize) -> Option<(usize, usize)> {
    let before = text.get(..offset)?;
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    Some((line, column))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        layered(text).unwrap_err().to_string()
    }

    #[test]
    fn every_preset_is_read() {
        for preset in presets::ALL {
            layered(preset.text).unwrap();
        }
    }

    #[test]
    fn unknown_and_repeated_fields_name_their_place() {
        let text = "version = 1\n[sev-snp]\nmeasurement = [\"evil\"]\n";
        let said = refused(text);
        assert!(said.contains("line 3, column 1") && said.contains("measurements") && !said.contains("evil"), "{said}");
        assert!(refused("version = 1\nversion = 1\n").contains("written twice"));
        assert!(refused("[root]\n[root]\n").contains("written twice"));
        assert!(refused("[[models]]\nid = \"a\"\nsequence = 1\n").contains("min_sequence"));
        assert!(refused("models = \"all\"").contains("a list or the word"));
        assert!(refused("[sev-snp.guest_policy]\ndebug = \"no\"").contains("forbidden"));
        assert!(refused(&" ".repeat(MAX_POLICY + 1)).contains("larger"));
    }

    #[test]
    fn the_policy_wins_over_its_base_and_says_so() {
        let text = "mode = \"simulation\"\nextends = \"simulation\"\n[sev-snp]\nvmpl = [0, 1]\n[sev-snp.tcb.Genoa]\nsnp = 0x1b\n";
        let layered = layered(text).unwrap();
        let snp = layered.raw.snp.unwrap();
        assert_eq!(snp.vmpl, Some(vec![0, 1]));
        let genoa = snp.tcb.unwrap().genoa.unwrap();
        assert_eq!((genoa.snp, genoa.tee, genoa.microcode.unwrap().len()), (Some(0x1b), Some(0), 3));
        assert_eq!(layered.reset.len(), 2, "{:?}", layered.reset);
        assert!(layered.reset.iter().any(|r| r.contains("sev-snp.vmpl")), "{:?}", layered.reset);
    }

    #[test]
    fn a_re_set_floor_has_its_own_day_and_source() {
        let head = "mode = \"simulation\"\nextends = \"simulation\"\n";
        let said = |lines: &str| {
            let raw = layered(&format!("{head}{lines}\n")).unwrap().raw;
            let (snp, tdx) = (raw.snp.unwrap().tcb.unwrap().genoa.unwrap(), raw.tdx.unwrap().tcb.unwrap());
            [snp.written, snp.source, tdx.written, tdx.source].map(|field| field.is_some())
        };
        assert_eq!(said(""), [true; 4]);
        for floor in ["bootloader = 1", "tee = 1", "snp = 1", "microcode = []", "fmc = 1"] {
            assert_eq!(said(&format!("[sev-snp.tcb.Genoa]\n{floor}")), [false, false, true, true], "{floor}");
        }
        assert_eq!(said("[sev-snp.tcb.Genoa]\nsnp = 1\nsource = \"s\""), [false, true, true, true]);
        assert_eq!(said("[sev-snp.tcb.Genoa]\nsource = \"s\""), [true; 4]);
        assert_eq!(said("[tdx.tcb]\nmin_tcb_evaluation_number = 20"), [true, true, false, false]);
        assert_eq!(said("[tdx]\ntcb.min_tcb_evaluation_number = 20\ntcb.written = \"w\""), [true, true, true, false]);
        assert_eq!(said("[tdx.tcb]\nfmspc = \"any\""), [true; 4], "no floor");
    }

    #[test]
    fn a_base_is_named_exactly_and_keeps_its_mode() {
        assert!(refused("mode = \"simulation\"\nextends = \"other\"").contains("hardware-snp-strict"));
        assert!(refused("mode = \"hardware\"\nextends = \"simulation\"").contains("mode"));
    }
}
