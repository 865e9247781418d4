//! What is held of the answers to one question: when a record that is not answered any more has gone.
//!
//! One answer without a record proves little: a server may lose an update, deny a name while it loads its zone, or answer
//! with another part of what it knows. So a record stays until a second look lacks it, too; and where records that were
//! missing come back while others are missing, the answers are parts, and their union over a window counts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hickory_proto::rr::Name;
use tokio::time::Instant;

use super::config::Config;
use super::question::{Answer, Failure, Item, Items, Outcome, Rank, Said};

/// How long an absence may keep a second look waiting, where only a cache is asked: a cache gives the same answer for as
/// long as it lives, and negative answers live for hours.
const LONGEST_DOUBT: Duration = Duration::from_secs(30);

/// Answers in a row that change as parts of a whole do: two might be instances that restart one after the other.
const TURNS: u32 = 3;
/// The bounds of a window that nobody configured.
const WINDOWS: [Duration; 2] = [Duration::from_secs(10), Duration::from_mins(10)];
/// How long, and how many, records that were let go are remembered to see whether they come back.
const MEMORY: Duration = Duration::from_mins(10);
const MAX_REMEMBERED: usize = 256;

/// The times that a configuration sets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) min_ttl: Duration,
    pub(super) max_ttl: Duration,
    pub(super) retry: Duration,
    pub(super) window: Duration,
}

impl Pace {
    pub(super) fn of(config: &Config) -> Self {
        Self {
            min_ttl: config.min_ttl,
            max_ttl: config.max_ttl,
            retry: config.retry,
            window: config.window,
        }
    }

    /// How long an answer may be used.
    fn life(&self, answer: &Answer) -> Duration {
        // A new service should not have to wait for as long as a zone lets absences be remembered.
        let most = match answer.said {
            Said::Items(_) => self.max_ttl,
            Said::Nothing { .. } => self.max_ttl.min(LONGEST_DOUBT),
        };
        answer.ttl.unwrap_or(self.retry).min(most).max(self.min_ttl)
    }
}

/// What is held of the answers to one question.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    items: BTreeMap<Item, Kept>,
    last: Option<Last>,
    failing: Option<Failing>,
    /// Records that were let go, and when.
    gone: BTreeMap<Item, Instant>,
    /// How many answers in a row have changed as parts of a whole do.
    turns: u32,
    rotation: Option<Rotation>,
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    rank: Rank,
    missing: Option<Missing>,
}

#[derive(Clone, Copy, Debug)]
struct Missing {
    since: Instant,
    /// From when on a further answer is a second look.
    again: Instant,
    /// The same for an answer out of a cache, which may be the first one again.
    cached_until: Instant,
    confirmed: bool,
}

/// The last definite answer.
#[derive(Clone, Debug)]
struct Last {
    /// `None` for an answer with records.
    nothing: Option<Nothing>,
    owner: Name,
    expires: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Nothing {
    name_exists: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Failing {
    pub(super) since: Instant,
    pub(super) last: Instant,
    pub(super) reason: String,
}

/// The answers are parts of a whole.
#[derive(Clone, Copy, Debug)]
struct Rotation {
    window: Duration,
    /// When a record that was missing last came back.
    last_return: Instant,
}

impl Held {
    /// Takes in what was answered at `now`.
    pub(super) fn hear(&mut self, outcome: &Outcome, pace: &Pace, now: Instant) {
        let answer = match outcome {
            Ok(answer) => answer,
            Err(Failure { reason, .. }) => {
                let failing = self.failing.get_or_insert_with(|| Failing {
                    since: now,
                    last: now,
                    reason: String::new(),
                });
                failing.last = now;
                failing.reason.clone_from(reason);
                return;
            }
        };
        self.failing = None;
        let nothing = match &answer.said {
            Said::Items(items) => {
                self.hear_items(items, answer, pace, now);
                None
            }
            Said::Nothing { name_exists } => {
                self.hear_missing(&Items::new(), answer, pace, now);
                Some(Nothing {
                    name_exists: *name_exists,
                })
            }
        };
        self.last = Some(Last {
            nothing,
            owner: answer.owner.clone(),
            expires: now + pace.life(answer),
        });
    }

    fn hear_items(&mut self, items: &Items, answer: &Answer, pace: &Pace, now: Instant) {
        self.gone
            .retain(|_, since| now.saturating_duration_since(*since) < MEMORY);
        self.watch_turns(items, pace.life(answer), now);
        self.hear_missing(items, answer, pace, now);
        for (item, rank) in items {
            self.gone.remove(item);
            let (rank, missing) = (*rank, None);
            self.items.insert(item.clone(), Kept { rank, missing });
        }
        // A text is one value and no set: the old one is not true beside the new one.
        if items.keys().any(|item| matches!(item, Item::Text(_))) {
            self.items.retain(|item, _| items.contains_key(item));
        }
    }

    /// Whether the answers are parts of a whole.
    fn watch_turns(&mut self, items: &Items, life: Duration, now: Instant) {
        let missing = |item: &Item| {
            self.items
                .get(item)
                .and_then(|kept| kept.missing)
                .map(|missing| missing.since)
        };
        let absent = items
            .keys()
            .filter_map(|item| missing(item).or_else(|| self.gone.get(item).copied()));
        let absence = absent.min().map(|since| now.saturating_duration_since(since));
        let last: BTreeSet<&Item> = self
            .items
            .iter()
            .filter(|(_, kept)| kept.missing.is_none())
            .map(|(item, _)| item)
            .collect();
        let lacks = last.iter().any(|item| !items.contains_key(*item));
        let changed = lacks || items.keys().any(|item| !last.contains(item));
        if !changed {
            // The same part again, out of a cache perhaps.
        } else if absence.is_some() && lacks && items.len() == last.len() {
            self.turns = self.turns.saturating_add(1);
        } else {
            self.turns = 0;
        }
        if let Some(absence) = absence.filter(|_| self.turns >= TURNS || self.rotation.is_some()) {
            let [least, most] = WINDOWS;
            let window = absence.max(life).saturating_mul(2).clamp(least, most);
            self.rotation = Some(Rotation {
                window: self.rotation.map_or(window, |rotation| rotation.window.max(window)),
                last_return: now,
            });
        }
        let calm = |rotation: &Rotation| now.saturating_duration_since(rotation.last_return) > rotation.window;
        self.rotation = self.rotation.filter(|rotation| !calm(rotation));
    }

    fn hear_missing(&mut self, items: &Items, answer: &Answer, pace: &Pace, now: Instant) {
        for (item, kept) in &mut self.items {
            if items.contains_key(item) {
                continue;
            }
            let cached_until = now + pace.life(answer).min(LONGEST_DOUBT);
            let missing = kept.missing.get_or_insert(Missing {
                since: now,
                again: if answer.authoritative {
                    now + pace.min_ttl
                } else {
                    cached_until
                },
                cached_until,
                confirmed: false,
            });
            if !answer.authoritative {
                missing.again = missing.again.max(missing.cached_until);
            }
            missing.confirmed |= now >= missing.again;
        }
    }

    /// The records that were missing twice, and for as long as they are waited for.
    pub(super) fn ripe(&self, pace: &Pace, now: Instant) -> Vec<Item> {
        let window = self.window(pace);
        let ripe = |missing: &Missing| {
            missing.confirmed && (self.says_nothing() || now.saturating_duration_since(missing.since) >= window)
        };
        let items = self
            .items
            .iter()
            .filter(|(_, kept)| kept.missing.as_ref().is_some_and(ripe));
        items.map(|(item, _)| item.clone()).collect()
    }

    /// Lets go of records.
    pub(super) fn release(&mut self, items: &[Item], now: Instant) {
        for item in items {
            self.items.remove(item);
            if self.gone.len() < MAX_REMEMBERED {
                self.gone.insert(item.clone(), now);
            }
        }
    }

    /// When the next look is due.
    pub(super) fn due(&self, pace: &Pace, now: Instant) -> Instant {
        if self.failing.is_some() {
            return now + pace.retry;
        }
        let expires = self.last.as_ref().map_or(now, |last| last.expires);
        // Parts that rotate are no doubt; only a missing whole is.
        let doubts = self.window(pace).is_zero() || self.says_nothing();
        let missing = self.items.values().filter_map(|kept| kept.missing).filter(|_| doubts);
        // A second look that could not be believed is repeated without haste.
        let again = missing.map(|missing| {
            if missing.confirmed {
                now + pace.retry
            } else {
                missing.again.max(now + pace.min_ttl)
            }
        });
        again.chain([expires]).min().unwrap_or(expires)
    }

    fn window(&self, pace: &Pace) -> Duration {
        let found = self.rotation.map_or(Duration::ZERO, |rotation| rotation.window);
        if pace.window.is_zero() { found } else { pace.window }
    }

    /// Everything that is taken to be there.
    pub(super) fn items(&self) -> impl Iterator<Item = (&Item, Rank)> {
        self.items.iter().map(|(item, kept)| (item, kept.rank))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Everything that the last answer lacks.
    pub(super) fn missing(&self) -> Vec<Item> {
        let missing = self.items.iter().filter(|(_, kept)| kept.missing.is_some());
        missing.map(|(item, _)| item.clone()).collect()
    }

    /// Everything that the last answer has.
    pub(super) fn present(&self) -> Vec<Item> {
        let present = self.items.iter().filter(|(_, kept)| kept.missing.is_none());
        present.map(|(item, _)| item.clone()).collect()
    }

    /// Whether there ever was a definite answer.
    pub(super) fn is_known(&self) -> bool {
        self.last.is_some()
    }

    pub(super) fn failing(&self) -> Option<&Failing> {
        self.failing.as_ref()
    }

    /// Whose records the last answer was about.
    pub(super) fn owner(&self) -> Option<&Name> {
        self.last.as_ref().map(|last| &last.owner)
    }

    /// The last definite answer was an absence.
    pub(super) fn says_nothing(&self) -> bool {
        self.last.as_ref().is_some_and(|last| last.nothing.is_some())
    }

    /// The name has records, and none of the kind that was asked for.
    pub(super) fn is_of_another_kind(&self) -> bool {
        let nothing = self.last.as_ref().and_then(|last| last.nothing);
        nothing.is_some_and(|nothing| nothing.name_exists)
    }

    /// The answers are parts of a whole.
    pub(super) fn rotates(&self) -> bool {
        self.rotation.is_some()
    }
}

#[cfg(test)]
mod tests;
