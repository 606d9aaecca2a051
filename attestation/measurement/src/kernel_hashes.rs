//! Turns kernel, initrd and command line into the table of hashes that QEMU places in a guest whose firmware asks for it.
//! It does not say that a firmware compares anything: only a firmware that is known to refuse other bytes does.

use vouchsafe_attestation::lp;

use crate::{MeasurementError, firmware::guid, measurable};

/// The table's own GUID (edk2: OvmfPkg/AmdSev/BlobVerifierLibSevHashes/BlobVerifierSevHashes.c, `SEV_HASH_TABLE_GUID`;
/// QEMU: target/i386/sev.c, `sev_hash_table_header_guid`).
const TABLE: [u8; 16] = guid(0x9438_d606, 0x4f22, 0x4cc9, [0xb4, 0x79, 0xa7, 0x93, 0xd4, 0x11, 0xfd, 0x21]);
/// The kernel's entry (the same two files, `SEV_KERNEL_HASH_GUID`, `sev_kernel_entry_guid`).
const KERNEL: [u8; 16] = guid(0x4de7_9437, 0xabd2, 0x427f, [0xb8, 0x35, 0xd5, 0xb1, 0x72, 0xd2, 0x04, 0x5b]);
/// The initrd's entry (`SEV_INITRD_HASH_GUID`, `sev_initrd_entry_guid`).
const INITRD: [u8; 16] = guid(0x44ba_f731, 0x3a2f, 0x4bd7, [0x9a, 0xf1, 0x41, 0xe2, 0x91, 0x69, 0x78, 0x1d]);
/// The command line's entry (`SEV_CMDLINE_HASH_GUID`, `sev_cmdline_entry_guid`).
const COMMAND_LINE: [u8; 16] = guid(0x97d0_2dd8, 0xbd20, 0x4c94, [0xaa, 0x78, 0xe7, 0x71, 0x4d, 0x36, 0xab, 0x2a]);

/// An entry: GUID, length, SHA-256.
const ENTRY: u16 = 16 + 2 + 32;
/// The header and three entries.
const LENGTH: u16 = 16 + 2 + 3 * ENTRY;

/// The SHA-256 digests of what a guest boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelHashes {
    kernel: [u8; 32],
    initrd: [u8; 32],
    command_line: [u8; 32],
}

impl KernelHashes {
    /// How many bytes [`Self::table`] has: QEMU pads the table to a multiple of 16.
    pub const TABLE_SIZE: usize = (LENGTH as usize).next_multiple_of(16);

    /// Hashes the three: the command line with the zero byte that ends it.
    ///
    /// # Errors
    /// `COMMAND_LINE`.
    pub fn compute(kernel: &[u8], initrd: &[u8], command_line: &str) -> Result<Self, MeasurementError> {
        Self::of_digests(lp::sha256(kernel), lp::sha256(initrd), command_line)
    }

    /// The same from digests, where the files were hashed already.
    ///
    /// # Errors
    /// `COMMAND_LINE`.
    pub fn of_digests(kernel: [u8; 32], initrd: [u8; 32], command_line: &str) -> Result<Self, MeasurementError> {
        measurable(command_line)?;
        let mut ended = command_line.as_bytes().to_vec();
        ended.push(0);
        Ok(Self { kernel, initrd, command_line: lp::sha256(&ended) })
    }

    /// The table: GUID and length, then command line, initrd and kernel in this order, then zeros up to a multiple of 16.
    #[must_use]
    pub fn table(&self) -> Vec<u8> {
        let mut table = Vec::with_capacity(Self::TABLE_SIZE);
        table.extend_from_slice(&TABLE);
        table.extend_from_slice(&LENGTH.to_le_bytes());
        for (name, digest) in [(COMMAND_LINE, self.command_line), (INITRD, self.initrd), (KERNEL, self.kernel)] {
            table.extend_from_slice(&name);
            table.extend_from_slice(&ENTRY.to_le_bytes());
            table.extend_from_slice(&digest);
        }
        table.resize(Self::TABLE_SIZE, 0);
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_the_layout_of_the_firmwares_reader() {
        let table = KernelHashes::compute(b"kernel", b"initrd", "quiet").unwrap().table();
        assert_eq!((table.len(), KernelHashes::TABLE_SIZE), (176, 176));
        assert_eq!(hex::encode(&table[..16]), "06d63894224fc94cb479a793d411fd21");
        assert_eq!(table[16..18], 168_u16.to_le_bytes());
        for (number, bytes) in [&b"quiet\0"[..], b"initrd", b"kernel"].into_iter().enumerate() {
            let entry = &table[18 + 50 * number..][..50];
            assert_eq!(entry[16..18], 50_u16.to_le_bytes());
            assert_eq!(entry[18..], lp::sha256(bytes));
        }
        assert_eq!(table[168..], [0; 8]);
    }

    #[test]
    fn the_crate_that_computes_the_digest_makes_the_same_table() {
        let dir = tempfile::tempdir().unwrap();
        let (kernel, initrd) = (dir.path().join("kernel"), dir.path().join("initrd"));
        std::fs::write(&kernel, b"a kernel").unwrap();
        std::fs::write(&initrd, b"an initrd").unwrap();
        for command_line in ["quiet", "console=ttyS0 quiet panic=-1"] {
            let theirs =
                sev::measurement::sev_hashes::SevHashes::new(kernel.clone(), Some(initrd.clone()), Some(command_line));
            let ours = KernelHashes::compute(b"a kernel", b"an initrd", command_line).unwrap();
            assert_eq!(ours.table(), theirs.unwrap().construct_table().unwrap());
        }
        assert_eq!(KernelHashes::compute(b"", b"", " quiet").unwrap_err().code(), "COMMAND_LINE");
    }
}
