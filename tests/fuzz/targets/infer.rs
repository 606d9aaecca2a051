//! Turns what libFuzzer makes up into one call of `decoders::infer`.
//! It judges nothing itself.
#![no_main]

#[path = "../decoders.rs"]
mod decoders;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = decoders::infer(bytes);
});
