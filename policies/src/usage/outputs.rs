//! Turns the field `outputs` into rules: which outputs leave, and in which form.
//! It does not touch a tensor: `shape.rs` does.

use serde::Deserialize;

use super::inputs::{MAX_PORTS, port_name, written};
use super::{Dtype, UsageError, UsagePolicy, UsageRefusal};
use crate::Listed;

/// Digits behind the point are at most so many.
pub(super) const MAX_DIGITS: u8 = 9;

/// Which outputs an answer may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outputs {
    /// Written as `"any"`: whatever the model gives, as it gives it.
    Any,
    /// These and no others.
    Only(Vec<OutputRule>),
}

/// One output that may leave, and its form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputRule {
    /// The tensor's name in the model.
    pub name: String,
    /// What is done to it.
    pub shaping: Shaping,
}

/// What is done to an output before anybody sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shaping {
    /// The values, with less in them.
    Values {
        /// In each row only the so many greatest stay, the others are 0.
        top_k: Option<u32>,
        /// Then they are rounded to so many digits behind the point, 0 to 9.
        round: Option<u8>,
    },
    /// In place of each row the index of its greatest value.
    ArgmaxOnly,
}

impl UsagePolicy {
    /// Which outputs an answer may hold.
    #[must_use]
    pub const fn outputs(&self) -> &Outputs {
        &self.outputs
    }

    /// Whether an output of the model may leave. Who names no outputs gets all that may.
    #[must_use]
    pub fn lets_out(&self, name: &str) -> bool {
        match &self.outputs {
            Outputs::Any => true,
            Outputs::Only(rules) => rules.iter().any(|rule| rule.name == name),
        }
    }

    /// The outputs that a request names.
    ///
    /// # Errors
    /// `OUTPUT_FORBIDDEN`.
    pub fn enforce_output_names(&self, wanted: &[&str]) -> Result<(), UsageRefusal> {
        if wanted.iter().all(|name| self.lets_out(name)) { Ok(()) } else { Err(UsageRefusal::OutputForbidden) }
    }

    /// What is done to an output; nothing where the policy lets everything out as it is. It does not say whether the
    /// output may leave: [`Self::lets_out`] does.
    #[must_use]
    pub fn output_rule(&self, name: &str) -> Option<&OutputRule> {
        match &self.outputs {
            Outputs::Any => None,
            Outputs::Only(rules) => rules.iter().find(|rule| rule.name == name),
        }
    }
}

impl OutputRule {
    /// What callers see of an output that the model gives as `dtype` and `shape` (-1 for any length): its type and shape
    /// after this rule.
    ///
    /// # Errors
    /// `USAGE_POLICY_MODEL` when the rule cannot be applied to such an output.
    pub fn fits(&self, dtype: &str, shape: &[i64]) -> Result<(&'static str, Vec<i64>), UsageError> {
        let known = dtype.parse().map_err(|_| UsageError::Model("it rules an output of an unknown type"))?;
        self.possible(known, shape.len()).map_err(UsageError::Model)?;
        let (seen, rank) = self.seen(known, shape.len());
        Ok((seen.as_str(), shape.iter().copied().take(rank).collect()))
    }

    /// That the rule means something for such an output.
    pub(super) fn possible(&self, dtype: Dtype, rank: usize) -> Result<(), &'static str> {
        let (rows, float) = match self.shaping {
            Shaping::Values { top_k, round } => (top_k.is_some(), round.is_some()),
            Shaping::ArgmaxOnly => (true, false),
        };
        if float && !dtype.is_float() {
            return Err("it rounds an output that is not of floating point");
        }
        if rows && !dtype.is_number() {
            return Err("it compares the values of an output that are no numbers");
        }
        if rows && rank == 0 {
            return Err("it compares the values of an output without dimensions");
        }
        Ok(())
    }

    /// Type and number of dimensions after the rule.
    pub(super) const fn seen(&self, dtype: Dtype, rank: usize) -> (Dtype, usize) {
        match self.shaping {
            Shaping::Values { .. } => (dtype, rank),
            Shaping::ArgmaxOnly => (Dtype::Int64, rank.saturating_sub(1)),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawOutput {
    name: String,
    #[serde(default, deserialize_with = "written")]
    round: Option<u8>,
    #[serde(default, deserialize_with = "written")]
    top_k: Option<u32>,
    #[serde(default, deserialize_with = "written")]
    argmax_only: Option<bool>,
}

pub(super) fn read(raw: Listed<RawOutput>) -> Result<Outputs, UsageError> {
    let Listed::Only(list) = raw else { return Ok(Outputs::Any) };
    if list.is_empty() || list.len() > MAX_PORTS {
        return Err(UsageError::Invalid("`outputs` does not hold 1 to 64 entries"));
    }
    let mut rules: Vec<OutputRule> = Vec::with_capacity(list.len());
    for raw in list {
        let rule = raw.read()?;
        if rules.iter().any(|other| other.name == rule.name) {
            return Err(UsageError::Invalid("`outputs` names one output twice"));
        }
        rules.push(rule);
    }
    Ok(Outputs::Only(rules))
}

impl RawOutput {
    fn read(self) -> Result<OutputRule, UsageError> {
        port_name(&self.name)?;
        if self.round.is_some_and(|digits| digits > MAX_DIGITS) {
            return Err(UsageError::Invalid("the `round` of an output is not 0 to 9"));
        }
        if self.top_k == Some(0) {
            return Err(UsageError::Invalid("the `top_k` of an output is 0"));
        }
        let shaping = match self.argmax_only {
            None => Shaping::Values { top_k: self.top_k, round: self.round },
            Some(true) if self.top_k.is_none() && self.round.is_none() => Shaping::ArgmaxOnly,
            Some(true) => return Err(UsageError::Invalid("an output has `argmax_only` beside `round` or `top_k`")),
            Some(false) => return Err(UsageError::Invalid("`argmax_only` is neither `true` nor left out")),
        };
        Ok(OutputRule { name: self.name, shaping })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(outputs: &str) -> Result<UsagePolicy, UsageError> {
        let text = UsagePolicy::template("m", &[]);
        assert!(text.contains(r#""outputs": "any""#));
        UsagePolicy::parse(text.replace(r#""outputs": "any""#, &format!(r#""outputs": {outputs}"#)).as_bytes())
    }

    #[test]
    fn only_named_outputs_leave() {
        let policy = policy(r#"[{"name":"p","round":2},{"name":"label"}]"#).unwrap();
        assert_eq!(policy.enforce_output_names(&["label", "p"]), Ok(()));
        assert_eq!(policy.enforce_output_names(&[]), Ok(()));
        assert!(policy.lets_out("p") && !policy.lets_out("embedding"));
        let refusal = policy.enforce_output_names(&["p", "embedding"]).unwrap_err();
        assert_eq!((refusal.code(), refusal.status()), ("OUTPUT_FORBIDDEN", 403));
        assert_eq!(policy.output_rule("p").unwrap().shaping, Shaping::Values { top_k: None, round: Some(2) });
        assert_eq!(policy.output_rule("label").unwrap().shaping, Shaping::Values { top_k: None, round: None });
        assert!(policy.output_rule("embedding").is_none());
    }

    #[test]
    fn any_lets_everything_out_as_it_is() {
        let policy = policy(r#""any""#).unwrap();
        assert!(policy.lets_out("embedding") && policy.output_rule("embedding").is_none());
        assert_eq!(policy.enforce_output_names(&["a", "b"]), Ok(()));
    }

    #[test]
    fn what_is_broken_is_invalid() {
        for good in [
            r#"{"name":"p"}"#,
            r#"{"name":"p","round":0,"top_k":1}"#,
            r#"{"name":"p","argmax_only":true}"#,
            r#"{"name":"p","round":9}"#,
        ] {
            assert!(policy(&format!("[{good}]")).is_ok(), "{good}");
        }
        for bad in [
            "",
            r#"{"name":""}"#,
            r#"{"name":"p"},{"name":"p","round":1}"#,
            r#"{"name":"p","round":10}"#,
            r#"{"name":"p","round":-1}"#,
            r#"{"name":"p","round":null}"#,
            r#"{"name":"p","top_k":0}"#,
            r#"{"name":"p","argmax_only":false}"#,
            r#"{"name":"p","argmax_only":true,"round":1}"#,
            r#"{"name":"p","argmax_only":true,"top_k":1}"#,
            r#"{"name":"p","noise":1}"#,
        ] {
            assert_eq!(policy(&format!("[{bad}]")).unwrap_err().code(), "USAGE_POLICY_INVALID", "{bad}");
        }
    }

    #[test]
    fn a_rule_says_what_is_seen_or_that_it_cannot_be_applied() {
        let rule = |shaping| OutputRule { name: "p".to_owned(), shaping };
        let plain = rule(Shaping::Values { top_k: None, round: None });
        let rounded = rule(Shaping::Values { top_k: None, round: Some(2) });
        let greatest = rule(Shaping::Values { top_k: Some(2), round: None });
        let class = rule(Shaping::ArgmaxOnly);
        assert_eq!(plain.fits("BYTES", &[-1]).unwrap(), ("BYTES", vec![-1]));
        assert_eq!(rounded.fits("BF16", &[]).unwrap(), ("BF16", vec![]));
        assert_eq!(greatest.fits("INT32", &[-1, 7]).unwrap(), ("INT32", vec![-1, 7]));
        assert_eq!(class.fits("FP32", &[-1, 3, 7]).unwrap(), ("INT64", vec![-1, 3]));
        assert_eq!(class.fits("UINT8", &[-1]).unwrap(), ("INT64", vec![]));
        for (rule, dtype, shape) in [
            (&rounded, "INT64", &[-1][..]),
            (&rounded, "BYTES", &[-1]),
            (&greatest, "FP32", &[]),
            (&greatest, "BOOL", &[2]),
            (&class, "BYTES", &[2]),
            (&class, "FP32", &[]),
            (&plain, "FLOAT", &[2]),
        ] {
            let error = rule.fits(dtype, shape).unwrap_err();
            assert_eq!((error.code(), error.exit()), ("USAGE_POLICY_MODEL", 4), "{rule:?} {dtype} {shape:?}");
        }
    }
}
