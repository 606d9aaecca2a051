//! Turns a compressed request body into its bytes, no more than a limit.
//! It does not look at what the bytes say.

use std::io::Read as _;

use flate2::bufread::GzDecoder;
use flate2::{Decompress, FlushDecompress, Status};

use crate::error::OipError;

/// How much more room a growing body gets at a time, at least.
const STEP: usize = 64 * 1024;

/// A content coding of RFC 9110, section 8.4.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// RFC 1952, one member.
    Gzip,
    /// RFC 1950: deflate inside a zlib stream. Bare deflate, which some clients send under this name, is refused.
    Deflate,
}

impl Encoding {
    /// Reads the value of a `Content-Encoding` header; `identity` is none. More than one coding is refused.
    ///
    /// # Errors
    /// `CONTENT_ENCODING`.
    pub fn parse(header: &str) -> Result<Option<Self>, OipError> {
        let word = header.trim_matches([' ', '\t']);
        let is = |name: &str| word.eq_ignore_ascii_case(name);
        if is("identity") {
            Ok(None)
        } else if is("gzip") || is("x-gzip") {
            Ok(Some(Self::Gzip))
        } else if is("deflate") {
            Ok(Some(Self::Deflate))
        } else {
            Err(OipError::ContentEncoding)
        }
    }
}

/// Inflates a whole body. Its checksum must be right and nothing may follow it.
///
/// At most `limit` bytes and a little more are ever written, however much the body says it holds.
///
/// # Errors
/// `BODY_TOO_LARGE`, `CONTENT_DAMAGED`.
pub fn inflate(encoding: Encoding, body: &[u8], limit: usize) -> Result<Vec<u8>, OipError> {
    match encoding {
        Encoding::Gzip => gzip(body, limit),
        Encoding::Deflate => zlib(body, limit),
    }
}

fn gzip(body: &[u8], limit: usize) -> Result<Vec<u8>, OipError> {
    let mut out = Vec::new();
    let mut decoder = GzDecoder::new(body);
    // One byte above the limit tells a body that is too large from one that is just as large.
    let one_more = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let read = decoder.by_ref().take(one_more).read_to_end(&mut out);
    if out.len() > limit {
        return Err(OipError::BodyTooLarge(limit));
    }
    read.map_err(|_| OipError::ContentDamaged)?;
    if decoder.into_inner().is_empty() { Ok(out) } else { Err(OipError::ContentDamaged) }
}

fn zlib(body: &[u8], limit: usize) -> Result<Vec<u8>, OipError> {
    let mut out = Vec::new();
    let mut state = Decompress::new(true);
    let mut rest = body;
    loop {
        let room = out.len().max(STEP).min(limit.saturating_add(1) - out.len());
        out.reserve(room);
        let (before_in, before_out) = (state.total_in(), out.len());
        let status = state.decompress_vec(rest, &mut out, FlushDecompress::None);
        let taken = usize::try_from(state.total_in() - before_in).unwrap_or(usize::MAX);
        rest = rest.get(taken..).unwrap_or_default();
        if out.len() > limit {
            return Err(OipError::BodyTooLarge(limit));
        }
        match status.map_err(|_| OipError::ContentDamaged)? {
            Status::StreamEnd if rest.is_empty() => return Ok(out),
            Status::StreamEnd => return Err(OipError::ContentDamaged),
            // Neither read nor written: it was cut short.
            Status::Ok | Status::BufError if taken == 0 && out.len() == before_out => {
                return Err(OipError::ContentDamaged);
            }
            Status::Ok | Status::BufError => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    const BOTH: [Encoding; 2] = [Encoding::Gzip, Encoding::Deflate];

    fn deflated(encoding: Encoding, bytes: &[u8]) -> Vec<u8> {
        match encoding {
            Encoding::Gzip => {
                let mut to = GzEncoder::new(Vec::new(), Compression::default());
                to.write_all(bytes).unwrap();
                to.finish().unwrap()
            }
            Encoding::Deflate => {
                let mut to = ZlibEncoder::new(Vec::new(), Compression::default());
                to.write_all(bytes).unwrap();
                to.finish().unwrap()
            }
        }
    }

    fn noise(len: usize) -> Vec<u8> {
        let mut state = 1_u32;
        std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_le_bytes()[3]
        })
        .take(len)
        .collect()
    }

    #[test]
    fn bodies_come_back() {
        for encoding in BOTH {
            for bytes in [vec![], vec![7], noise(300_000), vec![0; 1_000_000], b"{\"inputs\":[]}".to_vec()] {
                let body = deflated(encoding, &bytes);
                assert_eq!(inflate(encoding, &body, bytes.len()).unwrap(), bytes, "at the limit");
                assert_eq!(inflate(encoding, &body, usize::MAX).unwrap(), bytes);
                if let Some(below) = bytes.len().checked_sub(1) {
                    assert_eq!(inflate(encoding, &body, below), Err(OipError::BodyTooLarge(below)));
                }
            }
        }
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        for encoding in BOTH {
            let bomb = deflated(encoding, &vec![0; 64 << 20]);
            assert!(bomb.len() < 100_000, "control: it is small");
            assert_eq!(inflate(encoding, &bomb, 1 << 20), Err(OipError::BodyTooLarge(1 << 20)));
        }
    }

    #[test]
    fn cut_damaged_and_followed_bodies_are_refused() {
        for encoding in BOTH {
            let body = deflated(encoding, &noise(1000));
            for end in 0..body.len() {
                assert_eq!(inflate(encoding, &body[..end], 4096), Err(OipError::ContentDamaged), "{encoding:?} {end}");
            }
            for tail in [&b"\0"[..], b"x", &body] {
                let longer = [&body, tail].concat();
                assert_eq!(inflate(encoding, &longer, 4096), Err(OipError::ContentDamaged), "{encoding:?}");
            }
            for at in 0..4 {
                // The checksum: CRC-32 and length, or Adler-32.
                let mut other = body.clone();
                let end = other.len();
                other[end - 1 - at] ^= 1;
                assert_eq!(inflate(encoding, &other, 4096), Err(OipError::ContentDamaged), "{encoding:?}");
            }
        }
        let mut bare = DeflateEncoder::new(Vec::new(), Compression::default());
        bare.write_all(&noise(100)).unwrap();
        let bare = bare.finish().unwrap();
        assert_eq!(inflate(Encoding::Deflate, &bare, 4096), Err(OipError::ContentDamaged));
        let other = deflated(Encoding::Gzip, b"x");
        assert_eq!(inflate(Encoding::Deflate, &other, 4096), Err(OipError::ContentDamaged));
    }

    #[test]
    fn codings_are_one_of_three() {
        for (word, expected) in [
            ("identity", None),
            ("gzip", Some(Encoding::Gzip)),
            (" GZip ", Some(Encoding::Gzip)),
            ("x-gzip", Some(Encoding::Gzip)),
            ("deflate", Some(Encoding::Deflate)),
        ] {
            assert_eq!(Encoding::parse(word), Ok(expected), "{word}");
        }
        for word in ["", "br", "zstd", "gzip, gzip", "gzip,", "identity, gzip", "*", "compress", "gzip;q=1"] {
            assert_eq!(Encoding::parse(word), Err(OipError::ContentEncoding), "{word}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_inflate_or_are_refused(
            body in proptest::collection::vec(proptest::num::u8::ANY, 0..300),
            damage in proptest::option::of((0_usize..100, proptest::num::u8::ANY)),
        ) {
            for encoding in BOTH {
                let _ = inflate(encoding, &body, 1000);
                let mut packed = deflated(encoding, &body);
                if let Some((at, byte)) = damage {
                    let at = at % packed.len();
                    packed[at] = byte;
                }
                if let Ok(read) = inflate(encoding, &packed, 1000) {
                    proptest::prop_assert_eq!(&read, &body);
                }
            }
        }
    }
}
