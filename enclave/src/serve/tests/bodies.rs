//! Bodies as they come: too large, too slow, in pieces, compressed, in the raw form.

use super::*;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use vouchsafe_attestation::encoding::from_b64url;
use vouchsafe_attestation::receipt::{SignedStatement, Statement, request_digest};

#[tokio::test]
async fn a_length_declared_too_large_is_refused_unread_and_a_slow_body_is_cut() {
    let service = service(model(1, "never", long()));
    let client = Client::attested(&service).await;
    let endless = || Body::new(Never);
    let declared = Request::post("/v2/models/m/infer").header("Content-Length", 1_u64 << 30).body(endless()).unwrap();
    let reply = client.send(declared).await;
    // Not the code of one whose body was waited for.
    assert_eq!(
        (reply.code(), &reply.headers["connection"]),
        ((413, "BODY_TOO_LARGE".into()), &"close".parse().unwrap())
    );
    let slow = Request::post("/v2/models/m/infer").body(endless()).unwrap();
    assert_eq!(client.send(slow).await.code(), (408, "REQUEST_TIMEOUT".into()));
}

#[tokio::test]
async fn when_others_hold_all_the_room_a_body_is_told_to_come_again() {
    let service = service(model(1, "never", long()));
    let client = Client::attested(&service).await;
    let all = service.bodies.available_permits();
    let held = service.bodies.clone().try_acquire_many_owned(u32::try_from(all).unwrap()).unwrap();
    let reply = client.infer(request()).await;
    assert_eq!(reply.code(), (503, "BUSY".into()));
    assert!(reply.headers.contains_key("retry-after"));
    drop(held);
    assert_eq!(client.infer(request()).await.status, 200, "control");
    assert_eq!(client.call("POST", "/v2/models/m/infer", vec![b'['; 65 * 1024]).await.code().0, 413);
    assert_eq!(service.bodies.available_permits(), all, "given back, by those that were refused too");
}

/// A body that never sends anything.
pub(super) struct Never;

impl hyper::body::Body for Never {
    type Data = bytes::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Self::Data>, Self::Error>>> {
        std::task::Poll::Pending
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::best());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut out = ZlibEncoder::new(Vec::new(), Compression::best());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

#[tokio::test]
async fn compressed_bodies_are_the_same_requests_and_receipts_name_what_was_in_them() {
    let service = service(model(1, "never", long()));
    let client = Client::attested(&service).await;
    let body = request().to_string();
    let plain = client.infer(request()).await.json();
    for (encoding, sent) in
        [("gzip", gzip(body.as_bytes())), ("deflate", deflate(body.as_bytes())), ("GZIP", gzip(body.as_bytes()))]
    {
        let reply =
            client.with(&[("Content-Encoding", encoding), ("Vouchsafe-Receipt", &b64url(&[7; 32]))], sent).await;
        assert_eq!(reply.json(), plain, "{encoding}");
        let signed = from_b64url(reply.header("vouchsafe-receipt").unwrap(), "receipt").unwrap();
        let signed: SignedStatement = serde_json::from_slice(&signed).unwrap();
        let statement: Statement = serde_json::from_slice(&signed.statement).unwrap();
        assert_eq!(statement.request_digest, request_digest(&[7; 32], body.as_bytes(), 0));
    }
    let bomb = gzip(&vec![b' '; 64 * 1024 + 1]);
    assert!(bomb.len() < 1024);
    let short = gzip(body.as_bytes());
    for (encoding, sent, status, code) in [
        ("gzip", bomb, 413, "BODY_TOO_LARGE"),
        ("gzip", gzip(&vec![b'x'; 64 * 1024]), 400, "JSON_INVALID"),
        ("gzip", short[..short.len() - 1].to_vec(), 400, "CONTENT_DAMAGED"),
        ("gzip", body.clone().into_bytes(), 400, "CONTENT_DAMAGED"),
        ("deflate", gzip(body.as_bytes()), 400, "CONTENT_DAMAGED"),
        ("br", body.clone().into_bytes(), 415, "CONTENT_ENCODING"),
        ("gzip, gzip", body.clone().into_bytes(), 415, "CONTENT_ENCODING"),
        ("", body.clone().into_bytes(), 415, "CONTENT_ENCODING"),
    ] {
        let reply = client.with(&[("Content-Encoding", encoding)], sent).await;
        assert_eq!(reply.code(), (status, code.into()), "{encoding}");
    }
    let twice = client.with(&[("Content-Encoding", "gzip"), ("Content-Encoding", "gzip")], gzip(body.as_bytes())).await;
    assert_eq!(twice.code(), (415, "CONTENT_ENCODING".into()));
    assert_eq!(client.with(&[("Content-Encoding", "identity")], body).await.json(), plain, "control");
    let challenge = Request::post("/v1/attest").header("Content-Encoding", "gzip").body(gzip(b"{}").into()).unwrap();
    assert_eq!(client.send(challenge).await.code(), (415, "CONTENT_ENCODING".into()));
}

#[tokio::test]
async fn the_raw_form_is_the_only_input_and_is_answered_in_kind() {
    let service = service(model(1, "never", long()));
    let client = Client::attested(&service).await;
    let bytes: Vec<u8> = [0.25_f32, 0.75, 1.0, 0.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    let headers = [("Inference-Header-Content-Length", "0")];
    let reply = client.with(&headers, bytes.clone()).await;
    let at: usize = reply.header("inference-header-content-length").unwrap().parse().unwrap();
    let (head, tail) = reply.body.split_at(at);
    let head: Value = serde_json::from_slice(head).unwrap();
    assert_eq!((&head["outputs"][1]["shape"], &tail[16..]), (&json!([2, 2]), &bytes[..]));
    assert_eq!(client.with(&headers, bytes[..13].to_vec()).await.code(), (400, "INPUT_DATA".into()));
    let nan = [f32::NAN; 2].iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>();
    assert_eq!(client.with(&headers, nan).await.code(), (400, "INPUT_NOT_FINITE".into()), "rules hold in any form");
}

#[tokio::test]
async fn a_body_in_pieces_is_the_same_body() {
    let service = service(model(1, "never", long()));
    let client = Client::attested(&service).await;
    for piece in [1, 7, 1000] {
        let text = request().to_string();
        for declared in [false, true] {
            let body = Body::new(Frames(text.as_bytes().chunks(piece).map(Bytes::copy_from_slice).collect()));
            let length = text.len().to_string();
            let headers = [("Content-Length", &*length)];
            let reply = client.with(&headers[..usize::from(declared)], body).await;
            assert_eq!(reply.status, 200, "pieces of {piece}, declared: {declared}");
        }
    }
    let endless = Body::new(Frames(vec![Bytes::from(vec![b' '; 1000]); 66].into()));
    assert_eq!(client.with(&[], endless).await.code(), (413, "BODY_TOO_LARGE".into()));
}

struct Frames(std::collections::VecDeque<Bytes>);

impl hyper::body::Body for Frames {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
        std::task::Poll::Ready(self.0.pop_front().map(|frame| Ok(hyper::body::Frame::data(frame))))
    }
}
