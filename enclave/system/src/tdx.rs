//! Turns 64 bytes into the TDREPORT that the processor makes for the guest itself, through /dev/tdx_guest.
//! It reads no field of the report: whoever asks has to find its own 64 bytes in it.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

/// Linux, drivers/virt/coco/tdx-guest: a misc device named after its module.
const DEVICE: &str = "/dev/tdx_guest";
/// Linux, include/uapi/linux/major.h: MISC_MAJOR, the major number of every misc device.
const MISC_MAJOR: u32 = 10;
/// TDREPORT_STRUCT; TDX_REPORT_LEN in Linux, include/uapi/linux/tdx-guest.h.
pub const TDREPORT_LEN: usize = 1024;

/// `struct tdx_report_req` of include/uapi/linux/tdx-guest.h: bytes alone, so no padding.
#[repr(C)]
struct ReportRequest {
    report_data: [u8; 64],
    report: [u8; TDREPORT_LEN],
}

/// `TDX_CMD_GET_REPORT0`: `_IOWR('T', 1, struct tdx_report_req)`, put together as include/uapi/asm-generic/ioctl.h does it:
/// direction (2 bits), size (14 bits), type (8 bits), number (8 bits).
const GET_REPORT0: libc::Ioctl = {
    const READ_AND_WRITE: libc::Ioctl = 3;
    (READ_AND_WRITE << 30) | ((size_of::<ReportRequest>() as libc::Ioctl) << 16) | ((b'T' as libc::Ioctl) << 8) | 1
};

/// The open guest device of a TD.
pub struct TdxGuest {
    device: File,
}

impl TdxGuest {
    /// Opens the guest device, which exists in a TD alone.
    ///
    /// # Errors
    /// `NotFound` when there is none; whatever the system says otherwise.
    pub fn open() -> io::Result<Self> {
        Self::open_at(Path::new(DEVICE))
    }

    fn open_at(path: &Path) -> io::Result<Self> {
        let device = File::options().read(true).write(true).open(path)?;
        let metadata = device.metadata()?;
        // A number means something else to another kind of file.
        let misc = metadata.file_type().is_char_device() && major(metadata.rdev()) == MISC_MAJOR;
        if misc { Ok(Self { device }) } else { Err(io::ErrorKind::InvalidInput.into()) }
    }

    /// A TDREPORT that carries `report_data`, made by the processor's own instruction: no host is asked.
    ///
    /// # Errors
    /// Whatever the driver says.
    #[allow(unsafe_code)]
    pub fn report(&self, report_data: &[u8; 64]) -> io::Result<[u8; TDREPORT_LEN]> {
        let mut request = ReportRequest { report_data: *report_data, report: [0; TDREPORT_LEN] };
        // SAFETY: the descriptor is open as long as `self` is borrowed. The number says to every driver that the argument is a
        // structure of this size to read and write; `request` is one, laid out as C does it, borrowed by nobody else and alive
        // until the call returns. Every pattern of bytes is a value of it, and the driver keeps no pointer to it.
        let status = unsafe { libc::ioctl(self.device.as_raw_fd(), GET_REPORT0, &raw mut request) };
        if status == 0 { Ok(request.report) } else { Err(io::Error::last_os_error()) }
    }
}

fn major(device: u64) -> u32 {
    libc::major(device)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

    use super::*;

    #[test]
    fn the_request_is_the_kernels() {
        assert_eq!(size_of::<ReportRequest>(), 1088);
        assert_eq!(align_of::<ReportRequest>(), 1);
        assert_eq!(std::mem::offset_of!(ReportRequest, report), 64);
        // Written out in other people's programs for the same device.
        assert_eq!(GET_REPORT0, 0xC440_5401);
    }

    #[test]
    fn nothing_but_a_misc_device_is_asked() {
        let missing = TdxGuest::open_at(Path::new("/dev/no-such-device")).err().unwrap();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        // /dev/null is a character device of another major number; a directory cannot be written to.
        for other in ["/dev/null", "/"] {
            assert!(TdxGuest::open_at(Path::new(other)).is_err(), "{other}");
        }
    }

    #[test]
    fn a_driver_that_does_not_know_the_request_is_an_error() {
        // Not the guest device: what every driver answers to a number that is not its own.
        let null = TdxGuest { device: File::options().read(true).write(true).open("/dev/null").unwrap() };
        let error = null.report(&[3; 64]).err().unwrap();
        assert_eq!(error.raw_os_error(), Some(libc::ENOTTY));
    }
}
