//! Turns an answer of the service into its JSON, or its refusal into a code that this release knows, with advice.
//! It never repeats a text of the peer's: an unknown code is `PEER_STATUS`.

use bytes::Bytes;
use hyper::{HeaderMap, Response, StatusCode, header};
use serde::Deserialize;
use serde_json::Value;

use crate::{CustomerError, receipt::header_length};

/// A wait longer than a day is not repeated: nobody waits for it, and no quota is longer.
const MAX_RETRY_AFTER_S: u32 = 86_400;

/// A 200 with JSON, or the service's refusal. Of a binary answer it is the JSON part.
///
/// # Errors
/// `PEER_PROTOCOL` for other than JSON; `PEER_STATUS` or the service's code for any status but 200.
pub fn json_answer(answer: &Response<Bytes>) -> Result<Value, CustomerError> {
    if answer.status() != StatusCode::OK {
        return Err(peer_refusal(answer));
    }
    let body = answer.body();
    let json = match binary_header(answer)? {
        0 => Some(&body[..]),
        n => usize::try_from(n).ok().and_then(|n| body.get(..n)),
    };
    json.and_then(|json| serde_json::from_slice(json).ok())
        .ok_or(CustomerError::wire("PEER_PROTOCOL", "the answer is not JSON"))
}

/// The length of the JSON part of a binary answer, 0 for plain JSON.
///
/// # Errors
/// `PEER_PROTOCOL` for a length that is none within the body.
pub fn binary_header(answer: &Response<Bytes>) -> Result<u64, CustomerError> {
    header_length(answer.headers(), answer.body()).map_err(|fact| CustomerError::wire("PEER_PROTOCOL", fact))
}

/// The refusal of the service: its code when it is one that this release knows.
pub(crate) fn peer_refusal(answer: &Response<Bytes>) -> CustomerError {
    let said = peer_code(answer.body());
    let code = KNOWN_PEER_CODES.iter().find(|known| said.as_deref() == Some(known)).copied().unwrap_or("PEER_STATUS");
    CustomerError::Peer { code, status: answer.status().as_u16(), retry_after_s: retry_after(answer.headers()) }
}

/// Whether the session must fetch evidence again before anything else is answered.
pub(crate) fn asks_to_reattest(answer: &Response<Bytes>) -> bool {
    answer.status() == StatusCode::CONFLICT && peer_code(answer.body()).as_deref() == Some("REATTEST")
}

/// Codes that a service may answer with and that are repeated here; every other one is `PEER_STATUS`, never quoted.
const KNOWN_PEER_CODES: [&str; 49] = [
    "ANSWER_TOO_LARGE",
    "ATTEST_ACCEPT",
    "ATTEST_FIRST",
    "BATCH_TOO_LARGE",
    "BODY_INCOMPLETE",
    "BODY_TOO_LARGE",
    "BUSY",
    "CALLER_FORBIDDEN",
    "CALLER_REPLAYED",
    "CALLER_SIGNATURE",
    "CALLER_UNKNOWN",
    "CONTENT_DAMAGED",
    "CONTENT_ENCODING",
    "ENGINE_FAILED",
    "EVIDENCE_DEVICE",
    "HEADER_INVALID",
    "HEAD_TOO_LARGE",
    "INPUT_DATA",
    "INPUT_DTYPE",
    "INPUT_MISSING",
    "INPUT_NOT_FINITE",
    "INPUT_RANGE",
    "INPUT_REPEATED",
    "INPUT_SHAPE",
    "INPUT_TOO_LARGE",
    "INPUT_UNKNOWN",
    "JSON_INVALID",
    "LEASE_LAPSED",
    "METHOD_UNSUPPORTED",
    "MODEL_UNKNOWN",
    "OUTPUT_FORBIDDEN",
    "OUTPUT_MISMATCH",
    "OUTPUT_NOT_FINITE",
    "OUTPUT_NOT_TEXT",
    "OUTPUT_UNKNOWN",
    "PARAMETER_UNSUPPORTED",
    "QUOTA_EXCEEDED",
    "QUOTA_NOT_COVERED",
    "REATTEST",
    "RECEIPT_SALT",
    "REQUEST_TIMEOUT",
    "ROUTE_UNKNOWN",
    "RUNNER_DIED",
    "RUNNER_PROTOCOL",
    "RUNNER_WALLS",
    "RUN_TIMEOUT",
    "SYSTEM",
    "USAGE_EXPIRED",
    "USAGE_POLICY_UNSUPPORTED",
];

/// What to do about a refusal of the service.
pub(crate) fn advice(code: &str) -> &'static str {
    match code {
        "REATTEST" => "The service is changing its model; try again in a moment.",
        "LEASE_LAPSED" => "The vendor's lease has ended; the operator must renew it.",
        "MODEL_UNKNOWN" => "`vouchsafe verify` prints which models it serves.",
        "CALLER_UNKNOWN" => {
            "This model is for callers that the vendor lists: name your key with --caller-key or --api-key-file. An API key must be \
             one of the list: send the vendor the line that `vouchsafe keys` printed for it."
        }
        "CALLER_FORBIDDEN" => {
            "The vendor's usage policy does not list this key: send the vendor the line that `vouchsafe keys` printed for it."
        }
        "CALLER_SIGNATURE" | "CALLER_REPLAYED" => {
            "Use a program of the enclave's release, and one key for one request; if it stays, tell the operator."
        }
        "QUOTA_EXCEEDED" => {
            "The vendor's quota for your role is used up. Ask again when the time named has passed, or ask the vendor for more."
        }
        "QUOTA_NOT_COVERED" => "The vendor's lease does not fit the quotas of the usage policy; tell the vendor.",
        "BUSY" => "Too many requests wait for this model; ask again in a moment.",
        "RUNNER_DIED" => "The model's process ended and is started again; ask again in a moment.",
        "RUN_TIMEOUT" | "ANSWER_TOO_LARGE" | "INPUT_TOO_LARGE" | "BODY_TOO_LARGE" | "REQUEST_TIMEOUT" => {
            "Send fewer rows at a time."
        }
        "OUTPUT_NOT_FINITE" | "OUTPUT_NOT_TEXT" => "Ask for this output as binary data: JSON cannot hold its values.",
        "CONTENT_DAMAGED" | "CONTENT_ENCODING" => "Compress with gzip or with deflate (zlib), or not at all.",
        "OUTPUT_FORBIDDEN" => "Ask only for outputs that the vendor's usage policy gives away, or name none.",
        "INPUT_UNKNOWN" | "INPUT_MISSING" | "INPUT_REPEATED" | "INPUT_DTYPE" | "INPUT_SHAPE" | "INPUT_NOT_FINITE"
        | "INPUT_RANGE" | "BATCH_TOO_LARGE" => {
            "Compare the request with the model's inputs: the service describes them under /v2/models/MODEL."
        }
        "PEER_STATUS" => "Does a Vouchsafe enclave answer at this address, or a broker or another service?",
        _ => "The service refused; its operator can tell why.",
    }
}

/// A refusal of the request itself is the caller's (1) or the usage policy's (4); any other is the peer's (8).
pub(crate) fn exit(code: &str, status: u16) -> u8 {
    match (code, status) {
        ("PEER_STATUS" | "REATTEST" | "ATTEST_ACCEPT" | "ATTEST_FIRST" | "REQUEST_TIMEOUT", _) => 8,
        ("OUTPUT_FORBIDDEN", _) => 4,
        (code, _) if ["USAGE_", "CALLER_", "QUOTA_"].iter().any(|rule| code.starts_with(rule)) => 4,
        (_, 400..=499) => 1,
        _ => 8,
    }
}

/// The seconds form of Retry-After (RFC 9110 section 10.2.3); a date is not repeated.
fn retry_after(headers: &HeaderMap) -> Option<u32> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|s| digits && *s <= MAX_RETRY_AFTER_S)
}

fn peer_code(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct ErrorBody {
        code: String,
    }
    (body.len() <= 16 * 1024).then(|| serde_json::from_slice::<ErrorBody>(body).ok())?.map(|b| b.code)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(status: u16, retry: &str, body: impl Into<Bytes>) -> Response<Bytes> {
        let mut answer = Response::new(body.into());
        *answer.status_mut() = status.try_into().unwrap();
        answer.headers_mut().insert(header::RETRY_AFTER, retry.parse().unwrap());
        answer
    }

    #[test]
    fn refusals_of_callers_have_codes_waits_and_exits() {
        for (status, code, exit) in [
            (401, "CALLER_UNKNOWN", 4),
            (401, "CALLER_SIGNATURE", 4),
            (401, "CALLER_REPLAYED", 4),
            (403, "CALLER_FORBIDDEN", 4),
            (403, "OUTPUT_FORBIDDEN", 4),
            (429, "QUOTA_EXCEEDED", 4),
            (503, "BUSY", 8),
            (503, "RUNNER_DIED", 8),
            (400, "INPUT_RANGE", 1),
        ] {
            let error = peer_refusal(&answer(status, "17", json!({"error": "x", "code": code}).to_string()));
            assert_eq!((error.code(), error.exit()), (code, exit));
            assert!(error.to_string().contains(code) && error.to_string().contains("in 17 s"), "{error}");
            assert_ne!(error.advice(), advice("an unknown one"), "{code}");
        }
    }

    #[test]
    fn a_wait_is_a_plain_number_of_seconds_up_to_a_day() {
        for (text, expected) in [("0", Some(0)), ("86400", Some(86_400))] {
            assert_eq!(retry_after(answer(429, text, "").headers()), expected, "{text}");
        }
        for text in ["", "+1", "-1", "1.5", "86401", "99999999999999999999", "Wed, 21 Oct 2026 07:28:00 GMT"] {
            assert_eq!(retry_after(answer(429, text, "").headers()), None, "{text}");
        }
    }

    #[test]
    fn unknown_codes_are_never_quoted_and_the_table_is_sorted() {
        let error = peer_refusal(&answer(418, "x", r#"{"code":"EVIL_WORDS"}"#));
        assert_eq!((error.code(), error.to_string().contains("EVIL")), ("PEER_STATUS", false));
        assert!(KNOWN_PEER_CODES.is_sorted());
    }

    #[test]
    fn the_json_part_of_a_binary_answer_is_read() {
        let mut binary = answer(200, "1", &b"{\"a\":1}\xff\x00"[..]);
        binary.headers_mut().insert(crate::receipt::HEADER_LENGTH, "7".parse().unwrap());
        assert_eq!(json_answer(&binary).unwrap(), json!({"a": 1}));
        assert_eq!(binary_header(&binary).unwrap(), 7);
        for bad in ["6", "8", "10", "x"] {
            binary.headers_mut().insert(crate::receipt::HEADER_LENGTH, bad.parse().unwrap());
            assert_eq!(json_answer(&binary).unwrap_err().code(), "PEER_PROTOCOL", "{bad}");
        }
    }
}
