//! Turns one request into the bytes that its caller signs, and the header that carries the signature.
//! It does not say who may ask: the vendor's usage policy lists the keys. It hides nothing: the channel does.

use core::{fmt, str::FromStr};
use std::collections::BTreeMap;

use crate::{
    Ed25519Public, EncodingError, Mode, Tee,
    encoding::{b64url, from_b64url},
    lp::put_lp,
};

/// The header with the signature of a request.
pub const CALLER_HEADER: &str = "vouchsafe-caller";
/// So many different keys may sign the requests of one connection.
pub const MAX_CALLER_KEYS: usize = 64;
/// Longest value of the header: 32 bytes, 20 digits and 64 bytes, with two dots between them.
const LONGEST: usize = 43 + 1 + 20 + 1 + 86;
const WRONG: EncodingError = EncodingError::Bytes("the caller header");

/// The bytes that a caller signs for one request of one TLS session:
/// `LP("vouchsafe/1 request-signature") LP(mode) LP(technology) LP(ekm) u64be(counter) LP(method) LP(path) u64be(header_len) LP(body_digest)`.
///
/// `ekm` is the session's exporter value, so that no other session takes the signature; `counter` rises with every signed
/// request of the session. `method` and `path` stand as in the request line, a query included. `header_len` is
/// [`framed_len`](crate::receipt::framed_len) of `Inference-Header-Content-Length`; `body_digest` the SHA-256 of the body as it is sent, still compressed
/// where it is.
#[must_use]
#[expect(clippy::too_many_arguments, reason = "each is a field of the format")]
pub fn caller_bytes(
    mode: Mode,
    tee: Tee,
    ekm: &[u8; 32],
    counter: u64,
    method: &str,
    path: &str,
    header_len: u64,
    body_digest: &[u8; 32],
) -> Vec<u8> {
    let mut out = Vec::with_capacity(192 + method.len() + path.len());
    put_lp(&mut out, b"vouchsafe/1 request-signature");
    put_lp(&mut out, mode.as_str().as_bytes());
    put_lp(&mut out, tee.as_str().as_bytes());
    put_lp(&mut out, ekm);
    out.extend_from_slice(&counter.to_be_bytes());
    put_lp(&mut out, method.as_bytes());
    put_lp(&mut out, path.as_bytes());
    out.extend_from_slice(&header_len.to_be_bytes());
    put_lp(&mut out, body_digest);
    out
}

/// The value of the header: `<key>.<counter>.<signature>`, base64url without padding and decimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallerHeader {
    /// Who signed.
    pub key: Ed25519Public,
    /// The number of this request among those that the key signed on this connection.
    pub counter: u64,
    /// Ed25519 over [`caller_bytes`].
    pub signature: [u8; 64],
}

impl CallerHeader {
    /// Verifies the signature over what [`caller_bytes`] made of the request and of this [`Self::counter`]. A replay within
    /// the connection is for [`CallerCounters`] to notice.
    ///
    /// # Errors
    /// `ED25519_SIGNATURE`.
    pub fn verify(&self, caller_bytes: &[u8]) -> Result<(), EncodingError> {
        self.key.verify(caller_bytes, &self.signature)
    }
}

impl fmt::Display for CallerHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", b64url(&self.key.0), self.counter, b64url(&self.signature))
    }
}

impl FromStr for CallerHeader {
    type Err = EncodingError;

    /// # Errors
    /// `ENCODING_BYTES`. There is one way to write a header: no padding, no leading zeros, no space.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > LONGEST {
            return Err(WRONG);
        }
        let mut parts = text.split('.');
        let (Some(key), Some(digits), Some(signature), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(WRONG);
        };
        let plain = digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
        let counter = digits.parse().ok().filter(|_| plain).ok_or(WRONG)?;
        Ok(Self { key: Ed25519Public(exactly(key)?), counter, signature: exactly(signature)? })
    }
}

fn exactly<const N: usize>(text: &str) -> Result<[u8; N], EncodingError> {
    from_b64url(text, "the caller header")?.try_into().map_err(|_| WRONG)
}

/// The counters of one connection. Ask after the signature was verified: nobody moves the counter of a key but its holder.
#[derive(Debug, Default)]
pub struct CallerCounters(BTreeMap<Ed25519Public, u64>);

impl CallerCounters {
    /// No request was signed yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Takes the counter of a verified header when it is above every earlier one of the same key.
    ///
    /// # Errors
    /// `ED25519_SIGNATURE` for a replay, and for a 65th key.
    pub fn take(&mut self, header: &CallerHeader) -> Result<(), EncodingError> {
        let last = self.0.get(&header.key);
        let new = last.is_none_or(|last| header.counter > *last);
        if !new || (last.is_none() && self.0.len() >= MAX_CALLER_KEYS) {
            return Err(EncodingError::Signature);
        }
        self.0.insert(header.key, header.counter);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ring::signature::{Ed25519KeyPair, KeyPair as _};

    use super::*;
    use crate::lp::sha256;

    fn pair(n: u8) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[n; 32]).unwrap()
    }

    fn bytes(counter: u64) -> Vec<u8> {
        let (ekm, body) = ([2; 32], sha256(b"{}"));
        caller_bytes(Mode::Simulation, Tee::SevSnp, &ekm, counter, "POST", "/v2/models/m/infer", 0, &body)
    }

    fn header(n: u8, counter: u64) -> CallerHeader {
        let pair = pair(n);
        let key = Ed25519Public(pair.public_key().as_ref().try_into().unwrap());
        CallerHeader { key, counter, signature: pair.sign(&bytes(counter)).as_ref().try_into().unwrap() }
    }

    #[test]
    fn a_signature_is_good_for_one_request_only() {
        let header = header(1, 7);
        assert_eq!(header.verify(&bytes(7)), Ok(()));
        let body = sha256(b"{}");
        let others = [
            bytes(8),
            caller_bytes(Mode::Hardware, Tee::SevSnp, &[2; 32], 7, "POST", "/v2/models/m/infer", 0, &body),
            caller_bytes(Mode::Simulation, Tee::Tdx, &[2; 32], 7, "POST", "/v2/models/m/infer", 0, &body),
            caller_bytes(Mode::Simulation, Tee::SevSnp, &[3; 32], 7, "POST", "/v2/models/m/infer", 0, &body),
            caller_bytes(Mode::Simulation, Tee::SevSnp, &[2; 32], 7, "GET", "/v2/models/m/infer", 0, &body),
            caller_bytes(Mode::Simulation, Tee::SevSnp, &[2; 32], 7, "POST", "/v2/models/n/infer", 0, &body),
            caller_bytes(Mode::Simulation, Tee::SevSnp, &[2; 32], 7, "POST/", "v2/models/m/infer", 0, &body),
            caller_bytes(Mode::Simulation, Tee::SevSnp, &[2; 32], 7, "POST", "/v2/models/m/infer", 1, &body),
            caller_bytes(Mode::Simulation, Tee::SevSnp, &[2; 32], 7, "POST", "/v2/models/m/infer", 0, &sha256(b"{ }")),
        ];
        for other in others {
            assert_eq!(header.verify(&other), Err(EncodingError::Signature));
        }
        let stolen = CallerHeader { key: self::header(2, 7).key, ..header };
        assert_eq!(stolen.verify(&bytes(7)), Err(EncodingError::Signature));
    }

    #[test]
    fn the_signed_bytes_are_those_of_the_format() {
        let mut wanted = Vec::new();
        for field in [&b"vouchsafe/1 request-signature"[..], b"simulation", b"sev-snp", &[2; 32]] {
            put_lp(&mut wanted, field);
        }
        wanted.extend_from_slice(&[0, 0, 0, 0, 0, 0, 1, 2]);
        put_lp(&mut wanted, b"POST");
        put_lp(&mut wanted, b"/v2/models/m/infer");
        wanted.extend_from_slice(&[0; 8]);
        put_lp(&mut wanted, &sha256(b"{}"));
        assert_eq!(bytes(258), wanted);
    }

    #[test]
    fn a_header_has_one_form() {
        for counter in [0, 1, 10, u64::MAX] {
            let header = header(1, counter);
            let text = header.to_string();
            assert!(text.len() <= LONGEST);
            assert_eq!(text.parse(), Ok(header));
        }
        let text = header(1, 7).to_string();
        let (key, signature) = (text.split('.').next().unwrap(), text.rsplit('.').next().unwrap());
        for wrong in [
            String::new(),
            format!("{key}.7"),
            format!("{text}.1"),
            format!("{text}="),
            format!(" {text}"),
            format!("{key}..{signature}"),
            format!("{key}.07.{signature}"),
            format!("{key}.+7.{signature}"),
            format!("{key}.-7.{signature}"),
            format!("{key}.7 .{signature}"),
            format!("{key}.18446744073709551616.{signature}"),
            format!("{signature}.7.{key}"),
            format!("{}.7.{signature}", &key[1..]),
            format!("{key}.7.{}", &signature[2..]),
            format!("{key}.7.{}", signature.replace(['-', '_'], "+").replacen(char::is_alphanumeric, "/", 1)),
        ] {
            assert_eq!(wrong.parse::<CallerHeader>(), Err(WRONG), "{wrong}");
        }
    }

    #[test]
    fn a_counter_rises_for_each_key_and_keys_are_few() {
        let mut counters = CallerCounters::new();
        let with = |n: u8, counter| CallerHeader { key: Ed25519Public([n; 32]), counter, signature: [0; 64] };
        assert_eq!(counters.take(&with(1, 0)), Ok(()));
        assert_eq!(counters.take(&with(1, 5)), Ok(()));
        for old in [0, 4, 5] {
            assert_eq!(counters.take(&with(1, old)), Err(EncodingError::Signature), "{old}");
        }
        assert_eq!(counters.take(&with(2, 5)), Ok(()), "each key counts for itself");
        assert_eq!(counters.take(&with(1, u64::MAX)), Ok(()));
        assert_eq!(counters.take(&with(1, u64::MAX)), Err(EncodingError::Signature));
        for n in 3..=64 {
            assert_eq!(counters.take(&with(n, 1)), Ok(()));
        }
        assert_eq!(counters.take(&with(65, 1)), Err(EncodingError::Signature));
        assert_eq!(counters.take(&with(64, 2)), Ok(()), "a key that is known already may go on");
    }
}
