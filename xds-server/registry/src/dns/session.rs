//! One session: a pass over every name, one listing, then a pass over each name as often as its records ask for.
//!
//! Names don't wait for each other, and one that can't be read keeps what it said. The session ends only when no server
//! says anything any more. Invariant: `told` is what the controller has been told.

mod judge;
mod tell;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{self, FuturesUnordered};
use leadsman_core::model::{Rejection, Service, ServiceName};
use tokio::time::{Instant, sleep_until, timeout_at};

use self::judge::Verdict;
use super::chain::{Chain, Pass};
use super::client::Client;
use super::config::Config;
use super::held::Pace;
use super::question::{Failure, Question};
use crate::{Error, EventSender};

/// Questions of one pass that are on their way at once; how many in all is the client's to bound.
const MAX_ABREAST: usize = 16;
/// How long a pass may take, unless a single question may take longer: what it has not asked for until then counts as not
/// answered.
const PASS_PATIENCE: Duration = Duration::from_secs(10);
/// How long the first listing waits for names that don't answer while others do.
const LISTING_PATIENCE: Duration = Duration::from_secs(5);
/// The share of its time by which a pass may come early, so that names don't march in step.
const JITTER: u32 = 10;

/// What survives a session.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) chains: BTreeMap<ServiceName, Chain>,
    /// What the controller was last told, and whether it ever was.
    told: BTreeMap<ServiceName, Service>,
    listed: bool,
    /// Since when no server has answered.
    silent: Option<Instant>,
    /// Why records that are missing may have been lost; the controller has not been told yet.
    epoch: Option<String>,
}

struct Session<'a> {
    config: &'a Config,
    client: &'a Client,
    events: &'a EventSender,
    known: &'a mut Known,
    pace: Pace,
    began: Instant,
    /// When the next pass over a name is due; a name whose pass is under way is not in it.
    due: BTreeSet<(Instant, ServiceName)>,
    /// The names that had a pass in this session, and those that were answered.
    passed: BTreeSet<ServiceName>,
    answered: BTreeSet<ServiceName>,
    /// The names that were answered since the round began.
    round: BTreeSet<ServiceName>,
    round_began: Instant,
    listed: bool,
    /// Names were unread when the controller was told of all of them.
    partial: bool,
    /// What can't be read, by name.
    problems: BTreeMap<ServiceName, String>,
    /// Names that exist without the records that were asked for.
    strange: BTreeMap<ServiceName, Rejection>,
    /// Names that were never read.
    unread: BTreeSet<ServiceName>,
    /// What the controller was told of these.
    impairment: Option<String>,
    unattributed: BTreeMap<ServiceName, Rejection>,
    /// Since when no server has answered.
    silence: Option<Instant>,
    progress: Instant,
}

/// Runs a session.
pub(super) async fn run(
    config: &Config,
    client: &Client,
    events: &EventSender,
    known: &mut Known,
) -> Result<Infallible, Error> {
    let now = Instant::now();
    let due = known.chains.keys().map(|name| (now, name.clone())).collect();
    let session = Session {
        config,
        client,
        events,
        pace: Pace::of(config),
        began: now,
        due,
        passed: BTreeSet::new(),
        answered: BTreeSet::new(),
        round: BTreeSet::new(),
        round_began: now,
        listed: false,
        partial: false,
        problems: BTreeMap::new(),
        strange: BTreeMap::new(),
        unread: known
            .chains
            .iter()
            .filter(|(_, chain)| !chain.is_read())
            .map(|(name, _)| name.clone())
            .collect(),
        impairment: None,
        unattributed: BTreeMap::new(),
        silence: None,
        progress: now,
        known,
    };
    session.follow().await
}

impl Session<'_> {
    async fn follow(mut self) -> Result<Infallible, Error> {
        let mut passes = FuturesUnordered::new();
        loop {
            let now = Instant::now();
            while let Some((name, chain)) = self.next_due(now) {
                passes.push(pass(self.client, self.events, name, chain, self.pace));
            }
            let wake = self.wake();
            tokio::select! {
                Some((name, pass)) = passes.next() => self.handle(name, &pass).await?,
                () = sleep_until(wake) => {}
            }
            if !self.listed && self.may_list() {
                self.list().await?;
            }
        }
    }

    /// The name whose pass is due, with what is known of it.
    fn next_due(&mut self, now: Instant) -> Option<(ServiceName, Chain)> {
        let (due, _) = self.due.first()?;
        if *due > now {
            return None;
        }
        let (_, name) = self.due.pop_first()?;
        let chain = self.known.chains.get(&name)?.clone();
        Some((name, chain))
    }

    fn wake(&self) -> Instant {
        let next = self.due.first().map(|(due, _)| *due);
        let listing = (!self.listed).then_some(self.began + LISTING_PATIENCE);
        let patience = listing.filter(|deadline| *deadline > Instant::now());
        // With nothing due, the passes under way are what wakes the session.
        next.into_iter()
            .chain(patience)
            .min()
            .unwrap_or_else(|| Instant::now() + LISTING_PATIENCE)
    }

    /// Takes in a pass.
    async fn handle(&mut self, name: ServiceName, pass: &Pass) -> Result<(), Error> {
        let now = Instant::now();
        if pass.is_heard() {
            self.silence = None;
            self.known.silent = None;
        } else {
            self.endure_silence(&name, pass, now).await?;
        }
        let verdict = self.take_in(&name, pass, now);
        if !self.listed {
            return Ok(());
        }
        let lost = matches!(verdict, Verdict::Epoch);
        if lost || (self.partial && self.unread.is_empty()) {
            return self.resync().await;
        }
        self.tell(&name).await?;
        self.tell_problems().await?;
        self.tell_progress(now).await
    }

    fn take_in(&mut self, name: &ServiceName, pass: &Pass, now: Instant) -> Verdict {
        let Some(chain) = self.known.chains.get_mut(name) else {
            return Verdict::Settled;
        };
        let rotated = chain.rotates();
        let doubt = chain.finish(pass, &self.pace, now);
        if chain.rotates() && !rotated {
            let (source, service) = (self.events.source(), name);
            tracing::warn!(%source, %service, "the answers are parts of a whole that take turns; what they add up to counts. `window` says for how long, and `transport: tcp` may bring the whole");
        }
        if chain.is_answered(pass) {
            self.answered.insert(name.clone());
            self.round.insert(name.clone());
        }
        self.passed.insert(name.clone());
        let verdict = doubt.map_or(Verdict::Settled, |doubt| self.decide(name, &doubt, now));
        let due = self
            .known
            .chains
            .get(name)
            .map(|chain| chain.due(pass, &self.pace, now));
        let mut due = early(due.unwrap_or(now), now);
        if self.silence.is_some() {
            // While it is unclear whether any server lives, whoever was not answered asks again.
            due = now;
        } else if matches!(verdict, Verdict::Open) {
            due = due.min(now + self.pace.min_ttl);
        }
        self.due.insert((due, name.clone()));
        self.wake_witnesses(name, now);
        self.note(name);
        verdict
    }

    /// Remembers what of a name can't be read.
    fn note(&mut self, name: &ServiceName) {
        let Some(chain) = self.known.chains.get(name) else {
            return;
        };
        match chain.problem() {
            Some(problem) => self.problems.insert(name.clone(), problem),
            None => self.problems.remove(name),
        };
        match chain.strangeness() {
            Some(rejection) => self.strange.insert(name.clone(), rejection),
            None => self.strange.remove(name),
        };
        if chain.is_read() {
            self.unread.remove(name);
        }
    }

    /// Whether the listing can be made: every name had its turn, or those that had waited long enough for the rest.
    fn may_list(&self) -> bool {
        let all = self.passed.len() == self.known.chains.len();
        all || (self.began.elapsed() >= LISTING_PATIENCE && !self.answered.is_empty())
    }
}

/// Asks for a name and everything that follows from it.
async fn pass(
    client: &Client,
    events: &EventSender,
    name: ServiceName,
    chain: Chain,
    pace: Pace,
) -> (ServiceName, Pass) {
    let mut pass = Pass::new(Instant::now());
    let deadline = pass.began + PASS_PATIENCE.max(client.patience());
    loop {
        let mut wanted: BTreeSet<Question> = chain.wanted(&pass, &pace, Instant::now()).into_iter().collect();
        if wanted.is_empty() {
            return (name, pass);
        }
        let ask = async |question: Question| {
            let suspect = chain.is_failing(&question);
            let outcome = client.ask(&question, suspect).await;
            (question, outcome)
        };
        let mut answers = stream::iter(wanted.clone()).map(ask).buffer_unordered(MAX_ABREAST);
        while let Ok(Some((question, outcome))) = timeout_at(deadline, answers.next()).await {
            if outcome.is_ok() {
                events.syncing();
            }
            wanted.remove(&question);
            pass.outcomes.insert(question, outcome);
        }
        for question in wanted {
            pass.outcomes.insert(question, Err(out_of_time()));
        }
    }
}

fn out_of_time() -> Failure {
    Failure {
        reason: "it was not its turn: too many others don't answer".to_owned(),
        spoke: false,
    }
}

/// A little before `due`, and never before `now`.
fn early(due: Instant, now: Instant) -> Instant {
    let most = due.saturating_duration_since(now) / JITTER;
    let random = u32::try_from(RandomState::new().hash_one(0_u8) >> 32).unwrap_or_default();
    let nanos = most.as_nanos().saturating_mul(u128::from(random)) >> 32;
    let earlier = Duration::from_nanos(u64::try_from(nanos).unwrap_or_default());
    due.checked_sub(earlier).unwrap_or(due)
}
