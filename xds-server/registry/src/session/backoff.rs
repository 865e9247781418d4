//! When to try again, and whether the breaker is open: a plain value, so that every rule is a synchronous test.
//!
//! Delays have full jitter, because a registry that comes back meets every one of its clients at once. Only a session
//! that held proves the registry well again; one that lists and dies counts as a failure, or a registry that accepts
//! and resets would be listed twenty times a second.

use std::time::Duration;

use super::SuperviseOptions;
use crate::contract::{Breaker, Error};

/// What the end of a session means for the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    Unavailable,
    /// Refused credentials or a configuration that can't work: a person has to act, so there is no hurry.
    Refused,
    /// The registry is well, only the watch is not.
    Resync,
}

impl Cause {
    /// `None` when there is nobody left to retry for.
    pub(super) fn of(error: &Error) -> Option<Self> {
        match error {
            Error::Unavailable(_) => Some(Self::Unavailable),
            Error::Denied(_) | Error::Misconfigured(_) => Some(Self::Refused),
            Error::Resync(_) => Some(Self::Resync),
            Error::Closed => None,
        }
    }
}

/// A session that is over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) cause: Cause,
    pub(super) lived: Duration,
    /// Whether it delivered a full listing.
    pub(super) listed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) delay: Duration,
    pub(super) breaker: Breaker,
    /// The failures in a row that led here; zero for a new listing at once.
    pub(super) failures: u32,
}

#[derive(Debug)]
pub(super) struct Backoff {
    options: SuperviseOptions,
    failures: u32,
    resyncs: u32,
    breaker: Breaker,
}

impl Backoff {
    pub(super) fn new(options: SuperviseOptions) -> Self {
        Self {
            options,
            failures: 0,
            resyncs: 0,
            breaker: Breaker::Closed,
        }
    }

    /// The breaker while the next session runs.
    pub(super) fn begin(&mut self) -> Breaker {
        if self.breaker == Breaker::Open {
            self.breaker = Breaker::HalfOpen;
        }
        self.breaker
    }

    /// Decides about the next session; `random` is uniform over all of `u64`.
    pub(super) fn next(&mut self, ended: Ended, random: u64) -> Decision {
        let held = ended.listed && ended.lived >= self.options.proven;
        if held || ended.lived >= self.options.steady {
            self.failures = 0;
            self.resyncs = 0;
        }
        if ended.listed {
            self.breaker = Breaker::Closed;
        }
        if ended.cause == Cause::Resync && self.resyncs < self.options.resyncs_at_once {
            self.resyncs += 1;
            return self.decision(Duration::ZERO, 0);
        }
        if ended.cause != Cause::Resync {
            self.resyncs = 0;
        }
        self.failures = self.failures.saturating_add(1);
        self.breaker = if self.failures >= self.options.open_after {
            Breaker::Open
        } else {
            Breaker::Closed
        };
        let delay = match ended.cause {
            Cause::Unavailable | Cause::Resync => jitter(self.ceiling(self.options.backoff_base), random),
            Cause::Refused => {
                let slow = self.options.refused_base;
                (slow + jitter(self.ceiling(slow), random)).min(self.options.backoff_max)
            }
        };
        self.decision(delay, self.failures)
    }

    fn decision(&self, delay: Duration, failures: u32) -> Decision {
        Decision {
            delay,
            breaker: self.breaker,
            failures,
        }
    }

    fn ceiling(&self, base: Duration) -> Duration {
        let doublings = self.failures.saturating_sub(1).min(31);
        base.saturating_mul(1 << doublings).min(self.options.backoff_max)
    }
}

/// A delay from zero up to `ceiling`.
fn jitter(ceiling: Duration, random: u64) -> Duration {
    let nanos = (ceiling.as_nanos() * u128::from(random)) >> 64;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: u64 = u64::MAX;

    #[test]
    fn delays_double_up_to_ten_seconds_and_have_full_jitter() {
        let longest = delays(&mut backoff(), Cause::Unavailable, LONGEST, 11);
        assert_eq!(
            longest,
            [100, 200, 400, 800, 1600, 3200, 6400, 10000, 10000, 10000, 10000]
        );
        assert_eq!(delays(&mut backoff(), Cause::Unavailable, 0, 3), [0, 0, 0]);
        assert_eq!(
            delays(&mut backoff(), Cause::Unavailable, LONGEST / 2, 3),
            [50, 100, 200]
        );
    }

    #[test]
    fn a_refused_session_waits_at_least_a_second() {
        assert_eq!(delays(&mut backoff(), Cause::Refused, 0, 3), [1000, 1000, 1000]);
        let longest = delays(&mut backoff(), Cause::Refused, LONGEST, 6);
        assert_eq!(longest, [2000, 3000, 5000, 9000, 10000, 10000]);
    }

    #[test]
    fn a_broken_watch_lists_again_at_once_but_only_three_times_in_a_row() {
        let mut backoff = backoff();
        let delays = delays(&mut backoff, Cause::Resync, LONGEST, 6);
        assert_eq!(delays, [0, 0, 0, 100, 200, 400]);
        backoff.next(failed(Cause::Unavailable), 0);
        assert_eq!(backoff.next(failed(Cause::Resync), LONGEST).delay, Duration::ZERO);
    }

    #[test]
    fn the_breaker_opens_at_five_failures_probes_and_closes_on_a_listing() {
        let mut backoff = backoff();
        let seen: Vec<_> = (0..6)
            .map(|_| (backoff.begin(), backoff.next(failed(Cause::Unavailable), 0).breaker))
            .collect();
        assert_eq!(
            seen,
            [
                (Breaker::Closed, Breaker::Closed),
                (Breaker::Closed, Breaker::Closed),
                (Breaker::Closed, Breaker::Closed),
                (Breaker::Closed, Breaker::Closed),
                (Breaker::Closed, Breaker::Open),
                (Breaker::HalfOpen, Breaker::Open),
            ]
        );
        let decision = backoff.next(ended(Cause::Unavailable, 10, true), LONGEST);
        assert_eq!(
            decision,
            Decision {
                delay: jitter(Duration::from_millis(100), LONGEST),
                breaker: Breaker::Closed,
                failures: 1
            }
        );
    }

    #[test]
    fn a_session_that_held_starts_the_count_again_and_one_that_died_at_once_does_not() {
        for (last, expected) in [
            (ended(Cause::Unavailable, 5, true), 1),
            (ended(Cause::Unavailable, 60, false), 1),
            (ended(Cause::Unavailable, 4, true), 4),
            (ended(Cause::Unavailable, 59, false), 4),
        ] {
            let mut backoff = backoff();
            delays(&mut backoff, Cause::Unavailable, 0, 3);
            assert_eq!(backoff.next(last, 0).failures, expected, "{last:?}");
        }
    }

    #[test]
    fn a_very_long_outage_overflows_nothing() {
        let mut backoff = backoff();
        backoff.failures = u32::MAX;
        let delay = backoff.next(failed(Cause::Refused), LONGEST).delay;
        assert_eq!(delay, Duration::from_secs(10));
    }

    fn backoff() -> Backoff {
        Backoff::new(SuperviseOptions::default())
    }

    fn failed(cause: Cause) -> Ended {
        ended(cause, 0, false)
    }

    fn ended(cause: Cause, seconds: u64, listed: bool) -> Ended {
        Ended {
            cause,
            lived: Duration::from_secs(seconds),
            listed,
        }
    }

    /// Milliseconds, rounded: the longest jitter is one nanosecond below its ceiling.
    fn delays(backoff: &mut Backoff, cause: Cause, random: u64, count: usize) -> Vec<u128> {
        let round = |delay: Duration| (delay.as_nanos() + 500_000) / 1_000_000;
        (0..count)
            .map(|_| round(backoff.next(failed(cause), random).delay))
            .collect()
    }
}
