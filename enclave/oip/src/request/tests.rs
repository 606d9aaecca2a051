//! Good requests in every form and datatype, and hostile ones with their codes.
//! The model here is a list of ports.

use half::{bf16, f16};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::answer::Answer;

const LIMITS: Limits = Limits { max_input_bytes: 1 << 20 };

fn port(name: &str, dtype: Dtype, shape: &[i64]) -> Port {
    Port { name: name.into(), dtype, shape: shape.to_vec() }
}

/// Two columns in; a label and two columns out.
fn ports() -> Ports {
    Ports {
        inputs: vec![port("x", Dtype::F32, &[-1, 2])],
        outputs: vec![port("label", Dtype::I64, &[-1]), port("probabilities", Dtype::F32, &[-1, 2])],
    }
}

fn one(dtype: Dtype, shape: &[i64]) -> Ports {
    Ports { inputs: vec![port("x", dtype, shape)], outputs: vec![port("y", dtype, shape)] }
}

fn decode(body: impl Into<Bytes>, header_len: Option<u64>) -> Result<Request, OipError> {
    Request::decode(&body.into(), header_len, &ports(), &LIMITS)
}

fn plain(body: &str) -> Result<Request, &'static str> {
    decode(body.to_owned(), None).map_err(|e| e.code())
}

fn framed(head: &str, tail: &[u8], ports: &Ports) -> Result<Request, &'static str> {
    let body: Bytes = [head.as_bytes(), tail].concat().into();
    Request::decode(&body, Some(head.len() as u64), ports, &LIMITS).map_err(|e| e.code())
}

fn request() -> Value {
    json!({ "inputs": [{ "name": "x", "datatype": "FP32", "shape": [2, 2], "data": [[0.25, 0.75], [1, 0]] }] })
}

fn with(change: impl FnOnce(&mut Value)) -> String {
    let mut body = request();
    change(&mut body);
    body.to_string()
}

/// A list that is long enough to be cut out before the rest is read.
fn long(list: &str) -> String {
    list.replacen('[', &format!("[{}", " ".repeat(300)), 1)
}

fn rows(list: &[f32]) -> Vec<u8> {
    list.iter().flat_map(|x| x.to_le_bytes()).collect()
}

#[test]
fn json_nested_flat_binary_and_raw_are_the_same_tensor() {
    let bytes = rows(&[0.25, 0.75, 1.0, 0.0]);
    let nested = plain(&request().to_string()).unwrap();
    let flat = plain(&with(|b| b["inputs"][0]["data"] = json!([0.25, 0.75, 1, 0]))).unwrap();
    let head = r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[2,2],"parameters":{"binary_data_size":16}}]}"#;
    let binary = framed(head, &bytes, &ports()).unwrap();
    let raw = decode(bytes.clone(), Some(0)).unwrap();
    let expected = Tensor { name: "x".into(), dtype: Dtype::F32, shape: vec![2, 2], data: bytes.into() };
    for request in [&nested, &flat, &binary, &raw] {
        assert_eq!((request.inputs.as_slice(), &request.id), (&[expected.clone()][..], &None));
        let all_binary = std::ptr::eq(request, &raw);
        assert_eq!(request.outputs.iter().map(|w| w.name.as_str()).collect::<Vec<_>>(), ["label", "probabilities"]);
        assert!(request.outputs.iter().all(|w| w.binary == all_binary));
    }
}

#[test]
fn binary_tensors_are_slices_of_the_body() {
    let head = r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[2,2],"parameters":{"binary_data_size":16}}]}"#;
    let body: Bytes = [head.as_bytes(), &rows(&[1.0; 4])].concat().into();
    let decoded = Request::decode(&body, Some(head.len() as u64), &ports(), &LIMITS).unwrap();
    assert_eq!(decoded.inputs[0].data.as_ptr(), body[head.len()..].as_ptr(), "not a copy");
    let raw = Request::decode(&body.slice(head.len()..), Some(0), &ports(), &LIMITS).unwrap();
    assert_eq!(raw.inputs[0].data.as_ptr(), body[head.len()..].as_ptr(), "not a copy");
}

#[test]
fn every_datatype_comes_through_json_and_binary() {
    let numbers = |size: usize| (0..3 * size).map(|i| u8::from(i % size == 0)).collect::<Vec<u8>>();
    for dtype in Dtype::ALL {
        let bytes = match dtype {
            Dtype::Bytes => vec![1, 0, 0, 0, b'a', 0, 0, 0, 0, 2, 0, 0, 0, 0xc3, 0xa9],
            Dtype::F16 => [1.0_f32, -2.5, 0.0].iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect(),
            Dtype::Bf16 => [1.0_f32, -2.5, 0.0].iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
            _ => numbers(dtype.size().unwrap()),
        };
        let ports = one(dtype, &[-1]);
        let head = json!({ "inputs": [{
            "name": "x", "datatype": dtype.as_str(), "shape": [3], "parameters": { "binary_data_size": bytes.len() },
        }]});
        let request = framed(&head.to_string(), &bytes, &ports).unwrap();
        assert_eq!((&request.inputs[0].data[..], request.inputs[0].dtype), (&bytes[..], dtype));
        // The same tensor written as JSON, and read again.
        let output = Tensor { name: "y".into(), ..request.inputs[0].clone() };
        let answer = Answer::encode("m", "1", &request, &[output], None).unwrap();
        let answer: Value = serde_json::from_slice(&answer.body).unwrap();
        let data = &answer["outputs"][0]["data"];
        let body = json!({ "inputs": [{ "name": "x", "datatype": dtype.as_str(), "shape": [3], "data": data }] });
        let again = Request::decode(&body.to_string().into(), None, &ports, &LIMITS);
        if matches!(dtype, Dtype::F16 | Dtype::Bf16) {
            assert_eq!(data, &json!([1.0, -2.5, 0.0]));
            assert_eq!(again.unwrap_err().code(), "INPUT_DATA");
        } else {
            assert_eq!(again.unwrap().inputs, request.inputs);
        }
    }
}

#[test]
fn ids_outputs_and_harmless_parameters_are_understood() {
    let body = with(|b| {
        b["id"] = json!("42");
        b["parameters"] = json!({ "binary_data_output": true, "priority": 0, "sequence_id": 0 });
        b["outputs"] =
            json!([{ "name": "probabilities", "parameters": { "binary_data": false } }, { "name": "label" }]);
    });
    let request = plain(&body).unwrap();
    let wanted = |name: &str, binary| Wanted { name: name.into(), binary };
    assert_eq!(request.id.as_deref(), Some("42"));
    assert_eq!(request.outputs, [wanted("probabilities", false), wanted("label", true)]);
    for nothing in [json!([]), json!(null)] {
        let all = plain(&with(|b| b["outputs"] = nothing)).unwrap();
        assert_eq!(all.outputs, [wanted("label", false), wanted("probabilities", false)]);
    }
    assert!(plain(&with(|b| b["id"] = json!("i".repeat(256)))).is_ok());
    assert_eq!(plain(&with(|b| b["id"] = json!("i".repeat(257)))), Err("JSON_INVALID"));
    assert_eq!(plain(&with(|b| b["id"] = json!(42))), Err("JSON_INVALID"));
    // What the Python clients put in when nothing was asked for.
    let extra = with(|b| {
        b["parameters"] = json!({});
        b["inputs"][0]["parameters"] = json!({});
        b["outputs"] = json!([{ "name": "label", "parameters": { "binary_data": true } }]);
    });
    assert_eq!(plain(&extra).unwrap().outputs, [wanted("label", true)]);
}

#[test]
fn bad_requests_have_their_codes() {
    let nested = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
    let deep = |levels: usize| with(|b| b["inputs"][0]["data"] = json!("DEEP")).replace("\"DEEP\"", &nested(levels));
    let shape = |text: &str| with(|b| b["inputs"][0]["shape"] = json!("S")).replace("\"S\"", text);
    let data = |text: &str| with(|b| b["inputs"][0]["data"] = json!("D")).replace("\"D\"", text);
    for text in
        ["[1,2,3,04]", "[1,2,3,4,]", "[1,2,3,NaN]", "[1,2,3,\"\u{1}\"]", "[1,2}]", "[[1,2],[3,4]]]", "[1,2,3,4]x"]
    {
        assert_eq!(plain(&data(&long(text))), Err("JSON_INVALID"), "{text}");
    }
    for text in ["[[1,\"evil\"],[1,0]]", "[1,2,3]", "[1,2,3,1e39]", "[[1,2],[3,4],[]]", "[{\"data\":[1,2,3,4]}]", "[]"]
    {
        assert_eq!(plain(&data(&long(text))), Err("INPUT_DATA"), "{text}");
    }
    assert!(plain(&data(&long("[[1,2],[3,4]]"))).is_ok(), "control");
    for (body, code) in [
        (with(|b| b["inputs"][0]["name"] = json!("evil")), "INPUT_UNKNOWN"),
        (with(|b| b["inputs"][0]["name"] = json!("X")), "INPUT_UNKNOWN"),
        (with(|b| b["inputs"][0]["datatype"] = json!("FP64")), "INPUT_DTYPE"),
        (with(|b| b["inputs"][0]["datatype"] = json!("fp32")), "INPUT_DTYPE"),
        (with(|b| b["inputs"][0]["shape"] = json!([2, 3])), "INPUT_SHAPE"),
        (with(|b| b["inputs"][0]["shape"] = json!([4])), "INPUT_SHAPE"),
        (with(|b| b["inputs"][0]["shape"] = json!([2, 2, 1])), "INPUT_SHAPE"),
        (with(|b| b["inputs"][0]["shape"] = json!([3, 2])), "INPUT_DATA"),
        (with(|b| b["inputs"][0]["shape"] = json!([1, 2])), "INPUT_DATA"),
        (with(|b| b["inputs"][0]["shape"] = json!([0, 2])), "INPUT_DATA"),
        (shape("[-1,2]"), "JSON_INVALID"),
        (shape("[9223372036854775808,2]"), "INPUT_SHAPE"),
        (shape("[18446744073709551615,2]"), "INPUT_SHAPE"),
        (shape("[18446744073709551616,2]"), "JSON_INVALID"),
        (shape("[1e2,2]"), "JSON_INVALID"),
        (shape("[2.0,2]"), "JSON_INVALID"),
        (shape("[268435456,2]"), "INPUT_DATA"),
        (shape("2"), "JSON_INVALID"),
        (shape(&format!("{:?}", [1; 17])), "INPUT_SHAPE"),
        (data("[[1,\"evil\"],[1,0]]"), "INPUT_DATA"),
        (data("[[1,1e39],[1,0]]"), "INPUT_DATA"),
        (data("[1,2,3]"), "INPUT_DATA"),
        (data("[1,2,3,4,5]"), "INPUT_DATA"),
        (data("{}"), "INPUT_DATA"),
        (data("1"), "INPUT_DATA"),
        (data("null"), "INPUT_DATA"),
        (data("[1,2,3,04]"), "JSON_INVALID"),
        (data("[1,2,3,4,]"), "JSON_INVALID"),
        (data("[1,2,3,NaN]"), "JSON_INVALID"),
        (data("[1,2,3,-Infinity]"), "JSON_INVALID"),
        (data("[1,2,3,.5]"), "JSON_INVALID"),
        (data("[1,2,3,\"\u{1}\"]"), "JSON_INVALID"),
        (data("[1,2,3,4]]"), "JSON_INVALID"),
        (deep(97), "INPUT_DATA"),
        (deep(98), "JSON_INVALID"),
        (deep(200_000), "JSON_INVALID"),
        ("[".repeat(101), "JSON_INVALID"),
        (nested(101), "JSON_INVALID"),
        ("{\"inputs\":".repeat(101), "JSON_INVALID"),
        (with(|b| b["inputs"][0]["parameters"] = json!({ "evil": 1 })), "PARAMETER_UNSUPPORTED"),
        (with(|b| b["inputs"][0]["parameters"] = json!({ "binary_data": true })), "PARAMETER_UNSUPPORTED"),
        (with(|b| b["inputs"][0]["parameters"] = json!({ "binary_data_size": 16 })), "INPUT_DATA"),
        (with(|b| b["inputs"][0]["parameters"] = json!({ "shared_memory_region": "r" })), "PARAMETER_UNSUPPORTED"),
        (with(|b| b["parameters"] = json!({ "sequence_id": 1 })), "PARAMETER_UNSUPPORTED"),
        (with(|b| b["parameters"] = json!({ "timeout": 5 })), "PARAMETER_UNSUPPORTED"),
        (with(|b| b["parameters"] = json!({ "binary_data": true })), "PARAMETER_UNSUPPORTED"),
        (with(|b| b["parameters"] = json!({ "binary_data_size": 1 })), "PARAMETER_UNSUPPORTED"),
        (with(|b| b["inputs"] = json!([])), "INPUT_MISSING"),
        ("{}".into(), "INPUT_MISSING"),
        (with(|b| b["inputs"] = json!([b["inputs"][0], b["inputs"][0]])), "INPUT_REPEATED"),
        (with(|b| b["inputs"] = json!({ "x": [1] })), "JSON_INVALID"),
        (with(|b| drop(b["inputs"][0].as_object_mut().unwrap().remove("datatype"))), "JSON_INVALID"),
        (with(|b| b["outputs"] = json!([{ "name": "evil" }])), "OUTPUT_UNKNOWN"),
        (with(|b| b["outputs"] = json!([{ "name": "label" }, { "name": "label" }])), "OUTPUT_UNKNOWN"),
        (
            with(|b| b["outputs"] = json!([{ "name": "label", "parameters": { "classification": 2 } }])),
            "PARAMETER_UNSUPPORTED",
        ),
        (
            with(|b| b["outputs"] = json!([{ "name": "label", "parameters": { "binary_data_size": 2 } }])),
            "PARAMETER_UNSUPPORTED",
        ),
        (with(|b| b["outputs"] = json!(["label"])), "JSON_INVALID"),
        (with(|b| b["evil"] = json!(1)), "JSON_INVALID"),
        (with(|b| b["inputs"][0]["evil"] = json!(1)), "JSON_INVALID"),
        (request().to_string().replacen("\"inputs\"", "\"inputs\":[],\"inputs\"", 1), "JSON_INVALID"),
        (request().to_string().replacen("\"name\"", "\"name\":\"x\",\"name\"", 1), "JSON_INVALID"),
        (request().to_string().replacen("\"data\"", "\"data\":[],\"data\"", 1), "JSON_INVALID"),
        (request().to_string().replacen("\"name\"", "\"n\\u0061me\":\"x\",\"name\"", 1), "JSON_INVALID"),
        (data(&long("[1,2,3,4]")).replacen("\"data\"", "\"data\":[],\"data\"", 1), "JSON_INVALID"),
        (request().to_string() + "x", "JSON_INVALID"),
        (request().to_string() + "{}", "JSON_INVALID"),
        (String::new(), "JSON_INVALID"),
        ("null".into(), "JSON_INVALID"),
        ("\u{feff}{}".into(), "JSON_INVALID"),
    ] {
        let refused = plain(&body);
        assert_eq!(refused, Err(code), "{}", &body[..body.len().min(300)]);
        let message = decode(body, None).unwrap_err().to_string();
        assert!(!message.contains("evil"));
    }
    assert_eq!(decode(&b"{\"id\":\"\xff\"}"[..], None).unwrap_err().code(), "JSON_INVALID");
    // Control.
    assert!(plain(&request().to_string()).is_ok() && plain(&format!(" {}\r\n\t", request())).is_ok());
}

#[test]
fn the_length_of_the_json_part_is_exact() {
    let head = r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[2,2],"parameters":{"binary_data_size":16}}]}"#;
    let bytes = rows(&[1.0, 2.0, 3.0, 4.0]);
    let body = [head.as_bytes(), &bytes].concat();
    let at = head.len() as u64;
    let send = |length: u64, body: &[u8]| decode(body.to_vec(), Some(length)).map(drop).map_err(|e| e.code());
    assert_eq!(send(at, &body), Ok(()));
    assert_eq!(send(at, &[&body[..], b"\0"].concat()), Err("INPUT_DATA"));
    assert_eq!(send(at, &body[..body.len() - 1]), Err("INPUT_DATA"));
    assert_eq!(send(at - 1, &body), Err("JSON_INVALID"));
    assert_eq!(send(at + 1, &body), Err("JSON_INVALID"));
    for length in [body.len() as u64 + 1, 999_999, u64::MAX] {
        assert_eq!(send(length, &body), Err("HEADER_INVALID"));
    }
    assert_eq!(decode(body.clone(), None).map(drop).map_err(|e| e.code()), Err("JSON_INVALID"), "no header: all JSON");
    assert_eq!(send(request().to_string().len() as u64, request().to_string().as_bytes()), Ok(()), "nothing behind it");
    for (size, code) in
        [(0, "INPUT_DATA"), (8, "INPUT_DATA"), (12, "INPUT_DATA"), (17, "INPUT_DATA"), (u64::MAX, "INPUT_DATA")]
    {
        let head = head.replace(":16", &format!(":{size}"));
        assert_eq!(framed(&head, &bytes, &ports()), Err(code), "{size}");
    }
    // A gigabyte declared takes no memory: neither as bytes nor as elements.
    let huge = head.replace("[2,2]", "[134217728,2]").replace(":16", ":1073741824");
    assert_eq!(framed(&huge, &bytes, &ports()), Err("INPUT_DATA"));
    assert_eq!(framed(&head.replace("[2,2]", "[9223372036854775808,2]"), &bytes, &ports()), Err("INPUT_SHAPE"));
}

#[test]
fn several_binary_tensors_follow_one_another() {
    let ports = Ports {
        inputs: vec![port("a", Dtype::Bytes, &[-1]), port("b", Dtype::Bool, &[2]), port("c", Dtype::F16, &[1])],
        outputs: vec![],
    };
    let input = |name: &str, dtype: &str, shape: &[usize], size: usize| json!({ "name": name, "datatype": dtype, "shape": shape, "parameters": { "binary_data_size": size } });
    let head = |a: usize| {
        json!({ "inputs": [input("c", "FP16", &[1], 2), input("a", "BYTES", &[2], a), input("b", "BOOL", &[2], 2)] })
            .to_string()
    };
    let tail = [0, 0x3c, 1, 0, 0, 0, b'z', 0, 0, 0, 0, 1, 0];
    let request = framed(&head(9), &tail, &ports).unwrap();
    let data: Vec<&[u8]> = request.inputs.iter().map(|t| &t.data[..]).collect();
    assert_eq!(data, [&tail[..2], &tail[2..11], &tail[11..]]);
    // A string cut by a boundary that lies, and a boolean that is none.
    assert_eq!(framed(&head(8), &tail, &ports), Err("INPUT_DATA"));
    let mut other = tail;
    other[12] = 2;
    assert_eq!(framed(&head(9), &other, &ports), Err("INPUT_DATA"));
    other = tail;
    other[2] = 0xff;
    assert_eq!(framed(&head(9), &other, &ports), Err("INPUT_DATA"));
}

#[test]
fn the_raw_form_needs_one_input_of_a_shape_that_follows() {
    let raw = |ports: &Ports, bytes: &[u8]| {
        let request = Request::decode(&bytes.to_vec().into(), Some(0), ports, &LIMITS).map_err(|e| e.code())?;
        assert!(request.outputs.iter().all(|w| w.binary));
        Ok(request.inputs[0].clone())
    };
    assert_eq!(raw(&one(Dtype::I16, &[-1, 3]), &[0; 12]).unwrap().shape, [2, 3]);
    assert_eq!(raw(&one(Dtype::I16, &[2, 3]), &[0; 12]).unwrap().shape, [2, 3]);
    assert_eq!(raw(&one(Dtype::F32, &[]), &[0; 4]).unwrap().shape, [0; 0]);
    assert_eq!(raw(&one(Dtype::F32, &[-1]), &[]).unwrap().shape, [0]);
    let string = raw(&one(Dtype::Bytes, &[-1]), b"abc").unwrap();
    assert_eq!((string.shape, &string.data[..]), (vec![1], &b"\x03\0\0\0abc"[..]));
    assert_eq!(&raw(&one(Dtype::Bytes, &[1, 1]), b"").unwrap().data[..], &[0; 4]);
    for (ports, bytes, code) in [
        (one(Dtype::I16, &[-1, 3]), &[0; 11][..], "INPUT_DATA"),
        (one(Dtype::I16, &[-1, 3]), &[0; 8], "INPUT_DATA"),
        (one(Dtype::I16, &[2, 3]), &[0; 10], "INPUT_DATA"),
        (one(Dtype::I16, &[2, 3]), &[], "INPUT_DATA"),
        (one(Dtype::I16, &[2, 3]), &[0; 14], "INPUT_DATA"),
        (one(Dtype::I16, &[-1, -1]), &[0; 12], "INPUT_SHAPE"),
        (one(Dtype::I16, &[-1, 0]), &[], "INPUT_SHAPE"),
        (one(Dtype::I16, &[i64::MAX, i64::MAX]), &[0; 12], "INPUT_SHAPE"),
        (one(Dtype::Bytes, &[2]), b"abc", "INPUT_SHAPE"),
        (one(Dtype::Bool, &[-1]), &[0, 1, 2], "INPUT_DATA"),
        (Ports::default(), b"", "INPUT_UNKNOWN"),
    ] {
        assert_eq!(raw(&ports, bytes), Err(code), "{:?}", ports.inputs);
    }
    let mut two = ports();
    two.inputs.push(port("z", Dtype::F32, &[1]));
    assert_eq!(raw(&two, &[0; 8]), Err("INPUT_MISSING"));
    let large = Request::decode(&vec![0; LIMITS.max_input_bytes + 8].into(), Some(0), &ports(), &LIMITS);
    assert_eq!(large.unwrap_err(), OipError::InputTooLarge(LIMITS.max_input_bytes));
}

#[test]
fn all_inputs_together_stay_below_the_limit() {
    let ports = Ports { inputs: vec![port("a", Dtype::F64, &[-1]), port("b", Dtype::Bytes, &[-1])], outputs: vec![] };
    let body = |n: usize, m: usize| {
        let input = |name: &str, dtype: &str, data: Value| json!({ "name": name, "datatype": dtype, "shape": [data.as_array().unwrap().len()], "data": data });
        json!({ "inputs": [input("a", "FP64", json!(vec![0; n])), input("b", "BYTES", json!(vec!["ab"; m]))] })
            .to_string()
    };
    let limit = 80 + 60;
    let read = |n, m| Request::decode(&body(n, m).into(), None, &ports, &Limits { max_input_bytes: limit });
    assert!(read(10, 10).is_ok() && read(17, 0).is_ok());
    for (n, m) in [(11, 10), (10, 11), (18, 0), (1000, 0), (0, 24)] {
        assert_eq!(read(n, m).unwrap_err(), OipError::InputTooLarge(limit), "{n} {m}");
    }
}

proptest! {
    #[test]
    fn any_bytes_decode_or_are_refused(
        body in proptest::collection::vec(any::<u8>(), 0..200),
        head in proptest::option::of(0_u64..220),
        strings in any::<bool>(),
    ) {
        let ports = if strings { one(Dtype::Bytes, &[-1]) } else { ports() };
        if let Ok(request) = Request::decode(&body.into(), head, &ports, &LIMITS) {
            prop_assert!(request.inputs.iter().all(Tensor::is_sound));
        }
    }

    #[test]
    fn any_small_change_of_a_request_decodes_or_is_refused(
        at in any::<usize>(),
        byte in any::<u8>(),
        more in any::<u8>(),
        cut in any::<bool>(),
    ) {
        let mut body = request().to_string();
        if cut {
            body = body.replace("[[", &format!("[{}[", " ".repeat(300)));
        }
        let mut body = body.into_bytes();
        let at = at % body.len();
        body[at] = byte;
        let next = (at + 1) % body.len();
        if more < 128 {
            body[next] = more;
        }
        let json = serde_json::from_slice::<Value>(&body).is_ok();
        if let Ok(decoded) = decode(body, None) {
            prop_assert!(json, "what is accepted is JSON");
            prop_assert!(decoded.inputs.iter().all(|t| t.shape.len() == 2 && t.is_finite() && t.is_sound()));
        }
    }

    #[test]
    fn binary_and_json_rows_are_the_same_tensor(list in proptest::collection::vec(proptest::array::uniform2(-1e30_f32..1e30), 0..20)) {
        let flat: Vec<f32> = list.concat();
        let bytes = rows(&flat);
        let input = |rest: Value| {
            let mut input = json!({ "name": "x", "datatype": "FP32", "shape": [list.len(), 2] });
            input.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
            json!({ "inputs": [input] }).to_string()
        };
        let head = input(json!({ "parameters": { "binary_data_size": bytes.len() } }));
        let binary = framed(&head, &bytes, &ports()).unwrap().inputs;
        let nested = plain(&input(json!({ "data": list }))).unwrap().inputs;
        let plain = plain(&input(json!({ "data": flat }))).unwrap().inputs;
        prop_assert_eq!(&binary, &nested);
        prop_assert_eq!(&binary, &plain);
    }

    #[test]
    fn strings_come_back_through_json_and_binary(words in proptest::collection::vec(any::<String>(), 0..8)) {
        let ports = one(Dtype::Bytes, &[-1]);
        let body = json!({ "inputs": [{ "name": "x", "datatype": "BYTES", "shape": [words.len()], "data": words }] });
        let plain = Request::decode(&body.to_string().into(), None, &ports, &LIMITS).unwrap();
        let bytes: Vec<u8> =
            words.iter().flat_map(|w| [&u32::try_from(w.len()).unwrap().to_le_bytes(), w.as_bytes()].concat()).collect();
        let head = json!({ "inputs": [{
            "name": "x", "datatype": "BYTES", "shape": [words.len()], "parameters": { "binary_data_size": bytes.len() },
        }]});
        let binary = framed(&head.to_string(), &bytes, &ports).unwrap();
        prop_assert_eq!(&plain.inputs, &binary.inputs);
        let output = Tensor { name: "y".into(), ..plain.inputs[0].clone() };
        let answer = Answer::encode("m", "1", &plain, &[output], None).unwrap();
        let answer: Value = serde_json::from_slice(&answer.body).unwrap();
        prop_assert_eq!(&answer["outputs"][0]["data"], &json!(words));
    }
}
