//! Turns a PE image into the Authenticode digest that firmware extends into a register when it loads the image.
//! It does not verify a signature in the image, and it reads no more of the format than the digest needs.

use ring::digest::{Context, SHA384};

use crate::{
    MeasurementError,
    bytes::{array, size_at, slice, u16_at, u32_at},
};

/// Offset of the field that points to the PE header (PE format, "MS-DOS stub").
const PE_POINTER: usize = 0x3c;
/// Signature (4) and COFF header (20).
const COFF: usize = 24;
/// The checksum, from the start of the optional header: it is left out (PE format, "Optional header, Windows-specific fields").
const CHECKSUM: usize = 64;
/// `SizeOfHeaders`, likewise.
const SIZE_OF_HEADERS: usize = 60;
/// `NumberOfRvaAndSizes` of PE32+, likewise.
const DIRECTORIES: usize = 108;
/// The certificate table's entry of PE32+, the fifth of eight bytes each: it is left out too.
const CERTIFICATES: usize = 112 + 4 * 8;
/// PE32+: what an x86_64 kernel with an EFI stub is.
const PE32_PLUS: u16 = 0x20b;
/// A section header.
const SECTION: usize = 40;

/// The SHA-384 Authenticode digest (Windows Authenticode Portable Executable Signature Format, "Calculating the PE image hash";
/// edk2: OvmfPkg/Tcg/TdTcg2Dxe/MeasureBootPeCoff.c, `MeasurePeImageAndExtend`, which this follows step by step).
pub(crate) fn sha384(image: &[u8]) -> Result<[u8; 48], MeasurementError> {
    let bad = MeasurementError::KernelImage;
    let cut = bad("it ends within its headers");
    if array(image, 0) != Some(*b"MZ") {
        return Err(bad("it does not begin with MZ"));
    }
    let pe = size_at(image, PE_POINTER).ok_or(cut)?;
    if array(image, pe) != Some(*b"PE\0\0") {
        return Err(bad("it has no PE header"));
    }
    let optional = pe.checked_add(COFF).ok_or(cut)?;
    let field = |offset: usize| optional.checked_add(offset).ok_or(cut);
    if u16_at(image, optional) != Some(PE32_PLUS) {
        return Err(bad("it is not PE32+"));
    }
    let headers = size_at(image, field(SIZE_OF_HEADERS)?).ok_or(cut)?;
    let directories = u32_at(image, field(DIRECTORIES)?).ok_or(cut)?;
    if directories <= 4 {
        return Err(bad("it has no certificate directory"));
    }
    let certificates = size_at(image, field(CERTIFICATES + 4)?).ok_or(cut)?;

    let mut context = Context::new(&SHA384);
    let mut absorb = |from: usize, to: usize| {
        let length = to.checked_sub(from).ok_or(bad("its parts overlap"))?;
        context.update(slice(image, from, length).ok_or(bad("a part of it lies beyond its end"))?);
        Ok(())
    };
    absorb(0, field(CHECKSUM)?)?;
    absorb(field(CHECKSUM + 4)?, field(CERTIFICATES)?)?;
    absorb(field(CERTIFICATES + 8)?, headers)?;

    let mut hashed = headers;
    for (start, length) in sections(image, pe, optional)? {
        hashed = hashed.checked_add(length).ok_or(cut)?;
        // Sections that overlap could make anyone hash for hours.
        if hashed > image.len() {
            return Err(bad("its sections are larger than it is"));
        }
        absorb(start, start.checked_add(length).ok_or(cut)?)?;
    }
    // What no section holds is hashed as well, from that many bytes on, up to the certificates, which stand last.
    if image.len() > hashed {
        let end = image.len().checked_sub(certificates).filter(|end| *end >= hashed);
        absorb(hashed, end.ok_or(bad("its certificates are larger than what is left"))?)?;
    }
    let mut digest = [0; 48];
    digest.copy_from_slice(context.finish().as_ref());
    Ok(digest)
}

/// Place and length of every section that has bytes in the file, in the order of their places.
fn sections(image: &[u8], pe: usize, optional: usize) -> Result<Vec<(usize, usize)>, MeasurementError> {
    let cut = MeasurementError::KernelImage("it ends within its headers");
    // COFF header: NumberOfSections at 2, SizeOfOptionalHeader at 16, after the signature.
    let number = |offset: usize| pe.checked_add(4 + offset).and_then(|at| u16_at(image, at)).map(usize::from);
    let (count, size) = (number(2).ok_or(cut)?, number(16).ok_or(cut)?);
    let table = optional.checked_add(size).and_then(|at| slice(image, at, count * SECTION)).ok_or(cut)?;
    let mut found = Vec::with_capacity(count);
    for header in table.chunks_exact(SECTION) {
        let (length, start) = (size_at(header, 16).ok_or(cut)?, size_at(header, 20).ok_or(cut)?);
        if length != 0 {
            found.push((start, length));
        }
    }
    // Stable, as edk2's insertion sort is.
    found.sort_by_key(|(start, _)| *start);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A PE32+ image of 0x600 bytes: headers, two sections in the wrong order, 0x100 bytes that no section holds, certificates.
    fn image() -> Vec<u8> {
        let mut image: Vec<u8> = (0..0x600_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"MZ");
        put(PE_POINTER, &0x80_u32.to_le_bytes());
        put(0x80, b"PE\0\0");
        put(0x80 + 4 + 2, &2_u16.to_le_bytes());
        put(0x80 + 4 + 16, &240_u16.to_le_bytes());
        let optional = 0x80 + COFF;
        put(optional, &PE32_PLUS.to_le_bytes());
        put(optional + SIZE_OF_HEADERS, &0x200_u32.to_le_bytes());
        put(optional + DIRECTORIES, &16_u32.to_le_bytes());
        put(optional + CERTIFICATES, &[0, 5, 0, 0, 0, 1, 0, 0]);
        for (at, start) in [(optional + 240, 0x300_u32), (optional + 280, 0x200)] {
            put(at + 16, &0x100_u32.to_le_bytes());
            put(at + 20, &start.to_le_bytes());
        }
        image
    }

    #[test]
    fn checksum_and_certificates_are_left_out_and_nothing_else_is() {
        let image = image();
        let known = sha384(&image).unwrap();
        let optional = 0x80 + COFF;
        let outside = |at: usize| {
            (optional + CHECKSUM..optional + CHECKSUM + 4).contains(&at)
                || (optional + CERTIFICATES..optional + CERTIFICATES + 4).contains(&at)
                || at >= 0x500
        };
        for at in 0..image.len() {
            let mut other = image.clone();
            other[at] ^= 1;
            // A flip in the structure may also be refused, which is as good as another digest.
            let same = sha384(&other) == Ok(known);
            assert_eq!(same, outside(at), "byte {at:#x}");
        }
        // An independent count of what is hashed.
        let mut bytes = Vec::new();
        for range in [
            0..optional + CHECKSUM,
            optional + CHECKSUM + 4..optional + CERTIFICATES,
            optional + CERTIFICATES + 8..0x500,
        ] {
            bytes.extend_from_slice(&image[range]);
        }
        assert_eq!(known, vouchsafe_attestation::lp::sha384(&bytes));
    }

    #[test]
    fn every_shorter_image_and_every_huge_field_is_refused_without_a_panic() {
        let image = image();
        // Where it ends with its last section there are no certificates to leave out, whatever the directory says.
        for length in (0..0x500).filter(|length| *length != 0x400) {
            assert_eq!(sha384(&image[..length]).unwrap_err().code(), "KERNEL_FORMAT", "{length}");
        }
        for at in 0..0x260 {
            let mut other = image.clone();
            other[at..at + 4].fill(0xff);
            let _ = sha384(&other);
        }
    }
}
