use base64::engine::general_purpose::STANDARD;
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};

use super::*;
use crate::samples;

/// `tests/id-block.rs` of the `sev` crate: its launch digest and what must come of it.
const LAUNCH_DIGEST: &str =
    "a14d638341e5674628fe1e02fbedebe5e5ab4faf1dd72d8966068e615bb99efd13d214b35c231715b38e263dc6059745";
const BLOCK: &str = "oU1jg0HlZ0Yo/h4C++3r5eWrT68d1y2JZgaOYVu5nv0T0hSzXCMXFbOOJj3GBZdFAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABAAAAAAAAAAAAAwAAAAAA";
const ID_KEY_DIGEST: &str = "WfssaG36T+9J84M5qndckAUcKNVzg93DuvO160sUlt87DbvcuuX+J2d6ZEggdz/i";
const AUTHOR_KEY_DIGEST: &str = "7tgRafsMteDsNHlPEo/U4MSkb2fGWhrfqB/LJLzAiMJyNpt//D6ytq9qQoShs2xf";

fn block() -> IdBlock {
    let launch_digest = hex::decode(LAUNCH_DIGEST).unwrap().try_into().unwrap();
    IdBlock { launch_digest, family_id: [0; 16], image_id: [0; 16], guest_svn: 0, policy: 0x30000 }
}

fn pair(name: &str) -> EcdsaKeyPair {
    let pem = std::fs::read_to_string(samples::sev_file(name)).unwrap();
    let text: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = STANDARD.decode(text).unwrap();
    EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &der, &SystemRandom::new()).unwrap()
}

fn public(pair: &EcdsaKeyPair) -> IdKey {
    IdKey::from_point(pair.public_key().as_ref()).unwrap()
}

fn signed(pair: &EcdsaKeyPair, message: &[u8]) -> Signed {
    let signature = pair.sign(&SystemRandom::new(), message).unwrap();
    Signed { key: public(pair), signature: signature.as_ref().try_into().unwrap() }
}

#[test]
fn block_and_key_digests_are_those_of_the_known_vectors() {
    let block = block();
    assert_eq!(block.to_base64(), BLOCK);
    assert_eq!(IdBlock::from_base64(&format!("{BLOCK}\n")), Ok(block));
    assert_eq!(STANDARD.encode(public(&pair("test_id_key.pem")).digest()), ID_KEY_DIGEST);
    assert_eq!(STANDARD.encode(public(&pair("test_auth_key.pem")).digest()), AUTHOR_KEY_DIGEST);
}

#[test]
fn the_known_authentication_page_is_read_and_written_byte_by_byte() {
    let page = std::fs::read(samples::sev_file("test_auth_block.bin")).unwrap();
    let auth = IdAuth::parse(&page).unwrap();
    assert_eq!(auth.to_bytes(), page);
    assert_eq!(IdAuth::from_base64(&auth.to_base64()), Ok(auth));
    assert_eq!(auth.id.key, public(&pair("test_id_key.pem")));
    let author = auth.author.unwrap();
    assert_eq!(author.key, public(&pair("test_auth_key.pem")));
    // The two signatures as files of their own: 512 bytes each, where they stand in the page.
    for (name, at) in [("test_id_sig.bin", 0x40), ("test_auth_sig.bin", 0x680)] {
        assert_eq!(std::fs::read(samples::sev_file(name)).unwrap(), page[at..at + 512]);
    }
    // Made by OpenSSL: the author really signed this ID key.
    assert_eq!(author.key.verify(&auth.id.key.to_bytes(), &author.signature), Ok(()));
}

#[test]
fn what_was_signed_verifies_and_any_other_byte_does_not() {
    let (block, id, author) = (block(), pair("test_id_key.pem"), pair("test_auth_key.pem"));
    let own = signed(&id, &block.to_bytes());
    let alone = IdAuth { id: own, author: None };
    let both = IdAuth { id: own, author: Some(signed(&author, &public(&id).to_bytes())) };
    for auth in [alone, both] {
        assert_eq!(IdAuth::parse(&auth.to_bytes()).unwrap().verify(&block), Ok(()));
    }
    for at in 0..IdBlock::SIZE {
        let mut bytes = block.to_bytes();
        bytes[at] ^= 1;
        if let Ok(other) = IdBlock::parse(&bytes) {
            assert_eq!(both.verify(&other), Err(MeasurementError::IdSignature("ID")), "byte {at}");
        } else {
            assert!((0x50..0x54).contains(&at), "only the version is judged: {at}");
        }
    }
    let page = both.to_bytes();
    for at in 0..page.len() {
        let mut bytes = page.clone();
        bytes[at] ^= 1;
        let refused = IdAuth::parse(&bytes).and_then(|auth| auth.verify(&block)).unwrap_err();
        let format = at < 0x40 || refused.code() == "ID_BLOCK_FORMAT";
        assert!(format || refused.code() == "ID_BLOCK_SIGNATURE", "byte {at:#x}: {refused}");
    }
    // An author who signed another key, and one who is left out of the header.
    let swapped = IdAuth { author: Some(signed(&author, &public(&author).to_bytes())), ..both };
    assert_eq!(swapped.verify(&block), Err(MeasurementError::IdSignature("author")));
    let mut hidden = page;
    hidden[4] = 0;
    assert_eq!(IdAuth::parse(&hidden).unwrap_err().code(), "ID_BLOCK_FORMAT");
}

#[test]
fn other_bytes_are_refused() {
    for length in [0, 95, 97, 4096] {
        assert_eq!(IdBlock::parse(&vec![0; length]).unwrap_err().code(), "ID_BLOCK_FORMAT");
    }
    for length in [0, 4095, 4097] {
        assert_eq!(IdAuth::parse(&vec![0; length]).unwrap_err().code(), "ID_BLOCK_FORMAT");
    }
    for text in ["", "!", "AAAA", &"A".repeat(9000)] {
        assert_eq!(IdBlock::from_base64(text).unwrap_err().code(), "ID_BLOCK_FORMAT");
        assert_eq!(IdAuth::from_base64(text).unwrap_err().code(), "ID_BLOCK_FORMAT");
    }
    for point in [&[][..], &[4; 96], &[2; 97], &[4; 98]] {
        assert_eq!(IdKey::from_point(point).unwrap_err().code(), "ID_BLOCK_FORMAT");
    }
}
