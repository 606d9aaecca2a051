//! Turns bytes, one at a time, into protobuf's variable-length integers.
//! It does not know what an integer means, nor where its message ends.

use crate::error::Reason;

/// An integer that may be incomplete: seven bits a byte, the lowest first.
#[derive(Clone, Copy, Default)]
pub(crate) struct Varint {
    value: u64,
    bytes: u8,
}

impl Varint {
    /// An integer of which nothing has come.
    pub const NEW: Self = Self { value: 0, bytes: 0 };

    /// Takes a byte; answers with the value when that was the last.
    ///
    /// Every integer must have its shortest form and fit 64 bits. C++ takes longer forms and drops bits above the 64th; nothing
    /// that writes models needs that, and whatever has one form only is read alike by everybody.
    pub fn push(&mut self, byte: u8) -> Result<Option<u64>, Reason> {
        let last = byte & 0x80 == 0;
        if self.bytes == 9 && byte > 1 {
            return Err(Reason::Integer);
        }
        if last && byte == 0 && self.bytes > 0 {
            return Err(Reason::IntegerForm);
        }
        self.value |= u64::from(byte & 0x7f) << (7 * u32::from(self.bytes));
        self.bytes += 1;
        if !last {
            return Ok(None);
        }
        let value = self.value;
        *self = Self::NEW;
        Ok(Some(value))
    }

    /// Whether the middle of an integer has been reached.
    pub fn begun(self) -> bool {
        self.bytes > 0
    }
}

/// Reads a 64-bit value as the `int32` that it must be: C++ would silently drop the upper half.
pub(crate) fn int32(value: u64) -> Result<i32, Reason> {
    i32::try_from(value.cast_signed()).map_err(|_| Reason::IntegerRange)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Option<u64>, Reason> {
        let mut varint = Varint::NEW;
        let mut out = None;
        for byte in bytes {
            assert!(out.is_none());
            out = varint.push(*byte)?;
        }
        Ok(out)
    }

    #[test]
    fn integers_have_one_form() {
        assert_eq!(read(&[0]), Ok(Some(0)));
        assert_eq!(read(&[0x96, 0x01]), Ok(Some(150)));
        assert_eq!(read(&[0x80]), Ok(None));
        assert_eq!(read(&[0x80, 0x00]), Err(Reason::IntegerForm));
        let mut most = [0xff; 10];
        most[9] = 1;
        assert_eq!(read(&most), Ok(Some(u64::MAX)));
        most[9] = 2;
        assert_eq!(read(&most), Err(Reason::Integer));
        assert_eq!(read(&[0xff; 10]), Err(Reason::Integer));
    }

    #[test]
    fn an_int32_is_never_cut() {
        assert_eq!(int32(7), Ok(7));
        assert_eq!(int32(u64::MAX), Ok(-1));
        assert_eq!(int32((1 << 32) | 1), Err(Reason::IntegerRange));
        assert_eq!(int32(0xffff_ffff), Err(Reason::IntegerRange));
    }
}
