//! What is counted and timed. Labels come from small enums, so that the number of series is bounded.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use api::{CodeSandbox, Start, StartMode, condition, reason, start};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::reflector::Store;
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

use crate::{
    call::{Kind, Verb},
    leaks::{Leak, Why},
    pool::member::{self, Counted},
};

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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByState {
    state: &'static str,
}

/// The reason is one that the operator gave, never a user's word.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Happened {
    action: &'static str,
    reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    kind: Kind,
}

/// The mode of a start is Warm or Cold, and its reason one of those there are.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Started {
    mode: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPool {
    state: Counted,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LeftOver {
    kind: Kind,
    why: Why,
}

/// What is neither ready nor has ended, by the reason of its Ready.
const UNREADY: [&str; 24] = [
    reason::TEMPLATE_NOT_FOUND,
    reason::TEMPLATE_NOT_ACCEPTED,
    reason::TEMPLATE_FORBIDS,
    reason::TEMPLATE_BOUND,
    reason::NETWORK_FORBIDDEN,
    reason::CREATING,
    reason::PROBING,
    reason::QUOTA_EXCEEDED,
    reason::SCHEDULING_GATED,
    reason::UNSCHEDULABLE,
    reason::SETTING_UP,
    reason::STARTING,
    reason::IMAGE_PULL,
    reason::START_FAILED,
    reason::AGENT_INJECTION_FAILED,
    reason::RESTARTING,
    reason::ADMISSION_REFUSED,
    reason::RUNTIME_CLASS_NOT_FOUND,
    reason::NAME_TAKEN,
    reason::POD_LOST,
    reason::TERMINATING,
    reason::NOT_ISOLATED,
    reason::SUSPENDED,
    reason::PAUSED,
];
/// The states beside those: one that has no status yet, one that takes calls, one that has ended, any other.
const NEW: &str = "New";
const READY: &str = "Ready";
const FINISHED: &str = "Finished";
const OTHER: &str = "Other";

/// The state in which a sandbox is counted.
fn state(sandbox: &CodeSandbox) -> &'static str {
    let Some(status) = &sandbox.status else { return NEW };
    if status.is_true(condition::FINISHED) {
        return FINISHED;
    }
    match status.condition(condition::READY) {
        None => NEW,
        Some(ready) if ready.status == "True" => READY,
        Some(ready) => UNREADY.into_iter().find(|reason| *reason == ready.reason).unwrap_or(OTHER),
    }
}

/// The sandboxes of a namespace, the class of those that are ours, and the pods that are or were of our pools.
struct Shown {
    sandboxes: Store<CodeSandbox>,
    class: String,
    members: Store<Pod>,
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
    leader: Gauge,
    happened: Family<Happened, Counter>,
    starts: Family<Started, Counter>,
    undecodable: Family<OfKind, Counter>,
    leaks: Family<LeftOver, Counter>,
    sandboxes: Family<ByState, Gauge>,
    members: Family<OfPool, Gauge>,
    /// What `sandboxes` and `members` are counted from whenever somebody asks.
    shown: Arc<Mutex<Vec<Shown>>>,
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
        let leader = Gauge::default();
        registry.register("leader", "1 if this operator is the one that acts", leader.clone());
        let happened = Family::default();
        registry.register(
            "sandbox_events",
            "What happened to sandboxes, as their events tell it: how they ended (Finish), what kept them from being ready (Start)",
            happened.clone(),
        );
        let starts = Family::default();
        registry.register(
            "starts",
            "Pods that sandboxes came to have: from a pool (Warm) or made for them (Cold), and why",
            starts.clone(),
        );
        let undecodable = Family::default();
        registry.register(
            "undecodable_objects",
            "Objects that were left alone since they could not be decoded",
            undecodable.clone(),
        );
        let leaks = Family::default();
        registry.register(
            "leaks_found",
            "Objects found to have outlived their sandbox (Orphaned) or their attempt (Superseded), and removed if possible",
            leaks.clone(),
        );
        let sandboxes = Family::default();
        registry.register(
            "sandboxes",
            "Sandboxes by state: the reason of Ready where they are not ready",
            sandboxes.clone(),
        );
        let members = Family::default();
        registry.register(
            "pool_pods",
            "Pods of pools by state: those that wait for a sandbox (Ready), that will (Starting), that never will (Ended), and those that sandboxes have (Claimed)",
            members.clone(),
        );
        Self {
            registry: Arc::new(registry),
            reconciles,
            durations,
            ready,
            requests,
            dropped,
            progress,
            leader,
            happened,
            starts,
            undecodable,
            leaks,
            sandboxes,
            members,
            shown: Arc::default(),
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

    /// Says that this is the operator that acts. It is until its process ends.
    pub(crate) fn leads(&self) {
        self.leader.set(1);
    }

    /// Counts a turn in the life of a sandbox.
    pub(crate) fn happened(&self, action: &'static str, reason: &str) {
        self.happened.get_or_create(&Happened { action, reason: reason.into() }).inc();
    }

    /// Counts a pod that a sandbox came to have.
    pub(crate) fn started(&self, start: &Start) {
        let mode = match start.mode {
            StartMode::Warm => "Warm",
            StartMode::Cold => "Cold",
        };
        let reason = start::ALL.into_iter().find(|reason| *reason == start.reason).unwrap_or(OTHER);
        self.starts.get_or_create(&Started { mode, reason }).inc();
    }

    pub(crate) fn undecodable(&self, kind: Kind) {
        self.undecodable.get_or_create(&OfKind { kind }).inc();
    }

    pub(crate) fn leaked(&self, leak: &Leak) {
        self.leaks.get_or_create(&LeftOver { kind: leak.object.kind, why: leak.why }).inc();
    }

    /// Has the sandboxes of a class counted that a store shows, and the pods of pools that another one does.
    pub(crate) fn shows(&self, sandboxes: Store<CodeSandbox>, class: String, members: Store<Pod>) {
        let shown = Shown { sandboxes, class, members };
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).push(shown);
    }

    /// Counts sandboxes and pods of pools; states that have none say 0.
    fn count(&self) {
        let now = Timestamp::now();
        let mut pods: BTreeMap<_, _> = Counted::ALL.into_iter().map(|state| (state, 0)).collect();
        let mut counts: BTreeMap<_, _> = UNREADY
            .into_iter()
            .chain([NEW, READY, FINISHED, OTHER])
            .map(|state| (state, 0))
            .collect();
        for Shown { sandboxes, class, members } in
            self.shown.lock().unwrap_or_else(PoisonError::into_inner).iter()
        {
            for pod in members.state() {
                *pods.entry(member::counted(&pod, now)).or_default() += 1;
            }
            for sandbox in sandboxes.state_filter(|sandbox| sandbox.spec.class_name == *class) {
                *counts.entry(state(&sandbox)).or_default() += 1;
            }
        }
        for (state, count) in counts {
            self.sandboxes.get_or_create(&ByState { state }).set(count);
        }
        for (state, count) in pods {
            self.members.get_or_create(&OfPool { state }).set(count);
        }
    }

    /// The metrics in the text format of OpenMetrics.
    pub(crate) fn text(&self) -> Result<String, std::fmt::Error> {
        self.count();
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use kube::runtime::{reflector, watcher::Event};
    use serde_json::json;

    use super::*;
    use crate::{
        pool::testing::{claim, made, pool, warm},
        testing::{at, finished, orphan, sandbox, store_of},
    };

    /// A sandbox of this name whose Ready is False for this reason, or True for none.
    fn unready(name: &str, reason: Option<&str>) -> CodeSandbox {
        let mut sandbox = sandbox();
        sandbox.metadata.name = Some(name.into());
        let status = json!({"conditions": [{
            "type": "Ready", "status": if reason.is_some() { "False" } else { "True" },
            "reason": reason.unwrap_or("PodReady"), "message": "", "lastTransitionTime": at(0).to_string(),
        }]});
        sandbox.status = Some(serde_json::from_value(status).unwrap());
        sandbox
    }

    /// The text with the series of each metric in order, which is any order.
    fn sorted(text: &str) -> String {
        let mut lines: Vec<_> = text.lines().collect();
        for series in lines.chunk_by_mut(|a, b| a.starts_with('#') == b.starts_with('#')) {
            if !series[0].starts_with('#') {
                series.sort_unstable();
            }
        }
        lines.join("\n")
    }

    #[test]
    fn the_whole_scrape_after_known_events() {
        let metrics = Metrics::new();
        metrics.leads();
        metrics.request(Verb::Create, Kind::Pod);
        metrics.request(Verb::Create, Kind::Pod);
        metrics.reconciled(Outcome::Ok, Duration::from_millis(3));
        metrics.reconciled(Outcome::Refused, Duration::from_millis(30));
        metrics.ready(Duration::from_millis(700));
        metrics.happened("Finish", "OOMKilled");
        metrics.happened("Start", reason::IMAGE_PULL);
        metrics.undecodable(Kind::CodeSandbox);
        metrics.started(&Start { mode: StartMode::Warm, reason: start::CLAIMED.into() });
        metrics.leaked(&orphan());
        metrics.event_dropped();
        metrics.progressed(at(0));

        let (store, mut writer) = reflector::store();
        let mut done = unready("done", None);
        done.status = Some(finished(at(0)));
        let mut foreign = unready("foreign", None);
        foreign.spec.class_name = "other".into();
        let ours = [
            sandbox(),
            unready("a", None),
            unready("b", None),
            unready("c", Some(reason::UNSCHEDULABLE)),
            unready("d", Some("ByALaterVersion")),
            done,
            foreign,
        ];
        for sandbox in ours {
            writer.apply_watcher_event(&Event::Apply(sandbox));
        }
        let pool = pool(3);
        let mut claimed = warm(&pool, 3, &json!({}));
        claim(&mut claimed);
        let members =
            store_of(vec![warm(&pool, 1, &json!({})), made(&pool, 2, &json!({})), claimed]);
        metrics.shows(store, "codesandbox".into(), members);
        insta::assert_snapshot!(sorted(&metrics.text().unwrap()));
    }

    #[test]
    fn a_state_without_sandboxes_says_zero_again() {
        let metrics = Metrics::new();
        let (store, mut writer) = reflector::store();
        metrics.shows(store, "codesandbox".into(), store_of(vec![]));
        writer.apply_watcher_event(&Event::Apply(sandbox()));
        let new = |count| format!("codesandbox_operator_sandboxes{{state=\"New\"}} {count}\n");
        assert!(metrics.text().unwrap().contains(&new(1)));
        writer.apply_watcher_event(&Event::Delete(sandbox()));
        assert!(metrics.text().unwrap().contains(&new(0)));
    }
}
