//! Turns a broker that is down, gone, or another into what an enclave does: wait, serve while its lease lasts, refuse.
//! It says nothing about time under a hostile clock: only the number of requests is a hard bound.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

use std::time::Duration;

use serde_json::{Value, json};
use vouchsafe_tests::{Scene, scene::told, wire::Wire};

/// What becomes of an enclave under a broker that comes and goes; a lease lasts 6 s here.
#[test]
fn a_broker_that_is_down_delays_and_one_that_stays_down_ends_the_lease() {
    let scene = Scene::new();
    scene.edit("broker/state/broker.toml", "ttl_s = 600", "ttl_s = 6");
    let mut enclave = scene.launch("operator/models", &[]);
    let address = enclave.wait_listening();
    enclave.wait_until("attested", |e| e["state"] == "attested");
    std::thread::sleep(Duration::from_secs(1));
    let next = enclave.events_so_far();
    assert!(next.is_empty(), "it waits, and nothing else: {next:?}");

    let (mut broker, _) = scene.broker();
    enclave.wait_until("serving", |e| e["state"] == "serving");
    assert_eq!(scene.infer(&address), (0, "accepted".to_owned()), "control");
    // Renewal keeps it alive beyond its six seconds.
    std::thread::sleep(Duration::from_secs(8));
    assert_eq!(scene.infer(&address), (0, "accepted".to_owned()), "renewed");
    let grants: Vec<Value> = scene.ledger(None).into_iter().filter(|l| l["event"] == "granted").collect();
    assert!(grants.iter().filter(|g| g["renews"].is_string()).count() >= 1, "{grants:?}");

    broker.kill();
    assert_eq!(scene.infer(&address), (0, "accepted".to_owned()), "it serves on while the lease lasts");
    std::thread::sleep(Duration::from_millis(6500));
    assert_eq!(scene.infer(&address), (8, "LEASE_LAPSED".to_owned()));
    assert_eq!(Wire::open(&address).send("GET", "/v2/health/ready", &[], &[]).status, 503);
    assert_eq!(Wire::open(&address).send("GET", "/v2/health/live", &[], &[]).status, 200, "the process lives");

    let (_broker, _) = scene.broker();
    let mut verdict = scene.infer(&address);
    for _ in 0..100 {
        if verdict.0 == 0 {
            break;
        }
        assert_eq!(verdict, (8, "LEASE_LAPSED".to_owned()));
        std::thread::sleep(Duration::from_millis(100));
        verdict = scene.infer(&address);
    }
    assert_eq!(verdict, (0, "accepted".to_owned()), "control: granted again, served again");
}

#[test]
fn the_number_of_requests_is_a_hard_bound() {
    let scene = Scene::new();
    scene.edit("broker/state/broker.toml", "max_requests = 10000", "max_requests = 6");
    let (mut broker, _) = scene.broker();
    let (_enclave, address) = scene.serve();
    broker.kill();
    let infer = |wire: &mut Wire| {
        let body =
            json!({ "inputs": [{ "name": "features", "datatype": "FP32", "shape": [1, 30], "data": vec![0.5; 30] }] });
        wire.send("POST", "/v2/models/breast-cancer/infer", &[], body.to_string().as_bytes()).verdict()
    };
    let mut wire = Wire::attested(&address);
    for at in 1..=6 {
        assert_eq!(infer(&mut wire), (200, "accepted".to_owned()), "request {at} of 6");
    }
    for _ in 0..3 {
        assert_eq!(infer(&mut wire), (503, "LEASE_LAPSED".to_owned()));
    }
    assert_eq!(infer(&mut Wire::attested(&address)).1, "LEASE_LAPSED", "a new session changes nothing");
}

#[test]
fn a_broker_with_another_tls_key_is_refused() {
    let scene = Scene::new();
    let (state, other) = (scene.at("broker/state"), scene.at("broker/other"));
    let (policy, vendor) = (scene.at("broker/policy.toml"), scene.at("vendor/manifest.key.pub"));
    let init = ["broker", "init", &other, "--listen", "127.0.0.1:0", "--policy", &policy, "--vendor-key", &vendor];
    assert_eq!(told(&init).0, 0);
    let exchange = || {
        for name in ["tls.key", "tls.crt"] {
            let (ours, theirs) = (format!("{state}/{name}"), format!("{other}/{name}"));
            let aside = format!("{other}/aside");
            std::fs::rename(&ours, &aside).unwrap();
            std::fs::rename(&theirs, &ours).unwrap();
            std::fs::rename(&aside, &theirs).unwrap();
        }
    };
    let grants = || scene.ledger(None).iter().filter(|l| l["event"] == "granted").count();
    exchange();
    let (broker, _) = scene.broker();
    let mut enclave = scene.launch("operator/models", &["--ready-timeout", "5"]);
    let end = enclave.wait_until("serving or refusing", |e| e["state"] == "serving" || e["fatal"].is_object());
    assert_eq!(end["fatal"]["code"], "BROKER_PIN_MISMATCH");
    assert_eq!(enclave.wait(), Some(8));
    assert_eq!(grants(), 1, "only the story's own");
    drop(broker);
    exchange();
    let (_broker, _) = scene.broker();
    let _served = scene.serve();
    assert_eq!(grants(), 2, "control: with its own key again");
}
