//! Turns technology and mode into the measured kernel command line, and any command line into one that every tool measures alike.
//! It does not say what the kernel makes of its words.

use vouchsafe_attestation::{Mode, Tee};

use crate::MeasurementError;

/// The longest command line: `COMMAND_LINE_SIZE` of Linux on x86 is 2,048 with the closing zero byte (arch/x86/include/asm/setup.h).
pub const MAX_COMMAND_LINE: usize = 2047;

/// The kernel command line of a guest image of this project.
///
/// `console=ttyS0` is where the launcher reads, `panic=-1` ends the machine at once when the kernel gives up, and
/// `swiotlb=force` sends every device's data through shared pages, as under SEV-SNP. `ipv6.disable=1`: the guest has one IPv4 address
/// and speaks to nobody else, so a host's router advertisements meet no code that reads them. The last two words are the measured
/// ones: the enclave takes its technology and mode from them alone.
///
/// SEV-SNP guests run with `acpi=off`, so that no byte code of the host's ACPI tables runs in the guest's kernel; with it the kernel
/// finds one processor. A TDX guest cannot: its processors wake up through the mailbox that the firmware announces in the ACPI
/// MADT table (ACPI 6.4, section 5.2.12.19), and without ACPI the kernel finds neither that nor its interrupt controllers. There
/// the tables are measured instead, into RTMR0 by the firmware.
#[must_use]
pub fn command_line(tee: Tee, mode: Mode) -> String {
    let acpi = match tee {
        Tee::SevSnp => "acpi=off ",
        Tee::Tdx => "",
    };
    format!("console=ttyS0 quiet panic=-1 {acpi}ipv6.disable=1 swiotlb=force vouchsafe.tee={tee} vouchsafe.mode={mode}")
}

/// Refuses a command line that different tools would measure differently, or that the kernel would cut.
///
/// The `sev` crate trims white space at both ends before it hashes; QEMU and `sev-snp-measure` do not. Nobody needs it there.
///
/// # Errors
/// `COMMAND_LINE` when it is empty, longer than [`MAX_COMMAND_LINE`], holds a zero byte, or begins or ends with white space.
pub fn measurable(command_line: &str) -> Result<(), MeasurementError> {
    let refused = |what| Err(MeasurementError::CommandLine(what));
    if command_line.is_empty() {
        return refused("is empty");
    }
    if command_line.len() > MAX_COMMAND_LINE {
        return refused("is longer than 2,047 bytes");
    }
    if command_line.contains('\0') {
        return refused("holds a zero byte");
    }
    // Python's strip() knows four separators (U+001C to U+001F) that Rust's trim() does not: none may stand at an end.
    let edge = |c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c);
    if command_line.starts_with(edge) || command_line.ends_with(edge) {
        return refused("begins or ends with white space");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_measured_command_lines_do_not_move() {
        assert_eq!(
            command_line(Tee::SevSnp, Mode::Hardware),
            "console=ttyS0 quiet panic=-1 acpi=off ipv6.disable=1 swiotlb=force vouchsafe.tee=sev-snp vouchsafe.mode=hardware"
        );
        assert_eq!(
            command_line(Tee::Tdx, Mode::Simulation),
            "console=ttyS0 quiet panic=-1 ipv6.disable=1 swiotlb=force vouchsafe.tee=tdx vouchsafe.mode=simulation"
        );
        for tee in [Tee::SevSnp, Tee::Tdx] {
            for mode in [Mode::Hardware, Mode::Simulation] {
                assert_eq!(measurable(&command_line(tee, mode)), Ok(()));
            }
        }
    }

    #[test]
    fn what_tools_disagree_about_is_refused() {
        let longest = "a".repeat(MAX_COMMAND_LINE);
        assert_eq!(measurable(&longest), Ok(()));
        assert_eq!(measurable("console=ttyS0  two\tspaces inside"), Ok(()));
        let long = format!("{longest}a");
        for bad in ["", " a", "a ", "a\n", "\ta", "\u{a0}a", "a\u{1f}", "a\0b", "a\0", long.as_str()] {
            let error = measurable(bad).unwrap_err();
            assert_eq!((error.code(), error.exit()), ("COMMAND_LINE", 1), "{bad:?}");
        }
    }
}
