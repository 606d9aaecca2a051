//! Turns a CPUID family and model, or the name in a leaf, into the product whose rules and roots apply.
//! It does not establish that the machine is that product: the leaf's chain does.

use std::fmt;

/// A line of AMD processors with its own ARK, ASK and layout of TCB versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Product {
    /// Third generation EPYC.
    Milan,
    /// Fourth generation EPYC, with Bergamo and Siena.
    Genoa,
    /// Fifth generation EPYC.
    Turin,
}

impl Product {
    /// The name used in certificates and policies.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Milan => "Milan",
            Self::Genoa => "Genoa",
            Self::Turin => "Turin",
        }
    }

    /// From the combined family and model of CPUID Fn0000_0001, as reports of version 3 and later carry them.
    ///
    /// AMD 56860 rev 1.58, offsets 0x188 and 0x189; the ranges are those that AMD's own `sev` crate uses.
    #[must_use]
    pub const fn from_cpuid(family: u8, model: u8) -> Option<Self> {
        match (family, model) {
            (0x19, 0x00..=0x0f) => Some(Self::Milan),
            (0x19, 0x10..=0x1f | 0xa0..=0xaf) => Some(Self::Genoa),
            (0x1a, 0x00..=0x11) => Some(Self::Turin),
            _ => None,
        }
    }

    /// From the product name extension of a leaf: `Genoa`, or with a stepping such as `Milan-B0` (AMD 57230).
    #[must_use]
    pub fn from_leaf_name(name: &str) -> Option<Self> {
        let line = match name.split_once('-') {
            Some((line, step)) if step.len() == 2 && step.bytes().all(|b| b.is_ascii_alphanumeric()) => line,
            Some(_) => return None,
            None => name,
        };
        [Self::Milan, Self::Genoa, Self::Turin].into_iter().find(|p| p.as_str() == line)
    }
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        assert_eq!(Product::from_leaf_name("Milan-B0"), Some(Product::Milan));
        assert_eq!(Product::from_leaf_name("Turin"), Some(Product::Turin));
        for wrong in ["", "milan", "Milan-", "Milan-B0-", "Milan-B01", "Genoa-\u{e9}", "Venice"] {
            assert_eq!(Product::from_leaf_name(wrong), None, "{wrong}");
        }
        assert_eq!(Product::from_cpuid(0x19, 0xa0), Some(Product::Genoa));
        assert_eq!(Product::from_cpuid(0x19, 0x20), None);
        assert_eq!(Product::from_cpuid(0x1a, 0x12), None);
        assert_eq!(Product::from_cpuid(0x17, 0x01), None);
    }
}
