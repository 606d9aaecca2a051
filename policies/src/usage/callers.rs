//! Turns the field `callers`, and who a caller proved to be, into a role.
//! It does not verify a signature: the server does, before it asks here.

use core::{fmt, hint::black_box, str::FromStr};
use std::{collections::BTreeSet, sync::Arc};

use serde::Deserialize;
use vouchsafe_attestation::{Ed25519Public, encoding, lp::sha256};

use super::{UsageError, UsagePolicy, UsageRefusal};
use crate::Listed;

const MAX_CALLERS: usize = 1024;
const MAX_ROLE: usize = 32;
/// The word that stands for every role; no role can have this name.
pub(super) const ANY: &str = "any";
/// An API key has at least this many characters, and no more than that: a shorter one could be guessed.
const API_KEY: core::ops::RangeInclusive<usize> = 32..=512;
const KEY: &str = "ed25519";
const API: &str = "sha256";

/// Who may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Callers {
    /// Written as `"any"`: whoever reaches the enclave.
    Any,
    /// Exactly these, in the order of the file.
    Listed(Vec<Caller>),
}

/// One who may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// How this caller is known.
    pub credential: Credential,
    /// Whose quotas count.
    pub role: Role,
}

/// How a caller is known; neither form is a secret. `Display` writes what a usage policy holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Credential {
    /// By signatures of this key: `ed25519:` and 43 characters of base64url, or 64 hex digits.
    Key(Ed25519Public),
    /// By an API key with this SHA-256: `sha256:` and 64 hex digits.
    ApiKey([u8; 32]),
}

/// What a caller counts as: a name of the vendor's, or [`Role::any`] where the policy lists no callers. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Role(Option<Arc<str>>);

impl Role {
    /// The role of everybody.
    #[must_use]
    pub const fn any() -> Self {
        Self(None)
    }

    /// Its name; `any` for that of everybody.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or(ANY)
    }

    /// Whether it is the role of everybody.
    #[must_use]
    pub const fn is_any(&self) -> bool {
        self.0.is_none()
    }

    pub(super) fn named(name: &str) -> Result<Self, UsageError> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        if name.is_empty() || name.len() > MAX_ROLE || !name.bytes().all(plain) || name == ANY {
            return Err(UsageError::Invalid("a `role` is not 1 to 32 characters of a-z 0-9 - _, or is `any`"));
        }
        Ok(Self(Some(name.into())))
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Credential {
    /// What a policy holds for this API key.
    ///
    /// # Errors
    /// `USAGE_POLICY_INVALID` for a key that is not 32 to 512 visible ASCII characters: no such key is ever accepted.
    pub fn of_api_key(key: &str) -> Result<Self, UsageError> {
        if is_api_key(key) {
            Ok(Self::ApiKey(sha256(key.as_bytes())))
        } else {
            Err(UsageError::Invalid("an API key is not 32 to 512 visible ASCII characters"))
        }
    }
}

impl FromStr for Credential {
    type Err = UsageError;

    /// # Errors
    /// `USAGE_POLICY_INVALID`; `USAGE_POLICY_UNSUPPORTED` for a kind of key that this release does not know.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: UsageError = UsageError::Invalid(
            "a caller's `key` is neither `ed25519:` and 43 base64url characters or 64 hex digits, nor `sha256:` and 64 hex digits",
        );
        let (kind, digits) = text.split_once(':').ok_or(WRONG)?;
        match kind {
            KEY if digits.len() == 64 => encoding::from_hex(digits, "key").map(|key| Self::Key(Ed25519Public(key))),
            KEY => encoding::from_b64url(digits, "key").and_then(|bytes| {
                let key = bytes.try_into().map_err(|_| encoding::EncodingError::Bytes("key"))?;
                Ok(Self::Key(Ed25519Public(key)))
            }),
            API => encoding::from_hex(digits, "key").map(Self::ApiKey),
            _ => return Err(UsageError::Unsupported("callers.key")),
        }
        .map_err(|_| WRONG)
    }
}

impl fmt::Display for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => write!(f, "{KEY}:{}", encoding::b64url(&key.0)),
            Self::ApiKey(digest) => write!(f, "{API}:{}", hex::encode(digest)),
        }
    }
}

impl UsagePolicy {
    /// Whether everybody may ask, so that nobody needs to say who they are.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self.callers, Callers::Any)
    }

    /// Who may ask.
    #[must_use]
    pub const fn callers(&self) -> &Callers {
        &self.callers
    }

    /// The role of the holder of `key`. Ask only after a signature under it was verified: who holds no key does not learn
    /// which ones are listed.
    ///
    /// # Errors
    /// `CALLER_FORBIDDEN` for a key that is not listed.
    pub fn authenticate_key(&self, key: &Ed25519Public) -> Result<Role, UsageRefusal> {
        let Callers::Listed(callers) = &self.callers else { return Ok(Role::any()) };
        let known = callers.iter().find(|caller| caller.credential == Credential::Key(*key));
        known.map(|caller| caller.role.clone()).ok_or(UsageRefusal::CallerForbidden)
    }

    /// The role of the holder of an API key. Its digest is compared with every listed one, each to its end, so that the time
    /// taken tells nothing of how near it came.
    ///
    /// # Errors
    /// `CALLER_UNKNOWN` for a key that is not listed, or that is not 32 to 512 visible ASCII characters.
    pub fn authenticate_api_key(&self, key: &str) -> Result<Role, UsageRefusal> {
        let Callers::Listed(callers) = &self.callers else { return Ok(Role::any()) };
        if !is_api_key(key) {
            return Err(UsageRefusal::CallerUnknown);
        }
        let digest = sha256(key.as_bytes());
        let mut found = usize::MAX;
        for (at, caller) in callers.iter().enumerate() {
            if let Credential::ApiKey(listed) = &caller.credential {
                // All ones where they are the same, all zeros where not.
                let same = usize::from(black_box(difference(listed, &digest)) == 0).wrapping_neg();
                found = (found & !same) | (at & same);
            }
        }
        callers.get(found).map(|caller| caller.role.clone()).ok_or(UsageRefusal::CallerUnknown)
    }
}

fn is_api_key(key: &str) -> bool {
    API_KEY.contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic())
}

/// Every bit in which the two differ, whatever the place: no comparison ends early.
fn difference(one: &[u8; 32], other: &[u8; 32]) -> u8 {
    one.iter().zip(other).fold(0, |all, (a, b)| black_box(all | (a ^ b)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCaller {
    key: String,
    role: String,
}

pub(super) fn read(raw: Listed<RawCaller>) -> Result<Callers, UsageError> {
    let Listed::Only(list) = raw else { return Ok(Callers::Any) };
    if list.is_empty() || list.len() > MAX_CALLERS {
        return Err(UsageError::Invalid("`callers` does not hold 1 to 1024 entries"));
    }
    let mut seen = BTreeSet::new();
    let mut callers = Vec::with_capacity(list.len());
    for raw in list {
        let caller = Caller { credential: raw.key.parse()?, role: Role::named(&raw.role)? };
        if !seen.insert(caller.credential) {
            return Err(UsageError::Invalid("`callers` names one key twice"));
        }
        callers.push(caller);
    }
    Ok(Callers::Listed(callers))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: Ed25519Public = Ed25519Public([1; 32]);
    const BOB: Ed25519Public = Ed25519Public([2; 32]);
    const API_KEY: &str = "0123456789abcdef0123456789ABCDEF";

    fn policy(callers: &str) -> Result<UsagePolicy, UsageError> {
        let text = UsagePolicy::template("m", &[]);
        assert!(text.contains(r#""callers": "any""#));
        UsagePolicy::parse(text.replace(r#""callers": "any""#, &format!(r#""callers": {callers}"#)).as_bytes())
    }

    fn entry(key: impl fmt::Display, role: &str) -> String {
        format!(r#"{{"key":"{key}","role":"{role}"}}"#)
    }

    #[test]
    fn a_listed_key_has_its_role_and_no_other_has_any() {
        let api = Credential::of_api_key(API_KEY).unwrap();
        let other = Credential::of_api_key(&API_KEY.replace('0', "1")).unwrap();
        let list = [entry(Credential::Key(ALICE), "ward"), entry(other, "lab"), entry(api, "research_2")].join(",");
        let policy = policy(&format!("[{list}]")).unwrap();
        assert!(!policy.is_open());
        assert_eq!(policy.authenticate_key(&ALICE).unwrap().as_str(), "ward");
        assert_eq!(policy.authenticate_api_key(API_KEY).unwrap().as_str(), "research_2");
        let forbidden = policy.authenticate_key(&BOB).unwrap_err();
        assert_eq!((forbidden.code(), forbidden.status(), forbidden.exit()), ("CALLER_FORBIDDEN", 403, 4));
        for wrong in [&API_KEY[1..], &format!("{API_KEY}0"), &API_KEY.to_uppercase(), "", &"0".repeat(600)] {
            let unknown = policy.authenticate_api_key(wrong).unwrap_err();
            assert_eq!((unknown.code(), unknown.status()), ("CALLER_UNKNOWN", 401), "{wrong}");
        }
        // The digest of a key is no key, and the bytes of a public key are no API key.
        assert!(policy.authenticate_api_key(&hex::encode(sha256(API_KEY.as_bytes()))).is_err());
        assert!(policy.authenticate_api_key(&hex::encode(ALICE.0)).is_err());
    }

    #[test]
    fn every_bit_of_a_digest_is_compared() {
        let digest = sha256(API_KEY.as_bytes());
        assert_eq!(difference(&digest, &digest), 0);
        for bit in 0..256 {
            let mut other = digest;
            other[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(difference(&digest, &other), 0, "{bit}");
        }
    }

    #[test]
    fn a_short_key_is_never_accepted_even_when_its_digest_is_listed() {
        let listed = entry(Credential::ApiKey(sha256(b"secret")), "r");
        let policy = policy(&format!("[{listed}]")).unwrap();
        assert_eq!(policy.authenticate_api_key("secret").unwrap_err().code(), "CALLER_UNKNOWN");
        assert!(Credential::of_api_key("secret").is_err() && Credential::of_api_key(&" ".repeat(40)).is_err());
    }

    #[test]
    fn where_anybody_may_ask_everybody_has_the_same_role() {
        let policy = policy(r#""any""#).unwrap();
        assert!(policy.is_open() && policy.callers() == &Callers::Any);
        assert_eq!(policy.authenticate_key(&BOB), Ok(Role::any()));
        assert_eq!(policy.authenticate_api_key("x"), Ok(Role::any()));
    }

    #[test]
    fn a_key_has_two_forms_and_one_meaning() {
        let key = Credential::Key(ALICE);
        assert_eq!(key.to_string().parse(), Ok(key));
        assert_eq!(ALICE.to_string().parse(), Ok(key), "the form of every other list of keys");
        let api = Credential::of_api_key(API_KEY).unwrap();
        assert_eq!(api.to_string().parse(), Ok(api));
        let twice = format!("[{},{}]", entry(key, "a"), entry(ALICE, "b"));
        assert_eq!(policy(&twice).unwrap_err().code(), "USAGE_POLICY_INVALID");
    }

    #[test]
    fn what_is_broken_is_invalid_and_other_kinds_of_key_are_unsupported() {
        let good = Credential::Key(ALICE).to_string();
        assert!(policy(&format!("[{}]", entry(&good, &"r".repeat(32)))).is_ok());
        let long = "r".repeat(33);
        for role in ["", "any", "Ward", "a b", "ä", &long] {
            assert_eq!(
                policy(&format!("[{}]", entry(&good, role))).unwrap_err().code(),
                "USAGE_POLICY_INVALID",
                "{role}"
            );
        }
        let padded = format!("{good}=");
        let upper = format!("sha256:{}", "AB".repeat(32));
        for key in ["k", "ed25519:", "sha256:00", &good[..good.len() - 1], &padded, &upper, "ed25519:%%"] {
            assert_eq!(policy(&format!("[{}]", entry(key, "r"))).unwrap_err().code(), "USAGE_POLICY_INVALID", "{key}");
        }
        for key in ["x509:00", "spiffe:a", ":"] {
            let error = policy(&format!("[{}]", entry(key, "r"))).unwrap_err();
            assert_eq!(error, UsageError::Unsupported("callers.key"), "{key}");
        }
        for list in ["[]", "[1]", r#"[{"key":"k"}]"#, "null", r#""all""#] {
            assert_eq!(policy(list).unwrap_err().code(), "USAGE_POLICY_INVALID", "{list}");
        }
    }

    #[test]
    fn a_thousand_and_twenty_four_callers_fit_and_no_more() {
        let list = |n: usize| {
            let entries: Vec<_> =
                (0..n).map(|i| entry(Credential::ApiKey(sha256(&i.to_be_bytes())), &"r".repeat(32))).collect();
            format!("[{}]", entries.join(",\n  "))
        };
        assert!(policy(&list(1024)).is_ok());
        assert_eq!(policy(&list(1025)).unwrap_err().code(), "USAGE_POLICY_INVALID");
    }
}
