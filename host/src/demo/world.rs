//! Turns an empty folder into a small world: a vendor, a broker, an operator, a tester's root, a customer.
//! Every artefact is made by the shipped commands; nothing is prepared in advance.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::Value;
use vouchsafe_attestation::Tee;

use super::process::{Answer, Programs, Service, program_sha256};
use crate::failure::Failure;

/// The folders of the roles, the programs, and the facts that the steps found out.
pub struct World {
    pub dir: PathBuf,
    pub programs: Programs,
    pub model: Model,
    /// The technology that is played.
    pub tee: Tee,
    /// The guest image, where enclaves are virtual machines; processes without one.
    pub image: Option<PathBuf>,
    pub broker: SocketAddr,
    pub release_key: String,
    pub broker_spki: String,
    pub root_sha256: String,
    /// The machine as policies name it: a chip id, or a PPID.
    pub platform: String,
    /// MEASUREMENT or MRTD.
    pub measurement: String,
    /// RTMR0 to RTMR3; SEV-SNP has none.
    pub rtmr: Vec<String>,
    pub config_digest: String,
}

/// What is being served.
pub struct Model {
    pub id: String,
    pub file: PathBuf,
    /// Its other files, ROLE=PATH.
    pub files: Vec<String>,
    pub input: PathBuf,
}

impl World {
    /// Makes the folders.
    pub fn new(dir: &Path, model: Model, tee: Tee, image: Option<PathBuf>) -> Result<Self, Failure> {
        for name in ["vendor", "broker", "operator/models", "tester", "customer", "host", "logs"] {
            let path = dir.join(name);
            fs::create_dir_all(&path).map_err(|e| Failure::file(&path, "created", &e))?;
        }
        let unknown = String::new;
        Ok(Self {
            dir: dir.to_owned(),
            programs: Programs::find(dir.join("logs"))?,
            model,
            tee,
            image,
            broker: free_address()?,
            release_key: unknown(),
            broker_spki: unknown(),
            root_sha256: unknown(),
            platform: unknown(),
            measurement: unknown(),
            rtmr: Vec::new(),
            config_digest: unknown(),
        })
    }

    /// A path inside the world, as text.
    pub fn at(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// Runs a `vouchsafe` command and demands success.
    pub fn call(&self, args: &[&str]) -> Result<Value, Failure> {
        self.programs.call(&self.programs.vouchsafe, args)
    }

    /// Runs a `vouchsafe` command that may well be refused.
    pub fn ask(&self, args: &[&str]) -> Result<Answer, Failure> {
        self.programs.ask(&self.programs.vouchsafe, args)
    }

    /// Launches an enclave over `models` with `config`, and waits until it serves.
    pub fn launch(&self, launch: &Launch<'_>) -> Result<Running, Failure> {
        let (mut service, address) = self.start(launch)?;
        let (mut pid, mut fell) = (0, false);
        let (mut start, mut first_word) = (Instant::now(), None);
        let enclave = service.wait_for("the enclave to serve", |e| {
            pid = number(e, "enclave_pid").max(pid);
            match text(e, "event") {
                Some("launched") => start = Instant::now(),
                Some("state") => drop(first_word.get_or_insert_with(|| start.elapsed())),
                _ => {}
            }
            let serving = (text(e, "state") == Some("serving")).then_some(Ok(pid));
            fatal(e, &mut fell).map(Err).or(serving)
        })?;
        match enclave {
            Ok(enclave_pid) => {
                Ok(Running { service, address, enclave_pid, first_word: first_word.unwrap_or_default() })
            }
            Err(code) => {
                let fact = format!("the enclave refused to serve [{code}]");
                Err(Failure::new("DEMO_STEP", 10, fact, "run with --keep DIR and read DIR/logs"))
            }
        }
    }

    /// Launches an enclave that must refuse to serve; returns what it said.
    pub fn launch_refused(&self, launch: &Launch<'_>) -> Result<Fatal, Failure> {
        let (mut service, _) = self.start(launch)?;
        let (mut pid, mut program, mut fell) = (0, None, false);
        service.wait_for("the enclave to refuse", |e| {
            // Looked at while it runs: a moment after its refusal it is gone.
            if number(e, "enclave_pid") != 0 && program.is_none() {
                pid = number(e, "enclave_pid");
                program = u32::try_from(pid).ok().and_then(program_sha256);
            }
            let served = || (text(e, "state") == Some("serving")).then(|| "SERVED".to_owned());
            let code = fatal(e, &mut fell).or_else(served)?;
            let ticket = e.get("fatal").and_then(|f| text(f, "ticket")).map(str::to_owned);
            Some(Fatal { code, ticket, pid, program: program.take() })
        })
    }

    fn start(&self, launch: &Launch<'_>) -> Result<(Service, String), Failure> {
        let (config, models, root) = (self.at(launch.config), self.at(launch.models), self.at("tester/root"));
        let simulator = self.programs.simulator.display().to_string();
        let mut args = vec!["--tee", self.tee.as_str(), "--config", &config, "--models", &models];
        args.extend(["--listen", "127.0.0.1:0", "--simulator-root", &root, "--simulator", &simulator]);
        let enclave = launch.enclave.map_or_else(|| self.programs.enclave.display().to_string(), |e| self.at(e));
        let onnxruntime = self.programs.onnxruntime.display().to_string();
        let image = launch.image.map(|image| self.dir.join(image)).or_else(|| self.image.clone());
        let image = image.map(|image| image.display().to_string());
        let (broker, vcpus) = (self.broker.to_string(), launch.vcpus.to_string());
        let (qemu, silence) = (launch.qemu.map(|qemu| self.at(qemu)), launch.silence.to_string());
        match &image {
            None => args.extend(["--backend", "sim-process", "--enclave", &enclave, "--onnxruntime", &onnxruntime]),
            Some(image) => {
                args.extend(["--backend", "sim-vm", "--image", image, "--broker", &broker, "--vcpus", &vcpus]);
                args.extend(["--silence-timeout", &silence]);
                args.extend(qemu.iter().flat_map(|qemu| ["--qemu", qemu]));
            }
        }
        args.push("--exit-with-stdin");
        let mut service = self.programs.serve(&self.programs.launch, &args)?;
        let address = service.wait_for("the launcher to listen", listening)?;
        Ok((service, address))
    }
}

/// What to launch; paths inside the world.
pub struct Launch<'a> {
    pub config: &'a str,
    pub models: &'a str,
    /// Another enclave program than the shipped one; processes only.
    pub enclave: Option<&'a str>,
    /// Another image than the demo's; virtual machines only, as all that follows.
    pub image: Option<&'a str>,
    /// A program that is run in QEMU's place.
    pub qemu: Option<&'a str>,
    /// How many virtual processors.
    pub vcpus: u32,
    /// How long a machine may be silent at first, in seconds.
    pub silence: u64,
}

impl Default for Launch<'_> {
    fn default() -> Self {
        Self {
            config: "operator/config.toml",
            models: "operator/models",
            enclave: None,
            image: None,
            qemu: None,
            vcpus: 1,
            silence: 60,
        }
    }
}

/// A serving enclave.
pub struct Running {
    pub service: Service,
    pub address: String,
    pub enclave_pid: u64,
    /// How long after its start it said how far it is.
    pub first_word: Duration,
}

/// How an enclave refused to serve.
pub struct Fatal {
    pub code: String,
    pub ticket: Option<String>,
    pub pid: u64,
    /// SHA-256 of the program that refused.
    pub program: Option<String>,
}

/// The last word of an enclave that gives up, of a launcher that does, or of a launcher about a machine without a word. A try
/// under KVM that came to nothing is none: the launcher says that it falls back, and what follows counts.
fn fatal(event: &Value, fell: &mut bool) -> Option<String> {
    if let Some(said) = event.get("fatal") {
        return text(said, "code").map(str::to_owned);
    }
    let code = text(event, "code")?;
    let last = match text(event, "event")? {
        "error" => true,
        "fallback" => {
            *fell = true;
            false
        }
        "restarting" => !core::mem::take(fell) && code.starts_with("GUEST_"),
        _ => false,
    };
    last.then(|| code.to_owned())
}

/// The address of a service that has begun to listen.
pub fn listening(event: &Value) -> Option<String> {
    text(event, "address").filter(|_| text(event, "event") == Some("listening")).map(str::to_owned)
}

/// A text field of an event.
pub fn text<'a>(event: &'a Value, name: &str) -> Option<&'a str> {
    event.get(name).and_then(Value::as_str)
}

/// A number of an event, 0 when it is absent.
pub fn number(event: &Value, name: &str) -> u64 {
    event.get(name).and_then(Value::as_u64).unwrap_or(0)
}

/// A loopback address that was free a moment ago.
pub fn free_address() -> Result<SocketAddr, Failure> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|l| l.local_addr())
        .map_err(|e| Failure::new("PORT", 9, format!("no free port on loopback: {}", e.kind()), "free some ports"))
}

/// Copies a folder of plain files.
pub fn copy_dir(from: &Path, to: &Path) -> Result<(), Failure> {
    let copy = || -> std::io::Result<()> {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
        Ok(())
    };
    copy().map_err(|e| Failure::file(to, "copied to", &e))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_fall_back_is_no_last_word_and_the_next_silence_is_one() {
        let mut fell = false;
        let silent = json!({ "event": "restarting", "code": "GUEST_SILENT" });
        assert_eq!(fatal(&silent, &mut fell).as_deref(), Some("GUEST_SILENT"));
        assert_eq!(fatal(&json!({ "event": "fallback", "code": "GUEST_SILENT" }), &mut fell), None);
        assert_eq!(fatal(&silent, &mut fell), None);
        assert_eq!(fatal(&silent, &mut fell).as_deref(), Some("GUEST_SILENT"));
        assert_eq!(fatal(&json!({ "event": "restarting", "code": "ENCLAVE_LOST" }), &mut fell), None);
    }
}
