//! Turns a program of the host's, beside the measured kernel, in a device or on a disk, into a firmware that does not start it.
//! Three doors of the stock firmware are tried (SECURITY.md, "Virtual machines"); it does not say that there is no fourth.

use std::{ffi::OsString, fs, path::Path};

use serde_json::json;
use vouchsafe_measurement::{Firmware, KernelHashes};

use super::{Played, machine};
use crate::{
    demo::{
        story::Stage,
        world::{Launch, World},
    },
    failure::Failure,
};

/// What the host's program says, on an I/O port that nothing else writes to.
const WORD: &[u8] = b"UNMEASURED";
/// For the hostile QEMU: whatever is said on that port, in a file beside the script.
const LISTEN: &str = r#"-chardev "file,id=canary,path=$0.heard" -device isa-debugcon,iobase=0xe9,chardev=canary"#;
/// The last word of a firmware that has gone through everything that it could start (edk2: MdeModulePkg, BdsDxe).
const GAVE_UP: &[u8] = b"No bootable option";
/// Files of the disk image: one sector to a cluster, so that a file's clusters are its sectors (FAT12, 2,880 sectors).
const SECTOR: usize = 512;
/// EFI_IMAGE_SUBSYSTEM_EFI_APPLICATION and EFI_IMAGE_SUBSYSTEM_EFI_BOOT_SERVICE_DRIVER.
const APPLICATION: u8 = 10;
const DRIVER: u8 = 11;

/// The host hands the firmware a shim to start instead of the kernel. The machine serves as if nothing had been offered.
pub fn shim_offered(world: &mut World, _: &mut Stage) -> Result<Played, Failure> {
    let title = "host offers the firmware a shim, which nobody measures";
    offered(world, "shim-offered", title, "-shim \"$0.file\"", &program(APPLICATION))
}

/// The host puts a driver into the ROM of a device. The machine serves as if there were none.
pub fn option_rom(world: &mut World, _: &mut Stage) -> Result<Played, Failure> {
    let title = "host gives a device a ROM with a driver for the firmware";
    offered(world, "option-rom", title, "-device \"virtio-rng-pci,romfile=$0.file\"", &rom(&program(DRIVER)))
}

/// Launches with a file of the host's beside everything else.
fn offered(world: &World, name: &'static str, title: &'static str, add: &str, bytes: &[u8]) -> Result<Played, Failure> {
    let change = format!("case \"$n\" in 0) set -- \"$@\" \"$a\" {add} {LISTEN}; a=-no-reboot ;;\nesac");
    let qemu = machine::hostile_qemu(world, name, &change)?;
    write(world, &format!("{qemu}.file"), bytes)?;
    let running = world.launch(&Launch { qemu: Some(&qemu), ..Launch::default() })?;
    // QEMU made the file, so it took the words beside it; one byte in it is one too many.
    let code = if heard(world, &qemu)?.is_empty() { "NO_EFFECT" } else { "HOST_CODE_BEFORE_THE_KERNEL" };
    Ok(Played {
        name,
        title,
        refused_by: "firmware",
        pid: running.enclave_pid,
        program: machine::program_of(&running),
        code: code.to_owned(),
        expected: "NO_EFFECT",
        control: measured(world)?,
        facts: json!({ "control": "the same program in the kernel's place, measured: the same firmware runs it" }),
    })
}

/// The host leaves the measured kernel no memory to unpack in and attaches a disk that can be started, out of the launcher's
/// hearing, which ends such a machine at the kernel's last word. The firmware gives up.
pub fn disk_booted(world: &mut World, stage: &mut Stage) -> Result<Played, Failure> {
    machine::control(world, stage)?;
    let silence = machine::silence(stage);
    let change = format!(
        "case \"$prev\" in -m) a=size=96M ;; -serial) a=\"file:$0.console\" ;; esac\n\
         case \"$n\" in 0) set -- \"$@\" \"$a\" {LISTEN} \\\n\
         -blockdev \"driver=raw,node-name=canary,read-only=on,file.driver=file,file.filename=$0.disk\" \\\n\
         -device virtio-blk-pci,drive=canary; a=-no-reboot ;;\nesac"
    );
    let qemu = machine::hostile_qemu(world, "disk-booted", &change)?;
    write(world, &format!("{qemu}.disk"), &disk(&program(APPLICATION)))?;
    let fatal = world.launch_refused(&Launch { qemu: Some(&qemu), silence, ..Launch::default() })?;
    let console = world.dir.join(format!("{qemu}.console"));
    let console = fs::read(&console).map_err(|e| Failure::file(&console, "read", &e))?;
    let code = if !heard(world, &qemu)?.is_empty() {
        "HOST_CODE_FROM_A_DISK".to_owned()
    } else if !console.windows(GAVE_UP.len()).any(|bytes| bytes == GAVE_UP) {
        "NOT_TRIED".to_owned()
    } else {
        fatal.code
    };
    Ok(Played {
        name: "disk-booted",
        title: "host starves the kernel and attaches a disk to start instead",
        refused_by: "firmware",
        pid: fatal.pid,
        program: fatal.program,
        code,
        expected: "GUEST_SILENT",
        control: measured(world)?,
        facts: json!({ "control": "the program on that disk in the kernel's place, measured: the same firmware runs it",
            "memory_mib": 96, "firmware_said": "No bootable option", "seconds_of_silence": silence }),
    })
}

fn heard(world: &World, qemu: &str) -> Result<Vec<u8>, Failure> {
    machine::song(&world.dir.join(format!("{qemu}.heard")))
}

/// The very same program as the kernel, with the hashes that this takes: now it is measured, and the image's firmware starts it.
fn measured(world: &World) -> Result<String, Failure> {
    let heard = world.dir.join("host/measured.heard");
    if !heard.exists() {
        let image = world.image.clone().unwrap_or_default();
        let firmware = image.join("firmware.fd");
        let bytes = fs::read(&firmware).map_err(|e| Failure::file(&firmware, "read", &e))?;
        let place = Firmware::parse(&bytes)?.hash_table().map_or(0, |area| area.address);
        let kernel = write(world, "host/measured.efi", &program(APPLICATION))?;
        let table = write(
            world,
            "host/measured.table",
            &KernelHashes::compute(&program(APPLICATION), b"", "measured")?.table(),
        )?;
        let mut words = vec![OsString::from("-bios"), firmware.into(), "-kernel".into(), kernel.into()];
        words.extend(["-append", "measured", "-device"].map(OsString::from));
        words.push(format!("loader,file={},addr={place:#x},force-raw=on", table.display()).into());
        words.extend(["-device", "isa-debugcon,iobase=0xe9,chardev=canary", "-chardev"].map(OsString::from));
        words.push(format!("file,id=canary,path={}", heard.display()).into());
        machine::boot(&words, || machine::song(&heard).is_ok_and(|song| song == WORD))?;
    }
    Ok(if machine::song(&heard)? == WORD { "accepted" } else { "PROGRAM_NOT_RUN" }.to_owned())
}

fn write(world: &World, inside: &str, bytes: &[u8]) -> Result<std::path::PathBuf, Failure> {
    let path = world.dir.join(inside);
    let written = |path: &Path| fs::write(path, bytes);
    written(&path).map_err(|e| Failure::file(&path, "written", &e))?;
    Ok(path)
}

/// An EFI program of one page: it writes [`WORD`] to port 0xE9 and halts. PE32+ for x86-64 with one section (Microsoft's PE format),
/// and beside it just so much of Linux's boot header that QEMU takes it for a kernel (Documentation/arch/x86/boot.rst).
fn program(subsystem: u8) -> Vec<u8> {
    let mut page = vec![0; 0x1000];
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(place) = page.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    put(0x00, b"MZ");
    put(0x3c, &0x40_u32.to_le_bytes());
    put(0x40, b"PE\0\0\x64\x86\x01\x00");
    // Size of the optional header; relocations stripped, executable, large addresses.
    put(0x54, &[0xf0, 0x00, 0x2e, 0x02]);
    let optional: [(usize, u32); 10] = [
        (0x00, 0x20b),  // PE32+
        (0x04, 0x200),  // size of code
        (0x10, 0x1000), // entry point
        (0x14, 0x1000), // base of code
        (0x20, 0x1000), // section alignment
        (0x24, 0x200),  // file alignment
        (0x38, 0x2000), // size of the image
        (0x3c, 0x400),  // size of the headers
        (0x44, u32::from(subsystem)),
        (0x6c, 16), // directories, all empty
    ];
    for (at, value) in optional {
        put(0x58 + at, &value.to_le_bytes());
    }
    put(0x148, b".text");
    for (at, value) in [(8, 0x200_u32), (12, 0x1000), (16, 0x200), (20, 0x400), (36, 0x6000_0020)] {
        put(0x148 + at, &value.to_le_bytes());
    }
    // Linux: one sector of set-up, the magic words, protocol 2.12, loaded high, initrd anywhere, a long command line.
    put(0x1f1, &[1]);
    put(0x1fe, b"\x55\xaa\xeb\x66HdrS\x0c\x02");
    put(0x211, &[1]);
    put(0x22c, &0x7fff_ffff_u32.to_le_bytes());
    put(0x238, &2047_u32.to_le_bytes());
    // mov al, letter; out 0xe9, al – for each; then cli; hlt; and back to hlt.
    let says = WORD.iter().flat_map(|letter| [0xb0, *letter, 0xe6, 0xe9]);
    let code: Vec<u8> = says.chain([0xfa, 0xf4, 0xeb, 0xfd]).collect();
    put(0x400, &code);
    page
}

/// The ROM of a PCI device with this driver in it (UEFI 2.10, section 14.4.2; PCI Firmware 3.0, section 5.1).
fn rom(driver: &[u8]) -> Vec<u8> {
    let sectors = u8::try_from(1 + driver.len() / SECTOR).unwrap_or(0);
    // EFI's signature, the driver's subsystem and machine, not compressed; where it begins, and where the PCI data is.
    let mut header = vec![0x55, 0xaa, sectors, 0, 0xf1, 0x0e, 0, 0, DRIVER, 0, 0x64, 0x86];
    header.resize(0x16, 0);
    header.extend([0x00, 0x02, 0x1c, 0x00, 0, 0]);
    // Of no certain device; the length again; an EFI image, and the last one.
    header.extend(b"PCIR\xf4\x1a\x44\x10\0\0\x18\0\0\0\0\xff");
    header.extend([sectors, 0, 0, 0, 3, 0x80, 0, 0]);
    header.resize(SECTOR, 0);
    [&header, driver].concat()
}

/// A floppy's FAT12 file system (Microsoft's FAT specification) with the one file EFI/BOOT/BOOTX64.EFI, where firmware looks.
fn disk(program: &[u8]) -> Vec<u8> {
    let mut disk = vec![0; 2880 * SECTOR];
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(place) = disk.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    put(0, b"\xeb\x3c\x90VOUCHSAF");
    // 512 to a sector, 1 to a cluster, 1 reserved; 2 tables; 224 in the root; 2,880 sectors; F0; 9 to a table; 18 and 2 to a track.
    put(11, b"\x00\x02\x01\x01\x00\x02\xe0\x00\x40\x0b\xf0\x09\x00\x12\x00\x02\x00");
    put(38, b"\x29\0\0\0\0NO NAME    FAT12   ");
    put(510, b"\x55\xaa");
    // Clusters: 2 is the folder EFI, 3 the folder BOOT, the file begins at 4 and each of its clusters names the next.
    let last = 3 + program.len().div_ceil(SECTOR);
    let next = |cluster: usize| match cluster {
        0 => 0xff0,
        cluster if cluster < 4 || cluster == last => 0xfff,
        cluster => cluster + 1,
    };
    let mut table = Vec::new();
    for even in (0..=last).step_by(2) {
        let (first, second) = (next(even), if even < last { next(even + 1) } else { 0 });
        table.extend([first & 0xff, first >> 8 | (second & 0xf) << 4, second >> 4].map(|byte| byte.to_le_bytes()[0]));
    }
    put(SECTOR, &table);
    put(10 * SECTOR, &table);
    let entry = |name: &[u8; 11], kind: u8, cluster: u8, size: usize| {
        let size = u32::try_from(size).unwrap_or(0).to_le_bytes();
        [&name[..], &[kind], &[0; 14], &[cluster, 0], &size].concat()
    };
    let (folder, file) = (0x10, 0x20);
    let (root, data) = (19 * SECTOR, 33 * SECTOR);
    put(root, &entry(b"EFI        ", folder, 2, 0));
    let efi =
        [entry(b".          ", folder, 2, 0), entry(b"..         ", folder, 0, 0), entry(b"BOOT       ", folder, 3, 0)];
    put(data, &efi.concat());
    let boot = [entry(b".          ", folder, 3, 0), entry(b"..         ", folder, 2, 0)];
    put(data + SECTOR, &boot.concat());
    put(data + SECTOR + 64, &entry(b"BOOTX64 EFI", file, 4, program.len()));
    put(data + 2 * SECTOR, program);
    disk
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_small_and_says_its_word() {
        let page = program(APPLICATION);
        let said: Vec<u8> = page[0x400..].chunks(4).take_while(|c| c[0] == 0xb0).map(|c| c[1]).collect();
        assert_eq!((page.len(), said.as_slice()), (0x1000, WORD));
        assert!(!page.windows(WORD.len()).any(|bytes| bytes == WORD), "only who runs it says it");
    }

    #[test]
    fn the_disk_holds_the_program_cluster_by_cluster() {
        let (program, disk) = (program(APPLICATION), disk(&program(APPLICATION)));
        let at = |cluster: usize| 33 * SECTOR + (cluster - 2) * SECTOR;
        let (mut cluster, mut found) = (4, Vec::<u8>::new());
        while cluster < 0xff8 {
            found.extend(&disk[at(cluster)..at(cluster) + SECTOR]);
            let place = SECTOR + cluster * 3 / 2;
            let pair = usize::from(disk[place]) | usize::from(disk[place + 1]) << 8;
            cluster = if cluster % 2 == 0 { pair & 0xfff } else { pair >> 4 };
        }
        assert!(found == program && disk[SECTOR..10 * SECTOR] == disk[10 * SECTOR..19 * SECTOR]);
    }
}
