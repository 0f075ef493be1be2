//! What is remembered about sandboxes between reconciles. All of it may be forgotten at any time at the price of a
//! request too many: what matters is in the API server.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use api::CodeSandbox;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::ResourceExt;

use crate::{call::Kind, events::Notice, observe::Refusal, time};

/// The first pause after a failure.
const FIRST: Duration = Duration::from_millis(5);
/// The first pause after a refusal: somebody has to change something before it makes sense to ask again.
const FIRST_REFUSED: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST: Duration = Duration::from_mins(1);
/// How many of our own writes the watch may be behind by and still be recognised as behind.
const MAX_SUPERSEDED: usize = 8;

/// The memory of one namespace, by the names of its sandboxes. The lock is held for a few instructions at a time.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    entries: Mutex<HashMap<String, Entry>>,
}

#[derive(Debug, Default)]
struct Entry {
    uid: Option<String>,
    failures: u32,
    refusals: u32,
    refusal: Option<Refusal>,
    /// When it was first seen, until it was ready or unless it was there before us.
    born: Option<Instant>,
    /// The sandbox as it is since our last write, until the watch has caught up with it.
    newest: Option<Arc<CodeSandbox>>,
    /// The versions that `newest` took the place of.
    superseded: VecDeque<String>,
    /// Of which end of its ttl it was warned.
    warned: Option<Timestamp>,
    /// What to tell of its end once it is gone, and of which object: we have asked for its deletion.
    last: Option<LastWords>,
}

/// The last words about a sandbox, and the object they are about.
pub(crate) type LastWords = (Vec<Notice>, ObjectReference);

impl Memory {
    /// The sandbox to judge: the watch's copy, or what our own writes made of it where the watch is behind them.
    pub(crate) fn newest(&self, sandbox: Arc<CodeSandbox>, now: Instant) -> Arc<CodeSandbox> {
        let mut entries = self.lock();
        let entry = entries.entry(sandbox.name_any()).or_default();
        if entry.uid != sandbox.metadata.uid {
            let born = sandbox.status.is_none().then_some(now);
            *entry = Entry { uid: sandbox.uid(), born, ..Entry::default() };
        }
        // It is still there.
        entry.last = None;
        let version = sandbox.metadata.resource_version.as_ref();
        match &entry.newest {
            Some(newest) if version.is_some_and(|version| entry.superseded.contains(version)) => {
                newest.clone()
            }
            _ => {
                entry.newest = None;
                entry.superseded.clear();
                sandbox
            }
        }
    }

    /// Takes note of what our write made of a sandbox.
    pub(crate) fn wrote(&self, before: &CodeSandbox, after: CodeSandbox) {
        if before.metadata.resource_version == after.metadata.resource_version {
            return;
        }
        self.with(&before.name_any(), |entry| {
            entry.superseded.extend(before.resource_version());
            while entry.superseded.len() > MAX_SUPERSEDED {
                entry.superseded.pop_front();
            }
            entry.newest = Some(Arc::new(after));
        });
    }

    /// The refusal that still holds.
    pub(crate) fn refusal(&self, name: &str, now: Timestamp) -> Option<Refusal> {
        let refusal = self.lock().get(name)?.refusal.clone()?;
        time::waits(refusal.retry_at, LONGEST, now).then_some(refusal)
    }

    /// Takes note of a refusal. Each in a row holds twice as long as the one before.
    pub(crate) fn refused(
        &self,
        name: &str,
        kind: Kind,
        object: String,
        words: String,
        now: Timestamp,
    ) -> Refusal {
        self.with(name, |entry| {
            let pause = pause(FIRST_REFUSED, entry.refusals);
            entry.refusals = entry.refusals.saturating_add(1);
            let retry_at = time::later(now, pause);
            let refusal = Refusal { kind, object, words, retry_at };
            entry.refusal = Some(refusal.clone());
            refusal
        })
    }

    /// How long to wait after a failure. Each in a row costs twice as long as the one before.
    pub(crate) fn failed(&self, name: &str) -> Duration {
        self.with(name, |entry| {
            let pause = pause(FIRST, entry.failures);
            entry.failures = entry.failures.saturating_add(1);
            pause
        })
    }

    /// Takes note that a reconcile went through, and whether the API server still refuses something.
    pub(crate) fn succeeded(&self, name: &str, refused: bool) {
        self.with(name, |entry| {
            entry.failures = 0;
            if !refused {
                (entry.refusals, entry.refusal) = (0, None);
            }
        });
    }

    /// How long a sandbox took to be ready since it was first seen; once, and only of one we saw come.
    pub(crate) fn ready(&self, name: &str, now: Instant) -> Option<Duration> {
        let born = self.lock().get_mut(name)?.born.take()?;
        Some(now.saturating_duration_since(born))
    }

    /// Whether a sandbox is yet to be warned of this end of its ttl; once for each, by each operator.
    pub(crate) fn warns(&self, name: &str, end: Timestamp) -> bool {
        self.with(name, |entry| entry.warned.replace(end) != Some(end))
    }

    /// Takes note of what to tell once a sandbox is gone whose deletion we ask for. The answer may be lost, and the watch
    /// then be the first to say that it is.
    pub(crate) fn ends(&self, name: &str, last: LastWords) {
        self.with(name, |entry| entry.last = Some(last));
    }

    /// What there is to tell of a sandbox's end, once.
    pub(crate) fn last_words(&self, name: &str) -> Option<LastWords> {
        self.lock().get_mut(name)?.last.take()
    }

    /// Forgets a sandbox that is gone.
    pub(crate) fn forget(&self, name: &str) {
        self.lock().remove(name);
    }

    fn with<T>(&self, name: &str, change: impl FnOnce(&mut Entry) -> T) -> T {
        change(self.lock().entry(name.to_owned()).or_default())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        // No change can be left half done, so what a panic left behind is as good as ever.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pause(first: Duration, before: u32) -> Duration {
    2_u32
        .checked_pow(before)
        .and_then(|times| first.checked_mul(times))
        .unwrap_or(LONGEST)
        .min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, sandbox};

    fn version(version: &str) -> CodeSandbox {
        let mut sandbox = sandbox();
        sandbox.metadata.resource_version = Some(version.into());
        sandbox
    }

    /// The version that is judged when the watch shows another.
    fn judged(memory: &Memory, shown: &str) -> String {
        memory.newest(Arc::new(version(shown)), Instant::now()).resource_version().unwrap()
    }

    #[test]
    fn a_watch_behind_our_writes_is_not_believed() {
        let memory = Memory::default();
        assert_eq!(judged(&memory, "1"), "1");
        memory.wrote(&version("1"), version("2"));
        assert_eq!(judged(&memory, "1"), "2");
        memory.wrote(&version("2"), version("3"));
        assert_eq!(judged(&memory, "1"), "3");
        assert_eq!(judged(&memory, "2"), "3");
        assert_eq!(judged(&memory, "3"), "3");
        assert_eq!(judged(&memory, "4"), "4");
        assert_eq!(judged(&memory, "1"), "1", "nothing is kept once the watch has caught up");
    }

    #[test]
    fn a_namesake_inherits_nothing() {
        let memory = Memory::default();
        judged(&memory, "1");
        memory.wrote(&version("1"), version("2"));
        memory.failed("box");
        let mut namesake = version("1");
        namesake.metadata.uid = Some("another".into());
        let judged = memory.newest(Arc::new(namesake), Instant::now());
        assert_eq!(judged.resource_version().unwrap(), "1");
        assert_eq!(memory.failed("box"), FIRST);
    }

    #[test]
    fn pauses_double_up_to_a_minute_and_start_anew_after_success() {
        let memory = Memory::default();
        let pauses: Vec<_> = (0..40).map(|_| memory.failed("box")).collect();
        assert_eq!(pauses[..3], [5, 10, 20].map(Duration::from_millis));
        assert_eq!(pauses[39], LONGEST);
        memory.succeeded("box", false);
        assert_eq!(memory.failed("box"), FIRST);
        memory.forget("box");
        assert_eq!(memory.failed("box"), FIRST);
    }

    #[test]
    fn a_refusal_holds_longer_each_time_until_there_is_none() {
        let memory = Memory::default();
        let refused =
            || memory.refused("box", Kind::Pod, "Pod box-1".into(), "no".into(), at(0)).retry_at;
        assert_eq!([refused(), refused(), refused()], [at(1), at(2), at(4)]);
        assert!(memory.refusal("box", at(3)).is_some());
        assert!(memory.refusal("box", at(4)).is_none());
        assert!(memory.refusal("box", at(-3600)).is_none(), "the clock was set back");
        memory.succeeded("box", true);
        assert_eq!(refused(), at(8));
        memory.succeeded("box", false);
        assert_eq!(refused(), at(1));
    }

    #[test]
    fn only_the_birth_of_a_sandbox_we_saw_come_is_timed_and_once() {
        let memory = Memory::default();
        let start = Instant::now();
        memory.newest(Arc::new(sandbox()), start);
        let later = start + Duration::from_secs(2);
        assert_eq!(memory.ready("box", later), Some(Duration::from_secs(2)));
        assert_eq!(memory.ready("box", later), None);

        let mut old = sandbox();
        old.metadata.uid = Some("another".into());
        old.status = Some(api::CodeSandboxStatus::default());
        memory.newest(Arc::new(old), start);
        assert_eq!(memory.ready("box", later), None);
    }
}
