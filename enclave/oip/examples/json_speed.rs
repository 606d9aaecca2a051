//! Turns one megabyte of floats, as JSON, into medians: this crate's list parser beside serde_json's `Vec<f32>`, and whole requests.
//! It does not judge the numbers; the bound is 0.65 of serde_json's time. Run with `--release`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a chore")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Deserialize;
use vouchsafe_oip::{Dtype, Limits, Port, Ports, Request, read_list};

const TEXT_BYTES: usize = 1 << 20;
const ROUNDS: usize = 101;

/// What a server without a parser of its own would read a request with.
#[derive(Deserialize)]
struct Plain {
    inputs: Vec<PlainInput>,
}

#[derive(Deserialize)]
struct PlainInput {
    #[allow(dead_code, reason = "read, as a server would")]
    name: String,
    #[allow(dead_code, reason = "read, as a server would")]
    datatype: String,
    #[allow(dead_code, reason = "read, as a server would")]
    shape: Vec<usize>,
    data: Vec<f32>,
}

fn main() {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    for (name, style) in [
        ("shortest FP32 text", (|x| x.to_string()) as fn(f32) -> String),
        ("as Python writes them (17 digits)", |x| f64::from(x).to_string()),
        ("six decimals, spaces", |x| format!(" {x:.6}")),
    ] {
        let mut text = String::from("[");
        let mut count = 0;
        while text.len() < TEXT_BYTES {
            text += if count == 0 { "" } else { "," };
            text += &style(next());
            count += 1;
        }
        text.push(']');
        measure(name, &text, count);
    }
}

fn measure(name: &str, text: &str, count: usize) {
    let shape = [count];
    let port = Port { name: "x".into(), dtype: Dtype::F32, shape: vec![-1] };
    let ports = Ports { inputs: vec![port], outputs: vec![] };
    let limits = Limits { max_input_bytes: usize::MAX };
    let body = format!("{{\"inputs\":[{{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[{count}],\"data\":{text}}}]}}");
    let body = Bytes::from(body);
    let expected: Vec<f32> = serde_json::from_str(text).unwrap();
    let expected: Vec<u8> = expected.iter().flat_map(|x| x.to_le_bytes()).collect();
    assert_eq!(read_list(text, Dtype::F32, &shape).unwrap(), expected);

    let mut ours: [&mut dyn FnMut(); 4] = [
        &mut || drop(black_box(read_list(black_box(text), Dtype::F32, &shape).unwrap())),
        &mut || drop(black_box(serde_json::from_str::<Vec<f32>>(black_box(text)).unwrap())),
        &mut || drop(black_box(Request::decode(black_box(&body), None, &ports, &limits).unwrap())),
        &mut || drop(black_box(serde_json::from_slice::<Plain>(black_box(&body)).unwrap().inputs.pop().unwrap().data)),
    ];
    let mut times: [Vec<Duration>; 4] = Default::default();
    for _ in 0..ROUNDS {
        for (run, times) in ours.iter_mut().zip(&mut times) {
            let started = Instant::now();
            run();
            times.push(started.elapsed());
        }
    }
    let [list, serde_list, request, serde_request] = times.map(|mut times| {
        times.sort_unstable();
        (times[times.len() / 2], times[0])
    });
    println!("{name}: {count} numbers in {} bytes, medians of {ROUNDS} interleaved", text.len());
    let line = |what: &str, ours: (Duration, Duration), theirs: (Duration, Duration)| {
        let ratio = |ours: Duration, theirs: Duration| ours.as_secs_f64() / theirs.as_secs_f64();
        let (median, least) = (ratio(ours.0, theirs.0), ratio(ours.1, theirs.1));
        println!(
            "  {what}: {:.2?}, serde_json {:.2?}, ratio {median:.2} (of the least times {least:.2})",
            ours.0, theirs.0
        );
    };
    line("list", list, serde_list);
    line("request", request, serde_request);
}
