//! Turns the simulator's program into evidence of both technologies and shows it to other verifiers besides ours.
//! A report is shown with every single bit flipped, too.
//! It says nothing about hardware: everything here is SIMULATED.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]
#![allow(clippy::disallowed_methods, reason = "this test is the relying party and names its simulated root")]

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    os::{
        fd::OwnedFd,
        unix::{fs::PermissionsExt, net::UnixStream},
    },
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
    time::{Duration, Instant, SystemTime},
};

use dcap_qvl::{QuoteCollateralV3, verify::QuoteVerifier};
use serde_json::{Value, json};
use sev::{
    certs::snp::{Certificate, Chain, Verifiable, ca},
    firmware::guest::AttestationReport,
    parser::ByteParser,
};
use tempfile::TempDir;
use vouchsafe_attestation::{
    Collateral, Evidence, EvidenceEnvelope, Facts, Mode, SnpEnvelope, TdxEnvelope, Tee, UnixTime,
    anchors::Anchors,
    encoding::b64url,
    lp::{sha256, sha384},
    verify::verify,
};
use vouchsafe_launcher::{LaunchError, LaunchRequest, Simulator, frame, measure_process};
use vouchsafe_tests::programs::program;

const CONFIG_DIGEST: [u8; 32] = [0x5c; 32];
const REPORT_DATA: [u8; 64] = [0xa7; 64];

/// One simulated root for all tests of this file, and two files to launch.
struct Bench {
    dir: TempDir,
}

impl Bench {
    fn get() -> &'static Self {
        static BENCH: OnceLock<Bench> = OnceLock::new();
        BENCH.get_or_init(|| {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("enclave"), b"a program").unwrap();
            fs::write(dir.path().join("library"), b"a library").unwrap();
            assert_eq!(root_command(&dir.path().join("root")).status.code(), Some(0));
            Self { dir }
        })
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    fn request(&self) -> LaunchRequest {
        LaunchRequest {
            tee: Tee::SevSnp,
            mode: Mode::Simulation,
            enclave: self.dir.path().join("enclave"),
            onnxruntime: self.dir.path().join("library"),
            host_data: CONFIG_DIGEST,
        }
    }

    fn td(&self) -> LaunchRequest {
        LaunchRequest { tee: Tee::Tdx, ..self.request() }
    }

    fn simulator(&self) -> Simulator {
        Simulator::start(&program("vouchsafe-simulator"), &self.root()).unwrap()
    }

    fn anchors(&self) -> Anchors {
        let pem = fs::read(self.root().join("root.pem")).unwrap();
        Anchors::simulated(&pem, &sha256(&pem)).unwrap()
    }

    fn evidence(&self) -> SnpEnvelope {
        let mut simulator = self.simulator();
        let launched = simulator.launch(&self.request()).unwrap();
        snp(&UnixStream::from(launched.device), &REPORT_DATA)
    }

    fn tdx_root(&self) -> Vec<u8> {
        let pem = fs::read_to_string(self.root().join("root.pem")).unwrap();
        let third = pem.split("-----BEGIN CERTIFICATE-----").nth(3).unwrap();
        let body: String = third.lines().take_while(|line| !line.starts_with("-----")).collect();
        base64::Engine::decode(&base64::engine::general_purpose::STANDARD, body).unwrap()
    }
}

fn snp(device: &UnixStream, report_data: &[u8]) -> SnpEnvelope {
    match quote(device, report_data) {
        EvidenceEnvelope::SevSnp(envelope) => envelope,
        EvidenceEnvelope::Tdx(_) => panic!("not SEV-SNP"),
    }
}

fn tdx(device: &UnixStream, report_data: &[u8]) -> TdxEnvelope {
    match quote(device, report_data) {
        EvidenceEnvelope::Tdx(envelope) => *envelope,
        EvidenceEnvelope::SevSnp(_) => panic!("not TDX"),
    }
}

fn quote(device: &UnixStream, report_data: &[u8]) -> EvidenceEnvelope {
    serde_json::from_value(ask(device, &json!({ "report_data": b64url(report_data) }))).unwrap()
}

fn ask(channel: &UnixStream, request: &Value) -> Value {
    frame::write(channel, request, &[]).unwrap();
    frame::read(channel).unwrap().unwrap().0
}

fn root_command(dir: &Path) -> Output {
    let simulator = program("vouchsafe-simulator");
    Command::new(simulator).args(["root", "--json", "--root"]).arg(dir).stdin(Stdio::null()).output().unwrap()
}

fn now() -> UnixTime {
    UnixTime(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs())
}

fn refusal(report: &[u8], envelope: &SnpEnvelope, anchors: &Anchors) -> Result<(), (u8, &'static str)> {
    let evidence = Evidence::SevSnp { report: report.to_vec() };
    let collateral = Collateral::SevSnp { leaf: envelope.leaf.clone(), crl: envelope.crl.clone(), asvk: Vec::new() };
    verify(&evidence, &collateral, anchors, now()).map(|_| ()).map_err(|e| (e.step(), e.code()))
}

#[test]
fn our_verifier_reads_what_was_launched() {
    let bench = Bench::get();
    let envelope = EvidenceEnvelope::SevSnp(bench.evidence());
    let (evidence, collateral) = envelope.into_parts().unwrap();
    let authentic = verify(&evidence, &collateral, &bench.anchors(), now()).unwrap();
    let request = bench.request();
    let measured = measure_process(&request.enclave, &request.onnxruntime, Tee::SevSnp, Mode::Simulation).unwrap();
    assert_eq!(authentic.mode(), Mode::Simulation);
    assert_eq!(authentic.measurement(), &measured);
    assert_eq!(authentic.config_digest(), CONFIG_DIGEST);
    assert_eq!(authentic.report_data(), &REPORT_DATA);
    assert!(matches!(authentic.facts(), Facts::SevSnp(facts) if facts.crl.number == 1));
    assert_eq!(verify(&evidence, &collateral, &Anchors::hardware(), now()).unwrap_err().code(), "LEAF_SIMULATED");
}

#[test]
fn the_sev_crate_verifies_it_too() {
    let bench = Bench::get();
    let envelope = bench.evidence();
    let pem = fs::read_to_string(bench.root().join("root.pem")).unwrap();
    let certificates: Vec<_> = pem.split_inclusive("-----END CERTIFICATE-----\n").collect();
    let [ark, ask] = [certificates[0], certificates[1]].map(|pem| Certificate::from_pem(pem.as_bytes()).unwrap());
    let vek = Certificate::from_der(&envelope.leaf).unwrap();
    let chain = Chain { ca: ca::Chain { ark, ask }, vek };
    chain.verify().unwrap();
    let report = AttestationReport::from_bytes(&envelope.report).unwrap();
    (&chain, &report).verify().unwrap();
    assert_eq!((report.version, report.vmpl, report.report_data.as_slice()), (5, 0, &REPORT_DATA[..]));
    // Control: with one bit of REPORT_DATA flipped it refuses.
    let mut flipped = envelope.report;
    flipped[0x50] ^= 1;
    let report = AttestationReport::from_bytes(&flipped).unwrap();
    assert!((&chain, &report).verify().is_err());
}

/// 1,184 bytes, 9,472 bits: not one can be flipped.
#[test]
fn every_flipped_bit_is_refused() {
    let bench = Bench::get();
    let envelope = bench.evidence();
    let anchors = bench.anchors();
    assert_eq!(refusal(&envelope.report, &envelope, &anchors), Ok(()), "control: the report itself, before");
    let mut histogram: BTreeMap<(u8, &str), u32> = BTreeMap::new();
    for bit in 0..8 * envelope.report.len() {
        let mut flipped = envelope.report.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        match refusal(&flipped, &envelope, &anchors) {
            Err(reason) => *histogram.entry(reason).or_default() += 1,
            Ok(()) => panic!("bit {} of byte {:#x} can be flipped", bit % 8, bit / 8),
        }
        // Fields that mean what the guest or its owner wanted are legal whatever they hold: only the signature refuses.
        if (0x50..0xE0).contains(&(bit / 8)) {
            assert_eq!(refusal(&flipped, &envelope, &anchors).unwrap_err().1, "SIGNATURE_INVALID");
        }
    }
    assert_eq!(refusal(&envelope.report, &envelope, &anchors), Ok(()), "control: the report itself, after");
    assert_eq!(histogram.values().sum::<u32>(), 9_472);
    println!("9,472 single bit flips, 9,472 refused:");
    for ((step, code), count) in &histogram {
        println!("  step {step:>2}  {code:<24} {count:>5}");
    }
}

#[test]
fn a_root_is_made_once_even_by_many_at_once_and_its_keys_are_private() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    let outputs: Vec<Output> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(|| root_command(&root))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let later = root_command(&root);
    assert!(outputs.iter().chain([&later]).all(|output| output.status.success()));
    assert!(outputs.iter().all(|output| output.stdout == later.stdout), "one root, whoever made it");
    let printed: Value = serde_json::from_slice(&later.stdout).unwrap();
    let pem = fs::read(root.join("root.pem")).unwrap();
    assert_eq!(printed["simulation"], "SIMULATED");
    assert_eq!(printed["sha256"], hex::encode(sha256(&pem)));
    let mode = |name: &str| fs::metadata(root.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(["ark.key", "ask.key", "vcek.key"].map(mode), [0o600; 3]);
    let intel = ["sgx-root.key", "sgx-pck-ca.key", "sgx-tcb-signing.key", "sgx-pck.key", "sgx-attestation.key"];
    assert_eq!(intel.map(mode), [0o600; 5]);
    assert_eq!(mode("root.pem"), 0o644);
    assert!(fs::read_dir(&root).unwrap().all(|e| !e.unwrap().file_name().to_string_lossy().ends_with(".new")));

    let text = String::from_utf8(pem.clone()).unwrap();
    let two: String = text.split_inclusive("-----END CERTIFICATE-----\n").take(2).collect();
    fs::write(root.join("root.pem"), two).unwrap();
    let old = root_command(&root);
    assert_eq!((old.status.code(), error_code(&old)), (Some(9), "SIMULATOR_ROOT_OUTDATED".to_owned()));
    fs::write(root.join("root.pem"), text).unwrap();
    fs::set_permissions(root.join("vcek.key"), fs::Permissions::from_mode(0o640)).unwrap();
    let open = root_command(&root);
    assert_eq!((open.status.code(), error_code(&open)), (Some(9), "SIMULATOR_ROOT_PERMISSIONS".to_owned()));
    fs::remove_file(root.join("vcek.key")).unwrap();
    let incomplete = root_command(&root);
    assert_eq!((incomplete.status.code(), error_code(&incomplete)), (Some(9), "SIMULATOR_ROOT_INCOMPLETE".to_owned()));
}

fn error_code(output: &Output) -> String {
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    value["error"]["code"].as_str().unwrap().to_owned()
}

#[test]
fn a_td_is_verified_by_us_and_by_dcap_qvl() {
    let bench = Bench::get();
    let mut simulator = bench.simulator();
    let td = bench.td();
    let launched = simulator.launch(&td).unwrap();
    let measured = measure_process(&td.enclave, &td.onnxruntime, Tee::Tdx, Mode::Simulation).unwrap();
    assert_eq!(launched.measurement, measured);
    let device = UnixStream::from(launched.device);
    let envelope = tdx(&device, &REPORT_DATA);
    let TdxEnvelope { quote, collateral: c } = envelope.clone();
    let collateral = QuoteCollateralV3 {
        pck_crl_issuer_chain: c.pck_crl_issuer_chain,
        root_ca_crl: c.root_ca_crl,
        pck_crl: c.pck_crl,
        tcb_info_issuer_chain: c.tcb_info_issuer_chain,
        tcb_info: c.tcb_info,
        tcb_info_signature: c.tcb_info_signature,
        qe_identity_issuer_chain: c.qe_identity_issuer_chain,
        qe_identity: c.qe_identity,
        qe_identity_signature: c.qe_identity_signature,
        pck_certificate_chain: None,
    };
    let theirs = QuoteVerifier::new(bench.tdx_root()).verify(&quote, &collateral, now().0).unwrap();
    assert_eq!((theirs.status.as_str(), theirs.report.as_td10().unwrap().mr_td), ("UpToDate", measured));
    assert!(QuoteVerifier::new_prod().verify(&quote, &collateral, now().0).is_err(), "control: Intel's root");
    let mut flipped = quote.clone();
    flipped[600] ^= 1;
    assert!(QuoteVerifier::new(bench.tdx_root()).verify(&flipped, &collateral, now().0).is_err(), "control");

    let (evidence, collateral) = EvidenceEnvelope::Tdx(Box::new(envelope)).into_parts().unwrap();
    let ours = verify(&evidence, &collateral, &bench.anchors(), now()).unwrap();
    assert_eq!((ours.mode(), ours.tee()), (Mode::Simulation, Tee::Tdx));
    assert_eq!((ours.measurement(), ours.config_digest()), (&measured, CONFIG_DIGEST));
    assert_eq!((ours.report_data(), ours.registers()), (&REPORT_DATA, &[[0; 48]; 4][..]));
    let refused = verify(&evidence, &collateral, &Anchors::hardware(), now()).unwrap_err();
    assert_eq!(refused.exit(), 2, "{refused}");
}

#[test]
fn a_td_reads_its_own_report() {
    let bench = Bench::get();
    let mut simulator = bench.simulator();
    let device = UnixStream::from(simulator.launch(&bench.td()).unwrap().device);
    let local = || {
        let reply = ask(&device, &json!({ "tdreport": b64url(&REPORT_DATA) }));
        let text = reply["tdreport"].as_str().unwrap();
        base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, text).unwrap()
    };
    let report = local();
    assert_eq!((report.len(), &report[..4]), (1024, &[0x81, 0, 0, 0][..]));
    assert_eq!(report[32..80], sha384(&report[256..495]), "TEE_TCB_INFO_HASH");
    assert_eq!(report[80..128], sha384(&report[512..1024]), "TEE_INFO_HASH");
    assert_eq!(report[128..192], REPORT_DATA);
    assert_eq!((&report[576..608], &report[608..624]), (&CONFIG_DIGEST[..], &[0; 16][..]), "MRCONFIGID");
    // The same TD as the one in a quote.
    let quote = tdx(&device, &REPORT_DATA).quote;
    let body = &quote[48..632];
    assert_eq!(body[136..184], report[528..576], "MRTD");
    assert_eq!(body[16..64], report[280..328], "MRSEAM");
    assert_eq!(body[120..128], report[512..520], "ATTRIBUTES");
    assert_ne!(local()[224..256], report[224..256], "the MAC is no constant that somebody could pin");
    for garbage in
        [json!({ "tdreport": "AAAA" }), json!({ "tdreport": b64url(&[0; 64]), "report_data": b64url(&[0; 64]) })]
    {
        assert_eq!(ask(&device, &garbage)["error"]["code"], "SIMULATOR_REQUEST", "{garbage}");
    }
}

#[test]
fn a_fault_lasts_as_long_as_its_file() {
    let bench = Bench::get();
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    assert_eq!(root_command(&root).status.code(), Some(0));
    let mut simulator = Simulator::start(&program("vouchsafe-simulator"), &root).unwrap();
    let device = UnixStream::from(simulator.launch(&bench.request()).unwrap().device);
    assert!(ask(&device, &json!({ "report_data": b64url(&REPORT_DATA) }))["report"].is_string(), "control");
    fs::write(root.join("fault"), "no-such-fault\n").unwrap();
    let refused = ask(&device, &json!({ "report_data": b64url(&REPORT_DATA) }));
    assert_eq!(refused["error"]["code"], "SIMULATOR_FAULT");
    fs::write(root.join("fault"), "").unwrap();
    assert!(ask(&device, &json!({ "report_data": b64url(&REPORT_DATA) }))["report"].is_string(), "control");
}

#[test]
fn a_refused_launch_has_a_code_and_the_next_one_works() {
    let bench = Bench::get();
    let mut simulator = bench.simulator();
    let good = bench.request();
    let refused = |simulator: &mut Simulator, request: LaunchRequest| match simulator.launch(&request) {
        Err(LaunchError::SimulatorRefused(code)) => code.to_string(),
        other => panic!("{other:?}"),
    };
    let hardware = LaunchRequest { mode: Mode::Hardware, ..good.clone() };
    assert_eq!(refused(&mut simulator, hardware), "SIMULATOR_MODE");
    let missing = LaunchRequest { enclave: bench.dir.path().join("nothing"), ..good.clone() };
    assert_eq!(refused(&mut simulator, missing), "SIMULATOR_GUEST_FILE");
    let directory = LaunchRequest { onnxruntime: bench.dir.path().into(), ..good.clone() };
    assert_eq!(refused(&mut simulator, directory), "SIMULATOR_GUEST_FILE");
    assert!(simulator.launch(&good).is_ok(), "control: the same without the fault");
    assert_eq!(simulator.end(), Some(0), "the end of the channel ends the simulator");
}

#[test]
fn garbage_on_the_control_channel_is_answered_and_ends_nothing_else() {
    let bench = Bench::get();
    let mut simulator = bench.simulator();
    let device = UnixStream::from(simulator.launch(&bench.request()).unwrap().device);
    for garbage in [
        json!(null),
        json!({ "launch": {} }),
        json!({ "launch": { "tee": "sev-snp", "mode": "simulation", "enclave": "/", "onnxruntime": "/", "host_data": "00" } }),
        json!({ "halt": true }),
    ] {
        let reply = ask(simulator.control().unwrap(), &garbage);
        assert_eq!(reply["error"]["code"], "SIMULATOR_REQUEST", "{garbage}");
    }
    for garbage in [
        json!({}),
        json!({ "report_data": "AAAA" }),
        json!({ "report_data": 7 }),
        json!([]),
        json!({ "tdreport": b64url(&REPORT_DATA) }),
    ] {
        assert_eq!(ask(&device, &garbage)["error"]["code"], "SIMULATOR_REQUEST", "{garbage}");
    }
    assert_eq!(quote(&device, &REPORT_DATA).signed().len(), 1184, "control: a good request after the bad ones");

    // A length above the cap cannot be read past: the device ends, and a control channel ends the simulator with 8.
    (&device).write_all(&u32::MAX.to_be_bytes()).unwrap();
    let (last, _) = frame::read::<Value>(&device).unwrap().unwrap();
    assert_eq!(last["error"]["code"], "SIMULATOR_FRAME");
    assert!(frame::read::<Value>(&device).unwrap().is_none());
    let mut control = simulator.control().unwrap();
    control.write_all(&u32::MAX.to_be_bytes()).unwrap();
    let (last, _) = frame::read::<Value>(control).unwrap().unwrap();
    assert_eq!(last["error"]["code"], "SIMULATOR_FRAME");
    assert_eq!(simulator.end(), Some(8));
}

#[test]
fn guests_are_separate_and_their_copies_are_sealed() {
    let bench = Bench::get();
    let mut simulator = bench.simulator();
    let first = simulator.launch(&bench.request()).unwrap();
    let second = simulator.launch(&LaunchRequest { host_data: [1; 32], ..bench.request() }).unwrap();
    assert_eq!(first.measurement, second.measurement);
    let mut copy = fs::File::from(first.enclave);
    assert!(copy.write_all(b"x").is_err() && copy.set_len(0).is_err());
    let mut bytes = Vec::new();
    std::io::Seek::rewind(&mut copy).unwrap();
    copy.read_to_end(&mut bytes).unwrap();
    assert_eq!(sha384(&bytes), sha384(b"a program"));

    let one = snp(&UnixStream::from(first.device), &REPORT_DATA).report;
    let device = UnixStream::from(second.device);
    let two = snp(&device, &REPORT_DATA).report;
    assert_eq!((&one[0xC0..0xE0], &two[0xC0..0xE0]), (&CONFIG_DIGEST[..], &[1; 32][..]));
    assert_ne!(one[0x140..0x160], two[0x140..0x160], "REPORT_ID is fresh for every launch");
    assert_eq!(one[0x1A0..0x1E0], two[0x1A0..0x1E0], "one chip");
    assert_eq!(snp(&device, &[0; 64]).report[0x140..0x160], two[0x140..0x160], "one guest, one REPORT_ID");
}

#[test]
fn serving_needs_a_socket_and_ends_with_it() {
    let bench = Bench::get();
    let simulator = program("vouchsafe-simulator");
    let mut command = Command::new(&simulator);
    command.args(["serve", "--json", "--root"]).arg(bench.root());
    let by_hand = command.stdin(Stdio::null()).output().unwrap();
    assert_eq!((by_hand.status.code(), error_code(&by_hand)), (Some(1), "SIMULATOR_CONTROL_CHANNEL".to_owned()));

    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut child = command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::piped()).spawn().unwrap();
    // The command keeps the other end of the channel open for a second spawn.
    drop(command);
    let mut first_line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut first_line).unwrap();
    assert!(first_line.contains("SIMULATED"), "{first_line}");
    drop(ours);
    let until = Instant::now() + Duration::from_secs(5);
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < until, "the simulator outlives its launcher");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn help_shows_an_example() {
    for role in
        [&["--help"][..], &["root", "--help"], &["serve", "--help"], &["faults", "--help"], &["relay", "--help"]]
    {
        let output = Command::new(program("vouchsafe-simulator")).args(role).output().unwrap();
        assert!(output.status.success());
        assert!(String::from_utf8(output.stdout).unwrap().contains("Example"), "{role:?}");
    }
    let unknown = Command::new(program("vouchsafe-simulator")).arg("--fault").output().unwrap();
    assert_eq!(unknown.status.code(), Some(1));
}
