//! Turns the release programs, seven other servers and one model into one table: latency, throughput and processor time beside their targets.
//! It is no test: medians of interleaved rounds on one machine. Its load generator does not verify the evidence that it fetches.

use std::num::NonZero;
use std::path::PathBuf;

use crate::bench_serve_load::Load;
use crate::bench_serve_models::Models;
use crate::bench_serve_parts::{self as parts, Bench};
use crate::bench_serve_peers::{self as peers, Peers};
use crate::bench_serve_plain::Plain;
use crate::bench_serve_stage::{self as stage, Stage};
use crate::bench_table::Verdicts;
use crate::build::{self, Profile};
use crate::error::ChoreError;
use crate::onnxruntime;
use crate::workspace::{Workspace, make_dir};

/// `cargo xtask bench serve [--quick] [--rounds N] [--only PART] [--soak N] [--programs DIR] [--strict]`; status 10 when a peer or a ratio is missing
/// (not with `--quick`) or, with `--strict`, a target is missed.
pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<u8, ChoreError> {
    let arguments = Arguments::parse(args)?;
    let place = workspace.target().join("bench/serve");
    make_dir(&place)?;
    // What serves customers is optimised as a whole; whether everything runs is found out without that.
    let profile = if arguments.quick { Profile::Release } else { Profile::Image };
    let programs = match &arguments.programs {
        Some(folder) => folder.clone(),
        None if arguments.quick => build::release_binaries(workspace)?,
        None => {
            let folder = place.join("programs");
            build::image_binaries(workspace, &folder)?;
            folder
        }
    };
    let load = Load::build(workspace, profile)?;
    let models = Models::make(workspace, &place)?;
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let library = onnxruntime::library(workspace)?;
    let plain = Plain::build(workspace, profile, &library, &models, threads)?;
    eprintln!("set-up: sealing the models, starting a broker and an enclave");
    let stage = Stage::set(&programs, &models, stage::folder(workspace)?)?;
    let kinds = peers::ALL.iter().filter(|kind| arguments.wants(kind.name));
    let peers = Peers::start(workspace, &place, &models, &load, kinds, threads)?;
    println!(
        "servers: {} rounds of {} ms, all contenders in turn in each; {threads} processors, {threads} threads for each model, none spins; profile {}",
        arguments.rounds,
        arguments.millis(),
        profile.dir()
    );
    for peer in &peers.running {
        println!("  {:<12} without TLS; xtask/bench/serve/requirements/{}.txt", peer.kind.title, peer.kind.name);
    }
    let mut verdicts = Verdicts::default();
    let bench = Bench { workspace, arguments: &arguments, models: &models, load: &load, plain: &plain, stage: &stage };
    parts::run(&bench, &peers, &mut verdicts)?;
    let missing = peers.missing.clone();
    drop(peers);
    for name in &missing {
        println!("{name:<54} MISSING");
    }
    if verdicts.missed > 0 {
        println!("\n{} targets missed", verdicts.missed);
    }
    if !arguments.quick && (!missing.is_empty() || verdicts.absent > 0) {
        return Err(ChoreError::BenchIncomplete { missing, ratios: verdicts.absent });
    }
    Ok(if arguments.strict && verdicts.missed > 0 { 10 } else { 0 })
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// MiniLM, one client.
    Minilm,
    /// A model that costs nothing: the server alone.
    Tiny,
    /// MiniLM, 32 clients; receipts.
    Many,
    /// TLS beside plain TCP.
    Channel,
    /// A tensor of a mebibyte; JSON of as much.
    Tensors,
    /// New sessions.
    Sessions,
    /// Marked requests.
    Soak,
}

const PARTS: [(&str, Part); 7] = [
    ("minilm", Part::Minilm),
    ("tiny", Part::Tiny),
    ("many", Part::Many),
    ("channel", Part::Channel),
    ("tensors", Part::Tensors),
    ("sessions", Part::Sessions),
    ("soak", Part::Soak),
];

/// The command line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// FastAPI as the only peer, short rounds, no demand that anything be there.
    pub(crate) quick: bool,
    /// How often each contender's turn comes.
    pub(crate) rounds: usize,
    only: Option<Part>,
    /// Marked requests.
    pub(crate) soak: u64,
    strict: bool,
    /// Programs that are measured as they are.
    programs: Option<PathBuf>,
}

impl Arguments {
    fn parse(args: &[String]) -> Result<Self, ChoreError> {
        let quick = args.iter().any(|arg| arg == "--quick");
        let (rounds, soak) = if quick { (2, 20_000) } else { (21, 1_000_000) };
        let mut out = Self { quick, rounds, only: None, soak, strict: false, programs: None };
        let mut words = args.iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--quick" => continue,
                "--strict" => {
                    out.strict = true;
                    continue;
                }
                _ => {}
            }
            let wrong = || ChoreError::Usage(format!("`bench serve` cannot take `{word}` as it is used"));
            let value = words.next().ok_or_else(wrong)?;
            let number = || value.parse::<u64>().ok().filter(|n| *n <= 1 << 32).ok_or_else(wrong);
            match word.as_str() {
                "--rounds" => out.rounds = usize::try_from(number()?.clamp(1, 1000)).map_err(|_| wrong())?,
                "--soak" => out.soak = number()?,
                "--programs" => out.programs = Some(PathBuf::from(value)),
                "--only" => {
                    let found = PARTS.iter().find(|(name, _)| name == value);
                    out.only = Some(found.map(|(_, part)| *part).ok_or_else(wrong)?);
                }
                _ => return Err(wrong()),
            }
        }
        Ok(out)
    }

    /// How long one contender's turn is.
    pub(crate) fn millis(&self) -> u64 {
        if self.quick { 400 } else { 700 }
    }

    /// Whether this part is measured.
    pub(crate) fn has(&self, part: Part) -> bool {
        self.only.is_none_or(|only| only == part)
    }

    /// Whether this peer is asked in any part.
    fn wants(&self, peer: &str) -> bool {
        if self.quick {
            return peer == "fastapi" && (self.has(Part::Minilm) || self.has(Part::Tiny) || self.has(Part::Many));
        }
        match self.only {
            None | Some(Part::Minilm | Part::Tiny) => true,
            Some(Part::Many) => matches!(peer, "fastapi" | "triton"),
            Some(Part::Tensors) => peer == "triton",
            Some(Part::Channel | Part::Sessions | Part::Soak) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Arguments, ChoreError> {
        Arguments::parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_arguments_are_rounds_parts_a_number_and_flags() {
        let full = parse("").unwrap();
        assert_eq!((full.quick, full.rounds, full.soak, full.millis()), (false, 21, 1_000_000, 700));
        let quick = parse("--rounds 3 --quick --only tiny --soak 5 --strict --programs d").unwrap();
        assert_eq!(
            quick,
            Arguments {
                quick: true,
                rounds: 3,
                only: Some(Part::Tiny),
                soak: 5,
                strict: true,
                programs: Some(PathBuf::from("d"))
            }
        );
        for wrong in ["--rounds", "--rounds x", "--rounds -1", "--only all", "--only", "--soak 1.5", "--else 1", "x"] {
            assert_eq!(parse(wrong).unwrap_err().code(), "USAGE", "{wrong}");
        }
    }

    #[test]
    fn only_those_are_started_that_are_asked() {
        let wanted = |text: &str| {
            let arguments = parse(text).unwrap();
            peers::ALL.iter().filter(|kind| arguments.wants(kind.name)).count()
        };
        assert_eq!((wanted(""), wanted("--quick"), wanted("--only many")), (peers::ALL.len(), 1, 2));
        assert_eq!((wanted("--only soak"), wanted("--quick --only soak")), (0, 0));
    }
}
