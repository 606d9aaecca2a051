//! Turns what is known of models into the JSON that clients of the protocol, and of Triton's extensions to it, ask for.
//! It does not count or decide anything: every number and name is handed in.

use serde_json::{Value, json};

use crate::dtype::{Port, Ports};

/// The word of the Open Inference Protocol for what runs the model.
const PLATFORM: &str = "onnxruntime_onnx";

/// How often something happened and how long it took in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How often.
    pub count: u64,
    /// Nanoseconds.
    pub ns: u64,
}

/// The counters of one version of a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// When the last inference came, in milliseconds since 1970; 0 when none did.
    pub last_inference_ms: u64,
    /// Inferences that succeeded. Without batching, one for each request.
    pub inference_count: u64,
    /// Runs of the model that succeeded.
    pub execution_count: u64,
    /// Requests that succeeded, from their arrival to their answer.
    pub success: Tally,
    /// Requests that failed.
    pub fail: Tally,
    /// Waiting for the model.
    pub queue: Tally,
    /// Decoding and handing over the inputs.
    pub compute_input: Tally,
    /// The model itself.
    pub compute_infer: Tally,
    /// Taking back and encoding the outputs.
    pub compute_output: Tally,
}

/// The counters of one version of a model, with its name.
#[derive(Clone, Copy, Debug)]
pub struct ModelStatistics<'a> {
    /// The model.
    pub name: &'a str,
    /// Its version.
    pub version: &'a str,
    /// Its counters.
    pub counters: Statistics,
}

/// One line of the repository's index.
#[derive(Clone, Copy, Debug)]
pub struct Version<'a> {
    /// The model.
    pub name: &'a str,
    /// Its version.
    pub version: &'a str,
    /// Whether it could answer.
    pub ready: bool,
    /// Why not; empty when it could.
    pub reason: &'a str,
}

/// `GET /v2/models/{model}`: name, versions, platform, inputs, outputs.
#[must_use]
pub fn metadata_json(name: &str, versions: &[&str], ports: &Ports) -> Value {
    let list = |ports: &[Port]| -> Vec<Value> {
        ports.iter().map(|p| json!({ "name": p.name, "datatype": p.dtype.as_str(), "shape": p.shape })).collect()
    };
    json!({
        "name": name,
        "versions": versions,
        "platform": PLATFORM,
        "inputs": list(&ports.inputs),
        "outputs": list(&ports.outputs),
    })
}

/// `GET /v2/models/{model}/config`: Triton's model configuration. The server does not batch, so that every shape is whole
/// and `max_batch_size` is 0.
#[must_use]
pub fn config_json(name: &str, versions: &[u64], ports: &Ports) -> Value {
    let input = |p: &Port| {
        json!({
            "name": p.name, "data_type": p.dtype.config_str(), "format": "FORMAT_NONE", "dims": p.shape,
            "is_shape_tensor": false, "allow_ragged_batch": false, "optional": false, "is_non_linear_format_io": false,
        })
    };
    let output = |p: &Port| {
        json!({
            "name": p.name, "data_type": p.dtype.config_str(), "dims": p.shape,
            "label_filename": "", "is_shape_tensor": false, "is_non_linear_format_io": false,
        })
    };
    json!({
        "name": name,
        "platform": PLATFORM,
        "backend": "onnxruntime",
        "runtime": "",
        "version_policy": { "specific": { "versions": versions } },
        "max_batch_size": 0,
        "input": ports.inputs.iter().map(input).collect::<Vec<_>>(),
        "output": ports.outputs.iter().map(output).collect::<Vec<_>>(),
        "batch_input": [],
        "batch_output": [],
        "instance_group": [{
            "name": name, "kind": "KIND_CPU", "count": 1, "gpus": [], "secondary_devices": [], "profile": [],
            "passive": false, "host_policy": "",
        }],
        "default_model_filename": "",
        "cc_model_filenames": {},
        "metric_tags": {},
        "parameters": {},
        "model_warmup": [],
    })
}

/// `GET /v2/models/stats` and `GET /v2/models/{model}/stats`: Triton's statistics. What this server does not do (batches,
/// a cache of answers) is there with zeros, since clients read it.
#[must_use]
pub fn statistics_json(models: &[ModelStatistics<'_>]) -> Value {
    let took = |d: Tally| json!({ "count": d.count, "ns": d.ns });
    let model = |m: &ModelStatistics<'_>| {
        let c = &m.counters;
        json!({
            "name": m.name,
            "version": m.version,
            "last_inference": c.last_inference_ms,
            "inference_count": c.inference_count,
            "execution_count": c.execution_count,
            "inference_stats": {
                "success": took(c.success),
                "fail": took(c.fail),
                "queue": took(c.queue),
                "compute_input": took(c.compute_input),
                "compute_infer": took(c.compute_infer),
                "compute_output": took(c.compute_output),
                "cache_hit": took(Tally::default()),
                "cache_miss": took(Tally::default()),
            },
            "response_stats": {},
            "batch_stats": [],
            "memory_usage": [],
        })
    };
    json!({ "model_stats": models.iter().map(model).collect::<Vec<_>>() })
}

/// `POST /v2/repository/index`: a list of versions with their states.
#[must_use]
pub fn repository_json(versions: &[Version<'_>]) -> Value {
    let line = |v: &Version<'_>| {
        let state = if v.ready { "READY" } else { "UNAVAILABLE" };
        json!({ "name": v.name, "version": v.version, "state": state, "reason": v.reason })
    };
    versions.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::Dtype;

    fn ports() -> Ports {
        let port = |name: &str, dtype, shape: &[i64]| Port { name: name.into(), dtype, shape: shape.to_vec() };
        Ports {
            inputs: vec![port("x", Dtype::F32, &[-1, 2]), port("s", Dtype::Bytes, &[])],
            outputs: vec![port("y", Dtype::I64, &[-1])],
        }
    }

    #[test]
    fn metadata_is_what_the_protocol_asks_for() {
        let expected = json!({
            "name": "m", "versions": ["3"], "platform": "onnxruntime_onnx",
            "inputs": [
                { "name": "x", "datatype": "FP32", "shape": [-1, 2] },
                { "name": "s", "datatype": "BYTES", "shape": [] },
            ],
            "outputs": [{ "name": "y", "datatype": "INT64", "shape": [-1] }],
        });
        assert_eq!(metadata_json("m", &["3"], &ports()), expected);
    }

    #[test]
    fn the_configuration_has_what_clients_read() {
        let config = config_json("m", &[3], &ports());
        assert_eq!((&config["name"], &config["backend"]), (&json!("m"), &json!("onnxruntime")));
        assert_eq!((&config["platform"], &config["max_batch_size"]), (&json!("onnxruntime_onnx"), &json!(0)));
        assert_eq!(config["version_policy"], json!({ "specific": { "versions": [3] } }));
        assert_eq!(
            (&config["input"][0]["data_type"], &config["input"][0]["dims"]),
            (&json!("TYPE_FP32"), &json!([-1, 2]))
        );
        assert_eq!(config["input"][1]["data_type"], "TYPE_STRING");
        assert_eq!(
            (&config["output"][0]["name"], &config["output"][0]["data_type"]),
            (&json!("y"), &json!("TYPE_INT64"))
        );
    }

    #[test]
    fn statistics_have_tritons_shape() {
        let took = |count, ns| Tally { count, ns };
        let counters = Statistics {
            last_inference_ms: 5,
            inference_count: 2,
            execution_count: 2,
            success: took(2, 20),
            fail: took(1, 3),
            compute_infer: took(2, 9),
            ..Statistics::default()
        };
        let all = statistics_json(&[ModelStatistics { name: "m", version: "3", counters }]);
        let model = &all["model_stats"][0];
        assert_eq!(
            (&model["name"], &model["version"], &model["last_inference"]),
            (&json!("m"), &json!("3"), &json!(5))
        );
        assert_eq!((&model["inference_count"], &model["execution_count"]), (&json!(2), &json!(2)));
        let stats = &model["inference_stats"];
        assert_eq!(
            (&stats["success"], &stats["fail"]),
            (&json!({ "count": 2, "ns": 20 }), &json!({ "count": 1, "ns": 3 }))
        );
        for name in ["queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss"] {
            assert!(stats[name]["count"].is_u64() && stats[name]["ns"].is_u64(), "{name}");
        }
        assert_eq!(statistics_json(&[]), json!({ "model_stats": [] }));
    }

    #[test]
    fn the_index_lists_states() {
        let versions = [
            Version { name: "m", version: "3", ready: true, reason: "" },
            Version { name: "n", version: "1", ready: false, reason: "the lease lapsed" },
        ];
        let expected = json!([
            { "name": "m", "version": "3", "state": "READY", "reason": "" },
            { "name": "n", "version": "1", "state": "UNAVAILABLE", "reason": "the lease lapsed" },
        ]);
        assert_eq!(repository_json(&versions), expected);
    }
}
