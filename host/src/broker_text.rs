//! Turns leases and ledger lines into tables for people.
//! It adds nothing: `--json` prints the same records with every field, and `ledger verify` is what proves the chain.

use serde_json::Value;
use vouchsafe_broker::{
    admin::{LeaseState, LeaseView},
    event::{Enclave, Event, Id, Platform},
    ledger::Entry,
};

/// Leases, the oldest first.
pub fn leases(leases: &[LeaseView]) -> String {
    if leases.is_empty() {
        return "no leases: nothing was granted in the last day\n".to_owned();
    }
    let mut sorted: Vec<&LeaseView> = leases.iter().collect();
    sorted.sort_by_key(|l| (l.issued_at, l.lease));
    let mut rows = vec![
        ["state", "lease", "model", "version", "granted", "lapses", "requests", "mode", "machine"].map(str::to_owned),
    ];
    rows.extend(sorted.iter().map(|l| {
        [
            state(l.state).to_owned(),
            id(l.lease),
            l.model.clone(),
            l.sequence.to_string(),
            l.issued_at.to_string(),
            l.lapses_at.to_string(),
            format!("at most {}", l.max_requests),
            l.mode.to_string(),
            machine(&l.platform),
        ]
    }));
    columns(&rows)
}

/// The whole ledger, one line a record.
pub fn ledger(entries: &[Entry]) -> String {
    let mut rows = vec![["line", "time", "event", "what"].map(str::to_owned)];
    rows.extend(entries.iter().map(|entry| {
        let (event, what) = told(&entry.line.event);
        [entry.line.n.to_string(), entry.line.at.to_string(), event.to_owned(), what]
    }));
    columns(&rows)
}

/// A few records with every field.
pub fn records(entries: &[Entry]) -> String {
    let mut text = String::new();
    for entry in entries {
        let line = serde_json::to_value(&entry.line).unwrap_or_default();
        let word = |name: &str| line.get(name).map(text_of).unwrap_or_default();
        text += &format!("line {} at {}: {}\n", entry.line.n, entry.line.at, word("event"));
        let fields = line.as_object().into_iter().flatten();
        for (name, value) in fields.filter(|(name, _)| !["v", "n", "at", "event"].contains(&name.as_str())) {
            match value.as_object() {
                None => text += &format!("  {:<18} {}\n", name.replace('_', " "), text_of(value)),
                Some(inner) => inner.iter().for_each(|(name, value)| {
                    text += &format!("  {:<18} {}\n", name.replace('_', " "), text_of(value))
                }),
            }
        }
        text += &format!("  {:<18} {}\n", "hash", hex::encode(entry.hash));
    }
    text
}

/// One JSON value in a line: texts bare, lists with commas.
pub fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(text_of).collect::<Vec<_>>().join(", "),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

/// An event's name and what is worth a line of it.
fn told(event: &Event) -> (&'static str, String) {
    match event {
        Event::Created { release_key, .. } => ("created", format!("release key {release_key}")),
        Event::Started { policy_digest } => ("started", format!("policy {}", hex::encode(policy_digest))),
        Event::Torn { bytes } => ("torn", format!("{bytes} bytes of a last line that a crash had torn were cut")),
        Event::Imported { model, sequence, mode, manifest_digest, .. } => {
            let digest = hex::encode(manifest_digest);
            ("imported", format!("{model} version {sequence} for {mode}, manifest {digest}"))
        }
        Event::Granted(g) => {
            let renews = g.renews.map(|r| format!(", renews {}", id(r))).unwrap_or_default();
            let (model, sequence, lease) = (&g.model, g.sequence, id(g.lease));
            let limits = format!("{} s, {} requests", g.ttl_s, g.max_requests);
            ("granted", format!("{model} version {sequence} to {}, lease {lease}, {limits}{renews}", short(&g.enclave)))
        }
        Event::Refused(r) => {
            let who = r.enclave.as_ref().map(|e| format!(" of {}", short(e))).unwrap_or_default();
            ("refused", format!("{} at {}{who}, ticket {}", r.code, r.step, id(r.ticket)))
        }
        Event::Failed { lease, code } => ("failed", format!("{code}: nothing was sent for lease {}", id(*lease))),
        Event::ModelRevoked { model, sequence: None } => ("revoked", format!("{model}, every version")),
        Event::ModelRevoked { model, sequence: Some(sequence) } => ("revoked", format!("{model} version {sequence}")),
        Event::PlatformRevoked { platform } => ("revoked", format!("machine {}", machine(platform))),
        Event::LeaseRevoked { lease, model, sequence, .. } => {
            ("revoked", format!("lease {} and its machine's right to {model} version {sequence}", id(*lease)))
        }
        Event::FloorRaised { model, sequence } => ("floor", format!("{model} from version {sequence} on")),
    }
}

const fn state(state: LeaseState) -> &'static str {
    match state {
        LeaseState::Current => "current",
        LeaseState::Renewed => "renewed",
        LeaseState::Revoked => "revoked",
        LeaseState::Lapsed => "lapsed",
    }
}

/// Enough of a machine to tell it from others in a line.
fn short(enclave: &Enclave) -> String {
    format!("{} {} machine {}…", enclave.mode, enclave.tee, hex::encode(&enclave.platform.0[..8]))
}

fn id(id: Id) -> String {
    hex::encode(id.0)
}

fn machine(platform: &Platform) -> String {
    platform.text()
}

/// Columns as wide as their widest cell; the last one is not padded.
fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text += cells.join("  ").trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use vouchsafe_attestation::{Mode, UnixTime};
    use vouchsafe_broker::ledger::Entry;

    use super::*;

    fn entry(n: u64, event: &Value) -> Entry {
        let mut line = serde_json::json!({ "v": 1, "n": n, "at": 1_795_261_138 });
        line.as_object_mut().unwrap().extend(event.as_object().unwrap().clone());
        Entry { line: serde_json::from_value(line).unwrap(), hash: [7; 32] }
    }

    #[test]
    fn a_ledger_is_a_table_and_a_ticket_is_told_in_full() {
        let ticket = "ab".repeat(16);
        let refused =
            serde_json::json!({ "event": "refused", "ticket": ticket, "step": "attest", "code": "NONCE_USED" });
        let entries = [
            entry(9, &serde_json::json!({ "event": "floor_raised", "model": "m", "sequence": 3 })),
            entry(10, &refused),
        ];
        let table = ledger(&entries);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[0], "line  time                  event    what");
        assert_eq!(lines[1], "9     2026-11-21T11:38:58Z  floor    m from version 3 on");
        assert_eq!(lines[2], format!("10    2026-11-21T11:38:58Z  refused  NONCE_USED at attest, ticket {ticket}"));
        let told = records(&entries[1..]);
        assert!(told.contains("  code               NONCE_USED\n") && told.contains(&ticket), "{told}");
    }

    #[test]
    fn leases_are_listed_oldest_first() {
        assert!(leases(&[]).starts_with("no leases"));
        let lease = |n: u8, at: u64| LeaseView {
            lease: Id([n; 16]),
            model: "m".to_owned(),
            sequence: 1,
            mode: Mode::Simulation,
            platform: Platform([n; 64]),
            issued_at: UnixTime(at),
            lapses_at: UnixTime(at + 60),
            max_requests: 9,
            renews: None,
            state: LeaseState::Current,
        };
        let table = leases(&[lease(1, 20), lease(2, 10)]);
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[1].contains(&"02".repeat(16)) && lines[2].contains(&"01".repeat(16)), "{table}");
    }
}
