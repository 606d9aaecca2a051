//! Turns an empty folder into a living world of one technology, and a fault's name into what its refuser says.
//! Every code is the refuser's own: the customer's verdict, the broker's ledger line, the enclave's event or HTTP answer.

use std::{fs, io::Write as _, path::Path};

use serde_json::Value;
use vouchsafe_attestation::{Claims, Tee, encoding::from_b64url};

use super::{
    guest::{self, Guest, lab, ticket},
    hostile::{self, Forgery, HONEST},
    policy::with_floors,
    table::{Against, Played},
    wire::{Reply, Server, Wire},
};
use crate::{
    demo::{
        self,
        print::Progress,
        process::{Answer, Service, program_sha256},
        story,
        world::{Launch, Running, World},
    },
    failure::Failure,
};

/// What the refuser said, and who it was.
pub struct Heard {
    /// `accepted`, or its code.
    pub code: String,
    /// Its process.
    pub pid: u64,
    /// SHA-256 of its program, where this user may look at it.
    pub program: Option<String>,
}

/// Everything that runs while faults are played.
pub struct Lab {
    /// The technology.
    pub tee: Tee,
    /// Folders and programs.
    pub world: World,
    /// The vendor's broker.
    pub broker: Service,
    /// The enclave that customers verify.
    pub enclave: Running,
    /// The hostile client's and server's own guest.
    pub guest: Guest,
    /// The hostile server.
    pub server: Server,
    /// What the live enclave claims.
    pub claims: Claims,
    /// A challenge taken at the start, which must have run out at the end.
    pub early: Option<(std::time::Instant, guest::Challenged)>,
    /// What a launch without a fault led to, once it was tried.
    pub honest_launch: Option<String>,
}

/// How long the lab's broker lets a nonce and a token be used.
pub const NONCE_TTL_S: u64 = 25;

impl Lab {
    /// Makes the world and starts everything.
    pub fn start(dir: &Path, tee: Tee, say: &dyn Fn(&str)) -> Result<Self, Failure> {
        fs::create_dir_all(dir).map_err(|e| Failure::file(dir, "created", &e))?;
        let model = demo::bundled(dir)?;
        let mut world = World::new(dir, model, tee, None)?;
        say("root, keys, sealed packages, policies");
        story::prepare(&mut world, &mut Progress::new(true))?;
        tighten(&world, tee)?;
        limits(&world)?;
        say("broker");
        let broker = story::serve_broker(&world)?;
        say("enclave");
        let enclave = world.launch(&Launch::default())?;
        say("a guest of the lab's own");
        let guest = Guest::launch(&world, tee)?;
        let claims = claims_of(&enclave.address, tee)?;
        let server = Server::start()?;
        Ok(Self { tee, world, broker, enclave, guest, server, claims, early: None, honest_launch: None })
    }

    /// Names the fault that the simulated processor makes from now on; `None` for honest evidence.
    pub fn fault(&self, name: Option<&str>) -> Result<(), Failure> {
        let root = self.world.dir.join("tester/root");
        let (path, incoming) = (root.join("fault"), root.join(".fault.new"));
        let write = || -> std::io::Result<()> {
            let mut file = fs::File::create(&incoming)?;
            file.write_all(name.unwrap_or_default().as_bytes())?;
            drop(file);
            fs::rename(&incoming, &path)
        };
        write().map_err(|e| Failure::file(&path, "written", &e))
    }

    /// Lets the processor make a cloud provider's key, which takes seconds once and would make a question look like silence.
    pub fn load_key(&self) -> Result<(), Failure> {
        self.fault(Some("vlek-not-listed"))?;
        let made = self.guest.evidence(&[0; 64]);
        self.fault(None)?;
        made.map(drop)
    }

    /// Lets the processor make a fault, hears one refuser, and plays the same without the fault.
    pub fn device(&mut self, name: &str, against: Against) -> Result<Played, Failure> {
        self.fault(Some(name))?;
        let heard = self.hear(against);
        self.fault(None)?;
        let heard = heard?;
        let control = match against {
            Against::VerifyHardware => {
                // Nothing on this machine satisfies a hardware policy: the control is the same evidence's own policy.
                self.hear(Against::Verify)?.code
            }
            Against::Boot | Against::BootRelease => self.honest_launch()?,
            _ => self.hear(against)?.code,
        };
        Ok(Played { heard, control })
    }

    fn hear(&mut self, against: Against) -> Result<Heard, Failure> {
        match against {
            Against::Verify => self.verify(&self.enclave.address, "customer/policy.toml"),
            Against::VerifyHardware => self.verify(&self.enclave.address, "customer/hardware.toml"),
            Against::VerifyHostile => self.verify_hostile(&HONEST),
            Against::Release => {
                let (_, out) = self.guest.answered()?;
                let reply = self.guest.send(&out)?;
                self.broker_said(&reply)
            }
            Against::Attest => {
                let reply =
                    Wire::open(&self.enclave.address)?.send("POST", "/v1/attest", None, &challenge(self.tee))?;
                Ok(self.enclave_said(&reply))
            }
            Against::Boot => {
                let fatal = self.world.launch_refused(&Launch::default())?;
                Ok(Heard { code: fatal.code, pid: fatal.pid, program: fatal.program })
            }
            Against::BootRelease => self.release_refused(&Launch::default()),
        }
    }

    /// The customer's command verifies `address`.
    pub fn verify(&self, address: &str, policy: &str) -> Result<Heard, Failure> {
        let policy = self.world.at(policy);
        Ok(customer_said(&self.world.ask(&["verify", address, "--policy", &policy])?))
    }

    /// The customer's command verifies the hostile server, which answers as `forgery` says.
    pub fn verify_hostile(&self, forgery: &Forgery) -> Result<Heard, Failure> {
        self.verify_hostile_bytes(forgery, &<[u8]>::to_vec)
    }

    /// The same, with claims whose very bytes are changed before the evidence covers them.
    pub fn verify_hostile_bytes(
        &self,
        forgery: &Forgery,
        claims: &(dyn Fn(&[u8]) -> Vec<u8> + Sync),
    ) -> Result<Heard, Failure> {
        let address = self.server.address()?.to_string();
        std::thread::scope(|scope| {
            let (server, guest, said) = (&self.server, &self.guest, &self.claims);
            let answering = scope.spawn(move || hostile::answer_one(server, guest, said, forgery, claims));
            let heard = self.verify(&address, "customer/policy.toml");
            let answered = answering.join().map_err(|_| lab("the hostile server panicked"))?;
            answered?;
            heard
        })
    }

    /// Launches an enclave that must not get its key; the broker's word.
    pub fn release_refused(&self, launch: &Launch<'_>) -> Result<Heard, Failure> {
        let fatal = self.world.launch_refused(launch)?;
        // Without a ticket no broker refused anything, whatever code the enclave gave up with.
        let code = fatal.ticket.map_or_else(|| Ok("NO_TICKET".to_owned()), |ticket| self.ledger_code(&ticket))?;
        Ok(self.broker_heard(code))
    }

    /// A launch without any fault: the control of every launch with one. It is tried once.
    pub fn honest_launch(&mut self) -> Result<String, Failure> {
        if self.honest_launch.is_none() {
            self.honest_launch = Some(self.world.launch(&Launch::default()).map(|_| "accepted".to_owned())?);
        }
        Ok(self.honest_launch.clone().unwrap_or_default())
    }

    /// What the broker has in its ledger under the ticket of a refusal.
    pub fn broker_said(&self, reply: &Reply) -> Result<Heard, Failure> {
        let code = match (reply.status, ticket(reply)) {
            (200, _) => "accepted".to_owned(),
            (401, Some(ticket)) => self.ledger_code(&ticket)?,
            (status, _) => format!("HTTP_{status}"),
        };
        Ok(self.broker_heard(code))
    }

    fn broker_heard(&self, code: String) -> Heard {
        let pid = self.broker.pid();
        Heard { code, pid: u64::from(pid), program: program_sha256(pid) }
    }

    fn ledger_code(&self, ticket: &str) -> Result<String, Failure> {
        let dir = self.world.at("broker/state");
        let shown = self.world.call(&["broker", "ledger", "show", &dir, ticket])?;
        let code = shown.get("entries").and_then(|e| e.get(0)).and_then(|e| e.get("code")).and_then(Value::as_str);
        Ok(code.unwrap_or("NO_LEDGER_LINE").to_owned())
    }

    /// What the live enclave answered.
    pub fn enclave_said(&self, reply: &Reply) -> Heard {
        let code = match reply.status {
            200 => "accepted".to_owned(),
            status => reply.text("code").unwrap_or_else(|| format!("HTTP_{status}")),
        };
        let pid = self.enclave.enclave_pid;
        Heard { code, pid, program: u32::try_from(pid).ok().and_then(program_sha256) }
    }
}

/// What a customer's command said.
pub fn customer_said(answer: &Answer) -> Heard {
    let code = if answer.exit == 0 { Some("accepted") } else { answer.json.get("code").and_then(Value::as_str) };
    let code = code.unwrap_or("NO_CODE").to_owned();
    Heard { code, pid: u64::from(answer.pid), program: answer.program.clone() }
}

/// A good request for evidence.
pub fn challenge(tee: Tee) -> Vec<u8> {
    format!("{{\"v\":1,\"nonce\":\"{}\",\"accept\":[\"{tee}\"]}}", "A".repeat(43)).into_bytes()
}

/// What an enclave claims now.
pub fn claims_of(address: &str, tee: Tee) -> Result<Claims, Failure> {
    let reply = Wire::open(address)?.send("POST", "/v1/attest", None, &challenge(tee))?;
    let text = reply.text("claims").ok_or_else(|| lab("the live enclave gave no claims"))?;
    let bytes = from_b64url(&text, "claims").map_err(|_| lab("the live enclave's claims"))?;
    Claims::parse(&bytes).map_err(|_| lab("the live enclave's claims"))
}

/// Both policies get floors that the simulated processor just reaches, so that a step below each can be played;
/// and the customer a second policy, which demands hardware.
fn tighten(world: &World, tee: Tee) -> Result<(), Failure> {
    for policy in ["broker/policy.toml", "customer/policy.toml"] {
        let path = world.dir.join(policy);
        let text = fs::read_to_string(&path).map_err(|e| Failure::file(&path, "read", &e))?;
        fs::write(&path, with_floors(&text, tee)).map_err(|e| Failure::file(&path, "written", &e))?;
    }
    let policy = world.at("customer/hardware.toml");
    let model = format!("{}=2={}", world.model.id, world.at("vendor/manifest.key.pub"));
    let mut args = vec!["policy", "init", "--mode", "hardware", "--model", &model, "--out", &policy];
    args.extend(["--config-digest", &world.config_digest]);
    args.extend(story::reference_values(world));
    world.call(&args).map(drop)
}

/// A nonce that runs out while the lab still runs, and room for as many refusals as there are faults.
fn limits(world: &World) -> Result<(), Failure> {
    let text =
        format!("\n[limits]\nnonce_ttl_s = {NONCE_TTL_S}\nrefusals_per_second = 1000\nmax_current_leases = 64\n");
    append(world, "broker/state/broker.toml", &text)
}

fn append(world: &World, name: &str, text: &str) -> Result<(), Failure> {
    let path = world.dir.join(name);
    fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|e| Failure::file(&path, "extended", &e))
}
