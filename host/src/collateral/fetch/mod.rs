//! `vouchsafe collateral fetch`: turns the address of a vendor's service into a collateral file.
//! It verifies nothing that it gets, and nobody waits for it: requests are served from the file.

mod amd;
mod cache;
mod http;
mod intel;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use vouchsafe_attestation::{
    Collateral, Tee,
    collateral::{Item, MAX_BUNDLE, PckAuthority, items, parse, tee},
};

use super::pack;
use crate::{
    failure::{Failure, Outcome},
    files,
};

use self::{cache::Cache, http::Client};

#[derive(clap::Args)]
pub struct Args {
    /// Technology: sev-snp or tdx.
    #[arg(long)]
    tee: Tee,
    /// Base address of the service: AMD's key distribution service, Intel's provisioning service, or a cache of your own.
    #[arg(long, value_name = "URL")]
    url: String,
    /// Read from this report or quote what must be asked for.
    #[arg(long, value_name = "FILE")]
    evidence: Option<PathBuf>,
    /// SEV-SNP: the processor family, where no report names it.
    #[arg(long, value_parser = ["Milan", "Genoa", "Turin"])]
    product: Option<String>,
    /// SEV-SNP: the chip, 128 hex digits, 16 on Turin.
    #[arg(long, value_name = "HEX", conflicts_with = "evidence")]
    hwid: Option<String>,
    /// SEV-SNP: REPORTED_TCB, the 16 hex digits of its 8 bytes as they stand in a report.
    #[arg(long, value_name = "HEX", conflicts_with = "evidence")]
    tcb: Option<String>,
    /// SEV-SNP: a VLEK certificate that the provider gave you; its list and authority are fetched.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["evidence", "hwid", "tcb"])]
    vlek: Option<PathBuf>,
    /// TDX: family of processors, 12 hex digits.
    #[arg(long, value_name = "HEX", conflicts_with = "evidence")]
    fmspc: Option<String>,
    /// TDX: who issued the platform's certificate.
    #[arg(long, value_parser = ["platform", "processor"], conflicts_with = "evidence")]
    ca: Option<String>,
    /// TDX: address of the revocation list of Intel's root.
    #[arg(long, value_name = "URL")]
    root_crl_url: Option<String>,
    /// TDX: ask for the levels that Intel will demand next, not for those of today.
    #[arg(long)]
    early: bool,
    /// Where to write the collateral file.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Replace the file if it is there.
    #[arg(long)]
    replace: bool,
    /// Keep answers in this folder, and use those that are young enough.
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// How old an answer in the cache may be.
    #[arg(long, value_name = "HOURS", default_value_t = 24, requires = "cache")]
    cache_hours: u32,
    /// How often to try while the service is busy.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=20))]
    tries: u32,
    /// Longest time for one answer, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout: u64,
    /// Longest pause between two tries, in seconds. A service that asks for a longer one ends the command.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(0..=3600))]
    max_wait: u64,
    /// Believe only this certificate authority (PEM) for https, instead of those that browsers believe.
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Go through this proxy: http://HOST:PORT.
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
    /// Allow http to other machines. The answers are signed, but anybody on the way can read and withhold them.
    #[arg(long)]
    allow_http: bool,
}

pub fn run(args: &Args, json: bool) -> Outcome {
    let client = Client::new(http::Settings {
        tries: args.tries,
        timeout: Duration::from_secs(args.timeout),
        max_wait: Duration::from_secs(args.max_wait),
        tls_ca: args.tls_ca.as_deref(),
        proxy: args.proxy.as_deref(),
        allow_http: args.allow_http,
        cache: args.cache.as_ref().map(|dir| Cache::new(dir.clone(), u64::from(args.cache_hours) * 3600)),
        quiet: json,
    })?;
    if !args.replace {
        files::absent(&args.out)?;
    }
    let collateral = match asked(args, &client) {
        Ok(collateral) => collateral,
        Err(failure) => {
            // The answers themselves were wrong, so whatever of them came from the cache is asked for again.
            if matches!(failure.code, "FETCH_MALFORMED" | "COLLATERAL_MALFORMED" | "COLLATERAL_ROLLBACK") {
                client.forget();
            }
            return Err(failure);
        }
    };
    pack::written(&collateral, &args.out, args.replace, json)?;
    // A cache that cannot be written costs the next run some requests, and this one nothing.
    if let Err(failure) = client.keep() {
        eprintln!("attention: the answers were not kept in the cache: {} [{}]", failure.fact, failure.code);
    }
    Ok(())
}

/// All answers as collateral in which every item can be read, and none is older than in the file that is there.
fn asked(args: &Args, client: &Client) -> Result<Collateral, Failure> {
    let base = http::base(&args.url, args.allow_http)?;
    let collateral = match args.tee {
        Tee::SevSnp => amd::fetch(client, &base, &amd::wanted(args)?)?,
        Tee::Tdx => {
            let root = args.root_crl_url.as_deref().ok_or_else(|| {
                Failure::usage(
                    "--tee tdx needs --root-crl-url",
                    "the root certificate names it, under CRL distribution points",
                )
            })?;
            intel::fetch(client, &base, root, &intel::wanted(args)?, args.early)?
        }
    };
    let fetched = super::listed(&collateral, &args.out)?;
    match kept(&args.out, args.tee) {
        Kept::Nothing => {}
        Kept::Items(kept) => super::not_older(&fetched, &kept)?,
        Kept::Incomparable(why) => {
            eprintln!("{}: {why}; nothing could be compared, older answers would not be noticed", args.out.display());
        }
    }
    Ok(collateral)
}

/// What the new items can be compared with.
enum Kept {
    /// There is no file yet.
    Nothing,
    /// The items of the file that is there.
    Items(Vec<Item>),
    /// There is a file, but of what kind.
    Incomparable(&'static str),
}

fn kept(out: &Path, kind: Tee) -> Kept {
    if files::absent(out).is_ok() {
        return Kept::Nothing;
    }
    let Ok(old) = files::read_input(out, MAX_BUNDLE as u64) else {
        return Kept::Incomparable("the file that is there cannot be read");
    };
    let Ok(old) = parse(&old) else { return Kept::Incomparable("the file that is there holds no collateral") };
    if tee(&old) != kind {
        return Kept::Incomparable("the file that is there is of the other technology");
    }
    items(&old).map_or(Kept::Incomparable("the file that is there holds an item that cannot be read"), Kept::Items)
}

/// The authority by its word on the command line.
fn authority(word: &str) -> PckAuthority {
    if word == "platform" { PckAuthority::Platform } else { PckAuthority::Processor }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_that_cannot_be_compared_is_not_taken_for_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("collateral.json");
        assert!(matches!(kept(&path, Tee::Tdx), Kept::Nothing));
        let why = |kind| match kept(&path, kind) {
            Kept::Incomparable(why) => why,
            _ => "",
        };
        fs::write(&path, "{").unwrap();
        assert!(why(Tee::SevSnp).contains("no collateral"));
        fs::write(&path, r#"{"v":1,"tee":"sev-snp","leaf":"AQ","crl":"Ag"}"#).unwrap();
        assert!(why(Tee::Tdx).contains("other technology"));
        assert!(why(Tee::SevSnp).contains("cannot be read"), "of this technology, with unreadable items");
        assert!(matches!(kept(dir.path(), Tee::Tdx), Kept::Incomparable(why) if why.contains("cannot be read")));
    }
}
