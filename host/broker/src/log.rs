//! Turns an event into one public JSON line on standard error.
//! The ledger is the record; this is for the person who watches. Only fixed words of our own fit through it.

/// Writes `{"event":…,"code":…}`. Both are constants of this program, so nothing of a peer or of a key can pass.
pub(crate) fn event(event: &'static str, code: &'static str) {
    eprintln!("{{\"event\":\"{event}\",\"code\":\"{code}\"}}");
}
