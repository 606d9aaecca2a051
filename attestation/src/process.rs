//! Turns the digests of an enclave and its ONNX Runtime into the MEASUREMENT of a process guest.
//! The caller hashes the files, from the descriptors that run; nothing here opens them.

use crate::lp::Transcript;
use crate::{Mode, Tee};

/// `SHA-384(LP("vouchsafe/1 process") LP(tee) LP(mode) LP(SHA-384(enclave)) LP(SHA-384(libonnxruntime)))`, DESIGN section 9.
#[must_use]
pub fn process_measurement(tee: Tee, mode: Mode, enclave_sha384: &[u8; 48], onnxruntime_sha384: &[u8; 48]) -> [u8; 48] {
    Transcript::<48>::new("vouchsafe/1 process")
        .lp(tee.as_str().as_bytes())
        .lp(mode.as_str().as_bytes())
        .lp(enclave_sha384)
        .lp(onnxruntime_sha384)
        .finish()
}
