//! Turns the certificate table that a host sends along with an SEV-SNP report into the certificates of the key that signed it.
//! No certificate is read or believed: the verifier outside has the roots, and the ones in the table (ARK, ASK) are left there.
//!
//! AMD 56421, SEV-ES Guest-Hypervisor Communication Block Standardization 2.03, section 4.1.8.1 (MSG_REPORT_REQ): entries of a
//! GUID (16 bytes), offset and length (32 bits each, little-endian), closed by an entry of zeros; offsets count from the start of
//! the table. The GUIDs stand in the order in which they are written, as hosts' tools store them. A host chooses
//! every byte, and the kernel hands them on as they are: nothing outside the table may be read because of them.

use std::ops::Range;

use vouchsafe_attestation::evidence::MAX_LEAF;

use crate::error::EnclaveError;

/// TSM_OUTBLOB_MAX of Linux, include/linux/tsm.h; the driver itself takes 16 KiB from a host.
pub(super) const MAX_TABLE: usize = 32 * 1024;
/// Five kinds are known, and providers add a few of their own.
const MAX_ENTRIES: usize = 64;
const ENTRY: usize = 24;

type Guid = [u8; 16];
const VCEK: Guid = 0x63da758d_e664_4564_adc5_f4b93be8accd_u128.to_be_bytes();
const VLEK: Guid = 0xa8074bc2_a25a_483e_aae6_39c045a0b8a1_u128.to_be_bytes();
/// The authority that issued the leaf: with a VLEK the ASVK, for which there is no other GUID.
const ASK: Guid = 0x4ab7b379_bbac_4fe4_a02f_05aef327c782_u128.to_be_bytes();

/// Which key signed a report, as the report says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::device) enum Signer {
    /// The chip's.
    Vcek,
    /// The provider's.
    Vlek,
    /// Neither.
    Other,
}

/// What of the table accompanies a report. Empty items are those that the host did not send.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Accompanying {
    /// VCEK or VLEK.
    pub(super) leaf: Vec<u8>,
    /// The VLEK's authority, which verifiers pin by digest; empty with a VCEK.
    pub(super) asvk: Vec<u8>,
}

/// The certificates for a report signed by that key. The CRL comes from the collateral file alone.
///
/// # Errors
/// `EVIDENCE_DEVICE` when the table is malformed, or one of them is longer than a certificate may be.
pub(super) fn accompanying(table: &[u8], signer: Signer) -> Result<Accompanying, EnclaveError> {
    let table = Table::parse(table)?;
    let (leaf, asvk) = match signer {
        Signer::Vcek => (table.find(&VCEK), &[][..]),
        Signer::Vlek => (table.find(&VLEK), table.find(&ASK)),
        Signer::Other => (&[][..], &[][..]),
    };
    if leaf.len() > MAX_LEAF || asvk.len() > MAX_LEAF {
        return Err(EnclaveError::Device("a certificate of the host's table is longer than 8 KiB"));
    }
    Ok(Accompanying { leaf: leaf.to_vec(), asvk: asvk.to_vec() })
}

/// A table whose entries lie inside it, behind its head and apart from each other, under names of their own.
struct Table<'a> {
    entries: Vec<(Guid, &'a [u8])>,
}

impl<'a> Table<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, EnclaveError> {
        let malformed = |what| Err(EnclaveError::Device(what));
        if bytes.is_empty() {
            return Ok(Self { entries: Vec::new() });
        }
        if bytes.len() > MAX_TABLE {
            return malformed("the host's certificate table is longer than 32 KiB");
        }
        let heads = heads(bytes)?;
        let first = (heads.len() + 1) * ENTRY;
        let mut entries: Vec<(Guid, &[u8])> = Vec::with_capacity(heads.len());
        let mut taken: Vec<Range<usize>> = Vec::with_capacity(heads.len());
        for (guid, range) in heads {
            if guid == Guid::default() {
                return malformed("the host's certificate table has an entry without a name");
            }
            if entries.iter().any(|(other, _)| *other == guid) {
                return malformed("the host's certificate table has an entry twice");
            }
            let inside = bytes.get(range.clone()).filter(|_| range.start >= first);
            let Some(certificate) = inside else {
                return malformed("the host's certificate table points outside itself");
            };
            if taken.iter().any(|other| range.start < other.end && other.start < range.end) {
                return malformed("the host's certificate table has entries over each other");
            }
            entries.push((guid, certificate));
            taken.push(range);
        }
        Ok(Self { entries })
    }

    /// The certificate under a name; empty when there is none.
    fn find(&self, guid: &Guid) -> &'a [u8] {
        self.entries.iter().find(|(name, _)| name == guid).map_or(&[], |(_, certificate)| certificate)
    }
}

/// The entries up to the closing one.
fn heads(bytes: &[u8]) -> Result<Vec<(Guid, Range<usize>)>, EnclaveError> {
    let mut heads = Vec::new();
    let (entries, _) = bytes.as_chunks::<ENTRY>();
    for entry in entries {
        if *entry == [0; ENTRY] {
            return Ok(heads);
        }
        if heads.len() == MAX_ENTRIES {
            return Err(EnclaveError::Device("the host's certificate table has more than 64 entries"));
        }
        let [guid @ .., o0, o1, o2, o3, l0, l1, l2, l3] = *entry;
        let number = |bytes| u32::from_le_bytes(bytes) as usize;
        let (offset, length) = (number([o0, o1, o2, o3]), number([l0, l1, l2, l3]));
        // Two numbers of 32 bits: their sum has 33.
        heads.push((guid, offset..offset.saturating_add(length)));
    }
    Err(EnclaveError::Device("the host's certificate table has no end"))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use sev::firmware::host::{CertTableEntry, CertType};

    const MALFORMED: Option<&str> = Some("EVIDENCE_DEVICE");

    /// The entries that AMD names.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(in super::super) enum Kind {
        Vcek,
        Vlek,
        Ask,
        Ark,
        Crl,
    }

    impl Kind {
        fn guid(self) -> Guid {
            match self {
                Self::Vcek => VCEK,
                Self::Vlek => VLEK,
                Self::Ask => ASK,
                Self::Ark => 0xc0b406a4_a803_4952_9743_3fb6014cd0ae_u128.to_be_bytes(),
                Self::Crl => 0x92f81bc3_5811_4d3d_97ff_d19f88dc67ea_u128.to_be_bytes(),
            }
        }

        /// Bytes of its own.
        pub(in super::super) fn certificate(self) -> Vec<u8> {
            vec![self as u8 + 1; 1000 + self as usize]
        }
    }

    /// A table as hosts write it: the certificates behind the closing entry, one after the other.
    pub(in super::super) fn table(certificates: &[(Kind, Vec<u8>)]) -> Vec<u8> {
        let mut offset = (certificates.len() + 1) * ENTRY;
        let (mut head, mut tail) = (Vec::new(), Vec::new());
        for (kind, certificate) in certificates {
            head.extend(entry(kind.guid(), offset as u32, certificate.len() as u32));
            tail.extend_from_slice(certificate);
            offset += certificate.len();
        }
        [head, vec![0; ENTRY], tail].concat()
    }

    fn entry(guid: Guid, offset: u32, length: u32) -> Vec<u8> {
        [&guid[..], &offset.to_le_bytes(), &length.to_le_bytes()].concat()
    }

    fn good() -> Vec<u8> {
        table(&[Kind::Vcek, Kind::Ask, Kind::Ark].map(|kind| (kind, kind.certificate())))
    }

    fn refused(table: &[u8]) -> Option<&'static str> {
        accompanying(table, Signer::Vcek).err().map(|error| error.code())
    }

    #[test]
    fn a_table_written_by_the_sev_crate_is_read() {
        let entries = [CertType::ARK, CertType::ASK, CertType::VCEK, CertType::VLEK, CertType::CRL]
            .map(|kind| CertTableEntry::new(kind.clone(), kind.to_string().into_bytes()));
        let bytes = CertTableEntry::cert_table_to_vec_bytes(&entries).unwrap();
        let of = |signer| accompanying(&bytes, signer).unwrap();
        let text = |kind: CertType| kind.to_string().into_bytes();
        assert_eq!(of(Signer::Vcek), Accompanying { leaf: text(CertType::VCEK), asvk: vec![] });
        assert_eq!(of(Signer::Vlek), Accompanying { leaf: text(CertType::VLEK), asvk: text(CertType::ASK) });
        assert_eq!(of(Signer::Other), Accompanying { leaf: vec![], asvk: vec![] });
    }

    #[test]
    fn nothing_outside_the_table_is_read_and_nothing_twice() {
        let end = vec![0; ENTRY];
        let with = |heads: &[Vec<u8>], tail: usize| [&heads.concat()[..], &end, &vec![5; tail]].concat();
        assert_eq!(refused(&with(&[entry(VCEK, 48, 9)], 9)), None, "control");
        assert_eq!(refused(&with(&[entry(VCEK, 48, 9), entry(ASK, 0, 0)], 99)), MALFORMED, "empty, inside the head");
        assert_eq!(refused(&with(&[entry(VCEK, 72, 0), entry(ASK, 72, 9)], 9)), None, "an empty one is like none");
        for (what, bytes) in [
            ("one byte beyond", with(&[entry(VCEK, 48, 10)], 9)),
            ("starts beyond", with(&[entry(VCEK, 58, 0)], 9)),
            ("far beyond", with(&[entry(VCEK, 48, u32::MAX)], 9)),
            ("over the end of numbers", with(&[entry(VCEK, u32::MAX, u32::MAX)], 9)),
            ("the closing entry", with(&[entry(VCEK, 24, 9)], 9)),
            ("its own entry", with(&[entry(VCEK, 0, 9)], 9)),
            ("over each other", with(&[entry(VCEK, 72, 9), entry(ASK, 80, 9)], 99)),
            ("one inside the other", with(&[entry(VCEK, 72, 90), entry(ASK, 80, 9)], 99)),
            ("the same place", with(&[entry(VCEK, 72, 9), entry(ASK, 72, 9)], 99)),
            ("the same name", with(&[entry(VCEK, 72, 9), entry(VCEK, 90, 9)], 99)),
            ("the same unknown name", with(&[entry([1; 16], 72, 9), entry([1; 16], 90, 9)], 99)),
            ("no name", with(&[entry([0; 16], 48, 9)], 9)),
            ("a bad one that nobody asked for", with(&[entry(VCEK, 72, 9), entry([1; 16], 0, 9)], 99)),
            ("too many", with(&vec![entry([1; 16], 0, 0); 65], 9)),
            ("too long", with(&[entry(VCEK, 48, 9)], MAX_TABLE)),
            ("a certificate too long", with(&[entry(VCEK, 48, 8193)], 8193)),
            ("no end", entry(VCEK, 24, 0)),
            ("cut in its first entry", vec![1; 23]),
            ("zeros, but no whole entry", vec![0; 23]),
        ] {
            assert_eq!(refused(&bytes), MALFORMED, "{what}");
        }
    }

    #[test]
    fn a_cut_table_is_refused_wherever_it_is_cut() {
        let whole = good();
        assert_eq!(refused(&whole), None, "control");
        assert_eq!(accompanying(&[], Signer::Vcek), Ok(Accompanying { leaf: vec![], asvk: vec![] }), "no table at all");
        for len in 1..whole.len() {
            assert_eq!(refused(&whole[..len]), MALFORMED, "{len}");
        }
    }

    #[test]
    fn twenty_thousand_changed_tables_never_reach_outside() {
        // xorshift64*: the same ones on every run.
        let mut state = 0x766f_7563_6873_6166_u64;
        let mut next = move |below: usize| {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) as usize % below.max(1)
        };
        let (mut read, mut refused) = (0, 0);
        for _ in 0..20_000 {
            let mut bytes = good();
            for _ in 0..=next(4) {
                // Mostly in the head: what lies behind it is not looked at.
                let within = if next(4) == 0 { bytes.len() } else { 5 * ENTRY };
                let at = next(within).min(bytes.len().saturating_sub(1));
                match next(6) {
                    _ if bytes.is_empty() => {}
                    0 => bytes[at] ^= 1 << next(8),
                    1 => bytes[at] = next(256) as u8,
                    2 => bytes.truncate(at),
                    3 => bytes.insert(at, next(256) as u8),
                    4 => {
                        let end = (at + next(ENTRY * 2)).min(bytes.len());
                        bytes.drain(at..end);
                    }
                    _ => {
                        let number = [0, 24, 96, 4096, u32::MAX, next(1 << 14) as u32][next(6)].to_le_bytes();
                        let end = (at + 4).min(bytes.len());
                        bytes[at..end].copy_from_slice(&number[..end - at]);
                    }
                }
            }
            let Ok(table) = Table::parse(&bytes) else {
                refused += 1;
                continue;
            };
            read += 1;
            let first = (table.entries.len() + 1) * ENTRY;
            let mut total = 0;
            for (_, certificate) in &table.entries {
                let start = certificate.as_ptr() as usize - bytes.as_ptr() as usize;
                assert!(start >= first && start + certificate.len() <= bytes.len());
                total += certificate.len();
            }
            assert!(bytes.is_empty() || first + total <= bytes.len(), "apart from each other");
        }
        assert!(read > 1_000 && refused > 1_000, "both happen: {read} read, {refused} refused");
    }
}
