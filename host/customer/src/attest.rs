//! Turns an open line and a fresh nonce into appraised evidence for this very channel, and the record to verify it again.
//! It sends nothing but `POST /v1/attest`: until this has succeeded, no other byte may leave.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hyper::{Method, Request, StatusCode, header};
use ring::rand::{SecureRandom as _, SystemRandom};
use vouchsafe_attestation::{
    LeafCache, UnixTime,
    receipt::SessionRecord,
    session::{AttestRequest, AttestResponse},
    verify_cached,
};
use vouchsafe_policies::{Appraised, Binding, Expected, Policy, appraise, plausible};

use crate::{ConnectOptions, CustomerError, channel::ChannelFacts, line::Line, peer::peer_refusal};

const PATH: &str = "/v1/attest";
/// SEV-SNP evidence with every item at its cap fits, in base64, and genuine TDX evidence takes about a tenth of it.
/// TDX collateral whose items are near their caps does not fit: `vouchsafe collateral check` tells (docs/collateral.md).
const MAX_RESPONSE: usize = 256 * 1024;

/// Evidence for one channel that policy and session binding accepted.
pub(crate) struct Attested {
    pub appraised: Appraised,
    pub record: SessionRecord,
    pub at: UnixTime,
    pub since: Instant,
}

impl Attested {
    /// Seconds since the nonce was made, by whichever of the two local clocks ran further.
    pub fn age_s(&self) -> u64 {
        self.since.elapsed().as_secs().max(now().since(self.at))
    }
}

/// Asks for evidence, verifies it, appraises it.
pub(crate) async fn attest(
    line: &mut Line,
    channel: &ChannelFacts,
    policy: &Policy,
    options: &ConnectOptions,
    cache: &LeafCache,
) -> Result<Attested, CustomerError> {
    let (since, at) = (Instant::now(), live(now())?);
    let nonce = random()?;
    let request = AttestRequest { v: 1, nonce, accept: policy.tee_accepted().to_vec() };
    let answer = line.exchange(attest_request(&request)?, "attest", options.attest_timeout, MAX_RESPONSE).await;
    let response = match answer {
        Ok(answer) if answer.status() == StatusCode::OK => parse(answer.body()),
        Ok(answer) => Err(peer_refusal(&answer)),
        Err(CustomerError::Wire { code: "PEER_RESPONSE_TOO_LARGE", .. }) => {
            Err(invalid("the answer to the attestation request is larger than 256 KiB"))
        }
        Err(error) => Err(error),
    }?;
    if !policy.tee_accepted().contains(&response.tee) {
        return Err(invalid("the evidence is of a technology that was not asked for"));
    }
    let record = SessionRecord {
        tee: response.tee,
        nonce,
        ekm: channel.ekm,
        spki_sha256: channel.spki_sha256,
        claims: response.claims,
        merkle: response.merkle,
        evidence: response.evidence,
    };
    let appraised = appraise_session(&record, policy, live(now())?, cache)?;
    Ok(Attested { appraised, record, at, since })
}

/// Verifies and appraises one recorded session. The same function serves a live connection and a receipt.
pub(crate) fn appraise_session(
    record: &SessionRecord,
    policy: &Policy,
    at: UnixTime,
    cache: &LeafCache,
) -> Result<Appraised, CustomerError> {
    if record.tee != record.evidence.tee() {
        return Err(invalid("the evidence is of another technology than the answer says"));
    }
    let (evidence, collateral) = record
        .evidence
        .clone()
        .into_parts()
        .map_err(|_| invalid("the evidence or its collateral is larger than it can be"))?;
    let authentic = verify_cached(&evidence, &collateral, policy.anchors(), at, cache)?;
    let expected = Expected::Session {
        nonce: &record.nonce,
        ekm: &record.ekm,
        spki_sha256: &record.spki_sha256,
        claims: &record.claims,
        merkle: &record.merkle,
    };
    let appraised = appraise(authentic, policy, &expected)?;
    of_session(appraised.binding())?;
    Ok(appraised)
}

/// Connections and receipts follow from a verdict over one session and from no other.
fn of_session(binding: Binding) -> Result<(), CustomerError> {
    match binding {
        Binding::Session => Ok(()),
        Binding::Release | Binding::Exact | Binding::Unbound => {
            Err(CustomerError::receipt("SESSION_UNBOUND", "the verdict binds the evidence to no session"))
        }
    }
}

/// Refuses a clock in the past, under which collateral that was replaced looks current.
fn live(now: UnixTime) -> Result<UnixTime, CustomerError> {
    plausible(now).map_err(|error| CustomerError::Local {
        code: error.code(),
        fact: "this machine's clock shows a time before this release was made",
        kind: std::io::ErrorKind::InvalidData,
    })
}

/// The local wall clock.
pub(crate) fn now() -> UnixTime {
    UnixTime(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()))
}

/// 32 bytes of the operating system's randomness.
pub(crate) fn random() -> Result<[u8; 32], CustomerError> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| CustomerError::Local {
        code: "NO_RANDOMNESS",
        fact: "the operating system gave no random bytes",
        kind: std::io::ErrorKind::Other,
    })?;
    Ok(bytes)
}

fn attest_request(request: &AttestRequest) -> Result<Request<Bytes>, CustomerError> {
    let body = serde_json::to_vec(request).map_err(|_| invalid("the attestation request cannot be written"))?;
    Request::builder()
        .method(Method::POST)
        .uri(PATH)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Bytes::from(body))
        .map_err(|_| invalid("the attestation request cannot be written"))
}

fn parse(body: &[u8]) -> Result<AttestResponse, CustomerError> {
    let response: AttestResponse = serde_json::from_slice(body)
        .map_err(|_| invalid("the answer to the attestation request is not JSON of the expected form"))?;
    if response.v == 1 {
        Ok(response)
    } else {
        Err(invalid("the answer to the attestation request has a version that this release does not know"))
    }
}

const fn invalid(fact: &'static str) -> CustomerError {
    CustomerError::wire("ATTEST_RESPONSE_INVALID", fact)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_answer_makes_the_parser_panic(body: Vec<u8>) {
            prop_assert!(parse(&body).is_err());
        }
    }

    #[test]
    fn a_live_session_needs_a_clock_that_can_be_right() {
        let written = vouchsafe_policies::RULES_WRITTEN;
        assert_eq!(live(written).ok(), Some(written));
        let error = live(UnixTime(written.0 - 1)).unwrap_err();
        assert_eq!((error.code(), error.exit()), ("CLOCK_BEFORE_BUILD", 9));
        assert!(error.advice().contains("clock"));
    }

    #[test]
    fn no_other_verdict_makes_a_session() {
        let code = |binding| of_session(binding).map_err(|e| (e.code(), e.exit()));
        assert_eq!(code(Binding::Session), Ok(()));
        for binding in [Binding::Release, Binding::Exact, Binding::Unbound] {
            assert_eq!(code(binding), Err(("SESSION_UNBOUND", 2)));
        }
    }

    #[test]
    fn unknown_fields_repeated_fields_and_other_versions_are_refused() {
        let base = r#""tee":"sev-snp","claims":"","merkle":{"index":0,"size":1,"path":[]},"evidence":{"report":"","leaf":"","crl":""}"#;
        assert!(parse(format!(r#"{{"v":1,{base}}}"#).as_bytes()).is_ok());
        for bad in [
            format!(r#"{{"v":2,{base}}}"#),
            format!(r#"{{"v":1,"x":0,{base}}}"#),
            format!(r#"{{"v":1,"v":1,{base}}}"#),
            format!(r#"{{{base}}}"#),
        ] {
            assert_eq!(parse(bad.as_bytes()).unwrap_err().code(), "ATTEST_RESPONSE_INVALID", "{bad}");
        }
    }
}
