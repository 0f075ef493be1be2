//! How sandboxes that are gone came to their ends: the operator's last event about one, and what the watch showed go.
//!
//! The event is the same for every replica and outlives them, for as long as the API server keeps events: an hour. It is
//! asked for by its name, since an API server that looks for an object's events reads all of the namespace. That a sandbox was
//! deleted by somebody has no event: only who saw it knows.

use std::{collections::VecDeque, time::Duration};

use api::{CodeSandbox, condition, names};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use kube::ResourceExt;
use tokio::time::Instant;

/// How many sandboxes are remembered that the watch showed go.
const MAX_SEEN: usize = 1000;
/// How long they are remembered: as long as the API server keeps the events.
const REMEMBERED: Duration = Duration::from_hours(1);

/// How a sandbox that is gone came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The UID it had.
    pub uid: Option<String>,
    /// The principal who made it.
    pub owner: Option<String>,
    /// The installation whose operator made it.
    pub class: Option<String>,
    /// When it ended.
    pub at: Timestamp,
    /// How, as in `its ttl (1h) was over`.
    pub how: String,
}

impl End {
    /// What the operator's last event about a sandbox of this name says. Of another event nothing.
    pub(crate) fn told(event: &Event, sandbox: &str) -> Option<Self> {
        let about = &event.involved_object;
        let ours = event.reporting_component.as_deref() == Some(names::OPERATOR)
            && about.kind.as_deref() == Some("CodeSandbox")
            && about.name.as_deref() == Some(sandbox);
        if !ours {
            return None;
        }
        let annotation = |key| event.annotations().get(key).cloned();
        Some(Self {
            uid: about.uid.clone(),
            owner: annotation(names::OWNER),
            class: annotation(names::CLASS),
            at: event.event_time.as_ref()?.0,
            how: event.message.clone()?,
        })
    }

    /// What is known of a sandbox that the watch showed go, by whomever.
    fn seen(sandbox: &CodeSandbox, at: Timestamp) -> Self {
        let status = sandbox.status.as_ref().filter(|status| status.is_true(condition::FINISHED));
        let how = match status.and_then(|status| status.condition(condition::FINISHED)) {
            Some(one) => {
                format!("it was deleted; before, it had finished ({}: {})", one.reason, one.message)
            }
            None => "it was deleted".into(),
        };
        Self {
            uid: sandbox.uid(),
            owner: sandbox.annotations().get(names::OWNER).cloned(),
            class: Some(sandbox.spec.class_name.clone()),
            at,
            how,
        }
    }
}

/// The end to tell of: the operator's word about the same sandbox says more than that it went, and of two sandboxes the
/// later one is meant.
pub(crate) fn newest(told: Option<End>, seen: Option<End>) -> Option<End> {
    match (told, seen) {
        (Some(told), Some(seen)) if told.uid != seen.uid && seen.at > told.at => Some(seen),
        (told, seen) => told.or(seen),
    }
}

/// A sandbox that the watch showed go.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    name: String,
    pub(crate) end: End,
    /// When it was seen to go.
    pub(crate) since: Instant,
    /// Whether we deleted it, so that the operator will have no word about it.
    pub(crate) by_us: bool,
}

/// The sandboxes that the watch showed go, the last ones for a while.
#[derive(Debug, Default)]
pub(crate) struct Gone(VecDeque<Seen>);

impl Gone {
    pub(crate) fn see(&mut self, sandbox: &CodeSandbox, by_us: bool, since: Instant) {
        let name = sandbox.name_any();
        self.0.retain(|seen| seen.name != name && since - seen.since < REMEMBERED);
        self.0.truncate(MAX_SEEN - 1);
        self.0.push_front(Seen { name, end: End::seen(sandbox, Timestamp::now()), since, by_us });
    }

    pub(crate) fn of(&self, name: &str, now: Instant) -> Option<Seen> {
        let seen = self.0.iter().find(|seen| seen.name == name)?;
        (now - seen.since < REMEMBERED).then(|| seen.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sandbox(name: &str) -> CodeSandbox {
        CodeSandbox::new(name, api::CodeSandboxSpec::default())
    }

    #[test]
    fn so_many_are_remembered_for_so_long() {
        let (mut gone, start) = (Gone::default(), Instant::now());
        for number in 0..=MAX_SEEN {
            gone.see(&sandbox(&format!("s{number}")), false, start);
        }
        assert!(gone.of("s0", start).is_none());
        assert!(gone.of("s1", start).is_some());
        assert_eq!(gone.0.len(), MAX_SEEN);

        gone.see(&sandbox("s1"), true, start + REMEMBERED / 2);
        assert_eq!(gone.0.len(), MAX_SEEN, "one of a name");
        let later = start + REMEMBERED;
        assert!(gone.of("s1", later).is_some_and(|seen| seen.by_us));
        assert!(gone.of("s2", later).is_none());
        gone.see(&sandbox("next"), false, later);
        assert_eq!(gone.0.len(), 2);
    }

    #[test]
    fn the_operators_word_is_told_unless_a_namesake_went_since() {
        let end = |uid: &str, second| End {
            uid: Some(uid.into()),
            owner: None,
            class: None,
            at: Timestamp::from_second(second).unwrap(),
            how: String::new(),
        };
        for (told, seen, expected) in [
            (None, None, None),
            (Some(end("1", 5)), None, Some(end("1", 5))),
            (None, Some(end("1", 5)), Some(end("1", 5))),
            (Some(end("1", 5)), Some(end("1", 6)), Some(end("1", 5))),
            (Some(end("1", 5)), Some(end("2", 6)), Some(end("2", 6))),
            (Some(end("2", 6)), Some(end("1", 5)), Some(end("2", 6))),
        ] {
            assert_eq!(newest(told, seen), expected);
        }
    }
}
