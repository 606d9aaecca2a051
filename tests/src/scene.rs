//! Turns one played story into many scenes: copies of its folders, each with a broker address of its own and rules to edit.
//! In a scene the policies accept any configuration, so that a test can change one; that is no advice to anybody.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use serde_json::Value;

use crate::{SNP, Service, World, vouchsafe_json, world};

/// What is wrong, the words, the exit status, the code.
pub type Case<'a> = (&'a str, &'a [&'a str], i32, &'a str);

/// Folders of all roles; nothing runs until asked.
pub struct Scene {
    tee: &'static str,
    dir: tempfile::TempDir,
}

impl Scene {
    /// A copy of the one story that this test binary plays.
    ///
    /// # Panics
    /// When the story cannot be played or copied.
    #[must_use]
    pub fn new() -> Self {
        Self::on(SNP)
    }

    /// The same on a technology: [`SNP`] or [`crate::TDX`].
    ///
    /// # Panics
    /// When the story cannot be played or copied.
    #[must_use]
    pub fn on(tee: &'static str) -> Self {
        static STORIES: [OnceLock<PathBuf>; 2] = [OnceLock::new(), OnceLock::new()];
        let story = STORIES[usize::from(tee != SNP)].get_or_init(|| World::prepare_on(tee));
        let dir = crate::world::folder();
        copy_dir(story, dir.path());
        let scene = Self { tee, dir };
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port");
        let text = scene.text("broker/state/broker.toml");
        let old = text.lines().find_map(|l| l.strip_prefix("listen = ")).expect("the broker's address");
        scene.edit("broker/state/broker.toml", old, &format!("\"{free}\""));
        scene.edit("operator/config.toml", old, &format!("\"{free}\""));
        let policy = path(&scene.dir.path().join("broker/policy.toml")).to_owned();
        let story_policy = path(&story.join("broker/policy.toml")).to_owned();
        scene.edit("broker/state/broker.toml", &story_policy, &policy);
        for policy in ["broker/policy.toml", "customer/policy.toml"] {
            let text = scene.text(policy);
            let (before, rest) = text.split_once("config_digests = [").expect("config_digests");
            let (_, after) = rest.split_once("]\n").expect("the end of the list");
            scene.write(policy, &format!("{before}config_digests = \"any\"\n{after}"));
        }
        scene
    }

    /// A path inside.
    #[must_use]
    pub fn at(&self, name: &str) -> String {
        path(&self.dir.path().join(name)).to_owned()
    }

    /// A text file inside.
    ///
    /// # Panics
    /// When it cannot be read.
    #[must_use]
    pub fn text(&self, name: &str) -> String {
        fs::read_to_string(self.at(name)).expect("a text file")
    }

    /// Replaces a file inside.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.at(name), text).expect("a writable folder");
    }

    /// Replaces words in a text file inside.
    ///
    /// # Panics
    /// When the words do not stand there.
    pub fn edit(&self, name: &str, from: &str, to: &str) {
        let text = self.text(name);
        assert!(text.contains(from), "{from:?} is not in {name}");
        self.write(name, &text.replace(from, to));
    }

    /// Starts the broker and waits until it listens: itself and its address.
    #[must_use]
    pub fn broker(&self) -> (Service, String) {
        let mut broker =
            Service::start("vouchsafe", &["broker", "serve", &self.at("broker/state"), "--exit-with-stdin", "--json"]);
        let address = broker.wait_listening();
        (broker, address)
    }

    /// Starts a launch, whatever becomes of it, over a models folder.
    #[must_use]
    pub fn launch(&self, models: &str, more: &[&str]) -> Service {
        self.launch_as("operator/config.toml", models, more)
    }

    /// The same under another configuration.
    #[must_use]
    pub fn launch_as(&self, config: &str, models: &str, more: &[&str]) -> Service {
        let (config, models, root) = (self.at(config), self.at(models), self.at("tester/root"));
        let mut args = vec!["--backend", "sim-process", "--tee", self.tee, "--config", &config, "--models", &models];
        args.extend(["--listen", "127.0.0.1:0", "--simulator-root", &root, "--exit-with-stdin", "--json"]);
        args.extend(more);
        Service::start("vouchsafe-launch", &args)
    }

    /// Launches the operator's models and waits until they are served: the launch and its address.
    #[must_use]
    pub fn serve(&self) -> (Service, String) {
        self.serve_as("operator/config.toml", "operator/models")
    }

    /// The same under another configuration, from another folder.
    #[must_use]
    pub fn serve_as(&self, config: &str, models: &str) -> (Service, String) {
        let mut enclave = self.launch_as(config, models, &[]);
        let address = enclave.wait_listening();
        enclave.wait_until("serving", |e| e["state"] == "serving");
        (enclave, address)
    }

    /// The customer asks, with or without `--json` in mind: exit status and code, `accepted` for an answer.
    #[must_use]
    pub fn infer(&self, address: &str) -> (i32, String) {
        let (policy, input) = (self.at("customer/policy.toml"), self.at("heldout.json"));
        told(&["infer", address, "--policy", &policy, "--model", "breast-cancer", "--input", &input])
    }

    /// Runs one command for each case and compares exit status and code. `%` before a word makes it a path of the scene.
    ///
    /// # Panics
    /// When any case ends otherwise, after all have run.
    pub fn play(&self, cases: &[Case<'_>]) {
        let mut wrong = Vec::new();
        for (what, words, exit, code) in cases {
            let path = |w: &&str| w.strip_prefix('%').map_or((*w).to_owned(), |name| self.at(name));
            let words: Vec<String> = words.iter().map(path).collect();
            let verdict = told(&words.iter().map(String::as_str).collect::<Vec<_>>());
            println!("{what}: exit {} {}", verdict.0, verdict.1);
            if verdict != (*exit, (*code).to_owned()) {
                wrong.push((*what, verdict));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    /// The lines of the broker's ledger, or those about one ticket.
    ///
    /// # Panics
    /// When the ledger cannot be read.
    #[must_use]
    pub fn ledger(&self, ticket: Option<&str>) -> Vec<Value> {
        let state = self.at("broker/state");
        let (exit, shown) = vouchsafe_json(
            &[&["broker", "ledger", "show", &state], &ticket.into_iter().collect::<Vec<_>>()[..]].concat(),
        );
        assert_eq!(exit, 0, "{shown}");
        shown["entries"].as_array().expect("a list").clone()
    }

    /// The code that the ledger has under a ticket.
    #[must_use]
    pub fn ledger_code(&self, ticket: &str) -> String {
        self.ledger(Some(ticket)).first().map_or_else(String::new, code)
    }
}

impl Default for Scene {
    fn default() -> Self {
        Self::new()
    }
}

/// Runs `vouchsafe … --json`: exit status and code, `accepted` where it succeeded.
#[must_use]
pub fn told(args: &[&str]) -> (i32, String) {
    let (exit, json) = vouchsafe_json(args);
    (exit, if exit == 0 { "accepted".to_owned() } else { code(&json) })
}

/// The code in a JSON object.
#[must_use]
pub fn code(json: &Value) -> String {
    json["code"].as_str().unwrap_or("NO_CODE").to_owned()
}

/// Copies a folder with its folders; permissions of files are kept.
///
/// # Panics
/// When that fails.
pub fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").map(|e| e.expect("an entry")) {
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

fn path(path: &Path) -> &str {
    world::path(path)
}
