//! Turns the fields of an SNP attestation report into its 1184 bytes (AMD 56860, versions 2, 3 and 5) and signs them.
//! The fields are whatever the caller asks for: the fault lab asks for wrong ones by changing them before signing.

use p384::ecdsa::{Signature, SigningKey, signature::Signer};

/// Size of a report.
pub const REPORT_LEN: usize = 1184;
/// The signature covers bytes 0..0x2A0.
pub const SIGNED_LEN: usize = 0x2A0;

/// Bits 4:2 of offset 0x048 for a report that a VLEK signs.
pub const KEY_INFO_VLEK: u32 = 1 << 2;

/// Security version numbers of the processor's firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcb {
    /// First mutable code; there only on Turin, whose order of bytes it brings.
    pub fmc: Option<u8>,
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
    pub const SIMULATED: Self = Self { fmc: None, bootloader: 0x0a, tee: 1, snp: 0x19, microcode: 0x54 };

    /// The eight bytes as Milan and Genoa order them, or as Turin does when there is an FMC.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 8] {
        match self.fmc {
            None => [self.bootloader, self.tee, 0, 0, 0, 0, self.snp, self.microcode],
            Some(fmc) => [fmc, self.bootloader, self.tee, self.snp, 0, 0, 0, self.microcode],
        }
    }
}

/// Everything a report says. Offsets are those of AMD 56860, table "ATTESTATION_REPORT".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportFields {
    /// 0x000: structure version.
    pub version: u32,
    /// 0x004: the guest's own security version.
    pub guest_svn: u32,
    /// 0x008: guest policy; bit 17 is reserved and one, bit 16 allows SMT.
    pub policy: u64,
    /// 0x010: family of the guest.
    pub family_id: [u8; 16],
    /// 0x020: image of the guest.
    pub image_id: [u8; 16],
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
    /// 0x0E0.
    pub id_key_digest: [u8; 48],
    /// 0x110.
    pub author_key_digest: [u8; 48],
    /// 0x140: fresh for every launch.
    pub report_id: [u8; 32],
    /// 0x160: all ones, no migration agent.
    pub report_id_ma: [u8; 32],
    /// 0x180.
    pub reported_tcb: Tcb,
    /// 0x188: CPUID family, model, stepping; since version 3.
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
    /// 0x1F8: mitigation vector at launch; since version 5.
    pub launch_mitigations: u64,
    /// 0x200: mitigation vector now; since version 5.
    pub current_mitigations: u64,
    /// Bytes written over the finished area before it is signed (offset, bytes): reserved fields, odd TCB bytes.
    pub patches: Vec<(usize, Vec<u8>)>,
}

impl ReportFields {
    /// What an honest simulated Genoa reports.
    #[must_use]
    pub const fn honest(chip_id: [u8; 64], measurement: [u8; 48], host_data: [u8; 32], report_id: [u8; 32]) -> Self {
        Self {
            version: 5,
            guest_svn: 0,
            policy: 0x3_0000,
            family_id: [0; 16],
            image_id: [0; 16],
            vmpl: 0,
            signature_algorithm: 1,
            current_tcb: Tcb::SIMULATED,
            platform_info: 0x25,
            key_info: 0,
            report_data: [0; 64],
            measurement,
            host_data,
            id_key_digest: [0; 48],
            author_key_digest: [0; 48],
            report_id,
            report_id_ma: [0xff; 32],
            reported_tcb: Tcb::SIMULATED,
            cpuid: [0x19, 0x11, 0x01],
            chip_id,
            committed_tcb: Tcb::SIMULATED,
            current_firmware: [43, 55, 1],
            committed_firmware: [43, 55, 1],
            launch_tcb: Tcb::SIMULATED,
            launch_mitigations: 1,
            current_mitigations: 1,
            patches: Vec::new(),
        }
    }

    /// The same in an older version of the structure: what that version does not have becomes zero.
    pub const fn set_version(&mut self, version: u32) {
        self.version = version;
        if version < 5 {
            self.launch_mitigations = 0;
            self.current_mitigations = 0;
        }
        if version < 3 {
            self.cpuid = [0; 3];
        }
    }

    /// The same with one TCB version in all four places.
    pub const fn set_all_tcb(&mut self, tcb: Tcb) {
        self.current_tcb = tcb;
        self.reported_tcb = tcb;
        self.committed_tcb = tcb;
        self.launch_tcb = tcb;
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
        put(&mut out, 0x004, &self.guest_svn.to_le_bytes());
        put(&mut out, 0x008, &self.policy.to_le_bytes());
        put(&mut out, 0x010, &self.family_id);
        put(&mut out, 0x020, &self.image_id);
        put(&mut out, 0x030, &self.vmpl.to_le_bytes());
        put(&mut out, 0x034, &self.signature_algorithm.to_le_bytes());
        put(&mut out, 0x038, &self.current_tcb.to_bytes());
        put(&mut out, 0x040, &self.platform_info.to_le_bytes());
        put(&mut out, 0x048, &self.key_info.to_le_bytes());
        put(&mut out, 0x050, &self.report_data);
        put(&mut out, 0x090, &self.measurement);
        put(&mut out, 0x0C0, &self.host_data);
        put(&mut out, 0x0E0, &self.id_key_digest);
        put(&mut out, 0x110, &self.author_key_digest);
        put(&mut out, 0x140, &self.report_id);
        put(&mut out, 0x160, &self.report_id_ma);
        put(&mut out, 0x180, &self.reported_tcb.to_bytes());
        put(&mut out, 0x188, &self.cpuid);
        put(&mut out, 0x1A0, &self.chip_id);
        put(&mut out, 0x1E0, &self.committed_tcb.to_bytes());
        put(&mut out, 0x1E8, &self.current_firmware);
        put(&mut out, 0x1EC, &self.committed_firmware);
        put(&mut out, 0x1F0, &self.launch_tcb.to_bytes());
        put(&mut out, 0x1F8, &self.launch_mitigations.to_le_bytes());
        put(&mut out, 0x200, &self.current_mitigations.to_le_bytes());
        for (offset, bytes) in &self.patches {
            put(&mut out, *offset, bytes);
        }
        out
    }
}

/// Copies a field into place; every offset above lies inside the report, a patch outside is ignored.
fn put(out: &mut [u8], offset: usize, field: &[u8]) {
    if let Some(place) = out.get_mut(offset..offset.saturating_add(field.len())) {
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
        assert_eq!(report[0x30..0x40], [0, 0, 0, 0, 1, 0, 0, 0, 0x0a, 1, 0, 0, 0, 0, 0x19, 0x54]);
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

    #[test]
    fn older_versions_have_less_and_turin_has_fmc_first() {
        let mut fields = ReportFields::honest([0xc1; 64], [0xab; 48], [0xcd; 32], [0xef; 32]);
        fields.set_version(2);
        fields.set_all_tcb(Tcb { fmc: Some(1), bootloader: 2, tee: 3, snp: 4, microcode: 5 });
        fields.patches.push((0x20f, vec![9]));
        fields.patches.push((usize::MAX, vec![9]));
        let bytes = fields.signed_bytes();
        assert_eq!(bytes[0x180..0x18b], [1, 2, 3, 4, 0, 0, 0, 5, 0, 0, 0]);
        assert_eq!((&bytes[0x1F8..0x208], bytes[0x20f]), (&[0; 16][..], 9));
    }
}
