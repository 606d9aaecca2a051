//! Turns made-up hosts (trees of files) and the real one into tables, and compares them with what they must say.
//! It launches nothing; the trees stand in `tests/tree.rs`.

mod tree;

use std::{fs, path::Path};

use tree::{OBJECTS_10_0, QEMU_10_0, Tree, laptop, paravirtual_host, snp_host, tdx_host};
use vouchsafe_launcher::Backend;

use super::{
    ask::{Landlock, ThisMachine},
    backends::{Finding, Outcome, examine},
    host::{Device, Host, Image, Places, Switch, Vendor, Version, version},
    print, verdict,
};

const ALL: [Backend; 4] = [Backend::Snp, Backend::Tdx, Backend::SimVm, Backend::SimProcess];
fn examine_all(host: &Host) -> Vec<Finding> {
    ALL.iter().map(|backend| examine(*backend, host)).collect()
}

fn runnable(host: &Host) -> Vec<&'static str> {
    examine_all(host).iter().filter(|f| f.can_run()).map(|f| f.backend.as_str()).collect()
}

/// What a backend lacks, by name.
fn lacks(backend: Backend, host: &Host) -> Vec<&'static str> {
    let finding = examine(backend, host);
    finding.requirements.iter().filter(|r| r.outcome == Outcome::Missing).map(|r| r.name).collect()
}

fn found(backend: Backend, host: &Host, name: &str) -> (Outcome, String) {
    let finding = examine(backend, host);
    let row = finding.requirements.into_iter().find(|r| r.name == name).unwrap_or_else(|| panic!("no row {name}"));
    (row.outcome, row.found)
}

#[test]
fn an_snp_host_runs_snp_and_says_why_it_is_no_tdx_host() {
    let host = snp_host().host();
    assert_eq!(runnable(&host), ["snp", "sim-vm", "sim-process"]);
    let tdx = ["processor", "kernel", "kvm_intel", "QEMU", "tdx-guest", "quote service"];
    assert_eq!(lacks(Backend::Tdx, &host), tdx);
    assert_eq!(found(Backend::Tdx, &host, "kvm_intel").1, "not loaded (kvm_amd is)");
    assert_eq!(found(Backend::SimVm, &host, "acceleration"), (Outcome::Met, "KVM".to_owned()));
    assert_eq!(host.cpu.vendor, Vendor::Amd);
    assert_eq!(host.cpu.flags, ["svm", "sev", "sev_es", "sev_snp", "rdrand"]);
    assert_eq!((host.memory.total_mib, host.memory.transparent), (Some(256_835), Some("madvise")));
}

#[test]
fn each_thing_that_an_snp_host_lacks_is_named() {
    type Change = fn(&mut Host);
    let changes: [(&str, Change); 14] = [
        ("processor", |host| host.cpu.flags.retain(|flag| *flag != "sev_snp")),
        ("processor", |host| host.cpu.vendor = Vendor::Other),
        ("kernel", |host| host.kernel = Some(Version(6, 10, 99))),
        ("kernel", |host| host.kernel = None),
        ("kvm_amd", |host| host.sev.sev_snp = Switch::Off),
        ("kvm_amd", |host| (host.sev.sev_snp, host.kvm.modules) = (Switch::Absent, Vec::new())),
        ("/dev/kvm", |host| host.kvm.device = Device::Denied),
        ("/dev/kvm", |host| host.kvm.device = Device::Missing),
        ("/dev/sev", |host| host.sev.device = Device::Missing),
        ("/dev/sev", |host| host.sev.device = Device::Broken),
        ("memory", |host| host.memory.available_mib = Some(639)),
        ("guest image", |host| host.image = Image::Unusable { code: "IMAGE_MISMATCH", fact: "f".into() }),
        ("guest image", |host| {
            host.image = Image::Complete { firmware_sha256: "00".repeat(32), firmware_known: false };
        }),
        ("sev-snp-guest", |host| {
            if let Some(qemu) = &mut host.qemu {
                qemu.sev_snp_guest = false;
            }
        }),
    ];
    let tree = snp_host();
    for (name, change) in changes {
        let mut host = tree.host();
        change(&mut host);
        assert_eq!(lacks(Backend::Snp, &host), [name]);
    }
    let mut host = tree.host();
    host.qemu = None;
    assert_eq!(lacks(Backend::Snp, &host), ["QEMU", "sev-snp-guest"]);
    let mut host = tree.host();
    host.sev.sev_snp = Switch::Off;
    assert_eq!(found(Backend::Snp, &host, "kvm_amd").1, "loaded, SEV-SNP off (SEV and SEV-ES on)");
}

#[test]
fn a_tdx_host_runs_tdx_and_still_needs_a_firmware_by_name() {
    let tree = tdx_host();
    let host = tree.host();
    assert_eq!(runnable(&host), ["tdx", "sim-vm", "sim-process"]);
    assert_eq!(lacks(Backend::Snp, &host), ["processor", "kvm_amd", "/dev/sev"]);
    assert_eq!(found(Backend::Tdx, &host, "TDX firmware").0, Outcome::Open);
    assert_eq!(found(Backend::Tdx, &host, "quote service").1, "/etc/qgs.conf");
    tree.write("sys/module/kvm_intel/parameters/tdx", "N\n");
    fs::remove_file(tree.root.path().join("etc/qgs.conf")).unwrap();
    assert_eq!(lacks(Backend::Tdx, &tree.host()), ["kvm_intel", "quote service"]);
    // QEMU 10.0 is enough for the others, not for TDX.
    let older = Tree { version: QEMU_10_0, objects: OBJECTS_10_0, ..tree };
    assert_eq!(lacks(Backend::Tdx, &older.host()), ["kvm_intel", "QEMU", "tdx-guest", "quote service"]);
    assert_eq!(runnable(&older.host()), ["sim-vm", "sim-process"]);
}

#[test]
fn a_laptop_rehearses_with_a_process() {
    let host = laptop().host();
    assert_eq!(runnable(&host), ["sim-process"]);
    assert_eq!(lacks(Backend::SimVm, &host), ["QEMU", "memory"]);
    assert_eq!(found(Backend::SimVm, &host, "acceleration"), (Outcome::Met, "KVM".to_owned()));
    assert_eq!(found(Backend::SimVm, &host, "QEMU").1, "7.2.19");
    assert_eq!(found(Backend::SimProcess, &host, "landlock"), (Outcome::Better, "enforced in part".to_owned()));
    assert_eq!(found(Backend::Tdx, &host, "kvm_intel").1, "loaded, without the parameter tdx");
    assert!(!host.apt);
    assert_eq!(host.memory.huge_free, None);
}

#[test]
fn a_paravirtual_kvm_is_told_from_a_real_one() {
    let tree = paravirtual_host();
    let host = tree.host();
    assert_eq!(runnable(&host), ["sim-vm", "sim-process"]);
    let (outcome, words) = found(Backend::SimVm, &host, "acceleration");
    assert_eq!(outcome, Outcome::Better, "it runs, but slowly");
    assert!(words.contains("neither kvm_amd nor kvm_intel") && words.contains("kvm_pvm"), "{words}");
    assert_eq!(found(Backend::Snp, &host, "kvm_amd").1, "not loaded (kvm_pvm is)");
    assert_eq!(found(Backend::Tdx, &host, "processor").1, "Intel without TDX, seen from a virtual machine");
    let text = print::text(&host, &examine_all(&host));
    assert!(
        text.starts_with(
            "This host: Intel(R) Xeon(R) Processor, a virtual machine, Linux 6.18.44, 24105 MiB of memory\n"
        )
    );
    for line in ["\nsnp cannot run here\n", "\nsim-vm can run here (a rehearsal: it protects nothing)\n"] {
        assert!(text.contains(line), "{text}");
    }
}

#[test]
fn a_host_without_anything_runs_nothing_and_nothing_panics() {
    let mut tree = Tree::new(&[]);
    tree.landlock = Landlock::None;
    fs::remove_file(tree.programs.path().join("vouchsafe-simulator")).unwrap();
    let programs = |backend| found(backend, &tree.host(), "programs").0;
    assert_eq!(ALL.map(programs), [Outcome::Met, Outcome::Met, Outcome::Missing, Outcome::Missing]);
    let host = tree.host();
    let findings = examine_all(&host);
    assert_eq!(runnable(&host), [""; 0]);
    assert_eq!(lacks(Backend::SimProcess, &host), ["programs"]);
    let failure = verdict(&findings, print::json(&host, &findings)).unwrap_err();
    assert_eq!((failure.code, failure.exit), ("BACKEND_NOT_READY", 10));
    let json = failure.to_json();
    assert_eq!(json["can_run"].as_array().map(Vec::len), Some(0));
    assert_eq!(json["backends"].as_array().map(Vec::len), Some(4));
    assert_eq!(json["host"]["kvm"]["device"], "missing");
    assert!(print::text(&host, &findings).contains("a processor without a name, an unknown kernel\n"));
}

#[test]
fn files_full_of_anything_are_facts_not_panics() {
    let tree = snp_host();
    let every: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
    for path in [
        "proc/cpuinfo",
        "proc/sys/kernel/osrelease",
        "proc/meminfo",
        "sys/module/kvm_amd/parameters/sev_snp",
        "sys/kernel/mm/transparent_hugepage/enabled",
    ] {
        tree.write(path, &every);
    }
    tree.write("proc/cpuinfo", "model name : a\u{1b}[31m\u{202e}b\nflags: \u{0}");
    tree.write("sys/module/kvm_\u{1b}[31m/x", "");
    let host = tree.host();
    assert_eq!(host.cpu.name.as_deref(), Some("a[31mb"));
    assert_eq!(host.kvm.modules, ["kvm_amd"]);
    assert_eq!((host.kernel, host.sev.sev_snp), (None, Switch::Off));
    let text = print::text(&host, &examine_all(&host));
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text}");
}

#[test]
fn whatever_is_not_met_comes_with_something_to_do() {
    for tree in [snp_host(), tdx_host(), laptop(), paravirtual_host(), Tree::new(&[])] {
        for finding in examine_all(&tree.host()) {
            for row in finding.requirements {
                assert_eq!(row.outcome == Outcome::Met, row.fix.is_empty(), "{row:?}");
                assert!(!row.found.is_empty(), "{row:?}");
            }
        }
    }
}

#[test]
fn an_image_is_looked_at_as_a_launch_does() {
    let tree = snp_host();
    let folder = tempfile::tempdir().unwrap();
    let image = || tree.host_with(Some(folder.path())).image;
    assert!(matches!(image(), Image::Unusable { code: "LAUNCH_FILE", .. }));
    let part = |name: &str, bytes: &[u8]| {
        fs::write(folder.path().join(name), bytes).unwrap();
        serde_json::json!({ "bytes": bytes.len(), "sha256": hex::encode(vouchsafe_attestation::lp::sha256(bytes)) })
    };
    let manifest = serde_json::json!({
        "version": 1,
        "firmware": part("firmware.fd", b"generic"),
        "kernel": part("kernel", b"kernel"),
        "initrd": part("initrd", b"initrd"),
    });
    fs::write(folder.path().join("image.json"), manifest.to_string()).unwrap();
    let host = tree.host_with(Some(folder.path()));
    assert!(matches!(&host.image, Image::Complete { firmware_known: false, .. }), "{:?}", host.image);
    assert_eq!(lacks(Backend::Snp, &host), ["guest image"]);
    assert!(found(Backend::Snp, &host, "guest image").1.contains("known to start nothing but what was measured"));
    assert_eq!(found(Backend::Tdx, &host, "guest image").0, Outcome::Met, "TDX brings its own firmware");
    fs::write(folder.path().join("initrd"), b"Initrd").unwrap();
    assert!(matches!(image(), Image::Unusable { code: "IMAGE_MISMATCH", .. }));
    fs::write(folder.path().join("image.json"), "{").unwrap();
    assert!(matches!(image(), Image::Unusable { code: "IMAGE_MANIFEST", .. }));
}

/// The launcher looks for itself before it starts anything: it and this table must not differ.
#[test]
fn the_launcher_comes_to_the_same_result() {
    use vouchsafe_launcher::{
        backend::{
            host::{accelerator, require_hardware},
            qemu::Accel,
        },
        spec::{AccelChoice, QuoteService},
    };
    for tree in [snp_host(), tdx_host(), laptop(), paravirtual_host(), Tree::new(&[])] {
        let (root, host) = (tree.root.path(), tree.host());
        let quotes = QuoteService::Unix("/etc/qgs.conf".to_owned());
        for backend in [Backend::Snp, Backend::Tdx] {
            let rows = ["kvm_amd", "kvm_intel", "/dev/kvm", "/dev/sev", "quote service"];
            let lacks_none = !lacks(backend, &host).iter().any(|name| rows.contains(name));
            assert_eq!(require_hardware(root, backend, &quotes).is_ok(), lacks_none);
        }
        assert_eq!(accelerator(root, AccelChoice::Auto) == Ok(Accel::Kvm), host.kvm.is_usable());
    }
}

#[test]
fn versions_are_read_from_the_front() {
    for (text, expected) in [
        ("6.12.95+deb12-cloud-amd64\n", Some(Version(6, 12, 95))),
        ("10.0.2 (Debian", Some(Version(10, 0, 2))),
        ("6.18-rc1", Some(Version(6, 18, 0))),
        ("6", None),
        ("", None),
        ("six.twelve", None),
        ("99999999999.1.1", None),
        ("6..1", None),
    ] {
        assert_eq!(version(text), expected, "{text}");
    }
    assert!(Version(10, 0, 0) > Version(9, 2, 50));
}

/// What this very machine says, whatever it is: not one word may contradict what the standard library sees.
#[test]
fn the_real_machine_is_described_as_it_is() {
    let nowhere = tempfile::tempdir().unwrap();
    let host = Host::read(&Places { root: Path::new("/"), programs: nowhere.path(), image: None }, &ThisMachine);
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    assert_eq!(host.kernel, version(&release));
    let loaded = |name: &str| Path::new("/sys/module").join(name).is_dir();
    assert_eq!(host.kvm.loaded("kvm_amd"), loaded("kvm_amd"));
    assert_eq!(host.kvm.loaded("kvm_intel"), loaded("kvm_intel"));
    assert_eq!(host.kvm.device == Device::Missing, !Path::new("/dev/kvm").exists());
    assert_eq!(host.sev.device == Device::Missing, !Path::new("/dev/sev").exists());
    assert!(host.memory.total_mib.is_some_and(|mib| mib > 0));
    let findings = examine_all(&host);
    if !loaded("kvm_amd") {
        assert!(lacks(Backend::Snp, &host).contains(&"kvm_amd"));
    }
    if !loaded("kvm_intel") {
        assert!(lacks(Backend::Tdx, &host).contains(&"kvm_intel"));
    }
    if !loaded("kvm_amd") && !loaded("kvm_intel") {
        assert_eq!(found(Backend::SimVm, &host, "acceleration").0, Outcome::Better);
    }
    assert_eq!(lacks(Backend::SimProcess, &host), ["programs"], "none was put there");
    if let Some(qemu) = &host.qemu {
        assert!(qemu.path.is_file());
        println!("QEMU {:?}, sev-snp-guest {}, tdx-guest {}", qemu.version, qemu.sev_snp_guest, qemu.tdx_guest);
    }
    println!("{}", print::text(&host, &findings));
}
