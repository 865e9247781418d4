//! One session: list, then follow, until there is a doubt.
//!
//! Invariants: what the controller has been told is exactly `known.holdings`; a service has at most one question in
//! flight besides a comparison; and the questions in flight are bounded, however many services there are.

mod follow;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use leadsman_core::model::{Rejection, ServiceName};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

use self::follow::{Followed, Turn};
use super::client::{Answer, Link, NoAnswer, Read};
use super::config::Config;
use super::decode;
use super::doubts::Doubts;
use super::listing::{self, Known, Listing};
use crate::held::{Change, Records};
use crate::reconcile::{Reconcile, Step};
use crate::{Error, Event, EventSender};

/// How often a quiet session says that it is alive.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(30);
/// How long watches may take to deliver what a comparison saw: well above every delay inside Consul.
const CATCH_UP: Duration = Duration::from_secs(5);

/// A question whose answer has arrived.
struct Done {
    question: Question,
    answer: Result<Answer, NoAnswer>,
}

enum Question {
    /// Which services there are, and how old the data is.
    Catalog,
    /// Whether the index really went back from here.
    Epoch(u64),
    /// Who the servers are.
    Servers,
    Service(ServiceName, Turn),
    Compare(ServiceName),
}

struct Session<'a> {
    config: &'a Config,
    link: Link,
    events: &'a EventSender,
    known: &'a mut Known,
    questions: JoinSet<Done>,
    followed: Followed,
    doubts: Doubts,
    /// Since when the data is old.
    stale_since: Option<Instant>,
    /// Services that can't be asked for, and why.
    refused: BTreeMap<ServiceName, String>,
    /// As told.
    unusable: Vec<Rejection>,
    /// When the catalog is read again; `None` while it is.
    catalog_at: Option<Instant>,
    checking_epoch: bool,
    progress_at: Instant,
    reconcile: Option<Reconcile>,
    /// When the comparison goes on; `None` while it reads.
    compare_at: Option<Instant>,
}

/// Runs a session.
pub(super) async fn run(
    config: &Config,
    link: Link,
    events: &EventSender,
    known: &mut Known,
) -> Result<Infallible, Error> {
    let listing = listing::list(config, &link, events, &known.holdings).await?;
    let now = Instant::now();
    let mut session = Session {
        config,
        link,
        events,
        known,
        questions: JoinSet::new(),
        followed: Followed::new(config),
        doubts: Doubts::default(),
        stale_since: None,
        refused: BTreeMap::new(),
        unusable: Vec::new(),
        catalog_at: Some(now + config.discovery),
        checking_epoch: false,
        progress_at: now + PROGRESS_INTERVAL,
        reconcile: None,
        compare_at: None,
    };
    session.begin(listing).await?;
    session.follow().await
}

impl Session<'_> {
    /// Takes the listing, and asks on.
    async fn begin(&mut self, listing: Listing) -> Result<(), Error> {
        self.doubts.catalog = listing.catalog.hidden;
        for (name, (_, meta)) in &listing.instances {
            self.doubts.note(name, meta.hidden);
        }
        let evidence = self.known.judge(&listing, self.doubts.partial());
        if listing.catalog.hidden.is_none() {
            let held: Vec<_> = self.known.holdings.names().cloned().collect();
            for name in held.iter().filter(|name| !listing.names.usable.contains(*name)) {
                self.known.holdings.take(name, Records::new(), true);
            }
        }
        for (name, (records, meta)) in listing.instances {
            self.known.holdings.take(&name, records, meta.hidden.is_none());
            self.followed.settle(&name, meta.hidden.is_none(), meta.index);
        }
        self.refused = listing.refused;
        for name in self.refused.keys() {
            self.followed.settle(name, false, 0);
        }
        // A service that is held although the catalog hides it is asked for too.
        for name in self.known.holdings.names() {
            self.followed.discover(name);
        }
        let services = self.known.holdings.snapshot();
        tracing::debug!(index = self.known.index, services = services.len(), "listed");
        self.unusable = self.all_unusable(listing.names.unusable);
        let resync = Event::Resync {
            services,
            unattributed: self.unusable.clone(),
            evidence,
            revision: self.known.index,
        };
        self.events.send(resync).await?;
        self.known.untold.told();
        self.tell_doubts().await
    }

    async fn follow(mut self) -> Result<Infallible, Error> {
        let mut reconcile = interval_at(Instant::now() + self.config.reconcile, self.config.reconcile);
        reconcile.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.followed.ask(&self.link, &mut self.questions);
            let (due_at, poll_at) = (self.followed.next_due(), self.followed.next_poll());
            tokio::select! {
                Some(done) = self.questions.join_next() => match done {
                    Ok(done) => self.take(done).await?,
                    Err(error) if error.is_cancelled() => {}
                    Err(error) => return Err(Error::Unavailable(format!("a question ended: {error}"))),
                },
                () = at(self.catalog_at) => {
                    self.catalog_at = None;
                    self.ask(Question::Catalog);
                }
                () = at(due_at) => {}
                () = at(poll_at) => {}
                () = at(self.compare_at) => self.compare_next().await?,
                _ = reconcile.tick(), if self.reconcile.is_none() => {
                    self.reconcile = Some(Reconcile::new(self.followed.watched().cloned()));
                    self.compare_at = Some(Instant::now());
                    self.ask(Question::Servers);
                }
            }
        }
    }

    fn ask(&mut self, question: Question) {
        let link = self.link.clone();
        self.questions.spawn(async move {
            let answer = match &question {
                Question::Catalog => link.catalog(Read::Stale).await.map_err(NoAnswer::from),
                Question::Epoch(_) => link.catalog(Read::Consistent).await.map_err(NoAnswer::from),
                Question::Servers => link.servers().await.map_err(NoAnswer::from),
                Question::Compare(name) => link.service(name.to_shared(), Read::Consistent).await,
                Question::Service(name, turn) => turn.ask(link, name).await,
            };
            Done { question, answer }
        });
    }

    async fn take(&mut self, done: Done) -> Result<(), Error> {
        let answer = match (done.answer, &done.question) {
            (Err(NoAnswer::Refused(why)), Question::Service(name, turn)) if !self.known.holdings.holds(name) => {
                self.refuse(name, *turn, why);
                return Ok(());
            }
            (answer, _) => answer?,
        };
        match done.question {
            Question::Catalog => {
                self.catalog_at = Some(Instant::now() + self.config.discovery);
                self.take_catalog(answer).await?;
            }
            Question::Servers => self.known.meet(listing::servers(answer)?)?,
            Question::Epoch(was) => {
                self.checking_epoch = false;
                let is = listing::led(answer)?.meta.index;
                if is < was {
                    return Err(Error::Resync(format!("the index went back from {was} to {is}")));
                }
            }
            Question::Service(name, turn) => self.take_service(name, turn, answer).await?,
            Question::Compare(name) => self.compare(&name, answer)?,
        }
        self.tell_doubts().await
    }

    async fn take_catalog(&mut self, answer: Answer) -> Result<(), Error> {
        let meta = &answer.meta;
        self.doubts.stale = if !meta.known_leader {
            Some("the servers have no leader; what they know may be old".to_owned())
        } else if meta.last_contact > self.config.max_stale {
            Some(format!("the data is {:?} old", meta.last_contact))
        } else {
            None
        };
        if let Some(why) = &self.doubts.stale {
            let since = *self.stale_since.get_or_insert_with(Instant::now);
            // Another agent may reach a leader where this one does not.
            if self.config.endpoints.len() > 1 && since.elapsed() >= self.config.max_stale {
                return Err(Error::Unavailable(why.clone()));
            }
            return Ok(());
        }
        self.stale_since = None;
        if meta.index < self.known.index {
            // A server that lags, or another Consul: the leader knows.
            self.check_epoch();
            return Ok(());
        }
        self.known.index = meta.index;
        self.doubts.catalog = meta.hidden;
        let names = listing::names(self.config, &answer.body)?;
        for name in &names.usable {
            self.followed.discover(name);
        }
        if meta.hidden.is_none() {
            self.followed.missing(&names.usable);
        }
        let gone = self.refused.extract_if(.., |name, _| !names.usable.contains(name));
        for (name, _) in gone {
            self.followed.forget(&name);
        }
        let unusable = self.all_unusable(names.unusable);
        if self.unusable != unusable {
            self.unusable.clone_from(&unusable);
            let rejections = unusable;
            self.events.send(Event::Unattributed { rejections }).await?;
        }
        if self.progress_at <= Instant::now() {
            self.progress_at = Instant::now() + PROGRESS_INTERVAL;
            let revision = self.known.index;
            self.events.send(Event::Progress { revision }).await?;
        }
        Ok(())
    }

    async fn take_service(&mut self, name: ServiceName, turn: Turn, answer: Answer) -> Result<(), Error> {
        if !self.followed.answered(&name, turn) {
            return Ok(());
        }
        let meta = &answer.meta;
        let records = decode::instances_of(self.config, &name, &answer.body).map_err(Error::Unavailable)?;
        if let Some(sent) = turn.watched_from() {
            let back = meta.index < sent;
            if back {
                self.check_epoch();
            }
            // Blocking answers come without the headers that tell whether something was left out.
            if back || meta.hidden.is_some() || self.known.holdings.misses(&name, &records) {
                self.followed.prove(&name, meta.index);
                return Ok(());
            }
            let change = self.known.holdings.take(&name, records, true);
            self.followed.watch(&name, meta.index);
            return self.tell(change, meta.index).await;
        }
        let meta = listing::led(answer)?.meta;
        self.refused.remove(&name);
        let proven = meta.hidden.is_none();
        if turn.is_confirmed() {
            if let Some(why) = self.known.went_back(&name, meta.index) {
                return Err(Error::Resync(why));
            }
        } else if self.known.went_back(&name, meta.index).is_some()
            || proven && self.known.holdings.misses(&name, &records)
        {
            // A leader that was just elected may not know everything yet, and a removal is for good.
            self.followed.doubt(&name);
            return Ok(());
        }
        self.doubts.note(&name, meta.hidden);
        let change = self.known.holdings.take(&name, records, proven);
        if proven && !self.known.holdings.holds(&name) {
            self.followed.forget(&name);
            self.known.forget(&name);
        } else {
            self.followed.settle(&name, proven, meta.index);
            self.known.reach(&name, meta.index);
        }
        self.tell(change, meta.index).await
    }

    fn check_epoch(&mut self) {
        if !std::mem::replace(&mut self.checking_epoch, true) {
            self.ask(Question::Epoch(self.known.index));
        }
    }

    /// A name that Consul takes in no question rejects itself. It is tried again with the services that are read in turns.
    fn refuse(&mut self, name: &ServiceName, turn: Turn, why: String) {
        if self.followed.answered(name, turn) {
            self.followed.settle(name, false, 0);
            self.refused.insert(name.clone(), why);
        }
    }

    /// Besides the names of a catalog those that Consul refused.
    fn all_unusable(&self, mut names: Vec<Rejection>) -> Vec<Rejection> {
        let refused = self.refused.iter();
        names.extend(refused.map(|(name, why)| listing::unusable(name.as_str(), why)));
        names
    }

    async fn tell(&self, change: Option<Change>, revision: u64) -> Result<(), Error> {
        match change {
            None => Ok(()),
            Some(Change::Applied(service)) => self.events.send(Event::Apply { service, revision }).await,
            Some(Change::Deleted(name)) => self.events.send(Event::Delete { name, revision }).await,
        }
    }

    async fn tell_doubts(&mut self) -> Result<(), Error> {
        match self.doubts.news() {
            Some(reason) => self.events.send(Event::Impaired { reason }).await,
            None => Ok(()),
        }
    }

    /// Goes on with the comparison, or says what came out.
    async fn compare_next(&mut self) -> Result<(), Error> {
        self.compare_at = None;
        let Some(pass) = &mut self.reconcile else { return Ok(()) };
        match pass.next() {
            Step::Read(name) => self.ask(Question::Compare(name)),
            Step::Pause => self.compare_at = Some(Instant::now() + CATCH_UP),
            Step::Done(drift) => {
                self.reconcile = None;
                self.events.send(Event::Reconciled { drift }).await?;
                if drift > 0 {
                    return Err(Error::Resync(format!(
                        "{drift} held instances differ from a fresh read: events were lost"
                    )));
                }
            }
        }
        Ok(())
    }

    fn compare(&mut self, name: &ServiceName, answer: Answer) -> Result<(), Error> {
        self.compare_at = Some(Instant::now());
        let answer = listing::led(answer)?;
        // What hides something can't be compared with.
        if let Some(pass) = self.reconcile.as_mut().filter(|_| answer.meta.hidden.is_none()) {
            let records = decode::instances_of(self.config, name, &answer.body).map_err(Error::Unavailable)?;
            pass.compare(name, records, &self.known.holdings);
        }
        Ok(())
    }
}

/// Waits until then; for ever, when there is no then.
async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => std::future::pending().await,
    }
}
