//! Turns the files that will run into the measurement that evidence must carry.
//! It does not launch anything and does not say that the files are good.

mod asked;
mod id_block;
mod values;

use std::path::PathBuf;

pub use asked::{Asked, Backend, hex_number};

use clap::Subcommand;

use crate::{failure::Outcome, files};

/// Compute the reference values that policies name.
#[derive(clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Example:\n  vouchsafe measure --backend sim-process --config config.toml\n  vouchsafe measure --backend sim-process --tee tdx --config config.toml\n  vouchsafe measure --backend snp --image image --vcpus 4 --cpu EPYC-Genoa --out values.json\n  vouchsafe measure --backend tdx --image image --firmware OVMF.inteltdx.fd --rtmr0 <96 hex>"
)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    asked: Asked,
    /// The bound configuration, to print its digest as well.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Write the values to a new file as well, as JSON.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Make the signed ID block of an SEV-SNP guest: the secure processor starts nothing else under it.
    #[command(
        after_help = "Example:\n  vouchsafe measure id-block --image image --key id-key.pem --svn 3 --out-dir identity\n\nA key: openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out id-key.pem"
    )]
    IdBlock(Box<id_block::Args>),
}

pub fn run(args: &Args, json: bool) -> Outcome {
    if let Some(Command::IdBlock(args)) = &args.command {
        return id_block::run(args, json);
    }
    if let Some(path) = &args.out {
        files::absent(path)?;
    }
    let values = args.asked.measure(args.config.as_deref())?;
    if let Some(path) = &args.out {
        files::write_new(path, format!("{:#}\n", values.json()).as_bytes(), 0o644)?;
    }
    if json {
        println!("{}", values.json());
    } else {
        print!("{}", values.text());
        if let Some(path) = &args.out {
            println!("written to {}", path.display());
        }
    }
    Ok(())
}
