//! Turns who asks into a header of one inference request: a signature for this very session and request, or an API key.
//! It does not say who may ask: that is the vendor's usage policy, enforced in the enclave.

use bytes::Bytes;
use hyper::{
    HeaderMap, Method, Request,
    header::{AUTHORIZATION, HeaderName, HeaderValue},
};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use vouchsafe_attestation::{
    Ed25519Public, Mode, Tee,
    caller::{self, CallerHeader, caller_bytes},
    lp::sha256,
    receipt::framed_len,
};
use zeroize::Zeroizing;

use crate::{
    CustomerError,
    receipt::{HEADER_LENGTH, is_inference},
};

/// Carries public key, counter and signature.
pub(crate) const CALLER_HEADER: HeaderName = HeaderName::from_static(caller::CALLER_HEADER);
/// An API key has at least so many characters: fewer can be guessed from the digest that usage policies publish.
const MIN_API_KEY: usize = 32;
/// And at most so many: it travels in a header.
const MAX_API_KEY: usize = 512;
const SCHEME: &[u8] = b"Bearer ";

/// In whose name requests are sent.
pub struct Caller(Credential);

enum Credential {
    Key(Box<Ed25519KeyPair>),
    /// The whole header; its bytes are wiped with its last copy.
    ApiKey(HeaderValue),
}

/// What tells one request of one session from every other.
pub(crate) struct Call<'a> {
    pub mode: Mode,
    pub tee: Tee,
    /// TLS exporter value of the session.
    pub ekm: &'a [u8; 32],
    /// Rises with every request of the session.
    pub counter: u64,
}

impl Caller {
    /// Signs each inference with this key.
    #[must_use]
    pub fn key(pair: Ed25519KeyPair) -> Self {
        Self(Credential::Key(Box::new(pair)))
    }

    /// Sends an API key, as its file holds it: one line end after it is cut.
    ///
    /// # Errors
    /// `API_KEY_INVALID` for fewer than 32 or more than 512 characters, and for others than visible ASCII.
    pub fn api_key(file: &Zeroizing<Vec<u8>>) -> Result<Self, CustomerError> {
        let key = file.strip_suffix(b"\n").map_or(file.as_slice(), |line| line.strip_suffix(b"\r").unwrap_or(line));
        if !(MIN_API_KEY..=MAX_API_KEY).contains(&key.len()) || !key.iter().all(u8::is_ascii_graphic) {
            return Err(INVALID);
        }
        // Sized once: a buffer that grows leaves copies behind.
        let mut value = Zeroizing::new(Vec::with_capacity(SCHEME.len() + key.len()));
        value.extend_from_slice(SCHEME);
        value.extend_from_slice(key);
        let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(value)).map_err(|_| INVALID)?;
        value.set_sensitive(true);
        Ok(Self(Credential::ApiKey(value)))
    }

    fn header(&self, request: &Request<Bytes>, call: &Call<'_>) -> Option<(HeaderName, HeaderValue)> {
        let pair = match &self.0 {
            Credential::ApiKey(value) => return Some((AUTHORIZATION, value.clone())),
            Credential::Key(pair) => pair,
        };
        let bytes = caller_bytes(
            call.mode,
            call.tee,
            call.ekm,
            call.counter,
            request.method().as_str(),
            request.uri().path_and_query().map_or("/", |path| path.as_str()),
            declared_length(request.headers()),
            &sha256(request.body()),
        );
        let key = Ed25519Public(pair.public_key().as_ref().try_into().ok()?);
        let signature = pair.sign(&bytes).as_ref().try_into().ok()?;
        let header = CallerHeader { key, counter: call.counter, signature };
        // Letters, digits, hyphens, underscores and full stops only.
        let value = HeaderValue::from_str(&header.to_string()).ok()?;
        Some((CALLER_HEADER, value))
    }
}

const INVALID: CustomerError = CustomerError::usage(
    "API_KEY_INVALID",
    "the API key is not one line of 32 to 512 visible ASCII characters without spaces",
);

/// Puts the caller's header on an inference, and takes away what a client put there in its own name.
pub(crate) fn name_caller(caller: Option<&Caller>, request: &mut Request<Bytes>, call: &Call<'_>) {
    // Made for another session, or not by the key that asks here.
    request.headers_mut().remove(CALLER_HEADER);
    let Some(caller) = caller else { return };
    request.headers_mut().remove(AUTHORIZATION);
    if is_call(request)
        && let Some((name, value)) = caller.header(request, call)
    {
        request.headers_mut().insert(name, value);
    }
}

/// Only inferences are asked in somebody's name.
pub(crate) fn is_call(request: &Request<Bytes>) -> bool {
    request.method() == Method::POST && is_inference(request.uri().path())
}

/// The length of the JSON part as the request declares it, else 0. It counts decoded bytes, so a compressed body may be shorter.
/// One that is no number is the service's to refuse.
fn declared_length(headers: &HeaderMap) -> u64 {
    framed_len(headers.get(HEADER_LENGTH).and_then(|v| v.to_str().ok()).and_then(|t| t.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: Call<'static> = Call { mode: Mode::Simulation, tee: Tee::SevSnp, ekm: &[7; 32], counter: 9 };

    fn pair() -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[3; 32]).unwrap()
    }

    fn api_key(text: &[u8]) -> Result<Caller, CustomerError> {
        Caller::api_key(&Zeroizing::new(text.to_vec()))
    }

    fn named(caller: Option<&Caller>, method: Method, path: &str) -> HeaderMap {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(CALLER_HEADER, "forged")
            .header(AUTHORIZATION, "Bearer the-clients-own")
            .header(HEADER_LENGTH, "2")
            .body(Bytes::from_static(b"{}"))
            .unwrap();
        name_caller(caller, &mut request, &CALL);
        request.headers().clone()
    }

    #[test]
    fn a_signature_covers_session_counter_and_request() {
        let caller = Caller::key(pair());
        let headers = named(Some(&caller), Method::POST, "/v2/models/m/infer?x=1");
        let header: CallerHeader = headers[CALLER_HEADER].to_str().unwrap().parse().unwrap();
        assert_eq!((&header.key.0[..], header.counter), (pair().public_key().as_ref(), 9));
        let bytes = |path| caller_bytes(Mode::Simulation, Tee::SevSnp, &[7; 32], 9, "POST", path, 2, &sha256(b"{}"));
        assert!(header.verify(&bytes("/v2/models/m/infer?x=1")).is_ok());
        assert!(header.verify(&bytes("/v2/models/m/infer")).is_err());
        assert!(!headers.contains_key(AUTHORIZATION), "one name for one request");
    }

    #[test]
    fn only_inferences_carry_a_name() {
        let (key, api) = (Caller::key(pair()), api_key(&[b'k'; 43]).unwrap());
        for (method, path) in [(Method::GET, "/v2"), (Method::GET, "/v2/models/m/infer"), (Method::POST, "/v2/x")] {
            for caller in [&key, &api] {
                let headers = named(Some(caller), method.clone(), path);
                assert!(!headers.contains_key(CALLER_HEADER) && !headers.contains_key(AUTHORIZATION), "{path}");
            }
        }
    }

    #[test]
    fn without_a_name_of_its_own_the_clients_api_key_passes_and_a_signature_never() {
        let headers = named(None, Method::POST, "/v2/models/m/infer");
        assert_eq!(headers[AUTHORIZATION], "Bearer the-clients-own");
        assert!(!headers.contains_key(CALLER_HEADER));
        let headers = named(Some(&api_key(&[b'k'; 32]).unwrap()), Method::POST, "/v2/models/m/infer");
        assert_eq!(headers[AUTHORIZATION], format!("Bearer {}", "k".repeat(32)));
    }

    #[test]
    fn an_api_key_is_one_line_of_enough_characters_and_never_shown() {
        for good in ["k".repeat(32), "k".repeat(512), "k".repeat(43) + "\n", "k".repeat(43) + "\r\n"] {
            let Ok(Caller(Credential::ApiKey(value))) = api_key(good.as_bytes()) else { panic!("{good}") };
            assert_eq!(value.as_bytes(), format!("Bearer {}", good.trim_end()).as_bytes());
            assert_eq!(format!("{value:?}"), "Sensitive");
        }
        let long = "k".repeat(513);
        for bad in
            ["", "short", &long, &"k".repeat(31), &format!("{}\n\n", "k".repeat(40)), &"k k".repeat(20), "k\u{e9}"]
        {
            let error = api_key(bad.as_bytes()).err().unwrap();
            assert_eq!((error.code(), error.exit()), ("API_KEY_INVALID", 1));
            assert!(bad.is_empty() || !error.to_string().contains(bad));
        }
    }
}
