//! Turns launch requests for virtual machines into measurements, sealed copies and reports, over the simulator's own channel.
//! Nothing boots here: what QEMU makes of the copies is for the tests of the launcher.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
#![allow(clippy::disallowed_methods, reason = "this test is the relying party and names its simulated root")]

use std::{
    collections::BTreeMap,
    fs,
    io::{IoSliceMut, Read, Seek, Write},
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::PathBuf,
    sync::{Arc, OnceLock},
    thread::JoinHandle,
};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::{Value, json};
use tempfile::TempDir;
use vouchsafe_attestation::{
    Anchors, EvidenceEnvelope, Mode, Tee, UnixTime,
    encoding::b64url,
    lp::{sha256, sha384},
    verify,
};
use vouchsafe_measurement::{CpuModel, SNP_ACTIVE, SnpVm, command_line, process_measurement, snp_launch_digest};
use vouchsafe_simulator::{
    SimulatorError,
    root::{Root, now},
    serve::serve,
};

const HOST_DATA: [u8; 32] = [0x5c; 32];
const REPORT_DATA: [u8; 64] = [0xa7; 64];

/// One simulated root and the files of one machine, for all tests here.
struct Bench {
    dir: TempDir,
    root: Arc<Root>,
}

impl Bench {
    fn get() -> &'static Self {
        static BENCH: OnceLock<Bench> = OnceLock::new();
        BENCH.get_or_init(|| {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("firmware"), firmware(true)).unwrap();
            fs::write(dir.path().join("without-hashes"), firmware(false)).unwrap();
            for name in ["kernel", "initrd", "enclave", "library"] {
                fs::write(dir.path().join(name), format!("some {name}")).unwrap();
            }
            fs::write(dir.path().join("empty"), b"").unwrap();
            let root = Root::open(&dir.path().join("root"), &mut |_| ()).unwrap();
            Self { dir, root: Arc::new(root) }
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn vm(&self) -> Value {
        json!({
            "firmware": self.path("firmware"),
            "kernel": self.path("kernel"),
            "initrd": self.path("initrd"),
            "command_line": command_line(Tee::SevSnp, Mode::Simulation),
            "vcpus": 1,
            "cpu": "EPYC-v4",
        })
    }

    /// The machine with one field changed.
    fn but(&self, field: &str, value: impl Into<Value>) -> Value {
        let mut vm = self.vm();
        vm[field] = value.into();
        vm
    }

    fn simulator(&self) -> Simulator {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let root = Arc::clone(&self.root);
        Simulator { control: ours, thread: std::thread::spawn(move || serve(&root, theirs)) }
    }
}

/// The least that an AmdSev build of OVMF announces: pages for SNP, where processors start, where kernel hashes go. It boots nothing.
fn firmware(with_hashes: bool) -> Vec<u8> {
    let entry = |data: &[u32], guid: &str| {
        let data: Vec<u8> = data.iter().flat_map(|word| word.to_le_bytes()).collect();
        let length = u16::try_from(data.len() + 18).unwrap().to_le_bytes();
        [data.as_slice(), &length, &hex::decode(guid).unwrap()].concat()
    };
    let mut sections: Vec<[u32; 3]> =
        vec![[0x80_0000, 0x9000, 1], [0x80_d000, 0x1000, 2], [0x80_e000, 0x1000, 3], [0x81_1000, 0xf000, 1]];
    let mut entries = entry(&[0x80_b004], "de71f7007e1acb4f890e68c77e2fb44e");
    if with_hashes {
        sections.push([0x81_0000, 0x1000, 0x10]);
        entries.extend(entry(&[0x81_0c00, 0x400], "1f3755723b3a044b927b1da6efa8d454"));
    }
    let count = u32::try_from(sections.len()).unwrap();
    let words = [u32::from_le_bytes(*b"ASEV"), 16 + 12 * count, 1, count].into_iter().chain(sections.concat());
    let metadata: Vec<u8> = words.flat_map(u32::to_le_bytes).collect();
    entries.extend(entry(&[0x800], "666588dc4a989847a75e5585a7bf67cc"));
    entries.extend(u16::try_from(entries.len() + 18).unwrap().to_le_bytes());
    entries.extend(hex::decode("de82b596b21ff745baeaa366c55a082d").unwrap());

    let mut image = vec![0x90; 4096];
    image[0x800..0x800 + metadata.len()].copy_from_slice(&metadata);
    let end = image.len() - 32;
    image[end - entries.len()..end].copy_from_slice(&entries);
    image
}

/// A simulator on a thread, and the launcher's end of its channel.
struct Simulator {
    control: UnixStream,
    thread: JoinHandle<Result<(), SimulatorError>>,
}

impl Simulator {
    fn ask(&self, request: &Value) -> (Value, Vec<OwnedFd>) {
        ask(&self.control, request)
    }

    fn launch(&self, tee: &str, vm: Value) -> (Value, Vec<OwnedFd>) {
        self.ask(&request(tee, &[("vm", vm)]))
    }

    fn measurement(&self, vm: Value) -> String {
        let (reply, descriptors) = self.launch("sev-snp", vm);
        assert_eq!(descriptors.len(), 4, "{reply}");
        reply["launched"]["measurement"].as_str().unwrap().to_owned()
    }

    /// The code of the refusal; no descriptor comes with one.
    fn refusal(&self, tee: &str, vm: Value) -> String {
        let (reply, descriptors) = self.launch(tee, vm);
        assert!(descriptors.is_empty());
        reply["error"]["code"].as_str().unwrap_or_else(|| panic!("{reply}")).to_owned()
    }

    fn end(self) -> Result<(), SimulatorError> {
        drop(self.control);
        self.thread.join().unwrap()
    }
}

fn request(tee: &str, fields: &[(&str, Value)]) -> Value {
    let mut launch = json!({ "tee": tee, "mode": "simulation", "host_data": hex::encode(HOST_DATA) });
    for (name, value) in fields {
        launch[*name] = value.clone();
    }
    json!({ "launch": launch })
}

/// One frame there and one back, read by a second hand: length, JSON, descriptors.
fn ask(mut channel: &UnixStream, request: &Value) -> (Value, Vec<OwnedFd>) {
    let body = request.to_string();
    channel.write_all(&u32::try_from(body.len()).unwrap().to_be_bytes()).unwrap();
    channel.write_all(body.as_bytes()).unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut head = [0; 4];
    let got = recvmsg(channel, &mut [IoSliceMut::new(&mut head)], &mut control, RecvFlags::WAITALL).unwrap();
    assert_eq!(got.bytes, 4);
    let descriptors = control.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(rights) => rights.collect::<Vec<_>>(),
        _ => Vec::new(),
    });
    let descriptors = descriptors.collect();
    let mut body = vec![0; u32::from_be_bytes(head) as usize];
    channel.read_exact(&mut body).unwrap();
    (serde_json::from_slice(&body).unwrap(), descriptors)
}

fn text(fd: OwnedFd) -> Vec<u8> {
    let mut file = fs::File::from(fd);
    assert!(file.write_all(b"x").is_err() && file.set_len(1).is_err(), "sealed");
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_machine_is_measured_as_production_code_measures_it_and_reports_so() {
    let bench = Bench::get();
    let simulator = bench.simulator();
    let (reply, descriptors) = simulator.launch("sev-snp", bench.vm());
    let [firmware, kernel, initrd, device] = <[OwnedFd; 4]>::try_from(descriptors).unwrap();
    let expected = snp_launch_digest(&SnpVm {
        firmware: &bench.path("firmware"),
        kernel: &bench.path("kernel"),
        initrd: &bench.path("initrd"),
        command_line: &command_line(Tee::SevSnp, Mode::Simulation),
        vcpus: 1,
        cpu: CpuModel::EpycV4,
        guest_features: SNP_ACTIVE,
    })
    .unwrap();
    assert_eq!(reply, json!({ "launched": { "measurement": hex::encode(expected) } }));
    assert_eq!(text(firmware), fs::read(bench.path("firmware")).unwrap());
    assert_eq!(text(kernel), b"some kernel");
    assert_eq!(text(initrd), b"some initrd");

    let device = UnixStream::from(device);
    let (answer, _) = ask(&device, &json!({ "report_data": b64url(&REPORT_DATA) }));
    let envelope: EvidenceEnvelope = serde_json::from_value(answer).unwrap();
    let (evidence, collateral) = envelope.into_parts().unwrap();
    let anchors = Anchors::simulated(bench.root.root_pem(), &sha256(bench.root.root_pem())).unwrap();
    let authentic = verify(&evidence, &collateral, &anchors, UnixTime(now())).unwrap();
    assert_eq!((authentic.mode(), authentic.measurement()), (Mode::Simulation, &expected));
    assert_eq!((authentic.config_digest(), authentic.report_data()), (HOST_DATA, &REPORT_DATA));
    assert_eq!(simulator.end(), Ok(()));
}

#[test]
fn everything_measured_changes_the_measurement() {
    let bench = Bench::get();
    let simulator = bench.simulator();
    fs::write(bench.path("other-kernel"), b"some kernem").unwrap();
    fs::write(bench.path("other-initrd"), b"some initre").unwrap();
    let mut firmware = fs::read(bench.path("firmware")).unwrap();
    firmware[0] ^= 1;
    fs::write(bench.path("other-firmware"), firmware).unwrap();
    let path = |name: &str| bench.path(name).to_str().unwrap().to_owned();
    let line = command_line(Tee::SevSnp, Mode::Simulation);
    let machines = [
        ("as it is", bench.vm()),
        ("kernel", bench.but("kernel", path("other-kernel"))),
        ("initrd", bench.but("initrd", path("other-initrd"))),
        ("firmware", bench.but("firmware", path("other-firmware"))),
        ("one letter", bench.but("command_line", line.replace("quiet", "quies"))),
        ("one word more", bench.but("command_line", format!("{line} nokaslr"))),
        ("two processors", bench.but("vcpus", 2)),
        ("other processors", bench.but("cpu", "EPYC-Milan")),
    ];
    let mut seen = BTreeMap::new();
    for (name, vm) in machines {
        let before = seen.insert(simulator.measurement(vm), name);
        assert_eq!(before, None, "{name} measures like another");
    }
    let again = simulator.measurement(bench.vm());
    assert_eq!(seen.get(&again), Some(&"as it is"), "control: the same machine, the same measurement");

    // The same bytes under another name are the same machine: nothing but the bytes counts.
    fs::copy(bench.path("initrd"), bench.path("renamed")).unwrap();
    assert_eq!(simulator.measurement(bench.but("initrd", path("renamed"))), again);
}

#[test]
fn a_copy_outlives_what_happens_to_the_file() {
    let bench = Bench::get();
    let simulator = bench.simulator();
    fs::write(bench.path("moving"), b"measured").unwrap();
    let (reply, descriptors) = simulator.launch("sev-snp", bench.but("initrd", bench.path("moving").to_str().unwrap()));
    fs::write(bench.path("moving"), b"swapped!").unwrap();
    let [_, _, initrd, _] = <[OwnedFd; 4]>::try_from(descriptors).unwrap();
    assert_eq!(text(initrd), b"measured");
    fs::write(bench.path("moving"), b"measured").unwrap();
    let again = simulator.measurement(bench.but("initrd", bench.path("moving").to_str().unwrap()));
    assert_eq!(reply["launched"]["measurement"], again);
}

#[test]
fn bad_machines_are_refused_with_codes_and_the_next_one_works() {
    let bench = Bench::get();
    let simulator = bench.simulator();
    let path = |name: &str| bench.path(name).to_str().unwrap().to_owned();
    assert_eq!(simulator.refusal("tdx", bench.vm()), "SIMULATOR_TEE");
    assert_eq!(simulator.refusal("sgx", bench.vm()), "SIMULATOR_TEE");
    for file in ["firmware", "kernel", "initrd"] {
        for odd in ["none", "empty", "."] {
            assert_eq!(
                simulator.refusal("sev-snp", bench.but(file, path(odd))),
                "SIMULATOR_GUEST_FILE",
                "{file} {odd}"
            );
        }
        assert_eq!(simulator.refusal("sev-snp", bench.but(file, "/dev/zero")), "SIMULATOR_GUEST_FILE", "{file}");
    }
    for (field, value, code) in [
        ("firmware", json!(path("kernel")), "FIRMWARE_FORMAT"),
        ("firmware", json!(path("without-hashes")), "FIRMWARE_LACKS"),
        ("vcpus", json!(0), "MEASUREMENT_NO_PROCESSOR"),
        ("vcpus", json!(u32::MAX), "MEASUREMENT_PROCESSORS"),
        ("vcpus", json!(-1), "SIMULATOR_REQUEST"),
        ("cpu", json!("host"), "CPU_UNKNOWN"),
        ("cpu", json!(""), "CPU_UNKNOWN"),
        ("command_line", json!(""), "COMMAND_LINE"),
        ("command_line", json!("quiet "), "COMMAND_LINE"),
        ("command_line", json!(" quiet"), "COMMAND_LINE"),
        ("command_line", json!("quiet\0quiet"), "COMMAND_LINE"),
        ("command_line", json!("a".repeat(2048)), "COMMAND_LINE"),
        ("unknown", json!(1), "SIMULATOR_REQUEST"),
    ] {
        assert_eq!(simulator.refusal("sev-snp", bench.but(field, value.clone())), code, "{field} {value}");
    }
    let mut hardware = request("sev-snp", &[("vm", bench.vm())]);
    hardware["launch"]["mode"] = json!("hardware");
    assert_eq!(simulator.ask(&hardware).0["error"]["code"], "SIMULATOR_MODE");
    assert_eq!(simulator.measurement(bench.vm()).len(), 96, "control: the same without the fault");
    assert_eq!(simulator.end(), Ok(()));
}

#[test]
fn a_process_and_a_machine_are_not_mixed() {
    let bench = Bench::get();
    let simulator = bench.simulator();
    let (enclave, library) = (json!(bench.path("enclave")), json!(bench.path("library")));
    let process = [("enclave", enclave.clone()), ("onnxruntime", library.clone())];
    for fields in [
        &[][..],
        &[("enclave", enclave.clone())],
        &[("enclave", enclave), ("vm", bench.vm())],
        &[("onnxruntime", library), ("vm", bench.vm())],
        &[process[0].clone(), process[1].clone(), ("vm", bench.vm())],
        &[process[0].clone(), process[1].clone(), ("vm", Value::Null)],
    ] {
        let (reply, descriptors) = simulator.ask(&request("sev-snp", fields));
        assert_eq!(reply["error"]["code"], "SIMULATOR_REQUEST", "{fields:?}");
        assert!(descriptors.is_empty());
    }
    let (reply, descriptors) = simulator.ask(&request("sev-snp", &process));
    let (one, two) = (sha384(b"some enclave"), sha384(b"some library"));
    let expected = process_measurement(Tee::SevSnp, Mode::Simulation, &one, &two);
    assert_eq!(reply["launched"]["measurement"], hex::encode(expected), "control: a process alone");
    assert_eq!(descriptors.len(), 3);
}
