//! Turns models into served ones: sealed and imported by the vendor, installed by the operator, named in configuration and policy.
//! It runs the shipped commands; what they refuse is a failure of the test that asked.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::{
    Scene, Service,
    scene::{copy_dir, told},
};

/// A broker and a serving enclave over a scene.
pub struct Served {
    /// HOST:PORT of the enclave.
    pub address: String,
    /// The launcher.
    pub enclave: Service,
    /// The vendor's broker.
    pub broker: Service,
    /// The folders of all roles.
    pub scene: Scene,
}

impl Served {
    /// Serves exactly these models, each sealed as sequence 1 with the usage policy that `vouchsafe seal` makes itself. The scene
    /// may be changed before anything starts.
    ///
    /// # Panics
    /// When it does not come to serve.
    #[must_use]
    pub fn new(models: &[(&str, Vec<u8>)], change: impl FnOnce(&Scene)) -> Self {
        Self::start(Self::sealed(models), change)
    }

    /// A scene in which these models, and no others, are ready to be served.
    ///
    /// # Panics
    /// When a command refuses.
    #[must_use]
    pub fn sealed(models: &[(&str, Vec<u8>)]) -> Scene {
        let scene = Scene::new();
        for (id, model) in models {
            let package = scene.seal(id, 1, model, None);
            scene.install(&package, "operator/models", id);
        }
        let named: Vec<_> = models.iter().map(|(id, _)| (*id, 1)).collect();
        scene.name_models("operator/config.toml", &named);
        scene
    }

    /// Serves what the scene names.
    ///
    /// # Panics
    /// When it does not come to serve.
    #[must_use]
    pub fn start(scene: Scene, change: impl FnOnce(&Scene)) -> Self {
        Self::start_with(scene, change, &[])
    }

    /// The same with more words for the launcher.
    ///
    /// # Panics
    /// When it does not come to serve.
    #[must_use]
    pub fn start_with(scene: Scene, change: impl FnOnce(&Scene), more: &[&str]) -> Self {
        scene.edit("broker/state/broker.toml", "max_requests = 10000", "max_requests = 100000000");
        change(&scene);
        let (broker, _) = scene.broker();
        let mut enclave = scene.launch("operator/models", more);
        let address = enclave.wait_listening();
        enclave.wait_until("serving", |e| e["state"] == "serving");
        Self { address, enclave, broker, scene }
    }

    /// A proxy for unmodified clients: itself and its address.
    #[must_use]
    pub fn proxy(&self) -> (Service, String) {
        self.scene.proxy(&self.address, &[])
    }
}

/// A usage policy that allows whatever the model takes; a test writes its rules over it.
#[must_use]
pub fn usage(model: &str) -> Value {
    json!({
        "version": 1, "model": model, "expires": "never", "limits": { "max_batch": 1024, "max_body_bytes": 8 << 20 },
        "inputs": "finite", "outputs": "any", "callers": "any", "quotas": "none",
    })
}

impl Scene {
    /// Seals a model with the vendor's key, in simulation, and imports it into the broker: the package's folder.
    ///
    /// # Panics
    /// When a command refuses.
    #[must_use]
    pub fn seal(&self, id: &str, sequence: u64, model: &[u8], usage: Option<&Value>) -> String {
        let file = self.at(&format!("vendor/{id}-{sequence}.onnx"));
        fs::write(&file, model).expect("a writable folder");
        self.seal_file(id, sequence, &file, usage)
    }

    /// The same with a model that is a file.
    ///
    /// # Panics
    /// When a command refuses.
    #[must_use]
    pub fn seal_file(&self, id: &str, sequence: u64, model: &str, usage: Option<&Value>) -> String {
        let out = self.at(&format!("vendor/{id}-{sequence}"));
        let [key, to, wrapped, policy, number] = [
            self.at("vendor/manifest.key"),
            self.at("vendor/broker.pub"),
            format!("{out}.key.json"),
            format!("{out}.usage.json"),
            sequence.to_string(),
        ];
        let mut words = vec!["seal", model, "--id", id, "--sequence", &number, "--sign-with", &key, "--to", &to];
        words.extend(["--out", &out, "--wrapped", &wrapped, "--rehearsal"]);
        if let Some(usage) = usage {
            fs::write(&policy, usage.to_string()).expect("a writable folder");
            words.extend(["--usage-policy", &policy]);
        }
        assert_eq!(told(&words), (0, "accepted".to_owned()), "{id} is sealed");
        let state = self.at("broker/state");
        let import = ["broker", "import", &state, "--package", &out, "--key", &wrapped];
        assert_eq!(told(&import), (0, "accepted".to_owned()), "the key of {id} is imported");
        out
    }

    /// Puts a package where the operator serves a model from, in place of an older one.
    ///
    /// # Panics
    /// When that fails.
    pub fn install(&self, package: &str, models: &str, id: &str) {
        let (folder, place) = (self.at(models), self.at(&format!("{models}/{id}")));
        fs::create_dir_all(folder).expect("a folder");
        let _ = fs::remove_dir_all(&place);
        copy_dir(Path::new(package), Path::new(&place));
    }

    /// Makes these the models of the operator's configuration and of the customer's policy, each with its lowest sequence.
    ///
    /// # Panics
    /// When a file does not look as the story wrote it.
    pub fn name_models(&self, config: &str, models: &[(&str, u64)]) {
        let text = self.text("operator/config.toml");
        let (before, rest) = text.split_once("[[models]]").expect("models");
        let (_, after) = rest.split_once("[limits]").expect("limits");
        let list: String = models
            .iter()
            .map(|(id, least)| format!("[[models]]\nid = \"{id}\"\nmin_sequence = {least}\nrelease = \"online\"\n\n"))
            .collect();
        self.write(config, &format!("{before}{list}[limits]{after}"));
        let text = self.text("customer/policy.toml");
        let (before, rest) = text.split_once("[[models]]").expect("models");
        let key = rest.lines().find(|l| l.starts_with("vendor_keys")).expect("the vendor's key");
        let list: String = models
            .iter()
            .map(|(id, least)| format!("[[models]]\nid = \"{id}\"\n{key}\nmin_sequence = {least}\n\n"))
            .collect();
        self.write("customer/policy.toml", &format!("{before}{list}"));
    }

    /// A proxy in front of an enclave, under the customer's policy: itself and its address.
    #[must_use]
    pub fn proxy(&self, address: &str, more: &[&str]) -> (Service, String) {
        let policy = self.at("customer/policy.toml");
        let mut words = vec!["proxy", "--upstream", address, "--policy", &policy, "--listen", "127.0.0.1:0"];
        words.extend(["--exit-with-stdin", "--json"]);
        words.extend(more);
        let mut proxy = Service::start("vouchsafe", &words);
        let address = proxy.wait_listening();
        (proxy, address)
    }
}
