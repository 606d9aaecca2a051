//! Turns machines of every kind into QEMU's argument list and compares it with the recorded one, line by line.
//! Whether QEMU takes the list is another test's business: `qemu.rs`.

use std::{fs, path::Path};

use vouchsafe_attestation::{Mode, Tee};
use vouchsafe_launcher::{
    backend::qemu::{Accel, Arguments, Identity, Protection},
    spec::QuoteService,
};
use vouchsafe_measurement::{command_line, mrconfigid};

const DIGEST: [u8; 32] = [0xD1; 32];

#[test]
fn the_argument_lists_do_not_move() {
    let simulated = command_line(Tee::SevSnp, Mode::Simulation);
    let (snp, tdx) = (command_line(Tee::SevSnp, Mode::Hardware), command_line(Tee::Tdx, Mode::Hardware));
    let config_id = mrconfigid(&DIGEST);
    let (vsock, unix) = (QuoteService::default(), QuoteService::Unix("/run/tdx-qgs/qgs.socket".to_owned()));
    let on = |accel| Protection::Simulated { accel, table_address: 0x0081_0c00 };
    let of = |policy, identity| Protection::Snp { cpu: "EPYC-v4", policy, c_bit: 51, host_data: &DIGEST, identity };
    let identity = |has_author| Identity { block: "QkxPQ0s=".into(), authentication: "QVVUSA==".into(), has_author };
    let (alone, authored) = (identity(false), identity(true));
    let cases = [
        ("sim-vm-tcg", on(Accel::Tcg), &simulated, 512),
        ("sim-vm-kvm", on(Accel::Kvm), &simulated, 512),
        ("snp", of(0x3_0000, None), &snp, 4096),
        ("snp-id-block", of(0x2_0000, Some(&alone)), &snp, 4096),
        ("snp-author-key", of(0x2_0000, Some(&authored)), &snp, 4096),
        ("tdx", Protection::Tdx { config_id: &config_id, quotes: &vsock }, &tdx, 4096),
        ("tdx-unix", Protection::Tdx { config_id: &config_id, quotes: &unix }, &tdx, 4096),
    ];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for (name, protection, command_line, memory_mib) in cases {
        let arguments = Arguments { protection, command_line, vcpus: 1, memory_mib, ports: [40001, 40002] };
        let text: String = arguments.list().iter().map(|argument| format!("{argument}\n")).collect();
        let path = folder.join(format!("{name}.txt"));
        if std::env::var_os("VOUCHSAFE_BLESS").is_some() {
            fs::write(&path, &text).unwrap();
        }
        let recorded = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(text, recorded, "{name}: VOUCHSAFE_BLESS=1 records the list anew");
    }
}
