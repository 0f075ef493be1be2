//! How long a pool may be otherwise than its status says, where that is in passing.
//!
//! Each sandbox that takes a pod leaves one too few until another is ready, a second or two later. Said at once, that would be two
//! writes for every sandbox, and a Ready that is never the same for two seconds in a busy pool.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// The longest that it may: about as long as a node takes to make a pod.
pub(super) const LULL: Duration = Duration::from_secs(2);

/// Since when each pool has been otherwise. Forgotten, as by an operator that ends, it costs so long once more.
#[derive(Debug, Default)]
pub(crate) struct Lulls(Mutex<HashMap<String, Instant>>);

impl Lulls {
    /// How long the status of a pool that is otherwise in passing is still left as it is; none where it has been for long enough.
    pub(super) fn wait(&self, pool: &str, now: Instant) -> Option<Duration> {
        let mut begun = self.lock();
        let since = *begun.entry(pool.to_owned()).or_insert(now);
        let left = LULL.saturating_sub(now.saturating_duration_since(since));
        if left.is_zero() {
            begun.remove(pool);
        }
        (!left.is_zero()).then_some(left)
    }

    /// Takes note that a pool is as its status says, or is about to be.
    pub(super) fn end(&self, pool: &str) {
        self.lock().remove(pool);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_not_told_and_what_stays_is_after_two_seconds() {
        let (lulls, start) = (Lulls::default(), Instant::now());
        let wait = |pool, seconds| lulls.wait(pool, start + Duration::from_secs(seconds));
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(wait("a", 0), seconds(2));
        assert_eq!(wait("a", 1), seconds(1), "however often it is asked");
        assert_eq!(wait("b", 1), seconds(2));
        lulls.end("a");
        assert_eq!(wait("a", 1), seconds(2), "it was as its status says");
        assert_eq!(wait("a", 3), None);
        assert_eq!(wait("a", 3), seconds(2), "it was told");
    }
}
