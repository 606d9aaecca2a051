//! Turns a verdict into the table that people read: each finding, whose word it is, and what nobody proved.
//! The table decides nothing; its first line says SIMULATED whenever the verdict is.

use std::fmt::Write as _;

use vouchsafe_attestation::Mode;
use vouchsafe_policies::Appraised;

use crate::{BodiesVerdict, CustomerError, Pinned, RECEIPT_PROVES_NO_TIME, ReceiptVerdict};

/// The first line of every table: the verdict in one sentence.
#[must_use]
pub fn headline(appraised: &Appraised) -> String {
    appraised.to_string().lines().next().unwrap_or_default().to_owned()
}

/// The verdict over a live connection.
#[must_use]
pub fn table(pinned: &Pinned) -> String {
    let record = pinned.record();
    let facts = [
        ("address", pinned.address().to_owned()),
        ("attested at", format!("{} (this machine's clock)", pinned.attested_at())),
        ("TLS", format!("1.3, {}", pinned.tls_group())),
        ("TLS key", format!("SHA-256 {}", hex::encode(record.spki_sha256))),
        ("place in tree", format!("{} of {}", record.merkle.index + 1, record.merkle.size)),
    ];
    whole(pinned.appraised(), "This connection", &facts)
}

/// The verdict over a receipt.
#[must_use]
pub fn receipt_table(verdict: &ReceiptVerdict) -> String {
    let statement = verdict.statement();
    let bodies = match verdict.bodies() {
        BodiesVerdict::Equal => "request and response are the ones that the statement names",
        BodiesVerdict::NotGiven => "not given: the statement names the model, and data that was not compared",
    };
    let facts = [
        ("receipt", format!("SHA-256 {}", hex::encode(verdict.digest()))),
        ("model", format!("{} sequence {}", statement.model_id, statement.sequence)),
        ("manifest", format!("SHA-256 {}", hex::encode(statement.manifest_digest))),
        ("usage policy", format!("SHA-256 {}", hex::encode(statement.usage_policy_digest))),
        ("signature", "Ed25519 by the session's receipt key, which the evidence binds".to_owned()),
        ("bodies", bodies.to_owned()),
        ("assumed time", verdict.at().to_string()),
    ];
    let mut text = whole(verdict.appraised(), "This receipt", &facts);
    text.push_str("  - ");
    text.push_str(RECEIPT_PROVES_NO_TIME);
    text.push('\n');
    text
}

/// A failure: the fact, each finding where there are any, the code, advice. `mode` is the policy's.
#[must_use]
pub fn refusal_table(error: &CustomerError, mode: Mode) -> String {
    let mut text = String::new();
    match error {
        // Its own headline says SIMULATED.
        CustomerError::Refused(refusal) => {
            text.push_str(&refusal.table());
            text.push('\n');
            for reason in &refusal.reasons {
                line(&mut text, format_args!("{}: {}", reason.code, reason.check));
                line(&mut text, format_args!("  expected  {}", reason.expected));
                line(&mut text, format_args!("  found     {}", reason.actual));
                line(&mut text, format_args!("  remedy    {}", reason.remedy));
            }
        }
        other => {
            let word = if mode == Mode::Simulation { "SIMULATED: " } else { "" };
            line(&mut text, format_args!("{word}refused: {other}"));
        }
    }
    line(&mut text, format_args!("code      {}", error.codes().join(" ")));
    line(&mut text, format_args!("what now  {}", error.advice()));
    text
}

fn whole(appraised: &Appraised, title: &str, facts: &[(&str, String)]) -> String {
    let shown = appraised.to_string();
    let (headline, rest) = shown.split_once('\n').unwrap_or((&shown, ""));
    let mut text = format!("{headline}\n\n{title}\n");
    for (name, fact) in facts {
        line(&mut text, format_args!("  {name:14}{fact}"));
    }
    text.push_str("\nIs the evidence genuine? Verified by this program, step by step\n");
    for step in appraised.authentic().steps() {
        line(&mut text, format_args!("  {:2}  {:24}{}", step.number, step.name, step.detail));
    }
    text.push_str("\nDo we want it? Appraised under the policy\n");
    text.push_str(rest);
    text
}

fn line(text: &mut String, args: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _written = text.write_fmt(args);
    text.push('\n');
}
