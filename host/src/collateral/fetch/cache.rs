//! Turns answers of a vendor's service into files, and young files back into answers.
//! It proves nothing: an answer from the cache is as little verified as one from the network.

use std::{cell::RefCell, fs, path::PathBuf};

use serde::{Deserialize, Serialize};
use vouchsafe_attestation::{encoding::serde_b64url, lp::sha256};

use super::http::Answer;
use crate::{failure::Failure, files};

/// Answers by address, one file each.
pub struct Cache {
    dir: PathBuf,
    max_age_s: u64,
    run: RefCell<Run>,
}

/// What one run took from the network and from the cache.
#[derive(Default)]
struct Run {
    fresh: Vec<Entry>,
    used: Vec<PathBuf>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    v: u32,
    url: String,
    fetched: u64,
    header: Option<String>,
    #[serde(with = "serde_b64url")]
    body: Vec<u8>,
}

const VERSION: u32 = 1;
const MAX_ENTRY: u64 = 1 << 20;

impl Cache {
    /// Answers in `dir`, used while they are younger than `max_age_s`.
    pub fn new(dir: PathBuf, max_age_s: u64) -> Self {
        Self { dir, max_age_s, run: RefCell::default() }
    }

    /// An answer and its age in seconds. What cannot be read, is too old or lies in the future is fetched again.
    pub fn find(&self, url: &str, now: u64) -> Option<(Answer, u64)> {
        let path = self.path(url);
        let bytes = files::read_input(&path, MAX_ENTRY).ok()?;
        let entry: Entry = serde_json::from_slice(&bytes).ok()?;
        let age = now.checked_sub(entry.fetched)?;
        if entry.v != VERSION || entry.url != url || age >= self.max_age_s {
            return None;
        }
        self.run.borrow_mut().used.push(path);
        Some((Answer { body: entry.body, header: entry.header }, age))
    }

    /// Remembers an answer of the network. Nobody has read it yet, so it is not kept yet.
    pub fn note(&self, url: &str, answer: &Answer, now: u64) {
        let Answer { body, header } = answer;
        let entry = Entry { v: VERSION, url: url.to_owned(), fetched: now, header: header.clone(), body: body.clone() };
        self.run.borrow_mut().fresh.push(entry);
    }

    /// Keeps the answers of the network.
    pub fn keep(&self) -> Result<(), Failure> {
        for entry in &self.run.take().fresh {
            fs::create_dir_all(&self.dir).map_err(|e| Failure::file(&self.dir, "created", &e))?;
            let bytes = serde_json::to_vec(entry).unwrap_or_default();
            files::write_atomic(&self.path(&entry.url), &bytes, 0o600, true)?;
        }
        Ok(())
    }

    /// Keeps nothing of this run, and drops what it took from the cache: the next one asks again.
    pub fn forget(&self) {
        for path in self.run.take().used {
            // One that cannot be removed is used until it is too old.
            let _ = fs::remove_file(path);
        }
    }

    fn path(&self, url: &str) -> PathBuf {
        self.dir.join(format!("{}.json", hex::encode(sha256(url.as_bytes()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_young_answers_of_the_same_address_are_used() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path().join("new"), 100);
        let answer = Answer { body: vec![1, 2], header: Some("h".to_owned()) };
        assert!(cache.find("https://a/", 1000).is_none());
        cache.note("https://a/", &answer, 1000);
        assert!(cache.find("https://a/", 1000).is_none(), "noted, not kept");
        cache.keep().unwrap();
        let (found, age) = cache.find("https://a/", 1099).unwrap();
        assert_eq!((found.body, found.header, age), (vec![1, 2], Some("h".to_owned()), 99));
        assert!(cache.find("https://a/", 1100).is_none(), "too old");
        assert!(cache.find("https://a/", 999).is_none(), "from the future");
        assert!(cache.find("https://b/", 1000).is_none(), "another address");
        // What was used in a run that came to nothing is gone, and what it got is not kept.
        cache.note("https://b/", &answer, 1000);
        cache.forget();
        cache.keep().unwrap();
        assert!(cache.find("https://a/", 1099).is_none() && cache.find("https://b/", 1000).is_none());
        fs::write(cache.path("https://a/"), "garbage").unwrap();
        assert!(cache.find("https://a/", 1000).is_none());
    }
}
