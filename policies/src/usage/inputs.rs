//! Turns the field `inputs` into rules: names, types, shapes, ranges.
//! It does not look at a request: `enforce.rs` does.

use serde::Deserialize;

use super::{Dtype, UsageError};

pub(super) const MAX_PORTS: usize = 64;
const MAX_RANK: usize = 8;
const MAX_NAME: usize = 128;
/// Integers of 64 bits are compared as doubles, which are exact up to here.
const EXACT: f64 = 9_007_199_254_740_991.0;

/// Which inputs a request may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inputs {
    /// Written as `"any"`: whatever the model takes.
    Any,
    /// Written as `"finite"`: whatever the model takes, without NaN or infinity.
    Finite,
    /// Exactly these.
    Only(Vec<InputRule>),
}

/// What one input must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputRule {
    /// The tensor's name in the model.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Dimensions; -1 is any length.
    pub shape: Vec<i64>,
    /// Whether NaN and infinity are refused.
    pub finite: bool,
    /// Where every element must lie.
    pub range: Option<Range>,
}

/// Least and greatest allowed element, both allowed themselves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    min: f64,
    max: f64,
}

/// A range holds no NaN.
impl Eq for Range {}

impl InputRule {
    /// A rule that also refuses NaN and infinity.
    #[must_use]
    pub fn new(name: impl Into<String>, dtype: Dtype, shape: Vec<i64>) -> Self {
        Self { name: name.into(), dtype, shape, finite: true, range: None }
    }
}

impl Range {
    /// From `min` to `max`. None unless both are finite and in this order.
    #[must_use]
    pub fn new(min: f64, max: f64) -> Option<Self> {
        (min.is_finite() && max.is_finite() && min <= max).then_some(Self { min, max })
    }

    /// The least allowed element, as written.
    #[must_use]
    pub const fn min(&self) -> f64 {
        self.min
    }

    /// The greatest allowed element, as written.
    #[must_use]
    pub const fn max(&self) -> f64 {
        self.max
    }

    /// Whether `least` to `greatest` lie within, each bound read as the nearest value of `dtype`: 0.1 in a policy and 0.1
    /// in a request are the same number then.
    pub(super) fn holds(&self, dtype: Dtype, least: f64, greatest: f64) -> bool {
        dtype.nearest(self.min) <= least && greatest <= dtype.nearest(self.max)
    }

    /// That the bounds can be compared with elements of `dtype`.
    fn comparable(self, dtype: Dtype) -> Result<Self, UsageError> {
        if !dtype.is_number() {
            return Err(UsageError::Invalid("an input of BOOL or BYTES has a `range`"));
        }
        let reach = if dtype.size() == Some(8) && !dtype.is_float() { EXACT } else { f64::MAX };
        let reached = |bound: f64| bound.abs() <= reach && dtype.nearest(bound).is_finite();
        if reached(self.min) && reached(self.max) {
            Ok(self)
        } else {
            Err(UsageError::Invalid(
                "a `range` reaches further than its `dtype`, or than 2^53 - 1 for integers of 64 bits",
            ))
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum RawInputs {
    Word(String),
    Only(Vec<RawInput>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawInput {
    name: String,
    dtype: Dtype,
    shape: Vec<i64>,
    finite: bool,
    #[serde(default, deserialize_with = "written")]
    range: Option<RawRange>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRange {
    min: f64,
    max: f64,
}

/// A field that may be left out, but not written as `null`.
pub(super) fn written<'de, T: Deserialize<'de>, D: serde::Deserializer<'de>>(d: D) -> Result<Option<T>, D::Error> {
    T::deserialize(d).map(Some)
}

/// That a tensor's name can be one.
pub(super) fn port_name(name: &str) -> Result<(), UsageError> {
    if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(UsageError::Invalid("a tensor's `name` is not 1 to 128 bytes without control characters"));
    }
    Ok(())
}

impl RawInputs {
    pub(super) fn read(self) -> Result<Inputs, UsageError> {
        match self {
            Self::Word(word) if word == "any" => Ok(Inputs::Any),
            Self::Word(word) if word == "finite" => Ok(Inputs::Finite),
            Self::Word(_) => Err(UsageError::Invalid("`inputs` is neither \"any\" nor \"finite\" nor a list")),
            Self::Only(list) if list.is_empty() || list.len() > MAX_PORTS => {
                Err(UsageError::Invalid("`inputs` does not hold 1 to 64 entries"))
            }
            Self::Only(list) => {
                let mut rules: Vec<InputRule> = Vec::with_capacity(list.len());
                for raw in list {
                    let rule = raw.read()?;
                    if rules.iter().any(|other| other.name == rule.name) {
                        return Err(UsageError::Invalid("`inputs` names one input twice"));
                    }
                    rules.push(rule);
                }
                Ok(Inputs::Only(rules))
            }
        }
    }
}

impl RawInput {
    fn read(self) -> Result<InputRule, UsageError> {
        port_name(&self.name)?;
        if self.shape.len() > MAX_RANK || self.shape.iter().any(|dim| *dim < -1) {
            return Err(UsageError::Invalid("an input's `shape` is not at most 8 dimensions of -1 or more"));
        }
        let range = self.range.map(|raw| {
            let range =
                Range::new(raw.min, raw.max).ok_or(UsageError::Invalid("the `min` of a `range` is above its `max`"));
            range?.comparable(self.dtype)
        });
        let Self { name, dtype, shape, finite, .. } = self;
        Ok(InputRule { name, dtype, shape, finite, range: range.transpose()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(dtype: &str, range: &str) -> Result<Option<Range>, UsageError> {
        let text = format!(r#"[{{"name":"x","dtype":"{dtype}","shape":[],"finite":false,"range":{range}}}]"#);
        let Inputs::Only(rules) = serde_json::from_str::<RawInputs>(&text).unwrap().read()? else {
            panic!("a list was written")
        };
        Ok(rules[0].range)
    }

    #[test]
    fn a_range_is_two_numbers_in_order_that_the_type_reaches() {
        for (dtype, range) in [
            ("FP32", r#"{"min":-1,"max":1}"#),
            ("FP32", r#"{"min":0.5,"max":0.5}"#),
            ("FP16", r#"{"min":-65504,"max":65504}"#),
            ("FP64", r#"{"min":-1e308,"max":1e308}"#),
            ("UINT8", r#"{"min":0,"max":200.5}"#),
            ("INT64", r#"{"min":-9007199254740991,"max":9007199254740991}"#),
        ] {
            assert!(read(dtype, range).unwrap().is_some(), "{dtype} {range}");
        }
        for (dtype, range) in [
            ("FP32", r#"{"min":1,"max":-1}"#),
            ("FP32", r#"{"min":0,"max":1e39}"#),
            ("BF16", r#"{"min":0,"max":3.4e38}"#),
            ("FP16", r#"{"min":-70000,"max":1}"#),
            ("UINT64", r#"{"min":0,"max":9007199254740992}"#),
            ("BOOL", r#"{"min":0,"max":1}"#),
            ("BYTES", r#"{"min":0,"max":1}"#),
        ] {
            assert_eq!(read(dtype, range).unwrap_err().code(), "USAGE_POLICY_INVALID", "{dtype} {range}");
        }
    }

    #[test]
    fn a_bound_is_the_nearest_value_of_the_type() {
        let range = Range::new(-0.1, 0.1).unwrap();
        let (single, above) = (f64::from(0.1_f32), f64::from(0.1_f32.next_up()));
        assert!(single > 0.1 && range.holds(Dtype::Fp32, -single, single));
        assert!(!range.holds(Dtype::Fp32, 0.0, above) && !range.holds(Dtype::Fp32, -above, 0.0));
        assert!(!range.holds(Dtype::Fp64, 0.0, single) && range.holds(Dtype::Fp64, -0.1, 0.1));
        let brain = bf16_of(0.1);
        assert!(range.holds(Dtype::Bf16, brain, brain) && !range.holds(Dtype::Fp64, brain, brain));
        for outside in [f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
            assert!(!range.holds(Dtype::Fp32, outside, outside));
        }
    }

    fn bf16_of(x: f64) -> f64 {
        half::bf16::from_f64(x).to_f64()
    }
}
