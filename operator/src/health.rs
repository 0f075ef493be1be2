//! Whether the operator is ready and alive, namespace by namespace.
//!
//! Alive is not that the process runs but that it hears of changes: a watch may be dead without knowing. So each
//! namespace is looked at once a minute, and it counts only if what is there is also what the watch says.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How often a namespace is looked at.
pub(crate) const HEARTBEAT: Duration = Duration::from_mins(1);
/// After how long without one good look the process had better be started anew.
const DEAD_AFTER: Duration = Duration::from_mins(5);

/// The health of all namespaces; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    namespaces: Arc<Mutex<BTreeMap<String, State>>>,
}

#[derive(Debug)]
struct State {
    /// What it waits for; nothing once it works.
    waiting: Option<&'static str>,
    last_beat: Instant,
}

impl Health {
    pub(crate) fn new(namespaces: &[String], now: Instant) -> Self {
        let state =
            |name: &String| (name.clone(), State { waiting: Some("starting"), last_beat: now });
        Self { namespaces: Arc::new(Mutex::new(namespaces.iter().map(state).collect())) }
    }

    /// Says what a namespace waits for.
    pub(crate) fn waits(&self, namespace: &str, what: &'static str) {
        self.with(namespace, |state| state.waiting = Some(what));
    }

    /// Says that a namespace's caches are filled.
    pub(crate) fn works(&self, namespace: &str) {
        self.with(namespace, |state| state.waiting = None);
    }

    /// Says that a namespace was looked at and its watch is right, or that we know why there is none yet.
    pub(crate) fn beat(&self, namespace: &str, now: Instant) {
        self.with(namespace, |state| state.last_beat = now);
    }

    /// What is not ready yet, a line each.
    pub(crate) fn ready(&self) -> Result<(), String> {
        self.report(|state| state.waiting.map(ToOwned::to_owned))
    }

    /// What is dead, a line each.
    pub(crate) fn alive(&self, now: Instant) -> Result<(), String> {
        self.report(|state| {
            let silent = now.saturating_duration_since(state.last_beat);
            (silent > DEAD_AFTER).then(|| format!("no sign of life for {} s", silent.as_secs()))
        })
    }

    fn with(&self, namespace: &str, change: impl FnOnce(&mut State)) {
        let mut namespaces = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = namespaces.get_mut(namespace) {
            change(state);
        }
    }

    fn report(&self, wrong: impl Fn(&State) -> Option<String>) -> Result<(), String> {
        let namespaces = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        let mut report = String::new();
        for (namespace, state) in namespaces.iter() {
            if let Some(what) = wrong(state) {
                // Writing to a String cannot fail.
                let _ = writeln!(report, "{namespace}: {what}");
            }
        }
        if report.is_empty() { Ok(()) } else { Err(report) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_namespace_has_to_be_ready_and_the_report_names_those_that_are_not() {
        let health = Health::new(&["a".into(), "b".into()], Instant::now());
        health.works("a");
        health.waits("b", "waiting for the CustomResourceDefinition");
        assert_eq!(health.ready().unwrap_err(), "b: waiting for the CustomResourceDefinition\n");
        health.works("b");
        assert_eq!(health.ready(), Ok(()));
    }

    #[test]
    fn one_silent_namespace_is_enough_to_be_dead() {
        let start = Instant::now();
        let health = Health::new(&["a".into(), "b".into()], start);
        let later = start + DEAD_AFTER + Duration::from_secs(1);
        health.beat("a", later);
        assert_eq!(health.alive(start + DEAD_AFTER), Ok(()));
        assert_eq!(health.alive(later).unwrap_err(), "b: no sign of life for 301 s\n");
    }
}
