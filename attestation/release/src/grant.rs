//! Turns an appraised verdict and a stored model key into a signed key bundle.
//! It does not revoke, count or remember: the broker's gates and its ledger come before this call.

use ring::signature::Ed25519KeyPair;
use vouchsafe_attestation::{
    Mode, UnixTime,
    dsse::{self, KEY_BUNDLE},
};
use vouchsafe_policies::{Appraised, Binding};

use crate::{
    Lease, ModelKeyRecord, ReleaseError, SignedBundle,
    bundle::{Payload, secret_json, write_key},
};

/// What this grant is bound to besides the key.
pub struct GrantContext<'a> {
    /// The challenge's nonce, as text; empty only for a static release.
    pub nonce: &'a str,
    /// The broker's clock.
    pub issued_at: UnixTime,
    /// How long and how often.
    pub lease: Lease,
    /// The ledger head that already contains this grant.
    pub ledger_head: [u8; 32],
}

/// Signs a bundle for an enclave that the policy accepts.
///
/// # Errors
/// `GRANT_BINDING` when the verdict was made for anything but a key-release handshake.
/// `MODE_MISMATCH` when the key was sealed for another mode than the verdict's: the second gate, independent of the first.
/// `LEASE_EMPTY`, `KEY_COMMITMENT`.
pub fn grant(
    appraised: &Appraised,
    record: &ModelKeyRecord,
    ctx: &GrantContext<'_>,
    signer: &Ed25519KeyPair,
) -> Result<SignedBundle, ReleaseError> {
    released(appraised.binding())?;
    sign(appraised.mode(), record, ctx, signer)
}

/// A verdict over a file, or over a customer's session, releases nothing.
fn released(binding: Binding) -> Result<(), ReleaseError> {
    match binding {
        Binding::Release => Ok(()),
        Binding::Session | Binding::Exact | Binding::Unbound => Err(ReleaseError::Binding),
    }
}

fn sign(
    mode: Mode,
    record: &ModelKeyRecord,
    ctx: &GrantContext<'_>,
    signer: &Ed25519KeyPair,
) -> Result<SignedBundle, ReleaseError> {
    if record.mode != mode {
        return Err(ReleaseError::Mode);
    }
    if vouchsafe_sealed::commitment(&record.key, &record.uid) != record.commitment {
        return Err(ReleaseError::Commitment);
    }
    let key = write_key(&record.key);
    let payload = secret_json(&Payload {
        v: 1,
        mode,
        model_id: &record.model_id,
        model_uid: record.uid,
        sequence: record.sequence,
        model_key: &key,
        key_commitment: record.commitment,
        manifest_digest: record.manifest_digest,
        usage_policy_digest: record.usage_policy_digest,
        lease: ctx.lease.granting()?,
        issued_at: ctx.issued_at,
        nonce: ctx.nonce,
        ledger_head: ctx.ledger_head,
    });
    Ok(SignedBundle::from_bytes(dsse::sign(KEY_BUNDLE, &payload, &[signer])))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vouchsafe_attestation::{Ed25519Public, dsse::public};
    use vouchsafe_sealed::{ModelKey, commitment};

    use super::*;

    const NONCE: &str = "/CrVSVQ+Uj5bGRX9RL6+UC0ichuyhVaH9VymgO/atkQ=";
    const NOW: UnixTime = UnixTime(1_795_254_000);

    fn signer(seed: u8) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
    }

    fn record(mode: Mode) -> ModelKeyRecord {
        let key = ModelKey::from_bytes([9; 32]);
        let uid = [3; 32];
        let commitment = commitment(&key, &uid);
        let (manifest_digest, usage_policy_digest) = ([4; 32], [5; 32]);
        let model_id = "breast-cancer".to_owned();
        ModelKeyRecord { model_id, uid, sequence: 7, mode, manifest_digest, usage_policy_digest, commitment, key }
    }

    fn context(nonce: &str) -> GrantContext<'_> {
        GrantContext { nonce, issued_at: NOW, lease: Lease::DEFAULT, ledger_head: [6; 32] }
    }

    fn bundle() -> SignedBundle {
        sign(Mode::Simulation, &record(Mode::Simulation), &context(NONCE), &signer(1)).unwrap()
    }

    fn keys() -> Vec<Ed25519Public> {
        vec![public(&signer(2)), public(&signer(1))]
    }

    #[test]
    fn what_was_signed_is_what_the_grant_says() {
        let grant = SignedBundle::open(bundle().as_bytes(), &keys(), NONCE, Mode::Simulation, NOW).unwrap();
        assert_eq!(grant.key().expose(), &[9; 32]);
        assert_eq!((grant.model_id(), grant.sequence(), grant.uid()), ("breast-cancer", 7, &[3; 32]));
        assert_eq!((grant.lease(), grant.issued_at(), grant.ledger_head()), (Lease::DEFAULT, NOW, &[6; 32]));
        assert_eq!((grant.manifest_digest(), grant.usage_policy_digest()), (&[4; 32], &[5; 32]));
    }

    #[test]
    fn each_gate_refuses_alone() {
        let bytes = bundle();
        let code = |keys: &[Ed25519Public], nonce: &str, mode, now| {
            SignedBundle::open(bytes.as_bytes(), keys, nonce, mode, now).map(|_| ()).map_err(|e| e.code())
        };
        let sim = Mode::Simulation;
        assert_eq!(code(&keys(), NONCE, sim, NOW.plus(300)), Ok(()));
        assert_eq!(code(&keys()[..1], NONCE, sim, NOW), Err("BUNDLE_SIGNATURE"));
        assert_eq!(code(&[], NONCE, sim, NOW), Err("BUNDLE_SIGNATURE"));
        assert_eq!(code(&keys(), "other", sim, NOW), Err("BUNDLE_NONCE"));
        assert_eq!(code(&keys(), "", sim, NOW), Err("BUNDLE_NONCE"));
        assert_eq!(code(&keys(), NONCE, Mode::Hardware, NOW), Err("MODE_MISMATCH"));
        assert_eq!(code(&keys(), NONCE, sim, NOW.plus(301)), Err("BUNDLE_STALE"));
    }

    #[test]
    fn a_bundle_without_a_nonce_never_opens() {
        let bytes = sign(Mode::Hardware, &record(Mode::Hardware), &context(""), &signer(1)).unwrap();
        for nonce in ["", NONCE] {
            let opened = SignedBundle::open(bytes.as_bytes(), &keys(), nonce, Mode::Hardware, NOW);
            assert_eq!(opened.map(|_| ()).map_err(|e| e.code()), Err("BUNDLE_NONCE"));
        }
    }

    #[test]
    fn keys_follow_from_a_release_handshake_alone() {
        for (binding, wanted) in [
            (Binding::Release, Ok(())),
            (Binding::Session, Err(("GRANT_BINDING", 5))),
            (Binding::Exact, Err(("GRANT_BINDING", 5))),
            (Binding::Unbound, Err(("GRANT_BINDING", 5))),
        ] {
            assert_eq!(released(binding).map_err(|e| (e.code(), e.exit())), wanted);
        }
    }

    #[test]
    fn a_key_of_the_other_mode_is_never_signed() {
        for (stored, verdict) in [(Mode::Hardware, Mode::Simulation), (Mode::Simulation, Mode::Hardware)] {
            let result = sign(verdict, &record(stored), &context(NONCE), &signer(1));
            assert_eq!(result.map(|_| ()).map_err(|e| e.code()), Err("MODE_MISMATCH"));
        }
    }

    #[test]
    fn wrong_commitments_and_empty_leases_are_refused_on_both_ends() {
        let mut wrong = record(Mode::Simulation);
        wrong.commitment[0] ^= 1;
        let result = sign(Mode::Simulation, &wrong, &context(NONCE), &signer(1));
        assert_eq!(result.map(|_| ()).map_err(|e| e.code()), Err("KEY_COMMITMENT"));
        let empty = GrantContext { lease: Lease { ttl_s: 0, max_requests: 1 }, ..context(NONCE) };
        let result = sign(Mode::Simulation, &record(Mode::Simulation), &empty, &signer(1));
        assert_eq!(result.map(|_| ()).map_err(|e| e.code()), Err("LEASE_EMPTY"));

        let text = String::from_utf8(dsse_payload(&bundle())).unwrap();
        for (from, to, code) in [
            ("\"key_commitment\":\"", "\"key_commitment\":\"00", "BUNDLE_FORM"),
            (&"03".repeat(32), &"33".repeat(32), "KEY_COMMITMENT"),
            ("\"ttl_s\":3600", "\"ttl_s\":0", "LEASE_EMPTY"),
            ("\"v\":1", "\"v\":2", "BUNDLE_FORM"),
            ("\"v\":1", "\"v\":1,\"v\":1", "BUNDLE_FORM"),
            ("\"v\":1", "\"v\":1,\"extra\":1", "BUNDLE_FORM"),
            ("\"sequence\":7,", "", "BUNDLE_FORM"),
            ("breast-cancer", "../../etc", "BUNDLE_FORM"),
        ] {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text);
            let bytes = dsse::sign(KEY_BUNDLE, changed.as_bytes(), &[&signer(1)]);
            let opened = SignedBundle::open(&bytes, &keys(), NONCE, Mode::Simulation, NOW);
            assert_eq!(opened.map(|_| ()).map_err(|e| e.code()), Err(code), "{from} -> {to}");
        }
        let manifest = dsse::sign(dsse::MANIFEST, text.as_bytes(), &[&signer(1)]);
        let opened = SignedBundle::open(&manifest, &keys(), NONCE, Mode::Simulation, NOW);
        assert_eq!(opened.map(|_| ()).map_err(|e| e.code()), Err("BUNDLE_SIGNATURE"));
    }

    fn dsse_payload(bundle: &SignedBundle) -> Vec<u8> {
        dsse::open(bundle.as_bytes(), KEY_BUNDLE, &keys(), 1, 16 * 1024).map(|o| o.payload.to_vec()).unwrap()
    }

    proptest! {
        #[test]
        fn no_changed_byte_of_payload_or_signature_opens(at in 0_usize..4096, bit in 0_u8..8) {
            let mut bytes = bundle().as_bytes().to_vec();
            let at = at % bytes.len();
            // `keyid` is a hint that DSSE does not sign and that nobody believes.
            let text = String::from_utf8(bytes.clone()).unwrap();
            let hint = text.find("\"keyid\":\"").unwrap() + 9;
            prop_assume!(!(hint..hint + 32).contains(&at));
            bytes[at] ^= 1 << bit;
            prop_assert!(SignedBundle::open(&bytes, &keys(), NONCE, Mode::Simulation, NOW).is_err());
        }
    }
}
