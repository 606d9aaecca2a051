//! Turns an answer that lies in a slot into tensors, once its places were compared with the ports and the slot.
//! What the elements mean is the model's; that they are elements of the datatype is established here, on the gate's own copy.

use bytes::Bytes;
use vouchsafe_oip::Tensor;

use super::dispatch::Dispatcher;
use super::slot::Slot;
use crate::message::Place;

/// An answer that still lies in its slot.
pub struct Answered {
    /// The wanted outputs.
    pub wanted: Vec<usize>,
    /// Their places, compared.
    pub places: Vec<Place>,
    /// Where they lie.
    pub slot: Slot,
}

impl Answered {
    /// Bytes of all outputs.
    pub fn len(&self) -> usize {
        self.places.iter().map(|place| place.len).sum()
    }

    /// Copies the outputs out and gives the slot back. Nothing when they are not elements of their datatypes.
    pub fn read(self, dispatcher: &Dispatcher) -> Option<Vec<Tensor>> {
        let tensor = |(number, place): (usize, Place)| {
            let port = dispatcher.ports.outputs.get(number)?;
            let part = dispatcher.layout.in_answer(self.slot.index, place.at, place.len)?;
            // The runner may go on writing: what is looked at is the copy.
            let data = Bytes::from(dispatcher.memory.read(part.start, place.len)?);
            let tensor = Tensor { name: port.name.clone(), dtype: port.dtype, shape: place.shape, data };
            tensor.is_sound().then_some(tensor)
        };
        self.wanted.into_iter().zip(self.places).map(tensor).collect()
    }
}
