//! One session: list, then follow, until there is a doubt.
//!
//! Invariants: what the controller has been told is exactly `known.holdings`; an instance leaves only through a statement
//! of the server that had it; and a service that is emptied has been asked for after it was said to be empty.

mod asking;
mod begin;
mod content;
mod doubts;
mod follow;
mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use leadsman_core::model::{Rejection, ServiceName};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use self::asking::{Answer, Asking, Done, Question};
use self::begin::{Listing, Settling};
use self::doubts::Doubts;
use self::follow::{Followed, Why};
use super::config::{Config, Protocol};
use super::continuity::{Confirmed, Epochs, Run, SHORTEST_RESTART};
use super::decode::{self, Place};
use super::fault::Fault;
use super::grpc::{Grpc, Heard};
use super::link::Link;
use super::rest::Rest;
use crate::held::Holdings;
use crate::reconcile::{Reconcile, Step};
use crate::session::random;
use crate::{Error, Event, EventSender};

/// How often the server is asked whether it is there: more often than it could be restarted unnoticed.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How often a quiet session says that it is alive.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(30);
/// How long a push may take to deliver what a comparison saw: well above every delay inside Nacos.
const CATCH_UP: Duration = Duration::from_secs(5);

/// What survives a session.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) holdings: Holdings,
    /// Where a held service is to be asked for.
    places: BTreeMap<ServiceName, Place>,
    pub(super) confirmed: Option<Confirmed>,
    pub(super) epochs: Epochs,
    /// Of a session that was cut, too: another cut takes nobody's time away.
    settling: Option<Settling>,
    /// Whether the latest session brought a listing.
    pub(super) listed: bool,
    /// The server wants its clients elsewhere.
    pub(super) leave: bool,
}

impl Known {
    /// A session begins.
    pub(super) fn begin(&mut self) {
        self.listed = false;
        self.leave = false;
    }
}

/// What a session does at its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Check,
    Discover,
    Reconcile,
    /// The comparison goes on.
    Compare,
    Settled,
    Progress,
}

struct Session<'a> {
    config: &'a Config,
    events: &'a EventSender,
    known: &'a mut Known,
    endpoint: usize,
    /// To be asked since when they run, this one, too.
    members: Vec<(usize, Link)>,
    asking: Asking,
    followed: Followed,
    doubts: Doubts,
    /// The first sign of life, and the latest.
    began: Instant,
    heard: Instant,
    epoch: Result<Run, String>,
    /// Until the first listing is complete.
    listing: Option<Listing>,
    /// Names that no service can have here, by group.
    unusable: BTreeMap<Arc<str>, Vec<Rejection>>,
    /// Groups that are being listed again.
    discovering: BTreeSet<Arc<str>>,
    checking: bool,
    protected: BTreeSet<ServiceName>,
    timers: BTreeMap<Timer, Instant>,
    reconcile: Option<Reconcile>,
}

/// Runs a session with one member.
pub(super) async fn run(
    config: &Config,
    endpoint: usize,
    events: &EventSender,
    known: &mut Known,
) -> Result<Infallible, Error> {
    let shared = Arc::new(config.clone());
    let url = config.endpoints.get(endpoint).map_or("", String::as_str);
    let rest = Arc::new(Rest::open(config, url).await?);
    let login = match (&config.username, &config.password_file) {
        (Some(name), Some(file)) => Some(rest.log_in(name, file).await.map_err(Fault::into_error)?),
        _ => None,
    };
    let token = login.as_ref().map(|login| login.access_token.as_str());
    let mut tasks = JoinSet::new();
    let (grpc, mut heard) = match config.protocol {
        Protocol::Grpc => {
            let (grpc, heard) = Grpc::open(config, url, token, &mut tasks).await?;
            (Some(grpc), Some(heard))
        }
        Protocol::Http => {
            rest.check().await.map_err(Fault::into_error)?;
            (None, None)
        }
    };
    let began = Instant::now();
    events.syncing();
    let epoch = rest.epoch(token).await;
    let link = Link::new(Arc::clone(&shared), rest, grpc);
    let members = members(&shared, endpoint, &link).await?;
    let mut asking = Asking::new(config, link);
    if let Some(login) = login {
        asking.logged_in(login, began);
    }
    let mut session = Session {
        config,
        events,
        known,
        endpoint,
        members,
        asking,
        followed: Followed::default(),
        doubts: Doubts::default(),
        began,
        heard: began,
        epoch,
        listing: None,
        unusable: BTreeMap::new(),
        discovering: BTreeSet::new(),
        checking: false,
        protected: BTreeSet::new(),
        timers: BTreeMap::new(),
        reconcile: None,
    };
    session.list();
    session.follow(&mut heard).await
}

async fn members(config: &Arc<Config>, endpoint: usize, own: &Link) -> Result<Vec<(usize, Link)>, Error> {
    let mut members = Vec::new();
    for (index, url) in config.endpoints.iter().enumerate() {
        let link = if index == endpoint {
            own.clone()
        } else {
            Link::new(Arc::clone(config), Arc::new(Rest::open(config, url).await?), None)
        };
        members.push((index, link));
    }
    Ok(members)
}

impl Session<'_> {
    /// Asks for everything.
    fn list(&mut self) {
        let groups: BTreeSet<Arc<str>> = self.config.groups().into_iter().map(Arc::from).collect();
        self.timers.insert(Timer::Check, Instant::now() + CHECK_INTERVAL);
        self.discover(&groups);
        self.listing = Some(Listing {
            groups,
            ..Listing::default()
        });
        let held: Vec<_> = self.known.places.clone().into_iter().collect();
        for (name, place) in held {
            self.find(&name, place);
        }
    }

    fn start_timers(&mut self) {
        let now = Instant::now();
        self.timers.insert(Timer::Discover, now + self.config.discovery);
        self.timers
            .insert(Timer::Reconcile, now + jittered(self.config.reconcile));
        self.timers.insert(Timer::Progress, now + PROGRESS_INTERVAL);
        self.ask_since_when();
    }

    async fn follow(mut self, heard: &mut Option<mpsc::Receiver<Heard>>) -> Result<Infallible, Error> {
        loop {
            let timer = self.timers.iter().min_by_key(|(_, when)| **when);
            let timer = timer.map(|(timer, when)| (*timer, *when));
            let renew_at = self.asking.renew_at();
            tokio::select! {
                Some(done) = self.asking.next() => self.take(done?).await?,
                heard = hear(heard) => match heard {
                    Heard::Push(at, info) => {
                        self.alive(at)?;
                        self.pushed(info).await?;
                    }
                    Heard::Ended { error, leave } => {
                        self.known.leave = leave;
                        return Err(error);
                    }
                },
                () = at(timer.map(|(_, when)| when)) => if let Some((timer, _)) = timer {
                    self.timers.remove(&timer);
                    self.tick(timer).await?;
                },
                () = at(renew_at) => self.asking.renew(),
                () = at(self.followed.next_poll()) => self.poll(),
            }
        }
    }

    /// Notes a sign of life. Without a connection that would break, a silence that is long enough for a restart is one.
    fn alive(&mut self, at: Instant) -> Result<(), Error> {
        let silence = at.saturating_duration_since(self.heard);
        if self.config.protocol == Protocol::Http && silence >= SHORTEST_RESTART {
            return Err(Error::Resync(format!("the server was silent for {silence:?}")));
        }
        self.heard = self.heard.max(at);
        if self.listing.is_some() {
            self.events.syncing();
        } else if let Some(confirmed) = &mut self.known.confirmed {
            confirmed.at = self.heard;
        }
        Ok(())
    }

    async fn tick(&mut self, timer: Timer) -> Result<(), Error> {
        let now = Instant::now();
        match timer {
            Timer::Check => {
                self.timers.insert(Timer::Check, now + CHECK_INTERVAL);
                if !std::mem::replace(&mut self.checking, true) {
                    self.asking.ask(Question::Check);
                }
            }
            Timer::Discover => {
                let groups = self.config.groups().into_iter().map(Arc::from).collect();
                self.discover(&groups);
            }
            Timer::Reconcile => {
                self.timers
                    .insert(Timer::Reconcile, now + jittered(self.config.reconcile));
                self.look_again();
                if self.reconcile.is_none() && self.config.protocol == Protocol::Grpc {
                    self.reconcile = Some(Reconcile::new(self.followed.names().cloned()));
                    self.compare_next().await?;
                }
            }
            Timer::Compare => self.compare_next().await?,
            Timer::Settled => {
                for name in self.known.settling.take().map(Settling::into_names).unwrap_or_default() {
                    self.read(&name, Why::Doubt);
                }
            }
            Timer::Progress => {
                self.timers.insert(Timer::Progress, now + PROGRESS_INTERVAL);
                self.events.send(Event::Progress { revision: 0 }).await?;
            }
        }
        Ok(())
    }

    /// Asks again for what could not be read or was not there, and who the others are.
    fn look_again(&mut self) {
        let unreadable: Vec<_> = self.doubts.unreadables().cloned().collect();
        for name in unreadable {
            self.read(&name, Why::Doubt);
        }
        self.ask_since_when();
        if self.followed.names().next().is_none() {
            self.explain_emptiness();
        }
    }

    fn ask_since_when(&mut self) {
        for (index, link) in &self.members {
            self.asking.ask(Question::Epoch(*index, link.clone()));
        }
    }

    fn explain_emptiness(&mut self) {
        self.asking.ask(Question::Explain);
    }

    fn read(&mut self, name: &ServiceName, why: Why) {
        if let Some((place, turn)) = self.followed.want(name, why) {
            self.asking.ask(Question::Read(name.clone(), place, turn));
        }
    }

    fn poll(&mut self) {
        if let Some(name) = self.followed.due(Instant::now()) {
            self.read(&name, Why::Poll);
        }
    }

    async fn take(&mut self, done: Done) -> Result<(), Error> {
        let Done { question, outcome, at } = done;
        if question.is_answered_by_the_server() {
            self.alive(at)?;
        }
        match (question, outcome) {
            (Question::Names(group), Ok(Answer::Names(names))) => self.take_names(&group, names).await?,
            (Question::Names(group), Err(reason)) => {
                let reason = self.asking.explain().await.unwrap_or(reason);
                return Err(Error::Misconfigured(format!(
                    "group {group:?} can't be listed: {reason}"
                )));
            }
            (Question::Read(name, _, turn), outcome) => {
                self.take_answer(&name, turn, outcome.map(Answer::into_content)).await?;
            }
            (Question::Compare(name, place), Ok(Answer::Content(content))) => {
                let records = decode::records(self.config, &place, &content);
                let settled = !self.is_settling(&name) && self.followed.follows(&name);
                if let Some(pass) = self.reconcile.as_mut().filter(|_| settled) {
                    pass.compare(&name, records, &self.known.holdings);
                }
                self.compare_next().await?;
            }
            (Question::Compare(..), _) => self.compare_next().await?,
            (Question::Check, _) => self.checking = false,
            (Question::Login, Ok(Answer::Login(login))) => self.asking.logged_in(login, at),
            (Question::Epoch(index, _), Ok(Answer::Epoch(Ok(epoch)))) => {
                self.known.epochs.hear(self.known.confirmed, index, epoch, at);
            }
            (Question::Explain, Ok(Answer::Explanation(reason))) => self.doubts.emptiness = reason,
            (
                Question::Names(_) | Question::Login | Question::Epoch(..) | Question::Explain | Question::Forget(_),
                _,
            ) => {}
        }
        self.finish_listing().await?;
        self.tell_doubts().await
    }

    async fn tell_doubts(&mut self) -> Result<(), Error> {
        if self.listing.is_some() {
            return Ok(());
        }
        match self.doubts.news() {
            Some(reason) => self.events.send(Event::Impaired { reason }).await,
            None => Ok(()),
        }
    }

    /// Goes on with the comparison, or says what came out.
    async fn compare_next(&mut self) -> Result<(), Error> {
        let Some(pass) = &mut self.reconcile else { return Ok(()) };
        loop {
            match pass.next() {
                Step::Read(name) => {
                    if let Some(place) = self.followed.place(&name) {
                        self.asking.ask(Question::Compare(name, place.clone()));
                        return Ok(());
                    }
                }
                Step::Pause => {
                    self.timers.insert(Timer::Compare, Instant::now() + CATCH_UP);
                    return Ok(());
                }
                Step::Done(drift) => {
                    self.reconcile = None;
                    self.events.send(Event::Reconciled { drift }).await?;
                    if drift == 0 {
                        return Ok(());
                    }
                    return Err(Error::Resync(format!(
                        "{drift} held instances differ from a fresh read: pushes were lost"
                    )));
                }
            }
        }
    }
}

/// The period, give or take a tenth: many readers must not all ask at once.
fn jittered(period: Duration) -> Duration {
    let tenth = period / 10;
    let spread = (tenth.as_nanos() * 2 * u128::from(random())) >> 64;
    period - tenth + Duration::from_nanos(u64::try_from(spread).unwrap_or(u64::MAX))
}

async fn hear(heard: &mut Option<mpsc::Receiver<Heard>>) -> Heard {
    match heard {
        None => std::future::pending().await,
        Some(heard) => heard.recv().await.unwrap_or_else(|| Heard::Ended {
            error: Error::Unavailable("nobody reads the connection any more".to_owned()),
            leave: false,
        }),
    }
}

/// Waits until then; for ever, when there is no then.
async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_spread_by_a_tenth() {
        for _ in 0..1000 {
            let period = jittered(Duration::from_secs(10));
            assert!((9_000..=11_000).contains(&period.as_millis()), "{period:?}");
        }
    }
}
