//! Turns a configuration that is bound and another one that is handed over into what the enclave says to that.
//! The lab is the launcher here: the shipped one binds what it hands over, so a host who lies brings a launcher of his own.

use std::{net::TcpListener, time::Duration};

use tokio::{runtime::Builder, time::timeout};
use vouchsafe_attestation::Mode;
use vouchsafe_launcher::{
    BoundConfig, LaunchError, LaunchRequest, Simulator,
    enclave::{Enclave, Message},
    event::State,
};

use super::{
    guest::lab as broken,
    lab::{Heard, Lab},
    table::Played,
};
use crate::{
    demo::{process::program_sha256, world::Launch},
    failure::Failure,
};

/// Longest wait for an enclave to serve or to refuse.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long an enclave may take to end.
const GRACE: Duration = Duration::from_secs(2);
/// A configuration as good as the operator's, but for a floor that lets the host roll the model back.
const EVIL: &str = "host/config-any-version.toml";

/// The processor is told of the operator's configuration; the enclave is handed the host's.
pub fn play(lab: &mut Lab) -> Result<Played, Failure> {
    let good = Launch::default().config;
    let heard = launched(lab, good, EVIL)?;
    Ok(Played { heard, control: launched(lab, good, good)?.code })
}

/// Launches a guest that `bound` is measured into and that gets `given`; the enclave's last word, or that it serves.
fn launched(lab: &Lab, bound: &str, given: &str) -> Result<Heard, Failure> {
    let failed = |e: LaunchError| broken(format!("the lab's launch: {e} [{}]", e.code()));
    let (world, launch) = (&lab.world, Launch::default());
    let bound = BoundConfig::open(&world.dir.join(bound)).map_err(failed)?;
    let given = BoundConfig::open(&world.dir.join(given)).map_err(failed)?;
    let mut simulator = Simulator::start(&world.programs.simulator, &world.dir.join("tester/root")).map_err(failed)?;
    let request = LaunchRequest {
        tee: lab.tee,
        mode: Mode::Simulation,
        enclave: world.programs.enclave.clone(),
        onnxruntime: world.programs.onnxruntime.clone(),
        host_data: *bound.digest(),
    };
    let guest = simulator.launch(&request).map_err(failed)?;
    let models = world.dir.join(launch.models);
    let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(|_| broken("the lab's listener"))?;
    let words = (lab.tee, Mode::Simulation);
    let enclave = Enclave::start(&guest, &given, &models, None, &listener, words).map_err(failed)?;
    // The enclave holds its own copies now; its device must have no second holder.
    drop(guest);
    let pid = enclave.pid();
    let program = program_sha256(pid);
    let runtime = Builder::new_current_thread().enable_time().build().map_err(|_| broken("the lab's runtime"))?;
    let code = runtime.block_on(async {
        let code = timeout(PATIENCE, last_word(enclave)).await;
        code.map_err(|_| broken("the enclave neither serves nor refuses"))
    })?;
    Ok(Heard { code, pid: u64::from(pid), program })
}

async fn last_word(mut enclave: Enclave) -> String {
    while let Some(message) = enclave.message().await {
        match message {
            Message::State(State::Serving) => return "accepted".to_owned(),
            Message::State(_) => {}
            Message::Fatal(fatal) => return fatal.code.to_string(),
        }
    }
    enclave.finish(GRACE).await.to_string()
}
