//! Whether a server still knows everything it once knew.
//!
//! Pure. Most instances live in the memory of the server and die with it, and nothing in the protocol says that it was
//! restarted. What a server lacks after an outage was therefore removed, if it is the run of the server that had it; it
//! was removed or lost, if it is another one. The run is the same when it was silent for less time than any start takes,
//! or when it says of itself that it is.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

/// A Nacos is a Java process that takes five seconds and more to start. Signs of life that are less far apart than this
/// are of one run.
pub(super) const SHORTEST_RESTART: Duration = Duration::from_secs(2);
/// A member that has been there for so long has what the others have.
const CAUGHT_UP: Duration = Duration::from_secs(60);

/// Whom we believed, and when it was last heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Confirmed {
    /// The place of the endpoint in the configuration.
    pub(super) endpoint: usize,
    pub(super) at: Instant,
}

/// One run of a server, as it says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Which of the members it is.
    pub(super) address: String,
    /// Since when it runs. It moves without a restart, too, when the members elect a leader.
    pub(super) since: u64,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} since {}", self.address, self.since)
    }
}

/// The runs of the members.
#[derive(Debug, Default)]
pub(super) struct Epochs {
    seen: BTreeMap<usize, Seen>,
}

#[derive(Debug)]
struct Seen {
    epoch: Run,
    /// When it was seen first.
    since: Instant,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Continuity {
    /// Nothing can have been lost, and nobody can have been forgotten.
    Unbroken,
    /// The same run, but silent for a while: instances may have been thought dead meanwhile, and come back.
    Same,
    Unknown {
        why: String,
    },
}

impl Epochs {
    pub(super) fn note(&mut self, endpoint: usize, epoch: Run, now: Instant) {
        if self.seen.get(&endpoint).is_none_or(|seen| seen.epoch != epoch) {
            self.seen.insert(endpoint, Seen { epoch, since: now });
        }
    }

    /// What a member says of itself beside a session. The one that is followed may have been restarted unnoticed, unless
    /// it was heard of just before.
    pub(super) fn hear(&mut self, confirmed: Option<Confirmed>, endpoint: usize, epoch: Run, now: Instant) {
        let followed = confirmed.filter(|confirmed| confirmed.endpoint == endpoint);
        if followed.is_none_or(|followed| now.saturating_duration_since(followed.at) < SHORTEST_RESTART) {
            self.note(endpoint, epoch, now);
        }
    }

    /// What an endpoint that answered at `began` is to what we knew; `now` is its epoch, or why there is none.
    pub(super) fn judge(
        &self,
        confirmed: Confirmed,
        endpoint: usize,
        began: Instant,
        now: &Result<Run, String>,
    ) -> Continuity {
        let same_endpoint = endpoint == confirmed.endpoint;
        let silence = began.saturating_duration_since(confirmed.at);
        if same_endpoint && silence < SHORTEST_RESTART {
            return match (self.seen.get(&endpoint), now) {
                // Behind one address there may be several members.
                (Some(seen), Ok(epoch)) if seen.epoch.address != epoch.address => Continuity::Unknown {
                    why: format!("{} answers in the place of {}", epoch.address, seen.epoch.address),
                },
                _ => Continuity::Unbroken,
            };
        }
        let silent = format!("nothing was heard of the server for {} s", silence.as_secs());
        let known = match (self.seen.get(&endpoint), now) {
            (_, Err(reason)) => {
                return Continuity::Unknown {
                    why: format!("{silent}, and whether it was restarted meanwhile can't be asked: {reason}"),
                };
            }
            (None, Ok(_)) => {
                return Continuity::Unknown {
                    why: format!("{silent}, and it was not asked before since when it runs"),
                };
            }
            (Some(seen), Ok(epoch)) if seen.epoch == *epoch => seen,
            (Some(_), Ok(epoch)) => {
                return Continuity::Unknown {
                    why: format!("the server was restarted: it runs as {epoch}"),
                };
            }
        };
        if same_endpoint || known.since + CAUGHT_UP <= confirmed.at {
            Continuity::Same
        } else {
            Continuity::Unknown {
                why: "another member answers, and has not been there for long".to_owned(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn run(address: &str, since: u64) -> Run {
        Run {
            address: address.to_owned(),
            since,
        }
    }

    fn why(continuity: Continuity) -> String {
        match continuity {
            Continuity::Unbroken => "unbroken".to_owned(),
            Continuity::Same => "same".to_owned(),
            Continuity::Unknown { why } => why,
        }
    }

    #[test]
    fn a_short_silence_is_shorter_than_any_start() {
        let at = Instant::now();
        let confirmed = Confirmed { endpoint: 0, at };
        let epochs = Epochs::default();
        let none = Err("403".to_owned());
        let judge = |endpoint, began| why(epochs.judge(confirmed, endpoint, began, &none));
        assert_eq!(judge(0, at + SECOND), "unbroken");
        let long =
            "nothing was heard of the server for 2 s, and whether it was restarted meanwhile can't be asked: 403";
        assert_eq!(judge(0, at + 2 * SECOND), long);
        assert!(judge(1, at).contains("403"), "another member is another process");
    }

    #[test]
    fn another_member_behind_the_same_address_is_no_short_silence() {
        let at = Instant::now();
        let confirmed = Confirmed { endpoint: 0, at };
        let mut epochs = Epochs::default();
        epochs.note(0, run("a", 1), at);
        let judge = |now| why(epochs.judge(confirmed, 0, at + SECOND, &now));
        assert_eq!(judge(Ok(run("a", 1))), "unbroken");
        assert_eq!(judge(Ok(run("a", 2))), "unbroken", "no server starts so fast");
        assert_eq!(judge(Ok(run("b", 1))), "b answers in the place of a");
        assert_eq!(judge(Err("403".to_owned())), "unbroken");
    }

    #[test]
    fn a_long_silence_is_explained_by_the_server_itself() {
        let start = Instant::now();
        let confirmed = Confirmed {
            endpoint: 0,
            at: start + 100 * SECOND,
        };
        let began = start + 200 * SECOND;
        let mut epochs = Epochs::default();
        assert!(why(epochs.judge(confirmed, 0, began, &Ok(run("a", 1)))).contains("not asked before"));
        epochs.note(0, run("a", 1), start + 99 * SECOND);
        assert_eq!(why(epochs.judge(confirmed, 0, began, &Ok(run("a", 1)))), "same");
        assert_eq!(
            why(epochs.judge(confirmed, 0, began, &Ok(run("a", 9)))),
            "the server was restarted: it runs as a since 9"
        );
    }

    #[test]
    fn what_a_server_says_of_itself_may_change_while_it_lives() {
        let at = Instant::now();
        let confirmed = Confirmed { endpoint: 0, at };
        let mut epochs = Epochs::default();
        epochs.note(0, run("a", 1), at);
        let judge = |epochs: &Epochs, since| why(epochs.judge(confirmed, 0, at + 100 * SECOND, &Ok(run("a", since))));
        epochs.hear(Some(confirmed), 0, run("a", 2), at + SECOND);
        assert_eq!(judge(&epochs, 2), "same");
        // After a silence it may be another run that answers.
        epochs.hear(Some(confirmed), 0, run("a", 3), at + 2 * SECOND);
        assert_eq!(judge(&epochs, 2), "same");
        assert!(judge(&epochs, 3).contains("was restarted"));
        epochs.hear(Some(confirmed), 1, run("b", 1), at + 50 * SECOND);
        assert!(
            why(epochs.judge(confirmed, 1, at + 51 * SECOND, &Ok(run("b", 1)))).contains("not been there for long")
        );
    }

    #[test]
    fn another_member_is_believed_when_it_was_there_long_before() {
        let start = Instant::now();
        let confirmed = Confirmed {
            endpoint: 0,
            at: start + 100 * SECOND,
        };
        let began = start + 101 * SECOND;
        let mut epochs = Epochs::default();
        epochs.note(1, run("b", 1), start + 41 * SECOND);
        assert!(why(epochs.judge(confirmed, 1, began, &Ok(run("b", 1)))).contains("not been there for long"));
        let mut epochs = Epochs::default();
        epochs.note(1, run("b", 1), start + 40 * SECOND);
        epochs.note(1, run("b", 1), start + 99 * SECOND);
        assert_eq!(why(epochs.judge(confirmed, 1, began, &Ok(run("b", 1)))), "same");
        epochs.note(1, run("b", 2), start + 99 * SECOND);
        assert!(why(epochs.judge(confirmed, 1, began, &Ok(run("b", 2)))).contains("not been there for long"));
    }
}
