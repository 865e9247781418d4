//! When a change of a service goes out.
//!
//! Envoy rebuilds its load balancer for every weight, at a cost that grows with the cluster, and merges weight changes
//! itself over one second (`update_merge_window`). So weights wait for each other. Everything else goes out at once, and
//! so does the first change after quiet: only where a service changes on and on, as in a rollout of many instances, do
//! its changes wait for each other too, because each publication carries all of its endpoints to all of its clients.

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
    /// When everything that went out would have, had each waited for [`Pace::STORM`].
    spent: Duration,
}

impl Pace {
    /// The least time between two publications that change nothing but weights: Envoy's own merge window.
    pub const WEIGHTS: Duration = Duration::from_secs(1);
    /// The least time between two publications of a service in a storm, and so the longest that a change may wait.
    pub const STORM: Duration = Duration::from_millis(140);
    /// Publications that may follow each other at once before it is a storm. Each comes back after [`Pace::STORM`].
    pub const BURST: u32 = 4;

    /// When a change that is ready `now` may go out: at or before `now` means at once.
    pub fn due(&self, urgency: Urgency, now: Duration) -> Duration {
        match (urgency, self.published) {
            (_, None) => now,
            (Urgency::Now, Some(_)) => now.max(self.spent.saturating_sub(Self::STORM * (Self::BURST - 1))),
            (Urgency::Weights, Some(published)) => published + Self::WEIGHTS,
        }
    }

    pub fn published(&mut self, now: Duration) {
        self.published = Some(now);
        self.spent = self.spent.max(now) + Self::STORM;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_wait_a_second_after_the_last_publication_and_a_single_other_change_does_not() {
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

    #[test]
    fn a_few_changes_go_out_at_once_and_a_storm_waits_no_longer_than_its_step() {
        let mut pace = Pace::default();
        let (mut outs, mut longest) = (Vec::new(), Duration::ZERO);
        let mut oldest: Option<Duration> = None;
        // A change every 10 ms for two seconds.
        for now in (0..200).map(|step| Duration::from_millis(1000 + 10 * step)) {
            let since = *oldest.get_or_insert(now);
            if pace.due(Urgency::Now, now) <= now {
                pace.published(now);
                longest = longest.max(now - since);
                outs.push(now);
                oldest = None;
            }
        }
        let at_once = outs
            .iter()
            .take_while(|out| out.as_millis() < 1000 + 10 * u128::from(Pace::BURST));
        assert_eq!(at_once.count(), 4);
        assert!(longest <= Pace::STORM, "{longest:?}");
        assert_eq!(outs.len(), 18, "4 at once, and 14 in two seconds: {outs:?}");
        let quiet = Duration::from_secs(9);
        let mut at_once = 0;
        while pace.due(Urgency::Now, quiet) <= quiet {
            pace.published(quiet);
            at_once += 1;
        }
        assert_eq!(at_once, Pace::BURST, "after quiet there is a burst again");
    }
}
