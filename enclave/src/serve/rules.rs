//! Turns the vendor's rules on inputs and outputs into refusals of tensors, and into tensors with less in them.
//! It knows no rule itself: the usage policy does. It reads for the policy what stands in a tensor.

use vouchsafe_oip::{Dtype, Port, Ports, Tensor, Wanted};
use vouchsafe_policies::usage::{InputFacts, Inputs, UsagePolicy, UsageRefusal};

use crate::error::EnclaveError;

/// What callers see of a model: the outputs that may leave, in the form in which they leave.
#[must_use]
pub fn shown(usage: &UsagePolicy, ports: &Ports) -> Ports {
    let outputs = ports.outputs.iter().filter(|port| usage.lets_out(&port.name)).map(|port| {
        let rule = usage.output_rule(&port.name);
        let seen = rule.and_then(|rule| rule.fits(port.dtype.as_str(), &port.shape).ok());
        match seen.and_then(|(word, shape)| Some((Dtype::parse(word)?, shape))) {
            Some((dtype, shape)) => Port { name: port.name.clone(), dtype, shape },
            None => port.clone(),
        }
    });
    Ports { inputs: ports.inputs.clone(), outputs: outputs.collect() }
}

/// Every input within its rule.
///
/// # Errors
/// `INPUT_*`, `BATCH_TOO_LARGE`.
pub fn inputs(usage: &UsagePolicy, inputs: &[Tensor]) -> Result<(), EnclaveError> {
    let shapes: Vec<Vec<i64>> =
        inputs.iter().map(|t| t.shape.iter().map(|d| i64::try_from(*d).unwrap_or(i64::MAX)).collect()).collect();
    // Each costs a pass over the data, which is not taken for nothing.
    let looks = *usage.inputs() != Inputs::Any;
    let facts: Vec<InputFacts<'_>> = inputs
        .iter()
        .zip(&shapes)
        .map(|(tensor, shape)| InputFacts {
            name: &tensor.name,
            dtype: tensor.dtype.as_str(),
            shape,
            finite: !looks || tensor.is_finite(),
            range: if usage.wants_range(&tensor.name) { tensor.range() } else { None },
        })
        .collect();
    Ok(usage.enforce_inputs(&facts)?)
}

/// Every wanted output may leave.
///
/// # Errors
/// `OUTPUT_FORBIDDEN`.
pub fn wanted(usage: &UsagePolicy, wanted: &[Wanted]) -> Result<(), EnclaveError> {
    let names: Vec<&str> = wanted.iter().map(|w| w.name.as_str()).collect();
    Ok(usage.enforce_output_names(&names)?)
}

/// The outputs as they may leave.
///
/// # Errors
/// `OUTPUT_FORBIDDEN` when a rule cannot be applied to what the model gave.
pub fn outputs(usage: &UsagePolicy, outputs: Vec<Tensor>) -> Result<Vec<Tensor>, EnclaveError> {
    outputs.into_iter().map(|tensor| output(usage, tensor)).collect()
}

fn output(usage: &UsagePolicy, tensor: Tensor) -> Result<Tensor, EnclaveError> {
    if !usage.lets_out(&tensor.name) {
        return Err(UsageRefusal::OutputForbidden.into());
    }
    let Some(rule) = usage.output_rule(&tensor.name) else { return Ok(tensor) };
    let mut data = Vec::from(tensor.data);
    let (word, shape) = rule.shape(tensor.dtype.as_str(), &tensor.shape, &mut data)?;
    let dtype = Dtype::parse(word).ok_or(UsageRefusal::OutputForbidden)?;
    Ok(Tensor { name: tensor.name, dtype, shape, data: data.into() })
}
