//! Turns a model's inputs and outputs, and the places of an answer, into a verdict whether they can be that.
//! The runner asks before it tells, so that a strange model is the model's fault; the gate asks again, and then it is the runner's.

use vouchsafe_oip::{MAX_RANK, Port, Ports};

use super::Place;
use super::layout::Layout;

/// A model has no more inputs or outputs.
const MOST_PORTS: usize = 4096;
/// Nor a longer name, in bytes.
const LONGEST_NAME: usize = 4096;

/// Whether a runner's ports can be those of a model: few enough, named once each, with dimensions.
pub fn are_ports(ports: &Ports) -> bool {
    [&ports.inputs, &ports.outputs].into_iter().all(|list| {
        let sound = |port: &Port| {
            (1..=LONGEST_NAME).contains(&port.name.len())
                && port.shape.len() <= MAX_RANK
                && port.shape.iter().all(|size| *size >= -1)
        };
        let mut names: Vec<&str> = list.iter().map(|port| port.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        list.len() <= MOST_PORTS && names.len() == list.len() && list.iter().all(sound)
    })
}

/// Whether these can be the places of the wanted outputs: as many, behind each other within the half, each as long as its shape and
/// datatype say. The shape need not be the declared one: models declare wrongly, and ONNX Runtime only warns.
pub fn are_places(ports: &Ports, layout: &Layout, wanted: &[usize], places: &[Place]) -> bool {
    let mut end = 0;
    let sound = |(number, place): (&usize, &Place)| {
        let Some(port) = ports.outputs.get(*number) else { return false };
        let behind = place.at >= std::mem::replace(&mut end, place.at.saturating_add(place.len));
        let long = vouchsafe_oip::count(&place.shape, place.len).is_some_and(|count| match port.dtype.size() {
            Some(size) => count.checked_mul(size) == Some(place.len),
            // The length of a string is four bytes; the framing is looked at in the copy.
            None => count.checked_mul(4).is_some_and(|least| least <= place.len),
        });
        behind && long && layout.in_answer(0, place.at, place.len).is_some()
    };
    wanted.len() == places.len() && wanted.iter().zip(places).all(sound)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::slice::from_ref;
    use vouchsafe_oip::Dtype;

    fn port(name: &str, dtype: Dtype, shape: &[i64]) -> Port {
        Port { name: name.into(), dtype, shape: shape.to_vec() }
    }

    fn place(shape: &[usize], at: usize, len: usize) -> Place {
        Place { shape: shape.to_vec(), at, len }
    }

    #[test]
    fn only_places_that_the_ports_and_the_slot_allow_pass() {
        let outputs = vec![
            port("y", Dtype::F32, &[-1, 2]),
            port("s", Dtype::Bytes, &[-1]),
            port("any", Dtype::I64, &[]),
            port("t", Dtype::Bool, &[3]),
        ];
        let ports = Ports { inputs: vec![], outputs };
        let layout = Layout::new(2, 4096, 4096).unwrap();
        let passes = |wanted: &[usize], places: &[Place]| are_places(&ports, &layout, wanted, places);
        let y = place(&[3, 2], 0, 24);
        assert!(passes(&[0, 1, 2, 3], &[y.clone(), place(&[2], 64, 30), place(&[5, 1], 128, 40), place(&[3], 192, 3)]));
        assert!(passes(&[0], &[place(&[512, 2], 0, 4096)]) && passes(&[], &[]), "control");
        assert!(passes(&[0], &[place(&[0, 2], 4096, 0)]), "nothing, at the end");
        assert!(
            passes(&[0], &[place(&[2, 3], 0, 24)]) && passes(&[0], &[place(&[6], 0, 24)]),
            "another shape than declared"
        );
        let refused: [(&str, &[usize], &[Place]); 16] = [
            ("one too few", &[0, 1], from_ref(&y)),
            ("one too many", &[0], &[y.clone(), place(&[2], 64, 30)]),
            ("no such port", &[4], from_ref(&y)),
            ("another length", &[0], &[place(&[3, 2], 0, 28)]),
            ("shorter", &[0], &[place(&[3, 2], 0, 20)]),
            ("too many dimensions", &[2], &[place(&[1; 17], 0, 8)]),
            ("a size that is no number", &[2], &[place(&[usize::MAX, 2], 0, 16)]),
            ("a product that wraps around", &[2], &[place(&[1 << 61, 8, 1], 0, 0)]),
            ("behind the half", &[0], &[place(&[512, 2], 1, 4096)]),
            ("far behind it", &[0], &[place(&[3, 2], usize::MAX - 3, 24)]),
            ("longer than it", &[0], &[place(&[513, 2], 0, 4104)]),
            ("one over the other", &[0, 0], &[y.clone(), place(&[3, 2], 23, 24)]),
            ("the same twice", &[0, 0], &[y.clone(), y.clone()]),
            ("one before the other", &[0, 0], &[place(&[3, 2], 64, 24), y.clone()]),
            ("strings without lengths", &[1], &[place(&[8], 0, 31)]),
            ("absurd beside nothing", &[2], &[place(&[0, 1 << 40], 0, 0)]),
        ];
        for (what, wanted, places) in refused {
            assert!(!passes(wanted, places), "{what}");
        }
    }

    #[test]
    fn only_ports_that_a_model_may_have_pass() {
        let both = |list: &[Port]| {
            let one = are_ports(&Ports { inputs: list.to_vec(), outputs: vec![] });
            assert_eq!(one, are_ports(&Ports { inputs: vec![], outputs: list.to_vec() }));
            one
        };
        let f32 = |name: &str, shape: &[i64]| port(name, Dtype::F32, shape);
        assert!(both(&[f32("x", &[-1, 0, 2]), f32("y", &[])]) && both(&[]), "control");
        assert!(!both(&[f32("", &[1])]), "no name");
        assert!(!both(&[f32("x", &[1]), f32("y", &[1]), f32("x", &[1])]), "a name twice");
        assert!(!both(&[f32("x", &[-2])]) && !both(&[f32("x", &[1; 17])]));
        assert!(both(&[f32(&"n".repeat(4096), &[1])]) && !both(&[f32(&"n".repeat(4097), &[1])]));
        let many = |count: usize| -> Vec<Port> { (0..count).map(|n| f32(&n.to_string(), &[1])).collect() };
        assert!(both(&many(4096)) && !both(&many(4097)));
    }
}
