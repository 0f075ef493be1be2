//! How many sandboxes a caller may have at once.
//!
//! The watch shows a sandbox a moment after it was made, and several may be made at once. So those that are being made and
//! those that were made just now are counted as well. What other replicas make at the same moment is not: each may go
//! beyond the bound by what it makes before its watch shows the others'.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{Code, Error, Principal};

/// How long the watch may take to show what was made. What it has not shown by then has been deleted, or the watch is
/// broken.
const SHOWN: Duration = Duration::from_secs(10);

/// The bound, and what was made lately.
#[derive(Debug)]
pub(crate) struct Quota {
    most: Option<usize>,
    made: Mutex<HashMap<String, Made>>,
}

/// A sandbox that is being made, or was made.
#[derive(Debug)]
struct Made {
    owner: Principal,
    /// None while it is being made.
    at: Option<Instant>,
}

/// A place for a sandbox that is being made. Dropped, it is free again.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    quota: &'a Quota,
    name: &'a str,
}

impl Quota {
    pub(crate) fn new(most: Option<usize>) -> Self {
        Self { most, made: Mutex::default() }
    }

    /// Takes a place for a sandbox of an owner who is seen to have these.
    pub(crate) fn take<'a>(
        &'a self,
        owner: &Principal,
        name: &'a str,
        shown: &HashSet<String>,
        now: Instant,
    ) -> Result<Place<'a>, Error> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.retain(|name, one| one.at.is_none_or(|at| now < at + SHOWN && !shown.contains(name)));
        let unseen =
            made.iter().filter(|(name, one)| one.owner == *owner && !shown.contains(*name));
        let has = shown.len() + unseen.count();
        if let Some(most) = self.most.filter(|most| has >= *most) {
            return Err(Error::new(
                Code::QuotaExceeded,
                format!(
                    "you have {has} sandboxes, of at most {most} at once. Delete those that are not needed (sandbox_list has them), or wait for the end of their ttl."
                ),
            ));
        }
        made.insert(name.to_owned(), Made { owner: owner.clone(), at: None });
        Ok(Place { quota: self, name })
    }

    /// The sandbox of this name has been deleted. The watch may never have shown it.
    pub(crate) fn free(&self, name: &str) {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

impl Place<'_> {
    /// It is made: until the watch shows it, it keeps its place.
    pub(crate) fn keep(self, now: Instant) {
        let mut made = self.quota.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(one) = made.get_mut(self.name) {
            one.at = Some(now);
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut made = self.quota.made.lock().unwrap_or_else(PoisonError::into_inner);
        if made.get(self.name).is_some_and(|one| one.at.is_none()) {
            made.remove(self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes a place for a sandbox of mine; whether there is one.
    fn takes(quota: &Quota, name: &str, shown: &[&str], now: Instant) -> bool {
        take(quota, name, shown, now).is_ok()
    }

    fn take<'a>(
        quota: &'a Quota,
        name: &'a str,
        shown: &[&str],
        now: Instant,
    ) -> Result<Place<'a>, Error> {
        let shown = shown.iter().map(ToString::to_string).collect();
        quota.take(&Principal::new("me"), name, &shown, now)
    }

    #[test]
    fn what_is_made_counts_before_the_watch_shows_it_and_once_when_it_does() {
        let (quota, now) = (Quota::new(Some(2)), Instant::now());
        take(&quota, "a", &[], now).unwrap().keep(now);
        let second = take(&quota, "b", &[], now).unwrap();
        assert!(!takes(&quota, "c", &[], now) && !takes(&quota, "c", &["a"], now));
        // Another's place is another's.
        assert!(quota.take(&Principal::new("you"), "d", &HashSet::new(), now).is_ok());
        // It could not be made.
        drop(second);
        take(&quota, "c", &["a"], now).unwrap().keep(now);
        assert!(!takes(&quota, "e", &["a", "c"], now));
        assert!(takes(&quota, "e", &["c"], now), "one was deleted");
    }

    #[test]
    fn what_the_watch_never_shows_is_not_counted_for_ever() {
        let (quota, now) = (Quota::new(Some(1)), Instant::now());
        take(&quota, "a", &[], now).unwrap().keep(now);
        assert!(!takes(&quota, "b", &[], now + Duration::from_secs(9)));
        assert!(takes(&quota, "b", &[], now + SHOWN));
    }

    #[test]
    fn the_words_say_how_many_and_what_to_do() {
        let now = Instant::now();
        let error = take(&Quota::new(Some(1)), "b", &["a"], now).unwrap_err();
        assert_eq!(
            error.to_string(),
            "QUOTA_EXCEEDED: you have 1 sandboxes, of at most 1 at once. Delete those that are not needed (sandbox_list has them), or wait for the end of their ttl."
        );
        assert!(takes(&Quota::new(None), "b", &["a"], now));
    }
}
