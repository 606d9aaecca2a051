//! Turns one request into one answer on one TLS channel, in HTTP/1.1, and dies with that channel: it never connects again.
//! It does not know whether the peer has proved itself: only [`crate::Pinned`] lends it out, after appraisal.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{
    Request, Response,
    client::conn::http1::{self, SendRequest},
    header::{self, HeaderMap, HeaderName, HeaderValue},
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinHandle};
use tokio_rustls::client::TlsStream;

use crate::{CustomerError, channel::within};

/// Head of an answer: far above what an enclave sends.
const MAX_HEAD: usize = 64 * 1024;
/// Meant for one hop only (RFC 9110 section 7.6.1), or set anew on each.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// An HTTP/1.1 client on one channel. Its task ends when it is dropped.
pub(crate) struct Line {
    host: HeaderValue,
    sender: SendRequest<Full<Bytes>>,
    task: JoinHandle<()>,
    ended: bool,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Line {
    /// Takes the channel over. Sends nothing.
    pub async fn over(stream: TlsStream<TcpStream>, host: &str) -> Result<Self, CustomerError> {
        let host = HeaderValue::from_str(host).map_err(|_| {
            CustomerError::usage("ADDRESS_INVALID", "the address holds characters that no host name has")
        })?;
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|_| CustomerError::closed("the peer closed the connection"))?;
        // An error of the connection reaches the caller through the sender.
        let task = tokio::spawn(async move { drop(connection.await) });
        Ok(Self { host, sender, task, ended: false })
    }

    /// False once nothing can be sent here any more.
    pub fn is_open(&self) -> bool {
        !self.ended && !self.sender.is_closed()
    }

    /// Ends the connection now: from here on nothing is sent, even before its task has ended.
    pub fn close(&mut self) {
        self.ended = true;
        self.task.abort();
    }

    /// One request, one answer. After any error nothing more can be sent.
    pub async fn exchange(
        &mut self,
        request: Request<Bytes>,
        step: &'static str,
        limit: Duration,
        max_body: usize,
    ) -> Result<Response<Bytes>, CustomerError> {
        if self.ended {
            return Err(CustomerError::closed("this connection was closed after an earlier failure"));
        }
        let outcome = within(step, limit, self.attempt(request, max_body)).await.and_then(|inner| inner);
        if outcome.is_err() {
            self.close();
        }
        outcome
    }

    async fn attempt(&mut self, request: Request<Bytes>, max_body: usize) -> Result<Response<Bytes>, CustomerError> {
        let request = self.outgoing(request)?;
        self.sender.ready().await.map_err(|e| http_error(&e))?;
        let (mut head, body) = self.sender.send_request(request).await.map_err(|e| http_error(&e))?.into_parts();
        let body = Limited::new(body, max_body).collect().await.map_err(|e| {
            if e.is::<LengthLimitError>() {
                CustomerError::wire("PEER_RESPONSE_TOO_LARGE", "the answer is larger than the response limit")
            } else {
                e.downcast_ref::<hyper::Error>().map_or(BROKEN, http_error)
            }
        })?;
        strip_hop_by_hop(&mut head.headers);
        Ok(Response::from_parts(head, body.to_bytes()))
    }

    /// Origin form, our own Host, no hop-by-hop header; hyper sets the length from the body.
    fn outgoing(&self, request: Request<Bytes>) -> Result<Request<Full<Bytes>>, CustomerError> {
        let (mut head, body) = request.into_parts();
        let path = head.uri.path_and_query().map_or("/", |p| p.as_str());
        head.uri = path
            .parse()
            .map_err(|_| CustomerError::usage("PATH_REFUSED", "the path of a request cannot be written as a URI"))?;
        head.version = hyper::Version::HTTP_11;
        strip_hop_by_hop(&mut head.headers);
        head.headers.remove(header::CONTENT_LENGTH);
        head.headers.remove(header::EXPECT);
        head.headers.insert(header::HOST, self.host.clone());
        Ok(Request::from_parts(head, Full::new(body)))
    }
}

/// Removes what is meant for one hop only, and what `Connection` names besides.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
}

const BROKEN: CustomerError = CustomerError::wire("PEER_PROTOCOL", "the peer's answer is not HTTP/1.1");

fn http_error(error: &hyper::Error) -> CustomerError {
    if error.is_parse() || error.is_parse_too_large() {
        BROKEN
    } else {
        // Closed, reset or cut short, whatever the layer that noticed.
        CustomerError::closed("the peer closed the connection before its answer was complete")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_end_to_end_headers_pass() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-One"),
            ("x-one", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("inference-header-content-length", "7"),
            ("content-type", "application/octet-stream"),
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        strip_hop_by_hop(&mut headers);
        let left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(left.len(), 2, "{left:?}");
        assert!(headers.contains_key("inference-header-content-length") && headers.contains_key("content-type"));
    }
}
