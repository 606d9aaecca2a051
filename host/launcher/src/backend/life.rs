//! Turns bytes that a guest sends into signs of life, and their absence into an alarm.
//! A sign of life says that something runs, not what.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

/// When a guest last sent a byte, and whether it has said a word yet.
pub struct Life {
    start: Instant,
    last_ms: AtomicU64,
    stirred: AtomicBool,
    spoke: AtomicBool,
}

impl Life {
    /// A guest that starts now.
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            last_ms: AtomicU64::new(0),
            stirred: AtomicBool::new(false),
            spoke: AtomicBool::new(false),
        }
    }

    /// A byte came.
    pub fn touch(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(now, Ordering::Relaxed);
        self.stirred.store(true, Ordering::Relaxed);
    }

    /// A whole word came: the enclave is there, and from now on it may be silent.
    pub fn speak(&self) {
        self.touch();
        self.spoke.store(true, Ordering::Relaxed);
    }

    /// Whether any byte came.
    pub fn stirred(&self) -> bool {
        self.stirred.load(Ordering::Relaxed)
    }

    /// Whether a whole word came.
    pub fn spoke(&self) -> bool {
        self.spoke.load(Ordering::Relaxed)
    }

    /// Returns when no byte came for `limit` before the first word; never once there was one, or without a limit.
    pub async fn silence(&self, limit: Option<Duration>) {
        let Some(limit) = limit else { return std::future::pending().await };
        loop {
            let due = self.start + Duration::from_millis(self.last_ms.load(Ordering::Relaxed)) + limit;
            if self.spoke() {
                std::future::pending::<()>().await;
            }
            if Instant::now() >= due {
                return;
            }
            sleep_until(due).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn silence_counts_from_the_last_byte_and_ends_with_the_first_word() {
        let limit = Duration::from_millis(200);
        let life = Life::new();
        assert!(!life.stirred());
        tokio::time::sleep(Duration::from_millis(100)).await;
        life.touch();
        let since = Instant::now();
        life.silence(Some(limit)).await;
        assert!(since.elapsed() >= Duration::from_millis(190), "{:?}", since.elapsed());
        assert!(life.stirred());
        life.speak();
        assert!(tokio::time::timeout(2 * limit, life.silence(Some(limit))).await.is_err());
    }
}
