//! Turns what a request says of its caller into a role under the vendor's list.
//! It proves no caller on a session that was not attested by this enclave: signatures are over this very session.

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, header};
use vouchsafe_attestation::caller::{CALLER_HEADER, CallerHeader, caller_bytes};
use vouchsafe_attestation::lp::sha256;
use vouchsafe_policies::usage::{Role, UsagePolicy, UsageRefusal};

use super::session::Session;
use crate::device::Words;
use crate::error::EnclaveError;

const SIGNATURE: HeaderName = HeaderName::from_static(CALLER_HEADER);
const SCHEME: &str = "Bearer";

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asking {
    /// Known before the body is read.
    Known(Role),
    /// Says so: the signature is over the body too.
    Signed(CallerHeader),
}

/// What is known of a caller before the body is read. Where everybody may ask, nobody is asked who they are.
///
/// # Errors
/// `CALLER_UNKNOWN`, `CALLER_SIGNATURE` for a credential of no known form and for two of them.
pub fn who(usage: &UsagePolicy, headers: &HeaderMap) -> Result<Asking, EnclaveError> {
    if usage.is_open() {
        return Ok(Asking::Known(Role::any()));
    }
    match (one(headers, &SIGNATURE)?, one(headers, &header::AUTHORIZATION)?) {
        (None, None) => Err(UsageRefusal::CallerUnknown.into()),
        (Some(_), Some(_)) => Err(EnclaveError::CallerSignature("there are two credentials")),
        (Some(text), None) => {
            let signed = text.parse().map_err(|_| EnclaveError::CallerSignature("the header is malformed"))?;
            Ok(Asking::Signed(signed))
        }
        (None, Some(text)) => {
            let (scheme, key) = text.split_once(' ').ok_or(UsageRefusal::CallerUnknown)?;
            if !scheme.eq_ignore_ascii_case(SCHEME) {
                return Err(UsageRefusal::CallerUnknown.into());
            }
            Ok(Asking::Known(usage.authenticate_api_key(key)?))
        }
    }
}

/// One value of a header, when there is one.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, EnclaveError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    match (value.to_str(), values.next()) {
        (Ok(text), None) => Ok(Some(text)),
        _ => Err(EnclaveError::CallerSignature("there are two credentials, or one of other than visible characters")),
    }
}

impl Asking {
    /// The role, once a signature has been verified over session, request line, framing and the body as it was sent.
    ///
    /// # Errors
    /// `CALLER_SIGNATURE`, `CALLER_REPLAYED`, `CALLER_FORBIDDEN`. The list is looked at last: who holds no key learns nothing of it.
    pub fn prove(
        self,
        usage: &UsagePolicy,
        words: Words,
        session: &Session,
        parts: &Parts,
        header_len: u64,
        body: &[u8],
    ) -> Result<Role, EnclaveError> {
        let signed = match self {
            Self::Known(role) => return Ok(role),
            Self::Signed(signed) => signed,
        };
        let (mode, tee) = (words.mode, words.tee);
        let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
        let (method, body) = (parts.method.as_str(), sha256(body));
        let bytes = caller_bytes(mode, tee, &session.ekm, signed.counter, method, path, header_len, &body);
        signed.verify(&bytes).map_err(|_| EnclaveError::CallerSignature("the signature does not verify"))?;
        session.count(&signed)?;
        Ok(usage.authenticate_key(&signed.key)?)
    }
}
