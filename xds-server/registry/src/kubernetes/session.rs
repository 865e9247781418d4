//! One session: list, judge the listing, then follow, until there is a doubt.
//!
//! Invariant: what the controller has been told is what `known.records` tells, at the versions in `known.reached`.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;

use leadsman_core::model::Evidence;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

use super::client::Link;
use super::config::Config;
use super::listing::{Compared, Known, Listing, compare, judge, list};
use super::records::Change;
use super::slice::{Rules, number};
use super::watch::{Item, Watch};
use crate::{Error, Event, EventSender};

/// Items between the watches and the session: a slow controller slows the watches.
const ITEMS: usize = 64;

struct Session<'a> {
    link: Link,
    events: &'a EventSender,
    known: &'a mut Known,
    /// The scopes that a comparison has yet to look at, each at its next bookmark: an older version may be compacted.
    due: BTreeSet<usize>,
    comparison: Option<(usize, Comparison)>,
    /// The scopes whose watch the server is too busy for.
    busy: BTreeSet<usize>,
}

type Comparison = Pin<Box<dyn Future<Output = Result<Compared, Error>> + Send>>;

/// Runs a session.
pub(super) async fn run(
    config: &Config,
    link: Link,
    events: &EventSender,
    known: &mut Known,
) -> Result<Infallible, Error> {
    let listing = list(config, &link, events).await?;
    let evidence = judge(&link, known, &listing, events).await?;
    let session = Session {
        link,
        events,
        known,
        due: BTreeSet::new(),
        comparison: None,
        busy: BTreeSet::new(),
    };
    session.follow(config, listing, evidence).await
}

impl Session<'_> {
    async fn begin(&mut self, listing: Listing, evidence: Evidence) -> Result<(), Error> {
        let known = &mut *self.known;
        if matches!(evidence, Evidence::NewEpoch { .. }) {
            // The catalog holds what is missing, and says so.
            known.records.forget();
        }
        let slices = listing.slices.len();
        known.records.replace(listing.slices, Instant::now());
        known.reached = listing.reached;
        let services = known.records.snapshot();
        let revision = revision(known);
        tracing::debug!(revision, slices, services = services.len(), "listed");
        let resync = Event::Resync {
            services,
            unattributed: known.records.tell_all_unattributed(),
            evidence,
            revision,
        };
        self.events.send(resync).await
    }

    async fn follow(mut self, config: &Config, listing: Listing, evidence: Evidence) -> Result<Infallible, Error> {
        self.begin(listing, evidence).await?;
        let (items, mut inbox) = mpsc::channel(ITEMS);
        let mut watches = JoinSet::new();
        let rules = Arc::new(Rules::of(config));
        for (place, reached) in self.known.reached.iter().enumerate() {
            let watch = Watch {
                link: self.link.clone(),
                rules: Arc::clone(&rules),
                place,
                reached: reached.clone(),
                items: items.clone(),
            };
            watches.spawn(watch.follow());
        }
        drop(items);
        let mut reconcile = interval_at(Instant::now() + config.reconcile, config.reconcile);
        reconcile.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let deadline = self.known.records.next_deadline();
            // What the watches said before they ended comes first.
            tokio::select! {
                biased;
                Some((place, item)) = inbox.recv() => self.take(place, item).await?,
                Some(ended) = watches.join_next() => return Err(match ended {
                    Ok(Ok(never)) => match never {},
                    Ok(Err(error)) => error,
                    Err(error) => Error::Unavailable(format!("a watch ended: {error}")),
                }),
                (place, found) = compared(&mut self.comparison) => {
                    self.comparison = None;
                    self.settle(place, found?).await?;
                }
                () = at(deadline) => {
                    let changes = self.known.records.expire(Instant::now());
                    self.tell(changes).await?;
                }
                _ = reconcile.tick(), if self.due.is_empty() && self.comparison.is_none() => {
                    self.due = (0..self.known.reached.len()).collect();
                }
            }
        }
    }

    async fn take(&mut self, place: usize, item: Item) -> Result<(), Error> {
        let now = Instant::now();
        let changes = match item {
            Item::Is(slice) => {
                self.advance(place, &slice.identity.version);
                self.known.records.put(slice, now)
            }
            Item::Was(slice) => {
                self.advance(place, &slice.identity.version);
                self.known.records.remove(&slice, now)
            }
            Item::Reached(version) => {
                self.advance(place, &version);
                self.compare(place);
                let revision = revision(self.known);
                return self.events.send(Event::Progress { revision }).await;
            }
            Item::Busy(reason) => return self.rest(place, reason).await,
        };
        self.tell(changes).await
    }

    fn advance(&mut self, place: usize, version: &str) {
        if let Some(reached) = self.known.reached.get_mut(place) {
            version.clone_into(&mut reached.version);
        }
    }

    async fn rest(&mut self, place: usize, reason: Option<String>) -> Result<(), Error> {
        if let Some(reason) = reason {
            self.busy.insert(place);
            return self.events.send(Event::Impaired { reason: Some(reason) }).await;
        }
        self.busy.remove(&place);
        if self.busy.is_empty() {
            self.events.send(Event::Impaired { reason: None }).await?;
        }
        Ok(())
    }

    async fn tell(&mut self, changes: Vec<Change>) -> Result<(), Error> {
        // First, so that an endpoint whose record can't be attributed any more is kept.
        if let Some(rejections) = self.known.records.tell_unattributed() {
            self.events.send(Event::Unattributed { rejections }).await?;
        }
        let revision = revision(self.known);
        for change in changes {
            let event = match change {
                Change::Applied(service) => Event::Apply { service, revision },
                Change::Deleted(name) => Event::Delete { name, revision },
            };
            self.events.send(event).await?;
        }
        Ok(())
    }

    /// Begins to compare a scope, if it is due and nothing else is being compared. What is held is what the watch has
    /// told up to this version.
    fn compare(&mut self, place: usize) {
        let Some(reached) = self.known.reached.get(place) else {
            return;
        };
        if self.comparison.is_some() || !self.due.remove(&place) {
            return;
        }
        let held = self.known.records.versions(reached.scope.namespace.as_deref());
        let comparison = compare(self.link.clone(), reached.clone(), held);
        self.comparison = Some((place, Box::pin(comparison)));
    }

    async fn settle(&mut self, place: usize, found: Compared) -> Result<(), Error> {
        let drift = match found {
            Compared::Drift(drift) => drift,
            Compared::TooLate => {
                self.due.insert(place);
                return Ok(());
            }
        };
        if drift == 0 && !self.due.is_empty() {
            return Ok(());
        }
        self.events.send(Event::Reconciled { drift }).await?;
        if drift == 0 {
            return Ok(());
        }
        Err(Error::Resync(format!(
            "{drift} held slices differ from a fresh listing: events were lost"
        )))
    }
}

/// The greatest version of all scopes, where versions are numbers.
fn revision(known: &Known) -> u64 {
    known
        .reached
        .iter()
        .map(|reached| number(&reached.version))
        .max()
        .unwrap_or_default()
}

/// The comparison under way, and of which scope; never, when there is none.
async fn compared(comparison: &mut Option<(usize, Comparison)>) -> (usize, Result<Compared, Error>) {
    match comparison {
        Some((place, comparison)) => (*place, comparison.await),
        None => std::future::pending().await,
    }
}

/// Waits until then; for ever, when there is no then.
async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => std::future::pending().await,
    }
}
