//! The worked example of docs/protocol.md, made by tests/reference/session.py and recomputed here.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use serde_json::Value;
use vouchsafe_attestation::{Mode, Tee, receipt, session};
use vouchsafe_tests::workspace;

fn bytes<const N: usize>(value: &Value) -> [u8; N] {
    hex::decode(value.as_str().unwrap()).unwrap().try_into().unwrap()
}

#[test]
fn every_hash_of_the_worked_example_comes_out_again() {
    let text = std::fs::read(workspace().join("tests/vectors/session/example.json")).unwrap();
    let example: Value = serde_json::from_slice(&text).unwrap();
    let (mode, tee) = (Mode::Simulation, Tee::SevSnp);
    assert_eq!((example["mode"].as_str(), example["tee"].as_str()), (Some(mode.as_str()), Some(tee.as_str())));
    let claims = example["claims"].as_str().unwrap().as_bytes();
    let sessions = example["sessions"].as_array().unwrap();
    let leaves: Vec<[u8; 64]> = sessions
        .iter()
        .map(|s| {
            let digest = session::session_digest(
                mode,
                tee,
                &bytes(&s["nonce"]),
                &bytes(&s["ekm"]),
                &bytes(&s["spki_sha256"]),
                claims,
            );
            assert_eq!(digest, bytes(&s["session_digest"]));
            assert_eq!(session::leaf(&digest), bytes(&s["leaf"]));
            session::leaf(&digest)
        })
        .collect();
    let tree = session::Tree::new(leaves.clone()).unwrap();
    assert_eq!(tree.root(), bytes(&example["root"]));
    assert_eq!(sessions.len(), 5);
    for (i, s) in (0..).zip(sessions) {
        let path = tree.path(i).unwrap();
        let expected: Vec<[u8; 64]> = s["path"].as_array().unwrap().iter().map(bytes).collect();
        assert_eq!(path.path, expected, "leaf {i}");
        assert_eq!(session::root_from_path(&leaves[i as usize], &path), Ok(tree.root()));
    }
    assert_eq!(session::report_data(mode, tee, &tree.root(), 5), bytes(&example["report_data"]));

    let r = &example["receipt"];
    let (salt, body) = (bytes(&r["salt"]), hex::decode(r["body"].as_str().unwrap()).unwrap());
    let header_len = r["header_len"].as_u64().unwrap();
    assert_eq!(receipt::request_digest(&salt, &body, header_len), bytes(&r["request_digest"]));
    assert_eq!(receipt::response_digest(&salt, &body, header_len), bytes(&r["response_digest"]));
}
