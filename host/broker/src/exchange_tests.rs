//! The exchange with genuine evidence: a Genoa report from the vectors, under a hardware policy and a time in its life.
//! Its REPORT_DATA is not this handshake's, so what comes after `appraise` starts from a session put in by hand.

use std::path::PathBuf;

use vouchsafe_attestation::{Ed25519Public, EvidenceEnvelope, Mode, Tee, dsse, verify};
use vouchsafe_policies::{InitAnchors, InitModel, InitOptions as PolicyOptions, InitSnp, Listed, init_text};
use vouchsafe_release::{Lease, SignedBundle, TeeKey};
use vouchsafe_sealed::{ModelKey, commitment};

use super::*;
use crate::{
    InitOptions,
    admin_server::{Request, perform},
    files::LEDGER,
    init, ledger,
};

const NOW: UnixTime = UnixTime(1_772_323_200); // 2026-03-01
const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const NONCE: &str = "/CrVSVQ+Uj5bGRX9RL6+UC0ichuyhVaH9VymgO/atkQ=";

fn vectors(test: &str) -> Option<PathBuf> {
    let dir = std::env::var_os("VOUCHSAFE_VECTORS")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors")), PathBuf::from);
    if dir.join("snp").is_dir() {
        return Some(dir);
    }
    assert_ne!(std::env::var("VOUCHSAFE_REQUIRE_VECTORS").as_deref(), Ok("1"), "vectors missing");
    println!("NOT RUN: {test}: vectors missing");
    None
}

struct Bench {
    _dir: tempfile::TempDir,
    state: PathBuf,
    exchange: Exchange,
    envelope: EvidenceEnvelope,
    report_data: [u8; 64],
    key: TeeKey,
}

impl Bench {
    fn new(test: &str) -> Option<Self> {
        let vectors = vectors(test)?;
        let read = |name: &str| std::fs::read(vectors.join(name)).unwrap();
        let envelope = EvidenceEnvelope::sev_snp(
            read("snp/genoa-v5-vcek-7ea4daeb.report.bin"),
            read("snp/genoa-v5-vcek-7ea4daeb.vek.der"),
            read("amd-ca/genoa_vcek.crl"),
        );
        let cut = |from: usize, to: usize| envelope.signed()[from..to].to_vec();
        let text = init_text(&PolicyOptions {
            name: "test".to_owned(),
            anchors: InitAnchors::Hardware,
            config_digests: Listed::Only(vec![cut(0xC0, 0xE0).try_into().unwrap()]),
            models: Listed::<InitModel>::Any,
            snp: Some(InitSnp {
                measurements: Listed::Only(vec![cut(0x90, 0xC0).try_into().unwrap()]),
                platforms: Listed::Only(vec![cut(0x1A0, 0x1E0).try_into().unwrap()]),
                products: Vec::new(),
            }),
            tdx: None,
        });
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let options = InitOptions {
            listen: "127.0.0.1:0".parse().unwrap(),
            policy: dir.path().join("policy.toml"),
            lease: Lease { ttl_s: 60, max_requests: 5 },
            manifest_keys: Vec::new(),
        };
        init(&state, &options).unwrap();
        let mut store = Store::open(&state, NOW).unwrap();
        for (sequence, mode) in [(1, Mode::Hardware), (2, Mode::Hardware), (3, Mode::Simulation)] {
            store.import(&record(sequence, mode), NOW).unwrap();
        }
        let policy = Policy::parse(&text, &|_| Err(std::io::ErrorKind::NotFound.into())).unwrap();
        let report_data = cut(0x50, 0x90).try_into().unwrap();
        let mut exchange = Exchange::new(store, policy).ok().unwrap();
        // The evidence is older than this release.
        exchange.watch = Watch::since(NOW);
        Some(Self { _dir: dir, state, exchange, envelope, report_data, key: TeeKey::generate().unwrap() })
    }

    /// A session as `attest` leaves it; its cookie.
    fn accepted(&self, renews: Option<Id>) -> String {
        let (_, cookie) = locked(&self.exchange.sessions).open(Announced::Known(Tee::SevSnp), None, Instant::now());
        self.accept(&cookie, renews);
        cookie
    }

    fn accept(&self, cookie: &str, renews: Option<Id>) {
        self.accept_as(cookie, renews, &Expected::Release { report_data: self.report_data });
    }

    fn accept_as(&self, cookie: &str, renews: Option<Id>, expected: &Expected<'_>) {
        let (evidence, collateral) = self.envelope.clone().into_parts().unwrap();
        let authentic = verify(&evidence, &collateral, self.exchange.policy.anchors(), NOW).unwrap();
        let enclave = enclave(&authentic);
        let appraised = appraise(authentic, &self.exchange.policy, expected).map_err(|r| r.to_string()).unwrap();
        let accepted = Accepted { appraised, enclave, key: self.key.public_jwk(), nonce: NONCE.to_owned(), renews };
        let mut sessions = locked(&self.exchange.sessions);
        let session = sessions.named(cookie).unwrap();
        sessions.take_challenge(session, Instant::now()).unwrap();
        sessions.accept(session, accepted, Instant::now()).unwrap();
    }

    fn get(&self, session: &str, model: &str, sequence: u64) -> Reply {
        self.exchange.resource(PEER, Some(session), &rcar::resource_path(model, sequence), NOW)
    }

    /// The code in the ledger under the ticket of this reply.
    fn code(&self, reply: Reply) -> String {
        let Reply::Refused(ticket) = reply else { panic!("not refused") };
        let lines = ledger::find(&self.state.join(LEDGER), ticket).unwrap();
        let [entry] = lines.as_slice() else { panic!("one line") };
        let Event::Refused(refused) = &entry.line.event else { panic!("a refusal") };
        refused.code.clone()
    }

    fn release_key(&self) -> Ed25519Public {
        dsse::public(&self.exchange.store().release_key)
    }

    fn admin(&self, request: Request) {
        perform(&mut self.exchange.store(), request, NOW).unwrap();
    }
}

fn record(sequence: u64, mode: Mode) -> ModelKeyRecord {
    let (key, uid) = (ModelKey::from_bytes([9; 32]), [u8::try_from(sequence).unwrap(); 32]);
    ModelKeyRecord {
        model_id: "m".to_owned(),
        uid,
        sequence,
        mode,
        manifest_digest: [4; 32],
        usage_policy_digest: [5; 32],
        commitment: commitment(&key, &uid),
        key,
    }
}

#[test]
fn resource_paths_have_one_spelling() {
    assert_eq!(resource("/kbs/v0/resource/vouchsafe/breast-cancer/7"), Some(("breast-cancer", 7)));
    for bad in [
        "acme/m/7",
        "vouchsafe/m",
        "vouchsafe/m/07",
        "vouchsafe/m/+7",
        "vouchsafe/m/7/",
        "vouchsafe/M/7",
        "vouchsafe/../7",
        "vouchsafe/m/%37",
    ] {
        assert_eq!(resource(&format!("/kbs/v0/resource/{bad}")), None, "{bad}");
    }
}

#[test]
fn an_accepted_enclave_gets_its_key_once_and_the_ledger_knows() {
    let Some(bench) = Bench::new("an_accepted_enclave_gets_its_key_once_and_the_ledger_knows") else { return };
    let session = bench.accepted(None);
    let Reply::Accepted { body, cookie: None } = bench.get(&session, "m", 2) else { panic!("refused") };
    let bundle = bench.key.open(&body).unwrap();
    let grant = SignedBundle::open(&bundle, &[bench.release_key()], NONCE, Mode::Hardware, NOW).unwrap();
    assert_eq!((grant.model_id(), grant.sequence(), grant.key().expose()), ("m", 2, &[9; 32]));
    assert_eq!(grant.lease(), Lease { ttl_s: 60, max_requests: 5 });

    let mut last = None;
    let summary = ledger::read(&bench.state.join(LEDGER), &mut |e| last = Some(e.clone())).unwrap();
    let Event::Granted(granted) = last.unwrap().line.event else { panic!("a grant is the last line") };
    assert_eq!(&summary.head.hash, grant.ledger_head(), "the bundle carries the head that holds its own grant");
    assert_eq!((granted.sequence, granted.enclave.mode, granted.renews), (2, Mode::Hardware, None));

    assert_eq!(bench.code(bench.get(&session, "m", 2)), "TOKEN_USED");
    // Renewal: the head names the lease; a head that nobody signed is noticed.
    assert_eq!(renewed(&bench.exchange.store(), Some(*grant.ledger_head())), Ok(Some(granted.lease)));
    assert_eq!(renewed(&bench.exchange.store(), Some([1; 32])), Err("LEDGER_HEAD_UNKNOWN"));
    assert_eq!(renewed(&bench.exchange.store(), None), Ok(None));
    let again = bench.accepted(Some(granted.lease));
    assert!(matches!(bench.get(&again, "m", 2), Reply::Accepted { .. }));
    let mut last = None;
    ledger::read(&bench.state.join(LEDGER), &mut |e| last = Some(e.clone())).unwrap();
    let Event::Granted(second) = last.unwrap().line.event else { panic!("a grant is the last line") };
    assert_eq!(second.renews, Some(granted.lease));
}

#[test]
fn every_gate_refuses_with_its_code_in_the_ledger() {
    let Some(bench) = Bench::new("every_gate_refuses_with_its_code_in_the_ledger") else { return };
    let ask = |model: &str, sequence| bench.get(&bench.accepted(None), model, sequence);
    let model = || "m".to_owned();
    assert!(matches!(ask("m", 2), Reply::Accepted { .. }), "control");
    assert_eq!(bench.code(ask("n", 2)), "MODEL_UNKNOWN");
    assert_eq!(bench.code(ask("m", 3)), "MODE_MISMATCH");
    let path = bench.exchange.resource(PEER, Some(&bench.accepted(None)), "/kbs/v0/resource/acme/m/2", NOW);
    assert_eq!(bench.code(path), "RESOURCE_PATH");

    bench.admin(Request::RaiseFloor { model: model(), sequence: 2 });
    assert_eq!(bench.code(ask("m", 1)), "SEQUENCE_BELOW_FLOOR");
    assert!(matches!(ask("m", 2), Reply::Accepted { .. }), "control");
    let lease = bench.exchange.store().index.leases(NOW)[0].lease;
    bench.admin(Request::RevokeLease { lease });
    assert_eq!(bench.code(ask("m", 2)), "LEASE_REVOKED");
    let platform = Platform(bench.envelope.signed()[0x1A0..0x1E0].try_into().unwrap());
    bench.admin(Request::RevokePlatform { platform });
    assert_eq!(bench.code(ask("m", 2)), "PLATFORM_REVOKED");
    bench.admin(Request::RevokeModel { model: model(), sequence: None });
    assert_eq!(bench.code(ask("m", 2)), "MODEL_REVOKED");
}

#[test]
fn a_verdict_for_no_handshake_releases_nothing() {
    let Some(bench) = Bench::new("a_verdict_for_no_handshake_releases_nothing") else { return };
    for expected in [Expected::Exact { report_data: bench.report_data }, Expected::Unbound] {
        let (_, cookie) = locked(&bench.exchange.sessions).open(Announced::Known(Tee::SevSnp), None, Instant::now());
        bench.accept_as(&cookie, None, &expected);
        assert!(matches!(bench.get(&cookie, "m", 2), Reply::Unavailable), "{expected:?}");
        let mut last = None;
        ledger::read(&bench.state.join(LEDGER), &mut |e| last = Some(e.clone())).unwrap();
        let Event::Failed { code, .. } = last.unwrap().line.event else { panic!("a failed grant is the last line") };
        assert_eq!(code, "GRANT_BINDING");
    }
    assert!(matches!(bench.get(&bench.accepted(None), "m", 2), Reply::Accepted { .. }), "control");
}

#[test]
fn no_decision_under_a_clock_that_cannot_be_right() {
    let Some(mut bench) = Bench::new("no_decision_under_a_clock_that_cannot_be_right") else { return };
    let attest = |bench: &Bench, now| {
        let body = br#"{"version":"0.4.0","tee":"snp","extra-params":""}"#;
        let Reply::Accepted { cookie: Some(cookie), .. } = bench.exchange.auth(PEER, body, now) else {
            panic!("no challenge")
        };
        bench.code(bench.exchange.attest(PEER, Some(&cookie), b"x", now))
    };
    let get = |bench: &Bench, now| {
        let path = rcar::resource_path("m", 2);
        bench.exchange.resource(PEER, Some(&bench.accepted(None)), &path, now)
    };
    let back = |seconds: u64| UnixTime(NOW.0 - seconds);
    assert_eq!(attest(&bench, NOW), "RCAR_MESSAGE", "control");
    assert_eq!(attest(&bench, back(1)), "CLOCK_BEFORE_BUILD");
    assert_eq!(bench.code(get(&bench, back(1))), "CLOCK_BEFORE_BUILD");
    // A clock that is set back while the broker runs.
    bench.exchange.watch = Watch::since(UnixTime(0));
    assert!(matches!(get(&bench, NOW), Reply::Accepted { .. }), "control");
    assert_eq!(attest(&bench, back(601)), "CLOCK_SET_BACK");
    assert_eq!(bench.code(get(&bench, back(601))), "CLOCK_SET_BACK");
    assert!(matches!(get(&bench, back(600)), Reply::Accepted { .. }), "a little is forgiven");
    // What ships knows the day of its release.
    bench.exchange.watch = Watch::new();
    assert_eq!(attest(&bench, NOW), "CLOCK_BEFORE_BUILD");
}

#[test]
fn without_a_durable_line_there_is_no_key() {
    let Some(bench) = Bench::new("without_a_durable_line_there_is_no_key") else { return };
    assert!(matches!(bench.get(&bench.accepted(None), "m", 2), Reply::Accepted { .. }), "control");
    let (granted, refused) = (bench.accepted(None), bench.accepted(None));
    std::fs::OpenOptions::new().append(true).open(bench.state.join(LEDGER)).unwrap().set_len(10).unwrap();
    assert!(matches!(bench.get(&granted, "m", 2), Reply::Unavailable));
    assert!(matches!(bench.get(&refused, "n", 2), Reply::Unavailable), "not even a refusal");
}

#[test]
fn genuine_evidence_for_another_handshake_is_refused() {
    let Some(bench) = Bench::new("genuine_evidence_for_another_handshake_is_refused") else { return };
    let open = |tee: &str| {
        let body = format!("{{\"version\":\"0.4.0\",\"tee\":\"{tee}\",\"extra-params\":\"\"}}");
        let Reply::Accepted { body, cookie: Some(id) } = bench.exchange.auth(PEER, body.as_bytes(), NOW) else {
            panic!("no challenge")
        };
        (Challenge::parse(&body).unwrap().nonce, id)
    };
    let attest = |id: &str, nonce: &str, envelope: &EvidenceEnvelope, now| {
        let body = AttestRequest::to_bytes(nonce, &bench.key.public_jwk(), envelope).unwrap();
        bench.code(bench.exchange.attest(PEER, Some(id), &body, now))
    };
    let (nonce, id) = open("snp");
    assert_eq!(attest(&id, &nonce, &bench.envelope, NOW), "REPORT_DATA_MISMATCH");
    assert_eq!(attest(&id, &nonce, &bench.envelope, NOW), "NONCE_USED");
    let (_, id) = open("snp");
    assert_eq!(attest(&id, NONCE, &bench.envelope, NOW), "NONCE_MISMATCH");
    let (nonce, id) = open("sample");
    assert_eq!(attest(&id, &nonce, &bench.envelope, NOW), "TEE_UNSUPPORTED");
    let (nonce, id) = open("snp");
    let mut forged = bench.envelope.clone();
    let EvidenceEnvelope::SevSnp(snp) = &mut forged else { panic!("an SEV-SNP vector") };
    snp.report[0x90] ^= 1;
    assert_eq!(attest(&id, &nonce, &forged, NOW), "SIGNATURE_INVALID");
    let (nonce, id) = open("tdx");
    assert_eq!(attest(&id, &nonce, &bench.envelope, NOW), "TEE_MISMATCH");
    let (nonce, id) = open("snp");
    assert_ne!(
        attest(&id, &nonce, &bench.envelope, UnixTime(1_795_254_000)),
        "REPORT_DATA_MISMATCH",
        "the CRL is stale by then"
    );
}

#[test]
fn a_flood_of_strangers_keeps_nobody_from_a_key() {
    let Some(bench) = Bench::new("a_flood_of_strangers_keeps_nobody_from_a_key") else { return };
    let auth = || {
        let body = br#"{"version":"0.4.0","tee":"snp","extra-params":""}"#;
        match bench.exchange.auth(PEER, body, NOW) {
            Reply::Accepted { cookie: Some(cookie), .. } => cookie,
            _ => panic!("every challenge is answered"),
        }
    };
    let flood = || {
        for n in 0..5_000_u32 {
            let (cookie, peer) = (auth(), IpAddr::V4((n % 50).into()));
            assert!(!matches!(bench.exchange.attest(peer, Some(&cookie), b"x", NOW), Reply::Accepted { .. }));
        }
    };
    let before = ledger::read(&bench.state.join(LEDGER), &mut |_| {}).unwrap().head.n;
    let cookie = auth();
    flood();
    bench.accept(&cookie, None);
    flood();
    assert!(matches!(bench.get(&cookie, "m", 2), Reply::Accepted { .. }));
    let lines = ledger::read(&bench.state.join(LEDGER), &mut |_| {}).unwrap().head.n - before;
    assert!(lines < 600, "refusals do not fill the disk: {lines} lines");
}

#[test]
fn one_machine_holds_so_many_leases_and_no_more() {
    let Some(bench) = Bench::new("one_machine_holds_so_many_leases_and_no_more") else { return };
    let leases = || bench.exchange.store().index.leases(NOW);
    for n in 0..16 {
        assert!(matches!(bench.get(&bench.accepted(None), "m", 1 + n % 2), Reply::Accepted { .. }), "{n}");
    }
    assert_eq!(bench.code(bench.get(&bench.accepted(None), "m", 2)), "LEASES_EXHAUSTED", "a seventeenth");
    let renews = leases().iter().find(|l| l.sequence == 2).unwrap().lease;
    assert!(matches!(bench.get(&bench.accepted(Some(renews)), "m", 2), Reply::Accepted { .. }), "a renewal");
    let twice = bench.get(&bench.accepted(Some(renews)), "m", 2);
    assert_eq!(bench.code(twice), "LEASES_EXHAUSTED", "the same lease is renewed once");
    let lapsed = NOW.plus(60);
    let path = rcar::resource_path("m", 2);
    let later = bench.exchange.resource(PEER, Some(&bench.accepted(None)), &path, lapsed);
    assert!(matches!(later, Reply::Accepted { .. }), "lapsed leases make room");
}

#[test]
fn a_revocation_outlives_a_cut_ledger() {
    let Some(bench) = Bench::new("a_revocation_outlives_a_cut_ledger") else { return };
    assert!(matches!(bench.get(&bench.accepted(None), "m", 2), Reply::Accepted { .. }));
    let lease = bench.exchange.store().index.leases(NOW)[0].lease;
    bench.admin(Request::RevokeLease { lease });
    let Bench { _dir, state, exchange, .. } = bench;
    drop(exchange);
    drop(Store::open(&state, NOW).expect("control"));
    let ledger = std::fs::read_to_string(state.join(LEDGER)).unwrap();
    let cut = &ledger[..=ledger.trim_end().rfind('\n').unwrap()];
    assert!(ledger[cut.len()..].contains("lease_revoked"), "the last line is the revocation");
    std::fs::write(state.join(LEDGER), cut).unwrap();
    assert_eq!(Store::open(&state, NOW).err().map(|e| e.code()), Some("LEDGER_BROKEN"));
    let verified = crate::admin::ledger_verify(&state);
    assert_eq!(verified.map_err(|e| (e.code(), e.exit())).err(), Some(("LEDGER_BROKEN", 9)));
}
