//! Turns a payload into a signed DSSE envelope and back (DSSE v1, in-toto project, `protocol.md` and `envelope.md`).
//! It does not interpret the payload: the caller parses it only after this module has verified it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use crate::{Ed25519Public, EncodingError};

/// Payload type of a package's manifest.
pub const MANIFEST: &str = "application/vnd.vouchsafe.manifest.v1+json";
/// Payload type of a broker's key bundle.
pub const KEY_BUNDLE: &str = "application/vnd.vouchsafe.key-bundle.v1+json";
/// Payload type of a vendor's usage policy.
pub const USAGE_POLICY: &str = "application/vnd.vouchsafe.usage-policy.v1+json";

/// At most so many signatures are looked at.
const MAX_SIGNATURES: usize = 16;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    payload: String,
    #[serde(rename = "payloadType")]
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signature {
    keyid: String,
    sig: String,
}

/// A payload whose signatures have been verified.
pub struct Opened {
    /// The exact signed bytes; wiped when dropped, since a key bundle is such a payload.
    pub payload: Zeroizing<Vec<u8>>,
    /// Which of the pinned keys signed, each once, in the order in which they were pinned.
    pub signers: Vec<Ed25519Public>,
}

/// Signs `payload` with every key and returns the envelope as JSON.
#[must_use]
pub fn sign(payload_type: &str, payload: &[u8], keys: &[&Ed25519KeyPair]) -> Vec<u8> {
    let message = pae(payload_type, payload);
    let signatures = keys
        .iter()
        .map(|key| Signature { keyid: public(key).key_id(), sig: STANDARD.encode(key.sign(&message)) })
        .collect();
    let mut envelope =
        Envelope { payload: STANDARD.encode(payload), payload_type: payload_type.to_owned(), signatures };
    // Strings and lists of strings always serialize.
    let bytes = serde_json::to_vec(&envelope).unwrap_or_default();
    envelope.payload.zeroize();
    bytes
}

/// The public half of a signing key.
#[must_use]
pub fn public(key: &Ed25519KeyPair) -> Ed25519Public {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(key.public_key().as_ref());
    Ed25519Public(bytes)
}

/// Verifies that at least `threshold` of `keys` signed an envelope of `payload_type` not longer than `max_len` bytes.
///
/// # Errors
/// `ENCODING_TOO_LARGE`, `ENCODING_JSON`, `DSSE_PAYLOAD_TYPE`, `ENCODING_BYTES`, `DSSE_SIGNATURES`.
pub fn open(
    bytes: &[u8],
    payload_type: &str,
    keys: &[Ed25519Public],
    threshold: usize,
    max_len: usize,
) -> Result<Opened, EncodingError> {
    if bytes.len() > max_len {
        return Err(EncodingError::TooLarge("the signed envelope", max_len));
    }
    let malformed = EncodingError::Json("the signed envelope");
    let mut envelope: Envelope = serde_json::from_slice(bytes).map_err(|_| malformed)?;
    // One payload has one envelope: white space and escapes that `sign` does not write are refused, so that no changed
    // byte of a package goes unnoticed.
    let canonical = serde_json::to_vec(&envelope).map(Zeroizing::new).is_ok_and(|written| *written == bytes);
    if !canonical {
        return Err(malformed);
    }
    if envelope.payload_type != payload_type {
        return Err(EncodingError::PayloadType);
    }
    let payload = STANDARD.decode(&envelope.payload);
    envelope.payload.zeroize();
    let payload = Zeroizing::new(payload.map_err(|_| EncodingError::Bytes("payload"))?);
    let message = pae(payload_type, &payload);
    let decode =
        |s: &Signature| Ok((s.keyid.clone(), STANDARD.decode(&s.sig).map_err(|_| EncodingError::Bytes("signature"))?));
    let signatures: Vec<(String, Vec<u8>)> =
        envelope.signatures.iter().take(MAX_SIGNATURES).map(decode).collect::<Result<_, _>>()?;
    // A key counts once however often it signed. `keyid` is not signed, so it must name the key that verifies.
    let mut signers: Vec<Ed25519Public> = Vec::new();
    for key in keys {
        let id = key.key_id();
        let signed = |(keyid, sig): &(String, Vec<u8>)| *keyid == id && key.verify(&message, sig).is_ok();
        if !signers.contains(key) && signatures.iter().any(signed) {
            signers.push(*key);
        }
    }
    let needed = threshold.max(1);
    if signers.len() < needed {
        return Err(EncodingError::Signatures(needed));
    }
    Ok(Opened { payload, signers })
}

/// Pre-authentication encoding, DSSE v1: `"DSSEv1" SP len(type) SP type SP len(body) SP body`.
fn pae(payload_type: &str, payload: &[u8]) -> Zeroizing<Vec<u8>> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    // Allocated once: growing would leave a copy of the payload behind.
    let mut out = Zeroizing::new(Vec::with_capacity(head.len() + payload.len()));
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(payload);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
    }

    #[test]
    fn pae_matches_the_specification_example() {
        assert_eq!(
            pae("http://example.com/HelloWorld", b"hello world").as_slice(),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }

    #[test]
    fn opens_under_the_right_key_type_and_threshold_only() {
        let (a, b) = (key(1), key(2));
        let envelope = sign(MANIFEST, b"{}", &[&a]);
        let open_with = |t: &str, keys: &[Ed25519Public], n| open(&envelope, t, keys, n, 4096).map(|o| o.signers);
        assert_eq!(open_with(MANIFEST, &[public(&b), public(&a)], 1), Ok(vec![public(&a)]));
        assert_eq!(open_with(KEY_BUNDLE, &[public(&a)], 1), Err(EncodingError::PayloadType));
        assert_eq!(open_with(MANIFEST, &[public(&b)], 1), Err(EncodingError::Signatures(1)));
        assert_eq!(open_with(MANIFEST, &[public(&a), public(&a)], 2), Err(EncodingError::Signatures(2)));
        assert_eq!(open_with(MANIFEST, &[], 0), Err(EncodingError::Signatures(1)));
    }

    #[test]
    fn unknown_and_repeated_fields_are_refused() {
        let envelope = String::from_utf8(sign(MANIFEST, b"{}", &[&key(1)])).unwrap();
        let key_id = public(&key(1)).key_id();
        assert_eq!(
            open(envelope.replace(&key_id, &"0".repeat(32)).as_bytes(), MANIFEST, &[public(&key(1))], 1, 4096).err(),
            Some(EncodingError::Signatures(1))
        );
        for bad in [
            envelope.replacen('{', "{\"x\":1,", 1),
            envelope.replacen('{', "{\"payload\":\"\",", 1),
            envelope.clone() + "\n",
        ] {
            let result = open(bad.as_bytes(), MANIFEST, &[public(&key(1))], 1, 4096);
            assert_eq!(result.map(|o| o.signers), Err(EncodingError::Json("the signed envelope")));
        }
    }
}
