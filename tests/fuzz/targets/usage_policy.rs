//! Turns what libFuzzer makes up into one call of `decoders::usage_policy`.
//! It judges nothing itself.
#![no_main]

#[path = "../decoders.rs"]
mod decoders;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = decoders::usage_policy(bytes);
});
