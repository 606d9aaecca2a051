//! Turns sealed packages into ready ONNX Runtime sessions, each way of loading in a process of its own: seconds and memory beside a plain load.
//! It does not look for copies of weights in memory, and says nothing of models that are not chains of matrix products.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::bench;
use crate::bench_models::{self, Form, Model};
use crate::bench_table::{Target, Verdicts, median};
use crate::error::ChoreError;
use crate::onnxruntime;
use crate::workspace::{Workspace, ended_well};

const PACKAGE: &str = "vouchsafe-enclave";
/// ONNX Runtime by itself, from the plaintext's file: what the others are compared with.
const PLAIN: &str = "file";

/// A way of loading, as the example calls it, and what is demanded of it.
struct Way {
    name: &'static str,
    what: &'static str,
    seconds: Target,
    peak: Target,
    settled: Target,
}

const fn plain(what: &'static str) -> Way {
    Way { name: PLAIN, what, seconds: Target::None, peak: Target::None, settled: Target::None }
}

/// For a model in one file.
const SINGLE: [Way; 3] = [
    plain("plain commit_from_file"),
    Way {
        name: "enclave",
        what: "package, as the enclave does",
        seconds: Target::AtMost(1.25),
        peak: Target::AtMost(1.6),
        settled: Target::AtMost(1.1),
    },
    Way {
        name: "buffer",
        what: "package, through a buffer (fallback)",
        seconds: Target::None,
        peak: Target::None,
        settled: Target::None,
    },
];

/// For one with external data.
const EXTERNAL: [Way; 2] = [
    plain("plain commit_from_file, external data"),
    Way {
        name: "enclave",
        what: "package, external data in memory",
        seconds: Target::AtMost(1.25),
        peak: Target::AtMost(2.4),
        settled: Target::None,
    },
];

/// What one process measured of itself.
struct Load {
    seconds: f64,
    /// MiB that loading took at its height, beyond what the process had before.
    peak: f64,
    /// The same once everything is ready.
    settled: f64,
    /// How the graph came to ONNX Runtime.
    delivery: String,
}

/// Loads a model of each size in each form in each way.
pub(crate) fn run(
    workspace: &Workspace,
    sizes: &[u64],
    rounds: usize,
    dir: &Path,
    verdicts: &mut Verdicts,
) -> Result<(), ChoreError> {
    let program = bench::example(workspace, PACKAGE, "load")?;
    let library = onnxruntime::library(workspace)?;
    for mib in sizes {
        for (form, word, ways) in [(Form::Single, "single", &SINGLE[..]), (Form::External, "external", &EXTERNAL[..])] {
            let place = dir.join(format!("{word}-{mib}"));
            let model = bench_models::make(workspace, form, *mib, &place)?;
            let package = place.join("package");
            seal(&program, &model, &package)?;
            let mut loads: Vec<Vec<Load>> = ways.iter().map(|_| Vec::with_capacity(rounds)).collect();
            // Round 0 fills the page cache and touches memory.
            for round in 0..=rounds {
                for (way, loads) in ways.iter().zip(&mut loads) {
                    let from = if way.name == PLAIN { &model.graph } else { &package };
                    let load = load(&program, &library, way, from)?;
                    if round > 0 {
                        loads.push(load);
                    }
                }
            }
            print(&format!("{word}-file model of {} MiB", model.bytes >> 20), model.bytes, ways, &loads, verdicts);
            std::fs::remove_dir_all(&place).map_err(ChoreError::file(&place))?;
        }
    }
    Ok(())
}

fn seal(program: &Path, model: &Model, package: &Path) -> Result<(), ChoreError> {
    let mut command = Command::new(program);
    command.arg("seal").arg(&model.graph).arg(package).args(&model.data).stdin(Stdio::null());
    let status = command.status().map_err(|source| ChoreError::Start { program: "the example `load`", source })?;
    if ended_well(status)? { Ok(()) } else { Err(ChoreError::BenchProgram("the example `load` at sealing")) }
}

fn load(program: &Path, library: &Path, way: &Way, from: &Path) -> Result<Load, ChoreError> {
    let output = Command::new(program)
        .args(["session", way.name])
        .arg(library)
        .arg(from)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|source| ChoreError::Start { program: "the example `load`", source })?;
    let failed = || ChoreError::BenchProgram("the example `load`");
    if !ended_well(output.status)? {
        return Err(failed());
    }
    parse(&String::from_utf8_lossy(&output.stdout)).ok_or_else(failed)
}

/// The one line of JSON that the example prints.
fn parse(text: &str) -> Option<Load> {
    let value: Value = serde_json::from_str(text.lines().last()?).ok()?;
    let number = |name: &str| value.get(name)?.as_f64();
    let beyond = |name| Some((number(name)? - number("before_kib")?).max(0.0) / 1024.0);
    Some(Load {
        seconds: number("seconds")?,
        peak: beyond("peak_kib")?,
        settled: beyond("settled_kib")?,
        delivery: value.get("delivery")?.as_str()?.to_owned(),
    })
}

fn print(title: &str, bytes: u64, ways: &[Way], loads: &[Vec<Load>], verdicts: &mut Verdicts) {
    let of = |loads: &[Load], field: fn(&Load) -> f64| median(&loads.iter().map(field).collect::<Vec<_>>());
    let fields: [fn(&Load) -> f64; 3] = [|load| load.seconds, |load| load.peak, |load| load.settled];
    let title = format!("Load: {title}");
    println!("\n{title:<54} {:>9} {:>9} {:>11}", "median s", "peak MiB", "settled MiB");
    let mut medians = Vec::new();
    for (way, loads) in ways.iter().zip(loads) {
        let [seconds, peak, settled] = fields.map(|field| of(loads, field));
        let show = |value: Option<f64>| value.unwrap_or(f64::NAN);
        let delivery = loads.last().map_or("", |load| load.delivery.as_str());
        let what = format!("{} [{delivery}]", way.what);
        println!("{what:<54} {:>9.3} {:>9.0} {:>11.0}", show(seconds), show(peak), show(settled));
        medians.push([seconds, peak, settled]);
    }
    println!("(memory beyond what the process had before, ONNX Runtime's library among it)");
    let size = Some(crate::bench_table::gib(bytes) * 1024.0);
    let plain = medians.first().and_then(|[seconds, ..]| *seconds);
    for (way, [seconds, peak, settled]) in ways.iter().zip(medians).skip(1) {
        verdicts.ratio(&format!("{}: seconds, to plain", way.what), seconds, plain, "s", way.seconds);
        verdicts.ratio(&format!("{}: peak, to the model", way.what), peak, size, "MiB", way.peak);
        verdicts.ratio(&format!("{}: settled, to the model", way.what), settled, size, "MiB", way.settled);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_is_read_whole_or_not_at_all() {
        let line =
            "{\"seconds\":1.5,\"before_kib\":1024,\"peak_kib\":4096,\"settled_kib\":512,\"delivery\":\"pipe\"}\n";
        let load = parse(line).unwrap();
        assert_eq!((load.seconds, load.peak, load.settled), (1.5, 3.0, 0.0));
        assert_eq!(load.delivery, "pipe");
        for wrong in ["", "{}", "[]", &line.replace("1.5", "null"), &line.replace("peak", "other")] {
            assert!(parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn the_first_way_is_the_plain_one() {
        for ways in [&SINGLE[..], &EXTERNAL[..]] {
            assert_eq!(ways.iter().position(|way| way.name == PLAIN), Some(0));
            assert_eq!(ways.iter().filter(|way| way.name == PLAIN).count(), 1);
        }
    }
}
