//! Unmodified clients through the proxy, and stock curl at the enclave's own port.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::Command;

use vouchsafe_tests::{Service, World, python, workspace};

fn proxy(world: &World) -> String {
    let policy = world.at("customer/policy.toml");
    let mut proxy = Service::start(
        "vouchsafe",
        &[
            "proxy",
            "--upstream",
            world.address(),
            "--policy",
            &policy,
            "--listen",
            "127.0.0.1:0",
            "--exit-with-stdin",
            "--json",
        ],
    );
    let address = proxy.wait_listening();
    world.keep(proxy);
    address
}

#[test]
fn tritonclient_with_binary_tensors_gets_the_numbers_of_onnxruntime_in_process() {
    let world = World::shared();
    let address = proxy(world);
    let script = r#"
import sys, json, numpy as np, onnxruntime, tritonclient.http as triton
address, model, rows = sys.argv[1:]
request = json.load(open(rows))["inputs"][0]
x = np.array(request["data"], dtype=np.float32).reshape(request["shape"])
names = ["label", "probabilities"]
expected = onnxruntime.InferenceSession(model).run(names, {"features": x})
client = triton.InferenceServerClient(address)
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("breast-cancer")
print(client.get_server_metadata()["name"], client.get_model_metadata("breast-cancer")["inputs"])
for binary_in in (True, False):
    for binary_out in (True, False):
        tensor = triton.InferInput("features", list(x.shape), "FP32")
        tensor.set_data_from_numpy(x, binary_data=binary_in)
        outputs = [triton.InferRequestedOutput(n, binary_data=binary_out) for n in names]
        answer = client.infer("breast-cancer", [tensor], outputs=outputs, request_id="r1")
        assert answer.get_response()["id"] == "r1"
        for name, value in zip(names, expected):
            np.testing.assert_allclose(answer.as_numpy(name), value, rtol=0, atol=1e-6)
        print("binary in", binary_in, "binary out", binary_out, "equal")
"#;
    let model = workspace().join("examples/breast-cancer/model.onnx").display().to_string();
    let output = python(script, &[&address, &model, &world.at("heldout.json")]);
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(text.matches("equal").count(), 4);
}

#[test]
fn stock_curl_gets_health_and_attestation_and_nothing_else() {
    let world = World::shared();
    let curl = |method: &str, path: &str, body: &str| {
        let url = format!("https://{}{path}", world.address());
        let mut command = Command::new("curl");
        command.args(["-sk", "--max-time", "10", "-o", "/dev/stdout", "-w", "\n%{http_code}", "-X", method, &url]);
        if !body.is_empty() {
            command.args(["-H", "content-type: application/json", "-d", body]);
        }
        let text = String::from_utf8(command.output().expect("curl runs").stdout).unwrap();
        let (body, status) = text.rsplit_once('\n').unwrap();
        (status.parse::<u16>().unwrap(), body.to_owned())
    };
    for path in ["/v2/health/live", "/v2/health/ready", "/metrics"] {
        assert_eq!(curl("GET", path, "").0, 200, "{path}");
    }
    let nonce = "A".repeat(43);
    let (status, body) = curl("POST", "/v1/attest", &format!(r#"{{"v":1,"nonce":"{nonce}","accept":["sev-snp"]}}"#));
    assert_eq!(status, 200, "{body}");
    assert!(serde_json::from_str::<serde_json::Value>(&body).unwrap()["evidence"]["report"].is_string());
    for (method, path) in [
        ("GET", "/v2"),
        ("GET", "/v2/models/breast-cancer"),
        ("GET", "/v2/models/breast-cancer/ready"),
        ("POST", "/v2/models/breast-cancer/infer"),
        ("POST", "/v2/models/breast-cancer/versions/1/infer"),
        ("DELETE", "/v2/models/breast-cancer/infer"),
        ("GET", "/v2/models"),
        ("GET", "/"),
    ] {
        let (status, body) = curl(method, path, "");
        assert_eq!(status, 403, "{method} {path}: {body}");
        assert!(body.contains("ATTEST_FIRST"), "{method} {path}: {body}");
    }
}
