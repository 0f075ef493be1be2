//! How many calls, how they ended, how long they took; what is open.

use std::{sync::Mutex, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Outcome {
    /// With a result.
    Ok,
    /// With an error its caller can read.
    ToolError,
    /// With an error of the protocol, such as an unknown tool.
    ProtocolError,
    /// Its caller went away.
    Cancelled,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    tool: &'static str,
    outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ToolLabel {
    tool: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabel {
    code: &'static str,
}

/// The metrics of this process.
pub(crate) struct Metrics {
    registry: Mutex<Registry>,
    calls: Family<CallLabels, Counter>,
    seconds: Family<ToolLabel, Histogram>,
    errors: Family<CodeLabel, Counter>,
    in_flight: Gauge,
    /// Connections that are open.
    pub(crate) connections: Gauge,
    streams: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        // From a live context's answer (1 ms) to the longest wait of a call (45 s).
        let buckets =
            || Histogram::new([0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0]);
        let mut metrics = Self {
            registry: Mutex::default(),
            calls: Family::default(),
            seconds: Family::new_with_constructor(buckets as fn() -> Histogram),
            errors: Family::default(),
            in_flight: Gauge::default(),
            connections: Gauge::default(),
            streams: Gauge::default(),
        };
        let mut registry = Registry::with_prefix("codesandbox_mcp");
        let Self { calls, seconds, errors, in_flight, connections, streams, .. } = &metrics;
        registry.register("calls", "Tool calls by tool and outcome", calls.clone());
        registry.register("call_seconds", "How long tool calls took", seconds.clone());
        registry.register(
            "errors",
            "Errors of tools told to callers, by stable code",
            errors.clone(),
        );
        registry.register("calls_in_flight", "Tool calls going on", in_flight.clone());
        registry.register("connections", "Open connections of clients", connections.clone());
        registry.register("exec_streams", "Open exec streams to sandboxes", streams.clone());
        metrics.registry = Mutex::new(registry);
        metrics
    }
}

impl Metrics {
    /// Counts a call as going on until the answer is dropped.
    pub(crate) fn begin(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    /// Counts a call. `tool` is one of ours, never a caller's word.
    pub(crate) fn call(&self, tool: &'static str, outcome: Outcome, elapsed: Duration) {
        self.calls.get_or_create(&CallLabels { tool, outcome }).inc();
        self.seconds.get_or_create(&ToolLabel { tool }).observe(elapsed.as_secs_f64());
    }

    /// Counts an error of a tool that a caller is told. `code` is one of ours, never a caller's word.
    pub(crate) fn error(&self, code: &'static str) {
        self.errors.get_or_create(&CodeLabel { code }).inc();
    }

    /// All of them, as Prometheus reads them; with so many exec streams open.
    pub(crate) fn text(&self, streams: usize) -> String {
        self.streams.set(i64::try_from(streams).unwrap_or(i64::MAX));
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        encode(&mut text, &registry).expect("a String takes everything");
        text
    }
}

/// A call that is going on.
pub(crate) struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metrics_as_prometheus_reads_them() {
        let metrics = Metrics::default();
        metrics.call("run_code", Outcome::Ok, Duration::from_millis(2));
        metrics.call("run_code", Outcome::ToolError, Duration::from_secs(20));
        metrics.error("SANDBOX_NOT_FOUND");
        metrics.error("FILE_NOT_FOUND");
        metrics.connections.inc();
        drop(metrics.begin());
        let _in_flight = metrics.begin();
        // The registry keeps its order, a family does not.
        let text = metrics.text(3);
        let mut lines: Vec<_> = text.lines().collect();
        lines.sort_unstable();
        insta::assert_snapshot!(lines.join("\n"));
    }
}
