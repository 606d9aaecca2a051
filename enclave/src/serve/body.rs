//! Turns a request's body into bytes, no more than a limit and no later than a deadline.
//! It does not look at the bytes, nor undo their encoding.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Limited};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use vouchsafe_oip::{Encoding, OipError};
use vouchsafe_runner::RunnerError;

use crate::error::EnclaveError;

/// Memory is taken for at most so many times the bytes that came.
const EARLY: usize = 8;

/// Room for bodies that nobody else has meanwhile.
pub type Room = Option<OwnedSemaphorePermit>;

/// Reads a body as it was sent, and takes room for it as it comes. A length declared above the limit is refused before anything is read.
///
/// # Errors
/// `BODY_TOO_LARGE`, `HEADER_INVALID`, `BODY_INCOMPLETE`, `REQUEST_TIMEOUT`, `BUSY` when others hold all the room there is.
pub async fn read(
    headers: &HeaderMap,
    body: Body,
    limit: u64,
    rooms: &Arc<Semaphore>,
    deadline: Instant,
) -> Result<(Bytes, Room), EnclaveError> {
    let declared = number(headers, "Content-Length")?;
    if declared.is_some_and(|declared| declared > limit) {
        return Err(EnclaveError::BodyTooLarge(limit));
    }
    let declared = declared.and_then(|d| usize::try_from(d).ok());
    let read = tokio::time::timeout_at(deadline, collect(body, declared, limit, rooms)).await;
    read.map_err(|_| EnclaveError::RequestTimeout)?
}

async fn collect(
    mut body: Body,
    declared: Option<usize>,
    limit: u64,
    rooms: &Arc<Semaphore>,
) -> Result<(Bytes, Room), EnclaveError> {
    let (mut all, mut room) = (BytesMut::new(), Room::None);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| EnclaveError::BodyIncomplete)?;
        let Ok(data) = frame.into_data() else { continue };
        let kib = u32::try_from(data.len().div_ceil(1024)).unwrap_or(u32::MAX);
        let more = rooms.clone().try_acquire_many_owned(kib).map_err(|_| RunnerError::Busy)?;
        match &mut room {
            Some(room) => room.merge(more),
            None => room = Some(more),
        }
        if all.is_empty() && declared == Some(data.len()) {
            // It came in one piece, as most do: nothing to copy.
            return Ok((data, room));
        }
        if (all.len() as u64).saturating_add(data.len() as u64) > limit {
            return Err(EnclaveError::BodyTooLarge(limit));
        }
        if data.len() > all.capacity() - all.len() {
            all.reserve(ahead(all.len(), data.len(), declared.unwrap_or(0)));
        }
        all.extend_from_slice(&data);
    }
    Ok((all.freeze(), room))
}

/// So much more memory is taken for a body of which `len` bytes are there and `more` have come: for all of what was declared as soon as an
/// eighth of it is there. What is only declared takes next to none, since a block that is freed is overwritten, used or not.
fn ahead(len: usize, more: usize, declared: usize) -> usize {
    let known = len.saturating_add(more).saturating_mul(EARLY);
    more.max(declared.min(known).saturating_sub(len))
}

/// How the body is encoded.
///
/// # Errors
/// `CONTENT_ENCODING` for an encoding that nobody here undoes, or for several.
pub fn encoding(headers: &HeaderMap) -> Result<Option<Encoding>, EnclaveError> {
    let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
    let Some(value) = values.next() else { return Ok(None) };
    match (value.to_str(), values.next()) {
        (Ok(word), None) => Ok(Encoding::parse(word)?),
        _ => Err(OipError::ContentEncoding.into()),
    }
}

/// A header that is a decimal number, when it is there.
///
/// # Errors
/// `HEADER_INVALID`.
pub fn number(headers: &HeaderMap, name: &'static str) -> Result<Option<u64>, EnclaveError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let digits = value.to_str().ok().filter(|v| v.len() <= 20 && v.bytes().all(|b| b.is_ascii_digit()));
    match (digits.and_then(|v| v.parse().ok()), values.next()) {
        (Some(number), None) => Ok(Some(number)),
        _ => Err(EnclaveError::HeaderInvalid(name)),
    }
}

/// Reads and forgets what is left of a small body, so that the connection can be used again.
pub async fn discard(body: Body, limit: u64, deadline: Instant) {
    let cap = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut body = Limited::new(body, cap);
    let drain = async { while let Some(Ok(_)) = body.frame().await {} };
    // Whatever is left after that closes the connection.
    let _ = tokio::time::timeout_at(deadline, drain).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_only_declared_takes_next_to_no_memory() {
        assert_eq!(ahead(0, 1, 4 << 20), EARLY);
        assert_eq!(ahead(0, 256 << 10, 1 << 20), 1 << 20, "all at once");
        assert_eq!(ahead(256 << 10, 256 << 10, 1 << 20), 768 << 10, "what is left");
        assert_eq!(ahead(100, 50, 0), 50, "chunks declare nothing");
        assert_eq!(ahead(100, 50, 120), 50, "more than was declared");
        assert_eq!(ahead(1, usize::MAX, usize::MAX), usize::MAX);
    }
}
