//! Turns the field table of the SNP attestation report into constants: the one place where an offset is written.
//! It does not read or judge any field.
//!
//! Document: AMD 56860, "SEV Secure Nested Paging Firmware ABI Specification", revision 1.58. Every row below names its
//! structure there ([`Field::source`]) and its offset in the report. All integers are little-endian.
//!
//! | Version | what it adds |
//! |---|---|
//! | 2 | everything without another number in its row |
//! | 3 | CPUID_FAM_ID, CPUID_MOD_ID, CPUID_STEP at 0x188 to 0x18A |
//! | 5 | LAUNCH_MIT_VECTOR at 0x1F8, CURRENT_MIT_VECTOR at 0x200 |
//!
//! Version 4 was never seen signed by a genuine machine and is not read.

/// The exact length of a report.
pub const REPORT_LEN: usize = 0x4a0;
/// The signature covers the bytes before this offset.
pub const SIGNED_LEN: usize = 0x2a0;

/// What the bytes of a field are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A value.
    Value,
    /// Must be zero, inside the signed area.
    Reserved,
    /// A component of the signature.
    Signature,
    /// Must be zero, outside the signed area.
    Padding,
}

/// Where a row is specified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// AMD's number of the document.
    pub document: &'static str,
    /// Its revision.
    pub revision: &'static str,
    /// The structure in it.
    pub structure: &'static str,
}

const fn source(structure: &'static str) -> Source {
    Source { document: "AMD 56860", revision: "1.58", structure }
}

/// Offsets 0x000 to 0x29F.
pub const REPORT: Source = source("ATTESTATION_REPORT (table 23)");
/// Offsets 0x2A0 to 0x49F.
pub const SIGNATURE: Source = source("SIGNATURE, ECDSA P-384 with SHA-384 (chapter 10)");

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// The name in AMD 56860.
    pub name: &'static str,
    /// Offset in bytes.
    pub offset: usize,
    /// Size in bytes.
    pub size: usize,
    /// What the bytes are.
    pub kind: Kind,
    /// First report version in which it has a meaning; before that it is reserved.
    pub since: u32,
}

impl Field {
    /// Where this row is specified.
    #[must_use]
    pub const fn source(&self) -> Source {
        if self.offset < SIGNED_LEN { REPORT } else { SIGNATURE }
    }
}

/// One flag inside a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bit {
    /// The field.
    pub field: Field,
    /// Its number, from 0, the least significant.
    pub number: u32,
    /// The name in AMD 56860.
    pub name: &'static str,
}

const fn bit(field: Field, number: u32, name: &'static str) -> Bit {
    Bit { field, number, name }
}

const fn value(name: &'static str, offset: usize, size: usize) -> Field {
    Field { name, offset, size, kind: Kind::Value, since: 2 }
}
const fn value_since(since: u32, name: &'static str, offset: usize, size: usize) -> Field {
    Field { name, offset, size, kind: Kind::Value, since }
}
const fn field(kind: Kind, name: &'static str, offset: usize, size: usize) -> Field {
    Field { name, offset, size, kind, since: 2 }
}

pub const VERSION: Field = value("VERSION", 0x000, 4);
pub const GUEST_SVN: Field = value("GUEST_SVN", 0x004, 4);
pub const POLICY: Field = value("POLICY", 0x008, 8);
pub const FAMILY_ID: Field = value("FAMILY_ID", 0x010, 16);
pub const IMAGE_ID: Field = value("IMAGE_ID", 0x020, 16);
pub const VMPL: Field = value("VMPL", 0x030, 4);
pub const SIGNATURE_ALGO: Field = value("SIGNATURE_ALGO", 0x034, 4);
pub const CURRENT_TCB: Field = value("CURRENT_TCB", 0x038, 8);
pub const PLATFORM_INFO: Field = value("PLATFORM_INFO", 0x040, 8);
/// Bit 0 AUTHOR_KEY_EN, bit 1 MASK_CHIP_KEY, bits 4:2 SIGNING_KEY, bits 31:5 reserved.
pub const KEY_INFO: Field = value("AUTHOR_KEY_EN, MASK_CHIP_KEY, SIGNING_KEY", 0x048, 4);
pub const RESERVED_04C: Field = field(Kind::Reserved, "reserved", 0x04c, 4);
pub const REPORT_DATA: Field = value("REPORT_DATA", 0x050, 64);
pub const MEASUREMENT: Field = value("MEASUREMENT", 0x090, 48);
pub const HOST_DATA: Field = value("HOST_DATA", 0x0c0, 32);
pub const ID_KEY_DIGEST: Field = value("ID_KEY_DIGEST", 0x0e0, 48);
pub const AUTHOR_KEY_DIGEST: Field = value("AUTHOR_KEY_DIGEST", 0x110, 48);
pub const REPORT_ID: Field = value("REPORT_ID", 0x140, 32);
pub const REPORT_ID_MA: Field = value("REPORT_ID_MA", 0x160, 32);
pub const REPORTED_TCB: Field = value("REPORTED_TCB", 0x180, 8);
pub const CPUID_FAM_ID: Field = value_since(3, "CPUID_FAM_ID", 0x188, 1);
pub const CPUID_MOD_ID: Field = value_since(3, "CPUID_MOD_ID", 0x189, 1);
pub const CPUID_STEP: Field = value_since(3, "CPUID_STEP", 0x18a, 1);
pub const RESERVED_18B: Field = field(Kind::Reserved, "reserved", 0x18b, 21);
pub const CHIP_ID: Field = value("CHIP_ID", 0x1a0, 64);
pub const COMMITTED_TCB: Field = value("COMMITTED_TCB", 0x1e0, 8);
pub const CURRENT_BUILD: Field = value("CURRENT_BUILD", 0x1e8, 1);
pub const CURRENT_MINOR: Field = value("CURRENT_MINOR", 0x1e9, 1);
pub const CURRENT_MAJOR: Field = value("CURRENT_MAJOR", 0x1ea, 1);
pub const RESERVED_1EB: Field = field(Kind::Reserved, "reserved", 0x1eb, 1);
pub const COMMITTED_BUILD: Field = value("COMMITTED_BUILD", 0x1ec, 1);
pub const COMMITTED_MINOR: Field = value("COMMITTED_MINOR", 0x1ed, 1);
pub const COMMITTED_MAJOR: Field = value("COMMITTED_MAJOR", 0x1ee, 1);
pub const RESERVED_1EF: Field = field(Kind::Reserved, "reserved", 0x1ef, 1);
pub const LAUNCH_TCB: Field = value("LAUNCH_TCB", 0x1f0, 8);
pub const LAUNCH_MIT_VECTOR: Field = value_since(5, "LAUNCH_MIT_VECTOR", 0x1f8, 8);
pub const CURRENT_MIT_VECTOR: Field = value_since(5, "CURRENT_MIT_VECTOR", 0x200, 8);
pub const RESERVED_208: Field = field(Kind::Reserved, "reserved", 0x208, 152);
pub const SIGNATURE_R: Field = field(Kind::Signature, "SIGNATURE.R", 0x2a0, 48);
pub const PADDING_R: Field = field(Kind::Padding, "SIGNATURE.R bytes 48 to 71", 0x2d0, 24);
pub const SIGNATURE_S: Field = field(Kind::Signature, "SIGNATURE.S", 0x2e8, 48);
pub const PADDING_S: Field = field(Kind::Padding, "SIGNATURE.S bytes 48 to 71", 0x318, 24);
pub const PADDING_330: Field = field(Kind::Padding, "SIGNATURE reserved", 0x330, 368);

/// The whole report in order, without a gap.
pub const REPORT_LAYOUT: &[Field] = &[
    VERSION,
    GUEST_SVN,
    POLICY,
    FAMILY_ID,
    IMAGE_ID,
    VMPL,
    SIGNATURE_ALGO,
    CURRENT_TCB,
    PLATFORM_INFO,
    KEY_INFO,
    RESERVED_04C,
    REPORT_DATA,
    MEASUREMENT,
    HOST_DATA,
    ID_KEY_DIGEST,
    AUTHOR_KEY_DIGEST,
    REPORT_ID,
    REPORT_ID_MA,
    REPORTED_TCB,
    CPUID_FAM_ID,
    CPUID_MOD_ID,
    CPUID_STEP,
    RESERVED_18B,
    CHIP_ID,
    COMMITTED_TCB,
    CURRENT_BUILD,
    CURRENT_MINOR,
    CURRENT_MAJOR,
    RESERVED_1EB,
    COMMITTED_BUILD,
    COMMITTED_MINOR,
    COMMITTED_MAJOR,
    RESERVED_1EF,
    LAUNCH_TCB,
    LAUNCH_MIT_VECTOR,
    CURRENT_MIT_VECTOR,
    RESERVED_208,
    SIGNATURE_R,
    PADDING_R,
    SIGNATURE_S,
    PADDING_S,
    PADDING_330,
];

/// Every flag with a meaning. POLICY bits 7:0 are ABI_MINOR, 15:8 ABI_MAJOR (GUEST_POLICY); KEY_INFO bits 4:2 are
/// SIGNING_KEY: 0 VCEK, 1 VLEK, 7 none. PLATFORM_INFO bit 6 is reserved in revision 1.58, and genuine Turin machines set it:
/// bits of PLATFORM_INFO without a meaning here are kept and never refused.
pub const REPORT_BITS: &[Bit] = &[
    bit(POLICY, 16, "SMT"),
    bit(POLICY, 18, "MIGRATE_MA"),
    bit(POLICY, 19, "DEBUG"),
    bit(POLICY, 20, "SINGLE_SOCKET"),
    bit(POLICY, 21, "CXL_ALLOW"),
    bit(POLICY, 22, "MEM_AES_256_XTS"),
    bit(POLICY, 23, "RAPL_DIS"),
    bit(POLICY, 24, "CIPHERTEXT_HIDING_DRAM"),
    bit(POLICY, 25, "PAGE_SWAP_DISABLE"),
    bit(PLATFORM_INFO, 0, "SMT_EN"),
    bit(PLATFORM_INFO, 1, "TSME_EN"),
    bit(PLATFORM_INFO, 2, "ECC_EN"),
    bit(PLATFORM_INFO, 3, "RAPL_DIS"),
    bit(PLATFORM_INFO, 4, "CIPHERTEXT_HIDING_DRAM_EN"),
    bit(PLATFORM_INFO, 5, "ALIAS_CHECK_COMPLETE"),
    bit(PLATFORM_INFO, 7, "TIO_EN"),
    bit(KEY_INFO, 0, "AUTHOR_KEY_EN"),
    bit(KEY_INFO, 1, "MASK_CHIP_KEY"),
];

/// POLICY bit 17: reserved, must be one.
pub const POLICY_MUST_BE_ONE: u64 = 1 << 17;
/// POLICY bits 63:26: reserved, must be zero.
pub const POLICY_MUST_BE_ZERO: u64 = !0 << 26;
/// KEY_INFO bits 31:5: reserved, must be zero.
pub const KEY_INFO_MUST_BE_ZERO: u32 = !0 << 5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snp::{GuestPolicy, KeyInfo, PlatformInfo};

    #[test]
    fn the_table_has_no_gap_and_no_overlap() {
        let mut end = 0;
        for field in REPORT_LAYOUT {
            assert_eq!(field.offset, end, "{}", field.name);
            let signed = matches!(field.kind, Kind::Value | Kind::Reserved);
            assert_eq!(field.offset < SIGNED_LEN, signed, "{}", field.name);
            end += field.size;
        }
        assert_eq!(end, REPORT_LEN);
        assert_eq!(SIGNATURE_S.offset - SIGNATURE_R.offset, 72);
    }

    #[test]
    fn the_versions_differ_in_five_fields() {
        let since =
            |version| REPORT_LAYOUT.iter().filter(move |f| f.since == version).map(|f| (f.name, f.offset, f.size));
        let third = [("CPUID_FAM_ID", 0x188, 1), ("CPUID_MOD_ID", 0x189, 1), ("CPUID_STEP", 0x18a, 1)];
        assert!(since(3).eq(third));
        assert!(since(5).eq([("LAUNCH_MIT_VECTOR", 0x1f8, 8), ("CURRENT_MIT_VECTOR", 0x200, 8)]));
        assert_eq!(since(2).count() + 5, REPORT_LAYOUT.len());
        assert!(REPORT_LAYOUT.iter().all(|f| (f.source() == REPORT) == (f.offset < 0x2a0)));
    }

    /// The accessors of a report read the bits that the table names.
    #[test]
    fn every_flag_is_read_where_the_table_says() {
        let accessors = [
            (POLICY, GuestPolicy::BITS, "CIPHERTEXT_HIDING_DRAM"),
            (PLATFORM_INFO, PlatformInfo::BITS, ""),
            (KEY_INFO, KeyInfo::BITS, ""),
        ];
        for (field, read, shortened) in accessors {
            let named: Vec<_> = REPORT_BITS.iter().filter(|b| b.field == field).collect();
            assert_eq!(named.len(), read.len(), "{}", field.name);
            for (bit, (name, number)) in named.iter().zip(read) {
                let ours = name.to_uppercase();
                assert!(bit.name == ours || (bit.name == shortened && shortened.starts_with(&ours)), "{ours}");
                assert_eq!(bit.number, *number, "{ours}");
            }
        }
        // No flag stands where a bit must be zero or one.
        for bit in REPORT_BITS.iter().filter(|b| b.field == POLICY) {
            assert_eq!((POLICY_MUST_BE_ZERO | POLICY_MUST_BE_ONE) >> bit.number & 1, 0);
        }
    }
}
