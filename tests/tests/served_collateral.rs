//! Turns one collateral file of the operator's into what customers and the broker verify with: younger, older, other, none.
//! It proves that the file is what is served; whether a file is good is said by the verifiers, here as everywhere.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

use std::{
    fs,
    time::{Duration, Instant},
};

use serde_json::Value;
use vouchsafe_attestation::{EvidenceEnvelope, collateral};
use vouchsafe_tests::{SNP, Scene, Service, TDX, Wire, scene::told, wire::CHALLENGE};

/// What an enclave serves with its evidence, as a collateral file.
fn served(address: &str, tee: &str) -> Vec<u8> {
    let challenge = CHALLENGE.replace(SNP, tee);
    let answer = Wire::open(address).send("POST", "/v1/attest", &[], challenge.as_bytes());
    assert_eq!(answer.status, 200);
    let envelope: EvidenceEnvelope = serde_json::from_value(answer.json()["evidence"].clone()).unwrap();
    collateral::to_bytes(&envelope.into_parts().unwrap().1)
}

fn verify(scene: &Scene, address: &str) -> (i32, String) {
    told(&["verify", address, "--policy", &scene.at("customer/policy.toml")])
}

/// Launches with a collateral file and waits until it serves.
fn serve(scene: &Scene, file: &str) -> (Service, String) {
    let mut enclave = scene.launch("operator/models", &["--collateral", &scene.at(file)]);
    let address = enclave.wait_listening();
    enclave.wait_until("serving", |e| e["state"] == "serving");
    (enclave, address)
}

/// Why an enclave gives up.
fn refused(enclave: &mut Service) -> Value {
    let end = enclave.wait_until("serving or refusing", |e| e["state"] == "serving" || e["fatal"].is_object());
    end["fatal"].clone()
}

/// Asks until the answer is the wanted one: a reload takes its time.
fn becomes(what: &str, wanted: (i32, &str), ask: impl Fn() -> (i32, String)) {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let (exit, code) = ask();
        if (exit, code.as_str()) == wanted {
            return;
        }
        assert!(Instant::now() < until, "{what}: {exit} {code}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// An honest file and the one that a processor gives which has not heard of a newer list.
fn files(scene: &Scene, tee: &str, fault: &str) {
    let (_enclave, address) = scene.serve();
    assert_eq!(verify(scene, &address), (0, "accepted".to_owned()), "control");
    fs::write(scene.at("good.json"), served(&address, tee)).unwrap();
    fs::write(scene.at("tester/root/fault"), fault).unwrap();
    fs::write(scene.at("old.json"), served(&address, tee)).unwrap();
    fs::remove_file(scene.at("tester/root/fault")).unwrap();
    assert_eq!(verify(scene, &address), (0, "accepted".to_owned()), "control");
    let shown = |file: &str| told(&["collateral", "check", &scene.at(file)]);
    assert_eq!(shown("good.json").0, 0);
    assert_eq!(shown("old.json"), (3, "COLLATERAL_EXPIRED".to_owned()));
}

fn the_file_is_what_everybody_verifies(tee: &'static str, fault: &str, code: &str) {
    let scene = Scene::on(tee);
    let (_broker, _) = scene.broker();
    files(&scene, tee, fault);

    // The customer: the file at launch, and the file at each reload.
    fs::copy(scene.at("good.json"), scene.at("served.json")).unwrap();
    let (mut enclave, address) = serve(&scene, "served.json");
    assert_eq!(verify(&scene, &address), (0, "accepted".to_owned()));
    assert_eq!(served(&address, tee), fs::read(scene.at("good.json")).unwrap());
    for (file, exit, expected) in [("old.json", 3, code), ("good.json", 0, "accepted")] {
        fs::copy(scene.at(file), scene.at("served.json")).unwrap();
        enclave.signal("HUP");
        becomes(file, (exit, expected), || verify(&scene, &address));
    }
    // What is not served: no such file, and another thing of that name. The good one stays.
    fs::remove_file(scene.at("served.json")).unwrap();
    enclave.signal("HUP");
    let kept = enclave.wait_until("kept", |e| e["event"] == "collateral_kept");
    assert_eq!(kept["code"], "LAUNCH_FILE");
    fs::write(scene.at("served.json"), "no collateral").unwrap();
    enclave.signal("HUP");
    enclave.wait_until("reload", |e| e["event"] == "reload");
    for _ in 0..5 {
        assert_eq!(verify(&scene, &address), (0, "accepted".to_owned()));
        std::thread::sleep(Duration::from_millis(100));
    }
    drop(enclave);

    // The broker: no key for evidence with an old list.
    let mut enclave = scene.launch("operator/models", &["--collateral", &scene.at("old.json")]);
    let fatal = refused(&mut enclave);
    assert_eq!(fatal["code"], "KEY_REFUSED");
    assert_eq!(scene.ledger_code(fatal["ticket"].as_str().unwrap()), code);
    drop(enclave);

    // Boots that the file ends: another technology's, none at all.
    let other = if tee == SNP { SIMULATED_TDX } else { r#"{"v":1,"tee":"sev-snp","leaf":"AQ","crl":"Ag"}"# };
    fs::write(scene.at("other.json"), other).unwrap();
    fs::write(scene.at("large.json"), vec![b' '; (1 << 20) + 1]).unwrap();
    for file in ["other.json", "large.json", "operator/config.toml"] {
        let mut enclave = scene.launch("operator/models", &["--collateral", &scene.at(file)]);
        assert_eq!(refused(&mut enclave)["code"], "COLLATERAL_FILE", "{file}");
    }
    for gone in ["gone.json", "operator/models"] {
        let mut enclave = scene.launch("operator/models", &["--collateral", &scene.at(gone)]);
        assert_eq!(enclave.wait_until("error", |e| e["event"] == "error")["code"], "LAUNCH_FILE", "{gone}");
        assert_eq!(enclave.wait(), Some(9));
    }
}

/// Form only: the enclave refuses it for its technology.
const SIMULATED_TDX: &str = r#"{"v":1,"tee":"tdx","collateral":{"pck_crl_issuer_chain":"a","root_ca_crl":"AQ","pck_crl":"Ag",
"tcb_info_issuer_chain":"b","tcb_info":"{}","tcb_info_signature":"Aw","qe_identity_issuer_chain":"c","qe_identity":"{}",
"qe_identity_signature":"BA"}}"#;

#[test]
fn on_snp_the_file_is_what_everybody_verifies() {
    the_file_is_what_everybody_verifies(SNP, "crl-expired", "CRL_EXPIRED");
}

#[test]
fn on_tdx_the_file_is_what_everybody_verifies() {
    the_file_is_what_everybody_verifies(TDX, "tdx-pck-crl-expired", "PCK_CRL_EXPIRED");
}

/// The operator's own way: the parts in files, packed by the shipped command.
#[test]
fn a_file_of_collateral_pack_is_served() {
    let scene = Scene::new();
    let (_broker, _) = scene.broker();
    let (enclave, address) = scene.serve();
    let collateral = collateral::parse(&served(&address, SNP)).unwrap();
    drop(enclave);
    let vouchsafe_attestation::Collateral::SevSnp { leaf, crl, .. } = collateral else { panic!("SEV-SNP") };
    fs::write(scene.at("leaf.der"), leaf).unwrap();
    fs::write(scene.at("list.crl"), crl).unwrap();
    let (leaf, list, out) = (scene.at("leaf.der"), scene.at("list.crl"), scene.at("packed.json"));
    let pack = ["collateral", "pack", "--tee", SNP, "--leaf", &leaf, "--crl", &list, "--out", &out];
    assert_eq!(told(&pack).0, 0);
    let (_enclave, address) = serve(&scene, "packed.json");
    assert_eq!(verify(&scene, &address), (0, "accepted".to_owned()));
    assert_eq!(served(&address, SNP), fs::read(&out).unwrap());
}
