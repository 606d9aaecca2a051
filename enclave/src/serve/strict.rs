//! Turns a stream into one whose HTTP framing has a single reading: lines before a body reach hyper whole and looked at, or not at all.
//! It does not answer: in place of lines that it refuses, hyper reads a request that the router answers with the reason.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::head::{Framing, MAX_HEAD, end, framing};
use crate::error::EnclaveError;

/// Why the last request of a connection is refused, once it is.
pub type Refused = Arc<OnceLock<EnclaveError>>;

/// Stands in the request that takes the place of a refused one. Sent by a client it means nothing.
pub const MARK: &str = "vouchsafe-refused";
const IN_ITS_PLACE: &[u8] = b"GET / HTTP/1.1\r\nconnection: close\r\nvouchsafe-refused: 1\r\n\r\n";

/// A stream that is read strictly and written as it is.
pub struct Strict<S> {
    stream: S,
    state: State,
    /// Lines whose end has not come yet,
    held: Vec<u8>,
    /// of which so much was searched for the end.
    searched: usize,
    /// What was looked at and not yet read, from `at` on.
    out: Vec<u8>,
    at: usize,
    refused: Refused,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Lines before a body.
    Head,
    /// A body, or a chunk, of which so much is left.
    Data { left: u64, chunk: bool },
    /// The digits of a chunk's size.
    Size { digits: u8, value: u64 },
    /// The line feed after them.
    SizeEnd(u64),
    /// The line end after a chunk, or after the last one.
    ChunkEnd { feed: bool, last: bool },
    /// The request after the last one that is read.
    Refused,
    /// A body that is not framed as announced.
    Broken,
}

impl<S> Strict<S> {
    /// Reads `stream` strictly, and says in `refused` why it stopped.
    #[must_use]
    pub fn new(stream: S, refused: Refused) -> Self {
        Self { stream, state: State::Head, held: Vec::new(), searched: 0, out: Vec::new(), at: 0, refused }
    }

    /// The stream. What was held is forgotten.
    #[must_use]
    pub fn into_inner(self) -> S {
        self.stream
    }

    /// Looks at bytes and says how many of them may be read now; the rest is the beginning of lines, or is never read.
    fn look(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while let Some((first, rest)) = bytes.get(at..).and_then(<[u8]>::split_first) {
            match self.state {
                State::Head => {
                    // RFC 9112 section 2.2: empty lines before the first one mean nothing.
                    if matches!(first, b'\r' | b'\n') {
                        at += 1;
                        continue;
                    }
                    let Some(head) = bytes.get(at..) else { return at };
                    let Some(length) = end(head, std::mem::take(&mut self.searched)) else {
                        if head.len() > MAX_HEAD {
                            self.refuse(EnclaveError::HeadTooLarge);
                        } else {
                            // The end may begin with the last byte.
                            self.searched = head.len().saturating_sub(2);
                        }
                        return at;
                    };
                    match framing(head.get(..length).unwrap_or(head)) {
                        Ok(Framing::Length(0)) => {}
                        Ok(Framing::Length(left)) => self.state = State::Data { left, chunk: false },
                        Ok(Framing::Chunked) => self.state = State::Size { digits: 0, value: 0 },
                        Err(error) => {
                            self.refuse(error);
                            return at;
                        }
                    }
                    at += length;
                }
                State::Data { left, chunk } => {
                    let here = (rest.len() + 1).min(usize::try_from(left).unwrap_or(usize::MAX));
                    at += here;
                    self.state = match left - here as u64 {
                        0 if chunk => State::ChunkEnd { feed: false, last: false },
                        0 => State::Head,
                        left => State::Data { left, chunk },
                    };
                }
                State::Size { .. } | State::SizeEnd(_) | State::ChunkEnd { .. } => {
                    self.state = self.state.step(*first);
                    // hyper must not see what it would read more kindly.
                    if self.state == State::Broken {
                        return at;
                    }
                    at += 1;
                }
                State::Refused | State::Broken => return at,
            }
        }
        at
    }

    fn refuse(&mut self, error: EnclaveError) {
        // The first reason stays; there is no second.
        let _ = self.refused.set(error);
        self.state = State::Refused;
    }
}

impl State {
    /// The state after one byte of a chunk's frame. Extensions and trailers, which nobody here would read, are refused.
    fn step(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Size { digits: 1..=16, value }, b'\r') => Self::SizeEnd(value),
            (Self::Size { digits: digits @ 0..=15, value }, byte) => match char::from(byte).to_digit(16) {
                Some(digit) => Self::Size { digits: digits + 1, value: value << 4 | u64::from(digit) },
                None => Self::Broken,
            },
            (Self::SizeEnd(0), b'\n') => Self::ChunkEnd { feed: false, last: true },
            (Self::SizeEnd(left), b'\n') => Self::Data { left, chunk: true },
            (Self::ChunkEnd { feed: false, last }, b'\r') => Self::ChunkEnd { feed: true, last },
            (Self::ChunkEnd { feed: true, last: true }, b'\n') => Self::Head,
            (Self::ChunkEnd { feed: true, last: false }, b'\n') => Self::Size { digits: 0, value: 0 },
            _ => Self::Broken,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Strict<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        loop {
            if let Some(left) = this.out.get(this.at..).filter(|left| !left.is_empty()) {
                let here = left.get(..buf.remaining()).unwrap_or(left);
                buf.put_slice(here);
                this.at += here.len();
                return Poll::Ready(Ok(()));
            }
            (this.out, this.at) = (Vec::new(), 0);
            match this.state {
                // The answer closes the connection: nothing after it is read, and nobody waits for it.
                State::Refused => return Poll::Pending,
                State::Broken => return Poll::Ready(Err(Error::from(ErrorKind::InvalidData))),
                _ => {}
            }
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
            let new = buf.filled().get(before..).unwrap_or_default();
            if new.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let passed = if this.held.is_empty() {
                let passed = this.look(new);
                if this.state == State::Head {
                    this.held = new.get(passed..).unwrap_or_default().to_vec();
                }
                passed
            } else {
                let mut all = std::mem::take(&mut this.held);
                all.extend_from_slice(new);
                let passed = this.look(&all);
                if this.state == State::Head {
                    this.held = all.get(passed..).unwrap_or_default().to_vec();
                }
                all.truncate(passed);
                this.out = all;
                0
            };
            if this.state == State::Refused {
                this.out.extend_from_slice(IN_ITS_PLACE);
            }
            buf.set_filled(before + passed);
            if passed > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Strict<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    /// Gives its bytes in pieces, then ends.
    struct Pieces<'a>(&'a [u8], usize);

    impl AsyncRead for Pieces<'_> {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
            let (here, rest) = self.0.split_at(self.1.min(self.0.len()).min(buf.remaining()));
            buf.put_slice(here);
            self.0 = rest;
            Poll::Ready(Ok(()))
        }
    }

    /// What hyper would read, whether it ended in an error, and why the last request was refused.
    fn read(bytes: &[u8], piece: usize) -> (Vec<u8>, bool, Option<&'static str>) {
        let refused = Refused::default();
        let mut strict = Strict::new(Pieces(bytes, piece), refused.clone());
        let mut seen = Vec::new();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let broken = runtime.block_on(async {
            loop {
                let mut buffer = [0; 1000];
                // After a refusal nothing comes, for ever.
                tokio::select! {
                    biased;
                    read = strict.read(&mut buffer) => match read {
                        Ok(0) => return false,
                        Ok(read) => seen.extend_from_slice(&buffer[..read]),
                        Err(_) => return true,
                    },
                    () = std::future::ready(()) => return false,
                }
            }
        });
        (seen, broken, refused.get().map(EnclaveError::code))
    }

    const GET: &str = "GET /v2 HTTP/1.1\r\nHost: e\r\n\r\n";
    const TWO: &str = "POST /a HTTP/1.1\r\nContent-Length: 30\r\nTransfer-Encoding: chunked\r\n\r\n";

    #[test]
    fn sound_requests_pass_unchanged_however_they_arrive() {
        let body = format!("POST /a HTTP/1.1\r\nContent-Length: {}\r\n\r\n{TWO}", TWO.len());
        let chunks = format!(
            "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{:X}\r\n{TWO}\r\n003\r\n\r\nx\r\n0\r\n\r\n",
            TWO.len()
        );
        let all = [GET, "\r\n\r\n", &body, &chunks, GET].concat();
        for piece in (1..80).chain([1000]) {
            assert_eq!(read(all.as_bytes(), piece), (all.clone().into_bytes(), false, None), "pieces of {piece}");
        }
    }

    #[test]
    fn a_refused_request_and_all_behind_it_are_never_read() {
        let place = String::from_utf8(IN_ITS_PLACE.to_vec()).unwrap();
        for bad in [TWO, "GET /v2 HTTP/1.1\r\nX: a\r\n b\r\n\r\n", "GET /v2 HTTP/1.1\n\n", "evil\r\n\r\n"] {
            let body = format!("POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc{GET}");
            let all = [&body, bad, GET].concat();
            for piece in (1..40).chain([1000]) {
                let (seen, broken, code) = read(all.as_bytes(), piece);
                assert_eq!(String::from_utf8(seen).unwrap(), format!("{body}{place}"), "{bad:?} in pieces of {piece}");
                assert_eq!((broken, code), (false, Some("HEADER_INVALID")));
            }
        }
        for piece in [1, 7, 1000] {
            let endless = format!("GET /v2 HTTP/1.1\r\nX: {}", "a".repeat(MAX_HEAD));
            assert_eq!(read(endless.as_bytes(), piece), (IN_ITS_PLACE.to_vec(), false, Some("HEAD_TOO_LARGE")));
            let many = format!("GET /v2 HTTP/1.1\r\n{}\r\n", "X: a\r\n".repeat(10_000));
            assert_eq!(read(many.as_bytes(), piece).2, Some("HEAD_TOO_LARGE"));
        }
        assert!(place.contains(MARK));
    }

    #[test]
    fn chunks_have_one_form() {
        let head = "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        for bad in [
            "3;a=b\r\nabc\r\n0\r\n\r\n",
            "3 \r\nabc\r\n0\r\n\r\n",
            "3\nabc\r\n0\r\n\r\n",
            "+3\r\nabc\r\n0\r\n\r\n",
            "\r\n",
            "3\r\nabcd\r\n0\r\n\r\n",
            "0\r\nX: a\r\n\r\n",
            "00000000000000003\r\nabc\r\n0\r\n\r\n",
        ] {
            for piece in [1, 5, 1000] {
                let (seen, broken, code) = read(format!("{head}{bad}").as_bytes(), piece);
                assert!(broken && code.is_none() && seen.starts_with(head.as_bytes()), "{bad:?} in pieces of {piece}");
            }
        }
        let most = format!("{head}fFfFfFfFfFfFfFfF\r\nabc");
        assert_eq!(read(most.as_bytes(), 9), (most.clone().into_bytes(), false, None), "control: the largest size");
    }
}
