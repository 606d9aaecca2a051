//! Turns what became of each inference into counters, and one model's counters into the answers of the statistics routes.
//! It counts no caller, no name and no data. Times are sums of coarse bounds: two answers tell of one request no more than its bucket.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::{Extension, Json};
use serde_json::Value;
use vouchsafe_oip::{ModelStatistics, Statistics, Tally, statistics_json};

use super::models::{Path, find};
use super::session::Admitted;
use crate::error::EnclaveError;
use crate::model::Model;

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered.
    Answered,
    /// It was wrong.
    Rejected,
    /// Its caller may not, or not so often.
    Denied,
    /// The model could not answer at that time.
    Unavailable,
    /// The model, or the enclave, failed.
    Failed,
    /// The client went away.
    Cancelled,
}

impl Outcome {
    /// All of them, in the order in which they are counted.
    pub const ALL: [Self; 6] =
        [Self::Answered, Self::Rejected, Self::Denied, Self::Unavailable, Self::Failed, Self::Cancelled];

    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Rejected => "rejected",
            Self::Denied => "denied",
            Self::Unavailable => "unavailable",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// What an error means for who asked.
    #[must_use]
    pub fn of(error: &EnclaveError) -> Self {
        match error.status() {
            401 | 403 | 429 => Self::Denied,
            503 => Self::Unavailable,
            500.. => Self::Failed,
            _ => Self::Rejected,
        }
    }
}

/// Upper bounds of the latencies that are told apart; there is one more for all above.
pub const BOUNDS: [Duration; 5] = [
    Duration::from_millis(1),
    Duration::from_millis(10),
    Duration::from_millis(100),
    Duration::from_secs(1),
    Duration::from_secs(10),
];

/// The counters of one model version.
#[derive(Default)]
pub struct Counters {
    outcomes: [AtomicU64; Outcome::ALL.len()],
    latencies: [AtomicU64; BOUNDS.len() + 1],
    /// Nanoseconds in all.
    answered_ns: AtomicU64,
    failed_ns: AtomicU64,
    decode_ns: AtomicU64,
    run_ns: AtomicU64,
    encode_ns: AtomicU64,
}

/// A request under way. Dropped before [`Counted::ends`] it counts as cancelled.
pub struct Counted {
    counters: Arc<Counters>,
    started: Instant,
    ended: bool,
}

/// Where the time of an answered request went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    /// Decoding and input rules.
    pub decode: Duration,
    /// The run, with the time in the queue.
    pub run: Duration,
    /// Output rules, encoding, receipt.
    pub encode: Duration,
}

impl Counters {
    /// A request begins.
    #[must_use]
    pub fn begin(self: &Arc<Self>) -> Counted {
        Counted { counters: self.clone(), started: Instant::now(), ended: false }
    }

    /// How many requests ended so.
    #[must_use]
    pub fn outcome(&self, outcome: Outcome) -> u64 {
        self.outcomes.get(outcome as usize).map_or(0, |n| n.load(Ordering::Relaxed))
    }

    /// How many answers took at most each of [`BOUNDS`], and how many there were.
    #[must_use]
    pub fn latencies(&self) -> ([u64; BOUNDS.len()], u64) {
        let mut total = 0;
        let mut up_to = [0; BOUNDS.len()];
        for (at, count) in self.latencies.iter().enumerate() {
            total += count.load(Ordering::Relaxed);
            if let Some(bound) = up_to.get_mut(at) {
                *bound = total;
            }
        }
        (up_to, total)
    }

    fn end(&self, outcome: Outcome, took: Duration) {
        if let Some(count) = self.outcomes.get(outcome as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        match outcome {
            Outcome::Answered => {
                let at = BOUNDS.iter().position(|bound| took <= *bound).unwrap_or(BOUNDS.len());
                if let Some(count) = self.latencies.get(at) {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                add(&self.answered_ns, took);
            }
            _ => add(&self.failed_ns, took),
        }
    }

    fn statistics(&self) -> Statistics {
        let answered = self.outcome(Outcome::Answered);
        let others: u64 =
            Outcome::ALL.iter().map(|outcome| self.outcome(*outcome)).sum::<u64>().saturating_sub(answered);
        let took = |count: u64, ns: &AtomicU64| Tally { count, ns: ns.load(Ordering::Relaxed) };
        Statistics {
            // When somebody else last asked is nobody's business.
            last_inference_ms: 0,
            inference_count: answered,
            execution_count: answered,
            success: took(answered, &self.answered_ns),
            fail: took(others, &self.failed_ns),
            // The run holds it.
            queue: Tally { count: answered, ns: 0 },
            compute_input: took(answered, &self.decode_ns),
            compute_infer: took(answered, &self.run_ns),
            compute_output: took(answered, &self.encode_ns),
        }
    }
}

impl Counted {
    /// The request is answered, or refused with an error.
    pub fn ends(mut self, result: Result<Spent, &EnclaveError>) {
        self.ended = true;
        let took = self.started.elapsed();
        match result {
            Ok(spent) => {
                add(&self.counters.decode_ns, spent.decode);
                add(&self.counters.run_ns, spent.run);
                add(&self.counters.encode_ns, spent.encode);
                self.counters.end(Outcome::Answered, took);
            }
            Err(error) => self.counters.end(Outcome::of(error), took),
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if !self.ended {
            self.counters.end(Outcome::Cancelled, self.started.elapsed());
        }
    }
}

/// Adds the bound of the bucket into which the time falls: a difference of two sums says no more of one request than that.
fn add(total: &AtomicU64, took: Duration) {
    let longest = BOUNDS.last().copied().unwrap_or_default();
    // What takes longer than all of them is told in multiples of the longest.
    let times = u32::try_from(took.as_secs() / longest.as_secs().max(1)).unwrap_or(u32::MAX - 1) + 1;
    let bound = BOUNDS.into_iter().find(|bound| took <= *bound).unwrap_or(longest.saturating_mul(times));
    total.fetch_add(u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// `GET /v2/models/{model}/stats`.
///
/// # Errors
/// `MODEL_UNKNOWN`.
pub async fn one(Extension(admitted): Extension<Admitted>, path: Path) -> Result<Json<Value>, EnclaveError> {
    Ok(Json(told(&[find(&admitted, &path)?])))
}

/// `GET /v2/models/stats`.
pub async fn all(Extension(admitted): Extension<Admitted>) -> Json<Value> {
    Json(told(&admitted.generation.models))
}

fn told(models: &[Arc<Model>]) -> Value {
    let versions: Vec<String> = models.iter().map(|m| m.claim().sequence.to_string()).collect();
    let named = models.iter().zip(&versions).map(|(model, version)| ModelStatistics {
        name: &model.claim().id,
        version,
        counters: model.counters().statistics(),
    });
    statistics_json(&named.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_counts_once_by_what_became_of_it() {
        let counters = Arc::new(Counters::default());
        let spent = Spent { run: Duration::from_micros(1_999), ..Spent::default() };
        counters.begin().ends(Ok(spent));
        counters.begin().ends(Ok(spent));
        for (error, _) in [
            (EnclaveError::HeaderInvalid("x"), "rejected"),
            (EnclaveError::CallerReplayed, "denied"),
            (EnclaveError::LeaseLapsed, "unavailable"),
            (EnclaveError::System("x"), "failed"),
        ] {
            counters.begin().ends(Err(&error));
        }
        drop(counters.begin());
        let counts = Outcome::ALL.map(|outcome| (outcome.as_str(), counters.outcome(outcome)));
        let expected =
            [("answered", 2), ("rejected", 1), ("denied", 1), ("unavailable", 1), ("failed", 1), ("cancelled", 1)];
        assert_eq!(counts, expected);
        let told = counters.statistics();
        assert_eq!((told.success.count, told.fail.count, told.execution_count), (2, 5, 2));
        assert_eq!((told.compute_infer.count, told.compute_infer.ns), (2, 20_000_000), "twice up to 10 ms");
    }

    #[test]
    fn latencies_fall_into_few_buckets() {
        let counters = Counters::default();
        for ms in [0, 1, 2, 10, 11, 1000, 9999, 10_001, 100_000] {
            counters.end(Outcome::Answered, Duration::from_millis(ms));
        }
        counters.end(Outcome::Rejected, Duration::from_millis(1));
        assert_eq!(counters.latencies(), ([2, 4, 5, 6, 7], 9));
    }
}
