//! Points in time. Objects of the API server may name any there is, and clocks may jump: nothing here overflows, and no wait is
//! longer than it can have been meant to be.

use std::time::Duration;

use jiff::{Timestamp, TimestampArithmetic};

/// A time so much later, or the end of time.
pub(crate) fn later(time: Timestamp, by: impl Into<TimestampArithmetic>) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// How long it is until a time; nothing once it is over.
pub(crate) fn until(time: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(time.duration_since(now)).unwrap_or_default()
}

/// Whether a wait goes on that ends then. One that would end later than the longest from now was begun by a clock that was ahead,
/// of ours before it was set back or of another replica, and is not kept to.
pub(crate) fn waits(
    end: Timestamp,
    longest: impl Into<TimestampArithmetic>,
    now: Timestamp,
) -> bool {
    now < end && end <= later(now, longest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at;

    #[test]
    fn what_is_over_needs_no_waiting() {
        assert_eq!(until(at(5), at(2)), Duration::from_secs(3));
        assert_eq!(until(at(2), at(5)), Duration::ZERO);
    }

    #[test]
    fn no_time_is_later_than_the_end_of_time() {
        let minute = Duration::from_mins(1);
        assert_eq!(later(at(5), minute), at(65));
        assert_eq!(later(Timestamp::MAX, minute), Timestamp::MAX);
    }

    #[test]
    fn a_wait_that_a_clock_ahead_began_is_not_kept_to() {
        let minute = Duration::from_mins(1);
        for (end, waits) in [(100, false), (101, true), (160, true), (161, false), (7200, false)] {
            assert_eq!(super::waits(at(end), minute, at(100)), waits, "{end}");
        }
        assert!(!super::waits(Timestamp::MAX, minute, at(100)));
    }
}
