//! Turns the SHA-256 of a firmware into whether this project has tried what it refuses, or why it should not be used.
//! The list holds what was tried by booting it; it proves nothing about a firmware beside what its entry says.

/// Firmware that was seen to refuse a kernel, initrd or command line other than the hashed ones, a shim, a device's ROM, and a host's disk.
/// A generic OVMF advertises a place for the hashes and boots anything.
pub const KNOWN: [(&str, &str); 1] = [(
    "0bf590c9b79a7ff6961a962f991979e96b0d6ab7d93ba7006a0469a1442d651c",
    "Debian's ovmf-amdsev 2026.08+ds-2, OVMF.amdsev.fd, as `vouchsafe image build` changes it (enclave/image/src/doors.rs)",
)];

/// Firmware that compares the hashes and can be made to start something else all the same.
pub const UNSAFE: [(&str, &str); 1] = [(
    "3e4fd0b3fe3b2dbe481c3d9e99418a034174f26cbe1f55aa212b0f18c12d2d6f",
    "Debian's ovmf-amdsev 2026.08+ds-2, unchanged",
)];

/// Whether this firmware is one of [`KNOWN`].
///
/// # Errors
/// Why not, in a sentence about the firmware.
pub fn known(sha256: &[u8; 32]) -> Result<(), &'static str> {
    let is = |digest: &str| {
        let (pairs, rest) = digest.as_bytes().as_chunks::<2>();
        let byte = |pair: &[u8; 2]| core::str::from_utf8(pair).ok().and_then(|text| u8::from_str_radix(text, 16).ok());
        rest.is_empty() && pairs.iter().map(byte).eq(sha256.iter().map(|byte| Some(*byte)))
    };
    if KNOWN.iter().any(|(digest, _)| is(digest)) {
        Ok(())
    } else if UNSAFE.iter().any(|(digest, _)| is(digest)) {
        Err(
            "the firmware is the package's own, which starts a shim, a ROM or a disk of the host's without measuring it",
        )
    } else {
        Err("the firmware is none that is known to refuse a changed kernel, initrd or command line")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_changed_firmware_is_known_and_its_origin_is_not() {
        let bytes = |digest: &str| {
            let mut bytes = [0; 32];
            for (at, byte) in bytes.iter_mut().enumerate() {
                *byte = u8::from_str_radix(&digest[2 * at..2 * at + 2], 16).unwrap_or_default();
            }
            bytes
        };
        assert_eq!(known(&bytes(KNOWN[0].0)), Ok(()));
        assert!(known(&bytes(UNSAFE[0].0)).is_err_and(|fact| fact.contains("shim")));
        assert!(known(&[0; 32]).is_err_and(|fact| !fact.contains("shim")));
    }
}
