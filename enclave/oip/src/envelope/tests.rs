//! Parameters, depth, keys that are there twice, and lists that stand for objects.

use super::*;

fn parameters(text: &str) -> Result<Parameters, &'static str> {
    let raw: &RawValue = serde_json::from_str(text).unwrap();
    Parameters::read(Some(raw), AROUND_INPUT).map_err(|e| e.code())
}

#[test]
fn only_parameters_that_are_understood_are_accepted() {
    let some = Parameters { binary_data_size: Some(7), ..Parameters::default() };
    assert_eq!(parameters(r#"{"binary_data_size": 7}"#), Ok(some));
    for text in [
        "{}",
        r#"{"sequence_id": 0, "sequence_start": false, "sequence_end": false, "priority": 0, "timeout": 0}"#,
        r#"{"sequence_id": "", "classification": 0}"#,
        r#"{"binary_data": null, "binary_data_size": null, "binary_data_output": null}"#,
    ] {
        assert_eq!(parameters(text), Ok(Parameters::default()), "{text}");
    }
    for text in [
        r#"{"sequence_id": 1}"#,
        r#"{"sequence_id": "a"}"#,
        r#"{"sequence_start": true}"#,
        r#"{"sequence_end": true}"#,
        r#"{"priority": 1}"#,
        r#"{"timeout": 1000}"#,
        r#"{"classification": 3}"#,
        r#"{"shared_memory_region": "r"}"#,
        r#"{"custom": 0}"#,
        r#"{"custom": null}"#,
        r#"{"custom": {"deep": [1]}}"#,
        r#"{"custom": 1, "custom": 2}"#,
        r#"{"binary_data": 1}"#,
        r#"{"binary_data_size": -1}"#,
        r#"{"binary_data_size": 1.0}"#,
        r#"{"binary_data_size": 18446744073709551616}"#,
        r#"{"binary_data_size": "7"}"#,
        r#"{"binary_data_output": "true"}"#,
        "[]",
        "7",
        "\"\"",
        "null",
    ] {
        assert_eq!(parameters(text), Err("PARAMETER_UNSUPPORTED"), "{text}");
    }
    for text in [
        r#"{"binary_data": true, "binary_data": true}"#,
        r#"{"binary_data_size": 1, "binary_data": false, "binary_data_size": 2}"#,
        r#"{"priority": 0, "priority": 0}"#,
        r#"{"binary_data": null, "binary_data": true}"#,
    ] {
        assert_eq!(parameters(text), Err("JSON_INVALID"), "{text}");
    }
}

#[test]
fn depth_is_counted_outside_of_strings() {
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert_eq!(refuse_deep(&deep(97), 3), Ok(()));
    assert_eq!(refuse_deep(&deep(98), 3), Err(OipError::JsonInvalid));
    assert_eq!(refuse_deep(&format!("[{}]", [deep(96), deep(96)].join(",")), 3), Ok(()));
    assert_eq!(refuse_deep(&format!("\"\\\"{}\"", "[".repeat(1000)), 3), Ok(()));
    assert_eq!(parameters(&format!("{{\"a\":{}}}", deep(200_000))), Err("JSON_INVALID"));
    assert_eq!(parameters(&format!("{{\"a\":{}}}", deep(50))), Err("PARAMETER_UNSUPPORTED"));
}

#[test]
fn lists_do_not_stand_for_objects_and_end_somewhere() {
    let read = |text: &str| read(text).map(|r| r.inputs.0.len()).map_err(|e| e.code());
    let input = r#"{"name":"x","datatype":"FP32","shape":[1]}"#;
    assert_eq!(read(&format!("{{\"inputs\":[{input}]}}")), Ok(1));
    assert_eq!(read("[null,[],null,null]"), Err("JSON_INVALID"));
    assert_eq!(read(r#"{"inputs":[["x","FP32",[1],null,null]]}"#), Err("JSON_INVALID"));
    let many = |n: usize| format!("{{\"inputs\":[{}]}}", vec![input; n].join(","));
    assert_eq!(read(&many(MAX_TENSORS)), Ok(MAX_TENSORS));
    assert_eq!(read(&many(MAX_TENSORS + 1)), Err("JSON_INVALID"));
    let dims = |n: usize| format!("{{\"inputs\":[{}]}}", input.replace("[1]", &format!("{:?}", vec![1; n])));
    assert_eq!((read(&dims(MAX_DIMS)), read(&dims(MAX_DIMS + 1))), (Ok(1), Err("JSON_INVALID")));
}
