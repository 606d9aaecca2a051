//! Turns a model's inputs and outputs into whether a usage policy rules that very model.
//! It does not look at requests: a policy that fits may still refuse every one of them.

use super::{Inputs, Outputs, UsageError, UsagePolicy};

/// One input or output that a model declares.
#[derive(Clone, Copy, Debug)]
pub struct PortFacts<'a> {
    /// Its name in the model.
    pub name: &'a str,
    /// Its element type, in the protocol's word.
    pub dtype: &'a str,
    /// Its dimensions; -1 is any length.
    pub shape: &'a [i64],
}

impl UsagePolicy {
    /// That no rule is empty: every ruled input and output is one of the model's, of a type that the rule can be applied to,
    /// and no input of the model is left out.
    ///
    /// # Errors
    /// `USAGE_POLICY_MODEL`.
    pub fn fits(&self, inputs: &[PortFacts<'_>], outputs: &[PortFacts<'_>]) -> Result<(), UsageError> {
        if let Inputs::Only(rules) = &self.inputs {
            for rule in rules {
                let port = inputs.iter().find(|port| port.name == rule.name);
                if port.is_none_or(|port| port.dtype != rule.dtype.as_str()) {
                    return Err(UsageError::Model("it rules an input that the model does not have"));
                }
            }
            if inputs.iter().any(|port| !rules.iter().any(|rule| rule.name == port.name)) {
                return Err(UsageError::Model("it leaves out an input of the model"));
            }
        }
        if let Outputs::Only(rules) = &self.outputs {
            for rule in rules {
                let port = outputs.iter().find(|port| port.name == rule.name);
                let port = port.ok_or(UsageError::Model("it rules an output that the model does not have"))?;
                rule.fits(port.dtype, port.shape)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::{Dtype, InputRule};

    const X: PortFacts<'_> = PortFacts { name: "x", dtype: "FP32", shape: &[-1, 3] };
    const Y: PortFacts<'_> = PortFacts { name: "y", dtype: "FP32", shape: &[-1] };
    const P: PortFacts<'_> = PortFacts { name: "p", dtype: "FP32", shape: &[-1, 2] };

    #[test]
    fn a_policy_is_for_the_model_that_it_names_the_ports_of() {
        let rules = [InputRule::new("x", Dtype::Fp32, vec![-1, 3])];
        let text =
            UsagePolicy::template("m", &rules).replace(r#""outputs": "any""#, r#""outputs": [{"name":"p","round":2}]"#);
        let policy = UsagePolicy::parse(text.as_bytes()).unwrap();
        assert_eq!(policy.fits(&[X], &[P]), Ok(()));
        assert_eq!(policy.fits(&[X], &[Y, P]), Ok(()), "an output that is not ruled does not leave");
        let other = PortFacts { dtype: "FP64", ..X };
        let whole = PortFacts { dtype: "INT64", ..P };
        for (inputs, outputs) in [
            (&[][..], &[P][..]),
            (&[Y], &[P]),
            (&[other], &[P]),
            (&[X, Y], &[P]),
            (&[X], &[]),
            (&[X], &[Y]),
            (&[X], &[whole]),
        ] {
            let error = policy.fits(inputs, outputs).unwrap_err();
            assert_eq!((error.code(), error.exit()), ("USAGE_POLICY_MODEL", 4), "{inputs:?} {outputs:?}");
        }
        let open = UsagePolicy::parse(UsagePolicy::template("m", &[]).as_bytes()).unwrap();
        assert_eq!(open.fits(&[Y], &[]), Ok(()));
    }
}
