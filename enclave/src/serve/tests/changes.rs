//! What changes while sessions are open: versions, leases, the right to use, runners that end.

use super::*;

#[tokio::test]
async fn a_change_under_an_open_session_needs_new_evidence() {
    let service = service(model(1, "never", long()));
    let client = Client::new(&service);
    let before = client.attest().await;
    assert_eq!(client.infer(request()).await.status, 200);
    service.registry.install(model(2, "never", long()));
    for route in ROUTES.iter().filter(|r| r.gate == Gate::Attested) {
        assert_eq!(
            client.call(route.method, &filled(route.path, "2"), "").await.code(),
            (409, "REATTEST".into()),
            "{}",
            route.path
        );
    }
    assert_eq!(client.call("GET", "/v2/health/ready", "").await.status, 200);
    let after = client.attest().await;
    assert_ne!(before.claims, after.claims);
    assert_eq!(client.infer(request()).await.json()["model_version"], "2");
    // The same version again (after a lapse), or an older one, changes no claim.
    service.registry.install(model(2, "never", long()));
    service.registry.install(model(1, "never", long()));
    assert_eq!(client.infer(request()).await.json()["model_version"], "2");
}

#[tokio::test]
async fn a_lease_ends_the_service_and_a_new_one_begins_it_again() {
    let service = service(model(1, "never", RunningLease::new(3600, 2, Instant::now())));
    let client = Client::attested(&service).await;
    assert_eq!(client.infer(json!({ "inputs": [] })).await.status, 400, "a refused request costs nothing");
    assert_eq!(client.infer(request()).await.status, 200);
    assert_eq!(client.infer(request()).await.status, 200);
    let lapsed = client.infer(request()).await;
    assert_eq!((lapsed.code(), lapsed.header("retry-after")), ((503, "LEASE_LAPSED".into()), Some("5")));
    assert_eq!(client.call("GET", "/v2/models/m/ready", "").await.code(), (503, "LEASE_LAPSED".into()));
    assert_eq!(client.call("GET", "/v2/health/ready", "").await.status, 503);
    assert_eq!(client.call("GET", "/v2/health/live", "").await.status, 200);
    let generation = service.registry.current();
    let lapsed = generation.model("m").unwrap();
    assert!(
        !lapsed.renew(long(), Instant::now()).unwrap(),
        "the session is gone: a lease alone does not bring it back"
    );
    service.registry.install(model(1, "never", long()));
    assert_eq!(client.infer(request()).await.status, 200, "the claims did not change: no new evidence is needed");
}

#[tokio::test]
async fn the_session_ends_with_the_right_to_use_it() {
    let usable = model(1, "2100-01-01T00:00:00Z", long());
    let (now, expired) = (Instant::now(), model(1, "2020-01-01T00:00:00Z", long()));
    assert!(usable.is_in_force(now).is_ok() && usable.is_ready(now) && usable.renew(long(), now).unwrap(), "control");
    assert_eq!(expired.is_in_force(now).unwrap_err().code(), "USAGE_EXPIRED");
    assert!(!expired.is_ready(now) && !expired.renew(long(), now).unwrap(), "a new lease does not bring it back");
    assert_eq!(expired.take(now).err().unwrap().code(), "USAGE_EXPIRED");
    // It expires while it runs: the keeper is told when.
    let soon = UnixTime(1_800_000_000 + 60).to_string();
    let soon = model(1, &soon, long());
    let (renew_in, ends_in) = soon.times(Instant::now());
    assert!(renew_in <= Duration::from_secs(60) && ends_in <= Duration::from_secs(60), "{renew_in:?} {ends_in:?}");
    assert!(soon.take(now).is_ok() && !soon.is_ready(now + Duration::from_secs(61)));
}

#[tokio::test]
async fn a_panic_in_a_run_is_not_called_ready() {
    // A panic without its lines on the terminal.
    let panics = |_: Vec<Tensor>| -> Vec<Tensor> { std::panic::resume_unwind(Box::new(())) };
    let fine = model(1, "never", long());
    let service = service(running(1, fine.usage().clone(), long(), panics));
    let client = Client::attested(&service).await;
    assert_eq!(client.call("GET", "/v2/health/ready", "").await.status, 200, "control: before");
    for _ in 0..2 {
        let died = client.infer(request()).await;
        assert_eq!((died.code(), died.header("retry-after")), ((503, "RUNNER_DIED".into()), Some("1")));
        assert_eq!(client.call("GET", "/v2/health/ready", "").await.status, 503);
        assert_eq!(client.call("GET", "/v2/models/m/ready", "").await.code(), (503, "RUNNER_DIED".into()));
    }
    assert!(service.registry.current().model("m").unwrap().has_ended());
    service.registry.install(fine);
    assert_eq!(client.infer(request()).await.status, 200, "control: unsealed again");
}

#[tokio::test]
async fn the_right_to_use_ends_at_its_time() {
    let early = service(model(1, "2100-01-01T00:00:00Z", long()));
    let late = service(model(1, "2020-01-01T00:00:00Z", long()));
    for (service, expected) in [(early, (200, "")), (late, (403, "USAGE_EXPIRED"))] {
        let client = Client::new(&service);
        client.attest().await;
        assert_eq!(client.infer(request()).await.code(), (expected.0, expected.1.into()));
    }
}

#[tokio::test]
async fn a_request_whose_client_went_away_counts_as_such_and_takes_nothing_of_the_lease() {
    let service = service(model(1, "never", RunningLease::new(3600, 1, Instant::now())));
    let client = Client::attested(&service).await;
    let waiting = client.with(&[], Body::new(super::bodies::Never));
    assert!(tokio::time::timeout(Duration::from_millis(50), waiting).await.is_err(), "dropped while it waits");
    let generation = service.registry.current();
    let counters = generation.model("m").unwrap().counters();
    assert_eq!(counters.outcome(crate::serve::stats::Outcome::Cancelled), 1);
    assert_eq!(client.infer(request()).await.status, 200, "control");
}
