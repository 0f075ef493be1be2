//! How many calls, how they ended, how long they took.

use std::{sync::Mutex, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, text::encode},
    metrics::{counter::Counter, family::Family, histogram::Histogram},
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

/// The metrics of this process.
pub(crate) struct Metrics {
    registry: Mutex<Registry>,
    calls: Family<CallLabels, Counter>,
    seconds: Family<ToolLabel, Histogram>,
}

impl Default for Metrics {
    fn default() -> Self {
        let calls = Family::default();
        // From a live context's answer (1 ms) to the longest wait of a call (45 s).
        let buckets =
            || Histogram::new([0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0]);
        let seconds = Family::new_with_constructor(buckets as fn() -> Histogram);
        let mut registry = Registry::with_prefix("codesandbox_mcp");
        registry.register("calls", "Tool calls by tool and outcome", calls.clone());
        registry.register("call_seconds", "How long tool calls took", seconds.clone());
        Self { registry: Mutex::new(registry), calls, seconds }
    }
}

impl Metrics {
    /// Counts a call. `tool` is one of ours, never a caller's word.
    pub(crate) fn call(&self, tool: &'static str, outcome: Outcome, elapsed: Duration) {
        self.calls.get_or_create(&CallLabels { tool, outcome }).inc();
        self.seconds.get_or_create(&ToolLabel { tool }).observe(elapsed.as_secs_f64());
    }

    /// All of them, as Prometheus reads them.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        encode(&mut text, &registry).expect("a String takes everything");
        text
    }
}
