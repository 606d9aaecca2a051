//! Turns a file index into the 4,096 bytes with which its blob begins.
//! The header is compared whole and binds nothing: key derivation and digest list do.

/// First bytes of every blob.
pub const MAGIC: &[u8; 16] = b"vouchsafe/1 blob";
/// Length of the header, so that the ciphertext begins on a page.
pub const HEADER_LEN: usize = 4096;
/// Blob format version.
const VERSION: u32 = 1;
/// HKDF-SHA512, AES-256-GCM, BLAKE3, chunks of 2^20 bytes.
const SUITE: u32 = 1;

/// The only header that the blob of file `index` may have.
pub(crate) fn header(index: u32) -> [u8; HEADER_LEN] {
    let mut out = [0; HEADER_LEN];
    out[..16].copy_from_slice(MAGIC);
    out[16..20].copy_from_slice(&VERSION.to_be_bytes());
    out[20..24].copy_from_slice(&SUITE.to_be_bytes());
    out[24..28].copy_from_slice(&index.to_be_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_the_documented_one() {
        let bytes = header(0x0102_0304);
        assert_eq!(&bytes[..28], b"vouchsafe/1 blob\0\0\0\x01\0\0\0\x01\x01\x02\x03\x04");
        assert!(bytes[28..].iter().all(|b| *b == 0));
    }
}
