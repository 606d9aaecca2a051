//! Turns the shared index of genuine evidence into rows, and evidence into a policy that wants exactly it.
//! It expects nothing: `table.rs` does.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use vouchsafe_tests::workspace;

/// The directory of genuine vectors; they are not part of this repository.
pub fn vectors(test: &str) -> Option<PathBuf> {
    let dir =
        std::env::var_os("VOUCHSAFE_VECTORS").map_or_else(|| workspace().join("../shared/vectors"), PathBuf::from);
    if dir.join("INDEX.md").exists() {
        return Some(dir);
    }
    assert!(std::env::var("VOUCHSAFE_REQUIRE_VECTORS").as_deref() != Ok("1"), "{test}: vectors required but missing");
    println!("NOT RUN: {test}: vectors missing");
    None
}

/// The rows of one of the index's tables: name of the file, and the cell under `column`.
pub fn rows(vectors: &Path, heading: &str, column: &str) -> Vec<(String, String)> {
    let index = fs::read_to_string(vectors.join("INDEX.md")).unwrap();
    let (_, section) = index.split_once(&format!("\n## {heading}")).expect("a section of the index");
    let mut lines = section.lines().skip_while(|line| !line.starts_with("| file |"));
    let cells = |line: &str| line.split(" | ").map(|c| c.trim_matches(['|', ' ']).to_owned()).collect::<Vec<_>>();
    let at = cells(lines.next().unwrap()).iter().position(|cell| cell == column).expect("a column of the table");
    lines
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells = cells(line);
            (cells[0].clone(), cells[at].clone())
        })
        .collect()
}

/// A strict policy that wants exactly the code, the configuration and the machine of this report, and opts in to Milan.
pub fn policy_for_report(report: &[u8]) -> String {
    let masked = report[0x1a0..0x1e0].iter().all(|b| *b == 0);
    let platform = if masked { "any".to_owned() } else { hex::encode(&report[0x1a0..0x1e0]) };
    let platforms = if masked { format!("\"{platform}\"") } else { format!("[\"{platform}\"]") };
    format!(
        "version = 1\nmode = \"hardware\"\ntee = [\"sev-snp\"]\nextends = \"hardware-snp-strict\"\nmodels = \"any\"\n\
         [sev-snp]\nproducts = [\"Milan\", \"Genoa\", \"Turin\"]\nmeasurements = [\"{}\"]\nconfig_digests = [\"{}\"]\n\
         platforms = {platforms}\n",
        hex::encode(&report[0x90..0xc0]),
        hex::encode(&report[0xc0..0xe0]),
    )
}

/// A strict policy that wants exactly the code of this quote.
pub fn policy_for_quote(quote: &[u8]) -> String {
    // The body follows the header of 48 bytes, and in version 5 its type and size.
    let body = &quote[if quote[0] == 4 { 48 } else { 54 }..];
    let register = |at: usize| hex::encode(&body[at..at + 48]);
    format!(
        "version = 1\nmode = \"hardware\"\ntee = [\"tdx\"]\nextends = \"hardware-tdx-strict\"\nmodels = \"any\"\n\
         [tdx]\nmr_td = [\"{}\"]\nrtmr0 = [\"{}\"]\nrtmr1 = [\"{}\"]\nrtmr2 = [\"{}\"]\nrtmr3 = [\"{}\"]\n\
         config_digests = \"any\"\nplatforms = \"any\"\n",
        register(136),
        register(328),
        register(376),
        register(424),
        register(472),
    )
}
