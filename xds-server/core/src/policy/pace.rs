//! When a change of a service goes out.
//!
//! Envoy rebuilds its load balancer for every weight, at a cost that grows with the cluster, and merges weight changes
//! itself over one second (`update_merge_window`). So weights wait for each other; everything else goes out at once,
//! and so does the first change after quiet.

use std::time::Duration;

/// What a change of a service is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Nothing but weights.
    Weights,
    /// Membership, health, locality, source, or the cluster itself.
    Now,
}

/// The pace of one service.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    published: Option<Duration>,
}

impl Pace {
    /// The least time between two publications that change nothing but weights: Envoy's own merge window.
    pub const WEIGHTS: Duration = Duration::from_secs(1);

    /// When a change that is ready `now` may go out: at or before `now` means at once.
    pub fn due(&self, urgency: Urgency, now: Duration) -> Duration {
        match (urgency, self.published) {
            (Urgency::Now, _) | (_, None) => now,
            (Urgency::Weights, Some(published)) => published + Self::WEIGHTS,
        }
    }

    pub fn published(&mut self, now: Duration) {
        self.published = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_wait_a_second_after_the_last_publication_and_nothing_else_waits() {
        let second = Duration::from_secs;
        let mut pace = Pace::default();
        assert_eq!(
            pace.due(Urgency::Weights, second(5)),
            second(5),
            "the first change is never delayed"
        );
        pace.published(second(5));
        assert_eq!(pace.due(Urgency::Weights, second(5)), second(6));
        assert_eq!(pace.due(Urgency::Now, second(5)), second(5));
        assert!(
            pace.due(Urgency::Weights, second(9)) <= second(9),
            "after quiet it goes out at once"
        );
    }
}
