//! Turns the devices of the machine at hand, if it has any, into answers; on others it tells that it did not run.
//! It verifies no evidence, and an answer does not tell who made it.

use std::path::Path;

use vouchsafe_attestation::Tee;

use super::tsm::REPORTS;
use crate::authority::{Gaps, fence};
use crate::config::Landlock;

const DATA: [u8; 64] = [8; 64];

#[test]
fn no_device_is_no_tee_at_once() {
    // A kernel that has configfs-tsm, and no provider for it, has no device either.
    if ["/dev/sev-guest", "/dev/tdx_guest"].iter().any(|path| Path::new(path).exists()) {
        println!("NOT RUN: no_device_is_no_tee_at_once: this machine has such a device");
        return;
    }
    for tee in [Tee::SevSnp, Tee::Tdx] {
        let error = super::open(tee).err().unwrap();
        assert_eq!((error.code(), error.exit()), ("NO_TEE", 7), "{tee}");
    }
}

/// Ask a real guest with `cargo test -p vouchsafe-enclave --lib the_devices_of_this_machine -- --nocapture`, as root.
#[test]
fn the_devices_of_this_machine_answer_also_behind_the_fence() {
    for tee in [Tee::SevSnp, Tee::Tdx] {
        let device = match super::open(tee) {
            Ok(device) => device,
            Err(error) if error.code() == "NO_TEE" => {
                println!("NOT RUN: the_devices_of_this_machine: {tee}: {error}");
                continue;
            }
            Err(error) => panic!("{tee}: {error}"),
        };
        // Landlock holds for the thread that asks and for those it starts.
        let asked = move || {
            let before = (device.quote(DATA).unwrap(), device.own_launch(DATA).unwrap());
            let gaps = Gaps { packages: None, workplace: device.workplace(), ports: vec![] };
            let fence = fence(gaps, Landlock::BestEffort).unwrap();
            for number in 100..120 {
                let data = [number; 64];
                let (evidence, launch) = (device.quote(data).unwrap(), device.own_launch(data).unwrap());
                assert_eq!((evidence.tee(), launch), (tee, before.1));
                assert!(evidence.signed() != before.0.signed(), "each is about its own data");
            }
            let left = device.workplace().is_some().then(|| std::fs::read_dir(REPORTS).unwrap().count());
            println!("{tee}: fence {fence}, {} bytes signed, requests left {left:?}", before.0.signed().len());
            assert_eq!(left.unwrap_or(0), 0);
        };
        std::thread::spawn(asked).join().unwrap();
    }
}
