//! Turns a simulated guest, launched for the lab alone, into evidence for whatever a hostile enclave wants attested.
//! The processor is the shipped simulator: it signs for the lab what it would sign for any host that launches this program.

use std::{os::unix::net::UnixStream, time::Duration};

use serde_json::{Value, json};
use vouchsafe_attestation::{EvidenceEnvelope, Mode, Tee, encoding::b64url};
use vouchsafe_launcher::{LaunchRequest, Simulator, frame};
use vouchsafe_release::{
    ReleaseError,
    client::{Attest, Auth, Incoming, Outgoing},
    rcar::{self, ErrorBody},
};

use super::wire::{Reply, Wire};
use crate::{demo::world::World, failure::Failure};

/// A measured guest of which the lab holds the device, and the broker that it talks to.
pub struct Guest {
    _simulator: Simulator,
    device: UnixStream,
    broker: String,
    tee: Tee,
}

/// A challenge, taken and not yet answered.
pub struct Challenged {
    /// The state of the handshake.
    pub attest: Attest,
    /// The session's cookie.
    pub cookie: String,
}

impl Guest {
    /// Launches the shipped enclave's measurement with the operator's configuration digest.
    pub fn launch(world: &World, tee: Tee) -> Result<Self, Failure> {
        let failed = |e: vouchsafe_launcher::LaunchError| lab(format!("the lab's guest: {e} [{}]", e.code()));
        let mut simulator =
            Simulator::start(&world.programs.simulator, world.at("tester/root").as_ref()).map_err(failed)?;
        let mut host_data = [0; 32];
        hex::decode_to_slice(&world.config_digest, &mut host_data).map_err(|_| lab("the configuration's digest"))?;
        let request = LaunchRequest {
            tee,
            mode: Mode::Simulation,
            enclave: world.programs.enclave.clone(),
            onnxruntime: world.programs.onnxruntime.clone(),
            host_data,
        };
        let device = UnixStream::from(simulator.launch(&request).map_err(failed)?.device);
        device.set_read_timeout(Some(Duration::from_secs(180))).map_err(|_| lab("the device's socket"))?;
        Ok(Self { _simulator: simulator, device, broker: world.broker.to_string(), tee })
    }

    /// Evidence that carries `report_data`, as the device gives it: right or wrong.
    pub fn evidence(&self, report_data: &[u8; 64]) -> Result<EvidenceEnvelope, Failure> {
        let asked = json!({ "report_data": b64url(report_data) });
        frame::write(&self.device, &asked, &[]).map_err(|_| lab("the device's socket"))?;
        let answer = frame::read::<Value>(&self.device).map_err(|_| lab("the device's answer"))?;
        let (answer, _) = answer.ok_or_else(|| lab("the device closed"))?;
        if let Some(error) = answer.get("error") {
            let code = error.get("code").and_then(Value::as_str).unwrap_or("no code");
            return Err(lab(format!("the device refused [{code}]")));
        }
        serde_json::from_value(answer).map_err(|_| lab("the device's answer is no evidence"))
    }

    /// Which technology it plays.
    pub const fn tee(&self) -> Tee {
        self.tee
    }

    /// Sends a request of the handshake on a connection of its own.
    pub fn send(&self, out: &Outgoing) -> Result<Reply, Failure> {
        Wire::open(&self.broker)?.send(out.method, &out.path, out.cookie.as_deref(), &out.body)
    }

    /// Begins a handshake as this technology, and takes the challenge.
    pub fn challenged(&self) -> Result<Challenged, Failure> {
        self.challenged_as(Auth::begin(self.tee, None).map_err(released)?)
    }

    /// Takes the challenge of a handshake that was begun in some way.
    pub fn challenged_as(&self, auth: Auth) -> Result<Challenged, Failure> {
        let reply = self.send(&auth.request())?;
        let cookie = reply.cookies.first().and_then(|c| c.split(';').next()).unwrap_or_default().to_owned();
        let attest = given(&reply, |answer| auth.answer(answer)).map_err(released)?;
        Ok(Challenged { attest, cookie })
    }

    /// Takes a challenge and makes the message that answers it, not yet sent.
    pub fn answered(&self) -> Result<(Challenged, Outgoing), Failure> {
        let challenged = self.challenged()?;
        let evidence = self.evidence(&challenged.attest.report_data())?;
        let out = challenged.attest.request(&evidence).map_err(released)?;
        Ok((challenged, out))
    }

    /// `POST /kbs/v0/attest` with any body.
    pub fn attest(&self, cookie: Option<&str>, body: Vec<u8>) -> Result<Reply, Failure> {
        let (method, path) = ("POST", rcar::ATTEST_PATH.to_owned());
        self.send(&Outgoing { method, path, cookie: cookie.map(str::to_owned), body })
    }

    /// `GET` of a model's key.
    pub fn resource(&self, cookie: Option<&str>, path: String) -> Result<Reply, Failure> {
        self.send(&Outgoing { method: "GET", path, cookie: cookie.map(str::to_owned), body: Vec::new() })
    }
}

/// Gives an answer to a state of the client's library.
fn given<T>(reply: &Reply, read: impl FnOnce(&Incoming<'_>) -> T) -> T {
    let cookies: Vec<&str> = reply.cookies.iter().map(String::as_str).collect();
    read(&Incoming { status: reply.status, set_cookie: &cookies, body: &reply.body })
}

/// The ticket in a refusal.
pub fn ticket(reply: &Reply) -> Option<String> {
    ErrorBody::ticket_of(&reply.body).map(hex::encode)
}

/// A failure of the lab's own side of the handshake.
pub fn released(error: ReleaseError) -> Failure {
    lab(format!("the lab's handshake: {error} [{}]", error.code()))
}

/// A failure of the lab itself: neither a refusal nor an acceptance.
pub fn lab(fact: impl Into<String>) -> Failure {
    Failure::new("FAULT_LAB", 10, fact, "run it again; with --keep DIR the logs of every process stay in DIR")
}
