//! Turns requests into answers on a connection whose peer has proved itself under a policy: only [`Pinned`] can send.
//! It says nothing about the answers: those are the model's, and a receipt can name it.

use std::sync::Arc;

use bytes::Bytes;
use hyper::{Method, Request, Response, header};
use serde_json::Value;
use vouchsafe_attestation::{Claims, LeafCache, UnixTime, claims::model_id, receipt::SessionRecord};
use vouchsafe_policies::{Appraised, Policy};

use crate::{
    Caller, ConnectOptions, CustomerError, InferInput,
    attest::{Attested, attest},
    caller::{Call, is_call, name_caller},
    channel::ChannelFacts,
    line::Line,
    peer::{asks_to_reattest, json_answer},
    receipt::model_of,
};

/// A live TLS connection, its peer's appraised evidence, and the right to send on it. It never connects again:
/// a lost connection is lost, and the next one proves itself anew.
#[must_use]
pub struct Pinned {
    address: String,
    line: Line,
    channel: ChannelFacts,
    attested: Attested,
    policy: Arc<Policy>,
    options: ConnectOptions,
    cache: Arc<LeafCache>,
    caller: Option<Arc<Caller>>,
    /// Inferences so far in the caller's name.
    calls: u64,
}

impl Pinned {
    pub(crate) fn new(
        address: &str,
        line: Line,
        channel: ChannelFacts,
        attested: Attested,
        policy: Arc<Policy>,
        options: ConnectOptions,
        cache: Arc<LeafCache>,
    ) -> Self {
        let address = address.to_owned();
        Self { address, line, channel, attested, policy, options, cache, caller: None, calls: 0 }
    }

    /// The same connection; every inference on it is sent in this caller's name. With a caller, `Authorization` of requests
    /// is dropped; `Vouchsafe-Caller` of requests always is, since only the connection can make one that holds.
    pub fn with_caller(mut self, caller: Option<Arc<Caller>>) -> Self {
        self.caller = caller;
        self
    }

    /// Sends one request and returns its whole answer. Evidence older than the policy allows is renewed first, on this
    /// connection; when the service answers `REATTEST`, evidence is renewed and the request is sent once more.
    ///
    /// # Errors
    /// `MODEL_NOT_CLAIMED` before anything is sent; `PEER_*`, `REATTEST` when the second answer asks again, and every
    /// code of verification and appraisal. After any other error than `MODEL_NOT_CLAIMED` the connection is closed.
    pub async fn send(&mut self, request: Request<Bytes>) -> Result<Response<Bytes>, CustomerError> {
        if self.evidence_age_s() > self.policy.max_evidence_age_s() {
            self.reattest().await?;
        }
        let again = copy(&request);
        let answer = self.exchange(request).await?;
        if !asks_to_reattest(&answer) {
            return Ok(answer);
        }
        self.reattest().await?;
        let answer = self.exchange(again).await?;
        if asks_to_reattest(&answer) {
            self.line.close();
            let status = answer.status().as_u16();
            return Err(CustomerError::Peer { code: "REATTEST", status, retry_after_s: None });
        }
        Ok(answer)
    }

    /// Sends one request under the verdict in force and returns the answer as it is, a `REATTEST` too.
    ///
    /// # Errors
    /// `PEER_*`.
    pub async fn send_once(&mut self, request: Request<Bytes>) -> Result<Response<Bytes>, CustomerError> {
        self.exchange(request).await
    }

    /// Fetches fresh evidence on the live connection, verifies and appraises it. A failure closes the connection.
    ///
    /// # Errors
    /// As [`crate::connect`].
    pub async fn reattest(&mut self) -> Result<&Appraised, CustomerError> {
        match attest(&mut self.line, &self.channel, &self.policy, &self.options, &self.cache).await {
            Ok(attested) => {
                self.attested = attested;
                Ok(&self.attested.appraised)
            }
            Err(error) => {
                self.line.close();
                Err(error)
            }
        }
    }

    /// `GET` of a path, its JSON answer.
    ///
    /// # Errors
    /// As [`Pinned::send`]; `PEER_STATUS` or the service's code for any status but 200; `PEER_PROTOCOL` for other than JSON.
    pub async fn get_json(&mut self, path: &str) -> Result<Value, CustomerError> {
        let answer = self.send(request(Method::GET, path, Bytes::new())?).await?;
        json_answer(&answer)
    }

    /// What the service says of a model's inputs and outputs.
    ///
    /// # Errors
    /// As [`Pinned::get_json`]; `INPUT_INVALID` for a name no model can have.
    pub async fn metadata(&mut self, model: &str) -> Result<Value, CustomerError> {
        model_id(model).map_err(|_| BAD_MODEL)?;
        self.get_json(&format!("/v2/models/{model}")).await
    }

    /// The request of one inference; asks the service for the tensor's name when the input is given as rows.
    ///
    /// # Errors
    /// As [`Pinned::metadata`], and `INPUT_INVALID`.
    pub async fn infer_request(&mut self, model: &str, input: &InferInput) -> Result<Request<Bytes>, CustomerError> {
        model_id(model).map_err(|_| BAD_MODEL)?;
        let body = match input {
            InferInput::Tensors(value) => Bytes::from(value.to_string()),
            InferInput::Rows(_) => input.body(&self.metadata(model).await?)?,
        };
        request(Method::POST, &format!("/v2/models/{model}/infer"), body)
    }

    /// One inference, its JSON answer.
    ///
    /// # Errors
    /// As [`Pinned::infer_request`] and [`Pinned::get_json`].
    pub async fn infer(&mut self, model: &str, input: &InferInput) -> Result<Value, CustomerError> {
        let request = self.infer_request(model, input).await?;
        let answer = self.send(request).await?;
        json_answer(&answer)
    }

    /// The verdict in force.
    pub const fn appraised(&self) -> &Appraised {
        &self.attested.appraised
    }

    /// What the enclave says of itself, bound by the evidence.
    #[must_use]
    pub fn claims(&self) -> Option<&Claims> {
        self.attested.appraised.claims()
    }

    /// The session as a receipt keeps it.
    #[must_use]
    pub const fn record(&self) -> &SessionRecord {
        &self.attested.record
    }

    /// When the evidence in force was asked for, by the local clock.
    #[must_use]
    pub const fn attested_at(&self) -> UnixTime {
        self.attested.at
    }

    /// Seconds since then.
    #[must_use]
    pub fn evidence_age_s(&self) -> u64 {
        self.attested.age_s()
    }

    /// The address that was connected to.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The negotiated key-exchange group: `X25519MLKEM768` or `X25519`.
    #[must_use]
    pub const fn tls_group(&self) -> &'static str {
        self.channel.tls_group
    }

    /// SHA-256 of the peer's TLS key.
    #[must_use]
    pub const fn spki_sha256(&self) -> &[u8; 32] {
        &self.channel.spki_sha256
    }

    /// The policy that judged, and judges every renewal.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// False once the connection is gone. True is no promise: the peer can close at any time.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.line.is_open()
    }

    /// Data goes only to a model that the evidence in force names: after a renewal it may be another list.
    async fn exchange(&mut self, mut request: Request<Bytes>) -> Result<Response<Bytes>, CustomerError> {
        if let Some(model) = model_of(request.uri().path())
            && self.claims().and_then(|claims| claims.model(model)).is_none()
        {
            return Err(NOT_CLAIMED);
        }
        // Counted for each time that it is sent: a request that goes again after a renewal is signed again.
        self.calls += u64::from(is_call(&request));
        let Attested { appraised, record, .. } = &self.attested;
        let call = Call { mode: appraised.mode(), tee: record.tee, ekm: &self.channel.ekm, counter: self.calls };
        name_caller(self.caller.as_deref(), &mut request, &call);
        self.line.exchange(request, "request", self.options.request_timeout, self.options.max_response_bytes).await
    }
}

const NOT_CLAIMED: CustomerError =
    CustomerError::usage("MODEL_NOT_CLAIMED", "the evidence does not name this model, so no data was sent to it");
const BAD_MODEL: CustomerError = CustomerError::usage("INPUT_INVALID", "this is not a name that a model can have");

fn request(method: Method, path: &str, body: Bytes) -> Result<Request<Bytes>, CustomerError> {
    let mut builder = Request::builder().method(&method).uri(path);
    if method == Method::POST {
        builder = builder.header(header::CONTENT_TYPE, "application/json");
    }
    builder
        .body(body)
        .map_err(|_| CustomerError::usage("PATH_REFUSED", "the path of a request cannot be written as a URI"))
}

/// The same request; its body is shared, not copied.
fn copy(request: &Request<Bytes>) -> Request<Bytes> {
    let mut copy = Request::new(request.body().clone());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}
