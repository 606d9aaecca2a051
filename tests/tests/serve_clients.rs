//! Turns two unmodified Python clients, tritonclient and kserve's InferenceRESTClient, into callers of an enclave through the proxy:
//! everything that they can ask, with the numbers of ONNX Runtime in process. tests/reference/serve_clients.py is what they do.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

use std::sync::{Mutex, OnceLock};

use vouchsafe_tests::{
    Scene, Served, Service,
    models::usage,
    onnx::{self, Graph, STRING},
    python, workspace,
};

const SCRIPT: &str = include_str!("../reference/serve_clients.py");

/// Models and a proxy in front of them.
struct Front {
    /// The proxy's address.
    address: String,
    /// The customer's rows.
    rows: String,
    _running: Mutex<(Service, Served)>,
}

/// The one of this file. It ends with the process.
fn front() -> &'static Front {
    static FRONT: OnceLock<Front> = OnceLock::new();
    let start = || {
        let scene = Scene::new();
        let text = Graph::new().input("text", STRING, &[-1]).output("same", STRING, &[-1]);
        let text = text.node("Identity", &["text"], &["same"], &[]).model();
        for (id, model) in [("text", text), ("marked", onnx::marked(1000))] {
            let package = scene.seal(id, 1, &model, Some(&usage(id)));
            scene.install(&package, "operator/models", id);
        }
        scene.name_models("operator/config.toml", &[("breast-cancer", 2), ("text", 1), ("marked", 1)]);
        let served = Served::start(scene, |_| {});
        let (proxy, address) = served.proxy();
        let rows = served.scene.at("heldout.json");
        Front { address, rows, _running: Mutex::new((proxy, served)) }
    };
    FRONT.get_or_init(start)
}

fn run(client: &str) -> String {
    let Front { address, rows, .. } = front();
    let model = workspace().join("examples/breast-cancer/model.onnx").display().to_string();
    let output = python(SCRIPT, &[client, address, &model, rows]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{text}");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn count(text: &str, line: &str) -> usize {
    text.lines().filter(|l| l.starts_with(line)).count()
}

#[test]
fn tritonclient_describes_and_asks_in_every_way_it_has() {
    let text = run("triton");
    let counted = [
        "ready",
        "metadata",
        "index",
        "config",
        "infer",
        "stats",
        "compressed",
        "outputs",
        "asynchronous",
        "BYTES",
        "error",
    ];
    assert_eq!(counted.map(|line| count(&text, line)), [1, 1, 1, 1, 4, 1, 4, 1, 1, 4, 2]);
}

#[test]
fn kserves_rest_client_describes_and_asks_in_every_way_it_has() {
    let text = run("kserve");
    let counted = ["ready", "infer", "outputs", "BYTES", "plain dictionary", "error"];
    assert_eq!(counted.map(|line| count(&text, line)), [1, 4, 1, 2, 1, 1]);
}

/// The same clients without anybody behind the address: what they say above comes from the enclave.
#[test]
fn control_without_an_enclave_neither_client_is_content() {
    let Front { rows, .. } = front();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let model = workspace().join("examples/breast-cancer/model.onnx").display().to_string();
    for client in ["triton", "kserve"] {
        let output = python(SCRIPT, &[client, &nobody, &model, rows]);
        assert!(!output.status.success() && output.stdout.is_empty(), "{client}");
    }
}
