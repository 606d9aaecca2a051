//! Turns ID blocks, honest and not, into what the launcher says before QEMU sees them.
//! No processor is asked: that it refuses the same ones is AMD's word.

use std::fs;

use clap::Parser;
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use tempfile::TempDir;
use vouchsafe_measurement::id_block::{IdKey, Signed};

use super::*;
use crate::cli::Cli;

const MEASUREMENT: [u8; 48] = [7; 48];
const POLICY: u64 = 0x3_0000;

fn pair() -> EcdsaKeyPair {
    let random = SystemRandom::new();
    let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &random).unwrap();
    EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, key.as_ref(), &random).unwrap()
}

fn signed(pair: &EcdsaKeyPair, message: &[u8]) -> Signed {
    let signature = pair.sign(&SystemRandom::new(), message).unwrap();
    let key = IdKey::from_point(pair.public_key().as_ref()).unwrap();
    Signed { key, signature: signature.as_ref().try_into().unwrap() }
}

fn block(launch_digest: [u8; 48], policy: u64) -> IdBlock {
    IdBlock { launch_digest, family_id: [0; 16], image_id: [0; 16], guest_svn: 1, policy }
}

/// Both files, and a launch of `backend` that names them.
fn spec(backend: &str, block: &str, page: &str) -> (TempDir, LaunchSpec) {
    let folder = tempfile::tempdir().unwrap();
    let launch = format!(
        "version = 1\nbackend = {backend:?}\nconfig = \"c\"\nmodels = \"m\"\nimage = \"i\"\nsimulator_root = \"r\"\nid_block = \"block\"\nid_auth = \"page\"\nguest_policy = {POLICY}\n"
    );
    for (name, text) in [("block", block), ("page", page), ("launch.toml", &launch)] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let file = folder.path().join("launch.toml");
    let spec = Cli::try_parse_from(["vouchsafe-launch".as_ref(), file.as_os_str()]).unwrap().spec().unwrap();
    (folder, spec)
}

fn told(block: &str, page: &str) -> Result<Option<bool>, &'static str> {
    let (_folder, spec) = spec("snp", block, page);
    let identity = identity(&spec, &MEASUREMENT).map_err(|e| e.code())?;
    Ok(identity.map(|identity| identity.has_author))
}

#[test]
fn only_a_block_for_this_very_launch_reaches_qemu() {
    let (id, author) = (pair(), pair());
    let good = block(MEASUREMENT, POLICY);
    let alone = IdAuth { id: signed(&id, &good.to_bytes()), author: None };
    let both = IdAuth { author: Some(signed(&author, &alone.id.key.to_bytes())), ..alone };
    let text = good.to_base64() + "\n";
    assert_eq!(told(&text, &alone.to_base64()), Ok(Some(false)));
    assert_eq!(told(&text, &(both.to_base64() + "\n")), Ok(Some(true)), "QEMU is told of the author");
    for (other, code) in
        [(block([8; 48], POLICY), "ID_BLOCK_MISMATCH"), (block(MEASUREMENT, POLICY | 1 << 19), "ID_BLOCK_MISMATCH")]
    {
        let page = IdAuth { id: signed(&id, &other.to_bytes()), author: None };
        assert_eq!(told(&other.to_base64(), &page.to_base64()), Err(code));
        assert_eq!(told(&other.to_base64(), &alone.to_base64()), Err("ID_BLOCK_SIGNATURE"), "signed for another block");
    }
    let wrong_author = IdAuth { author: Some(signed(&author, &good.to_bytes())), ..alone };
    assert_eq!(told(&text, &wrong_author.to_base64()), Err("ID_BLOCK_SIGNATURE"));
    for (text, page) in
        [("", ""), ("AAAA", "AAAA"), ("id-block=x,policy=0", "?"), (&*text, ""), ("", &alone.to_base64())]
    {
        assert_eq!(told(text, page), Err("ID_BLOCK_FORMAT"), "{text} {page}");
    }
    assert_eq!(told(&text, &"A".repeat(1 << 20)), Err("ID_BLOCK_FORMAT"));
}

#[test]
fn a_rehearsal_has_no_processor_that_would_look_at_a_block() {
    let (_folder, spec) = spec("sim-vm", "", "");
    assert_eq!(identity(&spec, &MEASUREMENT), Ok(None));
}
