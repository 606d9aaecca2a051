//! Every decoder of this crate on 10,000 damaged inputs: an error or a value, never a panic.
//! It says nothing about which error: the unit tests beside each format do.

#![allow(clippy::unwrap_used, reason = "test helpers")]

use proptest::prelude::*;
use vouchsafe_attestation::{EvidenceEnvelope, Mode, Tee, UnixTime};
use vouchsafe_release::{
    SignedBundle, TeeKey, WrapPublic, WrapSecret, jwe,
    rcar::{self, AttestRequest, AuthRequest, Challenge, ErrorBody, TokenResponse},
};

fn samples() -> Vec<Vec<u8>> {
    let key = TeeKey::from_scalar(&[7; 32]).unwrap().public_jwk();
    let evidence = EvidenceEnvelope::sev_snp(vec![1; 64], vec![2; 16], vec![3; 16]);
    vec![
        rcar::to_bytes(&AuthRequest::new(Tee::SevSnp, Some([1; 32]))),
        rcar::to_bytes(&Challenge::new("AAAA".to_owned())),
        AttestRequest::to_bytes("AAAA", &key, &evidence).unwrap(),
        rcar::to_bytes(&TokenResponse { token: "t".to_owned() }),
        rcar::to_bytes(&ErrorBody::ticket("refused", &[1; 16])),
        jwe::seal_to(&key, b"{}").unwrap(),
        WrapSecret::from_bytes(&[7; 32]).unwrap().public().to_string().into_bytes(),
        vec![b'['; 4_000],
    ]
}

fn decode_all(bytes: &[u8]) {
    let _ = AuthRequest::parse(bytes).map(|r| r.ledger_head());
    let _ = Challenge::parse(bytes);
    let _ = AttestRequest::parse(bytes)
        .map(|r| (r.report_data(), r.tee_evidence.envelope().map(EvidenceEnvelope::into_parts)));
    let _ = TokenResponse::parse(bytes);
    let _ = ErrorBody::ticket_of(bytes);
    let _ = TeeKey::from_scalar(&[7; 32]).unwrap().open(bytes);
    let _ = WrapSecret::from_bytes(&[7; 32]).unwrap().unwrap_key(bytes);
    let _ = SignedBundle::open(bytes, &[], "AAAA", Mode::Simulation, UnixTime(0));
    let _ = core::str::from_utf8(bytes).map(str::parse::<WrapPublic>);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn damaged_messages_never_panic(
        which in 0_usize..8,
        at in any::<prop::sample::Index>(),
        with in any::<u8>(),
        cut in any::<prop::sample::Index>(),
        shorten in any::<bool>(),
    ) {
        thread_local!(static SAMPLES: Vec<Vec<u8>> = samples());
        let mut bytes = SAMPLES.with(|s| s[which].clone());
        let at = at.index(bytes.len());
        bytes[at] = with;
        if shorten {
            bytes.truncate(cut.index(bytes.len()));
        }
        decode_all(&bytes);
    }
}
