//! Turns a local request into an answer of the proved service, or into a problem that says why there is none.
//! It changes neither body nor path; it does not look at the data.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{
    Request, Response, StatusCode,
    body::{Body as _, Incoming},
    header::{HeaderName, HeaderValue},
};

use super::{
    door::{Door, Turned},
    journal::Journal,
    lanes::{Lane, Lanes},
    problem::{problem, turned},
};
use crate::{
    CustomerError, Receipted, Salt,
    line::strip_hop_by_hop,
    receipt::{is_inference, salt_of},
};

const MODE: HeaderName = HeaderName::from_static("vouchsafe-mode");
const RECEIPT_NAME: HeaderName = HeaderName::from_static("vouchsafe-receipt-name");

pub(super) struct Forwarder {
    pub door: Door,
    pub lanes: Lanes,
    pub journal: Journal,
    pub max_body: usize,
    pub body_timeout: Duration,
}

impl Forwarder {
    /// Always an answer: the service's, the door's, or a problem.
    pub async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let mode = self.lanes.mode();
        let mut response = match self.admitted(request).await {
            Err(refusal) => turned(&refusal, mode),
            Ok(request) => match self.through(request).await {
                Ok(answer) => answer.map(Full::new),
                Err(error) => problem(&error, mode),
            },
        };
        response.headers_mut().insert(MODE, HeaderValue::from_static(mode));
        response
    }

    async fn admitted(&self, request: Request<Incoming>) -> Result<Request<Bytes>, Turned> {
        self.door.admit(request.uri(), request.headers())?;
        let too_large = || Turned {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            code: "BODY_TOO_LARGE",
            fact: "the body is larger than this proxy forwards",
            advice: "Send fewer rows at a time.",
        };
        let (mut head, body) = request.into_parts();
        // Before anything is signed or salted: what is meant for this hop alone changes nothing afterwards.
        strip_hop_by_hop(&mut head.headers);
        // A declared length is refused before the first byte of it is read.
        if body.size_hint().lower() > self.max_body as u64 {
            return Err(too_large());
        }
        let read = tokio::time::timeout(self.body_timeout, Limited::new(body, self.max_body).collect()).await;
        match read {
            Ok(Ok(body)) => Ok(Request::from_parts(head, body.to_bytes())),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
            Ok(Err(_)) => Err(Turned {
                status: StatusCode::BAD_REQUEST,
                code: "BODY_INCOMPLETE",
                fact: "the body ended before its declared length",
                advice: "Send the whole body.",
            }),
            Err(_) => Err(Turned {
                status: StatusCode::REQUEST_TIMEOUT,
                code: "BODY_TIMEOUT",
                fact: "the body did not arrive in time",
                advice: "Send the body without pauses.",
            }),
        }
    }

    /// Sends on a proved connection. When a connection that stood idle turns out to be lost, the request goes once more,
    /// on a new one that has proved itself: an inference changes nothing, so asking twice is the same as asking once (a
    /// quota may count both).
    async fn through(&self, request: Request<Bytes>) -> Result<Response<Bytes>, CustomerError> {
        let mut lane = self.lanes.take(&self.journal).await?;
        let first = self.once(&mut lane, again(&request)).await;
        let outcome = match first {
            Err(CustomerError::Wire { code: "PEER_CLOSED", .. }) if lane.reused => {
                lane = self.lanes.renew(lane, &self.journal).await?;
                self.once(&mut lane, request).await
            }
            other => other,
        };
        // A request that is refused here, before anything of it is sent, costs no connection.
        if matches!(outcome, Ok(_) | Err(CustomerError::Usage { .. })) {
            self.lanes.give_back(lane);
        }
        outcome
    }

    async fn once(&self, lane: &mut Lane, request: Request<Bytes>) -> Result<Response<Bytes>, CustomerError> {
        let nonce = lane.pinned.record().nonce;
        let outcome = self.exchange(lane, request).await;
        // Evidence was renewed on the way, or its renewal was refused: both are verdicts.
        if lane.pinned.record().nonce != nonce {
            self.journal.verdict(&lane.pinned).await?;
        }
        if let Err(error @ (CustomerError::Verify(_) | CustomerError::Refused(_))) = &outcome {
            self.journal.refused(error, self.lanes.mode()).await?;
        }
        let (mut response, name) = match outcome? {
            Receipted::Unanswered(response) => (response, None),
            Receipted::Answered(answer) => {
                let name = self.journal.receipt(&answer).await?;
                (answer.response, Some(name))
            }
        };
        if let Some(name) = name.and_then(|n| HeaderValue::from_str(&n).ok()) {
            response.headers_mut().insert(RECEIPT_NAME, name);
        }
        Ok(response)
    }

    async fn exchange(&self, lane: &mut Lane, request: Request<Bytes>) -> Result<Receipted, CustomerError> {
        if !(self.journal.keeps_receipts() && is_inference(request.uri().path())) {
            return lane.pinned.send(request).await.map(Receipted::Unanswered);
        }
        let salt = match salt_of(&request) {
            None => Salt::random()?,
            Some(Ok(salt)) => salt,
            // The service's to refuse, in its own words.
            Some(Err(_)) => return lane.pinned.send(request).await.map(Receipted::Unanswered),
        };
        lane.pinned.infer_with_salt(request, salt).await
    }
}

fn again(request: &Request<Bytes>) -> Request<Bytes> {
    let mut copy = Request::new(request.body().clone());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}
