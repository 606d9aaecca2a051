//! Turns a sealed package and a key grant into a model that runs: manifest, sequence, mode, usage policy, grant, then plaintext.
//! It does not prove that the host shows the newest package: the floors here and at the broker do.

use std::sync::Arc;

use tokio::sync::oneshot;
use vouchsafe_attestation::claims::{ModelClaim, Release};
use vouchsafe_attestation::{Ed25519Public, Mode};
use vouchsafe_oip::{Port, Ports};
use vouchsafe_policies::usage::{PortFacts, UsagePolicy};
use vouchsafe_release::KeyGrant;
use vouchsafe_sealed::{Package, Shelf};

use crate::config::ModelConfig;
use crate::engine::Runtime;
use crate::error::EnclaveError;
use crate::lease::GuestClock;
use crate::load::load;
use crate::model::Model;
use crate::release_client::{Granted, ReleaseClient};

/// Reads sealed packages, asks for their keys and opens them.
pub struct Unsealer {
    /// The packages.
    pub models: Arc<Shelf>,
    /// Keys that may sign manifests.
    pub manifest_keys: Vec<Ed25519Public>,
    /// The mode of this boot.
    pub mode: Mode,
    /// Asks for keys.
    pub client: ReleaseClient,
    /// Runs models.
    pub runtime: Runtime,
    /// The enclave's sense of time, which every grant may advance.
    pub clock: Arc<GuestClock>,
}

/// A package that the vendor signed for this mode and model, with a usage policy that is enforced whole. Still sealed.
pub struct SignedModel {
    package: Package,
    usage: UsagePolicy,
    release: Release,
}

impl Unsealer {
    /// Opens the package of a configured model, no older than `floor`. Blocks on the disk.
    ///
    /// # Errors
    /// `PACKAGE_*`, `MANIFEST_*`, `BLOB_*`, `MODEL_ID_MISMATCH`, `MODE_MISMATCH`, `SEQUENCE_ROLLBACK`, `USAGE_POLICY_*`.
    pub fn open(&self, config: &ModelConfig, floor: u64) -> Result<SignedModel, EnclaveError> {
        let package = self.models.package(config.id.as_str(), &self.manifest_keys)?;
        let manifest = package.manifest();
        if manifest.model_id != config.id {
            return Err(EnclaveError::ModelIdMismatch);
        }
        if manifest.mode != self.mode {
            return Err(EnclaveError::ModeMismatch);
        }
        if manifest.sequence < floor.max(config.min_sequence) {
            return Err(EnclaveError::SequenceRollback);
        }
        let usage = UsagePolicy::parse(package.usage_policy_bytes())?;
        if usage.model() != config.id {
            return Err(EnclaveError::UsagePolicyModel("it is written for another model"));
        }
        Ok(SignedModel { package, usage, release: config.release })
    }

    /// Gets the key of an opened package and unseals it into a running model.
    ///
    /// # Errors
    /// Those of the key release, `GRANT_MISMATCH`, `KEY_COMMITMENT`, `USAGE_EXPIRED`, `QUOTA_NOT_COVERED`, `BLOB_*`, `MODEL_*`, `RUNNER_*`,
    /// `USAGE_POLICY_MODEL`.
    pub async fn unseal(self: &Arc<Self>, signed: SignedModel) -> Result<Model, EnclaveError> {
        let claim = signed.claim();
        let Granted { grant, lease } = self.client.grant(&claim.id, claim.sequence).await?;
        compare(&grant, &claim)?;
        // The grant is signed with the broker's time, which the clock just learned.
        signed.usage.enforce_time(self.clock.now())?;
        signed.usage.covered(lease.max_requests())?;
        let this = self.clone();
        let (reply, opened) = oneshot::channel();
        // A thread that ends with the work, and its stack with it.
        let open = move || {
            let engine = load(&signed.package, grant.key(), &this.runtime).and_then(|engine| {
                usage_fits(&signed.usage, engine.ports())?;
                Ok((engine, signed.usage))
            });
            drop(grant);
            vouchsafe_system::return_freed_memory();
            // Nobody waits for it any more when the enclave is ending.
            let _ = reply.send(engine);
        };
        let thread = std::thread::Builder::new().name("unseal".into()).spawn(open);
        thread.map_err(|_| EnclaveError::System("start a thread"))?;
        let (engine, usage) = opened.await.map_err(|_| EnclaveError::System("unseal"))??;
        Model::new(claim, usage, engine, lease, self.clock.clone())
    }
}

impl SignedModel {
    /// What the claims say about this package.
    #[must_use]
    pub fn claim(&self) -> ModelClaim {
        let manifest = self.package.manifest();
        ModelClaim {
            id: manifest.model_id.clone(),
            uid: manifest.model_uid,
            sequence: manifest.sequence,
            manifest_digest: self.package.manifest_digest(),
            vendor_keys: self.package.signers().to_vec(),
            usage_policy_digest: self.usage.digest(),
            release: self.release,
        }
    }
}

/// The grant is for exactly this package.
///
/// # Errors
/// `GRANT_MISMATCH` with the field.
pub fn compare(grant: &KeyGrant, claim: &ModelClaim) -> Result<(), EnclaveError> {
    let same = [
        ("model id", grant.model_id() == claim.id),
        ("model uid", grant.uid() == &claim.uid),
        ("sequence", grant.sequence() == claim.sequence),
        ("manifest digest", grant.manifest_digest() == &claim.manifest_digest),
        ("usage policy digest", grant.usage_policy_digest() == &claim.usage_policy_digest),
    ];
    match same.iter().find(|(_, same)| !same) {
        Some((field, _)) => Err(EnclaveError::GrantMismatch(field)),
        None => Ok(()),
    }
}

/// Every rule of the policy is about something that the model has, so that none is empty.
fn usage_fits(usage: &UsagePolicy, ports: &Ports) -> Result<(), EnclaveError> {
    fn facts(ports: &[Port]) -> Vec<PortFacts<'_>> {
        ports.iter().map(|p| PortFacts { name: &p.name, dtype: p.dtype.as_str(), shape: &p.shape }).collect()
    }
    Ok(usage.fits(&facts(&ports.inputs), &facts(&ports.outputs))?)
}
