//! Turns the configuration file's bytes into the digest that evidence is bound to (HOST_DATA, MRCONFIGID).
//! The host chooses this field: it is bound, not measured, and a policy must name the digests that it accepts.

use vouchsafe_attestation::lp;

/// The largest configuration: 256 KiB, since init-data for Kata also holds its agent's policy.
pub const MAX_CONFIG: usize = 256 * 1024;

/// SHA-256 over the exact bytes of the configuration: the value of HOST_DATA on SEV-SNP.
#[must_use]
pub fn config_digest(bytes: &[u8]) -> [u8; 32] {
    lp::sha256(bytes)
}

/// The config digest as TDX carries it: MRCONFIGID is the digest and 16 zero bytes.
#[must_use]
pub fn mrconfigid(config_digest: &[u8; 32]) -> [u8; 48] {
    let mut out = [0; 48];
    let (digest, _) = out.split_at_mut(32);
    digest.copy_from_slice(config_digest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_sha_256_and_mrconfigid_pads_it() {
        let digest = config_digest(b"abc");
        assert_eq!(hex::encode(digest), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        let wide = mrconfigid(&digest);
        assert_eq!(wide[..32], digest);
        assert_eq!(wide[32..], [0; 16]);
    }
}
