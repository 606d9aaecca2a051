//! Turns certificates and lists in files of their own into one collateral file, written at once or not at all.
//! It proves nothing of them: an item only has to be of the right form.

use std::path::{Path, PathBuf};

use serde_json::json;
use vouchsafe_attestation::{
    Collateral, Tee, UnixTime,
    collateral::{der_of, to_bytes},
};

use super::{NOT_VERIFIED, listed, notes, show};
use crate::{
    evidence,
    failure::{Failure, Outcome},
    files, verify,
};

#[derive(clap::Args)]
pub struct Args {
    /// Technology: sev-snp or tdx.
    #[arg(long)]
    tee: Tee,
    /// SEV-SNP: the VCEK or VLEK certificate, DER or PEM.
    #[arg(long, value_name = "FILE")]
    leaf: Option<PathBuf>,
    /// SEV-SNP: the product's revocation list, DER or PEM.
    #[arg(long, value_name = "FILE")]
    crl: Option<PathBuf>,
    /// SEV-SNP: the authority that issued a VLEK, DER or PEM.
    #[arg(long, value_name = "FILE")]
    asvk: Option<PathBuf>,
    /// TDX: collateral in the JSON form of dcap-qvl.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["leaf", "crl", "asvk"])]
    from: Option<PathBuf>,
    /// Where to write it.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Replace the file if it is there.
    #[arg(long)]
    replace: bool,
}

pub fn run(args: &Args, json: bool) -> Outcome {
    let collateral = match (args.tee, &args.leaf, &args.crl, &args.from) {
        (Tee::SevSnp, Some(leaf), Some(crl), None) => Collateral::SevSnp {
            leaf: der(leaf)?,
            crl: der(crl)?,
            asvk: args.asvk.as_deref().map(der).transpose()?.unwrap_or_default(),
        },
        (Tee::Tdx, None, None, Some(from)) => match evidence::bundle(from)? {
            tdx @ Collateral::Tdx(_) => tdx,
            Collateral::SevSnp { .. } => {
                return Err(Failure::usage(
                    "--from holds collateral of sev-snp",
                    "use --tee sev-snp, or name another file",
                ));
            }
        },
        (Tee::SevSnp, ..) => return Err(Failure::usage("--tee sev-snp needs --leaf and --crl", "see --help")),
        (Tee::Tdx, ..) => return Err(Failure::usage("--tee tdx needs --from, and nothing else", "see --help")),
    };
    written(&collateral, &args.out, args.replace, json)
}

/// Writes the file and tells what is in it.
pub fn written(collateral: &Collateral, out: &Path, replace: bool, json: bool) -> Outcome {
    let items = listed(collateral, out)?;
    files::write_atomic(out, &to_bytes(collateral), 0o644, replace)?;
    let now = UnixTime(verify::now());
    if json {
        let mut object = show::object(collateral, &items, now);
        object["written"] = json!(out);
        println!("{object}");
    } else {
        print!("{}", show::table(&items, now));
        println!("\nwritten to {}; {NOT_VERIFIED}", out.display());
        for note in notes(collateral) {
            eprintln!("attention: {note}");
        }
    }
    Ok(())
}

fn der(path: &Path) -> Result<Vec<u8>, Failure> {
    Ok(der_of(files::read_input(path, 1 << 20)?).0)
}
