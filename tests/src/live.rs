//! Turns one scene into a served model for a whole test binary, and numbers into requests for it.
//! A request may take 3 s there, so that slow ones are cut off within a test's patience.

use std::sync::{Mutex, OnceLock};

use serde_json::{Value, json};

use crate::{Scene, Service, scene::told};

/// Where to ask.
pub const INFER: &str = "/v2/models/breast-cancer/infer";

/// A running broker and a serving enclave.
pub struct Live {
    address: String,
    launcher: u32,
    scene: Scene,
    _services: Mutex<[Service; 2]>,
}

impl Live {
    /// The one of this test binary. Its services end with the process.
    ///
    /// # Panics
    /// When it does not come to serve.
    pub fn shared() -> &'static Self {
        static LIVE: OnceLock<Live> = OnceLock::new();
        LIVE.get_or_init(|| {
            let scene = Scene::new();
            scene.edit("operator/config.toml", "request_timeout_s = 30", "request_timeout_s = 3");
            let (broker, _) = scene.broker();
            let (enclave, address) = scene.serve();
            let policy = scene.at("customer/policy.toml");
            let verdict = told(&["verify", &address, "--policy", &policy]);
            assert_eq!(verdict, (0, "accepted".to_owned()), "it is an enclave");
            let launcher = enclave.pid();
            Self { address, launcher, scene, _services: Mutex::new([broker, enclave]) }
        })
    }

    /// HOST:PORT of the enclave.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Process id of its launcher.
    #[must_use]
    pub const fn launcher(&self) -> u32 {
        self.launcher
    }

    /// Its folders.
    #[must_use]
    pub const fn scene(&self) -> &Scene {
        &self.scene
    }
}

/// A request with one row, its tensor changed.
#[must_use]
pub fn tensor(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut tensor = json!({ "name": "features", "datatype": "FP32", "shape": [1, 30], "data": vec![0.5; 30] });
    change(&mut tensor);
    json!({ "inputs": [tensor] }).to_string().into_bytes()
}

/// A good request.
#[must_use]
pub fn good() -> Vec<u8> {
    tensor(|_| {})
}
