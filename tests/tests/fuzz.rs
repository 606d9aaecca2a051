//! Turns good seeds into 10,000 seeded mutants for each decoder that `cargo xtask fuzz` feeds: none panics, none hangs, and
//! none is accepted unless it says the same as its seed.
//! It does not look for inputs by coverage: the fuzzer does.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

#[path = "../fuzz/decoders.rs"]
mod decoders;

use std::time::{Duration, Instant};

use decoders::Fate;

const CASES: usize = 10_000;
/// Far above what any input takes: a decoder that needs longer does not end, or not soon enough.
const BOUND: Duration = Duration::from_secs(5);

/// xorshift64*: the same mutants on every run.
struct Seeded(u64);

impl Seeded {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n.max(1) as u64).unwrap()
    }

    /// One to five small changes: bits, bytes, cuts, repeats, moves, and words that the formats know.
    fn mutate(&mut self, bytes: &mut Vec<u8>, words: &[&[u8]]) {
        for _ in 0..=self.below(5) {
            let (at, byte) = (self.below(bytes.len()), self.next() as u8);
            match self.below(9) {
                _ if bytes.is_empty() => bytes.push(byte),
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = byte,
                2 => bytes.truncate(at),
                3 => bytes.insert(at, byte),
                4 => drop(bytes.remove(at)),
                5 => {
                    let other = self.below(bytes.len());
                    bytes.swap(at, other);
                }
                6 => {
                    let end = (at + self.below(64)).min(bytes.len());
                    let piece = bytes[at..end].to_vec();
                    let place = self.below(bytes.len());
                    bytes.splice(place..place, piece);
                }
                7 => {
                    let end = (at + self.below(64)).min(bytes.len());
                    bytes.drain(at..end);
                }
                _ => {
                    let word = words[self.below(words.len())];
                    let end = (at + if self.below(2) == 0 { 0 } else { word.len() }).min(bytes.len());
                    bytes.splice(at..end, word.iter().copied());
                }
            }
        }
    }
}

const DER: &[&[u8]] =
    &[&[0x30, 0x80], &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff], &[2, 1, 0], &[5, 0], &[0x31, 0], &[6, 3, 0x55, 4, 3]];
const BINARY: &[&[u8]] =
    &[&[0xff; 4], &[0; 8], &[0xff; 8], &[5, 0], &[4, 0, 2, 0], &[0x81, 0, 0, 0], b"-----BEGIN CERTIFICATE-----\n"];
const JSON: &[&[u8]] = &[
    b"{",
    b"}",
    b"[[[[[[[[",
    b"\"",
    b"null",
    b"1e999",
    b"\\u0000",
    b",\"fmspc\":\"000000000000\"",
    b"-0",
    b"\"report\":\"\",",
];
const TOML: &[&[u8]] = &[
    b"[sev-snp]\n",
    b"[tdx]\n",
    b"= \"any\"",
    b"[]",
    b"[[models]]\n",
    b"'''",
    b"0x",
    b"-1",
    b"mode = \"hardware\"\n",
    b"\n[root]\n",
    b"extends = \"hardware-snp-strict\"\n",
];

const VOLUME: &[&[u8]] = &[
    &[0xff; 8],
    &[0; 8],
    b"4096",
    b"18446744073709551615",
    b"\"offset\":0",
    b",\"length\":0",
    b"vector/",
    b"empty/",
    b"../",
    b"[[[[[[[[",
    b"]}",
];

const USAGE: &[&[u8]] = &[
    b"\"any\"",
    b"\"none\"",
    b"[]",
    b"null",
    b"-1",
    b"1e999",
    b"18446744073709551615",
    b"\"argmax_only\":true",
    b",\"top_k\":4294967295",
    b"\"range\":{\"min\":0,\"max\":0}",
    b"{\"role\":\"any\",\"requests\":1,\"per_s\":60}",
    b"sha256:",
    b"[[[[[[[[",
];

const REQUEST: &[&[u8]] = &[
    &[0xff; 4],
    &[0; 4],
    b"[",
    b"]",
    b",",
    b"[]",
    b"1e39",
    b"-0",
    b"NaN",
    b"18446744073709551616",
    b"9223372036854775808",
    b"\"\\ud800\"",
    b"null",
    b"\"data\":[],",
    b"\"binary_data_size\":4294967295",
    b"\"priority\":1",
    b"[[[[[[[[[[[[[[[[[[[[[[[[",
];

/// Runs the seeds, which are accepted, then the mutants; returns how many of those were accepted.
fn run(name: &str, decoder: fn(&[u8]) -> Fate, seeds: &[&[u8]], words: &[&[u8]]) -> usize {
    for seed in seeds {
        assert_eq!(decoder(seed), Fate::Accepted, "{name}: the control");
    }
    assert_eq!(decoder(&[]), Fate::Refused, "{name}: nothing at all");
    let mut seeded = Seeded(0x5eed_0000 + name.len() as u64);
    let (mut accepted, mut slowest) = (0, Duration::ZERO);
    for round in 0..CASES {
        let mut bytes = seeds[round % seeds.len()].to_vec();
        seeded.mutate(&mut bytes, words);
        let started = Instant::now();
        accepted += usize::from(decoder(&bytes) == Fate::Accepted);
        slowest = slowest.max(started.elapsed());
    }
    assert!(slowest < BOUND, "{name}: one input took {slowest:?}");
    println!("{name}: {CASES} seeded mutants, {accepted} of them accepted, the slowest took {slowest:.1?}");
    accepted
}

#[test]
fn ten_thousand_reports() {
    run("report", decoders::report, &[decoders::REPORT], BINARY);
}

#[test]
fn ten_thousand_quotes() {
    run("quote", decoders::quote, &[decoders::QUOTE], BINARY);
}

#[test]
fn ten_thousand_certificates() {
    run("certificate", decoders::certificate, &[decoders::LEAF], DER);
}

#[test]
fn ten_thousand_revocation_lists() {
    let tdx: vouchsafe_attestation::TdxCollateral = serde_json::from_slice(decoders::COLLATERAL).unwrap();
    run("crl", decoders::crl, &[decoders::CRL, &tdx.root_ca_crl, &tdx.pck_crl], DER);
}

#[test]
fn ten_thousand_collaterals() {
    let [snp, tdx] = decoders::collateral_files();
    run("collateral_json", decoders::collateral_json, &[decoders::COLLATERAL, &snp, &tdx], JSON);
}

#[test]
fn ten_thousand_policies() {
    let seeds =
        [decoders::SNP_POLICY.as_bytes(), decoders::TDX_POLICY.replace("root.pem", "other-root.pem").leak().as_bytes()];
    run("policy", decoders::policy, &seeds, TOML);
}

#[test]
fn ten_thousand_usage_policies() {
    let plain = vouchsafe_policies::usage::UsagePolicy::template("m", &[]);
    let accepted =
        run("usage_policy", decoders::usage_policy, &[decoders::USAGE_POLICY.as_bytes(), plain.as_bytes()], USAGE);
    assert!(accepted > 0, "a changed number is a policy too");
}

#[test]
fn ten_thousand_requests() {
    let [json, binary, raw, long] = decoders::requests();
    let accepted = run("infer", decoders::infer, &[&json, &binary, &raw, &long], REQUEST);
    assert!(accepted > 0, "another number is a request too");
}

#[test]
fn ten_thousand_compressed_bodies() {
    run("inflate", decoders::inflate, &[decoders::GZIP, decoders::ZLIB], BINARY);
}

#[test]
fn ten_thousand_envelopes() {
    let [snp, tdx] = decoders::envelopes();
    run("evidence_envelope", decoders::evidence_envelope, &[&snp, &tdx], JSON);
}

#[test]
fn ten_thousand_volumes() {
    run("volume", decoders::volume, &[decoders::VOLUME, decoders::volume_index()], VOLUME);
}
