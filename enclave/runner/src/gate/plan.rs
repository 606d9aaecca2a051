//! Turns a request's tensors into places in a slot: which port, where, how long.
//! The tensors are the gate's own, decoded and compared with the ports before; what does not fit here is refused all the same.

use vouchsafe_oip::{Port, Ports, Tensor};

use super::dispatch::Dispatcher;
use crate::error::RunnerError;
use crate::message::Place;
use crate::message::layout::{Layout, next_place};

/// What is to be run, and where its inputs will lie.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    /// Ports and places, in the order of the tensors.
    pub inputs: Vec<(usize, Place)>,
    /// Ports.
    pub outputs: Vec<usize>,
    /// Where the last input ends.
    pub end: usize,
}

/// Finds a port and a place for every tensor.
///
/// # Errors
/// `INPUT_TOO_LARGE`; `ENGINE_FAILED` when the model has no such port.
pub fn plan(ports: &Ports, layout: &Layout, inputs: &[Tensor], outputs: &[String]) -> Result<Plan, RunnerError> {
    let mut plan =
        Plan { inputs: Vec::with_capacity(inputs.len()), outputs: Vec::with_capacity(outputs.len()), end: 0 };
    for tensor in inputs {
        let port = find(&ports.inputs, &tensor.name)?;
        if ports.inputs.get(port).is_none_or(|port| port.dtype != tensor.dtype) {
            return Err(RunnerError::EngineFailed);
        }
        let (at, len) = (next_place(plan.end).ok_or(RunnerError::InputTooLarge)?, tensor.data.len());
        // Of any slot: they are all alike.
        layout.in_request(0, at, len).ok_or(RunnerError::InputTooLarge)?;
        plan.inputs.push((port, Place { shape: tensor.shape.clone(), at, len }));
        plan.end = at + len;
    }
    for name in outputs {
        plan.outputs.push(find(&ports.outputs, name)?);
    }
    Ok(plan)
}

impl Plan {
    /// Copies the tensors to their places.
    pub fn write(&self, dispatcher: &Dispatcher, slot: usize, inputs: &[Tensor]) -> bool {
        let start = dispatcher.layout.request_at(slot);
        let mut places = self.inputs.iter().zip(inputs);
        places.all(|((_, place), tensor)| dispatcher.memory.write(start.saturating_add(place.at), &tensor.data))
    }
}

fn find(ports: &[Port], name: &str) -> Result<usize, RunnerError> {
    ports.iter().position(|port| port.name == name).ok_or(RunnerError::EngineFailed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use vouchsafe_oip::Dtype;

    fn tensor(name: &str, dtype: Dtype, count: usize) -> Tensor {
        Tensor {
            name: name.into(),
            dtype,
            shape: vec![count],
            data: Bytes::from(vec![1; count * dtype.size().unwrap()]),
        }
    }

    fn ports() -> Ports {
        let port = |name: &str, dtype| Port { name: name.into(), dtype, shape: vec![-1] };
        let inputs = vec![port("a", Dtype::F32), port("b", Dtype::U8)];
        Ports { inputs, outputs: vec![port("x", Dtype::F32), port("y", Dtype::F32)] }
    }

    #[test]
    fn tensors_lie_behind_each_other_aligned() {
        let layout = Layout::new(1, 4096, 1).unwrap();
        let inputs = [tensor("b", Dtype::U8, 5), tensor("a", Dtype::F32, 17)];
        let plan = plan(&ports(), &layout, &inputs, &["y".into(), "x".into()]).unwrap();
        let place = |count, at, len| Place { shape: vec![count], at, len };
        assert_eq!(plan.inputs, [(1, place(5, 0, 5)), (0, place(17, 64, 68))]);
        assert_eq!((plan.outputs, plan.end), (vec![1, 0], 132));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let layout = Layout::new(1, 4096, 1).unwrap();
        let refused = |inputs: &[Tensor], outputs: &[&str]| {
            let outputs: Vec<String> = outputs.iter().map(|name| (*name).to_owned()).collect();
            plan(&ports(), &layout, inputs, &outputs).err()
        };
        let most = tensor("b", Dtype::U8, 4096);
        assert_eq!(refused(&[most], &["x"]), None, "control");
        assert_eq!(refused(&[tensor("b", Dtype::U8, 4097)], &["x"]), Some(RunnerError::InputTooLarge));
        let two = [tensor("b", Dtype::U8, 4000), tensor("a", Dtype::F32, 17)];
        assert_eq!(refused(&two, &["x"]), Some(RunnerError::InputTooLarge), "together");
        assert_eq!(refused(&[tensor("c", Dtype::U8, 1)], &["x"]), Some(RunnerError::EngineFailed));
        assert_eq!(refused(&[tensor("b", Dtype::I8, 1)], &["x"]), Some(RunnerError::EngineFailed), "another datatype");
        assert_eq!(refused(&[tensor("b", Dtype::U8, 1)], &["a"]), Some(RunnerError::EngineFailed));
    }
}
