//! The one that owns the ledger and the embedded store: it takes what came in, writes it through to the disk together,
//! and only then answers and tells.
//!
//! Invariant: whoever was answered, and whatever was told, is on the disk; and what was told is exactly the ledger.
//!
//! What it does between two turns counts as time in which nobody could renew, whatever held it up: the disk, the
//! controller, or the machine.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use leadsman_core::model::{Evidence, Rejection, ServiceName};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::journal::StoreId;
use super::ledger::{End, Entry, Ledger, Limits};
use super::model::{Guard, Key, Lease, Listing, Page, Receipt, Refusal, Registration, Shown};
use super::store::{Found, Store};
use crate::{Error, Event, EventSender};

/// How often leases are looked at: well below the shortest of them, and below what counts as a pause.
const TURN: Duration = Duration::from_millis(200);
/// How often it is looked whether the files are still where they were.
const LOOK: Duration = Duration::from_secs(1);
/// How long after a failed write it is tried again to take out what has run out.
const FULL: Duration = Duration::from_secs(1);
/// Calls that are written together. More wait for the next turn.
const MAX_BATCH: usize = 256;
/// Calls that may wait. More wait at the door, each with its own patience.
pub(super) const QUEUE: usize = 1024;

pub(super) type Reply<T> = oneshot::Sender<Result<T, Refusal>>;

/// What can be asked of the keeper.
#[derive(Debug)]
pub(super) enum Command {
    Register(Registration, Reply<Receipt>),
    Renew(Key, Lease, Reply<Receipt>),
    Drain(Key, Guard, bool, Reply<Receipt>),
    Deregister(Key, Guard, Reply<bool>),
    Get(Key, Reply<Shown>),
    List(Listing, Reply<Page>),
}

/// An answer that waits until it is true on the disk; with a reason why it never will be.
type Answer = Box<dyn FnOnce(Option<&Refusal>) + Send>;

/// What survives a session.
#[derive(Debug)]
pub(super) struct Known {
    /// Which store it was, and how far it had come.
    seen: Option<(StoreId, u64)>,
    /// A write failed: what the file looks like is not what is on the disk.
    suspect: bool,
    /// One thread at a time: a file system that hangs must not collect them.
    disk: Arc<Semaphore>,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            seen: None,
            suspect: false,
            disk: Arc::new(Semaphore::new(1)),
        }
    }
}

#[derive(Debug)]
pub(super) struct Keeper<'a> {
    known: &'a mut Known,
    store: Option<Store>,
    ledger: Ledger,
    started: Instant,
    events: &'a EventSender,
    commands: mpsc::Receiver<Command>,
    /// Services that others know to exist.
    told: BTreeSet<ServiceName>,
    /// What is wrong with the file that was read, until everybody will have been heard of whom it may not have told.
    doubt: Option<(Duration, String)>,
    /// Until when nothing is taken out by itself, because there is no room to write it down.
    full: Option<Duration>,
}

impl<'a> Keeper<'a> {
    /// Opens the store and tells what is in it.
    pub(super) async fn open(
        directory: &Path,
        known: &'a mut Known,
        events: &'a EventSender,
        commands: mpsc::Receiver<Command>,
    ) -> Result<Self, Error> {
        let (directory, suspect) = (directory.to_owned(), known.suspect);
        let (store, Found { id, recovered }) =
            blocking(&known.disk, move || Store::open(&directory, suspect)).await??;
        known.suspect = false;
        let ledger = Ledger::restore(Limits::default(), recovered.entries, recovered.revision);
        let now = ledger.revision();
        let evidence = evidence(known.seen, (id, now), recovered.report.as_deref());
        if let Some(report) = &recovered.report {
            let source = events.source();
            tracing::warn!(%source, report, "the store is damaged; what could be read is kept, and a copy set aside");
        }
        let doubt = match &evidence {
            Evidence::Partial { why } => Some((ledger.longest_ttl(), why.clone())),
            Evidence::Complete | Evidence::NewEpoch { .. } => None,
        };
        let mut keeper = Self {
            known,
            store: Some(store),
            ledger,
            started: Instant::now(),
            events,
            commands,
            told: BTreeSet::new(),
            doubt,
            full: None,
        };
        keeper.resync(evidence, recovered.damage).await?;
        keeper.known.seen = Some((id, now));
        Ok(keeper)
    }

    pub(super) async fn run(mut self, reconcile_every: Duration) -> Result<Infallible, Error> {
        let mut turns = every(TURN);
        let mut looks = every(LOOK);
        let mut reconciles = every(reconcile_every);
        for interval in [&mut turns, &mut looks, &mut reconciles] {
            interval.tick().await;
        }
        loop {
            let mut first = None;
            tokio::select! {
                biased;
                _ = looks.tick() => self.look().await?,
                _ = reconciles.tick() => self.reconcile().await?,
                // The API lives as long as the session.
                command = self.commands.recv() => first = Some(command.ok_or(Error::Closed)?),
                _ = turns.tick() => {}
            }
            self.turn(first).await?;
        }
    }

    /// Takes whatever waits, and makes it last.
    async fn turn(&mut self, first: Option<Command>) -> Result<(), Error> {
        self.begin();
        let mut answers: Vec<Answer> = first.into_iter().map(|command| self.handle(command)).collect();
        while answers.len() < MAX_BATCH
            && let Ok(command) = self.commands.try_recv()
        {
            answers.push(self.handle(command));
        }
        // A renewal that waits in the queue was in time.
        let now = self.now();
        if answers.len() < MAX_BATCH && self.full.is_none_or(|until| now >= until) {
            self.ledger.expire(now);
        }
        let refusal = self.commit().await?;
        answers.into_iter().for_each(|answer| answer(refusal.as_ref()));
        self.tell().await
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn begin(&mut self) {
        if let Some(away) = self.ledger.turn(self.now()) {
            let source = self.events.source();
            tracing::warn!(%source, ?away, "nobody could renew for a while; every lease begins anew");
        }
    }

    fn handle(&mut self, command: Command) -> Answer {
        let now = self.now();
        let ledger = &mut self.ledger;
        let pending = ledger.pending();
        match command {
            Command::Register(registration, reply) => {
                let outcome = ledger.register(now, registration, Lease(random()));
                answer(reply, outcome, ledger.pending() > pending)
            }
            Command::Renew(key, lease, reply) => answer(reply, ledger.renew(now, &key, lease), false),
            Command::Drain(key, guard, draining, reply) => {
                let outcome = ledger.drain(&key, guard, draining);
                answer(reply, outcome, ledger.pending() > pending)
            }
            Command::Deregister(key, guard, reply) => {
                let outcome = ledger.deregister(&key, guard);
                answer(reply, outcome, ledger.pending() > pending)
            }
            // What is read may rest on what is not written yet.
            Command::Get(key, reply) => answer(reply, ledger.get(&key, now), pending > 0),
            Command::List(listing, reply) => answer(reply, Ok(ledger.list(&listing, now)), pending > 0),
        }
    }

    /// Writes what changed, and makes the file anew when it has grown too much. Without room for it, it is taken back, and
    /// everything else goes on.
    async fn commit(&mut self) -> Result<Option<Refusal>, Error> {
        let entries = self.ledger.take_entries();
        if entries.is_empty() {
            return Ok(None);
        }
        let ended = ended(&entries);
        let written = self
            .with_store(move |store| Ok(store.append(&entries)?.map(|()| store.has_outgrown())))
            .await?;
        match written {
            Ok(outgrown) => {
                self.ledger.settle();
                for (key, why) in ended {
                    tracing::info!(service = %key.service, id = %key.id, ?why, "an instance is gone");
                }
                if self.full.take().is_some() && self.doubt.is_none() {
                    self.events.send(Event::Impaired { reason: None }).await?;
                }
                if outgrown {
                    self.rewrite().await?;
                }
                Ok(None)
            }
            Err(error) => {
                self.ledger.take_back();
                let reason = format!("the store can't be written: {error}");
                if self.full.is_none() {
                    let source = self.events.source();
                    tracing::warn!(%source, %error, "the store can't be written; nothing new is registered");
                    let reason = Some(reason.clone());
                    self.events.send(Event::Impaired { reason }).await?;
                }
                self.full = Some(self.now() + FULL);
                Ok(Some(Refusal::Unavailable(reason)))
            }
        }
    }

    async fn rewrite(&mut self) -> Result<(), Error> {
        let (entries, revision) = (self.ledger.snapshot(), self.ledger.revision());
        let written = self
            .with_store(move |store| {
                let written = store.rewrite(&entries, revision)?;
                if written.is_ok() {
                    store.tidy()?;
                }
                Ok(written)
            })
            .await?;
        if let Err(error) = written {
            let source = self.events.source();
            tracing::warn!(%source, %error, "no room to write the store anew; the old file goes on");
        }
        Ok(())
    }

    /// Tells what changed.
    async fn tell(&mut self) -> Result<(), Error> {
        let revision = self.ledger.revision();
        for name in self.ledger.take_changed() {
            match self.ledger.service(&name) {
                Some(service) => {
                    self.told.insert(name);
                    self.events.send(Event::Apply { service, revision }).await?;
                }
                None if self.told.remove(&name) => self.events.send(Event::Delete { name, revision }).await?,
                None => {}
            }
        }
        if let Some((_, seen)) = &mut self.known.seen {
            *seen = revision;
        }
        if self.doubt.as_ref().is_some_and(|(until, _)| self.now() >= *until) {
            self.doubt = None;
            self.events.send(Event::Impaired { reason: None }).await?;
        }
        Ok(())
    }

    async fn resync(&mut self, evidence: Evidence, unattributed: Vec<Rejection>) -> Result<(), Error> {
        let services = self.ledger.services();
        self.told = services.iter().map(|service| service.name.clone()).collect();
        self.ledger.take_changed();
        let resync = Event::Resync {
            services,
            unattributed,
            evidence,
            revision: self.ledger.revision(),
        };
        self.events.send(resync).await?;
        match &self.doubt {
            Some((_, why)) => {
                let reason = Some(why.clone());
                self.events.send(Event::Impaired { reason }).await
            }
            None => Ok(()),
        }
    }

    async fn look(&mut self) -> Result<(), Error> {
        self.with_store(|store| store.check_place()).await
    }

    /// Compares what is on the disk with what is held. What is held was told; what differs on the disk is lost there.
    async fn reconcile(&mut self) -> Result<(), Error> {
        let recovered = self.with_store(|store| store.reread()).await?;
        let damaged = recovered.report.is_some();
        let read = Ledger::restore(Limits::default(), recovered.entries, recovered.revision);
        let drift = self.ledger.drift(&read).max(usize::from(damaged)) as u64;
        self.events.send(Event::Reconciled { drift }).await?;
        if drift == 0 {
            return Ok(());
        }
        let (source, report) = (self.events.source(), &recovered.report);
        tracing::warn!(%source, drift, report, "the store was damaged on the disk; it is written anew");
        self.rewrite().await?;
        let doubt = self.doubt.as_ref().map(|(_, why)| why.clone());
        let evidence = doubt.map_or(Evidence::Complete, |why| Evidence::Partial { why });
        self.resync(evidence, recovered.damage).await
    }

    /// Does something that blocks. A failure ends the session: nobody is answered, and the file is read anew.
    async fn with_store<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Store) -> io::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let mut store = self.store.take().ok_or(Error::Closed)?;
        // It stays so unless the work comes back well, also when the session is dropped on the way.
        self.known.suspect = true;
        let (store, outcome) = blocking(&self.known.disk, move || {
            let outcome = work(&mut store);
            (store, outcome)
        })
        .await?;
        let done = outcome.map_err(|error| Error::Unavailable(format!("the store failed: {error}")))?;
        self.known.suspect = false;
        self.store = Some(store);
        Ok(done)
    }
}

/// Whether what was read can be all there is.
fn evidence(seen: Option<(StoreId, u64)>, now: (StoreId, u64), damage: Option<&str>) -> Evidence {
    let why = match (seen, damage) {
        (Some((was, _)), _) if was != now.0 => format!("the store was {was} and is {}", now.0),
        (Some((_, was)), _) if was > now.1 => format!("the revision went back from {was} to {}", now.1),
        (Some(_), Some(damage)) => damage.to_owned(),
        (None, Some(damage)) => return Evidence::Partial { why: damage.to_owned() },
        (Some(_) | None, None) => return Evidence::Complete,
    };
    Evidence::NewEpoch { why }
}

/// `rests` says that the outcome is true only when the batch is written down.
fn answer<T: Send + 'static>(reply: Reply<T>, outcome: Result<T, Refusal>, rests: bool) -> Answer {
    Box::new(move |refusal| {
        let refusal = refusal.filter(|_| rests);
        // Whoever asked may have gone away.
        drop(reply.send(refusal.cloned().map_or(outcome, Err)));
    })
}

/// The instances that go.
fn ended(entries: &[Entry]) -> Vec<(Key, End)> {
    let ended = entries.iter().filter_map(|entry| match entry {
        Entry::End { key, why, .. } => Some((key.clone(), *why)),
        Entry::Put { .. } => None,
    });
    ended.collect()
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

async fn blocking<T: Send + 'static>(
    disk: &Arc<Semaphore>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    let permit = Arc::clone(disk).acquire_owned().await;
    let work = move || {
        let done = work();
        drop(permit);
        done
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::Unavailable(format!("the store was broken off: {error}")))
}

/// A lease is no secret: it has to differ from every other one.
fn random() -> u64 {
    RandomState::new().hash_one(0_u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_is_not_the_one_it_was_proves_nothing_missing() {
        let (one, two) = (StoreId(1), StoreId(2));
        let why = |seen, now, damage| match evidence(seen, now, damage) {
            Evidence::Complete => "complete".to_owned(),
            Evidence::Partial { why } => format!("partial: {why}"),
            Evidence::NewEpoch { why } => format!("new: {why}"),
        };
        assert_eq!(why(None, (one, 5), None), "complete");
        assert_eq!(why(Some((one, 5)), (one, 5), None), "complete");
        assert_eq!(why(Some((one, 5)), (one, 6), None), "complete");
        assert_eq!(why(None, (one, 5), Some("a line")), "partial: a line");
        assert_eq!(why(Some((one, 5)), (one, 9), Some("a line")), "new: a line");
        assert_eq!(
            why(Some((one, 5)), (one, 4), None),
            "new: the revision went back from 5 to 4"
        );
        assert!(why(Some((one, 5)), (two, 9), None).starts_with("new: the store was 0000"));
    }
}
