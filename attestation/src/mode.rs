//! The two words that stand in every hash: which trust root (mode) and which technology (TEE).
//! They establish nothing by themselves: the anchors of the relying party's policy decide the mode.

use core::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::EncodingError;

/// Which trust root stands behind a verdict. Chosen by the relying party's policy, never by the evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// AMD's or Intel's root.
    Hardware,
    /// A root made on the tester's own machine: proves nothing about hardware.
    Simulation,
}

/// A confidential-VM technology.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Tee {
    /// AMD SEV-SNP.
    #[serde(rename = "sev-snp")]
    SevSnp,
    /// Intel TDX.
    #[serde(rename = "tdx")]
    Tdx,
}

impl Mode {
    /// The word used on the wire and inside hashes.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hardware => "hardware",
            Self::Simulation => "simulation",
        }
    }
}

impl Tee {
    /// The word used on the wire and inside hashes.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SevSnp => "sev-snp",
            Self::Tdx => "tdx",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Tee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Mode {
    type Err = EncodingError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        match s {
            "hardware" => Ok(Self::Hardware),
            "simulation" => Ok(Self::Simulation),
            _ => Err(EncodingError::Word("mode", "hardware or simulation")),
        }
    }
}

impl FromStr for Tee {
    type Err = EncodingError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        match s {
            "sev-snp" => Ok(Self::SevSnp),
            "tdx" => Ok(Self::Tdx),
            _ => Err(EncodingError::Word("tee", "sev-snp or tdx")),
        }
    }
}
