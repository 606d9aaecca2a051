use super::*;
use crate::samples;

#[test]
fn mrtd_is_the_digest_of_the_hosts_calls_in_their_order() {
    let image = samples::tdvf(&[
        (0x100, 0x1100, 0xffff_e000, 0x2000, 0, 1),
        (0, 0x1000, 0xffff_c000, 0x1000, 1, 0),
        (0, 0, 0x80_0000, 0x1000, 2, 0),
    ]);
    let mut calls = Vec::new();
    for page in [0xffff_e000_u64, 0xffff_f000] {
        calls.extend(b"MEM.PAGE.ADD\0\0\0\0");
        calls.extend(page.to_le_bytes());
        calls.extend([0; 104]);
        for chunk in 0..16 {
            let address = page + chunk * 256;
            calls.extend(b"MR.EXTEND\0\0\0\0\0\0\0");
            calls.extend(address.to_le_bytes());
            calls.extend([0; 104]);
            let from = usize::try_from(address - 0xffff_e000).unwrap();
            let in_image = (from..from + 256).map(|n| if n < 0x1100 { image[0x100 + n] } else { 0 });
            calls.extend(in_image);
        }
    }
    for page in [0xffff_c000_u64, 0x80_0000] {
        calls.extend(b"MEM.PAGE.ADD\0\0\0\0");
        calls.extend(page.to_le_bytes());
        calls.extend([0; 104]);
    }
    assert_eq!(mrtd(&image), Ok(lp::sha384(&calls)));
}

#[test]
fn a_changed_code_byte_changes_mrtd_and_a_variable_does_not() {
    let sections = [(0, 0x1000, 0xffff_f000, 0x1000, 0, 1), (0x1000, 0x400, 0xffff_e000, 0x1000, 1, 0)];
    let image = samples::tdvf(&sections);
    let known = mrtd(&image).unwrap();
    let flipped = |at: usize| {
        let mut other = image.clone();
        other[at] ^= 1;
        mrtd(&other).unwrap()
    };
    assert_ne!(flipped(0), known);
    assert_ne!(flipped(0xfff), known);
    // The variables are measured by the firmware itself, into RTMR0.
    assert_eq!(flipped(0x1000), known);
}

#[test]
fn firmware_that_cannot_be_measured_is_refused() {
    let code = |image: &[u8]| mrtd(image).unwrap_err().code();
    let no_tdx = samples::tdvf(&[]);
    assert_eq!(code(&no_tdx), "FIRMWARE_FORMAT");
    assert_eq!(code(&samples::tdvf(&[(0, 0, 0x80_0000, 0x1000, 3, 0)])), "FIRMWARE_LACKS");
    assert_eq!(code(&samples::tdvf(&[(0x1800, 0x900, 0xffff_f000, 0x1000, 0, 1)])), "FIRMWARE_FORMAT");
    // The sample is the last page of an image alone.
    let suffix = std::fs::read(samples::sev_file("ovmf_AmdSev_suffix.bin")).unwrap();
    assert_eq!(code(&suffix), "FIRMWARE_FORMAT");
}

#[test]
fn rtmr2_is_the_options_as_the_firmware_hands_them_on_and_then_the_initrd() {
    let options: Vec<u8> = "initrd=initrd quiet a=b\0".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let first = lp::sha384(&[&[0; 48][..], &lp::sha384(&options)].concat());
    let second = lp::sha384(&[&first[..], &lp::sha384(b"an initrd")].concat());
    assert_eq!(rtmr2("quiet a=b", b"an initrd"), Ok(second));
    assert_ne!(rtmr2("quiet a=c", b"an initrd"), Ok(second));
    assert_ne!(rtmr2("quiet a=b", b"an initrD"), Ok(second));
    assert_eq!(rtmr2("quiet ", b"").unwrap_err().code(), "COMMAND_LINE");
    assert_eq!(rtmr1(b"no kernel").unwrap_err().code(), "KERNEL_FORMAT");
}
