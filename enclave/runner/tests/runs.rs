//! Turns tiny models into runners behind their walls, with the real ONNX Runtime, and sees what comes back.
//! It is a program without the test harness: the nursery is forked while there is one thread.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

#[path = "../src/session/tests/graphs.rs"]
#[allow(dead_code, missing_docs, reason = "shared with the crate's own tests")]
mod graphs;

use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use graphs::{add, endless, floats, identity, weights, zeros};
use rustix::process::{Pid, Signal};
use vouchsafe_oip::{Dtype, Tensor};
use vouchsafe_runner::{Delivery, Ending, LoadError, Nursery, Parts, Runner, RunnerError, Spec, probe};

const LONG: Duration = Duration::from_secs(60);
const BOTH: [Delivery; 2] = [Delivery::Pipe, Delivery::Buffer];

const SPEC: Spec = Spec {
    memory_bytes: 1 << 30,
    threads: 2,
    slots: 2,
    request_bytes: 1 << 20,
    answer_bytes: 1 << 20,
    queue: 64,
    grace: Duration::from_secs(5),
    load_limit: LONG,
    whole_fence: false,
};

fn main() {
    let library = std::env::var_os("VOUCHSAFE_BIN_DIR").map(|folder| PathBuf::from(folder).join("libonnxruntime.so"));
    let Some(library) = library.filter(|path| path.exists()) else {
        println!("NOT RUN: runs: no libonnxruntime.so in VOUCHSAFE_BIN_DIR");
        return;
    };
    let _ = vouchsafe_system::wipe_freed_memory();
    let nursery = Nursery::start(&File::open(library).unwrap()).unwrap();
    assert_eq!(probe(&nursery), Delivery::Pipe, "this library loads models through a pipe");
    let test = Test { nursery };
    let tests: [(&str, Step); 8] = [
        ("models answer however they are delivered", Test::answers),
        ("what is refused is told", Test::refusals),
        ("every datatype crosses both ways", Test::datatypes),
        ("late and given-up runs stop, and the runner lives", Test::stops),
        ("no memory is an error of the run, not of the runner", Test::memory),
        ("an answer that has no room is an error of the run", Test::room),
        ("a runner that is killed ends its own runs alone", Test::kills),
        ("a runner ends with its sockets", Test::ends),
    ];
    for (name, run) in tests {
        run(&test);
        println!("ok: {name}");
    }
}

type Step = fn(&Test);

const DIED: Result<Tensor, RunnerError> = Err(RunnerError::RunnerDied);

/// The processes that this one's children made: the runners.
fn processes() -> Vec<i32> {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let parents: Vec<(i32, i32)> =
        std::fs::read_dir("/proc").unwrap().filter_map(|entry| parent(&entry.ok()?)).collect();
    let children = |of: i32| parents.iter().filter(move |(_, parent)| *parent == of).map(|(process, _)| *process);
    children(own).flat_map(children).collect()
}

fn parent(entry: &std::fs::DirEntry) -> Option<(i32, i32)> {
    let process = entry.file_name().to_str()?.parse().ok()?;
    let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    Some((process, rest.split_whitespace().nth(1)?.parse().ok()?))
}

struct Test {
    nursery: Nursery,
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn soon() -> Instant {
    Instant::now() + LONG
}

fn tensor(name: &str, dtype: Dtype, shape: &[usize], data: &[u8]) -> Tensor {
    Tensor { name: name.into(), dtype, shape: shape.to_vec(), data: Bytes::copy_from_slice(data) }
}

async fn run(runner: &Runner, inputs: &[Tensor]) -> Result<Tensor, RunnerError> {
    runner.run(inputs, &["y".to_owned()], soon()).await.map(|mut outputs| outputs.remove(0))
}

impl Test {
    fn load(&self, delivery: Delivery, graph: &[u8], external: &[(&str, &[u8])]) -> Result<Runner, LoadError<()>> {
        let named = external.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.len() as u64)).collect();
        let parts = Parts { delivery, external: named, graph_len: graph.len() as u64 };
        Runner::load(&self.nursery, &SPEC, &parts, |feed| {
            external.iter().for_each(|(_, bytes)| feed.write(bytes));
            feed.write(graph);
            Ok(())
        })
    }

    fn loaded(&self, graph: &[u8]) -> Runner {
        self.load(Delivery::Pipe, graph, &[]).unwrap()
    }

    fn answers(&self) {
        let x = tensor("x", Dtype::F32, &[2, 2], &floats(&[0.0, 1.0, 2.0, 3.0]));
        let y = tensor("y", Dtype::F32, &[2, 2], &floats(&[10.0, 21.0, 12.0, 23.0]));
        for delivery in BOTH {
            let inside = self.load(delivery, &add(false), &[]).unwrap();
            let outside = self.load(delivery, &add(true), &[("w.bin", &weights()[..])]).unwrap();
            wait(async {
                for _ in 0..100 {
                    assert_eq!(run(&inside, std::slice::from_ref(&x)).await.as_ref(), Ok(&y), "{delivery:?}");
                    assert_eq!(run(&outside, std::slice::from_ref(&x)).await.as_ref(), Ok(&y), "{delivery:?}");
                }
                let empty = tensor("x", Dtype::F32, &[0, 2], &[]);
                assert_eq!(run(&inside, &[empty]).await.unwrap().shape, [0, 2]);
                assert_eq!(run(&inside, &[]).await, Err(RunnerError::EngineFailed));
                assert_eq!(
                    run(&inside, std::slice::from_ref(&x)).await.as_ref(),
                    Ok(&y),
                    "a failed run harms no later one"
                );
                let many: Vec<_> = (0..32).map(|_| run(&inside, std::slice::from_ref(&x))).collect();
                for answer in many {
                    assert_eq!(answer.await.as_ref(), Ok(&y));
                }
            });
        }
    }

    fn refusals(&self) {
        let cut = &add(false)[..60];
        for delivery in BOTH {
            for graph in [&b"no protobuf"[..], cut, &add(true), b""] {
                let code = self.load(delivery, graph, &[]).err().map(|error| match error {
                    LoadError::Runner(error) => error.code(),
                    LoadError::Feed(()) => "FEED",
                });
                assert_eq!(code, Some("MODEL_UNSUPPORTED"), "{delivery:?} {} bytes", graph.len());
            }
            let graph = add(false);
            let parts = Parts { delivery, external: vec![], graph_len: graph.len() as u64 };
            for cut in 0..=graph.len() {
                let refused = Runner::load(&self.nursery, &SPEC, &parts, |feed| {
                    feed.write(&graph[..cut]);
                    Err("refused")
                });
                assert_eq!(refused.err(), Some(LoadError::Feed("refused")), "{delivery:?} {cut}");
            }
        }
    }

    fn datatypes(&self) {
        let cases: [(u8, Dtype, &[u8]); 6] = [
            (1, Dtype::F32, &[0, 0, 128, 63, 0, 0, 192, 127]),
            (7, Dtype::I64, &[255; 16]),
            (8, Dtype::Bytes, b"\x02\0\0\0hi\0\0\0\0"),
            (9, Dtype::Bool, &[1, 0]),
            (10, Dtype::F16, &[0, 60, 1, 252]),
            (16, Dtype::Bf16, &[128, 63, 0, 0]),
        ];
        for (ty, dtype, data) in cases {
            let runner = self.loaded(&identity(ty, &[0]));
            let answer = wait(run(&runner, &[tensor("x", dtype, &[2], data)])).unwrap();
            assert_eq!(answer, tensor("y", dtype, &[2], data), "{dtype:?}");
        }
    }

    fn stops(&self) {
        let runner = self.loaded(&endless());
        let round = |times: i64| {
            let times = tensor("n", Dtype::I64, &[], &times.to_le_bytes());
            [times, tensor("x", Dtype::F32, &[1], &floats(&[7.0]))]
        };
        wait(async {
            let late =
                runner.run(&round(i64::MAX), &["y".to_owned()], Instant::now() + Duration::from_millis(50)).await;
            assert_eq!(late, Err(RunnerError::RunTimeout));
            assert!(run(&runner, &round(3)).await.is_ok());
            let endless = round(i64::MAX);
            let given_up = tokio::time::timeout(Duration::from_millis(50), run(&runner, &endless)).await;
            assert!(given_up.is_err());
            assert!(run(&runner, &round(3)).await.is_ok());
            assert!(runner.is_running() && runner.fault().is_none());
        });
    }

    fn memory(&self) {
        let runner = self.loaded(&zeros());
        let shape = |count: i64| [tensor("n", Dtype::I64, &[1], &count.to_le_bytes())];
        wait(async {
            assert_eq!(run(&runner, &shape(10)).await.unwrap().shape, [10]);
            for much in [1 << 30, 1 << 40, i64::MAX] {
                assert_eq!(run(&runner, &shape(much)).await, Err(RunnerError::EngineFailed), "{much}");
            }
            assert_eq!(run(&runner, &shape(10)).await.unwrap().shape, [10]);
        });
    }

    fn room(&self) {
        let runner = self.loaded(&zeros());
        let shape = |count: i64| [tensor("n", Dtype::I64, &[1], &count.to_le_bytes())];
        wait(async {
            assert_eq!(run(&runner, &shape(1 << 18)).await.unwrap().shape, [1 << 18]);
            assert_eq!(run(&runner, &shape((1 << 18) + 1)).await, Err(RunnerError::AnswerTooLarge));
            assert_eq!(run(&runner, &shape(10)).await.unwrap().data[..], [0; 40]);
        });
    }

    fn kills(&self) {
        let other = self.loaded(&add(false));
        let before = processes();
        let victim = self.loaded(&endless());
        let killed: Vec<i32> = processes().into_iter().filter(|process| !before.contains(process)).collect();
        let [pid] = killed[..] else { panic!("{killed:?}") };
        let forever =
            [tensor("n", Dtype::I64, &[], &i64::MAX.to_le_bytes()), tensor("x", Dtype::F32, &[1], &floats(&[7.0]))];
        let x = [tensor("x", Dtype::F32, &[1, 2], &floats(&[1.0, 2.0]))];
        wait(async {
            let kill = async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                rustix::process::kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
            };
            let three = tokio::join!(run(&victim, &forever), run(&victim, &forever), run(&victim, &forever), kill);
            assert_eq!((three.0, three.1, three.2), (DIED, DIED, DIED));
            assert_eq!(victim.ended().await, Some(Ending::Signalled(9)));
            assert!(!victim.is_running() && victim.fault().is_none());
            assert!(run(&other, &x).await.is_ok());
        });
        assert!(wait(run(&self.loaded(&add(false)), &x)).is_ok(), "and there can be a new one");
    }

    fn ends(&self) {
        let hatched =
            self.nursery.hatch(vouchsafe_runner::WallLimits { memory_bytes: 1 << 30, threads: 1, shared_bytes: 4096 });
        let hatched = hatched.unwrap();
        let life = hatched.life.clone();
        let begun = Instant::now();
        // As when a runner is dropped: its sockets close.
        drop(hatched);
        while life.ending() == Ok(Ending::Running) && begun.elapsed() < LONG {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(life.ending(), Ok(Ending::Exited(0)));
    }
}
