//! Turns the head of an ONNX file into the list of its inputs, for the usage policy that `seal` proposes.
//! It does not judge the model; the enclave's own rules do that. Field numbers: onnx.proto3 of ONNX 1.18 (IR version 11).

use vouchsafe_policies::usage::InputRule;

/// No graph names more inputs than this.
const MAX_INPUTS: usize = 256;

/// The inputs of the graph that are not initialisers: name, datatype in the words of the Open Inference Protocol, shape (-1 = any).
/// `None` when the bytes are not an ONNX model or use types that the protocol has no word for.
pub fn inputs(model: &[u8]) -> Option<Vec<InputRule>> {
    let graph = fields(model).find_map(|f| f.message(7))?;
    let initialisers: Vec<&[u8]> =
        fields(graph).filter_map(|f| f.message(5)).filter_map(|t| fields(t).find_map(|f| f.message(8))).collect();
    let mut out = Vec::new();
    for value in fields(graph).filter_map(|f| f.message(11)) {
        let name = fields(value).find_map(|f| f.message(1))?;
        if initialisers.contains(&name) {
            continue;
        }
        let tensor = fields(value).find_map(|f| f.message(2)).and_then(|t| fields(t).find_map(|f| f.message(1)))?;
        let datatype = datatype(fields(tensor).find_map(|f| f.varint(1))?)?;
        let shape = fields(tensor).find_map(|f| f.message(2)).map(shape)?;
        out.push(InputRule::new(core::str::from_utf8(name).ok()?, datatype.parse().ok()?, shape));
        if out.len() > MAX_INPUTS {
            return None;
        }
    }
    (!out.is_empty()).then_some(out)
}

fn shape(message: &[u8]) -> Vec<i64> {
    let dimension =
        |d| fields(d).find_map(|f| f.varint(1)).and_then(|v| i64::try_from(v).ok()).filter(|v| *v > 0).unwrap_or(-1);
    fields(message).filter_map(|f| f.message(1)).map(dimension).collect()
}

/// `TensorProto.DataType` to the protocol's word.
fn datatype(value: u64) -> Option<&'static str> {
    Some(match value {
        1 => "FP32",
        2 => "UINT8",
        3 => "INT8",
        4 => "UINT16",
        5 => "INT16",
        6 => "INT32",
        7 => "INT64",
        9 => "BOOL",
        10 => "FP16",
        11 => "FP64",
        12 => "UINT32",
        13 => "UINT64",
        _ => return None,
    })
}

/// One field of a protobuf message.
struct Field<'a> {
    number: u64,
    varint: u64,
    bytes: Option<&'a [u8]>,
}

impl<'a> Field<'a> {
    fn message(&self, number: u64) -> Option<&'a [u8]> {
        self.bytes.filter(|_| self.number == number)
    }

    fn varint(&self, number: u64) -> Option<u64> {
        (self.number == number && self.bytes.is_none()).then_some(self.varint)
    }
}

/// Walks the fields of one message; ends at the first malformed one.
fn fields(mut rest: &[u8]) -> impl Iterator<Item = Field<'_>> {
    core::iter::from_fn(move || {
        let key = varint(&mut rest)?;
        let number = key >> 3;
        let mut skip = |n: usize| {
            let (head, tail) = rest.split_at_checked(n)?;
            rest = tail;
            Some(head)
        };
        match key & 7 {
            0 => Some(Field { number, varint: varint(&mut rest)?, bytes: None }),
            1 => skip(8).map(|_| Field { number: 0, varint: 0, bytes: None }),
            5 => skip(4).map(|_| Field { number: 0, varint: 0, bytes: None }),
            2 => {
                let len = usize::try_from(varint(&mut rest)?).ok()?;
                let (head, tail) = rest.split_at_checked(len)?;
                rest = tail;
                Some(Field { number, varint: 0, bytes: Some(head) })
            }
            _ => None,
        }
    })
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_inputs_of_the_committed_model() {
        let model = include_bytes!("../../examples/breast-cancer/model.onnx");
        let inputs = inputs(model).unwrap();
        assert_eq!(inputs.len(), 1);
        assert_eq!((inputs[0].name.as_str(), inputs[0].dtype.as_str()), ("features", "FP32"));
        assert_eq!(inputs[0].shape, [-1, 30]);
    }

    #[test]
    fn every_truncation_is_harmless() {
        let model = include_bytes!("../../examples/breast-cancer/model.onnx");
        for n in 0..model.len() {
            let _ = inputs(&model[..n]);
        }
    }
}
