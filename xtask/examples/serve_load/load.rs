//! Turns one request into a stream of it from many clients, each on one connection, and the time of every answer into exact percentiles.
//! It does not read the answers beyond their status: whoever starts it looks at one of each kind first.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::wire::{Channel, Connector, Wire};
use crate::{Job, pause};

/// What the clients of one job do.
pub struct Plan {
    /// Where, how and what.
    pub job: Arc<Job>,
    /// The request as it goes out.
    pub request: Arc<Vec<u8>>,
}

/// Opens the connections, warms them up, waits for the word to go, then asks for so many milliseconds.
///
/// # Errors
/// A peer that does not answer, or answers with another status than 200.
pub async fn run(
    plan: &Plan,
    connector: &Arc<Connector>,
    clients: usize,
    warm: usize,
    millis: u64,
) -> io::Result<Value> {
    let mut wires = Vec::with_capacity(clients);
    for _ in 0..clients {
        wires.push(connector.open(plan.job.address, plan.job.channel).await?);
    }
    let wires = together(wires.into_iter().map(|mut wire| {
        let (job, request) = (Arc::clone(&plan.job), Arc::clone(&plan.request));
        async move {
            for _ in 0..warm {
                once(&mut wire, &job, &request).await?;
            }
            Ok(wire)
        }
    }))
    .await?;
    pause()?;
    let begun = Instant::now();
    let end = begun + Duration::from_millis(millis);
    let taken = together(wires.into_iter().map(|mut wire| {
        let (job, request) = (Arc::clone(&plan.job), Arc::clone(&plan.request));
        async move {
            let mut taken = Vec::with_capacity(4096);
            let mut now = Instant::now();
            while now < end || taken.is_empty() {
                once(&mut wire, &job, &request).await?;
                let after = Instant::now();
                taken.push(after - now);
                now = after;
            }
            Ok(taken)
        }
    }))
    .await?;
    Ok(told(taken.into_iter().flatten().collect(), begun.elapsed()))
}

/// New sessions for so many milliseconds: connect, shake hands, fetch evidence, leave.
///
/// # Errors
/// A session that does not come about.
pub async fn sessions(job: &Arc<Job>, connector: &Arc<Connector>, clients: usize, millis: u64) -> io::Result<Value> {
    // The first of them wait for the first quote: they are not counted.
    drop(connector.open(job.address, Channel::Attested).await?);
    pause()?;
    let begun = Instant::now();
    let end = begun + Duration::from_millis(millis);
    let taken = together((0..clients).map(|_| {
        let (job, connector) = (Arc::clone(job), Arc::clone(connector));
        async move {
            let mut taken = Vec::new();
            let mut now = Instant::now();
            while now < end {
                drop(connector.open(job.address, Channel::Attested).await?);
                let after = Instant::now();
                taken.push(after - now);
                now = after;
            }
            Ok(taken)
        }
    }))
    .await?;
    Ok(told(taken.into_iter().flatten().collect(), begun.elapsed()))
}

async fn once(wire: &mut Wire, job: &Job, request: &[u8]) -> io::Result<()> {
    let answer = wire.ask(request).await?;
    if answer.status != 200 {
        let text = String::from_utf8_lossy(answer.body);
        return Err(io::Error::other(format!("status {}: {}", answer.status, text.get(..200).unwrap_or(&text))));
    }
    match &job.demand {
        Some(name) if answer.header(name).is_none() => Err(io::Error::other(format!("an answer without {name}"))),
        _ => Ok(()),
    }
}

/// Runs all of them on this one thread; the first error ends it.
///
/// # Errors
/// The first of theirs.
pub async fn together<T: Send + 'static>(
    futures: impl Iterator<Item = impl Future<Output = io::Result<T>> + Send + 'static>,
) -> io::Result<Vec<T>> {
    let tasks: Vec<_> = futures.map(tokio::spawn).collect();
    let mut results = Vec::with_capacity(tasks.len());
    for task in tasks {
        results.push(task.await.map_err(io::Error::other)??);
    }
    Ok(results)
}

fn told(mut taken: Vec<Duration>, elapsed: Duration) -> Value {
    taken.sort_unstable();
    let micros = |q: f64| percentile(&taken, q).map(|d| d.as_secs_f64() * 1e6);
    json!({
        "requests": taken.len(),
        "seconds": elapsed.as_secs_f64(),
        "per_s": taken.len() as f64 / elapsed.as_secs_f64(),
        "p50_us": micros(0.5),
        "p90_us": micros(0.9),
        "p99_us": micros(0.99),
        "most_us": micros(1.0),
    })
}

/// The least sample that is not below a share `q` of all: nearest rank, no interpolation.
fn percentile(sorted: &[Duration], q: f64) -> Option<Duration> {
    let rank = (q * sorted.len() as f64).ceil().max(1.0) as usize;
    sorted.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples() {
        let all: Vec<Duration> = (1..=200).map(Duration::from_micros).collect();
        let at = |q| percentile(&all, q).map(|d| d.as_micros());
        assert_eq!((at(0.5), at(0.99), at(1.0), at(0.0)), (Some(100), Some(198), Some(200), Some(1)));
        assert_eq!(percentile(&[], 0.5), None);
        let value = told(all, Duration::from_secs(2));
        assert_eq!((value["requests"].as_u64(), value["per_s"].as_f64()), (Some(200), Some(100.0)));
    }
}
