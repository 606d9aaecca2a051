//! Turns a package into plaintext with other code: aes-gcm instead of ring, HKDF by hand, JSON read field by field.
//! It verifies no signature; it shows that the format, not this crate, decides what the bytes mean.

use aes_gcm::{Aes256Gcm, KeyInit as _, aead::Aead as _};
use ring::hmac;
use serde_json::Value;

use super::support::{Files, Fixture, pattern, payload};
use crate::Role;

const MIB: usize = 1 << 20;

/// Every file's plaintext but the digests', by a second implementation.
pub(super) fn unseal(files: &Files, model_key: &[u8; 32]) -> Vec<Vec<u8>> {
    let manifest: Value = serde_json::from_str(&payload(files)).unwrap();
    let bytes = |v: &Value| hex::decode(v.as_str().unwrap()).unwrap();
    let mut out = Vec::new();
    for (index, file) in manifest["files"].as_array().unwrap().iter().enumerate() {
        let padded = file["padded_len"].as_u64().unwrap();
        let mut info = [&16_u32.to_be_bytes()[..], b"vouchsafe/1 file", &32_u32.to_be_bytes()].concat();
        info.extend(bytes(&manifest["model_uid"]));
        info.extend(manifest["sequence"].as_u64().unwrap().to_be_bytes());
        info.extend((index as u32).to_be_bytes());
        info.extend(padded.to_be_bytes());
        info.extend((MIB as u32).to_be_bytes());
        let okm = hkdf_sha512(&bytes(&file["salt"]), model_key, &info);
        let cipher = Aes256Gcm::new_from_slice(&okm[..32]).unwrap();
        let open = |i: u64, sealed: &[u8]| {
            let mut nonce = [0; 12];
            nonce.copy_from_slice(&okm[32..44]);
            nonce[4..].iter_mut().zip(i.to_be_bytes()).for_each(|(n, c)| *n ^= c);
            cipher.decrypt(&nonce.into(), sealed).unwrap()
        };
        let true_len = open(u64::MAX, &bytes(&file["sealed_len"]));
        let true_len = u64::from_be_bytes(true_len.try_into().unwrap()) as usize;
        let body = &files[&format!("{index:04}.blob")][4096..];
        let list = &files[&format!("{index:04}.list")];
        assert_eq!(body.len() as u64, padded);
        let mut plain = Vec::new();
        for i in 0..=body.len() / MIB {
            let chunk = &body[i * MIB..body.len().min((i + 1) * MIB)];
            plain.extend(open(i as u64, &[chunk, &list[i * 48..i * 48 + 16]].concat()));
        }
        assert!(plain[true_len..].iter().all(|b| *b == 0));
        plain.truncate(true_len);
        out.push(plain);
    }
    out.pop();
    out
}

fn hkdf_sha512(salt: &[u8], ikm: &[u8], info: &[u8]) -> Vec<u8> {
    let prk = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA512, salt), ikm);
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA512, prk.as_ref()), &[info, &[1]].concat()).as_ref().to_vec()
}

#[test]
fn every_size_opens_here_and_there() {
    for len in [0, 1, MIB - 1, MIB, MIB + 1, 5 * MIB] {
        for pad_to in [1, 4096] {
            let fixture = Fixture::of_graph(pattern(len), pad_to);
            let files = fixture.files();
            let padded = len.next_multiple_of(pad_to as usize);
            assert_eq!(files["0000.blob"].len(), 4096 + padded);
            assert_eq!(files["0000.list"].len(), 48 * (padded / MIB + 1));
            assert!(fixture.judge(&files).unwrap() == fixture.plaintexts(), "ring, {len}");
            assert!(unseal(&files, &fixture.key) == fixture.plaintexts(), "aes-gcm, {len}");
        }
    }
}

#[test]
fn a_package_of_many_files_opens_here_and_there() {
    let mut fixture = Fixture::of_graph(pattern(1000), 1);
    for (name, role) in [("w1.bin", Role::ExternalData), ("tok.json", Role::Tokenizer), ("pre.json", Role::Preprocess)]
    {
        fixture.inputs.push((name, role, pattern(MIB + name.len())));
    }
    let files = fixture.files();
    assert!(fixture.judge(&files).unwrap() == fixture.plaintexts());
    assert!(unseal(&files, &fixture.key) == fixture.plaintexts());
}
