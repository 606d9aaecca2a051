//! Turns what this host has into an answer for each backend: it can run here, or what is missing and the fix.
//! It launches nothing and proves nothing: whether a machine is genuine, its evidence tells the customer.

mod ask;
mod backends;
mod hardware;
mod host;
mod image;
mod print;
mod software;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use vouchsafe_launcher::Backend;

use crate::failure::{Failure, Outcome};

/// Say what this host can launch, and what is missing for the rest.
#[derive(clap::Args)]
#[command(
    after_help = "Exit status: 0 when the asked backend (without --backend: any) can run here, else 10.\n\nExample:\n  vouchsafe doctor\n  vouchsafe doctor --backend snp --image image"
)]
pub struct Args {
    /// Ask for one backend only.
    #[arg(long, value_enum, value_name = "NAME")]
    backend: Option<Asked>,
    /// Look at this guest image as well, a folder of `vouchsafe image build`.
    #[arg(long, value_name = "DIR")]
    image: Option<PathBuf>,
}

/// The launcher's backends, without its words about them.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Asked {
    Snp,
    Tdx,
    SimVm,
    SimProcess,
}

impl From<Asked> for Backend {
    fn from(asked: Asked) -> Self {
        match asked {
            Asked::Snp => Self::Snp,
            Asked::Tdx => Self::Tdx,
            Asked::SimVm => Self::SimVm,
            Asked::SimProcess => Self::SimProcess,
        }
    }
}

pub fn run(args: &Args, json: bool) -> Outcome {
    let programs = std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_path_buf)).unwrap_or_default();
    let places = host::Places { root: Path::new("/"), programs: &programs, image: args.image.as_deref() };
    let host = host::Host::read(&places, &ask::ThisMachine);
    let asked: Vec<Backend> = match args.backend {
        Some(asked) => vec![asked.into()],
        None => vec![Backend::Snp, Backend::Tdx, Backend::SimVm, Backend::SimProcess],
    };
    let findings: Vec<backends::Finding> = asked.iter().map(|backend| backends::examine(*backend, &host)).collect();
    let report = print::json(&host, &findings);
    if json && findings.iter().any(backends::Finding::can_run) {
        println!("{report}");
    } else if !json {
        print!("{}", print::text(&host, &findings));
    }
    verdict(&findings, report)
}

/// Exit 10 unless something that was asked for can run.
fn verdict(findings: &[backends::Finding], report: serde_json::Value) -> Outcome {
    if findings.iter().any(backends::Finding::can_run) {
        return Ok(());
    }
    let names: Vec<&str> = findings.iter().map(|finding| finding.backend.as_str()).collect();
    let fact = format!("this host cannot run {} as it is", names.join(", "));
    let mut failure = Failure::new("BACKEND_NOT_READY", 10, fact, "do what the lines marked NO say, then ask again");
    failure.more = Box::new(report);
    Err(failure)
}
