//! Turns names on PyPI into running servers of the same models, each in a Python environment of its own, and stops those that are not asked.
//! It does not tune them beyond what their documents advise, and says nothing of what they do besides.

use std::fs;
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::bench_serve_load::{Channel, Load, Target};
use crate::bench_serve_models::{Form, Models};
use crate::bench_serve_process::{signal, tree};
use crate::error::ChoreError;
use crate::python::Python;
use crate::workspace::{Workspace, make_dir, sha256_of};

/// Ray takes longest, about twenty seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// A server of others.
pub(crate) struct Kind {
    /// Its script and its list of packages under xtask/bench/serve.
    pub(crate) name: &'static str,
    /// In the table.
    pub(crate) title: &'static str,
    /// Whether it speaks the binary tensor extension as it is used here.
    pub(crate) binary: bool,
}

/// In the order in which they are started.
pub(crate) const ALL: [Kind; 7] = [
    Kind { name: "fastapi", title: "FastAPI", binary: false },
    Kind { name: "triton", title: "Triton", binary: true },
    Kind { name: "kserve", title: "KServe", binary: false },
    Kind { name: "mlserver", title: "MLServer", binary: false },
    Kind { name: "litserve", title: "LitServe", binary: false },
    Kind { name: "bentoml", title: "BentoML", binary: false },
    Kind { name: "ray", title: "Ray Serve", binary: false },
];

/// Those that run, and the names of those that do not.
#[derive(Default)]
pub(crate) struct Peers {
    pub(crate) running: Vec<Peer>,
    pub(crate) missing: Vec<&'static str>,
}

/// One running peer. It is stopped but while it is asked, and ended when dropped.
pub(crate) struct Peer {
    pub(crate) kind: &'static Kind,
    child: Child,
    address: SocketAddr,
}

impl Peers {
    /// Installs and starts all of `kinds`; each is asked once, and has to answer right.
    pub(crate) fn start(
        workspace: &Workspace,
        place: &Path,
        models: &Models,
        load: &Load,
        kinds: impl Iterator<Item = &'static Kind>,
        threads: usize,
    ) -> Result<Self, ChoreError> {
        let mut peers = Self::default();
        for kind in kinds {
            match Peer::start(workspace, place, models, load, kind, threads) {
                Ok(peer) => {
                    peer.pause();
                    peers.running.push(peer);
                }
                Err(ChoreError::Interrupted) => return Err(ChoreError::Interrupted),
                Err(error) => {
                    eprintln!("note: no {}: {error}", kind.title);
                    peers.missing.push(kind.title);
                }
            }
        }
        Ok(peers)
    }

    /// One of them by its title.
    pub(crate) fn find(&self, title: &str) -> Option<&Peer> {
        self.running.iter().find(|peer| peer.kind.title == title)
    }
}

impl Peer {
    fn start(
        workspace: &Workspace,
        place: &Path,
        models: &Models,
        load: &Load,
        kind: &'static Kind,
        threads: usize,
    ) -> Result<Self, ChoreError> {
        let packages = install(workspace, place, kind)?;
        let own = place.join(format!("run-{}", kind.name));
        make_dir(&own)?;
        let port = free_port()?;
        let log = own.join("log");
        let out = fs::File::create(&log).map_err(ChoreError::file(&log))?;
        let errors = out.try_clone().map_err(ChoreError::file(&log))?;
        eprintln!("set-up: starting {}", kind.title);
        // A peer must not outlive this program, not even when it is stopped at that moment.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(Python::find()?.command().get_program());
        command
            .arg(workspace.root().join(format!("xtask/bench/serve/{}_peer.py", kind.name)))
            .arg(port.to_string())
            .arg(models.folder())
            .arg(threads.to_string())
            .current_dir(&own)
            .env("PYTHONPATH", &packages)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("PEER_TEMPORARY", &own)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(errors);
        let child = command.spawn().map_err(|source| ChoreError::Start { program: kind.title, source })?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut peer = Self { kind, child, address };
        let answered = peer.wait(models, load);
        if !answered? {
            eprintln!("{}", last_lines(&log));
            return Err(ChoreError::BenchProgram(kind.title));
        }
        Ok(peer)
    }

    /// Until it answers both models with the right numbers; `false` when it ended or never did.
    fn wait(&mut self, models: &Models, load: &Load) -> Result<bool, ChoreError> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(200));
            if std::net::TcpStream::connect(self.address).is_err() {
                continue;
            }
            let forms = if self.kind.binary { &[Form::Json, Form::Binary][..] } else { &[Form::Json] };
            let mut right = true;
            for name in ["minilm-32", "tiny"] {
                for form in forms {
                    let request = models.request(name, *form)?;
                    right &= load.ask(&self.target(), request).is_some_and(|told| request.is_answered_by(&told));
                }
            }
            if right {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Where load goes.
    pub(crate) fn target(&self) -> Target {
        Target { address: self.address, channel: Channel::Plain, root: self.child.id() }
    }

    /// Nothing of it takes time from now on.
    pub(crate) fn pause(&self) {
        signal(&tree(self.child.id()), "STOP");
    }

    /// It goes on.
    pub(crate) fn resume(&self) {
        signal(&tree(self.child.id()), "CONT");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let all = tree(self.child.id());
        signal(&all, "CONT");
        signal(&[self.child.id()], "TERM");
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(50));
        }
        // Whatever is still there of its own: processes whose parent is gone are no longer in its tree.
        let mine =
            |pid: &&u32| fs::read(format!("/proc/{pid}/environ")).is_ok_and(|e| contains(&e, b"PEER_TEMPORARY="));
        let left: Vec<u32> = all.iter().filter(mine).copied().collect();
        if !left.is_empty() {
            signal(&left, "KILL");
        }
        let _ = self.child.wait();
    }
}

fn contains(all: &[u8], part: &[u8]) -> bool {
    all.windows(part.len()).any(|window| window == part)
}

/// The packages of one peer, pinned down to the last, in a folder of their own: what two of them demand contradicts itself.
fn install(workspace: &Workspace, place: &Path, kind: &Kind) -> Result<PathBuf, ChoreError> {
    let list = workspace.root().join(format!("xtask/bench/serve/requirements/{}.txt", kind.name));
    let stamp = sha256_of(&list)?.unwrap_or_default();
    let done = place.join(format!("py-{}", kind.name));
    if fs::read_to_string(done.join(".installed")).is_ok_and(|found| found == stamp) {
        return Ok(done);
    }
    eprintln!("set-up: installing {} under target/bench/serve (up to a minute)", kind.title);
    let partial = place.join(format!("py-{}.partial", kind.name));
    remove(&partial)?;
    let (to, from) = (partial.to_string_lossy().into_owned(), list.to_string_lossy().into_owned());
    let mut words = vec!["install", "--no-deps", "--only-binary=:all:", "--no-warn-script-location"];
    words.extend(["--target", &to, "--requirement", &from]);
    Python::find()?.pip("a server to compare with", &words)?;
    fs::write(partial.join(".installed"), stamp).map_err(ChoreError::file(&partial))?;
    remove(&done)?;
    fs::rename(&partial, &done).map_err(ChoreError::file(&done))?;
    Ok(done)
}

fn remove(path: &Path) -> Result<(), ChoreError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(ChoreError::file(path)(error)),
        _ => Ok(()),
    }
}

/// A port that was free a moment ago, and so were the two behind it, which MLServer takes.
fn free_port() -> Result<u16, ChoreError> {
    let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    for _ in 0..100 {
        let first = bind(0).and_then(|listener| listener.local_addr()).map_err(ChoreError::file("127.0.0.1:0"))?.port();
        if first < u16::MAX - 2 && bind(first + 1).is_ok() && bind(first + 2).is_ok() {
            return Ok(first);
        }
    }
    Err(ChoreError::BenchProgram("the search for a free port"))
}

fn last_lines(log: &Path) -> String {
    let mut text = String::new();
    if let Ok(mut file) = fs::File::open(log) {
        let _ = file.read_to_string(&mut text);
    }
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(10)..).unwrap_or_default().join("\n")
}
