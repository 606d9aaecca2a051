//! Turns the words of the Open Inference Protocol for element types into what the rules need to know of them.
//! It does not say what a model takes: its ports do.

use core::fmt;

use half::{bf16, f16};
use serde::{Deserialize, Serialize};

use super::UsageError;

/// Element types of the Open Inference Protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the names are the protocol's own")]
pub enum Dtype {
    Bool,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Int8,
    Int16,
    Int32,
    Int64,
    Fp16,
    Fp32,
    Fp64,
    Bf16,
    Bytes,
}

impl core::str::FromStr for Dtype {
    type Err = UsageError;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let dtype = serde::de::value::StrDeserializer::<serde::de::value::Error>::new(word);
        Self::deserialize(dtype).map_err(|_| UsageError::Invalid("a `dtype` is no word of the Open Inference Protocol"))
    }
}

impl Dtype {
    /// The protocol's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::Uint8 => "UINT8",
            Self::Uint16 => "UINT16",
            Self::Uint32 => "UINT32",
            Self::Uint64 => "UINT64",
            Self::Int8 => "INT8",
            Self::Int16 => "INT16",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
            Self::Fp16 => "FP16",
            Self::Fp32 => "FP32",
            Self::Fp64 => "FP64",
            Self::Bf16 => "BF16",
            Self::Bytes => "BYTES",
        }
    }

    /// Bytes of one element; none where elements have lengths of their own.
    #[must_use]
    pub const fn size(self) -> Option<usize> {
        match self {
            Self::Bool | Self::Uint8 | Self::Int8 => Some(1),
            Self::Uint16 | Self::Int16 | Self::Fp16 | Self::Bf16 => Some(2),
            Self::Uint32 | Self::Int32 | Self::Fp32 => Some(4),
            Self::Uint64 | Self::Int64 | Self::Fp64 => Some(8),
            Self::Bytes => None,
        }
    }

    /// Whether elements have digits behind the point.
    #[must_use]
    pub const fn is_float(self) -> bool {
        matches!(self, Self::Fp16 | Self::Fp32 | Self::Fp64 | Self::Bf16)
    }

    /// Whether elements are numbers, which can be compared.
    #[must_use]
    pub const fn is_number(self) -> bool {
        !matches!(self, Self::Bool | Self::Bytes)
    }

    /// The value of this type nearest to `x`; `x` itself for integers. Infinite where the type does not reach so far.
    pub(super) fn nearest(self, x: f64) -> f64 {
        match self {
            Self::Fp16 => f16::from_f64(x).to_f64(),
            Self::Bf16 => bf16::from_f64(x).to_f64(),
            Self::Fp32 => f64::from(x as f32),
            _ => x,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
