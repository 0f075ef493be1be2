//! Whether a caller may have one sandbox more, or one awake more.
//!
//! The watch shows what was made or woken a moment later, and several may be at once. So what is being made or woken and
//! what was just now is counted as well. What other replicas do at the same moment is not: each may go beyond the limits by
//! what it does before its watch shows the others'.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    Code, Error, Limits, Principal,
    limits::{Taken, Wish},
};

/// How long the watch may take to show what was made or woken. What it has not shown by then has been deleted, or the
/// watch is broken.
const SHOWN: Duration = Duration::from_secs(10);

/// The limits, and what was made or woken lately.
#[derive(Debug)]
pub(crate) struct Quota {
    limits: Limits,
    held: Mutex<HashMap<String, Held>>,
}

/// What a sandbox takes that is being made or woken, or was just now.
#[derive(Debug)]
struct Held {
    owner: Principal,
    taken: Taken,
    /// By how many calls that goes on.
    calls: u32,
    /// When the first of them had done it.
    at: Option<Instant>,
}

/// A sandbox as the watch shows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown {
    pub(crate) taken: Taken,
    /// Whether it is paused, as far as it shows: one that has just been woken is shown to be for a moment more.
    pub(crate) paused: bool,
}

/// What is kept for a sandbox that is being made or woken. Dropped, it is free again.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    quota: &'a Quota,
    owner: Principal,
    name: String,
    taken: Taken,
}

impl Quota {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, held: Mutex::default() }
    }

    /// Takes what a sandbox asks for, of an owner who is seen to have these.
    pub(crate) fn take(
        &self,
        owner: &Principal,
        name: &str,
        (wish, asks): (Wish<'_>, Taken),
        shown: &HashMap<String, Shown>,
        now: Instant,
    ) -> Result<Place<'_>, Error> {
        let is_shown = |name: &String| shown.get(name).is_some_and(|one| !one.paused);
        let mut held = self.held();
        held.retain(|name, one| one.at.is_none_or(|at| now < at + SHOWN && !is_shown(name)));
        let mut each: HashMap<_, _> =
            shown.iter().map(|(name, one)| (name.as_str(), one.taken)).collect();
        let unseen = held.iter().filter(|(name, one)| one.owner == *owner && !is_shown(name));
        each.extend(unseen.map(|(name, one)| (name.as_str(), one.taken)));
        let own = each.get(name).copied().unwrap_or_default();
        let has = each.into_values().sum();
        if let Some(refusal) = self.limits.refusal(wish, asks, has, own) {
            return Err(Error::new(Code::QuotaExceeded, refusal));
        }
        let one = Held { owner: owner.clone(), taken: asks, calls: 0, at: None };
        // What is asked for twice holds but once, for as long as one of them does.
        held.entry(name.to_owned()).or_insert(one).calls += 1;
        Ok(Place { quota: self, owner: owner.clone(), name: name.to_owned(), taken: asks })
    }

    /// The sandbox of this name has been deleted. The watch may never have shown it.
    pub(crate) fn free(&self, name: &str) {
        self.held().remove(name);
    }

    fn held(&self) -> MutexGuard<'_, HashMap<String, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place<'_> {
    /// It is made, or woken, or may be: until the watch shows that, it is held.
    pub(crate) fn keep(self, now: Instant) {
        let mut held = self.quota.held();
        // None where it was deleted meanwhile.
        let one = Held { owner: self.owner.clone(), taken: self.taken, calls: 1, at: None };
        held.entry(self.name.clone()).or_insert(one).at = Some(now);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut held = self.quota.held();
        let Some(one) = held.get_mut(&self.name) else { return };
        one.calls = one.calls.saturating_sub(1);
        if one.calls == 0 && one.at.is_none() {
            held.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Taken = Taken { sandboxes: 1, cpu: 2e3, memory: 1e3, gpus: 1 };
    const RESTS: Taken = Taken { sandboxes: 1, cpu: 0.0, memory: 0.0, gpus: 0 };

    /// Limits of so many sandboxes, and CPUs for two.
    fn quota(sandboxes: u32) -> Quota {
        Quota::new(Limits { sandboxes: Some(sandboxes), cpu: Some(4e3), ..Limits::default() })
    }

    /// What the watch shows: sandboxes that take all they may.
    fn awake(names: &[&str]) -> HashMap<String, Shown> {
        names.iter().map(|name| ((*name).into(), Shown { taken: ONE, paused: false })).collect()
    }

    /// Takes a place for a sandbox of mine.
    fn make<'a>(
        quota: &'a Quota,
        name: &str,
        shown: &[&str],
        now: Instant,
    ) -> Result<Place<'a>, Error> {
        quota.take(&Principal::new("me"), name, (Wish::Make, ONE), &awake(shown), now)
    }

    fn takes(quota: &Quota, name: &str, shown: &[&str], now: Instant) -> bool {
        make(quota, name, shown, now).is_ok()
    }

    #[test]
    fn what_is_made_counts_before_the_watch_shows_it_and_once_when_it_does() {
        // By its number, and by what it takes.
        for quota in [quota(2), quota(9)] {
            let now = Instant::now();
            make(&quota, "a", &[], now).unwrap().keep(now);
            let second = make(&quota, "b", &[], now).unwrap();
            // Another's place is another's.
            let you = Principal::new("you");
            assert!(quota.take(&you, "d", (Wish::Make, ONE), &awake(&[]), now).is_ok());
            assert!(!takes(&quota, "c", &[], now) && !takes(&quota, "c", &["a"], now));
            // It could not be made.
            drop(second);
            make(&quota, "c", &["a"], now).unwrap().keep(now);
            assert!(!takes(&quota, "e", &["a", "c"], now));
            assert!(takes(&quota, "e", &["c"], now), "one was deleted");
        }
    }

    #[test]
    fn what_the_watch_never_shows_is_not_counted_for_ever() {
        let (quota, now) = (quota(1), Instant::now());
        make(&quota, "a", &[], now).unwrap().keep(now);
        assert!(!takes(&quota, "b", &[], now + Duration::from_secs(9)));
        assert!(takes(&quota, "b", &[], now + SHOWN));
    }

    #[test]
    fn what_is_asked_for_again_takes_no_second_place_and_loses_not_the_first() {
        let (quota, now) = (quota(1), Instant::now());
        make(&quota, "a", &[], now).unwrap().keep(now);
        assert!(takes(&quota, "a", &[], now));
        assert!(!takes(&quota, "b", &[], now), "that of a was kept");
        assert!(takes(&quota, "a", &["a"], now));

        quota.free("a");
        let (first, second) = (make(&quota, "b", &[], now), make(&quota, "b", &[], now));
        drop(first.unwrap());
        assert!(!takes(&quota, "c", &[], now), "the second goes on");
        second.unwrap().keep(now);
        assert!(!takes(&quota, "c", &[], now));
    }

    #[test]
    fn what_is_woken_counts_before_the_watch_shows_it() {
        let (quota, now) = (quota(9), Instant::now());
        let shown = |paused: &[&str], others: &[&str]| {
            let mut shown = awake(others);
            let rest = Shown { taken: RESTS, paused: true };
            shown.extend(paused.iter().map(|name| ((*name).into(), rest)));
            shown
        };
        let me = Principal::new("me");
        let wake = |name, shown| quota.take(&me, name, (Wish::Wake(name), ONE), &shown, now);
        let make = |shown| quota.take(&me, "new", (Wish::Make, ONE), &shown, now);

        wake("a", shown(&["a", "b"], &["c"])).unwrap().keep(now);
        let refused = wake("b", shown(&["a", "b"], &["c"])).unwrap_err();
        assert_eq!(refused.code, Code::QuotaExceeded);
        assert!(make(shown(&["a", "b"], &["c"])).is_err());
        assert!(wake("a", shown(&["a", "b"], &["c"])).is_ok(), "by a second call at once");
        assert!(make(shown(&["b"], &["a", "c"])).is_err());
        // Shown awake once, it is what it is shown to be.
        assert!(make(shown(&["a", "b"], &["c"])).is_ok());
    }
}
