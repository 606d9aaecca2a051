//! Turns the lines before a request's body into how long that body is, if every reader of RFC 9112 would read them the same way.
//! It does not read the request: hyper does, after this. What it refuses hyper may read one way and a proxy in front another.

use crate::error::EnclaveError;

/// The lines before a body are at most so long, their ends included.
pub const MAX_HEAD: usize = 32 * 1024;
/// There are at most so many header lines. hyper's limit is the same.
pub const MAX_HEADERS: usize = 100;
/// The largest number of digits that always fits.
const MAX_DIGITS: usize = 19;

/// How a body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// So many bytes, which may be none.
    Length(u64),
    /// Chunks.
    Chunked,
}

/// Where the lines before a body end: behind the first empty line. Bare line feeds count here, so that they are found and refused.
/// The bytes before `from` were looked at already.
#[must_use]
pub fn end(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        at += bytes.get(at..)?.iter().position(|b| *b == b'\n')? + 1;
        match bytes.get(at..)? {
            [b'\n', ..] => return Some(at + 1),
            [b'\r', b'\n', ..] => return Some(at + 2),
            _ => {}
        }
    }
}

/// Reads the lines up to and with the empty one.
///
/// # Errors
/// `HEAD_TOO_LARGE`, `HEADER_INVALID` with what is wrong.
pub fn framing(head: &[u8]) -> Result<Framing, EnclaveError> {
    if head.len() > MAX_HEAD {
        return Err(EnclaveError::HeadTooLarge);
    }
    let mut lines = head.split_inclusive(|b| *b == b'\n').map(|line| {
        line.strip_suffix(b"\r\n")
            .filter(|line| !line.contains(&b'\r'))
            .ok_or(EnclaveError::HeaderInvalid("a line end"))
    });
    let old = request_line(lines.next().unwrap_or(Err(EnclaveError::HeaderInvalid("the request line")))?)?;
    let (mut length, mut chunked) = (None, false);
    for (at, line) in lines.enumerate() {
        let line = line?;
        if line.is_empty() {
            break;
        }
        if at >= MAX_HEADERS {
            return Err(EnclaveError::HeadTooLarge);
        }
        let (name, value) = header(line)?;
        if name.eq_ignore_ascii_case(b"content-length") {
            let number = decimal(value).filter(|_| length.is_none());
            length = Some(number.ok_or(EnclaveError::HeaderInvalid("Content-Length"))?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            // Any other coding would have to be undone, and a second line is a list of codings.
            if chunked || old || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(EnclaveError::HeaderInvalid("Transfer-Encoding"));
            }
            chunked = true;
        }
    }
    match (length, chunked) {
        (Some(_), true) => Err(EnclaveError::HeaderInvalid("Content-Length beside Transfer-Encoding")),
        (_, true) => Ok(Framing::Chunked),
        (length, false) => Ok(Framing::Length(length.unwrap_or(0))),
    }
}

/// `METHOD target HTTP/1.1`. Says whether the version is 1.0.
fn request_line(line: &[u8]) -> Result<bool, EnclaveError> {
    let mut words = line.split(|b| *b == b' ');
    let words = (words.next(), words.next(), words.next(), words.next());
    let (Some(method), Some(target), Some(version), None) = words else {
        return Err(EnclaveError::HeaderInvalid("the request line"));
    };
    let version = match version {
        b"HTTP/1.1" => Some(false),
        b"HTTP/1.0" => Some(true),
        _ => None,
    };
    let sound = is_token(method)
        && !target.is_empty()
        && target.iter().all(u8::is_ascii_graphic)
        && axum::http::Uri::try_from(target).is_ok();
    version.filter(|_| sound).ok_or(EnclaveError::HeaderInvalid("the request line"))
}

/// Name and value of a header line, without the blanks around the value.
fn header(line: &[u8]) -> Result<(&[u8], &[u8]), EnclaveError> {
    if line.starts_with(b" ") || line.starts_with(b"\t") {
        return Err(EnclaveError::HeaderInvalid("a folded line"));
    }
    let colon = line.iter().position(|b| *b == b':');
    let (name, value) = colon.and_then(|at| line.split_at_checked(at)).ok_or(EnclaveError::HeaderInvalid("a line"))?;
    let value = value.strip_prefix(b":").unwrap_or(value);
    // No other blanks than these two: hyper knows none.
    let inner = |b: &u8| !matches!(b, b' ' | b'\t');
    let value = match (value.iter().position(inner), value.iter().rposition(inner)) {
        (Some(first), Some(last)) => value.get(first..=last).unwrap_or_default(),
        _ => &[],
    };
    let visible = |b: &u8| *b == b'\t' || (*b >= b' ' && *b != 0x7f);
    if is_token(name) && value.iter().all(visible) {
        Ok((name, value))
    } else {
        Err(EnclaveError::HeaderInvalid("a line"))
    }
}

fn is_token(word: &[u8]) -> bool {
    let token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    !word.is_empty() && word.iter().all(token)
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > MAX_DIGITS || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &str) -> Result<Framing, EnclaveError> {
        framing(format!("POST /v2 HTTP/1.1\r\n{headers}\r\n").as_bytes())
    }

    #[test]
    fn one_reading_is_told() {
        assert_eq!(read(""), Ok(Framing::Length(0)));
        assert_eq!(read("Host: e\r\nContent-Length: 12\r\n"), Ok(Framing::Length(12)));
        assert_eq!(read("cOnTent-lenGth:\t 0012 \r\nX:\r\n"), Ok(Framing::Length(12)));
        assert_eq!(read("Transfer-Encoding: Chunked\r\n"), Ok(Framing::Chunked));
        assert_eq!(read("X-Transfer-Encoding: gzip\r\nX: \u{e9}\r\n"), Ok(Framing::Length(0)), "others are not ours");
        assert_eq!(framing(b"GET http://a/b?c=%20 HTTP/1.0\r\n\r\n"), Ok(Framing::Length(0)));
    }

    #[test]
    fn two_readings_are_refused() {
        for headers in [
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n",
            "Content-Length: 1\r\nContent-Length: 1\r\n",
            "Content-Length: 1, 1\r\n",
            "Content-Length: +1\r\n",
            "Content-Length: -1\r\n",
            "Content-Length: 0x1\r\n",
            "Content-Length:\r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked, identity\r\n",
            "Transfer-Encoding: identity\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding : chunked\r\n",
            "Transfer-Encoding:\x0bchunked\r\n",
            "X: a\r\n Content-Length: 1\r\n",
            "\tX: a\r\n",
            "X: a\nContent-Length: 1\r\n",
            "X: a\rContent-Length: 1\r\n",
            "X: a\0b\r\n",
            "X\r\n",
            ": a\r\n",
            "X Y: a\r\n",
        ] {
            assert_eq!(read(headers).unwrap_err().code(), "HEADER_INVALID", "{headers:?}");
        }
        for line in [
            "POST /v2",
            "POST  /v2 HTTP/1.1",
            "POST /v2 HTTP/1.1 ",
            "POST /v2 HTTP/2.0",
            "POST /v 2 HTTP/1.1",
            " /v2 HTTP/1.1",
            "P(ST /v2 HTTP/1.1",
            "POST /\u{e9} HTTP/1.1",
            "",
            "POST /v2 http/1.1",
        ] {
            let head = format!("{line}\r\n\r\n");
            assert_eq!(framing(head.as_bytes()).unwrap_err().code(), "HEADER_INVALID", "{line:?}");
        }
        assert_eq!(
            framing(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap_err().code(),
            "HEADER_INVALID"
        );
        assert_eq!(read("X: a\r\n b: c\r\n"), Err(EnclaveError::HeaderInvalid("a folded line")));
        assert_eq!(framing(b"GET / HTTP/1.1\n\n").unwrap_err().code(), "HEADER_INVALID");
        assert_eq!(framing(b"").unwrap_err().code(), "HEADER_INVALID");
    }

    #[test]
    fn lines_are_counted_and_measured() {
        let many = |count: usize| read(&"X: a\r\n".repeat(count));
        assert_eq!(many(MAX_HEADERS), Ok(Framing::Length(0)), "control");
        assert_eq!(many(MAX_HEADERS + 1), Err(EnclaveError::HeadTooLarge));
        let long = |bytes: usize| read(&format!("X: {}\r\n", "a".repeat(bytes)));
        let around = "POST /v2 HTTP/1.1\r\nX: \r\n\r\n".len();
        assert_eq!(long(MAX_HEAD - around), Ok(Framing::Length(0)), "control: to the byte");
        assert_eq!(long(MAX_HEAD - around + 1), Err(EnclaveError::HeadTooLarge));
    }

    #[test]
    fn the_end_is_the_first_empty_line_however_it_is_written() {
        assert_eq!(end(b"GET / HTTP/1.1\r\nX: a\r\n\r\nbody", 0), Some(24));
        assert_eq!(end(b"a\n\nb", 0), Some(3));
        assert_eq!(end(b"a\n\r\nb", 0), Some(4));
        for part in ["", "a", "a\r\n", "a\r\n\r", "a\n", "\r"] {
            assert_eq!(end(part.as_bytes(), 0), None, "{part:?}");
        }
        assert_eq!(end(b"a\r\n\r\n", 9), None);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let _ = (framing(&bytes), end(&bytes, 3));
        }
    }
}
