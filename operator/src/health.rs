//! Whether the operator is ready and alive, part by part: each namespace, and the Lease where there is one.
//!
//! Alive is not that the process runs but that it hears of changes: a watch may be dead without knowing. So each
//! namespace is looked at once a minute, and it counts only if what is there is also what the watch says.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How often a namespace is looked at.
pub(crate) const HEARTBEAT: Duration = Duration::from_mins(1);
/// After how long without one good look the process had better be started anew.
const DEAD_AFTER: Duration = Duration::from_mins(5);

/// The health of all parts; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health {
    parts: Arc<Mutex<BTreeMap<String, Part>>>,
}

#[derive(Debug)]
struct Part {
    state: State,
    last_beat: Instant,
}

#[derive(Debug)]
enum State {
    /// For what.
    Waits(&'static str),
    Works,
    /// Ready, for when the leader is not.
    StandsBy {
        leader: String,
    },
}

impl Health {
    /// Takes in parts that begin now.
    pub(crate) fn begins(&self, parts: &[String], now: Instant) {
        let part = || Part { state: State::Waits("starting"), last_beat: now };
        self.lock().extend(parts.iter().map(|name| (name.clone(), part())));
    }

    /// Says what a part waits for.
    pub(crate) fn waits(&self, part: &str, what: &'static str) {
        self.with(part, |part| part.state = State::Waits(what));
    }

    /// Says that a part does what it is there for: that a namespace's caches are filled, that the Lease is ours.
    pub(crate) fn works(&self, part: &str) {
        self.with(part, |part| part.state = State::Works);
    }

    /// Says that the Lease is another's.
    pub(crate) fn stands_by(&self, part: &str, leader: &str) {
        self.with(part, |part| part.state = State::StandsBy { leader: leader.to_owned() });
    }

    /// Says that a namespace was looked at and its watch is right, or that we know why there is none yet; or that
    /// there was an answer about the Lease.
    pub(crate) fn beat(&self, part: &str, now: Instant) {
        self.with(part, |part| part.last_beat = now);
    }

    /// What there is to say when all is ready, or what is not ready yet, a line each.
    pub(crate) fn ready(&self) -> Result<String, String> {
        self.report(|part| match part.state {
            State::Waits(what) => Some(what.to_owned()),
            State::Works | State::StandsBy { .. } => None,
        })?;
        let parts = self.lock();
        let leader = parts.values().find_map(|part| match &part.state {
            State::StandsBy { leader } => Some(leader),
            State::Waits(_) | State::Works => None,
        });
        Ok(leader.map_or_else(|| "ok\n".into(), |leader| format!("standing by; {leader} leads\n")))
    }

    /// What is dead, a line each.
    pub(crate) fn alive(&self, now: Instant) -> Result<String, String> {
        self.report(|part| {
            let silent = now.saturating_duration_since(part.last_beat);
            (silent > DEAD_AFTER).then(|| format!("no sign of life for {} s", silent.as_secs()))
        })?;
        Ok("ok\n".into())
    }

    fn with(&self, part: &str, change: impl FnOnce(&mut Part)) {
        if let Some(part) = self.lock().get_mut(part) {
            change(part);
        }
    }

    fn report(&self, wrong: impl Fn(&Part) -> Option<String>) -> Result<(), String> {
        let mut report = String::new();
        for (name, part) in self.lock().iter() {
            if let Some(what) = wrong(part) {
                // Writing to a String cannot fail.
                let _ = writeln!(report, "{name}: {what}");
            }
        }
        if report.is_empty() { Ok(()) } else { Err(report) }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Part>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(parts: &[&str], now: Instant) -> Health {
        let health = Health::default();
        let parts: Vec<_> = parts.iter().copied().map(ToOwned::to_owned).collect();
        health.begins(&parts, now);
        health
    }

    #[test]
    fn every_namespace_has_to_be_ready_and_the_report_names_those_that_are_not() {
        let health = health(&["a", "b"], Instant::now());
        health.works("a");
        health.waits("b", "waiting for the CustomResourceDefinition");
        assert_eq!(health.ready().unwrap_err(), "b: waiting for the CustomResourceDefinition\n");
        health.works("b");
        assert_eq!(health.ready(), Ok("ok\n".into()));
    }

    #[test]
    fn one_silent_namespace_is_enough_to_be_dead() {
        let start = Instant::now();
        let health = health(&["a", "b"], start);
        let later = start + DEAD_AFTER + Duration::from_secs(1);
        health.beat("a", later);
        assert_eq!(health.alive(start + DEAD_AFTER), Ok("ok\n".into()));
        assert_eq!(health.alive(later).unwrap_err(), "b: no sign of life for 301 s\n");
    }

    #[test]
    fn a_standby_is_ready_and_says_who_leads_and_is_alive_while_it_gets_answers() {
        let start = Instant::now();
        let health = health(&["ns/lease"], start);
        assert_eq!(health.ready().unwrap_err(), "ns/lease: starting\n");
        health.stands_by("ns/lease", "other");
        assert_eq!(health.ready(), Ok("standing by; other leads\n".into()));
        let later = start + DEAD_AFTER + Duration::from_secs(1);
        assert_eq!(health.alive(later).unwrap_err(), "ns/lease: no sign of life for 301 s\n");
        health.beat("ns/lease", later);
        assert_eq!(health.alive(later), Ok("ok\n".into()));
    }
}
