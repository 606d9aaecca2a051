//! Turns the fields of an SNP attestation report into its 1184 bytes (AMD 56860, version 5) and signs them.
//! The fields are whatever the caller asks for: the fault lab asks for wrong ones by changing them before signing.

use p384::ecdsa::{Signature, SigningKey, signature::Signer};

/// Size of a report.
pub const REPORT_LEN: usize = 1184;
/// The signature covers bytes 0..0x2A0.
pub const SIGNED_LEN: usize = 0x2A0;

/// Security version numbers of the processor's firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcb {
    /// Boot loader.
    pub bootloader: u8,
    /// PSP operating system.
    pub tee: u8,
    /// SNP firmware.
    pub snp: u8,
    /// Lowest microcode patch level of all cores.
    pub microcode: u8,
}

impl Tcb {
    /// What the simulated processor runs: equal to the floors that the `simulation` preset asks of a Genoa.
    pub const SIMULATED: Self = Self { bootloader: 0x0a, tee: 0, snp: 0x19, microcode: 0x54 };

    /// The eight bytes as Milan and Genoa order them.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 8] {
        [self.bootloader, self.tee, 0, 0, 0, 0, self.snp, self.microcode]
    }
}

/// Everything a report says. Offsets are those of AMD 56860, table "ATTESTATION_REPORT".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportFields {
    /// 0x000: structure version.
    pub version: u32,
    /// 0x008: guest policy; bit 17 is reserved and one, bit 16 allows SMT.
    pub policy: u64,
    /// 0x030: privilege level of the asking guest.
    pub vmpl: u32,
    /// 0x034: 1 is ECDSA P-384 with SHA-384.
    pub signature_algorithm: u32,
    /// 0x038.
    pub current_tcb: Tcb,
    /// 0x040: SMT, TSME off, alias check complete.
    pub platform_info: u64,
    /// 0x048: bits 4:2 name the signing key, 0 is the VCEK.
    pub key_info: u32,
    /// 0x050.
    pub report_data: [u8; 64],
    /// 0x090.
    pub measurement: [u8; 48],
    /// 0x0C0.
    pub host_data: [u8; 32],
    /// 0x140: fresh for every launch.
    pub report_id: [u8; 32],
    /// 0x160: all ones, no migration agent.
    pub report_id_ma: [u8; 32],
    /// 0x180.
    pub reported_tcb: Tcb,
    /// 0x188: CPUID family, model, stepping.
    pub cpuid: [u8; 3],
    /// 0x1A0.
    pub chip_id: [u8; 64],
    /// 0x1E0.
    pub committed_tcb: Tcb,
    /// 0x1E8: build, minor, major of the running firmware.
    pub current_firmware: [u8; 3],
    /// 0x1EC: build, minor, major of the committed firmware.
    pub committed_firmware: [u8; 3],
    /// 0x1F0.
    pub launch_tcb: Tcb,
    /// 0x1F8 and 0x200: mitigation vectors at launch and now.
    pub mitigations: u64,
}

impl ReportFields {
    /// What an honest simulated Genoa reports.
    #[must_use]
    pub const fn honest(chip_id: [u8; 64], measurement: [u8; 48], host_data: [u8; 32], report_id: [u8; 32]) -> Self {
        Self {
            version: 5,
            policy: 0x3_0000,
            vmpl: 0,
            signature_algorithm: 1,
            current_tcb: Tcb::SIMULATED,
            platform_info: 0x25,
            key_info: 0,
            report_data: [0; 64],
            measurement,
            host_data,
            report_id,
            report_id_ma: [0xff; 32],
            reported_tcb: Tcb::SIMULATED,
            cpuid: [0x19, 0x11, 0x01],
            chip_id,
            committed_tcb: Tcb::SIMULATED,
            current_firmware: [43, 55, 1],
            committed_firmware: [43, 55, 1],
            launch_tcb: Tcb::SIMULATED,
            mitigations: 1,
        }
    }

    /// The report with its signature: r and s little-endian, each padded with zeros to 72 bytes.
    ///
    /// # Errors
    /// Those of the signature implementation; a P-384 key always signs.
    pub fn sign(&self, key: &SigningKey) -> Result<[u8; REPORT_LEN], p384::ecdsa::Error> {
        let mut report = [0; REPORT_LEN];
        put(&mut report, 0, &self.signed_bytes());
        let (signed, _) = report.split_at(SIGNED_LEN);
        let signature: Signature = key.try_sign(signed)?;
        let (mut r, mut s) = (signature.r().to_bytes(), signature.s().to_bytes());
        r.reverse();
        s.reverse();
        put(&mut report, SIGNED_LEN, &r);
        put(&mut report, SIGNED_LEN + 72, &s);
        Ok(report)
    }

    fn signed_bytes(&self) -> [u8; SIGNED_LEN] {
        let mut out = [0; SIGNED_LEN];
        put(&mut out, 0x000, &self.version.to_le_bytes());
        put(&mut out, 0x008, &self.policy.to_le_bytes());
        put(&mut out, 0x030, &self.vmpl.to_le_bytes());
        put(&mut out, 0x034, &self.signature_algorithm.to_le_bytes());
        put(&mut out, 0x038, &self.current_tcb.to_bytes());
        put(&mut out, 0x040, &self.platform_info.to_le_bytes());
        put(&mut out, 0x048, &self.key_info.to_le_bytes());
        put(&mut out, 0x050, &self.report_data);
        put(&mut out, 0x090, &self.measurement);
        put(&mut out, 0x0C0, &self.host_data);
        put(&mut out, 0x140, &self.report_id);
        put(&mut out, 0x160, &self.report_id_ma);
        put(&mut out, 0x180, &self.reported_tcb.to_bytes());
        put(&mut out, 0x188, &self.cpuid);
        put(&mut out, 0x1A0, &self.chip_id);
        put(&mut out, 0x1E0, &self.committed_tcb.to_bytes());
        put(&mut out, 0x1E8, &self.current_firmware);
        put(&mut out, 0x1EC, &self.committed_firmware);
        put(&mut out, 0x1F0, &self.launch_tcb.to_bytes());
        put(&mut out, 0x1F8, &self.mitigations.to_le_bytes());
        put(&mut out, 0x200, &self.mitigations.to_le_bytes());
        out
    }
}

/// Copies a field into place; every offset above lies inside the report.
fn put(out: &mut [u8], offset: usize, field: &[u8]) {
    if let Some(place) = out.get_mut(offset..offset + field.len()) {
        place.copy_from_slice(field);
    }
}

#[cfg(test)]
mod tests {
    use p384::ecdsa::{VerifyingKey, signature::Verifier};
    use rsa::rand_core::OsRng;

    use super::*;

    #[test]
    fn a_report_is_bit_exact_and_its_signature_verifies() {
        let key = SigningKey::random(&mut OsRng);
        let mut fields = ReportFields::honest([0xc1; 64], [0xab; 48], [0xcd; 32], [0xef; 32]);
        fields.report_data = [0x77; 64];
        let report = fields.sign(&key).unwrap();
        assert_eq!(report[..8], [5, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(report[0x30..0x40], [0, 0, 0, 0, 1, 0, 0, 0, 0x0a, 0, 0, 0, 0, 0, 0x19, 0x54]);
        assert_eq!(report[0x50..0x90], [0x77; 64]);
        assert_eq!(report[0x90..0xC0], [0xab; 48]);
        assert_eq!(report[0xC0..0xE0], [0xcd; 32]);
        assert_eq!(report[0x1E8..0x1F0], [0x2b, 0x37, 1, 0, 0x2b, 0x37, 1, 0]);
        assert!(report[0x2A0 + 48..0x2A0 + 72].iter().chain(&report[0x2A0 + 120..]).all(|b| *b == 0));

        let (mut r, mut s) = ([0; 48], [0; 48]);
        r.copy_from_slice(&report[0x2A0..0x2D0]);
        s.copy_from_slice(&report[0x2E8..0x318]);
        r.reverse();
        s.reverse();
        let signature = Signature::from_scalars(r, s).unwrap();
        VerifyingKey::from(&key).verify(&report[..SIGNED_LEN], &signature).unwrap();
    }
}
