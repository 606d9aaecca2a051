//! Turns played kernels, hosts and processors into what the hardware devices make of them: evidence, or a coded error.
//! It proves nothing about hardware; docs/evidence.md names what was never run on any.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::io::Errno;
use vouchsafe_attestation::{Anchors, EvidenceEnvelope, SnpEnvelope, Tee, UnixTime, verify};
use vouchsafe_system::TDREPORT_LEN;

use super::certificates::tests::{Kind, table};
use super::played::{Fault, Played};
use super::sev_guest::{GuestMessages, SevGuest, SnpDevice, Source};
use super::tdx_guest::{LocalReports, TdxDevice};
use super::tsm::Tsm;
use crate::device::{EvidenceDevice, OwnLaunch, snp, tdx};

const DATA: [u8; 64] = [8; 64];
const LAUNCH: OwnLaunch = OwnLaunch { measurement: [9; 48], config_digest: [7; 32] };

fn quote(data: &[u8; 64]) -> Vec<u8> {
    let mut quote = vec![0; 1000];
    quote[0] = 4;
    quote[568..632].copy_from_slice(data);
    quote
}

fn tdreport(challenge: &[u8; 64]) -> [u8; TDREPORT_LEN] {
    let mut id = [7; 48];
    id[32..].fill(0);
    tdx::tests::tdreport(challenge, &id).try_into().unwrap()
}

/// The TD's own instruction, which first fails so many times, and may be about other data.
struct Local(Arc<AtomicUsize>, Option<[u8; 64]>, Errno);

impl LocalReports for Local {
    fn report(&self, data: &[u8; 64]) -> io::Result<[u8; TDREPORT_LEN]> {
        let left = self.0.load(Ordering::SeqCst);
        if left > 0 {
            self.0.store(left - 1, Ordering::SeqCst);
            return Err(self.2.into());
        }
        Ok(tdreport(&self.1.unwrap_or(*data)))
    }
}

fn local() -> Box<Local> {
    Box::new(Local(Arc::new(AtomicUsize::new(0)), None, Errno::INTR))
}

/// A guest of that technology over a played kernel.
fn device(tee: Tee) -> (Box<dyn EvidenceDevice>, Played) {
    let kernel = match tee {
        Tee::SevSnp => Played::new("sev_guest", snp::tests::report),
        Tee::Tdx => Played::new("tdx_guest", quote),
    };
    let tsm = Tsm::over(Box::new(kernel.clone()), tee).unwrap().unwrap();
    let device: Box<dyn EvidenceDevice> = match tee {
        Tee::SevSnp => Box::new(SnpDevice::new(Source::Tsm(tsm))),
        Tee::Tdx => Box::new(TdxDevice::over(tsm, local())),
    };
    kernel.state().log.clear();
    (device, kernel)
}

fn snp_quote(device: &dyn EvidenceDevice) -> SnpEnvelope {
    match device.quote(DATA).unwrap() {
        EvidenceEnvelope::SevSnp(snp) => snp,
        EvidenceEnvelope::Tdx(_) => panic!("a quote"),
    }
}

#[test]
fn a_report_is_asked_for_at_privilege_level_0_and_its_request_is_removed() {
    let (device, kernel) = device(Tee::SevSnp);
    assert_eq!(snp_quote(&*device).report, snp::tests::report(&DATA));
    let asked = ["make", "read provider", "read generation", "write privlevel 0", "write inblob 64", "read generation"];
    let answered = ["read outblob", "read auxblob", "read generation", "remove"];
    assert_eq!(kernel.state().log, [&asked[..], &answered[..]].concat());
    assert_eq!(kernel.open_requests(), 0);
}

#[test]
fn a_quote_has_no_privilege_level_and_no_table() {
    let (device, kernel) = device(Tee::Tdx);
    let evidence = device.quote(DATA).unwrap();
    assert_eq!(evidence.signed(), quote(&DATA));
    let asked = ["make", "read provider", "read generation", "write inblob 64", "read generation"];
    assert_eq!(kernel.state().log, [&asked[..], &["read outblob", "read generation", "remove"]].concat());
}

#[test]
fn the_leaf_is_the_one_of_the_key_that_signed() {
    let (device, kernel) = device(Tee::SevSnp);
    let all = [Kind::Vcek, Kind::Vlek, Kind::Ask, Kind::Ark, Kind::Crl];
    kernel.state().table = table(&all.map(|kind| (kind, kind.certificate())));
    let with = |blob: fn(&[u8; 64]) -> Vec<u8>| {
        kernel.state().blob = blob;
        let SnpEnvelope { leaf, crl, asvk, .. } = snp_quote(&*device);
        assert!(crl.is_empty(), "the list comes from the collateral file alone");
        (leaf, asvk)
    };
    assert_eq!(with(|data| snp::tests::signed_by(data, 0)), (Kind::Vcek.certificate(), vec![]));
    assert_eq!(with(|data| snp::tests::signed_by(data, 1)), (Kind::Vlek.certificate(), Kind::Ask.certificate()));
    assert_eq!(with(|data| snp::tests::signed_by(data, 7)), (vec![], vec![]));
    for without in [vec![], table(&[]), table(&[(Kind::Vlek, vec![1])])] {
        kernel.state().table = without;
        assert_eq!(with(|data| snp::tests::signed_by(data, 0)), (vec![], vec![]));
    }
    kernel.state().table = table(&[(Kind::Vcek, vec![1; 8 * 1024 + 1])]);
    assert_eq!(device.quote(DATA).err().unwrap().code(), "EVIDENCE_DEVICE");
}

#[test]
#[allow(clippy::disallowed_methods, reason = "this test is the relying party")]
fn evidence_without_collateral_leaves_and_is_refused_outside() {
    for (tee, code) in [(Tee::SevSnp, "LEAF_MISSING"), (Tee::Tdx, "TCB_INFO_MISSING")] {
        let (device, _) = device(tee);
        let (evidence, collateral) = device.quote(DATA).unwrap().into_parts().unwrap();
        let refused = verify(&evidence, &collateral, &Anchors::hardware(), UnixTime(1_800_000_000)).err().unwrap();
        assert_eq!((refused.code(), refused.exit()), (code, 3));
    }
}

#[test]
fn the_own_launch_asks_the_processor_and_nobody_for_certificates() {
    let (snp, kernel) = device(Tee::SevSnp);
    kernel.state().table = vec![0xFF; 24];
    assert_eq!(snp.own_launch(DATA), Ok(LAUNCH));
    assert!(!kernel.state().log.iter().any(|operation| operation == "read auxblob"));
    assert_eq!(snp.quote(DATA).err().unwrap().code(), "EVIDENCE_DEVICE", "control: that table is refused");
    let (tdx, kernel) = device(Tee::Tdx);
    assert_eq!(tdx.own_launch(DATA), Ok(LAUNCH));
    assert_eq!(kernel.state().log, [""; 0], "a quote is not asked for");
}

#[test]
fn every_misbehaviour_is_an_error_and_leaves_no_request_behind() {
    let io = Errno::IO;
    let long = 1 << 20;
    for (fault, snp, tdx) in [
        (Fault::Generation, Some("EVIDENCE_DEVICE"), Some("EVIDENCE_DEVICE")),
        (Fault::Lost, Some("EVIDENCE_DEVICE"), Some("EVIDENCE_DEVICE")),
        (Fault::Count(""), Some("EVIDENCE_DEVICE"), Some("EVIDENCE_DEVICE")),
        (Fault::Count("+1\n"), Some("EVIDENCE_DEVICE"), Some("EVIDENCE_DEVICE")),
        (Fault::Count("1\n2\n"), Some("EVIDENCE_DEVICE"), Some("EVIDENCE_DEVICE")),
        (Fault::Count("18446744073709551616\n"), Some("EVIDENCE_DEVICE"), Some("EVIDENCE_DEVICE")),
        // Not even the largest count makes the next one overflow: it stands still, which is no sign of our writes.
        (Fault::Count("18446744073709551615\n"), Some("EVIDENCE_DEVICE"), Some("EVIDENCE_DEVICE")),
        (Fault::Provider("arm_cca_guest"), Some("NO_TEE"), Some("NO_TEE")),
        (Fault::Provider(""), Some("NO_TEE"), Some("NO_TEE")),
        (Fault::Provider("sev_guest\n"), Some("NO_TEE"), Some("NO_TEE")),
        (Fault::Length(0), Some("EVIDENCE_DEVICE"), Some("EVIDENCE_DEVICE")),
        (Fault::Length(631), Some("EVIDENCE_DEVICE"), Some("EVIDENCE_DEVICE")),
        // A quote that is cut behind its data is the verifier's to refuse: QUOTE_TRUNCATED.
        (Fault::Length(1183), Some("EVIDENCE_DEVICE"), None),
        (Fault::Length(1185), Some("EVIDENCE_DEVICE"), None),
        (Fault::Length(16 * 1024), Some("EVIDENCE_DEVICE"), None),
        (Fault::Length(16 * 1024 + 1), Some("EVIDENCE_DEVICE"), Some("EVIDENCE_DEVICE")),
        (Fault::Length(long), Some("EVIDENCE_DEVICE"), Some("EVIDENCE_DEVICE")),
        (Fault::OtherData, Some("EVIDENCE_DEVICE"), Some("EVIDENCE_DEVICE")),
        (Fault::Fails("make", io, 9), Some("EVIDENCE_DEVICE"), Some("EVIDENCE_DEVICE")),
        (Fault::Fails("make", Errno::NXIO, 9), Some("EVIDENCE_DEVICE"), Some("EVIDENCE_DEVICE")),
        (Fault::Fails("read provider", io, 9), Some("EVIDENCE_DEVICE"), Some("EVIDENCE_DEVICE")),
        (Fault::Fails("read generation", io, 9), Some("EVIDENCE_DEVICE"), Some("EVIDENCE_DEVICE")),
        // What the kernel says to a level below the guest's own.
        (Fault::Fails("write privlevel 0", Errno::INVAL, 9), Some("EVIDENCE_DEVICE"), None),
        (Fault::Fails("write inblob 64", io, 9), Some("EVIDENCE_DEVICE"), Some("EVIDENCE_DEVICE")),
        (Fault::Fails("read outblob", io, 9), Some("EVIDENCE_DEVICE"), Some("EVIDENCE_DEVICE")),
        (Fault::Fails("read auxblob", io, 9), Some("EVIDENCE_DEVICE"), None),
        (Fault::Fails("remove", io, 1), Some("EVIDENCE_DEVICE"), Some("EVIDENCE_DEVICE")),
        // Busy and interrupted pass.
        (Fault::Fails("make", Errno::BUSY, 2), None, None),
        (Fault::Fails("write inblob 64", Errno::INTR, 2), None, None),
        (Fault::Fails("read outblob", Errno::BUSY, 2), None, None),
        (Fault::Fails("read outblob", Errno::AGAIN, 2), None, None),
        (Fault::Fails("remove", Errno::BUSY, 2), None, None),
    ] {
        for (tee, expected) in [(Tee::SevSnp, snp), (Tee::Tdx, tdx)] {
            let (device, kernel) = device(tee);
            assert!(device.quote(DATA).is_ok(), "control: before");
            kernel.state().fault = fault.clone();
            assert_eq!(device.quote(DATA).err().map(|error| error.code()), expected, "{tee} {fault:?}");
            if matches!(fault, Fault::Fails("remove", Errno::IO, _)) {
                assert_eq!(kernel.open_requests(), 1, "control: this one could not be removed");
            } else {
                assert_eq!(kernel.open_requests(), 0, "{tee} {fault:?}");
            }
            kernel.state().fault = Fault::None;
            assert!(device.quote(DATA).is_ok(), "control: after {fault:?}");
        }
    }
}

#[test]
fn patience_is_bounded() {
    let (device, kernel) = device(Tee::Tdx);
    kernel.state().fault = Fault::Fails("read outblob", Errno::BUSY, u32::MAX);
    assert_eq!(device.quote(DATA).err().unwrap().code(), "EVIDENCE_DEVICE");
    let tries = kernel.state().log.iter().filter(|operation| *operation == "read outblob").count();
    assert_eq!((tries, kernel.open_requests()), (40, 0));
}

#[test]
fn names_that_an_earlier_program_left_are_stepped_over() {
    let (device, kernel) = device(Tee::SevSnp);
    let left = |count| (1..=count).map(|n| format!("vouchsafe-{n}")).collect();
    kernel.state().left = left(15);
    assert!(device.quote(DATA).is_ok());
    let (device, kernel) = self::device(Tee::SevSnp);
    kernel.state().left = left(16);
    assert_eq!(device.quote(DATA).err().unwrap().code(), "EVIDENCE_DEVICE");
}

#[test]
fn a_kernel_without_a_provider_has_no_configfs_tsm_and_another_provider_is_no_tee() {
    let over = |tee, provider, fault| {
        let kernel = Played::new(provider, quote);
        kernel.state().fault = fault;
        let opened = Tsm::over(Box::new(kernel.clone()), tee).map(|tsm| tsm.is_some());
        assert_eq!(kernel.open_requests(), 0);
        opened.map_err(|error| (error.code(), error.exit()))
    };
    for (tee, own, other) in [(Tee::SevSnp, "sev_guest", "tdx_guest"), (Tee::Tdx, "tdx_guest", "sev_guest")] {
        assert_eq!(over(tee, own, Fault::None), Ok(true), "control");
        assert_eq!(over(tee, own, Fault::Fails("make", Errno::NXIO, 1)), Ok(false), "no provider");
        assert_eq!(over(tee, own, Fault::Fails("make", Errno::NOENT, 1)), Ok(false), "no folder");
        assert_eq!(over(tee, own, Fault::Fails("make", Errno::ACCESS, 1)), Err(("EVIDENCE_DEVICE", 7)));
        assert_eq!(over(tee, other, Fault::None), Err(("NO_TEE", 7)));
    }
}

#[test]
fn an_ordinary_folder_is_no_configfs_tsm() {
    let directory = tempfile::tempdir().unwrap();
    let error = Tsm::open(directory.path(), Tee::SevSnp).err().unwrap();
    assert_eq!(error.code(), "EVIDENCE_DEVICE", "its requests have no files");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "the request is removed again");
    let missing = Tsm::open(&directory.path().join("tsm/report"), Tee::SevSnp).map(|tsm| tsm.is_none());
    assert_eq!(missing, Ok(true));
}

/// The guest message as a driver answers it.
struct Messages(fn(&[u8; 64]) -> Option<Vec<u8>>, Arc<AtomicUsize>);

impl GuestMessages for Messages {
    fn report(&mut self, data: [u8; 64]) -> Option<Vec<u8>> {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0(&data)
    }
}

#[test]
fn the_guest_message_is_the_other_way_and_has_no_leaf() {
    let asked = Arc::new(AtomicUsize::new(0));
    let device = |answer| SnpDevice::new(Source::Guest(SevGuest::over(Box::new(Messages(answer, asked.clone())))));
    let good = device(|data| Some(snp::tests::report(data)));
    assert_eq!(good.own_launch(DATA), Ok(LAUNCH));
    assert_eq!(good.quote(DATA).unwrap(), EvidenceEnvelope::sev_snp(snp::tests::report(&DATA), vec![], vec![]));
    assert!(good.workplace().is_none());
    for (what, answer) in [
        ("other data", (|_| Some(snp::tests::report(&[9; 64]))) as fn(&[u8; 64]) -> Option<Vec<u8>>),
        ("short", |data| Some(snp::tests::report(data)[..1183].to_vec())),
        ("long", |data| Some([&snp::tests::report(data)[..], &[0]].concat())),
        ("none", |_| None),
    ] {
        let bad = device(answer);
        assert_eq!(bad.quote(DATA).err().unwrap().code(), "EVIDENCE_DEVICE", "{what}");
        assert_eq!(bad.own_launch(DATA).err().unwrap().code(), "EVIDENCE_DEVICE", "{what}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 10, "a failed message is not sent again");
}

#[test]
fn a_tdreport_about_other_data_or_none_is_an_error() {
    let device = |failures, about, errno| {
        let kernel = Played::new("tdx_guest", quote);
        let tsm = Tsm::over(Box::new(kernel), Tee::Tdx).unwrap().unwrap();
        TdxDevice::over(tsm, Box::new(Local(Arc::new(AtomicUsize::new(failures)), about, errno)))
    };
    assert_eq!(device(0, None, Errno::INTR).own_launch(DATA), Ok(LAUNCH), "control");
    assert_eq!(device(2, None, Errno::INTR).own_launch(DATA), Ok(LAUNCH), "interrupted twice");
    for bad in [device(1, None, Errno::IO), device(0, Some([9; 64]), Errno::IO)] {
        assert_eq!(bad.own_launch(DATA).err().unwrap().code(), "EVIDENCE_DEVICE");
    }
}
