//! Which service is asked for, how, and when next.
//!
//! Up to a configured number of services have a blocking question each; the others are read in turns, a few at a time.
//! New services, and those of which something is hidden, are read in turns too: only a plain read says what it hides. What
//! would take an instance away is asked of a leader that a majority confirms.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use leadsman_core::model::ServiceName;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::super::client::{Answer, Link, NoAnswer, Read};
use super::super::config::Config;
use super::super::listing::READS_AT_ONCE;
use super::{Done, Question};

/// Two blocking questions about a service begin at least this far apart: a service that never rests, or a server that
/// answers at once for ever, must not keep both sides busy.
const SPACING: Duration = Duration::from_millis(100);

/// Blocking questions begun at once, and the pause before the next ones. Each opens a connection unless another one is
/// free, and whoever opens many at once opens more than are needed: an agent counts them.
const STARTS_AT_ONCE: usize = 8;
const PAUSE: Duration = Duration::from_millis(10);

/// One question about a service. Answers of other turns than the latest are void.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    number: u64,
    read: Read,
    not_before: Option<Instant>,
}

#[derive(Debug)]
enum State {
    /// Waits to be read, in `polls`.
    Waiting,
    /// Is being read, in its turn.
    Reading,
    /// Has a connection of its own, and this question is asked next.
    Due(Read),
    /// Has a connection of its own, and this question is in flight.
    Asked(Read, AbortHandle),
}

#[derive(Debug)]
struct Follow {
    state: State,
    turn: u64,
    /// When the last blocking question began.
    began: Option<Instant>,
    /// The index of the latest blocking answer while its content is being proven.
    reached: u64,
    /// The next plain read may take something away.
    doubted: bool,
}

#[derive(Debug)]
pub(super) struct Followed {
    services: BTreeMap<ServiceName, Follow>,
    polls: VecDeque<(Instant, ServiceName)>,
    due: BTreeSet<ServiceName>,
    /// When the next of `due` are asked.
    ask_at: Instant,
    reading: usize,
    watching: usize,
    turns: u64,
    max_watches: usize,
    wait: Duration,
    poll: Duration,
}

impl Turn {
    /// The index a blocking question was asked with.
    pub(super) fn watched_from(self) -> Option<u64> {
        match self.read {
            Read::Blocking { index, .. } => Some(index),
            Read::Leader | Read::Consistent | Read::Stale => None,
        }
    }

    /// Whether a majority confirmed the leader that answered.
    pub(super) fn is_confirmed(self) -> bool {
        self.read == Read::Consistent
    }

    pub(super) async fn ask(self, link: Link, name: &ServiceName) -> Result<Answer, NoAnswer> {
        if let Some(when) = self.not_before {
            sleep_until(when).await;
        }
        link.service(name.to_shared(), self.read).await
    }
}

impl Followed {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            services: BTreeMap::new(),
            polls: VecDeque::new(),
            due: BTreeSet::new(),
            ask_at: Instant::now(),
            reading: 0,
            watching: 0,
            turns: 0,
            max_watches: usize::try_from(config.max_watches).unwrap_or(usize::MAX),
            wait: config.wait,
            poll: config.poll,
        }
    }

    /// The services that have a connection of their own.
    pub(super) fn watched(&self) -> impl Iterator<Item = &ServiceName> {
        let watched = |follow: &Follow| matches!(follow.state, State::Due(_) | State::Asked(..));
        let services = self.services.iter();
        services
            .filter(move |(_, follow)| watched(follow))
            .map(|(name, _)| name)
    }

    /// The catalog has this service; it is read as soon as it can be, unless it is followed already.
    pub(super) fn discover(&mut self, name: &ServiceName) {
        if !self.services.contains_key(name) {
            self.services.insert(name.clone(), Follow::waiting());
            self.polls.push_front((Instant::now(), name.clone()));
        }
    }

    /// The catalog has only these services: the others must prove themselves. Those that wait are read anyway.
    pub(super) fn missing(&mut self, listed: &BTreeSet<ServiceName>) {
        let missing: Vec<_> = self.watched().filter(|name| !listed.contains(*name)).cloned().collect();
        for name in missing {
            let reached = self.services.get(&name).map_or(0, |follow| follow.reached);
            self.prove(&name, reached);
        }
    }

    /// The next question about a watched service is a plain read.
    pub(super) fn prove(&mut self, name: &ServiceName, reached: u64) {
        let Some(follow) = self.services.get_mut(name) else {
            return;
        };
        follow.reached = reached;
        match &follow.state {
            State::Asked(Read::Blocking { .. }, question) => question.abort(),
            State::Due(_) => {}
            // Begun anew with every doubt, a slow proof would never be complete.
            State::Asked(..) | State::Waiting | State::Reading => return,
        }
        follow.state = State::Due(Read::Consistent);
        self.due.insert(name.clone());
    }

    /// A service that is read in turns is read again at once, by a confirmed leader.
    pub(super) fn doubt(&mut self, name: &ServiceName) {
        let Some(follow) = self.services.get_mut(name) else {
            return;
        };
        follow.doubted = true;
        follow.state = State::Waiting;
        self.polls.push_front((Instant::now(), name.clone()));
    }

    /// The next question about a watched service waits for a newer index.
    pub(super) fn watch(&mut self, name: &ServiceName, index: u64) {
        let Some(follow) = self.services.get_mut(name) else {
            return;
        };
        follow.reached = index;
        follow.state = State::Due(Read::Blocking { index, wait: self.wait });
        self.due.insert(name.clone());
    }

    /// A plain read was answered: the service is watched from there, or read again later.
    pub(super) fn settle(&mut self, name: &ServiceName, proven: bool, index: u64) {
        let follow = self.services.entry(name.clone()).or_insert_with(Follow::waiting);
        let watched = matches!(follow.state, State::Due(_) | State::Asked(..));
        follow.doubted = false;
        if proven && (watched || self.watching < self.max_watches) {
            self.watching += usize::from(!watched);
            // The streaming backend counts ahead of plain reads; the lower of the two would be answered at once.
            let index = index.max(follow.reached);
            self.watch(name, index);
            return;
        }
        self.watching -= usize::from(watched);
        follow.state = State::Waiting;
        self.polls.push_back((Instant::now() + self.poll, name.clone()));
    }

    /// The service is gone; the catalog says when it is back.
    pub(super) fn forget(&mut self, name: &ServiceName) {
        let Some(follow) = self.services.remove(name) else {
            return;
        };
        self.due.remove(name);
        match follow.state {
            State::Asked(_, question) => {
                question.abort();
                self.watching -= 1;
            }
            State::Due(_) => self.watching -= 1,
            State::Reading => self.reading -= 1,
            State::Waiting => {}
        }
    }

    /// Whether an answer belongs to the latest question about the service.
    pub(super) fn answered(&mut self, name: &ServiceName, turn: Turn) -> bool {
        let Some(follow) = self.services.get_mut(name) else {
            return false;
        };
        if follow.turn != turn.number {
            return false;
        }
        if matches!(follow.state, State::Reading) {
            self.reading -= 1;
            follow.state = State::Waiting;
        }
        true
    }

    /// When a service has to be read, if one may be.
    pub(super) fn next_poll(&self) -> Option<Instant> {
        let first = self.polls.front().filter(|_| self.reading < READS_AT_ONCE);
        first.map(|(when, _)| *when)
    }

    /// When a question about a watched service may be asked, if there is one.
    pub(super) fn next_due(&self) -> Option<Instant> {
        (!self.due.is_empty()).then_some(self.ask_at)
    }

    /// Asks every question whose time has come.
    pub(super) fn ask(&mut self, link: &Link, questions: &mut JoinSet<Done>) {
        self.ask_due(link, questions);
        self.ask_waiting(link, questions);
    }

    fn ask_due(&mut self, link: &Link, questions: &mut JoinSet<Done>) {
        if self.ask_at > Instant::now() {
            return;
        }
        for _ in 0..STARTS_AT_ONCE {
            let Some(name) = self.due.pop_first() else { return };
            let Some(follow) = self.services.get_mut(&name) else {
                continue;
            };
            let State::Due(read) = follow.state else { continue };
            self.turns += 1;
            follow.turn = self.turns;
            let mut not_before = None;
            if matches!(read, Read::Blocking { .. }) {
                not_before = follow.began.map(|began| began + SPACING);
                follow.began = Some(not_before.unwrap_or_else(Instant::now).max(Instant::now()));
            }
            let turn = Turn {
                number: follow.turn,
                read,
                not_before,
            };
            follow.state = State::Asked(read, spawn(link, questions, name, turn));
        }
        self.ask_at = Instant::now() + PAUSE;
    }

    fn ask_waiting(&mut self, link: &Link, questions: &mut JoinSet<Done>) {
        while self.next_poll().is_some_and(|when| when <= Instant::now()) {
            let Some((_, name)) = self.polls.pop_front() else {
                return;
            };
            let waiting = self
                .services
                .get_mut(&name)
                .filter(|follow| matches!(follow.state, State::Waiting));
            let Some(follow) = waiting else { continue };
            self.turns += 1;
            follow.turn = self.turns;
            follow.state = State::Reading;
            self.reading += 1;
            let turn = Turn {
                number: follow.turn,
                read: if follow.doubted { Read::Consistent } else { Read::Leader },
                not_before: None,
            };
            spawn(link, questions, name, turn);
        }
    }
}

impl Follow {
    fn waiting() -> Self {
        Self {
            state: State::Waiting,
            turn: 0,
            began: None,
            reached: 0,
            doubted: false,
        }
    }
}

fn spawn(link: &Link, questions: &mut JoinSet<Done>, name: ServiceName, turn: Turn) -> AbortHandle {
    let link = link.clone();
    questions.spawn(async move {
        let answer = turn.ask(link, &name).await;
        Done {
            question: Question::Service(name, turn),
            answer,
        }
    })
}
