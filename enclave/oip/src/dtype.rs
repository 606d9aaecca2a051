//! Turns the protocol's words for datatypes into sizes, and describes a model's inputs and outputs.
//! It does not hold any data.

use serde::{Deserialize, Serialize};

/// The datatype of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Dtype {
    /// One byte, 0 or 1.
    #[serde(rename = "BOOL")]
    Bool,
    /// 8 bits, unsigned.
    #[serde(rename = "UINT8")]
    U8,
    /// 16 bits, unsigned.
    #[serde(rename = "UINT16")]
    U16,
    /// 32 bits, unsigned.
    #[serde(rename = "UINT32")]
    U32,
    /// 64 bits, unsigned.
    #[serde(rename = "UINT64")]
    U64,
    /// 8 bits, signed.
    #[serde(rename = "INT8")]
    I8,
    /// 16 bits, signed.
    #[serde(rename = "INT16")]
    I16,
    /// 32 bits, signed.
    #[serde(rename = "INT32")]
    I32,
    /// 64 bits, signed.
    #[serde(rename = "INT64")]
    I64,
    /// IEEE 754 binary16. Sent as binary data only.
    #[serde(rename = "FP16")]
    F16,
    /// The upper half of a binary32. Sent as binary data only.
    #[serde(rename = "BF16")]
    Bf16,
    /// IEEE 754 binary32.
    #[serde(rename = "FP32")]
    F32,
    /// IEEE 754 binary64.
    #[serde(rename = "FP64")]
    F64,
    /// Strings of bytes.
    #[serde(rename = "BYTES")]
    Bytes,
}

impl Dtype {
    /// Every datatype.
    pub const ALL: [Self; 14] = [
        Self::Bool,
        Self::U8,
        Self::U16,
        Self::U32,
        Self::U64,
        Self::I8,
        Self::I16,
        Self::I32,
        Self::I64,
        Self::F16,
        Self::Bf16,
        Self::F32,
        Self::F64,
        Self::Bytes,
    ];

    /// The word of the Open Inference Protocol.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::U8 => "UINT8",
            Self::U16 => "UINT16",
            Self::U32 => "UINT32",
            Self::U64 => "UINT64",
            Self::I8 => "INT8",
            Self::I16 => "INT16",
            Self::I32 => "INT32",
            Self::I64 => "INT64",
            Self::F16 => "FP16",
            Self::Bf16 => "BF16",
            Self::F32 => "FP32",
            Self::F64 => "FP64",
            Self::Bytes => "BYTES",
        }
    }

    /// The word of Triton's model configuration.
    #[must_use]
    pub const fn config_str(self) -> &'static str {
        match self {
            Self::Bool => "TYPE_BOOL",
            Self::U8 => "TYPE_UINT8",
            Self::U16 => "TYPE_UINT16",
            Self::U32 => "TYPE_UINT32",
            Self::U64 => "TYPE_UINT64",
            Self::I8 => "TYPE_INT8",
            Self::I16 => "TYPE_INT16",
            Self::I32 => "TYPE_INT32",
            Self::I64 => "TYPE_INT64",
            Self::F16 => "TYPE_FP16",
            Self::Bf16 => "TYPE_BF16",
            Self::F32 => "TYPE_FP32",
            Self::F64 => "TYPE_FP64",
            Self::Bytes => "TYPE_STRING",
        }
    }

    /// Reads the word of the Open Inference Protocol.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dtype| dtype.as_str() == word)
    }

    /// Bytes of one element; `None` for strings, whose elements have lengths of their own.
    #[must_use]
    pub const fn size(self) -> Option<usize> {
        match self {
            Self::Bool | Self::U8 | Self::I8 => Some(1),
            Self::U16 | Self::I16 | Self::F16 | Self::Bf16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::Bytes => None,
        }
    }
}

/// An input or output of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Its datatype.
    pub dtype: Dtype,
    /// Its dimensions; -1 is any size.
    pub shape: Vec<i64>,
}

impl Port {
    /// Whether a tensor of this shape may go through.
    #[must_use]
    pub fn fits(&self, shape: &[usize]) -> bool {
        let fits = |(want, have): (&i64, &usize)| *want < 0 || usize::try_from(*want).is_ok_and(|want| want == *have);
        self.shape.len() == shape.len() && self.shape.iter().zip(shape).all(fits)
    }
}

/// What a model takes and gives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// What it takes.
    pub inputs: Vec<Port>,
    /// What it gives.
    pub outputs: Vec<Port>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read_back() {
        for dtype in Dtype::ALL {
            assert_eq!(Dtype::parse(dtype.as_str()), Some(dtype));
            assert_eq!(serde_json::to_string(&dtype).unwrap(), format!("\"{}\"", dtype.as_str()));
            let config = dtype.config_str().strip_prefix("TYPE_").unwrap();
            assert!(config == dtype.as_str() || dtype == Dtype::Bytes);
        }
        for word in ["", "fp32", "FP8", "STRING", "TYPE_FP32", "BOOL "] {
            assert_eq!(Dtype::parse(word), None, "{word}");
        }
    }

    #[test]
    fn a_dimension_below_zero_is_any_size() {
        let port = |shape: &[i64]| Port { name: "x".into(), dtype: Dtype::F32, shape: shape.to_vec() };
        assert!(port(&[-1, 2]).fits(&[0, 2]) && port(&[-1, 2]).fits(&[9, 2]) && port(&[]).fits(&[]));
        assert!(!port(&[-1, 2]).fits(&[2]) && !port(&[-1, 2]).fits(&[2, 3]) && !port(&[]).fits(&[1]));
    }
}
