//! Looks at what is handed on of a graph before the verdict on all of it. What becomes of it in a runner is `tests/load.rs`'s.
//! Its models are a few bytes: what large ones cost is the benchmark's.

#[allow(dead_code, reason = "shared with tests/load.rs")]
#[path = "../../tests/models/mod.rs"]
mod models;

use std::fs;

use models::{Sample, graph, key, of_length};

use super::*;

#[test]
fn the_last_bytes_of_a_model_wait_for_the_verdict_on_all_of_it() {
    let good = graph(false);
    // Nothing is wrong with it before its end.
    let incomplete = &good[..good.len() - 4];
    /// What is handed on before the verdict, and the verdict's code.
    fn received(sample: &Sample, length: usize) -> (Vec<u8>, &'static str) {
        let (package, key) = (sample.package(), key(1));
        let sealed = Sealed { package: &package, key: &key, graph: 0, length: length as u64, external: Vec::new() };
        let mut seen = Vec::new();
        let error = sealed.pass(|piece| seen.extend_from_slice(piece)).unwrap_err();
        (seen, error.code())
    }
    for (length, whole) in [(good.len() + 1000, 0), (WITHHELD, 0), (3 << 20, (3 << 20) - WITHHELD)] {
        let model = of_length(length, incomplete);
        let (seen, code) = received(&Sample::of(&model, &[]), length);
        assert_eq!(code, "MODEL_INCOMPLETE");
        assert!(seen == model[..whole], "{} of {length} bytes were handed on", seen.len());
    }
    // All that is wrong is in the chunk after the one that ends the last whole field.
    let model = of_length(2 << 20, &good);
    let sample = Sample::of(&model, &[]);
    let blob = sample.path("0000.blob");
    let mut bytes = fs::read(&blob).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&blob, &bytes).unwrap();
    let (seen, code) = received(&sample, model.len());
    assert_eq!(code, "BLOB_CHUNK");
    assert!(seen == model[..(1 << 20) - WITHHELD], "{} bytes were handed on", seen.len());
}
