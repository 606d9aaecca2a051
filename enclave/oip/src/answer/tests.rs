//! Answers byte for byte, in both forms, padded and not, and what cannot be answered.

use serde_json::Value;

use super::*;
use crate::request::Wanted;

fn tensor(name: &str, dtype: Dtype, shape: &[usize], data: Vec<u8>) -> Tensor {
    Tensor { name: name.into(), dtype, shape: shape.to_vec(), data: data.into() }
}

fn f32s(name: &str, list: &[f32]) -> Tensor {
    tensor(name, Dtype::F32, &[list.len()], list.iter().flat_map(|x| x.to_le_bytes()).collect())
}

fn wants(id: Option<&str>, outputs: &[(&str, bool)]) -> Request {
    let outputs = outputs.iter().map(|(name, binary)| Wanted { name: (*name).into(), binary: *binary }).collect();
    Request { id: id.map(String::from), called: Default::default(), inputs: Vec::new(), outputs }
}

fn encode(request: &Request, outputs: &[Tensor], pad_to: Option<usize>) -> Result<Answer, &'static str> {
    Answer::encode("m", "3", request, outputs, pad_to).map_err(|e| e.code())
}

#[test]
fn the_envelope_is_exact() {
    let label = tensor("label", Dtype::I64, &[2, 1], [1_i64, -7].iter().flat_map(|x| x.to_le_bytes()).collect());
    let p = f32s("p", &[0.25, 1.0]);
    let request = wants(Some("4\"2"), &[("label", false), ("p", false)]);
    let answer = encode(&request, &[label.clone(), p.clone()], None).unwrap();
    let expected = concat!(
        r#"{"model_name":"m","model_version":"3","id":"4\"2","outputs":["#,
        r#"{"name":"label","datatype":"INT64","shape":[2,1],"data":[1,-7]},"#,
        r#"{"name":"p","datatype":"FP32","shape":[2],"data":[0.25,1.0]}]}"#
    );
    assert_eq!((answer.body.as_ref(), answer.header_len), (expected.as_bytes(), 0));

    let request = wants(None, &[("p", true), ("label", false)]);
    let answer = encode(&request, &[p.clone(), label.clone()], None).unwrap();
    let head = concat!(
        r#"{"model_name":"m","model_version":"3","outputs":["#,
        r#"{"name":"p","datatype":"FP32","shape":[2],"parameters":{"binary_data_size":8}},"#,
        r#"{"name":"label","datatype":"INT64","shape":[2,1],"data":[1,-7]}]}"#
    );
    assert_eq!(answer.header_len, head.len() as u64);
    assert_eq!(answer.body, [head.as_bytes(), &p.data].concat());

    let request = wants(None, &[("label", true), ("p", true)]);
    let answer = encode(&request, &[label.clone(), p.clone()], None).unwrap();
    let at = usize::try_from(answer.header_len).unwrap();
    assert_eq!(answer.body[at..], [&label.data[..], &p.data].concat(), "one behind the other");
}

#[test]
fn every_datatype_is_written() {
    for (dtype, data, text) in [
        (Dtype::Bool, vec![1, 0], "[true,false]"),
        (Dtype::U8, vec![255, 0], "[255,0]"),
        (Dtype::I8, vec![255, 0], "[-1,0]"),
        (Dtype::U16, vec![255, 255, 1, 0], "[65535,1]"),
        (Dtype::I16, vec![255, 255, 1, 0], "[-1,1]"),
        (Dtype::U32, [u32::MAX, 0].map(u32::to_le_bytes).concat(), "[4294967295,0]"),
        (Dtype::I32, [i32::MIN, 0].map(i32::to_le_bytes).concat(), "[-2147483648,0]"),
        (Dtype::U64, [u64::MAX, 0].map(u64::to_le_bytes).concat(), "[18446744073709551615,0]"),
        (Dtype::I64, [i64::MIN, 0].map(i64::to_le_bytes).concat(), "[-9223372036854775808,0]"),
        (Dtype::F16, [0.1, -1.0].map(|x| f16::from_f32(x).to_le_bytes()).concat(), "[0.099975586,-1.0]"),
        (Dtype::Bf16, [0.1, -1.0].map(|x| bf16::from_f32(x).to_le_bytes()).concat(), "[0.100097656,-1.0]"),
        (Dtype::F32, [0.1, f32::MAX].map(f32::to_le_bytes).concat(), "[0.1,3.4028235e+38]"),
        (Dtype::F64, [0.1, -0.0].map(f64::to_le_bytes).concat(), "[0.1,-0.0]"),
        (Dtype::Bytes, b"\x02\0\0\0\"\n\0\0\0\0".to_vec(), r#"["\"\n",""]"#),
    ] {
        let answer = encode(&wants(None, &[("y", false)]), &[tensor("y", dtype, &[2], data.clone())], None).unwrap();
        let body = std::str::from_utf8(&answer.body).unwrap();
        assert!(body.ends_with(&format!("\"shape\":[2],\"data\":{text}}}]}}")), "{body}");
        let answer = encode(&wants(None, &[("y", true)]), &[tensor("y", dtype, &[2], data.clone())], None).unwrap();
        assert!(answer.body.ends_with(&data) && answer.header_len as usize + data.len() == answer.body.len());
    }
}

#[test]
fn floats_are_written_as_serde_json_writes_them() {
    let list = [0.1, 1e-45, 3.0, -2.5e-7, 16_777_216.0, 1e16, 1e17, 123_456.79];
    let answer = encode(&wants(None, &[("y", false)]), &[f32s("y", &list)], None).unwrap();
    let text = format!("\"data\":{}", serde_json::to_string(&list).unwrap());
    assert!(std::str::from_utf8(&answer.body).unwrap().contains(&text));
}

#[test]
fn what_json_cannot_hold_is_said_so() {
    for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let outputs = [f32s("y", &[1.0, wrong])];
        assert_eq!(encode(&wants(None, &[("y", false)]), &outputs, None), Err("OUTPUT_NOT_FINITE"));
        assert!(encode(&wants(None, &[("y", true)]), &outputs, None).unwrap().body.ends_with(&outputs[0].data));
    }
    let nan = f16::NAN.to_le_bytes().to_vec();
    assert_eq!(
        encode(&wants(None, &[("y", false)]), &[tensor("y", Dtype::F16, &[1], nan)], None),
        Err("OUTPUT_NOT_FINITE")
    );
    let bytes = [tensor("y", Dtype::Bytes, &[1], b"\x01\0\0\0\xff".to_vec())];
    assert_eq!(encode(&wants(None, &[("y", false)]), &bytes, None), Err("OUTPUT_NOT_TEXT"));
    assert!(encode(&wants(None, &[("y", true)]), &bytes, None).is_ok());
}

#[test]
fn other_outputs_than_wanted_are_not_sent() {
    let request = wants(None, &[("a", false), ("b", true)]);
    let (a, b) = (f32s("a", &[1.0]), f32s("b", &[2.0]));
    assert!(encode(&request, &[a.clone(), b.clone()], None).is_ok(), "control");
    let short = tensor("b", Dtype::F32, &[2], vec![0; 4]);
    for outputs in
        [vec![b.clone(), a.clone()], vec![a.clone()], vec![a.clone(), b.clone(), b.clone()], vec![], vec![a, short]]
    {
        assert_eq!(encode(&request, &outputs, None), Err("OUTPUT_MISMATCH"));
    }
}

#[test]
fn padding_hides_the_length_and_nothing_else() {
    let values = |n: usize| f32s("y", &(0..n).map(|i| i as f32 / 7.0).collect::<Vec<_>>());
    for n in [0, 1, 2, 50, 333] {
        for binary in [false, true] {
            let request = wants(Some("i"), &[("y", binary)]);
            let bare = encode(&request, &[values(n)], None).unwrap();
            for unit in [1, 64, 1000, 4096] {
                let padded = encode(&request, &[values(n)], Some(unit)).unwrap();
                assert_eq!(padded.body.len() % unit, 0);
                assert!(padded.body.len() - bare.body.len() < unit);
                let at = |a: &Answer| if binary { usize::try_from(a.header_len).unwrap() } else { a.body.len() };
                let read = |a: &Answer| serde_json::from_slice::<Value>(&a.body[..at(a)]).unwrap();
                assert_eq!(read(&padded), read(&bare));
                assert_eq!(padded.body[at(&padded)..], bare.body[at(&bare)..], "the binary part is the same");
            }
            assert_eq!(encode(&request, &[values(n)], Some(0)).unwrap(), bare);
        }
    }
}
