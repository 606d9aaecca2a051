//! Turns changes over time, a new model version and a revoked right, into refusals by the enclave and the broker.
//! These change the world for good, so they come last.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;
use vouchsafe_policies::Policy;

use super::{Played, ledger_code};
use crate::{
    demo::{
        process::program_sha256,
        story::{Stage, need, publish, seal},
        world::{Launch, World, number, text},
    },
    failure::Failure,
    runtime,
};

/// Longest wait for a new version to be served: an emulated machine attests and unseals it anew, on a busy host slowly.
const PATIENCE: Duration = Duration::from_secs(120);

/// A customer has an open, verified session; the operator puts version 3 in place. The session's next request must not be
/// answered by weights that its evidence did not name.
pub fn model_changed(world: &mut World, stage: &mut Stage) -> Result<Played, Failure> {
    seal(world, 3)?;
    let policy = Arc::new(Policy::load(Path::new(&world.at("customer/policy.toml")))?);
    let address = stage.enclave.address.clone();
    let path = format!("/v2/models/{}", world.model.id);
    let (before, code, after) = runtime::block_on(async {
        let mut pinned = vouchsafe_customer::connect(&address, Arc::clone(&policy)).await?;
        let before = status(&mut pinned, &path, false).await?;
        publish(world, 3, "operator/models")?;
        stage.enclave.service.signal(rustix::process::Signal::HUP);
        serves(&address, &policy, &world.model.id, 3).await?;
        let code = status(&mut pinned, &path, false).await?;
        let after = status(&mut pinned, &path, true).await?;
        Ok((before, code, after))
    })?;
    let control = if before == "accepted" { after } else { before };
    Ok(Played {
        name: "model-changed",
        title: "the model changes under an open, verified session",
        refused_by: "enclave",
        pid: stage.enclave.enclave_pid,
        program: u32::try_from(stage.enclave.enclave_pid).ok().and_then(program_sha256),
        code,
        expected: "REATTEST",
        control,
        facts: json!({ "control": "answered before the change, and again after re-attestation on the same connection" }),
    })
}

/// Waits until new sessions are told of version `sequence`.
async fn serves(address: &str, policy: &Arc<Policy>, model: &str, sequence: u64) -> Result<(), Failure> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        let pinned = vouchsafe_customer::connect(address, Arc::clone(policy)).await?;
        if pinned.claims().and_then(|c| c.model(model)).is_some_and(|m| m.sequence == sequence) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(Failure::new("DEMO_STEP", 10, "the new version is not served", "run with --keep DIR and read DIR/logs"))
}

/// Asks for the model's metadata; `reattest` lets the library prove the session anew when the enclave demands it.
async fn status(pinned: &mut vouchsafe_customer::Pinned, path: &str, reattest: bool) -> Result<String, Failure> {
    let request = http_get(path)?;
    let response = if reattest { pinned.send(request).await? } else { pinned.send_once(request).await? };
    if response.status().is_success() {
        return Ok("accepted".to_owned());
    }
    let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap_or_default();
    Ok(text(&body, "code").unwrap_or("NO_CODE").to_owned())
}

fn http_get(path: &str) -> Result<hyper::Request<bytes::Bytes>, Failure> {
    hyper::Request::get(path)
        .body(bytes::Bytes::new())
        .map_err(|_| Failure::new("DEMO_STEP", 10, "a request cannot be built", ""))
}

/// The vendor revokes a lease of the newest version; the host launches the very same enclave on the same machine once more.
pub fn revoked(world: &mut World, stage: &mut Stage) -> Result<Played, Failure> {
    let control = world.launch(&Launch::default()).map(|_| "accepted".to_owned())?;
    let dir = world.at("broker/state");
    let listed = world.call(&["broker", "leases", &dir])?;
    let leases = listed.get("leases").and_then(|l| l.as_array()).map_or(&[][..], Vec::as_slice);
    // Of the newest version: what is revoked is this machine's right to that one, and versions may share a second.
    let newest = leases.iter().max_by_key(|l| (number(l, "sequence"), number(l, "issued_at")));
    let lease = need(newest.unwrap_or(&listed), "lease")?;
    world.call(&["broker", "revoke", "lease", &dir, &lease])?;
    let fatal = world.launch_refused(&Launch::default())?;
    let code = ledger_code(world, fatal.ticket.as_deref())?;
    Ok(Played {
        name: "lease-revoked",
        title: "a key is asked for after the lease was revoked",
        refused_by: "broker",
        pid: u64::from(stage.broker.pid()),
        program: program_sha256(stage.broker.pid()),
        code,
        expected: "LEASE_REVOKED",
        control,
        facts: json!({ "enclave_said": fatal.code, "ticket": fatal.ticket }),
    })
}
