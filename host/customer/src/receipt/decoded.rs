//! Turns the body of a request, compressed or not, into the bytes that a receipt speaks of: those before compression.
//! What is sent stays as it is; this is what its answer's receipt is compared with.

use std::io::Read as _;

use bytes::Bytes;
use flate2::{Decompress, FlushDecompress, Status, bufread::GzDecoder};
use hyper::header::{CONTENT_ENCODING, HeaderMap};

use crate::CustomerError;

/// Longest body before compression: as long as the longest request that the proxy forwards.
const MAX_DECODED: usize = 64 * 1024 * 1024;
/// A growing body gets so much more room at least.
const STEP: usize = 64 * 1024;

#[derive(Clone, Copy)]
enum Coding {
    Gzip,
    /// In the zlib format, as RFC 9110 section 8.4.1.2 says.
    Deflate,
}

/// The body before compression.
///
/// # Errors
/// `CONTENT_ENCODING`, for one that is neither gzip nor deflate, is damaged, or is larger than 64 MiB when inflated.
pub(super) async fn decoded(headers: &HeaderMap, body: &Bytes) -> Result<Bytes, CustomerError> {
    let Some(coding) = coding(headers)? else { return Ok(body.clone()) };
    let packed = body.clone();
    // Up to 64 MiB: the event loop serves others meanwhile.
    let inflated = tokio::task::spawn_blocking(move || inflate(coding, &packed, MAX_DECODED)).await;
    inflated.ok().flatten().map(Bytes::from).ok_or(DAMAGED)
}

const UNKNOWN: CustomerError = CustomerError::usage(
    "CONTENT_ENCODING",
    "the request's Content-Encoding is not gzip, not deflate and not identity",
);
const DAMAGED: CustomerError = CustomerError::usage(
    "CONTENT_ENCODING",
    "the compressed body is damaged, or larger than 64 MiB inflated, so no receipt for it could be compared",
);

fn coding(headers: &HeaderMap) -> Result<Option<Coding>, CustomerError> {
    let mut values = headers.get_all(CONTENT_ENCODING).iter();
    let (word, more) = (values.next(), values.next());
    match (word.map(|word| word.to_str().unwrap_or_default()), more) {
        (None, None) => Ok(None),
        (Some(word), None) if word.eq_ignore_ascii_case("identity") => Ok(None),
        (Some(word), None) if ["gzip", "x-gzip"].iter().any(|name| word.eq_ignore_ascii_case(name)) => {
            Ok(Some(Coding::Gzip))
        }
        (Some(word), None) if word.eq_ignore_ascii_case("deflate") => Ok(Some(Coding::Deflate)),
        _ => Err(UNKNOWN),
    }
}

/// The whole of one stream of at most `most` bytes with nothing after it, or nothing.
fn inflate(coding: Coding, packed: &[u8], most: usize) -> Option<Vec<u8>> {
    let (out, rest) = match coding {
        Coding::Gzip => gzip(packed, most)?,
        Coding::Deflate => zlib(packed, most)?,
    };
    (out.len() <= most && rest.is_empty()).then_some(out)
}

fn gzip(packed: &[u8], most: usize) -> Option<(Vec<u8>, &[u8])> {
    let (mut decoder, mut out) = (GzDecoder::new(packed), Vec::new());
    decoder.by_ref().take(most as u64 + 1).read_to_end(&mut out).ok()?;
    Some((out, decoder.into_inner()))
}

/// By hand: `ZlibDecoder` takes a stream that was cut short for a whole one.
fn zlib(packed: &[u8], most: usize) -> Option<(Vec<u8>, &[u8])> {
    let (mut state, mut out, mut rest) = (Decompress::new(true), Vec::new(), packed);
    while out.len() <= most {
        out.reserve(out.len().max(STEP).min(most + 1 - out.len()));
        let (read, written) = (state.total_in(), state.total_out());
        let status = state.decompress_vec(rest, &mut out, FlushDecompress::None).ok()?;
        rest = rest.get(usize::try_from(state.total_in() - read).ok()?..)?;
        match status {
            Status::StreamEnd => return Some((out, rest)),
            Status::Ok | Status::BufError if (state.total_in(), state.total_out()) == (read, written) => return None,
            Status::Ok | Status::BufError => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write};

    use super::*;

    fn packed(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        match coding {
            Coding::Gzip => {
                let mut out = write::GzEncoder::new(Vec::new(), Compression::default());
                out.write_all(bytes).unwrap();
                out.finish().unwrap()
            }
            Coding::Deflate => {
                let mut out = write::ZlibEncoder::new(Vec::new(), Compression::default());
                out.write_all(bytes).unwrap();
                out.finish().unwrap()
            }
        }
    }

    #[test]
    fn a_stream_is_inflated_whole_within_its_limit_or_not_at_all() {
        for coding in [Coding::Gzip, Coding::Deflate] {
            let plain: Vec<u8> = (0..5000_u32).flat_map(|n| (n * n).to_le_bytes()).take(5000).collect();
            let packed = packed(coding, &plain);
            assert_eq!(inflate(coding, &packed, 5000).as_deref(), Some(&plain[..]));
            assert_eq!(inflate(coding, &packed, 4999), None, "above the limit");
            assert!((0..packed.len()).all(|end| inflate(coding, &packed[..end], 5000).is_none()), "cut");
            assert_eq!(inflate(coding, &[&packed[..], b"x"].concat(), 5000), None, "something after it");
            let mut turned = packed;
            let last = turned.len() - 6;
            turned[last] ^= 1;
            assert_eq!(inflate(coding, &turned, 5000), None, "damaged");
        }
        assert_eq!(inflate(Coding::Gzip, b"", 1), None);
    }

    #[tokio::test]
    async fn the_header_names_one_coding() {
        let body = Bytes::from_static(b"{}");
        let mut headers = HeaderMap::new();
        assert_eq!(decoded(&headers, &body).await.unwrap(), body);
        for (word, bytes) in [("identity", b"{}".to_vec()), ("GZIP", packed(Coding::Gzip, b"{}"))] {
            headers.insert(CONTENT_ENCODING, word.parse().unwrap());
            assert_eq!(decoded(&headers, &Bytes::from(bytes)).await.unwrap(), body);
        }
        for bad in ["br", "gzip, gzip", "", "gzip"] {
            headers.insert(CONTENT_ENCODING, bad.parse().unwrap());
            assert_eq!(decoded(&headers, &body).await.unwrap_err().code(), "CONTENT_ENCODING", "{bad}");
        }
        headers.insert(CONTENT_ENCODING, "identity".parse().unwrap());
        headers.append(CONTENT_ENCODING, "gzip".parse().unwrap());
        assert!(decoded(&headers, &body).await.is_err());
    }
}
