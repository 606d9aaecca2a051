use super::*;
use crate::samples;

fn sample(name: &str) -> Vec<u8> {
    std::fs::read(samples::sev_file(name)).unwrap()
}

#[test]
fn an_amdsev_build_announces_its_hash_table() {
    let firmware = Firmware::parse(&sample("ovmf_AmdSev_suffix.bin")).unwrap();
    assert_eq!(firmware.hash_table(), Some(Area { address: 0x0081_0c00, size: 0x400 }));
    assert_eq!(firmware.reset_address(), Some(0x0080_b004));
    let kinds: Vec<_> = firmware.sev_sections().iter().map(|section| section.kind).collect();
    use SevSectionKind::{Cpuid, KernelHashes, SecMemory, Secrets, SvsmCallingArea};
    assert_eq!(kinds, [SecMemory, SecMemory, Secrets, Cpuid, SvsmCallingArea, KernelHashes, SecMemory]);
    let page = SevSection { address: 0x0081_0000, size: 0x1000, kind: KernelHashes };
    assert_eq!(firmware.sev_sections()[5], page);
    assert_eq!(firmware.tdx_sections().len(), 6);
    assert_eq!(firmware.tdx_sections()[0].kind, TdxSectionKind::Bfv);
    assert_eq!(firmware.fit_for_snp(), Ok(()));
}

#[test]
fn a_generic_build_has_no_place_for_hashes() {
    let firmware = Firmware::parse(&sample("ovmf_OvmfX64_suffix.bin")).unwrap();
    assert_eq!(firmware.hash_table(), None);
    assert_eq!(firmware.fit_for_snp(), Err(MeasurementError::FirmwareLacks("place for kernel hashes")));
}

#[test]
fn tdx_sections_are_read_as_they_stand() {
    let image = samples::tdvf(&[(0, 0x800, 0xffff_0000, 0x1000, 0, 1), (0, 0, 0x80_0000, 0x2000, 3, 0)]);
    let sections = Firmware::parse(&image).unwrap().tdx_sections().to_vec();
    let code = TdxSection {
        kind: TdxSectionKind::Bfv,
        data_offset: 0,
        data_size: 0x800,
        address: 0xffff_0000,
        size: 0x1000,
        extended: true,
    };
    assert_eq!(sections[0], code);
    assert_eq!((sections[1].kind, sections[1].size, sections[1].extended), (TdxSectionKind::TempMem, 0x2000, false));
}

#[test]
fn tdx_sections_that_qemu_would_not_place_are_refused() {
    let good = (0, 0x800, 0xffff_0000, 0x1000, 0, 1);
    let refused = [
        (0, 0x800, 0xffff_0001, 0x1000, 0, 1),
        (0, 0x800, 0xffff_0000, 0x1001, 0, 1),
        (0, 0x1001, 0xffff_0000, 0x1000, 0, 1),
        (0, 0, 0xffff_0000, 0x1000, 0, 1),
        (0, 1, 0x80_0000, 0x1000, 3, 0),
        (0, 0, 0x80_0000, 0x1000, 4, 0),
        (0, 0, 0x80_0000, 0x1000, 3, 2),
        (0, 0, 0x80_0000, 0, 3, 0),
        (0, 0, 0xffff_f000, 0x1000_0000, 3, 0),
        (0, 0, u64::MAX - 0xfff, 0x1000, 3, 0),
        (0, 0, 0xffff_0000, 0x1000, 3, 0),
    ];
    for section in refused {
        let error = Firmware::parse(&samples::tdvf(&[good, section])).unwrap_err();
        assert_eq!((error.code(), error.exit()), ("FIRMWARE_FORMAT", 9), "{section:x?}");
    }
    assert!(Firmware::parse(&samples::tdvf(&[good])).is_ok(), "control");
}

#[test]
fn images_that_are_none_are_refused() {
    let whole = sample("ovmf_AmdSev_suffix.bin");
    let code = |bytes: &[u8]| Firmware::parse(bytes).unwrap_err().code();
    assert_eq!(code(b""), "FIRMWARE_FORMAT");
    assert_eq!(code(&[0; 4096]), "FIRMWARE_FORMAT");
    assert_eq!(code(&[0xff; 4096]), "FIRMWARE_FORMAT");
    assert_eq!(code(&whole[1..]), "FIRMWARE_FORMAT");
    assert_eq!(code(&vec![0; MAX_FIRMWARE + 4096]), "FIRMWARE_FORMAT");
    // The same table twice: which one counts?
    let mut twice = whole.clone();
    let entry = twice[0x1000 - 50 - 22..0x1000 - 50].to_vec();
    twice[0x1000 - 50 - 44..0x1000 - 50 - 22].copy_from_slice(&entry);
    assert_eq!(code(&twice), "FIRMWARE_FORMAT");
}

#[test]
fn ten_thousand_damaged_images_end_in_an_answer() {
    // A fixed sequence (Knuth's MMIX generator), so that a failure can be repeated.
    let mut state = 0x5eed_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap()
    };
    let images = [
        sample("ovmf_AmdSev_suffix.bin"),
        samples::tdvf(&[(0, 0x800, 0xffff_0000, 0x1000, 0, 1), (0, 0, 0x80_0000, 0x2000, 3, 0)]),
    ];
    let (mut read, mut refused) = (0, 0);
    for _ in 0..5_000 {
        for image in &images {
            let mut bytes = image.clone();
            for _ in 0..1 + next() % 4 {
                // Three in four hit the tables at the end or the metadata.
                let at = match next() % 4 {
                    0 => next() % bytes.len(),
                    1 => bytes.len() - 1 - next() % 0xc0,
                    _ => (if bytes.len() == 4096 { 0xaac } else { 0x17f0 }) + next() % 0x70,
                };
                bytes[at] = u8::try_from(next() % 256).unwrap();
            }
            match Firmware::parse(&bytes) {
                Ok(_) => read += 1,
                Err(error) => {
                    assert_eq!(error.code(), "FIRMWARE_FORMAT");
                    refused += 1;
                }
            }
        }
    }
    assert!(read > 500 && refused > 500, "both happen: {read} read, {refused} refused");
}
