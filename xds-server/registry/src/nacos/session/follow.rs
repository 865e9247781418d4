//! The services that a session follows, and which of them has to be read, why, and when.
//!
//! Pure. A service is read by one question at a time. An answer that a push overtook may be older or newer than the push,
//! so it is asked for again rather than taken.

use std::collections::{BTreeMap, BTreeSet};

use leadsman_core::model::ServiceName;
use tokio::time::Instant;

use super::super::decode::Place;

/// Why a service is read. In the order of what an answer may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Why {
    /// Its turn has come. An answer that empties it is asked for twice.
    Poll,
    /// Nothing was known of it, or a push or a poll left a doubt.
    Doubt,
}

/// One question about a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) why: Why,
    /// Whether it subscribes, too.
    pub(super) subscribe: bool,
    /// The pushes that had come when it was asked.
    pushes: u64,
}

#[derive(Debug)]
struct Follow {
    place: Place,
    /// Whether the latest list of its group has it.
    listed: bool,
    subscribed: bool,
    pushes: u64,
    /// The server's clock in what was taken last.
    written: i64,
    reading: bool,
    /// It has to be read once more.
    again: Option<Why>,
    /// Its turn, where nothing is pushed.
    poll_at: Option<Instant>,
}

#[derive(Debug, Default)]
pub(super) struct Followed {
    services: BTreeMap<ServiceName, Follow>,
    /// Whose turn is next.
    polls: BTreeSet<(Instant, ServiceName)>,
}

impl Followed {
    pub(super) fn names(&self) -> impl Iterator<Item = &ServiceName> {
        self.services.keys()
    }

    pub(super) fn place(&self, name: &ServiceName) -> Option<&Place> {
        self.services.get(name).map(|follow| &follow.place)
    }

    pub(super) fn follows(&self, name: &ServiceName) -> bool {
        self.services.contains_key(name)
    }

    /// A service to be read; one that is known already is not.
    pub(super) fn discover(&mut self, name: &ServiceName, place: Place) -> Option<(Place, Turn)> {
        if self.services.contains_key(name) {
            return None;
        }
        let follow = Follow {
            place,
            listed: true,
            subscribed: false,
            pushes: 0,
            written: i64::MIN,
            reading: false,
            again: None,
            poll_at: None,
        };
        self.services.insert(name.clone(), follow);
        self.want(name, Why::Doubt)
    }

    /// The latest list of a group.
    pub(super) fn list(&mut self, group: &str, names: &BTreeSet<String>) {
        for follow in self.services.values_mut() {
            if *follow.place.group == *group {
                follow.listed = names.contains(&*follow.place.name);
            }
        }
    }

    /// The services that no list has and nobody reads.
    pub(super) fn unlisted(&self) -> Vec<ServiceName> {
        let unlisted = self
            .services
            .iter()
            .filter(|(_, follow)| !follow.listed && !follow.reading);
        unlisted.map(|(name, _)| name.clone()).collect()
    }

    pub(super) fn forget(&mut self, name: &ServiceName) -> Option<Place> {
        let follow = self.services.remove(name)?;
        if let Some(when) = follow.poll_at {
            self.polls.remove(&(when, name.clone()));
        }
        Some(follow.place)
    }

    /// The question by which a service is read, unless one is in flight already, which is then followed by another.
    pub(super) fn want(&mut self, name: &ServiceName, why: Why) -> Option<(Place, Turn)> {
        let follow = self.services.get_mut(name)?;
        if follow.reading {
            follow.again = follow.again.max(Some(why));
            return None;
        }
        follow.reading = true;
        let turn = Turn {
            why,
            subscribe: !follow.subscribed,
            pushes: follow.pushes,
        };
        Some((follow.place.clone(), turn))
    }

    /// A push came. Whether it may be taken as it is: it is not older than what was taken.
    pub(super) fn push(&mut self, name: &ServiceName, written: i64) -> bool {
        let Some(follow) = self.services.get_mut(name) else {
            return false;
        };
        follow.pushes += 1;
        let newer = written >= follow.written;
        if newer {
            follow.written = written;
        }
        newer
    }

    /// A question was answered. Whether the answer may be taken, and the question that comes next.
    pub(super) fn answered(
        &mut self,
        name: &ServiceName,
        turn: Turn,
        written: Option<i64>,
    ) -> (bool, Option<(Place, Turn)>) {
        let Some(follow) = self.services.get_mut(name) else {
            return (false, None);
        };
        follow.reading = false;
        follow.subscribed |= turn.subscribe && written.is_some();
        let overtaken = follow.pushes != turn.pushes;
        if overtaken {
            follow.again = follow.again.max(Some(turn.why));
        } else if let Some(written) = written {
            follow.written = written;
        }
        let again = follow.again.take();
        (!overtaken, again.and_then(|why| self.want(name, why)))
    }

    /// It is read again then.
    pub(super) fn poll_at(&mut self, name: &ServiceName, when: Instant) {
        let Some(follow) = self.services.get_mut(name) else {
            return;
        };
        if let Some(before) = follow.poll_at.replace(when) {
            self.polls.remove(&(before, name.clone()));
        }
        self.polls.insert((when, name.clone()));
    }

    pub(super) fn next_poll(&self) -> Option<Instant> {
        self.polls.first().map(|(when, _)| *when)
    }

    /// Whose turn has come.
    pub(super) fn due(&mut self, now: Instant) -> Option<ServiceName> {
        let due = self.next_poll().is_some_and(|when| when <= now);
        let (_, name) = due.then(|| self.polls.pop_first()).flatten()?;
        if let Some(follow) = self.services.get_mut(&name) {
            follow.poll_at = None;
        }
        Some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn followed() -> (Followed, ServiceName, Turn) {
        let mut followed = Followed::default();
        let name = ServiceName::new("a").unwrap();
        let (_, turn) = followed.discover(&name, Place::new("G", "a")).unwrap();
        (followed, name, turn)
    }

    #[test]
    fn a_service_is_subscribed_once_and_read_by_one_question_at_a_time() {
        let (mut followed, name, first) = followed();
        assert!(first.subscribe);
        assert_eq!(followed.discover(&name, Place::new("G", "a")), None);
        assert_eq!(followed.want(&name, Why::Poll), None);
        assert_eq!(followed.want(&name, Why::Doubt), None);
        let (taken, next) = followed.answered(&name, first, Some(10));
        let (_, next) = next.unwrap();
        assert_eq!((taken, next.why, next.subscribe), (true, Why::Doubt, false));
        assert_eq!(followed.answered(&name, next, Some(11)), (true, None));
        assert_eq!(
            followed.answered(&ServiceName::new("b").unwrap(), next, Some(1)),
            (false, None)
        );
    }

    #[test]
    fn a_subscription_that_failed_is_made_again() {
        let (mut followed, name, first) = followed();
        assert_eq!(followed.answered(&name, first, None), (true, None));
        let (_, next) = followed.want(&name, Why::Doubt).unwrap();
        assert!(next.subscribe);
    }

    #[test]
    fn an_answer_that_a_push_overtook_is_asked_for_again() {
        let (mut followed, name, first) = followed();
        assert!(followed.push(&name, 5));
        let (taken, next) = followed.answered(&name, first, Some(9));
        let (_, next) = next.unwrap();
        assert!(!taken && !next.subscribe);
        assert_eq!(followed.answered(&name, next, Some(9)), (true, None));
        assert!(!followed.push(&name, 8), "older than what was taken");
        assert!(followed.push(&name, 9));
        assert!(!followed.push(&ServiceName::new("b").unwrap(), 9));
    }

    #[test]
    fn what_no_list_has_is_named() {
        let (mut followed, name, first) = followed();
        followed.list("G", &BTreeSet::new());
        assert_eq!(followed.unlisted(), [], "it is being read");
        followed.answered(&name, first, Some(1));
        followed.list("other", &BTreeSet::new());
        assert_eq!(followed.unlisted(), std::slice::from_ref(&name));
        followed.list("G", &BTreeSet::from(["a".to_owned()]));
        assert_eq!(followed.unlisted(), []);
        assert_eq!(followed.forget(&name), Some(Place::new("G", "a")));
        assert!(!followed.follows(&name) && followed.want(&name, Why::Poll).is_none());
    }

    #[test]
    fn a_service_has_one_turn_however_often_it_comes_and_goes() {
        let (mut followed, name, _) = followed();
        let now = Instant::now();
        followed.poll_at(&name, now);
        followed.poll_at(&name, now + std::time::Duration::from_secs(1));
        assert_eq!(followed.due(now), None);
        followed.forget(&name);
        assert_eq!(followed.next_poll(), None);
        followed.discover(&name, Place::new("G", "a"));
        followed.poll_at(&name, now);
        assert_eq!(followed.due(now), Some(name.clone()));
        assert_eq!(followed.due(now), None);
        followed.poll_at(&ServiceName::new("b").unwrap(), now);
        assert_eq!(followed.next_poll(), None);
    }
}
