//! Turns one inference on a [`Pinned`] connection into its answer and a receipt that was verified before it is handed over.
//! An answer without a receipt that holds is an error here, never an answer with a warning.

use bytes::Bytes;
use hyper::{Request, Response, StatusCode, header, header::HeaderValue};
use vouchsafe_attestation::{
    encoding::from_b64url,
    receipt::{ReceiptFile, SignedStatement, Statement, request_digest, response_digest},
};

use super::{RECEIPT_HEADER, Salt, decoded::decoded, header_length, statement_of};
use crate::{CustomerError, Pinned};

/// Statement and signature are about 1 KiB.
const MAX_HEADER: usize = 16 * 1024;

/// What came of a request with a receipt.
pub enum Receipted {
    /// An answer and its receipt.
    Answered(Box<Answer>),
    /// A refusal of the service: any status but 200. It has no receipt.
    Unanswered(Response<Bytes>),
}

/// An answer, the receipt that names the weights behind it, and the salt that is kept apart from it.
pub struct Answer {
    /// The answer.
    pub response: Response<Bytes>,
    /// The receipt, ready to be written with [`Answer::receipt_json`].
    pub receipt: ReceiptFile,
    /// What the receipt says.
    pub statement: Statement,
    /// Keep this in another place.
    pub salt: Salt,
}

impl Answer {
    /// The receipt as its file holds it.
    #[must_use]
    pub fn receipt_json(&self) -> String {
        // Strings, numbers and lists of them always serialize.
        serde_json::to_string_pretty(&self.receipt).unwrap_or_default() + "\n"
    }
}

impl Pinned {
    /// Sends one inference, demands a receipt with a fresh salt and verifies it against session and bodies. A request
    /// compressed with gzip or deflate is sent as it is; the receipt names the body before compression.
    ///
    /// # Errors
    /// As [`Pinned::send`], `RECEIPT_*`, and before anything is sent `CONTENT_ENCODING` for a body that cannot be inflated.
    pub async fn infer_with_receipt(&mut self, request: Request<Bytes>) -> Result<Receipted, CustomerError> {
        self.infer_with_salt(request, Salt::random()?).await
    }

    /// As [`Pinned::infer_with_receipt`], with the caller's salt.
    ///
    /// # Errors
    /// As [`Pinned::infer_with_receipt`].
    pub async fn infer_with_salt(
        &mut self,
        mut request: Request<Bytes>,
        salt: Salt,
    ) -> Result<Receipted, CustomerError> {
        let sent = decoded(request.headers(), request.body()).await?;
        let headers = request.headers_mut();
        headers.remove(header::ACCEPT_ENCODING);
        let text = HeaderValue::from_str(&salt.to_text())
            .map_err(|_| CustomerError::receipt("RECEIPT_SALT_INVALID", "the salt cannot be sent"))?;
        headers.insert(RECEIPT_HEADER, text);
        let model = model_of(request.uri().path()).map(str::to_owned);
        let sent_header =
            header_length(request.headers(), &sent).map_err(|fact| CustomerError::usage("INPUT_INVALID", fact))?;

        let response = self.send(request).await?;
        if response.status() != StatusCode::OK {
            return Ok(Receipted::Unanswered(response));
        }
        let receipt = signed_statement(&response)?;
        let claims = self.claims().ok_or_else(missing)?;
        let statement = statement_of(&receipt, claims, self.record())?;
        if model.as_deref() != Some(statement.model_id.as_str()) {
            return Err(super::mismatch("the statement names another model than the request"));
        }
        let got_header = header_length(response.headers(), response.body())
            .map_err(|fact| CustomerError::receipt("RECEIPT_MALFORMED", fact))?;
        if statement.request_digest != request_digest(salt.expose(), &sent, sent_header)
            || statement.response_digest != response_digest(salt.expose(), response.body(), got_header)
        {
            return Err(CustomerError::receipt(
                "RECEIPT_BODY_MISMATCH",
                "the statement speaks of other bytes than were sent and received",
            ));
        }
        let receipt = ReceiptFile { v: 1, receipt, session: self.record().clone() };
        Ok(Receipted::Answered(Box::new(Answer { response, receipt, statement, salt })))
    }
}

/// The salt that a client of the proxy chose itself.
pub(crate) fn salt_of(request: &Request<Bytes>) -> Option<Result<Salt, CustomerError>> {
    let text = request.headers().get(RECEIPT_HEADER)?;
    Some(Salt::from_text(text.to_str().unwrap_or_default()))
}

fn signed_statement(response: &Response<Bytes>) -> Result<SignedStatement, CustomerError> {
    let value = response.headers().get(RECEIPT_HEADER).ok_or_else(missing)?;
    let malformed = || CustomerError::receipt("RECEIPT_MALFORMED", "the answer's receipt is not of the expected form");
    let text = value.to_str().ok().filter(|t| t.len() <= MAX_HEADER).ok_or_else(malformed)?;
    let json = from_b64url(text, "the receipt").map_err(|_| malformed())?;
    serde_json::from_slice(&json).map_err(|_| malformed())
}

const fn missing() -> CustomerError {
    CustomerError::receipt("RECEIPT_MISSING", "a receipt was asked for and the answer has none")
}

/// The model in `/v2/models/{model}/infer` or `/v2/models/{model}/versions/{version}/infer`.
pub(crate) fn model_of(path: &str) -> Option<&str> {
    let mut parts = path.strip_prefix("/v2/models/")?.split('/');
    let model = parts.next()?;
    match (parts.next()?, parts.next(), parts.next(), parts.next()) {
        ("infer", None, None, None) | ("versions", Some(_), Some("infer"), None) => Some(model),
        _ => None,
    }
}

/// Whether a path is an inference, which is what a receipt can be had for.
pub(crate) fn is_inference(path: &str) -> bool {
    model_of(path).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_is_read_from_both_forms_of_the_path() {
        assert_eq!(model_of("/v2/models/m/infer"), Some("m"));
        assert_eq!(model_of("/v2/models/m/versions/3/infer"), Some("m"));
        for other in ["/v2", "/v2/models/m", "/v2/models/m/ready", "/v2/models/m/infer/x", "/v2/models/m/versions/3"] {
            assert!(!is_inference(other), "{other}");
        }
    }
}
