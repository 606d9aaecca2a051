//! Turns the `[sev-snp.tcb]` tables of a policy into floors by product and CPU.
//! It does not say that a floor is right: each has its date and source beside it in the policy.

use vouchsafe_attestation::snp::Product;

use super::{products_named, slot};
use crate::{
    PolicyError,
    raw::{RawAnnouncedFloor, RawFloor, RawMicrocode, RawTcb},
    rules::{
        dates::{Dated, Written, capped, dated, floor_source, written},
        words::Missing,
    },
};

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuFloor {
    /// Combined CPUID family.
    pub family: u8,
    /// Combined CPUID model.
    pub model: u8,
    /// One stepping; without it, every stepping that has no entry of its own.
    pub stepping: Option<u8>,
    /// The floor.
    pub min: u8,
    /// Where it comes from: its own source, or that of its table.
    pub source: String,
}

/// A floor in force.
#[derive(Clone, Debug)]
pub struct CurrentFloor {
    /// When it was written, and on whose word.
    pub written: Written,
    /// The floor.
    pub floor: TcbFloor,
}

/// A floor that holds from a day on; before it, evidence below is accepted with a warning.
#[derive(Clone, Debug)]
pub struct AnnouncedFloor {
    /// Which product.
    pub product: Product,
    /// From when, and who says so.
    pub from: Dated,
    /// The floor; a part that is not announced is 0, a CPU that is not announced is in no entry.
    pub floor: TcbFloor,
}

pub(crate) fn floors(raw: RawTcb, products: &[Product], missing: &mut Missing) -> Result<Floors, PolicyError> {
    let mut floors = [None, None, None];
    for ((product, name), raw) in products_named().into_iter().zip([raw.milan, raw.genoa, raw.turin]) {
        // A floor written for a product that is not accepted is read all the same, so that it cannot rot.
        if raw.is_some() || products.contains(&product) {
            floors[slot(product)] = Some(floor(raw.unwrap_or_default(), product, name, missing)?);
        }
    }
    let announced = capped(raw.announced, "sev-snp.tcb.announced")?.into_iter().map(announced);
    Ok((floors, announced.collect::<Result<_, _>>()?))
}

/// Floors of Milan, Genoa, Turin, and those to come.
type Floors = ([Option<CurrentFloor>; 3], Vec<AnnouncedFloor>);

fn floor(raw: RawFloor, product: Product, name: &str, missing: &mut Missing) -> Result<CurrentFloor, PolicyError> {
    let at = |field: &str| format!("sev-snp.tcb.{name}.{field}");
    if product == Product::Turin && raw.fmc.is_none() {
        missing.name(&at("fmc"));
    }
    only_turin(product, raw.fmc, &at("fmc"))?;
    let entries = missing.take(raw.microcode, &at("microcode"));
    if entries.as_ref().is_some_and(Vec::is_empty) {
        return Err(PolicyError::invalid(format!("`{}` names no CPU: no machine could ever pass", at("microcode"))));
    }
    let floor = TcbFloor {
        fmc: raw.fmc,
        bootloader: missing.take(raw.bootloader, &at("bootloader")).unwrap_or(u8::MAX),
        tee: missing.take(raw.tee, &at("tee")).unwrap_or(u8::MAX),
        snp: missing.take(raw.snp, &at("snp")).unwrap_or(u8::MAX),
        microcode: Vec::new(),
    };
    let written = written(raw.written, raw.source, &format!("sev-snp.tcb.{name}"), missing)?;
    let microcode = microcode(entries.unwrap_or_default(), &at("microcode"), &written.source)?;
    Ok(CurrentFloor { written, floor: TcbFloor { microcode, ..floor } })
}

fn announced(raw: RawAnnouncedFloor) -> Result<AnnouncedFloor, PolicyError> {
    const FIELD: &str = "sev-snp.tcb.announced";
    let product = products_named()
        .into_iter()
        .find_map(|(product, name)| (raw.product.as_deref() == Some(name)).then_some(product))
        .ok_or_else(|| PolicyError::invalid(format!("`{FIELD}.product` is none of Milan, Genoa, Turin")))?;
    let from = dated(raw.from, raw.source, FIELD, "from")?;
    only_turin(product, raw.fmc, &format!("{FIELD}.fmc"))?;
    let entries = raw.microcode.unwrap_or_default();
    let parts = [raw.fmc, raw.bootloader, raw.tee, raw.snp];
    if parts.iter().all(Option::is_none) && entries.is_empty() {
        return Err(PolicyError::invalid(format!("`{FIELD}` announces no floor")));
    }
    let floor = TcbFloor {
        fmc: raw.fmc,
        bootloader: raw.bootloader.unwrap_or(0),
        tee: raw.tee.unwrap_or(0),
        snp: raw.snp.unwrap_or(0),
        microcode: microcode(entries, &format!("{FIELD}.microcode"), &from.source)?,
    };
    Ok(AnnouncedFloor { product, from, floor })
}

fn only_turin(product: Product, fmc: Option<u8>, field: &str) -> Result<(), PolicyError> {
    if fmc.is_some() && product != Product::Turin {
        return Err(PolicyError::invalid(format!("`{field}`: only Turin has an FMC")));
    }
    Ok(())
}

/// An entry without a source of its own has that of its table.
fn microcode(raw: Vec<RawMicrocode>, field: &str, source: &str) -> Result<Vec<CpuFloor>, PolicyError> {
    let mut list: Vec<CpuFloor> = Vec::new();
    for raw in raw {
        let source = raw.source.map_or_else(|| Ok(source.to_owned()), |own| floor_source(own, field))?;
        let entry = CpuFloor { family: raw.family, model: raw.model, stepping: raw.stepping, min: raw.min, source };
        let same = |e: &CpuFloor| (e.family, e.model, e.stepping) == (entry.family, entry.model, entry.stepping);
        if list.iter().any(same) {
            return Err(PolicyError::invalid(format!("`{field}` names one CPU twice")));
        }
        list.push(entry);
    }
    Ok(list)
}
