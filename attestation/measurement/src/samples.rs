//! Turns names into files that tests measure: those of the `sev` crate's own tests, and firmware made here.
//! Nothing of it is shipped.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

/// A file of the `sev` crate's folder `tests/measurement`.
pub(crate) fn sev_file(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let only_here = ["--offline", "--filter-platform", "x86_64-unknown-linux-gnu"].map(String::from).to_vec();
        let metadata = cargo_metadata::MetadataCommand::new().other_options(only_here).exec().unwrap();
        let sev = metadata.packages.iter().find(|package| package.name.as_str() == "sev").unwrap();
        sev.manifest_path.parent().unwrap().join("tests/measurement").into_std_path_buf()
    });
    folder.join(name)
}

/// An empty regular file.
pub(crate) fn empty() -> &'static Path {
    static FILE: OnceLock<tempfile::NamedTempFile> = OnceLock::new();
    FILE.get_or_init(|| tempfile::NamedTempFile::new().unwrap()).path()
}

/// A section of TDX metadata: data offset, data size, address, size, type, attributes.
pub(crate) type Section = (u32, u32, u64, u64, u32, u32);

/// A firmware image of two pages with these TDX sections; byte n of it is n modulo 251 where nothing else stands.
pub(crate) fn tdvf(sections: &[Section]) -> Vec<u8> {
    let mut image: Vec<u8> = (0..8192_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
    let at = 0x1800;
    let mut metadata =
        vec![0xf3, 0xf9, 0xea, 0xe9, 0x8e, 0x16, 0xd5, 0x44, 0xa8, 0xeb, 0x7f, 0x4d, 0x87, 0x38, 0xf6, 0xae];
    metadata.extend(b"TDVF");
    let count = u32::try_from(sections.len()).unwrap();
    for number in [16 + 32 * count, 1, count] {
        metadata.extend(number.to_le_bytes());
    }
    for (offset, length, address, size, kind, attributes) in sections {
        metadata.extend(offset.to_le_bytes());
        metadata.extend(length.to_le_bytes());
        metadata.extend(address.to_le_bytes());
        metadata.extend(size.to_le_bytes());
        metadata.extend(kind.to_le_bytes());
        metadata.extend(attributes.to_le_bytes());
    }
    image[at - 16..at - 16 + metadata.len()].copy_from_slice(&metadata);
    let mut table = u32::try_from(8192 - at).unwrap().to_le_bytes().to_vec();
    table.extend(22_u16.to_le_bytes());
    table.extend([0x35, 0x65, 0x7a, 0xe4, 0x4a, 0x98, 0x98, 0x47, 0x86, 0x5e, 0x46, 0x85, 0xa7, 0xbf, 0x8e, 0xc2]);
    table.extend(40_u16.to_le_bytes());
    table.extend([0xde, 0x82, 0xb5, 0x96, 0xb2, 0x1f, 0xf7, 0x45, 0xba, 0xea, 0xa3, 0x66, 0xc5, 0x5a, 0x08, 0x2d]);
    image[8192 - 32 - table.len()..8192 - 32].copy_from_slice(&table);
    image
}
