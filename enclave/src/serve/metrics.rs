//! Turns counters into the text that Prometheus reads, for the operator: `GET /metrics`.
//! It tells nothing of callers or data: ids of models as in the public claims, what became of requests, coarse times.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};

use super::Service;
use super::stats::{BOUNDS, Outcome};
use crate::model::Model;

/// The text format's name and version.
const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What is counted beside the models' own counters.
#[derive(Default)]
pub struct Metrics {
    connections: AtomicU64,
    refused: AtomicU64,
}

/// A connection that is open as long as this lives.
pub struct Connected(Arc<Service>);

impl Connected {
    /// Counts a connection.
    #[must_use]
    pub fn new(service: &Arc<Service>) -> Self {
        service.metrics.connections.fetch_add(1, Ordering::Relaxed);
        Self(service.clone())
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.metrics.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    /// A client was turned away: there were too many connections.
    pub fn turned_away(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }
}

/// `GET /metrics`.
pub async fn metrics(State(service): State<Arc<Service>>) -> Response {
    let generation = service.registry.current();
    let mut response = text(&service.metrics, &generation.models, Instant::now()).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(FORMAT));
    response
}

fn text(metrics: &Metrics, models: &[Arc<Model>], now: Instant) -> String {
    let mut out = String::new();
    let count = |n: &AtomicU64| n.load(Ordering::Relaxed);
    family(&mut out, "vouchsafe_connections", "gauge", "Open connections.");
    line(&mut out, "vouchsafe_connections", "", count(&metrics.connections));
    family(
        &mut out,
        "vouchsafe_connections_refused_total",
        "counter",
        "Connections turned away above max_connections.",
    );
    line(&mut out, "vouchsafe_connections_refused_total", "", count(&metrics.refused));
    family(&mut out, "vouchsafe_models_ready", "gauge", "Models that could answer now.");
    line(&mut out, "vouchsafe_models_ready", "", models.iter().filter(|m| m.is_ready(now)).count() as u64);
    family(&mut out, "vouchsafe_requests_total", "counter", "Inference requests by what became of them.");
    for model in models {
        for outcome in Outcome::ALL {
            let labels = format!("{},outcome=\"{}\"", labels(model), outcome.as_str());
            line(&mut out, "vouchsafe_requests_total", &labels, model.counters().outcome(outcome));
        }
    }
    // No sum: the difference of two sums around one request would be its exact time.
    family(
        &mut out,
        "vouchsafe_request_seconds",
        "histogram",
        "Time of answered inference requests inside the enclave.",
    );
    for model in models {
        let (up_to, total) = model.counters().latencies();
        let labels = labels(model);
        for (bound, count) in BOUNDS.iter().zip(up_to) {
            let labels = format!("{labels},le=\"{}\"", bound.as_secs_f64());
            line(&mut out, "vouchsafe_request_seconds_bucket", &labels, count);
        }
        line(&mut out, "vouchsafe_request_seconds_bucket", &format!("{labels},le=\"+Inf\""), total);
        line(&mut out, "vouchsafe_request_seconds_count", &labels, total);
    }
    out
}

/// A model id is of a-z 0-9 - _ . and needs no escapes.
fn labels(model: &Model) -> String {
    format!("model=\"{}\",version=\"{}\"", model.claim().id, model.claim().sequence)
}

fn family(out: &mut String, name: &str, kind: &str, help: &str) {
    // Writing into a string cannot fail.
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn line(out: &mut String, name: &str, labels: &str, value: u64) {
    let _ =
        if labels.is_empty() { writeln!(out, "{name} {value}") } else { writeln!(out, "{name}{{{labels}}} {value}") };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::EnclaveError;
    use crate::serve::stats::Spent;
    use crate::serve::tests::{long, model};

    #[test]
    fn the_text_is_the_formats_to_the_byte() {
        let model = Arc::new(model(7, "never", long()));
        model.counters().begin().ends(Err(&EnclaveError::LeaseLapsed));
        let metrics = Metrics::default();
        metrics.turned_away();
        let before = text(&metrics, std::slice::from_ref(&model), Instant::now());
        let expected = "\
# HELP vouchsafe_connections Open connections.
# TYPE vouchsafe_connections gauge
vouchsafe_connections 0
# HELP vouchsafe_connections_refused_total Connections turned away above max_connections.
# TYPE vouchsafe_connections_refused_total counter
vouchsafe_connections_refused_total 1
# HELP vouchsafe_models_ready Models that could answer now.
# TYPE vouchsafe_models_ready gauge
vouchsafe_models_ready 1
# HELP vouchsafe_requests_total Inference requests by what became of them.
# TYPE vouchsafe_requests_total counter
vouchsafe_requests_total{model=\"m\",version=\"7\",outcome=\"answered\"} 0
vouchsafe_requests_total{model=\"m\",version=\"7\",outcome=\"rejected\"} 0
vouchsafe_requests_total{model=\"m\",version=\"7\",outcome=\"denied\"} 0
vouchsafe_requests_total{model=\"m\",version=\"7\",outcome=\"unavailable\"} 1
vouchsafe_requests_total{model=\"m\",version=\"7\",outcome=\"failed\"} 0
vouchsafe_requests_total{model=\"m\",version=\"7\",outcome=\"cancelled\"} 0
# HELP vouchsafe_request_seconds Time of answered inference requests inside the enclave.
# TYPE vouchsafe_request_seconds histogram
vouchsafe_request_seconds_bucket{model=\"m\",version=\"7\",le=\"0.001\"} 0
vouchsafe_request_seconds_bucket{model=\"m\",version=\"7\",le=\"0.01\"} 0
vouchsafe_request_seconds_bucket{model=\"m\",version=\"7\",le=\"0.1\"} 0
vouchsafe_request_seconds_bucket{model=\"m\",version=\"7\",le=\"1\"} 0
vouchsafe_request_seconds_bucket{model=\"m\",version=\"7\",le=\"10\"} 0
vouchsafe_request_seconds_bucket{model=\"m\",version=\"7\",le=\"+Inf\"} 0
vouchsafe_request_seconds_count{model=\"m\",version=\"7\"} 0
";
        assert_eq!(before, expected);
        model.counters().begin().ends(Ok(Spent::default()));
        let after = text(&metrics, &[model], Instant::now());
        assert!(after.contains("outcome=\"answered\"} 1\n") && after.contains("le=\"+Inf\"} 1\n"), "{after}");
    }
}
