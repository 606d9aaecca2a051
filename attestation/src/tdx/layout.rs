//! Turns the field tables of a TDX quote into constants: the one place where an offset is written.
//! It does not read or judge any field.
//!
//! Documents: Intel, "TDX DCAP: Quote Generation Library and Quote Verification Library", rev 0.9, appendices A.3 (quote
//! version 4) and A.4 (version 5); Intel TDX Module ABI Specification 348551-008US, table 3.23 for the TD's ATTRIBUTES.
//! All integers are little-endian. Offsets count from the start of the structure that a table describes.

/// The quote header: appendix A.3.1, the same in version 5.
pub const HEADER_LEN: usize = 48;
/// What version 5 puts between header and body: appendix A.4.
pub const DESCRIPTOR_LEN: usize = 6;
/// The body of type 2, TDX 1.0: appendix A.3.2. Version 4 has no other.
pub const TD_REPORT_10_LEN: usize = 584;
/// The body of type 3, TDX 1.5: appendix A.4.
pub const TD_REPORT_15_LEN: usize = 648;
/// The report of the quoting enclave: appendix A.3.10.
pub const QE_REPORT_LEN: usize = 384;
/// The QE authentication data: Intel's quoting enclave writes 32 bytes, and its verification library takes no other length.
pub const QE_AUTH_DATA_LEN: usize = 32;

/// What the bytes of a field are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A value.
    Value,
    /// Must be zero.
    Reserved,
    /// A component of a signature, or a key.
    Signature,
    /// Says how long something is; must fit exactly.
    Length,
}

/// One row of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// The name in Intel's document.
    pub name: &'static str,
    /// Offset in bytes.
    pub offset: usize,
    /// Size in bytes.
    pub size: usize,
    /// What the bytes are.
    pub kind: Kind,
}

const fn value(name: &'static str, offset: usize, size: usize) -> Field {
    Field { name, offset, size, kind: Kind::Value }
}
const fn field(kind: Kind, name: &'static str, offset: usize, size: usize) -> Field {
    Field { name, offset, size, kind }
}

// Header, A.3.1. Offsets 8 and 10 were the QE's and PCE's security versions in version 3.
pub const VERSION: Field = value("Version", 0, 2);
pub const ATT_KEY_TYPE: Field = value("Attestation Key Type", 2, 2);
pub const TEE_TYPE: Field = value("TEE Type", 4, 4);
pub const RESERVED_8: Field = field(Kind::Reserved, "Reserved", 8, 2);
pub const RESERVED_10: Field = field(Kind::Reserved, "Reserved", 10, 2);
pub const QE_VENDOR_ID: Field = value("QE Vendor ID", 12, 16);
pub const USER_DATA: Field = value("User Data", 28, 20);

/// The header in order.
pub const HEADER: &[Field] = &[VERSION, ATT_KEY_TYPE, TEE_TYPE, RESERVED_8, RESERVED_10, QE_VENDOR_ID, USER_DATA];

// Version 5 only, A.4; offsets in the quote.
pub const BODY_TYPE: Field = value("TD Quote Body Descriptor: type", 48, 2);
pub const BODY_SIZE: Field = field(Kind::Length, "TD Quote Body Descriptor: size", 50, 4);

/// The descriptor in order; its offsets count from the start of the quote.
pub const DESCRIPTOR: &[Field] = &[BODY_TYPE, BODY_SIZE];

// Body, A.3.2.
pub const TEE_TCB_SVN: Field = value("TEE_TCB_SVN", 0, 16);
pub const MRSEAM: Field = value("MRSEAM", 16, 48);
pub const MRSIGNERSEAM: Field = value("MRSIGNERSEAM", 64, 48);
pub const SEAMATTRIBUTES: Field = value("SEAMATTRIBUTES", 112, 8);
pub const TDATTRIBUTES: Field = value("TDATTRIBUTES", 120, 8);
pub const XFAM: Field = value("XFAM", 128, 8);
pub const MRTD: Field = value("MRTD", 136, 48);
pub const MRCONFIGID: Field = value("MRCONFIGID", 184, 48);
pub const MROWNER: Field = value("MROWNER", 232, 48);
pub const MROWNERCONFIG: Field = value("MROWNERCONFIG", 280, 48);
pub const RTMR0: Field = value("RTMR0", 328, 48);
pub const RTMR1: Field = value("RTMR1", 376, 48);
pub const RTMR2: Field = value("RTMR2", 424, 48);
pub const RTMR3: Field = value("RTMR3", 472, 48);
pub const REPORTDATA: Field = value("REPORTDATA", 520, 64);
// Type 3 only, A.4.
pub const TEE_TCB_SVN_2: Field = value("TEE_TCB_SVN_2", 584, 16);
pub const MRSERVICETD: Field = value("MRSERVICETD", 600, 48);

/// The body of type 2 in order.
pub const TD_REPORT_10: &[Field] = &[
    TEE_TCB_SVN,
    MRSEAM,
    MRSIGNERSEAM,
    SEAMATTRIBUTES,
    TDATTRIBUTES,
    XFAM,
    MRTD,
    MRCONFIGID,
    MROWNER,
    MROWNERCONFIG,
    RTMR0,
    RTMR1,
    RTMR2,
    RTMR3,
    REPORTDATA,
];

/// What a body of type 3 has after the same fields.
pub const TD_REPORT_15_TAIL: &[Field] = &[TEE_TCB_SVN_2, MRSERVICETD];

/// After the body: the signature data with its length, A.3.8. Offsets count from the end of the body.
pub const SIGNATURE_DATA: &[Field] = &[
    field(Kind::Length, "Quote Signature Data Len", 0, 4),
    field(Kind::Signature, "Quote Signature", 4, 64),
    field(Kind::Signature, "ECDSA Attestation Key", 68, 64),
    value("QE Certification Data: type, must be 6", 132, 2),
    field(Kind::Length, "QE Certification Data: size", 134, 4),
];

/// The certification data of type 6, A.3.11. Offsets count from its start; the PCK chain, PEM, follows to its end.
pub const CERTIFICATION_DATA: &[Field] = &[
    value("QE Report", 0, QE_REPORT_LEN),
    field(Kind::Signature, "QE Report Signature", 384, 64),
    field(Kind::Length, "QE Authentication Data: size, must be 32", 448, 2),
    value("QE Authentication Data", 450, QE_AUTH_DATA_LEN),
    value("QE Certification Data: type, must be 5", 482, 2),
    field(Kind::Length, "QE Certification Data: size", 484, 4),
];

// Enclave report, A.3.10. What Intel's document calls reserved holds the key separation fields of newer enclaves: Intel's
// quoting enclave leaves them zero.
pub const QE_REPORT_DATA: Field = value("Report Data: SHA-256 of key and authentication data", 320, 32);
pub const QE_REPORT_DATA_ZERO: Field = field(Kind::Reserved, "Report Data: 32 bytes of zero", 352, 32);

/// The report of the quoting enclave in order.
pub const QE_REPORT: &[Field] = &[
    value("CPU SVN", 0, 16),
    value("MISCSELECT", 16, 4),
    field(Kind::Reserved, "Reserved", 20, 28),
    value("Attributes", 48, 16),
    value("MRENCLAVE", 64, 32),
    field(Kind::Reserved, "Reserved", 96, 32),
    value("MRSIGNER", 128, 32),
    field(Kind::Reserved, "Reserved", 160, 96),
    value("ISV ProdID", 256, 2),
    value("ISV SVN", 258, 2),
    field(Kind::Reserved, "Reserved", 260, 60),
    QE_REPORT_DATA,
    QE_REPORT_DATA_ZERO,
];

/// Every structure of a quote in the order in which they follow each other, and the quoting enclave's report inside.
pub const QUOTE_LAYOUT: &[(&str, &[Field])] = &[
    ("header", HEADER),
    ("descriptor, version 5", DESCRIPTOR),
    ("body", TD_REPORT_10),
    ("body, type 3", TD_REPORT_15_TAIL),
    ("signature data", SIGNATURE_DATA),
    ("certification data", CERTIFICATION_DATA),
    ("QE report", QE_REPORT),
];

/// 2: ECDSA-256-with-P-256.
pub const ATT_KEY_ECDSA_P256: u16 = 2;
/// 0x81: TDX.
pub const TEE_TDX: u32 = 0x81;
/// Intel's quoting enclave.
pub const INTEL_QE: [u8; 16] =
    [0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07];
/// Certification data: QE report with certification data of its own.
pub const CERT_DATA_QE_REPORT: u16 = 6;
/// Certification data: PCK certificate chain, PEM.
pub const CERT_DATA_PCK_CHAIN: u16 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn dense(table: &[Field], start: usize, len: usize) {
        let mut end = start;
        for field in table {
            assert_eq!(field.offset, end, "{}", field.name);
            end += field.size;
        }
        assert_eq!(end, start + len);
    }

    #[test]
    fn the_tables_have_no_gap_and_no_overlap() {
        dense(HEADER, 0, HEADER_LEN);
        dense(DESCRIPTOR, HEADER_LEN, DESCRIPTOR_LEN);
        dense(TD_REPORT_10, 0, TD_REPORT_10_LEN);
        dense(TD_REPORT_15_TAIL, TD_REPORT_10_LEN, TD_REPORT_15_LEN - TD_REPORT_10_LEN);
        dense(SIGNATURE_DATA, 0, 138);
        dense(CERTIFICATION_DATA, 0, 488);
        dense(QE_REPORT, 0, QE_REPORT_LEN);
    }
}
