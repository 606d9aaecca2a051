//! Turns the digests of an enclave and its ONNX Runtime into the MEASUREMENT or MRTD of a simulated process guest.
//! The files are hashed by the simulator, from the descriptors that run; the enclave recomputes the same formula.

pub use vouchsafe_attestation::process::process_measurement;

/// RTMR0 to RTMR3 of a process guest on TDX: a process extends no register, so all four keep their first value.
pub const PROCESS_REGISTERS: [[u8; 48]; 4] = [[0; 48]; 4];

#[cfg(test)]
mod tests {
    use vouchsafe_attestation::lp::{put_lp, sha384};
    use vouchsafe_attestation::{Mode, Tee};

    use super::*;

    #[test]
    fn it_is_the_hash_of_five_fields() {
        let (enclave, library) = (sha384(b"enclave"), sha384(b"library"));
        let mut bytes = Vec::new();
        for field in [&b"vouchsafe/1 process"[..], b"sev-snp", b"simulation", &enclave, &library] {
            put_lp(&mut bytes, field);
        }
        assert_eq!(process_measurement(Tee::SevSnp, Mode::Simulation, &enclave, &library), sha384(&bytes));
    }

    #[test]
    fn every_input_changes_it() {
        let (one, two) = (sha384(b"1"), sha384(b"2"));
        let all = [
            process_measurement(Tee::SevSnp, Mode::Simulation, &one, &two),
            process_measurement(Tee::Tdx, Mode::Simulation, &one, &two),
            process_measurement(Tee::SevSnp, Mode::Hardware, &one, &two),
            process_measurement(Tee::SevSnp, Mode::Simulation, &two, &one),
            process_measurement(Tee::SevSnp, Mode::Simulation, &one, &one),
            process_measurement(Tee::SevSnp, Mode::Simulation, &two, &two),
        ];
        for (i, a) in all.iter().enumerate() {
            assert!(all.iter().skip(i + 1).all(|b| a != b));
        }
    }

    #[test]
    fn the_worked_example_does_not_move() {
        // Also computed with Python's hashlib, so that the format has a second witness.
        let measured = process_measurement(Tee::SevSnp, Mode::Simulation, &[0x11; 48], &[0x22; 48]);
        assert_eq!(
            hex::encode(measured),
            "e9fa1c3aa436bcb5f74f46bef9c19039065948f341909c2e62bbd8ebff02ad0bbce5733cc3ad09c0986138347c2975bf"
        );
    }
}
