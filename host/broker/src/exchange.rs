//! Turns the three RCAR requests into a challenge, a token and a key bundle, or into a ledger line and a ticket.
//! It judges no evidence itself: `verify` and `appraise` do, under the vendor's policy.

use std::{
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use ring::rand::{SecureRandom as _, SystemRandom};
use vouchsafe_attestation::{Authentic, LeafCache, UnixTime, claims, encoding::b64url, lp::sha256, verify_cached};
use vouchsafe_policies::{Appraised, Expected, Policy, appraise};
use vouchsafe_release::{
    GrantContext, ModelKeyRecord, TeePubKey, grant, jwe,
    rcar::{self, AttestRequest, AuthRequest, Challenge, REPOSITORY, TokenResponse},
};

use crate::{
    BrokerError,
    clock::Watch,
    event::{Enclave, Event, Granted, Id, Platform, Refused, Register},
    limiter::{Limited, Limiter, PeerLimiter},
    log,
    refusal::{Fail, Refusal, Reply},
    sessions::{Announced, Full, Sessions},
    store::Store,
};

/// Log lines about 429 and 503, on average; ten times as many at once.
const LOG_PER_SECOND: u32 = 1;

/// Everything that the requests share.
pub(crate) struct Exchange {
    store: Mutex<Store>,
    sessions: Mutex<Sessions<Accepted>>,
    refusals: Mutex<PeerLimiter>,
    /// For the log: it is for people, and a flood is no news.
    noise: Mutex<Limiter>,
    policy: Policy,
    /// Machines come again: the signatures of their collateral are verified once.
    cache: LeafCache,
    watch: Watch,
}

/// An enclave that the policy accepts, for one resource and one handshake key.
struct Accepted {
    appraised: Appraised,
    enclave: Enclave,
    key: TeePubKey,
    nonce: String,
    renews: Option<Id>,
}

impl Exchange {
    pub(crate) fn new(store: Store, policy: Policy) -> Result<Self, BrokerError> {
        let (limits, now) = (store.config.limits, Instant::now());
        Ok(Self {
            sessions: Mutex::new(Sessions::new(limits.max_sessions, Duration::from_secs(limits.nonce_ttl_s), now)?),
            refusals: Mutex::new(PeerLimiter::new(limits.refusals_per_second, now)),
            noise: Mutex::new(Limiter::new(LOG_PER_SECOND, now)),
            store: Mutex::new(store),
            policy,
            cache: LeafCache::new(),
            watch: Watch::new(),
        })
    }

    /// The state directory, for the administrator.
    pub(crate) fn store(&self) -> MutexGuard<'_, Store> {
        locked(&self.store)
    }

    /// `POST /kbs/v0/auth`.
    pub(crate) fn auth(&self, peer: IpAddr, body: &[u8], now: UnixTime) -> Reply {
        self.answer("auth", peer, self.try_auth(body), now)
    }

    /// `POST /kbs/v0/attest`.
    pub(crate) fn attest(&self, peer: IpAddr, session: Option<&str>, body: &[u8], now: UnixTime) -> Reply {
        self.answer("attest", peer, self.try_attest(session, body, now), now)
    }

    /// `GET /kbs/v0/resource/…`.
    pub(crate) fn resource(&self, peer: IpAddr, session: Option<&str>, path: &str, now: UnixTime) -> Reply {
        self.answer("resource", peer, self.try_resource(session, path, now), now)
    }

    fn try_auth(&self, body: &[u8]) -> Result<Reply, Fail> {
        let request = AuthRequest::parse(body)?;
        let ledger_head = request.ledger_head();
        let tee = Announced::from_word(&request.tee);
        let (nonce, cookie) = locked(&self.sessions).open(tee, ledger_head, Instant::now());
        Ok(Reply::Accepted { body: rcar::to_bytes(&Challenge::new(nonce)), cookie: Some(cookie) })
    }

    fn try_attest(&self, cookie: Option<&str>, body: &[u8], now: UnixTime) -> Result<Reply, Fail> {
        // The nonce is used from here on, whatever comes.
        let cookie = cookie.ok_or_else(|| Fail::code("SESSION_UNKNOWN"))?;
        let session = locked(&self.sessions).named(cookie).map_err(Fail::code)?;
        let challenged = locked(&self.sessions).take_challenge(session, Instant::now()).map_err(Fail::code)?;
        self.watch.live(now).map_err(Fail::code)?;
        let request = AttestRequest::parse(body)?;
        if request.runtime_data.nonce != challenged.nonce {
            return Err(Fail::code("NONCE_MISMATCH"));
        }
        let Announced::Known(announced) = challenged.tee else {
            return Err(Fail::code("TEE_UNSUPPORTED"));
        };
        let key = request.runtime_data.tee_pubkey.clone();
        key.to_sec1()?;
        let expected = Expected::Release { report_data: request.report_data() };
        let envelope = request.tee_evidence.envelope().map_err(|_| Fail::code("EVIDENCE_FORMAT"))?;
        if envelope.tee() != announced {
            return Err(Fail::code("TEE_MISMATCH"));
        }
        let (evidence, collateral) = envelope.into_parts().map_err(|_| Fail::code("EVIDENCE_FORMAT"))?;

        let authentic = verify_cached(&evidence, &collateral, self.policy.anchors(), now, &self.cache)?;
        let enclave = enclave(&authentic);
        let appraised = appraise(authentic, &self.policy, &expected)
            .map_err(|refusal| Fail::appraisal(&refusal, enclave.clone()))?;
        let renews = renewed(&self.store(), challenged.ledger_head).map_err(|code| Fail::of(code, enclave.clone()))?;

        let token = token(now, self.store().config.limits.nonce_ttl_s)?;
        let accepted = Accepted { appraised, enclave, key, nonce: challenged.nonce, renews };
        let kept = locked(&self.sessions).accept(session, accepted, Instant::now());
        kept.map_err(|Full| Fail::Unavailable("SESSIONS_FULL"))?;
        Ok(Reply::Accepted { body: rcar::to_bytes(&TokenResponse { token }), cookie: Some(cookie.to_owned()) })
    }

    /// The session cookie decides; a bearer token beside it is not read.
    fn try_resource(&self, cookie: Option<&str>, path: &str, now: UnixTime) -> Result<Reply, Fail> {
        let session = cookie.ok_or_else(|| Fail::code("TOKEN_MISSING"))?;
        let session = locked(&self.sessions).named(session).map_err(Fail::code)?;
        let accepted = locked(&self.sessions).take_accepted(session, Instant::now()).map_err(Fail::code)?;
        let (model, sequence) = resource(path).ok_or_else(|| Fail::code("RESOURCE_PATH"))?;
        self.watch.live(now).map_err(|code| Fail::of(code, accepted.enclave.clone()))?;

        // Gates and ledger under one lock: no revocation can slip in between.
        let mut store = self.store();
        store
            .index
            .gate(model, sequence, &accepted.enclave)
            .map_err(|code| Fail::of(code, accepted.enclave.clone()))?;
        let record = store.model_key(model, sequence)?;
        let lease = store.config.lease;
        let renewed = accepted.renews.and_then(|id| store.index.lease(id));
        let renews = renewed.filter(|l| l.model == model && l.platform == accepted.enclave.platform).map(|l| l.lease);
        if store.index.current(model, accepted.enclave.platform, renews, now) >= store.config.limits.max_current_leases
        {
            return Err(Fail::of("LEASES_EXHAUSTED", accepted.enclave.clone()));
        }
        let granted = Granted {
            lease: Id(random()?),
            model: record.model_id.clone(),
            uid: record.uid,
            sequence,
            enclave: accepted.enclave.clone(),
            policy_digest: accepted.appraised.policy_digest(),
            tee_pubkey_sha256: sha256(&accepted.key.to_sec1()?),
            ttl_s: lease.ttl_s,
            max_requests: lease.max_requests,
            renews,
        };
        let lease_id = granted.lease;
        let entry = store.record(Event::Granted(granted), now)?;

        // The line is durable: only now is there anything to send.
        let context = GrantContext { nonce: &accepted.nonce, issued_at: now, lease, ledger_head: entry.hash };
        match self.bundle(&store, &accepted, &record, &context) {
            Ok(body) => Ok(Reply::Accepted { body, cookie: None }),
            Err(error) => {
                store.record(Event::Failed { lease: lease_id, code: error.code().to_owned() }, now)?;
                Err(Fail::Unavailable(error.code()))
            }
        }
    }

    fn bundle(
        &self,
        store: &Store,
        accepted: &Accepted,
        record: &ModelKeyRecord,
        context: &GrantContext<'_>,
    ) -> Result<Vec<u8>, vouchsafe_release::ReleaseError> {
        let bundle = grant(&accepted.appraised, record, context, &store.release_key)?;
        jwe::seal_to(&accepted.key, bundle.as_bytes())
    }

    fn answer(&self, step: &str, peer: IpAddr, result: Result<Reply, Fail>, now: UnixTime) -> Reply {
        match result {
            Ok(reply) => reply,
            Err(Fail::Refused(refusal)) => self.refuse(step, peer, *refusal, now),
            Err(Fail::Unavailable(code)) => self.unavailable(code),
        }
    }

    /// No ticket leaves before its line is durable.
    fn refuse(&self, step: &str, peer: IpAddr, refusal: Refusal, now: UnixTime) -> Reply {
        if locked(&self.refusals).take(peer, Instant::now()) == Limited::Yes {
            self.say("limited", "REFUSALS_LIMITED");
            return Reply::Limited;
        }
        let Ok(ticket) = random().map(Id) else {
            return self.unavailable(BrokerError::Random.code());
        };
        let refused = Refused {
            ticket,
            step: step.to_owned(),
            code: refusal.code.to_owned(),
            reasons: refusal.reasons,
            enclave: refusal.enclave,
        };
        match self.store().record(Event::Refused(refused), now) {
            Ok(_) => {
                log::event("refused", refusal.code);
                Reply::Refused(ticket)
            }
            Err(error) => self.unavailable(error.code()),
        }
    }

    fn unavailable(&self, code: &'static str) -> Reply {
        self.say("unavailable", code);
        Reply::Unavailable
    }

    /// A log line for what any stranger can cause: some of them, not each.
    pub(crate) fn say(&self, event: &'static str, code: &'static str) {
        if locked(&self.noise).take(Instant::now()) == Limited::No {
            log::event(event, code);
        }
    }
}

/// The lease that an echoed head belongs to. A head that is not in the chain means that part of the ledger is gone.
fn renewed(store: &Store, head: Option<[u8; 32]>) -> Result<Option<Id>, &'static str> {
    head.map(|head| store.index.lease_of_head(&head).ok_or("LEDGER_HEAD_UNKNOWN")).transpose()
}

/// A panic elsewhere leaves these structures whole: every change is one assignment, and the ledger guards itself.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn random<const N: usize>() -> Result<[u8; N], Fail> {
    let mut out = [0; N];
    SystemRandom::new().fill(&mut out).map_err(|_| Fail::Unavailable(BrokerError::Random.code()))?;
    Ok(out)
}

fn enclave(authentic: &Authentic) -> Enclave {
    Enclave {
        mode: authentic.mode(),
        tee: authentic.tee(),
        platform: Platform(authentic.platform()),
        measurement: *authentic.measurement(),
        rtmr: authentic.registers().iter().copied().map(Register).collect(),
        config_digest: authentic.config_digest(),
    }
}

/// Shaped like the token that a stock client reads (it looks at `exp`). Nobody verifies it: the session knows what it gave.
fn token(now: UnixTime, ttl_s: u64) -> Result<String, Fail> {
    let claims =
        format!("{{\"exp\":{},\"iat\":{},\"jti\":\"{}\"}}", now.plus(ttl_s).0, now.0, hex::encode(random::<32>()?));
    Ok(format!("{}.{}.", b64url(br#"{"alg":"none"}"#), b64url(claims.as_bytes())))
}

/// `vouchsafe/{model}/{sequence}` behind the prefix; the number in its one shortest form.
fn resource(path: &str) -> Option<(&str, u64)> {
    let mut parts = path.strip_prefix(rcar::RESOURCE_PREFIX)?.split('/');
    let (repository, model, number) = (parts.next()?, parts.next()?, parts.next()?);
    let sequence: u64 = number.parse().ok()?;
    let plain = repository == REPOSITORY
        && parts.next().is_none()
        && claims::model_id(model).is_ok()
        && sequence.to_string() == number;
    plain.then_some((model, sequence))
}

#[cfg(test)]
#[path = "exchange_tests.rs"]
mod tests;
