//! What is counted and timed. Labels come from small enums, so that the number of series is bounded.

use std::{sync::Arc, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, text},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use crate::call::{Kind, Verb};

/// How a reconcile ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Outcome {
    /// Nothing is left to do but to wait.
    Ok,
    /// The sandbox is another installation's.
    Ignored,
    /// The API server will not have something; the sandbox's conditions say so.
    Refused,
    /// The sandbox changed meanwhile.
    Conflict,
    /// It is tried again.
    Error,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reconcile {
    outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    verb: Verb,
    kind: Kind,
}

/// The operator's metrics; clones share them.
#[derive(Clone)]
pub(crate) struct Metrics {
    registry: Arc<Registry>,
    reconciles: Family<Reconcile, Counter>,
    durations: Histogram,
    ready: Histogram,
    requests: Family<Request, Counter>,
    dropped: Counter,
    progress: Gauge,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("codesandbox_operator");
        let reconciles = Family::default();
        registry.register("reconciles", "Reconciles by outcome", reconciles.clone());
        // 1 ms to 16 s, and 50 ms to 102 s.
        let durations = Histogram::new(exponential_buckets(0.001, 2.0, 15));
        registry.register(
            "reconcile_duration_seconds",
            "How long reconciles took",
            durations.clone(),
        );
        let ready = Histogram::new(exponential_buckets(0.05, 2.0, 12));
        registry.register(
            "ready_seconds",
            "How long sandboxes took from when the operator first saw them until they were ready",
            ready.clone(),
        );
        let requests = Family::default();
        registry.register(
            "api_requests",
            "Requests to the API server; those whose verb is neither Get nor List are writes",
            requests.clone(),
        );
        let dropped = Counter::default();
        registry.register(
            "events_dropped",
            "Events that were not written because too many waited",
            dropped.clone(),
        );
        let progress = Gauge::default();
        registry.register(
            "last_progress_timestamp_seconds",
            "When a reconcile or a look at the API server last went well",
            progress.clone(),
        );
        Self {
            registry: Arc::new(registry),
            reconciles,
            durations,
            ready,
            requests,
            dropped,
            progress,
        }
    }

    pub(crate) fn reconciled(&self, outcome: Outcome, took: Duration) {
        self.reconciles.get_or_create(&Reconcile { outcome }).inc();
        self.durations.observe(took.as_secs_f64());
    }

    pub(crate) fn ready(&self, took: Duration) {
        self.ready.observe(took.as_secs_f64());
    }

    pub(crate) fn request(&self, verb: Verb, kind: Kind) {
        self.requests.get_or_create(&Request { verb, kind }).inc();
    }

    pub(crate) fn event_dropped(&self) {
        self.dropped.inc();
    }

    pub(crate) fn progressed(&self, now: jiff::Timestamp) {
        self.progress.set(now.as_second());
    }

    /// The metrics in the text format of OpenMetrics.
    pub(crate) fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_writes_are_counted_by_verb_and_kind() {
        let metrics = Metrics::new();
        metrics.request(Verb::Create, Kind::Pod);
        metrics.request(Verb::Create, Kind::Pod);
        metrics.reconciled(Outcome::Ok, Duration::from_millis(3));
        let text = metrics.text().unwrap();
        for line in [
            r#"codesandbox_operator_api_requests_total{verb="Create",kind="Pod"} 2"#,
            r#"codesandbox_operator_reconciles_total{outcome="Ok"} 1"#,
            r#"codesandbox_operator_reconcile_duration_seconds_bucket{le="0.004"} 1"#,
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
