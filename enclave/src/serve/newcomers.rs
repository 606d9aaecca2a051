//! Turns connections that have not fetched evidence into a queue for the door: when every place is taken, the first of them leaves.
//! It protects nobody who has fetched evidence and then idles: the deadlines of requests do.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::Notify;

use super::session::Session;

/// Connections in the order in which they came.
#[derive(Default)]
pub struct Newcomers(Arc<Mutex<List>>);

#[derive(Default)]
struct List {
    next: u64,
    entries: BTreeMap<u64, Arc<Entry>>,
}

#[derive(Default)]
struct Entry {
    session: OnceLock<Arc<Session>>,
    leave: Notify,
}

/// One connection's place in the list, until this is dropped.
pub struct Newcomer {
    list: Arc<Mutex<List>>,
    number: u64,
    entry: Arc<Entry>,
}

impl Newcomers {
    /// One more came.
    #[must_use]
    pub fn add(&self) -> Newcomer {
        let entry = Arc::<Entry>::default();
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = list.next;
        list.next += 1;
        list.entries.insert(number, entry.clone());
        Newcomer { list: self.0.clone(), number, entry }
    }

    /// Tells the first that has not fetched evidence to leave. Says whether there was one.
    #[must_use]
    pub fn first_leaves(&self) -> bool {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever has fetched evidence is no newcomer any more.
        while let Some(first) = list.entries.first_entry() {
            let entry = first.remove();
            if !entry.session.get().is_some_and(|session| session.is_attested()) {
                entry.leave.notify_one();
                return true;
            }
        }
        false
    }
}

impl Newcomer {
    /// The handshake is done.
    pub fn is(&self, session: &Arc<Session>) {
        let _ = self.entry.session.set(session.clone());
    }

    /// Waits until it is told to leave.
    pub async fn leaves(&self) {
        self.entry.leave.notified().await;
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        self.list.lock().unwrap_or_else(PoisonError::into_inner).entries.remove(&self.number);
    }
}
