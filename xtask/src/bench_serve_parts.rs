//! Turns each part of the comparison into rounds, every contender in turn in each, and their medians into lines with targets.
//! It does not know how anything is started or measured.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::bench;
use crate::bench_serve::{Arguments, Part};
use crate::bench_serve_load::{Amount, Channel, Load, Target as Server};
use crate::bench_serve_models::{Form, Models, Request};
use crate::bench_serve_peers::Peers;
use crate::bench_serve_plain::{Place, Plain};
use crate::bench_serve_stage::{Enclave, Stage};
use crate::bench_serve_table::{Board, Field, adds, at_least, at_most};
use crate::bench_table::{Target, Verdicts};
use crate::error::ChoreError;
use crate::workspace::Workspace;

/// How the tables call ours: TLS, attested, behind walls.
const OURS: &str = "vouchsafe";
const IN_PROCESS: &str = "in-process, the same options";
const SPINNING: &str = "in-process, ONNX Runtime's defaults (spinning)";
const CLIENTS: usize = 32;
/// A receipt is asked for with a salt; any 32 bytes will do here.
const RECEIPT: (&str, &str) = ("Vouchsafe-Receipt", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8");

/// What every part works with.
pub(crate) struct Bench<'a> {
    pub(crate) workspace: &'a Workspace,
    pub(crate) arguments: &'a Arguments,
    pub(crate) models: &'a Models,
    pub(crate) load: &'a Load,
    pub(crate) plain: &'a Plain,
    pub(crate) stage: &'a Stage,
}

/// All parts that are wanted.
pub(crate) fn run(bench: &Bench<'_>, peers: &Peers, verdicts: &mut Verdicts) -> Result<(), ChoreError> {
    let has = |parts: &[Part]| parts.iter().any(|part| bench.arguments.has(*part));
    if has(&[Part::Minilm, Part::Tiny, Part::Many, Part::Channel, Part::Tensors, Part::Soak]) {
        let enclave = bench.stage.launch(None)?;
        let ours = enclave.target();
        bench.must_be_right(&ours)?;
        if has(&[Part::Minilm]) {
            minilm(bench, peers, &ours, verdicts)?;
        }
        if has(&[Part::Tiny]) {
            tiny(bench, peers, &ours, verdicts)?;
        }
        if has(&[Part::Many]) {
            many(bench, peers, &ours, verdicts)?;
        }
        if has(&[Part::Channel]) {
            channel(bench, &ours, verdicts)?;
        }
        if has(&[Part::Tensors]) {
            tensors(bench, peers, &ours, verdicts)?;
        }
        if has(&[Part::Soak]) && bench.arguments.soak > 0 {
            soak(bench, &enclave, verdicts)?;
        }
    }
    if has(&[Part::Sessions]) {
        sessions(bench, verdicts)?;
    }
    Ok(())
}

/// Somebody whose turn comes in each round.
struct Contender<'a> {
    name: String,
    server: Server,
    request: &'a Request,
    header: Option<(&'static str, &'static str)>,
    /// One who is stopped in between.
    peer: Option<&'a crate::bench_serve_peers::Peer>,
}

impl<'a> Bench<'a> {
    fn contender(&self, name: String, server: Server, what: &str, form: Form) -> Result<Contender<'a>, ChoreError> {
        Ok(Contender { name, server, request: self.models.request(what, form)?, header: None, peer: None })
    }

    /// Ours in both forms, then every peer in those that it speaks.
    fn all(&self, peers: &'a Peers, ours: &Server, what: &str) -> Result<Vec<Contender<'a>>, ChoreError> {
        let mut all = Vec::new();
        for form in [Form::Json, Form::Binary] {
            all.push(self.contender(named(OURS, form), *ours, what, form)?);
        }
        for peer in &peers.running {
            for form in [Form::Json, Form::Binary] {
                if form == Form::Json || peer.kind.binary {
                    let name = named(peer.kind.title, form);
                    all.push(Contender { peer: Some(peer), ..self.contender(name, peer.target(), what, form)? });
                }
            }
        }
        Ok(all)
    }

    /// One round of each.
    fn turn(&self, contenders: &[Contender<'_>], board: &mut Board, amount: Amount) -> Result<(), ChoreError> {
        for contender in contenders {
            if let Some(peer) = contender.peer {
                peer.resume();
            }
            let sample = self.load.round(&contender.server, contender.request, contender.header, amount);
            if let Some(peer) = contender.peer {
                peer.pause();
            }
            board.add(&contender.name, sample?);
        }
        Ok(())
    }

    fn rounds(&self, contenders: &[Contender<'_>], amount: Amount) -> Result<Board, ChoreError> {
        let mut board = Board::default();
        for _ in 0..self.arguments.rounds {
            self.turn(contenders, &mut board, amount)?;
        }
        Ok(board)
    }

    fn amount(&self, clients: usize, one_core: bool) -> Amount {
        Amount { clients, millis: self.arguments.millis(), one_core }
    }

    /// Ours answers with the right numbers, as the peers did when they were started.
    fn must_be_right(&self, ours: &Server) -> Result<(), ChoreError> {
        for name in ["minilm-32", "minilm-128", "tiny", "block-4k", "block-1m"] {
            for form in [Form::Json, Form::Binary] {
                let request = self.models.request(name, form)?;
                let told = self.load.ask(ours, request);
                if !told.as_ref().is_some_and(|told| request.is_answered_by(told)) {
                    let said = told.unwrap_or_default().to_string();
                    eprintln!("{name}, {}: {}", form.word(), said.chars().take(500).collect::<String>());
                    return Err(ChoreError::BenchProgram("the enclave, which answered wrong,"));
                }
            }
        }
        Ok(())
    }
}

fn named(who: &str, form: Form) -> String {
    format!("{who}, {}", form.word())
}

fn minilm(bench: &Bench<'_>, peers: &Peers, ours: &Server, verdicts: &mut Verdicts) -> Result<(), ChoreError> {
    let mut alone = bench.plain.in_process()?;
    for (length, most) in [(32, 1.05), (128, 1.02)] {
        let contenders = bench.all(peers, ours, &format!("minilm-{length}"))?;
        let (mut board, amount) = (Board::default(), bench.amount(1, false));
        for _ in 0..bench.arguments.rounds {
            board.add(IN_PROCESS, alone.round(false, length, amount.millis)?);
            board.add(SPINNING, alone.round(true, length, amount.millis)?);
            bench.turn(&contenders, &mut board, amount)?;
        }
        board.print(&format!("MiniLM, sequence {length}, 1 client"));
        println!();
        let (json, binary) = (named(OURS, Form::Json), named(OURS, Form::Binary));
        let mut told = |what: &str, names: (&str, &str), target| {
            let ratio = board.paired(names, Field::P50, |of, to| of / to);
            verdicts.paired(&format!("MiniLM {length}, p50: {what}"), ratio, "us", target);
        };
        told("ours, binary, to in-process", (&binary, IN_PROCESS), Target::AtMost(most));
        told("ours, JSON, to in-process", (&json, IN_PROCESS), Target::None);
        told("ours, binary, to spinning", (&binary, SPINNING), Target::None);
        for contender in contenders.iter().filter(|contender| contender.peer.is_some()) {
            let mine = if contender.name.ends_with(Form::Binary.word()) { &binary } else { &json };
            let better = contender.name.starts_with("Triton") || contender.name.starts_with("FastAPI");
            let target = if better { Target::AtMost(1.0) } else { Target::None };
            told(&format!("ours to {}", contender.name), (mine, &contender.name), target);
        }
    }
    Ok(())
}

fn tiny(bench: &Bench<'_>, peers: &Peers, ours: &Server, verdicts: &mut Verdicts) -> Result<(), ChoreError> {
    const HERE: &str = "plain TCP, model in the server's process";
    const RUNNER: &str = "plain TCP, model in a runner";
    const WHOLE: &str = "attested, model in a runner (vouchsafe)";
    let (here, runner) = (bench.plain.serve(Place::Here)?, bench.plain.serve(Place::Runner)?);
    let mut contenders = Vec::new();
    for (name, server) in [(HERE, &here), (RUNNER, &runner)] {
        contenders.push(bench.contender(name.to_owned(), server.target(Channel::Plain), "tiny", Form::Json)?);
    }
    contenders.push(bench.contender(WHOLE.to_owned(), *ours, "tiny", Form::Json)?);
    let board = bench.rounds(&contenders, bench.amount(1, true))?;
    board.print("Tiny model, JSON, 1 client, all on one processor");
    println!();
    let of = |name, field| board.median(name, field);
    let us = "us";
    adds(verdicts, "tiny: gate and runner add, p50", &board, (RUNNER, HERE), (Field::P50, us), 25.0);
    adds(verdicts, "tiny: gate and runner add, CPU", &board, (RUNNER, HERE), (Field::Cpu, us), 20.0);
    at_most(verdicts, "tiny: attested, p50 in all", of(WHOLE, Field::P50), us, 120.0);
    at_most(verdicts, "tiny: attested, CPU in all", of(WHOLE, Field::Cpu), us, 55.0);
    drop((here, runner));
    for clients in [1, CLIENTS] {
        let contenders = bench.all(peers, ours, "tiny")?;
        let board = bench.rounds(&contenders, bench.amount(clients, false))?;
        board.print(&format!("Tiny model, {clients} clients"));
        println!();
        for contender in contenders.iter().filter(|contender| contender.peer.is_some()) {
            let form = if contender.name.ends_with(Form::Binary.word()) { Form::Binary } else { Form::Json };
            let title = format!("tiny, {clients} clients, per s: ours to {}", contender.name);
            let target = match contender.peer.map(|peer| peer.kind.title) {
                Some("Triton") if clients == CLIENTS => Target::AtLeast(3.0),
                Some("KServe") if clients == CLIENTS => Target::AtLeast(15.0),
                _ => Target::None,
            };
            let ratio = board.paired((&named(OURS, form), &contender.name), Field::PerSecond, |of, to| of / to);
            verdicts.paired(&title, ratio, "per s", target);
        }
    }
    if !bench.arguments.quick {
        absent(peers, &["Triton", "KServe"], verdicts);
    }
    Ok(())
}

/// Ratios that a missing peer leaves out count as absent.
fn absent(peers: &Peers, wanted: &[&str], verdicts: &mut Verdicts) {
    for title in wanted.iter().filter(|title| peers.find(title).is_none()) {
        verdicts.ratio(&format!("ours to {title}"), None, None, "", Target::None);
    }
}

fn many(bench: &Bench<'_>, peers: &Peers, ours: &Server, verdicts: &mut Verdicts) -> Result<(), ChoreError> {
    const RECEIPTS: &str = "vouchsafe, json, with receipts";
    let mut contenders = bench.all(peers, ours, "minilm-32")?;
    contenders.retain(|one| one.peer.is_none_or(|peer| matches!(peer.kind.title, "FastAPI" | "Triton")));
    let receipts = bench.contender(RECEIPTS.to_owned(), *ours, "minilm-32", Form::Json)?;
    contenders.insert(1, Contender { header: Some(RECEIPT), ..receipts });
    let board = bench.rounds(&contenders, bench.amount(CLIENTS, false))?;
    board.print(&format!("MiniLM, sequence 32, {CLIENTS} clients"));
    println!();
    let mine = named(OURS, Form::Json);
    let of = |name: &str, field| board.median(name, field);
    let rates = |of: &str, to: &str| board.paired((of, to), Field::PerSecond, |of, to| of / to);
    let title = |what: &str| format!("MiniLM 32, {CLIENTS} clients: {what}");
    verdicts.paired(&title("per s, to FastAPI"), rates(&mine, "FastAPI, json"), "per s", Target::AtLeast(1.0));
    if peers.find("Triton").is_some() {
        verdicts.paired(&title("per s, to Triton"), rates(&mine, "Triton, json"), "per s", Target::None);
    }
    verdicts.ratio(&title("p99 to p50"), of(&mine, Field::P99), of(&mine, Field::P50), "us", Target::AtMost(1.5));
    verdicts.paired(&title("with receipts, to without"), rates(RECEIPTS, &mine), "per s", Target::AtLeast(0.95));
    Ok(())
}

fn channel(bench: &Bench<'_>, ours: &Server, verdicts: &mut Verdicts) -> Result<(), ChoreError> {
    const PLAIN: &str = "plain TCP, the same server";
    const TLS: &str = "TLS, the same server";
    let server = bench.plain.serve(Place::Runner)?;
    let mut contenders = Vec::new();
    for (name, channel) in [(PLAIN, Channel::Plain), (TLS, Channel::Tls)] {
        contenders.push(bench.contender(name.to_owned(), server.target(channel), "block-4k", Form::Binary)?);
    }
    contenders.push(bench.contender("attested (vouchsafe)".to_owned(), *ours, "block-4k", Form::Binary)?);
    let board = bench.rounds(&contenders, bench.amount(1, true))?;
    board.print("4 KiB binary, kept alive, 1 client, all on one processor");
    println!();
    for (what, field, most) in [("p50", Field::P50, 8.0), ("p99", Field::P99, 15.0)] {
        let title = format!("channel: TLS adds to a kept-alive request, {what}");
        adds(verdicts, &title, &board, (TLS, PLAIN), (field, "us"), most);
    }
    let cpu = board.paired((TLS, PLAIN), Field::Cpu, |of, to| of / to);
    verdicts.paired("channel: TLS to plain, CPU of the server", cpu, "us", Target::None);
    Ok(())
}

fn tensors(bench: &Bench<'_>, peers: &Peers, ours: &Server, verdicts: &mut Verdicts) -> Result<(), ChoreError> {
    const PLAIN: &str = "plain TCP, model in a runner, binary";
    const HERE: &str = "plain TCP, model in the server's process, binary";
    let (server, here) = (bench.plain.serve(Place::Runner)?, bench.plain.serve(Place::Here)?);
    let mut contenders = bench.all(peers, ours, "block-1m")?;
    contenders.retain(|one| one.peer.is_none_or(|peer| peer.kind.binary));
    for (name, server) in [(PLAIN, &server), (HERE, &here)] {
        contenders.push(bench.contender(name.to_owned(), server.target(Channel::Plain), "block-1m", Form::Binary)?);
    }
    let board = bench.rounds(&contenders, bench.amount(1, false))?;
    board.print("A tensor of 1 MiB there and back, 1 client");
    println!();
    at_most(verdicts, "1 MiB binary there and back, plain, p50", board.median(PLAIN, Field::P50), "us", 800.0);
    json_speed(bench.workspace, verdicts)
}

/// The parser beside serde_json, in one process and in turn, as the protocol crate's own example measures them.
fn json_speed(workspace: &Workspace, verdicts: &mut Verdicts) -> Result<(), ChoreError> {
    const FAILED: ChoreError = ChoreError::BenchProgram("the example `json_speed`");
    let program = bench::example(workspace, "vouchsafe-oip", "json_speed")?;
    let output = Command::new(program).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.map_err(|source| ChoreError::Start { program: "the example `json_speed`", source })?;
    let pairs = speeds(&String::from_utf8_lossy(&output.stdout));
    if !output.status.success() || pairs.is_empty() {
        return Err(FAILED);
    }
    for (what, ours, theirs) in pairs {
        let target = if what.ends_with("list") { Target::AtMost(0.65) } else { Target::None };
        verdicts.ratio(&format!("1 MB JSON, {what}, to serde_json"), Some(ours), Some(theirs), "ms", target);
    }
    Ok(())
}

/// Lines `TITLE: …` and below them `  KIND: 1.77ms, serde_json 3.51ms, …`: what, and milliseconds of both.
fn speeds(text: &str) -> Vec<(String, f64, f64)> {
    let mut title = "";
    let mut found = Vec::new();
    for line in text.lines() {
        let Some((name, rest)) = line.split_once(": ") else { continue };
        if !name.starts_with(' ') {
            title = name;
            continue;
        }
        let mut parts = rest.split(", ");
        let times =
            parts.next().and_then(millis).zip(parts.next().and_then(|p| millis(p.strip_prefix("serde_json ")?)));
        if let Some((ours, theirs)) = times {
            found.push((format!("{title}, {}", name.trim()), ours, theirs));
        }
    }
    found
}

/// A duration as Rust prints it.
fn millis(text: &str) -> Option<f64> {
    let number = |unit| text.strip_suffix(unit)?.parse::<f64>().ok();
    let micros = || number("\u{b5}s").map(|us| us / 1e3);
    number("ms").or_else(micros).or_else(|| number("ns").map(|ns| ns / 1e6)).or_else(|| number("s").map(|s| s * 1e3))
}

fn sessions(bench: &Bench<'_>, verdicts: &mut Verdicts) -> Result<(), ChoreError> {
    const QUOTES: u32 = 25;
    let enclave = bench.stage.launch(Some(QUOTES))?;
    let mut board = Board::default();
    for _ in 0..bench.arguments.rounds.min(3) {
        let millis = bench.arguments.millis().max(2000);
        board.add("connect, shake hands, fetch evidence", bench.load.sessions(&enclave.target(), 128, millis)?);
    }
    board.print(&format!("New attested sessions, {QUOTES} quotes per second, 128 at a time"));
    println!();
    let rate = board.median("connect, shake hands, fetch evidence", Field::PerSecond);
    at_least(verdicts, "new attested sessions", rate, "per s", 500.0);
    Ok(())
}

fn soak(bench: &Bench<'_>, enclave: &Enclave, verdicts: &mut Verdicts) -> Result<(), ChoreError> {
    const CLIENTS: usize = 200;
    let processes = || [enclave.processes(), bench.stage.broker_processes()].concat();
    let (told, warm, end) = bench.load.soak(&enclave.target(), CLIENTS, bench.arguments.soak, processes)?;
    let number = |name: &str| told.get(name).and_then(Value::as_f64);
    let (requests, rate) = (number("requests").unwrap_or(0.0), number("per_s").unwrap_or(0.0));
    println!("\nSoak: {requests} marked requests from {CLIENTS} clients to four models, {rate:.0} per second");
    at_least(verdicts, "soak: answered", Some(requests), "requests", bench.arguments.soak as f64);
    at_most(verdicts, "soak: answers that belong to another request", number("wrong"), "answers", 0.0);
    at_most(verdicts, "soak: refused", number("refused"), "requests", 0.0);
    at_most(verdicts, "soak: requests without an answer", number("broken"), "requests", 0.0);
    let mib = |kib: u64| Some(kib as f64 / 1024.0);
    verdicts.ratio(
        "soak: resident memory at the end, to a tenth of it",
        mib(end),
        mib(warm),
        "MiB",
        Target::AtMost(1.05),
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_are_read_with_their_titles_and_units() {
        let text = "short: 9 numbers in 40 bytes\n  list: 1.77ms, serde_json 3.51ms, ratio 0.50 (of …)\n  \
                    request: 950.00\u{b5}s, serde_json 1.90s, ratio 0.48\nlong: 9\n  list: x, serde_json 1ms\n";
        let found = speeds(text);
        let expected = [("short, list", 1.77, 3.51), ("short, request", 0.95, 1900.0)];
        assert_eq!(found, expected.map(|(what, ours, theirs)| (what.to_owned(), ours, theirs)));
    }
}
