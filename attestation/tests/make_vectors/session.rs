//! Turns one imagined session into the REPORT_DATA that binds it, and into the files with which a case tells it.
//! It does not judge. Shared by the makers of SEV-SNP and TDX cases.
#![allow(clippy::unwrap_used, reason = "a failed step ends the run")]

use serde_json::json;
use vouchsafe_attestation::{
    Claims, Ed25519Public, Mode, Tee,
    claims::{Clock, ModelClaim, Release},
    session::{MerklePath, Tree, leaf, report_data, session_digest},
};

use crate::cases::{Cases, Files, appraised, unwanted};

/// What a verifier knows of its session, what it was sent, and what the evidence was made for.
#[derive(Clone)]
pub struct Session {
    pub nonce: [u8; 32],
    pub ekm: [u8; 32],
    pub spki: [u8; 32],
    pub claims: Vec<u8>,
    /// The technology inside the hashes.
    pub tee: Tee,
}

impl Session {
    pub fn of(tee: Tee) -> Self {
        Self { nonce: [0x11; 32], ekm: [0x22; 32], spki: [0x33; 32], claims: claims(|_| ()), tee }
    }

    fn tree(&self) -> Tree {
        let own = session_digest(Mode::Simulation, self.tee, &self.nonce, &self.ekm, &self.spki, &self.claims);
        Tree::new(vec![leaf(&[1; 64]), leaf(&own), leaf(&[3; 64])]).unwrap()
    }

    /// What the processor was asked to sign: the root of a tree of three sessions.
    pub fn report_data(&self) -> [u8; 64] {
        let tree = self.tree();
        report_data(Mode::Simulation, self.tee, &tree.root(), u64::from(tree.size()))
    }

    /// What the verifier has in hand.
    pub fn files(&self) -> Files {
        self.files_with(&self.tree().path(1).unwrap())
    }

    fn files_with(&self, merkle: &MerklePath) -> Files {
        let session = json!({
            "nonce": hex::encode(self.nonce),
            "ekm": hex::encode(self.ekm),
            "spki_sha256": hex::encode(self.spki),
            "merkle": merkle,
        });
        Files::from([
            ("session.json", serde_json::to_vec_pretty(&session).unwrap()),
            ("claims.json", self.claims.clone()),
        ])
    }
}

/// Claims of the base, with a change.
fn claims(change: impl FnOnce(&mut Claims)) -> Vec<u8> {
    let mut claims = Claims {
        v: 1,
        mode: Mode::Simulation,
        version: "0.1.0".to_owned(),
        boot_id: [7; 16],
        spki_sha256: [0x33; 32],
        config_digest: [0x40; 32],
        brokers: vec![[8; 32]],
        models: vec![ModelClaim {
            id: "vectors".to_owned(),
            uid: [9; 32],
            sequence: 1,
            manifest_digest: [10; 32],
            vendor_keys: vec![Ed25519Public([0x5e; 32])],
            usage_policy_digest: [11; 32],
            release: Release::Online,
        }],
        receipt_key: Ed25519Public([12; 32]),
        clock: Clock::HostInfluenced,
    };
    change(&mut claims);
    claims.to_bytes()
}

/// The cases of one technology; `evidence` signs a REPORT_DATA.
pub fn cases(cases: &mut Cases, tee: Tee, evidence: &dyn Fn([u8; 64]) -> Files) {
    let good = Session::of(tee);
    let files = |made_for: &Session, seen: &Session| {
        evidence(made_for.report_data()).into_iter().chain(seen.files()).collect::<Files>()
    };
    cases.case("accepted-session", "Nothing: evidence of this very session.", appraised(), files(&good, &good));
    let mut one = |name: &str, what: &str, code, files| {
        cases.case(&format!("session-{name}"), what, unwanted(code).exit(2), files)
    };
    let other = Session { nonce: [0x12; 32], ..good.clone() };
    one(
        "nonce",
        "The evidence was made for another nonce: it is replayed.",
        "REPORT_DATA_MISMATCH",
        files(&other, &good),
    );
    let other = Session { ekm: [0x23; 32], ..good.clone() };
    one(
        "relayed",
        "The evidence was made for another TLS connection: it is relayed.",
        "REPORT_DATA_MISMATCH",
        files(&other, &good),
    );
    let swapped = match tee {
        Tee::SevSnp => Tee::Tdx,
        Tee::Tdx => Tee::SevSnp,
    };
    let other = Session { tee: swapped, ..good.clone() };
    one(
        "technology",
        "The evidence was made for a session of the other technology.",
        "REPORT_DATA_MISMATCH",
        files(&other, &good),
    );
    if tee == Tee::Tdx {
        return;
    }
    let other = Session { spki: [0x34; 32], claims: claims(|c| c.spki_sha256 = [0x34; 32]), ..good.clone() };
    let seen = Session { claims: other.claims.clone(), ..good.clone() };
    let both = unwanted("REPORT_DATA_MISMATCH").exit(2).with("codes = [\"REPORT_DATA_MISMATCH\", \"CLAIMS_SPKI\"]");
    let ended = files(&other, &seen);
    one("place", "The session stands at another place of the tree than the answer says.", "REPORT_DATA_MISMATCH", {
        let moved = MerklePath { index: 0, ..good.tree().path(1).unwrap() };
        evidence(good.report_data()).into_iter().chain(good.files_with(&moved)).collect()
    });
    let mut path = good.tree().path(1).unwrap();
    path.path.pop();
    let short = evidence(good.report_data()).into_iter().chain(good.files_with(&path)).collect();
    let spaced = Session { claims: [&good.claims[..], b" "].concat(), ..good.clone() };
    one("claims-space", "A space was added to the claims on the way.", "REPORT_DATA_MISMATCH", files(&good, &spaced));
    let broken = Session { claims: b"{}".to_vec(), ..good.clone() };
    one("claims-empty", "The claims, well bound, say nothing.", "CLAIMS_INVALID", files(&broken, &broken));
    let bound = |change: fn(&mut Claims)| {
        let session = Session { claims: claims(change), ..good.clone() };
        files(&session, &session)
    };
    one(
        "claims-mode",
        "The claims say that the enclave runs on hardware.",
        "CLAIMS_MODE",
        bound(|c| c.mode = Mode::Hardware),
    );
    one(
        "claims-spki",
        "The claims name another TLS key than the connection's.",
        "CLAIMS_SPKI",
        bound(|c| c.spki_sha256[0] ^= 1),
    );
    one(
        "claims-config",
        "The claims name another configuration than the evidence.",
        "CLAIMS_CONFIG_DIGEST",
        bound(|c| c.config_digest[0] ^= 1),
    );
    let broken_path =
        unwanted("MERKLE_PATH_INVALID").exit(2).with("codes = [\"MERKLE_PATH_INVALID\", \"REPORT_DATA_MISMATCH\"]");
    cases.case("session-path", "The path lacks its last step.", broken_path, short);
    cases.case("session-ended-elsewhere", "Somebody else ends the TLS connection, with a key of his own.", both, ended);
    let mut one =
        |name: &str, what: &str, code, files| cases.case(&format!("session-{name}"), what, unwanted(code), files);
    one(
        "model",
        "The service serves a model that the policy does not name.",
        "MODEL_NOT_LISTED",
        bound(|c| c.models[0].id = "other".to_owned()),
    );
    one(
        "model-sequence",
        "The service serves an older version of the model than the policy accepts.",
        "MODEL_SEQUENCE_BELOW_FLOOR",
        bound(|c| c.models[0].sequence = 0),
    );
    one(
        "vendor-key",
        "Another vendor's key signed the model.",
        "VENDOR_KEY_NOT_ALLOWED",
        bound(|c| c.models[0].vendor_keys = vec![Ed25519Public([0x5f; 32])]),
    );
}
