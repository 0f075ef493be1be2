//! How long a pool may be otherwise than its status says, where that is in passing.
//!
//! Each sandbox that takes a pod leaves one too few until another is ready, a second or two later. Said at once, that would be two
//! writes for every sandbox, and a Ready that is never the same for two seconds in a busy pool.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

use crate::expiry;

/// The longest that it may: about as long as a node takes to make a pod.
const LULL: SignedDuration = SignedDuration::from_secs(2);

/// Since when each pool has been otherwise. Forgotten, as by an operator that ends, it costs so long once more.
#[derive(Debug, Default)]
pub(crate) struct Lulls(Mutex<HashMap<String, Timestamp>>);

impl Lulls {
    /// How long the status of a pool is still left as it is, where what it would say is said in passing.
    pub(super) fn wait(&self, pool: &str, passing: bool, now: Timestamp) -> Option<Duration> {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !passing {
            since.remove(pool);
            return None;
        }
        let until = since.entry(pool.to_owned()).or_insert(now).saturating_add(LULL).ok()?;
        if until <= now {
            since.remove(pool);
            return None;
        }
        Some(expiry::until(until, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at;

    #[test]
    fn what_passes_is_not_told_and_what_stays_is_after_two_seconds() {
        let lulls = Lulls::default();
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(lulls.wait("a", true, at(0)), seconds(2));
        assert_eq!(lulls.wait("a", true, at(1)), seconds(1), "however often it is asked");
        assert_eq!(lulls.wait("b", true, at(1)), seconds(2));
        // It is as its status says again.
        assert_eq!(lulls.wait("a", false, at(1)), None);
        assert_eq!(lulls.wait("a", true, at(1)), seconds(2));
        assert_eq!(lulls.wait("a", true, at(3)), None);
        assert_eq!(lulls.wait("a", true, at(3)), seconds(2), "it was told");
    }
}
