//! Turns the end of an OVMF image into its list of GUIDs with their data.
//! It does not interpret the data.

use crate::{
    MeasurementError,
    bytes::{array, slice, u16_at},
};

/// The table's own GUID (edk2: OvmfPkg/ResetVector/Ia16/ResetVectorVtf0.asm, "Table footer"; QEMU: hw/i386/pc_sysfw_ovmf.c,
/// `OVMF_TABLE_FOOTER_GUID`).
const FOOTER: [u8; 16] = super::guid(0x96b5_82de, 0x1fb2, 0x45f7, [0xba, 0xea, 0xa3, 0x66, 0xc5, 0x5a, 0x08, 0x2d]);
/// What follows the table: the footer's GUID starts 48 bytes before the image's end (the same two files).
const AFTER: usize = 32;
/// An entry ends with its length (2 bytes, all of the entry) and its GUID (16 bytes).
const TAIL: usize = 18;
/// OVMF has at most nine entries today.
const MAX_ENTRIES: usize = 64;

/// The entries, last one first as they are read.
pub(super) struct Table<'a> {
    entries: Vec<([u8; 16], &'a [u8])>,
}

impl<'a> Table<'a> {
    /// Reads the table, from its footer backwards.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, MeasurementError> {
        let bad = MeasurementError::Firmware;
        let missing = bad("no table stands at its end");
        let footer_at = bytes.len().checked_sub(AFTER + TAIL).ok_or(missing)?;
        if array(bytes, footer_at + 2) != Some(FOOTER) {
            return Err(missing);
        }
        // The footer's length counts the whole table, the footer included.
        let length = u16_at(bytes, footer_at).map_or(0, usize::from);
        let body = length.checked_sub(TAIL).ok_or(bad("the table is shorter than its footer"))?;
        let start = footer_at.checked_sub(body).ok_or(bad("the table is longer than the image"))?;
        let mut rest = slice(bytes, start, body).ok_or(bad("the table is longer than the image"))?;
        let mut entries: Vec<([u8; 16], &[u8])> = Vec::new();
        while !rest.is_empty() {
            let tail_at = rest.len().checked_sub(TAIL).ok_or(bad("the table's entries do not fill it"))?;
            let name: [u8; 16] = array(rest, tail_at + 2).ok_or(missing)?;
            let size = u16_at(rest, tail_at).map_or(0, usize::from);
            let data_size = size.checked_sub(TAIL).ok_or(bad("an entry is shorter than its own tail"))?;
            let data_at = tail_at.checked_sub(data_size).ok_or(bad("an entry is longer than the table"))?;
            if entries.iter().any(|(known, _)| *known == name) {
                return Err(bad("an entry stands there twice"));
            }
            if entries.len() == MAX_ENTRIES {
                return Err(bad("the table has more than 64 entries"));
            }
            entries.push((name, slice(rest, data_at, data_size).ok_or(missing)?));
            rest = rest.get(..data_at).unwrap_or_default();
        }
        Ok(Self { entries })
    }

    /// The data of the entry of that name.
    pub(super) fn entry(&self, name: &[u8; 16]) -> Option<&'a [u8]> {
        self.entries.iter().find(|(known, _)| known == name).map(|(_, data)| *data)
    }

    /// The place that an entry of 4 bytes points to, counted from the image's end.
    pub(super) fn pointer(&self, name: &[u8; 16], image: usize) -> Result<Option<usize>, MeasurementError> {
        let Some(data) = self.entry(name) else { return Ok(None) };
        let from_end = if data.len() == 4 { crate::bytes::size_at(data, 0) } else { None };
        // The crate that computes the launch digest takes this number for a signed one.
        let at = from_end.filter(|n| (1..=image).contains(n) && i32::try_from(*n).is_ok()).map(|n| image - n);
        at.map(Some).ok_or(MeasurementError::Firmware("an entry points outside the image"))
    }
}
