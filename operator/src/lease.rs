//! Who may hold the Lease, and for how long: the rules of Kubernetes' own components (client-go).
//!
//! Nobody's clock is compared with anybody else's. A holder counts as gone when its record has not changed for as long
//! as it said that it would hold it, by our clock and from when we saw it change. The times in the record are for people.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use tokio::time::Instant;

/// For how long a holder that is silent is waited for.
pub(crate) const DURATION: Duration = Duration::from_secs(10);
/// How often a holder renews and a standby looks.
pub(crate) const RETRY: Duration = Duration::from_secs(2);
/// After how long without a renewal a holder stops. What is left of `DURATION` is for requests still on their way.
pub(crate) const GIVE_UP: Duration = Duration::from_secs(7);

/// The Lease as it was last seen.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Nothing where there was none.
    pub(crate) lease: Option<Lease>,
    /// Since when its record is known as it is, by our clock.
    since: Instant,
}

impl Seen {
    pub(crate) fn new(lease: Option<Lease>, now: Instant) -> Self {
        Self { lease, since: now }
    }

    /// Takes note of what was seen now.
    pub(crate) fn see(&mut self, lease: Option<Lease>, now: Instant) {
        if lease.as_ref().map(|lease| &lease.spec) != self.lease.as_ref().map(|lease| &lease.spec) {
            self.since = now;
        }
        self.lease = lease;
    }

    /// Who holds it; a Lease that was given up says nobody, or is empty there.
    pub(crate) fn holder(&self) -> Option<&str> {
        let holder = self.spec()?.holder_identity.as_deref();
        holder.filter(|holder| !holder.is_empty())
    }

    fn spec(&self) -> Option<&LeaseSpec> {
        self.lease.as_ref()?.spec.as_ref()
    }
}

/// What a candidate does next.
#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    /// Writes this, in place of what it saw.
    Claim(LeaseSpec),
    /// Looks again after this time.
    Wait(Duration),
}

/// What `me` does about the Lease. `now` is our clock, `time` what is written for people.
pub(crate) fn step(me: &str, seen: &Seen, now: Instant, time: Timestamp) -> Step {
    if seen.holder().is_some_and(|holder| holder != me) {
        // What the holder said, which may run another version than we do.
        let held = seen.spec().and_then(|spec| u64::try_from(spec.lease_duration_seconds?).ok());
        let until = seen.since + held.map_or(DURATION, Duration::from_secs);
        let left = until.saturating_duration_since(now);
        if !left.is_zero() {
            return Step::Wait(left.min(RETRY));
        }
    }
    Step::Claim(claim(me, seen, time))
}

/// The record with which `me` takes the Lease, or renews it.
pub(crate) fn claim(me: &str, seen: &Seen, time: Timestamp) -> LeaseSpec {
    let before = seen.spec().cloned().unwrap_or_default();
    let time = MicroTime(time);
    let (acquire_time, lease_transitions) = if seen.holder() == Some(me) {
        (before.acquire_time, before.lease_transitions)
    } else {
        let transitions = before.lease_transitions.unwrap_or_default();
        (Some(time.clone()), Some(seen.lease.as_ref().map_or(0, |_| transitions.saturating_add(1))))
    };
    LeaseSpec {
        acquire_time,
        holder_identity: Some(me.to_owned()),
        lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
        lease_transitions,
        renew_time: Some(time),
        ..before
    }
}

/// The record with which the holder gives the Lease up.
pub(crate) fn released(seen: &Seen, time: Timestamp) -> LeaseSpec {
    let before = seen.spec().cloned().unwrap_or_default();
    LeaseSpec { holder_identity: None, renew_time: Some(MicroTime(time)), ..before }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at;

    fn held(holder: &str) -> LeaseSpec {
        LeaseSpec {
            acquire_time: Some(MicroTime(at(0))),
            holder_identity: Some(holder.into()),
            lease_duration_seconds: Some(10),
            lease_transitions: Some(3),
            renew_time: Some(MicroTime(at(0))),
            ..LeaseSpec::default()
        }
    }

    fn seen(spec: LeaseSpec, since: Instant) -> Seen {
        Seen::new(Some(Lease { spec: Some(spec), ..Lease::default() }), since)
    }

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_lease_is_claimed_when_it_is_free_ours_or_unchanged_for_its_whole_duration() {
        let start = Instant::now();
        let longer = LeaseSpec { lease_duration_seconds: Some(60), ..held("other") };
        let unsaid = LeaseSpec { lease_duration_seconds: None, ..held("other") };
        let empty = LeaseSpec { holder_identity: Some(String::new()), ..held("") };
        let nobody = LeaseSpec { holder_identity: None, ..held("") };
        let mine = LeaseSpec { renew_time: Some(MicroTime(at(30))), ..held("me") };
        let taken = LeaseSpec {
            acquire_time: Some(MicroTime(at(30))),
            lease_transitions: Some(4),
            ..mine.clone()
        };
        let first = LeaseSpec { lease_transitions: Some(0), ..taken.clone() };
        let wait = |after| Step::Wait(Duration::from_millis(after));
        for (what, lease, after, expected) in [
            ("there is none", None, 0, Step::Claim(first)),
            ("nobody's", Some(nobody), 0, Step::Claim(taken.clone())),
            ("given up by a Go program", Some(empty), 0, Step::Claim(taken.clone())),
            ("ours", Some(held("me")), 0, Step::Claim(mine)),
            ("just seen", Some(held("other")), 0, wait(2000)),
            ("about to run out", Some(held("other")), 9500, wait(500)),
            ("run out", Some(held("other")), 10_000, Step::Claim(taken.clone())),
            ("held for longer than ours", Some(longer), 10_000, wait(2000)),
            ("held for a time unsaid", Some(unsaid), 10_000, Step::Claim(taken)),
        ] {
            let lease = lease.map(|spec| Lease { spec: Some(spec), ..Lease::default() });
            let now = start + Duration::from_millis(after);
            assert_eq!(step("me", &Seen::new(lease, start), now, at(30)), expected, "{what}");
        }
    }

    #[test]
    fn only_a_changed_record_starts_the_wait_anew_whatever_times_are_in_it() {
        let start = Instant::now();
        let mut seen = seen(held("other"), start);
        let same = Lease { spec: Some(held("other")), ..Lease::default() };
        seen.see(Some(same), start + seconds(9));
        assert_eq!(step("me", &seen, start + seconds(9), at(0)), Step::Wait(seconds(1)));

        // A holder whose clock is a day behind ours renews all the same.
        let behind = LeaseSpec { renew_time: Some(MicroTime(at(-86_400))), ..held("other") };
        seen.see(Some(Lease { spec: Some(behind), ..Lease::default() }), start + seconds(9));
        assert_eq!(step("me", &seen, start + seconds(18), at(0)), Step::Wait(seconds(1)));
        assert!(matches!(step("me", &seen, start + seconds(19), at(0)), Step::Claim(_)));
    }

    #[test]
    fn a_lease_that_is_given_up_is_nobodys_and_keeps_its_history() {
        let seen = seen(held("me"), Instant::now());
        let expected =
            LeaseSpec { holder_identity: None, renew_time: Some(MicroTime(at(30))), ..held("me") };
        assert_eq!(released(&seen, at(30)), expected);
    }

    #[test]
    fn a_holder_stops_before_another_may_begin() {
        assert!(GIVE_UP + crate::elector::DEADLINE <= DURATION);
    }
}
