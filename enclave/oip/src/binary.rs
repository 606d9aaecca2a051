//! Turns the bytes of a tensor into a verdict whether they fit its datatype and number of elements, and takes strings apart.
//! It does not copy anything.

use crate::dtype::Dtype;

/// Whether these bytes are exactly `count` elements: as long, no boolean other than 0 and 1, every string whole.
///
/// # Errors
/// What is wrong with them.
pub fn check(dtype: Dtype, count: usize, bytes: &[u8]) -> Result<(), &'static str> {
    let Some(size) = dtype.size() else { return check_strings(count, bytes) };
    if count.checked_mul(size) != Some(bytes.len()) {
        return Err("the binary size is not that of shape and datatype");
    }
    // No early end: that lets the compiler compare many at once.
    if dtype == Dtype::Bool && bytes.iter().fold(0, |all, b| all | b) > 1 {
        return Err("a boolean is neither 0 nor 1");
    }
    Ok(())
}

fn check_strings(count: usize, bytes: &[u8]) -> Result<(), &'static str> {
    let mut found = 0_usize;
    for string in strings(bytes) {
        if string.is_none() {
            return Err("a string is longer than what is left of the binary data");
        }
        found += 1;
    }
    if found == count { Ok(()) } else { Err("the number of strings is not that of the shape") }
}

/// The strings, each behind its length (32 bits, little-endian). A last `None` says that one was cut short.
pub fn strings(bytes: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    let mut rest = Some(bytes);
    std::iter::from_fn(move || {
        let bytes = rest.filter(|bytes| !bytes.is_empty())?;
        let next = take(bytes);
        rest = next.map(|(_, rest)| rest);
        Some(next.map(|(string, _)| string))
    })
}

fn take(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_exact() {
        for dtype in Dtype::ALL {
            let Some(size) = dtype.size() else { continue };
            assert_eq!(check(dtype, 3, &vec![0; 3 * size]), Ok(()));
            assert_eq!(check(dtype, 0, &[]), Ok(()));
            for len in [0, 3 * size - 1, 3 * size + 1] {
                assert!(check(dtype, 3, &vec![0; len]).is_err());
            }
            if size > 1 {
                assert!(check(dtype, usize::MAX, &[0; 8]).is_err());
            }
        }
        assert!(check(Dtype::Bool, 2, &[1, 0]).is_ok());
        for wrong in [2, 3, 0x80, 0xff] {
            assert!(check(Dtype::Bool, 2, &[1, wrong]).is_err());
        }
    }

    #[test]
    fn strings_are_whole_and_as_many_as_said() {
        let bytes = [2, 0, 0, 0, b'a', b'b', 0, 0, 0, 0, 1, 0, 0, 0, 0xff];
        let list: Vec<_> = strings(&bytes).collect();
        assert_eq!(list, [Some(&b"ab"[..]), Some(b""), Some(b"\xff")]);
        assert_eq!(check(Dtype::Bytes, 3, &bytes), Ok(()));
        assert_eq!(check(Dtype::Bytes, 0, &[]), Ok(()));
        for count in [0, 2, 4, usize::MAX] {
            assert!(check(Dtype::Bytes, count, &bytes).is_err());
        }
        for end in [1, 3, 5, 7, 9, 12, 14] {
            assert!(check(Dtype::Bytes, 3, &bytes[..end]).is_err(), "{end}");
        }
        // A length that runs past the end, and one that would wrap around.
        for length in [3_u32, 12, u32::MAX] {
            let mut other = bytes;
            other[..4].copy_from_slice(&length.to_le_bytes());
            assert!(check(Dtype::Bytes, 3, &other).is_err());
        }
    }
}
