//! Turns the kernel's command line into the two words that decide mode and technology.
//! The other words are the kernel's; all of them were measured.

use super::InitError;
use crate::device::Words;
use crate::error::EnclaveError;

/// COMMAND_LINE_SIZE of arch/x86/include/asm/setup.h, and the line feed that /proc/cmdline adds.
const LONGEST: usize = 2048 + 1;
/// What our words begin with; nothing else may.
const OURS: &str = "vouchsafe";

/// Reads what `/proc/cmdline` holds. The firmware may have put words of its own in front.
///
/// # Errors
/// `INIT_COMMAND_LINE`, `USAGE`.
pub fn of_command_line(line: &[u8]) -> Result<Words, EnclaveError> {
    let wrong = |why| Err(InitError::CommandLine(why).into());
    if line.len() > LONGEST {
        return wrong("it is longer than the kernel allows");
    }
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let Some(line) = std::str::from_utf8(line).ok().filter(|line| line.bytes().all(|b| matches!(b, b' '..=b'~')))
    else {
        return wrong("it holds other characters than printable ASCII");
    };
    // Within quotation marks the kernel reads a space as part of a word. No word needs that, so nobody has to agree on it.
    if line.contains('"') {
        return wrong("it holds a quotation mark");
    }
    Words::parse(line.split(' ').filter(|word| word.starts_with(OURS)).map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;
    use vouchsafe_attestation::{Mode, Tee};

    const MEASURED: &str = "console=ttyS0 quiet panic=-1 acpi=off ipv6.disable=1 swiotlb=force vouchsafe.tee=sev-snp vouchsafe.mode=simulation";
    const WORDS: Words = Words { tee: Tee::SevSnp, mode: Mode::Simulation };

    fn code(line: &str) -> &'static str {
        of_command_line(line.as_bytes()).map_or_else(|error| error.code(), |_| "read")
    }

    #[test]
    fn the_words_are_found_among_the_kernels_and_the_firmwares() {
        for line in [
            MEASURED.to_owned(),
            format!("{MEASURED}\n"),
            format!("initrd=initrd {MEASURED}\n"),
            format!("  initrd=initrd   {MEASURED}  \n"),
            "vouchsafe.mode=simulation vouchsafe.tee=sev-snp".to_owned(),
        ] {
            assert_eq!(of_command_line(line.as_bytes()), Ok(WORDS), "{line}");
        }
        let hardware = MEASURED.replace("simulation", "hardware").replace("sev-snp", "tdx");
        assert_eq!(of_command_line(hardware.as_bytes()), Ok(Words { tee: Tee::Tdx, mode: Mode::Hardware }));
    }

    #[test]
    fn unknown_repeated_missing_and_bent_words_are_refused() {
        assert_eq!(code(MEASURED), "read", "control");
        for line in [
            format!("{MEASURED} vouchsafe.debug=1"),
            format!("{MEASURED} vouchsafe.shell"),
            format!("{MEASURED} vouchsafe"),
            format!("{MEASURED} vouchsafe-mode=hardware"),
            format!("{MEASURED} vouchsafe.mode=simulation"),
            format!("{MEASURED} vouchsafe.mode=hardware"),
            format!("vouchsafe.tee=tdx {MEASURED}"),
            format!("{MEASURED} -- vouchsafe.mode=hardware"),
            MEASURED.replace("vouchsafe.mode=simulation", ""),
            MEASURED.replace("vouchsafe.mode=simulation", "vouchsafe.mode="),
            MEASURED.replace("vouchsafe.mode=", "Vouchsafe.mode="),
            MEASURED.replace("vouchsafe.mode=simulation", "quiet=vouchsafe.mode=simulation"),
            String::new(),
        ] {
            assert_eq!(code(&line), "USAGE", "{line}");
        }
    }

    #[test]
    fn a_line_that_two_readers_could_split_differently_is_refused() {
        for line in [
            MEASURED.replace("vouchsafe.mode=simulation", "\"vouchsafe.mode=simulation\""),
            MEASURED.replace("vouchsafe.mode=simulation", "vouchsafe.mode=\"simulation\""),
            format!("{MEASURED} dyndbg=\"file a +p\""),
            MEASURED.replace(" vouchsafe.mode", "\tvouchsafe.mode"),
            MEASURED.replace(" vouchsafe.mode", "\nvouchsafe.mode"),
            MEASURED.replace(" vouchsafe.mode", "\u{a0}vouchsafe.mode"),
            format!("{MEASURED}\n\n"),
            format!("{MEASURED}\0"),
            format!("{MEASURED} {}", "x".repeat(LONGEST)),
        ] {
            assert_eq!(code(&line), "INIT_COMMAND_LINE", "{line:?}");
        }
        assert_eq!(of_command_line(b"\xff").err().map(|e| e.code()), Some("INIT_COMMAND_LINE"));
    }
}
