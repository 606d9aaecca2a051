//! Turns inference requests that are wrong in one way each into the refusals of a live enclave: HTTP status and stable code. After
//! every refusal a good request is answered on the same connection.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

use serde_json::{Value, json};
use vouchsafe_tests::{
    live::{INFER, Live, good, tensor},
    scene::told,
    wire::Wire,
};

fn address() -> &'static str {
    Live::shared().address()
}

/// A request whose tensor is binary: its header value and its body.
fn binary(values: &[f32]) -> (String, Vec<u8>) {
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let head = tensor(|t| {
        *t = json!({ "name": "features", "datatype": "FP32", "shape": [1, 30], "parameters": { "binary_data_size": bytes.len() } });
    });
    (head.len().to_string(), [head, bytes].concat())
}

fn replaced(from: &str, to: &str) -> Vec<u8> {
    let text = String::from_utf8(good()).unwrap();
    assert!(text.contains(from), "{from} in {text}");
    text.replacen(from, to, 1).into_bytes()
}

/// What is wrong, HTTP status, code, body.
fn bodies() -> Vec<(&'static str, u16, &'static str, Vec<u8>)> {
    let set = |field: &'static str, value: Value| tensor(|t| t[field] = value);
    let deep =
        |levels: usize| replaced(&format!("{}", json!(vec![0.5; 30])), &("[".repeat(levels) + &"]".repeat(levels)));
    let twice = |body: &[u8]| {
        let mut request: Value = serde_json::from_slice(body).unwrap();
        let one = request["inputs"][0].clone();
        request["inputs"].as_array_mut().unwrap().push(one);
        request.to_string().into_bytes()
    };
    vec![
        ("no body", 400, "JSON_INVALID", vec![]),
        ("null", 400, "JSON_INVALID", b"null".to_vec()),
        (
            "not UTF-8",
            400,
            "JSON_INVALID",
            replaced("features", "feat\u{fffd}").iter().map(|b| if *b == 0xef { 0xff } else { *b }).collect(),
        ),
        ("words behind the JSON", 400, "JSON_INVALID", [good(), b"{}".to_vec()].concat()),
        ("JSON cut in half", 400, "JSON_INVALID", good()[..good().len() / 2].to_vec()),
        ("unknown field", 400, "JSON_INVALID", replaced("{\"inputs\"", "{\"note\":1,\"inputs\"")),
        ("unknown field of a tensor", 400, "JSON_INVALID", set("note", json!(1))),
        ("duplicate key", 400, "JSON_INVALID", replaced("{\"inputs\"", "{\"inputs\":[],\"inputs\"")),
        ("duplicate key in a tensor", 400, "JSON_INVALID", replaced("\"name\"", "\"name\":\"x\",\"name\"")),
        (
            "duplicate key in parameters",
            400,
            "JSON_INVALID",
            replaced("\"name\"", "\"parameters\":{\"binary_data_size\":1,\"binary_data_size\":1},\"name\""),
        ),
        ("unknown parameter", 400, "PARAMETER_UNSUPPORTED", set("parameters", json!({ "shared_memory_region": "r" }))),
        ("NaN in JSON", 400, "JSON_INVALID", replaced("[0.5", "[NaN")),
        ("Infinity in JSON", 400, "JSON_INVALID", replaced("[0.5", "[Infinity")),
        ("more than the datatype holds", 400, "INPUT_DATA", replaced("[0.5", "[1e39")),
        ("null among the numbers", 400, "INPUT_DATA", replaced("[0.5", "[null")),
        ("text among the numbers", 400, "INPUT_DATA", replaced("[0.5", "[\"0.5\"")),
        ("JSON of 20 levels", 400, "INPUT_DATA", deep(20)),
        ("JSON of 100,000 levels", 400, "JSON_INVALID", deep(100_000)),
        ("wrong tensor name", 400, "INPUT_UNKNOWN", set("name", json!("Features"))),
        ("no tensor", 400, "INPUT_MISSING", b"{\"inputs\":[]}".to_vec()),
        ("the tensor twice", 400, "INPUT_REPEATED", twice(&good())),
        ("another datatype", 400, "INPUT_DTYPE", set("datatype", json!("FP64"))),
        ("unknown datatype", 400, "INPUT_DTYPE", set("datatype", json!("fp32"))),
        ("shape with a column less", 400, "INPUT_SHAPE", set("shape", json!([1, 29]))),
        ("shape with a dimension less", 400, "INPUT_SHAPE", set("shape", json!([30]))),
        ("negative dimension", 400, "JSON_INVALID", set("shape", json!([-1, 30]))),
        ("absurd dimension", 400, "INPUT_SHAPE", set("shape", json!([u64::MAX, 30]))),
        ("one number less", 400, "INPUT_DATA", set("data", json!(vec![0.5; 29]))),
        ("one number more", 400, "INPUT_DATA", set("data", json!(vec![0.5; 31]))),
        ("neither data nor size", 400, "INPUT_DATA", set("data", Value::Null)),
        (
            "more rows than the vendor allows",
            400,
            "BATCH_TOO_LARGE",
            tensor(|t| (t["shape"], t["data"]) = (json!([1025, 30]), json!(vec![0; 1025 * 30]))),
        ),
        (
            "unknown output",
            400,
            "OUTPUT_UNKNOWN",
            replaced("{\"inputs\"", "{\"outputs\":[{\"name\":\"weights\"}],\"inputs\""),
        ),
    ]
}

#[test]
fn every_wrong_body_has_its_code_and_the_connection_lives_on() {
    let mut wire = Wire::attested(address());
    let mut wrong = Vec::new();
    for (what, status, code, body) in bodies() {
        let verdict = wire.send("POST", INFER, &[], &body).verdict();
        println!("{what}: {} {}", verdict.0, verdict.1);
        if verdict != (status, code.to_owned()) {
            wrong.push((what, verdict));
        }
        assert_eq!(wire.send("POST", INFER, &[], &good()).status, 200, "control: after {what}");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn binary_tensors_are_held_to_the_same_rules() {
    let mut wire = Wire::attested(address());
    const NAME: &str = "Inference-Header-Content-Length";
    let (length, body) = binary(&[0.5; 30]);
    let mut values = [0.5; 30];
    values[7] = f32::NAN;
    let (_, nan) = binary(&values);
    values[7] = f32::NEG_INFINITY;
    let (_, infinite) = binary(&values);
    let beyond = (body.len() + 1).to_string();
    let header: usize = length.parse().unwrap();
    let salt = "A".repeat(42);
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [u8], (u16, &'a str));
    let cases: [Case<'_>; 16] = [
        ("a good one", &[(NAME, &length)], &body, (200, "accepted")),
        ("NaN", &[(NAME, &length)], &nan, (400, "INPUT_NOT_FINITE")),
        ("infinity", &[(NAME, &length)], &infinite, (400, "INPUT_NOT_FINITE")),
        ("header length beyond the body", &[(NAME, &beyond)], &body, (400, "HEADER_INVALID")),
        ("header length beyond any number", &[(NAME, "99999999999999999999999")], &body, (400, "HEADER_INVALID")),
        ("header length that is no number", &[(NAME, "-1")], &body, (400, "HEADER_INVALID")),
        ("header length twice", &[(NAME, &length), (NAME, &length)], &body, (400, "HEADER_INVALID")),
        ("header length zero, which makes all of it the tensor", &[(NAME, "0")], &body, (400, "INPUT_DATA")),
        ("header length zero before a tensor alone", &[(NAME, "0")], &body[header..], (200, "accepted")),
        ("header length zero before NaN", &[(NAME, "0")], &nan[header..], (400, "INPUT_NOT_FINITE")),
        ("no header length", &[], &body, (400, "JSON_INVALID")),
        ("a byte less", &[(NAME, &length)], &body[..body.len() - 1], (400, "INPUT_DATA")),
        ("a byte more", &[(NAME, &length)], &[&body[..], b"x"].concat(), (400, "INPUT_DATA")),
        ("not compressed", &[(NAME, &length), ("Content-Encoding", "gzip")], &body, (400, "CONTENT_DAMAGED")),
        ("compressed otherwise", &[(NAME, &length), ("Content-Encoding", "br")], &body, (415, "CONTENT_ENCODING")),
        ("a short receipt salt", &[(NAME, &length), ("Vouchsafe-Receipt", &salt)], &body, (400, "RECEIPT_SALT")),
    ];
    for (what, headers, body, (status, code)) in cases {
        assert_eq!(wire.send("POST", INFER, headers, body).verdict(), (status, code.to_owned()), "{what}");
    }
    assert_eq!(wire.send("POST", INFER, &[(NAME, &length)], &body).status, 200, "control: after");
}

/// The same refusals as the customer's command tells them.
#[test]
fn the_customers_command_repeats_the_code() {
    let (address, scene) = (Live::shared().address(), Live::shared().scene());
    let policy = scene.at("customer/policy.toml");
    let infer = |name: &str, model: &str| {
        told(&["infer", address, "--policy", &policy, "--model", model, "--input", &scene.at(name)])
    };
    let known = [
        "INPUT_UNKNOWN",
        "INPUT_MISSING",
        "INPUT_REPEATED",
        "INPUT_DTYPE",
        "INPUT_SHAPE",
        "INPUT_DATA",
        "OUTPUT_UNKNOWN",
    ];
    for (what, _, code, body) in bodies().into_iter().filter(|case| known.contains(&case.2)) {
        if serde_json::from_slice::<Value>(&body).is_ok() {
            std::fs::write(scene.at("bad.json"), body).unwrap();
            assert_eq!(infer("bad.json", "breast-cancer"), (1, code.to_owned()), "{what}");
        }
    }
    let code = infer("heldout.json", "nobody");
    assert_eq!(code, (1, "MODEL_NOT_CLAIMED".to_owned()), "not even asked for");
    scene.write("bad.json", "[NaN]");
    assert_eq!(infer("bad.json", "breast-cancer"), (1, "INPUT_INVALID".to_owned()));
    assert_eq!(infer("heldout.json", "breast-cancer"), (0, "accepted".to_owned()), "control");
}
