//! Turns the 1184 bytes of an SNP report into typed fields.
//! It does not establish that they are genuine: only the copy inside an `Authentic` verdict has a verified signature.

use std::fmt;

use super::{
    Product, Tcb,
    layout::{self as at, Field, REPORT_LEN, SIGNED_LEN},
};
use crate::VerifyError;

/// A report's fields: AMD 56860 rev 1.58, structure ATTESTATION_REPORT; offsets in `layout.rs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Version of the structure: 2, 3 or 5.
    pub version: u32,
    /// Security version of the guest, from its ID block.
    pub guest_svn: u32,
    /// What the guest's owner forbade or allowed at launch.
    pub policy: GuestPolicy,
    /// Family id of the ID block.
    pub family_id: [u8; 16],
    /// Image id of the ID block.
    pub image_id: [u8; 16],
    /// Privilege level that asked for the report: 0 to 3.
    pub vmpl: u32,
    /// 1: ECDSA P-384 with SHA-384.
    pub signature_algo: u32,
    /// TCB that runs now.
    pub current_tcb: Tcb,
    /// Properties of the platform.
    pub platform_info: PlatformInfo,
    /// Which key signed, and flags about keys.
    pub key_info: KeyInfo,
    /// 64 bytes chosen by the guest.
    pub report_data: [u8; 64],
    /// Launch digest: what code was *measured*.
    pub measurement: [u8; 48],
    /// 32 bytes chosen by the host at launch: what configuration is *bound*.
    pub host_data: [u8; 32],
    /// Digest of the key that signed the ID block, or zero.
    pub id_key_digest: [u8; 48],
    /// Digest of the key that signed the ID key, or zero.
    pub author_key_digest: [u8; 48],
    /// Identifier of this guest.
    pub report_id: [u8; 32],
    /// Identifier of its migration agent, all ones without one.
    pub report_id_ma: [u8; 32],
    /// TCB for which the leaf was issued.
    pub reported_tcb: Tcb,
    /// The processor; absent in version 2.
    pub cpuid: Option<Cpuid>,
    /// Identifier of the chip; zero when the host masks it. On Turin only the first 8 bytes are used.
    pub chip_id: [u8; 64],
    /// TCB below which the platform cannot be rolled back.
    pub committed_tcb: Tcb,
    /// Firmware that runs now.
    pub current: FirmwareVersion,
    /// Firmware below which the platform cannot be rolled back.
    pub committed: FirmwareVersion,
    /// TCB when the guest was launched.
    pub launch_tcb: Tcb,
    /// Mitigations when the guest was launched; from version 5.
    pub launch_mit_vector: Option<u64>,
    /// Mitigations now; from version 5.
    pub current_mit_vector: Option<u64>,
}

/// Combined CPUID identification of the processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cpuid {
    /// Combined family.
    pub family: u8,
    /// Combined model.
    pub model: u8,
    /// Stepping.
    pub stepping: u8,
}

/// Version of the SNP firmware.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FirmwareVersion {
    /// Major number.
    pub major: u8,
    /// Minor number.
    pub minor: u8,
    /// Build number.
    pub build: u8,
}

/// POLICY, offset 0x008.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuestPolicy(pub u64);

/// PLATFORM_INFO, offset 0x040. Unknown bits are kept, not refused: newer firmware sets more of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlatformInfo(pub u64);

/// The flags at offset 0x048.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyInfo(pub u32);

/// Which key signed the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SigningKey {
    /// Versioned chip endorsement key.
    Vcek,
    /// Versioned loaded endorsement key.
    Vlek,
    /// None: the signature is zero.
    None,
    /// A value without a meaning today.
    Unknown(u8),
}

macro_rules! bits {
    ($type:ty { $($(#[$doc:meta])* $name:ident = $bit:literal;)* }) => {
        #[cfg(test)]
        impl $type {
            /// Name and number of every flag, for the comparison with the table in `layout.rs`.
            pub(crate) const BITS: &[(&str, u32)] = &[$((stringify!($name), $bit)),*];
        }

        impl $type { $(
            $(#[$doc])*
            #[must_use]
            pub const fn $name(self) -> bool { self.0 >> $bit & 1 == 1 }
        )* }
    };
}

bits!(GuestPolicy {
    /// Bit 16: simultaneous multithreading is allowed.
    smt = 16;
    /// Bit 18: a migration agent is allowed.
    migrate_ma = 18;
    /// Bit 19: debugging is allowed, the host can read the guest's memory.
    debug = 19;
    /// Bit 20: only one socket may be used.
    single_socket = 20;
    /// Bit 21: CXL devices and memory are allowed.
    cxl_allow = 21;
    /// Bit 22: AES-256-XTS is required for memory.
    mem_aes_256_xts = 22;
    /// Bit 23: RAPL must be off.
    rapl_dis = 23;
    /// Bit 24: ciphertext hiding must be on.
    ciphertext_hiding = 24;
    /// Bit 25: moving and swapping pages must be off.
    page_swap_disable = 25;
});

impl GuestPolicy {
    /// Bits 15:8: lowest ABI major version.
    #[must_use]
    pub const fn abi_major(self) -> u8 {
        self.0.to_le_bytes()[1]
    }

    /// Bits 7:0: lowest ABI minor version.
    #[must_use]
    pub const fn abi_minor(self) -> u8 {
        self.0.to_le_bytes()[0]
    }
}

bits!(PlatformInfo {
    /// Bit 0: simultaneous multithreading is on.
    smt_en = 0;
    /// Bit 1: transparent memory encryption is on.
    tsme_en = 1;
    /// Bit 2: the memory has error correction.
    ecc_en = 2;
    /// Bit 3: RAPL is off.
    rapl_dis = 3;
    /// Bit 4: ciphertext hiding is on.
    ciphertext_hiding_dram_en = 4;
    /// Bit 5: the check for aliased memory was completed since the last reset (CVE-2024-21944).
    alias_check_complete = 5;
    /// Bit 7: trusted I/O is on.
    tio_en = 7;
});

bits!(KeyInfo {
    /// Bit 0: AUTHOR_KEY_DIGEST holds a digest.
    author_key_en = 0;
    /// Bit 1: the host masks the chip key.
    mask_chip_key = 1;
});

impl KeyInfo {
    /// Bits 4:2: which key signed.
    #[must_use]
    pub const fn signing_key(self) -> SigningKey {
        match self.signing_key_bits() {
            0 => SigningKey::Vcek,
            1 => SigningKey::Vlek,
            7 => SigningKey::None,
            other => SigningKey::Unknown(other),
        }
    }

    pub(crate) const fn signing_key_bits(self) -> u8 {
        self.0.to_le_bytes()[0] >> 2 & 7
    }
}

impl fmt::Display for FirmwareVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.build)
    }
}

impl fmt::Display for Cpuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "family {:#04x} model {:#04x} stepping {:#x}", self.family, self.model, self.stepping)
    }
}

/// The received bytes, of which nothing is known but the length.
#[derive(Clone, Copy)]
pub(crate) struct Frame<'a>(&'a [u8; REPORT_LEN]);

impl<'a> Frame<'a> {
    /// Exactly 1184 bytes.
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Self, VerifyError> {
        bytes.try_into().map(Self).map_err(|_| VerifyError::ReportLength { actual: bytes.len() })
    }

    /// The bytes under the signature: 0x000 to 0x29F, as received.
    pub(crate) fn signed(self) -> &'a [u8] {
        self.0.get(..SIGNED_LEN).unwrap_or_default()
    }

    pub(crate) fn slice(self, field: Field) -> &'a [u8] {
        self.0.get(field.offset..field.offset + field.size).unwrap_or_default()
    }

    pub(crate) fn array<const N: usize>(self, field: Field) -> [u8; N] {
        debug_assert_eq!(N, field.size);
        let mut out = [0; N];
        for (to, from) in out.iter_mut().zip(self.slice(field)) {
            *to = *from;
        }
        out
    }

    pub(crate) fn u8(self, field: Field) -> u8 {
        u8::from_le_bytes(self.array(field))
    }

    pub(crate) fn u32(self, field: Field) -> u32 {
        u32::from_le_bytes(self.array(field))
    }

    pub(crate) fn u64(self, field: Field) -> u64 {
        u64::from_le_bytes(self.array(field))
    }
}

impl Report {
    /// Reads every field. The caller has verified the signature and the reserved bytes first.
    pub(crate) fn read(frame: Frame<'_>, product: Product) -> Result<Self, VerifyError> {
        let tcb = |field| Tcb::read(frame.array(field), product);
        let version = frame.u32(at::VERSION);
        let since = |field: Field| version >= field.since;
        Ok(Self {
            version,
            guest_svn: frame.u32(at::GUEST_SVN),
            policy: GuestPolicy(frame.u64(at::POLICY)),
            family_id: frame.array(at::FAMILY_ID),
            image_id: frame.array(at::IMAGE_ID),
            vmpl: frame.u32(at::VMPL),
            signature_algo: frame.u32(at::SIGNATURE_ALGO),
            current_tcb: tcb(at::CURRENT_TCB)?,
            platform_info: PlatformInfo(frame.u64(at::PLATFORM_INFO)),
            key_info: KeyInfo(frame.u32(at::KEY_INFO)),
            report_data: frame.array(at::REPORT_DATA),
            measurement: frame.array(at::MEASUREMENT),
            host_data: frame.array(at::HOST_DATA),
            id_key_digest: frame.array(at::ID_KEY_DIGEST),
            author_key_digest: frame.array(at::AUTHOR_KEY_DIGEST),
            report_id: frame.array(at::REPORT_ID),
            report_id_ma: frame.array(at::REPORT_ID_MA),
            reported_tcb: tcb(at::REPORTED_TCB)?,
            cpuid: since(at::CPUID_FAM_ID).then(|| Cpuid {
                family: frame.u8(at::CPUID_FAM_ID),
                model: frame.u8(at::CPUID_MOD_ID),
                stepping: frame.u8(at::CPUID_STEP),
            }),
            chip_id: frame.array(at::CHIP_ID),
            committed_tcb: tcb(at::COMMITTED_TCB)?,
            current: FirmwareVersion {
                major: frame.u8(at::CURRENT_MAJOR),
                minor: frame.u8(at::CURRENT_MINOR),
                build: frame.u8(at::CURRENT_BUILD),
            },
            committed: FirmwareVersion {
                major: frame.u8(at::COMMITTED_MAJOR),
                minor: frame.u8(at::COMMITTED_MINOR),
                build: frame.u8(at::COMMITTED_BUILD),
            },
            launch_tcb: tcb(at::LAUNCH_TCB)?,
            launch_mit_vector: since(at::LAUNCH_MIT_VECTOR).then(|| frame.u64(at::LAUNCH_MIT_VECTOR)),
            current_mit_vector: since(at::CURRENT_MIT_VECTOR).then(|| frame.u64(at::CURRENT_MIT_VECTOR)),
        })
    }

    /// Whether the host hides which chip this is: only the leaf still names it, and no list of platforms can match.
    #[must_use]
    pub fn chip_id_masked(&self) -> bool {
        self.chip_id == [0; 64]
    }
}
