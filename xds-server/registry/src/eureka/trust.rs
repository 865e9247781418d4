//! Whether a full listing of a peer can be believed where it says nothing.
//!
//! Eureka keeps everything in memory, prefers answering to being right, and serves what it has got: nothing, or half,
//! when it has just started. What a listing contains is always believed. What it lacks is believed when the removal was
//! told, or when the peer shows that it has been there long enough to know. What shows it is the oldest lease in the
//! listing: a process can't have granted it before it was started.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::wire::{Record, Status};
use crate::Overdue;

/// A peer that has been up for this long has heard of every instance: from another peer when it started, or from the
/// instances' own heartbeats, which are answered with "unknown" until they register again. It is as long as Eureka
/// itself lets a peer that could not copy its registry wait.
const WARM_UP: Duration = Duration::from_secs(5 * 60);
/// A lease that is overdue by more than this should have been evicted: three minutes in the cache of the answer, half a
/// minute in the one before it, and a minute until the next eviction.
const EVICTION_SLACK: Duration = Duration::from_secs(270);

/// What happened to whose instances we knew, last confirmed when, and with whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Confirmed {
    /// The place of the peer in the configuration.
    pub(super) peer: usize,
    pub(super) at: SystemTime,
}

/// How long the process that answered has been up at least, by its own clock.
fn age(records: &[Record], date: Option<SystemTime>) -> Duration {
    let granted = records.iter().map(|record| record.lease.registered);
    let oldest = granted.filter(|moment| *moment > 0).min();
    let (Some(date), Some(oldest)) = (date, oldest) else {
        return Duration::ZERO;
    };
    let granted = UNIX_EPOCH + Duration::from_millis(oldest);
    date.duration_since(granted).unwrap_or_default()
}

/// Whether the peer had everything before it was asked for the first time.
pub(super) fn is_warm(records: &[Record], date: Option<SystemTime>) -> bool {
    age(records, date) >= WARM_UP
}

/// Whether the peer has been there since what we hold was confirmed, and was complete then.
pub(super) fn has_been_there(
    records: &[Record],
    date: Option<SystemTime>,
    confirmed: Confirmed,
    peer: usize,
    now: SystemTime,
) -> bool {
    let Ok(since) = now.duration_since(confirmed.at) else {
        return false;
    };
    // The peer that confirmed what we hold had it; another one may have been starting at that moment.
    let needed = if confirmed.peer == peer { since } else { since + WARM_UP };
    // Strictly: with a clock that stands still, or a date cut to the second, nothing is proved.
    age(records, date) > needed
}

/// Instances that are listed as up although their leases ran out: the server is protecting itself from mass eviction,
/// or has no eviction at all.
pub(super) fn overdue(records: &[Record], date: Option<SystemTime>) -> Overdue {
    let now = date.and_then(|date| date.duration_since(UNIX_EPOCH).ok());
    let Some(now) = now else { return Overdue::default() };
    let mut overdue = Overdue::default();
    for record in records
        .iter()
        .filter(|record| record.status == Status::Up && record.lease.renewed > 0)
    {
        let end = Duration::from_millis(record.lease.renewed.saturating_add(record.lease.duration));
        let since = now.saturating_sub(end);
        if since > EVICTION_SLACK {
            overdue.instances += 1;
            overdue.longest_seconds = overdue.longest_seconds.max(since.as_secs());
        }
    }
    overdue
}

#[cfg(test)]
mod tests {
    use super::super::wire::read;
    use super::*;

    /// Milliseconds since the epoch.
    const NOW: u64 = 1_795_182_000_000;

    fn at(milliseconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(milliseconds)
    }

    fn listing(leases: &[(u64, u64)]) -> Vec<Record> {
        let instance = |(number, (registered, renewed)): (usize, &(u64, u64))| {
            format!(
                r#"{{"instanceId":"{number}","status":"UP","leaseInfo":{{"registrationTimestamp":{registered},"lastRenewalTimestamp":{renewed},"durationInSecs":90}}}}"#
            )
        };
        let instances: Vec<_> = leases.iter().enumerate().map(instance).collect();
        let body = format!(
            r#"{{"applications":{{"application":{{"name":"X","instance":[{}]}}}}}}"#,
            instances.join(",")
        );
        read(body.as_bytes()).unwrap().records
    }

    #[test]
    fn a_peer_is_warm_when_its_oldest_lease_is() {
        let date = Some(at(NOW));
        assert!(is_warm(&listing(&[(NOW - 1000, NOW), (NOW - 300_000, NOW)]), date));
        assert!(!is_warm(&listing(&[(NOW - 299_000, NOW)]), date));
        assert!(!is_warm(&listing(&[]), date));
        assert!(!is_warm(&listing(&[(0, NOW)]), date));
        assert!(!is_warm(&listing(&[(NOW - 300_000, NOW)]), None));
        assert!(!is_warm(&listing(&[(NOW + 9_000_000, NOW)]), date));
        assert!(!is_warm(&listing(&[(u64::MAX, NOW)]), date));
    }

    #[test]
    fn a_lease_from_before_proves_that_the_process_is_the_one_it_was() {
        let confirmed = Confirmed {
            peer: 0,
            at: at(NOW - 10_000),
        };
        let there =
            |registered, peer| has_been_there(&listing(&[(registered, NOW)]), Some(at(NOW)), confirmed, peer, at(NOW));
        assert!(there(NOW - 11_000, 0));
        assert!(!there(NOW - 9_000, 0));
        assert!(!there(NOW - 10_000, 0));
        assert!(
            !there(NOW - 11_000, 1),
            "another peer may have been starting at that moment"
        );
        assert!(there(NOW - 311_000, 1));
    }

    #[test]
    fn the_clock_of_the_server_may_be_any() {
        let confirmed = Confirmed {
            peer: 0,
            at: at(NOW - 10_000),
        };
        let ahead = 86_400_000;
        let records = listing(&[(NOW + ahead - 9_000, NOW)]);
        assert!(!has_been_there(&records, Some(at(NOW + ahead)), confirmed, 0, at(NOW)));
        let records = listing(&[(NOW + ahead - 11_000, NOW)]);
        assert!(has_been_there(&records, Some(at(NOW + ahead)), confirmed, 0, at(NOW)));
        // Ours went back.
        assert!(!has_been_there(
            &records,
            Some(at(NOW + ahead)),
            confirmed,
            0,
            at(NOW - 60_000)
        ));
    }

    #[test]
    fn overdue_leases_are_counted_after_everything_that_delays_an_eviction() {
        let date = Some(at(NOW));
        let due = NOW - 90_000 - 270_000;
        let records = listing(&[
            (1, NOW),
            (1, due),
            (1, due - 1000),
            (1, due - 60_000),
            (1, 0),
            (1, u64::MAX),
        ]);
        assert_eq!(
            overdue(&records, date),
            Overdue {
                instances: 2,
                longest_seconds: 330
            }
        );
        assert_eq!(overdue(&records, None), Overdue::default());
    }
}
