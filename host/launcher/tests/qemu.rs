//! Turns argument lists into the answer of a real QEMU: how far it takes them on a host that lacks the hardware.
//! Without QEMU it says by name that it did not run; `VOUCHSAFE_REQUIRE_VM=1` makes that a failure.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

use std::{
    ffi::OsStr,
    fs::File,
    io::Read,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{fs::FileExt, net::UnixStream, process::ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use vouchsafe_launcher::{
    backend::{
        helper::MODE,
        host,
        qemu::{Accel, Arguments, Identity, Inherited, Protection},
    },
    frame,
    spec::{Backend, QuoteService},
};
use vouchsafe_measurement::mrconfigid;

fn qemu(test: &str) -> Option<PathBuf> {
    let found = host::find_qemu(Path::new("qemu-system-x86_64"), &host::SEARCH.map(Path::new));
    match found.and_then(|path| host::require_version(&path, Backend::SimVm).map(|()| path)) {
        Ok(path) => Some(path),
        Err(error) => {
            assert!(std::env::var_os("VOUCHSAFE_REQUIRE_VM").is_none(), "{test}: {error}");
            println!("NOT RUN: {test}: {error}");
            None
        }
    }
}

/// QEMU with these arguments, behind the launcher's helper, with empty files and sockets that nobody reads.
struct Started {
    child: Child,
    _sockets: Vec<UnixStream>,
}

fn start(qemu: &Path, arguments: &Arguments<'_>) -> Started {
    let (channel, theirs) = UnixStream::pair().unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_vouchsafe-launch"))
        .arg(MODE)
        .arg(std::process::id().to_string())
        .arg(qemu)
        .args(arguments.list())
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut kept, mut given) = (Vec::new(), Vec::new());
    for slot in Inherited::ALL {
        match slot {
            Inherited::Host | Inherited::Console | Inherited::Processor => {
                let (ours, far) = UnixStream::pair().unwrap();
                kept.push(ours);
                given.push(OwnedFd::from(far));
            }
            // A firmware is a multiple of 64 KiB, a volume one of a sector; a kernel has a header (Linux's boot protocol 2.15).
            _ => {
                let file = tempfile::tempfile().unwrap();
                file.set_len(64 * 1024).unwrap();
                if slot == Inherited::Kernel {
                    file.write_all_at(&[4], 0x1F1).unwrap();
                    file.write_all_at(b"HdrS\x0f\x02", 0x202).unwrap();
                    file.write_all_at(&[1], 0x211).unwrap();
                    file.write_all_at(&0x7FFF_FFFF_u32.to_le_bytes(), 0x22C).unwrap();
                }
                given.push(OwnedFd::from(file));
            }
        }
    }
    let descriptors: Vec<_> = given.iter().map(AsFd::as_fd).collect();
    frame::write(&channel, &[true; 8], &descriptors).unwrap();
    Started { child, _sockets: kept }
}

impl Started {
    /// Its exit status and lines, when it ends by itself within two seconds.
    fn answer(mut self) -> (Option<i32>, String) {
        let pid = self.child.id();
        let mut stderr = self.child.stderr.take().unwrap();
        let ended = (0..200).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            self.child.try_wait().unwrap().is_some()
        });
        if !ended {
            let name = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap();
            assert!(name.file_name().and_then(OsStr::to_str).unwrap().contains("qemu"), "{}", name.display());
            self.child.kill().unwrap();
        }
        let status = self.child.wait().unwrap();
        let mut text = String::new();
        stderr.read_to_string(&mut text).unwrap();
        assert!(ended || status.signal() == Some(9));
        (status.code(), text)
    }
}

fn arguments<'a>(protection: Protection<'a>) -> Arguments<'a> {
    let port = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    Arguments { protection, command_line: "quiet", vcpus: 1, memory_mib: 512, ports: [port(), port()] }
}

#[test]
fn qemu_runs_a_simulated_machine_with_exactly_these_arguments() {
    let Some(qemu) = qemu("qemu_runs_a_simulated_machine_with_exactly_these_arguments") else { return };
    let protection = Protection::Simulated { accel: Accel::Tcg, table_address: 0x0081_0c00 };
    assert_eq!(
        start(&qemu, &arguments(protection.clone())).answer(),
        (None, String::new()),
        "it runs and says nothing"
    );
    // The control: one wrong word among them is noticed.
    let mut wrong = arguments(protection);
    wrong.vcpus = 0;
    let (status, text) = start(&qemu, &wrong).answer();
    assert_eq!(status, Some(1), "{text}");
}

/// What a QEMU says about a host without the hardware, once it has understood the arguments before that.
const NO_KVM: [&str; 2] = ["Could not access KVM kernel module", "failed to initialize kvm"];

#[test]
fn qemu_takes_an_snp_guest_up_to_the_hosts_refusal() {
    let Some(qemu) = qemu("qemu_takes_an_snp_guest_up_to_the_hosts_refusal") else { return };
    let base64 = |bytes: &[u8]| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes);
    let identity =
        |block: &[u8], has_author| Identity { block: base64(block), authentication: base64(&[2; 4096]), has_author };
    let (alone, authored, short) = (identity(&[1; 96], false), identity(&[1; 96], true), identity(&[1; 3], false));
    let digest = [0xD1; 32];
    for identity in [None, Some(&alone), Some(&authored)] {
        let snp = Protection::Snp { cpu: "EPYC-v4", policy: 0x3_0000, c_bit: 51, host_data: &digest, identity };
        let (status, text) = start(&qemu, &arguments(snp)).answer();
        let refusals = ["vm-type SEV-SNP not supported by KVM", NO_KVM[0], NO_KVM[1]];
        assert_eq!(status, Some(1), "{text}");
        assert!(refusals.iter().any(|refusal| text.contains(refusal)), "{text}");
    }
    // The control: an ID block of another length is refused for what it is, before the host is asked.
    let short =
        Protection::Snp { cpu: "EPYC-v4", policy: 0x3_0000, c_bit: 51, host_data: &digest, identity: Some(&short) };
    let (_, text) = start(&qemu, &arguments(short)).answer();
    assert!(text.contains("length of 3 not equal to 96"), "{text}");
}

#[test]
fn qemu_takes_a_tdx_guest_up_to_the_hosts_refusal() {
    let Some(qemu) = qemu("qemu_takes_a_tdx_guest_up_to_the_hosts_refusal") else { return };
    let (config_id, quotes) = (mrconfigid(&[0xD1; 32]), QuoteService::default());
    let tdx = Protection::Tdx { config_id: &config_id, quotes: &quotes };
    let (status, text) = start(&qemu, &arguments(tdx)).answer();
    assert_eq!(status, Some(1), "{text}");
    // A QEMU older than 10.1 knows no such guest; the launcher refuses it by its version before this.
    let refusals = ["does not accept value 'tdx-guest'", "vm-type TDX not supported by KVM", NO_KVM[0], NO_KVM[1]];
    assert!(refusals.iter().any(|refusal| text.contains(refusal)), "{text}");
}

#[test]
fn qemu_does_not_outlive_whoever_started_it() {
    let Some(qemu) = qemu("qemu_does_not_outlive_whoever_started_it") else { return };
    // A shell in between is the launcher that dies; the helper compares its parent with the number it is given.
    let script = format!("exec {} {MODE} 1 {} --version", env!("CARGO_BIN_EXE_vouchsafe-launch"), qemu.display());
    let output =
        Command::new("/bin/sh").args(["-c", &script]).stdin(File::open("/dev/null").unwrap()).output().unwrap();
    assert_eq!(output.status.code(), Some(121), "its parent is not process 1");
    assert!(output.stdout.is_empty());
}
