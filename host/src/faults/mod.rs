//! The fault lab: turns every named fault into what the live enclave, broker and customer say of it, beside what they must say.
//! Everything is SIMULATED: it shows that the readers refuse, not that any hardware is genuine.

mod guest;
mod hostile;
mod lab;
mod launching;
mod play;
mod policy;
mod print;
mod release;
mod session;
mod snp;
mod swapped;
mod table;
mod tdx;
mod wire;

use std::path::{Path, PathBuf};

use vouchsafe_attestation::Tee;

use crate::{
    demo,
    failure::{Failure, Outcome},
};
use play::Row;
use table::Fault;

/// Play named faults against a live enclave, broker and customer, in simulation.
///
/// Each fault is refused by a shipped program, and its code is read from that program's own words: the customer's
/// verdict, the broker's ledger line under the peer's ticket, the enclave's event or answer. Each has a control: the same
/// steps without the fault, which must succeed. Exit 0 only if every code is the expected one and every control succeeded.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  vouchsafe faults --only guest-debug\n  vouchsafe faults --tee tdx --json\n  vouchsafe faults --list"
)]
pub struct Args {
    /// Play only this fault; may be repeated.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Technology to simulate: sev-snp, tdx or all.
    #[arg(long, default_value = "all", value_parser = ["sev-snp", "tdx", "all"])]
    tee: String,
    /// Print what would be played, and play nothing.
    #[arg(long)]
    list: bool,
    /// Keep every artefact and log in this folder, which must not exist or be empty.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

pub fn run(args: &Args, json: bool) -> Outcome {
    let tees: Vec<Tee> =
        table::BOTH.iter().copied().filter(|tee| matches!(&*args.tee, "all") || args.tee == tee.as_str()).collect();
    let faults = chosen(&args.only, &tees)?;
    if args.list {
        print::list(&faults, json);
        return Ok(());
    }
    let (dir, temporary) = demo::folder(args.keep.as_deref())?;
    demo::ending::on_signal(temporary.as_ref().map(|t| t.path().to_owned()));
    let started = std::time::Instant::now();
    let rows = play_all(&dir, &tees, &faults, json);
    demo::ending::hold();
    let rows = rows?;
    let failed = rows.iter().filter(|row| !row.as_expected()).count();
    let seconds = started.elapsed().as_secs_f64();
    if failed == 0 && json {
        println!("{}", print::json(&rows, seconds));
    } else if !json {
        print::table(&rows, seconds);
    }
    if failed > 0 {
        let fact = format!("{failed} of {} did not end as expected", rows.len());
        let mut failure = Failure::new("FAULT_NOT_REFUSED", 10, fact, "run with --keep DIR and read DIR/*/logs");
        // Every row is part of the one JSON object, failure or not.
        *failure.more = print::json(&rows, seconds);
        return Err(failure);
    }
    Ok(())
}

/// One world for each technology, side by side.
fn play_all(dir: &Path, tees: &[Tee], faults: &[&'static Fault], json: bool) -> Result<Vec<Row>, Failure> {
    let total = tees.iter().map(|tee| play::rows_of(faults, *tee)).sum();
    let progress = print::Progress::new(total, json);
    let mut rows = Vec::new();
    std::thread::scope(|scope| {
        let worlds: Vec<_> = tees
            .iter()
            .filter(|tee| play::rows_of(faults, **tee) > 0)
            .map(|tee| {
                let progress = &progress;
                (tee, scope.spawn(move || play::world(&dir.join(tee.as_str()), *tee, faults, progress)))
            })
            .collect();
        for (tee, world) in worlds {
            let panicked = || guest::lab(format!("the world of {tee} ended without a word"));
            rows.extend(world.join().map_err(|_| panicked())??);
        }
        Ok::<_, Failure>(())
    })?;
    progress.finish();
    Ok(rows)
}

/// The faults that were asked for, in the order of the table.
fn chosen(only: &[String], tees: &[Tee]) -> Result<Vec<&'static Fault>, Failure> {
    for name in only {
        let Some(fault) = table::all().find(|fault| fault.name == name) else {
            let near = table::nearest(name).join(", ");
            return Err(Failure::usage(
                "--only names no fault",
                format!("the nearest names are {near}; `vouchsafe faults --list` prints all of them"),
            ));
        };
        if !fault.tees.iter().any(|tee| tees.contains(tee)) {
            let fact = format!("the fault {} does not exist in the technology that --tee names", fault.name);
            return Err(Failure::usage(fact, "leave out --tee"));
        }
    }
    let wanted = |fault: &&Fault| {
        (only.is_empty() || only.iter().any(|name| name == fault.name)) && fault.tees.iter().any(|t| tees.contains(t))
    };
    Ok(table::all().filter(wanted).collect())
}
