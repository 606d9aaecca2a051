//! Turns the `[crl]` table of a policy into total rules.
//! It does not apply them: `platform.rs` does.

use vouchsafe_attestation::snp::Product;

use super::products_named;
use crate::{
    PolicyError,
    raw::{RawCrl, RawMinNumber},
    rules::words::Missing,
};

/// How fresh revocation lists must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrlRules {
    /// Oldest accepted age.
    pub max_age_days: u32,
    /// Lowest accepted list number for Milan, Genoa, Turin.
    pub min_number: [u64; 3],
}

pub(crate) fn crl(raw: RawCrl, products: &[Product], missing: &mut Missing) -> Result<CrlRules, PolicyError> {
    match missing.take(raw.mode, "crl.mode").as_deref() {
        None | Some("required") => {}
        Some(_) => return Err(PolicyError::Unsupported("a `crl.mode` other than \"required\"")),
    }
    let max_age_days = missing.take(raw.max_age_days, "crl.max_age_days").unwrap_or(1);
    if max_age_days == 0 || max_age_days > 3660 {
        return Err(PolicyError::invalid("`crl.max_age_days` is not 1 to 3660"));
    }
    let min_number = match missing.take(raw.min_number, "crl.min_number") {
        None => [0; 3],
        Some(RawMinNumber::All(number)) => [number; 3],
        Some(RawMinNumber::Each(each)) => {
            // Only the products that the policy accepts need a number.
            let numbers = [each.milan, each.genoa, each.turin];
            for (product, number) in products_named().into_iter().zip(numbers) {
                if number.is_none() && products.contains(&product.0) {
                    missing.name(&format!("crl.min_number.{}", product.1));
                }
            }
            numbers.map(Option::unwrap_or_default)
        }
    };
    Ok(CrlRules { max_age_days, min_number })
}
