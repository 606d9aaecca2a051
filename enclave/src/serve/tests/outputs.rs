//! What the vendor's rules leave of inputs and outputs.

use super::*;

/// The outputs are these and no others.
fn only(outputs: &str) -> Model {
    ruled(&[(r#""outputs": "any""#, &format!(r#""outputs": [{outputs}]"#))])
}

async fn outputs(model: Model, body: Value) -> Reply {
    let service = service(model);
    Client::attested(&service).await.infer(body).await
}

#[tokio::test]
async fn inputs_lie_within_the_range() {
    let range = (r#""finite": true"#, r#""finite": true, "range": {"min": -1, "max": 1}"#);
    let service = service(ruled(&[range]));
    let client = Client::attested(&service).await;
    assert_eq!(client.infer(request()).await.status, 200, "control");
    for element in [1.5, -1.0001, 1e30] {
        let body = with(|b| b["inputs"][0]["data"] = json!([0, 0, 0, element]));
        assert_eq!(client.infer(body).await.code(), (400, "INPUT_RANGE".into()), "{element}");
    }
    let nothing = with(|b| b["inputs"][0] = json!({ "name": "x", "datatype": "FP32", "shape": [0, 2], "data": [] }));
    assert_eq!(client.infer(nothing).await.status, 200);
}

#[tokio::test]
async fn outputs_leave_as_their_rules_say() {
    let body = || with(|b| b["inputs"][0]["data"] = json!([0.1234, 0.8766, 0.5, 0.25]));
    let data = |reply: &Reply, at: usize| reply.json()["outputs"][at]["data"].clone();
    let rounded = outputs(only(r#"{"name":"probabilities","round":2}"#), body()).await;
    assert_eq!(data(&rounded, 0), json!([0.12, 0.88, 0.5, 0.25]));
    assert_eq!(rounded.json()["outputs"].as_array().unwrap().len(), 1, "and no others");
    let greatest = outputs(only(r#"{"name":"probabilities","top_k":1},{"name":"label"}"#), body()).await;
    assert_eq!(data(&greatest, 1), json!([0.0, 0.8766, 0.5, 0.0]));
    assert_eq!(data(&greatest, 0), json!([1, 0]), "one without a form leaves as it is, in the model's order");
    let index = outputs(only(r#"{"name":"probabilities","argmax_only":true}"#), body()).await;
    let expected = json!({ "name": "probabilities", "datatype": "INT64", "shape": [2], "data": [1, 0] });
    assert_eq!(index.json()["outputs"], json!([expected]));
    let all = outputs(model(1, "never", long()), body()).await;
    assert_eq!(data(&all, 1), json!([0.1234, 0.8766, 0.5, 0.25]), "control");
}

#[tokio::test]
async fn binary_outputs_and_their_receipts_are_of_what_leaves() {
    let service = service(only(r#"{"name":"probabilities","argmax_only":true}"#));
    let client = Client::attested(&service).await;
    let reply = client.infer(with(|b| b["parameters"] = json!({ "binary_data_output": true }))).await;
    let at: usize = reply.header("inference-header-content-length").unwrap().parse().unwrap();
    assert_eq!(&reply.body[at..], [1_i64, 0].map(i64::to_le_bytes).as_flattened());
}

#[tokio::test]
async fn what_may_not_leave_is_refused_by_name_and_hidden_without_one() {
    let usage = policy(&[(r#""outputs": "any""#, r#""outputs": [{"name":"label"}]"#)]);
    // The lease is of two requests: what is refused costs nothing of it.
    let service = service(running(1, usage, RunningLease::new(3600, 2, Instant::now()), compute));
    let client = Client::attested(&service).await;
    let wanting = |names: &[&str]| {
        let names: Vec<Value> = names.iter().map(|name| json!({ "name": name })).collect();
        with(|b| b["outputs"] = json!(names))
    };
    for names in [&["probabilities"][..], &["label", "probabilities"]] {
        assert_eq!(client.infer(wanting(names)).await.code(), (403, "OUTPUT_FORBIDDEN".into()), "{names:?}");
    }
    for names in [&["evil"][..], &["label", "label"], &["probabilities", "evil"]] {
        assert_eq!(client.infer(wanting(names)).await.code(), (400, "OUTPUT_UNKNOWN".into()), "{names:?}");
    }
    for names in [&[][..], &["label"]] {
        let reply = client.infer(wanting(names)).await.json();
        assert_eq!(reply["outputs"], json!([{ "name": "label", "datatype": "INT64", "shape": [2], "data": [1, 0] }]));
    }
}

#[tokio::test]
async fn descriptions_show_what_the_rules_leave() {
    let service = service(only(r#"{"name":"probabilities","argmax_only":true}"#));
    let client = Client::attested(&service).await;
    let model = client.call("GET", "/v2/models/m", "").await.json();
    assert_eq!(model["outputs"], json!([{ "name": "probabilities", "datatype": "INT64", "shape": [-1] }]));
    let config = client.call("GET", "/v2/models/m/config", "").await.json();
    assert_eq!((&config["output"][0]["data_type"], &config["output"][0]["dims"]), (&json!("TYPE_INT64"), &json!([-1])));
    assert_eq!(config["output"].as_array().unwrap().len(), 1);
}
