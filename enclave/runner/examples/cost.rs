//! Turns one tiny model into two numbers: what a run costs in this process, and behind a runner's walls. Both on one core.
//! `VOUCHSAFE_BIN_DIR` is the folder with libonnxruntime.so. The whole server's numbers are the benchmark's.

#[path = "../src/session/tests/graphs.rs"]
#[allow(dead_code, missing_docs, reason = "shared with the crate's own tests")]
mod graphs;

use std::error::Error;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ort::session::Session;
use ort::value::TensorRef;
use rustix::thread::{CpuSet, sched_setaffinity};
use vouchsafe_oip::{Dtype, Tensor};
use vouchsafe_runner::{Delivery, Nursery, Parts, Runner, RunnerError, Spec};

const WARM: usize = 2_000;
const RUNS: usize = 30_000;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::var_os("VOUCHSAFE_BIN_DIR").ok_or("VOUCHSAFE_BIN_DIR is not set")?;
    let library = PathBuf::from(folder).join("libonnxruntime.so");
    let elements = std::env::args().nth(1).map_or(Ok(32), |word| word.parse::<usize>())? / 2 * 2;
    let mut core = CpuSet::new();
    core.set(0);
    sched_setaffinity(None, &core)?;
    let _ = vouchsafe_system::wipe_freed_memory();
    let nursery = Nursery::start(&File::open(&library)?)?;
    let graph = graphs::add(false);
    let spec = Spec {
        memory_bytes: 1 << 30,
        threads: 1,
        slots: 2,
        request_bytes: 4 << 20,
        answer_bytes: 4 << 20,
        queue: 64,
        grace: Duration::from_secs(1),
        load_limit: Duration::from_secs(30),
        whole_fence: false,
    };
    let parts = Parts { delivery: Delivery::Pipe, external: Vec::new(), graph_len: u64::try_from(graph.len())? };
    let runner = Runner::load(&nursery, &spec, &parts, |feed| {
        feed.write(&graph);
        Ok::<(), ()>(())
    });
    let runner = runner.map_err(|error| format!("{error:?}"))?;
    let data = graphs::floats(&vec![1.0; elements]);
    let inside = inside(&library, &graph, elements)?;
    let outside = outside(runner, elements, &data)?;
    for (name, times) in [("in this process", &inside), ("behind the walls", &outside)] {
        println!("{name:>17}: p50 {:>8.1} us, p99 {:>8.1} us", at(times, 50), at(times, 99));
    }
    println!("{:>17}: p50 {:>8.1} us", "difference", at(&outside, 50) - at(&inside, 50));
    Ok(())
}

fn inside(library: &Path, graph: &[u8], elements: usize) -> Result<Vec<Duration>, Box<dyn Error>> {
    let environment = ort::init_from(library)?.with_telemetry(false).build()?;
    let mut session = Session::builder(&environment)?.with_intra_threads(1)?.commit_from_memory(graph)?;
    let data = vec![1.0_f32; elements];
    let mut run = || -> Result<Duration, Box<dyn Error>> {
        let begun = Instant::now();
        let input = TensorRef::from_array_view(([elements / 2, 2], &data[..]))?;
        let outputs = session.run(ort::inputs!["x" => input])?;
        let (_, list) = outputs["y"].try_extract_tensor::<f32>()?;
        let answer = list.to_vec();
        let took = begun.elapsed();
        drop(answer);
        Ok(took)
    };
    (0..WARM).try_for_each(|_| run().map(drop))?;
    (0..RUNS).map(|_| run()).collect()
}

fn outside(runner: Runner, elements: usize, data: &[u8]) -> Result<Vec<Duration>, Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let data = Bytes::copy_from_slice(data);
    // In a task, as a server's connection is: what `block_on` itself runs is woken through the kernel.
    let runs = async move {
        let outputs = ["y".to_owned()];
        let mut times = Vec::with_capacity(RUNS);
        for number in 0..WARM + RUNS {
            let shape = vec![elements / 2, 2];
            let input = [Tensor { name: "x".to_owned(), dtype: Dtype::F32, shape, data: data.clone() }];
            let begun = Instant::now();
            runner.run(&input, &outputs, begun + Duration::from_secs(30)).await?;
            if number >= WARM {
                times.push(begun.elapsed());
            }
        }
        Ok::<_, RunnerError>(times)
    };
    Ok(runtime.block_on(async { tokio::spawn(runs).await })??)
}

fn at(times: &[Duration], percent: usize) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() * percent / 100).map_or(0.0, |time| time.as_secs_f64() * 1e6)
}
