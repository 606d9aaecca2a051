//! Turns the facts of one request into a go or a refusal, under the vendor's rules.
//! It does not look at tensors itself: the server reads types, shapes, finiteness and ranges and says what it found.

use vouchsafe_attestation::UnixTime;

use super::{Expires, InputRule, Inputs, UsagePolicy, UsageRefusal};

/// What the server found in one input of a request.
#[derive(Clone, Copy, Debug)]
pub struct InputFacts<'a> {
    /// Its name in the request.
    pub name: &'a str,
    /// Its element type, in the protocol's word.
    pub dtype: &'a str,
    /// Its dimensions.
    pub shape: &'a [i64],
    /// Whether every element is finite.
    pub finite: bool,
    /// Its least and its greatest element. Nothing where there is no element, where one is a NaN, and for BOOL and BYTES.
    pub range: Option<(f64, f64)>,
}

impl UsagePolicy {
    /// Whether the model may still be used at `now`, the enclave's own lower bound of the time.
    ///
    /// # Errors
    /// `USAGE_EXPIRED`.
    pub fn enforce_time(&self, now: UnixTime) -> Result<(), UsageRefusal> {
        match self.expires {
            Expires::At(end) if now >= end => Err(UsageRefusal::Expired),
            Expires::At(_) | Expires::Never => Ok(()),
        }
    }

    /// The size of the decoded body.
    ///
    /// # Errors
    /// `BODY_TOO_LARGE`.
    pub fn enforce_body(&self, bytes: u64) -> Result<(), UsageRefusal> {
        let most = self.limits.max_body_bytes;
        if bytes > most { Err(UsageRefusal::BodyTooLarge(most)) } else { Ok(()) }
    }

    /// One input.
    ///
    /// # Errors
    /// `INPUT_UNKNOWN`, `INPUT_DTYPE`, `INPUT_SHAPE`, `BATCH_TOO_LARGE`, `INPUT_NOT_FINITE`, `INPUT_RANGE`.
    pub fn enforce_input(&self, input: &InputFacts<'_>) -> Result<(), UsageRefusal> {
        let finite = match &self.inputs {
            Inputs::Any | Inputs::Finite => {
                // Without a declared shape a matrix is taken to be a batch of rows.
                if input.shape.len() > 1 {
                    self.batch(input.shape)?;
                }
                self.inputs == Inputs::Finite
            }
            Inputs::Only(rules) => {
                let rule = rules.iter().find(|rule| rule.name == input.name).ok_or(UsageRefusal::InputUnknown)?;
                if rule.dtype.as_str() != input.dtype {
                    return Err(UsageRefusal::InputDtype(rule.name.clone(), rule.dtype.as_str()));
                }
                let fits = rule.shape.len() == input.shape.len()
                    && rule.shape.iter().zip(input.shape).all(|(rule, dim)| *dim >= 0 && (*rule == -1 || rule == dim));
                if !fits {
                    return Err(UsageRefusal::InputShape(rule.name.clone(), rule.shape.clone()));
                }
                if rule.shape.first() == Some(&-1) {
                    self.batch(input.shape)?;
                }
                if rule.finite && !input.finite {
                    return Err(UsageRefusal::InputNotFinite);
                }
                return rule.enforce_range(input);
            }
        };
        if finite && !input.finite { Err(UsageRefusal::InputNotFinite) } else { Ok(()) }
    }

    /// Whether a request needs the least and greatest element of this input: reading them costs a pass over its data.
    #[must_use]
    pub fn wants_range(&self, name: &str) -> bool {
        match &self.inputs {
            Inputs::Only(rules) => rules.iter().any(|rule| rule.name == name && rule.range.is_some()),
            Inputs::Any | Inputs::Finite => false,
        }
    }

    /// Every input of a request: none twice, none missing, each within its rule.
    ///
    /// # Errors
    /// `INPUT_REPEATED`, `INPUT_MISSING`, and those of [`Self::enforce_input`].
    pub fn enforce_inputs(&self, inputs: &[InputFacts<'_>]) -> Result<(), UsageRefusal> {
        for (at, input) in inputs.iter().enumerate() {
            if inputs[..at].iter().any(|earlier| earlier.name == input.name) {
                return Err(UsageRefusal::InputRepeated);
            }
            self.enforce_input(input)?;
        }
        if let Inputs::Only(rules) = &self.inputs {
            for rule in rules {
                if !inputs.iter().any(|input| input.name == rule.name) {
                    return Err(UsageRefusal::InputMissing(rule.name.clone()));
                }
            }
        }
        Ok(())
    }

    fn batch(&self, shape: &[i64]) -> Result<(), UsageRefusal> {
        let most = self.limits.max_batch;
        match shape.first() {
            Some(rows) if *rows > i64::from(most) => Err(UsageRefusal::BatchTooLarge(most)),
            _ => Ok(()),
        }
    }
}

impl InputRule {
    /// Every element within the range; where there is no element, none is outside.
    fn enforce_range(&self, input: &InputFacts<'_>) -> Result<(), UsageRefusal> {
        let Some(range) = self.range else { return Ok(()) };
        let within = match input.range {
            Some((least, greatest)) => range.holds(self.dtype, least, greatest),
            None => input.shape.contains(&0),
        };
        if within { Ok(()) } else { Err(UsageRefusal::InputRange(self.name.clone(), range)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::{Dtype, Range};

    fn policy() -> UsagePolicy {
        let rule = InputRule::new("x", Dtype::Fp32, vec![-1, 30]);
        let text = UsagePolicy::template("m", &[rule]).replace("\"never\"", "\"2027-01-01T00:00:00Z\"");
        UsagePolicy::parse(text.as_bytes()).unwrap()
    }

    fn input<'a>(name: &'a str, dtype: &'a str, shape: &'a [i64], finite: bool) -> InputFacts<'a> {
        InputFacts { name, dtype, shape, finite, range: None }
    }

    #[test]
    fn each_rule_has_its_code_and_a_control() {
        let policy = policy();
        let code = |i: InputFacts<'_>| policy.enforce_input(&i).err().map(|e| e.code());
        assert_eq!(code(input("x", "FP32", &[2, 30], true)), None);
        assert_eq!(code(input("y", "FP32", &[2, 30], true)), Some("INPUT_UNKNOWN"));
        assert_eq!(code(input("x", "FP64", &[2, 30], true)), Some("INPUT_DTYPE"));
        for shape in [&[2, 31][..], &[30], &[2, 30, 1], &[-1, 30], &[]] {
            assert_eq!(code(input("x", "FP32", shape, true)), Some("INPUT_SHAPE"), "{shape:?}");
        }
        assert_eq!(code(input("x", "FP32", &[2, 30], false)), Some("INPUT_NOT_FINITE"));
        let most = i64::from(policy.limits().max_batch);
        assert_eq!(code(input("x", "FP32", &[most, 30], true)), None);
        assert_eq!(code(input("x", "FP32", &[most + 1, 30], true)), Some("BATCH_TOO_LARGE"));
    }

    #[test]
    fn every_element_lies_within_the_range() {
        let ranged = |finite| InputRule {
            finite,
            range: Range::new(-1.0, 0.1),
            ..InputRule::new("x", Dtype::Fp32, vec![-1, 2])
        };
        let parse = |rule| UsagePolicy::parse(UsagePolicy::template("m", &[rule]).as_bytes()).unwrap();
        let (policy, loose) = (parse(ranged(true)), parse(ranged(false)));
        assert!(policy.wants_range("x") && !policy.wants_range("y"));
        let facts = |shape, finite, range| InputFacts { range, ..input("x", "FP32", shape, finite) };
        let code = |p: &UsagePolicy, i: InputFacts<'_>| p.enforce_input(&i).err().map(|e| e.code());
        let tenth = f64::from(0.1_f32);
        for within in [(-1.0, tenth), (0.0, 0.0), (-0.0, -0.0)] {
            assert_eq!(code(&policy, facts(&[1, 2], true, Some(within))), None, "{within:?}");
        }
        let just_above = f64::from(0.1_f32.next_up());
        for outside in [(-1.0, just_above), (-1.5, 0.0), (5.0, 5.0)] {
            assert_eq!(code(&policy, facts(&[1, 2], true, Some(outside))), Some("INPUT_RANGE"), "{outside:?}");
        }
        // Without elements nothing is outside; with a NaN, which has no place in a range, something is.
        assert_eq!(code(&policy, facts(&[0, 2], true, None)), None);
        assert_eq!(code(&policy, facts(&[1, 2], true, None)), Some("INPUT_RANGE"));
        assert_eq!(code(&loose, facts(&[1, 2], false, None)), Some("INPUT_RANGE"));
        assert_eq!(code(&loose, facts(&[1, 2], false, Some((0.0, f64::INFINITY)))), Some("INPUT_RANGE"));
        assert_eq!(code(&policy, facts(&[1, 2], false, Some((0.0, f64::INFINITY)))), Some("INPUT_NOT_FINITE"));
        let refusal = policy.enforce_input(&facts(&[1, 2], true, Some((2.0, 2.0)))).unwrap_err();
        assert_eq!((refusal.status(), refusal.exit()), (400, 4));
        assert!(refusal.to_string().contains("-1 to 0.1"), "{refusal}");
    }

    #[test]
    fn a_request_holds_every_input_once() {
        let policy = policy();
        let x = input("x", "FP32", &[1, 30], true);
        assert_eq!(policy.enforce_inputs(&[x]), Ok(()));
        assert_eq!(policy.enforce_inputs(&[x, x]).unwrap_err().code(), "INPUT_REPEATED");
        assert_eq!(policy.enforce_inputs(&[]).unwrap_err().code(), "INPUT_MISSING");
    }

    #[test]
    fn time_and_size_end() {
        let policy = policy();
        let end = UnixTime::parse_rfc3339("2027-01-01T00:00:00Z").unwrap();
        assert_eq!(policy.enforce_time(UnixTime(end.0 - 1)), Ok(()));
        let expired = policy.enforce_time(end).unwrap_err();
        assert_eq!((expired.code(), expired.exit(), expired.status()), ("USAGE_EXPIRED", 4, 403));
        let most = policy.limits().max_body_bytes;
        assert_eq!(policy.enforce_body(most), Ok(()));
        assert_eq!(policy.enforce_body(most + 1).unwrap_err().code(), "BODY_TOO_LARGE");
    }

    #[test]
    fn undeclared_inputs_are_still_finite_and_bounded() {
        let policy = UsagePolicy::parse(UsagePolicy::template("m", &[]).as_bytes()).unwrap();
        let most = i64::from(policy.limits().max_batch);
        assert_eq!(policy.enforce_inputs(&[input("q", "FP32", &[most, 1], true)]), Ok(()));
        assert_eq!(policy.enforce_input(&input("q", "FP32", &[1], false)).unwrap_err().code(), "INPUT_NOT_FINITE");
        assert_eq!(
            policy.enforce_input(&input("q", "FP32", &[most + 1, 1], true)).unwrap_err().code(),
            "BATCH_TOO_LARGE"
        );
    }
}
