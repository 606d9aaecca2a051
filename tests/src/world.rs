//! Turns `vouchsafe demo --no-attacks --keep DIR` into a world whose broker and enclave run on, for one test binary.
//! Every file in it was made by the shipped commands.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex, OnceLock,
        mpsc::{Receiver, channel},
    },
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{bin_dir, vouchsafe_json};

/// The technology that a test plays on unless it says otherwise.
pub const SNP: &str = "sev-snp";
/// The other one.
pub const TDX: &str = "tdx";

/// The folders of all roles, a running broker and a serving enclave.
pub struct World {
    tee: &'static str,
    dir: PathBuf,
    address: String,
    services: Mutex<Vec<Service>>,
}

impl World {
    /// The one world of this test binary on SEV-SNP. It ends with the process.
    ///
    /// # Panics
    /// When the story cannot be played.
    pub fn shared() -> &'static Self {
        static WORLD: OnceLock<World> = OnceLock::new();
        WORLD.get_or_init(Self::new)
    }

    /// The one world of this test binary on TDX.
    ///
    /// # Panics
    /// When the story cannot be played.
    pub fn shared_tdx() -> &'static Self {
        static WORLD: OnceLock<World> = OnceLock::new();
        WORLD.get_or_init(|| Self::on(TDX))
    }

    /// A world of the caller's own, with its broker and enclave.
    ///
    /// # Panics
    /// When the story cannot be played.
    #[must_use]
    pub fn new() -> Self {
        Self::on(SNP)
    }

    /// The same on a technology: [`SNP`] or [`TDX`].
    ///
    /// # Panics
    /// When the story cannot be played.
    #[must_use]
    pub fn on(tee: &'static str) -> Self {
        let dir = Self::prepare_on(tee);
        let state = dir.join("broker/state");
        let mut broker = Service::start("vouchsafe", &["broker", "serve", path(&state), "--exit-with-stdin", "--json"]);
        broker.wait_listening();
        let (enclave, address) = launch(tee, &dir, "operator/config.toml", "operator/models");
        Self { tee, dir, address, services: Mutex::new(vec![broker, enclave]) }
    }

    /// The folders of all roles after the story, nothing running.
    ///
    /// # Panics
    /// When the story cannot be played.
    #[must_use]
    pub fn prepare() -> PathBuf {
        Self::prepare_on(SNP)
    }

    /// The same on a technology.
    ///
    /// # Panics
    /// When the story cannot be played.
    #[must_use]
    pub fn prepare_on(tee: &str) -> PathBuf {
        let dir = folder().keep();
        let world = dir.join("world");
        let (exit, json) = vouchsafe_json(&["demo", "--tee", tee, "--no-attacks", "--keep", path(&world)]);
        assert_eq!(exit, 0, "the story: {json}");
        world
    }

    /// A path inside.
    #[must_use]
    pub fn at(&self, name: &str) -> String {
        path(&self.dir.join(name)).to_owned()
    }

    /// HOST:PORT of the enclave.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Adds a service that ends with this world.
    ///
    /// # Panics
    /// When another thread panicked while it did the same.
    pub fn keep(&self, service: Service) {
        self.services.lock().expect("no panic inside").push(service);
    }

    /// Launches another enclave: its launcher and its address once it serves.
    #[must_use]
    pub fn launch(&self, config: &str, models: &str) -> (Service, String) {
        launch(self.tee, &self.dir, config, models)
    }
}

/// A folder for a world; those of test binaries that have ended are removed on the way.
pub(crate) fn folder() -> tempfile::TempDir {
    remove_left_worlds();
    let prefix = format!("{WORLD}{}-", std::process::id());
    tempfile::Builder::new().prefix(&prefix).tempdir().expect("a folder")
}

/// Worlds are named after the process that made them.
const WORLD: &str = "vouchsafe-world-";

/// A test binary's shared world ends with its process, which cannot clean up after itself: the next one does.
fn remove_left_worlds() {
    for entry in std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let maker = name.to_str().and_then(|n| n.strip_prefix(WORLD)?.split('-').next()?.parse::<u32>().ok());
        if maker.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

fn launch(tee: &str, dir: &Path, config: &str, models: &str) -> (Service, String) {
    let (config, models, root) = (dir.join(config), dir.join(models), dir.join("tester/root"));
    let mut enclave = Service::start(
        "vouchsafe-launch",
        &[
            "--backend",
            "sim-process",
            "--tee",
            tee,
            "--config",
            path(&config),
            "--models",
            path(&models),
            "--listen",
            "127.0.0.1:0",
            "--simulator-root",
            path(&root),
            "--exit-with-stdin",
            "--json",
        ],
    );
    let address = enclave.wait_listening();
    enclave.wait_until("serving", |e| e["state"] == "serving");
    (enclave, address)
}

/// UTF-8 text of a path that a test made itself.
///
/// # Panics
/// For other paths.
pub(crate) fn path(path: &Path) -> &str {
    path.to_str().expect("a UTF-8 path")
}

/// A running program and its JSON events.
pub struct Service {
    child: Child,
    events: Receiver<Value>,
}

impl Service {
    /// Starts a program of the project.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(program: &str, args: &[&str]) -> Self {
        let mut child = Command::new(bin_dir().join(program))
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the program starts");
        let (send, events) = channel();
        let out = child.stdout.take().expect("a pipe");
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if let Ok(event) = serde_json::from_str(&line) {
                    let _ = send.send(event);
                }
            }
        });
        Self { child, events }
    }

    /// The address that it listens on, once it does.
    ///
    /// # Panics
    /// When it does not.
    pub fn wait_listening(&mut self) -> String {
        self.wait_until("listening", |e| e["event"] == "listening")["address"].as_str().expect("an address").to_owned()
    }

    /// The next event that is wanted, within 60 s.
    ///
    /// # Panics
    /// When none comes.
    pub fn wait_until(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + Duration::from_secs(60);
        let mut seen = Vec::new();
        while let Ok(event) = self.events.recv_timeout(end.saturating_duration_since(Instant::now())) {
            if wanted(&event) {
                return event;
            }
            seen.push(event);
        }
        panic!("waited for {what} in vain; seen: {seen:?}");
    }

    /// Events that have come and that nobody waited for.
    #[must_use]
    pub fn events_so_far(&mut self) -> Vec<Value> {
        self.events.try_iter().collect()
    }

    /// Process id of the program.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it at once and waits.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends a signal by name, as `kill` understands it.
    pub fn signal(&self, name: &str) {
        let _ = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
    }

    /// Waits for its end: the exit status, or `None` when a signal ended it.
    ///
    /// # Panics
    /// When it runs on for 20 s.
    pub fn wait(&mut self) -> Option<i32> {
        let end = Instant::now() + Duration::from_secs(20);
        while Instant::now() < end {
            if let Ok(Some(status)) = self.child.try_wait() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the program runs on");
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.signal("TERM");
        let end = Instant::now() + Duration::from_secs(5);
        while Instant::now() < end {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.kill();
    }
}
