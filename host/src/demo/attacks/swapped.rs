//! Turns a configuration that is bound and another one that is handed over into what the machine's enclave says to that.
//! The demo is the launcher here: the shipped one binds what it hands over, so a host who lies brings a launcher of his own.

use std::{net::SocketAddr, path::Path, time::Duration};

use serde_json::json;
use tokio::{runtime::Builder, time::timeout};
use vouchsafe_launcher::{
    Backend, BoundConfig, LaunchError, LaunchSpec,
    backend::{Heard, Ingredients, Machine, host::Means, prepare},
    enclave::Message,
    event::State,
    spec::{AccelChoice, LEAST_MEMORY_MIB, MachineSpec, QuoteService},
};
use vouchsafe_measurement::CpuModel;

use super::Played;
use crate::{
    demo::{
        process::program_sha256,
        story::Stage,
        world::{Launch, World},
    },
    failure::Failure,
};

/// Longest wait for a machine to serve or to refuse.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a machine may take to end.
const GRACE: Duration = Duration::from_secs(2);
/// A configuration as good as the operator's, but for a floor that lets the host roll the model back.
const EVIL: &str = "host/config-any-version.toml";

/// The processor is told of the operator's configuration; the enclave is handed the host's.
pub fn configuration(world: &mut World, _: &mut Stage) -> Result<Played, Failure> {
    let good = Launch::default().config;
    let (code, pid) = launched(world, good, EVIL)?;
    let (control, _) = launched(world, good, good)?;
    Ok(Played {
        name: "configuration-swapped",
        title: "host hands over another configuration than the one it bound",
        refused_by: "enclave",
        pid: u64::from(pid),
        program: program_sha256(pid),
        code,
        expected: "CONFIG_DIGEST_MISMATCH",
        control,
        facts: json!({ "control": "the same launcher, handing over what it bound" }),
    })
}

/// Launches a machine that `bound` is measured into and that gets `given`; its last word, or that it serves.
fn launched(world: &World, bound: &str, given: &str) -> Result<(String, u32), Failure> {
    let failed = |e: LaunchError| {
        let fact = format!("the hostile launch: {e} [{}]", e.code());
        Failure::new("DEMO_STEP", 10, fact, "run with --keep DIR and read DIR/logs")
    };
    let spec = spec(world, bound);
    let given = BoundConfig::open(&world.dir.join(given)).map_err(failed)?;
    let means = Means::of(spec.backend, &spec.machine).map_err(failed)?;
    let prepared = prepare(&spec, None, None).map_err(failed)?;
    let Ingredients::Machine(parts) = prepared.ingredients else {
        return Err(Failure::new("DEMO_STEP", 10, "the hostile launch: no machine", ""));
    };
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::new("RUNTIME", 9, format!("no event loop: {}", e.kind()), ""))?;
    runtime.block_on(async {
        let machine = Machine::start(&spec, &means, *parts, &given, None).map_err(failed)?;
        let pid = machine.pid();
        let code = timeout(PATIENCE, last_word(machine)).await.unwrap_or_else(|_| "NO_WORD".to_owned());
        Ok((code, pid))
    })
}

async fn last_word(mut machine: Machine) -> String {
    loop {
        match machine.hear().await {
            Heard::Message(Message::State(State::Serving)) => return "accepted".to_owned(),
            Heard::Message(Message::State(_)) => {}
            Heard::Message(Message::Fatal(fatal)) => return fatal.code.to_string(),
            Heard::Silence => return "GUEST_SILENT".to_owned(),
            Heard::End => return machine.finish(GRACE).await.code.to_string(),
        }
    }
}

fn spec(world: &World, config: &str) -> LaunchSpec {
    let (programs, launch) = (&world.programs, Launch::default());
    LaunchSpec {
        backend: Backend::SimVm,
        tee: world.tee,
        config: world.dir.join(config),
        models: world.dir.join(launch.models),
        collateral: None,
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        simulator_root: world.dir.join("tester/root"),
        enclave: programs.enclave.clone(),
        simulator: programs.simulator.clone(),
        onnxruntime: programs.onnxruntime.clone(),
        ready_file: None,
        ready_timeout: PATIENCE,
        max_connections: 1,
        idle_timeout: PATIENCE,
        machine: MachineSpec {
            image: world.image.clone().unwrap_or_default(),
            firmware: None,
            firmware_sha256: None,
            vcpus: launch.vcpus,
            memory_mib: LEAST_MEMORY_MIB,
            cpu: CpuModel::EpycV4,
            accel: AccelChoice::Auto,
            brokers: vec![world.broker],
            guest_policy: 0,
            id_block: None,
            id_auth: None,
            quote_service: QuoteService::default(),
            qemu: Path::new("qemu-system-x86_64").to_owned(),
            scratch: std::env::temp_dir(),
            silence: Some(PATIENCE),
            own: programs.launch.clone(),
        },
    }
}
